//! A walk that goes on over all rows and finds some of them.

use super::walk::{Scored, Scratch, TOGETHER, merge};
use super::{Graph, kept, score_again};
use crate::row_set::RowSet;
use crate::vectors::{Quantized, Rows};

/// Rows to be found that a sweep starts from, spread over all.
const STARTS: usize = 6;

/// What a sweep looks for.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a> {
    pub among: &'a RowSet,
    pub k: usize,
    /// It goes on until the best so many rows to be found are better than all that are left to expand.
    pub ef: usize,
    /// After so many rows scored it gives up.
    pub budget: usize,
}

/// Finds rows of large inner product with a padded user among some of them; `found` then holds them with their exact
/// scores, in no particular order. False if it gave up, or found fewer than `k`.
pub(crate) fn sweep(
    graph: Graph<'_>,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    user: &[f32],
    wanted: Sweep<'_>,
    scratch: &mut Scratch,
    found: &mut Vec<Scored>,
) -> bool {
    let done = if let Some(quantized) = quantized {
        let mut values = std::mem::take(&mut scratch.user);
        quantized.quantize_user(user, &mut values);
        let score = |fresh: &[u32], scores: &mut [f32]| quantized.scores(&values, fresh, scores);
        let done = graph.sweep(wanted, scratch, (score, |row| quantized.prefetch(row)));
        scratch.user = values;
        done
    } else {
        let score = |fresh: &[u32], scores: &mut [f32]| rows.scores(user, fresh, scores);
        graph.sweep(wanted, scratch, (score, |row| rows.prefetch(row)))
    };
    found.clear();
    found.extend(scratch.rated.drain(..).map(Scored::closed));
    score_again(rows, user, found);
    done && found.len() >= wanted.k.min(wanted.among.count())
}

impl Graph<'_> {
    fn sweep(
        &self,
        wanted: Sweep<'_>,
        scratch: &mut Scratch,
        (score, prefetch): (impl Fn(&[u32], &mut [f32]), impl Fn(u32)),
    ) -> bool {
        let total = self.rows();
        let mut starts = [self.entry; STARTS + 2];
        starts[1] = self.descend(&score, scratch);
        for (number, start) in starts[2..].iter_mut().enumerate() {
            *start = wanted.among.first_from((number * total / STARTS) as u32).unwrap_or(self.entry);
        }
        let links = |row| self.slots(row).iter().copied();
        scratch.begin();
        let mut fresh = scratch.gather(&[()], |()| starts.into_iter(), &prefetch);
        let mut scored = 0;
        let mut next = 0;
        loop {
            scored += fresh;
            next = scratch.rate_among(wanted, fresh, &score).min(next);
            let mut expanded = [0; TOGETHER];
            let count = scratch.expand(&mut next, &mut expanded, |row| self.prefetch(row));
            if count == 0 || scored > wanted.budget {
                return count == 0;
            }
            fresh = scratch.gather(&expanded[..count], links, &prefetch);
        }
    }
}

impl Scratch {
    /// Rates the first `fresh` of the fresh nodes; lets those into the pool that are better than the last of the best
    /// rows to be found, and those of them that are to be found among the rated. Returns the place of the best.
    fn rate_among(&mut self, wanted: Sweep<'_>, fresh: usize, score: &impl Fn(&[u32], &mut [f32])) -> usize {
        let Scratch { pool, rated, fresh: nodes, scores, arrivals, .. } = self;
        let (nodes, scores) = (&nodes[..fresh], &mut scores[..fresh]);
        score(nodes, scores);
        let bar = |rated: &[Scored]| rated.get(wanted.ef - 1).copied().unwrap_or(Scored::LEAST);
        let before = bar(rated);
        let mut count = 0;
        for (&node, &score) in nodes.iter().zip(&*scores) {
            let arrival = Scored::open(score, node);
            arrivals[count] = arrival;
            count += usize::from(arrival > before);
        }
        let arrived = &mut arrivals[..count];
        arrived.sort_unstable_by(|a, b| b.cmp(a));
        let place = merge(pool, arrived, usize::MAX);
        let mut matching = 0;
        for at in 0..count {
            let arrival = arrivals[at];
            arrivals[matching] = arrival;
            matching += usize::from(wanted.among.contains(arrival.row()));
        }
        merge(rated, &arrivals[..matching], kept(wanted.k, wanted.ef));
        let bar = bar(rated);
        if bar > before {
            pool.truncate(pool.partition_point(|&entry| entry >= bar));
        }
        place
    }
}
