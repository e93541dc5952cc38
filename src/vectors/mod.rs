//! Embeddings: matrices, `i8` rows, the kernels of the inner product, and the space that a graph is built in.

mod augmented;
pub(crate) mod gather;
pub(crate) mod kernels;
mod matrix;
mod quantized;

pub(crate) use augmented::Augmented;
pub(crate) use kernels::prefetch;
pub use matrix::{EmbeddingValue, Matrix, RowFormat};
pub(crate) use matrix::{Rows, pad, stride_of};
pub(crate) use quantized::{Quantized, QuantizedRows, UserBounds, quantize, quantized_stride};

/// The largest L2 norm an embedding may have: 2^62. Inner products, and distances in the augmented space,
/// then stay finite in `f32`.
pub const MAX_NORM: f32 = (1u64 << 62) as f32;

/// What is wrong with `embedding`, for an error: a value that is not finite, or a norm beyond [`MAX_NORM`].
pub(crate) fn problem_with(embedding: &[f32]) -> Option<String> {
    if let Some(at) = embedding.iter().position(|value| !value.is_finite()) {
        return Some(format!("value {at} is {}; every value must be finite", embedding[at]));
    }
    let norm = embedding.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    (norm > f64::from(MAX_NORM)).then(|| {
        format!("its norm {norm:e} is beyond {MAX_NORM:e}, where inner products overflow; scale it down")
    })
}
