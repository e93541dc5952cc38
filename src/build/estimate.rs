//! What a build is expected to take, before it is begun.

use std::time::Duration;

use super::{IndexBuilder, Quantization, space};
use crate::columns::Encoded;
use crate::file::{Header, PAGE};
use crate::graph::native;
use crate::ids::table_size;
use crate::index::Builder;
use crate::limits::MAX_ROWS;
use crate::partitions::{clusters_for, section_sizes};
use crate::vectors::{RowFormat, quantized_stride};
use crate::{Error, Result};

/// What a build holds however few rows there are: batches of the dump, trial graphs, what calibration asks.
const FIXED: u64 = 48 << 20;

/// What links that a sampled user proposes take until they are made.
const A_USER: u64 = 3_300;

/// How many times as long as a row of the graph a row of a trial graph takes: walks over it are measured too.
const TRIED: f64 = 1.5;

/// What the crate hnsw_rs holds for a row.
#[cfg(feature = "hnsw_rs")]
const HNSW_RS: u64 = 2_500;

/// What a build is expected to take ([`IndexBuilder::estimate`]).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Rows in the index.
    pub rows: u64,
    /// Values an embedding.
    pub dim: usize,
    /// How the index keeps them.
    pub format: RowFormat,
    /// The sections of the file with their lengths in bytes, in the file's order.
    pub sections: Vec<(&'static str, u64)>,
    /// The file's length in bytes.
    pub file: u64,
    /// The most bytes that the build has on the disk, in the folder of the file.
    pub disk: u64,
    /// The most memory that the build holds for itself, in bytes: up to a third more than builds of 250,000 and of
    /// 1,000,000 rows held. The system also keeps pages of the file, and takes them back where memory is short.
    pub memory: u64,
    /// The threads of the build: fewer than were asked for where more do not fit into the memory allowed.
    pub threads: usize,
    /// How long it takes, about, on as many cores of a server processor of 2024.
    pub time: Duration,
}

