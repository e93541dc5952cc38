//! What serving costs while the catalog changes and fresh items come in, on the bundled products.
//!
//! `cargo bench --bench live` prints the latency of a search under overlays of several sizes, and the
//! throughput of two readers alone and beside upserts and swaps, in turns. `cargo bench --bench live --
//! INDEX` prints instead what memory and disk it takes to serve that index, and `-- soak MINUTES` searches,
//! ranks, changes and swaps for so long, compares the end with a model, and prints the memory at its start
//! and its end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use itemdex::dump::Dump;
use itemdex::eval::quantile;
use itemdex::live::{Catalog, Change, LiveIndex, LiveOptions, PublishOptions, SyncPolicy};
use itemdex::{IndexBuilder, Matrix};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/completejourney");
const K: usize = 100;
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(3);

fn matrix(name: &str) -> Matrix {
    Dump::open(Path::new(DATA).join(name)).and_then(Dump::into_matrix).expect("the bundled data")
}

fn main() -> itemdex::Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match &*arguments {
        [] => {}
        [soak, minutes] if soak == "soak" => {
            let minutes: f64 = minutes.parse().expect("how many minutes to soak");
            return soaked(Duration::from_secs_f64(60.0 * minutes));
        }
        [index, ..] => return sizes(Path::new(index)),
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (items, users) = (matrix("items.npy"), matrix("users_test.npy"));
    let catalog = Catalog::create(folder.path().join("catalog"))?;
    let built = folder.path().join("built.itemdex");
    IndexBuilder::new("v1").build_from((0..).zip(items.rows()), &built)?;
    catalog.publish(&built, &PublishOptions::new())?;
    let options =
        LiveOptions::new().log(folder.path().join("log")).sync(SyncPolicy::Never).fresh_limit(200_000);
    let live = options.open(catalog.folder())?;

    two_readers(&live, &catalog, &built, &items, &users);

    println!("fresh items   median search, k {K}   p99   median rank of 10,000 candidates");
    let candidates: Vec<u64> = (0..10_000).collect();
    let mut fresh = live.status().generations[0].fresh as u64;
    for size in [fresh, 10_000, 100_000] {
        upsert(&live, &items, fresh..size);
        fresh = size;
        let view = live.current();
        let mut search = time(&users, |user| drop(view.search(user, K).expect("an answer")));
        let mut rank = time(&users, |user| drop(view.rank(user, &candidates, K).expect("an answer")));
        search.sort_unstable();
        rank.sort_unstable();
        let [median, p99] = [0.5, 0.99].map(|q| quantile(&search, q));
        println!("{size:>11} {median:>18.1?} {p99:>10.1?} {:>14.1?}", quantile(&rank, 0.5));
    }
    Ok(())
}

/// Upserts items of these numbers, from eight threads, so that they share the writes of the log.
fn upsert(live: &LiveIndex, items: &Matrix, numbers: Range<u64>) {
    let version = live.current().model_version().to_owned();
    thread::scope(|scope| {
        for writer in 0..8 {
            let (version, numbers) = (&version, numbers.clone());
            scope.spawn(move || {
                for item in (numbers.start + writer..numbers.end).step_by(8) {
                    let row = items.row(item as usize % items.len());
                    live.upsert(version, 1 << 40 | item, row).expect("room");
                }
            });
        }
    });
}

/// What it takes to serve an index: pages of files and memory of its own of this process, and bytes on disk.
fn sizes(index: &Path) -> itemdex::Result<()> {
    let folder = tempfile::tempdir_in(index.parent().expect("a folder")).expect("a folder for the catalog");
    let catalog = Catalog::create(folder.path().join("catalog"))?;
    catalog.publish(index, &PublishOptions::new())?;
    let live =
        LiveOptions::new().log(folder.path().join("log")).sync(SyncPolicy::Never).open(catalog.folder())?;
    say_sizes("one generation", &catalog);
    let held = live.current();
    let rows: Vec<f32> = held.index().iter().take(10_000).flat_map(|(_, row)| row.to_vec()).collect();
    let items = Matrix::new(held.dim(), rows)?;
    upsert(&live, &items, 0..100_000);
    say_sizes("with 100,000 fresh items", &catalog);
    catalog.publish(index, &PublishOptions::new())?;
    live.refresh()?;
    say_sizes("during a swap, the old generation in use", &catalog);
    drop(held);
    live.refresh()?;
    catalog.publish(index, &PublishOptions::new())?;
    live.refresh()?;
    say_sizes("after two swaps", &catalog);
    Ok(())
}

