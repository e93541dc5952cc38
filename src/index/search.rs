use super::Index;
use super::candidates::RowHandles;
use super::denied::Denial;
use super::gate::{Gate, Sieve};
use super::options::{Plan, SearchOptions};
use super::plan::{Planned, Route};
use super::workspace::Workspace;
use crate::Result;
use crate::graph::{self, Sweep};
use crate::partitions::{self, Aim, Among, Effort, Wanted};
use crate::ranking::Scope;
use crate::row_set::Selection;
use crate::top::Hit;

/// A search that asks of ids looks for so many more items at first: an eighth, and some.
const SPARE: usize = 8;

/// Where too few are left of those, it looks for so many more times those that were left out.
const GROWTH: usize = 4;

/// The answer of [`Index::search_with`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The items, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// How they were found.
    pub plan: Plan,
    /// How many items the answer is among: those that are allowed and not denied. What a Bloom filter or a
    /// test leaves out still counts, since a search asks of the items that come up only. Of more than 1,000
    /// ids that are denied at a recall below 1 the items may count too; those of an
    /// [`ItemSet`](crate::ItemSet) never do.
    pub matching: usize,
}

impl Found {
    /// An answer that came from elsewhere, to be merged with others
    /// ([`shards::merge_found`](crate::shards::merge_found)).
    pub fn new(hits: Vec<Hit>, plan: Plan, matching: usize) -> Found {
        Found { hits, plan, matching }
    }
}

impl Default for Found {
    /// An answer with no hits, for [`Index::search_into`] to fill.
    fn default() -> Found {
        Found::new(Vec::new(), Plan::Scan, 0)
    }
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
    /// Where the options leave items out, the answer has `k` of the others, or all there are. It costs at
    /// most about twice what the exact answer among them costs.
    ///
    /// # Errors
    /// [`Error::WrongDim`](crate::Error::WrongDim) and [`Error::BadUser`](crate::Error::BadUser) for the
    /// embedding; [`Error::BadOption`](crate::Error::BadOption) for a recall that is not above 0 and at most
    /// 1, and for a plan that the index was built without; [`Error::StaleRows`](crate::Error::StaleRows) for
    /// items that were prepared by another index.
    pub fn search_with(&self, user: &[f32], options: &SearchOptions<'_>) -> Result<Found> {
        let mut found = Found::default();
        self.search_into(user, options, &mut found)?;
        Ok(found)
    }

    /// As [`Index::search_with`], into the answer of an earlier search. Allocates nothing once that has held
    /// as many hits. After an error it is as it was.
    ///
    /// # Errors
    /// The errors of [`Index::search_with`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// use itemdex::{Found, SearchOptions};
    ///
    /// let (mut found, options) = (Found::default(), SearchOptions::new(1));
    /// for (user, best) in [([0.0, 1.0], 7), ([1.0, 0.0], 8)] {
    ///     index.search_into(&user, &options, &mut found)?;
    ///     assert_eq!(found.hits[0].id, best);
    /// }
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn search_into(&self, user: &[f32], options: &SearchOptions<'_>, found: &mut Found) -> Result<()> {
        self.search_without(user, options, &[], found)
    }

    /// The same among all rows but the `hidden` ones, each named once.
    pub(crate) fn search_without(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        hidden: &[u32],
        found: &mut Found,
    ) -> Result<()> {
        self.check_user(user)?;
        self.check_search(options)?;
        let mut workspace = self.workspace_for(user);
        let mut sieve = std::mem::take(&mut workspace.sieve);
        let Sieve { named, passing } = &mut sieve;
        let gate = self.gate(&options.shown_before(), hidden, named);
        let among = gate.select(passing).filter(|among| among.count() < self.len());
        (found.plan, found.matching) = match options.denied_afterwards() {
            None => self.find_passing(user, options, among, &gate, &mut workspace),
            Some(ids) => {
                let denial = Denial { ids, others: None };
                self.find_others(user, options, denial, among, &gate, &mut workspace)
            }
        };
        found.hits.clone_from(&workspace.hits);
        workspace.sieve = sieve;
        self.put_back(workspace);
        Ok(())
    }

