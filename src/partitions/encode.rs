//! Codes of four bits for what a row differs by from the mean of its cluster.

use crate::vectors::kernels::codes::MIDDLE;

/// Scales that are tried for a row, as shares of that at which its largest value fits: with a smaller one the
/// others are coded more finely.
const TRIED: [f32; 5] = [1.0, 0.93, 0.86, 0.79, 0.72];

/// How much more an error along the row itself counts than one across: users whom a row is an answer for lie
/// along it (compare Guo et al., ICML 2020).
const ALONG: f32 = 3.0;

/// How often codes are gone through to make up for errors along the row.
const ROUNDS: usize = 2;

/// Codes of one row after the other.
pub(super) struct Encoder<'u> {
    units: &'u [f32],
    pub codes: Vec<u8>,
    tried: Vec<u8>,
    residual: Vec<f32>,
    errors: Vec<f32>,
    along: Vec<f32>,
}

/// What belongs to the codes of a row.
pub(super) struct Coded {
    /// The scale and the norm of the error, as the upper halves of `f32`; the error may be less.
    pub scale: u16,
    pub error: u16,
    /// The L2 norm of the codes in their units.
    pub size: f64,
}

impl<'u> Encoder<'u> {
    /// `units` are those of the coordinates.
    pub fn new(units: &'u [f32]) -> Encoder<'u> {
        let (codes, values) = (vec![0; units.len()], vec![0.0; units.len()]);
        let (tried, residual, errors, along) = (codes.clone(), values.clone(), values.clone(), values);
        Encoder { units, codes, tried, residual, errors, along }
    }

    /// Leaves the codes of a row whose cluster has this mean.
    pub fn encode(&mut self, row: &[f32], mean: &[f64]) -> Coded {
        for ((residual, &value), mean) in self.residual.iter_mut().zip(row).zip(mean) {
            *residual = (f64::from(value) - mean) as f32;
        }
        let scale = self.choose_scale();
        if scale > 0.0 {
            self.reduce_error_along_row(row, scale);
        }
        let (mut error, mut size) = (0.0, 0.0);
        for (((&value, mean), &code), &unit) in row.iter().zip(mean).zip(&self.codes).zip(self.units) {
            let coded = f64::from(level(code)) * f64::from(scale);
            error += (f64::from(value) - mean - coded * f64::from(unit)).powi(2);
            size += coded.powi(2);
        }
        Coded { scale: (scale.to_bits() >> 16) as u16, error: half_above(error.sqrt()), size: size.sqrt() }
    }

    /// Leaves the codes at the scale that makes the least error.
    fn choose_scale(&mut self) -> f32 {
        let fit = |(value, unit): (&f32, &f32)| (value / unit).abs();
        let largest = self.residual.iter().zip(self.units).map(fit).fold(0.0, f32::max);
        let (mut least, mut best) = (f32::INFINITY, 0.0);
        for share in TRIED {
            let scale = f32::from_bits((largest / MIDDLE as f32 * share).to_bits() & 0xFFFF_0000);
            let inverse = if scale > 0.0 { 0.5 / scale } else { 0.0 };
            let mut error = 0.0;
            for (((code, &value), &unit), error_of) in
                self.tried.iter_mut().zip(&self.residual).zip(self.units).zip(&mut self.errors)
            {
                *code = (value / unit * inverse + MIDDLE as f32 / 2.0 + 0.5).clamp(0.0, MIDDLE as f32) as u8;
                *error_of = (value - level(*code) * scale * unit) / largest.max(f32::MIN_POSITIVE);
            }
            for value in &self.errors {
                error += value * value;
            }
            if error < least {
                (least, best) = (error, scale);
                std::mem::swap(&mut self.codes, &mut self.tried);
            }
        }
        best
    }

    /// Moves codes to their other neighbour where that takes more from the error along the row than it adds
    /// across.
    fn reduce_error_along_row(&mut self, row: &[f32], scale: f32) {
        let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let mut sum = 0.0;
        let values = self.residual.iter().zip(row).zip(self.units.iter().zip(&self.codes));
        for (((&residual, &value), (&unit, &code)), (error, along)) in
            values.zip(self.errors.iter_mut().zip(&mut self.along))
        {
            // In units of the scale, so that nothing vanishes or overflows.
            *error = residual / scale - level(code) * unit;
            *along = if norm > 0.0 { (f64::from(value) / norm) as f32 } else { 0.0 };
            sum += *error * *along;
        }
        for _ in 0..ROUNDS {
            let values = self.codes.iter_mut().zip(self.units).zip(&self.along);
            for (((code, &unit), &along), error) in values.zip(&mut self.errors) {
                let up = *error > 0.0;
                let change = if up { -2.0 * unit } else { 2.0 * unit };
                let across = change * (2.0 * *error + change);
                let turned = change * along * (2.0 * sum + change * along);
                let fits = if up { *code < MIDDLE as u8 } else { *code > 0 };
                if fits && across + ALONG * turned < 0.0 {
                    *code = if up { *code + 1 } else { *code - 1 };
                    *error += change;
                    sum += change * along;
                }
            }
        }
    }
}

/// What a code stands for, in units.
pub(super) fn level(code: u8) -> f32 {
    2.0 * f32::from(code) - MIDDLE as f32
}

/// The upper half of an `f32` that is at least `value`, which is not negative.
fn half_above(value: f64) -> u16 {
    let bits = above(value).to_bits();
    (bits >> 16) as u16 + u16::from(bits & 0xFFFF != 0)
}

/// An `f32` above a number that is not negative.
pub(super) fn above(value: f64) -> f32 {
    (value as f32).next_up()
}
