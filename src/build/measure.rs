//! What a build measures of its own index: whether `i8` rows lose recall, what a graph's walks cost, and how
//! much each beam finds.

use std::thread;

use tracing::info;
use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::calibration::{BEAMS, CALIBRATED_K, Calibration};
use crate::graph::{Beam, Graph, Scored, Scratch, kept, score_again, walk};
use crate::progress::{Stage, Watch};
use crate::top::{Hit, TopK, cut};
use crate::vectors::{Matrix, Quantized, Rows, stride_of};

/// The recall@100 by which `i8` rows and graphs are compared: its place among the calibrated k, and the
/// recall that graphs are walked for.
const COMPARED: usize = 1;
pub(super) const TARGET: f32 = 0.95;

/// A loss of recall that counts as none: two builds of one dump differ by as much.
const NO_LOSS: f32 = 0.002;

/// One user of a sample in this many is kept out of the graph, to measure it.
const HELD_OUT: usize = 5;

/// The most and the fewest queries that measure, and the inner products that their exact answers should take.
const MOST: usize = 1000;
const FEWEST: usize = 100;
const PRODUCTS: usize = 1 << 31;

/// Queries between two looks at progress and cancellation.
const CHUNK: usize = 100;

/// Rows scored for one query before the next, or before a look at which are the best.
const BLOCK: usize = 1024;

/// A recall beyond which no wider beam is measured.
const NEARLY_ALL: f32 = 0.999;

/// The beam at which it is measured how many rows a walk scores for each place.
const USUAL_BEAM: usize = 128;

/// The largest of [`CALIBRATED_K`].
const LARGEST_K: usize = CALIBRATED_K[CALIBRATED_K.len() - 1];

/// A value for each of [`CALIBRATED_K`].
type ByK = [f32; CALIBRATED_K.len()];

/// The users of a sample: those that measure an index, and those that its graph is linked for.
#[derive(Clone, Copy)]
pub(super) struct Users<'a> {
    pub measuring: &'a [&'a [f32]],
    pub linked_for: &'a [&'a [f32]],
}

/// Queries, and what their exact answers score: by it a found row counts as one of the best.
pub(super) struct GroundTruth<'a> {
    rows: Rows<'a>,
    threads: usize,
    /// Padded, with the scores of the exact k-th best rows.
    queries: Vec<(Vec<f32>, ByK)>,
}

/// The users of a sample that measure an index, and those that it is built for: no user is both.
pub(super) fn split(sample: Option<&Matrix>, rows: usize) -> (Vec<&[f32]>, Vec<&[f32]>) {
    let users: Vec<&[f32]> = sample.into_iter().flat_map(Matrix::rows).collect();
    let every = (users.len() / measuring(rows)).max(HELD_OUT);
    let (measuring, linked): (Vec<_>, Vec<_>) =
        users.into_iter().enumerate().partition(|(at, _)| at % every == 0);
    let users = |numbered: Vec<(usize, _)>| numbered.into_iter().map(|(_, user)| user).collect();
    (users(measuring), users(linked))
}

/// At most `most` users to measure with, or as many queries made of items where there are no users.
pub(super) fn queries(rows: Rows<'_>, users: &[&[f32]], most: usize) -> Vec<Vec<f32>> {
    match users {
        [] => (0..most as u64).map(|number| mixture(rows, number)).collect(),
        users => users.iter().step_by(users.len().div_ceil(most)).map(|user| user.to_vec()).collect(),
    }
}

/// How many queries to measure with.
fn measuring(rows: usize) -> usize {
    (PRODUCTS / rows).clamp(FEWEST, MOST)
}

