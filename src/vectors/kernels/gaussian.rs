//! Sixteen normal distributions at a time: how much of each lies above a bar.
//!
//! Plain arithmetic on lanes, the same bits on every processor ([`widest`]).

use super::interleaved::LANES;
use super::widest;

type Lanes = [f32; LANES];

/// Normal distributions with a weight each: those of no weight hold nothing.
#[derive(Clone, Copy)]
pub(crate) struct Normals<'a> {
    pub means: &'a [Lanes],
    /// 1 over the standard deviation.
    pub narrow: &'a [Lanes],
    pub weights: &'a [Lanes],
}

/// So many deviations above the mean nothing lies: of 10^9 rows less than a millionth of one.
const NOWHERE: f32 = -5.5;

widest! {
    /// The weight that lies above `bar`, and its fall as the bar rises.
    pub fn above(normals: Normals<'_>, bar: f32) -> (f32, f32) {
        let (mut above, mut fall) = ([0.0; LANES], [0.0; LANES]);
        for ((means, narrow), weights) in normals.means.iter().zip(normals.narrow).zip(normals.weights) {
            let z: Lanes = std::array::from_fn(|lane| (means[lane] - bar) * narrow[lane]);
            if !some_lane(|lane| z[lane] >= NOWHERE) {
                continue;
            }
            for lane in 0..LANES {
                let (share, density) = upper_share(z[lane]);
                above[lane] += weights[lane] * share;
                fall[lane] += weights[lane] * density * narrow[lane];
            }
        }
        (above.iter().sum(), fall.iter().sum())
    }
}

/// Whether it is so in one of the lanes. A byte for each makes one number, which is compared in registers where single
/// bits are not.
#[inline(always)]
fn some_lane(holds: impl Fn(usize) -> bool) -> bool {
    let mut bytes = [0; LANES];
    for (lane, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from(holds(lane));
    }
    u128::from_le_bytes(bytes) != 0
}

/// The share of a normal distribution above a bar that its mean is `z` deviations above, and the density
/// there, within 0.3 % (Börjesson and Sundberg, IEEE Transactions on Communications 1979).
#[inline(always)]
fn upper_share(z: f32) -> (f32, f32) {
    let away = z.abs().min(13.0);
    let density = exp_of_minus(away * away * 0.5) * 0.398_942_3;
    let tail = density / (0.661 * away + 0.339 * (away * away + 5.51).sqrt());
    (if z < 0.0 { tail } else { 1.0 - tail }, density)
}

