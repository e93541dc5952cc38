//! Scores in order, without comparing them one with another.

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

/// The score that the best `count` of `scores` reach, of which there must be more; `keys` is only used for
/// its space.
pub(super) fn bar(scores: &[f32], count: usize, keys: &mut Vec<u32>) -> f32 {
    keys.clear();
    keys.extend(scores.iter().map(|&score| ordered(score)));
    let at = scores.len() - count.max(1);
    let (_, &mut key, _) = keys.select_nth_unstable(at);
    score_of(key)
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
        fn a_bar_is_what_so_many_reach(scores in prop::collection::vec(-50i8..50, 2..300), count in any::<prop::sample::Index>()) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let count = count.index(scores.len() - 1) + 1;
            let bar = bar(&scores, count, &mut Vec::new());
            prop_assert!(scores.iter().filter(|&&score| score >= bar).count() >= count);
            prop_assert!(scores.iter().filter(|&&score| score > bar).count() < count);
        }
    }
}
