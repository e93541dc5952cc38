//! A query of C allocates nothing once its thread has asked the like before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{null, null_mut};

use crate::border::itemdex_last_error;
use crate::growing::{Growing, read_or_default};
use crate::index::{Index, itemdex_close, itemdex_open};
use crate::live::{
    LiveIndex, LiveOptions, itemdex_live_close, itemdex_live_current, itemdex_live_delete, itemdex_live_open,
    itemdex_live_upsert,
};
use crate::offline::{itemdex_build, itemdex_publish};
use crate::options::{Answer, Channel};
use crate::query::{itemdex_get, itemdex_rank, itemdex_rank_channels, itemdex_score, itemdex_search};
use crate::rows::{Rows, itemdex_look_up, itemdex_rank_rows, itemdex_rows_close};
use crate::status::Status;

struct Counting;

thread_local! {
    /// Other tests run in the same process, on threads of their own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ITEMS: usize = 3_000;
const DIM: usize = 16;
const K: usize = 100;

fn path_of(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

fn embedding_of(number: usize) -> [f32; DIM] {
    std::array::from_fn(|at| (number as f32 * 0.7 + at as f32 * 1.3 * (number % 17) as f32).sin())
}

/// A struct as a program begins it.
fn zeros<T: Growing>() -> T {
    // SAFETY: NULL is allowed.
    unsafe { read_or_default(null(), "") }.unwrap_or_else(|_| panic!("NULL is allowed"))
}

/// Makes each query of an index that gives single answers.
fn ask(index: *const Index, rows: *const Rows, candidates: &[u64], user: &[f32; DIM]) {
    let (mut ids, mut scores, mut channels) = ([0; K], [0.0; K], [0; K]);
    let (mut all_scores, mut embedding) = ([0.0; ITEMS + 8], [0.0; DIM]);
    let mut answer: Answer = zeros();
    (answer.size, answer.channels) = (size_of::<Answer>(), channels.as_mut_ptr());
    let halves = [&candidates[..1_000], &candidates[900..]].map(|half| {
        let mut channel: Channel = zeros();
        (channel.size, channel.ids, channel.count) = (size_of::<Channel>(), half.as_ptr(), half.len());
        channel
    });
    let (user, dim, count) = (user.as_ptr(), DIM, candidates.len());
    let (listed, ids, scores, answer) =
        (candidates.as_ptr(), ids.as_mut_ptr(), scores.as_mut_ptr(), &raw mut answer);
    // SAFETY: the buffers have room for `K` hits, and for a score of each candidate.
    let done = unsafe {
        [
            itemdex_search(index, user, dim, K, null(), ids, scores, answer),
            itemdex_rank(index, user, dim, listed, count, K, null(), ids, scores, answer),
            itemdex_rank_rows(index, user, dim, rows, K, null(), ids, scores, answer),
            itemdex_rank_channels(index, user, dim, halves.as_ptr(), 2, K, null(), ids, scores, answer),
            itemdex_score(index, user, dim, listed, count, null(), all_scores.as_mut_ptr(), null_mut()),
            itemdex_get(index, candidates[0], embedding.as_mut_ptr(), dim),
        ]
    };
    assert!(done.iter().all(|&status| status == Status::ITEMDEX_OK), "{done:?}");
}

/// Asks an index until nothing is new to it, and counts what further queries allocate.
fn count_allocations(index: *const Index, candidates: &[u64]) -> usize {
    let mut rows = null_mut();
    // SAFETY: so many candidates, and a place for the handle.
    let looked_up = unsafe { itemdex_look_up(index, candidates.as_ptr(), candidates.len(), &raw mut rows) };
    assert_eq!(looked_up, Status::ITEMDEX_OK);
    let users: Vec<[f32; DIM]> = (0..60).map(|number| embedding_of(5_000 + number)).collect();
    users.iter().for_each(|user| ask(index, rows, candidates, user));
    let before = ALLOCATIONS.get();
    users.iter().for_each(|user| ask(index, rows, candidates, user));
    let counted = ALLOCATIONS.get() - before;
    // SAFETY: it is open.
    unsafe { itemdex_rows_close(rows) };
    counted
}

#[test]
fn queries_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, catalog) = (folder.path().join("items.itemdex"), folder.path().join("catalog"));
    let (path, catalog) = (path_of(&path), path_of(&catalog));
    let embeddings: Vec<f32> = (0..ITEMS).flat_map(embedding_of).collect();
    // Some are not in the index, one is deleted later, and one comes then.
    let candidates: Vec<u64> = (0..ITEMS as u64 + 8).collect();
    let (mut index, mut current): (*mut Index, *mut Index) = (null_mut(), null_mut());
    let mut live: *mut LiveIndex = null_mut();
    let fresh = embedding_of(7);
    let log = path_of(&folder.path().join("log"));
    let mut options: LiveOptions = zeros();
    (options.size, options.log) = (size_of::<LiveOptions>(), log.as_ptr());
    // SAFETY: texts end with 0, the rows are so many, and each handle is closed once.
    unsafe {
        let of = embeddings.as_ptr();
        let ok = |status| {
            let said = CStr::from_ptr(itemdex_last_error());
            assert_eq!(status, Status::ITEMDEX_OK, "{said:?}");
        };
        ok(itemdex_build(c"v1".as_ptr(), null(), of, ITEMS, DIM, null(), path.as_ptr()));
        ok(itemdex_open(path.as_ptr(), null(), &raw mut index));
        assert_eq!(count_allocations(index, &candidates), 0, "of a file");
        itemdex_close(index);

        ok(itemdex_publish(catalog.as_ptr(), path.as_ptr(), null(), null_mut()));
        ok(itemdex_live_open(catalog.as_ptr(), &raw const options, &raw mut live));
        ok(itemdex_live_upsert(live, c"v1".as_ptr(), 3_001, fresh.as_ptr(), DIM, null_mut()));
        ok(itemdex_live_upsert(live, c"v1".as_ptr(), 11, fresh.as_ptr(), DIM, null_mut()));
        ok(itemdex_live_delete(live, 12, null_mut()));
        ok(itemdex_live_current(live, &raw mut current));
        assert_eq!(count_allocations(current, &candidates), 0, "of a live index with fresh items");
        itemdex_close(current);
        itemdex_live_close(live);
    }
}
