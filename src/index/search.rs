use super::Index;
use super::candidates::RowHandles;
use super::workspace::Workspace;
use crate::graph;
use crate::ranking::Scope;
use crate::top::Hit;
use crate::{Error, Result};

/// The recall of a search that does not name one.
const DEFAULT_RECALL: f32 = 0.95;

/// The rows that a scan passes in the time that a walk takes for each place in its beam, without `i8` rows and with them,
/// and the width at which keeping the beam in order costs as much again.
const ROWS_A_PLACE: [usize; 2] = [24, 48];
const WIDE: usize = 3200;

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

/// How a search finds its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// A walk over the graph: approximate.
    Graph,
    /// A scan that scores every row: exact.
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
    /// Asks for the best `k` items at a recall of 0.95. A `k` beyond the index gives all of its items, 0 gives none.
    pub fn new(k: usize) -> SearchOptions {
        SearchOptions { k, effort: Effort::Recall(DEFAULT_RECALL), plan: None }
    }

    /// Asks for a recall, above 0 and at most 1: the share of the exact best `k` that is found, in the mean over users.
    ///
    /// The build measured which beam reaches which recall ([`Info::calibration`](crate::Info::calibration)), on users of
    /// the sample that the graph was not fitted to. A recall that no measured beam reached is answered by scoring every
    /// row, and so is 1, in `f32` throughout. Without a user sample the build measures on queries made of items, and your
    /// users may get another recall.
    pub fn recall(mut self, recall: f32) -> SearchOptions {
        self.effort = Effort::Recall(recall);
        self
    }

    /// Sets the beam instead: the walk goes on from the best `ef` items seen so far. A wider beam finds more and takes
    /// time in proportion.
    ///
    /// It may be below `k`: items that the walk scored beside its beam count too.
    pub fn ef(mut self, ef: usize) -> SearchOptions {
        self.effort = Effort::Ef(ef);
        self
    }

    /// Makes the search walk or scan. By default it does what is expected to be faster for the index's size and the beam;
    /// [`Found::plan`] says what it did.
    pub fn plan(mut self, plan: Plan) -> SearchOptions {
        self.plan = Some(plan);
        self
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The same for another number of items.
    pub(crate) fn for_k(self, k: usize) -> SearchOptions {
        SearchOptions { k, ..self }
    }

    /// Whether a scan may bound scores by `i8` rows.
    pub(super) fn bounding(&self) -> bool {
        self.effort != Effort::Recall(1.0)
    }
}

impl Index {
    /// The best `k` items for a user, best first: approximate where a walk over the graph finds them.
    ///
    /// The same as the hits of [`Index::search_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding.
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.search_with(user, &SearchOptions::new(k))?.hits)
    }

    /// The best items for a user, and the plan that found them.
    ///
    /// Scores are exact. The set of items is exact where every row was scanned, and approximate where the graph was
    /// walked. A walk scores some 10 to 30 rows for each place of its beam; where a scan is expected to be faster, as for
    /// many items of a small index, the search scans. A scan reads the `i8` rows, if there are any, and scores in `f32`
    /// the rows that their bounds leave. It scores all rows in `f32` at a recall of 1, for more than an eighth of the
    /// items, and where bounds rule out little. Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`] and [`Error::BadUser`] for the embedding; [`Error::BadOption`] for a recall that is not above 0
    /// and at most 1.
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
                self.ranking().scan(Scope::All, k, options.bounding(), scan);
                std::mem::swap(&mut workspace.hits, &mut scan[0].hits);
            }
        }
        Ok(Found { hits: self.answer(workspace), plan })
    }

    /// The best items for a user among all but the `hidden` rows, by a scan of the others.
    ///
    /// Costs about what a scan of the whole index does, however many rows are hidden.
    pub(crate) fn scan_without(
        &self,
        user: &[f32],
        options: &SearchOptions,
        hidden: &[u32],
    ) -> Result<Found> {
        self.check_user(user)?;
        let mut workspace = self.workspace();
        let Workspace { allowed, scan, hits, .. } = &mut workspace;
        allowed.clear();
        allowed.resize(self.len().div_ceil(64), u64::MAX);
        if !self.len().is_multiple_of(64) {
            allowed[self.len() / 64] = (1 << (self.len() % 64)) - 1;
        }
        hidden.iter().for_each(|&row| allowed[row as usize / 64] &= !(1 << (row % 64)));
        let count = self.len() - hidden.len();
        let k = options.k.min(count);
        hits.clear();
        if k > 0 {
            scan[0].set_user(user);
            self.ranking().scan(Scope::Allowed(allowed, count), k, options.bounding(), scan);
            std::mem::swap(hits, &mut scan[0].hits);
        }
        Ok(Found { hits: self.answer(workspace), plan: Plan::Scan })
    }

    /// Whether a search with these options would scan.
    pub(crate) fn scans(&self, options: &SearchOptions) -> Result<bool> {
        Ok(self.plan(self.ef(options)?, options) == Plan::Scan)
    }

    /// The rows of the items that [`Index::search_with`] finds, for a rank by this index: what a recall channel passes on
    /// where nobody needs its scores.
    ///
    /// Costs a look-up an item beside the search. Allocates the search's answer, its ids and the handles.
    ///
    /// # Errors
    /// The errors of [`Index::search_with`].
    pub fn search_rows(&self, user: &[f32], options: &SearchOptions) -> Result<RowHandles> {
        // Looking an item up costs a fiftieth of finding it: not worth hits of a second kind.
        let ids: Vec<u64> = self.search_with(user, options)?.hits.iter().map(|hit| hit.id).collect();
        Ok(self.look_up(&ids))
    }

    /// The beam that a search with these options walks with; the index's length where no measured beam reaches the recall.
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

    /// The plan that the options name, or else the faster one for a beam of `ef`.
    pub(super) fn plan(&self, ef: usize, options: &SearchOptions) -> Plan {
        let bounding = options.bounding() && self.quantized().is_some();
        let rows_a_place = ROWS_A_PLACE[usize::from(bounding)];
        let rows_a_walk = ef.saturating_mul(rows_a_place).saturating_mul(1 + ef / WIDE);
        let faster = if rows_a_walk >= self.len() { Plan::Scan } else { Plan::Graph };
        options.plan.unwrap_or(faster)
    }

    /// Leaves in the workspace the hits of a walk for its user.
    pub(super) fn walk(&self, k: usize, ef: usize, workspace: &mut Workspace) {
        let ids = self.ids();
        let Workspace { user, walk, found, hits, .. } = workspace;
        graph::search(self.graph(), self.rows(), self.quantized(), user, (k, ef), walk, found);
        // Integers sort faster than hits do, and put equal scores beside each other.
        found.sort_unstable_by(|a, b| b.cmp(a));
        hits.clear();
        hits.extend(found.iter().map(|found| Hit { id: ids[found.row() as usize], score: found.score() }));
        for equal in hits.chunk_by_mut(|a, b| a.score == b.score).filter(|equal| equal.len() > 1) {
            equal.sort_unstable_by_key(|hit| hit.id);
        }
        hits.truncate(k);
    }
}
