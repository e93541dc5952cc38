//! Which beam finds how much: measured when an index is built, kept in its header, asked by every search.

use bytemuck::{Pod, Zeroable};

/// The `k` that recall is measured at.
pub(crate) const CALIBRATED_K: [usize; 3] = [10, 100, 1000];

/// The beams that are measured, in steps of about a third.
pub(crate) const BEAMS: [u32; POINTS] =
    [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144];

const POINTS: usize = 20;

/// The recall that was measured at each beam.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Calibration {
    points: [Point; POINTS],
}

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Point {
    /// 0 where nothing was measured, as behind the last beam that was needed.
    ef: u32,
    recall: [f32; CALIBRATED_K.len()],
}

impl Calibration {
    /// The points measured, of beams that ascend; at most as many as there are [`BEAMS`].
    pub fn new(measured: impl IntoIterator<Item = (u32, [f32; CALIBRATED_K.len()])>) -> Calibration {
        let mut calibration = Calibration::zeroed();
        for (point, (ef, recall)) in calibration.points.iter_mut().zip(measured) {
            *point = Point { ef, recall };
        }
        calibration
    }

    /// Each beam and the recall it had at each of [`CALIBRATED_K`].
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (usize, [f32; CALIBRATED_K.len()])> + '_ {
        let measured = self.points.iter().take_while(|point| point.ef > 0);
        measured.map(|point| (point.ef as usize, point.recall)).collect::<Vec<_>>().into_iter()
    }

    /// The beam by which a search for `k` has a recall of `target`, or `None` if no measured beam has. Between what was
    /// measured it is interpolated, beam and `k` by their logarithms, and beyond the largest `k` it grows with `k`.
    pub fn ef(&self, k: usize, target: f32) -> Option<usize> {
        let above = CALIBRATED_K.iter().position(|&calibrated| k <= calibrated);
        let ef = match above {
            Some(0) => self.ef_at(0, target)?,
            Some(above) => {
                let [low, high] = [above - 1, above].map(|at| (CALIBRATED_K[at] as f64).ln());
                let share = ((k as f64).ln() - low) / (high - low);
                between(self.ef_at(above - 1, target)?, self.ef_at(above, target)?, share)
            }
            None => {
                let last = CALIBRATED_K.len() - 1;
                self.ef_at(last, target)? * k as f64 / CALIBRATED_K[last] as f64
            }
        };
        Some(ef.ceil() as usize)
    }

    /// The same for one of [`CALIBRATED_K`]: going down from the widest beam, where recall first falls below the target.
    fn ef_at(&self, column: usize, target: f32) -> Option<f64> {
        let used = self.points.iter().position(|point| point.ef == 0).unwrap_or(POINTS);
        let points = &self.points[..used];
        let at = |point: &Point| (f64::from(point.ef), f64::from(point.recall[column]));
        let target = f64::from(target);
        let below = points.iter().rposition(|point| at(point).1 < target);
        let (high_ef, high) = at(points.get(below.map_or(0, |below| below + 1))?);
        let Some((low_ef, low)) = below.map(|below| at(&points[below])) else { return Some(high_ef) };
        Some(between(low_ef, high_ef, (target - low) / (high - low)))
    }

    /// What is wrong with a table that was read.
    pub fn problem(&self) -> Option<String> {
        let used = self.points.iter().position(|point| point.ef == 0).unwrap_or(POINTS);
        let (points, rest) = self.points.split_at(used);
        let recalls_fit =
            points.iter().all(|point| point.recall.iter().all(|recall| (0.0..=1.0).contains(recall)));
        let ascends = points.is_sorted_by(|a, b| a.ef < b.ef);
        let ends = rest.iter().all(|&point| point == Point::zeroed());
        (!recalls_fit || !ascends || !ends).then(|| "the calibration is not one".to_owned())
    }
}

/// What lies at `share` of the way from `low` to `high`, by their logarithms.
fn between(low: f64, high: f64, share: f64) -> f64 {
    (low.ln() * (1.0 - share) + high.ln() * share).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        // At 1000 the narrowest beam was lucky.
        Calibration::new([(16, [0.8, 0.6, 0.99]), (64, [0.96, 0.8, 0.7]), (256, [1.0, 0.96, 0.9])])
    }

    #[test]
    fn a_beam_is_read_off_between_the_measured_ones() {
        let calibration = calibration();
        assert_eq!(calibration.ef(10, 0.8), Some(16));
        assert_eq!(calibration.ef(10, 0.1), Some(16));
        assert_eq!(calibration.ef(1, 0.96), Some(64));
        // Halfway from 0.8 to 0.96 lies the geometric mean of 16 and 64.
        assert_eq!(calibration.ef(10, 0.88), Some(32));
        assert_eq!(calibration.ef(100, 0.96), Some(256));
        let between = calibration.ef(31, 0.96).unwrap();
        assert!((64 + 1..256).contains(&between), "{between}");
    }

    #[test]
    fn a_recall_that_no_beam_had_has_no_beam() {
        let calibration = calibration();
        assert_eq!(calibration.ef(100, 0.97), None);
        assert_eq!(calibration.ef(1000, 0.9), Some(256));
        assert_eq!(calibration.ef(4000, 0.9), Some(1024));
        assert_eq!(calibration.ef(1000, 0.95), None);
        assert_eq!(Calibration::new([]).ef(10, 0.5), None);
    }

    #[test]
    fn a_damaged_table_is_told_from_a_sound_one() {
        assert_eq!(calibration().problem(), None);
        assert!(Calibration::new([(16, [0.5; 3]), (16, [0.6; 3])]).problem().is_some());
        assert!(Calibration::new([(16, [f32::NAN; 3])]).problem().is_some());
        assert!(Calibration::new([(0, [0.5; 3])]).problem().is_some());
    }
}
