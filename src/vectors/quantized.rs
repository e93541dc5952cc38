use super::kernels::{self, LINE};
use super::{Rows, prefetch};

/// Rows scored at a time.
const BLOCK: usize = 64;

/// The smallest scale, of a user or a row, that bounds are computed from. Products of smaller ones might
/// vanish.
const SMALLEST: f32 = 1.0 / (1u64 << 50) as f32;

/// The `i8` rows: `value = scale * i8`, with one scale a row, by which the largest value of the row becomes
/// 127.
///
/// They take a quarter of the bytes. Walks and bounds read them; what those leave is scored again in `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Quantized<'a> {
    values: &'a [i8],
    scales: &'a [f32],
    dim: usize,
}

impl<'a> Quantized<'a> {
    /// `values` and `scales` are as they stand in the file.
    pub fn new(values: &'a [i8], scales: &'a [f32], dim: usize) -> Quantized<'a> {
        Quantized { values, scales, dim }
    }

    /// Replaces the contents of `values` by the quantised user, padded.
    pub fn quantize_user(&self, user: &[f32], values: &mut Vec<i8>) {
        quantize(user, values);
        values.resize(quantized_stride(self.dim), 0);
    }

    /// Whether an `i8` row takes fewer cache lines than one of `rows`.
    pub fn is_smaller_than(&self, rows: Rows<'_>) -> bool {
        quantized_stride(self.dim) / LINE < rows.lines()
    }

    /// Replaces the contents of `values` by the quantised user, padded, and returns what bounds its scores;
    /// `None` if the user is so small that products might vanish.
    pub fn bounds(&self, user: &[f32], values: &mut Vec<i8>) -> Option<UserBounds> {
        let user = &user[..self.dim];
        let scale = quantize(user, values);
        let bounds = (scale >= SMALLEST).then(|| UserBounds::new(user, values, scale));
        values.resize(quantized_stride(self.dim), 0);
        bounds
    }

    /// Calls `bounded` with each of `rows`, at most [`BLOCK`], and the least and the most that its `f32`
    /// score can be.
    #[inline(always)]
    pub fn bound(
        &self,
        values: &[i8],
        user: UserBounds,
        rows: &[u32],
        mut bounded: impl FnMut(u32, f32, f32),
    ) {
        let mut products = [0; BLOCK];
        let products = &mut products[..rows.len()];
        kernels::inner_products_i8(values, self.values, rows, products);
        for (&row, &product) in rows.iter().zip(&*products) {
            let scale = self.scales[row as usize];
            let product = product as f32 * user.scale;
            // The derivation of the bounds does not hold for rows so small that their quantisation is coarse.
            match scale >= SMALLEST {
                true => bounded(row, (product - user.slack) * scale, (product + user.slack) * scale),
                false => bounded(row, f32::NEG_INFINITY, f32::INFINITY),
            }
        }
    }

    /// Writes the inner product of a quantised user with each of `rows` to `scores`. It leaves out the user's
    /// scale, which does not change the order.
    #[inline(always)]
    pub fn scores(&self, user: &[i8], rows: &[u32], scores: &mut [f32]) {
        self.products(user, rows, scores, |product, row| product * self.scales[row as usize] + 0.0);
    }

    /// Writes `score(product, row)` to `scores` for each of `rows`. The product is that of `values` and the
    /// row's integers, without scales.
    #[inline(always)]
    pub fn products(&self, values: &[i8], rows: &[u32], scores: &mut [f32], score: impl Fn(f32, u32) -> f32) {
        let mut products = [0; BLOCK];
        for (rows, scores) in rows.chunks(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            let products = &mut products[..rows.len()];
            kernels::inner_products_i8(values, self.values, rows, products);
            for ((place, &mut product), &row) in scores.iter_mut().zip(products).zip(rows) {
                *place = score(product as f32, row);
            }
        }
    }

    /// The integers of `row` with their padding.
    #[inline(always)]
    pub fn padded(&self, row: u32) -> &'a [i8] {
        let stride = quantized_stride(self.dim);
        &self.values[row as usize * stride..][..stride]
    }

    pub fn scale(&self, row: u32) -> f32 {
        self.scales[row as usize]
    }

    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        self.prefetch_values(row);
        prefetch(self.scales, row as usize, 1);
    }

    #[inline(always)]
    pub fn prefetch_values(&self, row: u32) {
        let stride = quantized_stride(self.dim);
        prefetch(self.values, row as usize * stride, stride);
    }

    /// The first row that differs from what its `f32` row quantises to.
    pub fn mismatch(&self, rows: Rows<'_>) -> Option<u32> {
        let mut values = Vec::new();
        let stride = quantized_stride(self.dim);
        (0..rows.len() as u32).find(|&row| {
            let scale = quantize(&rows.get(row), &mut values);
            values.resize(stride, 0);
            self.padded(row) != values || self.scales[row as usize].to_bits() != scale.to_bits()
        })
    }
}

/// What of a user turns an inner product of integers into bounds of the `f32` score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserBounds {
    /// The user's own scale.
    scale: f32,
    /// The largest difference to the `f32` score, as a multiple of the row's scale.
    slack: f32,
}

