//! The graph over the rows: its frozen form, the walk over it, and how it is made.
//!
//! # Overview of types
//!
//! - [`Graph`] is what is searched: slices of links, borrowed from the file or from a builder.
//! - [`OwnedGraph`] is what a builder hands over, before it is written.
//! - [`Scratch`] is what one walk needs and the next one reuses.
//!
//! A graph is an HNSW (Malkov and Yashunin, TPAMI 2020): every row has `2 * m` link slots in the base layer;
//! a geometrically thinning share of the rows stands in upper layers too, with `m` slots each, so that a walk
//! comes near its goal in few steps. Only the base layer decides what can be found: every row is reachable
//! from the entry along base links, which [`repair::connect`] sees to.

#[cfg(feature = "hnsw_rs")]
pub(crate) mod hnsw_rs;
pub(crate) mod native;
pub(crate) mod repair;
mod search;
pub(crate) mod secluded;
pub(crate) mod seeds;
mod sweep;
pub(crate) mod users;
mod walk;

pub(crate) use crate::ids::NONE;
pub(crate) use search::{kept, score_again, search, walk};
pub(crate) use sweep::{Sweep, sweep};
pub(crate) use walk::{Beam, Scored, Scratch};

use crate::file::MAX_LAYERS;
use crate::vectors::prefetch;

/// A graph that can be walked.
#[derive(Clone, Copy)]
pub(crate) struct Graph<'a> {
    entry: u32,
    m: usize,
    rows: u32,
    base: &'a [u32],
    layers: [Layer<'a>; MAX_LAYERS],
    height: usize,
}

/// An upper layer. A node is an index into it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Layer<'a> {
    /// The row of each node, ascending.
    pub rows: &'a [u32],
    /// Each node's node in the layer below; in the lowest upper layer, its row.
    pub below: &'a [u32],
    /// `m` link slots a node, each a node of this layer or [`NONE`].
    pub links: &'a [u32],
}

impl<'a> Graph<'a> {
    /// A graph over `base`, without upper layers.
    pub fn new(entry: u32, m: usize, base: &'a [u32]) -> Graph<'a> {
        let rows = (base.len() / (2 * m)) as u32;
        Graph { entry, m, rows, base, layers: [Layer::default(); MAX_LAYERS], height: 0 }
    }

    /// The same with the upper layers of `layer_nodes` nodes each, which lie one after the other in `values`.
    pub fn with_layers(mut self, layer_nodes: &[u32], mut values: &'a [u32]) -> Graph<'a> {
        for (layer, &nodes) in self.layers.iter_mut().zip(layer_nodes) {
            let nodes = nodes as usize;
            let (rows, rest) = values.split_at(nodes);
            let (below, rest) = rest.split_at(nodes);
            let (links, rest) = rest.split_at(nodes * self.m);
            *layer = Layer { rows, below, links };
            values = rest;
        }
        self.height = layer_nodes.len();
        self
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// The link slots of `row` in the base layer: used ones first, then [`NONE`].
    #[inline(always)]
    pub fn slots(&self, row: u32) -> &'a [u32] {
        let stride = 2 * self.m;
        &self.base[row as usize * stride..][..stride]
    }

    /// The links of `row` in the base layer, up to the first slot that names no row.
    #[inline(always)]
    pub fn links(&self, row: u32) -> impl Iterator<Item = u32> + use<'a> {
        let rows = self.rows;
        self.slots(row).iter().copied().take_while(move |&link| link < rows)
    }

    /// Asks for the link slots of `row` in the base layer ahead of their use.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        let stride = 2 * self.m;
        prefetch(self.base, row as usize * stride, stride);
    }

