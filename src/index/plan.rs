//! The plan that answers a search fastest.

use super::Index;
use super::options::{Goal, Plan, SearchOptions};
use crate::partitions::{self, Effort};
use crate::row_set::Selection;
use crate::vectors::kernels::interleaved::LANES;
use crate::vectors::quantized_stride;
use crate::{Error, Result};

/// What reading takes, in the time that a scan takes for a cache line of `i8` rows: a line of an `f32` row in a scan; a
/// row that a walk scores, and each line of it; a line of codes, of a cluster's moments, and of an `f32` row at a random
/// place. docs/design.md says how they were measured.
const SCANNED_F32: f64 = 0.5;
const WALKED: f64 = 4.4;
const WALKED_LINE: f64 = 2.2;
const CODED: f64 = 0.8;
const MOMENT: f64 = 0.5;
const SCORED: f64 = 1.5;

/// How many rows a walk scores for each place in its beam, where an older file does not say.
const USUAL_ROWS_A_PLACE: f32 = 9.0;

/// What a scan and a walk take for each of the `k` besides: some more than `k` rows are scored in `f32` and brought in
/// order, by a scan out of all rows.
const HIT: f64 = 40.0;
const WALKED_HIT: f64 = 8.0;

/// How many times as much a row takes that a scan picks out of others, and a code that is read for some rows of its
/// block; and what a word of the rows to pick takes.
const PICKED: f64 = 2.0;
const MASKED: f64 = 4.0;
const WORD: f64 = 0.5;

/// What looking up a denied id takes, passing over it where it is not looked up, and putting its row in order with the
/// others; what a word of the rows takes that are left without those denied.
const LOOKED_UP: f64 = 3.0;
const PASSED: f64 = 0.3;
const ORDERED: f64 = 1.5;
const MARKED: f64 = 0.75;

/// How many ids are looked up for the count of what is left. More than these would take longer than the search.
pub(super) const COUNTED: usize = 1000;

/// The width of a beam at which keeping it in order costs as much again as scoring.
const WIDE: usize = 3200;

/// What a search by partitions, and a walk, cost beside what they read, in the same unit.
const BEGINNING: f64 = 1100.0;
const WALK_BEGINNING: f64 = 750.0;

/// The share of the rows that an exact search by partitions is expected to score in `f32`.
const LEFT: f64 = 0.02;

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

/// A plan and what it is expected to take.
#[derive(Clone, Copy)]
pub(super) struct Planned {
    pub route: Route,
    pub cost: f64,
}

impl Index {
    /// The beam that a search with these options walks with; the index's length where no measured beam
    /// reaches the recall.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a recall that is not above 0 and at most 1.
    pub fn ef(&self, options: &SearchOptions<'_>) -> Result<usize> {
        self.check_search(options)?;
        Ok(self.beam(options, options.k()))
    }

    /// Refuses options of a search that cannot work.
    pub(super) fn check_search(&self, options: &SearchOptions<'_>) -> Result<()> {
        self.check_shown(&options.shown)?;
        if let Goal::Recall(recall) = options.goal
            && !(recall > 0.0 && recall <= 1.0)
        {
            let problem = format!("{recall} is not above 0 and at most 1");
            return Err(Error::BadOption { option: "recall", problem });
        }
        let header = self.file.header();
        let plan = match options.plan {
            Some(Plan::Graph) if !header.has_graph() => "a graph",
            Some(Plan::Partitions) if !header.has_partitions() => "partitions",
            _ => return Ok(()),
        };
        let problem = format!("this index was built without {plan}; build it with --plans graph,partitions");
        Err(Error::BadOption { option: "plan", problem })
    }

    /// The beam of a walk for so many items.
    fn beam(&self, options: &SearchOptions<'_>, k: usize) -> usize {
        match options.goal {
            Goal::Ef(ef) => ef.max(1),
            Goal::Recall(recall) => {
                let measured = self.file.header().calibration.ef(k.min(self.len()), recall);
                measured.filter(|_| recall < 1.0).unwrap_or(self.len())
            }
        }
    }

