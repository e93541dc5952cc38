//! The index: a mapped generation file, searched and scored.

use std::path::Path;

use crossbeam::queue::ArrayQueue;

use crate::file::{IndexFile, Residence, Section};
use crate::graph::{Graph, Scored, Scratch, search};
use crate::ids::IdMap;
use crate::rank::{self, RankOptions, Ranked, Ranking};
use crate::top::{Hit, TopK};
use crate::vectors::{Quantized, Rows, pad, problem_with};
use crate::{Error, Result};

/// Workspaces kept for later queries; more than this many queries at once allocate theirs anew.
const POOL: usize = 64;

/// The recall of a search that does not name one.
const DEFAULT_RECALL: f32 = 0.95;

/// The rows that are scored one by one in the time that a walk takes for each place in its beam, and the width at which
/// keeping the beam in order costs as much again.
const ROWS_A_PLACE: usize = 16;
const WIDE: usize = 3200;

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

/// The name of a builder by its number in the file, which this build of the library need not have.
fn builder_name(number: u32) -> &'static str {
    match number {
        1 => "hnsw_rs",
        2 => "native",
        _ => "unknown",
    }
}

/// An index file, mapped and ready for queries.
///
/// `Send + Sync`: share one behind an `Arc` among any number of threads. Queries take no lock and, after the first
/// few, allocate nothing but what they return. Any number of processes may map the same file; they share its pages.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # let items = (0..1000u64).map(|i| (i * 10, [(i as f32).sin(), (i as f32).cos(), 0.1]));
/// # itemdex::IndexBuilder::new("2026-11-23").build_from(items, &path)?;
/// let index = itemdex::Index::open(&path)?;
/// let user = [0.3, 0.9, 1.0];
/// for hit in index.search(&user, 10)? {
///     println!("item {} scores {}", hit.id, hit.score);
/// }
/// let ranked = index.rank(&user, &[120, 7770, 31337], 2)?;
/// assert_eq!(ranked.hits.len(), 2);
/// assert_eq!(ranked.unknown, [31337]);
/// # Ok::<(), itemdex::Error>(())
/// ```
pub struct Index {
    file: IndexFile,
    workspaces: ArrayQueue<Workspace>,
}

/// How to open an index file.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0])], &path)?;
/// let index = itemdex::OpenOptions::new().resident(true).open(&path)?;
/// let residency = index.residency();
/// println!("{} bytes copied, {} of them on huge pages", residency.copied, residency.huge);
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    residence: Residence,
}

impl OpenOptions {
    /// The file is mapped, and its pages are read from disk when first used.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Copies the file into memory of this process, on huge pages where the system has them ([`Index::residency`] says).
    /// Random reads are faster there; the memory is not shared with other processes, and opening takes as long as reading
    /// the file. What happens to the file afterwards does not matter.
    pub fn resident(mut self, resident: bool) -> OpenOptions {
        self.residence.resident = resident;
        self
    }

    /// Reads a mapped file into memory on opening, so that no query waits for the disk while memory suffices. A resident
    /// index is in memory in any case.
    pub fn prefault(mut self, prefault: bool) -> OpenOptions {
        self.residence.prefault = prefault;
        self
    }

    /// Keeps the index in memory (`mlock`), which implies reading it in. Takes a limit that allows it, as `ulimit -l` says.
    pub fn lock(mut self, lock: bool) -> OpenOptions {
        self.residence.lock = lock;
        self
    }

    /// Opens an index file.
    ///
    /// # Errors
    /// As [`Index::open`]; [`Error::Io`] also where memory cannot be had or locked.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Index> {
        let file = IndexFile::open(path.as_ref(), self.residence)?;
        let header = file.header();
        tracing::debug!(path = %file.path().display(), rows = header.rows, "opened an index");
        Ok(Index { file, workspaces: ArrayQueue::new(POOL) })
    }
}

/// Where an index lies in memory, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residency {
    /// Bytes copied into memory of this process; 0 for a mapped index.
    pub copied: u64,
    /// How many of those are on huge pages. Linux says so, to about two huge pages; elsewhere 0.
    pub huge: u64,
    /// Whether the index is locked in memory.
    pub locked: bool,
}

/// What a query needs beside the index, kept for the next one.
struct Workspace {
    /// The user embedding, padded as rows are.
    user: Vec<f32>,
    walk: Scratch,
    found: Vec<Scored>,
    rank: rank::Scratch,
    hits: Vec<Hit>,
}

/// How to search: for how many items, and how hard.
///
/// ```
/// use itemdex::SearchOptions;
///
/// let usual = SearchOptions::new(100);
/// let thorough = SearchOptions::new(100).recall(0.99);
/// let by_hand = SearchOptions::new(100).ef(400);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchOptions {
    k: usize,
    effort: Effort,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Effort {
    Recall(f32),
    Ef(usize),
}

