//! From a dump to a generation file.
//!
//! Rows stream from the dump into a temporary file, and from there into the index, in the index's order. They
//! are not kept in memory: the graph is built over the pages of the unfinished file. Memory holds some 40
//! bytes a row (id, norm, look-ups), the `i8` rows, the graph, and the codes.

mod assemble;
mod estimate;
mod graph;
mod grow;
mod measure;
mod order;
mod previous;
mod report;
mod rows;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;
use std::time::Instant;

pub use estimate::Estimate;
use previous::Previous;
pub use report::BuildReport;
use rows::RowWriter;
pub use space::{Choice, Trial};

use crate::assignment::Shard;
use crate::columns::{Column, check_columns};
use crate::dump::Dump;
use crate::index::{Builder, Plan};
use crate::limits::{MAX_DIM, MAX_M, MIN_M, check_model_version};
use crate::progress::{Progress, ProgressFn, Watch};
use crate::vectors::{EmbeddingValue, Matrix, RowFormat, problem_with};
use crate::{Error, Result};

/// Builds index files.
///
/// ```no_run
/// use itemdex::{IndexBuilder, dump::Dump};
///
/// let dump = Dump::options().ids("item_ids.npy").open("items.npy")?;
/// let report = IndexBuilder::new("2026-11-23").m(16).build(dump, "items.itemdex")?;
/// println!("{} rows in {} bytes", report.rows, report.bytes);
/// # Ok::<(), itemdex::Error>(())
/// ```
///
/// One dump built by one thread gives the same file every time, byte for byte. With more threads rows are
/// inserted in an order that varies, so the graph varies too; ids and embeddings do not.
pub struct IndexBuilder {
    model_version: String,
    builder: Builder,
    rows: Option<RowFormat>,
    quantization: Option<Quantization>,
    plans: Option<Vec<Plan>>,
    m: usize,
    ef_construction: usize,
    augmentation: Option<f32>,
    previous: Option<PathBuf>,
    threads: usize,
    memory: Option<u64>,
    users: Option<Matrix>,
    columns: Vec<Column>,
    shard: Option<Shard>,
    progress: Option<Box<ProgressFn>>,
    cancel: Option<Arc<AtomicBool>>,
}

/// With fewer rows than this a build makes partitions only if it is told to: a walk or a scan answers as
/// fast.
const FEW: usize = 10_000;

/// Which rows a walk reads. What a search finds is scored by its embedding either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantization {
    /// `i8` rows beside the embeddings: a byte more a value, and faster walks.
    I8,
    /// The embeddings.
    None,
}

impl IndexBuilder {
    /// A builder for embeddings that `model_version` made: 1 to 255 bytes, chosen by you, and what a serving
    /// process compares with the user tower's version.
    pub fn new(model_version: impl Into<String>) -> IndexBuilder {
        IndexBuilder {
            model_version: model_version.into(),
            builder: Builder::Native,
            rows: None,
            quantization: None,
            plans: None,
            m: 16,
            ef_construction: 200,
            augmentation: None,
            previous: None,
            threads: available_parallelism().map_or(1, usize::from),
            memory: None,
            users: None,
            columns: Vec::new(),
            shard: None,
            progress: None,
            cancel: None,
        }
    }

    /// What builds the graph, by default [`Builder::Native`].
    pub fn builder(mut self, builder: Builder) -> Self {
        self.builder = builder;
        self
    }

    /// How the index keeps its embeddings. By default as `f16` what was handed over as `f16`, and as `f32` all
    /// else. Rows of `f16` take half the bytes, and their scores are those of the same values in `f32`.
    ///
    /// Values that an `f16` cannot hold are rounded to the nearest that it can. A build fails, with
    /// [`Error::BadDump`] and the row, where one is beyond 65,504.
    pub fn rows(mut self, format: RowFormat) -> Self {
        self.rows = Some(format);
        self
    }

