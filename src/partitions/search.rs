//! A search by partitions: clusters are chosen, their codes read, the best of them scored in `f32`.

use super::bounds::CodeBounds;
use super::calibration::{Calibration, Effort};
use super::model::{Model, deviations_above};
use super::select::{bar, parts};
use super::{Lanes, Partitions};
use crate::top::Hit;
use crate::vectors::kernels::codes::{self, COORDINATES, Reading, Readings, Run, block_bytes};
use crate::vectors::kernels::interleaved::LANES;
use crate::vectors::kernels::prefetch;
use crate::vectors::{Quantized, Rows, pad, quantize};

/// Codes read in advance to find the bar for the others, if there are three times as many.
const SAMPLE: usize = 6000;

/// Where so many times as many rows are read as are wanted, a sample pays even of few: one block in so many.
const AMPLE: usize = 8;

/// A bar from a sample is set this many deviations low. Where few rows are wanted, it is too high for one query
/// in a hundred, and the clusters are read again. Where many are, a few more or less do not matter.
const SURE: f32 = 2.5;
const NEARLY: f32 = 0.5;
const MANY: f32 = 300.0;

/// How many times the rows read those of clusters that reach what was found must be, for the model to be misled.
const MISLED: f32 = 1.2;

/// A filter does not mislead the model where it takes no more of the rows reached than so many for each of the `k`, and
/// beyond half as many again as by chance, so many: then the model is off as it is without a filter.
const TAKEN: f32 = 0.3;
const CHANCE: f32 = 1.5;
const BEYOND: f32 = 0.1;

/// Rows to be found are near the user where they are so many times as large a share of the clusters that are reached as
/// of all, and far where they are so many times.
const MORE: f32 = 1.2;
const LESS: f32 = 0.8;

/// Blocks asked for ahead of their use, and of the next cluster while one is read. Where many rows are read, the
/// next cluster often follows in the file too, and what is asked for beyond the end of one is not lost.
const NEXT: usize = 3;
const FURTHER: usize = 12;

/// So many rows are many.
const LONG: f32 = 20_000.0;

/// What a search by partitions is over.
#[derive(Clone, Copy)]
pub(crate) struct Searched<'a> {
    pub partitions: Partitions<'a>,
    pub rows: Rows<'a>,
    pub ids: &'a [u64],
    pub quantized: Option<Quantized<'a>>,
}

/// What a search asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// At least 1.
    pub k: usize,
    /// The rows that may be found; without it all may.
    pub among: Option<Among<'a>>,
    /// Whether the scores of `i8` rows will do, where there are any.
    pub approximate: bool,
    /// The share of the rows that may be found whose codes are read at most, unless a filter misleads the model.
    pub most: f32,
}

/// The rows that a search may find.
#[derive(Clone, Copy)]
pub(crate) struct Among<'a> {
    /// A bit for each row of the index.
    pub words: &'a [u64],
    /// How many of them each cluster has, if that is known.
    pub counts: Option<&'a [Lanes]>,
    /// A search that has to read more codes than this gives up: another way is cheaper.
    pub budget: usize,
    /// What tells the effort where these rows are near the user, or far.
    pub aim: Option<Aim<'a>>,
}

/// The recall to reach, and what was measured for it.
#[derive(Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub calibration: &'a Calibration,
    pub recall: f32,
    /// How many deviations further to go among rows far from the user.
    pub margin: f32,
}

/// What a search did, for those who measure it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    pub clusters: usize,
    /// Rows whose codes were read, and those that were scored by their embeddings.
    pub coded: usize,
    pub scored: usize,
}

/// What the chosen clusters have.
#[derive(Default)]
struct Reached {
    /// Rows, and those that may be found.
    rows: usize,
    candidates: f32,
    /// Rows of the blocks that are to be read, at most.
    coded: usize,
}

impl Reached {
    /// The share of the rows that may be found.
    fn share(&self) -> f32 {
        self.candidates / self.rows.max(1) as f32
    }
}

