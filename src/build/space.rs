//! Trial graphs that choose the graph's space: how much the extra coordinate weighs in it.

use tracing::info;

use super::measure::GroundTruth;
use crate::Result;
use crate::graph::repair::Copies;
use crate::graph::{Parameters, native, users};
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, QuantizedRows, Rows};

/// The weights to try, and the one of an index too small to try any.
const AUGMENTATIONS: [f32; 4] = [0.1, 0.3, 0.5, 0.7];
const USUAL: f32 = 0.5;

/// A trial graph has one in so many rows, within these bounds.
const ONE_IN: usize = 4;
const LEAST: usize = 2_048;
const MOST: usize = 32_768;

/// Among weights by which walks cost nearly the same, the larger is chosen: it fares better as rows grow in
/// number.
const NEARLY: f32 = 1.03;

/// The weight by which walks for `measuring` users reach their target cheapest, in trial graphs with links
/// for `linked_for`.
pub(super) fn choose(
    rows: Rows<'_>,
    squared_norms: &[f32],
    quantize: bool,
    (measuring, linked_for): (&[&[f32]], &[&[f32]]),
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<f32> {
    if rows.len() < LEAST {
        return Ok(USUAL);
    }
    let sample = Sample::of(rows, squared_norms);
    let total = sample.squared_norms.len();
    let linked_for = &linked_for[..linked_for.len().min(total)];
    let rows = Rows::new(&sample.values, rows.dim());
    let quantized = quantize.then(|| QuantizedRows::of(rows));
    let quantized = quantized.as_ref().map(QuantizedRows::view);
    let originals = Copies::find(rows).originals(total as u32);
    let truth = GroundTruth::new(rows, measuring, parameters.threads, &watch.silent())?;
    let (mut best, mut least) = (USUAL, f32::INFINITY);
    for (number, augmentation) in AUGMENTATIONS.into_iter().enumerate() {
        watch.tick(Stage::Try, number, AUGMENTATIONS.len())?;
        let space = Augmented::new(rows, quantized, &sample.squared_norms, augmentation);
        let mut graph = native::build(&space, &originals, parameters, &watch.silent())?;
        users::link(&mut graph, rows, quantized, linked_for, parameters.threads, &watch.silent())?;
        let effort = truth.effort(graph.view(), quantized);
        info!(augmentation, effort, "rows scored for a search");
        if effort.is_finite() && effort <= least * NEARLY {
            (best, least) = (augmentation, least.min(effort));
        }
    }
    watch.tick(Stage::Try, AUGMENTATIONS.len(), AUGMENTATIONS.len())?;
    Ok(best)
}

/// Rows taken evenly from all, and the one of the largest norm, so that the space is that of all.
struct Sample {
    values: Vec<f32>,
    squared_norms: Vec<f32>,
}

impl Sample {
    fn of(rows: Rows<'_>, squared_norms: &[f32]) -> Sample {
        let all = 0..rows.len() as u32;
        let norm = |row: u32| squared_norms[row as usize];
        let largest = all.clone().max_by(|&a, &b| norm(a).total_cmp(&norm(b)));
        let wanted = (rows.len() / ONE_IN).clamp(LEAST, MOST);
        let taken: Vec<u32> = all.step_by(rows.len().div_ceil(wanted)).chain(largest).collect();
        let values = taken.iter().flat_map(|&row| rows.padded(row)).copied().collect();
        Sample { values, squared_norms: taken.into_iter().map(norm).collect() }
    }
}
