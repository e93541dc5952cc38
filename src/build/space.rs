//! Trial graphs that choose the graph's space: how much the extra coordinate weighs in it.

use tracing::info;

use super::grow::{Grown, grow};
use super::measure::{GroundTruth, Users};
use crate::Result;
use crate::graph::Parameters;
use crate::graph::repair::Copies;
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, QuantizedRows, Rows};

/// The weights to try, and the one of an index too small to try any.
const AUGMENTATIONS: [f32; 5] = [0.1, 0.3, 0.5, 0.7, 1.0];
const USUAL: f32 = 0.5;

/// The larger of two trial graphs has one in so many rows, within these bounds, and the smaller one in so many
/// of these.
const ONE_IN: usize = 4;
const LEAST: usize = 2_048;
const MOST: usize = 32_768;

/// What walks cost in more rows than were tried is estimated up to so many times as many. Beyond that the
/// error of the estimate outgrows what it tells.
const AHEAD: f32 = 4.0;

/// Among weights by which walks cost nearly the same, the smaller is chosen: costs grow less with it as rows
/// grow in number.
const NEARLY: f32 = 1.03;

/// Why a graph has the augmentation that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Walks in the trial graphs scored the fewest rows with it, or nearly so.
    Tried,
    /// There were too few rows to try any, or no trial came to a recall of 0.95: it is the usual one.
    Usual,
    /// [`IndexBuilder::augmentation`](crate::IndexBuilder::augmentation) fixed it.
    Given,
    /// The previous index has it, with whose links the build started.
    Previous,
    /// The builder has no other.
    OfBuilder,
}

/// What two trial graphs over parts of the rows told of an augmentation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// The augmentation of the graphs.
    pub augmentation: f32,
    /// Rows in the smaller and in the larger graph.
    pub rows: [usize; 2],
    /// How many rows a walk scores for a recall@100 of 0.95 in each of them, in the mean; infinite where no
    /// beam had it.
    pub scored: [f32; 2],
    /// The same as it is expected in four times as many rows as the larger graph has, or in all if they are
    /// fewer.
    pub expected: f32,
}