    /// The upper layers from the top down.
    pub fn layers_down(&self) -> impl Iterator<Item = &Layer<'a>> {
        self.layers[..self.height].iter().rev()
    }

    /// Checks what walking relies on but does not prove. `Err` says what, and at which value.
    pub fn verify(&self) -> Result<(), Flaw> {
        for row in 0..self.rows() as u32 {
            let at = row as usize * 2 * self.m;
            check_slots(self.slots(row), self.rows(), row).map_err(|problem| Flaw::base(at, problem))?;
        }
        self.verify_layers()?;
        match self.unreachable() {
            0 => Ok(()),
            rows => Err(Flaw::base(0, format!("{rows} rows cannot be reached from the entry"))),
        }
    }

    /// How many rows a walk from the entry along base links cannot come to.
    pub fn unreachable(&self) -> usize {
        let mut reached = vec![false; self.rows()];
        let mut open = vec![self.entry];
        reached[self.entry as usize] = true;
        while let Some(row) = open.pop() {
            for link in self.links(row) {
                if !std::mem::replace(&mut reached[link as usize], true) {
                    open.push(link);
                }
            }
        }
        reached.iter().filter(|&&reached| !reached).count()
    }

    fn verify_layers(&self) -> Result<(), Flaw> {
        let mut start = 0;
        for (number, layer) in self.layers[..self.height].iter().enumerate() {
            let nodes = layer.rows.len();
            if layer.rows.binary_search(&self.entry).is_err() {
                return Err(Flaw::upper(
                    start,
                    format!("the entry does not stand on upper layer {}", number + 1),
                ));
            }
            for node in 0..nodes {
                let row = layer.rows[node];
                let ascending = node == 0 || layer.rows[node - 1] < row;
                let under = layer.below[node] as usize;
                let stands_on_itself = match number {
                    0 => under < self.rows() && under as u32 == row,
                    _ => self.layers[number - 1].rows.get(under) == Some(&row),
                };
                if !ascending || !stands_on_itself {
                    let problem =
                        format!("node {node} of upper layer {} does not stand on its row", number + 1);
                    return Err(Flaw::upper(start + node, problem));
                }
                let slots = &layer.links[node * self.m..][..self.m];
                check_slots(slots, nodes, node as u32)
                    .map_err(|problem| Flaw::upper(start + 2 * nodes + node * self.m, problem))?;
            }
            start += nodes * (2 + self.m);
        }
        Ok(())
    }
}

/// What is wrong with a graph, and at which of its values.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub layers: Layers,
    /// Counted as [`OwnedGraph::base`] and [`OwnedGraph::upper`] are, which a file holds as they are.
    pub value: usize,
    pub problem: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layers {
    Base,
    Upper,
}

impl Flaw {
    fn base(value: usize, problem: String) -> Flaw {
        Flaw { layers: Layers::Base, value, problem }
    }

    fn upper(value: usize, problem: String) -> Flaw {
        Flaw { layers: Layers::Upper, value, problem }
    }
}

fn check_slots(slots: &[u32], nodes: usize, this: u32) -> Result<(), String> {
    let used = slots.iter().position(|&link| link == NONE).unwrap_or(slots.len());
    let (links, unused) = slots.split_at(used);
    if unused.iter().any(|&link| link != NONE) {
        return Err(format!("the links of {this} go on behind an unused slot"));
    }
    for (at, &link) in links.iter().enumerate() {
        if link as usize >= nodes {
            return Err(format!("{this} links to {link}, of {nodes}"));
        }
        if link == this || links[..at].contains(&link) {
            return Err(format!("{this} links to {link} twice or to itself"));
        }
    }
    Ok(())
}

/// What a builder is asked for.
pub(crate) struct Parameters {
    pub m: usize,
    pub ef_construction: usize,
    pub threads: usize,
}

/// A graph in a builder's hands.
pub(crate) struct OwnedGraph {
    pub entry: u32,
    pub m: usize,
    /// `2 * m` link slots a row, as in the file.
    pub base: Vec<u32>,
    /// The nodes of each upper layer from the lowest up, and their values as in the file.
    pub layer_nodes: Vec<u32>,
    pub upper: Vec<u32>,
}

impl OwnedGraph {
    /// A graph of a base layer and upper layers, from the lowest up: the rows of each layer, ascending, and
    /// `m` link slots a row, each a row of that layer or [`NONE`].
    pub fn new(entry: u32, m: usize, base: Vec<u32>, layers: Vec<(Vec<u32>, Vec<u32>)>) -> OwnedGraph {
        let (mut layer_nodes, mut upper) = (Vec::new(), Vec::new());
        let node_on = |rows: &[u32], row: u32| rows.binary_search(&row).expect("a row of the layer") as u32;
        for (number, (rows, links)) in layers.iter().enumerate() {
            let below =
                |&row: &u32| number.checked_sub(1).map_or(row, |below| node_on(&layers[below].0, row));
            upper.extend(rows);
            upper.extend(rows.iter().map(below));
            upper.extend(links.iter().map(|&link| if link == NONE { NONE } else { node_on(rows, link) }));
            layer_nodes.push(rows.len() as u32);
        }
        OwnedGraph { entry, m, base, layer_nodes, upper }
    }

    pub fn view(&self) -> Graph<'_> {
        Graph::new(self.entry, self.m, &self.base).with_layers(&self.layer_nodes, &self.upper)
    }

    pub fn slots_mut(&mut self, row: u32) -> &mut [u32] {
        let stride = 2 * self.m;
        &mut self.base[row as usize * stride..][..stride]
    }
}
