use std::cmp::Ordering;

use super::{Graph, Layer};
use crate::limits::MAX_M;
use crate::top::cut;

/// Nodes that are expanded together, so that the waits for their links and their neighbours overlap.
pub(super) const TOGETHER: usize = 4;

/// Links of nodes expanded together, at most, and one to write behind: twice the largest `m` a node, and half
/// as much again in a graph that is being built.
const MAX_LINKS: usize = TOGETHER * 3 * MAX_M + 1;

/// Rated rows are cut down to those kept when there are this many times as many.
const SURPLUS: usize = 8;

/// With more entries of the pool than this for each arrival, finding an arrival's place is cheaper than
/// passing over the entries.
const FAR_APART: usize = 24;

/// A row and its score in one integer: greater is better, and of equal scores the smaller row is better.
///
/// From the highest bit down: 32 for the score, 31 for the row, and one that says that the row is still to be
/// expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scored(u64);

impl Scored {
    #[inline(always)]
    pub fn new(score: f32, row: u32) -> Scored {
        // The bits of a float order as an integer once negative ones are turned over.
        let bits = score.to_bits();
        let ordered = bits ^ (((bits as i32 >> 31) as u32) | 1 << 31);
        Scored(u64::from(ordered) << 32 | u64::from(!row << 1))
    }

    /// Below every score.
    pub(super) const LEAST: Scored = Scored(0);

    #[inline(always)]
    pub(super) fn open(score: f32, row: u32) -> Scored {
        Scored(Scored::new(score, row).0 | 1)
    }

    #[inline(always)]
    fn is_open(self) -> bool {
        self.0 & 1 == 1
    }

    #[inline(always)]
    pub(super) fn closed(self) -> Scored {
        Scored(self.0 & !1)
    }

    /// Best first.
    #[inline(always)]
    pub fn order(&self, other: &Scored) -> Ordering {
        other.cmp(self)
    }

    pub fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }

    #[inline(always)]
    pub fn row(self) -> u32 {
        !(self.0 as u32) >> 1
    }
}

/// How wide a walk goes and what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beam {
    /// The walk goes on until the best so many rows have been expanded.
    pub ef: usize,
    /// The best so many rows of all that were rated are found; at least `ef` are.
    pub keep: usize,
}

impl Beam {
    /// A beam that keeps what it expands.
    pub fn of(ef: usize) -> Beam {
        Beam { ef, keep: ef }
    }
}

/// What a walk needs besides the graph, kept between walks so that they allocate nothing.
pub(crate) struct Scratch {
    visited: Visited,
    /// The best `ef` rows so far, best first.
    pub(super) pool: Vec<Scored>,
    /// The best `keep` rows so far and some worse ones, in no order; empty if the pool holds as many.
    pub(super) rated: Vec<Scored>,
    /// The unvisited neighbours of the rows being expanded, their scores, and those good enough for the pool.
    pub(super) fresh: Box<[u32; MAX_LINKS]>,
    pub(super) scores: Box<[f32; MAX_LINKS]>,
    pub(super) arrivals: Box<[Scored; MAX_LINKS]>,
    /// The quantised user.
    pub user: Vec<i8>,
}

impl Scratch {
    pub fn new(rows: usize) -> Scratch {
        Scratch {
            visited: Visited::new(rows),
            pool: Vec::new(),
            rated: Vec::new(),
            fresh: Box::new([0; MAX_LINKS]),
            scores: Box::new([0.0; MAX_LINKS]),
            arrivals: Box::new([Scored(0); MAX_LINKS]),
            user: Vec::new(),
        }
    }

    /// Leaves in [`Scratch::found`] the best nodes that a best-first search from `starts` comes to (algorithm
    /// 2 of the HNSW paper).
    ///
    /// `links` are a node's neighbours, and `prefetch_links` is called for a node shortly before them;
    /// `score` rates nodes, higher is better, and `prefetch` is called for each shortly before it. Each node
    /// is rated at most once, so the search ends whatever the links say.
    pub fn beam<L: Iterator<Item = u32>>(
        &mut self,
        beam: Beam,
        starts: [u32; 2],
        (links, prefetch_links): (impl Fn(u32) -> L, impl Fn(u32)),
        (score, prefetch): (impl Fn(&[u32], &mut [f32]), impl Fn(u32)),
    ) {
        self.begin();
        let fresh = self.gather(&[()], |()| starts.into_iter(), &prefetch);
        let mut next = self.rate(beam, fresh, &score);
        loop {
            let mut expanded = [0; TOGETHER];
            let count = self.expand(&mut next, &mut expanded, &prefetch_links);
            if count == 0 {
                return;
            }
            let fresh = self.gather(&expanded[..count], &links, &prefetch);
            next = self.rate(beam, fresh, &score).min(next);
        }
    }

