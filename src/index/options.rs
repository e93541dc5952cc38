//! What requests ask for.

use std::time::{SystemTime, UNIX_EPOCH};

use super::items::Items;
use crate::columns::Filter;

/// The recall of a search that does not name one.
const DEFAULT_RECALL: f32 = 0.95;

/// What of the items a request may see: everything that has not expired, unless it says otherwise.
///
/// [`SearchOptions`] and [`RankOptions`] have a method for each part. Make one of these where a request
/// searches and ranks, so that it sees the same items in both.
///
/// ```
/// use itemdex::{RankOptions, SearchOptions, Shown};
///
/// let seen = [31, 62];
/// let shown = Shown { deny: Some((&seen).into()), ..Shown::default() };
/// let (found, ranked) = (SearchOptions::new(100).shown(shown), RankOptions::new(10).shown(shown));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// Only items that this keeps.
    pub filter: Option<&'a Filter>,
    /// None of these items.
    pub deny: Option<Items<'a>>,
    /// Only these items.
    pub allow: Option<Items<'a>>,
    /// The second since 1970 that decides what has expired; without it, that of the call.
    pub now: Option<i64>,
}

impl<'a> Shown<'a> {
    /// The ids that are denied, if it is ids that are.
    fn denied_ids(&self) -> Option<&'a [u64]> {
        match self.deny {
            Some(Items::Ids(ids)) => Some(ids),
            _ => None,
        }
    }

    /// The same without these.
    fn without_denied_ids(self) -> Self {
        let deny = self.deny.filter(|items| !matches!(items, Items::Ids(_)));
        Shown { deny, ..self }
    }

    /// The same, at one second throughout.
    pub(crate) fn at_one_second(mut self) -> Self {
        self.now.get_or_insert_with(seconds_now);
        self
    }
}

/// The seconds since 1970.
pub(super) fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
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
/// let to_rank_afterwards = SearchOptions::new(50_000).approximate_scores();
/// let unseen = SearchOptions::new(100).deny(&[31, 62]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions<'a> {
    k: usize,
    pub(super) goal: Goal,
    pub(super) plan: Option<Plan>,
    approximate_scores: bool,
    pub(crate) shown: Shown<'a>,
}

/// How a search finds its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// A walk over the graph: approximate. Fast for few items.
    Graph,
    /// A search by partitions: it reads codes of the clusters that promise most, and scores the rows that the
    /// codes put first. Approximate; exact at a recall of 1. Fast for many items.
    Partitions,
    /// A scan that scores every row: exact.
    Scan,
}

impl Plan {
    /// The plan in one word, as `itemdex` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Graph => "graph",
            Plan::Partitions => "partitions",
            Plan::Scan => "scan",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    Recall(f32),
    Ef(usize),
}