    /// Which rows a walk reads. By default the build takes `i8` rows if that costs no recall: if the best 125
    /// by `i8` rows hold the exact best 100, but for 0.002 of these in the mean. It measures this on part of
    /// the user sample, or without one on items and mixtures of items.
    pub fn quantize(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// The plans to build for: [`Plan::Graph`], [`Plan::Partitions`] or both. By default both, and the graph
    /// alone below 10,000 rows.
    ///
    /// Partitions alone build in a fraction of the time, and are enough where searches ask for hundreds of
    /// items and more. [`Plan::Scan`] needs nothing, and every index can take it.
    pub fn plans(mut self, plans: impl Into<Vec<Plan>>) -> Self {
        self.plans = Some(plans.into());
        self
    }

    /// Links a row in the upper layers; the base layer has twice as many. 2 to 128, by default 16.
    /// More find more at the price of `8 * m` bytes a row and slower steps.
    pub fn m(mut self, m: usize) -> Self {
        self.m = m;
        self
    }

    /// How wide the builder looks for a row's neighbours: 1 to 10,000, by default 200.
    /// Wider makes a better graph, and build time grows in proportion.
    pub fn ef_construction(mut self, ef: usize) -> Self {
        self.ef_construction = ef;
        self
    }

    /// The space of the graph: how much the augmented coordinate weighs in it, from 0 for the inner product to
    /// 1 for augmented L2. By default the build tries several on a part of the rows and takes the one whose
    /// walks score the fewest. The docs of the design say what it means.
    pub fn augmentation(mut self, augmentation: f32) -> Self {
        self.augmentation = Some(augmentation);
        self
    }

    /// The index of the last generation, whose links the graph starts with, by item id. A build of mostly the
    /// same items with embeddings that moved a little then takes less than half the time, and finds a little less
    /// at the same beam.
    ///
    /// The index may hold anything: items, model version, `m` and users may differ. Where its links are of no
    /// use, the build starts anew; [`BuildReport::cold`] says why. They are of no use if it has no graph or
    /// another dim, if it lacks half of the rows, or if walks along its links miss half of the rows nearest to
    /// a row, as those of an unrelated model do. The graph also takes its augmentation from that index, unless
    /// [`IndexBuilder::augmentation`] fixes one.
    ///
    /// Building fails, before it reads the dump, with the errors of [`Index::open`](crate::Index::open) and
    /// [`Error::Damaged`] where the file's ids or links do not match their checksums, and with
    /// [`Error::BadOption`] with another builder than [`Builder::Native`].
    pub fn previous(mut self, index: impl Into<PathBuf>) -> Self {
        self.previous = Some(index.into());
        self
    }

    /// Threads to build with, by default as many as there are cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Refuses, before it writes anything, to build what is expected to take more memory than so many bytes
    /// ([`IndexBuilder::estimate`]), and takes fewer threads where those fit. Pages of the file do not count: the
    /// system takes them back where memory is short. By default a build takes what it takes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// User embeddings from logs, of the same model as the items and not those you measure with. The native
    /// builder links what sampled users are offered together, so that more is found at the same beam; some
    /// 10,000 are a good sample. Takes 2 to 3 KB of memory a user while they are gone through.
    pub fn user_sample(mut self, users: Matrix) -> Self {
        self.users = Some(users);
        self
    }

    /// Adds a column: a value for each item, in the order of the dump. Its name must be one that no column
    /// before has. Filters are made of columns ([`Index::filter`](crate::Index::filter)).
    pub fn column(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// Takes the items of this shard only, by their ids ([`shard_of`](crate::shard_of)); columns have a value for
    /// each item of the dump all the same. A dump that is read by several builds, one for each shard, gives the
    /// shards of a generation ([`Catalog::stage_shard`](crate::live::Catalog::stage_shard)).
    pub fn shard(mut self, shard: Shard) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Calls `progress` every few thousand rows, from the thread that builds.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Gives the build up, with [`Error::Cancelled`] and no file left, within a few thousand rows of `flag`
    /// becoming true.
    pub fn cancel_when(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Builds the index of a dump at `out`, replacing what is there only once the new file is whole and
    /// synced.
    ///
    /// # Errors
    /// [`Error::BadDump`] and [`Error::DuplicateId`] for what the dump holds, and for a column that has not one
    /// value for each item, [`Error::BadOption`] for this
    /// builder's options, the user sample, and an `out` that is a file of the dump, [`Error::Io`],
    /// [`Error::Cancelled`]. In each case `out` is as it was.
    pub fn build(&self, dump: Dump, out: impl AsRef<Path>) -> Result<BuildReport> {
        let started = Instant::now();
        self.check(dump.dim())?;
        if dump.reads(out.as_ref()) {
            let problem = format!("{} is a file of the dump; name another", out.as_ref().display());
            return Err(Error::BadOption { option: "out", problem });
        }
        self.fitting_threads(self.share_of(dump.rows()), dump.dim())?;
        let origins = [dump.path(), dump.id_path()].map(|path| path.display().to_string());
        let previous = self.open_previous()?;
        let format = self.rows.unwrap_or(dump.format());
        let mut rows = RowWriter::create(out.as_ref(), (dump.dim(), format), origins, self.shard)?;
        rows.write_dump(dump, &self.watch())?;
        self.finish(rows, previous.as_ref(), started)
    }

    /// Builds the index of `(item id, embedding)` pairs, the embeddings of `f32` or
    /// [`f16`](struct@crate::f16); otherwise as [`IndexBuilder::build`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// let items = [(7, [0.5, 1.0]), (9, [1.0, 0.0]), (4, [0.0, 2.0])];
    /// itemdex::IndexBuilder::new("v1").build_from(items, &path)?;
    /// let index = itemdex::Index::open(&path)?;
    /// assert_eq!(index.search(&[1.0, 0.0], 1)?[0].id, 9);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`IndexBuilder::build`]; rows are counted in the iterator's order.
    pub fn build_from<T: EmbeddingValue, V: AsRef<[T]>>(
        &self,
        items: impl IntoIterator<Item = (u64, V)>,
        out: impl AsRef<Path>,
    ) -> Result<BuildReport> {
        let started = Instant::now();
        let mut items = items.into_iter().peekable();
        let dim = items.peek().map_or(1, |(_, embedding)| embedding.as_ref().len());
        self.check(dim)?;
        let previous = self.open_previous()?;
        let format = self.rows.unwrap_or(T::FORMAT);
        let origins = ["the items given"; 2].map(str::to_owned);
        let mut rows = RowWriter::create(out.as_ref(), (dim, format), origins, self.shard)?;
        rows.write_items(items, &self.watch())?;
        self.finish(rows, previous.as_ref(), started)
    }

    fn check(&self, dim: usize) -> Result<()> {
        let within = |option, value, least, most| match (least..=most).contains(&value) {
            true => Ok(()),
            false => {
                Err(Error::BadOption { option, problem: format!("{value} is not within {least} to {most}") })
            }
        };
        check_model_version(&self.model_version)?;
        within("m", self.m, MIN_M, MAX_M)?;
        within("ef_construction", self.ef_construction, 1, 10_000)?;
        within("threads", self.threads, 1, 1024)?;
        within("dim", dim, 1, MAX_DIM)?;
        self.check_augmentation()?;
        if let Some(plans) = &self.plans
            && !plans.iter().any(|plan| [Plan::Graph, Plan::Partitions].contains(plan))
        {
            let problem = "name the graph, partitions or both".to_owned();
            return Err(Error::BadOption { option: "plans", problem });
        }
        check_columns(&self.columns)?;
        self.users.as_ref().map_or(Ok(()), |users| check_users(users, dim))
    }

    fn builds_graph(&self) -> bool {
        self.plans.as_ref().is_none_or(|plans| plans.contains(&Plan::Graph))
    }

    fn builds_partitions(&self, rows: usize) -> bool {
        self.plans.as_ref().map_or(rows >= FEW, |plans| plans.contains(&Plan::Partitions))
    }

    fn open_previous(&self) -> Result<Option<Previous>> {
        #[cfg(feature = "hnsw_rs")]
        if self.previous.is_some() && self.builder == Builder::HnswRs {
            let problem = "hnsw_rs cannot start with links; leave it out".to_owned();
            return Err(Error::BadOption { option: "previous", problem });
        }
        self.previous.as_deref().map(Previous::open).transpose()
    }

    fn check_augmentation(&self) -> Result<()> {
        let problem = match self.augmentation {
            Some(weight) if !(0.0..=1.0).contains(&weight) => format!("{weight} is not within 0 to 1"),
            #[cfg(feature = "hnsw_rs")]
            Some(weight) if self.builder == Builder::HnswRs && weight != 1.0 => {
                format!("hnsw_rs builds in augmented L2, which is 1, not {weight}")
            }
            _ => return Ok(()),
        };
        Err(Error::BadOption { option: "augmentation", problem })
    }

    fn watch(&self) -> Watch<'_> {
        Watch::new(self.progress.as_deref(), self.cancel.as_deref())
    }
}

fn check_users(users: &Matrix, dim: usize) -> Result<()> {
    let bad = |problem| Err(Error::BadOption { option: "user sample", problem });
    if users.dim() != dim {
        return bad(format!("its dim is {}, the items' is {dim}; are both of one model?", users.dim()));
    }
    let problem = |(row, user)| problem_with(user).map(|problem| format!("row {row}: {problem}"));
    users.rows().enumerate().find_map(problem).map_or(Ok(()), bad)
}
