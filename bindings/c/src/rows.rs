//! Items that were looked up before they are ranked.

use itemdex::{Candidates, RowHandles};

use crate::border::{Place, call, shared, values};
use crate::growing::{Written, read_or_default};
use crate::index::{Index, Source};
use crate::options::{Answer, RankOptions, SearchOptions};
use crate::query::{Buffers, rank};
use crate::status::Status;

/// Items of one index by their rows, for ranks that look no id up.
pub struct Rows {
    rows: RowHandles,
    /// Ids of items that a live index has in its log only.
    fresh: Vec<u64>,
}

impl Rows {
    fn len(&self) -> usize {
        self.rows.len() + self.fresh.len()
    }

    fn give(self, place: Place<*mut Rows>) {
        place.write(Box::into_raw(Box::new(self)));
    }
}

impl From<RowHandles> for Rows {
    fn from(rows: RowHandles) -> Rows {
        Rows { rows, fresh: Vec::new() }
    }
}

impl From<itemdex::live::ViewRows> for Rows {
    fn from(of_view: itemdex::live::ViewRows) -> Rows {
        Rows { rows: of_view.rows().clone(), fresh: of_view.fresh().to_vec() }
    }
}

/// Looks items up, to rank them in many requests: what is popular, say. Ids that the index does not have are
/// left out.
///
/// ids: id_count of them. rows: the handle, for itemdex_rows_close. It takes 4 bytes an item, and outlives
/// the index that it was made with. Only an index of the same file takes it. Any number of threads may call
/// it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_look_up(
    index: *const Index,
    ids: *const u64,
    id_count: usize,
    rows: *mut *mut Rows,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, ids, rows) =
            unsafe { (shared(index, "index")?, values(ids, id_count, "ids")?, Place::new(rows, "rows")?) };
        let found: Rows = match &index.source {
            Source::File(index) => index.look_up(ids).into(),
            Source::View(view) => view.look_up(ids).into(),
        };
        found.give(rows);
        Ok(())
    })
}

/// Finds the items that itemdex_search finds, to rank them: the handle is as that of itemdex_look_up.
///
/// Errors: as itemdex_search.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_search_rows(
    index: *const Index,
    user: *const f32,
    dim: usize,
    k: usize,
    options: *const SearchOptions,
    rows: *mut *mut Rows,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, options, rows) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                read_or_default(options, "options")?.for_k(k)?,
                Place::new(rows, "rows")?,
            )
        };
        let found: Rows = match &index.source {
            Source::File(index) => index.search_rows(user, &options)?.into(),
            Source::View(view) => view.search_rows(user, &options)?.into(),
        };
        found.give(rows);
        Ok(())
    })
}

/// Counts the items of a handle. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rows_count(rows: *const Rows, count: *mut usize) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (rows, count) = unsafe { (shared(rows, "rows")?, Place::new(count, "count")?) };
        count.write(rows.len());
        Ok(())
    })
}

/// Ranks items that were looked up: the answer of itemdex_rank for their ids.
///
/// rows: of an index of the same file. The rest is as in itemdex_rank.
///
/// Errors: as itemdex_rank; ITEMDEX_STALE for the rows of another index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rank_rows(
    index: *const Index,
    user: *const f32,
    dim: usize,
    rows: *const Rows,
    k: usize,
    options: *const RankOptions,
    ids: *mut u64,
    scores: *mut f32,
    answer: *mut Answer,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, rows, options, buffers, answer) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                shared(rows, "rows")?,
                read_or_default(options, "options")?.for_k(k)?,
                Buffers::new(ids, scores, k)?,
                Written::new(answer, "answer")?,
            )
        };
        rank(index, user, Candidates::Both(&rows.rows, &rows.fresh), &options, buffers, answer)
    })
}

/// Closes a handle of rows. NULL is allowed. No other call may use it meanwhile or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rows_close(rows: *mut Rows) {
    if !rows.is_null() {
        // SAFETY: the caller has it from `Rows::give`, and closes it once.
        drop(unsafe { Box::from_raw(rows) });
    }
}
