//! Measures recall and speed: the exact answer, recall against it, and timed queries.

use std::thread;
use std::time::{Duration, Instant};

use crate::ranking::{Scratch, Source};
use crate::{Error, Hit, Index, Matrix, Plan, RankOptions, Result, SearchOptions};

/// Queries are repeated for at least this long, so that one lucky pass over a small set does not decide.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// Ranks before timing starts, while workspaces grow and pages are read from disk.
const WARM_UP: usize = 50;

/// The most lists of candidates that are ranked at once, and how often all of them are.
const MOST_LISTS: usize = 64;
const TURNS: usize = 9;

/// Recall and speed at one width of the beam.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// The plan that the searches took.
    pub plan: Plan,
    /// The beam, which means something for [`Plan::Graph`] only.
    pub ef: usize,
    /// Mean recall@k over the users.
    pub recall: f64,
    /// The recall@k that 19 users in 20 have at least: the 5th percentile.
    pub recall_p5: f64,
    /// Queries per second of all threads together.
    pub qps: f64,
    /// Median latency of a query.
    pub p50: Duration,
    /// The latency that 99 in 100 queries do not exceed.
    pub p99: Duration,
}

/// The exact best `k` items of each user, best first, by scoring every row.
///
/// `users` are of the index's dim; the answer has one list a user, in their order, of `k` hits or of as many
/// as the index has. Users are spread over `threads` (at least 1). `progress` is called after each group of
/// users with how many are done.
///
/// # Errors
/// [`Error::WrongDim`] and [`Error::BadUser`], for the first user at fault.
pub fn exact(
    index: &Index,
    users: &Matrix,
    k: usize,
    threads: usize,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Vec<Hit>>> {
    index.check_users(users)?;
    Ok(index.scan_exactly(users, k, threads, progress))
}

/// Recall@k: the share of the exact answer that `found` holds, from 0 to 1. `k` is the length of `exact`; if
/// that is 0, the recall is 1.
///
/// An item that scores at least as high as the last of `exact` counts, so of items with equal scores any will
/// do.
pub fn recall(exact: &[Hit], found: &[Hit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let good = found.iter().filter(|hit| hit.score >= last.score).count();
    good.min(exact.len()) as f64 / exact.len() as f64
}

/// Times searches: one query after another on each of `threads`, over all users, until a second has passed.
/// The recall is the mean over all users, against `exact`, which has one list a user.
///
/// # Errors
/// As [`Index::search_with`].
pub fn measure(
    index: &Index,
    users: &Matrix,
    exact: &[Vec<Hit>],
    options: &SearchOptions<'_>,
    threads: usize,
) -> Result<Point> {
    measure_each(index, users, exact, |_| *options, threads)
}

/// The same with options for each user, by the user's number: of other items denied, say.
///
/// # Errors
/// As [`Index::search_with`].
pub fn measure_each<'a>(
    index: &Index,
    users: &Matrix,
    exact: &[Vec<Hit>],
    options: impl Fn(usize) -> SearchOptions<'a> + Sync,
    threads: usize,
) -> Result<Point> {
    let options = &options;
    let mut recalls = Vec::with_capacity(users.len());
    let mut plan = Plan::Scan;
    for ((number, user), exact) in users.rows().enumerate().zip(exact) {
        let options = options(number);
        let found = index.search_with(user, &options)?;
        plan = found.plan;
        let mut hits = found.hits;
        if options.approximate() {
            let ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
            let mut scores = vec![0.0; ids.len()];
            index.score(user, &ids, &mut scores)?;
            hits.iter_mut().zip(scores).for_each(|(hit, score)| hit.score = score);
        }
        recalls.push(recall(exact, &hits));
    }
    let started = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let run = |thread: usize| {
            let mut times = Vec::new();
            while started.elapsed() < MEASURED_FOR {
                for (number, user) in users.rows().enumerate().skip(thread).step_by(threads.max(1)) {
                    let options = options(number);
                    let asked = Instant::now();
                    std::hint::black_box(index.search_with(user, &options))?;
                    times.push(asked.elapsed());
                }
            }
            Ok(times)
        };
        let running: Vec<_> = (0..threads.max(1)).map(|thread| scope.spawn(move || run(thread))).collect();
        let finished = running.into_iter().map(|thread| thread.join().expect("a query does not panic"));
        finished.collect::<Result<Vec<_>>>()
    })?
    .concat();
    let elapsed = started.elapsed();
    times.sort_unstable();
    recalls.sort_unstable_by(f64::total_cmp);
    Ok(Point {
        plan,
        ef: index.ef(&options(0))?,
        recall: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
        recall_p5: recalls.get(recalls.len() / 20).copied().unwrap_or(1.0),
        qps: times.len() as f64 / elapsed.as_secs_f64(),
        p50: quantile(&times, 0.5),
        p99: quantile(&times, 0.99),
    })
}

