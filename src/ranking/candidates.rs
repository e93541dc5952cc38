//! Candidates to rows: look-up, the order to visit rows in, and each row once.

use super::{Ranking, Scratch};
use crate::ids::NONE;

/// Ranges of addresses that rows are sorted into: few enough that the page table of one range stays in the
/// core's cache.
const BUCKETS: usize = 512;

/// Candidates by id, and others by rows that are known to be of the index that ranks them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Source<'a> {
    pub ids: &'a [u64],
    pub rows: &'a [u32],
}

impl Source<'_> {
    pub fn len(&self) -> usize {
        self.ids.len() + self.rows.len()
    }
}

impl Ranking<'_> {
    /// Looks candidates up and leaves their rows in the order to visit them; returns how many ids are
    /// unknown.
    pub fn look_up(&self, candidates: Source<'_>, scratch: &mut Scratch) -> usize {
        let Scratch { found, visits, places, .. } = scratch;
        places.resize(1 << shift_of(self.rows.len()), 0);
        visits.clear();
        if candidates.ids.is_empty() {
            visits.extend_from_slice(candidates.rows);
            return 0;
        }
        found.resize(candidates.ids.len(), NONE);
        self.map.rows(candidates.ids, found);
        found.extend_from_slice(candidates.rows);
        let mut buckets = AddressBuckets::of(found, self.rows.len());
        visits.resize(found.len(), NONE);
        found.iter().for_each(|&row| visits[buckets.place(row)] = row);
        visits.truncate(buckets.known());
        candidates.len() - visits.len()
    }

    /// Looks up the candidates of several channels. Leaves each row once, in the order to visit rows, with
    /// the channels that brought it, and the unknown ids, ascending, each once.
    pub fn merge(&self, channels: &[Source<'_>], scratch: &mut Scratch, unknown: &mut Vec<u64>) {
        let Scratch { found, visits, channels: bits, places, .. } = scratch;
        let total = channels.iter().map(Source::len).sum();
        found.resize(total, NONE);
        let mut rest = &mut **found;
        unknown.clear();
        for channel in channels {
            let (own, later) = rest.split_at_mut(channel.len());
            rest = later;
            let (of_ids, of_rows) = own.split_at_mut(channel.ids.len());
            self.map.rows(channel.ids, of_ids);
            unknown.extend(not_found(channel.ids, of_ids));
            of_rows.copy_from_slice(channel.rows);
        }
        let mut buckets = AddressBuckets::of(found, self.rows.len());
        visits.resize(total, NONE);
        bits.resize(total, 0);
        let mut rest = &**found;
        for (number, channel) in channels.iter().enumerate() {
            let (own, later) = rest.split_at(channel.len());
            rest = later;
            for &row in own {
                let place = buckets.place(row);
                visits[place] = row;
                bits[place] = 1 << number;
            }
        }
        places.resize(1 << shift_of(self.rows.len()), 0);
        let mut kept = 0;
        for visit in 0..buckets.known() {
            let (row, bit) = (visits[visit], bits[visit]);
            match seen_before(places, visits, row, kept) {
                Some(seen) => bits[seen] |= bit,
                None => {
                    (visits[kept], bits[kept]) = (row, bit);
                    kept += 1;
                }
            }
        }
        visits.truncate(kept);
        keep_once(unknown);
    }

    /// Leaves of the visits those that pass; `dropped` is told each row of the others once.
    pub fn retain_visits(
        &self,
        scratch: &mut Scratch,
        passes: impl Fn(u32) -> bool,
        mut dropped: impl FnMut(u32),
    ) {
        let Scratch { visits, found, places, .. } = scratch;
        let (mut kept, mut left_out) = (0, 0);
        found.resize(visits.len().max(found.len()), NONE);
        // Whether a row passes cannot be predicted, so it is written to both lists and counted in one.
        for visit in 0..visits.len() {
            let row = visits[visit];
            let keeps = passes(row);
            found[left_out] = row;
            visits[kept] = row;
            kept += usize::from(keeps);
            left_out += usize::from(!keeps);
        }
        visits.truncate(kept);
        // Of rows in order the same ones are neighbours.
        let in_order = found[..left_out].is_sorted();
        for visit in 0..left_out {
            let again = match in_order {
                true => visit > 0 && found[visit - 1] == found[visit],
                false => seen_before(places, found, found[visit], visit).is_some(),
            };
            if !again {
                dropped(found[visit]);
            }
        }
    }

    /// Leaves of the merged visits those to keep. `keep` is given a row and the channels that brought it, which it may
    /// take away.
    pub fn retain_merged(&self, scratch: &mut Scratch, mut keep: impl FnMut(u32, &mut u32) -> bool) {
        let Scratch { visits, channels, .. } = scratch;
        let mut kept = 0;
        for visit in 0..visits.len() {
            let (row, mut bits) = (visits[visit], channels[visit]);
            let keeps = keep(row, &mut bits);
            (visits[kept], channels[kept]) = (row, bits);
            kept += usize::from(keeps);
        }
        visits.truncate(kept);
    }

    /// Leaves the unknown ids of the last look-up, ascending, each once.
    pub fn unknown(&self, candidates: Source<'_>, scratch: &Scratch, unknown: &mut Vec<u64>) {
        unknown.clear();
        unknown.extend(not_found(candidates.ids, &scratch.found));
        keep_once(unknown);
    }
}

