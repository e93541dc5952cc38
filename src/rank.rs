//! The best of many candidates: look-up, order, gather, selection.
//!
//! A candidate costs a cache miss in the id table and one or more in the rows, and next to that little else. So the rows
//! are visited in the order of their addresses, near enough that pages repeat, and asked for ahead of their use. Where
//! there are `i8` rows, all candidates are first bounded by them, in a quarter of the cache lines, and only those that may
//! be among the best `k` are scored in `f32`: the answer is the same, bit for bit.

use crate::ids::{IdMap, NONE};
use crate::top::{Contenders, Hit, TopK, keep_best};
use crate::vectors::{Quantized, Rows, UserBounds, pad, prefetch};

/// Rows scored at a time, and how many are asked for ahead of their use.
const BLOCK: usize = 32;
const AHEAD: usize = 32;

/// Address ranges that rows are parted into: so many that the page tables of one stay in the core's cache.
const PARTS: usize = 512;

/// Fewer rows than these are visited as they come.
const FEW: usize = 1024;

/// With fewer candidates for each of the `k`, bounding them first would not pay.
const BOUNDED: usize = 4;

/// The same for a pass over rows in their order, which scores less dearly: there an `f32` row is no cache miss.
const BOUNDED_IN_ORDER: usize = 8;

/// How to rank: how many to return, and how to come by them.
///
/// ```
/// use itemdex::RankOptions;
///
/// let usual = RankOptions::new(1000);
/// let reference = RankOptions::new(1000).exact();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankOptions {
    pub(crate) k: usize,
    pub(crate) exact: bool,
}

impl RankOptions {
    /// Asks for the best `k` candidates, 0 gives none.
    ///
    /// Where the index has `i8` rows, they bound the scores of all candidates, and those that the bounds do not rule out
    /// are scored in `f32`. The answer is that of [`RankOptions::exact`], bit for bit, for less memory read.
    pub fn new(k: usize) -> RankOptions {
        RankOptions { k, exact: false }
    }

    /// Scores every candidate in `f32`: the reference, and what to take where bounds rule out little, as they may where
    /// an embedding has a few values much larger than the others.
    pub fn exact(mut self) -> RankOptions {
        self.exact = true;
        self
    }
}

/// The answer of [`Index::rank`](crate::Index::rank).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranked {
    /// The best candidates, best first; of equal scores the smaller id comes first.
    pub hits: Vec<Hit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
}

/// What is ranked: an index's ids and rows.
#[derive(Clone, Copy)]
pub(crate) struct Ranking<'a> {
    pub map: IdMap<'a>,
    pub ids: &'a [u64],
    pub rows: Rows<'a>,
    pub quantized: Option<Quantized<'a>>,
}

/// What a rank needs and the next one reuses: some 20 bytes a candidate.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The row of each candidate, in their order.
    found: Vec<u32>,
    /// The rows in the order they are visited.
    visits: Vec<u32>,
    contenders: Contenders,
    /// The quantised user.
    values: Vec<i8>,
}

/// A user whom many rows are passed over for, beside others, and the best of these rows.
#[derive(Default)]
pub(crate) struct Contest {
    user: Vec<f32>,
    /// The quantised user, and the bounds while they are used.
    values: Vec<i8>,
    bounds: Option<UserBounds>,
    contenders: Contenders,
    visits: Vec<u32>,
    /// The best so far where there are no bounds.
    top: Option<TopK>,
    pub hits: Vec<Hit>,
}

impl Contest {
    pub fn set_user(&mut self, user: &[f32]) {
        pad(user, &mut self.user);
    }
}

