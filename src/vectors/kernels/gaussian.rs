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

/// Beyond so many deviations nothing is told apart.
const FAR: f32 = 13.0;

/// So many deviations above the mean nothing lies: of 10^9 rows less than a millionth of one.
const NOWHERE: f32 = -5.5;

/// The weight that lies above a bar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Above {
    pub weight: f32,
    /// By how much it falls as the bar rises, by the unit.
    pub fall: f32,
    /// By how much less it falls then, by the unit.
    pub bend: f32,
}

widest! {
    /// The weight that lies above `bar`.
    pub fn above(normals: Normals<'_>, bar: f32) -> Above {
        let [mut above, mut fall, mut bend] = [[0.0; LANES]; 3];
        for ((means, narrow), weights) in normals.means.iter().zip(normals.narrow).zip(normals.weights) {
            let z: Lanes = std::array::from_fn(|lane| (means[lane] - bar) * narrow[lane]);
            if !some_lane(|lane| z[lane] >= NOWHERE) {
                continue;
            }
            for lane in 0..LANES {
                let (share, density) = upper_share(z[lane]);
                let falls = weights[lane] * density * narrow[lane];
                above[lane] += weights[lane] * share;
                fall[lane] += falls;
                // In this order: a lane that is not used is infinitely narrow, and holds nothing.
                bend[lane] -= falls * z[lane].clamp(-FAR, FAR) * narrow[lane];
            }
        }
        Above { weight: above.iter().sum(), fall: fall.iter().sum(), bend: bend.iter().sum() }
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

/// The share of a normal distribution above a bar that its mean is `z` deviations above, and the density there.
///
/// The share is within 0.3 %: the quotient is fitted to that of share and density (Mills, Biometrika 1926) from 0 to 13.
#[inline(always)]
fn upper_share(z: f32) -> (f32, f32) {
    let away = z.abs().min(FAR);
    let density = exp_of_minus(away * away * 0.5) * 0.398_942_3;
    let tail = density * (away + 2.260_27) / (away * (away + 2.165_71) + 1.808_68);
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
    /// Of all scores.
    pub mean: f32,
    /// How far the means lie from that, and the deviation of each, on average.
    pub between: f32,
    pub within: f32,
    /// Scores that next to all weight lies above, and below.
    pub least: f32,
    pub most: f32,
    /// The highest score that is so many deviations above the mean of one.
    pub peak: f32,
}

/// Within so many deviations of the mean next to all lies.
const ALL: f32 = 8.0;

widest! {
    /// Where the weight lies, and the highest score `high` deviations above a mean.
    pub fn spread(normals: Normals<'_>, high: f32) -> Spread {
        let (mut weight, mut sum, mut within) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let (mut least, [mut most, mut peak]) = ([f32::INFINITY; LANES], [[f32::NEG_INFINITY; LANES]; 2]);
        for ((means, narrow), weights) in normals.means.iter().zip(normals.narrow).zip(normals.weights) {
            for lane in 0..LANES {
                let deviation = 1.0 / narrow[lane];
                weight[lane] += weights[lane];
                sum[lane] += weights[lane] * means[lane];
                within[lane] += weights[lane] * deviation;
                let far = if weights[lane] > 0.0 { ALL * deviation } else { f32::NEG_INFINITY };
                let (low, top) = (means[lane] - far, means[lane] + far);
                least[lane] = if low < least[lane] { low } else { least[lane] };
                most[lane] = if top > most[lane] { top } else { most[lane] };
                let above = means[lane] + if weights[lane] > 0.0 { high * deviation } else { f32::NEG_INFINITY };
                peak[lane] = if above > peak[lane] { above } else { peak[lane] };
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
            mean,
            between: between.iter().sum::<f32>() / total,
            within: within.iter().sum::<f32>() / total,
            least: least.iter().copied().fold(f32::INFINITY, f32::min),
            most: most.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            peak: peak.iter().copied().fold(f32::NEG_INFINITY, f32::max),
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
            // Without a branch for each lane, which would often be mispredicted.
            let (mut found, mut count) = ([0; LANES], 0);
            for lane in 0..LANES {
                found[count] = group * LANES as u32 + lane as u32;
                count += usize::from((z[lane] >= least) & (weights[lane] > 0.0));
            }
            numbers.extend_from_slice(&found[..count]);
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
