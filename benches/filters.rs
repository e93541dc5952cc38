//! `cargo bench --bench filters`: searches and ranks that see a part of the items.

mod world;

use criterion::{Criterion, criterion_group, criterion_main};
use itemdex::{
    Column, ColumnKind, Filter, Index, IndexBuilder, Plan, RankOptions, RowHandles, SearchOptions, number,
};
use tempfile::{TempDir, tempdir};
use world::{Items, USERS, World, build};

const ROWS: usize = 1_000_000;

/// Draws are from 0 to here.
const DRAWS: usize = 10_000;

/// An item in so many expires at second 1, the others never.
const EXPIRING: usize = 20;

struct Ready {
    items: Items,
    users: Vec<Vec<f32>>,
    index: Index,
    _folder: TempDir,
}

impl Ready {
    fn new() -> Ready {
        let mut world = World::new();
        let (items, users) = (world.items(ROWS), world.users(USERS));
        let folder = tempdir().unwrap();
        let path = folder.path().join("items.itemdex");
        let mut draws = |below| (0..ROWS).map(|_| world.random.below(below) as i64).collect::<Vec<_>>();
        let draw = Column::new("draw", ColumnKind::Number, draws(DRAWS)).unwrap();
        let until = draws(EXPIRING).into_iter().map(|draw| (draw == 0).then_some(1));
        let until = Column::new("until", ColumnKind::Expires, until).unwrap();
        let builder = IndexBuilder::new("bench").plans([Plan::Partitions]).column(draw).column(until);
        build(builder, &items, &path);
        Ready { items, users, index: Index::open(&path).unwrap(), _folder: folder }
    }

    /// Keeps so many of all draws.
    fn below(&self, kept: usize) -> Filter {
        self.index.filter(&number("draw").below(kept as i64)).unwrap()
    }

    fn some_ids(&self, count: usize) -> Vec<u64> {
        self.items.iter().step_by(ROWS / count).map(|item| item.0).collect()
    }
}

fn search(criterion: &mut Criterion, ready: &Ready) {
    let all = SearchOptions::new(100).now(0);
    let mut group = criterion.benchmark_group("search 1,000,000, k 100");
    let mut bench = |name: String, options: &SearchOptions| {
        let mut users = ready.users.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| ready.index.search_with(users.next().unwrap(), options).unwrap());
        });
    };
    bench("no filter".into(), &all);
    for kept in [DRAWS, 9_000, 5_000, 2_000, 500, 200, 100, 10, 1] {
        let filter = ready.below(kept);
        bench(format!("{kept} in {DRAWS}"), &all.filter(&filter));
    }
    for denied in [100, 10_000] {
        let denied = ready.some_ids(denied);
        let set = ready.index.item_set(&denied);
        bench(format!("{} denied", denied.len()), &all.deny(&denied));
        bench(format!("{} denied, prepared", denied.len()), &all.deny(&set));
    }
    bench(format!("1 in {EXPIRING} expired"), &all.now(1));
    group.finish();
}

/// The matches of a rare filter beside a rank of as many rows, and candidates of which half pass.
fn rank(criterion: &mut Criterion, ready: &Ready) {
    let (rare, half) = (ready.below(DRAWS / 100), ready.below(DRAWS / 2));
    let matching = ready.index.look_up(&ready.some_ids(ROWS / 100));
    let candidates = ready.index.look_up(&ready.some_ids(ROWS / 10));
    let mut group = criterion.benchmark_group("among 1,000,000");
    let exact = SearchOptions::new(100).recall(1.0).now(0).filter(&rare);
    let mut users = ready.users.iter().cycle();
    group.bench_function("search 1 in 100 exactly, k 100", |bencher| {
        bencher.iter(|| ready.index.search_with(users.next().unwrap(), &exact).unwrap());
    });
    let mut bench = |name, rows: &RowHandles, options: RankOptions| {
        let mut users = ready.users.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| ready.index.rank_with(users.next().unwrap(), rows, &options).unwrap());
        });
    };
    bench("rank 10,000 rows, k 100", &matching, RankOptions::new(100).now(0));
    let all = RankOptions::new(1_000).now(0);
    bench("rank 100,000 rows, k 1000", &candidates, all);
    bench("rank 100,000 rows of which half pass, k 1000", &candidates, all.filter(&half));
    group.finish();
}

fn filters(criterion: &mut Criterion) {
    let ready = Ready::new();
    search(criterion, &ready);
    rank(criterion, &ready);
}

criterion_group!(benches, filters);
criterion_main!(benches);
