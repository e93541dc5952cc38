//! Scored items in order, and the best k of many.

use std::cmp::Ordering;

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

/// Sorts the best `k` hits to the front, best first, and drops the rest.
pub(crate) fn keep_best(hits: &mut Vec<Hit>, k: usize) {
    cut(hits, k);
    hits.sort_unstable_by(Hit::order);
}

fn cut(hits: &mut Vec<Hit>, k: usize) {
    if k < hits.len() {
        hits.select_nth_unstable_by(k, Hit::order);
        hits.truncate(k);
    }
}

/// The best `k` of any number of hits, in the space of `2 * k`.
pub(crate) struct TopK {
    k: usize,
    hits: Vec<Hit>,
    /// A hit that `k` others are at least as good as, once there is one.
    bar: Option<Hit>,
}

impl TopK {
    /// `k` is at least 1; `hits` is only used for its space.
    pub fn new(k: usize, mut hits: Vec<Hit>) -> TopK {
        hits.clear();
        hits.reserve(2 * k);
        TopK { k, hits, bar: None }
    }

    #[inline(always)]
    pub fn offer(&mut self, hit: Hit) {
        if self.bar.is_none_or(|bar| hit.order(&bar).is_lt()) {
            self.hits.push(hit);
            if self.hits.len() == 2 * self.k {
                cut(&mut self.hits, self.k);
                self.bar = self.hits.iter().copied().max_by(Hit::order);
            }
        }
    }

    /// Best first.
    pub fn into_sorted(mut self) -> Vec<Hit> {
        keep_best(&mut self.hits, self.k);
        self.hits
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
    }
}
