//! The best of many rows for a user: look-up, order, gather, selection.
//!
//! A candidate costs a cache miss in the id table and one or more in the rows, and little else beside. So
//! rows are visited in the order of their addresses, near enough that pages repeat, and are asked for ahead
//! of their use, into the second cache, which measures faster than the first. Where there are `i8`
//! rows, they bound the scores of all candidates first, in a quarter of the cache lines, and only rows that
//! may be among the best `k` are scored in `f32`: the answer is the same, bit for bit.
//!
//! # Overview of types
//!
//! - [`Ranking`] is what is ranked: the ids, rows and `i8` rows of one index, borrowed.
//! - [`Source`] is what a rank is given, ids or rows; [`Scope`] is what a scan passes over.
//! - [`Scratch`] is what one rank needs and the next one reuses; [`ScanUser`] is the same for a user of a
//!   scan.

mod candidates;
mod memory_limit;
mod scan;

pub(crate) use candidates::{Source, keep_once};
pub(crate) use scan::ScanUser;

use candidates::seen_before;

use crate::ids::{IdMap, NONE};
use crate::top::{BoundedTop, Hit};
use crate::vectors::gather::{BLOCK, gather};
use crate::vectors::{Quantized, Rows, UserBounds, prefetch};

/// With fewer candidates than this for each of the `k`, bounding them first does not pay.
const CANDIDATES_TO_BOUND: usize = 4;

/// What is ranked: an index's ids and rows.
#[derive(Clone, Copy)]
pub(crate) struct Ranking<'a> {
    pub map: IdMap<'a>,
    pub ids: &'a [u64],
    pub rows: Rows<'a>,
    pub quantized: Option<Quantized<'a>>,
}

/// The rows that a scan passes over.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    All,
    /// Each once.
    Listed(&'a [u32]),
    /// Those whose bit is set, from the lowest bit of the first word on, and how many those are.
    Allowed(&'a [u64], usize),
}

impl Scope<'_> {
    /// How many rows there are, of `total` in the index.
    pub fn count(&self, total: usize) -> usize {
        match self {
            Scope::All => total,
            Scope::Listed(rows) => rows.len(),
            Scope::Allowed(_, count) => *count,
        }
    }
}

/// What a rank needs and the next one reuses: 8 bytes a candidate, 12 with channels, and some more for the
/// rows that may be among the best.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The row of each candidate, in the order of the candidates.
    found: Vec<u32>,
    /// The rows in the order they are visited.
    pub visits: Vec<u32>,
    /// The channels that brought the row of each visit, a bit each, where channels are merged.
    channels: Vec<u32>,
    /// The last visit whose row has these low bits.
    places: Vec<u32>,
    bounded: BoundedTop,
    /// The visits that became hits, and their rows.
    chosen: Vec<u32>,
    rows: Vec<u32>,
    /// The quantised user.
    values: Vec<i8>,
}

impl Scratch {
    /// The memory that is held, in bytes, but for what selection holds.
    pub fn bytes(&self) -> usize {
        let Scratch { found, visits, channels, places, chosen, rows, .. } = self;
        [found, visits, channels, places, chosen, rows].map(|list| list.capacity() * 4).into_iter().sum()
    }

    /// For each hit that [`Ranking::best`] or [`Ranking::score_visits`] left, the channels that brought it.
    pub fn channels(&self) -> impl Iterator<Item = u32> {
        self.chosen.iter().map(|&visit| self.channels[visit as usize])
    }
}

impl Ranking<'_> {
    /// Leaves in `hits` the best `k` of the rows that were looked up, each once, in no order, and some
    /// others. With `bounding`, `i8` rows bound scores first where there are any and where it pays.
    pub fn best(
        &self,
        user: &[f32],
        (k, bounding): (usize, bool),
        scratch: &mut Scratch,
        hits: &mut Vec<Hit>,
    ) {
        let Scratch { visits, places, bounded, chosen, rows, values, .. } = scratch;
        let mut insert =
            |visit: u32| seen_before(places, visits, visits[visit as usize], visit as usize).is_none();
        bounded.start(k);
        let quantized = self.quantized.filter(|quantized| {
            bounding && quantized.is_smaller_than(self.rows) && visits.len() / CANDIDATES_TO_BOUND >= k
        });
        let bounds = quantized.and_then(|quantized| Some((quantized, quantized.bounds(user, values)?)));
        match bounds {
            Some((quantized, bounds)) => self.bound(quantized, values, bounds, visits, &mut insert, bounded),
            None => self.score(user, visits, &mut insert, bounded),
        }
        let found = bounded.finish(insert);
        chosen.clear();
        chosen.extend(found.iter().map(|bounded| bounded.number));
        rows.clear();
        rows.extend(chosen.iter().map(|&visit| visits[visit as usize]));
        hits.clear();
        match bounds {
            Some(_) => self.score_hits(user, rows, hits),
            None => {
                rows.iter().for_each(|&row| prefetch(self.ids, row as usize, 1));
                hits.extend(found.iter().zip(rows).map(|(bounded, row)| self.hit(*row, bounded.most)));
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

    /// Writes the ids of `rows` to `ids`, which is as long.
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

    /// Writes the score of each candidate to the same place of `scores`, NaN for one that is unknown or whose row does
    /// not pass; returns how many those are.
    pub fn score_all(
        &self,
        user: &[f32],
        candidates: &[u64],
        passes: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
        scores: &mut [f32],
    ) -> usize {
        let Scratch { found, .. } = scratch;
        found.resize(candidates.len(), NONE);
        self.map.rows(candidates, found);
        found.iter_mut().filter(|row| **row != NONE && !passes(**row)).for_each(|row| *row = NONE);
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

    #[inline(always)]
    fn hit(&self, row: u32, score: f32) -> Hit {
        Hit { id: self.ids[row as usize], score }
    }

    fn score_hits(&self, user: &[f32], rows: &[u32], hits: &mut Vec<Hit>) {
        let prefetch = |row: u32| {
            self.rows.prefetch(row);
            prefetch(self.ids, row as usize, 1);
        };
        gather(rows, prefetch, |rows| {
            let scores = &mut [0.0; BLOCK][..rows.len()];
            self.rows.scores(user, rows, scores);
            hits.extend(rows.iter().zip(scores).map(|(&row, score)| self.hit(row, *score)));
        });
    }

    fn score(
        &self,
        user: &[f32],
        visits: &[u32],
        insert: &mut impl FnMut(u32) -> bool,
        bounded: &mut BoundedTop,
    ) {
        let mut visit = 0..;
        gather(
            visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let scores = &mut [0.0; BLOCK][..rows.len()];
                self.rows.scores(user, rows, scores);
                for (&mut score, visit) in scores.iter_mut().zip(&mut visit) {
                    bounded.offer(score, score, visit, insert);
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
        bounded: &mut BoundedTop,
    ) {
        let mut visit = 0;
        gather(
            visits,
            |row| quantized.prefetch(row),
            |rows| {
                quantized.bound(values, bounds, rows, |_, least, most| {
                    bounded.offer(least, most, visit, insert);
                    visit += 1;
                });
            },
        );
    }
}