impl UserBounds {
    /// `values` is `user` quantised, without padding.
    ///
    /// The score can be off by three errors. Let x be a value of the row, q its integer, s the scale of the
    /// row, |u| the sum of the user's absolute values, and |e| that of what quantising the user left out.
    ///
    /// - Quantising the row: |x - s q| is at most s / 2, so the error is at most |u| s / 2.
    /// - Quantising the user: the error is at most |e| s 127.
    /// - Rounding: sums of `dim` products in `f32`, where |x| is at most 127 s, and the bounds themselves.
    fn new(user: &[f32], values: &[i8], scale: f32) -> UserBounds {
        let epsilon = f64::from(f32::EPSILON);
        let (mut size, mut left, mut quantized) = (0.0, 0.0, 0.0);
        for (&value, &integer) in user.iter().zip(values) {
            let (value, near) = (f64::from(value), f64::from(scale) * f64::from(integer));
            size += value.abs();
            left += (value - near).abs();
            quantized += near.abs();
        }
        let quantisation = size / 2.0 + 127.0 * left;
        let rounding = 127.0 * epsilon * (size * (user.len() + 2) as f64 + 4.0 * quantized);
        let slack = (quantisation + rounding) * (1.0 + 8.0 * epsilon);
        UserBounds { scale, slack: slack as f32 }
    }
}

/// The `i8` rows of an index that is being built.
pub(crate) struct QuantizedRows {
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
    dim: usize,
}

impl QuantizedRows {
    pub fn of(rows: Rows<'_>) -> QuantizedRows {
        let dim = rows.dim();
        let stride = quantized_stride(dim);
        let mut values = vec![0; rows.len() * stride];
        let mut scales = Vec::with_capacity(rows.len());
        let mut row_values = Vec::with_capacity(dim);
        for (row, place) in (0..).zip(values.chunks_exact_mut(stride)) {
            scales.push(quantize(&rows.get(row), &mut row_values));
            place[..dim].copy_from_slice(&row_values);
        }
        QuantizedRows { values, scales, dim }
    }

    pub fn view(&self) -> Quantized<'_> {
        Quantized::new(&self.values, &self.scales, self.dim)
    }
}

/// How many bytes an `i8` row takes in the file, with its padding.
pub(crate) fn quantized_stride(dim: usize) -> usize {
    dim.next_multiple_of(LINE)
}

/// Replaces the contents of `values` by the quantised embedding and returns its scale. An embedding of zeros
/// has scale 0.
pub(crate) fn quantize(embedding: &[f32], values: &mut Vec<i8>) -> f32 {
    values.resize(embedding.len(), 0);
    kernels::quantize::quantize(embedding, values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::stride_of;

    proptest! {
        #[test]
        fn scores_are_within_the_rounding_of_both_sides(
            (row, user) in (1usize..300).prop_flat_map(|dim| {
                let embedding = || prop::collection::vec(-100.0f32..100.0, dim);
                (embedding(), embedding())
            }),
        ) {
            let dim = row.len();
            let (mut values, mut user_values) = (Vec::new(), Vec::new());
            let scale = quantize(&row, &mut values);
            let user_scale = quantize(&user, &mut user_values);
            let reference: i64 =
                values.iter().zip(&user_values).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            values.resize(quantized_stride(dim), 0);
            let scales = [scale];
            let quantized = Quantized::new(&values, &scales, dim);
            user_values.resize(quantized_stride(dim), 0);
            let mut score = [0.0];
            quantized.scores(&user_values, &[0], &mut score);
            let score = score[0];
            prop_assert!((f64::from(score) - reference as f64 * f64::from(scale)).abs() <= 1e-6 * f64::from(score.abs()));

            let exact: f64 = row.iter().zip(&user).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let off = |scale: f32, other: &[f32]| -> f64 {
                other.iter().map(|value| f64::from(value.abs() * scale)).sum::<f64>() * 0.51
            };
            let slack = off(scale, &user) + off(user_scale, &row) + dim as f64 * f64::from(scale * user_scale);
            prop_assert!((f64::from(score) * f64::from(user_scale) - exact).abs() <= slack);
        }
    }

    proptest! {
        #[test]
        fn scores_are_within_their_bounds(
            rows in (1usize..300).prop_flat_map(|dim| prop::collection::vec(prop::collection::vec(-1.0f32..1.0, dim), 2..6)),
            powers in prop::collection::vec(-80i32..60, 6),
            peak in any::<prop::sample::Index>(),
        ) {
            let dim = rows[0].len();
            let mut data = Vec::new();
            for (row, power) in rows.iter().zip(&powers) {
                let mut row: Vec<f32> = row.iter().map(|value| value * (*power as f32).exp2()).collect();
                row[peak.index(dim)] *= 3.0;
                row.resize(stride_of(dim), 0.0);
                data.extend(row);
            }
            let rows = Rows::new(&data, dim);
            let quantized = QuantizedRows::of(rows);
            let (mut values, user) = (Vec::new(), rows.padded(0));
            let Some(bounds) = quantized.view().bounds(&user, &mut values) else { return Ok(()) };
            let numbers: Vec<u32> = (0..rows.len() as u32).collect();
            let mut scores = vec![0.0; numbers.len()];
            rows.scores(&user, &numbers, &mut scores);
            quantized.view().bound(&values, bounds, &numbers, |row, least, most| {
                let score = scores[row as usize];
                assert!((least..=most).contains(&score), "{least} to {most}: {score}");
            });
        }
    }

    #[test]
    fn awkward_embeddings_quantise() {
        let mut values = Vec::new();
        assert_eq!((quantize(&[0.0, -0.0], &mut values), &values[..]), (0.0, &[0, 0][..]));
        assert_eq!((quantize(&[127.0, -127.0, 1.4], &mut values), &values[..]), (1.0, &[127, -127, 1][..]));
        // Below the smallest scale every value rounds to 0.
        quantize(&[f32::from_bits(1), 0.0], &mut values);
        let scale = quantize(&[super::super::MAX_NORM, 1.0], &mut values);
        assert!(scale.is_finite() && values == [127, 0]);
    }
}