    /// Leaves in the workspace the hits that pass a gate, among the rows that it selected; the plan that found them, and how
    /// many rows those are. The options can work.
    pub(super) fn find_passing(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        among: Option<&Selection>,
        gate: &Gate<'_>,
        workspace: &mut Workspace,
    ) -> (Plan, usize) {
        let plan = match gate.asks() {
            false => self.find(user, options, among, workspace),
            true => self.sift(user, options, among, &|id| gate.lets_pass(id), workspace),
        };
        (plan, self.count_among(among))
    }

    /// Leaves in the workspace the hits among some rows or all; the plan that found them.
    pub(super) fn find(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        among: Option<&Selection>,
        workspace: &mut Workspace,
    ) -> Plan {
        let Planned { route, .. } = self.plan(options, among);
        let k = options.k().min(self.count_among(among));
        let found = match route {
            _ if k == 0 => {
                workspace.hits.clear();
                return route.plan();
            }
            Route::Graph(ef) if among.is_none() => {
                self.walk(k, ef, workspace);
                true
            }
            Route::Graph(ef) => among.is_some_and(|among| self.sweep(options, ef, among, workspace)),
            Route::Partitions(effort) => self.search_partitions(user, options, effort, among, workspace),
            Route::Scan => {
                self.scan(user, options, among, &|_| true, workspace);
                true
            }
        };
        if found { route.plan() } else { self.find_exactly(user, options, among, workspace) }
    }

    /// Leaves in the workspace the exact answer; the plan that found it.
    pub(super) fn find_exactly(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        among: Option<&Selection>,
        workspace: &mut Workspace,
    ) -> Plan {
        let exact = self.exact_plan(options, among).route;
        match exact {
            Route::Partitions(_) => _ = self.search_partitions(user, options, None, among, workspace),
            _ => self.scan(user, options, among, &|_| true, workspace),
        }
        exact.plan()
    }

    /// The same where ids have to be asked about: searches for some more items, and for more again where too few of
    /// them pass. Before that would cost more than a scan that asks, it scans.
    fn sift(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        among: Option<&Selection>,
        passes: &(dyn Fn(u64) -> bool + Sync),
        workspace: &mut Workspace,
    ) -> Plan {
        let (k, count) = (options.k(), self.count_among(among));
        let mut asked = k.saturating_add(k / SPARE + SPARE).min(count);
        let mut spent = 0.0;
        loop {
            let planned = self.plan(&options.for_k(asked), among);
            spent += planned.cost;
            let scan = matches!(planned.route, Route::Scan);
            if k > 0 && (scan || spent > self.scan_cost(options, among) && options.plan.is_none()) {
                let ids = self.ids();
                self.scan(user, options, among, &|row| passes(ids[row as usize]), workspace);
                return Plan::Scan;
            }
            let plan = self.find(user, &options.for_k(asked), among, workspace);
            let hits = &mut workspace.hits;
            let came_up = hits.len();
            hits.retain(|hit| passes(hit.id));
            if hits.len() >= k || asked == count {
                hits.truncate(k);
                return plan;
            }
            asked = k.saturating_add(GROWTH * (came_up - hits.len())).min(count);
        }
    }

    /// Leaves in the workspace the best of the rows that pass, of some or all.
    fn scan(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        among: Option<&Selection>,
        passes: &(dyn Fn(u32) -> bool + Sync),
        workspace: &mut Workspace,
    ) {
        let Workspace { scan, hits, .. } = workspace;
        let scope = scope_of(among);
        let k = options.k().min(self.count_among(among));
        scan[0].set_user(user);
        self.ranking().scan(scope, (k, options.bounding()), passes, scan);
        std::mem::swap(hits, &mut scan[0].hits);
    }

