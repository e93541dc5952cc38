//! Item id to row: a hash table that is used in place in the file.
//!
//! A look-up costs its cache misses, so the table is laid out for one: a bucket is a cache line of seven
//! entries, and an entry identifies the whole id, so the ids themselves are not read. That fits because the
//! hash is a bijection and the bucket implies the upper bits of the hash (Cleary's quotienting, IEEE
//! Transactions on Computers, 1984). An entry holds the remaining bits and the row.
//!
//! Entries that do not fit their bucket stand in one of the next few, and each bucket says how far its
//! entries went. The writer bounds that distance by trying another seed, so neither hostile ids nor a damaged
//! table can make a look-up long.

use std::collections::VecDeque;
use std::ops::Range;

use crate::vectors::prefetch;

/// In place of a row: an unused link slot, or an id that the index does not have.
pub(crate) const NONE: u32 = u32::MAX;

/// Entries of a bucket.
const ENTRIES: usize = 7;

/// How many buckets an id may stand in: its own and those after it.
const REACH: usize = 8;

/// An entry that has waited for room this many buckets goes before those that belong to the bucket.
const PATIENCE: usize = 4;

/// How many ids are looked up together, and how many look-ups ahead a bucket is prefetched.
const BLOCK: usize = 1024;
const AHEAD: usize = 96;

/// Seven words of one entry each, and a word of bytes: the tag of each entry, and in the highest byte how
/// many buckets after this one hold entries that belong here.
///
/// The tag is the lowest byte of an entry's hash. The entry's word holds the further bits of the hash that
/// the bucket does not imply, and above them the row plus 1. An unused entry is 0.
pub(crate) type Bucket = [u64; ENTRIES + 1];

/// How many buckets ids can belong to: three for 16 rows, at 12 bytes a row. That fills three entries in
/// four.
pub(crate) fn buckets_for(rows: u64) -> u64 {
    rows * 3 / 16 + 1
}

/// How many buckets the table has for `rows`, with those after the last that an id can belong to.
pub(crate) fn table_size(rows: u64) -> u64 {
    buckets_for(rows) + REACH as u64 - 1
}

/// How ids are hashed, and where in a bucket the parts of an entry stand.
#[derive(Clone, Copy)]
struct Layout {
    seed: u64,
    buckets: u64,
    /// How many bits of the hash an entry's word holds.
    hash_bits: u32,
}

impl Layout {
    fn new(seed: u64, rows: usize) -> Layout {
        let buckets = buckets_for(rows as u64);
        // Two hashes that may stand in one bucket belong to the same REACH buckets. As many lowest bits as it
        // takes to number all hashes of REACH buckets tell them apart. The tag holds 8 of those bits.
        let open = 64 - buckets.ilog2() + REACH.ilog2();
        Layout { seed, buckets, hash_bits: open.min(64) - u8::BITS }
    }

    /// A bijection: the multiplications and folds of the finaliser of MurmurHash3.
    #[inline(always)]
    fn hash(&self, id: u64) -> u64 {
        let mut hash = id.wrapping_add(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        hash ^ hash >> 33
    }

    /// The bucket that a hash belongs to.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * u128::from(self.buckets)) >> 64) as usize
    }

    /// The row of `hash` if it has an entry in `bucket` with a row below `rows`.
    #[inline(always)]
    fn find(&self, bucket: &Bucket, hash: u64, rows: usize) -> Option<u32> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let tags = bucket[ENTRIES] ^ (ONES * (hash & 0xFF));
        // The high bit of each tag that is equal, and seldom that of one that is not.
        let mut equal = tags.wrapping_sub(ONES) & !tags & 0x0080_8080_8080_8080;
        while equal != 0 {
            let word = bucket[equal.trailing_zeros() as usize / 8];
            let row = (word >> self.hash_bits).wrapping_sub(1);
            if (word ^ hash >> 8) << (64 - self.hash_bits) == 0 && row < rows as u64 {
                return Some(row as u32);
            }
            equal &= equal - 1;
        }
        None
    }

    /// Fills an unused entry.
    fn put(&self, bucket: &mut Bucket, entry: usize, hash: u64, row: u32) {
        let bits = hash >> 8 & !(u64::MAX << self.hash_bits);
        bucket[entry] = (u64::from(row) + 1) << self.hash_bits | bits;
        bucket[ENTRIES] |= (hash & 0xFF) << (8 * entry);
    }
}

/// How many buckets after this one hold entries that belong here.
#[inline(always)]
fn reach(bucket: &Bucket) -> usize {
    ((bucket[ENTRIES] >> 56) as usize).min(REACH - 1)
}

/// The id table of a file, for look-ups.
#[derive(Clone, Copy)]
pub(crate) struct IdMap<'a> {
    table: &'a [Bucket],
    rows: usize,
    layout: Layout,
}

