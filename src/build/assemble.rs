//! From the rows of a dump to an index file: their order, the id table, the graph, the partitions, the
//! header.

use std::time::{Duration, Instant};

use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::graph::Made;
use super::measure::{TARGET, Users};
use super::previous::Previous;
use super::rows::{ROWS_A_TICK, RowWriter};
use super::{BuildReport, IndexBuilder, Quantization, measure, order};
use crate::calibration::CALIBRATED_K;
use crate::columns::{Column, Encoded};
use crate::file::{FileWriter, Header, map_rows};
use crate::ids::{Duplicate, IdTable};
use crate::partitions::{self, Clustering, OwnedPartitions, Searched, clusters_for, section_sizes};
use crate::progress::{Stage, Watch};
use crate::vectors::{Matrix, QuantizedRows, Rows};
use crate::{Error, Result};

impl IndexBuilder {
    /// Makes the index file of rows that have been written in the order of the dump.
    pub(super) fn finish(
        &self,
        written: RowWriter,
        previous: Option<&Previous>,
        started: Instant,
    ) -> Result<BuildReport> {
        let watch = self.watch();
        let format = written.format;
        let threads = self.fitting_threads(written.ids.len() as u64, written.dim)?;
        let Placed { mut file, dim, ids, table, squared_norms, counts, order } =
            self.place(written.finish()?, threads, &watch)?;
        let rows_time = started.elapsed();
        let total = ids.len();
        let out = file.out().to_owned();
        let mapped = map_rows(file.flushed()?, total * format.row_bytes(dim), &out)?;
        let rows = Rows::stored(mapped.bytes(), format, dim);
        let (measuring, linked_for) = measure::split(self.users.as_ref(), total);
        let users = Users { measuring: &measuring, linked_for: &linked_for };
        let (quantized, made) = match self.builds_graph() {
            true => {
                let (quantized, made) =
                    self.graph(rows, &squared_norms, users, (previous, table.map(total)), (threads, &watch))?;
                (quantized, Some(made))
            }
            false => {
                let quantized = self.quantization != Some(Quantization::None);
                (quantized.then(|| QuantizedRows::of(rows)), None)
            }
        };
        let graph_time = started.elapsed() - rows_time;
        let partitions = match counts {
            Some(counts) => Some(self.partitions(rows, quantized.as_ref(), &counts, (threads, &watch))?),
            None => None,
        };

        watch.tick(Stage::Publish, 0, total)?;
        let mut header = Header::new(&self.model_version)?;
        header.set_row_format(format);
        header.dim = dim as u32;
        header.rows = total as u64;
        header.m = self.m as u32;
        header.ef_construction = self.ef_construction as u32;
        header.builder = self.builder as u32;
        header.without_graph = made.is_none().into();
        header.id_buckets = table.table.len() as u64;
        header.id_seed = table.seed;
        header.quantized = quantized.is_some().into();
        if let Some(Made { graph, augmentation, calibration, scored_a_place, secluded, linked, .. }) = &made {
            header.secluded = *secluded as u32;
            header.linked = *linked as u32;
            header.entry = graph.entry;
            header.layer_nodes[..graph.layer_nodes.len()].copy_from_slice(&graph.layer_nodes);
            header.augmentation = *augmentation;
            header.calibration = *calibration;
            header.scored_a_place = *scored_a_place;
        }
        if let Some((partitions, calibration, limits, margin)) = &partitions {
            header.groups = partitions.groups.len() as u32;
            header.blocks = (partitions.codes.len() as u64 / section_sizes(dim).block) as u32;
            (header.partitions, header.limits, header.far_margin) = (*calibration, *limits, *margin);
        }
        let (values, scales) = quantized.map_or_else(Default::default, |rows| (rows.values, rows.scales));
        file.write_section(&values)?;
        file.write_section(&scales)?;
        file.write_section(&ids)?;
        file.write_section(table.table.as_flattened())?;
        let graph = made.as_ref().map(|made| &made.graph);
        file.write_section(graph.map_or(&[][..], |graph| &graph.base))?;
        file.write_section(graph.map_or(&[][..], |graph| &graph.upper))?;
        let partitions = partitions.map(|(partitions, ..)| partitions);
        let partitions = partitions.as_ref().map(OwnedPartitions::view).unwrap_or_default();
        file.write_section(partitions.groups)?;
        file.write_section(partitions.moments)?;
        file.write_section(partitions.units)?;
        file.write_section(partitions.codes)?;
        write_columns(&mut file, &self.columns, &order)?;
        watch.tick(Stage::Publish, total, total)?;
        let bytes = file.publish(header)?;
        let total_time = started.elapsed();
        let times = [rows_time, graph_time, total_time];
        Ok(report([total as u64, bytes], dim, made, times))
    }

