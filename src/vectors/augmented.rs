use super::{Rows, kernels, prefetch};

/// Items in the space where L2 order is inner-product order.
///
/// Every item gets one more coordinate, `sqrt(max_norm^2 - |x|^2)`, which puts all of them at the same
/// norm; a query gets 0. Between a query and the items, L2 distance then falls as the inner product rises
/// (Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
/// inner-product spaces", RecSys 2014). The coordinate stands beside the rows, which stay aligned.
pub(crate) struct Augmented<'a> {
    rows: Rows<'a>,
    squared_norms: &'a [f32],
    extra: Vec<f32>,
}

impl<'a> Augmented<'a> {
    pub fn new(rows: Rows<'a>, squared_norms: &'a [f32]) -> Augmented<'a> {
        let largest = squared_norms.iter().copied().fold(0.0, f32::max);
        let extra = squared_norms.iter().map(|norm| (largest - norm).sqrt()).collect();
        Augmented { rows, squared_norms, extra }
    }

    /// How many items there are.
    pub fn rows(&self) -> usize {
        self.extra.len()
    }

    pub fn squared_norm(&self, row: u32) -> f32 {
        self.squared_norms[row as usize]
    }

    /// Asks for a row ahead of its use.
    pub fn prefetch(&self, row: u32) {
        prefetch(self.rows.get(row));
    }

    /// The squared L2 distance of two items: finite, never negative.
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let flat = kernels::squared_distance(self.rows.get(a), self.rows.get(b));
        flat + self.extra_difference(a as usize, b as usize).powi(2)
    }

    /// The difference of the extra coordinates, as that of the squared norms over the sum of the extras:
    /// beside one enormous norm the extras are huge and nearly equal, and their difference would round away.
    fn extra_difference(&self, a: usize, b: usize) -> f32 {
        let sum = self.extra[a] + self.extra[b];
        if sum > 0.0 { (self.squared_norms[b] - self.squared_norms[a]) / sum } else { 0.0 }
    }
}
