use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::directory::Part;
use super::stored::Columns;
use crate::row_set::{Excluded, RowSet};

impl<'a> Columns<'a> {
    /// The rows that have expired at a second since 1970, soonest first. Costs a binary search, whatever their
    /// number. An item expires at its second: it is shown before, and not then.
    pub fn expired(self, now: i64) -> &'a [u32] {
        let Some(column) = self.expiries() else { return &[] };
        let (times, order) = (column.part::<i64>(Part::Values), column.part::<u32>(Part::Order));
        let has_expired = |&row: &u32| times.get(row as usize).is_some_and(|&time| time <= now);
        // Most often nothing is left that has expired, since rebuilds leave it out.
        match order.first().is_some_and(has_expired) {
            true => &order[..order.partition_point(has_expired)],
            false => &[],
        }
    }

    /// Whether those that have expired at a second since 1970 are so many. Looks at two of them.
    fn so_many_expired(self, count: usize, now: i64) -> bool {
        let Some(column) = self.expiries() else { return count == 0 };
        let (times, order) = (column.part::<i64>(Part::Values), column.part::<u32>(Part::Order));
        let time = |at: usize| order.get(at).and_then(|&row| times.get(row as usize));
        let expired = |at| time(at).is_some_and(|&time| time <= now);
        (count == 0 || expired(count - 1)) && !expired(count)
    }

    /// Whether a row has expired at a second since 1970.
    pub fn has_expired(self, row: u32, now: i64) -> bool {
        let Some(column) = self.expiries() else { return false };
        let time = column.part::<i64>(Part::Values).get(row as usize);
        time.is_some_and(|&time| time <= now) && !column.is_null(row)
    }
}

/// The set of rows that had expired at the last query, kept for the next one. Time seldom passes an expiry
/// between two queries.
#[derive(Default)]
pub(crate) struct ExpiredRows(ArcSwapOption<Excluded>);

impl ExpiredRows {
    /// The rows that have expired at a second since 1970; `None` if there are none. Takes no lock.
    pub fn at(&self, columns: Columns<'_>, now: i64) -> Option<Arc<Excluded>> {
        let kept = self.0.load_full();
        if let Some(kept) = kept.as_ref().filter(|kept| columns.so_many_expired(kept.rows().count(), now)) {
            return Some(Arc::clone(kept));
        }
        let expired = columns.expired(now);
        if expired.is_empty() {
            return None;
        }
        // What expired first is the same at any time, so that the set has only to grow.
        let mut rows = match kept {
            Some(kept) if kept.rows().count() < expired.len() => kept.rows().clone(),
            _ => RowSet::none(columns.rows),
        };
        let known = rows.count();
        expired[known..].iter().for_each(|&row| rows.insert(row));
        let rows = Arc::new(Excluded::new(rows));
        self.0.store(Some(Arc::clone(&rows)));
        Some(rows)
    }
}