    /// Writes the rows once more, in the order in which the index is to hold them.
    fn place(&self, mut written: RowWriter, threads: usize, watch: &Watch<'_>) -> Result<Placed> {
        let (dim, total, format) = (written.dim, written.ids.len(), written.format);
        let mut file = FileWriter::create(written.file.out())?;
        let out = file.out().to_owned();
        let mapped = map_rows(written.file.flushed()?, total * format.row_bytes(dim), &out)?;
        let rows = Rows::stored(mapped.bytes(), format, dim);
        self.columns.iter().try_for_each(|column| column.check_rows(written.read as usize))?;
        watch.tick(Stage::Order, 0, total)?;
        let (order, counts) = match self.builds_partitions(total) {
            true => {
                let clustering = Clustering::of(rows, clusters_for(total, dim), threads, watch)?;
                (clustering.order, Some(clustering.counts))
            }
            false => (order::near_together(rows, threads), None),
        };
        let ids: Vec<u64> = order.iter().map(|&row| written.ids[row as usize]).collect();
        let table = IdTable::build(&ids).map_err(|Duplicate { id, first, second }| {
            let [a, b] = [first, second].map(|place| written.place_in_dump(order[place as usize]));
            Error::DuplicateId { origin: written.id_origin.clone(), id, first: a.min(b), second: a.max(b) }
        })?;
        for (number, chunk) in order.chunks(ROWS_A_TICK).enumerate() {
            watch.tick(Stage::Order, number * ROWS_A_TICK, total)?;
            chunk.iter().try_for_each(|&row| file.write(rows.bytes(row)))?;
        }
        watch.tick(Stage::Order, total, total)?;
        file.end_section()?;
        let squared_norms = order.iter().map(|&row| written.squared_norms[row as usize]).collect();
        // A column has as many values as the dump has rows, and its rows are numbered by 32 bits.
        let order = order.into_iter().map(|row| written.place_in_dump(row) as u32).collect();
        Ok(Placed { file, dim, ids, table, squared_norms, counts, order })
    }

    /// Codes the rows, which stand cluster by cluster, and measures what searches by them have to read.
    fn partitions(
        &self,
        rows: Rows<'_>,
        quantized: Option<&QuantizedRows>,
        counts: &[u32],
        (threads, watch): (usize, &Watch<'_>),
    ) -> Result<(OwnedPartitions, partitions::Calibration, partitions::Limits, f32)> {
        watch.tick(Stage::Codes, 0, rows.len())?;
        let made = OwnedPartitions::build(rows, counts, threads);
        watch.tick(Stage::Codes, rows.len(), rows.len())?;
        let numbers: Vec<u64> = (0..rows.len() as u64).collect();
        let quantized = quantized.map(QuantizedRows::view);
        let searched = Searched { partitions: made.view(), rows, ids: &numbers, quantized };
        // Partitions are made without users, so that none has to be kept out.
        let users: Vec<&[f32]> = self.users.iter().flat_map(Matrix::rows).collect();
        let queries = measure::queries(rows, &users, partitions::measuring(rows.len()));
        let mut queries: Vec<(usize, &[f32])> = queries.iter().map(Vec::as_slice).enumerate().collect();
        // What the first measure alone shall not depend on how the sample is sorted.
        queries.sort_by_key(|(number, _)| xxh3_64(&number.to_le_bytes()));
        let queries: Vec<&[f32]> = queries.into_iter().map(|(_, query)| query).collect();
        let (calibration, limits) = partitions::calibrate(&searched, &queries, threads, watch)?;
        let margin = partitions::margin(&searched, &queries, &calibration, threads, watch)?;
        Ok((made, calibration, limits, margin))
    }
}

/// Writes the sections of columns, of rows in the given order of those of the dump.
fn write_columns(file: &mut FileWriter, columns: &[Column], order: &[u32]) -> Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    let (mut entries, mut end) = (Vec::new(), 0);
    for column in columns {
        let Encoded { entry, bytes } = Encoded::of(column, order, end);
        file.write(&bytes)?;
        entries.push(entry);
        end += bytes.len() as u64;
    }
    file.end_section()?;
    file.write_section(&entries)
}

/// Rows in their final order, written, and what belongs to them.
struct Placed {
    file: FileWriter,
    dim: usize,
    ids: Vec<u64>,
    table: IdTable,
    squared_norms: Vec<f32>,
    /// How many rows each cluster has, if there are partitions.
    counts: Option<Vec<u32>>,
    /// Where each row stands in the dump.
    order: Vec<u32>,
}

/// `made` is the graph, if there is one.
fn report(
    [rows, bytes]: [u64; 2],
    dim: usize,
    made: Option<Made>,
    [rows_time, graph_time, total_time]: [Duration; 3],
) -> BuildReport {
    let count = |count: fn(&Made) -> usize| made.as_ref().map_or(0, |made| count(made) as u64);
    let calibration = made.as_ref().map(|made| made.calibration);
    let report = BuildReport {
        rows,
        dim,
        bytes,
        copies: count(|made| made.copies),
        secluded: count(|made| made.secluded),
        linked: count(|made| made.linked),
        augmentation: made.as_ref().map_or(0.0, |made| made.augmentation),
        choice: made.as_ref().map(|made| made.choice),
        beams: CALIBRATED_K.map(|k| calibration.and_then(|calibration| calibration.ef(k, TARGET))),
        calibration: calibration.map_or_else(Vec::new, |calibration| calibration.points().collect()),
        renewed: count(|made| made.renewed),
        cold: made.as_ref().and_then(|made| made.cold.clone()),
        trials: made.map_or_else(Vec::new, |made| made.trials),
        rows_time,
        graph_time,
        total_time,
    };
    let BuildReport { copies, secluded, linked, augmentation, .. } = report;
    info!(rows, dim, bytes, copies, secluded, linked, augmentation, ?total_time, "built an index");
    report.warnings().iter().for_each(|warning| warn!("{warning}"));
    report
}
