//! `cargo bench`: the operations of an index on generated items of dim 64.

mod world;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use itemdex::{
    Channel, Index, IndexBuilder, Matrix, Plan, Quantization, RankOptions, RowHandles, SearchOptions,
};
use tempfile::{TempDir, tempdir};
use world::{DIM, Items, USERS, World, build};

/// An index with `i8` rows, what it was built of, and users.
struct Ready {
    world: World,
    items: Items,
    users: Vec<Vec<f32>>,
    folder: TempDir,
    index: Index,
}

impl Ready {
    fn new(rows: usize, builder: IndexBuilder) -> Ready {
        let mut world = World::new();
        let (items, users) = (world.items(rows), world.users(USERS));
        let folder = tempdir().unwrap();
        let path = folder.path().join("items.itemdex");
        build(builder.quantize(Quantization::I8), &items, &path);
        let index = Index::open(&path).unwrap();
        Ready { world, items, users, folder, index }
    }

    /// Ranking does not look at the graph, so the quickest will do.
    fn to_rank() -> Ready {
        Ready::new(400_000, IndexBuilder::new("bench").m(2).ef_construction(1))
    }
}

fn search_and_build(criterion: &mut Criterion) {
    let mut world = World::new();
    let (items, users) = (world.items(50_000), world.users(USERS));
    let folder = tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    build(IndexBuilder::new("bench"), &items, &path);

    criterion.bench_function("open", |bencher| bencher.iter(|| Index::open(black_box(&path)).unwrap()));

    let index = Index::open(&path).unwrap();
    let mut group = criterion.benchmark_group("search 50,000, k 100");
    for ef in [100, 200, 400, 800] {
        let options = SearchOptions::new(100).ef(ef);
        let mut users = users.iter().cycle();
        group.bench_function(BenchmarkId::new("ef", ef), |bencher| {
            bencher.iter(|| index.search_with(users.next().unwrap(), &options).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("build");
    group.sample_size(10).warm_up_time(Duration::from_millis(1)).throughput(Throughput::Elements(50_000));
    group.bench_function("50,000", |bencher| {
        bencher.iter(|| build(IndexBuilder::new("bench"), &items, &path))
    });
    group.finish();
}

fn rank(criterion: &mut Criterion) {
    let Ready { world, items, users, index, .. } = &mut Ready::to_rank();
    let options = RankOptions::new(1_000);
    for (name, options) in [("rank", options), ("rank exactly", options.exact())] {
        let mut group = criterion.benchmark_group(format!("{name} out of 400,000, k 1000"));
        for candidates in [1_000, 10_000, 100_000] {
            let ids: Vec<u64> = (0..candidates).map(|_| items[world.random.below(items.len())].0).collect();
            let mut users = users.iter().cycle();
            group.throughput(Throughput::Elements(candidates as u64));
            group.bench_function(BenchmarkId::new("candidates", candidates), |bencher| {
                bencher.iter(|| index.rank_with(users.next().unwrap(), &ids, &options).unwrap());
            });
        }
        group.finish();
    }
}

/// Five channels that share candidates beside a rank of what they bring, each candidate once.
fn channels(criterion: &mut Criterion) {
    let Ready { items, users, index, .. } = &Ready::to_rank();
    let lists: Vec<Vec<u64>> = (0..5)
        .map(|channel| {
            let shared = (0..4_000).map(|at| at * 100);
            let own = (0..16_000).map(|at| channel + 5 * at);
            shared.chain(own).map(|row: usize| items[row].0).collect()
        })
        .collect();
    let handles: Vec<RowHandles> = lists.iter().map(|list| index.look_up(list)).collect();
    let mut distinct = lists.concat();
    distinct.sort_unstable();
    distinct.dedup();
    let options = RankOptions::new(1_000);
    let by_ids: Vec<Channel> = lists.iter().map(Channel::new).collect();
    let by_rows: Vec<Channel> = handles.iter().map(Channel::new).collect();
    let quotas: Vec<Channel> = by_ids
        .iter()
        .zip(0..)
        .map(|(channel, number)| channel.at_least(50).at_most(150 + 100 * number))
        .collect();

    let mut group =
        criterion.benchmark_group(format!("5 channels of 20,000, {} distinct, k 1000", distinct.len()));
    let mut users = users.iter().cycle();
    for (name, options) in [("rank", options), ("rank exactly", options.exact())] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| index.rank_with(users.next().unwrap(), &distinct, &options).unwrap());
        });
    }
    for (name, channels) in
        [("channels", by_ids), ("channels of handles", by_rows), ("channels with quotas", quotas)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| index.rank_channels(users.next().unwrap(), &channels, &options).unwrap());
        });
    }
    group.finish();
}

