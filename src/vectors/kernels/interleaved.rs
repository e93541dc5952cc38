//! One query against sixteen vectors at a time, which stand interleaved: four values of the first, four of
//! the second, and so on. A register then holds one sum a vector, and none has to be added up.

use super::LINE;

/// Vectors that stand interleaved.
pub(crate) const LANES: usize = 16;

/// Queries that share each load of the vectors in [`nearest`].
pub(crate) const SHARED: usize = 8;

/// The values that a vector of `dim` takes, padding included.
pub(crate) fn interleaved_stride(dim: usize) -> usize {
    dim.next_multiple_of(LINE / LANES)
}

/// Where in a group the value `at` of vector `lane` stands.
pub(crate) fn place(lane: usize, at: usize) -> usize {
    at / 4 * LINE + lane * 4 + at % 4
}

/// Writes the inner products of two queries with groups of sixteen that take turns, one for each query, as many
/// as both sums hold.
///
/// The queries are as long as each other, a multiple of four; a group has sixteen times as many bytes.
#[allow(unsafe_code)]
pub(crate) fn products(queries: [&[i8]; 2], groups: &[u8], sums: [&mut [[i32; LANES]]; 2]) {
    let (queries, groups) = (queries.map(|query| query.as_chunks().0), groups.as_chunks().0);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512bw") && detected!("avx512vnni") {
            // SAFETY: this processor has AVX-512 BW, hence F, and VNNI.
            return unsafe { avx512::products(queries, groups, sums) };
        }
        if detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { avx2::products(queries, groups, sums) };
        }
    }
    portable::products(queries, groups, sums);
}

/// Vectors to choose the nearest of: interleaved, and for each a factor and what to take off.
#[derive(Clone, Copy)]
pub(crate) struct Centres<'a> {
    pub groups: &'a [u8],
    pub scales: &'a [[f32; LANES]],
    /// Half of the squared norms; infinite for lanes that hold no vector.
    pub halves: &'a [[f32; LANES]],
}

/// For each of the queries the number of the vector whose product, times its scale, less its half times the
/// query's weight, is the largest: the first of equals.
#[allow(unsafe_code)]
pub(crate) fn nearest(
    queries: [&[i8]; SHARED],
    weights: [f32; SHARED],
    offsets: [i32; SHARED],
    centres: Centres<'_>,
) -> [u32; SHARED] {
    let queries = queries.map(|query| query.as_chunks().0);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512bw") && detected!("avx512vnni") {
            // SAFETY: this processor has AVX-512 BW, hence F, and VNNI.
            return unsafe { avx512::nearest(queries, weights, offsets, centres) };
        }
        if detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { avx2::nearest(queries, weights, offsets, centres) };
        }
    }
    portable::nearest(queries, weights, offsets, centres)
}

/// The best so far of each lane.
struct Best {
    scores: [f32; LANES],
    numbers: [u32; LANES],
}

impl Best {
    #[inline(always)]
    fn new() -> Best {
        Best { scores: [f32::NEG_INFINITY; LANES], numbers: [u32::MAX; LANES] }
    }

    #[inline(always)]
    fn offer(&mut self, sums: [i32; LANES], offset: i32, weight: f32, group: usize, centres: &Centres<'_>) {
        let (scales, halves) = (&centres.scales[group], &centres.halves[group]);
        for lane in 0..LANES {
            let score = (sums[lane] + offset) as f32 * scales[lane] - halves[lane] * weight;
            let better = score > self.scores[lane];
            self.scores[lane] = if better { score } else { self.scores[lane] };
            self.numbers[lane] = if better { group as u32 } else { self.numbers[lane] };
        }
    }