impl<'a> IdMap<'a> {
    /// `table` is as it stands in the file: [`table_size`] buckets.
    pub fn new(table: &'a [Bucket], rows: usize, seed: u64) -> IdMap<'a> {
        IdMap { table, rows, layout: Layout::new(seed, rows) }
    }

    /// The row of `id`, if the index has it.
    pub fn row(&self, id: u64) -> Option<u32> {
        self.find(self.layout.hash(id))
    }

    #[inline(always)]
    fn find(&self, hash: u64) -> Option<u32> {
        let home = self.layout.home(hash);
        let bucket = &self.table[home];
        match self.layout.find(bucket, hash, self.rows) {
            None if reach(bucket) > 0 => self.find_behind(hash, home),
            row => row,
        }
    }

    fn find_behind(&self, hash: u64, home: usize) -> Option<u32> {
        let behind = &self.table[home + 1..=home + reach(&self.table[home])];
        behind.iter().find_map(|bucket| self.layout.find(bucket, hash, self.rows))
    }

    /// Writes the row of each of `ids` to `rows`, which is as long; [`NONE`] for an unknown id.
    pub fn rows(&self, ids: &[u64], rows: &mut [u32]) {
        for (ids, rows) in ids.chunks(BLOCK).zip(rows.chunks_mut(BLOCK)) {
            self.block(ids, rows);
        }
    }

    fn block(&self, ids: &[u64], rows: &mut [u32]) {
        let (mut hashes, mut later) = ([0; BLOCK], [0; BLOCK]);
        for (hash, &id) in hashes.iter_mut().zip(ids) {
            *hash = self.layout.hash(id);
        }
        let hashes = &hashes[..ids.len()];
        let ask = |&hash: &u64| prefetch(self.table, self.layout.home(hash), 1);
        hashes.iter().take(AHEAD).for_each(ask);
        let mut count = 0;
        for (place, (&hash, row)) in hashes.iter().zip(&mut *rows).enumerate() {
            hashes.get(place + AHEAD).iter().copied().for_each(ask);
            let home = self.layout.home(hash);
            let bucket = &self.table[home];
            *row = self.layout.find(bucket, hash, self.rows).unwrap_or(NONE);
            // Ids that stand in a later bucket wait until the end of the block, when that bucket has arrived
            // too.
            if *row == NONE && reach(bucket) > 0 {
                prefetch(self.table, home + 1, 1);
                later[count] = place;
                count += 1;
            }
        }
        for &place in &later[..count] {
            let hash = hashes[place];
            rows[place] = self.find_behind(hash, self.layout.home(hash)).unwrap_or(NONE);
        }
    }

    /// Checks that each of `ids` is found at its own row and that the table holds nothing else.
    ///
    /// # Errors
    /// The row at fault, and what is wrong with it.
    pub fn verify(&self, ids: &[u64]) -> Result<(), (usize, String)> {
        let mut rows = [0; 1024];
        for (number, ids) in ids.chunks(rows.len()).enumerate() {
            self.rows(ids, &mut rows);
            for (place, (&id, &found)) in ids.iter().zip(&rows).enumerate() {
                let row = number * rows.len() + place;
                match found {
                    NONE => return Err((row, format!("item id {id} of row {row} is not in the id table"))),
                    found if found as usize == row => {}
                    found => return Err((row, format!("item id {id} of row {row} is found at row {found}"))),
                }
            }
        }
        match self.table.iter().flat_map(|bucket| &bucket[..ENTRIES]).filter(|&&word| word != 0).count() {
            used if used == ids.len() => Ok(()),
            used => Err((0, format!("the id table holds {used} rows of {}", ids.len()))),
        }
    }
}

/// A table built for a list of ids.
pub(crate) struct IdTable {
    pub table: Vec<Bucket>,
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
    /// Places every id, with the first seed that lets all stand within reach of their own bucket.
    pub fn build(ids: &[u64]) -> Result<IdTable, Duplicate> {
        let mut table = vec![Bucket::default(); table_size(ids.len() as u64) as usize];
        let mut seed = 0;
        while !place_all(ids, seed, &mut table)? {
            table.fill(Bucket::default());
            seed += 1;
        }
        Ok(IdTable { table, seed })
    }

    /// The table of `rows` ids, as a look-up takes it.
    pub fn map(&self, rows: usize) -> IdMap<'_> {
        IdMap::new(&self.table, rows, self.seed)
    }
}

