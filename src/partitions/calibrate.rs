//! Measures what a search has to read and to score for a recall.
//!
//! A search misses a row of the exact answer for one of two reasons: its cluster is not read, or its codes
//! rank it too low. Two numbers of the row show which: how far the mean of its cluster lies below
//! the bar, and how many rows of the clusters read score better by codes. Counted over users, they tell the
//! recall of every effort, without a search for each.

use std::sync::Mutex;

use bytemuck::Zeroable;

use super::calibration::{CALIBRATED_K, CALIBRATED_RECALL, Calibration, Effort, Limits};
use super::in_shares;
use super::limit::{Limit, STEPS, add_rows, limits, steps, z_after};
use super::search::{Scratch, Searched, Wanted};
use super::select::{ordered, score_of};
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::vectors::kernels::codes::block_bytes;
use crate::vectors::kernels::interleaved::LANES;

/// Rows scored for each of the `k`, as tried.
const FACTORS: [f32; TRIED] = [1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.2, 2.8, 4.0, 8.0];
const TRIED: usize = 14;

/// The part of what a recall lacks that clusters cause, in the clusters that rows are compared in by their
/// codes. What they cause in the end is then chosen.
const BY_CLUSTERS: f32 = 0.7;

/// For many rows a factor beyond this is never worth its price.
const MANY: usize = 300;
const ENOUGH: f32 = 2.8;

/// Up to this `k` a user tells little and costs little, so that more of them measure it: so many at most.
const SMALL: usize = 32;
const MOST: usize = 1500;

/// Beyond this `k` users differ little, and cost most: so many of them measure it.
const LARGE: usize = 5_000;
const FEW: usize = 40;

/// Users between two looks at progress and cancellation.
const CHUNK: usize = 16;

/// What exact answers are looked for with where nothing was measured; they do not depend on it.
pub(crate) const BEGINNING: Effort = Effort { z: -3.0, factor: 1.2, coded: 0.0 };

/// How many users measure an index of so many rows.
pub(crate) fn measuring(rows: usize) -> usize {
    measuring_for(SMALL, rows)
}

/// How many of them, the first, measure a `k`.
fn measuring_for(k: usize, rows: usize) -> usize {
    if k > LARGE {
        FEW
    } else if k > SMALL {
        ((1 << 27) / rows).clamp(100, 400)
    } else {
        ((3 << 27) / rows).clamp(100, MOST)
    }
}

/// What an effort is to be found for.
#[derive(Clone, Copy)]
struct Target {
    k: usize,
    recall: f32,
}

/// What is measured: a `k` with a limit or without. Each `k` has a case of either kind, the one without first.
struct Case {
    k: usize,
    limit: Limit,
}

/// The case that a target is measured in, and the clusters that rows are compared in by their codes, as a step of z.
#[derive(Clone, Copy)]
struct Chosen {
    target: Target,
    case: usize,
    last: usize,
}

/// The rows of a user's exact answer for the largest `k`, best first.
struct Measured<'u> {
    user: &'u [f32],
    rows: Vec<u32>,
}

/// The hits and the rows in the clusters at each step of z, for one case.
#[derive(Clone)]
struct Reached {
    hits: Vec<u64>,
    /// The squares of how many hits each user has up to a step.
    squares: Vec<u64>,
    rows: Vec<u64>,
}

/// The hits in the clusters at each step of z that codes put among so many rows, for one target.
type Ranked = Vec<[u64; TRIED]>;

