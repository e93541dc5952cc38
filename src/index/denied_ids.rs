//! Ids that one request denies, taken out of hits.

use crate::row_set::RowSet;
use crate::top::Hit;

/// Bits for each item that was found: about one id in so many is taken for one of them at first.
const BITS: usize = 64;

/// What it takes to leave out ids, kept for the next request.
#[derive(Default)]
pub(super) struct DeniedIds {
    /// Those that items which were found hash to.
    bits: Vec<u64>,
    /// Denied ids that hash to such a bit.
    suspects: Vec<u64>,
    pub rows: RowSet,
    pub looked_up: Vec<u32>,
}

impl DeniedIds {
    /// The memory that is held for ids and hits, in bytes; the other does not grow.
    pub fn bytes(&self) -> usize {
        8 * (self.bits.capacity() + self.suspects.capacity()) + 4 * self.looked_up.capacity()
    }

    /// Takes ids out of hits. There are fewer hits than ids mostly, so the hits are hashed and the ids passed over.
    pub fn drop_from(&mut self, ids: &[u64], hits: &mut Vec<Hit>) {
        let DeniedIds { bits, suspects, .. } = self;
        let size = (hits.len().max(1) * BITS).next_power_of_two();
        let place = |id: u64| {
            let bit = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - size.ilog2());
            (bit as usize / 64, bit % 64)
        };
        bits.clear();
        bits.resize(size / 64, 0);
        for hit in &*hits {
            let (word, bit) = place(hit.id);
            bits[word] |= 1 << bit;
        }
        suspects.resize(ids.len().max(suspects.len()), 0);
        // Every id is written and only suspects are counted: which are cannot be predicted.
        let mut count = 0;
        for &id in ids {
            let (word, bit) = place(id);
            suspects[count] = id;
            count += (bits[word] >> bit & 1) as usize;
        }
        let suspects = &mut suspects[..count];
        suspects.sort_unstable();
        hits.retain(|hit| suspects.binary_search(&hit.id).is_err());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hits_lose_what_is_denied_and_nothing_else(
            found in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..300], 0..100),
            ids in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..300], 0..300),
        ) {
            let hits: Vec<Hit> = found.iter().map(|&id| Hit { id, score: 1.0 }).collect();
            let mut left = hits.clone();
            let mut denied = DeniedIds::default();
            for _ in 0..2 {
                left.clone_from(&hits);
                denied.drop_from(&ids, &mut left);
                let expected: Vec<Hit> = hits.iter().copied().filter(|hit| !ids.contains(&hit.id)).collect();
                prop_assert_eq!(&left, &expected);
            }
        }
    }
}
