//! Scores in order, without comparing them one with another.

use crate::vectors::kernels::interleaved::LANES;
use crate::vectors::kernels::widest;

/// Keys are sorted by so many bits a pass.
const DIGIT: u32 = 12;

/// Fewer keys are sorted by comparing.
const FEW: usize = 1024;

/// A whole number that orders as a score does.
pub(super) fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

/// The score that a number of [`ordered`] stands for.
pub(super) fn score_of(ordered: u32) -> f32 {
    f32::from_bits(ordered ^ if ordered >> 31 == 1 { 1 << 31 } else { u32::MAX })
}

widest! {
    /// The score that the best `count` of `scores` reach, of which there must be more, and `count` at least 1.
    ///
    /// Counts those that reach a bar, between a lower one that enough reach and a higher one that too few do: a few
    /// passes without a branch for each score.
    pub fn bar(scores: &[f32], count: usize) -> f32 {
        let (mut low, mut high) = (least(scores, |score| score), -least(scores, |score| -score));
        let reaching = |bar: f32| scores.iter().map(|&score| u32::from(score >= bar)).sum::<u32>() as usize;
        let (mut above_low, mut above_high) = (scores.len(), reaching(high));
        if above_high >= count {
            return high;
        }
        for round in 0.. {
            // The way that counts tell is short, but may come no nearer from one side; halves always do.
            let way = if round % 2 == 0 { part(above_low, count, above_high) } else { 0.5 };
            let within = |middle: &f32| *middle > low && *middle < high;
            let halved = || score_of(ordered(low).midpoint(ordered(high)));
            let middle = Some(low + (high - low) * way).filter(within).unwrap_or_else(halved);
            if !within(&middle) {
                break;
            }
            let above = reaching(middle);
            if above < count {
                (high, above_high) = (middle, above);
            } else {
                (low, above_low) = (middle, above);
            }
            if above == count {
                break;
            }
        }
        least(scores, |score| if score >= low { score } else { f32::INFINITY })
    }
}

/// The least of what is made of scores. Lanes of their own take no turns, as one number would.
#[inline(always)]
fn least(scores: &[f32], made: impl Fn(f32) -> f32) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let lower = |least: f32, made: f32| if made < least { made } else { least };
    for chunk in chunks {
        least = std::array::from_fn(|lane| lower(least[lane], made(chunk[lane])));
    }
    least.into_iter().chain(rest.iter().map(|&score| made(score))).fold(f32::INFINITY, lower)
}

/// How far it is to `count` on the way from the greater to the smaller number, about by their logarithms.
#[inline(always)]
fn part(greater: usize, count: usize, smaller: usize) -> f32 {
    let [greater, count, smaller] = [greater, count, smaller].map(|number| (number as f32).to_bits() as f32);
    (greater - count) / (greater - smaller)
}

/// A score and a number as one key: the best score comes first, then the smallest number.
pub(super) fn key(score: f32, number: u32) -> u64 {
    u64::from(!ordered(score)) << 32 | u64::from(number)
}

/// The score and the number of a [`key`].
pub(super) fn parts(key: u64) -> (f32, u32) {
    (score_of(!(key >> 32) as u32), key as u32)
}

/// Sorts keys whose numbers ascend; `spare` is only used for its space.
pub(super) fn sort(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    if keys.len() < FEW {
        return keys.sort_unstable();
    }
    let high = |key: u64| (key >> 32) as u32;
    let least = keys.iter().fold(u32::MAX, |least, &key| least.min(high(key)));
    let most = keys.iter().fold(0, |most, &key| most.max(high(key)));
    spare.resize(keys.len(), 0);
    for shift in (0..u32::BITS - (most - least).leading_zeros()).step_by(DIGIT as usize) {
        let digit = |key: u64| ((high(key) - least) >> shift) as usize & ((1 << DIGIT) - 1);
        let mut places = [0u32; 1 << DIGIT];
        keys.iter().for_each(|&key| places[digit(key)] += 1);
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for &key in &*keys {
            let place = &mut places[digit(key)];
            spare[*place as usize] = key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorted_keys_are_best_first_and_then_by_number(scores in prop::collection::vec(any::<f32>(), 0..3000), twice in any::<bool>()) {
            let scores: Vec<f32> = scores.iter().map(|&score| if twice { score.trunc() } else { score } + 0.0).collect();
            let mut keys: Vec<u64> = scores.iter().zip(0..).map(|(&score, number)| key(score, number)).collect();
            sort(&mut keys, &mut Vec::new());
            let mut expected: Vec<(f32, u32)> = scores.into_iter().zip(0..).collect();
            expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let bits = |(score, number): (f32, u32)| (score.to_bits(), number);
            prop_assert!(keys.into_iter().map(parts).map(bits).eq(expected.into_iter().map(bits)));
        }

        #[test]
        fn a_bar_is_one_of_any_scores(scores in prop::collection::vec(any::<f32>().prop_filter("a number", |score| !score.is_nan()), 2..300), count in any::<prop::sample::Index>()) {
            let count = count.index(scores.len() - 1) + 1;
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(bar(&scores, count), sorted[count - 1]);
        }

        #[test]
        fn a_bar_is_what_so_many_reach(scores in prop::collection::vec(-50i8..50, 2..300), count in any::<prop::sample::Index>()) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let count = count.index(scores.len() - 1) + 1;
            let bar = bar(&scores, count);
            prop_assert!(scores.iter().filter(|&&score| score >= bar).count() >= count);
            prop_assert!(scores.iter().filter(|&&score| score > bar).count() < count);
        }
    }
}