    /// Forgets the last walk.
    pub(super) fn begin(&mut self) {
        self.visited.clear();
        self.pool.clear();
        self.rated.clear();
    }

    /// Writes down the best rows that are still to be expanded and returns how many there are. None of them stands
    /// before the place `next`, which moves on.
    #[inline(always)]
    pub(super) fn expand(
        &mut self,
        next: &mut usize,
        expanded: &mut [u32; TOGETHER],
        prefetch_links: impl Fn(u32),
    ) -> usize {
        let mut count = 0;
        while count < TOGETHER && *next < self.pool.len() {
            let best = self.pool[*next];
            if best.is_open() {
                self.pool[*next] = best.closed();
                prefetch_links(best.row());
                expanded[count] = best.row();
                count += 1;
            }
            *next += 1;
        }
        count
    }

    /// Writes down those of the links of `nodes` that are new and returns how many there are.
    #[inline(always)]
    pub(super) fn gather<N: Copy, L: Iterator<Item = u32>>(
        &mut self,
        nodes: &[N],
        links: impl Fn(N) -> L,
        prefetch: &impl Fn(u32),
    ) -> usize {
        let Scratch { visited: Visited { tags, current }, fresh, .. } = self;
        let mut count = 0;
        // Every link is written and only new ones are counted: whether one is new cannot be predicted.
        for &node in nodes {
            for link in links(node) {
                let Some(tag) = tags.get_mut(link as usize) else { break };
                fresh[count] = link;
                count += usize::from(std::mem::replace(tag, *current) != *current);
            }
        }
        fresh[..count].iter().for_each(|&node| prefetch(node));
        count
    }

    /// Rates the first `fresh` of the fresh nodes and lets the good ones into the pool; returns the place of
    /// the best.
    #[inline(always)]
    fn rate(&mut self, beam: Beam, fresh: usize, score: &impl Fn(&[u32], &mut [f32])) -> usize {
        let Scratch { pool, rated, fresh: nodes, scores, arrivals, .. } = self;
        let (nodes, scores) = (&nodes[..fresh], &mut scores[..fresh]);
        score(nodes, scores);
        let scored = nodes.iter().zip(&*scores).map(|(&node, &score)| Scored::open(score, node));
        if beam.keep > beam.ef {
            rated.extend(scored.clone());
            if rated.len() > SURPLUS * beam.keep {
                cut(rated, beam.keep, Scored::order);
            }
        }
        // As above: whether a row is good enough cannot be predicted.
        let bar = if pool.len() < beam.ef { Scored(0) } else { pool[beam.ef - 1] };
        let mut count = 0;
        for arrival in scored {
            arrivals[count] = arrival;
            count += usize::from(arrival > bar);
        }
        let arrivals = &mut arrivals[..count];
        arrivals.sort_unstable_by(|a, b| b.cmp(a));
        merge(pool, arrivals, beam.ef)
    }

    /// Takes what the last walk found; best first if the beam keeps what it expands.
    pub fn found(&mut self, beam: Beam) -> impl ExactSizeIterator<Item = Scored> + '_ {
        if beam.keep > beam.ef {
            cut(&mut self.rated, beam.keep, Scored::order);
            std::mem::swap(&mut self.rated, &mut self.pool);
        }
        self.pool.drain(..).map(Scored::closed)
    }
}