/// Measures an index, whose `ids` here are the numbers of its rows, with users of its dim. The first of them measure
/// what costs most, so that they are best in random order.
pub(crate) fn calibrate(
    searched: &Searched<'_>,
    users: &[&[f32]],
    threads: usize,
    watch: &Watch<'_>,
) -> Result<(Calibration, Limits)> {
    let ks: Vec<usize> = CALIBRATED_K.into_iter().filter(|&k| k <= searched.rows.len()).collect();
    let measures = |user: usize| ks.partition_point(|&k| user < measuring_for(k, searched.rows.len()));
    let mut measured: Vec<Measured<'_>> =
        users.iter().map(|user| Measured { user, rows: Vec::new() }).collect();
    let clusters = clusters_of(searched);
    let cases: Vec<Case> = (ks.iter().zip(limits(searched, users, &ks)))
        .flat_map(|(&k, limit)| [Limit::default(), limit].map(|limit| Case { k, limit }))
        .collect();
    let no_reach = Reached { hits: vec![0; STEPS], squares: vec![0; STEPS], rows: vec![0; STEPS] };
    let reached = Mutex::new(vec![no_reach; cases.len()]);
    for (number, chunk) in measured.chunks_mut(CHUNK).enumerate() {
        watch.tick(Stage::Calibrate, number * CHUNK, 2 * users.len())?;
        let mut chunk: Vec<_> = (number * CHUNK..).zip(chunk).collect();
        in_shares(&mut chunk, threads, |(user, measured)| {
            reach(searched, &clusters, &cases[..2 * measures(*user)], measured, &reached);
        });
    }
    let reached = reached.into_inner().expect("measuring does not panic");

    let targets: Vec<Chosen> = (0..ks.len())
        .flat_map(|at| CALIBRATED_RECALL.map(|recall| chosen(&cases, &reached, 2 * at, recall)))
        .collect();
    let ranked = Mutex::new(vec![vec![[0; TRIED]; STEPS]; targets.len()]);
    for (number, chunk) in measured.chunks_mut(CHUNK).enumerate() {
        watch.tick(Stage::Calibrate, users.len() + number * CHUNK, 2 * users.len())?;
        let mut chunk: Vec<_> = (number * CHUNK..).zip(chunk).collect();
        in_shares(&mut chunk, threads, |(user, measured)| {
            let targets = &targets[..measures(*user) * CALIBRATED_RECALL.len()];
            rank_by_codes(searched, &clusters, (targets, &cases), measured, &ranked);
        });
    }
    let ranked = ranked.into_inner().expect("measuring does not panic");

    let (mut calibration, mut limits) = (Calibration::zeroed(), Limits::zeroed());
    let efforts = calibration.efforts.as_flattened_mut().iter_mut();
    let places = efforts.zip(limits.shares.as_flattened_mut());
    for ((place, most), (&Chosen { target, case, .. }, ranked)) in places.zip(targets.iter().zip(&ranked)) {
        let users = users.len().min(measuring_for(target.k, searched.rows.len()));
        if let Some((effort, step)) = cheapest(searched, target, users, &reached[case], ranked) {
            (*place, *most) = (effort, cases[case].limit.share(step, searched.rows.len()));
        }
    }
    Ok((calibration, limits))
}

/// Which of the case `free` and the next, which has a limit, a recall is measured in.
fn chosen(cases: &[Case], reached: &[Reached], free: usize, recall: f32) -> Chosen {
    let last = |case: usize| reached[case].step(1.0 - BY_CLUSTERS * (1.0 - recall));
    let limited = free + 1;
    let pays = cases[limited].limit.pays(last(free), last(limited));
    let case = if pays { limited } else { free };
    Chosen { target: Target { k: cases[free].k, recall }, case, last: last(case) }
}

/// The cluster of each row.
fn clusters_of(searched: &Searched<'_>) -> Vec<u32> {
    let mut clusters = Vec::with_capacity(searched.rows.len());
    for cluster in 0..searched.partitions.clusters() {
        let (group, lane) = searched.partitions.place(cluster);
        clusters.extend(std::iter::repeat_n(cluster, group.counts[lane] as usize));
    }
    clusters
}

/// Finds the exact answer of a user, and adds for each case what clusters hold of it.
fn reach(
    searched: &Searched<'_>,
    clusters: &[u32],
    cases: &[Case],
    measured: &mut Measured<'_>,
    reached: &Mutex<Vec<Reached>>,
) {
    let mut scratch = Scratch::default();
    let Some(&Case { k, .. }) = cases.last() else { return };
    let wanted = Wanted { k, among: None, approximate: false, most: 1.0 };
    searched.search_exactly(measured.user, wanted, BEGINNING, &mut scratch);
    measured.rows = scratch.hits.iter().map(|hit| hit.id as u32).collect();
    let steps: Vec<Vec<usize>> = cases.iter().map(|case| case.steps(searched, &scratch)).collect();
    let mut reached = reached.lock().expect("measuring does not panic");
    for ((&Case { k, .. }, steps), reached) in cases.iter().zip(&steps).zip(&mut *reached) {
        let mut hits = [0; STEPS];
        measured.rows[..k].iter().for_each(|&row| hits[steps[clusters[row as usize] as usize]] += 1);
        reached.add(&hits);
        add_rows(searched, steps, &mut reached.rows);
    }
}

impl Case {
    /// The step at which a search reads each cluster.
    fn steps(&self, searched: &Searched<'_>, scratch: &Scratch) -> Vec<usize> {
        let mut steps = steps(scratch, searched.partitions.clusters(), self.k);
        self.limit.apply(searched, &mut steps);
        steps
    }
}

impl Reached {
    /// Adds the hits of a user at each step.
    fn add(&mut self, hits: &[u64; STEPS]) {
        let mut held = 0;
        for ((sum, squares), hits) in self.hits.iter_mut().zip(&mut self.squares).zip(hits) {
            held += hits;
            *sum += hits;
            *squares += held * held;
        }
    }

    /// The standard error of a recall that so many users measure, by how they differ where clusters give it.
    fn error(&self, Target { k, recall }: Target, users: usize) -> f64 {
        let (step, users, k) = (self.step(recall), users as f64, k as f64);
        let mean = self.hits[..=step].iter().sum::<u64>() as f64 / users;
        let variance = self.squares[step] as f64 / users - mean * mean;
        (variance.max(0.0) / users).sqrt() / k
    }

