//! The builder of our own: flat arrays from the start, filled by all threads at once.
//!
//! Rows are as near as they are in the augmented space. A row's links are chosen by occlusion with slack
//! (`select`), `m` when it is inserted, and again when links back have filled its list and half as much room
//! again: choosing costs more than walking does, and so each choice serves several links. Levels are drawn
//! from a hash of the row: the same rows and one thread give the same graph.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread;

use xxhash_rust::xxh3::xxh3_64;

use super::seeds::Seeds;
use super::{Beam, NONE, OwnedGraph, Parameters, Scored, Scratch};
use crate::Result;
use crate::file::MAX_LAYERS;
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, prefetch};

/// Rows inserted one after the other before threads take over.
const SERIAL: usize = 512;

/// Rows inserted between two looks at progress and cancellation.
const CHUNK: usize = 16_384;

/// A row that starts with links looks about it with so much narrower a beam than the builder's.
const RENEWED: usize = 6;

/// Rows share this many locks; a lock is held while one list is rewritten.
const LOCKS: usize = 1 << 14;

/// Builds a graph over the rows `members` of `space`; the others stay without links. Rows with `seeds` start
/// with those links, and only look about them for nearer rows.
pub(crate) fn build(
    space: &Augmented<'_>,
    members: &[u32],
    seeds: Option<&Seeds<'_>>,
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<OwnedGraph> {
    let graph = GrowingGraph::new(space, members, seeds, parameters);
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
    Ok(graph.finish(&mut workspaces))
}

/// The graph while it grows.
struct GrowingGraph<'a> {
    space: &'a Augmented<'a>,
    m: usize,
    ef_construction: usize,
    entry: u32,
    seeds: Option<&'a Seeds<'a>>,
    /// The base layer, then the upper ones.
    layers: Vec<Layer>,
    locks: Vec<Mutex<()>>,
}

/// A layer whose lists many threads read while some are rewritten: a reader may see a list half old, half
/// new.
struct Layer {
    /// The rows that stand on it, ascending; empty for the base layer, where all do.
    rows: Vec<u32>,
    /// The most links that a row keeps in the end, and the most that it may have meanwhile.
    slots: usize,
    room: usize,
    links: Vec<AtomicU32>,
}

/// What one thread needs to insert rows.
struct Workspace {
    scratch: Scratch,
    candidates: Candidates,
    kept: Vec<u32>,
}

/// Rows near to the row at hand, and room for how near they are to another.
#[derive(Default)]
struct Candidates {
    rows: Vec<u32>,
    /// To the row at hand.
    nearness: Vec<f32>,
    between: Vec<f32>,
    order: Vec<Scored>,
}

impl Workspace {
    fn new(rows: usize) -> Workspace {
        Workspace { scratch: Scratch::new(rows), candidates: Candidates::default(), kept: Vec::new() }
    }
}

