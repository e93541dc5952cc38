//! How good and how fast: the exact answer, recall against it, and timed queries.

use std::thread;
use std::time::{Duration, Instant};

use crate::rank::{Scratch, Source};
use crate::{Error, Hit, Index, Matrix, RankOptions, Result, SearchOptions};

/// Queries are repeated for at least this long, so that a small set is not measured by one lucky pass.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// Ranks that are not timed, while workspaces grow and pages are read from disk.
const WARM_UP: usize = 50;

/// How many lists of candidates are ranked at once, and how often.
const MOST_LISTS: usize = 64;
const TURNS: usize = 9;

/// What a sweep found at one beam.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// The beam.
    pub ef: usize,
    /// Mean recall@k over the users.
    pub recall: f64,
    /// Queries a second, all threads together.
    pub qps: f64,
    /// Median latency of a query.
    pub p50: Duration,
    /// The latency that 99 in 100 queries stay within.
    pub p99: Duration,
}

/// The exact best `k` items of each user, best first, by scoring every row.
///
/// Users are spread over `threads` (at least 1). `progress` is told after each group of users how many are done.
///
/// # Errors
/// [`Error::WrongDim`] and [`Error::BadUser`].
pub fn exact(
    index: &Index,
    users: &Matrix,
    k: usize,
    threads: usize,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Vec<Hit>>> {
    index.check_users(users)?;
    Ok(index.best_for_each(users, None, k.min(index.len()), false, threads, progress))
}

/// The share of the exact answer that `found` holds: recall@k, with k the length of `exact`; 1 where that is 0.
///
/// An item that scores as the last exact one does counts as found, whichever of the equals was returned.
pub fn recall(exact: &[Hit], found: &[Hit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let good = found.iter().filter(|hit| hit.score >= last.score).count();
    good.min(exact.len()) as f64 / exact.len() as f64
}

/// Searches for every user, one query after the other on each of `threads`, and times each; repeated until a second
/// has passed. The recall is that of all users against `exact`.
///
/// # Errors
/// As [`Index::search_with`].
pub fn measure(
    index: &Index,
    users: &Matrix,
    exact: &[Vec<Hit>],
    options: &SearchOptions,
    threads: usize,
) -> Result<Point> {
    let mut recalls = Vec::with_capacity(users.len());
    for (user, exact) in users.rows().zip(exact) {
        recalls.push(recall(exact, &index.search_with(user, options)?.hits));
    }
    let started = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let run = |thread: usize| {
            let mut times = Vec::new();
            while started.elapsed() < MEASURED_FOR {
                for user in users.rows().skip(thread).step_by(threads.max(1)) {
                    let asked = Instant::now();
                    std::hint::black_box(index.search_with(user, options))?;
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
    Ok(Point {
        ef: index.ef(options)?,
        recall: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
        qps: times.len() as f64 / elapsed.as_secs_f64(),
        p50: quantile(&times, 0.5),
        p99: quantile(&times, 0.99),
    })
}

/// What ranking candidates took, and of what it consists.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RankTimes {
    /// With [`RankOptions::exact`], ascending.
    pub exact: Vec<Duration>,
    /// Bounded by `i8` rows first, if the index has any; ascending.
    pub two_step: Vec<Duration>,
    /// The same by row handles; ascending. It looks nothing up.
    pub by_rows: Vec<Duration>,
    /// The share of the exact answers that the other ones hold.
    pub overlap: f64,
    /// Looking the candidates up and bringing their rows in the order to visit; ascending. Ranks by id include it.
    pub lookup: Vec<Duration>,
    /// Touching the `f32` rows of the candidates in that order, with the same prefetching, and no more; ascending.
    pub gather_f32: Vec<Duration>,
    /// The same for the `i8` rows; of no meaning where there are none. Ascending.
    pub gather_i8: Vec<Duration>,
}

/// Ranks `candidates` item ids drawn at random from the index, anew for every call, for one user after the other on one
/// thread, and times each of `calls` calls and its parts.
///
/// # Errors
/// As [`Index::rank`]; [`Error::BadOption`] where there is no user.
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
        // Handles of other candidates, which leave nothing in the cache that the rest would read.
        drawn.fill_with(|| draw(index.ids(), &mut state));
        let handles = index.look_up(&drawn);
        drawn.fill_with(|| draw(index.ids(), &mut state));
        let mut took = [Duration::ZERO; 6];
        timed(&mut took[5], || index.rank_with(user, &handles, &options))?;
        // Each part begins with other cache lines in the cache, as in a server that has more to do: `f32` rows and `i8` rows take turns.
        let exact = timed(&mut took[0], || index.rank_with(user, &drawn, &options.exact()))?;
        let two_step = timed(&mut took[1], || index.rank_with(user, &drawn, &options))?;
        timed(&mut took[2], || ranking.look_up(Source::Ids(&drawn), &mut scratch));
        timed(&mut took[3], || ranking.touch_rows(&scratch));
        timed(&mut took[4], || ranking.touch_quantized(&scratch));
        if call >= WARM_UP {
            overlap += recall(&exact.hits, &two_step.hits);
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    let [exact, two_step, lookup, gather_f32, gather_i8, by_rows] = times;
    let overlap = overlap / calls.max(1) as f64;
    Ok(RankTimes { exact, two_step, by_rows, overlap, lookup, gather_f32, gather_i8 })
}

/// How many ranks a second [`Index::rank_many`] does on one thread and on `threads`, for candidates drawn as in [`measure_rank`], a list
/// for each user: the medians of several turns.
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

/// The value that the share `q` of ascending `times` stays within; zero where there is none.
pub fn quantile(times: &[Duration], q: f64) -> Duration {
    let place = (times.len() as f64 * q).ceil() as usize;
    times.get(place.saturating_sub(1)).copied().unwrap_or_default()
}
