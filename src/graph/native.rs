//! The builder of our own: flat arrays from the start, filled by all threads at once.
//!
//! Distances are those of the augmented space. A row's links are chosen by occlusion with slack (`select`), when it is
//! inserted and again whenever a full list takes a link back, so that rows of large norm keep the links that lead to
//! them. Levels are drawn from a hash of the row: the same rows and one thread give the same graph.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread;

use xxhash_rust::xxh3::xxh3_64;

use super::{NONE, OwnedGraph, Parameters, Scored, Scratch};
use crate::Result;
use crate::file::MAX_LAYERS;
use crate::progress::{Stage, Watch};
use crate::vectors::Augmented;

/// A candidate is dropped for a nearer neighbour only if that is nearer to it by this factor, on squared distances.
/// At 1, the rule of HNSW's paper, lists stay thin; docs/design.md has the measurement.
const SLACK: f32 = 1.1;

/// Rows inserted one after the other before threads take over.
const SERIAL: usize = 512;

/// Rows inserted between two looks at progress and cancellation.
const CHUNK: usize = 16_384;

/// Rows share this many locks; a lock is held while one list is rewritten.
const LOCKS: usize = 1 << 14;

/// Builds a graph over the rows `members` of `space`; the others stay without links.
pub(crate) fn build(
    space: &Augmented<'_>,
    members: &[u32],
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<OwnedGraph> {
    let graph = GrowingGraph::new(space, members, parameters);
    let mut workspaces: Vec<_> = (0..parameters.threads).map(|_| Workspace::new(space.rows())).collect();
    let (serial, rest) = members.split_at(members.len().min(SERIAL));
    serial.iter().for_each(|&row| graph.insert(row, &mut workspaces[0]));
    for (number, chunk) in rest.chunks(CHUNK).enumerate() {
        watch.tick(Stage::Graph, SERIAL + number * CHUNK, members.len())?;
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for workspace in &mut workspaces {
                let (graph, next) = (&graph, &next);
                scope.spawn(move || {
                    while let Some(&row) = chunk.get(next.fetch_add(1, Relaxed)) {
                        graph.insert(row, workspace);
                    }
                });
            }
        });
    }
    watch.tick(Stage::Graph, members.len(), members.len())?;
    Ok(graph.finish())
}

/// The graph while it grows.
struct GrowingGraph<'a> {
    space: &'a Augmented<'a>,
    m: usize,
    ef_construction: usize,
    entry: u32,
    /// The base layer, then the upper ones.
    layers: Vec<Layer>,
    locks: Vec<Mutex<()>>,
}

/// A layer whose lists many threads read while some are rewritten: a reader may see a list half old, half new.
struct Layer {
    /// The rows of its nodes, ascending; empty for the base layer, where nodes are rows.
    rows: Vec<u32>,
    slots: usize,
    links: Vec<AtomicU32>,
}

/// What one thread needs to insert rows.
struct Workspace {
    scratch: Scratch,
    candidates: Vec<Near>,
    kept: Vec<Near>,
}

/// A node and its distance from the row at hand.
#[derive(Clone, Copy)]
struct Near {
    node: u32,
    distance: f32,
}

impl Workspace {
    fn new(rows: usize) -> Workspace {
        Workspace { scratch: Scratch::new(rows), candidates: Vec::new(), kept: Vec::new() }
    }
}

