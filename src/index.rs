//! The index: a mapped generation file, searched and scored.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam::queue::ArrayQueue;

use crate::channels::{self, Channel, ChannelHit, Chooser, MAX_CHANNELS, RankedChannels};
use crate::file::{IndexFile, Residence, Section};
use crate::graph::{Graph, Layers, Scored, Scratch, search};
use crate::ids::{IdMap, NONE};
use crate::rank::{self, Candidates, Contest, RankOptions, Ranked, Ranking, RowHandles, Source};
use crate::top::{Hit, keep_best};
use crate::vectors::{Quantized, Rows, pad, problem_with};
use crate::{Error, Matrix, Result};

/// Workspaces kept for later queries; more than this many queries at once allocate theirs anew.
const POOL: usize = 64;

/// Users who pass over the rows together: their embeddings and a block of rows stay in the core's nearest cache.
const USERS_A_GROUP: usize = 32;

/// The recall of a search that does not name one.
const DEFAULT_RECALL: f32 = 0.95;

/// The rows that a scan passes in the time that a walk takes for each place in its beam, without `i8` rows and with them, and
/// the width at which keeping the beam in order costs as much again.
const ROWS_A_PLACE: [usize; 2] = [24, 48];
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
    scan: [Contest; 1],
    hits: Vec<Hit>,
    channel_hits: Vec<ChannelHit>,
    chooser: Chooser,
}

/// How to search: for how many items, and how hard.
///
/// ```
/// use itemdex::{Plan, SearchOptions};
///
/// let usual = SearchOptions::new(100);
/// let thorough = SearchOptions::new(100).recall(0.99);
/// let by_hand = SearchOptions::new(100).ef(400);
/// let certain = SearchOptions::new(50_000).plan(Plan::Scan);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchOptions {
    k: usize,
    effort: Effort,
    plan: Option<Plan>,
}

/// How a search comes by its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// By a walk over the graph: approximate.
    Graph,
    /// By scoring every row: exact.
    Scan,
}

/// The answer of [`Index::search_with`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The items, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// How they were found.
    pub plan: Plan,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Effort {
    Recall(f32),
    Ef(usize),
}

impl SearchOptions {
    /// Asks for the best `k` items at a recall of 0.95. More items than the index holds gives all of them, 0 gives none.
    pub fn new(k: usize) -> SearchOptions {
        SearchOptions { k, effort: Effort::Recall(DEFAULT_RECALL), plan: None }
    }

    /// Asks for this recall: the share of the exact best `k` that is found, in the mean over users, above 0 and at most 1.
    ///
    /// The beam that reaches it is read off what was measured at build ([`Info::calibration`]), on users of the sample
    /// that the graph was not fitted to. A recall that no measured beam reached is answered by scoring every row, and
    /// so is 1, in `f32` throughout. Without a user sample the measured queries are made of items, and your users may fare
    /// otherwise.
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

    /// Whether a scan may bound scores by `i8` rows.
    fn bounds(&self) -> bool {
        self.effort != Effort::Recall(1.0)
    }

    /// Walks or scans, whichever this says; otherwise whichever is expected to be faster for the index's size and the beam.
    /// [`Found::plan`] tells.
    pub fn plan(mut self, plan: Plan) -> SearchOptions {
        self.plan = Some(plan);
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
    pub augmentation: f32,
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

    /// The best `k` items for a user, best first: approximate where a walk over the graph finds them.
    ///
    /// The same as the hits of [`Index::search_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.search_with(user, &SearchOptions::new(k))?.hits)
    }

