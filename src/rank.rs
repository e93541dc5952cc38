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
const AHEAD: usize = 64;

/// Address ranges that rows are parted into: so many that the page tables of one stay in the core's cache.
const PARTS: usize = 512;

/// Rows that bounds may leave in any case before a pass over all rows gives them up.
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

/// Items of one index by their places in it, which spare a rank the look-up: 4 bytes an item, not in the order they were given.
///
/// For a channel that has searched the index already ([`Index::search_rows`](crate::Index::search_rows)), or that brings the same
/// items to many requests ([`Index::look_up`](crate::Index::look_up)). Only an index of the same generation takes them, which is one
/// of the same file or of a copy; any other gives [`Error::StaleRows`](crate::Error::StaleRows).
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, later) = (folder.path().join("items.itemdex"), folder.path().join("later.itemdex"));
/// # itemdex::IndexBuilder::new("v1").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
/// # itemdex::IndexBuilder::new("v2").build_from([(8, [1.0, 2.0]), (7, [2.0, 1.0])], &later)?;
/// let index = itemdex::Index::open(&path)?;
/// let popular = index.look_up(&[8, 7]);
/// assert_eq!(index.rank(&[0.0, 1.0], &popular, 1)?.hits[0].id, 7);
///
/// let rebuilt = itemdex::Index::open(&later)?;
/// assert!(rebuilt.rank(&[0.0, 1.0], &popular, 1).is_err());
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHandles {
    /// The fingerprint of the index, and how many rows it has: all of `rows` are below that.
    pub(crate) generation: (u64, usize),
    /// Ascending: the order that a rank would bring them in.
    pub(crate) rows: Vec<u32>,
}

