//! Fresh items laid over a generation: exact, and immutable once seen.
//!
//! A few segments, the newest last. A batch of changes becomes a segment, and small ones are merged into it, so that
//! there are some log(n) of them and a row is copied as often. Readers keep the overlay they have; a later one shares its large
//! segments.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Hit;
use crate::ids::{IdMap, IdTable, NONE};
use crate::top::TopK;
use crate::vectors::{Rows, pad, stride_of};

/// How many ids are looked up together, so that their cache misses overlap.
pub(super) const BULK: usize = 256;

/// A segment is merged with the one before it unless that is so many times as large.
const GROWTH: usize = 8;

/// What has become of an item.
pub(super) struct Fresh {
    pub id: u64,
    /// `None` where it was deleted.
    pub embedding: Option<Vec<f32>>,
}

#[derive(Clone, Default)]
pub(super) struct Overlay {
    segments: Vec<Segment>,
    /// Items it says something about; of them deleted; of them in the generation.
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
    ids: Vec<u64>,
    /// Padded; zeros for what is deleted.
    values: Vec<f32>,
    table: IdTable,
    /// Whether the generation has the item too.
    hides: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Present,
    Deleted,
    /// A later segment has the item.
    Superseded,
}

impl Segment {
    fn new(dim: usize, rows: impl Iterator<Item = (u64, State, bool, Vec<f32>)>) -> Segment {
        let (mut ids, mut states, mut hides, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, state, hidden, padded) in rows {
            ids.push(id);
            states.push(state);
            hides.push(hidden);
            values.extend(padded);
        }
        let table = IdTable::build(&ids).unwrap_or_else(|_| unreachable!("every id stands once"));
        Segment { rows: Arc::new(SegmentRows { dim, ids, values, table, hides }), states: Arc::new(states) }
    }

    fn ids(&self) -> IdMap<'_> {
        IdMap::new(&self.rows.table.table, self.rows.ids.len(), self.rows.table.seed)
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.rows.values, self.rows.dim)
    }

    /// The rows that no later segment has.
    fn live(&self) -> impl Iterator<Item = (u64, State, bool, Vec<f32>)> {
        let live = self.states.iter().enumerate().filter(|(_, state)| **state != State::Superseded);
        live.map(|(row, &state)| {
            (self.rows.ids[row], state, self.rows.hides[row], self.rows().padded(row as u32).to_vec())
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
    /// The overlay after these changes, the later of an id winning. `in_generation` tells what the generation has.
    pub fn with(
        &self,
        changes: impl Iterator<Item = Fresh>,
        dim: usize,
        in_generation: impl Fn(u64) -> bool,
    ) -> Overlay {
        let newest: HashMap<u64, Option<Vec<f32>>> =
            changes.map(|change| (change.id, change.embedding)).collect();
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
        let rows = newest.into_iter().map(|(id, embedding)| {
            let mut padded = vec![0.0; stride_of(dim)];
            let state = match &embedding {
                Some(embedding) => {
                    pad(embedding, &mut padded);
                    State::Present
                }
                None => State::Deleted,
            };
            (id, state, in_generation(id), padded)
        });
        segments.push(Segment::new(dim, rows));
        while let [.., before, last] = &*segments
            && before.rows.ids.len() < GROWTH * last.rows.ids.len()
        {
            let merged = Segment::new(dim, before.live().chain(last.live()));
            segments.truncate(segments.len() - 2);
            segments.push(merged);
        }
        let mut overlay = Overlay { segments, items: 0, deleted: 0, hidden: 0 };
        for segment in &overlay.segments {
            for (&state, &hides) in segment.states.iter().zip(&segment.rows.hides) {
                overlay.items += usize::from(state != State::Superseded);
                overlay.deleted += usize::from(state == State::Deleted);
                overlay.hidden += usize::from(state != State::Superseded && hides);
            }
        }
        overlay
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
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

    /// Offers every item that is present, scored for a padded user.
    pub fn search(&self, user: &[f32], top: &mut TopK) {
        for segment in &self.segments {
            let (ids, states) = (&segment.rows.ids, &segment.states);
            segment.rows().score_all(user, 0..ids.len() as u32, |row, score| {
                if states[row as usize] == State::Present {
                    top.offer(Hit { id: ids[row as usize], score });
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