    /// The best items for a user, and whether they were walked to or scanned for.
    ///
    /// Scores are exact. Which items a walk finds is not: it scores some 10 to 30 rows for each place of its beam. Where that
    /// is expected to take longer than a scan, as for many items of a small index, every row is scanned instead, and the
    /// answer is exact. A scan streams over the `i8` rows, if there are any, and scores in `f32` what their bounds leave; at
    /// a recall of 1, for a user or rows whose bounds tell little, and for more than an eighth of the items it scores all in
    /// `f32`. Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding, [`Error::BadOption`] for a recall that is none.
    pub fn search_with(&self, user: &[f32], options: &SearchOptions) -> Result<Found> {
        self.check_user(user)?;
        let k = options.k.min(self.len());
        let ef = self.ef(options)?;
        let plan = self.plan(ef, options);
        if k == 0 {
            return Ok(Found { hits: Vec::new(), plan });
        }
        let mut workspace = self.workspace_for(user);
        match plan {
            Plan::Graph => self.walk(k, ef, &mut workspace),
            Plan::Scan => {
                let scan = &mut workspace.scan;
                scan[0].set_user(user);
                self.ranking().best_for_each(None, k, options.bounds(), scan);
                std::mem::swap(&mut workspace.hits, &mut scan[0].hits);
            }
        }
        Ok(Found { hits: self.answer(workspace), plan })
    }

    /// The rows of the items that [`Index::search_with`] finds, for a rank by this index: what a recall channel hands on where nobody
    /// needs its scores.
    ///
    /// Costs a look-up an item beside the search, and allocates the search's answer, its ids and the handles.
    ///
    /// # Errors
    /// As [`Index::search_with`].
    pub fn search_rows(&self, user: &[f32], options: &SearchOptions) -> Result<RowHandles> {
        // Looking an item up costs a fiftieth of finding it: not worth hits of a second kind.
        let ids: Vec<u64> = self.search_with(user, options)?.hits.iter().map(|hit| hit.id).collect();
        Ok(self.look_up(&ids))
    }

    /// The rows of items, each as often as it is named; what the index does not have is left out.
    ///
    /// Costs a cache miss an item, of which many are under way at once, and a sort.
    pub fn look_up(&self, ids: &[u64]) -> RowHandles {
        let mut rows = vec![NONE; ids.len()];
        self.id_map().rows(ids, &mut rows);
        rows.retain(|&row| row != NONE);
        rows.sort_unstable();
        RowHandles { generation: self.generation(), rows }
    }

    /// The items of several users at once, an answer each, in their order: the same as [`Index::search_with`] gives, bit for bit.
    ///
    /// Users are spread over `threads`, at least 1. Where rows are scanned, 32 users share a pass, in which a row is loaded once for
    /// all of them; walks share nothing. Allocates the answers, and for a scan what it holds for 32 users on each thread.
    ///
    /// # Errors
    /// As [`Index::search_with`], for the first user at fault; then no user has an answer.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// let users = itemdex::Matrix::new(2, vec![0.0, 1.0, 1.0, 0.0])?;
    /// let found = index.search_many(&users, &itemdex::SearchOptions::new(1), 2)?;
    /// assert_eq!((found[0].hits[0].id, found[1].hits[0].id), (7, 8));
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn search_many(&self, users: &Matrix, options: &SearchOptions, threads: usize) -> Result<Vec<Found>> {
        self.check_users(users)?;
        let k = options.k.min(self.len());
        let ef = self.ef(options)?;
        let plan = self.plan(ef, options);
        let mut answers = vec![Vec::new(); users.len()];
        match plan {
            Plan::Scan => answers = self.best_for_each(users, None, k, options.bounds(), threads, |_| ()),
            Plan::Graph if k == 0 => {}
            Plan::Graph => spread(&mut answers, threads, |first, answers| {
                for (user, answer) in (first..).zip(answers) {
                    let mut workspace = self.workspace_for(users.row(user));
                    self.walk(k, ef, &mut workspace);
                    *answer = self.answer(workspace);
                }
            }),
        }
        Ok(answers.into_iter().map(|hits| Found { hits, plan }).collect())
    }