/// The change at a position of the stream that a soak feeds: of two versions in turn, and one in eight a
/// deletion.
fn change_at(position: u64, items: &Matrix) -> Change {
    let id = 1 << 40 | position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & 0x3FFF;
    let row = items.row(position as usize % items.len());
    match position % 8 {
        0 => Change::delete(id),
        odd if odd % 2 == 1 => Change::upsert("v1", id, row),
        _ => Change::upsert("v2", id, row),
    }
}

/// What each version has of the stream up to a position: an id, and the position that gave it its embedding.
fn model_at(model: &mut [BTreeMap<u64, u64>; 2], positions: Range<u64>, items: &Matrix) {
    for position in positions {
        match change_at(position, items) {
            Change::Upsert { model_version, id, .. } => {
                model[usize::from(model_version == "v2")].insert(id, position);
            }
            change => model.iter_mut().for_each(|items| {
                items.remove(&change.id());
            }),
        }
    }
}

/// Two readers, 1,000 changes a second for two versions, a swap every 10 seconds, and what memory that takes.
fn soaked(time: Duration) -> itemdex::Result<()> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (items, users) = (matrix("items.npy"), matrix("users_test.npy"));
    let catalog = Catalog::create(folder.path().join("catalog"))?;
    let publish = |version: &str, model: &BTreeMap<u64, u64>, position: u64| {
        let fresh = model.iter().map(|(&id, &position)| (id, items.row(position as usize % items.len())));
        let rows = (0..).zip(items.rows()).chain(fresh);
        let builder = IndexBuilder::new(version).m(8).ef_construction(40).threads(1);
        let options = PublishOptions::new().log_position(position);
        catalog.publish_made(|path| builder.build_from(rows, path), &options).map(|_| ())
    };
    let mut model = [BTreeMap::new(), BTreeMap::new()];
    publish("v1", &model[0], 0)?;
    publish("v2", &model[1], 0)?;
    let options = LiveOptions::new()
        .fed_log(folder.path().join("log"))
        .sync(SyncPolicy::Every(Duration::from_millis(50)));
    let live = options.retain(8 << 20, Duration::from_secs(60)).open(catalog.folder())?;
    let stop = AtomicBool::new(false);
    let (mut told, started) = (false, Instant::now());
    let (queries, longest) = thread::scope(|scope| {
        let readers = [0, 1].map(|reader| {
            let (live, users, stop) = (&live, &users, &stop);
            scope.spawn(move || ask_until(stop, live, users, reader))
        });
        let feeder = scope.spawn(|| feed_until(&stop, &live, &items));
        let mut taken = 0;
        for (swap, version) in (1..).zip(["v1", "v2"].into_iter().cycle()) {
            if started.elapsed() >= time {
                break;
            }
            let position = live.status().log_position.unwrap_or(0);
            model_at(&mut model, taken + 1..position + 1, &items);
            taken = position;
            publish(version, &model[usize::from(version == "v2")], position).expect("a publication");
            live.refresh().expect("a swap");
            if !told && started.elapsed() > (time / 10).min(Duration::from_secs(60)) {
                say_sizes("at the start", &catalog);
                told = true;
            }
            thread::sleep((Duration::from_secs(10) * swap).saturating_sub(started.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
        let queries: u64 = readers.map(|reader| reader.join().expect("no request fails")).iter().sum();
        (queries, feeder.join().expect("no change fails"))
    });
    live.refresh()?;
    say_sizes("at the end", &catalog);
    let position = live.status().log_position.unwrap_or(0);
    let mut model = [BTreeMap::new(), BTreeMap::new()];
    model_at(&mut model, 1..position + 1, &items);
    for (version, expected) in ["v1", "v2"].into_iter().zip(&model) {
        let view = live.for_model(version)?;
        assert_eq!(view.len(), items.len() + expected.len(), "items of {version}");
        for (&id, &position) in expected {
            assert_eq!(
                view.get(id).as_deref(),
                Some(items.row(position as usize % items.len())),
                "item {id} of {version}"
            );
        }
    }
    let status = live.status();
    assert!(
        status.last_error.is_none() && status.log_error.is_none() && status.refused.is_empty(),
        "{status:?}"
    );
    println!(
        "{queries} queries and {position} changes, none failed, the longest change {longest:.1?}; as the model says"
    );
    Ok(())
}

/// Searches and ranks, of both versions; how often.
fn ask_until(stop: &AtomicBool, live: &LiveIndex, users: &Matrix, reader: usize) -> u64 {
    let candidates: Vec<u64> = (0..5_000).chain((0..1_000).map(|id| 1 << 40 | id)).collect();
    let mut queries = 0;
    for user in (0..users.len()).cycle().map(|user| users.row(user)) {
        let view = live.for_model(["v1", "v2"][(queries as usize / 2 + reader) % 2]).expect("a version");
        match queries % 2 {
            0 => assert_eq!(view.search(user, K).expect("an answer").len(), K),
            _ => assert_eq!(view.rank(user, &candidates, K).expect("an answer").hits.len(), K),
        }
        queries += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    queries
}

/// Feeds 1,000 changes a second; how long the longest call took.
fn feed_until(stop: &AtomicBool, live: &LiveIndex, items: &Matrix) -> Duration {
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    for batch in 0u32.. {
        let first = u64::from(batch) * 10 + 1;
        let changes: Vec<_> =
            (first..first + 10).map(|position| (position, change_at(position, items))).collect();
        let called = Instant::now();
        live.apply(&changes).expect("room");
        longest = longest.max(called.elapsed());
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep((Duration::from_millis(10) * batch).saturating_sub(started.elapsed()));
    }
    longest
}

fn say_sizes(when: &str, catalog: &Catalog) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kibibytes.unwrap_or(0) * 1024 / 1_000_000
    };
    let files = std::fs::read_dir(catalog.folder()).expect("the catalog");
    let disk: u64 =
        files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |data| data.len())).sum();
    println!(
        "{when}: {} MB of mapped files, {} MB of its own; {} MB of catalog on disk",
        megabytes("RssFile"),
        megabytes("RssAnon"),
        disk / 1_000_000
    );
}

