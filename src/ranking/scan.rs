//! One pass over many rows for several users, each row loaded once for all of them.

use super::{Ranking, Scope};
use crate::top::{BoundedTop, Hit, TopK, keep_best};
use crate::vectors::gather::{BLOCK, gather};
use crate::vectors::{Quantized, UserBounds, pad};

/// Rows that bounds may always leave; beyond that a pass gives bounds up where they leave half of the rows.
const FEW: usize = 1024;

/// Once one row in so many has been bounded, a pass gives bounds up where they leave a quarter of those beside the best.
const EARLY: usize = 8;

/// With fewer rows than this for each of the `k`, bounding them first does not pay: rows in their order are
/// no cache misses, so scoring them in `f32` is cheap.
const ROWS_TO_BOUND: usize = 8;

/// Rows picked out of a set before they are visited.
const PICKED: usize = 2048;

/// Whether a row may be found.
pub(crate) type Passes<'a> = &'a (dyn Fn(u32) -> bool + Sync);

/// A user of a scan, and the best rows for this user.
#[derive(Default)]
pub(crate) struct ScanUser {
    user: Vec<f32>,
    /// The quantised user, and the bounds while they are used.
    values: Vec<i8>,
    bounds: Option<UserBounds>,
    bounded: BoundedTop,
    visits: Vec<u32>,
    /// The best so far where there are no bounds.
    top: Option<TopK>,
    pub hits: Vec<Hit>,
}

impl ScanUser {
    pub fn set_user(&mut self, user: &[f32]) {
        pad(user, &mut self.user);
    }

    /// The memory that is held, in bytes, but for the user's own.
    pub fn bytes(&self) -> usize {
        self.bounded.bytes() + self.visits.capacity() * 4 + self.hits.capacity() * size_of::<Hit>()
    }
}

impl Ranking<'_> {
    /// Leaves with each user the best `k`, at least 1, of the rows in `scope` that pass. That is asked of rows
    /// only that may be among the best. With `bounding`, rows are bounded by their `i8` values first, if there
    /// are any and if it pays; the answer is the same, bit for bit.
    pub fn scan(
        &self,
        scope: Scope<'_>,
        (k, bounding): (usize, bool),
        passes: Passes<'_>,
        users: &mut [ScanUser],
    ) {
        let count = scope.count(self.rows.len());
        let quantized = self.quantized.filter(|quantized| {
            bounding && quantized.is_smaller_than(self.rows) && count / ROWS_TO_BOUND >= k
        });
        for user in &mut *users {
            user.bounds = quantized.and_then(|quantized| quantized.bounds(&user.user, &mut user.values));
            user.bounded.start(k);
        }
        if let Some(quantized) = quantized.filter(|_| users.iter().any(|user| user.bounds.is_some())) {
            self.bound_all(scope, quantized, passes, users);
        }
        for user in &mut *users {
            match user.bounds {
                Some(_) => self.settle(k, passes, user),
                None => user.top = Some(TopK::new(k, std::mem::take(&mut user.hits))),
            }
        }
        if users.iter().any(|user| user.top.is_some()) {
            self.score_all_in(scope, passes, users);
        }
        for user in users {
            if let Some(top) = user.top.take() {
                user.hits = top.into_sorted();
            }
        }
    }

    /// Bounds every row in `scope` for each user with bounds. A user whose bounds leave half of the rows, or soon a
    /// quarter of those seen, loses them: they would save nothing, and what they leave would take memory.
    fn bound_all(
        &self,
        scope: Scope<'_>,
        quantized: Quantized<'_>,
        passes: Passes<'_>,
        users: &mut [ScanUser],
    ) {
        let total = scope.count(self.rows.len());
        let mut seen = 0;
        let in_order = matches!(scope, Scope::All);
        self.each_block(
            scope,
            // The processor reads whole tables ahead by itself.
            |row| {
                if !in_order {
                    quantized.prefetch(row)
                }
            },
            |rows| {
                seen += rows.len();
                let vain = |bounded: &BoundedTop| seen >= total / EARLY && bounded.leaves(seen / 4);
                for ScanUser { values, bounds, bounded, .. } in &mut *users {
                    let Some(user) = *bounds else { continue };
                    quantized.bound(values, user, rows, |row, least, most| {
                        bounded.offer(least, most, row, &mut |row| passes(row));
                    });
                    bounds.take_if(|_| bounded.len() > total / 2 + FEW || vain(bounded));
                }
            },
        );
    }

    /// Scores every row in `scope` in `f32` for each user without bounds.
    fn score_all_in(&self, scope: Scope<'_>, passes: Passes<'_>, users: &mut [ScanUser]) {
        self.each_block(
            scope,
            |row| self.rows.prefetch(row),
            |rows| {
                for ScanUser { user, top, .. } in &mut *users {
                    let Some(top) = top else { continue };
                    let mut scores = [0.0; BLOCK];
                    self.rows.scores(user, rows, &mut scores[..rows.len()]);
                    for (&row, score) in rows.iter().zip(scores) {
                        if top.may_hold(score) && passes(row) {
                            top.offer(self.hit(row, score));
                        }
                    }
                }
            },
        );
    }

    /// Scores the rows that bounds have left.
    fn settle(&self, k: usize, passes: Passes<'_>, user: &mut ScanUser) {
        let ScanUser { user, bounded, visits, hits, .. } = user;
        let left = bounded.finish(passes).iter().map(|bounded| bounded.number);
        visits.clear();
        visits.extend(left);
        visits.sort_unstable();
        hits.clear();
        self.score_hits(user, visits, hits);
        keep_best(hits, k, Hit::order);
    }

    /// Calls `each` with the rows in `scope` by blocks, and `prefetch` with each row some way ahead of that.
    #[inline(always)]
    fn each_block(&self, scope: Scope<'_>, prefetch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
        let total = self.rows.len() as u32;
        match scope {
            Scope::Listed(rows) => gather(rows, prefetch, each),
            Scope::All => {
                for first in (0..total).step_by(BLOCK) {
                    let rows: [u32; BLOCK] = std::array::from_fn(|at| first + at as u32);
                    rows.iter().for_each(|&row| prefetch(row + BLOCK as u32));
                    each(&rows[..BLOCK.min((total - first) as usize)]);
                }
            }
            Scope::Allowed(words, _) => {
                let (mut rows, mut count) = ([0; PICKED + 64], 0);
                for (first, &word) in (0..).step_by(64).zip(words) {
                    let mut left = word;
                    while left != 0 {
                        rows[count] = first + left.trailing_zeros();
                        count += 1;
                        left &= left - 1;
                    }
                    if count >= PICKED {
                        gather(&rows[..count], &prefetch, &mut each);
                        count = 0;
                    }
                }
                gather(&rows[..count], prefetch, each);
            }
        }
    }
}