/// e to the power of -x, for x from 0 to 85.
#[inline(always)]
fn exp_of_minus(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which its low bits then are.
    const ROUNDING: f32 = 12_582_912.0;
    let power = x * -std::f32::consts::LOG2_E;
    let rounded = power + ROUNDING;
    let rest = power - (rounded - ROUNDING);
    let fraction = 1.0
        + rest
            * (std::f32::consts::LN_2
                + rest * (0.240_226_5 + rest * (0.055_504_1 + rest * (0.009_618_1 + rest * 0.001_333_3))));
    f32::from_bits(fraction.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// Where the weight of many normal distributions lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub weight: f32,
    pub mean: f32,
    /// How far the means lie from that, and the deviation of each, on average.
    pub between: f32,
    pub within: f32,
    /// Scores that next to all weight lies above, and below.
    pub least: f32,
    pub most: f32,
}

widest! {
    /// Where the weight lies.
    pub fn spread(normals: Normals<'_>) -> Spread {
        const FAR: f32 = 8.0;
        let (mut weight, mut sum, mut within) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for ((means, narrow), weights) in normals.means.iter().zip(normals.narrow).zip(normals.weights) {
            for lane in 0..LANES {
                let deviation = 1.0 / narrow[lane];
                weight[lane] += weights[lane];
                sum[lane] += weights[lane] * means[lane];
                within[lane] += weights[lane] * deviation;
                let far = if weights[lane] > 0.0 { FAR * deviation } else { f32::NEG_INFINITY };
                let (low, high) = (means[lane] - far, means[lane] + far);
                least[lane] = if low < least[lane] { low } else { least[lane] };
                most[lane] = if high > most[lane] { high } else { most[lane] };
            }
        }
        let total: f32 = weight.iter().sum();
        let mean = sum.iter().sum::<f32>() / total;
        let mut between = [0.0; LANES];
        for (means, weights) in normals.means.iter().zip(normals.weights) {
            for lane in 0..LANES {
                between[lane] += weights[lane] * (means[lane] - mean).abs();
            }
        }
        Spread {
            weight: total,
            mean,
            between: between.iter().sum::<f32>() / total,
            within: within.iter().sum::<f32>() / total,
            least: least.iter().copied().fold(f32::INFINITY, f32::min),
            most: most.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

widest! {
    /// The numbers of those with weight whose mean is at least `least` deviations above `bar`, ascending.
    pub fn reaching(normals: Normals<'_>, bar: f32, least: f32, numbers: &mut Vec<u32>) {
        numbers.clear();
        let all = normals.means.iter().zip(normals.narrow).zip(normals.weights);
        for (group, ((means, narrow), weights)) in (0u32..).zip(all) {
            let z: Lanes = std::array::from_fn(|lane| (means[lane] - bar) * narrow[lane]);
            if !some_lane(|lane| z[lane] >= least) {
                continue;
            }
            let reaches = |lane: &usize| (z[*lane] >= least) & (weights[*lane] > 0.0);
            numbers.extend((0..LANES).filter(reaches).map(|lane| group * LANES as u32 + lane as u32));
        }
    }
}

widest! {
    /// Sets means to `(sum + offset) * scale`, and narrow to 1 over the deviation: its scale times the root
    /// of `weights.0` times the sum of squares, and `weights.1` scales of the mean more.
    pub fn normals(
        sums: (&[[i32; LANES]], &[[i32; LANES]]),
        scales: &[[Lanes; 2]],
        offset: i32,
        weights: (f32, f32),
        made: (&mut [Lanes], &mut [Lanes]),
    ) {
        let all = sums.0.iter().zip(sums.1).zip(scales).zip(made.0.iter_mut().zip(made.1));
        for (((sums, squares), [scales, deviations]), (means, narrow)) in all {
            for lane in 0..LANES {
                means[lane] = (sums[lane] + offset) as f32 * scales[lane];
                let deviation = deviations[lane] * (squares[lane] as f32 * weights.0).sqrt() + scales[lane] * weights.1;
                narrow[lane] = 1.0 / deviation.max(f32::MIN_POSITIVE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The share above, by summing the density up.
    fn reference(z: f64) -> f64 {
        let step = 1e-3;
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (0..12_000).map(|at| density(-z.abs() - (at as f64 + 0.5) * step) * step).sum::<f64>()
    }

    #[test]
    fn shares_are_right_to_a_third_of_a_percent() {
        for at in -110..=110 {
            let z = at as f32 / 10.0;
            let (share, density) = upper_share(z);
            let tail = reference(f64::from(z));
            let exact = if z < 0.0 { tail } else { 1.0 - tail };
            assert!((f64::from(share) / exact - 1.0).abs() < 0.004, "{share} for {exact} at {z}");
            let exact = (-f64::from(z).powi(2) / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(density) / exact - 1.0).abs() < 1e-4, "{density} for {exact} at {z}");
        }
        for z in [-1e30, -1e3, 1e3, 1e30] {
            let (share, density) = upper_share(z);
            assert!(
                (0.0..=1.0).contains(&share) && (0.0..1e-30).contains(&density),
                "{share}, {density} at {z}"
            );
        }
    }

    proptest! {
        #[test]
        fn those_reaching_are_those_that_reach(
            lanes in prop::collection::vec((-9f32..9.0, 0.1f32..9.0, 0u8..3), 1..70),
            (bar, z) in (-5f32..5.0, -9f32..3.0),
        ) {
            let groups = lanes.len().div_ceil(LANES);
            let (mut means, mut narrow, mut weights) = (vec![[0.0; LANES]; groups], vec![[1.0; LANES]; groups], vec![[0.0; LANES]; groups]);
            let mut expected = Vec::new();
            for (at, &(mean, narrower, weight)) in lanes.iter().enumerate() {
                means.as_flattened_mut()[at] = mean;
                narrow.as_flattened_mut()[at] = narrower;
                weights.as_flattened_mut()[at] = f32::from(weight);
                if weight > 0 && (mean - bar) * narrower >= z {
                    expected.push(at as u32);
                }
            }
            let mut found = Vec::new();
            reaching(Normals { means: &means, narrow: &narrow, weights: &weights }, bar, z, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