/// Several users at once beside one at a time, on one thread and on two.
fn many(criterion: &mut Criterion) {
    let Ready { world, items, users, index, .. } =
        &mut Ready::new(400_000, IndexBuilder::new("bench").m(4).ef_construction(10));
    let ids: Vec<u64> = (0..100_000).map(|_| items[world.random.below(items.len())].0).collect();
    let matrix = Matrix::new(DIM, users.concat()).unwrap();
    let (rank, scan) = (RankOptions::new(1_000), SearchOptions::new(1_000).plan(Plan::Scan));
    let walk = SearchOptions::new(100).ef(200).plan(Plan::Graph);
    let exact = SearchOptions::new(1_000).recall(1.0).plan(Plan::Partitions);

    let mut group = criterion.benchmark_group(format!("{USERS} users"));
    group.sample_size(10).throughput(Throughput::Elements(USERS as u64));
    group.bench_function("rank 100,000, alone", |bencher| {
        bencher.iter(|| users.iter().for_each(|user| drop(index.rank_with(user, &ids, &rank).unwrap())));
    });
    for (name, lists) in [("a list each", vec![&*ids; USERS]), ("one list", vec![&*ids])] {
        for threads in [1, 2] {
            group.bench_function(format!("rank_many 100,000, {name}, {threads} threads"), |bencher| {
                bencher.iter(|| index.rank_many(&matrix, &lists, &rank, threads).unwrap());
            });
        }
    }
    for (name, options) in [("scan 400,000", scan), ("partitions, exact", exact), ("walk", walk)] {
        group.bench_function(format!("{name}, alone"), |bencher| {
            bencher.iter(|| users.iter().for_each(|user| drop(index.search_with(user, &options).unwrap())));
        });
        for threads in [1, 2] {
            group.bench_function(format!("search_many, {name}, {threads} threads"), |bencher| {
                bencher.iter(|| index.search_many(&matrix, &options, threads).unwrap());
            });
        }
    }
    group.finish();
}

/// Scans beside a plain read of the bytes that they stream over, and a walk.
fn scan(criterion: &mut Criterion) {
    let Ready { users, folder, index, .. } =
        &Ready::new(1_000_000, IndexBuilder::new("bench").m(4).ef_construction(10));
    let file = std::fs::read(folder.path().join("items.itemdex")).unwrap();
    let (mut sections, mut end) = (HashMap::new(), 4096);
    for (name, length) in index.info().sections {
        sections.insert(name, &file[end..][..length as usize]);
        end = (end + length as usize).next_multiple_of(4096);
    }
    let read = |bytes: &[u8]| {
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        words.fold(0u64, u64::wrapping_add)
    };
    let scan = SearchOptions::new(1_000).plan(Plan::Scan);
    let mut group = criterion.benchmark_group("scan 1,000,000, k 1000");
    for (kind, section, options) in [("i8", "quantized_rows", scan), ("f32", "rows", scan.recall(1.0))] {
        let bytes = sections[section];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("read {kind} rows"), |bencher| bencher.iter(|| read(black_box(bytes))));
        let mut users = users.iter().cycle();
        group.bench_function(format!("scan {kind} rows"), |bencher| {
            bencher.iter(|| index.search_with(users.next().unwrap(), &options).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("walk 1,000,000, k 1000");
    for ef in [4_000, 16_000, 64_000] {
        let options = SearchOptions::new(1_000).ef(ef).plan(Plan::Graph);
        let mut users = users.iter().cycle();
        group.bench_function(BenchmarkId::new("ef", ef), |bencher| {
            bencher.iter(|| index.search_with(users.next().unwrap(), &options).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, search_and_build, rank, channels, many, scan);
criterion_main!(benches);