impl SearchOptions {
    /// Asks for the best `k` items at a recall of 0.95. More items than the index holds gives all of them, 0 gives none.
    pub fn new(k: usize) -> SearchOptions {
        SearchOptions { k, effort: Effort::Recall(DEFAULT_RECALL) }
    }

    /// Asks for this recall: the share of the exact best `k` that is found, in the mean over users, above 0 and at most 1.
    ///
    /// The beam that reaches it is read off what was measured at build ([`Info::calibration`]), on users of the sample
    /// that the graph was not fitted to. A recall that no measured beam reached is answered by scoring every row, and
    /// so is 1. Without a user sample the measured queries are made of items, and your users may fare otherwise.
    pub fn recall(mut self, recall: f32) -> SearchOptions {
        self.effort = Effort::Recall(recall);
        self
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The same for another number of items.
    pub(crate) fn for_k(self, k: usize) -> SearchOptions {
        SearchOptions { k, ..self }
    }

    /// Sets the beam instead: how many of the best items seen so far the walk goes on from. Wider finds more and costs
    /// time in proportion. It may be below `k`: what the walk has scored beside its beam counts too.
    pub fn ef(mut self, ef: usize) -> SearchOptions {
        self.effort = Effort::Ef(ef);
        self
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
    /// Each section's name and bytes, in the file's order.
    pub sections: Vec<(&'static str, u64)>,
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
    /// What searches with each beam found of the exact answer at build, less its standard error: the beam, and
    /// recall@10, recall@100 and recall@1000.
    pub calibration: Vec<(usize, [f32; 3])>,
    /// How uneven the norms of the items are: their standard deviation over their mean.
    pub norm_variation: f64,
    /// Between 0, that of the raw inner product, and 1, augmented L2: the space that the build chose for its graph.
    pub share: f32,
    /// The fewest, the mean and the most base links a row.
    pub degree: (usize, f64, usize),
}

impl Index {
    /// Maps an index file. Reads its first page only, so it takes about as long at any size: the pages are read
    /// from disk when first used.
    ///
    /// The same as [`OpenOptions::open`] with default options, which can also copy the index into memory.
    ///
    /// The header, the bounds of every section and the file's length are checked here; [`Index::verify`] checks
    /// the contents too.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAnIndex`], [`Error::UnknownFormat`], [`Error::Damaged`].
    pub fn open(path: impl AsRef<Path>) -> Result<Index> {
        OpenOptions::new().open(path)
    }

    /// Where the index lies in memory. Reads the process's memory map: not for every query.
    pub fn residency(&self) -> Residency {
        let Residence { resident, lock, .. } = self.file.residence();
        let (copied, huge) = match resident {
            true => (self.file.header().file_length, self.file.huge_bytes()),
            false => (0, 0),
        };
        Residency { copied, huge, locked: lock }
    }

    /// How many items there are; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an index is never empty")]
    pub fn len(&self) -> usize {
        self.file.header().rows as usize
    }

    /// Values an embedding.
    pub fn dim(&self) -> usize {
        self.file.header().dim as usize
    }

    /// The model version that the item embeddings came from. Only user embeddings of the same version make
    /// sense to score against them.
    pub fn model_version(&self) -> &str {
        self.file.header().model_version()
    }

    /// A number that two files share only if they are equal, byte for byte, as far as they are undamaged.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.file.header().fingerprint()
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.header().file_length
    }

    /// The embedding of an item, in place.
    pub fn get(&self, id: u64) -> Option<&[f32]> {
        self.id_map().row(id).map(|row| self.rows().get(row))
    }

    /// Whether the index has an item.
    pub fn contains(&self, id: u64) -> bool {
        self.id_map().row(id).is_some()
    }

    /// The item ids in the file's order.
    pub fn ids(&self) -> &[u64] {
        self.file.section(Section::Ids)
    }

    /// Every item id with its embedding, in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, &[f32])> {
        let rows = self.rows();
        self.ids().iter().enumerate().map(move |(row, &id)| (id, rows.get(row as u32)))
    }

    /// The best `k` items for a user, best first, by a walk over the graph: approximate.
    ///
    /// The same as [`Index::search_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        self.search_with(user, &SearchOptions::new(k))
    }