/// What a search needs and the next one reuses. A query that has had one like it before allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) user: Vec<f32>,
    pub(super) model: Model,
    /// The user in the units of the codes, as `i8`, and their scale in that of the model.
    coded: Vec<f32>,
    code_values: Vec<i8>,
    code_sum: i32,
    unit: f32,
    clusters: Vec<u32>,
    effort: Effort,
    /// The score, in units of the model, that the model expects `k` rows to reach.
    expected: f32,
    reached: Reached,
    /// How many of the clusters have been read.
    read: usize,
    /// The score by codes from which a row is wanted.
    bar: f32,
    /// Of an exact search: the score that `k` rows reach, and what codes tell for certain.
    least: f32,
    bounds: CodeBounds,
    sample: Readings,
    pub(super) readings: Readings,
    /// The rows to score, their ids, and their scores as keys.
    pub(super) visits: Vec<u32>,
    pub(super) ids: Vec<u64>,
    pub(super) keys: Vec<u64>,
    pub(super) spare: Vec<u64>,
    /// The quantised user as `i8` rows take it.
    pub(super) values: Vec<i8>,
    /// The answer, best first.
    pub hits: Vec<Hit>,
    pub work: Work,
}

impl Wanted<'_> {
    fn words(&self) -> Option<&[u64]> {
        self.among.map(|among| among.words)
    }
}

impl Scratch {
    /// The memory that is held for rows, in bytes.
    pub fn bytes(&self) -> usize {
        let lists = self.sample.bytes() + self.readings.bytes();
        let numbers = 4 * self.visits.capacity();
        let keys = 8 * (self.ids.capacity() + self.keys.capacity() + self.spare.capacity());
        lists + numbers + keys + self.hits.capacity() * size_of::<Hit>()
    }
}

impl<'a> Searched<'a> {
    /// Leaves the hits for a user among the clusters and the rows that an effort reaches. False where rows to search
    /// among make that dearer than their budget; then nothing is left.
    pub fn search(&self, user: &[f32], wanted: Wanted<'_>, effort: Effort, scratch: &mut Scratch) -> bool {
        self.choose(user, wanted, effort, scratch);
        if !self.affords(wanted, scratch) {
            return false;
        }
        self.find(wanted, scratch);
        self.widen(wanted, scratch)
    }

    /// Finds the best rows of the chosen clusters.
    fn find(&self, wanted: Wanted<'_>, scratch: &mut Scratch) {
        self.prepare(wanted, scratch);
        (0..scratch.clusters.len()).for_each(|at| self.read(at, wanted.words(), scratch));
        self.settle(wanted, scratch);
    }

    /// Searches once more where a filter misled the model: where it took the best rows of clusters, what was found is
    /// far worse than expected, and many more clusters than those read may hold better rows. False where those are
    /// more than the budget.
    fn widen(&self, wanted: Wanted<'_>, scratch: &mut Scratch) -> bool {
        let last =
            scratch.hits.get(wanted.k - 1).filter(|_| wanted.among.is_some() && scratch.model.scale > 0.0);
        let Some(last) = last else { return true };
        let (bar, before) = (last.score / scratch.model.scale, scratch.reached.candidates);
        if bar >= scratch.expected || self.took_few(wanted.k, scratch) {
            return true;
        }
        self.reach(bar, Wanted { most: 1.0, ..wanted }, scratch);
        if scratch.reached.candidates <= MISLED * before {
            return true;
        }
        if let Some(Aim { recall, .. }) = wanted.among.and_then(|among| among.aim) {
            self.score_more(bar, wanted.k, recall, scratch);
        }
        let affords = self.affords(wanted, scratch);
        if affords {
            self.find(wanted, scratch);
        }
        affords
    }

    /// Whether a filter took too few of the rows that are reached to have misled the model.
    fn took_few(&self, k: usize, scratch: &Scratch) -> bool {
        let Reached { rows, candidates, .. } = scratch.reached;
        let taken = rows as f32 - candidates;
        let by_chance = rows as f32 * (1.0 - scratch.model.rows() / self.rows.len() as f32);
        taken <= TAKEN * k as f32 && taken - CHANCE * by_chance <= BEYOND * k as f32
    }