/// The times of ranks and of their parts. Each list has one entry a call, in ascending order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RankTimes {
    /// Ranks by id with [`RankOptions::exact`].
    pub exact: Vec<Duration>,
    /// Ranks by id with default options: bounds from the `i8` rows first, if the index has any.
    pub two_step: Vec<Duration>,
    /// The same by row handles, which look nothing up.
    pub by_rows: Vec<Duration>,
    /// The recall of `two_step` against `exact`, from 0 to 1; 1 if both give the same answers.
    pub overlap: f64,
    /// Looking candidates up and putting their rows in order; a part of the ranks by id.
    pub lookup: Vec<Duration>,
    /// The memory limit of `exact`: reading the embeddings of the candidates, `f32` or `f16`, in the same order, with the same
    /// prefetching, and doing nothing else.
    pub gather_rows: Vec<Duration>,
    /// The same for the `i8` rows, the limit of `two_step`; without meaning if the index has none.
    pub gather_i8: Vec<Duration>,
}

/// Times `calls` ranks and their parts on one thread, for one user after another. Each call ranks
/// `candidates` item ids, drawn at random from the index for this call, and returns the best `k`.
///
/// # Errors
/// As [`Index::rank`]; [`Error::BadOption`] if there is no user.
pub fn measure_rank(
    index: &Index,
    users: &Matrix,
    candidates: usize,
    k: usize,
    calls: usize,
) -> Result<RankTimes> {
    if users.is_empty() {
        return Err(Error::BadOption { option: "users", problem: "there are none to rank for".to_owned() });
    }
    let options = RankOptions::new(k);
    let ranking = index.ranking();
    let mut scratch = Scratch::default();
    let mut times: [Vec<Duration>; 6] = Default::default();
    let mut drawn = vec![0; candidates];
    let (mut state, mut overlap) = (1, 0.0);
    for call in 0..WARM_UP + calls {
        let user = users.row(call % users.len());
        // Handles of other candidates than the ids below, so that they leave nothing in the cache for those.
        drawn.fill_with(|| draw(index.ids(), &mut state));
        let handles = index.look_up(&drawn);
        drawn.fill_with(|| draw(index.ids(), &mut state));
        let mut took = [Duration::ZERO; 6];
        timed(&mut took[5], || index.rank_with(user, &handles, &options))?;
        // `f32` rows and `i8` rows take turns, so that each part finds other rows in the cache, as in a
        // server that has more to do.
        let exact = timed(&mut took[0], || index.rank_with(user, &drawn, &options.exact()))?;
        let two_step = timed(&mut took[1], || index.rank_with(user, &drawn, &options))?;
        timed(&mut took[2], || ranking.look_up(Source { ids: &drawn, rows: &[] }, &mut scratch));
        timed(&mut took[3], || ranking.read_rows(&scratch));
        timed(&mut took[4], || ranking.read_quantized(&scratch));
        if call >= WARM_UP {
            overlap += recall(&exact.hits, &two_step.hits);
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    let [exact, two_step, lookup, gather_rows, gather_i8, by_rows] = times;
    let overlap = overlap / calls.max(1) as f64;
    Ok(RankTimes { exact, two_step, by_rows, overlap, lookup, gather_rows, gather_i8 })
}

/// How many lists a second [`Index::rank_many`] ranks on one thread, and on `threads`: the medians of nine
/// turns.
///
/// Each user, at most 64 of them, has a list of its own, drawn as in [`measure_rank`].
///
/// # Errors
/// As [`Index::rank_many`].
pub fn measure_rank_threads(
    index: &Index,
    users: &Matrix,
    candidates: usize,
    k: usize,
    threads: usize,
) -> Result<[f64; 2]> {
    let count = users.len().min(MOST_LISTS);
    let users = Matrix::new(users.dim(), users.as_slice()[..count * users.dim()].to_vec())?;
    let mut state = 1;
    let mut draw_list = || (0..candidates).map(|_| draw(index.ids(), &mut state)).collect();
    let lists: Vec<Vec<u64>> = (0..count).map(|_| draw_list()).collect();
    let options = RankOptions::new(k);
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..=TURNS {
        for (times, threads) in times.iter_mut().zip([1, threads]) {
            let mut took = Duration::ZERO;
            timed(&mut took, || {
                index.rank_many(&users, &lists.iter().collect::<Vec<_>>(), &options, threads)
            })?;
            // The first turn warms up.
            times.extend((turn > 0).then_some(took));
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        count as f64 / quantile(&times, 0.5).as_secs_f64()
    }))
}

/// One of `ids`, by splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
fn draw(ids: &[u64], state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ids[((u128::from(z ^ (z >> 31)) * ids.len() as u128) >> 64) as usize]
}

fn timed<T>(took: &mut Duration, call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = std::hint::black_box(call());
    *took = started.elapsed();
    answer
}

/// The quantile `q`, from 0 to 1, of ascending `times`; zero if there are none.
pub fn quantile(times: &[Duration], q: f64) -> Duration {
    let place = (times.len() as f64 * q).ceil() as usize;
    times.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

/// What the index's order passes on of what a ranking model, the teacher, holds best; see [`funnel`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Funnel {
    /// How many users had a candidate with a score; the means are over these.
    pub users: usize,
    /// The share of the teacher's best that the index holds at all.
    pub indexed: f64,
    /// One entry for each number of candidates passed on, in the order they were asked for.
    pub stages: Vec<FunnelStage>,
}

/// What is left of the teacher's best after one stage of a [`Funnel`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct FunnelStage {
    /// How many candidates the stage passes on.
    pub passed: usize,
    /// The mean share of the teacher's best among them, from 0 to 1.
    pub kept: f64,
    /// The share that 19 users in 20 have at least: the 5th percentile.
    pub kept_p5: f64,
}