impl<'a> GroundTruth<'a> {
    /// Answers `users` exactly, or without any, queries made of items.
    pub fn new(
        rows: Rows<'a>,
        users: &[&[f32]],
        threads: usize,
        watch: &Watch<'_>,
    ) -> Result<GroundTruth<'a>> {
        let mut queries = queries(rows, users, measuring(rows.len()));
        queries.iter_mut().for_each(|query| query.resize(stride_of(rows.dim()), 0.0));
        let mut truth = GroundTruth { rows, threads, queries: Vec::new() };
        let total = queries.len();
        for chunk in queries.chunks(CHUNK) {
            watch.tick(Stage::Calibrate, truth.queries.len(), total)?;
            let thresholds = truth.spread(chunk, |part| thresholds(rows, part));
            truth.queries.extend(chunk.iter().cloned().zip(thresholds));
        }
        Ok(truth)
    }

    /// Whether the best rows by `quantized` scores, and as many more as a search scores again, hold the exact
    /// best.
    pub fn loses_nothing(&self, quantized: Quantized<'_>) -> bool {
        let k = CALIBRATED_K[COMPARED].min(self.rows.len());
        let recalls = self.spread(&self.queries, |part| {
            let recall = |(query, thresholds): &(Vec<f32>, ByK)| {
                let mut best = best_quantized(quantized, self.rows.len(), query, kept(k, k));
                score_again(self.rows, query, &mut best);
                let good = best.iter().filter(|found| found.score() >= thresholds[COMPARED]).count();
                good.min(k) as f32 / k as f32
            };
            part.iter().map(recall).collect::<Vec<f32>>()
        });
        let recall = recalls.iter().sum::<f32>() / recalls.len().max(1) as f32;
        info!(recall, "of the best {k} by i8 rows");
        recall >= 1.0 - NO_LOSS
    }

    /// How many rows a walk scores on the way to a recall of [`TARGET`], in the mean.
    pub fn effort(&self, graph: Graph<'_>, quantized: Option<Quantized<'_>>) -> f32 {
        let mut before: Option<(f32, f32)> = None;
        for ef in BEAMS {
            let (scored, recalls) = self.scored(graph, quantized, ef as usize);
            let recall = mean(&recalls, COMPARED);
            if recall >= TARGET {
                let Some((less, cheaper)) = before else { return scored };
                return cheaper + (scored - cheaper) * (TARGET - less) / (recall - less);
            }
            if ef as usize >= self.rows.len() {
                break;
            }
            before = Some((recall, scored));
        }
        f32::INFINITY
    }

    /// How many rows a walk scores in the mean, and the recall of each query.
    fn scored(&self, graph: Graph<'_>, quantized: Option<Quantized<'_>>, ef: usize) -> (f32, Vec<ByK>) {
        // Every row that is scored is kept, and so counted.
        let found = self.walks(graph, quantized, Beam { ef, keep: self.rows.len() });
        let scored = found.iter().map(|(scored, _)| *scored as f32).sum::<f32>() / found.len() as f32;
        (scored, found.into_iter().map(|(_, recalls)| recalls).collect())
    }

    /// How many rows a walk scores for each place in its beam.
    pub fn scored_a_place(&self, graph: Graph<'_>, quantized: Option<Quantized<'_>>) -> f32 {
        let ef = USUAL_BEAM.min(self.rows.len());
        self.scored(graph, quantized, ef).0 / ef as f32
    }

    /// The recall of each beam, less its standard error.
    pub fn calibrate(
        &self,
        graph: Graph<'_>,
        quantized: Option<Quantized<'_>>,
        watch: &Watch<'_>,
    ) -> Result<Calibration> {
        let mut points: Vec<(u32, ByK)> = Vec::new();
        for (number, &ef) in BEAMS.iter().enumerate() {
            watch.tick(Stage::Calibrate, number, BEAMS.len())?;
            let found_all =
                points.last().is_some_and(|(_, recall)| recall.iter().all(|&recall| recall >= NEARLY_ALL));
            if found_all || ef as usize > self.rows.len() {
                break;
            }
            let recalls = self.recalls(graph, quantized, ef as usize);
            points.push((ef, std::array::from_fn(|column| surely(&recalls, column))));
        }
        watch.tick(Stage::Calibrate, BEAMS.len(), BEAMS.len())?;
        Ok(Calibration::new(points))
    }

    /// The recall of each query at a beam: of one walk, of which a search for each k would keep its part.
    fn recalls(&self, graph: Graph<'_>, quantized: Option<Quantized<'_>>, ef: usize) -> Vec<ByK> {
        let beam = Beam { ef, keep: kept(LARGEST_K, ef) };
        let found = self.walks(graph, quantized, beam);
        found.into_iter().map(|(_, recalls)| recalls).collect()
    }

    /// How many rows a walk for each query found, and its recalls if for each k as many as in a search are
    /// scored again.
    fn walks(&self, graph: Graph<'_>, quantized: Option<Quantized<'_>>, beam: Beam) -> Vec<(usize, ByK)> {
        let total = self.rows.len();
        self.spread(&self.queries, |part| {
            let (mut scratch, mut found) = (Scratch::new(total), Vec::new());
            let walked = |(query, thresholds): &(Vec<f32>, ByK)| {
                walk(graph, self.rows, quantized, query, beam, &mut scratch, &mut found);
                let scored = found.len();
                found.sort_unstable_by(|a, b| b.cmp(a));
                found.truncate(kept(LARGEST_K, beam.ef));
                score_again(self.rows, query, &mut found);
                let recalls = std::array::from_fn(|column| {
                    let k = CALIBRATED_K[column].min(total);
                    let kept = &found[..kept(k, beam.ef).min(found.len())];
                    kept.iter().filter(|found| found.score() >= thresholds[column]).count().min(k) as f32
                        / k as f32
                });
                (scored, recalls)
            };
            part.iter().map(walked).collect()
        })
    }

    /// Does `work` on parts of `queries`, one a thread; the results in order.
    fn spread<Q: Sync, R: Send>(&self, queries: &[Q], work: impl Fn(&[Q]) -> Vec<R> + Sync) -> Vec<R> {
        let size = queries.len().div_ceil(self.threads).max(1);
        thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = queries.chunks(size).map(|part| scope.spawn(move || work(part))).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("measuring does not panic")).collect()
        })
    }
}

