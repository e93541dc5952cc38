use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Graph, Layer};
use crate::vectors::prefetch;

/// Link slots a node has at most, and one to write behind.
const MAX_LINKS: usize = 257;

/// A row and its score in one integer: greater is better, and of equal scores the smaller row is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scored(u64);

impl Scored {
    #[inline(always)]
    pub fn new(score: f32, row: u32) -> Scored {
        // The bits of a float order as an integer once negative ones are turned over.
        let bits = score.to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Scored(u64::from(ordered) << 32 | u64::from(!row))
    }

    pub fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }

    pub fn row(self) -> u32 {
        !(self.0 as u32)
    }
}

/// What a walk needs besides the graph, kept between walks so that they allocate nothing.
pub(crate) struct Scratch {
    pub visited: Visited,
    /// Rows still to expand, best first.
    open: BinaryHeap<Scored>,
    /// The best rows so far, worst first.
    beam: BinaryHeap<Reverse<Scored>>,
    /// The unvisited neighbours of the row being expanded.
    fresh: Box<[u32; MAX_LINKS]>,
    /// The quantised user.
    pub user: Vec<i8>,
}

impl Scratch {
    pub fn new(rows: usize) -> Scratch {
        Scratch {
            visited: Visited::new(rows),
            open: BinaryHeap::new(),
            beam: BinaryHeap::new(),
            fresh: Box::new([0; MAX_LINKS]),
            user: Vec::new(),
        }
    }

    /// Leaves the best `ef` nodes that a best-first search from `starts` comes to in [`Scratch::found`]
    /// (algorithm 2 of the HNSW paper).
    ///
    /// `links` are a node's neighbours, and `ahead` is called for a node shortly before them; `score` rates a node, higher
    /// is better, and `touch` is called for a node shortly before it. Each node is rated at most once, so the search
    /// ends whatever the links say.
    pub fn beam<L: Iterator<Item = u32>>(
        &mut self,
        ef: usize,
        starts: [u32; 2],
        (links, ahead): (impl Fn(u32) -> L, impl Fn(u32)),
        (score, touch): (impl Fn(u32) -> f32, impl Fn(u32)),
    ) {
        let Scratch { visited, open, beam, fresh, .. } = self;
        visited.clear();
        open.clear();
        beam.clear();
        for start in starts {
            if visited.insert(start) {
                let start = Scored::new(score(start), start);
                open.push(start);
                beam.push(Reverse(start));
            }
        }
        while beam.len() > ef {
            beam.pop();
        }
        while let Some(best) = open.pop() {
            let full = beam.len() >= ef;
            if full && beam.peek().is_some_and(|worst| best < worst.0) {
                break;
            }
            if let Some(next) = open.peek() {
                ahead(next.row());
            }
            // Every link is written and only new ones are counted: whether one is new cannot be predicted.
            let mut count = 0;
            for link in links(best.row()) {
                fresh[count] = link;
                count += usize::from(visited.insert(link));
            }
            let fresh = &fresh[..count];
            fresh.iter().for_each(|&row| touch(row));
            for &row in fresh {
                let scored = Scored::new(score(row), row);
                if beam.len() < ef {
                    beam.push(Reverse(scored));
                    open.push(scored);
                } else if let Some(mut worst) = beam.peek_mut()
                    && worst.0 < scored
                {
                    *worst = Reverse(scored);
                    open.push(scored);
                }
            }
        }
    }

    /// Takes what the last walk found, in no particular order.
    pub fn found(&mut self) -> impl ExactSizeIterator<Item = Scored> + '_ {
        self.beam.drain().map(|scored| scored.0)
    }
}

/// A set of rows that empties in O(1): a row is in it if its tag is the current one.
pub(crate) struct Visited {
    tags: Vec<u16>,
    current: u16,
}

impl Visited {
    fn new(rows: usize) -> Visited {
        Visited { tags: vec![0; rows], current: 0 }
    }

    pub fn clear(&mut self) {
        self.current = self.current.wrapping_add(1);
        // Once in 65,536 times tags of the round before could be taken for current ones.
        if self.current == 0 {
            self.tags.fill(0);
            self.current = 1;
        }
    }

    /// Adds `row`; whether it was not in the set before.
    #[inline(always)]
    pub fn insert(&mut self, row: u32) -> bool {
        std::mem::replace(&mut self.tags[row as usize], self.current) != self.current
    }
}

impl Graph<'_> {
    /// Leaves the best `ef` rows that a walk finds in [`Scratch::found`]: greedy descent through the upper layers, then
    /// [`Scratch::beam`] on the base layer, from where that ended and from the entry, which leads to every row.
    pub fn walk(&self, ef: usize, scratch: &mut Scratch, score: impl Fn(u32) -> f32, touch: impl Fn(u32)) {
        let starts = [self.descend(&score), self.entry];
        let links = |row| self.links(row);
        scratch.beam(ef, starts, (links, |row| prefetch(self.slots(row))), (score, touch));
    }

    /// From the entry down the upper layers, on each to where no neighbour is better.
    fn descend(&self, score: impl Fn(u32) -> f32) -> u32 {
        let Some(top) = self.layers_down().next() else { return self.entry };
        let mut node = top.rows.binary_search(&self.entry).unwrap_or(0) as u32;
        let mut row = self.entry;
        for layer in self.layers_down() {
            let Some(local) = layer.climb(node, self, &score) else { return self.entry };
            row = layer.below[local as usize];
            node = row;
        }
        if (row as usize) < self.rows() { row } else { self.entry }
    }
}

impl Layer<'_> {
    /// The node where a greedy walk from `node` ends, or `None` where the links lead out of the layer,
    /// as they only do in a damaged file. Each step improves the score, so the walk ends.
    fn climb(&self, node: u32, graph: &Graph<'_>, score: impl Fn(u32) -> f32) -> Option<u32> {
        let row_of = |node: u32| self.rows.get(node as usize).filter(|&&row| (row as usize) < graph.rows());
        let rated = |node: u32| row_of(node).map(|&row| Scored::new(score(row), node));
        let mut best = rated(node)?;
        loop {
            let links = &self.links[best.row() as usize * graph.m..][..graph.m];
            let better = links.iter().map_while(|&link| rated(link)).max().filter(|&found| found > best);
            match better {
                Some(found) => best = found,
                None => return Some(best.row()),
            }
        }
    }
}
