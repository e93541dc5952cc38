//! What an index file holds, and whether it is sound.

use std::borrow::Cow;

use serde_json::{Map, json};

use super::Index;
use super::options::Plan;
use crate::calibration::CALIBRATED_K;
use crate::columns::ColumnInfo;
use crate::file::Section;
use crate::graph::{Graph, Layers};
use crate::vectors::{problem_with, stride_of};
use crate::{Error, Result, RowFormat};

/// What built a graph; the number is what the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Builder {
    /// The crate `hnsw_rs`, the yardstick: slower to build, and 2 to 3 KB of memory a row meanwhile.
    #[cfg(feature = "hnsw_rs")]
    HnswRs = 1,
    /// The builder of this crate.
    Native = 2,
}

/// The name of the builder with a number of the file. This build of the library may lack that builder.
fn builder_name(number: u32) -> &'static str {
    match number {
        1 => "hnsw_rs",
        2 => "native",
        _ => "unknown",
    }
}

/// What an index file holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// Items.
    pub rows: usize,
    /// Values an embedding.
    pub dim: usize,
    /// The model version the embeddings came from.
    pub model_version: String,
    /// The file's length in bytes.
    pub bytes: u64,
    /// The version of the file's format.
    pub format_version: u32,
    /// The plans that searches may take.
    pub plans: Vec<Plan>,
    /// Clusters of rows; 0 without partitions.
    pub clusters: usize,
    /// Each section's name and bytes, in the file's order.
    pub sections: Vec<(&'static str, u64)>,
    /// The columns, in the order in which they were given to the build.
    pub columns: Vec<ColumnInfo>,
    /// How the embeddings are kept.
    pub row_format: RowFormat,
    /// Whether there are `i8` rows to walk over.
    pub quantized: bool,
    /// The builder's name.
    pub builder: &'static str,
    /// Links a row in the upper layers, half of those in the base layer.
    pub m: usize,
    /// The builder's beam.
    pub ef_construction: usize,
    /// Nodes on each upper layer, from the lowest up.
    pub layers: Vec<u32>,
    /// What the build measured for each beam: the beam, and the recall@10, recall@100 and recall@1000 of
    /// searches with it, less the standard error.
    pub calibration: Vec<(usize, [f32; 3])>,
    /// How uneven the norms of the items are: their standard deviation over their mean.
    pub norm_variation: f64,
    /// The space that the build chose for its graph: the weight of the augmented coordinate, 0 for the raw
    /// inner product to 1 for augmented L2.
    pub augmentation: f32,
    /// The beams by which walks for 10, 100 and 1000 items have a recall of 0.95; `None` where no beam that
    /// was measured has.
    pub beams: [Option<usize>; 3],
    /// Rows that no link of the graph's space led to, which were linked in augmented L2.
    pub secluded: usize,
    /// Rows that were unreachable before they were linked in. Both are 0 in files of format 1.
    pub linked: usize,
    /// The fewest, the mean and the most base links a row; zeros without a graph.
    pub degree: (usize, f64, usize),
}

impl Info {
    /// The same as a JSON document, which `itemdex info --json` prints.
    pub fn to_json(&self) -> String {
        let sections: Map<_, _> =
            self.sections.iter().map(|&(name, bytes)| (name.to_owned(), bytes.into())).collect();
        let point = |&(ef, [at_10, at_100, at_1000]): &(usize, [f32; 3])| json!({"ef": ef, "recall@10": at_10, "recall@100": at_100, "recall@1000": at_1000});
        let column = |column: &ColumnInfo| {
            json!({"name": column.name, "kind": column.kind.name(), "type": column.type_name,
                "distinct": column.distinct, "nulls": column.nulls, "bytes": column.bytes})
        };
        let (least, mean, most) = self.degree;
        let document = json!({
            "rows": self.rows, "dim": self.dim, "model_version": self.model_version, "bytes": self.bytes,
            "sections": sections, "row_format": self.row_format.name(), "quantized": self.quantized,
            "builder": self.builder, "m": self.m,
            "ef_construction": self.ef_construction, "layers": self.layers,
            "format_version": self.format_version, "clusters": self.clusters,
            "plans": self.plans.iter().map(|plan| plan.name()).collect::<Vec<_>>(),
            "degree": {"min": least, "mean": mean, "max": most},
            "secluded": self.secluded, "linked": self.linked,
            "beams": {"10": self.beams[0], "100": self.beams[1], "1000": self.beams[2]},
            "norm_variation": self.norm_variation, "augmentation": self.augmentation,
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "calibration": self.calibration.iter().map(point).collect::<Vec<_>>(),
        });
        document.to_string()
    }
}

