//! One query against codes of four bits, sixteen rows at a time.
//!
//! A block holds sixteen rows: for every eight coordinates a cache line, in which each row has four bytes,
//! whose low halves are the first four coordinates and whose high halves are the others (the layout is that
//! of [`super::interleaved`]); then sixteen scales, then sixteen errors, both the upper halves of an `f32`.

use super::LINE;
use super::interleaved::LANES;

/// Coordinates of a row that share a cache line with those of fifteen others.
pub(crate) const COORDINATES: usize = 8;

/// Codes are 0 to 15 and stand for the odd numbers from -15 to 15: each for twice itself, less this.
pub(crate) const MIDDLE: i32 = 15;

/// The bytes a block takes.
pub(crate) const fn block_bytes(dim: usize) -> usize {
    (dim.div_ceil(COORDINATES) + 1) * LINE
}

/// Puts the codes of a row into its place of a block, which was zeros, with scale and error.
pub(crate) fn put(block: &mut [u8], lane: usize, codes: &[u8], scale: u16, error: u16) {
    let (lines, scales) = block.split_at_mut(block.len() - LINE);
    for (eight, line) in codes.chunks(COORDINATES).zip(lines.chunks_exact_mut(LINE)) {
        for (at, code) in eight.iter().enumerate() {
            line[4 * lane + at % 4] |= if at < 4 { *code } else { code << 4 };
        }
    }
    scales[2 * lane..][..2].copy_from_slice(&scale.to_le_bytes());
    scales[2 * (LANES + lane)..][..2].copy_from_slice(&error.to_le_bytes());
}

/// Replaces `codes`, as many as there are coordinates, by those in a place of a block; returns scale and error.
pub(crate) fn get(block: &[u8], lane: usize, codes: &mut [u8]) -> (f32, f32) {
    let (lines, scales) = block.split_at(block.len() - LINE);
    for (eight, line) in codes.chunks_mut(COORDINATES).zip(lines.chunks_exact(LINE)) {
        for (at, code) in eight.iter_mut().enumerate() {
            let byte = line[4 * lane + at % 4];
            *code = if at < 4 { byte & 15 } else { byte >> 4 };
        }
    }
    let half =
        |at: usize| f32::from_bits(u32::from(u16::from_le_bytes([scales[2 * at], scales[2 * at + 1]])) << 16);
    (half(lane), half(LANES + lane))
}

/// A user and what to make of a row: `base + scale * unit * product + error * caution`.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// As many values as there are coordinates, rounded up to a multiple of eight by zeros.
    pub query: &'a [i8],
    /// What they add up to: the same for all clusters of a user, so that it is made once.
    pub sum: i32,
    pub unit: f32,
    pub caution: f32,
    pub base: f32,
    /// Rows below it are left out; so are those that are no number.
    pub bar: f32,
    /// Blocks asked for ahead of their use.
    pub ahead: usize,
}

/// Blocks in which rows stand that follow each other.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub blocks: &'a [u8],
    pub first: u32,
    pub count: usize,
    /// A bit for each row of the index, whether it may be found; rows behind its end may not.
    pub allowed: Option<&'a [u64]>,
}

/// Rows found, and what was made of them.
#[derive(Default)]
pub(crate) struct Readings {
    /// As long as each other; more than are in use.
    rows: Vec<u32>,
    values: Vec<f32>,
    len: usize,
}

impl Readings {
    /// The memory that is held, in bytes.
    pub fn bytes(&self) -> usize {
        8 * self.rows.len()
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn rows(&self) -> &[u32] {
        &self.rows[..self.len]
    }

    pub fn values(&self) -> &[f32] {
        &self.values[..self.len]
    }

    /// Drops the rows below `bar`; the others stay in order.
    pub fn retain(&mut self, bar: f32) {
        let mut kept = 0;
        for at in 0..self.len {
            let value = self.values[at];
            self.rows[kept] = self.rows[at];
            self.values[kept] = value;
            kept += usize::from(value >= bar);
        }
        self.len = kept;
    }

    /// Makes place for `more`, and for a whole register behind them.
    fn reserve(&mut self, more: usize) {
        let wanted = self.len + more + LANES;
        if self.rows.len() < wanted {
            let wanted = wanted.next_power_of_two();
            self.rows.resize(wanted, 0);
            self.values.resize(wanted, 0.0);
        }
    }
}

/// Adds the rows of a run that reach the bar.
#[allow(unsafe_code)]
pub(crate) fn read(reading: &Reading<'_>, run: &Run<'_>, readings: &mut Readings) {
    let lines = reading.query.len() / COORDINATES + 1;
    if run.blocks.len() < run.count.div_ceil(LANES) * lines * LINE {
        return;
    }
    readings.reserve(run.count);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        if detected!("avx512bw") && detected!("avx512vnni") && detected!("popcnt") {
            // SAFETY: this processor has AVX-512 BW, hence F, VNNI and POPCNT.
            return unsafe { avx512::read(reading, run, readings) };
        }
        if detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { avx2::read(reading, run, readings) };
        }
    }
    portable::read(reading, run, readings);
}

