//! Kernels: the inner products of one query with several rows of a matrix.
//!
//! A walk scores some ten rows at a time, of one or two cache lines each. A kernel called once a row would
//! spend more time on the call and on adding up its last register than on multiplying. So rows go four at a
//! time, and their sums are added up together. Processors without AVX2 use simsimd's kernels, one row a call.
//!
//! The score of a row does not depend on the rows it is scored with.

pub(crate) mod codes;
pub(crate) mod gaussian;
pub(crate) mod interleaved;
pub(crate) mod ones;
pub(crate) mod quantize;
mod widest;

pub(crate) use widest::widest;

use half::f16;
use half::slice::HalfFloatSliceExt;
use simsimd::SpatialSimilarity;

use crate::limits::MAX_DIM;

/// The bytes of a cache line. Rows start on multiples of it.
pub(crate) const LINE: usize = 64;

/// Writes the inner product of `query` with each of `rows` to `scores`, never `-0.0`.
///
/// `data` holds rows as long as `query`, whose length is a multiple of 16. `scores` is as long as `rows`.
///
/// # Panics
/// If a row is not in `data`.
#[allow(unsafe_code)]
pub(crate) fn inner_products(query: &[f32], data: &[f32], rows: &[u32], scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512f") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX-512F.
            return unsafe { avx512::inner_products(query, data, rows, scores) };
        }
        if detected!("avx2") && detected!("fma") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX2 and FMA.
            return unsafe { avx2::inner_products(query, data, rows, scores) };
        }
    }
    portable::inner_products(query, data, rows, scores);
}

/// As [`inner_products`], for rows of `f16`: bit for bit the scores of the same rows in `f32`.
#[allow(unsafe_code)]
pub(crate) fn inner_products_f16(query: &[f32], data: &[f16], rows: &[u32], scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512f") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX-512F.
            return unsafe { avx512::inner_products_f16(query, data, rows, scores) };
        }
        if detected!("avx2") && detected!("fma") && detected!("f16c") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX2, FMA and F16C.
            return unsafe { avx2::inner_products_f16(query, data, rows, scores) };
        }
    }
    converted(query, data, rows, scores, inner_products);
}

/// Converts each row before a kernel of `f32` scores it.
fn converted(
    query: &[f32],
    data: &[f16],
    rows: &[u32],
    scores: &mut [f32],
    kernel: impl Fn(&[f32], &[f32], &[u32], &mut [f32]),
) {
    let mut row_values = [0.0; MAX_DIM];
    let row_values = &mut row_values[..query.len()];
    for (&row, score) in rows.iter().zip(scores) {
        data[row as usize * query.len()..][..query.len()].convert_to_f32_slice(row_values);
        kernel(query, row_values, &[0], std::slice::from_mut(score));
    }
}

/// As [`inner_products`], for quantised embeddings. The length of `query` is a multiple of 64. The sums are
/// exact.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn inner_products_i8(query: &[i8], data: &[i8], rows: &[u32], scores: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512bw") && detected!("avx512vnni") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX-512 BW, hence F, and VNNI.
            return unsafe { avx512::inner_products_i8(query, data, rows, scores) };
        }
        if detected!("avx2") {
            let (query, data) = (query.as_chunks().0, data.as_chunks().0);
            // SAFETY: this processor has AVX2.
            return unsafe { avx2::inner_products_i8(query, data, rows, scores) };
        }
    }
    portable::inner_products_i8(query, data, rows, scores);
}