    /// The plan that the options name, or else the one that costs least, for an answer among some rows or all. The
    /// options can work.
    pub(super) fn plan(&self, options: &SearchOptions<'_>, among: Option<&Selection>) -> Planned {
        let share = self.share(among);
        let effort = self.effort(options, share);
        let header = self.file.header();
        let scan = Planned { route: Route::Scan, cost: self.scan_cost(options, among) };
        let graph = || {
            // A search among a tenth of the rows goes as far as one for ten times as many.
            let wide = self.beam(options, (options.k() as f32 / share) as usize);
            let ef = match among {
                // Rows that are near to each other, and no random share of all, are found as all are: by the beam for `k`.
                Some(_) if !options.is_by_beam() => {
                    self.beam(options, options.k()).max((wide as f32 * share).ceil() as usize)
                }
                _ => wide,
            };
            Planned { route: Route::Graph(ef), cost: self.walk_cost(wide, options) }
        };
        let partitions = || {
            let cost = self.partitions_cost(effort, options, share);
            Planned { route: Route::Partitions(effort), cost }
        };
        match options.plan {
            // What is left of few rows is listed, and nothing is faster than to go by the list.
            _ if among.is_some_and(Selection::is_listed_only) => return scan,
            Some(Plan::Graph) => return graph(),
            Some(Plan::Partitions) => return partitions(),
            Some(Plan::Scan) => return scan,
            None => {}
        }
        let cheaper = |a: Planned, b: Planned| if b.cost < a.cost { b } else { a };
        let mut planned = scan;
        // Beside partitions no walk among some of the rows was found to be faster.
        if header.has_graph() && (among.is_none() || !header.has_partitions() || options.is_by_beam()) {
            planned = cheaper(planned, graph());
            if options.is_by_beam() {
                return planned;
            }
        }
        if header.has_partitions() {
            planned = cheaper(planned, partitions());
        }
        planned
    }

    /// The cheapest way to the exact answer among some rows.
    pub(super) fn exact_plan(&self, options: &SearchOptions<'_>, among: Option<&Selection>) -> Planned {
        let scan = Planned { route: Route::Scan, cost: self.scan_cost(options, among) };
        if !self.file.header().has_partitions() || among.is_some_and(Selection::is_listed_only) {
            return scan;
        }
        let cost = self.partitions_cost(None, options, self.share(among));
        if cost < scan.cost { Planned { route: Route::Partitions(None), cost } } else { scan }
    }

    pub(super) fn share(&self, among: Option<&Selection>) -> f32 {
        among.map_or(1.0, |among| among.count().max(1) as f32 / self.len() as f32)
    }

    /// What a search by partitions has to read for the recall; none where the recall is 1 or was not reached.
    fn effort(&self, options: &SearchOptions<'_>, share: f32) -> Option<Effort> {
        let recall = options.recall_or_default();
        let k = options.k().clamp(1, self.len());
        self.file.header().partitions.effort(k, share, recall).filter(|_| recall < 1.0)
    }

    pub(super) fn scan_cost(&self, options: &SearchOptions<'_>, among: Option<&Selection>) -> f64 {
        let lines = self.scanned_lines(options);
        let (rows, passes) = match among {
            None => (self.len(), 0),
            Some(among) if among.list().is_some() => (among.count(), 0),
            Some(among) => (among.count(), self.len() / 64),
        };
        let each = if rows < self.len() { PICKED } else { 1.0 };
        // Never more than what a walk that finds all of them takes for them.
        let hits = (options.k().min(rows) as f64 * HIT).min(rows as f64 * WALKED_HIT);
        rows as f64 * lines * each + passes as f64 * WORD + hits
    }

    /// The lines of a row that a scan reads, in lines of a scan of `i8` rows.
    fn scanned_lines(&self, options: &SearchOptions<'_>) -> f64 {
        match options.bounding() && self.quantized().is_some() {
            true => (quantized_stride(self.dim()) / 64) as f64,
            false => self.rows().lines() as f64 * SCANNED_F32,
        }
    }

    fn walk_cost(&self, ef: usize, options: &SearchOptions<'_>) -> f64 {
        let rows_a_place = match self.file.header().scored_a_place {
            0.0 => USUAL_ROWS_A_PLACE,
            measured => measured,
        };
        let rows = ef as f64 * f64::from(rows_a_place);
        let hits = options.k().min(self.len()) as f64 * WALKED_HIT;
        WALK_BEGINNING + rows * self.walked_cost() * (1 + ef / WIDE) as f64 + hits
    }

    /// What a walk takes for a row.
    fn walked_cost(&self) -> f64 {
        let lines = match self.quantized() {
            Some(_) => quantized_stride(self.dim()) / 64,
            None => self.rows().lines(),
        };
        WALKED + WALKED_LINE * lines as f64
    }

    fn partitions_cost(&self, effort: Option<Effort>, options: &SearchOptions<'_>, share: f32) -> f64 {
        let rows = self.len() as f64;
        // Blocks of codes without a row to be found are not read.
        let read = 1.0 - (1.0 - f64::from(share)).powi(LANES as i32);
        let k = (options.k() as f64).min(rows * f64::from(share));
        let (coded, scored) = match effort {
            Some(effort) => (f64::from(effort.coded) * rows * read, f64::from(effort.factor) * k),
            None => (rows * 1.2 * read, rows * f64::from(share) * LEFT + 2.0 * k),
        };
        self.beginning_cost() + coded * self.masked_code_cost(share) + scored * self.score_cost()
    }

    /// What a search among a share of the rows takes for a code.
    fn masked_code_cost(&self, share: f32) -> f64 {
        self.code_cost() * (1.0 + (MASKED - 1.0) * f64::from(1.0 - share))
    }