impl Reading<'_> {
    /// What is to be added to twice the product of the codes.
    fn start(&self) -> i32 {
        -MIDDLE * self.sum
    }
}

impl<'a> Run<'a> {
    /// One block of them, of so many bytes.
    pub fn block(self, at: usize, bytes: usize) -> Run<'a> {
        let before = at * LANES;
        Run {
            blocks: self.blocks.get(at * bytes..).unwrap_or(&[]),
            first: self.first.wrapping_add(before as u32),
            count: self.count.saturating_sub(before).min(LANES),
            allowed: self.allowed,
        }
    }

    /// Calls `each` with the lines of every block that holds a row which may be found, the number of its
    /// first row, and those rows as bits.
    #[inline(always)]
    fn each_block(&self, lines: usize, mut each: impl FnMut(&[[u8; LINE]], &[u8; LINE], u32, u16)) {
        let mut left: &[[u8; LINE]] = self.blocks.as_chunks().0;
        for before in (0..self.count).step_by(LANES) {
            let Some((block, others)) = left.split_at_checked(lines) else { return };
            left = others;
            let first = self.first.wrapping_add(before as u32);
            let count = self.count - before;
            let mut rows = if count < LANES { (1u16 << count) - 1 } else { u16::MAX };
            if let Some(allowed) = self.allowed {
                rows &= bits(allowed, first as usize);
                if rows == 0 {
                    continue;
                }
            }
            let Some((scales, codes)) = block.split_last() else { return };
            each(codes, scales, first, rows);
        }
    }
}

/// Sixteen bits from `first` on.
#[inline(always)]
fn bits(words: &[u64], first: usize) -> u16 {
    let word = |at: usize| words.get(at).copied().unwrap_or(0);
    let (at, shift) = (first / 64, first % 64);
    // Where no bit of the next word is wanted, taking it costs less than a branch that is often mispredicted.
    (word(at) >> shift | word(at + 1) << 1 << (63 - shift)) as u16
}

