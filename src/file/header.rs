use std::path::Path;

use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::xxh3_64;

use super::PAGE;
use crate::calibration::Calibration;
use crate::ids::table_size;
use crate::limits::{MAX_DIM, MAX_M, MAX_ROWS, MIN_M, check_model_version};
use crate::partitions;
use crate::vectors::{RowFormat, quantized_stride};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"itemdex\0";

/// The newest format version, and the oldest that this library reads. A file of another version is refused. The magic, the version and the size of the header are the same in every version; the rest may
/// change.
///
/// Version 2 adds partitions, and files without a graph. A file of version 1 has none of the fields and
/// sections that version 2 added.
///
/// Version 3 adds the format of rows. A file whose rows are `f32` is written as version 2, which older readers
/// take.
const FORMAT_VERSION: u32 = 3;
const VERSION_OF_F32: u32 = 2;
const OLDEST_VERSION: u32 = 1;

/// How many upper layers a graph may have.
pub(crate) const MAX_LAYERS: usize = 15;

/// The sections, in the order of the file and of the header's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Section {
    /// `f32` or `f16` embeddings, one padded row after another.
    Rows,
    /// `i8` embeddings, one padded row after another; empty if the index is not quantised.
    QuantizedRows,
    /// The `f32` scale of each `i8` row; empty if the index is not quantised.
    Scales,
    /// The item id of every row, `u64`.
    Ids,
    /// The hash table from item id to row: buckets of eight `u64`.
    IdTable,
    /// The links of the base layer, `u32`, `2 * m` slots a row.
    BaseLayer,
    /// The upper layers, `u32`.
    UpperLayers,
    /// Groups of sixteen clusters: where their rows are, and the scales of their moments.
    Clusters,
    /// The mean and the variance of each coordinate in each cluster, bytes.
    Moments,
    /// The unit of each coordinate of the codes, `f32`.
    CodeUnits,
    /// The codes of the rows, in blocks of sixteen.
    Codes,
    /// The arrays that columns consist of.
    Columns,
    /// An entry a column: its name, its kind, and where its arrays lie.
    ColumnDirectory,
}

impl Section {
    pub const ALL: [Section; 13] = [
        Section::Rows,
        Section::QuantizedRows,
        Section::Scales,
        Section::Ids,
        Section::IdTable,
        Section::BaseLayer,
        Section::UpperLayers,
        Section::Clusters,
        Section::Moments,
        Section::CodeUnits,
        Section::Codes,
        Section::Columns,
        Section::ColumnDirectory,
    ];

    /// How many sections files of version 1 have: the first so many.
    const FIRST: usize = 7;

    /// How many sections files without columns have: the first so many.
    pub const WITHOUT_COLUMNS: usize = 11;

    pub fn name(self) -> &'static str {
        match self {
            Section::Rows => "rows",
            Section::QuantizedRows => "quantized_rows",
            Section::Scales => "scales",
            Section::Ids => "ids",
            Section::IdTable => "id_table",
            Section::BaseLayer => "base_layer",
            Section::UpperLayers => "upper_layers",
            Section::Clusters => "clusters",
            Section::Moments => "moments",
            Section::CodeUnits => "code_units",
            Section::Codes => "codes",
            Section::Columns => "columns",
            Section::ColumnDirectory => "column_directory",
        }
    }
}

/// Where a section lies, in bytes from the start of the file, and the xxh3 checksum of its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Span {
    pub offset: u64,
    pub length: u64,
    pub checksum: u64,
}

/// The first page of the file, as it stands there: little-endian, without implicit padding.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Header {
    magic: [u8; 8],
    format_version: u32,
    pub dim: u32,
    pub file_length: u64,
    pub rows: u64,
    /// Links a row in an upper layer; the base layer has twice as many.
    pub m: u32,
    pub ef_construction: u32,
    /// The number of the builder that made the graph.
    pub builder: u32,
    pub entry: u32,
    /// How many buckets the id table has, which follows from the rows; and the seed of its hash.
    pub id_buckets: u64,
    pub id_seed: u64,
    /// How many nodes upper layers 1, 2, ... have; 0 for a layer that does not exist.
    pub layer_nodes: [u32; MAX_LAYERS],
    model_version_length: u32,
    model_version: [u8; 256],
    first_sections: [Span; Section::FIRST],
    /// How rows are quantised: 0 not at all, 1 as `i8`.
    pub quantized: u32,
    pub calibration: Calibration,
    /// The augmentation of the graph's space: the weight of the augmented coordinate, 0 to 1.
    pub augmentation: f32,
    /// From here on version 2. Whether there is no graph: 0 or 1.
    pub without_graph: u32,
    /// How many groups of clusters and blocks of codes there are; 0 without partitions.
    pub groups: u32,
    pub blocks: u32,
    pub partitions: partitions::Calibration,
    /// The last two are all zeros in a file without columns.
    more_sections: [Span; Section::ALL.len() - Section::FIRST],
    /// How many deviations further searches by partitions go among rows far from the user; 0 in older files.
    pub far_margin: f32,
    /// How many rows no link of the graph's space led to, and how many could not be reached before repair.
    pub secluded: u32,
    pub linked: u32,
    /// How the values of rows stand in the file: 0 as `f32`, 1 as `f16`, from version 3 on.
    row_format: u32,
    /// How many rows a walk scores for each place in its beam; 0 in older files and without a graph.
    pub scored_a_place: f32,
    /// How much searches by partitions read at most; all zeros in older files and without partitions.
    pub limits: partitions::Limits,
    reserved: [u8; 2024],
    checksum: u64,
}