impl Index {
    /// Reads the whole file and checks it: every checksum, every id, every value, every link, and that every
    /// row can be reached. `progress` is told each section's name as it begins.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) for the first thing that is wrong.
    pub fn verify(&self, progress: impl FnMut(&'static str)) -> Result<()> {
        self.verify_unless(&|| false, progress)
    }

    /// The same; gives up with [`Error::Cancelled`](crate::Error::Cancelled) between two checks where `stop` says so.
    pub(crate) fn verify_unless(
        &self,
        stop: &dyn Fn() -> bool,
        mut progress: impl FnMut(&'static str),
    ) -> Result<()> {
        let mut begin = |check| match stop() {
            true => Err(Error::Cancelled),
            false => {
                progress(check);
                Ok(())
            }
        };
        for &section in self.file.header().sections() {
            begin(section.name())?;
            self.file.check(section)?;
        }
        begin("values")?;
        self.verify_rows()?;
        begin("i8 values")?;
        if let Some(row) = self.quantized().and_then(|quantized| quantized.mismatch(self.rows())) {
            let problem = format!("row {row} is not quantised from its embedding");
            return Err(self.file.wrong(Section::Scales, row as usize, problem));
        }
        begin("id look-ups")?;
        self.id_map()
            .verify(self.ids())
            .map_err(|(row, problem)| self.file.wrong(Section::Ids, row, problem))?;
        if self.file.header().has_partitions() {
            begin("partitions")?;
            self.searched().verify().map_err(|problem| self.file.wrong(Section::Clusters, 0, problem))?;
        }
        begin("column values")?;
        self.columns().verify().map_err(|(at, problem)| self.file.wrong(Section::Columns, at, problem))?;
        if self.file.header().has_graph() {
            begin("links")?;
            self.graph().verify().map_err(|flaw| {
                let section = match flaw.layers {
                    Layers::Base => Section::BaseLayer,
                    Layers::Upper => Section::UpperLayers,
                };
                self.file.wrong(section, flaw.value, flaw.problem)
            })?;
        }
        Ok(())
    }

    /// Checks the checksums of what [`Index::links`] gives.
    pub(crate) fn verify_links(&self) -> Result<()> {
        [Section::Ids, Section::BaseLayer].into_iter().try_for_each(|section| self.file.check(section))
    }

    /// The graph, if there is one, and the augmentation of its space.
    pub(crate) fn links(&self) -> Option<(Graph<'_>, f32)> {
        let header = self.file.header();
        header.has_graph().then(|| (self.graph(), header.augmentation))
    }

    /// What the file holds. Reads every row and every link of the base layer.
    pub fn info(&self) -> Info {
        let header = self.file.header();
        let length = |&section: &Section| (section.name(), header.section(section).length);
        Info {
            rows: self.len(),
            dim: self.dim(),
            model_version: self.model_version().to_owned(),
            bytes: header.file_length,
            sections: header.sections().iter().map(length).collect(),
            format_version: header.format_version(),
            plans: self.plans(),
            clusters: self.searched().partitions.len(),
            columns: self.columns().info(),
            row_format: header.row_format(),
            quantized: header.quantized == 1,
            builder: builder_name(header.builder),
            m: header.m as usize,
            ef_construction: header.ef_construction as usize,
            layers: header.layer_nodes[..header.layers()].to_vec(),
            calibration: header.calibration.points().collect(),
            norm_variation: self.norm_variation(),
            augmentation: header.augmentation,
            beams: CALIBRATED_K.map(|k| header.calibration.ef(k, 0.95)),
            secluded: header.secluded as usize,
            linked: header.linked as usize,
            degree: self.degree(),
        }
    }

    fn plans(&self) -> Vec<Plan> {
        let header = self.file.header();
        let graph = header.has_graph().then_some(Plan::Graph);
        let partitions = header.has_partitions().then_some(Plan::Partitions);
        graph.into_iter().chain(partitions).chain([Plan::Scan]).collect()
    }

    fn norm_variation(&self) -> f64 {
        let norm = |(_, row): (u64, Cow<'_, [f32]>)| {
            row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
        };
        let (sum, squares) = self
            .iter()
            .map(norm)
            .fold((0.0, 0.0), |(sum, squares), norm| (sum + norm, squares + norm * norm));
        let mean = sum / self.len() as f64;
        if mean > 0.0 { (squares / self.len() as f64 - mean * mean).max(0.0).sqrt() / mean } else { 0.0 }
    }

    fn degree(&self) -> (usize, f64, usize) {
        if !self.file.header().has_graph() {
            return (0, 0.0, 0);
        }
        let graph = self.graph();
        let degrees = (0..self.len() as u32).map(|row| graph.links(row).count());
        let (least, sum, most) =
            degrees.fold((usize::MAX, 0, 0), |(least, sum, most), n| (least.min(n), sum + n, most.max(n)));
        (least, sum as f64 / self.len() as f64, most)
    }

    fn verify_rows(&self) -> Result<()> {
        let rows = self.rows();
        let stride = stride_of(self.dim());
        let wrong = |row: u32, problem| Err(self.file.wrong(Section::Rows, row as usize * stride, problem));
        for row in 0..self.len() as u32 {
            if let Some(problem) = problem_with(&rows.get(row)) {
                return wrong(row, format!("row {row}: {problem}"));
            }
            if rows.bytes(row)[self.dim() * rows.format().value_bytes()..].iter().any(|&byte| byte != 0) {
                return wrong(row, format!("row {row}: its padding is not zero"));
            }
        }
        Ok(())
    }
}