fn mean(recalls: &[ByK], column: usize) -> f32 {
    recalls.iter().map(|recall| recall[column]).sum::<f32>() / recalls.len().max(1) as f32
}

/// The mean less its standard error; nothing is taken off where every query found all.
fn surely(recalls: &[ByK], column: usize) -> f32 {
    let mean = mean(recalls, column);
    let squares: f32 = recalls.iter().map(|recall| (recall[column] - mean).powi(2)).sum();
    (mean - squares.sqrt() / recalls.len().max(1) as f32).clamp(0.0, 1.0)
}

/// A query like a user, for want of any: every other one an item, the others a mixture of three.
fn mixture(rows: Rows<'_>, number: u64) -> Vec<f32> {
    let random = |of: u64| xxh3_64(&(number * 8 + of).to_le_bytes());
    let item = |of: u64| rows.get((random(of) % rows.len() as u64) as u32);
    if number.is_multiple_of(2) {
        return item(0).to_vec();
    }
    let mut mixture = vec![0.0; rows.dim()];
    for part in 0..3 {
        let weight = (random(3 + part) >> 40) as f32 / (1 << 24) as f32;
        mixture.iter_mut().zip(&*item(part)).for_each(|(sum, value)| *sum += weight * value);
    }
    mixture
}

/// The scores of the exact k-th best rows for each of `queries`, in one pass over the rows.
fn thresholds(rows: Rows<'_>, queries: &[Vec<f32>]) -> Vec<ByK> {
    let total = rows.len() as u32;
    let most = LARGEST_K.min(rows.len());
    let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(most, Vec::new())).collect();
    for first in (0..total).step_by(BLOCK) {
        let block = first..total.min(first + BLOCK as u32);
        for (query, top) in queries.iter().zip(&mut tops) {
            rows.score_all(query, block.clone(), |row, score| top.offer(Hit { id: row.into(), score }));
        }
    }
    let thresholds = |best: Vec<Hit>| CALIBRATED_K.map(|k| best[k.min(most) - 1].score);
    tops.into_iter().map(TopK::into_sorted).map(thresholds).collect()
}

/// The best `keep` of `total` rows by their quantised scores, in no order.
fn best_quantized(quantized: Quantized<'_>, total: usize, query: &[f32], keep: usize) -> Vec<Scored> {
    let mut values = Vec::new();
    quantized.quantize_user(query, &mut values);
    let mut best = Vec::new();
    for first in (0..total).step_by(BLOCK) {
        let rows: [u32; BLOCK] = std::array::from_fn(|at| (first + at) as u32);
        let rows = &rows[..BLOCK.min(total - first)];
        let scores = &mut [0.0; BLOCK][..rows.len()];
        quantized.scores(&values, rows, scores);
        best.extend(rows.iter().zip(scores).map(|(&row, &mut score)| Scored::new(score, row)));
        if best.len() > keep + BLOCK {
            cut(&mut best, keep, Scored::order);
        }
    }
    cut(&mut best, keep, Scored::order);
    best
}