impl IndexBuilder {
    /// What a build of so many rows is expected to take. It reads and writes nothing.
    ///
    /// The length of the file is exact for a graph over rows of which no two are equal. With partitions it is off by
    /// a percent or less, since clusters fill their last block by chance. Where the build is to find out whether
    /// `i8` rows cost recall, they are expected to stay. A shard is expected to have its share of the rows.
    ///
    /// ```
    /// use itemdex::{IndexBuilder, RowFormat};
    ///
    /// let expected = IndexBuilder::new("v1").estimate(1_000_000, 64, RowFormat::F16)?;
    /// assert_eq!(expected.sections[0], ("rows", 128_000_000));
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadOption`] for this builder's options, for no rows or more than an index holds, and where the build
    /// would not fit into [`IndexBuilder::memory`].
    pub fn estimate(&self, rows: u64, dim: usize, format: RowFormat) -> Result<Estimate> {
        self.check(dim)?;
        let of_dump = rows;
        let rows = self.share_of(of_dump);
        if !(1..=MAX_ROWS).contains(&rows) {
            let problem = format!("{rows} is not within 1 to {MAX_ROWS}");
            return Err(Error::BadOption { option: "rows", problem });
        }
        let format = self.rows.unwrap_or(format);
        let threads = self.fitting_threads(rows, dim)?;
        let header = self.expected_header(rows, dim, format)?;
        let length = |section| header.section_length(section);
        let mut sections: Vec<_> =
            header.sections().iter().map(|&section| (section.name(), length(section))).collect();
        sections.extend(self.expected_columns(of_dump as usize, rows)?);
        let file = PAGE + sections.iter().map(|(_, bytes)| bytes.next_multiple_of(PAGE)).sum::<u64>();
        // The rows stand on the disk twice until they are in order.
        let disk = file.max(PAGE + 2 * sections[0].1.next_multiple_of(PAGE));
        let memory = self.expected_memory(rows, dim, threads);
        let time = self.expected_time(rows, dim, threads);
        Ok(Estimate { rows, dim, format, sections, file, disk, memory, threads, time })
    }

    /// How many rows of a dump are expected in the shard, if there is one.
    pub(super) fn share_of(&self, rows: u64) -> u64 {
        self.shard.map_or(rows, |shard| rows.div_ceil(shard.of().into()))
    }

    /// How many threads fit into the memory allowed, at most those of the builder.
    pub(super) fn fitting_threads(&self, rows: u64, dim: usize) -> Result<usize> {
        let Some(allowed) = self.memory else { return Ok(self.threads) };
        let fits = |&threads: &usize| self.expected_memory(rows, dim, threads) <= allowed;
        (1..=self.threads).rev().find(fits).ok_or_else(|| {
            let least = self.expected_memory(rows, dim, 1);
            let problem = format!(
                "a build of {rows} rows of dim {dim} is expected to take {} with one thread, but {} are allowed; \
                 allow more, leave plans out, or build shards",
                mebibytes(least),
                mebibytes(allowed)
            );
            Error::BadOption { option: "memory", problem }
        })
    }

    /// The header as far as the lengths of sections follow from it.
    fn expected_header(&self, rows: u64, dim: usize, format: RowFormat) -> Result<Header> {
        let mut header = Header::new(&self.model_version)?;
        header.set_row_format(format);
        (header.rows, header.dim, header.m) = (rows, dim as u32, self.m as u32);
        header.id_buckets = table_size(rows);
        header.quantized = self.keeps_i8().into();
        header.without_graph = (!self.builds_graph()).into();
        if self.builds_graph() {
            header.layer_nodes = native::layer_nodes(rows as u32, self.m);
        }
        if self.builds_partitions(rows as usize) {
            let clusters = clusters_for(rows as usize, dim) as u64;
            header.groups = clusters.div_ceil(16) as u32;
            // The last block of a cluster lacks 7.5 rows of 16 on average.
            header.blocks = ((2 * rows + 15 * clusters) / 32) as u32;
        }
        Ok(header)
    }

    fn expected_columns(&self, of_dump: usize, rows: u64) -> Result<Vec<(&'static str, u64)>> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let order: Vec<u32> = (0..rows as u32).collect();
        let (mut end, mut entries) = (0, 0);
        for column in &self.columns {
            column.check_rows(of_dump)?;
            let Encoded { entry, bytes } = Encoded::of(column, &order, end);
            end += bytes.len() as u64;
            entries += size_of_val(&entry) as u64;
        }
        Ok(vec![("columns", end), ("column_directory", entries)])
    }

    /// The most memory that any part of the build holds.
    fn expected_memory(&self, rows: u64, dim: usize, threads: usize) -> u64 {
        let m = self.m as u64;
        let users = self.users.as_ref().map_or(0, |users| users.len() as u64);
        let table = 64 * table_size(rows);
        let visited = 2 * rows * threads as u64;
        let partitions = if self.builds_partitions(rows as usize) {
            let (sizes, clusters) = (section_sizes(dim), clusters_for(rows as usize, dim) as u64);
            (rows / 16 + clusters / 2) * sizes.block + clusters.div_ceil(16) * (sizes.moments + sizes.group)
        } else {
            0
        };
        // Ids, squared norms and places in the dump, as they were read and in order, and the clusters of rows.
        let placing = rows * (2 * (8 + 4) + 4 + 8 + 8) + table;
        let i8_rows = u64::from(self.keeps_i8()) * rows * (quantized_stride(dim) as u64 + 4);
        let held = rows * (8 + 4 + 4) + table + i8_rows;
        // Places in the space and rows that are no copies. Lists have room for half as many links again.
        let (growing, linked) = match (self.builds_graph(), self.builder) {
            (false, _) => (0, 0),
            (true, Builder::Native) => (rows * (16 + 12 * m + 8), rows * (16 + 8 * m + 8) + A_USER * users),
            #[cfg(feature = "hnsw_rs")]
            (true, Builder::HnswRs) => (rows * (16 + HNSW_RS), rows * (16 + 8 * m + 8)),
        };
        let made = if self.builds_graph() { rows * (8 * m + 8) } else { 0 };
        // Calibration ranks rows for up to 100,000 items on each thread; fitted to what builds held.
        let ranked = threads as u64 * (24 * rows + 240 * rows.min(100_000));
        let parted = if partitions > 0 { made + partitions + (8 + 4) * rows + ranked } else { 0 };
        let phases = [placing, held + growing.max(linked).max(parted) + visited];
        FIXED + 4 * dim as u64 * users + phases.into_iter().max().unwrap_or_default()
    }

    /// About: fitted to the builds of docs/benchmarks.md, which range over 28,000 to 10,000,000 rows, and of
    /// docs/serving.md. A graph over data that is hard for walks takes longer than that.
    fn expected_time(&self, rows: u64, dim: usize, threads: usize) -> Duration {
        let (rows, lines) = (rows as f64, dim as f64 / 64.0);
        let users = self.users.as_ref().map_or(0, |users| users.len()) as f64;
        let reading = rows * 1e-6 * (1.0 + lines);
        let graph = match self.builds_graph() {
            true => {
                let width = self.ef_construction as f64 / 200.0 * (0.5 + self.m as f64 / 32.0);
                let linked = |rows: f64| rows * rows.max(1.0).log2() * 4e-6 * width * (0.5 + lines / 2.0);
                let chosen = self.augmentation.is_some() || self.previous.is_some();
                let tried = if chosen { 0 } else { space::tried(rows as usize) };
                1.0 + linked(rows) + TRIED * linked(tried as f64) + users * 3e-4
            }
            false => 0.0,
        };
        let partitions = match self.builds_partitions(rows as usize) {
            true => 2.2 + lines / 2.0 + rows * (4e-6 + rows.sqrt() * 2e-9) * (0.5 + lines / 2.0),
            false => 0.0,
        };
        Duration::from_secs_f64((reading + (graph + partitions) / threads as f64).max(0.01))
    }

    fn keeps_i8(&self) -> bool {
        self.quantization != Some(Quantization::None)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
