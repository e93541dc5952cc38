use super::Index;
use super::candidates::{Candidates, RowHandles};
use super::gate::{Dropped, Gate, Sieve};
use super::options::RankOptions;
use super::workspace::Workspace;
use crate::ids::NONE;
use crate::ranking::{self, Source};
use crate::top::{Hit, keep_best};
use crate::{Error, Result};

/// With fewer candidates than one in so many rows, a rank asks of each whether it may be seen.
const FEW: usize = 64;

/// The answer of [`Index::rank`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Ranked {
    /// The best candidates, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
    /// How many of the candidates that it has were left out, and why.
    pub dropped: Dropped,
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
        options: &RankOptions<'_>,
    ) -> Result<Ranked> {
        let mut ranked = Ranked::default();
        self.rank_into(user, candidates, options, &mut ranked)?;
        Ok(ranked)
    }

    /// As [`Index::rank_with`], into the answer of an earlier rank. Allocates nothing once that has held as
    /// many hits and unknown ids. After an error it is as it was.
    ///
    /// # Errors
    /// The errors of [`Index::rank`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// use itemdex::{RankOptions, Ranked};
    ///
    /// let (mut ranked, options) = (Ranked::default(), RankOptions::new(1));
    /// for (user, best) in [([0.0, 1.0], 7), ([1.0, 0.0], 8)] {
    ///     index.rank_into(&user, &[7, 8, 9], &options, &mut ranked)?;
    ///     assert_eq!((ranked.hits[0].id, &*ranked.unknown), (best, &[9][..]));
    /// }
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn rank_into<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<Candidates<'a>>,
        options: &RankOptions<'_>,
        ranked: &mut Ranked,
    ) -> Result<()> {
        self.check_user(user)?;
        self.check_shown(&options.shown)?;
        self.ranked(user, self.source(candidates.into())?, options, ranked);
        Ok(())
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
    /// The same as [`Index::score_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::BadOption`] where `scores` is
    /// not as long as `candidates`.
    pub fn score(&self, user: &[f32], candidates: &[u64], scores: &mut [f32]) -> Result<usize> {
        self.score_with(user, candidates, &RankOptions::new(0), scores)
    }

    /// As [`Index::score`], with NaN also for candidates that the options leave out, and those counted too.
    /// How many a rank would keep does not matter here.
    ///
    /// # Errors
    /// The errors of [`Index::score`]; [`Error::StaleRows`] for sets of another index.
    pub fn score_with(
        &self,
        user: &[f32],
        candidates: &[u64],
        options: &RankOptions<'_>,
        scores: &mut [f32],
    ) -> Result<usize> {
        self.check_user(user)?;
        self.check_shown(&options.shown)?;
        check_places(candidates, scores)?;
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, sieve: Sieve { named, .. }, .. } = &mut *workspace;
        let gate = self.gate(&options.shown, &[], named);
        let passes = |row| gate.is_open() || gate.verdict(row, self.ids()).is_none();
        let without = self.ranking().score_all(user, candidates, passes, rank, scores);
        self.put_back(workspace);
        Ok(without)
    }

    /// The same for candidates that are checked.
    pub(super) fn ranked(
        &self,
        user: &[f32],
        candidates: Source<'_>,
        options: &RankOptions<'_>,
        ranked: &mut Ranked,
    ) {
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, hits, sieve: Sieve { named, passing }, .. } = &mut *workspace;
        let ranking = self.ranking();
        match ranking.look_up(candidates, rank) {
            0 => ranked.unknown.clear(),
            _ => ranking.unknown(candidates, rank, &mut ranked.unknown),
        }
        let gate = self.gate(&options.shown, &[], named);
        let mut dropped = Dropped::default();
        if !gate.is_open() {
            let only_reason = gate.only_reason();
            let note = |row| match only_reason {
                Some(reason) => dropped.count(reason),
                None => _ = dropped.note(gate.verdict(row, ranking.ids)),
            };
            // For few candidates, bits of all rows would take longer than to ask of each.
            let many = rank.visits.len() > self.len() / FEW && !gate.asks();
            let selected = if many { gate.select(passing) } else { None };
            match selected.filter(|rows| !rows.is_listed_only()) {
                Some(rows) => ranking.retain_visits(rank, |row| rows.set().contains(row), note),
                None => {
                    ranking.retain_visits(rank, |row| gate.verdict(row, ranking.ids).is_none(), note);
                }
            }
        }
        ranking.best(user, options.selection(), rank, hits);
        keep_best(hits, options.k, Hit::order);
        ranked.hits.clone_from(hits);
        ranked.dropped = dropped;
        self.put_back(workspace);
    }

    /// Looks up candidates and leaves those to be seen, each once, and the unknown ids; what was left out.
    pub(super) fn merge(
        &self,
        sources: &[Source<'_>],
        gate: &Gate<'_>,
        rank: &mut ranking::Scratch,
        unknown: &mut Vec<u64>,
    ) -> Dropped {
        let ranking = self.ranking();
        ranking.merge(sources, rank, unknown);
        let mut dropped = Dropped::default();
        if !gate.is_open() {
            ranking.retain_merged(rank, |row, _| dropped.note(gate.verdict(row, ranking.ids)));
        }
        dropped
    }

    /// Checks that handles are of this index, and that candidates can be numbered.
    pub(super) fn source<'a>(&self, candidates: Candidates<'a>) -> Result<Source<'a>> {
        let (handles, ids) = candidates.parts();
        if handles.is_some_and(|handles| handles.generation != self.generation()) {
            return Err(Error::StaleRows { path: self.file.path().to_owned() });
        }
        let source = Source { ids, rows: handles.map_or(&[], |handles| &handles.rows) };
        check_total(&[source]).map(|()| source)
    }
}

/// Checks that there is a place for the score of each candidate.
pub(crate) fn check_places(candidates: &[u64], scores: &[f32]) -> Result<()> {
    if scores.len() == candidates.len() {
        return Ok(());
    }
    let problem = format!("{} places for the scores of {} candidates", scores.len(), candidates.len());
    Err(Error::BadOption { option: "scores", problem })
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
