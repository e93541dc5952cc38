use super::Index;
use super::workspace::Workspace;
use crate::ids::NONE;
use crate::ranking::Source;
use crate::top::{Hit, keep_best};
use crate::{Error, Result};

/// How to rank: how many to return, and how to score.
///
/// ```
/// use itemdex::RankOptions;
///
/// let usual = RankOptions::new(1000);
/// let reference = RankOptions::new(1000).exact();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankOptions {
    pub(super) k: usize,
    pub(super) exact: bool,
}

impl RankOptions {
    /// Asks for the best `k` candidates; 0 gives none.
    ///
    /// Where the index has `i8` rows, they bound the scores of all candidates, and only candidates that the bounds do not
    /// rule out are scored in `f32`. The answer is that of [`RankOptions::exact`], bit for bit, for less memory read.
    pub fn new(k: usize) -> RankOptions {
        RankOptions { k, exact: false }
    }

    /// Scores every candidate in `f32`. This is the reference. It is also faster where bounds rule out little, as for
    /// embeddings with a few values much larger than the others.
    pub fn exact(mut self) -> RankOptions {
        self.exact = true;
        self
    }

    /// How many to return, and whether bounds may be used.
    pub(super) fn selection(&self) -> (usize, bool) {
        (self.k, !self.exact)
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }
}

/// Items of one index by their rows, which spare a rank the look-up. Takes 4 bytes an item; the order that the items were
/// given in is not kept.
///
/// For a channel that has searched the index already ([`Index::search_rows`]), or that brings the same items to many
/// requests ([`Index::look_up`]). Only an index of the same file, or of a copy of it, takes them; any other gives
/// [`Error::StaleRows`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, later) = (folder.path().join("items.itemdex"), folder.path().join("later.itemdex"));
/// # itemdex::IndexBuilder::new("v1").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
/// # itemdex::IndexBuilder::new("v2").build_from([(8, [1.0, 2.0]), (7, [2.0, 1.0])], &later)?;
/// let index = itemdex::Index::open(&path)?;
/// let popular = index.look_up(&[8, 7]);
/// assert_eq!(index.rank(&[0.0, 1.0], &popular, 1)?.hits[0].id, 7);
///
/// let rebuilt = itemdex::Index::open(&later)?;
/// assert!(rebuilt.rank(&[0.0, 1.0], &popular, 1).is_err());
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHandles {
    /// The fingerprint of the index, and how many rows it has: all of `rows` are below that.
    generation: (u64, usize),
    /// Ascending: the order that a rank visits them in.
    rows: Vec<u32>,
}

impl RowHandles {
    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What a rank takes: item ids, or row handles. Every method that takes candidates takes a reference to either.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Candidates<'a> {
    /// By id. The answer reports ids that the index does not have.
    Ids(&'a [u64]),
    /// By row, without a look-up.
    Rows(&'a RowHandles),
}

impl<'a> From<&'a [u64]> for Candidates<'a> {
    fn from(ids: &'a [u64]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for Candidates<'a> {
    fn from(ids: &'a [u64; N]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u64>> for Candidates<'a> {
    fn from(ids: &'a Vec<u64>) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a RowHandles> for Candidates<'a> {
    fn from(rows: &'a RowHandles) -> Self {
        Candidates::Rows(rows)
    }
}

/// The answer of [`Index::rank`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Ranked {
    /// The best candidates, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
}

impl Index {
    /// The best `k` of many candidates by their exact scores, best first; of equal scores the smaller id comes first.
    ///
    /// Candidates are item ids, or [`RowHandles`] of this index. A candidate named twice counts once, and ids that the
    /// index does not have are reported. The same as [`Index::rank_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::StaleRows`] for handles of another index;
    /// [`Error::BadOption`] for 2^32 candidates and more.
    pub fn rank<'a>(&self, user: &[f32], candidates: impl Into<Candidates<'a>>, k: usize) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k))
    }

    /// As [`Index::rank`], with options. They decide how fast the answer is found, not what it is.
    ///
    /// Costs one look-up (for ids) and one inner product a candidate, and a partial selection. Allocates the answer only.
    ///
    /// # Errors
    /// The errors of [`Index::rank`].
    pub fn rank_with<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<Candidates<'a>>,
        options: &RankOptions,
    ) -> Result<Ranked> {
        self.check_user(user)?;
        Ok(self.ranked(user, self.source(candidates.into())?, options))
    }

    /// The rows of items, one for each mention. Items that the index does not have are left out.
    ///
    /// Costs a cache miss an item, of which many are under way at once, and a sort.
    pub fn look_up(&self, ids: &[u64]) -> RowHandles {
        let mut rows = vec![NONE; ids.len()];
        self.id_map().rows(ids, &mut rows);
        rows.retain(|&row| row != NONE);
        rows.sort_unstable();
        RowHandles { generation: self.generation(), rows }
    }

    /// Writes the exact score of each candidate to the same place of `scores`, and NaN for one that the index does not
    /// have. Returns how many it does not have. Allocates nothing.
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

    pub(super) fn ranked(&self, user: &[f32], candidates: Source<'_>, options: &RankOptions) -> Ranked {
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, hits, .. } = &mut workspace;
        let ranking = self.ranking();
        let unknown = match ranking.look_up(candidates, rank) {
            0 => Vec::new(),
            _ => ranking.unknown(candidates, rank),
        };
        ranking.best(user, options.selection(), rank, hits);
        keep_best(hits, options.k, Hit::order);
        Ranked { hits: self.answer(workspace), unknown }
    }

    /// Checks that handles are of this index, and that candidates can be numbered.
    pub(super) fn source<'a>(&self, candidates: Candidates<'a>) -> Result<Source<'a>> {
        let source = match candidates {
            Candidates::Ids(ids) => Source::Ids(ids),
            Candidates::Rows(handles) if handles.generation == self.generation() => {
                Source::Rows(&handles.rows)
            }
            Candidates::Rows(_) => return Err(Error::StaleRows { path: self.file.path().to_owned() }),
        };
        check_total(&[source]).map(|()| source)
    }
}

/// Checks that the candidates of all sources together can be numbered.
pub(super) fn check_total(sources: &[Source<'_>]) -> Result<()> {
    let total = sources.iter().fold(0usize, |sum, source| sum.saturating_add(source.len()));
    match u32::try_from(total) {
        Ok(_) => Ok(()),
        Err(_) => {
            let problem = format!("there are {total}, and {} at most", u32::MAX);
            Err(Error::BadOption { option: "candidates", problem })
        }
    }
}