    /// How many codes a search by partitions may read before the exact answer is cheaper.
    pub(super) fn budget(&self, options: &SearchOptions<'_>, among: &Selection) -> usize {
        if options.plan.is_some() {
            return usize::MAX;
        }
        let exact = self.exact_plan(options, Some(among)).cost;
        ((exact - self.beginning_cost()) / (self.code_cost() * MASKED)).max(0.0) as usize
    }

    /// How many rows a walk may score before the exact answer is cheaper.
    pub(super) fn sweep_budget(&self, options: &SearchOptions<'_>, among: &Selection) -> usize {
        if options.plan.is_some() {
            return usize::MAX;
        }
        (self.exact_plan(options, Some(among)).cost / self.walked_cost()) as usize
    }

    /// Whether to search for more items, and take so many ids that are denied out of them, rather than look the ids up:
    /// where that is cheaper, and the answer is not exact, since many users share the rows of that.
    pub(super) fn takes_out(
        &self,
        options: &SearchOptions<'_>,
        more: &SearchOptions<'_>,
        ids: &[u64],
        among: Option<&Selection>,
    ) -> bool {
        let Planned { route, cost } = self.plan(options, among);
        if options.k().min(self.count_among(among)) == 0
            || matches!(route, Route::Scan | Route::Partitions(None))
        {
            return false;
        }
        // Few are looked up in any case, and put in order to be counted.
        let each = if ids.len() > COUNTED { LOOKED_UP - PASSED } else { -ORDERED };
        self.plan(more, among).cost - cost < ids.len() as f64 * each + (self.len() / 64) as f64 * MARKED
    }

    /// What a search by partitions takes before it reads codes, for the codes of a row, and for a row that it scores.
    fn beginning_cost(&self) -> f64 {
        let moments = partitions::section_sizes(self.dim()).moments as f64 / 64.0;
        BEGINNING + f64::from(self.file.header().groups) * moments * MOMENT
    }

    fn code_cost(&self) -> f64 {
        partitions::section_sizes(self.dim()).block as f64 / LANES as f64 / 64.0 * CODED
    }

    fn score_cost(&self) -> f64 {
        (self.rows().lines() + 1) as f64 * SCORED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IndexBuilder, Items, Plan, Quantization};

    /// Items in topics, the directions of the axes, with some noise.
    fn item(number: usize) -> (u64, [f32; 16]) {
        let noise =
            |at: usize| xxhash_rust::xxh3::xxh3_64(&(number * 16 + at).to_le_bytes()) as f32 / 2f32.powi(64);
        let topic = |at: usize| if at == number % 16 { 1.0 } else { 0.0 };
        (number as u64, std::array::from_fn(|at| noise(at) - 0.5 + topic(at)))
    }

    /// What is counted is what was read, not time: a filter may mislead a search for as long as the exact answer takes, and
    /// then that is what it gets.
    #[test]
    fn a_filtered_search_reads_no_more_than_twice_the_exact_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.itemdex");
        let builder = IndexBuilder::new("v1").quantize(Quantization::I8).plans([Plan::Partitions]);
        builder.build_from((0..40_000).map(item), &path).unwrap();
        let index = Index::open(&path).unwrap();
        let mut plans = [0; 2];
        for turn in 0..16 {
            let user: [f32; 16] = std::array::from_fn(|at| if at == turn { 1.0 } else { 0.1 });
            let best = index.search_with(&user, &SearchOptions::new(40_000).recall(1.0)).unwrap().hits;
            let far: Vec<u64> = best[20_000..].iter().map(|hit| hit.id).collect();
            let worst: Vec<u64> = best[39_000..].iter().map(|hit| hit.id).collect();
            let topic: Vec<u64> = (0..40_000).filter(|id| id % 16 == (turn as u64 + 3) % 16).collect();
            for ids in [far, worst, topic] {
                let set = index.item_set(&ids);
                let options = SearchOptions::new(100).allow(Items::Set(&set));
                let among = Some(set.selection());
                let mut workspace = index.workspace_for(&user);
                workspace.partitions.work = Default::default();
                let plan = index.find(&user, &options, among, &mut workspace);
                let work = workspace.partitions.work;
                let each = index.masked_code_cost(index.share(among));
                let read = work.coded as f64 * each + work.scored as f64 * index.score_cost();
                let exact = index.exact_plan(&options, among).cost;
                let scanned = if plan == Plan::Scan { index.scan_cost(&options, among) } else { 0.0 };
                assert!(read + scanned <= 2.0 * exact + BEGINNING, "{work:?} and {plan:?} for {exact}");
                plans[usize::from(plan == Plan::Scan)] += 1;
            }
        }
        assert!(plans.iter().all(|&taken| taken > 0), "{plans:?}");
    }
}