impl Ranking<'_> {
    /// Leaves in each contest the best `k`, at least 1, of `listed` rows, each listed once, or of all. A row is loaded once for
    /// all contests. Where `bounded`, rows are bounded by their `i8` values first, if there are any and if it pays; the answer is the
    /// same, bit for bit.
    pub fn best_for_each(&self, listed: Option<&[u32]>, k: usize, bounded: bool, contests: &mut [Contest]) {
        let count = listed.map_or(self.rows.len(), <[u32]>::len);
        let bounding = self
            .quantized
            .filter(|quantized| bounded && quantized.is_smaller() && count / BOUNDED_IN_ORDER >= k);
        for contest in &mut *contests {
            let Contest { user, values, bounds, contenders, .. } = contest;
            *bounds = bounding.and_then(|quantized| quantized.bounds(user, values));
            contenders.start(k);
        }
        if let Some(quantized) = bounding.filter(|_| contests.iter().any(|contest| contest.bounds.is_some()))
        {
            // Where bounds leave half of the rows they save nothing, and what they leave takes memory.
            let many = count / 2 + FEW;
            self.each_block(
                listed,
                |row| quantized.prefetch(row),
                |rows| {
                    for contest in &mut *contests {
                        let Contest { values, bounds, contenders, .. } = contest;
                        let Some(user) = *bounds else { continue };
                        quantized.bound(values, user, rows, |row, least, most| {
                            contenders.offer(least, most, row, &mut |_| true);
                        });
                        bounds.take_if(|_| contenders.len() > many);
                    }
                },
            );
        }
        for contest in &mut *contests {
            match contest.bounds {
                Some(_) => self.settle(k, contest),
                None => contest.top = Some(TopK::new(k, std::mem::take(&mut contest.hits))),
            }
        }
        if contests.iter().any(|contest| contest.top.is_some()) {
            self.each_block(
                listed,
                |row| self.rows.prefetch(row),
                |rows| {
                    for Contest { user, top, .. } in &mut *contests {
                        let Some(top) = top else { continue };
                        let mut scores = [0.0; BLOCK];
                        self.rows.scores(user, rows, &mut scores[..rows.len()]);
                        for (&row, score) in rows.iter().zip(scores) {
                            if top.may_hold(score) {
                                top.offer(self.hit(row, score));
                            }
                        }
                    }
                },
            );
        }
        for contest in contests {
            if let Some(top) = contest.top.take() {
                contest.hits = top.into_sorted();
            }
        }
    }

    /// Scores what bounds have left.
    fn settle(&self, k: usize, contest: &mut Contest) {
        let Contest { user, contenders, visits, hits, .. } = contest;
        let left = contenders.finish(|_| true).iter().map(|contender| contender.row);
        visits.clear();
        visits.extend(left);
        visits.sort_unstable();
        hits.clear();
        self.score_hits(user, visits, hits);
        keep_best(hits, k);
    }

    fn score_hits(&self, user: &[f32], rows: &[u32], hits: &mut Vec<Hit>) {
        let touch = |row: u32| {
            self.rows.prefetch(row);
            prefetch(self.ids, row as usize, 1);
        };
        gather(rows, touch, |rows| {
            let scores = &mut [0.0; BLOCK][..rows.len()];
            self.rows.scores(user, rows, scores);
            hits.extend(rows.iter().zip(scores).map(|(&row, score)| self.hit(row, *score)));
        });
    }

    /// Calls `each` with `listed` rows, or all, by blocks. Where all are read the processor asks for them ahead by itself.
    #[inline(always)]
    fn each_block(&self, listed: Option<&[u32]>, touch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
        if let Some(rows) = listed {
            return gather(rows, touch, each);
        }
        let total = self.rows.len() as u32;
        for first in (0..total).step_by(BLOCK) {
            let rows: [u32; BLOCK] = std::array::from_fn(|at| first + at as u32);
            each(&rows[..BLOCK.min((total - first) as usize)]);
        }
    }

    /// Looks candidates up and leaves their rows in the order to visit them; returns how many are unknown.
    pub fn look_up(&self, candidates: &[u64], scratch: &mut Scratch) -> usize {
        let Scratch { found, visits, .. } = scratch;
        found.resize(candidates.len(), NONE);
        self.map.rows(candidates, found);
        part(found, self.rows.len(), visits);
        found.len() - visits.len()
    }

    /// The rows that were looked up, each once, in the order to visit them. `insert` says whether a row is new.
    pub fn distinct<'s>(&self, scratch: &'s mut Scratch, mut insert: impl FnMut(u32) -> bool) -> &'s [u32] {
        scratch.visits.retain(|&row| insert(row));
        &scratch.visits
    }

    /// The candidates that were not found, ascending, each once.
    pub fn unknown(&self, candidates: &[u64], scratch: &Scratch) -> Vec<u64> {
        let pairs = candidates.iter().zip(&scratch.found);
        let mut unknown: Vec<u64> = pairs.filter(|&(_, &row)| row == NONE).map(|(&id, _)| id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Leaves in `hits` the best of the rows that were looked up. `insert` says whether a row is new to this rank.
    pub fn best(
        &self,
        user: &[f32],
        options: RankOptions,
        mut insert: impl FnMut(u32) -> bool,
        scratch: &mut Scratch,
        hits: &mut Vec<Hit>,
    ) {
        let Scratch { visits, contenders, values, .. } = scratch;
        hits.clear();
        contenders.start(options.k);
        let bounding = self.quantized.filter(|quantized| {
            !options.exact && quantized.is_smaller() && visits.len() / BOUNDED >= options.k
        });
        let bounds = bounding.and_then(|quantized| Some((quantized, quantized.bounds(user, values)?)));
        match bounds {
            Some((quantized, bounds)) => {
                self.bound(quantized, values, bounds, visits, &mut insert, contenders);
                let rows = contenders.finish(insert).iter().map(|contender| contender.row);
                visits.clear();
                visits.extend(rows);
                self.score_hits(user, visits, hits);
            }
            None => {
                self.score(user, visits, &mut insert, contenders);
                let found = contenders.finish(insert);
                for contender in found.iter() {
                    prefetch(self.ids, contender.row as usize, 1);
                }
                hits.extend(found.iter().map(|contender| self.hit(contender.row, contender.most)));
            }
        }
        keep_best(hits, options.k);
    }

    /// Writes the score of each candidate to the same place of `scores`, NaN for an unknown one; returns how many are.
    pub fn score_all(
        &self,
        user: &[f32],
        candidates: &[u64],
        scratch: &mut Scratch,
        scores: &mut [f32],
    ) -> usize {
        let Scratch { found, .. } = scratch;
        found.resize(candidates.len(), NONE);
        self.map.rows(candidates, found);
        let mut rest = scores;
        let mut unknown = 0;
        gather(
            found,
            |row| self.rows.prefetch(row),
            |found| {
                let (scores, later) = std::mem::take(&mut rest).split_at_mut(found.len());
                rest = later;
                // An unknown id is scored as if it were at row 0, and that score is not used.
                let mut rows = [0; BLOCK];
                for (row, &found) in rows.iter_mut().zip(found) {
                    *row = if found == NONE { 0 } else { found };
                }
                self.rows.scores(user, &rows[..found.len()], scores);
                for (score, _) in scores.iter_mut().zip(found).filter(|&(_, &row)| row == NONE) {
                    *score = f32::NAN;
                    unknown += 1;
                }
            },
        );
        unknown
    }

    /// Touches each cache line of the `f32` rows that [`Ranking::best`] would score, with the same prefetching.
    pub fn touch_rows(&self, scratch: &Scratch) -> f32 {
        let mut sum = 0.0;
        gather(
            &scratch.visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let lines = rows.iter().flat_map(|&row| self.rows.padded(row).iter().step_by(16));
                sum += lines.sum::<f32>();
            },
        );
        sum
    }

    /// The same for the `i8` rows; 0 where there are none.
    pub fn touch_quantized(&self, scratch: &Scratch) -> i32 {
        let Some(quantized) = self.quantized else { return 0 };
        let mut sum = 0;
        gather(
            &scratch.visits,
            |row| quantized.prefetch(row),
            |rows| {
                let lines = rows.iter().flat_map(|&row| quantized.padded(row).iter().step_by(64));
                sum += lines.map(|&value| i32::from(value)).sum::<i32>();
            },
        );
        sum
    }

    #[inline(always)]
    fn hit(&self, row: u32, score: f32) -> Hit {
        Hit { id: self.ids[row as usize], score }
    }

    fn score(
        &self,
        user: &[f32],
        visits: &[u32],
        insert: &mut impl FnMut(u32) -> bool,
        contenders: &mut Contenders,
    ) {
        gather(
            visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let mut scores = [0.0; BLOCK];
                self.rows.scores(user, rows, &mut scores[..rows.len()]);
                for (&row, &score) in rows.iter().zip(&scores) {
                    contenders.offer(score, score, row, insert);
                }
            },
        );
    }

    fn bound(
        &self,
        quantized: Quantized<'_>,
        values: &[i8],
        bounds: UserBounds,
        visits: &[u32],
        insert: &mut impl FnMut(u32) -> bool,
        contenders: &mut Contenders,
    ) {
        gather(
            visits,
            |row| quantized.prefetch(row),
            |rows| {
                quantized.bound(values, bounds, rows, |row, least, most| {
                    contenders.offer(least, most, row, insert);
                });
            },
        );
    }
}