/// Merges `arrivals` into `pool`, both best first, and keeps the best `keep`; returns the place of the best
/// arrival.
pub(super) fn merge(pool: &mut Vec<Scored>, arrivals: &[Scored], keep: usize) -> usize {
    let mut left = pool.len();
    let mut arriving = arrivals.len();
    pool.resize(left + arriving, Scored(0));
    let places = pool.as_mut_slice();
    // From the worst up: by blocks where arrivals are few, otherwise one by one. Which of two is worse cannot
    // be predicted, so it is not branched on.
    while left > 0 && arriving > 0 {
        let (entry, arrival) = (places[left - 1], arrivals[arriving - 1]);
        if left > FAR_APART * arriving {
            let place = places[..left].partition_point(|&entry| entry > arrival);
            places.copy_within(place..left, place + arriving);
            places[place + arriving - 1] = arrival;
            (left, arriving) = (place, arriving - 1);
            continue;
        }
        let is_entry = entry < arrival;
        places[left + arriving - 1] = if is_entry { entry } else { arrival };
        left -= usize::from(is_entry);
        arriving -= usize::from(!is_entry);
    }
    places[..arriving].copy_from_slice(&arrivals[..arriving]);
    pool.truncate(keep);
    left
}

/// A set of rows that empties in O(1): a row is in it if its tag is the current one.
struct Visited {
    tags: Vec<u16>,
    current: u16,
}

impl Visited {
    fn new(rows: usize) -> Visited {
        Visited { tags: vec![0; rows], current: 0 }
    }

    fn clear(&mut self) {
        self.current = self.current.wrapping_add(1);
        // Once in 65,536 times tags of the round before could be taken for current ones.
        if self.current == 0 {
            self.tags.fill(0);
            self.current = 1;
        }
    }
}

impl Graph<'_> {
    /// Leaves the best rows that a walk finds in [`Scratch::found`]: greedy descent through the upper layers,
    /// then [`Scratch::beam`] on the base layer, from where that ended and from the entry, which leads to
    /// every row.
    pub fn walk(
        &self,
        beam: Beam,
        scratch: &mut Scratch,
        score: impl Fn(&[u32], &mut [f32]),
        prefetch: impl Fn(u32),
    ) {
        let starts = [self.descend(&score, scratch), self.entry];
        let links = |row| self.slots(row).iter().copied();
        scratch.beam(beam, starts, (links, |row| self.prefetch(row)), (score, prefetch));
    }

    /// From the entry down the upper layers, on each to where no neighbour is better.
    pub(super) fn descend(&self, score: impl Fn(&[u32], &mut [f32]), scratch: &mut Scratch) -> u32 {
        let Some(top) = self.layers_down().next() else { return self.entry };
        let mut node = top.rows.binary_search(&self.entry).unwrap_or(0) as u32;
        let mut row = self.entry;
        for layer in self.layers_down() {
            let Some(local) = layer.climb(node, self, &score, scratch) else { return self.entry };
            row = layer.below[local as usize];
            node = row;
        }
        if (row as usize) < self.rows() { row } else { self.entry }
    }
}

impl Layer<'_> {
    /// The node where a greedy walk from `node` ends, or `None` where the links lead out of the layer,
    /// as they only do in a damaged file. Each step improves the score, so the walk ends.
    fn climb(
        &self,
        node: u32,
        graph: &Graph<'_>,
        score: impl Fn(&[u32], &mut [f32]),
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let row_of = |node: u32| self.rows.get(node as usize).filter(|&&row| (row as usize) < graph.rows());
        let Scratch { fresh, scores, .. } = scratch;
        let mut best = (f32::NEG_INFINITY, *row_of(node)?, node);
        score(&[best.1], std::slice::from_mut(&mut best.0));
        loop {
            let links = &self.links[best.2 as usize * graph.m..][..graph.m];
            let mut count = 0;
            for row in links.iter().map_while(|&link| row_of(link)) {
                fresh[count] = *row;
                count += 1;
            }
            score(&fresh[..count], &mut scores[..count]);
            let rated = scores[..count].iter().zip(&fresh[..count]).zip(links);
            let found = rated.map(|((&score, &row), &link)| (score, row, link));
            let found = found.max_by(|a, b| Scored::new(a.0, a.1).cmp(&Scored::new(b.0, b.1)));
            match found.filter(|found| Scored::new(found.0, found.1) > Scored::new(best.0, best.1)) {
                Some(found) => best = found,
                None => return Some(best.2),
            }
        }
    }
}
