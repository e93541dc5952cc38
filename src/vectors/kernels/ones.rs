//! Bits counted in ranges of a set of rows.

use super::interleaved::LANES;

/// How many bits of each range are set: `lengths` bits from `starts` on. Bits past the last word are not.
#[allow(unsafe_code)]
pub(crate) fn ones(words: &[u64], starts: &[u32; LANES], lengths: &[u32; LANES]) -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "popcnt")]
        fn popcnt(words: &[u64], starts: &[u32; LANES], lengths: &[u32; LANES]) -> [f32; LANES] {
            portable(words, starts, lengths)
        }
        if std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: this processor counts the bits of a word.
            return unsafe { popcnt(words, starts, lengths) };
        }
    }
    portable(words, starts, lengths)
}

#[inline(always)]
fn portable(words: &[u64], starts: &[u32; LANES], lengths: &[u32; LANES]) -> [f32; LANES] {
    std::array::from_fn(|lane| ones_of(words, starts[lane] as usize, lengths[lane] as usize) as f32)
}

#[inline(always)]
fn ones_of(words: &[u64], start: usize, length: usize) -> u32 {
    let end = start.saturating_add(length).min(words.len() * 64);
    if start >= end {
        return 0;
    }
    let (first, last) = (start / 64, (end - 1) / 64);
    let from = u64::MAX << (start % 64);
    let to = u64::MAX >> (63 - (end - 1) % 64);
    match words[first..=last] {
        [word] => (word & from & to).count_ones(),
        [head, ref middle @ .., tail] => {
            (head & from).count_ones()
                + (tail & to).count_ones()
                + middle.iter().map(|word| word.count_ones()).sum::<u32>()
        }
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ones_are_those_counted_one_by_one(
            words in prop::collection::vec(any::<u64>(), 0..5),
            starts in prop::array::uniform16(0u32..400),
            lengths in prop::array::uniform16(0u32..400),
        ) {
            let bit = |at: &u32| words.get(*at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
            let counted: [f32; LANES] = std::array::from_fn(|lane| {
                (starts[lane]..starts[lane] + lengths[lane]).filter(bit).count() as f32
            });
            prop_assert_eq!(portable(&words, &starts, &lengths), counted);
            prop_assert_eq!(ones(&words, &starts, &lengths), counted);
        }
    }
}
