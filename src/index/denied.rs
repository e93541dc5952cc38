//! Ids that one request denies: taken out of what a search found, and looked up only where that leaves too few.

use super::Index;
use super::gate::Gate;
use super::options::{Plan, SearchOptions};
use super::workspace::Workspace;
use crate::row_set::{RowSet, Selection};
use crate::top::Hit;

/// Bits for each item that was found: about one id in so many is taken for one of them at first.
const BITS: usize = 64;

/// Ids that are denied, and the rows without them where these are known.
#[derive(Clone, Copy)]
pub(super) struct Denial<'a> {
    pub ids: &'a [u64],
    pub others: Option<&'a Selection>,
}

/// What it takes to leave out ids, kept for the next request.
#[derive(Default)]
pub(super) struct Denied {
    /// Those that items which were found hash to.
    bits: Vec<u64>,
    /// Denied ids that hash to such a bit.
    suspects: Vec<u64>,
    rows: RowSet,
    looked_up: Vec<u32>,
}

impl Denied {
    /// The memory that is held for ids and hits, in bytes; the other does not grow.
    pub fn bytes(&self) -> usize {
        8 * (self.bits.capacity() + self.suspects.capacity()) + 4 * self.looked_up.capacity()
    }

    /// Takes ids out of hits. There are fewer hits than ids mostly, so the hits are hashed and the ids passed over.
    fn drop_from(&mut self, ids: &[u64], hits: &mut Vec<Hit>) {
        let Denied { bits, suspects, .. } = self;
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

impl Index {
    /// Leaves in the workspace the hits that pass a gate, among some rows or all, and are not denied; the plan that found
    /// them.
    ///
    /// Mostly some more items are searched for, and those that are denied taken out. Where too few are left, the items
    /// that a user has seen are the best for this user: the ids are then looked up, and their rows left out.
    pub(super) fn find_others(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        denial: Denial<'_>,
        among: Option<&Selection>,
        gate: &Gate<'_>,
        workspace: &mut Workspace,
    ) -> Plan {
        let k = options.k();
        if let Some(asked) = self.asked_past(options, denial.ids.len(), among).filter(|_| !gate.asks()) {
            let plan = self.find(user, &options.for_k(asked), among, workspace);
            workspace.denied.drop_from(denial.ids, &mut workspace.hits);
            if workspace.hits.len() >= k || asked == self.count_among(among) {
                workspace.hits.truncate(k);
                return plan;
            }
        }
        if let Some(others) = denial.others {
            return self.find_passing(user, options, Some(others), gate, workspace);
        }
        let mut others = std::mem::take(&mut workspace.others);
        self.leave_out(denial.ids, among, &mut workspace.denied, &mut others);
        let plan = self.find_passing(user, options, Some(&others), gate, workspace);
        workspace.others = others;
        plan
    }

    /// Leaves in `others` the rows among some or all whose ids are not denied.
    pub(super) fn leave_out(
        &self,
        ids: &[u64],
        among: Option<&Selection>,
        denied: &mut Denied,
        others: &mut Selection,
    ) {
        let Denied { rows, looked_up, .. } = denied;
        rows.clear(self.len());
        self.insert_rows_of(ids, looked_up, rows);
        others.refill_without(among, rows);
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
            let mut denied = Denied::default();
            for _ in 0..2 {
                left.clone_from(&hits);
                denied.drop_from(&ids, &mut left);
                let expected: Vec<Hit> = hits.iter().copied().filter(|hit| !ids.contains(&hit.id)).collect();
                prop_assert_eq!(&left, &expected);
            }
        }
    }
}
