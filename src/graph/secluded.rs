//! Links to secluded rows: rows that no link of the chosen space leads to.
//!
//! Near the inner product, rows of large norm are nearer to a row than its likes of small norm, and fill the
//! lists of all their neighbours. Up to half of the rows may be left without a link to them, more the more
//! rows there are. Few users look for such rows, so walks do well without them; but a link to each of them
//! from a row of large norm would take the place of a link that most walks follow. So a secluded row gets its
//! link from its nearest row in augmented L2, which has about its direction and about its norm: it is found
//! from there, and walks for other users do not pass it.

use std::thread;

use super::repair::free_or_spare;
use super::{Beam, Graph, NONE, OwnedGraph, Scratch};
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::vectors::Augmented;

/// How wide to look for a row that is to link to a secluded one.
const BEAM: usize = 48;

/// Rows whose neighbours are looked for before any of them is linked. Later rows then find earlier ones.
const BATCH: usize = 8192;

/// Links to each of `members` that no link leads to, from a row near to it in `space`, augmented L2; returns
/// how many there were. A link takes a free slot, or that of a link to a row which others lead to as well.
pub(crate) fn link(
    graph: &mut OwnedGraph,
    space: &Augmented<'_>,
    members: &[u32],
    threads: usize,
    watch: &Watch<'_>,
) -> Result<usize> {
    let mut leading = leading_to(graph.view());
    let entry = graph.entry;
    let secluded: Vec<u32> =
        members.iter().copied().filter(|&row| leading[row as usize] == 0 && row != entry).collect();
    let mut scratches: Vec<_> = (0..threads).map(|_| Scratch::new(space.rows())).collect();
    for (number, batch) in secluded.chunks(BATCH).enumerate() {
        watch.tick(Stage::Connect, number * BATCH, secluded.len())?;
        for (&row, near) in batch.iter().zip(neighbours(graph.view(), space, batch, &mut scratches)) {
            if near.into_iter().any(|from| take_slot(graph, &mut leading, from, row)) {
                leading[row as usize] += 1;
            }
        }
    }
    watch.tick(Stage::Connect, secluded.len(), secluded.len())?;
    Ok(secluded.len())
}

/// How many base links lead to each row.
fn leading_to(graph: Graph<'_>) -> Vec<u32> {
    let mut leading = vec![0; graph.rows()];
    for row in 0..graph.rows() as u32 {
        graph.links(row).for_each(|link| leading[link as usize] += 1);
    }
    leading
}

/// The rows that a walk finds near each of `batch`, from near to far.
fn neighbours(
    graph: Graph<'_>,
    space: &Augmented<'_>,
    batch: &[u32],
    scratches: &mut [Scratch],
) -> Vec<Vec<u32>> {
    let share = batch.len().div_ceil(scratches.len());
    thread::scope(|scope| {
        let find = |(rows, scratch): (&'_ [u32], &'_ mut Scratch)| {
            let near = |&row: &u32| {
                let score = |others: &[u32], scores: &mut [f32]| space.nearness(row, others, scores);
                graph.walk(Beam::of(BEAM), scratch, score, |other| space.prefetch(other));
                scratch.found(Beam::of(BEAM)).map(|found| found.row()).filter(|&near| near != row).collect()
            };
            rows.iter().map(near).collect::<Vec<Vec<u32>>>()
        };
        let parts = batch.chunks(share).zip(scratches);
        let running: Vec<_> = parts.map(|part| scope.spawn(move || find(part))).collect();
        let found = running.into_iter().map(|thread| thread.join().expect("a walk does not panic"));
        found.collect::<Vec<_>>().concat()
    })
}