/// The augmentation by which walks for the measuring users are expected to reach their target cheapest.
pub(super) fn choose(
    rows: Rows<'_>,
    squared_norms: &[f32],
    quantize: bool,
    users: Users<'_>,
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<(f32, Choice, Vec<Trial>)> {
    if rows.len() < LEAST {
        return Ok((USUAL, Choice::Usual, Vec::new()));
    }
    let larger = larger(rows.len());
    let ground = |wanted| {
        let sample = Sample::of(rows, squared_norms, wanted);
        Ground::new(sample, rows.dim(), quantize)
    };
    let grounds = [larger / ONE_IN, larger].map(ground);
    let mut trials = Vec::new();
    let mut scored = Vec::new();
    for ground in &grounds {
        let truth = GroundTruth::new(ground.rows(), users.measuring, parameters.threads, &watch.silent())?;
        for augmentation in AUGMENTATIONS {
            watch.tick(Stage::Try, scored.len(), 2 * AUGMENTATIONS.len())?;
            scored.push(ground.scored(augmentation, &truth, users.linked_for, parameters, watch)?);
        }
    }
    watch.tick(Stage::Try, scored.len(), scored.len())?;
    let tried = grounds.map(|ground| ground.squared_norms.len());
    let (smaller, larger) = scored.split_at(AUGMENTATIONS.len());
    for ((augmentation, &smaller), &larger) in AUGMENTATIONS.into_iter().zip(smaller).zip(larger) {
        let expected = ahead(tried, [smaller, larger], rows.len());
        trials.push(Trial { augmentation, rows: tried, scored: [smaller, larger], expected });
    }
    let least = trials.iter().map(|trial| trial.expected).fold(f32::INFINITY, f32::min);
    let best = trials.iter().find(|trial| trial.expected.is_finite() && trial.expected <= least * NEARLY);
    let (augmentation, choice) =
        best.map_or((USUAL, Choice::Usual), |best| (best.augmentation, Choice::Tried));
    Ok((augmentation, choice, trials))
}

/// How many rows the larger of two trial graphs has.
fn larger(rows: usize) -> usize {
    (rows / ONE_IN).clamp(LEAST, MOST)
}

/// How many rows all trial graphs of so many rows have.
pub(super) fn tried(rows: usize) -> usize {
    if rows < LEAST { 0 } else { AUGMENTATIONS.len() * (larger(rows) + larger(rows) / ONE_IN) }
}

/// What walks cost in `total` rows, or in [`AHEAD`] times the larger of the two numbers `tried`, if it grows on
/// by the same power of the number of rows.
fn ahead(tried: [usize; 2], scored: [f32; 2], total: usize) -> f32 {
    let [smaller, larger] = tried.map(|rows| rows as f32);
    if smaller >= larger || !scored[0].is_finite() {
        return scored[1];
    }
    let power = (scored[1] / scored[0]).ln() / (larger / smaller).ln();
    scored[1] * (total as f32 / larger).clamp(1.0, AHEAD).powf(power.max(0.0))
}

/// A part of the rows to build trial graphs over.
struct Ground {
    values: Vec<f32>,
    dim: usize,
    squared_norms: Vec<f32>,
    quantized: Option<QuantizedRows>,
    copies: Copies,
}

impl Ground {
    fn new(Sample { values, squared_norms }: Sample, dim: usize, quantize: bool) -> Ground {
        let rows = Rows::new(&values, dim);
        let quantized = quantize.then(|| QuantizedRows::of(rows));
        let copies = Copies::find(rows);
        Ground { quantized, copies, values, dim, squared_norms }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, self.dim)
    }

    /// How many rows walks score in a graph of an augmentation, made as that of an index is.
    fn scored(
        &self,
        augmentation: f32,
        truth: &GroundTruth<'_>,
        linked_for: &[&[f32]],
        parameters: &Parameters,
        watch: &Watch<'_>,
    ) -> Result<f32> {
        let (rows, total) = (self.rows(), self.squared_norms.len());
        let quantized = self.quantized.as_ref().map(QuantizedRows::view);
        let linked_for = &linked_for[..linked_for.len().min(total)];
        let space = Augmented::new(rows, quantized, &self.squared_norms, augmentation);
        let of = (rows, quantized, linked_for);
        let Grown { graph, secluded, linked } =
            grow(space, &self.copies, None, of, parameters, &watch.silent())?;
        let scored = truth.effort(graph.view(), quantized);
        info!(augmentation, rows = total, scored, secluded, linked, "tried a space");
        Ok(scored)
    }
}

/// Rows taken evenly from all, and the one of the largest norm, so that the space is that of all.
struct Sample {
    values: Vec<f32>,
    squared_norms: Vec<f32>,
}

impl Sample {
    fn of(rows: Rows<'_>, squared_norms: &[f32], wanted: usize) -> Sample {
        let all = 0..rows.len() as u32;
        let norm = |row: u32| squared_norms[row as usize];
        let largest = all.clone().max_by(|&a, &b| norm(a).total_cmp(&norm(b)));
        let taken: Vec<u32> = all.step_by(rows.len().div_ceil(wanted)).chain(largest).collect();
        let values = taken.iter().flat_map(|&row| rows.padded(row).into_owned()).collect();
        Sample { values, squared_norms: taken.into_iter().map(norm).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_grow_on_by_the_power_they_grew_by() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-3 * b, "{a} is not {b}");
        // Twice as many for four times the rows: a square root.
        near(ahead([1_000, 4_000], [100.0, 200.0], 8_000), 200.0 * 2f32.sqrt());
        near(ahead([1_000, 4_000], [100.0, 200.0], 1_000_000), 400.0);
        near(ahead([1_000, 4_000], [100.0, 200.0], 4_000), 200.0);
    }

    #[test]
    fn costs_that_fell_or_were_measured_once_stay() {
        assert_eq!(ahead([1_000, 4_000], [200.0, 100.0], 1_000_000), 100.0);
        assert_eq!(ahead([2_049, 2_049], [100.0, 100.0], 4_000), 100.0);
        assert_eq!(ahead([1_000, 4_000], [f32::INFINITY, 100.0], 1_000_000), 100.0);
        assert_eq!(ahead([1_000, 4_000], [100.0, f32::INFINITY], 1_000_000), f32::INFINITY);
    }
}
