//! Scored items in order, and the best k of many.

use std::cmp::Ordering;

/// A [`BoundedTop`] raises its bar when it holds this many times `k`, and at least this many.
const CUT: usize = 2;
const LEAST: usize = 256;

/// An item and its score for the user: the inner product of their embeddings, higher is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The item's id.
    pub id: u64,
    /// The inner product; finite.
    pub score: f32,
}

impl Hit {
    /// Best first; of equal scores the smaller id comes first.
    pub(crate) fn order(&self, other: &Hit) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

/// Keeps the first `k` by an order, sorted, and drops the rest.
pub(crate) fn keep_best<T>(hits: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    cut(hits, k, &order);
    hits.sort_unstable_by(order);
}

/// Keeps the first `k` by an order, unsorted, and drops the rest.
pub(crate) fn cut<T>(hits: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    if k < hits.len() {
        hits.select_nth_unstable_by(k, order);
        hits.truncate(k);
    }
}

/// The best `k` of any number of hits, in the space of `2 * k`.
pub(crate) struct TopK {
    k: usize,
    hits: Vec<Hit>,
    /// A hit that at least `k` others equal or beat, once there is one.
    bar: Option<Hit>,
}

impl TopK {
    /// `k` is at least 1; `hits` is only used for its space.
    pub fn new(k: usize, mut hits: Vec<Hit>) -> TopK {
        hits.clear();
        hits.reserve(2 * k);
        TopK { k, hits, bar: None }
    }

    /// Whether an item of this score may be among the best.
    #[inline(always)]
    pub fn may_hold(&self, score: f32) -> bool {
        self.bar.is_none_or(|bar| score >= bar.score)
    }

    #[inline(always)]
    pub fn offer(&mut self, hit: Hit) {
        if self.bar.is_none_or(|bar| hit.order(&bar).is_lt()) {
            self.hits.push(hit);
            if self.hits.len() == 2 * self.k {
                cut(&mut self.hits, self.k, Hit::order);
                self.bar = self.hits.iter().copied().max_by(Hit::order);
            }
        }
    }

    /// Best first.
    pub fn into_sorted(mut self) -> Vec<Hit> {
        keep_best(&mut self.hits, self.k, Hit::order);
        self.hits
    }
}

/// A lower and an upper bound of a score, equal where the score is known, and the number of its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounded {
    pub least: f32,
    pub most: f32,
    pub number: u32,
}

/// The rows that may be among the best `k` of any number, by bounds of their scores.
#[derive(Default)]
pub(crate) struct BoundedTop {
    k: usize,
    /// A score that at least `k` rows reach: a row whose upper bound is below it is out.
    bar: f32,
    /// The bar is raised when `found` is this long.
    limit: usize,
    found: Vec<Bounded>,
    /// How many of `found`, from the first, are known to be of different rows.
    distinct: usize,
}

impl BoundedTop {
    pub fn start(&mut self, k: usize) {
        self.k = k;
        self.bar = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        self.limit = k.saturating_mul(CUT).max(LEAST);
        self.found.clear();
        self.distinct = 0;
    }

    /// Keeps a row if it may be among the best. `insert` says whether the row is new; it is asked later, of many
    /// rows at once, so that its cache misses overlap.
    #[inline(always)]
    pub fn offer(&mut self, least: f32, most: f32, number: u32, insert: &mut impl FnMut(u32) -> bool) {
        if most >= self.bar {
            self.found.push(Bounded { least, most, number });
            if self.found.len() >= self.limit {
                self.cut(insert);
            }
        }
    }

    /// The memory that is held, in bytes.
    pub fn bytes(&self) -> usize {
        self.found.capacity() * size_of::<Bounded>()
    }

    /// How many rows are held; the bar may rule some of them out.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether the bar left so many rows beside the best `k` when it was last raised.
    pub fn leaves(&self, many: usize) -> bool {
        self.distinct >= self.k.saturating_add(many)
    }

    /// The rows that the bounds do not rule out: the best `k`, and those that may equal or beat the last of them.
    pub fn finish(&mut self, mut insert: impl FnMut(u32) -> bool) -> &[Bounded] {
        self.cut(&mut insert);
        &self.found
    }

    #[inline(never)]
    fn cut(&mut self, insert: &mut impl FnMut(u32) -> bool) {
        for at in self.distinct..self.found.len() {
            let bounded = self.found[at];
            self.found[self.distinct] = bounded;
            self.distinct += usize::from(insert(bounded.number));
        }
        self.found.truncate(self.distinct);
        if self.k == 0 || self.found.len() <= self.k {
            return;
        }
        let (_, last, _) = self.found.select_nth_unstable_by(self.k - 1, |a, b| b.least.total_cmp(&a.least));
        let bar = last.least;
        self.bar = bar;
        self.found.retain(|bounded| bounded.most >= bar);
        self.distinct = self.found.len();
        // Where few are ruled out, cutting again soon would not pay.
        self.limit = self.limit.max(2 * self.found.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn top_k_is_the_head_of_the_sorted_list(
            scores in prop::collection::vec(-4i8..4, 0..200),
            k in 1usize..50,
        ) {
            let hits: Vec<Hit> =
                scores.iter().enumerate().map(|(id, &score)| Hit { id: id as u64, score: score.into() }).collect();
            let mut expected = hits.clone();
            expected.sort_by(Hit::order);
            expected.truncate(k);
            let mut top = TopK::new(k, Vec::new());
            hits.iter().for_each(|&hit| top.offer(hit));
            prop_assert_eq!(top.into_sorted(), expected);
        }

        #[test]
        fn bounded_rows_are_those_that_bounds_do_not_rule_out(
            scores in prop::collection::vec((-8i8..8, 0u8..3, 0u8..3), 0..300),
            k in 0usize..20,
        ) {
            let bounds = |&(score, under, over): &(i8, u8, u8)| {
                (f32::from(score) - f32::from(under), f32::from(score) + f32::from(over))
            };
            let mut bounded = BoundedTop::default();
            bounded.start(k);
            for (row, score) in (0..).zip(&scores) {
                let (least, most) = bounds(score);
                bounded.offer(least, most, row, &mut |_| true);
            }
            let mut found: Vec<u32> = bounded.finish(|_| true).iter().map(|bounded| bounded.number).collect();
            found.sort_unstable();
            let mut least: Vec<f32> = scores.iter().map(|score| bounds(score).0).collect();
            least.sort_by(|a, b| b.total_cmp(a));
            let bar = match k {
                0 => f32::INFINITY,
                k => least.get(k - 1).copied().unwrap_or(f32::NEG_INFINITY),
            };
            let rows = (0..).zip(&scores).filter(|(_, score)| bounds(score).1 >= bar);
            prop_assert_eq!(found, rows.map(|(row, _)| row).collect::<Vec<u32>>());
        }
    }
}
