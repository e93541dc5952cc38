//! How to search: what is asked for, and the plan that answers it fastest.

use super::Index;
use crate::partitions::{self, Effort};
use crate::vectors::{quantized_stride, stride_of};
use crate::{Error, Result};

/// The recall of a search that does not name one.
const DEFAULT_RECALL: f32 = 0.95;

/// What reading takes, in the time that a scan takes for a cache line of `i8` rows: a line of an `f32` row in a scan; a
/// line for each place in the beam of a walk, which scores some 10 to 30 rows; a line of codes, of a cluster's moments,
/// and of an `f32` row at a random place. docs/design.md says how they were measured.
const SCANNED_F32: f64 = 0.5;
const PLACE: f64 = 48.0;
const CODED: f64 = 0.55;
const MOMENT: f64 = 0.35;
const SCORED: f64 = 1.1;

/// What a scan or a walk takes for each of the `k` besides: some more than `k` rows are scored in `f32` and brought in
/// order.
const HIT: f64 = 40.0;

/// The width of a beam at which keeping it in order costs as much again as scoring.
const WIDE: usize = 3200;

/// What a search by partitions costs beside what it reads, in the same unit.
const BEGINNING: f64 = 3000.0;

/// The share of the rows that an exact search by partitions is expected to score in `f32`.
const LEFT: f64 = 0.02;

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
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchOptions {
    k: usize,
    goal: Goal,
    plan: Option<Plan>,
    approximate_scores: bool,
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
enum Goal {
    Recall(f32),
    Ef(usize),
}

impl SearchOptions {
    /// Asks for the best `k` items at a recall of 0.95. A `k` beyond the index gives all of its items, 0
    /// gives none.
    pub fn new(k: usize) -> SearchOptions {
        SearchOptions { k, goal: Goal::Recall(DEFAULT_RECALL), plan: None, approximate_scores: false }
    }

    /// Asks for a recall, above 0 and at most 1: the share of the exact best `k` that is found, in the mean
    /// over users.
    ///
    /// The build measured what each plan has to read for a recall, on users of the sample that it kept for
    /// this ([`Info::calibration`](crate::Info::calibration) has the table of the graph). At a recall of 1
    /// the answer is that of scoring every row in `f32`, bit for bit. It is the same where no measured effort
    /// reached the recall. Without a user sample the build measures on queries made of items, and your users
    /// may get another recall.
    pub fn recall(mut self, recall: f32) -> SearchOptions {
        self.goal = Goal::Recall(recall);
        self
    }

    /// Walks with this beam instead: the walk goes on from the best `ef` items seen so far. A wider beam
    /// finds more and takes time in proportion.
    ///
    /// It may be below `k`: items that the walk scored beside its beam count too. Where the index has no
    /// graph, this asks for a recall of 0.95.
    pub fn ef(mut self, ef: usize) -> SearchOptions {
        self.goal = Goal::Ef(ef);
        self
    }

    /// Takes this plan. By default a search takes the plan that is expected to be fastest for the index, the
    /// number of items and the recall; [`Found::plan`](crate::Found::plan) says which it took.
    ///
    /// A plan that the index was built without is an error of the search.
    pub fn plan(mut self, plan: Plan) -> SearchOptions {
        self.plan = Some(plan);
        self
    }

    /// Lets a search by partitions answer with approximate scores, where the index has `i8` rows: for callers
    /// who rank afterwards anyway. Hits then carry the scores of the `i8` rows and are in their order. Each
    /// is off by at most some hundredths of the user's norm times the item's. This saves most of the time for
    /// tens of thousands of items. Other plans ignore it.
    pub fn approximate_scores(mut self) -> SearchOptions {
        self.approximate_scores = true;
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
        self.goal != Goal::Recall(1.0)
    }

    pub(crate) fn approximate(&self) -> bool {
        self.approximate_scores
    }

    /// The recall that plans without a beam are to reach.
    fn recall_or_default(&self) -> f32 {
        match self.goal {
            Goal::Recall(recall) => recall,
            Goal::Ef(_) => DEFAULT_RECALL,
        }
    }
}

/// A plan with what it needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route {
    /// A walk with this beam.
    Graph(usize),
    /// What to read; without a measured effort, the exact answer.
    Partitions(Option<Effort>),
    Scan,
}

impl Route {
    pub fn plan(&self) -> Plan {
        match self {
            Route::Graph(_) => Plan::Graph,
            Route::Partitions(_) => Plan::Partitions,
            Route::Scan => Plan::Scan,
        }
    }
}