    #[inline(always)]
    fn number(&self) -> u32 {
        let mut best = (f32::NEG_INFINITY, u32::MAX);
        for lane in 0..LANES {
            let number = self.numbers[lane].saturating_mul(LANES as u32).saturating_add(lane as u32);
            let score = self.scores[lane];
            if score > best.0 || (score == best.0 && number < best.1) {
                best = (score, number);
            }
        }
        if best.1 == u32::MAX { 0 } else { best.1 }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{Best, Centres, LANES, LINE, SHARED};

    /// Groups that share each load of the query.
    const TOGETHER: usize = 4;

    #[target_feature(enable = "avx512bw,avx512vnni")]
    pub fn products(queries: [&[[i8; 4]]; 2], groups: &[[u8; LINE]], sums: [&mut [[i32; LANES]]; 2]) {
        let width = queries[0].len();
        for (turn, (query, sums)) in queries.into_iter().zip(sums).enumerate() {
            let groups = groups.get(turn * width..).unwrap_or_default();
            let count = sums.len().min(groups.len().div_ceil(2 * width));
            let (fours, rest) = sums[..count].as_chunks_mut();
            let (shared, last) = groups.split_at((2 * TOGETHER * width * fours.len()).min(groups.len()));
            for (groups, sums) in shared.chunks(2 * TOGETHER * width).zip(fours) {
                group_sums::<TOGETHER>(query, groups, sums);
            }
            for (groups, sums) in last.chunks(2 * width).zip(rest) {
                group_sums::<1>(query, groups, std::array::from_mut(sums));
            }
        }
    }

    /// The sums of every second group.
    #[target_feature(enable = "avx512bw,avx512vnni")]
    fn group_sums<const N: usize>(query: &[[i8; 4]], groups: &[[u8; LINE]], sums: &mut [[i32; LANES]; N]) {
        let mut each = [groups; N];
        for (at, group) in each.iter_mut().enumerate() {
            *group = &groups[2 * at * query.len()..][..query.len()];
        }
        let mut totals = [_mm512_setzero_si512(); N];
        for (at, query) in query.iter().enumerate() {
            let query = _mm512_set1_epi32(i32::from_le_bytes(query.map(|value| value as u8)));
            for (total, group) in totals.iter_mut().zip(each) {
                *total = _mm512_dpbusd_epi32(*total, load(&group[at]), query);
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            *sums = bytemuck::cast(total);
        }
    }

    #[target_feature(enable = "avx512bw,avx512vnni")]
    pub fn nearest(
        queries: [&[[i8; 4]]; SHARED],
        weights: [f32; SHARED],
        offsets: [i32; SHARED],
        centres: Centres<'_>,
    ) -> [u32; SHARED] {
        let width = queries[0].len();
        let queries = queries.map(|query| &query[..width]);
        let groups: &[[u8; LINE]] = centres.groups.as_chunks().0;
        let mut best = [const { None }; SHARED].map(|_: Option<()>| Best::new());
        for (number, group) in groups.chunks_exact(width).enumerate() {
            let mut sums = [_mm512_setzero_si512(); SHARED];
            for (at, four) in group.iter().enumerate() {
                let four = load(four);
                for (sum, query) in sums.iter_mut().zip(&queries) {
                    let query = _mm512_set1_epi32(i32::from_le_bytes(query[at].map(|value| value as u8)));
                    *sum = _mm512_dpbusd_epi32(*sum, four, query);
                }
            }
            for (lane, sum) in sums.into_iter().enumerate() {
                best[lane].offer(bytemuck::cast(sum), offsets[lane], weights[lane], number, &centres);
            }
        }
        best.map(|best| best.number())
    }

    #[target_feature(enable = "avx512bw")]
    #[allow(unsafe_code)]
    fn load(values: &[u8; LINE]) -> __m512i {
        // SAFETY: 64 values are the 64 bytes read, and the load asks for no alignment.
        unsafe { _mm512_loadu_epi8(values.as_ptr().cast()) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Best, Centres, LANES, LINE, SHARED};

    #[target_feature(enable = "avx2")]
    pub fn products(queries: [&[[i8; 4]]; 2], groups: &[[u8; LINE]], sums: [&mut [[i32; LANES]]; 2]) {
        let width = queries[0].len();
        for (turn, (query, sums)) in queries.into_iter().zip(sums).enumerate() {
            for (group, sums) in groups.chunks_exact(width).skip(turn).step_by(2).zip(sums) {
                *sums = group_sums(query, group);
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn nearest(
        queries: [&[[i8; 4]]; SHARED],
        weights: [f32; SHARED],
        offsets: [i32; SHARED],
        centres: Centres<'_>,
    ) -> [u32; SHARED] {
        let groups: &[[u8; LINE]] = centres.groups.as_chunks().0;
        std::array::from_fn(|lane| {
            let mut best = Best::new();
            for (number, group) in groups.chunks_exact(queries[lane].len()).enumerate() {
                best.offer(group_sums(queries[lane], group), offsets[lane], weights[lane], number, &centres);
            }
            best.number()
        })
    }

    #[target_feature(enable = "avx2")]
    fn group_sums(query: &[[i8; 4]], group: &[[u8; LINE]]) -> [i32; LANES] {
        // Each holds two sums for each of four vectors.
        let mut sums = [_mm256_setzero_si256(); 4];
        for (four, query) in group.iter().zip(query) {
            let query: i64 = bytemuck::cast(query.map(i16::from));
            let query = _mm256_set1_epi64x(query);
            for (sum, vectors) in sums.iter_mut().zip(four.as_chunks::<16>().0) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(query, load(vectors)));
            }
        }
        let [a, b, c, d] = sums;
        // Sums of one vector are added up within halves of registers, which are then put in order.
        let order = |low, high| _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
        bytemuck::cast([order(a, b), order(c, d)])
    }

    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    fn load(values: &[u8; 16]) -> __m256i {
        // SAFETY: 16 values are the 16 bytes read, and the load asks for no alignment.
        _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
    }
}

mod portable {
    use super::{Best, Centres, LANES, LINE, SHARED};

    pub fn products(queries: [&[[i8; 4]]; 2], groups: &[[u8; LINE]], sums: [&mut [[i32; LANES]]; 2]) {
        let width = queries[0].len();
        for (turn, (query, sums)) in queries.into_iter().zip(sums).enumerate() {
            for (group, sums) in groups.chunks_exact(width).skip(turn).step_by(2).zip(sums) {
                *sums = group_sums(query, group);
            }
        }
    }

    pub fn nearest(
        queries: [&[[i8; 4]]; SHARED],
        weights: [f32; SHARED],
        offsets: [i32; SHARED],
        centres: Centres<'_>,
    ) -> [u32; SHARED] {
        let groups: &[[u8; LINE]] = centres.groups.as_chunks().0;
        std::array::from_fn(|lane| {
            let mut best = Best::new();
            for (number, group) in groups.chunks_exact(queries[lane].len()).enumerate() {
                best.offer(group_sums(queries[lane], group), offsets[lane], weights[lane], number, &centres);
            }
            best.number()
        })
    }

    fn group_sums(query: &[[i8; 4]], group: &[[u8; LINE]]) -> [i32; LANES] {
        let mut sums = [0; LANES];
        for (four, query) in group.iter().zip(query) {
            for (sum, values) in sums.iter_mut().zip(four.as_chunks::<4>().0) {
                *sum += values.iter().zip(query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>();
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Products = fn([&[[i8; 4]]; 2], &[[u8; LINE]], [&mut [[i32; LANES]]; 2]);
    type Nearest = fn([&[[i8; 4]]; SHARED], [f32; SHARED], [i32; SHARED], Centres<'_>) -> [u32; SHARED];

    /// Every kernel that this processor can run.
    #[allow(unsafe_code)]
    fn kernels() -> Vec<(Products, Nearest)> {
        let mut kernels: Vec<(Products, Nearest)> = vec![(portable::products, portable::nearest)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: asked just before.
                kernels.push((
                    |queries, groups, sums| unsafe { avx2::products(queries, groups, sums) },
                    |a, b, c, d| unsafe { avx2::nearest(a, b, c, d) },
                ));
            }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                // SAFETY: asked just before.
                kernels.push((
                    |queries, groups, sums| unsafe { avx512::products(queries, groups, sums) },
                    |a, b, c, d| unsafe { avx512::nearest(a, b, c, d) },
                ));
            }
        }
        kernels
    }

    /// Queries, and vectors of their length.
    fn world() -> impl Strategy<Value = (Vec<Vec<i8>>, Vec<Vec<u8>>)> {
        (1usize..=80, 1usize..70).prop_flat_map(|(fours, vectors)| {
            let query = prop::collection::vec(any::<i8>(), 4 * fours);
            let vector = prop::collection::vec(any::<u8>(), 4 * fours);
            (prop::collection::vec(query, SHARED), prop::collection::vec(vector, vectors))
        })
    }

    fn interleave(vectors: &[Vec<u8>]) -> Vec<u8> {
        let bytes = LANES * interleaved_stride(vectors[0].len());
        let mut groups = vec![0; vectors.len().div_ceil(LANES) * bytes];
        for (number, vector) in vectors.iter().enumerate() {
            let group = &mut groups[number / LANES * bytes..][..bytes];
            vector.iter().enumerate().for_each(|(at, &value)| group[place(number % LANES, at)] = value);
        }
        groups
    }

    fn product(query: &[i8], vector: &[u8]) -> i32 {
        query.iter().zip(vector).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
    }

    proptest! {
        #[test]
        fn products_are_exact((queries, vectors) in world(), more in 0usize..3) {
            let groups = interleave(&vectors);
            let count = vectors.len().div_ceil(LANES);
            // Each group for the first query, and then for the second.
            let in_turns: Vec<u8> = groups.chunks(groups.len() / count).flat_map(|group| [group, group]).flatten().copied().collect();
            for (kernel, _) in kernels() {
                let mut sums = [0, 1].map(|_| vec![[i32::MIN; LANES]; count + more]);
                let [first, second] = &mut sums;
                let queries: [&[i8]; 2] = [&queries[0], &queries[1]];
                kernel(queries.map(|query| query.as_chunks().0), in_turns.as_chunks().0, [first, second]);
                for (query, sums) in queries.into_iter().zip(&sums) {
                    for (vector, &sum) in vectors.iter().zip(sums.as_flattened()) {
                        prop_assert_eq!(sum, product(query, vector));
                    }
                    prop_assert!(sums[count..].iter().all(|sums| *sums == [i32::MIN; LANES]));
                }
            }
        }

        #[test]
        fn the_nearest_is_the_first_of_the_best(
            (queries, vectors) in world(),
            numbers in prop::collection::vec((-4i8..5, 0u8..5), 70),
            (weight, offset) in (0u8..3, -1000i32..1000),
        ) {
            let groups = interleave(&vectors);
            let (mut scales, mut halves) = (vec![[0.0; LANES]; 5], vec![[f32::INFINITY; LANES]; 5]);
            for (at, (scale, half)) in numbers.into_iter().take(vectors.len()).enumerate() {
                scales[at / LANES][at % LANES] = f32::from(scale);
                halves[at / LANES][at % LANES] = f32::from(half) * 1e4;
            }
            let centres = Centres { groups: &groups, scales: &scales, halves: &halves };
            // A weight of nothing would meet infinite halves.
            let (weights, offsets) = ([f32::from(weight) + 0.5; SHARED], [offset; SHARED]);
            let expected: [u32; SHARED] = std::array::from_fn(|query| {
                let score = |at: usize| {
                    (product(&queries[query], &vectors[at]) + offset) as f32 * scales.as_flattened()[at]
                        - halves.as_flattened()[at] * weights[query]
                };
                (0..vectors.len()).fold(0, |best, at| if score(at) > score(best) { at } else { best }) as u32
            });
            let queries: [&[[i8; 4]]; SHARED] = std::array::from_fn(|at| queries[at].as_chunks().0);
            for (_, kernel) in kernels() {
                prop_assert_eq!(kernel(queries, weights, offsets, centres), expected);
            }
        }
    }
}