    /// The best items for a user, best first; of equal scores the smaller id comes first.
    ///
    /// Scores are exact, which items are found is not: the walk scores some 10 to 30 rows for each place of its beam.
    /// Where that would come near scoring every row, every row is scored instead, and the answer is exact.
    /// Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding, [`Error::BadOption`] for a recall that is none.
    pub fn search_with(&self, user: &[f32], options: &SearchOptions) -> Result<Vec<Hit>> {
        self.check_user(user)?;
        let k = options.k.min(self.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let ef = self.ef(options)?;
        let mut workspace = self.workspace_for(user);
        let rows_a_walk = ef.saturating_mul(ROWS_A_PLACE).saturating_mul(1 + ef / WIDE);
        match rows_a_walk >= self.len() {
            true => self.scan(k, &mut workspace),
            false => self.walk(k, ef, &mut workspace),
        }
        Ok(self.answer(workspace))
    }

    /// The beam of a search with these options; as wide as the index where no measured beam reaches the recall.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a recall that is not above 0 and at most 1.
    pub fn ef(&self, options: &SearchOptions) -> Result<usize> {
        match options.effort {
            Effort::Ef(ef) => Ok(ef.max(1)),
            Effort::Recall(recall) if recall > 0.0 && recall <= 1.0 => {
                let measured = self.file.header().calibration.ef(options.k.min(self.len()), recall);
                Ok(measured.filter(|_| recall < 1.0).unwrap_or(self.len()))
            }
            Effort::Recall(recall) => {
                let problem = format!("{recall} is not above 0 and at most 1");
                Err(Error::BadOption { option: "recall", problem })
            }
        }
    }

    /// The exact scores of candidates, the best `k` of them back, best first; of equal scores the smaller id
    /// comes first. A candidate named twice counts once, and one that the index does not have is reported.
    ///
    /// The same as [`Index::rank_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn rank(&self, user: &[f32], candidates: &[u64], k: usize) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k))
    }

