//! Fresh items laid over a generation: exact, and immutable once seen.
//!
//! A few segments, the newest last. A batch of changes becomes a segment, and small ones are merged into it,
//! so that there are some log(n) of them and a row is copied as often. Readers keep the overlay they have; a
//! later one shares its large segments.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::Hit;
use crate::columns::Values;
use crate::ids::{IdMap, IdTable, NONE};
use crate::top::TopK;
use crate::vectors::{Rows, stride_of};

/// How many ids are looked up together, so that their cache misses overlap.
pub(super) const BULK: usize = 256;

/// A segment is merged with the one before it unless that is so many times as large.
const GROWTH: usize = 8;

/// A fresh item.
#[derive(Clone)]
pub(super) struct Item {
    pub embedding: Vec<f32>,
    pub known: Arc<Known>,
}

/// What is known of a fresh item beside its embedding.
#[derive(Default)]
pub(super) struct Known {
    pub values: Values,
    /// The second since 1970 from which on it is not shown.
    pub expiry: Option<i64>,
}

impl Known {
    /// What is known where there are no columns, which all items share.
    pub fn nothing() -> Arc<Known> {
        static NOTHING: LazyLock<Arc<Known>> = LazyLock::new(Arc::default);
        Arc::clone(&NOTHING)
    }

    pub fn has_expired(&self, now: i64) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

#[derive(Clone, Default)]
pub(super) struct Overlay {
    segments: Vec<Segment>,
    /// Items it says something about, how many of them are deleted, and how many the generation has.
    pub items: usize,
    pub deleted: usize,
    pub hidden: usize,
}

#[derive(Clone)]
struct Segment {
    rows: Arc<SegmentRows>,
    states: Arc<Vec<State>>,
}

struct SegmentRows {
    dim: usize,
    /// Those with an embedding first, then those deleted.
    ids: Vec<u64>,
    /// The embeddings, padded, and what else is known of those items.
    values: Vec<f32>,
    known: Vec<Arc<Known>>,
    table: IdTable,
    /// The row of the generation that each item hides, [`NONE`] where the generation does not have it.
    hides: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Present,
    Deleted,
    /// A later segment has the item, or nothing is said of it any more.
    Superseded,
}

/// An item of a segment to be: its id, the row it hides, and what it is unless it is deleted.
type Entry<'a> = (u64, u32, Option<(&'a [f32], &'a Arc<Known>)>);

impl Segment {
    fn new(dim: usize, mut entries: Vec<Entry<'_>>) -> Segment {
        entries.sort_by_key(|entry| entry.2.is_none());
        let ids: Vec<u64> = entries.iter().map(|entry| entry.0).collect();
        let hides = entries.iter().map(|entry| entry.1).collect();
        let stride = stride_of(dim);
        let mut values = Vec::with_capacity(stride * entries.len());
        let mut states = vec![State::Deleted; entries.len()];
        let mut known_of_all = Vec::new();
        for ((embedding, known), state) in entries.iter().filter_map(|entry| entry.2).zip(&mut states) {
            values.extend_from_slice(embedding);
            values.resize(values.len().next_multiple_of(stride), 0.0);
            known_of_all.push(Arc::clone(known));
            *state = State::Present;
        }
        let table = IdTable::build(&ids).unwrap_or_else(|_| unreachable!("every id stands once"));
        let rows = SegmentRows { dim, ids, values, known: known_of_all, table, hides };
        Segment { rows: Arc::new(rows), states: Arc::new(states) }
    }

    fn ids(&self) -> IdMap<'_> {
        IdMap::new(&self.rows.table.table, self.rows.ids.len(), self.rows.table.seed)
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.rows.values, self.rows.dim)
    }

    fn embedding(&self, row: u32) -> &[f32] {
        let SegmentRows { dim, values, .. } = &*self.rows;
        &values[row as usize * stride_of(*dim)..][..*dim]
    }

    /// The items that no later segment has.
    fn live(&self) -> impl Iterator<Item = Entry<'_>> {
        let live = self.states.iter().enumerate().filter(|(_, state)| **state != State::Superseded);
        live.map(|(row, &state)| {
            let item = (state == State::Present).then(|| (self.embedding(row as u32), &self.rows.known[row]));
            (self.rows.ids[row], self.rows.hides[row], item)
        })
    }
}

/// What the overlay says of an id.
#[derive(Clone, Copy)]
pub(super) enum Said<'a> {
    /// Nothing; ask the generation.
    Nothing,
    Deleted,
    Present(Rows<'a>, u32),
}