    /// The best `k` of `listed` rows, each listed once, or of all, for each user; `progress` is told after each group of users how
    /// many are done.
    pub(crate) fn best_for_each(
        &self,
        users: &Matrix,
        listed: Option<&[u32]>,
        k: usize,
        bounded: bool,
        threads: usize,
        progress: impl Fn(usize) + Sync,
    ) -> Vec<Vec<Hit>> {
        let done = AtomicUsize::new(0);
        let mut answers = vec![Vec::new(); users.len()];
        if k == 0 {
            return answers;
        }
        spread(&mut answers, threads, |first, answers| {
            let mut contests = Vec::new();
            for (group, answers) in answers.chunks_mut(USERS_A_GROUP).enumerate() {
                contests.resize_with(answers.len(), Contest::default);
                let group = first + group * USERS_A_GROUP;
                for (user, contest) in contests.iter_mut().enumerate() {
                    contest.set_user(users.row(group + user));
                }
                self.ranking().best_for_each(listed, k, bounded, &mut contests);
                answers
                    .iter_mut()
                    .zip(&contests)
                    .for_each(|(answer, contest)| answer.clone_from(&contest.hits));
                progress(done.fetch_add(answers.len(), Ordering::Relaxed) + answers.len());
            }
        });
        answers
    }