/// Links `from` to `row`, if a slot of `from` is free or its link leads to a row that others lead to as well.
fn take_slot(graph: &mut OwnedGraph, leading: &mut [u32], from: u32, row: u32) -> bool {
    let slots = graph.slots_mut(from);
    let Some(slot) = free_or_spare(slots, |link| leading[link as usize] > 1) else { return false };
    let before = std::mem::replace(&mut slots[slot], row);
    if before != NONE {
        leading[before as usize] -= 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::repair::connect;
    use crate::graph::{Parameters, native, search};
    use crate::vectors::Rows;
    use xxhash_rust::xxh3::xxh3_64;

    const DIM: usize = 32;
    const ROWS: usize = 8_000;
    const TOPICS: u64 = 40;
    const K: usize = 20;

    /// Roughly normal, from a hash: the sum of twelve uniform values, centred.
    fn normal(of: [u64; 2]) -> f32 {
        let uniform =
            |part: u64| (xxh3_64(bytemuck::bytes_of(&[of[0], of[1], part])) >> 40) as f32 / (1 << 24) as f32;
        (0..12).map(uniform).sum::<f32>() - 6.0
    }

    /// A direction near one of few topics, with much noise.
    fn direction(number: u64) -> Vec<f32> {
        let topic = xxh3_64(&number.to_le_bytes()) % TOPICS;
        let value = |at| normal([topic, at]) + 0.9 * normal([1000 + number, at]);
        let values: Vec<f32> = (0..DIM as u64).map(value).collect();
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.into_iter().map(|value| value / norm).collect()
    }

    /// How many of the best of each user walks find.
    fn found(graph: &OwnedGraph, rows: Rows<'_>, users: &[Vec<f32>]) -> usize {
        let (mut scratch, mut hits) = (Scratch::new(rows.len()), Vec::new());
        let found = |user: &Vec<f32>| {
            let mut scores: Vec<f32> = Vec::new();
            rows.score_all(user, 0..rows.len() as u32, |_, score| scores.push(score));
            scores.sort_by(|a, b| b.total_cmp(a));
            search(graph.view(), rows, None, user, (K, 60), &mut scratch, &mut hits);
            hits.iter().filter(|hit| hit.score() >= scores[K - 1]).count().min(K)
        };
        users.iter().map(found).sum()
    }

    /// What walks find before rows are linked in, after secluded rows are, and after repair in the space of the
    /// graph alone; and how many rows were secluded and how many were left to repair then.
    fn compare(augmentation: f32, m: usize, spread: f32) -> ([usize; 3], [usize; 2]) {
        let values: Vec<f32> = (0..ROWS as u64)
            .flat_map(|row| {
                let norm = (spread * normal([row, 5000])).exp();
                direction(row).into_iter().map(move |value| value * norm)
            })
            .collect();
        let users: Vec<Vec<f32>> = (0..200).map(|user| direction(1_000_000 + user)).collect();
        let rows = Rows::new(&values, DIM);
        let norms: Vec<f32> =
            values.chunks_exact(DIM).map(|row| row.iter().map(|value| value * value).sum()).collect();
        let members: Vec<u32> = (0..ROWS as u32).collect();
        let parameters = Parameters { m, ef_construction: 80, threads: 1 };
        let watch = Watch::new(None, None);
        let space = Augmented::new(rows, None, &norms, augmentation);
        let bare = native::build(&space, &members, None, &parameters, &watch).unwrap();
        let copy = || OwnedGraph {
            base: bare.base.clone(),
            upper: bare.upper.clone(),
            layer_nodes: bare.layer_nodes.clone(),
            ..bare
        };
        let mut repaired = copy();
        connect(&mut repaired, &space, &watch).unwrap();
        let space = space.at(1.0);
        let mut graph = copy();
        let secluded = link(&mut graph, &space, &members, 1, &watch).unwrap();
        let linked = connect(&mut graph, &space, &watch).unwrap();
        graph.view().verify().unwrap();
        ([&bare, &graph, &repaired].map(|graph| found(graph, rows, &users)), [secluded, linked])
    }

    #[test]
    fn links_to_secluded_rows_cost_no_recall_and_leave_little_to_repair() {
        let ([bare, now, _], [secluded, linked]) = compare(0.1, 6, 0.25);
        assert!(secluded > ROWS / 20, "{secluded} secluded");
        assert!(now + 20 >= bare, "{now} of {} found, {bare} before", 200 * K);
        assert!(linked < ROWS / 100, "{linked} left to repair");
    }
}
