use tracing::info;

use crate::graph::{Graph, Scratch, search};
use crate::top::{Hit, TopK};
use crate::vectors::{Matrix, Quantized, Rows, inner_product, quantize, quantized_stride};

/// The search by which walks over `i8` and over `f32` are compared, and how many queries do it.
const K: usize = 100;
const EF: usize = 200;
const QUERIES: usize = 100;

/// The loss of recall@100 that counts as none: what two builds of one dump differ by.
const NO_LOSS: f64 = 0.002;

/// All embeddings of an index, quantised.
pub(super) struct QuantizedRows {
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
    dim: usize,
}

impl QuantizedRows {
    pub fn of(rows: Rows<'_>, dim: usize) -> QuantizedRows {
        let stride = quantized_stride(dim);
        let mut values = vec![0; rows.len() * stride];
        let mut scales = Vec::with_capacity(rows.len());
        let mut row_values = Vec::with_capacity(dim);
        for (row, place) in (0..).zip(values.chunks_exact_mut(stride)) {
            scales.push(quantize(rows.get(row), &mut row_values));
            place[..dim].copy_from_slice(&row_values);
        }
        QuantizedRows { values, scales, dim }
    }

    fn view(&self) -> Quantized<'_> {
        Quantized::new(&self.values, &self.scales, self.dim)
    }

    /// Whether walks over these find as much as walks over the `f32` rows, for users of the sample or, without
    /// one, for items taken as users.
    pub fn cost_no_recall(&self, graph: Graph<'_>, rows: Rows<'_>, users: Option<&Matrix>) -> bool {
        let users = users.filter(|users| !users.is_empty());
        let total = users.map_or(rows.len(), Matrix::len);
        let query = |at: usize| users.map_or_else(|| rows.get(at as u32), |users| users.row(at));
        let queries: Vec<&[f32]> = (0..total).step_by(total.div_ceil(QUERIES).max(1)).map(query).collect();
        let mut scratch = Scratch::new(rows.len());
        let (mut found, mut plain, mut quantized) = (Vec::new(), 0, 0);
        for user in &queries {
            let bar = kth_score(rows, user);
            for (walked, count) in [(None, &mut plain), (Some(self.view()), &mut quantized)] {
                search(graph, rows, walked, user, EF, &mut scratch, &mut found);
                *count += found.iter().filter(|found| found.score() >= bar).count().min(K);
            }
        }
        let share = |count: usize| count as f64 / (queries.len() * K.min(rows.len())) as f64;
        info!(f32 = share(plain), i8 = share(quantized), "recall@{K} at ef {EF}");
        share(quantized) >= share(plain) - NO_LOSS
    }
}

/// The score of the exact K-th best row.
fn kth_score(rows: Rows<'_>, user: &[f32]) -> f32 {
    let mut top = TopK::new(K.min(rows.len()), Vec::new());
    for row in 0..rows.len() as u32 {
        top.offer(Hit { id: row.into(), score: inner_product(user, rows.get(row)) });
    }
    top.into_sorted().last().map_or(f32::NEG_INFINITY, |hit| hit.score)
}