impl Index {
    /// The beam that a search with these options walks with; the index's length where no measured beam
    /// reaches the recall.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a recall that is not above 0 and at most 1.
    pub fn ef(&self, options: &SearchOptions) -> Result<usize> {
        match options.goal {
            Goal::Ef(ef) => Ok(ef.max(1)),
            Goal::Recall(recall) if recall > 0.0 && recall <= 1.0 => {
                let measured = self.file.header().calibration.ef(options.k.min(self.len()), recall);
                Ok(measured.filter(|_| recall < 1.0).unwrap_or(self.len()))
            }
            Goal::Recall(recall) => {
                let problem = format!("{recall} is not above 0 and at most 1");
                Err(Error::BadOption { option: "recall", problem })
            }
        }
    }

    /// The plan that the options name, or else the one that costs least, for an answer among `allowed` of the
    /// rows.
    pub(super) fn route(&self, options: &SearchOptions, allowed: usize) -> Result<Route> {
        let ef = self.ef(options)?;
        let effort = self.effort(options, allowed);
        let left_out = |plan: &str| {
            let problem =
                format!("this index was built without {plan}; build it with --plans graph,partitions");
            Err(Error::BadOption { option: "plan", problem })
        };
        let header = self.file.header();
        match options.plan {
            Some(Plan::Graph) if header.has_graph() => return Ok(Route::Graph(ef)),
            Some(Plan::Graph) => return left_out("a graph"),
            Some(Plan::Partitions) if header.has_partitions() => return Ok(Route::Partitions(effort)),
            Some(Plan::Partitions) => return left_out("partitions"),
            Some(Plan::Scan) => return Ok(Route::Scan),
            None => {}
        }
        let mut route = (self.scan_cost(options), Route::Scan);
        let mut consider = |cost: f64, other| {
            if cost < route.0 {
                route = (cost, other);
            }
        };
        if header.has_graph() {
            consider(self.walk_cost(ef, options), Route::Graph(ef));
            if matches!(options.goal, Goal::Ef(_)) {
                return Ok(route.1);
            }
        }
        if header.has_partitions() {
            consider(self.partitions_cost(effort, options, allowed), Route::Partitions(effort));
        }
        Ok(route.1)
    }

    /// What a search by partitions has to read for the recall; none where the recall is 1 or was not reached.
    pub(super) fn effort(&self, options: &SearchOptions, allowed: usize) -> Option<Effort> {
        let recall = options.recall_or_default();
        let share = allowed as f32 / self.len() as f32;
        let k = options.k.clamp(1, self.len());
        self.file.header().partitions.effort(k, share, recall).filter(|_| recall < 1.0)
    }

    fn scan_cost(&self, options: &SearchOptions) -> f64 {
        self.len() as f64 * self.scanned_lines(options) + options.k.min(self.len()) as f64 * HIT
    }

    /// The lines of a row that a scan reads, in lines of a scan of `i8` rows.
    fn scanned_lines(&self, options: &SearchOptions) -> f64 {
        match options.bounding() && self.quantized().is_some() {
            true => (quantized_stride(self.dim()) / 64) as f64,
            false => (stride_of(self.dim()) / 16) as f64 * SCANNED_F32,
        }
    }

    fn walk_cost(&self, ef: usize, options: &SearchOptions) -> f64 {
        let lines = self.scanned_lines(&options.ef(ef));
        let place = if self.quantized().is_some() { PLACE } else { PLACE / 2.0 };
        ef as f64 * place * lines * (1 + ef / WIDE) as f64 + options.k.min(self.len()) as f64 * HIT
    }

    fn partitions_cost(&self, effort: Option<Effort>, options: &SearchOptions, allowed: usize) -> f64 {
        let (rows, dim) = (self.len() as f64, self.dim());
        let sizes = partitions::section_sizes(dim);
        let moments = f64::from(self.file.header().groups) * sizes.moments as f64 / 64.0;
        let row_lines = (stride_of(dim) / 16 + 1) as f64;
        let code_lines = sizes.block as f64 / 16.0 / 64.0;
        let k = options.k.min(allowed) as f64;
        let (coded, scored) = match effort {
            Some(effort) => (f64::from(effort.coded) * rows, f64::from(effort.factor) * k),
            None => (rows * 1.2, rows * LEFT + 2.0 * k),
        };
        BEGINNING + moments * MOMENT + coded * code_lines * CODED + scored * row_lines * SCORED
    }
}
