//! The builder that stands on the `hnsw_rs` crate.

use hnsw_rs::prelude::{Distance, Hnsw};
use rayon::ThreadPoolBuilder;

use super::{NONE, OwnedGraph, Parameters};
use crate::file::MAX_LAYERS;
use crate::progress::{Stage, Watch};
use crate::vectors::Augmented;
use crate::{Error, Result};

/// Rows inserted one after the other before threads take over: among very few rows, two that are inserted at
/// once may not see each other and stay unlinked.
const SERIAL: usize = 512;

/// Rows inserted between two looks at progress and cancellation.
const CHUNK: usize = 4096;

/// Builds a graph over the rows `members` of `space`; the others stay without links.
pub(crate) fn build(
    space: &Augmented<'_>,
    members: &[u32],
    parameters: &Parameters,
    watch: &Watch<'_>,
) -> Result<OwnedGraph> {
    let Parameters { m, ef_construction, threads } = *parameters;
    let hnsw = Hnsw::new(m, members.len(), MAX_LAYERS + 1, ef_construction, ByRow(space));
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| Error::BadOption {
        option: "threads",
        problem: format!("{threads} could not be started: {error}"),
    })?;
    let (serial, rest) = members.split_at(members.len().min(SERIAL));
    for row in serial {
        hnsw.insert((std::slice::from_ref(row), *row as usize));
    }
    for (number, chunk) in rest.chunks(CHUNK).enumerate() {
        watch.tick(Stage::Graph, SERIAL + number * CHUNK, members.len())?;
        let chunk: Vec<(&[u32], usize)> =
            chunk.iter().map(|row| (std::slice::from_ref(row), *row as usize)).collect();
        match threads {
            // One thread inserts in order, and so gives the same graph every time.
            1 => chunk.into_iter().for_each(|row| hnsw.insert(row)),
            _ => pool.install(|| hnsw.parallel_insert_slice(&chunk)),
        }
    }
    watch.tick(Stage::Graph, members.len(), members.len())?;
    Ok(freeze(&hnsw, space))
}

/// hnsw_rs would copy every vector; it is given row numbers instead, and measures them in our space.
struct ByRow<'a>(&'a Augmented<'a>);

impl Distance<u32> for ByRow<'_> {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        self.0.distance(a[0], b[0])
    }
}

fn freeze(hnsw: &Hnsw<'_, u32, ByRow<'_>>, space: &Augmented<'_>) -> OwnedGraph {
    let m = hnsw.get_max_nb_connection() as usize;
    let points = hnsw.get_point_indexation();
    let top = usize::from(points.get_max_level_observed());
    let mut base = vec![NONE; space.rows() * 2 * m];
    let mut links = vec![Vec::new(); top];
    for level in 0..=top {
        for point in points.get_layer_iterator(level) {
            let row = point.get_origin_id();
            let neighbours = point.get_neighborhood_id();
            // A row's list on a layer may name rows that do not stand there, left from its descent.
            let on = |layer: usize| {
                let standing =
                    neighbours[layer].iter().filter(move |other| usize::from(other.p_id.0) >= layer);
                standing.map(|other| other.d_id as u32).filter(move |&other| other as usize != row)
            };
            base[row * 2 * m..][..2 * m].iter_mut().zip(on(0)).for_each(|(slot, link)| *slot = link);
            for layer in 1..=level {
                links[layer - 1].push((row as u32, on(layer).take(m).collect::<Vec<u32>>()));
            }
        }
    }
    let layers = links.into_iter().map(|layer| by_row(layer, m)).collect();
    OwnedGraph::new(entry(hnsw, space), m, base, layers)
}

/// The row of the largest norm on the top layer: large norms are near most users.
fn entry(hnsw: &Hnsw<'_, u32, ByRow<'_>>, space: &Augmented<'_>) -> u32 {
    let points = hnsw.get_point_indexation();
    let top = points.get_layer_iterator(usize::from(points.get_max_level_observed()));
    top.map(|point| point.get_origin_id() as u32)
        .max_by(|&a, &b| space.squared_norm(a).total_cmp(&space.squared_norm(b)).then(b.cmp(&a)))
        .expect("the top layer has a row")
}

/// The rows of a layer, ascending, and their link slots.
fn by_row(mut layer: Vec<(u32, Vec<u32>)>, m: usize) -> (Vec<u32>, Vec<u32>) {
    layer.sort_unstable_by_key(|(row, _)| *row);
    let rows: Vec<u32> = layer.iter().map(|(row, _)| *row).collect();
    let mut slots = Vec::with_capacity(rows.len() * m);
    for (number, (_, links)) in layer.iter().enumerate() {
        slots.extend(links.iter().filter(|link| rows.binary_search(link).is_ok()));
        slots.resize((number + 1) * m, NONE);
    }
    (rows, slots)
}