    /// Scores as many rows more as have codes so far below `bar`, which was found, that a row just above it is missed no
    /// more often than the recall allows. Where a list of the best rows is denied, those left stand close together just
    /// above the bar.
    fn score_more(&self, bar: f32, k: usize, recall: f32, scratch: &mut Scratch) {
        let Reached { candidates, .. } = scratch.reached;
        let dense = scratch.model.density_of_all(&self.partitions, bar) * scratch.reached.share();
        // Half of what the recall lacks is left to the clusters that are not read.
        let below = scratch.off() * deviations_above((1.0 - recall) / 2.0);
        let factor = (1.0 + dense * below / k as f32).min(candidates / k as f32);
        scratch.effort.factor = scratch.effort.factor.max(factor);
    }

    /// Leaves the exact answer: that of scoring every row, bit for bit. An effort says how to begin.
    ///
    /// The best `k` of what a search finds score no more than the best `k` of all, so rows whose bounds by
    /// codes, or by their `i8` values, lie below need no exact score.
    pub fn search_exactly(&self, user: &[f32], wanted: Wanted<'_>, effort: Effort, scratch: &mut Scratch) {
        self.search_many_exactly(&[user], wanted, effort, std::slice::from_mut(scratch));
    }

    /// The same for several users, who read each cluster together; as many of both.
    pub fn search_many_exactly(
        &self,
        users: &[&[f32]],
        wanted: Wanted<'_>,
        effort: Effort,
        scratches: &mut [Scratch],
    ) {
        let among = wanted.among.map(|among| Among { aim: None, budget: usize::MAX, ..among });
        let first = Wanted { approximate: false, among, ..wanted };
        for (user, scratch) in users.iter().zip(&mut *scratches) {
            self.choose(user, first, effort, scratch);
            self.affords(first, scratch);
            self.find(first, scratch);
            scratch.least = scratch.hits.get(wanted.k - 1).map_or(f32::NEG_INFINITY, |last| last.score);
            scratch.bounds = scratch.code_bounds(user, self.partitions.units);
            scratch.readings.clear();
        }
        let Some(first) = scratches.first_mut() else { return };
        let mut clusters = std::mem::take(&mut first.clusters);
        clusters.clear();
        clusters.extend(0..self.partitions.clusters());
        self.partitions.drop_overlaps(&mut clusters);
        for &cluster in &clusters {
            scratches.iter_mut().for_each(|scratch| self.read_bounds(cluster, wanted.words(), scratch));
        }
        scratches[0].clusters = clusters;
        for (user, scratch) in users.iter().zip(scratches) {
            scratch.work.coded += self.rows.len();
            scratch.visits.clear();
            self.bound(user, scratch.least, scratch);
            self.score(scratch);
            self.finish(wanted.k, scratch);
        }
    }

    /// Adds the rows of a cluster whose bounds by codes reach what was found.
    fn read_bounds(&self, cluster: u32, allowed: Option<&[u64]>, scratch: &mut Scratch) {
        let (group, lane) = self.partitions.place(cluster);
        let slack = scratch.bounds.slack(group.norms[lane], group.reaches[lane]);
        let reading = Reading {
            query: &scratch.code_values,
            sum: scratch.code_sum,
            unit: scratch.unit,
            caution: scratch.bounds.caution,
            base: scratch.model.mean(cluster) + slack,
            bar: scratch.bounds.bar(scratch.least),
            ahead: FURTHER,
        };
        codes::read(&reading, &self.run(cluster, allowed), &mut scratch.readings);
    }

    /// The scores of all rows by their codes, of a sound index, in units of the user's scale. Leaves the
    /// model of the user.
    pub fn all_by_codes(&self, user: &[f32], scratch: &mut Scratch) -> Vec<f32> {
        let wanted = Wanted { k: self.rows.len(), among: None, approximate: false, most: 1.0 };
        let effort = Effort { z: f32::NEG_INFINITY, factor: 1.0, coded: 1.0 };
        self.choose(user, wanted, effort, scratch);
        self.prepare(wanted, scratch);
        (0..scratch.clusters.len()).for_each(|at| self.read(at, None, scratch));
        scratch.readings.values().to_vec()
    }