/// Measures pre-ranking against a teacher: of the `best` candidates that the teacher scores highest, how many
/// are among the first 100, 300, 1,000 ... of the index's order?
///
/// User `i` has the candidates `candidates[i]` (item ids, in any order) with the teacher's `scores[i]`, one
/// each, higher is better. A candidate with a score of NaN was not scored: it takes part in the index's
/// order and is none of the teacher's best. Of equal scores the smaller id is better, and an id that comes
/// twice counts with its higher score. A candidate that the index does not hold is lost at every stage. A
/// user without a scored candidate is left out. `stages` says how many candidates each stage passes on.
///
/// # Errors
/// [`Error::BadOption`] if there are not as many lists as users or not as many scores as candidates, or if
/// `best` or a stage is 0; and the errors of [`Index::rank`], for the first user at fault.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0]), (8, [2.0]), (9, [3.0])], &path)?;
/// # let index = itemdex::Index::open(&path)?;
/// let users = itemdex::Matrix::new(1, vec![1.0])?;
/// // The index holds 9 best and 8 next; the teacher 8 and 7.
/// let funnel = itemdex::eval::funnel(&index, &users, &[[7, 8, 9]], &[[0.5, 0.9, 0.1]], 2, &[1, 2, 3])?;
/// let kept: Vec<f64> = funnel.stages.iter().map(|stage| stage.kept).collect();
/// assert_eq!(kept, [0.0, 0.5, 1.0]);
/// # Ok::<(), itemdex::Error>(())
/// ```
pub fn funnel(
    index: &Index,
    users: &Matrix,
    candidates: &[impl AsRef<[u64]>],
    scores: &[impl AsRef<[f32]>],
    best: usize,
    stages: &[usize],
) -> Result<Funnel> {
    let bad = |option, problem| Err(Error::BadOption { option, problem });
    if candidates.len() != users.len() || scores.len() != users.len() {
        let (candidates, scores, users) = (candidates.len(), scores.len(), users.len());
        let problem = format!("{candidates} lists of candidates and {scores} of scores for {users} users");
        return bad("candidates", problem);
    }
    if best == 0 || stages.contains(&0) {
        return bad("stages", "the best and what a stage passes on are at least 1".to_owned());
    }
    let options = RankOptions::new(stages.iter().copied().max().unwrap_or(1));
    let mut indexed = Vec::new();
    let mut kept = vec![Vec::new(); stages.len()];
    for (user, (candidates, scores)) in candidates.iter().zip(scores).enumerate() {
        let (candidates, scores) = (candidates.as_ref(), scores.as_ref());
        if candidates.len() != scores.len() {
            let problem = format!("user {user} has {} for {} candidates", scores.len(), candidates.len());
            return bad("scores", problem);
        }
        let teacher = teacher_best(candidates, scores, best);
        let ranked = index.rank_with(users.row(user), candidates, &options)?.hits;
        if teacher.is_empty() {
            continue;
        }
        let share = |count: usize| count as f64 / teacher.len() as f64;
        let among = |id: &u64| teacher.binary_search(id).is_ok();
        indexed.push(share(teacher.iter().filter(|&&id| index.contains(id)).count()));
        for (kept, &passed) in kept.iter_mut().zip(stages) {
            kept.push(share(ranked.iter().take(passed).filter(|hit| among(&hit.id)).count()));
        }
    }
    let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    let stage = |(kept, &passed): (&mut Vec<f64>, &usize)| {
        kept.sort_unstable_by(f64::total_cmp);
        let kept_p5 = kept.get(kept.len() / 20).copied().unwrap_or(0.0);
        FunnelStage { passed, kept: mean(kept), kept_p5 }
    };
    let stages = kept.iter_mut().zip(stages).map(stage).collect();
    Ok(Funnel { users: indexed.len(), indexed: mean(&indexed), stages })
}

/// The ids of the `best` candidates by score, ascending.
fn teacher_best(candidates: &[u64], scores: &[f32], best: usize) -> Vec<u64> {
    let mut scored: Vec<(u64, f32)> = candidates.iter().copied().zip(scores.iter().copied()).collect();
    scored.retain(|(_, score)| !score.is_nan());
    scored.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    scored.dedup_by_key(|&mut (id, _)| id);
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut ids: Vec<u64> = scored.into_iter().take(best).map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}