fn time(users: &Matrix, mut ask: impl FnMut(&[f32])) -> Vec<Duration> {
    let timed = |user| {
        let started = Instant::now();
        ask(user);
        started.elapsed()
    };
    users.rows().map(timed).collect()
}

/// Turns with and without 1,000 upserts a second and a swap a second, and the median of their ratios.
fn two_readers(live: &LiveIndex, catalog: &Catalog, built: &Path, items: &Matrix, users: &Matrix) {
    let mut ratios = Vec::new();
    for turn in 0..TURNS {
        let alone = turn_of(live, users, |_| ());
        let beside = turn_of(live, users, |stop| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let started = Instant::now();
                    for step in 0u32.. {
                        let row = items.row(step as usize % items.len());
                        live.upsert("v1", 1 << 40 | u64::from(step % 1_000), row).expect("room");
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        thread::sleep((Duration::from_millis(1) * step).saturating_sub(started.elapsed()));
                    }
                });
                while !stop.load(Ordering::Relaxed) {
                    let position = live.status().log_position.unwrap_or(0);
                    catalog
                        .publish(built, &PublishOptions::new().log_position(position))
                        .expect("a publication");
                    live.refresh().expect("a swap");
                    thread::sleep(Duration::from_millis(900));
                }
            });
        });
        println!(
            "turn {turn}: alone {:.0} qps, p99 {:.2?}; beside {:.0} qps, p99 {:.2?}",
            alone.0, alone.1, beside.0, beside.1
        );
        ratios.push((beside.0 / alone.0, beside.1.as_secs_f64() / alone.1.as_secs_f64()));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (qps, p99) =
        (ratios.iter().map(|ratio| ratio.0).collect(), ratios.iter().map(|ratio| ratio.1).collect());
    println!("median ratios: throughput {:.3}, p99 {:.2}", median(qps), median(p99));
}

/// Queries a second of two readers, and their p99, while `beside` runs until it is told to stop.
fn turn_of(live: &LiveIndex, users: &Matrix, beside: impl FnOnce(&AtomicBool) + Send) -> (f64, Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = || {
            let mut times = Vec::new();
            for user in (0..users.len()).cycle().map(|user| users.row(user)) {
                let started = Instant::now();
                std::hint::black_box(live.current().search(user, K).expect("no request fails"));
                times.push(started.elapsed());
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            times
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        let stopped = &stop;
        scope.spawn(move || beside(stopped));
        thread::sleep(TURN);
        stop.store(true, Ordering::Relaxed);
        let mut times = readers.map(|reader| reader.join().expect("a reader does not panic")).concat();
        times.sort_unstable();
        (times.len() as f64 / TURN.as_secs_f64(), quantile(&times, 0.99))
    })
}
