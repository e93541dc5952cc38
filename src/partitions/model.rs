//! Which clusters to read for a user.
//!
//! The scores of a cluster's rows for a user are taken for a normal distribution: its mean is the product of
//! the user with the mean row, and its variance that of each coordinate times the user's square. So the
//! clusters tell, before a row is read, how many rows lie above any bar; the bar that `k` rows reach is
//! solved for, and a cluster is read if its mean lies no more than so many deviations below that bar.

use super::{Among, Group, Lanes, Partitions};
use crate::vectors::kernels::gaussian::{self, Above, Normals, Spread};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride, products};
use crate::vectors::kernels::widest;
use crate::vectors::quantize;

/// Rounds in which the bar is looked for, and how near the rows above it are to come to those wanted before
/// the last step, as a share of those or of the others: the step leaves less than the square of that.
const ROUNDS: usize = 10;
const NEAR: f32 = 0.35;

/// A user, and the distribution of each cluster's scores in units of the user's scale.
#[derive(Default)]
pub(super) struct Model {
    /// The user as `i8` values, and their scale.
    values: Vec<i8>,
    pub scale: f32,
    squares: Vec<f32>,
    square_values: Vec<i8>,
    sums: Vec<[i32; LANES]>,
    square_sums: Vec<[i32; LANES]>,
    means: Vec<Lanes>,
    narrow: Vec<Lanes>,
    weights: Vec<Lanes>,
    rows: f32,
    /// Of all rows.
    sizes: Vec<Lanes>,
    /// Clusters by their `z`.
    nearest: Vec<(f32, u32)>,
}

impl Model {
    /// Computes each cluster's distribution for a user, without padding. Rows count that are among those to search, or
    /// all.
    pub fn set(&mut self, partitions: &Partitions<'_>, user: &[f32], among: Option<Among<'_>>) {
        let stride = interleaved_stride(user.len());
        self.scale = quantize(user, &mut self.values);
        let sum: i32 = self.values.iter().map(|&value| i32::from(value)).sum();
        self.squares.clear();
        self.squares.extend(self.values.iter().map(|&value| f32::from(value).powi(2)));
        let norm = (self.values.iter().map(|&value| i32::from(value).pow(2)).sum::<i32>() as f32).sqrt();
        let square_scale = quantize(&self.squares, &mut self.square_values);
        self.values.resize(stride, 0);
        self.square_values.resize(stride, 0);

        let groups = partitions.groups.len();
        self.sums.resize(groups, [0; LANES]);
        self.square_sums.resize(groups, [0; LANES]);
        self.means.resize(groups, [0.0; LANES]);
        self.narrow.resize(groups, [0.0; LANES]);
        self.weights.resize(groups, [0.0; LANES]);
        products(
            [&self.values, &self.square_values],
            partitions.moments,
            [&mut self.sums, &mut self.square_sums],
        );
        // A mean is known no better than to its step, which each value of the user takes its share in.
        let step = norm / 12f32.sqrt();
        normals(
            partitions.groups,
            (&self.sums, &self.square_sums),
            -128 * sum,
            (square_scale, step),
            (&mut self.means, &mut self.narrow, &mut self.weights),
        );
        match among {
            None => {}
            Some(Among { counts: Some(counts), .. }) => self.weights.copy_from_slice(counts),
            Some(Among { words, .. }) => partitions.count(words, &mut self.weights),
        }
        self.rows = self.count_rows();
    }

    /// The user as `i8` values, padded.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// How many rows of a cluster count.
    pub fn count(&self, cluster: u32) -> f32 {
        self.weights.as_flattened()[cluster as usize]
    }

    /// How many rows count.
    pub fn rows(&self) -> f32 {
        self.rows
    }

    fn count_rows(&self) -> f32 {
        let mut sums = [0.0; LANES];
        for weights in &self.weights {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        }
        sums.iter().sum()
    }

    /// The mean score of a cluster.
    pub fn mean(&self, cluster: u32) -> f32 {
        self.means.as_flattened()[cluster as usize]
    }

    /// How many deviations the mean of a cluster lies above `bar`.
    pub fn z(&self, cluster: u32, bar: f32) -> f32 {
        (self.mean(cluster) - bar) * self.narrow.as_flattened()[cluster as usize]
    }

    /// The score that `k` rows reach.
    pub fn bar(&self, k: usize) -> f32 {
        let share = k as f32 / self.rows;
        // The share of one cluster, if they were alike.
        let alone = share * (LANES * self.means.len()) as f32;
        let high = deviations_above(alone.min(0.5));
        let Spread { mean, between, within, least, most, peak } = gaussian::spread(self.normals(), high);
        if share.is_nan() || share >= 1.0 {
            return least;
        }
        let (mut low, mut high) = (least, most);
        // The two spreads make one; 1.25 mean distances are a deviation.
        let all = mean + deviations_above(share.min(0.5)) * (1.25 * between + within);
        // Few rows lie in the best clusters, which reach higher or less high than all together tell.
        let start = if alone < 0.5 { (all + peak) / 2.0 } else { all };
        let mut bar = start.max(low).min(high);
        let rarer = (k as f32).min(self.rows - k as f32);
        for _ in 0..ROUNDS {
            let Above { weight, fall, bend } = gaussian::above(self.normals(), bar);
            let off = (weight / k as f32).ln();
            if off > 0.0 {
                low = bar
            } else {
                high = bar
            }
            // By the slope of the logarithm alone, Newton's step is as long as it falls by `off` in. Its curvature makes the
            // step shorter upwards and longer downwards: the root of the parabola.
            let bends = (1.0 - (bend / fall) * (weight / fall)) / 2.0;
            let falls = 2.0 * off / (1.0 + (1.0 + 4.0 * bends * off).max(0.0).sqrt());
            let next = bar + falls * weight / fall;
            let within = next > low && next < high;
            bar = if within { next } else { low + (high - low) / 2.0 };
            if within && (weight - k as f32).abs() < NEAR * rarer {
                break;
            }
        }
        bar
    }

