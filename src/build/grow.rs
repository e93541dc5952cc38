//! A graph of the native builder, grown from its rows until every row is reached: the index's own, and trials.

use crate::Result;
use crate::graph::repair::{Copies, connect};
use crate::graph::seeds::Seeds;
use crate::graph::{OwnedGraph, Parameters, native, secluded, users};
use crate::progress::Watch;
use crate::vectors::{Augmented, Quantized, Rows};

/// A graph that reaches every row.
pub(super) struct Grown {
    pub graph: OwnedGraph,
    pub secluded: usize,
    pub linked: usize,
}

/// The graph of the native builder over the rows of `space`, with links for `users`, in which every row is
/// reached.
pub(super) fn grow(
    space: Augmented<'_>,
    copies: &Copies,
    seeds: Option<&Seeds<'_>>,
    (rows, quantized, users): (Rows<'_>, Option<Quantized<'_>>, &[&[f32]]),
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<Grown> {
    let originals = copies.originals(rows.len() as u32);
    let mut graph = native::build(&space, &originals, seeds, parameters, watch)?;
    let space = space.at(1.0);
    let secluded = secluded::link(&mut graph, &space, &originals, parameters.threads, watch)?;
    users::link(&mut graph, rows, quantized, users, parameters.threads, watch)?;
    copies.attach(&mut graph);
    let linked = connect(&mut graph, &space, watch)?;
    Ok(Grown { graph, secluded, linked })
}
