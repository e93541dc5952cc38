//! What codes tell for certain.

/// The smallest scale of a user that bounds are derived from.
const SMALLEST: f32 = 1.0 / (1u64 << 50) as f32;

/// More than products may lose by vanishing: those of codes, and for each value those of rows.
const VANISHING: [f64; 2] = [1.0 / (1u128 << 120) as f64, 1.0 / (1u128 << 127) as f64];

/// What turns a score by codes into an upper bound of the `f32` score, all in units of the user's scale.
///
/// A row is the mean of its cluster, what its codes stand for, and an error, and the score by codes is the
/// product of the quantised user with the first two. So it is off by the error's norm times the user's, and
/// for the others by the norm of each times that of what quantising left out of the user. The rest is the
/// rounding of sums.
#[derive(Default)]
pub(super) struct CodeBounds {
    scale: f32,
    /// To be multiplied with the error of a row.
    pub caution: f32,
    /// To be multiplied with the norm of the mean and that of the codes.
    of_mean: f64,
    of_codes: f64,
    vanishing: f64,
}

impl CodeBounds {
    /// A user with `scale` times their `i8` values, and with `coded.1` times that scale the values for the
    /// codes.
    pub fn new(user: &[f32], units: &[f32], scale: f32, values: &[i8], coded: (&[i8], f32)) -> CodeBounds {
        let unit_scale = f64::from(coded.1) * f64::from(scale);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let whole = norm(&mut user.iter().map(|&value| f64::from(value)));
        let left =
            norm(&mut user.iter().zip(values).map(|(&a, &b)| f64::from(a) - f64::from(scale) * f64::from(b)));
        let in_units = user.iter().zip(units).map(|(&value, &unit)| f64::from(value) * f64::from(unit));
        let left_of_codes = norm(&mut in_units.zip(coded.0).map(|(a, &b)| a - unit_scale * f64::from(b)));
        // Of the row's own sum in `f32`, and of some more products.
        let rounding = f64::from(f32::EPSILON) * (user.len() + 32) as f64;
        // Without bounds every row is to pass the bar.
        let over = if scale < SMALLEST { 0.0 } else { (1.0 + 1e-6) / f64::from(scale) };
        CodeBounds {
            scale,
            caution: (whole * (1.0 + rounding) * over) as f32,
            of_mean: (left + (whole + left) * rounding) * over,
            of_codes: (left_of_codes + (whole + left_of_codes) * rounding) * over,
            vanishing: VANISHING[0] + VANISHING[1] * user.len() as f64 * over,
        }
    }

    /// What to add to the scores of a cluster, by the norm of its mean and the largest of its codes.
    pub fn slack(&self, norm: f32, reach: f32) -> f32 {
        let slack = self.of_mean * f64::from(norm) + self.of_codes * f64::from(reach) + self.vanishing;
        (slack as f32).next_up()
    }

    /// Bounds below it are those of rows that score less than `least`.
    pub fn bar(&self, least: f32) -> f32 {
        if self.scale < SMALLEST {
            return f32::NEG_INFINITY;
        }
        ((f64::from(least) / f64::from(self.scale)) as f32).next_down()
    }
}
