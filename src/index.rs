//! The index: a mapped generation file, searched and scored.

use std::path::Path;

use crossbeam::queue::ArrayQueue;

use crate::file::{IndexFile, Section};
use crate::graph::{Graph, Scored, Scratch, search};
use crate::ids::{BULK, IdMap, NONE};
use crate::top::{Hit, TopK, keep_best};
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

/// What a query needs beside the index, kept for the next one.
struct Workspace {
    /// The user embedding, padded as rows are.
    user: Vec<f32>,
    walk: Scratch,
    found: Vec<Scored>,
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

/// The answer of [`Index::rank`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranked {
    /// The best candidates, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
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
    /// The fewest, the mean and the most base links a row.
    pub degree: (usize, f64, usize),
}

impl Index {
    /// Maps an index file. Reads its first page only, so it takes about as long at any size: the pages are read
    /// from disk when first used.
    ///
    /// The header, the bounds of every section and the file's length are checked here; [`Index::verify`] checks
    /// the contents too.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAnIndex`], [`Error::UnknownFormat`], [`Error::Damaged`].
    pub fn open(path: impl AsRef<Path>) -> Result<Index> {
        let file = IndexFile::open(path.as_ref())?;
        let header = file.header();
        tracing::debug!(path = %file.path().display(), rows = header.rows, "opened an index");
        Ok(Index { file, workspaces: ArrayQueue::new(POOL) })
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
    /// Costs one look-up and one inner product a candidate, and a partial selection. Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn rank(&self, user: &[f32], candidates: &[u64], k: usize) -> Result<Ranked> {
        self.check_user(user)?;
        let mut workspace = self.workspace_for(user);
        let Workspace { user, walk: Scratch { visited, .. }, hits, .. } = &mut workspace;
        visited.clear();
        hits.clear();
        let mut unknown = Vec::new();
        self.score_each(user, candidates, |_, id, row, score| match score {
            Some(score) if visited.insert(row) => hits.push(Hit { id, score }),
            Some(_) => {}
            None => unknown.push(id),
        });
        keep_best(hits, k);
        unknown.sort_unstable();
        unknown.dedup();
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
        let mut unknown = 0;
        let workspace = self.workspace_for(user);
        self.score_each(&workspace.user, candidates, |place, _, _, score| {
            unknown += usize::from(score.is_none());
            scores[place] = score.unwrap_or(f32::NAN);
        });
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
        self.id_map().verify().map_err(|(row, problem)| self.file.wrong(Section::Ids, row, problem))?;
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
        let ids = self.id_map();
        let Workspace { user, walk, found, hits } = workspace;
        search(self.graph(), self.rows(), self.quantized(), user, (k, ef), walk, found);
        // Integers sort faster than hits do, and put equal scores beside each other.
        found.sort_unstable_by(|a, b| b.cmp(a));
        hits.clear();
        hits.extend(found.iter().map(|found| Hit { id: ids.id(found.row()), score: found.score() }));
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

    /// Calls `found` with the place, id, row and score of each candidate; no score where the id is unknown.
    fn score_each(
        &self,
        user: &[f32],
        candidates: &[u64],
        mut found: impl FnMut(usize, u64, u32, Option<f32>),
    ) {
        let (rows, ids) = (self.rows(), self.id_map());
        let (mut found_rows, mut scores) = ([NONE; BULK], [0.0; BULK]);
        for (number, bulk) in candidates.chunks(BULK).enumerate() {
            ids.rows(bulk, &mut found_rows);
            let known = found_rows[..bulk.len()].iter().filter(|&&row| row != NONE);
            known.for_each(|&row| rows.prefetch(row));
            // An unknown id is scored as if it were at row 0, and that score is not used.
            let known_rows = found_rows.map(|row| if row == NONE { 0 } else { row });
            rows.scores(user, &known_rows[..bulk.len()], &mut scores[..bulk.len()]);
            for (place, (&id, &row)) in bulk.iter().zip(&found_rows).enumerate() {
                let score = (row != NONE).then_some(scores[place]);
                found(number * BULK + place, id, row, score);
            }
        }
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
        IdMap::new(self.ids(), self.file.section(Section::IdTable), seed)
    }

    fn graph(&self) -> Graph<'_> {
        let header = self.file.header();
        let base = self.file.section(Section::BaseLayer);
        let layers = &header.layer_nodes[..header.layers()];
        Graph::new(header.entry, header.m as usize, base)
            .with_layers(layers, self.file.section(Section::UpperLayers))
    }
}
