//! How much a search has to read and to score for a recall, and how much it reads at most: measured when an index is
//! built, kept in its file.

use bytemuck::{Pod, Zeroable};

/// The `k` and the recalls that are measured.
pub(crate) const CALIBRATED_K: [usize; KS] = [10, 32, 100, 316, 1_000, 3_162, 10_000, 31_623, 100_000];
pub(crate) const CALIBRATED_RECALL: [f32; RECALLS] = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

const KS: usize = 9;
const RECALLS: usize = 7;

/// What a search reads and scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Effort {
    /// Clusters are read whose mean lies at least so many deviations above the bar.
    pub z: f32,
    /// Rows scored for each of the `k`, at least 1; 0 where nothing was measured.
    pub factor: f32,
    /// The share of all rows whose codes are read, in the mean.
    pub coded: f32,
}

impl Effort {
    /// How many rows are scored for `k`.
    pub fn rows(&self, k: usize) -> usize {
        (k as f64 * f64::from(self.factor)).ceil() as usize
    }
}

/// A value for each `k` and recall.
type Table<T> = [[T; RECALLS]; KS];

/// The effort for each `k` and recall.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Calibration {
    pub efforts: Table<Effort>,
}

/// The share of the rows whose codes a search reads at most, however much its user differs from others, for each `k` and
/// recall; 0 where nothing was measured, and in older files.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Limits {
    pub shares: Table<f32>,
}

impl Calibration {
    /// The effort by which a search for `k` of the rows has this recall, or `None` where no effort had.
    /// `share` is that of the rows which may be found: a search among a tenth of them reads as one for ten
    /// times as many would.
    ///
    /// Of few rows far from the user the best differ as much in their codes as the best of all do, so that no
    /// fewer are scored than for `k` of all.
    ///
    /// Between what was measured it is interpolated by the logarithms of `k` and of what a recall lacks;
    /// beyond the largest `k` it is that of the largest.
    pub fn effort(&self, k: usize, share: f32, recall: f32) -> Option<Effort> {
        let of_share = self.measured(k as f32 / share, recall)?;
        if share == 1.0 {
            return Some(of_share);
        }
        let of_all = self.measured(k as f32, recall)?;
        Some(Effort { factor: of_share.factor.max(of_all.factor), ..of_share })
    }

    fn measured(&self, k: f32, recall: f32) -> Option<Effort> {
        read_off(&self.efforts, k, recall, |effort| effort.factor > 0.0, mixed)
    }

    /// What is wrong with a table that was read.
    pub fn problem(&self) -> Option<String> {
        let sound = |effort: &Effort| {
            let measured = effort.factor >= 1.0
                && effort.factor <= 1e6
                && effort.z.abs() <= 1e6
                && (0.0..=1.0).contains(&effort.coded);
            measured || *effort == Effort::zeroed()
        };
        let all = self.efforts.as_flattened().iter().all(sound);
        (!all).then(|| "the calibration of the partitions is not one".to_owned())
    }
}

impl Limits {
    /// The share of the rows which a search for `k` of a `share` of them reads at most for this recall; 1 where there is
    /// no limit.
    pub fn most(&self, k: usize, share: f32, recall: f32) -> f32 {
        read_off(&self.shares, k as f32 / share, recall, |&most| most > 0.0, mix).unwrap_or(1.0)
    }

    /// What is wrong with a table that was read.
    pub fn problem(&self) -> Option<String> {
        let all = self.shares.as_flattened().iter().all(|share| (0.0..=1.0).contains(share));
        (!all).then(|| "the limits of the partitions are not within 0 to 1".to_owned())
    }
}

/// The value for a `k` and a recall, between those that are known; `None` where one of them is not.
fn read_off<T: Copy>(
    table: &Table<T>,
    k: f32,
    recall: f32,
    known: impl Fn(&T) -> bool,
    mixed: impl Fn(T, T, f32) -> T,
) -> Option<T> {
    let measured = table.iter().take_while(|values| values.iter().any(&known)).count();
    let (low, high, part) = between(measured, k, |at| CALIBRATED_K[at] as f32)?;
    let at_k = |at: usize| {
        // Beyond the last recall nothing was measured.
        let lacking = |at: usize| 1.0 - CALIBRATED_RECALL[RECALLS - 1 - at];
        if 1.0 - recall < lacking(0) {
            return None;
        }
        let (more, less, part) = between(RECALLS, 1.0 - recall, lacking)?;
        let value = |lacking: usize| Some(table[at][RECALLS - 1 - lacking]).filter(&known);
        Some(mixed(value(more)?, value(less)?, part))
    };
    Some(mixed(at_k(low)?, at_k(high)?, part))
}