const _: () = assert!(size_of::<Header>() == PAGE as usize);
const _: () = assert!(cfg!(target_endian = "little"), "the file is little-endian and used in place");

impl Header {
    pub fn new(model_version: &str) -> Result<Header> {
        check_model_version(model_version)?;
        let mut header = Header { magic: MAGIC, format_version: VERSION_OF_F32, ..Header::zeroed() };
        header.model_version_length = model_version.len() as u32;
        header.model_version[..model_version.len()].copy_from_slice(model_version.as_bytes());
        Ok(header)
    }

    pub fn row_format(&self) -> RowFormat {
        match self.row_format {
            1 => RowFormat::F16,
            _ => RowFormat::F32,
        }
    }

    pub fn set_row_format(&mut self, format: RowFormat) {
        self.row_format = format as u32;
        self.format_version = if format == RowFormat::F32 { VERSION_OF_F32 } else { FORMAT_VERSION };
    }

    /// Updates the header's own checksum and returns the header's bytes.
    pub fn seal(&mut self) -> &[u8] {
        self.checksum = self.sum();
        bytemuck::bytes_of(self)
    }

    /// Reads and checks the first page of a file of `length` bytes. In a header that passes, every section
    /// lies within the file and has the length that `rows`, `dim` and `m` ask for.
    pub fn read(page: &[u8], length: u64, path: &Path) -> Result<Header> {
        let not_ours =
            |problem: &str| Error::NotAnIndex { path: path.to_owned(), problem: problem.to_owned() };
        if length == 0 {
            return Err(not_ours("the file is empty"));
        }
        if !page.starts_with(&MAGIC) {
            return Err(not_ours("it does not begin with the bytes \"itemdex\\0\""));
        }
        let damaged = |offset, problem| Error::Damaged { path: path.to_owned(), offset, problem };
        if length < PAGE {
            return Err(damaged(length, format!("the file ends within its header of {PAGE} bytes")));
        }
        let mut header: Header = bytemuck::pod_read_unaligned(&page[..PAGE as usize]);
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&header.format_version) {
            let found = header.format_version;
            return Err(Error::UnknownFormat { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        if header.checksum != header.sum() {
            return Err(damaged(0, "the header does not match its checksum".to_owned()));
        }
        if header.file_length != length {
            let problem = format!("the file has {length} bytes, its header says {}", header.file_length);
            return Err(damaged(length.min(header.file_length), problem));
        }
        if header.format_version < 2 {
            header.without_graph = 0;
            (header.groups, header.blocks) = (0, 0);
            (header.partitions, header.far_margin) = (Zeroable::zeroed(), 0.0);
            header.more_sections = Default::default();
            (header.secluded, header.linked, header.scored_a_place) = (0, 0, 0.0);
        }
        if header.format_version < 3 {
            header.row_format = 0;
        }
        header.check().map_err(|problem| damaged(0, problem))?;
        Ok(header)
    }

    /// The version of the file's format.
    pub fn format_version(&self) -> u32 {
        self.format_version
    }

    /// The sections that a file of this version has, in the file's order.
    pub fn sections(&self) -> &'static [Section] {
        let count = match (self.format_version, self.has_columns()) {
            (..2, _) => Section::FIRST,
            (_, false) => Section::WITHOUT_COLUMNS,
            (_, true) => Section::ALL.len(),
        };
        &Section::ALL[..count]
    }

    /// Notes where all sections lie; those of columns may be missing.
    pub fn set_spans(&mut self, spans: &[Span]) {
        let (first, more) = spans.split_at(Section::FIRST);
        self.first_sections.copy_from_slice(first);
        self.more_sections[..more.len()].copy_from_slice(more);
    }

    pub fn model_version(&self) -> &str {
        let bytes = self.model_version.get(..self.model_version_length as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    pub fn section(&self, section: Section) -> Span {
        let place = section as usize;
        self.first_sections.get(place).copied().unwrap_or_else(|| self.more_sections[place - Section::FIRST])
    }

    pub fn has_graph(&self) -> bool {
        self.without_graph == 0
    }

    pub fn has_partitions(&self) -> bool {
        self.groups > 0
    }

    pub fn has_columns(&self) -> bool {
        self.section(Section::ColumnDirectory) != Span::default()
            || self.section(Section::Columns) != Span::default()
    }

    /// How many upper layers there are.
    pub fn layers(&self) -> usize {
        self.layer_nodes.iter().take_while(|&&nodes| nodes > 0).count()
    }

    /// Tells files apart: the checksum of the header, which holds the checksums of all sections.
    pub fn fingerprint(&self) -> u64 {
        self.checksum
    }

    fn sum(&self) -> u64 {
        xxh3_64(&bytemuck::bytes_of(self)[..PAGE as usize - 8])
    }

    /// Checks the fields of a header whose checksum is right. Only a crafted file fails here.
    fn check(&self) -> std::result::Result<(), String> {
        let fits = |what: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{what} {value} is not within {least} to {most}")),
        };
        fits("dim", self.dim.into(), 1, MAX_DIM as u64)?;
        fits("row count", self.rows, 1, MAX_ROWS)?;
        fits("m", self.m.into(), MIN_M as u64, MAX_M as u64)?;
        fits("row format", self.row_format.into(), 0, 1)?;
        fits("quantisation", self.quantized.into(), 0, 1)?;
        fits("entry row", self.entry.into(), 0, self.rows - 1)?;
        fits("id table size", self.id_buckets, table_size(self.rows), table_size(self.rows))?;
        for (layer, &nodes) in self.layer_nodes.iter().enumerate() {
            let most = if layer < self.layers() { self.rows } else { 0 };
            fits("upper layer size", nodes.into(), 0, most)?;
        }
        fits("the mark of a file without a graph", self.without_graph.into(), 0, 1)?;
        fits("number of secluded rows", self.secluded.into(), 0, self.rows)?;
        fits("number of rows linked in", self.linked.into(), 0, self.rows)?;
        fits("number of cluster groups", self.groups.into(), 0, self.rows)?;
        let blocks = if self.has_partitions() { self.rows.div_ceil(16)..=self.rows } else { 0..=0 };
        fits("number of code blocks", self.blocks.into(), *blocks.start(), *blocks.end())?;
        check_model_version(self.model_version()).map_err(|error| error.to_string())?;
        if !(0.0..=1.0).contains(&self.augmentation) {
            return Err(format!("the augmentation {} is not within 0 to 1", self.augmentation));
        }
        let problem = self.calibration.problem().or_else(|| self.partitions.problem());
        problem.or_else(|| self.limits.problem()).map_or(Ok(()), Err)?;
        if !(0.0..=8.0).contains(&self.far_margin) {
            return Err(format!("the margin of filters is {}; it is from 0 to 8", self.far_margin));
        }
        if !(0.0..=MAX_ROWS as f32).contains(&self.scored_a_place) {
            return Err(format!(
                "the rows scored a place are {}; they are 0 to {MAX_ROWS}",
                self.scored_a_place
            ));
        }
        self.check_sections()
    }

    fn check_sections(&self) -> std::result::Result<(), String> {
        let mut end = PAGE;
        for &section in self.sections() {
            let Span { offset, length, .. } = self.section(section);
            let expected = self.section_length(section);
            if length != expected || offset != end || length > self.file_length {
                let name = section.name();
                return Err(format!("section {name} is {length} bytes at {offset}, not {expected} at {end}"));
            }
            end = (offset + length).next_multiple_of(PAGE);
        }
        if end != self.file_length {
            return Err(format!("the sections end at byte {end}, the file at {}", self.file_length));
        }
        Ok(())
    }

    /// How many bytes a section must have, where that follows from the header. Far from overflow, since [`Header::check`] bounds the fields
    /// first.
    pub fn section_length(&self, section: Section) -> u64 {
        let m = u64::from(self.m);
        let sizes = partitions::section_sizes(self.dim as usize);
        match section {
            Section::Rows => self.rows * self.row_format().row_bytes(self.dim as usize) as u64,
            Section::QuantizedRows => {
                u64::from(self.quantized) * self.rows * quantized_stride(self.dim as usize) as u64
            }
            Section::Scales => u64::from(self.quantized) * self.rows * 4,
            Section::Ids => self.rows * 8,
            Section::IdTable => self.id_buckets * 64,
            Section::BaseLayer => u64::from(1 - self.without_graph) * self.rows * 2 * m * 4,
            Section::UpperLayers => {
                self.layer_nodes.iter().map(|&nodes| u64::from(nodes) * (2 + m) * 4).sum()
            }
            Section::Clusters => u64::from(self.groups) * sizes.group,
            Section::Moments => u64::from(self.groups) * sizes.moments,
            Section::CodeUnits => u64::from(u32::from(self.has_partitions())) * u64::from(self.dim) * 4,
            Section::Codes => u64::from(self.blocks) * sizes.block,
            // As long as it says: what is in it says how long that must be.
            Section::Columns | Section::ColumnDirectory => self.section(section).length,
        }
    }
}