impl<'a> GrowingGraph<'a> {
    fn new(
        space: &'a Augmented<'a>,
        members: &[u32],
        seeds: Option<&'a Seeds<'a>>,
        parameters: &Parameters,
    ) -> GrowingGraph<'a> {
        let &Parameters { m, ef_construction, .. } = parameters;
        // The entry must have links where any row has. On ties of level the larger norm: it is near more users.
        let is_seeded = |row| seeds.is_some_and(|seeds| seeds.links(row).next().is_some());
        let rank = |row: u32| (is_seeded(row), level(row, m), space.squared_norm(row).to_bits(), !row);
        let entry = members.iter().copied().max_by_key(|&row| rank(row)).expect("there are members");
        let mut layers = vec![Layer::new(Vec::new(), space.rows(), 2 * m)];
        for number in 1..=level(entry, m) {
            let rows: Vec<u32> = members.iter().copied().filter(|&row| level(row, m) >= number).collect();
            let count = rows.len();
            layers.push(Layer::new(rows, count, m));
        }
        let mut links = Vec::new();
        for &row in members.iter().filter(|_| seeds.is_some()) {
            links.clear();
            links.extend(seeds.into_iter().flat_map(|seeds| seeds.links(row)));
            layers[0].set(row, &links);
        }
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        GrowingGraph { space, m, ef_construction, entry, seeds, layers, locks }
    }

    fn insert(&self, row: u32, workspace: &mut Workspace) {
        if row == self.entry {
            return;
        }
        let top = level(row, self.m);
        let is_seeded = self.seeds.is_some_and(|seeds| seeds.links(row).next().is_some());
        let mut near = self.entry;
        for (number, layer) in self.layers.iter().enumerate().rev() {
            near = match number > top {
                true if is_seeded && top == 0 => near,
                true => self.climb(layer, near, row, workspace),
                false if is_seeded && number == 0 => {
                    self.link(layer, [row, row], row, renewing(self.ef_construction), workspace)
                }
                // From the entry too: `near` may be a row that another thread has not linked on this layer yet.
                false => {
                    let beam = Beam { ef: self.ef_construction.div_ceil(2), keep: self.ef_construction };
                    self.link(layer, [near, self.entry], row, beam, workspace)
                }
            };
        }
    }

    /// The row where a greedy walk towards `row` ends: a beam of one.
    fn climb(&self, layer: &Layer, start: u32, row: u32, workspace: &mut Workspace) -> u32 {
        self.walk(layer, [start, start], row, Beam::of(1), &mut workspace.scratch);
        workspace.scratch.found(Beam::of(1)).next().map_or(start, Scored::row)
    }

    fn walk(&self, layer: &Layer, starts: [u32; 2], row: u32, beam: Beam, scratch: &mut Scratch) {
        let score = |others: &[u32], scores: &mut [f32]| self.space.nearness(row, others, scores);
        let links = |of| layer.slots_of(of).iter().map(|link| link.load(Relaxed));
        let ahead = |of| prefetch(&layer.links, layer.place(of) * layer.room, layer.room);
        scratch.beam(beam, starts, (links, ahead), (score, |other| self.space.prefetch(other)));
    }

    /// Links `row` and neighbours on a layer both ways, and keeps the links that it has; returns the nearest row.
    fn link(&self, layer: &Layer, starts: [u32; 2], row: u32, beam: Beam, workspace: &mut Workspace) -> u32 {
        self.walk(layer, starts, row, beam, &mut workspace.scratch);
        let Workspace { scratch, candidates, kept } = workspace;
        candidates.rows.clear();
        candidates.rows.extend(scratch.found(beam).map(Scored::row));
        candidates.rows.retain(|&near| near != row);
        self.sort(row, candidates);
        let nearest = candidates.rows.first().copied().unwrap_or(row);
        self.select(self.m, candidates, kept);
        {
            let _lock = self.lock(row);
            let new = kept.len();
            for link in layer.list(row) {
                if !kept[..new].contains(&link) {
                    kept.push(link);
                }
            }
            layer.set(row, kept);
            kept.truncate(new);
        }
        let chosen = std::mem::take(kept);
        for &near in &chosen {
            self.link_back(layer, near, row, candidates, kept);
        }
        *kept = chosen;
        nearest
    }

    /// Adds a link from `row` to `to`; a list without room for it is chosen anew, `to` among its links.
    fn link_back(&self, layer: &Layer, row: u32, to: u32, candidates: &mut Candidates, kept: &mut Vec<u32>) {
        let _lock = self.lock(row);
        if layer.list(row).any(|link| link == to) || layer.append(row, to) {
            return;
        }
        self.choose_anew(layer, row, Some(to), candidates, kept);
    }

    /// Chooses the links of a row among those it has and `more`.
    fn choose_anew(
        &self,
        layer: &Layer,
        row: u32,
        more: Option<u32>,
        candidates: &mut Candidates,
        kept: &mut Vec<u32>,
    ) {
        candidates.rows.clear();
        candidates.rows.extend(layer.list(row).chain(more));
        self.sort(row, candidates);
        self.select(layer.slots, candidates, kept);
        layer.set(row, kept);
    }

    /// Puts candidates in order, from near to far.
    fn sort(&self, row: u32, candidates: &mut Candidates) {
        let Candidates { rows, nearness, order, .. } = candidates;
        nearness.resize(rows.len(), 0.0);
        self.space.nearness(row, rows, nearness);
        order.clear();
        order.extend(rows.iter().zip(&*nearness).map(|(&row, &nearness)| Scored::new(nearness, row)));
        order.sort_unstable_by(|a, b| b.cmp(a));
        for ((row, nearness), near) in rows.iter_mut().zip(nearness).zip(order) {
            (*row, *nearness) = (near.row(), near.score());
        }
    }

    /// Keeps at most `most` of candidates that come from near to far, and only those that no kept candidate
    /// occludes: HNSW's algorithm 4 with slack, as in DiskANN (Subramanya et al., NeurIPS 2019).
    fn select(&self, most: usize, candidates: &mut Candidates, kept: &mut Vec<u32>) {
        kept.clear();
        let Candidates { rows, nearness, between, .. } = candidates;
        let mut left = rows.len();
        let mut first = 0;
        while first < left && kept.len() < most {
            kept.push(rows[first]);
            let rest = first + 1..left;
            between.resize(rest.len(), 0.0);
            self.space.nearness(rows[first], &rows[rest.clone()], between);
            left = first + 1;
            for (at, &between) in rest.zip(&*between) {
                (rows[left], nearness[left]) = (rows[at], nearness[at]);
                left += usize::from(!self.space.occludes(between, nearness[at]));
            }
            first += 1;
        }
    }

    fn lock(&self, row: u32) -> std::sync::MutexGuard<'_, ()> {
        let lock = &self.locks[row as usize % LOCKS];
        lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Cuts lists down to their slots, on all threads.
    fn finish(self, workspaces: &mut [Workspace]) -> OwnedGraph {
        let threads = workspaces.len();
        thread::scope(|scope| {
            for (number, workspace) in workspaces.iter_mut().enumerate() {
                let graph = &self;
                scope.spawn(move || {
                    for layer in &graph.layers {
                        layer
                            .standing()
                            .skip(number)
                            .step_by(threads)
                            .for_each(|row| graph.cut(layer, row, workspace));
                    }
                });
            }
        });
        let mut layers = self.layers.into_iter().map(Layer::into_slots);
        let (_, base) = layers.next().expect("there is a base layer");
        OwnedGraph::new(self.entry, self.m, base, layers.collect())
    }

    fn cut(&self, layer: &Layer, row: u32, workspace: &mut Workspace) {
        if layer.list(row).count() > layer.slots {
            self.choose_anew(layer, row, None, &mut workspace.candidates, &mut workspace.kept);
        }
    }
}

