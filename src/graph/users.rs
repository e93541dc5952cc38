//! Links that sampled users ask for.
//!
//! Users are not distributed as items are: what one user is offered may lie far apart among the items, and
//! links made for items alone do not lead from one to the other. So each user of the sample is searched for,
//! and results that stand near each other in the answer propose links between each other; a row's free slots
//! go to what was proposed most. Compare RoarGraph (Chen et al., VLDB 2024) and OOD-DiskANN (Jaiswal et al.,
//! 2022).

use std::thread;

use super::{Graph, NONE, OwnedGraph, Scored, Scratch, search};
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::vectors::{Quantized, Rows, pad};

/// The beam by which a user is searched for, and how many of the results count.
const BEAM: usize = 200;
const RESULTS: usize = 100;

/// Results at most this many ranks apart propose a link to each other.
const RANKS_APART: usize = 2;

/// Users searched for between two looks at progress and cancellation.
const CHUNK: usize = 4096;

/// A proposed link: the row it starts from in the upper half, the row it leads to in the lower.
type Proposal = u64;

/// Adds the links that `users` ask for to the free slots of the base layer.
pub(crate) fn link(
    graph: &mut OwnedGraph,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    users: &[&[f32]],
    threads: usize,
    watch: &Watch<'_>,
) -> Result<()> {
    let mut scratches: Vec<_> = (0..threads).map(|_| Scratch::new(rows.len())).collect();
    let mut proposals: Vec<Proposal> = Vec::new();
    for (number, chunk) in users.chunks(CHUNK).enumerate() {
        watch.tick(Stage::Users, number * CHUNK, users.len())?;
        let view = graph.view();
        proposals.extend(thread::scope(|scope| {
            let propose = |(number, scratch)| {
                let users = chunk.iter().skip(number).step_by(threads).copied();
                scope.spawn(move || propose_all(view, rows, quantized, users, scratch))
            };
            let running: Vec<_> = scratches.iter_mut().enumerate().map(propose).collect();
            let finished = running.into_iter().map(|thread| thread.join().expect("a search does not panic"));
            finished.collect::<Vec<_>>().concat()
        }));
    }
    watch.tick(Stage::Users, users.len(), users.len())?;
    proposals.sort_unstable();
    for of_row in proposals.chunk_by(|a, b| a >> 32 == b >> 32) {
        fill(graph, of_row);
    }
    Ok(())
}

fn propose_all<'a>(
    graph: Graph<'_>,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    users: impl Iterator<Item = &'a [f32]>,
    scratch: &mut Scratch,
) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let (mut results, mut padded): (Vec<Scored>, _) = (Vec::new(), Vec::new());
    for user in users {
        pad(user, &mut padded);
        search(graph, rows, quantized, &padded, (RESULTS, BEAM), scratch, &mut results);
        results.sort_unstable_by(|a, b| b.cmp(a));
        results.truncate(RESULTS);
        for (rank, from) in results.iter().enumerate() {
            for to in results[rank + 1..].iter().take(RANKS_APART) {
                let (from, to) = (u64::from(from.row()), u64::from(to.row()));
                proposals.extend([from << 32 | to, to << 32 | from]);
            }
        }
    }
    proposals
}

/// Gives the free slots of a row to the links proposed most, of equals to the smaller row.
fn fill(graph: &mut OwnedGraph, proposals: &[Proposal]) {
    let slots = graph.slots_mut((proposals[0] >> 32) as u32);
    let used = slots.iter().position(|&link| link == NONE).unwrap_or(slots.len());
    let (links, free) = slots.split_at_mut(used);
    let mut wanted: Vec<(usize, u32)> = proposals
        .chunk_by(|a, b| a == b)
        .map(|same| (same.len(), same[0] as u32))
        .filter(|(_, to)| !links.contains(to))
        .collect();
    wanted.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    free.iter_mut().zip(wanted).for_each(|(slot, (_, to))| *slot = to);
}
