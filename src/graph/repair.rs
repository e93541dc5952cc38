//! What every builder's graph goes through before it is written: copies of a row are hung beside the row,
//! and rows that no walk could come to are linked in.

use xxhash_rust::xxh3::xxh3_64;

use super::{Beam, Graph, NONE, OwnedGraph, Scratch};
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, Rows};

/// How wide to look for the rows that are to link to an unreachable one.
const BEAM: usize = 64;

/// Rows gone through between two looks at progress and cancellation.
const ROWS_A_TICK: u32 = 4096;

/// Rows that are equal to another row, value for value.
///
/// A graph over many copies of one row is a trap: each copy's nearest neighbours are the other copies, and
/// none of its links leads out. So only the first of them is given to the builder.
pub(crate) struct Copies {
    /// Groups of equal rows, two or more, each ascending; the groups one after the other.
    rows: Vec<u32>,
    /// Where each group ends in `rows`.
    ends: Vec<usize>,
}

impl Copies {
    pub fn find(rows: Rows<'_>) -> Copies {
        let hash = |row| xxh3_64(bytemuck::cast_slice(&rows.get(row)));
        let mut hashed: Vec<(u64, u32)> = (0..rows.len() as u32).map(|row| (hash(row), row)).collect();
        hashed.sort_unstable();
        let mut copies = Copies { rows: Vec::new(), ends: Vec::new() };
        for group in hashed.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            let first = rows.get(group[0].1);
            let equal = group.iter().map(|&(_, row)| row).filter(|&row| rows.get(row) == first);
            let before = copies.rows.len();
            copies.rows.extend(equal);
            if copies.rows.len() - before > 1 {
                copies.ends.push(copies.rows.len());
            } else {
                copies.rows.truncate(before);
            }
        }
        copies
    }

    /// How many rows are copies of an earlier one.
    pub fn len(&self) -> usize {
        self.rows.len() - self.ends.len()
    }

    /// Every row that is not a copy of an earlier one, ascending.
    pub fn originals(&self, rows: u32) -> Vec<u32> {
        let mut is_copy = vec![false; rows as usize];
        for group in self.groups() {
            group[1..].iter().for_each(|&row| is_copy[row as usize] = true);
        }
        (0..rows).filter(|&row| !is_copy[row as usize]).collect()
    }

    /// Hangs the copies beside their originals: the original links to the first copy, and the copies form a
    /// tree of links, each with a link back to the original.
    pub fn attach(&self, graph: &mut OwnedGraph) {
        let fan = 2 * graph.m - 1;
        for group in self.groups() {
            let (original, copies) = (group[0], &group[1..]);
            for (position, &copy) in copies.iter().enumerate() {
                let children = copies.iter().skip(position * fan + 1).take(fan);
                let slots = graph.slots_mut(copy);
                slots[0] = original;
                slots[1..].iter_mut().zip(children).for_each(|(slot, &child)| *slot = child);
            }
            let slots = graph.slots_mut(original);
            let slot = slots.iter().position(|&link| link == NONE).unwrap_or(slots.len() - 1);
            slots[slot] = copies[0];
        }
    }

    fn groups(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.rows[start..end])
    }
}

/// Links in every row that cannot be reached from the entry along base links; returns how many there were.
///
/// The links by which the rows were first reached form a tree. A new link takes a free slot of a near row
/// that is reached, or else the slot of a link outside the tree, so nothing that was reached is lost.
pub(crate) fn connect(graph: &mut OwnedGraph, space: &Augmented<'_>, watch: &Watch<'_>) -> Result<usize> {
    let rows = graph.view().rows();
    let mut tree = Tree { parent: vec![NONE; rows], open: Vec::new(), leaf: graph.entry };
    tree.grow(graph.view(), graph.entry, graph.entry);
    let mut scratch = Scratch::new(rows);
    let mut linked = 0;
    for row in 0..rows as u32 {
        if row.is_multiple_of(ROWS_A_TICK) {
            watch.tick(Stage::Connect, row as usize, rows)?;
        }
        if tree.parent[row as usize] == NONE {
            link_in(graph, &mut tree, &mut scratch, space, row);
            linked += 1;
        }
    }
    watch.tick(Stage::Connect, rows, rows)?;
    Ok(linked)
}