    /// Chooses the clusters to read.
    fn choose(&self, user: &[f32], wanted: Wanted<'_>, effort: Effort, scratch: &mut Scratch) {
        let Scratch { model, coded, code_values, code_sum, .. } = scratch;
        pad(user, &mut scratch.user);
        coded.clear();
        coded.extend(user.iter().zip(self.partitions.units).map(|(value, unit)| value * unit));
        let scale = quantize(coded, code_values);
        code_values.resize(user.len().next_multiple_of(COORDINATES), 0);
        *code_sum = code_values.iter().map(|&value| i32::from(value)).sum();
        model.set(&self.partitions, user, wanted.among);
        scratch.unit = if scale > 0.0 { scale / model.scale } else { 0.0 };
        let bar = model.bar(wanted.k);
        (scratch.effort, scratch.expected) = (effort, bar);
        self.reach(bar, wanted, scratch);
        self.go_further(bar, wanted, scratch);
        scratch.work = Work::default();
    }

    /// Chooses the clusters that the effort reaches, within what is to be read at most.
    fn reach(&self, bar: f32, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let Scratch { model, clusters, effort, reached, .. } = scratch;
        let count = effort.rows(wanted.k).min(model.rows() as usize);
        // The clusters that are reached may have too few rows, where `k` is near to all of them or the model
        // tells little.
        for lower in [0.0, 1.0, 3.0, f32::INFINITY] {
            model.reaching(bar, effort.z - lower, clusters);
            self.partitions.drop_overlaps(clusters);
            *reached = self.reached(clusters, model);
            if reached.candidates as usize >= count {
                break;
            }
        }
        let most = (wanted.most * model.rows()).max(count as f32);
        if reached.candidates > most {
            model.hold(bar, most, clusters);
            *reached = self.reached(clusters, model);
        }
    }

    fn reached(&self, clusters: &[u32], model: &Model) -> Reached {
        clusters.iter().fold(Reached::default(), |all, &cluster| {
            let (count, rows) = (model.count(cluster), self.run(cluster, None).count);
            Reached {
                rows: all.rows + rows,
                candidates: all.candidates + count,
                coded: all.coded + (LANES * count as usize).min(rows),
            }
        })
    }

    /// Goes further where a filter has to do with the user. Where its rows are near, they are a larger share of the best
    /// rows than of all, so that the best `k` of them are fewer of all, whose clusters the bar lies farther above. Where
    /// they are far, the model is off by a margin.
    fn go_further(&self, bar: f32, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let Some(Aim { calibration, recall, margin }) = wanted.among.and_then(|among| among.aim) else {
            return;
        };
        let near = scratch.reached.share();
        let nearer = near / (scratch.model.rows() / self.rows.len() as f32);
        let z = scratch.effort.z;
        if nearer > MORE {
            let further = calibration.effort(wanted.k, near.min(1.0), recall).unwrap_or(scratch.effort);
            scratch.effort = Effort { z: further.z.min(z), ..further };
        } else if nearer < LESS {
            scratch.effort.z -= margin;
        }
        if scratch.effort.z < z {
            self.reach(bar, Wanted { most: 1.0, ..wanted }, scratch);
        }
    }

    /// Whether the codes of the chosen clusters are within the budget, those of blocks that have rows to be found. Adds
    /// them to the work if so.
    fn affords(&self, wanted: Wanted<'_>, scratch: &mut Scratch) -> bool {
        let Scratch { reached, clusters, work, .. } = scratch;
        let coded = work.coded + reached.coded;
        let affords = wanted.among.is_none_or(|among| coded <= among.budget);
        if affords {
            (work.clusters, work.coded) = (work.clusters + clusters.len(), coded);
        }
        affords
    }

    /// Sets the bar for the rows of the chosen clusters.
    fn prepare(&self, wanted: Wanted<'_>, scratch: &mut Scratch) {
        scratch.bar = self.sampled_bar(scratch.effort.rows(wanted.k), wanted.words(), scratch);
        scratch.readings.clear();
        scratch.read = 0;
    }