impl Layer {
    fn new(rows: Vec<u32>, count: usize, slots: usize) -> Layer {
        let room = slots + slots / 2;
        let links = (0..count * room).map(|_| AtomicU32::new(NONE)).collect();
        Layer { rows, slots, room, links }
    }

    /// The rows that stand on this layer.
    fn standing(&self) -> impl Iterator<Item = u32> + '_ {
        let everywhere = if self.rows.is_empty() { self.links.len() / self.room } else { 0 };
        self.rows.iter().copied().chain(0..everywhere as u32)
    }

    /// Its rows, and the slots of each, without the room that they had besides; in the memory that they have.
    fn into_slots(self) -> (Vec<u32>, Vec<u32>) {
        let mut links: Vec<u32> = self.links.into_iter().map(AtomicU32::into_inner).collect();
        let lists = links.len() / self.room;
        for list in 0..lists {
            links.copy_within(list * self.room..list * self.room + self.slots, list * self.slots);
        }
        links.truncate(lists * self.slots);
        links.shrink_to_fit();
        (self.rows, links)
    }

    #[inline(always)]
    fn list(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        self.slots_of(row).iter().map(|link| link.load(Relaxed)).take_while(|&link| link != NONE)
    }

    fn append(&self, row: u32, link: u32) -> bool {
        let free = self.slots_of(row).iter().find(|slot| slot.load(Relaxed) == NONE);
        free.map(|slot| slot.store(link, Relaxed)).is_some()
    }

    fn set(&self, row: u32, links: &[u32]) {
        let links = links.iter().copied().chain(std::iter::repeat(NONE));
        self.slots_of(row).iter().zip(links).for_each(|(slot, link)| slot.store(link, Relaxed));
    }

    /// The slots of a row that stands on this layer.
    #[inline(always)]
    fn slots_of(&self, row: u32) -> &[AtomicU32] {
        &self.links[self.place(row) * self.room..][..self.room]
    }

    #[inline(always)]
    fn place(&self, row: u32) -> usize {
        match self.rows.is_empty() {
            true => row as usize,
            false => self.rows.binary_search(&row).expect("a row stands on every layer up to its own"),
        }
    }
}

/// How many of so many rows, none of them equal, stand on each upper layer of a graph that is made anew.
pub(crate) fn layer_nodes(rows: u32, m: usize) -> [u32; MAX_LAYERS] {
    let mut nodes = [0; MAX_LAYERS];
    (0..rows).for_each(|row| nodes[..level(row, m)].iter_mut().for_each(|nodes| *nodes += 1));
    nodes
}

/// How wide a row that starts with links looks about it.
pub(crate) fn renewing(ef_construction: usize) -> Beam {
    Beam { ef: ef_construction.div_ceil(RENEWED), keep: ef_construction.div_ceil(2) }
}

/// The highest layer of a row: geometric, so that each layer has an m-th of the rows of the one below.
fn level(row: u32, m: usize) -> usize {
    let uniform = (xxh3_64(&row.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
    let level = -(1.0 - uniform).ln() / (m as f64).ln();
    (level as usize).min(MAX_LAYERS)
}
