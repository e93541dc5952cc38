use super::Index;
use super::candidates::RowHandles;
use super::plan::{Plan, Route, SearchOptions};
use super::workspace::Workspace;
use crate::Result;
use crate::graph;
use crate::partitions::{self, Effort, Wanted};
use crate::ranking::Scope;
use crate::top::Hit;

/// The answer of [`Index::search_with`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The items, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// How they were found.
    pub plan: Plan,
}

impl Index {
    /// The best `k` items for a user, best first: approximate unless every row was scanned.
    ///
    /// The same as the hits of [`Index::search_with`] with default options.
    ///
    /// # Errors
    /// [`Error::WrongDim`](crate::Error::WrongDim) and [`Error::BadUser`](crate::Error::BadUser) for the
    /// embedding.
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.search_with(user, &SearchOptions::new(k))?.hits)
    }

    /// The best items for a user, and the plan that found them.
    ///
    /// Scores are exact, unless [`SearchOptions::approximate_scores`] lets them be otherwise. The set of
    /// items is exact where every row was scanned and at a recall of 1, and approximate otherwise. The search
    /// takes the plan that is expected to be fastest: mostly a walk over the graph or partitions, and a scan
    /// for many items of a small index. Allocates the answer only.
    ///
    /// # Errors
    /// [`Error::WrongDim`](crate::Error::WrongDim) and [`Error::BadUser`](crate::Error::BadUser) for the
    /// embedding; [`Error::BadOption`](crate::Error::BadOption) for a recall that is not above 0 and at most
    /// 1, and for a plan that the index was built without.
    pub fn search_with(&self, user: &[f32], options: &SearchOptions) -> Result<Found> {
        self.check_user(user)?;
        let route = self.route(options, self.len())?;
        let k = options.k().min(self.len());
        if k == 0 {
            return Ok(Found { hits: Vec::new(), plan: route.plan() });
        }
        let mut workspace = self.workspace_for(user);
        match route {
            Route::Graph(ef) => self.walk(k, ef, &mut workspace),
            Route::Partitions(effort) => {
                self.search_partitions(user, (k, options.approximate()), effort, None, &mut workspace);
            }
            Route::Scan => {
                let scan = &mut workspace.scan;
                scan[0].set_user(user);
                self.ranking().scan(Scope::All, k, options.bounding(), scan);
                std::mem::swap(&mut workspace.hits, &mut scan[0].hits);
            }
        }
        Ok(Found { hits: self.answer(workspace), plan: route.plan() })
    }

    /// The best items for a user among all rows but the `hidden` ones, each named once. Takes partitions
    /// where they are the fastest plan, and otherwise scans the rows that are not hidden.
    ///
    /// Costs about as much as the same search without hidden rows, or as a scan where that search walks the
    /// graph. The number of hidden rows hardly matters.
    pub(crate) fn search_without(
        &self,
        user: &[f32],
        options: &SearchOptions,
        hidden: &[u32],
    ) -> Result<Found> {
        self.check_user(user)?;
        let count = self.len() - hidden.len();
        let route = self.route(options, count.max(1))?;
        let k = options.k().min(count);
        let mut workspace = self.workspace();
        let mut allowed = std::mem::take(&mut workspace.allowed);
        allow_all_but(hidden, self.len(), &mut allowed);
        workspace.hits.clear();
        let plan = match route {
            _ if k == 0 => Plan::Scan,
            Route::Partitions(effort) => {
                let wanted = (k, options.approximate());
                self.search_partitions(user, wanted, effort, Some(&allowed), &mut workspace);
                Plan::Partitions
            }
            Route::Graph(_) | Route::Scan => {
                let Workspace { scan, hits, .. } = &mut workspace;
                scan[0].set_user(user);
                self.ranking().scan(Scope::Allowed(&allowed, count), k, options.bounding(), scan);
                std::mem::swap(hits, &mut scan[0].hits);
                Plan::Scan
            }
        };
        workspace.allowed = allowed;
        Ok(Found { hits: self.answer(workspace), plan })
    }

    /// The rows of the items that [`Index::search_with`] finds, for a rank by this index: what a recall
    /// channel passes on where nobody needs its scores.
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

    /// Leaves in the workspace the hits of a search by partitions among the rows that are `allowed`, or all.
    pub(super) fn search_partitions(
        &self,
        user: &[f32],
        (k, approximate): (usize, bool),
        effort: Option<Effort>,
        allowed: Option<&[u64]>,
        workspace: &mut Workspace,
    ) {
        let Workspace { partitions, hits, .. } = workspace;
        let searched = self.searched();
        let wanted = Wanted { k, allowed, approximate };
        match effort {
            Some(effort) => searched.search(user, wanted, effort, partitions),
            None => searched.search_exactly(user, wanted, partitions::BEGINNING, partitions),
        }
        std::mem::swap(hits, &mut partitions.hits);
    }
}

/// Sets a bit for each of `rows` rows that is not hidden.
fn allow_all_but(hidden: &[u32], rows: usize, allowed: &mut Vec<u64>) {
    allowed.clear();
    allowed.resize(rows.div_ceil(64), u64::MAX);
    if !rows.is_multiple_of(64) {
        allowed[rows / 64] = (1 << (rows % 64)) - 1;
    }
    hidden.iter().for_each(|&row| allowed[row as usize / 64] &= !(1 << (row % 64)));
}
