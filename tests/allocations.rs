//! After warm-up a query allocates its answer and nothing else, not even that where it is given an earlier one, and a
//! huge one leaves nothing behind.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use itemdex::{
    Channel, Found, IndexBuilder, Items, Plan, Quantization, RankOptions, Ranked, RankedChannels,
    SearchOptions,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of<T>(call: impl FnOnce() -> T) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let answer = call();
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    drop(answer);
    after - before
}

// One test alone in its file: the counter sees every thread of the process.
#[test]
fn queries_allocate_their_answers_only() {
    let items = common::items(4_000, 24, 1);
    let builder = IndexBuilder::new("v1").m(8).ef_construction(64).quantize(Quantization::I8);
    let builder = builder.plans([Plan::Graph, Plan::Partitions]);
    let built = common::build_with(&builder, &items);
    let exact = RankOptions::new(100).exact();
    let candidates: Vec<u64> = items.iter().map(|item| item.0).collect();
    let mut scores = vec![0.0; candidates.len()];
    let options = SearchOptions::new(10).ef(100);
    let scan = SearchOptions::new(100).plan(Plan::Scan);
    let partitions = SearchOptions::new(100).plan(Plan::Partitions);
    let half: Vec<u64> = candidates.iter().copied().step_by(2).collect();
    let (half_set, few) = (built.index.item_set(&half), built.index.item_set(&candidates[..8]));
    let odd = |id: u64| id % 2 == 1;
    let searches = [
        options,
        options.deny(&half),
        partitions.deny(&half),
        partitions.deny(&half_set),
        partitions.allow(&half_set).deny(&candidates[..100]),
        scan.allow(&half_set),
        scan.allow(&few),
        partitions.allow(&few).deny(&half),
        partitions.deny(Items::Test(&odd)),
        scan,
        scan.recall(1.0),
        partitions,
        partitions.recall(1.0),
        partitions.recall(0.99).approximate_scores(),
    ];
    let rows = built.index.look_up(&candidates);
    let channels = [Channel::new(&candidates[..3_000]), Channel::new(&rows)];
    let quotas = [channels[0].at_least(60), channels[1].at_most(80)];
    let ranked = RankOptions::new(100);
    let ranked_half = RankOptions::new(100).deny(&half_set);
    let (mut found, mut ranked_before) = (Found::default(), Ranked::default());
    let mut merged = RankedChannels::default();
    built.index.search_into(&[1.0; 24], &scan, &mut found).unwrap();
    built.index.rank_into(&[1.0; 24], &candidates, &exact, &mut ranked_before).unwrap();
    built.index.rank_channels_into(&[1.0; 24], &channels, &ranked, &mut merged).unwrap();
    for user in common::users(100, 24, 1) {
        // As often as below: plans exchange their lists of hits, and each has to have been the longest.
        for options in searches.iter().flat_map(|options| [options; 3]) {
            built.index.search_with(&user, options).unwrap();
        }
        built.index.rank(&user, &candidates, 100).unwrap();
        built.index.rank_with(&user, &candidates, &exact).unwrap();
        built.index.rank_with(&user, &candidates, &ranked_half).unwrap();
        for channels in [&channels, &quotas] {
            built.index.rank_channels(&user, channels, &ranked).unwrap();
        }
    }
    for user in common::users(20, 24, 1) {
        for options in searches {
            assert_eq!(allocations_of(|| built.index.search_with(&user, &options).unwrap()), 1);
            assert_eq!(allocations_of(|| built.index.search_into(&user, &options, &mut found).unwrap()), 0);
            assert_eq!(found, built.index.search_with(&user, &options).unwrap());
        }
        let into = || built.index.rank_into(&user, &candidates, &exact, &mut ranked_before).unwrap();
        assert_eq!(allocations_of(into), 0);
        assert_eq!(ranked_before, built.index.rank_with(&user, &candidates, &exact).unwrap());
        let into = || built.index.rank_channels_into(&user, &channels, &ranked, &mut merged).unwrap();
        assert_eq!(allocations_of(into), 0);
        assert_eq!(merged, built.index.rank_channels(&user, &channels, &ranked).unwrap());
        assert_eq!(allocations_of(|| built.index.rank(&user, &candidates, 100).unwrap()), 1);
        assert_eq!(allocations_of(|| built.index.rank_with(&user, &candidates, &exact).unwrap()), 1);
        assert_eq!(allocations_of(|| built.index.rank(&user, &rows, 100).unwrap()), 1);
        let filtered = || built.index.rank_with(&user, &candidates, &ranked_half).unwrap();
        assert_eq!(allocations_of(filtered), 1);
        for channels in [&channels, &quotas] {
            assert_eq!(allocations_of(|| built.index.rank_channels(&user, channels, &ranked).unwrap()), 1);
        }
        assert_eq!(allocations_of(|| built.index.score(&user, &candidates, &mut scores).unwrap()), 0);
    }

    // The workspace of a rank of six million candidates takes 48 MB, and goes with it.
    let before = BYTES.load(Ordering::Relaxed);
    let many = candidates.repeat(1_500);
    let ranked = built.index.rank(&common::users(1, 24, 2)[0], &many, 100).unwrap();
    assert_eq!(ranked.hits.len(), 100);
    drop((many, ranked));
    let left = BYTES.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left < 1 << 20, "{left} bytes stay");
}