    /// The rows of the items that [`Index::search_with`] finds, for a rank by this index: what a recall
    /// channel passes on where nobody needs its scores.
    ///
    /// Costs a look-up an item beside the search. Allocates the search's answer, its ids and the handles.
    ///
    /// # Errors
    /// The errors of [`Index::search_with`].
    pub fn search_rows(&self, user: &[f32], options: &SearchOptions<'_>) -> Result<RowHandles> {
        // Looking an item up costs a fiftieth of finding it: not worth hits of a second kind.
        let ids: Vec<u64> = self.search_with(user, options)?.hits.iter().map(|hit| hit.id).collect();
        Ok(self.look_up(&ids))
    }

    /// Leaves in the workspace the hits of a walk for its user.
    pub(super) fn walk(&self, k: usize, ef: usize, workspace: &mut Workspace) {
        let Workspace { user, walk, found, .. } = workspace;
        graph::search(self.graph(), self.rows(), self.quantized(), user, (k, ef), walk, found);
        self.take_walked(k, workspace);
    }

    /// The same of a walk that finds some rows only, and goes as far as one for all rows with this beam. False where the
    /// exact answer is cheaper.
    fn sweep(
        &self,
        options: &SearchOptions<'_>,
        ef: usize,
        among: &Selection,
        workspace: &mut Workspace,
    ) -> bool {
        let Workspace { user, walk, found, .. } = workspace;
        let k = options.k().min(among.count());
        let wanted = Sweep { among: among.set(), k, ef, budget: self.sweep_budget(options, among) };
        let done = graph::sweep(self.graph(), self.rows(), self.quantized(), user, wanted, walk, found);
        self.take_walked(k, workspace);
        done
    }

    /// Leaves in the workspace the best of what a walk found.
    fn take_walked(&self, k: usize, workspace: &mut Workspace) {
        let ids = self.ids();
        let Workspace { found, hits, .. } = workspace;
        // Integers sort faster than hits do, and put equal scores beside each other.
        found.sort_unstable_by(|a, b| b.cmp(a));
        hits.clear();
        hits.extend(found.iter().map(|found| Hit { id: ids[found.row() as usize], score: found.score() }));
        for equal in hits.chunk_by_mut(|a, b| a.score == b.score).filter(|equal| equal.len() > 1) {
            equal.sort_unstable_by_key(|hit| hit.id);
        }
        hits.truncate(k);
    }

    /// Leaves in the workspace the hits of a search by partitions among some rows or all. False where the exact
    /// answer is cheaper; then there are none.
    fn search_partitions(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        effort: Option<Effort>,
        among: Option<&Selection>,
        workspace: &mut Workspace,
    ) -> bool {
        let Workspace { partitions, hits, .. } = workspace;
        let searched = self.searched();
        let wanted = self.wanted(options, among);
        let found = match effort {
            Some(effort) => searched.search(user, wanted, effort, partitions),
            None => {
                searched.search_exactly(user, wanted, partitions::BEGINNING, partitions);
                true
            }
        };
        std::mem::swap(hits, &mut partitions.hits);
        found
    }

    /// How many rows an answer is among: those selected, or all.
    pub(super) fn count_among(&self, among: Option<&Selection>) -> usize {
        among.map_or(self.len(), Selection::count)
    }

    /// What partitions are asked for.
    pub(super) fn wanted<'a>(
        &'a self,
        options: &SearchOptions<'_>,
        among: Option<&'a Selection>,
    ) -> Wanted<'a> {
        let header = self.file.header();
        let k = options.k().min(self.count_among(among));
        let recall = options.recall_or_default();
        let most = header.limits.most(k, self.share(among), recall);
        let among = among.map(|among| Among {
            words: among.set().words(),
            counts: among.counts(|words| self.searched().partitions.count_all(words)),
            budget: self.budget(options, among),
            aim: Some(Aim { calibration: &header.partitions, recall, margin: header.far_margin }),
        });
        Wanted { k, among, approximate: options.approximate(), most }
    }
}

/// The rows that a scan passes over.
pub(super) fn scope_of(among: Option<&Selection>) -> Scope<'_> {
    match among {
        None => Scope::All,
        Some(among) => match among.list() {
            Some(rows) => Scope::Listed(rows),
            None => Scope::Allowed(among.set().words(), among.count()),
        },
    }
}
