use std::ops::Range;

use half::f16;

use super::kernels::{self, prefetch};
use crate::{Error, Result};

/// Rows scored at a time by [`Rows::score_all`].
const BLOCK: usize = 64;

/// A value of an embedding that is handed over in memory: `f32` or [`f16`](struct@f16). An index keeps `f32`, and holds what was
/// an `f16` exactly.
pub trait EmbeddingValue: Copy {
    /// The value as an index keeps it.
    fn to_f32(self) -> f32;
}

impl EmbeddingValue for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

impl EmbeddingValue for f16 {
    fn to_f32(self) -> f32 {
        self.into()
    }
}

/// A dense row-major matrix of `f32` with one embedding a row: a user sample, or a set of users to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    dim: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Wraps `data`: row after row of `dim` values each.
    ///
    /// # Errors
    /// [`Error::BadOption`] if `dim` is 0 or does not divide `data.len()`.
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Matrix> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            let problem = format!("{} values do not make rows of dim {dim}", data.len());
            return Err(Error::BadOption { option: "matrix", problem });
        }
        Ok(Matrix { dim, data })
    }

    /// How many values a row has; at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The embedding at `row`.
    ///
    /// # Panics
    /// If `row >= len()`, as slice indexing does.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// The rows in order, `dim` values each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim)
    }

    /// All `len() * dim()` values, row after row.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
}

/// The embeddings of an index file: rows padded with zeros to whole cache lines.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    data: &'a [f32],
    dim: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    pub fn new(data: &'a [f32], dim: usize) -> Rows<'a> {
        Rows { data, dim, stride: stride_of(dim) }
    }

    pub fn len(&self) -> usize {
        self.data.len() / self.stride
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The embedding at `row`, without the padding.
    #[inline(always)]
    pub fn get(&self, row: u32) -> &'a [f32] {
        let start = row as usize * self.stride;
        &self.data[start..start + self.dim]
    }

    /// The embedding at `row` with its padding.
    #[inline(always)]
    pub fn padded(&self, row: u32) -> &'a [f32] {
        &self.data[row as usize * self.stride..][..self.stride]
    }

    /// Prefetches the embedding at `row`.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        prefetch(self.data, row as usize * self.stride, self.stride);
    }

    /// Writes the inner product of a padded user with each of `rows` to `scores`, which is as long as `rows`.
    #[inline(always)]
    pub fn scores(&self, user: &[f32], rows: &[u32], scores: &mut [f32]) {
        kernels::inner_products(user, self.data, rows, scores);
    }

    /// Calls `scored` with each row of a range and its inner product with a padded user.
    #[inline(always)]
    pub fn score_all(&self, user: &[f32], range: Range<u32>, mut scored: impl FnMut(u32, f32)) {
        let mut scores = [0.0; BLOCK];
        for first in range.clone().step_by(BLOCK) {
            let rows: [u32; BLOCK] = std::array::from_fn(|at| first + at as u32);
            let count = BLOCK.min((range.end - first) as usize);
            rows.iter().for_each(|&row| self.prefetch(row + BLOCK as u32));
            self.scores(user, &rows[..count], &mut scores[..count]);
            rows[..count].iter().zip(&scores).for_each(|(&row, &score)| scored(row, score));
        }
    }

    /// The padding of the embedding at `row`: zeros in an undamaged file.
    pub fn padding(&self, row: u32) -> &'a [f32] {
        let start = row as usize * self.stride;
        &self.data[start + self.dim..start + self.stride]
    }
}

/// How many `f32` values a row takes in the file, with its padding.
pub(crate) fn stride_of(dim: usize) -> usize {
    dim.next_multiple_of(kernels::LINE / size_of::<f32>())
}

/// Replaces the contents of `padded` by `embedding`, padded as rows are.
pub(crate) fn pad(embedding: &[f32], padded: &mut Vec<f32>) {
    padded.clear();
    padded.extend_from_slice(embedding);
    padded.resize(stride_of(embedding.len()), 0.0);
}