impl Overlay {
    /// The overlay with what these ids have become; `None` where they were deleted. `row_of` tells where the
    /// generation has an item, [`NONE`] where it does not. A deletion of an item that it does not have takes
    /// no place.
    pub fn with(
        &self,
        newest: &HashMap<u64, Option<Item>>,
        dim: usize,
        row_of: impl Fn(u64) -> u32,
    ) -> Overlay {
        if newest.is_empty() {
            return self.clone();
        }
        let mut segments = self.segments.clone();
        for segment in &mut segments {
            let rows = Arc::clone(&segment.rows);
            let map = IdMap::new(&rows.table.table, rows.ids.len(), rows.table.seed);
            let superseded: Vec<u32> = newest.keys().filter_map(|&id| map.row(id)).collect();
            if !superseded.is_empty() {
                let states = Arc::make_mut(&mut segment.states);
                superseded.into_iter().for_each(|row| states[row as usize] = State::Superseded);
            }
        }
        let entries = newest.iter().map(|(&id, item)| -> Entry<'_> {
            (id, row_of(id), item.as_ref().map(|item| (&*item.embedding, &item.known)))
        });
        let entries: Vec<_> = entries.filter(|&(_, hides, item)| hides != NONE || item.is_some()).collect();
        if !entries.is_empty() {
            segments.push(Segment::new(dim, entries));
        }
        while let [.., before, last] = &*segments
            && before.rows.ids.len() < GROWTH * last.rows.ids.len()
        {
            let merged = Segment::new(dim, before.live().chain(last.live()).collect());
            segments.truncate(segments.len() - 2);
            segments.push(merged);
        }
        segments.retain(|segment| segment.live().next().is_some());
        let mut overlay = Overlay { segments, items: 0, deleted: 0, hidden: 0 };
        for segment in &overlay.segments {
            for (&state, &hides) in segment.states.iter().zip(&segment.rows.hides) {
                overlay.items += usize::from(state != State::Superseded);
                overlay.deleted += usize::from(state == State::Deleted);
                overlay.hidden += usize::from(state != State::Superseded && hides != NONE);
            }
        }
        overlay
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Adds the rows of the generation that fresh items stand for, or that are deleted, in no order.
    pub fn hidden_rows(&self, into: &mut Vec<u32>) {
        for segment in &self.segments {
            let rows = segment.states.iter().zip(&segment.rows.hides);
            into.extend(
                rows.filter(|&(&state, &hides)| state != State::Superseded && hides != NONE).map(|row| row.1),
            );
        }
    }

    /// Every item that is present, with its embedding.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[f32])> {
        let entries = self.segments.iter().flat_map(Segment::live);
        entries.filter_map(|(id, _, item)| item.map(|(embedding, _)| (id, embedding)))
    }

    /// Every item that is present, with what else is known of it.
    pub fn present(&self) -> impl Iterator<Item = (u64, &Known)> {
        let entries = self.segments.iter().flat_map(Segment::live);
        entries.filter_map(|(id, _, item)| item.map(|(_, known)| (id, &**known)))
    }

    /// What else is known of an item that is present.
    pub fn known(&self, id: u64) -> Option<&Known> {
        for segment in self.segments.iter().rev() {
            if let Some(row) = segment.ids().row(id) {
                let present = segment.states[row as usize] == State::Present;
                return present.then(|| &*segment.rows.known[row as usize]);
            }
        }
        None
    }

    /// What it says of an id.
    pub fn find(&self, id: u64) -> Said<'_> {
        for segment in self.segments.iter().rev() {
            if let Some(row) = segment.ids().row(id) {
                return segment.said(row);
            }
        }
        Said::Nothing
    }

    /// Whether it says something of an id.
    pub fn has(&self, id: u64) -> bool {
        !matches!(self.find(id), Said::Nothing)
    }

    /// What it says of up to [`BULK`] ids.
    pub fn find_all<'a>(&'a self, ids: &[u64], said: &mut [Said<'a>; BULK]) {
        *said = [Said::Nothing; BULK];
        let mut rows = [NONE; BULK];
        for segment in &self.segments {
            segment.ids().rows(ids, &mut rows[..ids.len()]);
            for (said, &row) in said.iter_mut().zip(&rows[..ids.len()]).filter(|(_, row)| **row != NONE) {
                *said = segment.said(row);
            }
        }
    }

    /// Offers every item that is present and passes, scored for a padded user.
    pub fn search(&self, user: &[f32], passes: impl Fn(u64, &Known) -> bool, top: &mut TopK) {
        for segment in &self.segments {
            let (SegmentRows { ids, known, .. }, states) = (&*segment.rows, &segment.states);
            let rows = segment.rows();
            rows.score_all(user, 0..rows.len() as u32, |row, score| {
                let place = row as usize;
                let present = states[place] == State::Present;
                if present && top.may_hold(score) && passes(ids[place], &known[place]) {
                    top.offer(Hit { id: ids[place], score });
                }
            });
        }
    }
}

impl Segment {
    fn said(&self, row: u32) -> Said<'_> {
        match self.states[row as usize] {
            State::Present => Said::Present(self.rows(), row),
            State::Deleted => Said::Deleted,
            State::Superseded => Said::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_of_what_nobody_has_take_no_place() {
        let row_of = |id: u64| if id < 4 { id as u32 } else { NONE };
        let change = |overlay: &Overlay, id, embedding: Option<[f32; 2]>| {
            let item = embedding.map(|embedding| Item { embedding: embedding.into(), known: Arc::default() });
            overlay.with(&HashMap::from([(id, item)]), 2, row_of)
        };
        let hidden = |overlay: &Overlay| {
            let mut rows = Vec::new();
            overlay.hidden_rows(&mut rows);
            rows.sort_unstable();
            rows
        };
        let mut overlay = Overlay::default();
        for id in 100..110 {
            overlay = change(&overlay, id, None);
        }
        assert!(overlay.is_empty());
        overlay = change(&overlay, 50, Some([1.0, 2.0]));
        overlay = change(&overlay, 2, Some([3.0, 4.0]));
        overlay = change(&overlay, 3, None);
        assert_eq!((overlay.items, overlay.deleted, overlay.hidden, hidden(&overlay)), (3, 1, 2, vec![2, 3]));
        overlay = change(&overlay, 50, None);
        assert!(!overlay.has(50));
        assert_eq!((overlay.items, overlay.iter().collect::<Vec<_>>()), (2, vec![(2, &[3.0, 4.0][..])]));
        overlay = change(&overlay, 3, Some([5.0, 6.0]));
        assert_eq!((overlay.items, overlay.deleted, hidden(&overlay)), (2, 0, vec![2, 3]));
    }
}