/// Fills the buckets in order: first with entries that have waited long, then with those that belong to the
/// bucket, then with others that wait. Nearly all get their own bucket, so that a look-up has one cache miss.
/// Returns whether all found room.
fn place_all(ids: &[u64], seed: u64, table: &mut [Bucket]) -> Result<bool, Duplicate> {
    let layout = Layout::new(seed, ids.len());
    let mut hashes: Vec<(u64, u32)> = ids.iter().map(|&id| layout.hash(id)).zip(0..).collect();
    hashes.sort_unstable();
    if let Some(equal) = hashes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (first, second) = (equal[0].1, equal[1].1);
        return Err(Duplicate { id: ids[first as usize], first, second });
    }
    let mut hashes = hashes.into_iter().peekable();
    let mut waiting = VecDeque::new();
    for at in 0..table.len() {
        let mut free = 0..ENTRIES;
        let mut place = |(hash, row), free: &mut Range<usize>| {
            let home = layout.home(hash);
            layout.put(&mut table[at], free.next().expect("a free entry"), hash, row);
            // Waiting entries are in the order of their buckets, so the last one placed of a bucket went
            // farthest.
            table[home][ENTRIES] = table[home][ENTRIES] & !(0xFF << 56) | ((at - home) as u64) << 56;
        };
        let waited = |waiting: &VecDeque<(u64, u32)>| Some(at - layout.home(waiting.front()?.0));
        while !free.is_empty() && waited(&waiting).is_some_and(|buckets| buckets >= PATIENCE) {
            place(waiting.pop_front().expect("a front"), &mut free);
        }
        let own = std::iter::from_fn(|| hashes.next_if(|&(hash, _)| layout.home(hash) == at));
        for entry in own {
            match free.is_empty() {
                false => place(entry, &mut free),
                true => waiting.push_back(entry),
            }
        }
        while !free.is_empty()
            && let Some(entry) = waiting.pop_front()
        {
            place(entry, &mut free);
        }
        if waited(&waiting).is_some_and(|buckets| buckets >= REACH - 1) {
            return Ok(false);
        }
    }
    Ok(waiting.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of(ids: &[u64], wanted: &[u64]) -> Vec<Option<u32>> {
        let IdTable { table, seed } = IdTable::build(ids).unwrap();
        let map = IdMap::new(&table, ids.len(), seed);
        map.verify(ids).unwrap();
        let single: Vec<_> = wanted.iter().map(|&id| map.row(id)).collect();
        let mut rows = vec![0; wanted.len()];
        map.rows(wanted, &mut rows);
        let found: Vec<_> = rows.iter().map(|&row| (row != NONE).then_some(row)).collect();
        assert_eq!(found, single);
        single
    }

    #[test]
    fn ids_of_awkward_patterns_are_all_found() {
        let patterns: [&dyn Fn(u64) -> u64; 6] =
            [&|i| i, &|i| u64::MAX - i, &|i| i << 32, &|i| i << 44, &|i| i << 32 | 7, &|i| {
                i.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }];
        for pattern in patterns {
            let ids: Vec<u64> = (0..20_000).map(pattern).collect();
            let expected: Vec<_> = (0..20_000).map(Some).collect();
            assert_eq!(rows_of(&ids, &ids), expected);
            let others: Vec<u64> = (20_000..40_000).map(pattern).collect();
            assert!(rows_of(&ids, &others).iter().all(Option::is_none));
        }
    }

    #[test]
    fn ids_that_collide_under_one_seed_get_another() {
        let n = 2_000;
        let layout = Layout::new(0, n);
        let ids: Vec<u64> = (0..).filter(|&id| layout.home(layout.hash(id)) < 2).take(n).collect();
        let IdTable { table, seed } = IdTable::build(&ids).unwrap();
        assert!(seed > 0);
        IdMap::new(&table, n, seed).verify(&ids).unwrap();
    }

    #[test]
    fn nearly_all_ids_stand_where_they_belong() {
        let ids: Vec<u64> = (0..200_000).map(|i: u64| i * i).collect();
        let IdTable { table, seed } = IdTable::build(&ids).unwrap();
        let layout = Layout::new(seed, ids.len());
        let at_home = |&&id: &&u64| {
            let hash = layout.hash(id);
            layout.find(&table[layout.home(hash)], hash, ids.len()).is_some()
        };
        assert_eq!(seed, 0);
        assert!(ids.iter().filter(at_home).count() > 180_000);
    }

    #[test]
    fn every_number_of_rows_has_room_in_its_entries() {
        let rows = (0..31).flat_map(|bits| [1u64 << bits, (1 << bits) + 1, (2 << bits) - 1]);
        for rows in rows.chain([crate::limits::MAX_ROWS]) {
            let room = 1u64 << (64 - Layout::new(0, rows as usize).hash_bits);
            assert!(rows < room, "{rows} rows in {room}");
        }
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_hash_map(
            ids in prop::collection::hash_set(prop_oneof![any::<u64>(), 0u64..1000], 1..300),
            others in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..1000], 0..100),
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
            rows in 1usize..50,
            seed in any::<u64>(),
            words in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 17 * 8),
            wanted in any::<u64>(),
        ) {
            let table = words.as_chunks().0;
            let row = IdMap::new(table, rows, seed).row(wanted);
            prop_assert!(row.is_none_or(|row| (row as usize) < rows));
        }
    }
}
