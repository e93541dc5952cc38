use super::{Quantized, Rows, prefetch};

/// Items in the space where L2 order is inner-product order.
///
/// Every item gets one more coordinate, `sqrt(max_norm^2 - |x|^2)`, which puts all of them at the same
/// norm; a query gets 0. Between a query and the items, L2 distance then falls as the inner product rises
/// (Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
/// inner-product spaces", RecSys 2014). The coordinate stands beside the rows, which stay aligned.
pub(crate) struct Augmented<'a> {
    rows: Rows<'a>,
    quantized: Quantized<'a>,
    places: Vec<Place>,
}

/// What a distance needs beside the values, on one cache line.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Place {
    squared_norm: f32,
    extra: f32,
    /// Of the quantised values.
    scale: f32,
}

impl<'a> Augmented<'a> {
    pub fn new(rows: Rows<'a>, quantized: Quantized<'a>, squared_norms: &[f32]) -> Augmented<'a> {
        let largest = squared_norms.iter().copied().fold(0.0, f32::max);
        let place = |(row, &squared_norm): (u32, &f32)| {
            let extra = (largest - squared_norm).sqrt();
            Place { squared_norm, extra, scale: quantized.scale(row) }
        };
        let places = (0..).zip(squared_norms).map(place).collect();
        Augmented { rows, quantized, places }
    }

    /// How many items there are.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn squared_norm(&self, row: u32) -> f32 {
        self.places[row as usize].squared_norm
    }

    /// The squared L2 distance of two items: finite, never negative.
    #[cfg(feature = "hnsw_rs")]
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let mut distance = [0.0];
        self.distances(a, &[b], &mut distance);
        distance[0]
    }

    /// Writes the squared L2 distances of an item from `others` to `distances`: finite, never negative.
    #[inline(always)]
    pub fn distances(&self, item: u32, others: &[u32], distances: &mut [f32]) {
        self.rows.squared_distances(item, others, distances);
        let place = self.places[item as usize];
        for (distance, &other) in distances.iter_mut().zip(others) {
            *distance += place.extra_difference(self.places[other as usize]).powi(2);
        }
    }

    /// Writes the same distances by the quantised values, negated, to `scores`: nearer is better.
    #[inline(always)]
    pub fn nearness(&self, item: u32, others: &[u32], scores: &mut [f32]) {
        let place = self.places[item as usize];
        self.quantized.products(self.quantized.padded(item), others, scores, |product, other| {
            let other = self.places[other as usize];
            let product = product * (place.scale * other.scale);
            2.0 * product - place.squared_norm - other.squared_norm - place.extra_difference(other).powi(2)
        });
    }

    /// Asks for what [`Augmented::nearness`] reads of a row ahead of its use.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        self.quantized.prefetch_values(row);
        prefetch(&self.places, row as usize, 1);
    }

    /// Asks for what [`Augmented::distances`] reads of a row, besides that.
    #[inline(always)]
    pub fn prefetch_exact(&self, row: u32) {
        self.rows.prefetch(row);
    }
}

impl Place {
    /// The difference of the extra coordinates, as that of the squared norms over the sum of the extras:
    /// beside one enormous norm the extras are huge and nearly equal, and their difference would round away.
    #[inline(always)]
    fn extra_difference(self, other: Place) -> f32 {
        let sum = self.extra + other.extra;
        if sum > 0.0 { (other.squared_norm - self.squared_norm) / sum } else { 0.0 }
    }
}
