use simsimd::SpatialSimilarity;

/// The inner product of two embeddings of one length, never `-0.0`.
///
/// # Panics
/// Where the lengths differ; callers check theirs first.
pub(crate) fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    by_simsimd(f32::dot, a, b) + 0.0
}

/// The inner product of two quantised embeddings of one length.
pub(crate) fn inner_product_i8(a: &[i8], b: &[i8]) -> f32 {
    <i8 as SpatialSimilarity>::dot(a, b).expect("embeddings of one length") as f32
}

/// The squared L2 distance of two embeddings of one length.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    by_simsimd(f32::sqeuclidean, a, b)
}

fn by_simsimd(kernel: impl Fn(&[f32], &[f32]) -> Option<f64>, a: &[f32], b: &[f32]) -> f32 {
    kernel(a, b).expect("embeddings of one length") as f32
}

/// Asks for the cache lines of `data` ahead of their use.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: `byte` is below the length of `data`, so the address stays within the slice;
        // a prefetch reads nothing that the program can see and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(data.as_ptr().cast::<i8>().add(byte)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
