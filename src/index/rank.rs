use super::Index;
use super::candidates::{Candidates, RowHandles};
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
    /// Where the index has `i8` rows, they bound the scores of all candidates, and only candidates that the
    /// bounds do not rule out are scored in `f32`. The answer is that of [`RankOptions::exact`], bit for bit,
    /// for less memory read.
    pub fn new(k: usize) -> RankOptions {
        RankOptions { k, exact: false }
    }

    /// Scores every candidate in `f32`. This is the reference. It is also faster where bounds rule out
    /// little, as for embeddings with a few values much larger than the others.
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
    /// The best `k` of many candidates by their exact scores, best first; of equal scores the smaller id
    /// comes first.
    ///
    /// Candidates are item ids, or [`RowHandles`] of this index. A candidate named twice counts once, and ids
    /// that the index does not have are reported. The same as [`Index::rank_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::StaleRows`] for handles of
    /// another index; [`Error::BadOption`] for 2^32 candidates and more.
    pub fn rank<'a>(&self, user: &[f32], candidates: impl Into<Candidates<'a>>, k: usize) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k))
    }

    /// As [`Index::rank`], with options. They decide how fast the answer is found, not what it is.
    ///
    /// Costs one look-up (for ids) and one inner product a candidate, and a partial selection. Allocates the
    /// answer only.
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

    /// Writes the exact score of each candidate to the same place of `scores`, and NaN for one that the index
    /// does not have. Returns how many it does not have. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::BadOption`] where `scores` is
    /// not as long as `candidates`.
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