/// Makes values of products, and keeps those that reach the bar.
#[inline(always)]
fn keep(
    reading: &Reading<'_>,
    products: [i32; LANES],
    scales: &[u8; LINE],
    first: u32,
    rows: u16,
    readings: &mut Readings,
) {
    let half =
        |at: usize| f32::from_bits(u32::from(u16::from_le_bytes([scales[2 * at], scales[2 * at + 1]])) << 16);
    for (lane, product) in products.into_iter().enumerate() {
        let value =
            reading.base + half(lane) * reading.unit * product as f32 + half(LANES + lane) * reading.caution;
        readings.rows[readings.len] = first.wrapping_add(lane as u32);
        readings.values[readings.len] = value;
        readings.len += usize::from(value >= reading.bar && rows >> lane & 1 == 1);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, LINE, Reading, Readings, Run};

    #[target_feature(enable = "avx512bw,avx512vnni,popcnt")]
    pub fn read(reading: &Reading<'_>, run: &Run<'_>, readings: &mut Readings) {
        let query: &[[i8; 4]] = reading.query.as_chunks().0;
        let pairs: &[[[i8; 4]; 2]] = query.as_chunks().0;
        let start = _mm512_set1_epi32(reading.start());
        let low_half = _mm512_set1_epi8(0x0F);
        let high_half = _mm512_set1_epi8(0xF0u8 as i8);
        let numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let (unit, caution) = (_mm512_set1_ps(reading.unit), _mm512_set1_ps(reading.caution));
        let (base, bar) = (_mm512_set1_ps(reading.base), _mm512_set1_ps(reading.bar));
        let ahead = reading.ahead * (pairs.len() + 1);
        run.each_block(pairs.len() + 1, |codes, scales, first, rows| {
            for line in codes {
                ask_for(line, ahead);
            }
            ask_for(scales, ahead);
            let [mut low, mut high] = [_mm512_setzero_si512(); 2];
            for (line, [first, second]) in codes.iter().zip(pairs) {
                let line = load(line);
                low = _mm512_dpbusd_epi32(low, _mm512_and_si512(line, low_half), broadcast(first));
                high = _mm512_dpbusd_epi32(high, _mm512_and_si512(line, high_half), broadcast(second));
            }
            // The high halves were taken for sixteen times what they are.
            let twice = _mm512_add_epi32(_mm512_slli_epi32::<1>(low), _mm512_srai_epi32::<3>(high));
            let product = _mm512_cvtepi32_ps(_mm512_add_epi32(start, twice));
            let scales = load(scales);
            let scale = upper(_mm512_castsi512_si256(scales));
            let error = upper(_mm512_extracti64x4_epi64::<1>(scales));
            let value = _mm512_add_ps(base, _mm512_mul_ps(_mm512_mul_ps(scale, unit), product));
            let value = _mm512_add_ps(value, _mm512_mul_ps(error, caution));
            let found = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(rows, value, bar);
            if found != 0 {
                let row = _mm512_add_epi32(_mm512_set1_epi32(first as i32), numbers);
                let end = readings.len + LANES;
                let rows: &mut [u32] = &mut readings.rows[readings.len..end];
                rows.copy_from_slice(&bytemuck::cast::<_, [u32; LANES]>(_mm512_maskz_compress_epi32(
                    found, row,
                )));
                let values: &mut [f32] = &mut readings.values[readings.len..end];
                values.copy_from_slice(&bytemuck::cast::<_, [f32; LANES]>(_mm512_maskz_compress_ps(
                    found, value,
                )));
                readings.len += found.count_ones() as usize;
            }
        });
    }

    #[target_feature(enable = "avx512bw")]
    fn broadcast(query: &[i8; 4]) -> __m512i {
        _mm512_set1_epi32(i32::from_le_bytes(query.map(|value| value as u8)))
    }

    /// Values of which these are the upper halves.
    #[target_feature(enable = "avx512bw")]
    fn upper(halves: __m256i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn ask_for(line: &[u8; LINE], lines_ahead: usize) {
        let line = line.as_ptr().wrapping_add(lines_ahead * LINE);
        // SAFETY: a prefetch reads nothing that the program can see and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
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

    use super::{LANES, LINE, Reading, Readings, Run, keep};

    /// Lines whose products fit 16 bits: each brings in two pairs, of at most 15 times 128 twice.
    const NARROW: usize = 4;

    #[target_feature(enable = "avx2")]
    pub fn read(reading: &Reading<'_>, run: &Run<'_>, readings: &mut Readings) {
        let query: &[[i8; 4]] = reading.query.as_chunks().0;
        let pairs: &[[[i8; 4]; 2]] = query.as_chunks().0;
        let start = _mm256_set1_epi32(reading.start());
        let low_half = _mm256_set1_epi8(0x0F);
        let ones = _mm256_set1_epi16(1);
        run.each_block(pairs.len() + 1, |codes, scales, first, rows| {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (lines, pairs) in codes.chunks(NARROW).zip(pairs.chunks(NARROW)) {
                let mut narrow = [_mm256_setzero_si256(); 2];
                for (line, [first, second]) in lines.iter().zip(pairs) {
                    for (sum, half) in narrow.iter_mut().zip(line.as_chunks::<32>().0) {
                        let half = load(half);
                        let low = _mm256_and_si256(half, low_half);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(half), low_half);
                        *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(low, broadcast(first)));
                        *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(high, broadcast(second)));
                    }
                }
                for (sum, narrow) in sums.iter_mut().zip(narrow) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(narrow, ones));
                }
            }
            let twice = sums.map(|sum| _mm256_add_epi32(start, _mm256_slli_epi32::<1>(sum)));
            let products: [i32; LANES] = bytemuck::cast(twice);
            keep(reading, products, scales, first, rows, readings);
        });
    }

    #[target_feature(enable = "avx2")]
    fn broadcast(query: &[i8; 4]) -> __m256i {
        _mm256_set1_epi32(i32::from_le_bytes(query.map(|value| value as u8)))
    }

    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    fn load(values: &[u8; LINE / 2]) -> __m256i {
        // SAFETY: 32 values are the 32 bytes read, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
    }
}

mod portable {
    use super::{LANES, Reading, Readings, Run, keep};