/// The visit before `visit` that has the same `row`, if there is one; otherwise `places` notes that the row
/// is at `visit`.
///
/// `places` is indexed by the low bits of a row, and rows of one address bucket differ in those. Entries of
/// other buckets and of earlier ranks are told apart by the visits themselves, so nothing is ever cleared,
/// and what is read stays in the core's nearest caches.
#[inline(always)]
pub(super) fn seen_before(places: &mut [u32], visits: &[u32], row: u32, visit: usize) -> Option<usize> {
    let low_bits = places.len() - 1;
    let place = &mut places[row as usize & low_bits];
    let seen = *place as usize;
    if seen < visit && visits[seen] == row {
        return Some(seen);
    }
    *place = visit as u32;
    None
}

/// One pass of a radix sort of rows by their addresses: where in each bucket the next row goes.
struct AddressBuckets {
    shift: u32,
    /// The last entry is of the rows that were not found, which go behind all others.
    next: [u32; BUCKETS + 1],
}

impl AddressBuckets {
    /// Buckets of `total` rows, with room for all of `found`, which are below `total` or [`NONE`].
    fn of(found: &[u32], total: usize) -> AddressBuckets {
        let mut buckets = AddressBuckets { shift: shift_of(total), next: [0; BUCKETS + 1] };
        found.iter().for_each(|&row| buckets.next[buckets.bucket_of(row)] += 1);
        let mut start = 0;
        for next in &mut buckets.next {
            start += std::mem::replace(next, start);
        }
        buckets
    }

    #[inline(always)]
    fn bucket_of(&self, row: u32) -> usize {
        (row as usize >> self.shift).min(BUCKETS)
    }

    /// The place of `row`, to be asked for once.
    #[inline(always)]
    fn place(&mut self, row: u32) -> usize {
        let next = &mut self.next[self.bucket_of(row)];
        *next += 1;
        *next as usize - 1
    }

    /// How many rows were found, once all have been placed.
    fn known(&self) -> usize {
        self.next[BUCKETS - 1] as usize
    }
}

/// How many low bits tell the rows of one bucket apart, of `total` rows.
fn shift_of(total: usize) -> u32 {
    (usize::BITS - (total - 1).leading_zeros()).saturating_sub(BUCKETS.ilog2())
}

fn not_found(ids: &[u64], found: &[u32]) -> impl Iterator<Item = u64> {
    ids.iter().zip(found).filter(|&(_, &row)| row == NONE).map(|(&id, _)| id)
}

/// Leaves the ids ascending, each once.
pub(crate) fn keep_once(ids: &mut Vec<u64>) {
    ids.sort_unstable();
    ids.dedup();
}
