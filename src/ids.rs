//! External item id -> row: an open-addressing hash table that is used where it lies in the file.
//!
//! A slot holds a row or [`NONE`]; the id itself stands in the ids section. Two slots a row keep probe
//! sequences short, and their length is bounded at build time by trying another seed, so that neither
//! hostile ids nor a damaged table can make a look-up long.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::vectors::prefetch;

/// No row: an empty slot, an unused link.
pub(crate) const NONE: u32 = u32::MAX;

/// How many slots a look-up reads at most.
const MAX_PROBES: u64 = 128;

/// How many ids are looked up together, so that their cache misses overlap.
pub(crate) const BULK: usize = 64;

/// The table and the ids it points into.
#[derive(Clone, Copy)]
pub(crate) struct IdMap<'a> {
    ids: &'a [u64],
    slots: &'a [u32],
    seed: u64,
}

impl<'a> IdMap<'a> {
    /// `ids` and `slots` as in the file; `slots` is not empty.
    pub fn new(ids: &'a [u64], slots: &'a [u32], seed: u64) -> IdMap<'a> {
        IdMap { ids, slots, seed }
    }

    /// The item id at `row`.
    #[inline(always)]
    pub fn id(&self, row: u32) -> u64 {
        self.ids[row as usize]
    }

    /// The row of `id`, if the index has it.
    pub fn row(&self, id: u64) -> Option<u32> {
        for slot in probes(id, self.seed, self.slots.len()) {
            let row = self.slots[slot];
            match self.ids.get(row as usize) {
                Some(&found) if found == id => return Some(row),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// The rows of up to [`BULK`] ids; [`NONE`] for an unknown one.
    pub fn rows(&self, ids: &[u64], rows: &mut [u32; BULK]) {
        let slot = |id: u64| probes(id, self.seed, self.slots.len()).start();
        for &id in ids {
            prefetch(self.slots, slot(id), 1);
        }
        for &id in ids {
            let row = self.slots[slot(id)] as usize;
            prefetch(self.ids, row, 1);
        }
        for (row, &id) in rows.iter_mut().zip(ids) {
            *row = self.row(id).unwrap_or(NONE);
        }
    }

    /// Checks that each id is found at its own row and that the table holds nothing else.
    /// The error is the place of a wrong slot or id, and what is wrong with it.
    pub fn verify(&self) -> Result<(), (usize, String)> {
        for (row, &id) in self.ids.iter().enumerate() {
            match self.row(id) {
                Some(found) if found as usize == row => {}
                Some(found) => {
                    return Err((row, format!("item id {id} of row {row} is found at row {found}")));
                }
                None => return Err((row, format!("item id {id} of row {row} is not in the id table"))),
            }
        }
        match self.slots.iter().filter(|&&row| row != NONE).count() {
            used if used == self.ids.len() => Ok(()),
            used => Err((0, format!("the id table holds {used} rows of {}", self.ids.len()))),
        }
    }
}

/// A table built for a set of ids.
pub(crate) struct IdTable {
    pub slots: Vec<u32>,
    pub seed: u64,
}

/// An id that stands at two rows.
#[derive(Debug)]
pub(crate) struct Duplicate {
    pub id: u64,
    pub first: u32,
    pub second: u32,
}

impl IdTable {
    /// Places every id, with the first seed that keeps all probe sequences within the limit.
    pub fn build(ids: &[u64]) -> Result<IdTable, Duplicate> {
        let mut slots = vec![NONE; 2 * ids.len() + 16];
        let mut seed = 0;
        while !place_all(ids, seed, &mut slots)? {
            slots.fill(NONE);
            seed += 1;
        }
        Ok(IdTable { slots, seed })
    }
}

fn place_all(ids: &[u64], seed: u64, slots: &mut [u32]) -> Result<bool, Duplicate> {
    for (row, &id) in ids.iter().enumerate() {
        let Some(slot) =
            free_slot(ids, id, seed, slots).map_err(|first| Duplicate { id, first, second: row as u32 })?
        else {
            return Ok(false);
        };
        slots[slot] = row as u32;
    }
    Ok(true)
}

/// A free slot within the limit for `id`, or the row that has this id already.
fn free_slot(ids: &[u64], id: u64, seed: u64, slots: &[u32]) -> Result<Option<usize>, u32> {
    for slot in probes(id, seed, slots.len()) {
        match slots[slot] {
            NONE => return Ok(Some(slot)),
            row if ids[row as usize] == id => return Err(row),
            _ => {}
        }
    }
    Ok(None)
}

/// The slots where `id` may stand, in the order they are tried.
fn probes(id: u64, seed: u64, slots: usize) -> Probes {
    let hash = xxh3_64_with_seed(&id.to_le_bytes(), seed);
    let first = ((u128::from(hash) * slots as u128) >> 64) as usize;
    Probes { slot: first, slots, left: MAX_PROBES.min(slots as u64) }
}

struct Probes {
    slot: usize,
    slots: usize,
    left: u64,
}

impl Probes {
    fn start(&self) -> usize {
        self.slot
    }
}

impl Iterator for Probes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.slot;
        self.slot = if slot + 1 == self.slots { 0 } else { slot + 1 };
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of(ids: &[u64], wanted: &[u64]) -> Vec<Option<u32>> {
        let table = IdTable::build(ids).unwrap();
        let map = IdMap::new(ids, &table.slots, table.seed);
        map.verify().unwrap();
        let single: Vec<_> = wanted.iter().map(|&id| map.row(id)).collect();
        for (chunk, expected) in wanted.chunks(BULK).zip(single.chunks(BULK)) {
            let mut rows = [0; BULK];
            map.rows(chunk, &mut rows);
            let found: Vec<_> = rows[..chunk.len()].iter().map(|&row| (row != NONE).then_some(row)).collect();
            assert_eq!(found, expected);
        }
        single
    }

    #[test]
    fn ids_of_awkward_patterns_are_all_found() {
        let patterns: [&dyn Fn(u64) -> u64; 5] =
            [&|i| i, &|i| u64::MAX - i, &|i| i << 32, &|i| i << 44, &|i| {
                i.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }];
        for pattern in patterns {
            let ids: Vec<u64> = (0..20_000).map(pattern).collect();
            let expected: Vec<_> = (0..20_000).map(Some).collect();
            assert_eq!(rows_of(&ids, &ids), expected);
        }
    }

    #[test]
    fn ids_that_collide_under_one_seed_get_another() {
        let n = 2_000;
        let slots = 2 * n + 16;
        let ids: Vec<u64> = (0..).filter(|&id| probes(id, 0, slots).start() < 2).take(n).collect();
        let table = IdTable::build(&ids).unwrap();
        assert!(table.seed > 0);
        IdMap::new(&ids, &table.slots, table.seed).verify().unwrap();
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_hash_map(
            ids in prop::collection::hash_set(any::<u64>(), 1..300),
            others in prop::collection::vec(any::<u64>(), 0..100),
        ) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let reference: std::collections::HashMap<_, _> = ids.iter().copied().zip(0u32..).collect();
            let wanted: Vec<u64> = ids.iter().chain(&others).copied().collect();
            let expected: Vec<_> = wanted.iter().map(|id| reference.get(id).copied()).collect();
            prop_assert_eq!(rows_of(&ids, &wanted), expected);
        }

        #[test]
        fn an_id_given_twice_is_named_with_both_rows(
            ids in prop::collection::hash_set(any::<u64>(), 2..100),
            picks in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let mut ids: Vec<u64> = ids.into_iter().collect();
            let first = picks.0.index(ids.len());
            ids.push(ids[first]);
            let second = ids.len() as u32 - 1;
            let duplicate = IdTable::build(&ids).err().unwrap();
            prop_assert_eq!((duplicate.id, duplicate.first, duplicate.second), (ids[first], first as u32, second));
        }

        #[test]
        fn a_damaged_table_answers_something_and_stops(
            ids in prop::collection::vec(any::<u64>(), 1..50),
            slots in prop::collection::vec(any::<u32>(), 1..200),
            wanted in any::<u64>(),
        ) {
            let row = IdMap::new(&ids, &slots, 0).row(wanted);
            prop_assert!(row.is_none_or(|row| ids[row as usize] == wanted));
        }
    }
}