    pub fn read(reading: &Reading<'_>, run: &Run<'_>, readings: &mut Readings) {
        let pairs: &[[i8; 8]] = reading.query.as_chunks().0;
        let start = reading.start();
        run.each_block(pairs.len() + 1, |codes, scales, first, rows| {
            let mut products = [0; LANES];
            for (line, query) in codes.iter().zip(pairs) {
                for (product, four) in products.iter_mut().zip(line.as_chunks::<4>().0) {
                    for (at, &both) in four.iter().enumerate() {
                        *product += i32::from(both & 15) * i32::from(query[at])
                            + i32::from(both >> 4) * i32::from(query[4 + at]);
                    }
                }
            }
            let products = products.map(|product| start + 2 * product);
            keep(reading, products, scales, first, rows, readings);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Kernel = fn(&Reading<'_>, &Run<'_>, &mut Readings);

    /// Every kernel that this processor can run.
    #[allow(unsafe_code)]
    fn kernels() -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = vec![portable::read];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: asked just before.
                kernels.push(|reading, run, readings| unsafe { avx2::read(reading, run, readings) });
            }
            if is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("popcnt")
            {
                // SAFETY: asked just before.
                kernels.push(|reading, run, readings| unsafe { avx512::read(reading, run, readings) });
            }
        }
        kernels
    }

    proptest! {
        #[test]
        fn every_kernel_reads_the_rows_that_reach_the_bar(
            rows in (1usize..=300).prop_flat_map(|dim| {
                let row = (prop::collection::vec(0u8..16, dim), 0x3000u16..0x4800, 0x3000u16..0x4000);
                (prop::collection::vec(any::<i8>(), dim), prop::collection::vec(row, 1..70))
            }),
            first in 0u32..200,
            words in prop::option::of(prop::collection::vec(any::<u64>(), 0..6)),
            (base, bar, caution) in (-1e3f32..1e3, -1e5f32..1e4, 0.0f32..1e3),
        ) {
            let (mut query, rows) = rows;
            let dim = query.len();
            query.resize(dim.next_multiple_of(COORDINATES), 0);
            let mut blocks = vec![0; rows.len().div_ceil(LANES) * block_bytes(dim)];
            let mut expected = Vec::new();
            for (at, (codes, scale, error)) in rows.iter().enumerate() {
                put(&mut blocks[at / LANES * block_bytes(dim)..][..block_bytes(dim)], at % LANES, codes, *scale, *error);
                let levels = codes.iter().map(|&code| 2 * i32::from(code) - MIDDLE);
                let product: i32 = levels.zip(&query).map(|(level, &value)| level * i32::from(value)).sum();
                let half = |half: u16| f32::from_bits(u32::from(half) << 16);
                let value = base + half(*scale) * 0.5 * product as f32 + half(*error) * caution;
                let row = first as usize + at;
                let allowed = words.as_ref().is_none_or(|words| words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1));
                if value >= bar && allowed {
                    expected.push((row as u32, value.to_bits()));
                }
            }
            let sum = query.iter().map(|&value| i32::from(value)).sum();
            let reading = Reading { query: &query, sum, unit: 0.5, caution, base, bar, ahead: 3 };
            let run = Run { blocks: &blocks, first, count: rows.len(), allowed: words.as_deref() };
            for kernel in kernels() {
                let mut readings = Readings::default();
                readings.reserve(run.count);
                kernel(&reading, &run, &mut readings);
                let found = readings.rows().iter().zip(readings.values()).map(|(&row, value)| (row, value.to_bits()));
                prop_assert_eq!(found.collect::<Vec<_>>(), expected.clone());
            }
            let mut readings = Readings::default();
            read(&reading, &run, &mut readings);
            prop_assert_eq!(readings.len(), expected.len());
            let best = readings.values().iter().copied().fold(bar, f32::max);
            readings.retain(best);
            prop_assert!(readings.values().iter().all(|&value| value == best));
        }
    }

    #[test]
    fn blocks_that_are_not_there_have_no_rows() {
        let mut readings = Readings::default();
        let reading = Reading {
            query: &[1; 8],
            sum: 8,
            unit: 1.0,
            caution: 0.0,
            base: 0.0,
            bar: f32::NEG_INFINITY,
            ahead: 3,
        };
        let run = Run { blocks: &[0; 127], first: 3, count: 16, allowed: None };
        read(&reading, &run, &mut readings);
        assert_eq!(readings.len(), 0);
        read(&reading, &Run { blocks: &[0; 128], ..run }, &mut readings);
        assert_eq!(readings.rows().to_vec(), (3..19).collect::<Vec<_>>());
    }
}
