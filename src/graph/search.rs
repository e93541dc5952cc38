use super::{Beam, Graph, Scored, Scratch};
use crate::vectors::{Quantized, Rows};

/// Quantised scores misplace some of the best rows. So one row more for this many asked for is scored again.
const SPARE: usize = 4;

/// Rows that are scored again at a time, and asked for together ahead of that.
const BLOCK: usize = 16;

/// Finds at least `k` rows of large inner product with a padded user, by a walk with a beam of `ef`; `found`
/// then holds them with their exact scores, in no particular order. Walks over the quantised embeddings if
/// there are any.
pub(crate) fn search(
    graph: Graph<'_>,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    user: &[f32],
    (k, ef): (usize, usize),
    scratch: &mut Scratch,
    found: &mut Vec<Scored>,
) {
    walk(graph, rows, quantized, user, Beam { ef, keep: kept(k, ef) }, scratch, found);
    if found.len() < k {
        // A beam far below `k` may end before it has seen that many rows.
        walk(graph, rows, quantized, user, Beam::of(k), scratch, found);
    }
    score_again(rows, user, found);
}

/// How many of the rows that a walk rates are scored again for the best `k`.
pub(crate) fn kept(k: usize, ef: usize) -> usize {
    (k + k / SPARE).max(ef)
}

/// Leaves in `found` what a walk finds, with the scores that it walked by.
pub(crate) fn walk(
    graph: Graph<'_>,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    user: &[f32],
    beam: Beam,
    scratch: &mut Scratch,
    found: &mut Vec<Scored>,
) {
    if let Some(quantized) = quantized {
        let mut values = std::mem::take(&mut scratch.user);
        quantized.quantize_user(user, &mut values);
        let score = |fresh: &[u32], scores: &mut [f32]| quantized.scores(&values, fresh, scores);
        graph.walk(beam, scratch, score, |row| quantized.prefetch(row));
        scratch.user = values;
    } else {
        let score = |fresh: &[u32], scores: &mut [f32]| rows.scores(user, fresh, scores);
        graph.walk(beam, scratch, score, |row| rows.prefetch(row));
    }
    found.clear();
    found.extend(scratch.found(beam));
}

/// Replaces scores by exact ones.
pub(crate) fn score_again(rows: Rows<'_>, user: &[f32], found: &mut [Scored]) {
    let ask = |found: &[Scored]| found.iter().for_each(|found| rows.prefetch(found.row()));
    ask(&found[..BLOCK.min(found.len())]);
    let mut left = found;
    while !left.is_empty() {
        let (block, later) = left.split_at_mut(BLOCK.min(left.len()));
        ask(&later[..BLOCK.min(later.len())]);
        let (mut numbers, mut scores) = ([0; BLOCK], [0.0; BLOCK]);
        numbers.iter_mut().zip(&*block).for_each(|(number, found)| *number = found.row());
        rows.scores(user, &numbers[..block.len()], &mut scores[..block.len()]);
        for (found, (&row, &score)) in block.iter_mut().zip(numbers.iter().zip(&scores)) {
            *found = Scored::new(score, row);
        }
        left = later;
    }
}