impl RowHandles {
    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What a rank takes: item ids, or the handles of rows. Either is borrowed, and made of a reference to it.
#[derive(Debug, Clone, Copy)]
pub enum Candidates<'a> {
    /// By id; those that the index does not have are reported.
    Ids(&'a [u64]),
    /// By place, without a look-up.
    Rows(&'a RowHandles),
}

impl<'a> From<&'a [u64]> for Candidates<'a> {
    fn from(ids: &'a [u64]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for Candidates<'a> {
    fn from(ids: &'a [u64; N]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u64>> for Candidates<'a> {
    fn from(ids: &'a Vec<u64>) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a RowHandles> for Candidates<'a> {
    fn from(rows: &'a RowHandles) -> Self {
        Candidates::Rows(rows)
    }
}

/// Candidates that are known to be of the index that ranks them.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Ids(&'a [u64]),
    Rows(&'a [u32]),
}

impl Source<'_> {
    pub fn len(&self) -> usize {
        match self {
            Source::Ids(ids) => ids.len(),
            Source::Rows(rows) => rows.len(),
        }
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

/// What a rank needs and the next one reuses: 8 bytes a candidate, 12 with channels, and some more for those that may be among the best.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The row of each candidate, in their order.
    found: Vec<u32>,
    /// The rows in the order they are visited.
    pub visits: Vec<u32>,
    /// For each visit the channels that brought the row, a bit each, where channels are merged.
    channels: Vec<u32>,
    /// Where among the visits a row with these low bits stood last.
    places: Vec<u32>,
    contenders: Contenders,
    /// The visits that hits were made of, and their rows.
    chosen: Vec<u32>,
    rows: Vec<u32>,
    /// The quantised user.
    values: Vec<i8>,
}

impl Scratch {
    /// For each hit that [`Ranking::best`] or [`Ranking::score_visits`] left, the channels that brought it.
    pub fn channels(&self) -> impl Iterator<Item = u32> {
        self.chosen.iter().map(|&visit| self.channels[visit as usize])
    }
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
                // In their order the processor is ahead by itself, as it is not where a row is several lines.
                |row| {
                    if listed.is_some() {
                        quantized.prefetch(row)
                    }
                },
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
        let left = contenders.finish(|_| true).iter().map(|contender| contender.number);
        visits.clear();
        visits.extend(left);
        visits.sort_unstable();
        hits.clear();
        self.score_hits(user, visits, hits);
        keep_best(hits, k, Hit::order);
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

    /// Calls `each` with `listed` rows, or all, by blocks, and `touch` with each row some way ahead of that.
    #[inline(always)]
    fn each_block(&self, listed: Option<&[u32]>, touch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
        if let Some(rows) = listed {
            return gather(rows, touch, each);
        }
        let total = self.rows.len() as u32;
        for first in (0..total).step_by(BLOCK) {
            let rows: [u32; BLOCK] = std::array::from_fn(|at| first + at as u32);
            rows.iter().for_each(|&row| touch(row + BLOCK as u32));
            each(&rows[..BLOCK.min((total - first) as usize)]);
        }
    }

    /// Looks candidates up and leaves their rows in the order to visit them; returns how many are unknown.
    pub fn look_up(&self, candidates: Source<'_>, scratch: &mut Scratch) -> usize {
        let Scratch { found, visits, places, .. } = scratch;
        places.resize(1 << shift_of(self.rows.len()), 0);
        visits.clear();
        match candidates {
            Source::Ids(ids) => {
                found.resize(ids.len(), NONE);
                self.map.rows(ids, found);
                let mut parts = Parts::of(found, self.rows.len());
                visits.resize(found.len(), NONE);
                found.iter().for_each(|&row| visits[parts.place(row)] = row);
                visits.truncate(parts.known());
            }
            Source::Rows(rows) => visits.extend_from_slice(rows),
        }
        candidates.len() - visits.len()
    }

    /// Looks the candidates of several channels up, and leaves each row once, in the order to visit them, with the channels that brought
    /// it. Returns the ids that were not found, ascending, each once.
    pub fn merge(&self, channels: &[Source<'_>], scratch: &mut Scratch) -> Vec<u64> {
        let Scratch { found, visits, channels: bits, places, .. } = scratch;
        let total = channels.iter().map(Source::len).sum();
        found.resize(total, NONE);
        let mut rest = &mut **found;
        let mut unknown = Vec::new();
        for channel in channels {
            let (own, later) = rest.split_at_mut(channel.len());
            rest = later;
            match channel {
                Source::Ids(ids) => {
                    self.map.rows(ids, own);
                    unknown.extend(not_found(ids, own));
                }
                Source::Rows(rows) => own.copy_from_slice(rows),
            }
        }
        let mut parts = Parts::of(found, self.rows.len());
        visits.resize(total, NONE);
        bits.resize(total, 0);
        let mut rest = &**found;
        for (number, channel) in channels.iter().enumerate() {
            let (own, later) = rest.split_at(channel.len());
            rest = later;
            for &row in own {
                let place = parts.place(row);
                visits[place] = row;
                bits[place] = 1 << number;
            }
        }
        places.resize(1 << shift_of(self.rows.len()), 0);
        let mut kept = 0;
        for visit in 0..parts.known() {
            let (row, bit) = (visits[visit], bits[visit]);
            match seen_before(places, visits, row, kept) {
                Some(seen) => bits[seen] |= bit,
                None => {
                    (visits[kept], bits[kept]) = (row, bit);
                    kept += 1;
                }
            }
        }
        visits.truncate(kept);
        sorted_once(unknown)
    }

    /// The candidates that were not found, ascending, each once.
    pub fn unknown(&self, candidates: Source<'_>, scratch: &Scratch) -> Vec<u64> {
        match candidates {
            Source::Ids(ids) => sorted_once(not_found(ids, &scratch.found).collect()),
            Source::Rows(_) => Vec::new(),
        }
    }

    /// Leaves in `hits` the best of the rows that were looked up, each once, in no order, and some others.
    pub fn best(&self, user: &[f32], options: RankOptions, scratch: &mut Scratch, hits: &mut Vec<Hit>) {
        let Scratch { visits, places, contenders, chosen, rows, values, .. } = scratch;
        let mut insert =
            |visit: u32| seen_before(places, visits, visits[visit as usize], visit as usize).is_none();
        contenders.start(options.k);
        let bounding = self.quantized.filter(|quantized| {
            !options.exact && quantized.is_smaller() && visits.len() / BOUNDED >= options.k
        });
        let bounds = bounding.and_then(|quantized| Some((quantized, quantized.bounds(user, values)?)));
        match bounds {
            Some((quantized, bounds)) => {
                self.bound(quantized, values, bounds, visits, &mut insert, contenders)
            }
            None => self.score(user, visits, &mut insert, contenders),
        }
        let found = contenders.finish(insert);
        chosen.clear();
        chosen.extend(found.iter().map(|contender| contender.number));
        rows.clear();
        rows.extend(chosen.iter().map(|&visit| visits[visit as usize]));
        hits.clear();
        match bounds {
            Some(_) => self.score_hits(user, rows, hits),
            None => {
                rows.iter().for_each(|&row| prefetch(self.ids, row as usize, 1));
                hits.extend(found.iter().zip(rows).map(|(contender, row)| self.hit(*row, contender.most)));
            }
        }
    }

    /// Leaves in `hits` all the rows that were looked up, scored in `f32`.
    pub fn score_visits(&self, user: &[f32], scratch: &mut Scratch, hits: &mut Vec<Hit>) {
        let Scratch { visits, chosen, .. } = scratch;
        chosen.clear();
        chosen.extend(0..visits.len() as u32);
        hits.clear();
        self.score_hits(user, visits, hits);
    }

    /// Writes the ids of `rows` to `ids`, as many.
    pub fn ids_of(&self, rows: &[u32], ids: &mut [u64]) {
        let mut rest = ids;
        gather(
            rows,
            |row| prefetch(self.ids, row as usize, 1),
            |rows| {
                let (ids, later) = std::mem::take(&mut rest).split_at_mut(rows.len());
                rest = later;
                ids.iter_mut().zip(rows).for_each(|(id, &row)| *id = self.ids[row as usize]);
            },
        );
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
        let mut visit = 0..;
        gather(
            visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let scores = &mut [0.0; BLOCK][..rows.len()];
                self.rows.scores(user, rows, scores);
                for (&mut score, visit) in scores.iter_mut().zip(&mut visit) {
                    contenders.offer(score, score, visit, insert);
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
        let mut visit = 0;
        gather(
            visits,
            |row| quantized.prefetch(row),
            |rows| {
                quantized.bound(values, bounds, rows, |_, least, most| {
                    contenders.offer(least, most, visit, insert);
                    visit += 1;
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

/// Where `row` stands already among the visits before `visit`; if it does not, `places` says from now on that it is there.
///
/// Rows of one part stand together and differ in the low bits that `places` goes by, and what rows of other parts and ranks left there, the visits
/// themselves tell apart. So nothing is cleared, and what is read lies in the core's nearest caches.
#[inline(always)]
fn seen_before(places: &mut [u32], visits: &[u32], row: u32, visit: usize) -> Option<usize> {
    let low_bits = places.len() - 1;
    let place = &mut places[row as usize & low_bits];
    let seen = *place as usize;
    if seen < visit && visits[seen] == row {
        return Some(seen);
    }
    *place = visit as u32;
    None
}

/// Address ranges, and where in each the next of its rows goes.
struct Parts {
    shift: u32,
    /// Of each part, and of the rows that were not found, which have one of their own behind all others.
    next: [u32; PARTS + 1],
}

impl Parts {
    /// Ranges of `total` rows, with room for all of `found`, which are below that or [`NONE`].
    fn of(found: &[u32], total: usize) -> Parts {
        let mut parts = Parts { shift: shift_of(total), next: [0; PARTS + 1] };
        found.iter().for_each(|&row| parts.next[parts.part_of(row)] += 1);
        let mut start = 0;
        for next in &mut parts.next {
            start += std::mem::replace(next, start);
        }
        parts
    }

    #[inline(always)]
    fn part_of(&self, row: u32) -> usize {
        (row as usize >> self.shift).min(PARTS)
    }

    /// Where `row` goes, for each once.
    #[inline(always)]
    fn place(&mut self, row: u32) -> usize {
        let next = &mut self.next[self.part_of(row)];
        *next += 1;
        *next as usize - 1
    }

    /// How many rows were found, once all have been placed.
    fn known(&self) -> usize {
        self.next[PARTS - 1] as usize
    }
}

/// By how many bits rows of one part differ, of `total` rows.
fn shift_of(total: usize) -> u32 {
    (usize::BITS - (total - 1).leading_zeros()).saturating_sub(PARTS.ilog2())
}

fn not_found(ids: &[u64], found: &[u32]) -> impl Iterator<Item = u64> {
    ids.iter().zip(found).filter(|&(_, &row)| row == NONE).map(|(&id, _)| id)
}

pub(crate) fn sorted_once(mut ids: Vec<u64>) -> Vec<u64> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