    /// A bar that about as many rows of the chosen clusters reach as are wanted, by a sample of them.
    fn sampled_bar(&self, count: usize, allowed: Option<&[u64]>, scratch: &mut Scratch) -> f32 {
        let candidates = scratch.reached.candidates as usize;
        let ample = AMPLE * count < candidates;
        if !ample && candidates < 3 * SAMPLE {
            return f32::NEG_INFINITY;
        }
        let step = (candidates / SAMPLE).max(if ample { AMPLE } else { 1 });
        let bytes = block_bytes(self.rows.dim());
        let mut sample = std::mem::take(&mut scratch.sample);
        sample.clear();
        let mut at = 0;
        for &cluster in &scratch.clusters {
            let run = self.run(cluster, allowed);
            let blocks = run.count.div_ceil(LANES);
            while at < blocks {
                let reading = Reading { ahead: step, ..scratch.reading(cluster, f32::NEG_INFINITY) };
                codes::read(&reading, &run.block(at, bytes), &mut sample);
                at += step;
            }
            at -= blocks;
        }
        scratch.sample = sample;
        let sample = scratch.sample.values();
        let share = count as f32 / scratch.reached.candidates * sample.len() as f32;
        let more = if share < MANY { SURE * share.sqrt() + 2.0 } else { NEARLY * share.sqrt() };
        let share = (share + more) as usize;
        if share < sample.len() { bar(sample, share) } else { f32::NEG_INFINITY }
    }

    /// Adds the rows of the chosen cluster `at` that reach the bar.
    fn read(&self, at: usize, allowed: Option<&[u64]>, scratch: &mut Scratch) {
        let cluster = scratch.clusters[at];
        if let Some(&next) = scratch.clusters.get(at + 1) {
            let next = self.run(next, None);
            prefetch(next.blocks, 0, NEXT * block_bytes(self.rows.dim()));
            allowed.iter().for_each(|words| prefetch(words, next.first as usize / 64, 1));
        }
        let mut readings = std::mem::take(&mut scratch.readings);
        codes::read(&scratch.reading(cluster, scratch.bar), &self.run(cluster, allowed), &mut readings);
        scratch.readings = readings;
        scratch.read = at + 1;
    }

    /// Scores the rows that the codes leave, and brings the best in order.
    fn settle(&self, wanted: Wanted<'_>, scratch: &mut Scratch) {
        if scratch.readings.len() < wanted.k && scratch.bar > f32::NEG_INFINITY {
            // The sample gave too high a bar.
            scratch.bar = f32::NEG_INFINITY;
            scratch.readings.clear();
            (0..scratch.clusters.len()).for_each(|at| self.read(at, wanted.words(), scratch));
        }
        let count = scratch.effort.rows(wanted.k);
        if scratch.readings.len() > count + count / 8 {
            let bar = bar(scratch.readings.values(), count);
            scratch.readings.retain(bar);
        }
        scratch.visits.clear();
        scratch.visits.extend_from_slice(scratch.readings.rows());
        match self.quantized.filter(|_| wanted.approximate) {
            Some(quantized) => self.score_roughly(quantized, scratch),
            None => self.score(scratch),
        }
        self.finish(wanted.k, scratch);
    }

    /// The rows of a cluster; none where what the file says of them cannot be.
    fn run<'m>(&'m self, cluster: u32, allowed: Option<&'m [u64]>) -> Run<'m> {
        let (group, lane) = self.partitions.place(cluster);
        let (first, count) = (group.starts[lane], group.counts[lane] as usize);
        let start = (group.blocks[lane] as usize).saturating_mul(block_bytes(self.rows.dim()));
        let blocks = self.partitions.codes.get(start..).unwrap_or(&[]);
        let count = if first as usize + count <= self.rows.len() { count } else { 0 };
        Run { blocks, first, count, allowed }
    }
}

impl Scratch {
    fn code_bounds(&self, user: &[f32], units: &[f32]) -> CodeBounds {
        let (model, coded) = (&self.model, (&self.code_values[..], self.unit));
        CodeBounds::new(user, units, model.scale, model.values(), coded)
    }

    /// How far codes were off for the rows that were scored, as a standard deviation in units of the model.
    fn off(&self) -> f32 {
        let readings = self.readings.values();
        let off = |&key: &u64| {
            let (score, number) = parts(key);
            (score / self.model.scale - readings[number as usize]).powi(2)
        };
        (self.keys.iter().map(off).sum::<f32>() / self.keys.len().max(1) as f32).sqrt()
    }

    /// How to read a cluster.
    fn reading(&self, cluster: u32, bar: f32) -> Reading<'_> {
        let base = self.model.mean(cluster);
        let ahead = if self.reached.candidates < LONG { NEXT } else { FURTHER };
        let (query, sum) = (&self.code_values[..], self.code_sum);
        Reading { query, sum, unit: self.unit, caution: 0.0, base, bar, ahead }
    }
}