    /// The first step at which the clusters so far hold this share of the hits.
    fn step(&self, share: f32) -> usize {
        let wanted = (f64::from(share) * self.hits.iter().sum::<u64>() as f64).ceil() as u64;
        let mut held = 0;
        self.hits
            .iter()
            .position(|hits| {
                held += hits;
                held >= wanted
            })
            .unwrap_or(STEPS - 1)
    }
}

/// Adds for each target what codes tell of a user's exact answer among the clusters up to a step.
fn rank_by_codes(
    searched: &Searched<'_>,
    clusters: &[u32],
    (targets, cases): (&[Chosen], &[Case]),
    measured: &Measured<'_>,
    ranked: &Mutex<Vec<Ranked>>,
) {
    let mut scratch = Scratch::default();
    let scores = searched.all_by_codes(measured.user, &mut scratch);
    let mut keys = Vec::new();
    let mut found: Vec<Vec<(usize, usize)>> = Vec::new();
    for targets in targets.chunk_by(|a, b| a.case == b.case) {
        let case = &cases[targets[0].case];
        let (k, steps) = (case.k, case.steps(searched, &scratch));
        let hits: Vec<(usize, f32)> = measured.rows[..k]
            .iter()
            .map(|&row| (steps[clusters[row as usize] as usize], scores[row as usize]))
            .collect();
        // The more clusters, the better are the best rows of them: what was no use among few is none among
        // more.
        let mut least = f32::NEG_INFINITY;
        for &Chosen { last, .. } in targets {
            keys.clear();
            let mut start = 0;
            for (cluster, &step) in (0..).zip(&steps) {
                let (group, lane) = searched.partitions.place(cluster);
                let end = start + group.counts[lane] as usize;
                if step <= last {
                    keys.extend(
                        scores[start..end]
                            .iter()
                            .filter(|&&score| score >= least)
                            .map(|&score| ordered(score)),
                    );
                }
                start = end;
            }
            let bars = bars(&mut keys, k);
            least = bars[TRIED - 1];
            let factor = |score: f32| bars.iter().position(|&bar| score >= bar);
            found.push(hits.iter().filter_map(|&(step, score)| Some((step, factor(score)?))).collect());
        }
    }
    let mut ranked = ranked.lock().expect("measuring does not panic");
    for (ranked, found) in ranked.iter_mut().zip(found) {
        found.into_iter().for_each(|(step, factor)| ranked[step][factor] += 1);
    }
}

/// The scores that the best of so many times `k` reach.
fn bars(keys: &mut [u32], k: usize) -> [f32; TRIED] {
    let mut bars = [f32::NEG_INFINITY; TRIED];
    let (mut left, mut last) = (keys, f32::NEG_INFINITY);
    for (bar, factor) in bars.iter_mut().zip(FACTORS).rev() {
        let most = if k > MANY { ENOUGH } else { FACTORS[TRIED - 1] };
        let count = (k as f32 * factor.min(most)).ceil() as usize;
        if count < left.len() {
            let at = left.len() - count;
            let (_, &mut key, _) = left.select_nth_unstable(at);
            last = score_of(key);
            left = &mut left[at..];
        }
        *bar = last;
    }
    bars
}

/// Among the efforts that reach the recall, and its standard error more, the one that reads the fewest cache lines, and
/// its step of z.
fn cheapest(
    searched: &Searched<'_>,
    target: Target,
    users: usize,
    reached: &Reached,
    ranked: &Ranked,
) -> Option<(Effort, usize)> {
    let dim = searched.rows.dim();
    let recall = f64::from(target.recall);
    // With few users the error may be more than what the recall lacks.
    let recall = recall + reached.error(target, users).min((1.0 - recall) / 2.0);
    let wanted = (recall * (users * target.k) as f64).ceil() as u64;
    let lines_coded = (block_bytes(dim) / LANES) as f64 / 64.0;
    let lines_scored = (searched.rows.lines() + 1) as f64;
    let (mut best, mut least) = (None, f64::INFINITY);
    for (tried, factor) in FACTORS.into_iter().enumerate() {
        let (mut found, mut rows) = (0, 0);
        for (step, (ranked, reached)) in ranked.iter().zip(&reached.rows).enumerate() {
            found += ranked[..=tried].iter().sum::<u64>();
            rows += reached;
            if found < wanted {
                continue;
            }
            let coded = rows as f64 / users as f64;
            let cost = coded * lines_coded + f64::from(factor) * target.k as f64 * lines_scored;
            if cost < least {
                least = cost;
                let coded = (coded / searched.rows.len() as f64) as f32;
                best = Some((Effort { z: z_after(step), factor, coded }, step));
            }
            break;
        }
    }
    best
}