/// The numbers of the two points around `value`, of `count` that ascend, and how far it lies from the first
/// to the second, by logarithms.
fn between(count: usize, value: f32, point: impl Fn(usize) -> f32) -> Option<(usize, usize, f32)> {
    let last = count.checked_sub(1)?;
    match (0..count).position(|at| value <= point(at)) {
        Some(at) if at == 0 || value == point(at) => Some((at, at, 0.0)),
        Some(above) => {
            let [low, high] = [above - 1, above].map(|at| point(at).ln());
            Some((above - 1, above, (value.ln() - low) / (high - low)))
        }
        None => Some((last, last, 0.0)),
    }
}

fn mixed(a: Effort, b: Effort, part: f32) -> Effort {
    Effort {
        z: mix(a.z, b.z, part),
        factor: mix(a.factor, b.factor, part),
        coded: mix(a.coded, b.coded, part),
    }
}

fn mix(a: f32, b: f32, part: f32) -> f32 {
    a + (b - a) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        let mut calibration = Calibration::zeroed();
        for (at, efforts) in calibration.efforts.iter_mut().take(5).enumerate() {
            for (column, effort) in efforts.iter_mut().take(5).enumerate() {
                *effort = Effort {
                    z: at as f32 - column as f32,
                    factor: 1.0 + column as f32,
                    coded: 0.1 * at as f32,
                };
            }
        }
        calibration
    }

    #[test]
    fn an_effort_is_read_off_between_the_measured_ones() {
        let calibration = calibration();
        let effort = |k, recall| calibration.effort(k, 1.0, recall).map(|effort| (effort.z, effort.factor));
        assert_eq!(effort(10, 0.8), Some((0.0, 1.0)));
        assert_eq!(effort(1, 0.2), Some((0.0, 1.0)));
        assert_eq!(effort(100, 0.9), Some((1.0, 2.0)));
        let (z, factor) = effort(50, 0.93).unwrap();
        assert!((0.0..2.0).contains(&(z + 1.0)) && (2.0..3.0).contains(&factor), "{z}, {factor}");
        // Of a tenth of the rows as of ten times as many.
        assert_eq!(calibration.effort(10, 0.1, 0.9), calibration.effort(100, 1.0, 0.9));
        // Beyond the largest k.
        assert_eq!(effort(50_000, 0.8), effort(1_000, 0.8));
    }

    #[test]
    fn a_recall_that_was_not_reached_has_no_effort() {
        let calibration = calibration();
        assert!(calibration.effort(100, 1.0, 0.99).is_some());
        assert!(calibration.effort(100, 1.0, 0.992).is_none());
        assert!(calibration.effort(100, 1.0, 1.0).is_none());
        assert!(Calibration::zeroed().effort(10, 1.0, 0.5).is_none());
    }

    #[test]
    fn a_limit_is_read_off_and_there_is_none_in_older_files() {
        let mut limits = Limits::zeroed();
        assert_eq!((limits.most(10, 1.0, 0.9), limits.problem()), (1.0, None));
        limits.shares[0] = [0.2; RECALLS];
        limits.shares[1] = [0.4; RECALLS];
        assert_eq!(limits.most(10, 1.0, 0.9), 0.2);
        assert_eq!(limits.most(16, 0.5, 0.9), 0.4);
        assert!((0.2..0.4).contains(&limits.most(20, 1.0, 0.93)));
        // Beyond what was measured.
        assert_eq!(limits.most(1_000, 1.0, 0.9), 0.4);
        assert_eq!(limits.most(10, 1.0, 0.9999), 1.0);
        limits.shares[1][1] = 1.5;
        assert!(limits.problem().is_some());
    }

    #[test]
    fn a_damaged_table_is_told_from_a_sound_one() {
        assert_eq!(calibration().problem(), None);
        for damage in [
            |effort: &mut Effort| effort.factor = 0.5,
            |effort: &mut Effort| effort.z = f32::NAN,
            |effort: &mut Effort| effort.coded = 2.0,
            |effort: &mut Effort| effort.factor = f32::INFINITY,
        ] {
            let mut damaged = calibration();
            damage(&mut damaged.efforts[1][1]);
            assert!(damaged.problem().is_some());
        }
    }
}