impl<'a> GrowingGraph<'a> {
    fn new(space: &'a Augmented<'a>, members: &[u32], parameters: &Parameters) -> GrowingGraph<'a> {
        let &Parameters { m, ef_construction, .. } = parameters;
        // On ties of level the larger norm: it is near more users.
        let rank = |row: u32| (level(row, m), space.squared_norm(row).to_bits(), !row);
        let entry = members.iter().copied().max_by_key(|&row| rank(row)).expect("there are members");
        let mut layers = vec![Layer::new(Vec::new(), space.rows(), 2 * m)];
        for number in 1..=level(entry, m) {
            let rows: Vec<u32> = members.iter().copied().filter(|&row| level(row, m) >= number).collect();
            let nodes = rows.len();
            layers.push(Layer::new(rows, nodes, m));
        }
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        GrowingGraph { space, m, ef_construction, entry, layers, locks }
    }

    fn insert(&self, row: u32, workspace: &mut Workspace) {
        if row == self.entry {
            return;
        }
        let top = level(row, self.m);
        let mut near = self.entry;
        for (number, layer) in self.layers.iter().enumerate().rev() {
            let start = layer.node(near);
            near = match number > top {
                true => layer.row(self.climb(layer, start, row)),
                false => self.link(layer, start, row, workspace),
            };
        }
    }

    /// The node where a greedy walk towards `row` ends.
    fn climb(&self, layer: &Layer, start: u32, row: u32) -> u32 {
        let rated = |node: u32| Near { node, distance: self.space.distance(row, layer.row(node)) };
        let mut best = rated(start);
        loop {
            let nearest = layer.list(best.node).map(rated).min_by(Near::order);
            match nearest.filter(|near| near.distance < best.distance) {
                Some(near) => best = near,
                None => return best.node,
            }
        }
    }

    /// Links `row` and its neighbours on a layer both ways; returns the nearest row.
    fn link(&self, layer: &Layer, start: u32, row: u32, workspace: &mut Workspace) -> u32 {
        let this = layer.node(row);
        let Workspace { scratch, candidates, kept } = workspace;
        let score = |node: u32| -self.space.distance(row, layer.row(node));
        // From the entry too: `start` may be a row that another thread has not linked on this layer yet.
        let starts = [start, layer.node(self.entry)];
        let links = |node| layer.list(node);
        let touch = |node| self.space.prefetch(layer.row(node));
        scratch.beam(self.ef_construction, starts, (links, |_| ()), (score, touch));
        candidates.clear();
        candidates.extend(scratch.found().map(Near::from).filter(|near| near.node != this));
        candidates.sort_unstable_by(Near::order);
        let nearest = candidates.first().map_or(row, |near| layer.row(near.node));
        self.select(layer, candidates, kept);
        {
            let _lock = self.lock(row);
            layer.set(this, kept);
        }
        let chosen = std::mem::take(kept);
        for near in &chosen {
            self.link_back(layer, near.node, Near { node: this, distance: near.distance }, candidates, kept);
        }
        *kept = chosen;
        nearest
    }

    /// Adds a link from `node` to `to`; a full list is chosen anew, `to` among its links.
    fn link_back(
        &self,
        layer: &Layer,
        node: u32,
        to: Near,
        candidates: &mut Vec<Near>,
        kept: &mut Vec<Near>,
    ) {
        let row = layer.row(node);
        let _lock = self.lock(row);
        if layer.list(node).any(|link| link == to.node) {
            return;
        }
        if layer.append(node, to.node) {
            return;
        }
        let rated = |link: u32| Near { node: link, distance: self.space.distance(row, layer.row(link)) };
        candidates.clear();
        candidates.extend(layer.list(node).map(rated));
        candidates.push(to);
        candidates.sort_unstable_by(Near::order);
        self.select(layer, candidates, kept);
        layer.set(node, kept);
    }

    /// Keeps, of candidates from near to far, those that no kept one stands before: occlusion (HNSW's
    /// algorithm 4) with the slack that DiskANN gives it (Subramanya et al., NeurIPS 2019).
    fn select(&self, layer: &Layer, candidates: &[Near], kept: &mut Vec<Near>) {
        kept.clear();
        for &candidate in candidates {
            if kept.len() == layer.slots {
                return;
            }
            let row = layer.row(candidate.node);
            let free =
                |other: &Near| SLACK * self.space.distance(row, layer.row(other.node)) > candidate.distance;
            if kept.iter().all(free) {
                kept.push(candidate);
            }
        }
    }

    fn lock(&self, row: u32) -> std::sync::MutexGuard<'_, ()> {
        let lock = &self.locks[row as usize % LOCKS];
        lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn finish(self) -> OwnedGraph {
        let links = |links: Vec<AtomicU32>| links.into_iter().map(AtomicU32::into_inner).collect();
        let mut layers = self.layers.into_iter().map(|layer| (layer.rows, links(layer.links)));
        let (_, base) = layers.next().expect("there is a base layer");
        OwnedGraph::new(self.entry, self.m, base, layers.collect())
    }
}

impl Layer {
    fn new(rows: Vec<u32>, nodes: usize, slots: usize) -> Layer {
        let links = (0..nodes * slots).map(|_| AtomicU32::new(NONE)).collect();
        Layer { rows, slots, links }
    }

    /// The row of a node.
    #[inline(always)]
    fn row(&self, node: u32) -> u32 {
        if self.rows.is_empty() { node } else { self.rows[node as usize] }
    }

    /// The node of a row, which stands on this layer.
    fn node(&self, row: u32) -> u32 {
        if self.rows.is_empty() {
            return row;
        }
        self.rows.binary_search(&row).expect("a row stands on every layer up to its own") as u32
    }

    #[inline(always)]
    fn list(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        self.slots_of(node).iter().map(|link| link.load(Relaxed)).take_while(|&link| link != NONE)
    }

    fn append(&self, node: u32, link: u32) -> bool {
        let free = self.slots_of(node).iter().find(|slot| slot.load(Relaxed) == NONE);
        free.map(|slot| slot.store(link, Relaxed)).is_some()
    }

    fn set(&self, node: u32, links: &[Near]) {
        let links = links.iter().map(|near| near.node).chain(std::iter::repeat(NONE));
        self.slots_of(node).iter().zip(links).for_each(|(slot, link)| slot.store(link, Relaxed));
    }

    fn slots_of(&self, node: u32) -> &[AtomicU32] {
        &self.links[node as usize * self.slots..][..self.slots]
    }
}

impl Near {
    fn order(&self, other: &Near) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.node.cmp(&other.node))
    }
}

impl From<Scored> for Near {
    fn from(scored: Scored) -> Near {
        Near { node: scored.row(), distance: -scored.score() }
    }
}

/// The highest layer of a row: geometric, so that each layer has an m-th of the rows of the one below.
fn level(row: u32, m: usize) -> usize {
    let uniform = (xxh3_64(&row.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
    let level = -(1.0 - uniform).ln() / (m as f64).ln();
    (level as usize).min(MAX_LAYERS)
}