    /// How many of all rows score as `bar` does, by the unit, whether they count or not.
    pub fn density_of_all(&mut self, partitions: &Partitions<'_>, bar: f32) -> f32 {
        self.sizes.clear();
        self.sizes.extend(partitions.groups.iter().map(|group| group.counts.map(|count| count as f32)));
        let all = Normals { means: &self.means, narrow: &self.narrow, weights: &self.sizes };
        gaussian::above(all, bar).fall
    }

    /// The clusters whose mean is at least `z` deviations above `bar`, ascending; those without rows that
    /// count are left out.
    pub fn reaching(&self, bar: f32, z: f32, clusters: &mut Vec<u32>) {
        gaussian::reaching(self.normals(), bar, z, clusters);
    }

    /// Leaves of the clusters those of the highest `z`, until they have `most` rows that count.
    pub fn hold(&mut self, bar: f32, most: f32, clusters: &mut Vec<u32>) {
        let mut nearest = std::mem::take(&mut self.nearest);
        nearest.clear();
        nearest.extend(clusters.iter().map(|&cluster| (self.z(cluster, bar), cluster)));
        nearest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut rows = 0.0;
        clusters.clear();
        for &(_, cluster) in nearest.iter() {
            if rows >= most {
                break;
            }
            rows += self.count(cluster);
            clusters.push(cluster);
        }
        clusters.sort_unstable();
        self.nearest = nearest;
    }

    fn normals(&self) -> Normals<'_> {
        Normals { means: &self.means, narrow: &self.narrow, weights: &self.weights }
    }
}

widest! {
    /// Sets means to `(sum + offset) * scale`, narrow to 1 over the deviation: its scale times the root of `factors.0`
    /// times the sum of squares, and `factors.1` scales of the mean more; and weights to the number of rows.
    pub fn normals(
        groups: &[Group],
        sums: (&[[i32; LANES]], &[[i32; LANES]]),
        offset: i32,
        factors: (f32, f32),
        made: (&mut [Lanes], &mut [Lanes], &mut [Lanes]),
    ) {
        let sums = sums.0.iter().zip(sums.1);
        let made = made.0.iter_mut().zip(made.1).zip(made.2);
        for ((group, (sums, squares)), ((means, narrow), weights)) in groups.iter().zip(sums).zip(made) {
            let Group { counts, mean_scales, deviation_scales, .. } = group;
            for lane in 0..LANES {
                means[lane] = (sums[lane] + offset) as f32 * mean_scales[lane];
                let deviation = deviation_scales[lane] * (squares[lane] as f32 * factors.0).sqrt()
                    + mean_scales[lane] * factors.1;
                narrow[lane] = 1.0 / deviation.max(f32::MIN_POSITIVE);
                weights[lane] = counts[lane] as f32;
            }
        }
    }
}

/// By how many deviations a normal distribution's bar lies above its mean if this share lies above the bar,
/// at most a half (Abramowitz and Stegun, 26.2.22).
pub(super) fn deviations_above(share: f32) -> f32 {
    let t = (-2.0 * share.ln()).sqrt();
    t - (2.307_53 + 0.270_61 * t) / (1.0 + 0.992_29 * t + 0.044_81 * t * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_where_so_many_rows_lie_above() {
        let normals = |count: usize, spread: f32| {
            let mut model = Model::default();
            for at in 0..count {
                model.means.push(std::array::from_fn(|lane| ((at * 16 + lane) as f32 * 0.77).sin() * spread));
                model.narrow.push([1.0 / (spread * (0.1 + at as f32 * 0.03)); LANES]);
                model.weights.push([(at % 3 * 100) as f32; LANES]);
            }
            model.rows = model.count_rows();
            model
        };
        for (count, spread) in [(2, 1.0), (9, 1.0), (100, 50.0), (40, 1e15), (40, 1e-15)] {
            let model = normals(count, spread);
            for k in [1, 10, 300, model.rows() as usize * 9 / 10] {
                let above = gaussian::above(model.normals(), model.bar(k)).weight;
                assert!(
                    (above / k as f32 - 1.0).abs() < 0.05,
                    "{above} rows for {k}, {count} groups, {spread}"
                );
            }
            assert!(model.bar(model.rows() as usize) <= model.bar(model.rows() as usize - 1));
        }
    }
}