struct Tree {
    /// The row that each row was reached from: itself for the entry, [`NONE`] if it was not reached yet.
    parent: Vec<u32>,
    open: Vec<u32>,
    /// The row reached last, by which none was reached.
    leaf: u32,
}

impl Tree {
    /// Reaches `row` by `from`, and then whatever its links lead to.
    fn grow(&mut self, graph: Graph<'_>, row: u32, from: u32) {
        self.parent[row as usize] = from;
        self.open.push(row);
        while let Some(row) = self.open.pop() {
            self.leaf = row;
            for link in graph.links(row) {
                if self.parent[link as usize] == NONE {
                    self.parent[link as usize] = row;
                    self.open.push(link);
                }
            }
        }
    }

    /// The slot of `from` that a new link may take: a free one, or that of its last link outside the tree.
    fn spare_slot(&self, graph: Graph<'_>, from: u32) -> Option<usize> {
        free_or_spare(graph.slots(from), |link| self.parent[link as usize] != from)
    }
}

/// A free slot, or else that of the last link that is to spare.
pub(super) fn free_or_spare(slots: &[u32], is_spare: impl Fn(u32) -> bool) -> Option<usize> {
    slots.iter().position(|&link| link == NONE).or_else(|| slots.iter().rposition(|&link| is_spare(link)))
}

fn link_in(graph: &mut OwnedGraph, tree: &mut Tree, scratch: &mut Scratch, space: &Augmented<'_>, row: u32) {
    let score = |others: &[u32], scores: &mut [f32]| space.nearness(row, others, scores);
    graph.view().walk(Beam::of(BEAM), scratch, score, |_| ());
    let near: Vec<_> = scratch.found(Beam::of(BEAM)).collect();
    let (from, slot) = near
        .iter()
        .map(|scored| scored.row())
        .filter(|&from| tree.parent[from as usize] != NONE)
        .chain([tree.leaf])
        .find_map(|from| tree.spare_slot(graph.view(), from).map(|slot| (from, slot)))
        .expect("no link of a leaf is of the tree");
    graph.slots_mut(from)[slot] = row;
    tree.grow(graph.view(), row, from);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 16;

    fn squared_norms(values: &[f32]) -> Vec<f32> {
        values.chunks_exact(DIM).map(|row| row.iter().map(|value| value * value).sum()).collect()
    }

    fn islands(rows: usize, size: usize) -> OwnedGraph {
        let mut graph =
            OwnedGraph { entry: 0, m: 2, base: vec![NONE; rows * 4], layer_nodes: vec![], upper: vec![] };
        for row in 0..rows {
            let island = row / size * size;
            for step in 1..=4 {
                graph.base[row * 4 + step - 1] = (island + (row - island + step) % size) as u32;
            }
        }
        graph
    }

    #[test]
    fn islands_are_linked_in_without_losing_a_row() {
        let (rows, size) = (120, 6);
        let values: Vec<f32> = (0..rows * DIM).map(|i| ((i * 7919) % 101) as f32 - 50.0).collect();
        let norms = squared_norms(&values);
        let rows_view = Rows::new(&values, DIM);
        let space = Augmented::new(rows_view, None, &norms, 0.5);
        let mut graph = islands(rows, size);
        assert_eq!(graph.view().unreachable(), rows - size);
        assert_eq!(connect(&mut graph, &space, &Watch::new(None, None)).unwrap(), rows / size - 1);
        graph.view().verify().unwrap();
    }

    #[test]
    fn copies_are_grouped_and_all_reachable() {
        let (rows, distinct) = (1_000u32, 3);
        let values: Vec<f32> = (0..rows as usize * DIM).map(|i| ((i / DIM) % distinct) as f32).collect();
        let view = Rows::new(&values, DIM);
        let copies = Copies::find(view);
        assert_eq!(copies.len(), rows as usize - distinct);
        assert_eq!(copies.originals(rows), [0, 1, 2]);

        let mut base = vec![NONE; rows as usize * 8];
        base[0] = 1;
        base[8] = 2;
        let mut graph = OwnedGraph { entry: 0, m: 4, base, layer_nodes: vec![], upper: vec![] };
        copies.attach(&mut graph);
        graph.view().verify().unwrap();
    }
}
