use std::borrow::Cow;
use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::kernels::{self, prefetch};
use crate::{Error, Result};

/// Rows scored at a time by [`Rows::score_all`].
const BLOCK: usize = 64;

/// How an index keeps the values of its embeddings. Scores are sums of `f32` either way: an `f16` is an `f32`
/// exactly, so rows of `f16` score as the same values in `f32` do, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum RowFormat {
    /// Four bytes a value.
    F32 = 0,
    /// Two bytes a value.
    F16 = 1,
}

impl RowFormat {
    /// `f32` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::F32 => "f32",
            RowFormat::F16 => "f16",
        }
    }

    /// How many bytes a row takes in the file, with its padding.
    pub(crate) fn row_bytes(self, dim: usize) -> usize {
        stride_of(dim) * self.value_bytes()
    }

    pub(crate) fn value_bytes(self) -> usize {
        match self {
            RowFormat::F32 => size_of::<f32>(),
            RowFormat::F16 => size_of::<f16>(),
        }
    }

    /// Replaces the contents of `bytes` by a padded embedding as it stands in the file, and the embedding by what
    /// that holds. Gives up at a value that it cannot hold, and returns its place.
    pub(crate) fn encode(self, padded: &mut [f32], bytes: &mut Vec<u8>) -> std::result::Result<(), usize> {
        bytes.clear();
        match self {
            RowFormat::F32 => bytes.extend_from_slice(bytemuck::cast_slice(padded)),
            RowFormat::F16 => {
                for (at, value) in padded.iter_mut().enumerate() {
                    let half = f16::from_f32(*value);
                    if !half.is_finite() {
                        return Err(at);
                    }
                    bytes.extend_from_slice(&half.to_le_bytes());
                    *value = half.to_f32();
                }
            }
        }
        Ok(())
    }
}

/// A value of an embedding that is handed over in memory: `f32` or [`f16`](struct@f16).
pub trait EmbeddingValue: Copy {
    /// The format of rows that holds it exactly.
    const FORMAT: RowFormat;

    /// The value by which scores are computed.
    fn to_f32(self) -> f32;
}

impl EmbeddingValue for f32 {
    const FORMAT: RowFormat = RowFormat::F32;

    fn to_f32(self) -> f32 {
        self
    }
}

impl EmbeddingValue for f16 {
    const FORMAT: RowFormat = RowFormat::F16;

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

/// The embeddings of an index file: rows padded with zeros to a multiple of 16 values.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: Values<'a>,
    dim: usize,
    stride: usize,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl<'a> Rows<'a> {
    pub fn new(data: &'a [f32], dim: usize) -> Rows<'a> {
        Rows { values: Values::F32(data), dim, stride: stride_of(dim) }
    }

    /// Rows as they stand in a file.
    ///
    /// # Panics
    /// If `bytes` is not aligned for the format.
    pub fn stored(bytes: &'a [u8], format: RowFormat, dim: usize) -> Rows<'a> {
        let values = match format {
            RowFormat::F32 => Values::F32(bytemuck::cast_slice(bytes)),
            RowFormat::F16 => Values::F16(bytemuck::cast_slice(bytes)),
        };
        Rows { values, dim, stride: stride_of(dim) }
    }

    pub fn len(&self) -> usize {
        match self.values {
            Values::F32(data) => data.len() / self.stride,
            Values::F16(data) => data.len() / self.stride,
        }
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn format(&self) -> RowFormat {
        match self.values {
            Values::F32(_) => RowFormat::F32,
            Values::F16(_) => RowFormat::F16,
        }
    }

    /// How many cache lines a row takes.
    pub fn lines(&self) -> usize {
        self.format().row_bytes(self.dim).div_ceil(kernels::LINE)
    }

    /// The embedding at `row`, without the padding; a copy where it is not stored as `f32`.
    #[inline(always)]
    pub fn get(&self, row: u32) -> Cow<'a, [f32]> {
        let start = row as usize * self.stride;
        self.range(start..start + self.dim)
    }

    /// The embedding at `row` with its padding.
    #[inline(always)]
    pub fn padded(&self, row: u32) -> Cow<'a, [f32]> {
        let start = row as usize * self.stride;
        self.range(start..start + self.stride)
    }

    #[inline(always)]
    fn range(&self, range: Range<usize>) -> Cow<'a, [f32]> {
        match self.values {
            Values::F32(data) => Cow::Borrowed(&data[range]),
            Values::F16(data) => Cow::Owned(data[range].to_f32_vec()),
        }
    }

    /// The bytes of the embedding at `row` with its padding, as they stand in the file.
    #[inline(always)]
    pub fn bytes(&self, row: u32) -> &'a [u8] {
        let start = row as usize * self.stride;
        match self.values {
            Values::F32(data) => bytemuck::cast_slice(&data[start..][..self.stride]),
            Values::F16(data) => bytemuck::cast_slice(&data[start..][..self.stride]),
        }
    }

    /// Prefetches the embedding at `row`.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        let start = row as usize * self.stride;
        match self.values {
            Values::F32(data) => prefetch(data, start, self.stride),
            Values::F16(data) => prefetch(data, start, self.stride),
        }
    }

    /// Writes the inner product of a padded user with each of `rows` to `scores`, which is as long as `rows`.
    #[inline(always)]
    pub fn scores(&self, user: &[f32], rows: &[u32], scores: &mut [f32]) {
        match self.values {
            Values::F32(data) => kernels::inner_products(user, data, rows, scores),
            Values::F16(data) => kernels::inner_products_f16(user, data, rows, scores),
        }
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
}

/// How many values a row has with its padding: whole cache lines of `f32`.
pub(crate) fn stride_of(dim: usize) -> usize {
    dim.next_multiple_of(kernels::LINE / size_of::<f32>())
}

/// Replaces the contents of `padded` by `embedding`, padded as rows are.
pub(crate) fn pad(embedding: &[f32], padded: &mut Vec<f32>) {
    padded.clear();
    padded.extend_from_slice(embedding);
    padded.resize(stride_of(embedding.len()), 0.0);
}
