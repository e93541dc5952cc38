//! Which space to build the graph in: tried out on a part of the rows.

use tracing::info;

use super::judge::Judge;
use crate::Result;
use crate::graph::repair::Copies;
use crate::graph::{Parameters, native, users};
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, QuantizedRows, Rows};

/// The shares of the extra coordinate to try, and the one of an index too small to try any.
const SHARES: [f32; 4] = [0.1, 0.3, 0.5, 0.7];
const USUAL: f32 = 0.5;

/// One in so many rows is tried with, within these bounds.
const ONE_IN: usize = 4;
const LEAST: usize = 2_048;
const MOST: usize = 32_768;

/// Among shares by which walks cost nearly the same, the larger is chosen: it fares better as rows grow in number.
const NEARLY: f32 = 1.03;

/// The share by which walks for `measuring` users reach their target cheapest, in graphs with links for `linked_for`.
pub(super) fn share(
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
    let part = Part::of(rows, squared_norms);
    let total = part.squared_norms.len();
    let linked_for = &linked_for[..linked_for.len().min(total)];
    let rows = Rows::new(&part.values, rows.dim());
    let quantized = quantize.then(|| QuantizedRows::of(rows));
    let quantized = quantized.as_ref().map(QuantizedRows::view);
    let originals = Copies::find(rows).originals(total as u32);
    let judge = Judge::new(rows, measuring, parameters.threads, &watch.silent())?;
    let (mut best, mut least) = (USUAL, f32::INFINITY);
    for (number, share) in SHARES.into_iter().enumerate() {
        watch.tick(Stage::Try, number, SHARES.len())?;
        let space = Augmented::new(rows, quantized, &part.squared_norms, share);
        let mut graph = native::build(&space, &originals, parameters, &watch.silent())?;
        users::link(&mut graph, rows, quantized, linked_for, parameters.threads, &watch.silent())?;
        let effort = judge.effort(graph.view(), quantized);
        info!(share, effort, "rows scored for a search");
        if effort.is_finite() && effort <= least * NEARLY {
            (best, least) = (share, least.min(effort));
        }
    }
    watch.tick(Stage::Try, SHARES.len(), SHARES.len())?;
    Ok(best)
}

/// Rows taken evenly from all, and the one of the largest norm, so that the space is that of all.
struct Part {
    values: Vec<f32>,
    squared_norms: Vec<f32>,
}

impl Part {
    fn of(rows: Rows<'_>, squared_norms: &[f32]) -> Part {
        let all = 0..rows.len() as u32;
        let norm = |row: u32| squared_norms[row as usize];
        let largest = all.clone().max_by(|&a, &b| norm(a).total_cmp(&norm(b)));
        let wanted = (rows.len() / ONE_IN).clamp(LEAST, MOST);
        let taken: Vec<u32> = all.step_by(rows.len().div_ceil(wanted)).chain(largest).collect();
        let values = taken.iter().flat_map(|&row| rows.padded(row)).copied().collect();
        Part { values, squared_norms: taken.into_iter().map(norm).collect() }
    }
}