impl<'a> SearchOptions<'a> {
    /// Asks for the best `k` items at a recall of 0.95. A `k` beyond the index gives all of its items, 0
    /// gives none.
    pub fn new(k: usize) -> SearchOptions<'a> {
        let goal = Goal::Recall(DEFAULT_RECALL);
        SearchOptions { k, goal, plan: None, approximate_scores: false, shown: Shown::default() }
    }

    /// Asks for a recall, above 0 and at most 1: the share of the exact best `k` that is found, in the mean
    /// over users.
    ///
    /// The build measured what each plan has to read for a recall, on users of the sample that it kept for
    /// this ([`Info::calibration`](crate::Info::calibration) has the table of the graph). At a recall of 1
    /// the answer is that of scoring every row in `f32`, bit for bit. It is the same where no measured effort
    /// reached the recall. Without a user sample the build measures on queries made of items, and your users
    /// may get another recall.
    pub fn recall(mut self, recall: f32) -> SearchOptions<'a> {
        self.goal = Goal::Recall(recall);
        self
    }

    /// Walks with this beam instead: the walk goes on from the best `ef` items seen so far. A wider beam
    /// finds more and takes time in proportion.
    ///
    /// It may be below `k`: items that the walk scored beside its beam count too. Where the index has no
    /// graph, this asks for a recall of 0.95.
    pub fn ef(mut self, ef: usize) -> SearchOptions<'a> {
        self.goal = Goal::Ef(ef);
        self
    }

    /// Takes this plan. By default a search takes the plan that is expected to be fastest for the index, the
    /// number of items and the recall; [`Found::plan`](crate::Found::plan) says which it took.
    ///
    /// A plan that the index was built without is an error of the search.
    pub fn plan(mut self, plan: Plan) -> SearchOptions<'a> {
        self.plan = Some(plan);
        self
    }

    /// Lets a search by partitions answer with approximate scores, where the index has `i8` rows: for callers
    /// who rank afterwards anyway. Hits then carry the scores of the `i8` rows and are in their order. Each
    /// is off by at most some hundredths of the user's norm times the item's. This saves most of the time for
    /// tens of thousands of items. Other plans ignore it.
    pub fn approximate_scores(mut self) -> SearchOptions<'a> {
        self.approximate_scores = true;
        self
    }

    /// Finds no other items than those that the filter keeps.
    pub fn filter(mut self, filter: &'a Filter) -> SearchOptions<'a> {
        self.shown.filter = Some(filter);
        self
    }

    /// Leaves these items out of the answer. Items that were denied are passed over and never counted: the
    /// answer has `k` others, or all there are.
    pub fn deny(mut self, items: impl Into<Items<'a>>) -> SearchOptions<'a> {
        self.shown.deny = Some(items.into());
        self
    }

    /// Finds no other items than these.
    pub fn allow(mut self, items: impl Into<Items<'a>>) -> SearchOptions<'a> {
        self.shown.allow = Some(items.into());
        self
    }

    /// Answers as at a second since 1970: items that have expired by then are left out. Without it, as at the
    /// second of the call.
    pub fn now(mut self, seconds: i64) -> SearchOptions<'a> {
        self.shown.now = Some(seconds);
        self
    }

    /// Finds no other items than a request may see. Replaces what was said of that before.
    pub fn shown(mut self, shown: Shown<'a>) -> SearchOptions<'a> {
        self.shown = shown;
        self
    }

    /// The same, at one second throughout.
    pub(crate) fn at_one_second(mut self) -> SearchOptions<'a> {
        self.shown = self.shown.at_one_second();
        self
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The same for another number of items.
    pub(crate) fn for_k(self, k: usize) -> SearchOptions<'a> {
        SearchOptions { k, ..self }
    }

    /// The same for more items, of which no more are missed than of `k` now.
    pub(super) fn for_more(self, k: usize) -> SearchOptions<'a> {
        let goal = match self.goal {
            Goal::Recall(recall) => Goal::Recall(1.0 - (1.0 - recall) * self.k as f32 / k as f32),
            Goal::Ef(ef) => Goal::Ef(ef),
        };
        SearchOptions { goal, ..self.for_k(k) }
    }

    /// For how many items to search at first, to take these ids out.
    pub(super) fn past(self, ids: &[u64]) -> SearchOptions<'a> {
        self.for_k(self.k.saturating_add(ids.len().min(self.k)))
    }

    /// Whether a scan may bound scores by `i8` rows. One that is asked for at a recall of 1 may not: other answers are
    /// compared with it.
    pub(super) fn bounding(&self) -> bool {
        self.goal != Goal::Recall(1.0) || self.plan != Some(Plan::Scan)
    }

    pub(crate) fn approximate(&self) -> bool {
        self.approximate_scores
    }

    /// Whether the beam of the walk is given.
    pub(super) fn is_by_beam(&self) -> bool {
        matches!(self.goal, Goal::Ef(_))
    }

    /// The ids that are denied and taken out of what was found; those of an exact answer are looked up before.
    pub(super) fn denied_afterwards(&self) -> Option<&'a [u64]> {
        self.shown.denied_ids().filter(|_| self.recall_or_default() < 1.0)
    }

    /// What a request may see, but for these.
    pub(super) fn shown_before(&self) -> Shown<'a> {
        match self.denied_afterwards() {
            Some(_) => self.shown.without_denied_ids(),
            None => self.shown,
        }
    }

    /// The recall that plans without a beam are to reach.
    pub(super) fn recall_or_default(&self) -> f32 {
        match self.goal {
            Goal::Recall(recall) => recall,
            Goal::Ef(_) => DEFAULT_RECALL,
        }
    }
}

/// How to rank: how many to return, and how to score.
///
/// ```
/// use itemdex::RankOptions;
///
/// let usual = RankOptions::new(1000);
/// let reference = RankOptions::new(1000).exact();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RankOptions<'a> {
    pub(super) k: usize,
    exact: bool,
    pub(crate) shown: Shown<'a>,
}

impl<'a> RankOptions<'a> {
    /// Asks for the best `k` candidates; 0 gives none.
    ///
    /// Where the index has `i8` rows, they bound the scores of all candidates, and only candidates that the
    /// bounds do not rule out are scored in `f32`. The answer is that of [`RankOptions::exact`], bit for bit,
    /// for less memory read.
    pub fn new(k: usize) -> RankOptions<'a> {
        RankOptions { k, exact: false, shown: Shown::default() }
    }

    /// Scores every candidate in `f32`. This is the reference. It is also faster where bounds rule out
    /// little, as for embeddings with a few values much larger than the others.
    pub fn exact(mut self) -> RankOptions<'a> {
        self.exact = true;
        self
    }

    /// Leaves out the candidates that the filter does not keep.
    pub fn filter(mut self, filter: &'a Filter) -> RankOptions<'a> {
        self.shown.filter = Some(filter);
        self
    }

    /// Leaves out the candidates that are among these items.
    pub fn deny(mut self, items: impl Into<Items<'a>>) -> RankOptions<'a> {
        self.shown.deny = Some(items.into());
        self
    }

    /// Leaves out the candidates that are not among these items.
    pub fn allow(mut self, items: impl Into<Items<'a>>) -> RankOptions<'a> {
        self.shown.allow = Some(items.into());
        self
    }

    /// Answers as at a second since 1970: candidates that have expired by then are left out. Without it, as at
    /// the second of the call.
    pub fn now(mut self, seconds: i64) -> RankOptions<'a> {
        self.shown.now = Some(seconds);
        self
    }

    /// Leaves out the candidates that a request may not see. Replaces what was said of that before.
    pub fn shown(mut self, shown: Shown<'a>) -> RankOptions<'a> {
        self.shown = shown;
        self
    }

    /// The same for another number of candidates.
    pub(crate) fn for_k(self, k: usize) -> RankOptions<'a> {
        RankOptions { k, ..self }
    }

    /// The same, at one second throughout.
    pub(crate) fn at_one_second(mut self) -> RankOptions<'a> {
        self.shown = self.shown.at_one_second();
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