    /// As [`Index::rank`]. The options decide how the answer is come by, not what it is.
    ///
    /// Costs one look-up and one inner product a candidate, and a partial selection. Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn rank_with(&self, user: &[f32], candidates: &[u64], options: &RankOptions) -> Result<Ranked> {
        self.check_user(user)?;
        let mut workspace = self.workspace_for(user);
        let Workspace { user, walk: Scratch { visited, .. }, rank, hits, .. } = &mut workspace;
        let ranking = self.ranking();
        let unknown = match ranking.look_up(candidates, rank) {
            0 => Vec::new(),
            _ => ranking.unknown(candidates, rank),
        };
        visited.clear();
        ranking.best(user, *options, |row| visited.insert(row), rank, hits);
        Ok(Ranked { hits: self.answer(workspace), unknown })
    }

    /// Writes the exact score of each candidate to the same place of `scores`; NaN for one that the index does not
    /// have. Returns how many of those there were. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::BadOption`] where `scores` is not as
    /// long as `candidates`.
    pub fn score(&self, user: &[f32], candidates: &[u64], scores: &mut [f32]) -> Result<usize> {
        self.check_user(user)?;
        if scores.len() != candidates.len() {
            let problem =
                format!("{} places for the scores of {} candidates", scores.len(), candidates.len());
            return Err(Error::BadOption { option: "scores", problem });
        }
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, .. } = &mut workspace;
        let unknown = self.ranking().score_all(user, candidates, rank, scores);
        self.put_back(workspace);
        Ok(unknown)
    }

    /// Reads the whole file and checks it: every checksum, every id, every value, every link, and that every row can
    /// be reached. `progress` is told each section's name as it begins.
    ///
    /// # Errors
    /// [`Error::Damaged`] for the first thing that does not hold.
    pub fn verify(&self, mut progress: impl FnMut(&'static str)) -> Result<()> {
        for section in Section::ALL {
            progress(section.name());
            self.file.check(section)?;
        }
        progress("values");
        self.verify_rows()?;
        if let Some(row) = self.quantized().and_then(|quantized| quantized.mismatch(self.rows())) {
            let problem = format!("row {row} is not quantised from its embedding");
            return Err(self.file.wrong(Section::Scales, row as usize, problem));
        }
        progress("id look-ups");
        self.id_map()
            .verify(self.ids())
            .map_err(|(row, problem)| self.file.wrong(Section::Ids, row, problem))?;
        progress("links");
        self.graph().verify().map_err(|flaw| self.file.wrong(flaw.section, flaw.value, flaw.problem))
    }

    /// What the file holds. Reads every row and every link of the base layer.
    pub fn info(&self) -> Info {
        let header = self.file.header();
        let sections = Section::ALL.map(|section| (section.name(), header.section(section).length));
        Info {
            rows: self.len(),
            dim: self.dim(),
            model_version: self.model_version().to_owned(),
            bytes: header.file_length,
            sections: sections.to_vec(),
            quantized: header.quantized == 1,
            builder: builder_name(header.builder),
            m: header.m as usize,
            ef_construction: header.ef_construction as usize,
            layers: header.layer_nodes[..header.layers()].to_vec(),
            calibration: header.calibration.points().collect(),
            norm_variation: self.norm_variation(),
            share: header.share,
            degree: self.degree(),
        }
    }

    fn norm_variation(&self) -> f64 {
        let norm =
            |(_, row): (u64, &[f32])| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let (sum, squares) = self
            .iter()
            .map(norm)
            .fold((0.0, 0.0), |(sum, squares), norm| (sum + norm, squares + norm * norm));
        let mean = sum / self.len() as f64;
        if mean > 0.0 { (squares / self.len() as f64 - mean * mean).max(0.0).sqrt() / mean } else { 0.0 }
    }

    fn degree(&self) -> (usize, f64, usize) {
        let graph = self.graph();
        let degrees = (0..self.len() as u32).map(|row| graph.links(row).count());
        let (least, sum, most) =
            degrees.fold((usize::MAX, 0, 0), |(least, sum, most), n| (least.min(n), sum + n, most.max(n)));
        (least, sum as f64 / self.len() as f64, most)
    }

    fn walk(&self, k: usize, ef: usize, workspace: &mut Workspace) {
        let ids = self.ids();
        let Workspace { user, walk, found, hits, .. } = workspace;
        search(self.graph(), self.rows(), self.quantized(), user, (k, ef), walk, found);
        // Integers sort faster than hits do, and put equal scores beside each other.
        found.sort_unstable_by(|a, b| b.cmp(a));
        hits.clear();
        hits.extend(found.iter().map(|found| Hit { id: ids[found.row() as usize], score: found.score() }));
        for equal in hits.chunk_by_mut(|a, b| a.score == b.score).filter(|equal| equal.len() > 1) {
            equal.sort_unstable_by_key(|hit| hit.id);
        }
        hits.truncate(k);
    }

    fn scan(&self, k: usize, workspace: &mut Workspace) {
        let mut top = TopK::new(k, std::mem::take(&mut workspace.hits));
        let (rows, ids) = (self.rows(), self.ids());
        let offer = |row: u32, score| top.offer(Hit { id: ids[row as usize], score });
        rows.score_all(&workspace.user, 0..self.len() as u32, offer);
        workspace.hits = top.into_sorted();
    }

    pub(crate) fn check_user(&self, user: &[f32]) -> Result<()> {
        if user.len() != self.dim() {
            return Err(Error::WrongDim { expected: self.dim(), found: user.len() });
        }
        problem_with(user).map_or(Ok(()), |problem| Err(Error::BadUser { problem }))
    }

    fn verify_rows(&self) -> Result<()> {
        let rows = self.rows();
        let stride = crate::vectors::stride_of(self.dim());
        let wrong = |row: u32, problem| Err(self.file.wrong(Section::Rows, row as usize * stride, problem));
        for row in 0..self.len() as u32 {
            if let Some(problem) = problem_with(rows.get(row)) {
                return wrong(row, format!("row {row}: {problem}"));
            }
            if rows.padding(row).iter().any(|&value| value.to_bits() != 0) {
                return wrong(row, format!("row {row}: its padding is not zero"));
            }
        }
        Ok(())
    }

    /// A workspace with the user embedding in it.
    fn workspace_for(&self, user: &[f32]) -> Workspace {
        let new = || Workspace {
            user: Vec::new(),
            walk: Scratch::new(self.len()),
            found: Vec::new(),
            rank: rank::Scratch::default(),
            hits: Vec::new(),
        };
        let mut workspace = self.workspaces.pop().unwrap_or_else(new);
        pad(user, &mut workspace.user);
        workspace
    }

    /// Keeps the workspace for a later query, unless enough are kept.
    fn put_back(&self, workspace: Workspace) {
        let _ = self.workspaces.push(workspace);
    }

    /// Copies the hits out and keeps the workspace.
    fn answer(&self, workspace: Workspace) -> Vec<Hit> {
        let hits = workspace.hits.clone();
        self.put_back(workspace);
        hits
    }

    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows::new(self.file.section(Section::Rows), self.dim())
    }

    fn quantized(&self) -> Option<Quantized<'_>> {
        let values = self.file.section(Section::QuantizedRows);
        let scales = self.file.section(Section::Scales);
        (self.file.header().quantized == 1).then(|| Quantized::new(values, scales, self.dim()))
    }

    fn id_map(&self) -> IdMap<'_> {
        let seed = self.file.header().id_seed;
        IdMap::new(self.file.section(Section::IdTable), self.len(), seed)
    }

    pub(crate) fn ranking(&self) -> Ranking<'_> {
        Ranking { map: self.id_map(), ids: self.ids(), rows: self.rows(), quantized: self.quantized() }
    }

    fn graph(&self) -> Graph<'_> {
        let header = self.file.header();
        let base = self.file.section(Section::BaseLayer);
        let layers = &header.layer_nodes[..header.layers()];
        Graph::new(header.entry, header.m as usize, base)
            .with_layers(layers, self.file.section(Section::UpperLayers))
    }
}