/// Calls `each` with `rows` by blocks, and `touch` with each row some way ahead of that.
#[inline(always)]
fn gather(rows: &[u32], touch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
    rows.iter().take(AHEAD).for_each(|&row| touch(row));
    for (number, block) in rows.chunks(BLOCK).enumerate() {
        let ahead = rows.get(number * BLOCK + AHEAD..).unwrap_or_default();
        ahead.iter().take(BLOCK).for_each(|&row| touch(row));
        each(block);
    }
}

/// Writes the rows of `found`, which are below `rows` or [`NONE`] and left out, to `parted`, by ranges of addresses.
fn part(found: &[u32], rows: usize, parted: &mut Vec<u32>) {
    parted.clear();
    if found.len() < FEW {
        parted.extend(found.iter().filter(|&&row| row != NONE));
        return;
    }
    let shift = (usize::BITS - (rows - 1).leading_zeros()).saturating_sub(PARTS.ilog2());
    // Unknown ones have a part of their own, behind all others.
    let part_of = |row: u32| (row as usize >> shift).min(PARTS);
    let mut ends = [0u32; PARTS + 1];
    found.iter().for_each(|&row| ends[part_of(row)] += 1);
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    parted.resize(found.len(), NONE);
    for &row in found {
        let place = &mut ends[part_of(row)];
        parted[*place as usize] = row;
        *place += 1;
    }
    parted.truncate(ends[PARTS - 1] as usize);
}