    /// What is faster for a beam of `ef`, unless it is decided.
    fn plan(&self, ef: usize, options: &SearchOptions) -> Plan {
        let bounded = options.bounds() && self.quantized().is_some();
        let rows_a_place = ROWS_A_PLACE[usize::from(bounded)];
        let rows_a_walk = ef.saturating_mul(rows_a_place).saturating_mul(1 + ef / WIDE);
        let faster = if rows_a_walk >= self.len() { Plan::Scan } else { Plan::Graph };
        options.plan.unwrap_or(faster)
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
    /// Candidates are item ids, or [`RowHandles`] of this index. The same as [`Index::rank_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::StaleRows`] for handles of another index;
    /// [`Error::BadOption`] for 2^32 candidates and more.
    pub fn rank<'a>(&self, user: &[f32], candidates: impl Into<Candidates<'a>>, k: usize) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k))
    }

    /// As [`Index::rank`]. The options decide how the answer is come by, not what it is.
    ///
    /// Costs one look-up, for ids, and one inner product a candidate, and a partial selection. Allocates the answer only.
    ///
    /// # Errors
    /// As [`Index::rank`].
    pub fn rank_with<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<Candidates<'a>>,
        options: &RankOptions,
    ) -> Result<Ranked> {
        self.check_user(user)?;
        Ok(self.ranked(user, self.source(candidates.into())?, options))
    }

    /// The best `k` of what several recall channels bring, each item once, with the channels that brought it: as [`Index::rank`] of
    /// all their candidates, within the channels' quotas.
    ///
    /// A hit counts for every channel that brought it. First each channel, in the order given, gets the best of its own until it
    /// has [`Channel::at_least`] so many, then the best of all fill up; no item is taken that would give a channel more than
    /// [`Channel::at_most`], so there may be fewer than `k`. Where no two channels share items, no choice of as many within the
    /// quotas scores higher.
    ///
    /// Costs what ranking the candidates costs and some nanoseconds for each; with quotas all of them are scored in `f32`.
    /// Allocates the answer only.
    ///
    /// # Errors
    /// As [`Index::rank`]; [`Error::BadOption`] for more than [`MAX_CHANNELS`], for a channel that is to have more
    /// hits at least than at most, and for channels that are to have more than `k` in all.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # let items = (0..1000u64).map(|i| (i, [(i as f32).sin(), (i as f32).cos(), 0.1]));
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from(items, &path)?;
    /// use itemdex::{Channel, Index, RankOptions, SearchOptions};
    ///
    /// let index = Index::open(&path)?;
    /// let user = [0.3, 0.9, 1.0];
    /// let found = index.search_rows(&user, &SearchOptions::new(50))?;
    /// let uploaded_today = [990, 991, 992, 993, 1017];
    /// let channels = [Channel::new(&found), Channel::new(&uploaded_today).at_least(2)];
    ///
    /// let ranked = index.rank_channels(&user, &channels, &RankOptions::new(10))?;
    /// assert_eq!(ranked.hits.iter().filter(|hit| hit.channels & 0b10 != 0).count(), 2);
    /// assert_eq!(ranked.unknown, [1017]);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn rank_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions,
    ) -> Result<RankedChannels> {
        let sources = self.sources(user, channels, options.k)?;
        Ok(self.ranked_channels(user, channels, &sources[..channels.len()], options, &[]))
    }

    /// The same, where `sources` are what channels bring of this index, and `others` are hits beside them.
    pub(crate) fn ranked_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        sources: &[Source<'_>],
        options: &RankOptions,
        others: &[ChannelHit],
    ) -> RankedChannels {
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, hits, channel_hits, chooser, .. } = &mut workspace;
        let ranking = self.ranking();
        let unknown = ranking.merge(sources, rank);
        let quotas = channels.iter().any(|channel| channel.has_quota(options.k));
        match quotas {
            true => ranking.score_visits(user, rank, hits),
            false => ranking.best(user, *options, rank, hits),
        }
        channel_hits.clear();
        channel_hits
            .extend(hits.iter().zip(rank.channels()).map(|(&hit, channels)| ChannelHit::new(hit, channels)));
        channel_hits.extend_from_slice(others);
        match quotas {
            true => chooser.choose(channel_hits, options.k, channels),
            false => keep_best(channel_hits, options.k, ChannelHit::order),
        }
        let hits = channel_hits.clone();
        self.put_back(workspace);
        RankedChannels { hits, unknown }
    }

    /// Checks that channels can be ranked for a user; returns what they bring.
    pub(crate) fn sources<'a>(
        &self,
        user: &[f32],
        channels: &[Channel<'a>],
        k: usize,
    ) -> Result<[Source<'a>; MAX_CHANNELS]> {
        self.check_user(user)?;
        channels::check(channels, k)?;
        let mut sources = [Source::Ids(&[]); MAX_CHANNELS];
        for (source, channel) in sources.iter_mut().zip(channels) {
            *source = self.source(channel.candidates)?;
        }
        check_total(&sources)?;
        Ok(sources)
    }

    /// Checks that handles are of this index.
    pub(crate) fn source<'a>(&self, candidates: Candidates<'a>) -> Result<Source<'a>> {
        let source = match candidates {
            Candidates::Ids(ids) => Source::Ids(ids),
            Candidates::Rows(handles) if handles.generation == self.generation() => {
                Source::Rows(&handles.rows)
            }
            Candidates::Rows(_) => return Err(Error::StaleRows { path: self.file.path().to_owned() }),
        };
        check_total(&[source]).map(|()| source)
    }

    /// What tells this index from all others.
    pub(crate) fn generation(&self) -> (u64, usize) {
        (self.fingerprint(), self.len())
    }

    /// The candidates of several users at once, an answer each, in their order: the same as [`Index::rank_with`] gives, bit for bit.
    ///
    /// `candidates` is one list for all users, or a list for each, of ids or of row handles. Users are spread over `threads`, at least 1. One list is looked
    /// up once, and 32 users share a pass over it, in which a row is loaded once for all of them; lists of their own share
    /// nothing. Allocates the answers, and for one list what it holds for 32 users on each thread.
    ///
    /// # Errors
    /// As [`Index::rank_with`], for the first user at fault; [`Error::BadOption`] where there are neither one list nor as many as
    /// users. Then no user has an answer.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// let users = itemdex::Matrix::new(2, vec![0.0, 1.0, 1.0, 0.0])?;
    /// let ranked = index.rank_many(&users, &[&[7, 8, 9]], &itemdex::RankOptions::new(1), 2)?;
    /// assert_eq!((ranked[0].hits[0].id, ranked[1].hits[0].id), (7, 8));
    /// assert_eq!(ranked[1].unknown, [9]);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn rank_many<'a, C: Into<Candidates<'a>> + Copy>(
        &self,
        users: &Matrix,
        candidates: &[C],
        options: &RankOptions,
        threads: usize,
    ) -> Result<Vec<Ranked>> {
        self.check_users(users)?;
        let sources = candidates.iter().map(|&list| self.source(list.into()));
        let sources: Vec<Source<'_>> = sources.collect::<Result<_>>()?;
        if users.len() == sources.len() {
            let mut answers = vec![Ranked::default(); users.len()];
            spread(&mut answers, threads, |first, answers| {
                for (user, answer) in (first..).zip(answers) {
                    *answer = self.ranked(users.row(user), sources[user], options);
                }
            });
            return Ok(answers);
        }
        let &[shared] = &*sources else {
            let problem = format!(
                "{} lists for {} users; give one list for all, or one for each",
                candidates.len(),
                users.len()
            );
            return Err(Error::BadOption { option: "candidates", problem });
        };
        let mut workspace = self.workspace();
        let unknown = self.ranking().merge(&[shared], &mut workspace.rank);
        let rows = &workspace.rank.visits;
        let k = options.k.min(rows.len());
        let answers = self.best_for_each(users, Some(rows), k, !options.exact, threads, |_| ());
        self.put_back(workspace);
        Ok(answers.into_iter().map(|hits| Ranked { hits, unknown: unknown.clone() }).collect())
    }

    pub(crate) fn ranked(&self, user: &[f32], candidates: Source<'_>, options: &RankOptions) -> Ranked {
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, hits, .. } = &mut workspace;
        let ranking = self.ranking();
        let unknown = match ranking.look_up(candidates, rank) {
            0 => Vec::new(),
            _ => ranking.unknown(candidates, rank),
        };
        ranking.best(user, *options, rank, hits);
        keep_best(hits, options.k, Hit::order);
        Ranked { hits: self.answer(workspace), unknown }
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
        self.graph().verify().map_err(|flaw| {
            let section = match flaw.layers {
                Layers::Base => Section::BaseLayer,
                Layers::Upper => Section::UpperLayers,
            };
            self.file.wrong(section, flaw.value, flaw.problem)
        })
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
            augmentation: header.augmentation,
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

    pub(crate) fn check_users(&self, users: &Matrix) -> Result<()> {
        users.rows().try_for_each(|user| self.check_user(user))
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
        let mut workspace = self.workspace();
        pad(user, &mut workspace.user);
        workspace
    }

    fn workspace(&self) -> Workspace {
        let new = || Workspace {
            user: Vec::new(),
            walk: Scratch::new(self.len()),
            found: Vec::new(),
            rank: rank::Scratch::default(),
            scan: Default::default(),
            hits: Vec::new(),
            channel_hits: Vec::new(),
            chooser: Chooser::default(),
        };
        self.workspaces.pop().unwrap_or_else(new)
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

/// Checks that candidates can be numbered, all together.
fn check_total(sources: &[Source<'_>]) -> Result<()> {
    let total = sources.iter().fold(0usize, |sum, source| sum.saturating_add(source.len()));
    match u32::try_from(total) {
        Ok(_) => Ok(()),
        Err(_) => {
            let problem = format!("there are {total}, and {} at most", u32::MAX);
            Err(Error::BadOption { option: "candidates", problem })
        }
    }
}

/// Calls `each` on as many threads, at least 1, with a part of `answers` and the number of its first.
fn spread<T: Send>(answers: &mut [T], threads: usize, each: impl Fn(usize, &mut [T]) + Sync) {
    let share = answers.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        for (number, answers) in answers.chunks_mut(share).enumerate() {
            let each = &each;
            scope.spawn(move || each(number * share, answers));
        }
    });
}