/// Calls `four` with every four of `rows`; where fewer than four are left, the first of them stands in for
/// the rest.
#[inline(always)]
fn by_four<T, S: Copy>(
    width: usize,
    data: &[T],
    rows: &[u32],
    scores: &mut [S],
    four: impl Fn([&[T]; 4]) -> [S; 4],
) {
    let row = |row: u32| &data[row as usize * width..][..width];
    let (groups, rest) = rows.as_chunks::<4>();
    let (scores, last_scores) = scores.as_chunks_mut::<4>();
    for (&[a, b, c, d], scores) in groups.iter().zip(scores) {
        *scores = four([row(a), row(b), row(c), row(d)]);
    }
    if let Some(&first) = rest.first() {
        let at = |at| row(rest.get(at).copied().unwrap_or(first));
        last_scores.copy_from_slice(&four([at(0), at(1), at(2), at(3)])[..rest.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{by_four, f16};

    #[target_feature(enable = "avx512f")]
    pub fn inner_products(query: &[[f32; 16]], data: &[[f32; 16]], rows: &[u32], scores: &mut [f32]) {
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [_mm512_setzero_ps(); 4];
            for (at, query) in query.iter().enumerate() {
                let query = load(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm512_fmadd_ps(query, load(&row[at]), *sum);
                }
            }
            add_up(sums)
        });
    }

    #[target_feature(enable = "avx512f")]
    pub fn inner_products_f16(query: &[[f32; 16]], data: &[[f16; 16]], rows: &[u32], scores: &mut [f32]) {
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [_mm512_setzero_ps(); 4];
            for (at, query) in query.iter().enumerate() {
                let query = load(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm512_fmadd_ps(query, load_f16(&row[at]), *sum);
                }
            }
            add_up(sums)
        });
    }

    /// VNNI multiplies unsigned by signed bytes, so rows are shifted from -128..128 to 0..256. That adds 128
    /// times the sum of the query, which is subtracted at the start.
    #[target_feature(enable = "avx512bw,avx512vnni")]
    pub fn inner_products_i8(query: &[[i8; 64]], data: &[[i8; 64]], rows: &[u32], scores: &mut [i32]) {
        let high = _mm512_set1_epi8(-128);
        let zero = _mm512_setzero_si512();
        let added = query.iter().fold(zero, |sum, query| _mm512_dpbusd_epi32(sum, high, load_i8(query)));
        let start = _mm512_sub_epi32(zero, added);
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [start; 4];
            for (at, query) in query.iter().enumerate() {
                let query = load_i8(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(load_i8(&row[at]), high), query);
                }
            }
            add_up_i32(sums)
        });
    }

    /// The sum of each register, adding halves of two registers at a time.
    #[target_feature(enable = "avx512f")]
    fn add_up([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
        let high = _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd);
        let lanes = _mm512_add_ps(low, high);
        let [a, b] = [_mm512_extractf32x4_ps::<0>(lanes), _mm512_extractf32x4_ps::<1>(lanes)];
        let [c, d] = [_mm512_extractf32x4_ps::<2>(lanes), _mm512_extractf32x4_ps::<3>(lanes)];
        bytemuck::cast(_mm_add_ps(_mm_add_ps(a, b), _mm_add_ps(c, d)))
    }

    #[target_feature(enable = "avx512f")]
    fn add_up_i32([a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let lanes = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let [a, b] = [_mm512_extracti32x4_epi32::<0>(lanes), _mm512_extracti32x4_epi32::<1>(lanes)];
        let [c, d] = [_mm512_extracti32x4_epi32::<2>(lanes), _mm512_extracti32x4_epi32::<3>(lanes)];
        bytemuck::cast(_mm_add_epi32(_mm_add_epi32(a, b), _mm_add_epi32(c, d)))
    }

    #[target_feature(enable = "avx512f")]
    #[allow(unsafe_code)]
    fn load(values: &[f32; 16]) -> __m512 {
        // SAFETY: 16 values are the 64 bytes read, and the load asks for no alignment.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[allow(unsafe_code)]
    fn load_f16(values: &[f16; 16]) -> __m512 {
        // SAFETY: 16 values are the 32 bytes read, and the load asks for no alignment.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx512bw")]
    #[allow(unsafe_code)]
    fn load_i8(values: &[i8; 64]) -> __m512i {
        // SAFETY: 64 values are the 64 bytes read, and the load asks for no alignment.
        unsafe { _mm512_loadu_epi8(values.as_ptr()) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{by_four, f16};

    #[target_feature(enable = "avx2,fma")]
    pub fn inner_products(query: &[[f32; 8]], data: &[[f32; 8]], rows: &[u32], scores: &mut [f32]) {
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [_mm256_setzero_ps(); 4];
            for (at, query) in query.iter().enumerate() {
                let query = load(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm256_fmadd_ps(query, load(&row[at]), *sum);
                }
            }
            add_up(sums)
        });
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn inner_products_f16(query: &[[f32; 8]], data: &[[f16; 8]], rows: &[u32], scores: &mut [f32]) {
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [_mm256_setzero_ps(); 4];
            for (at, query) in query.iter().enumerate() {
                let query = load(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm256_fmadd_ps(query, load_f16(&row[at]), *sum);
                }
            }
            add_up(sums)
        });
    }

    /// The sum of each register.
    #[target_feature(enable = "avx2")]
    fn add_up([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        let lanes = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let high = _mm256_extractf128_ps::<1>(lanes);
        bytemuck::cast(_mm_add_ps(_mm256_castps256_ps128(lanes), high))
    }

    #[target_feature(enable = "avx2")]
    pub fn inner_products_i8(query: &[[i8; 16]], data: &[[i8; 16]], rows: &[u32], scores: &mut [i32]) {
        by_four(query.len(), data, rows, scores, |four| {
            let mut sums = [_mm256_setzero_si256(); 4];
            for (at, query) in query.iter().enumerate() {
                let query = load_i8(query);
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(query, load_i8(&row[at])));
                }
            }
            let [a, b, c, d] = sums;
            let lanes = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            let high = _mm256_extracti128_si256::<1>(lanes);
            bytemuck::cast(_mm_add_epi32(_mm256_castsi256_si128(lanes), high))
        });
    }

    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    fn load(values: &[f32; 8]) -> __m256 {
        // SAFETY: 8 values are the 32 bytes read, and the load asks for no alignment.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[target_feature(enable = "avx2,f16c")]
    #[allow(unsafe_code)]
    fn load_f16(values: &[f16; 8]) -> __m256 {
        // SAFETY: 8 values are the 16 bytes read, and the load asks for no alignment.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
    }

    /// 16 values, widened to 16 bits each.
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    fn load_i8(values: &[i8; 16]) -> __m256i {
        // SAFETY: 16 values are the 16 bytes read, and the load asks for no alignment.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
    }
}

mod portable {
    use super::SpatialSimilarity;

    pub fn inner_products(query: &[f32], data: &[f32], rows: &[u32], scores: &mut [f32]) {
        for (&row, score) in rows.iter().zip(scores) {
            let row = &data[row as usize * query.len()..][..query.len()];
            *score = f32::dot(query, row).expect("rows as long as the query") as f32 + 0.0;
        }
    }

    pub fn inner_products_i8(query: &[i8], data: &[i8], rows: &[u32], scores: &mut [i32]) {
        for (&row, score) in rows.iter().zip(scores) {
            let row = &data[row as usize * query.len()..][..query.len()];
            *score = <i8 as SpatialSimilarity>::dot(query, row).expect("rows as long as the query") as i32;
        }
    }
}

/// Asks for the cache lines of `count` values from `start` on, which need not lie in `data`. They come into the
/// second cache: of many scattered lines, more are under way at once than into the first.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(data: &[T], start: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..count * size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let line = data.as_ptr().wrapping_add(start).cast::<i8>().wrapping_add(byte);
        // SAFETY: a prefetch reads nothing that the program can see and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, start, count);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    type Kernel<T, S> = fn(&[T], &[T], &[u32], &mut [S]);

    /// Every kernel that this processor can run.
    #[allow(unsafe_code)]
    fn kernels() -> Vec<Kernel<f32, f32>> {
        let mut kernels: Vec<Kernel<f32, f32>> = vec![inner_products, portable::inner_products];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: asked just before.
            kernels.push(|query, data, rows, scores| unsafe {
                avx2::inner_products(query.as_chunks().0, data.as_chunks().0, rows, scores)
            });
        }
        kernels
    }

    #[allow(unsafe_code)]
    fn kernels_i8() -> Vec<Kernel<i8, i32>> {
        let mut kernels: Vec<Kernel<i8, i32>> = vec![inner_products_i8, portable::inner_products_i8];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: asked just before.
            kernels.push(|query, data, rows, scores| unsafe {
                avx2::inner_products_i8(query.as_chunks().0, data.as_chunks().0, rows, scores)
            });
        }
        kernels
    }

    /// Rows of one dim, padded with zeros to a multiple of `line` values; the first is the query. And the
    /// rows to score.
    fn world<T: Clone + Default + std::fmt::Debug>(
        value: impl Strategy<Value = T> + Clone,
        line: usize,
    ) -> impl Strategy<Value = (usize, Vec<T>, Vec<u32>)> {
        let picks = prop::collection::vec(any::<Index>(), 0..12);
        (1usize..=300, 2usize..9, picks).prop_flat_map(move |(dim, rows, picks)| {
            let picks: Vec<u32> = picks.iter().map(|pick| pick.index(rows) as u32).collect();
            let row = prop::collection::vec(value.clone(), dim);
            let width = dim.next_multiple_of(line);
            prop::collection::vec(row, rows).prop_map(move |mut rows| {
                rows.iter_mut().for_each(|row| row.resize(width, T::default()));
                (width, rows.concat(), picks.clone())
            })
        })
    }

    proptest! {
        #[test]
        fn sums_of_floats_are_those_of_f64((width, data, rows) in world(-100.0f32..100.0, 16)) {
            let query = &data[..width];
            let pairs = |row: u32| query.iter().zip(&data[row as usize * width..][..width]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
            let mut found = vec![f32::NAN; rows.len()];
            for kernel in kernels() {
                kernel(query, &data, &rows, &mut found);
                for (&row, &found) in rows.iter().zip(&found) {
                    let exact: f64 = pairs(row).map(|(a, b)| a * b).sum();
                    let size: f64 = pairs(row).map(|(a, b)| (a * b).abs()).sum();
                    prop_assert!((f64::from(found) - exact).abs() <= 1e-5 * size, "{found} is not {exact}");
                }
            }
        }

        #[test]
        fn sums_of_integers_are_exact((width, data, rows) in world(any::<i8>(), LINE)) {
            let query = &data[..width];
            let mut found = vec![i32::MIN; rows.len()];
            let exact = |row: &u32| -> i32 {
                let row = &data[*row as usize * width..][..width];
                query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
            };
            let exact: Vec<i32> = rows.iter().map(exact).collect();
            for kernel in kernels_i8() {
                kernel(query, &data, &rows, &mut found);
                prop_assert_eq!(&found, &exact);
            }
        }
    }

    /// Each kernel of `f16` that this processor can run, and the kernel of `f32` whose sums it is to give.
    #[allow(unsafe_code)]
    fn kernels_f16() -> Vec<(KernelF16, Kernel<f32, f32>)> {
        let portable: KernelF16 =
            |query, data, rows, scores| converted(query, data, rows, scores, portable::inner_products);
        let mut kernels: Vec<(KernelF16, Kernel<f32, f32>)> =
            vec![(inner_products_f16 as KernelF16, inner_products as Kernel<f32, f32>)];
        kernels.push((portable, portable::inner_products));
        kernels.push((
            |query, data, rows, scores| converted(query, data, rows, scores, inner_products),
            inner_products,
        ));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            kernels.push((
                // SAFETY: asked just before.
                |query, data, rows, scores| unsafe {
                    avx2::inner_products_f16(query.as_chunks().0, data.as_chunks().0, rows, scores)
                },
                // SAFETY: the same.
                |query, data, rows, scores| unsafe {
                    avx2::inner_products(query.as_chunks().0, data.as_chunks().0, rows, scores)
                },
            ));
        }
        kernels
    }

    type KernelF16 = fn(&[f32], &[f16], &[u32], &mut [f32]);

    /// Any finite `f16`, the awkward ones often.
    fn halves() -> impl Strategy<Value = f16> + Clone {
        let awkward =
            [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00].map(f16::from_bits);
        let finite = any::<u16>()
            .prop_map(|bits| f16::from_bits(if bits & 0x7c00 == 0x7c00 { bits & 0x83ff } else { bits }));
        prop_oneof![2 => finite, 1 => prop::sample::select(awkward.to_vec())]
    }

    #[test]
    fn f16_rows_score_as_the_same_rows_in_f32_at_every_dim() {
        for dim in 1..=300usize {
            let width = dim.next_multiple_of(16);
            let value = |at: usize| f16::from_bits(((at * 40_503) ^ (at >> 3)) as u16 & 0xbbff);
            let mut data: Vec<f16> = (0..5 * width).map(value).collect();
            data.chunks_mut(width).for_each(|row| row[dim..].fill(f16::ZERO));
            let wide: Vec<f32> = data.iter().map(|value| value.to_f32()).collect();
            let query: Vec<f32> =
                (0..width).map(|at| if at < dim { (at as f32 * 0.7).sin() } else { 0.0 }).collect();
            let (mut found, mut expected) = ([f32::NAN; 5], [f32::NAN; 5]);
            for (kernel, reference) in kernels_f16() {
                kernel(&query, &data, &[4, 1, 0, 3, 2], &mut found);
                reference(&query, &wide, &[4, 1, 0, 3, 2], &mut expected);
                assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "dim {dim}");
            }
        }
    }

    proptest! {
        #[test]
        fn f16_rows_score_as_the_same_rows_in_f32((width, data, rows) in world(halves(), 16), scale in -100i32..100) {
            let wide: Vec<f32> = data.iter().map(|value| value.to_f32()).collect();
            let query: Vec<f32> = wide[..width].iter().map(|value| value * (scale as f32).exp2()).collect();
            let (mut found, mut expected) = (vec![f32::NAN; rows.len()], vec![f32::NAN; rows.len()]);
            for (kernel, reference) in kernels_f16() {
                kernel(&query, &data, &rows, &mut found);
                reference(&query, &wide, &rows, &mut expected);
                let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found), bits(&expected));
            }
        }
    }

    #[test]
    fn a_row_scores_the_same_in_any_company() {
        let data: Vec<f32> = (0..16 * 32).map(|value| (value as f32 * 0.7).sin()).collect();
        let rows: Vec<u32> = (0..16).collect();
        let mut together = [0.0; 16];
        inner_products(&data[..32], &data, &rows, &mut together);
        for row in 0..16u32 {
            let mut alone = [0.0; 1];
            inner_products(&data[..32], &data, &[row], &mut alone);
            assert_eq!(alone[0], together[row as usize]);
        }
    }
}
