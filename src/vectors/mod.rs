//! Embeddings in memory: matrices, their `i8` form, the inner product, and the space the graph is built in.

mod augmented;
pub(crate) mod kernels;
mod matrix;
mod quantized;

pub(crate) use augmented::Augmented;
pub(crate) use kernels::prefetch;
pub use matrix::Matrix;
pub(crate) use matrix::{Rows, pad, stride_of};
pub(crate) use quantized::{Quantized, QuantizedRows, UserBounds, quantize, quantized_stride};

/// The largest L2 norm an embedding may have: 2^62. Every inner product and every distance of the
/// augmented space then stays finite in `f32`.
pub const MAX_NORM: f32 = (1u64 << 62) as f32;

/// Where a value of `embedding` is NaN or infinite, or its norm is beyond [`MAX_NORM`], what to say of it.
pub(crate) fn problem_with(embedding: &[f32]) -> Option<String> {
    if let Some(at) = embedding.iter().position(|value| !value.is_finite()) {
        return Some(format!("value {at} is {}; every value must be finite", embedding[at]));
    }
    let norm = embedding.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    (norm > f64::from(MAX_NORM)).then(|| {
        format!("its norm {norm:e} is beyond {MAX_NORM:e}, where inner products overflow; scale it down")
    })
}
