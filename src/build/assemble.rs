//! From the rows of a dump to an index file: their order, the id table, the graph, the header.

use std::time::Instant;

use super::measure::GroundTruth;
use super::rows::{ROWS_A_TICK, RowWriter};
use super::{BuildReport, IndexBuilder, Quantization, measure, order, space};
use crate::calibration::Calibration;
use crate::file::{FileWriter, Header, map_rows};
#[cfg(feature = "hnsw_rs")]
use crate::graph::hnsw_rs;
use crate::graph::repair::{Copies, connect};
use crate::graph::{OwnedGraph, Parameters, native, users};
use crate::ids::{Duplicate, IdTable};
use crate::index::Builder;
use crate::progress::{Stage, Watch};
use crate::vectors::{Augmented, QuantizedRows, Rows, stride_of};
use crate::{Error, Result};

impl IndexBuilder {
    /// Makes the index file of rows that have been written in the order of the dump.
    pub(super) fn finish(&self, written: RowWriter, started: Instant) -> Result<BuildReport> {
        let watch = self.watch();
        let Placed { mut file, dim, ids, table, squared_norms } = self.place(written.finish()?, &watch)?;
        let rows_time = started.elapsed();
        let total = ids.len();
        let Made { graph, quantized, augmentation, calibration, copies, linked } =
            self.graph(&mut file, dim, &squared_norms, &watch)?;
        let graph_time = started.elapsed() - rows_time;

        watch.tick(Stage::Publish, 0, total)?;
        let mut header = Header::new(&self.model_version)?;
        header.dim = dim as u32;
        header.rows = total as u64;
        header.m = graph.m as u32;
        header.ef_construction = self.ef_construction as u32;
        header.builder = self.builder as u32;
        header.entry = graph.entry;
        header.id_buckets = table.table.len() as u64;
        header.id_seed = table.seed;
        header.layer_nodes[..graph.layer_nodes.len()].copy_from_slice(&graph.layer_nodes);
        header.quantized = quantized.is_some().into();
        header.augmentation = augmentation;
        header.calibration = calibration;
        let (values, scales) = quantized.map_or_else(Default::default, |rows| (rows.values, rows.scales));
        file.write_section(&values)?;
        file.write_section(&scales)?;
        file.write_section(&ids)?;
        file.write_section(table.table.as_flattened())?;
        file.write_section(&graph.base)?;
        file.write_section(&graph.upper)?;
        watch.tick(Stage::Publish, total, total)?;
        let bytes = file.publish(header)?;
        let total_time = started.elapsed();
        tracing::info!(rows = total, dim, bytes, copies, linked, ?total_time, "built an index");
        Ok(BuildReport { rows: total as u64, dim, bytes, copies, linked, rows_time, graph_time, total_time })
    }

    /// Writes the rows once more, in the order in which the index is to hold them.
    fn place(&self, mut written: RowWriter, watch: &Watch<'_>) -> Result<Placed> {
        let (dim, total) = (written.dim, written.ids.len());
        let mut file = FileWriter::create(written.file.out())?;
        let out = file.out().to_owned();
        let mapped = map_rows(written.file.flushed()?, total * stride_of(dim), &out)?;
        let rows = Rows::new(mapped.values(), dim);
        watch.tick(Stage::Order, 0, total)?;
        let order = order::near_together(rows, self.threads);
        let ids: Vec<u64> = order.iter().map(|&row| written.ids[row as usize]).collect();
        let table = IdTable::build(&ids).map_err(|Duplicate { id, first, second }| {
            let [a, b] = [first, second].map(|place| u64::from(order[place as usize]));
            Error::DuplicateId { origin: written.id_origin.clone(), id, first: a.min(b), second: a.max(b) }
        })?;
        for (number, chunk) in order.chunks(ROWS_A_TICK).enumerate() {
            watch.tick(Stage::Order, number * ROWS_A_TICK, total)?;
            chunk.iter().try_for_each(|&row| file.write(rows.padded(row)))?;
        }
        watch.tick(Stage::Order, total, total)?;
        file.end_section()?;
        let squared_norms = order.iter().map(|&row| written.squared_norms[row as usize]).collect();
        Ok(Placed { file, dim, ids, table, squared_norms })
    }

    fn graph(
        &self,
        file: &mut FileWriter,
        dim: usize,
        squared_norms: &[f32],
        watch: &Watch<'_>,
    ) -> Result<Made> {
        let total = squared_norms.len();
        let out = file.out().to_owned();
        let mapped = map_rows(file.flushed()?, total * stride_of(dim), &out)?;
        let rows = Rows::new(mapped.values(), dim);
        let (measuring, linked_for) = measure::split(self.users.as_ref(), total);
        let truth = GroundTruth::new(rows, &measuring, self.threads, watch)?;
        let quantized = match self.quantization {
            Some(Quantization::None) => None,
            Some(Quantization::I8) => Some(QuantizedRows::of(rows)),
            None => Some(QuantizedRows::of(rows)).filter(|quantized| truth.loses_nothing(quantized.view())),
        };
        let walked = quantized.as_ref().map(QuantizedRows::view);
        let parameters =
            Parameters { m: self.m, ef_construction: self.ef_construction, threads: self.threads };
        let augmentation = match self.builder {
            Builder::Native => space::choose(
                rows,
                squared_norms,
                walked.is_some(),
                (&measuring, &linked_for),
                &parameters,
                watch,
            )?,
            #[cfg(feature = "hnsw_rs")]
            Builder::HnswRs => 1.0,
        };
        let space = Augmented::new(rows, walked, squared_norms, augmentation);
        let copies = Copies::find(rows);
        let originals = copies.originals(total as u32);
        let mut graph = match self.builder {
            Builder::Native => {
                let mut graph = native::build(&space, &originals, &parameters, watch)?;
                users::link(&mut graph, rows, walked, &linked_for, self.threads, watch)?;
                graph
            }
            #[cfg(feature = "hnsw_rs")]
            Builder::HnswRs => hnsw_rs::build(&space, &originals, &parameters, watch)?,
        };
        copies.attach(&mut graph);
        let linked = connect(&mut graph, &space, watch)?;
        let calibration = truth.calibrate(graph.view(), walked, watch)?;
        let (copies, linked) = (copies.len() as u64, linked as u64);
        Ok(Made { graph, quantized, augmentation, calibration, copies, linked })
    }
}

/// Rows in their final order, written, and what belongs to them.
struct Placed {
    file: FileWriter,
    dim: usize,
    ids: Vec<u64>,
    table: IdTable,
    squared_norms: Vec<f32>,
}

/// What a build makes of the rows.
struct Made {
    graph: OwnedGraph,
    quantized: Option<QuantizedRows>,
    augmentation: f32,
    calibration: Calibration,
    copies: u64,
    linked: u64,
}
