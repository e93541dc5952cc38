//! A catalog in service: new generations, model versions and fresh items, seen by requests.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use itemdex::live::{
    Catalog, Change, Generation, LiveIndex, LiveOptions, PublishOptions, Retention, SyncPolicy, View,
};
use itemdex::{
    Channel, ChannelHit, Column, ColumnKind, Error, Hit, IndexBuilder, Matrix, OpenOptions, Quantization,
    RankOptions, SearchOptions, Value, Values,
};
use proptest::prelude::*;

const DIM: usize = 6;

impl Place {
    fn publish(&self, model_version: &str, items: &Items, options: PublishOptions) -> Generation {
        let builder = IndexBuilder::new(model_version).m(4).ef_construction(30).threads(1);
        let build = |path: &Path| builder.build_from(items.iter().map(|(id, row)| (*id, row)), path);
        self.catalog.publish_made(build, &options).unwrap().0
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("fresh.log")
    }

    /// Follows the catalog only when told to, so that a test says when, and keeps in the log what is needed
    /// only.
    fn options(&self) -> LiveOptions {
        LiveOptions::new().poll(Duration::from_secs(3600)).log(self.log()).retain(0, Duration::ZERO)
    }

    fn open(&self) -> LiveIndex {
        self.options().open(self.catalog.folder()).unwrap()
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn number(live: &LiveIndex) -> u64 {
    live.current().generation().number
}

/// Row handles of the generation and merged channels see the same items as ids do.
fn assert_channels_serve(view: &View, user: &[f32], ids: &[u64], k: usize) {
    let of_generation = view.index().ids();
    let handles = view.index().look_up(of_generation);
    let by_ids = view.rank(user, of_generation, k).unwrap();
    assert_eq!(view.rank(user, &handles, k).unwrap(), by_ids);

    let channels = [Channel::new(&handles), Channel::new(ids), Channel::new(&ids[..2])];
    let merged = view.rank_channels(user, &channels, &RankOptions::new(k)).unwrap();
    let all: Vec<u64> = of_generation.iter().chain(ids).copied().collect();
    let expected = view.rank(user, &all, k).unwrap();
    let hit = |hit: &ChannelHit| Hit { id: hit.id, score: hit.score };
    assert_eq!(merged.hits.iter().map(hit).collect::<Vec<_>>(), expected.hits);
    assert_eq!(merged.unknown, expected.unknown);
    for hit in &merged.hits {
        let brought = [of_generation, ids, &ids[..2]].map(|list| list.contains(&hit.id));
        assert_eq!([0, 1, 2].map(|channel| hit.channels >> channel & 1 == 1), brought);
    }

    let quotas = [channels[0].at_most(1), channels[1], channels[2].at_least(1)];
    let chosen = view.rank_channels(user, &quotas, &RankOptions::new(k)).unwrap().hits;
    let count = |channel: u32| chosen.iter().filter(|hit| hit.channels >> channel & 1 == 1).count();
    assert!(count(0) <= 1);
    let present = ids[..2].iter().filter(|&&id| view.contains(id));
    let free = present.filter(|id| !of_generation.contains(id)).count();
    assert!(count(2) >= free.min(1));
}

/// Several users get what each of them gets, and places are as good as ids.
fn assert_many_serve(view: &View, ids: &[u64]) {
    let users = Matrix::new(DIM, users(5, DIM, 6).concat()).unwrap();
    let (half, rest) = ids.split_at(ids.len() / 2);
    let lists = [ids, half, rest, &ids[..1], &[]];
    for k in [3, ids.len()] {
        for options in [SearchOptions::new(k).recall(1.0), SearchOptions::new(k).ef(7)] {
            let found = view.search_many(&users, &options, 3).unwrap();
            let ranked = view.rank_many(&users, &lists, &RankOptions::new(k), 2).unwrap();
            let shared = view.rank_many(&users, &[ids], &RankOptions::new(k).exact(), 2).unwrap();
            for (number, user) in users.rows().enumerate() {
                assert_eq!(found[number], view.search_with(user, &options).unwrap());
                assert_eq!(ranked[number], view.rank(user, lists[number], k).unwrap());
                assert_eq!(shared[number], view.rank_with(user, ids, &RankOptions::new(k)).unwrap());
                let rows = view.search_rows(user, &options).unwrap();
                assert_eq!(view.rank(user, &rows, k).unwrap().hits, found[number].hits);
            }
        }
    }
    let known = view.look_up(ids);
    assert_eq!(known.rows().len() + known.fresh().len(), view.len());
    assert!(view.rank_many(&users, &lists[..2], &RankOptions::new(1), 1).is_err());
}

/// Every answer of a view is that of an index over `items`.
fn assert_serves(view: &View, items: &Items, absent: &[u64]) {
    assert_eq!(view.len(), items.len());
    let ids: Vec<u64> = items.iter().map(|item| item.0).chain(absent.iter().copied()).collect();
    for user in users(3, DIM, 5) {
        for k in [1, 10, items.len(), items.len() + 5] {
            let hits = view.search_with(&user, &SearchOptions::new(k).recall(1.0)).unwrap().hits;
            assert_best(&hits, items, &user, k);
            let twice: Vec<u64> = ids.iter().chain(&ids[..ids.len() / 2]).copied().collect();
            let ranked = view.rank(&user, &twice, k).unwrap();
            assert_best(&ranked.hits, items, &user, k);
            let mut unknown = absent.to_vec();
            unknown.sort_unstable();
            assert_eq!(ranked.unknown, unknown);
            assert_channels_serve(view, &user, &ids, k);
        }
        let mut scores = vec![0.0; ids.len()];
        assert_eq!(view.score(&user, &ids, &mut scores).unwrap(), absent.len());
        for ((_, row), score) in items.iter().zip(&scores) {
            assert!((f64::from(*score) - inner_product(&user, row)).abs() <= rounding(&user, row));
        }
        assert!(scores[items.len()..].iter().all(|score| score.is_nan()));
    }
    assert_many_serve(view, &ids);
    let mut all: Items = view.iter().map(|(id, row)| (id, row.to_vec())).collect();
    all.sort_by_key(|item| item.0);
    let mut expected = items.clone();
    expected.sort_by_key(|item| item.0);
    assert_eq!(all, expected);
    for (id, row) in items {
        assert_eq!(view.get(*id).as_deref(), Some(&row[..]));
    }
    assert!(absent.iter().all(|&id| !view.contains(id)));
}

#[test]
fn a_new_generation_is_followed_without_being_asked() {
    let place = Place::new();
    assert!(matches!(LiveIndex::open(place.catalog.folder()), Err(Error::NoGeneration { .. })));
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = LiveIndex::open(place.catalog.folder()).unwrap();
    let kept = live.current();
    place.publish("v1", &items(60, DIM, 2), PublishOptions::new().keep(1));
    wait_until("the new generation serves", || number(&live) == 2);
    assert_eq!((kept.len(), live.current().len()), (50, 60));
    assert_serves(&kept, &items(50, DIM, 1), &[]);
    assert_eq!(live.status().generations.len(), 1);
    place.publish("v1", &items(70, DIM, 3), PublishOptions::new().keep(2));
    wait_until("the third serves", || number(&live) == 3);
    place.catalog.rollback(None).unwrap();
    wait_until("a rollback is followed", || number(&live) == 2);
}

#[test]
fn a_folder_that_gives_no_notice_is_followed_by_looking() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let options = LiveOptions::new().poll(Duration::from_millis(10));
    let live = options.open(place.catalog.folder()).unwrap();
    // Notices are of the folder that was there when it was opened.
    let (away, replaced) = (place.folder.path().join("away"), place.catalog.folder());
    fs::rename(replaced, &away).unwrap();
    fs::create_dir(replaced).unwrap();
    for entry in fs::read_dir(&away).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, replaced.join(path.file_name().unwrap())).unwrap();
    }
    place.publish("v1", &items(60, DIM, 2), PublishOptions::new());
    wait_until("the new generation serves", || number(&live) == 2);
}

#[test]
fn a_reader_follows_publishers_of_other_processes() {
    let place = Place::new();
    let rows = |seed: u64| items(200 + seed as usize, DIM, seed);
    let given = [1, 2].map(|seed| {
        let path = place.folder.path().join(format!("{seed}.itemdex"));
        let builder = IndexBuilder::new("v1").m(4).ef_construction(30);
        builder.build_from(rows(seed).iter().map(|(id, row)| (*id, row)), &path).unwrap();
        path
    });
    place.publish("v1", &rows(1), PublishOptions::new());
    let live = LiveIndex::open(place.catalog.folder()).unwrap();
    for _ in 0..5 {
        let publish = |path: &PathBuf| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "child_that_publishes_once", "--ignored"]);
            command.env("ITEMDEX_TEST_FOLDER", place.folder.path()).env("ITEMDEX_TEST_INDEX", path);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut running: Vec<_> = given.iter().map(publish).collect();
        let mut last = 0;
        while running.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            let view = live.current();
            assert!(view.generation().number >= last);
            last = view.generation().number;
            assert_serves(&view, &rows(view.generation().rows - 200), &[]);
        }
        let done = running.into_iter().filter_map(|mut child| child.wait().unwrap().code()).min();
        assert_eq!(done, Some(0), "one of the two gets through");
        live.refresh().unwrap();
        assert_eq!(live.current().generation(), &place.catalog.current().unwrap().unwrap());
    }
}

/// What a child process of that test does: publishes once, and fails where another was first. Not a test by itself.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child_that_publishes_once() {
    let Ok(index) = std::env::var("ITEMDEX_TEST_INDEX") else { return };
    let folder = PathBuf::from(std::env::var("ITEMDEX_TEST_FOLDER").unwrap());
    Catalog::open(folder.join("catalog")).unwrap().publish(index, &PublishOptions::new()).unwrap();
}

#[test]
fn an_old_generation_is_unmapped_after_its_last_reader() {
    let place = Place::new();
    let first = place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = LiveIndex::open(place.catalog.folder()).unwrap();
    let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains(&first.file);
    let reader = live.current();
    place.publish("v1", &items(60, DIM, 2), PublishOptions::new());
    wait_until("the new generation serves", || number(&live) == 2);
    assert!(mapped(), "a reader has it");
    drop(reader);
    wait_until("it is unmapped", || !mapped());
}

/// Most of what a search would find is hidden: it looks among the rest, and finds all of that.
#[test]
fn items_deleted_and_replaced_hide_no_others() {
    let place = Place::new();
    let items = items(12_000, DIM, 21);
    place.publish("v1", &items, PublishOptions::new());
    let live = place.open();
    let user = &users(1, DIM, 21)[0];
    let best: Vec<u64> = brute_force(&items, user).iter().map(|item| item.0).collect();
    let changes: Vec<Change> = best[..4_000].iter().map(|&id| Change::delete(id)).collect();
    live.write(&changes).unwrap();
    let view = live.current();
    for recall in [0.95, 1.0] {
        for k in [1, 50, 3_000, 12_000] {
            let hits = view.search_with(user, &SearchOptions::new(k).recall(recall)).unwrap().hits;
            assert_eq!(hits.len(), k.min(8_000));
            let left: HashSet<u64> = best[4_000..][..hits.len()].iter().copied().collect();
            let good = hits.iter().filter(|hit| left.contains(&hit.id)).count();
            assert!(good as f32 >= (recall - 0.1) * hits.len() as f32, "{good} of {k}");
        }
    }
}

#[test]
fn two_model_versions_serve_at_once() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    place.publish("v2", &items(60, DIM + 1, 2), PublishOptions::new());
    place.publish("v1", &items(55, DIM, 3), PublishOptions::new());
    place.publish("v2", &items(65, DIM + 1, 4), PublishOptions::new());
    live.refresh().unwrap();
    assert!(!live.refresh().unwrap());
    assert_eq!(live.model_versions(), ["v2", "v1"]);
    assert_eq!(live.for_model("v1").unwrap().len(), 55);
    assert_eq!(live.for_model("v2").unwrap().generation().number, 4);
    let error = live.for_model("v3").err().unwrap();
    assert_eq!(error.to_string(), "no generation of model version \"v3\" serves; there is [\"v2\", \"v1\"]");
    assert!(matches!(error, Error::UnknownModel { .. }));
    place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap();
    live.refresh().unwrap();
    assert_eq!(live.model_versions(), ["v2"]);
}

/// Overwrites a generation's file in the catalog, as no publisher does.
fn spoil(place: &Place, generation: &Generation, spoil: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = place.catalog.path_of(generation);
    let bytes = spoil(fs::read(&path).unwrap());
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, &path).unwrap();
}

/// Publishes and spoils a generation where followers do not see it, so that they meet it spoiled.
fn publish_spoiled(
    place: &Place,
    model_version: &str,
    items: &Items,
    options: PublishOptions,
    spoiler: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Generation {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("catalog");
    fs::rename(place.catalog.folder(), &away).unwrap();
    let elsewhere = Place { folder, catalog: Catalog::open(&away).unwrap() };
    let new = elsewhere.publish(model_version, items, options);
    spoil(&elsewhere, &new, spoiler);
    fs::rename(&away, place.catalog.folder()).unwrap();
    new
}

#[test]
fn a_bad_generation_is_refused_and_the_old_one_serves() {
    let place = Place::new();
    let old = items(50, DIM, 1);
    place.publish("v1", &old, PublishOptions::new());
    let live = place.open();
    let other = fs::read(place.catalog.path_of(&place.catalog.current().unwrap().unwrap())).unwrap();
    type Spoiler = Box<dyn FnOnce(Vec<u8>) -> Vec<u8>>;
    let spoilers: [(&str, Spoiler); 4] = [
        (
            "does not match its checksum",
            Box::new(|mut bytes| {
                bytes[6_000] ^= 4;
                bytes
            }),
        ),
        ("its header says", Box::new(|bytes| bytes[..bytes.len() - 4096].to_vec())),
        ("not the file that was published", Box::new(move |_| other)),
        ("the file is empty", Box::new(|_| Vec::new())),
    ];
    for (seed, (reason, spoiler)) in (2..).zip(spoilers) {
        let new =
            publish_spoiled(&place, "v1", &items(60, DIM, seed), PublishOptions::new().keep(9), spoiler);
        // The error, unless a notice of the change had it found before.
        let _ = live.refresh();
        assert_eq!(number(&live), 1);
        let status = live.status();
        let (refused, why) = status.refused.last().unwrap();
        assert!(*refused == new.number && why.contains(reason), "{refused}: {why}");
        assert!(status.last_error.is_some());
        assert_serves(&live.current(), &old, &[]);
    }
    let good = place.publish("v1", &items(70, DIM, 9), PublishOptions::new());
    live.refresh().unwrap();
    assert_eq!(number(&live), good.number);
    // Those that are refused are listed as long as the catalog lists them.
    assert!(live.status().refused.len() <= 1);
}

#[test]
fn what_serves_of_a_version_goes_on_where_all_that_is_listed_of_it_is_bad() {
    let place = Place::new();
    let [other, old] = [1, 2].map(|seed| items(50, DIM, seed));
    place.publish("v0", &other, PublishOptions::new());
    place.publish("v1", &old, PublishOptions::new());
    let live = place.open();
    let keep_one = PublishOptions::new().keep(1);
    publish_spoiled(&place, "v1", &items(60, DIM, 3), keep_one, |bytes| bytes[..5_000].to_vec());
    let _ = live.refresh();
    assert_eq!(place.catalog.generations().unwrap().iter().map(|one| one.number).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(live.model_versions(), ["v1", "v0"]);
    assert_serves(&live.current(), &old, &[]);
    assert_serves(&live.for_model("v0").unwrap(), &other, &[]);
    // Not what is withdrawn: the rollback is to the bad one.
    let good = place.publish("v1", &items(70, DIM, 4), PublishOptions::new().keep(2));
    live.refresh().unwrap();
    assert_eq!(number(&live), good.number);
    assert_eq!(place.catalog.rollback(None).unwrap().number, 3);
    assert!(matches!(live.refresh(), Err(Error::Refused { generation: 3, .. })));
    assert_eq!(live.model_versions(), ["v0"]);
    place.publish("v1", &old, keep_one);
    live.refresh().unwrap();
    assert_eq!(live.model_versions(), ["v1", "v0"]);
}

#[test]
fn a_file_that_is_replaced_while_it_serves_changes_nothing() {
    let place = Place::new();
    let old = items(50, DIM, 1);
    let first = place.publish("v1", &old, PublishOptions::new());
    let live = place.open();
    spoil(&place, &first, |_| b"not an index".to_vec());
    assert!(!live.refresh().unwrap());
    assert_serves(&live.current(), &old, &[]);
}

#[test]
fn a_restart_falls_back_to_a_generation_that_is_good() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let bad = place.publish("v1", &items(60, DIM, 2), PublishOptions::new());
    spoil(&place, &bad, |bytes| bytes[..5_000].to_vec());
    // Opened, it says what is wrong; it does not keep the process from serving.
    let live = place.open();
    assert_eq!(number(&live), 1);
    assert_eq!(live.status().refused.len(), 1);
}

#[test]
fn fresh_items_and_deletions_are_seen_by_the_next_request() {
    let place = Place::new();
    let mut all: BTreeMap<u64, Vec<f32>> = items(300, DIM, 1).into_iter().collect();
    place.publish("v1", &all.clone().into_iter().collect(), PublishOptions::new());
    let live = place.open();
    let before = live.current();
    let mut random = Random(3);
    let ids: Vec<u64> = all.keys().copied().collect();
    let mut gone = Vec::new();
    for step in 0..200u64 {
        let old = ids[random.below(ids.len())];
        match step % 4 {
            0 => drop(all.insert(1 << 40 | step, random.embedding(DIM))),
            1 => drop(all.insert(old, random.embedding(DIM))),
            2 => drop(all.remove(&old)),
            _ => drop(all.remove(&(1 << 40 | (step / 2 * 2)))),
        }
        let id = match step % 4 {
            0 => 1 << 40 | step,
            3 => 1 << 40 | (step / 2 * 2),
            _ => old,
        };
        gone.retain(|&other| other != id);
        let position = match all.get(&id) {
            Some(embedding) => live.upsert("v1", id, embedding).unwrap(),
            None => {
                gone.push(id);
                live.delete(id).unwrap()
            }
        };
        assert_eq!(position, step + 1);
        assert_eq!(live.current().get(id).as_deref(), all.get(&id).map(|row| &row[..]));
    }
    assert_serves(&live.current(), &all.clone().into_iter().collect(), &gone);
    assert_eq!(before.len(), 300, "a view stays what it was");
    drop(live);
    let reopened = place.open();
    assert_serves(&reopened.current(), &all.into_iter().collect(), &gone);
    assert_eq!(reopened.status().log_position, Some(200));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn generation_and_overlay_answer_as_one(
        changes in prop::collection::vec((0u64..60, any::<bool>()), 0..150),
        rows in 1usize..50,
        seed in any::<u64>(),
    ) {
        let place = Place::new();
        let mut all: BTreeMap<u64, Vec<f32>> = (0..).zip(items(rows, DIM, seed)).map(|(id, item)| (id, item.1)).collect();
        place.publish("v1", &all.clone().into_iter().collect(), PublishOptions::new());
        let live = place.options().sync(SyncPolicy::Never).open(place.catalog.folder()).unwrap();
        let mut random = Random(seed);
        for &(id, delete) in &changes {
            if delete {
                all.remove(&id);
                live.delete(id).unwrap();
            } else {
                let embedding = random.embedding(DIM);
                live.upsert("v1", id, &embedding).unwrap();
                all.insert(id, embedding);
            }
        }
        let absent: Vec<u64> = (0..61).filter(|id| !all.contains_key(id)).collect();
        let view = live.current();
        if all.is_empty() {
            prop_assert!(view.is_empty() && view.search(&[1.0; DIM], 5).unwrap().is_empty());
        } else {
            assert_serves(&view, &all.into_iter().collect(), &absent);
        }
    }
}

#[test]
fn a_generation_drops_what_its_dump_has_and_keeps_what_came_later() {
    let place = Place::new();
    let mut all = items(50, DIM, 1);
    place.publish("v1", &all, PublishOptions::new());
    let live = place.open();
    let fresh: Items = (0..20).map(|id| (1 << 40 | id, Random(id + 9).embedding(DIM))).collect();
    for (id, row) in &fresh[..10] {
        live.upsert("v1", *id, row).unwrap();
    }
    let gone = all.remove(0).0;
    let position = live.delete(gone).unwrap();
    // A dump is taken here; meanwhile more comes.
    all.extend_from_slice(&fresh[..10]);
    let dump = all.clone();
    for (id, row) in &fresh[10..] {
        live.upsert("v1", *id, row).unwrap();
    }
    all.extend_from_slice(&fresh[10..]);
    let gone_later = all.remove(3).0;
    live.delete(gone_later).unwrap();

    place.publish("v1", &dump, PublishOptions::new().log_position(position));
    live.refresh().unwrap();
    assert_eq!(live.status().generations[0].fresh, 11);
    assert_serves(&live.current(), &all, &[gone, gone_later]);
    // What an earlier generation of the catalog needs stays in the log: a rollback loses nothing.
    place.catalog.rollback(Some(1)).unwrap();
    live.refresh().unwrap();
    let mut expected = all.clone();
    expected.sort_unstable_by_key(|item| item.0);
    assert_serves(&live.current(), &expected, &[gone, gone_later]);
    place.catalog.rollback(Some(2)).unwrap();
    let before = fs::metadata(place.log()).unwrap().len();
    place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap();
    live.refresh().unwrap();
    assert!(fs::metadata(place.log()).unwrap().len() < before, "nobody needs the older entries now");
    drop(live);
    let live = place.open();
    assert_serves(&live.current(), &all, &[gone, gone_later]);
    assert_eq!(live.status().log_position, Some(22), "positions go on");
}

#[test]
fn items_of_a_model_version_to_come_wait_for_its_first_generation() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    live.upsert("v2", 7, &[1.0; 4]).unwrap();
    live.upsert("v2", 8, &[2.0; 4]).unwrap();
    live.delete(8).unwrap();
    assert_eq!(live.status().waiting, 2);
    assert!(!live.current().contains(7), "an embedding of another version is noise here");
    place.publish("v2", &items(30, 4, 2), PublishOptions::new());
    live.refresh().unwrap();
    let view = live.for_model("v2").unwrap();
    assert_eq!((view.get(7).as_deref(), view.contains(8)), (Some(&[1.0; 4][..]), false));
    assert_eq!((live.status().waiting, live.for_model("v1").unwrap().contains(7)), (0, false));
}

#[test]
fn embeddings_that_cannot_be_indexed_and_a_full_overlay_are_errors() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.options().fresh_limit(3).open(place.catalog.folder()).unwrap();
    let message = |row: &[f32]| live.upsert("v1", 1, row).unwrap_err().to_string();
    assert_eq!(message(&[1.0; 3]), "embedding: it has 3 values, model version v1 has dim 6");
    assert!(message(&[f32::NAN; DIM]).contains("value 0 is NaN"));
    assert!(live.upsert("", 1, &[1.0; DIM]).is_err());
    for id in 0..3 {
        live.upsert("v1", id << 40 | 5, &[1.0; DIM]).unwrap();
    }
    assert!(matches!(live.upsert("v1", 9 << 40, &[1.0; DIM]), Err(Error::OverlayFull { limit: 3, .. })));
    // A deletion is always possible; one of what is not there takes no place.
    live.delete(9 << 40).unwrap();
    let position = live.status().log_position.unwrap();
    assert_eq!(position, 4);
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new().log_position(position).keep(1));
    live.refresh().unwrap();
    live.upsert("v1", 9 << 40, &[1.0; DIM]).unwrap();
    let without_log = LiveIndex::open(place.catalog.folder()).unwrap();
    assert!(without_log.delete(1).unwrap_err().to_string().starts_with("log: "));
    let second = place.options().open(place.catalog.folder()).err().unwrap().to_string();
    assert!(second.contains("another LiveIndex writes this log"), "{second}");
}

#[test]
fn a_torn_end_of_the_log_is_cut_and_damage_is_an_error() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    let mut ends = Vec::new();
    for id in 0..5 {
        live.upsert("v1", 1 << 40 | id, &[id as f32; DIM]).unwrap();
        ends.push(fs::metadata(place.log()).unwrap().len() as usize);
    }
    drop(live);
    let whole = fs::read(place.log()).unwrap();
    for cut in (ends[3]..whole.len()).step_by(5) {
        for rubbish in [0, 40] {
            fs::write(place.log(), [&whole[..cut], &vec![0xA5; rubbish]].concat()).unwrap();
            let live = place.open();
            let held: Vec<bool> = (0..5).map(|id| live.current().contains(1 << 40 | id)).collect();
            assert_eq!(held, [true, true, true, true, false]);
            assert_eq!(live.upsert("v1", 1 << 40 | 9, &[1.0; DIM]).unwrap(), 5);
            drop(live);
            assert!(place.open().current().contains(1 << 40 | 9));
        }
    }
    for at in [3, 20, 35, 60, ends[0] + 10, ends[2] + 3] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(place.log(), bytes).unwrap();
        let opened = place.options().open(place.catalog.folder());
        assert!(matches!(opened, Err(Error::Damaged { .. })), "byte {at}");
    }
}

/// What a child process of a test does: upserts ids from 0 up and says which were acknowledged. Not a test by
/// itself.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child_that_upserts() {
    let Ok(folder) = std::env::var("ITEMDEX_TEST_FOLDER") else { return };
    let folder = PathBuf::from(folder);
    let sync = match std::env::var("ITEMDEX_TEST_SYNC").as_deref() {
        Ok("every") => SyncPolicy::Every(Duration::from_millis(1)),
        Ok("never") => SyncPolicy::Never,
        _ => SyncPolicy::Always,
    };
    let options = LiveOptions::new().log(folder.join("fresh.log")).sync(sync);
    let live = options.open(folder.join("catalog")).unwrap();
    let first = live.status().log_position.unwrap();
    thread::scope(|scope| {
        for writer in 0..3 {
            let live = &live;
            scope.spawn(move || {
                for step in 0.. {
                    let id = 1 << 40 | first << 20 | writer << 16 | step;
                    match live.upsert("v1", id, &[id as f32; DIM]) {
                        Ok(_) => println!("\nacknowledged {id}"),
                        Err(error) => println!("\nrefused {error}"),
                    }
                }
            });
        }
    });
}

fn child(place: &Place, limit: &str, sync: &str) -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; {limit} exec \"$@\""), "sh"]).arg(program);
    command.args(["--exact", "child_that_upserts", "--ignored", "--nocapture"]);
    command.env("ITEMDEX_TEST_FOLDER", place.folder.path()).env("ITEMDEX_TEST_SYNC", sync);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ").and_then(|id| id.parse().ok())
}

/// Kills upserting processes; what they said was acknowledged must be there.
fn kill_upserters(times: usize) {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let mut random = Random(11);
    let mut ids: Vec<u64> = Vec::new();
    for round in 0..times {
        // A killed process loses nothing whatever the policy: what it wrote is with the operating system.
        let mut child = child(&place, "", ["always", "every", "never"][round % 3]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At some moment after so many acknowledgements, with others on their way.
        for _ in 0..random.below(60) {
            let id = lines.find_map(|line| acknowledged(&line.unwrap()));
            ids.push(id.expect("the child runs until it is killed"));
        }
        thread::sleep(Duration::from_micros(random.below(2_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        ids.extend(lines.map_while(Result::ok).filter_map(|line| acknowledged(&line)));
        let live = place.open();
        let view = live.current();
        for &id in &ids {
            assert_eq!(view.get(id).as_deref(), Some(&[id as f32; DIM][..]), "{id} was acknowledged");
        }
        assert!(view.len() >= 50 + ids.len());
    }
    assert!(ids.len() > times, "{} upserts", ids.len());
}

#[test]
fn a_killed_upserter_loses_nothing_that_was_acknowledged() {
    kill_upserters(10);
}

#[test]
#[ignore = "long: cargo test --test live 200_times -- --ignored"]
fn an_upserter_killed_200_times_loses_nothing_that_was_acknowledged() {
    kill_upserters(200);
}

#[test]
fn a_log_on_a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    // Files may not grow beyond 8 KB: writing more fails as on a full disk, with EFBIG for ENOSPC.
    let mut child = child(&place, "ulimit -S -f 16;", "always");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ids = Vec::new();
    let mut refused = 0;
    while refused < 20 {
        let line = lines.next().unwrap().unwrap();
        ids.extend(acknowledged(&line));
        if line.starts_with("refused") {
            assert!(line.contains("cannot write") && line.contains("fresh.log"), "{line}");
            refused += 1;
        }
    }
    let room = format!("--pid={}", child.id());
    run(Command::new("prlimit").args([&room, "--fsize=unlimited:"]), 0);
    // The same process goes on, from the last whole change.
    ids.extend((&mut lines).filter_map(|line| acknowledged(&line.unwrap())).take(20));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ids.len() > 20);
    let live = place.open();
    assert!(ids.iter().all(|&id| live.current().contains(id)));
    live.upsert("v1", 1, &[1.0; DIM]).unwrap();
    assert!(live.current().contains(1));
}

#[test]
fn requests_during_swaps_and_upserts_see_one_state_each() {
    let place = Place::new();
    let generation = |seed: u64| -> Items { (0..400).map(|id| (id, vec![seed as f32; DIM])).collect() };
    place.publish("v1", &generation(1), PublishOptions::new());
    let live = place.options().sync(SyncPolicy::Never).open(place.catalog.folder()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = (0, 0.0);
                while !done.load(Ordering::Relaxed) {
                    let view = live.current();
                    let seed = view.get(0).unwrap()[0];
                    // Of one generation throughout, and the pair that is upserted in order never the wrong
                    // way round.
                    let hits = view.rank(&[1.0; DIM], &(0..400).collect::<Vec<_>>(), 400).unwrap().hits;
                    assert!(hits.len() == 400 && hits.iter().all(|hit| hit.score == seed * DIM as f32));
                    let [a, b] = [1_000, 1_001].map(|id| view.get(id).map_or(0.0, |row| row[0]));
                    assert!(a == b || a == b + 1.0 || (a, b) == (1_000.0, 0.0), "{a} {b}");
                    let found = view.search(&[1.0; DIM], 3).unwrap();
                    assert!(a == 0.0 || found[0].score == a * DIM as f32);
                    let seen = (view.generation().number, a);
                    assert!(seen.0 >= last.0 && seen.1 >= last.1, "{last:?}, then {seen:?}");
                    last = seen;
                }
            });
        }
        scope.spawn(|| {
            for value in 1_000..1_600 {
                for id in [1_000, 1_001] {
                    live.upsert("v1", id, &[value as f32; DIM]).unwrap();
                }
            }
        });
        for seed in 2..10 {
            place.publish("v1", &generation(seed), PublishOptions::new());
            live.refresh().unwrap();
        }
        wait_until("everything is upserted", || live.status().log_position == Some(1_200));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(live.current().get(1_001).as_deref(), Some(&[1_599.0; DIM][..]));
    assert_eq!(number(&live), 9);
}

#[test]
fn sampled_searches_give_the_recall_in_service() {
    let place = Place::new();
    let rows = items(4_000, 16, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.options().sample_recall(1.0).open(place.catalog.folder()).unwrap();
    let users = users(50, 16, 1);
    let recall = || live.status().generations[0].recall;
    assert_eq!(recall(), None);
    wait_until("searches are compared", || {
        for user in &users {
            live.current().search_with(user, &SearchOptions::new(20).ef(5)).unwrap();
        }
        recall().is_some_and(|(_, samples)| samples >= 20)
    });
    let (mean, _) = recall().unwrap();
    assert!(mean > 0.1 && mean < 0.999, "a beam of 5 finds some: {mean}");
    assert!(live.status().generations[0].queries >= 50);
}

#[test]
fn a_catalog_that_may_not_be_read_leaves_what_serves() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    let away = place.folder.path().join("away");
    fs::rename(place.catalog.folder(), &away).unwrap();
    assert!(matches!(live.refresh(), Err(Error::Io { .. })));
    assert_eq!(live.current().len(), 50);
    assert!(live.status().last_error.unwrap().contains("cannot open"));
    fs::rename(&away, place.catalog.folder()).unwrap();
    place.publish("v1", &items(60, DIM, 2), PublishOptions::new());
    live.refresh().unwrap();
    assert_eq!((live.current().len(), live.status().last_error), (60, None));
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Where permissions do not bind this process, the superuser's, runs a test of this file in one that they
/// bind.
fn ran_without_privileges(test: &str) -> bool {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    allow(folder.path(), 0o777);
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--nocapture"]).env("TMPDIR", folder.path()).uid(65_534).gid(65_534);
    let output = run(&mut command, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "there is a test {test}");
    true
}

#[test]
fn a_log_that_may_not_be_written_is_an_error_and_harms_nothing() {
    if ran_without_privileges("a_log_that_may_not_be_written_is_an_error_and_harms_nothing") {
        return;
    }
    let place = Place::new();
    let old = items(50, DIM, 1);
    place.publish("v1", &old, PublishOptions::new());
    let assert_refused = || {
        let error = place.options().open(place.catalog.folder()).err().unwrap().to_string();
        assert!(error.starts_with("cannot write") && error.contains("fresh.log"), "{error}");
        assert!(error.contains("Permission denied"), "{error}");
        let without_log = LiveIndex::open(place.catalog.folder()).unwrap();
        assert_serves(&without_log.current(), &old, &[]);
    };
    allow(place.folder.path(), 0o555);
    assert_refused();
    allow(place.folder.path(), 0o755);
    assert_eq!(place.open().upsert("v1", 1 << 40, &[1.0; DIM]).unwrap(), 1);
    allow(&place.log(), 0o444);
    assert_refused();
    allow(&place.log(), 0o644);
    let live = place.open();
    assert_eq!(live.upsert("v1", 2 << 40, &[2.0; DIM]).unwrap(), 2);
    assert!(live.current().contains(1 << 40) && live.current().contains(2 << 40));
}

#[test]
fn a_log_that_may_not_be_written_anew_keeps_what_it_has() {
    if ran_without_privileges("a_log_that_may_not_be_written_anew_keeps_what_it_has") {
        return;
    }
    let place = Place::new();
    let folder = place.folder.path();
    let rows = items(50, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let mut live = place.open();
    // A folder in which no file can be made, and one that cannot be opened to sync it.
    for (round, mode) in [0o555, 0o333].into_iter().enumerate() {
        let [before, after] = [1, 2].map(|number| (round as u64) << 40 | number);
        let position = live.upsert("v1", before, &[1.0; DIM]).unwrap();
        allow(folder, mode);
        let dump = PublishOptions::new().log_position(position).keep(1);
        let new = place.publish("v1", &rows, dump);
        live.refresh().unwrap();
        live.upsert("v1", after, &[2.0; DIM]).unwrap();
        assert_eq!((number(&live), live.current().contains(after)), (new.number, true));
        allow(folder, 0o755);
        drop(live);
        live = place.open();
        assert!(live.current().contains(after), "it was acknowledged");
    }
    let length = || fs::metadata(place.log()).unwrap().len();
    let before = length();
    place.publish("v1", &rows, PublishOptions::new().log_position(4).keep(1));
    live.refresh().unwrap();
    assert!(length() < before, "the next generation has it written anew");
}

#[test]
fn a_log_that_may_not_be_read_leaves_what_serves() {
    if ran_without_privileges("a_log_that_may_not_be_read_leaves_what_serves") {
        return;
    }
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    live.upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
    allow(&place.log(), 0o000);
    place.publish("v1", &items(60, DIM, 2), PublishOptions::new());
    // What came in since the dump could not be laid over it.
    assert!(matches!(live.refresh(), Err(Error::Io { .. })));
    assert!(live.status().last_error.unwrap().starts_with("cannot read"));
    live.upsert("v1", 2 << 40, &[2.0; DIM]).unwrap();
    assert_eq!((number(&live), live.current().len()), (1, 52));
    allow(&place.log(), 0o600);
    live.refresh().unwrap();
    assert_eq!((number(&live), live.current().len()), (2, 62));
}

#[test]
fn nobody_writes_to_a_file_that_serves() {
    if ran_without_privileges("nobody_writes_to_a_file_that_serves") {
        return;
    }
    let place = Place::new();
    let rows = items(50, DIM, 1);
    let given = place.folder.path().join("given.itemdex");
    IndexBuilder::new("v1").build_from(rows.iter().map(|(id, row)| (*id, row)), &given).unwrap();
    let published = place.catalog.publish(&given, &PublishOptions::new()).unwrap();
    let live = place.open();
    let path = place.catalog.path_of(&published);
    let attempts = [
        ("open", File::options().write(true).open(&path).map(drop)),
        ("truncate", File::options().write(true).truncate(true).open(&path).map(drop)),
        ("append", File::options().append(true).open(&path).map(drop)),
        ("copy over", fs::copy(&given, &path).map(drop)),
    ];
    for (what, tried) in attempts {
        assert_eq!(tried.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}");
    }
    // The catalog's file is its own, and serves on when its name is gone.
    File::options().write(true).open(&given).unwrap().set_len(0).unwrap();
    assert_serves(&live.current(), &rows, &[]);
    fs::remove_file(&path).unwrap();
    assert_serves(&live.current(), &rows, &[]);
}

/// Asks everything of a view whose file may be altered; answers may be wrong, but come.
fn exercise(view: &View) {
    let ids: Vec<u64> = view.index().ids().iter().copied().take(50).chain([0, 1 << 40, u64::MAX]).collect();
    for user in users(2, DIM, 5) {
        let _ = view.search_with(&user, &SearchOptions::new(5).ef(10));
        let _ = view.search_with(&user, &SearchOptions::new(20).recall(1.0));
        let _ = view.rank(&user, &ids, 10);
        let _ = view.score(&user, &ids, &mut vec![0.0; ids.len()]);
    }
    for id in ids {
        let _ = view.get(id);
    }
}

/// Flips a bit of a file in place.
fn flip(file: &File, random: &mut Random) {
    let at = random.below(file.metadata().unwrap().len() as usize) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << random.below(8)], at).unwrap();
}

#[test]
fn a_file_that_is_altered_in_place_while_it_serves_does_no_harm() {
    let place = Place::new();
    let rows = items(400, DIM, 1);
    let builder = IndexBuilder::new("v1").m(4).ef_construction(30).quantize(Quantization::I8);
    let build = |path: &Path| builder.build_from(rows.iter().map(|(id, row)| (*id, row)), path);
    let (generation, _) = place.catalog.publish_made(build, &PublishOptions::new()).unwrap();
    let live = place.open();
    live.upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
    let path = place.catalog.path_of(&generation);
    let whole = fs::read(&path).unwrap();
    allow(&path, 0o644);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(4);
            while !done.load(Ordering::Relaxed) {
                for _ in 0..30 {
                    flip(&file, &mut random);
                }
                file.write_all_at(&whole, 0).unwrap();
            }
        });
        let readers = [(); 2].map(|()| scope.spawn(|| (0..300).for_each(|_| exercise(&live.current()))));
        let ended = readers.map(|reader| reader.join());
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let view = live.current();
    view.index().verify(|_| ()).unwrap();
    file.write_all_at(&[whole[6_000] ^ 4], 6_000).unwrap();
    assert!(matches!(view.index().verify(|_| ()), Err(Error::Damaged { .. })));
    assert!(!live.refresh().unwrap());
    let status = live.status();
    assert_eq!((status.last_error, status.refused.len(), status.generations[0].items), (None, 0, 401));
    drop(live);
    assert!(matches!(place.options().open(place.catalog.folder()), Err(Error::Damaged { .. })));
    let new = place.publish("v1", &rows, PublishOptions::new());
    assert_eq!(number(&place.open()), new.number);
}

#[test]
fn a_file_that_is_replaced_while_it_is_opened_is_refused_or_served_whole() {
    let place = Place::new();
    let rows = |number: u64| items(200 + number as usize, DIM, number);
    place.publish("v1", &rows(1), PublishOptions::new());
    let live = place.open();
    let done = AtomicBool::new(false);
    let replace = || {
        let (mut random, mut known, mut other) = (Random(6), (PathBuf::new(), Vec::new()), Vec::new());
        let beside = place.folder.path().join("beside");
        while !done.load(Ordering::Relaxed) {
            let path = place.catalog.path_of(&place.catalog.current().unwrap().unwrap());
            if path != known.0 {
                let Ok(bytes) = fs::read(&path) else { continue };
                other = std::mem::replace(&mut known, (path.clone(), bytes)).1;
            }
            let mut bytes = known.1.clone();
            match random.below(5) {
                0 => bytes.truncate(random.below(known.1.len())),
                1 => bytes[random.below(known.1.len())] ^= 1 << random.below(8),
                2 => bytes.clone_from(&other),
                3 => drop(fs::remove_file(&path)),
                _ => {}
            }
            fs::write(&beside, bytes).unwrap();
            fs::rename(&beside, &path).unwrap();
        }
    };
    thread::scope(|scope| {
        let replacing = scope.spawn(replace);
        let published = scope.spawn(|| {
            for number in 2..12 {
                place.publish("v1", &rows(number), PublishOptions::new());
                for _ in 0..3 {
                    let _ = live.refresh();
                    let view = live.current();
                    assert_serves(&view, &rows(view.generation().number), &[]);
                }
            }
        });
        let published = published.join();
        done.store(true, Ordering::Relaxed);
        replacing.join().unwrap();
        published.unwrap();
    });
    let new = place.publish("v1", &rows(9), PublishOptions::new());
    live.refresh().unwrap();
    assert_eq!(number(&live), new.number);
}

#[test]
fn a_file_that_is_altered_in_place_while_it_is_opened_does_no_harm() {
    let place = Place::new();
    let rows = items(150, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.open();
    let done = AtomicBool::new(false);
    let alter = || {
        let mut random = Random(5);
        while !done.load(Ordering::Relaxed) {
            let path = place.catalog.path_of(&place.catalog.current().unwrap().unwrap());
            // It may be gone by now.
            let _ = fs::set_permissions(&path, Permissions::from_mode(0o644));
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            (0..20).for_each(|_| flip(&file, &mut random));
        }
    };
    thread::scope(|scope| {
        let altering = scope.spawn(alter);
        let publishing = scope.spawn(|| {
            for _ in 0..10 {
                place.publish("v1", &rows, PublishOptions::new());
                let _ = live.refresh();
                exercise(&live.current());
            }
        });
        let published = publishing.join();
        done.store(true, Ordering::Relaxed);
        altering.join().unwrap();
        published.unwrap();
    });
    let new = place.publish("v1", &rows, PublishOptions::new());
    live.refresh().unwrap();
    assert_eq!(number(&live), new.number);
    assert_serves(&live.current(), &rows, &[]);
}

/// What the library logs in this process, of all tests.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Logged;

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_an_operator_has_to_see_is_logged() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Logged).init();
    let logged = |what: &str, of: &str| {
        let text = String::from_utf8(LOGGED.lock().unwrap().clone()).unwrap();
        text.lines().any(|line| line.contains(what) && line.contains(of))
    };
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.options().fresh_limit(31).open(place.catalog.folder()).unwrap();
    for id in 0..22 {
        assert!(!logged("the overlay fills up", "limit=31"));
        live.upsert("v1", 1 << 40 | id, &[1.0; DIM]).unwrap();
    }
    // The change is acknowledged before it.
    wait_until("7 tenths are warned of", || logged("WARN", "limit=31"));
    let folder = place.folder.path().to_str().unwrap();
    publish_spoiled(&place, "v1", &items(50, DIM, 2), PublishOptions::new(), |_| Vec::new());
    let _ = live.refresh();
    assert!(logged("refused a generation", folder) && logged("ERROR", folder));
    drop(live);
    let log = File::options().write(true).open(place.log()).unwrap();
    log.set_len(log.metadata().unwrap().len() - 1).unwrap();
    place.open();
    assert!(logged("cut the torn end of the log", folder));
}

/// Rows of a generation for each of two versions, and the deletion of an item between the dumps that they
/// were built from.
#[test]
fn a_slow_build_gets_the_changes_since_its_dump_or_is_refused() {
    let hour = Duration::from_secs(3600);
    for (reserves, retains) in [(false, false), (true, false), (false, true)] {
        let place = Place::new();
        let rows = items(50, DIM, 1);
        let gone = rows[0].0;
        place.publish("v1", &rows, PublishOptions::new().log_position(0));
        let retained = if retains { u64::MAX } else { 0 };
        let live = place.options().retain(retained, hour).open(place.catalog.folder()).unwrap();
        let dump = live.upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
        if reserves {
            place.catalog.reserve(dump, hour).unwrap();
        }
        live.delete(gone).unwrap();
        let last = live.upsert("v1", 2 << 40, &[2.0; DIM]).unwrap();
        for seed in 2..4 {
            place.publish("v1", &items(40, DIM, seed), PublishOptions::new().log_position(last));
            live.refresh().unwrap();
        }
        let slow = place.publish("v2", &rows, PublishOptions::new().log_position(dump));
        let refreshed = live.refresh();
        if reserves || retains {
            refreshed.unwrap();
            let view = live.for_model("v2").unwrap();
            assert!(!view.contains(gone), "what was deleted stays deleted");
            continue;
        }
        let error = refreshed.unwrap_err();
        let is_dropped = matches!(error, Error::RecordsDropped { dump: 1, dropped_to: 3, .. });
        assert!(is_dropped || matches!(error, Error::Refused { .. }), "{error}");
        assert!(
            error.to_string().contains("position 1") && error.to_string().contains("position 3"),
            "{error}"
        );
        assert_eq!(live.model_versions(), ["v1"]);
        assert_eq!(live.status().refused[0].0, slow.number);
        // It stays refused, and says so, until one that is not is published.
        assert!(matches!(live.refresh(), Err(Error::Refused { .. })));
        assert!(live.status().last_error.is_some());
        place.publish("v2", &rows, PublishOptions::new().log_position(last).keep(1));
        live.refresh().unwrap();
        assert_eq!((live.model_versions().len(), live.status().last_error), (2, None));
    }
}

#[test]
fn a_log_behind_the_catalog_is_an_error_that_names_both_positions() {
    let place = Place::new();
    let rows = items(50, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.open();
    for id in 0..10 {
        live.upsert("v1", id << 40 | 1, &[1.0; DIM]).unwrap();
    }
    let older = fs::read(place.log()).unwrap();
    for id in 10..20 {
        live.upsert("v1", id << 40 | 1, &[1.0; DIM]).unwrap();
    }
    place.publish("v1", &rows, PublishOptions::new().log_position(20));
    drop(live);
    fs::write(place.log(), older).unwrap();
    let error = place.options().open(place.catalog.folder()).err().unwrap();
    assert!(matches!(error, Error::LogBehind { log: 10, catalog: 20, generation: 2, .. }));
    let said = error.to_string();
    assert!(said.contains("position 10") && said.contains("move this one away"), "{said}");
    // A new one begins behind the catalog, so that nothing is taken for what a generation has.
    fs::rename(place.log(), place.folder.path().join("away")).unwrap();
    let live = place.open();
    assert_eq!(live.upsert("v1", 1 << 50, &[1.0; DIM]).unwrap(), 21);
    drop(live);
    assert!(place.open().current().contains(1 << 50));
}

#[test]
fn a_generation_at_a_position_that_the_log_has_not_come_to_is_refused() {
    let place = Place::new();
    let rows = items(50, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.open();
    live.upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
    let mistyped = place.publish("v1", &rows, PublishOptions::new().log_position(40));
    // The first look that meets it says so in its own words; that may be one by a notice.
    let error = live.refresh().unwrap_err();
    assert!(matches!(error, Error::LogBehind { log: 1, catalog: 40, .. } | Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("ends at position 1") && error.to_string().contains("position 40"));
    assert_eq!(number(&live), 1);
    // Whatever comes of it, later changes are not taken for ones that it has.
    assert_eq!(live.upsert("v1", 2 << 40, &[2.0; DIM]).unwrap(), 41);
    drop(live);
    let live = place.open();
    assert_eq!(number(&live), mistyped.number);
    assert!(live.current().contains(2 << 40));
}

/// Two hosts get one stream, in batches of their own, with repetitions, and agree on what a position means.
#[test]
fn hosts_that_are_fed_agree_on_positions() {
    let place = Place::new();
    let rows = items(40, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let mut random = Random(5);
    let stream: Vec<(u64, Change)> = (1..=400u64)
        .map(|number| {
            let id = random.below(60) as u64;
            let change = match random.below(4) {
                0 => Change::delete(id),
                _ => Change::upsert("v1", id, random.embedding(DIM)),
            };
            (number * 3, change)
        })
        .collect();
    let host = |name: &str| {
        let options = LiveOptions::new().poll(Duration::from_secs(3600)).sync(SyncPolicy::Never);
        options.fed_log(place.folder.path().join(name)).open(place.catalog.folder()).unwrap()
    };
    let hosts = [host("one"), host("two")];
    let feed = |live: &LiveIndex, seed: u64, to: u64| {
        let mut random = Random(seed);
        loop {
            let done = live.status().log_position.unwrap();
            let new = stream.partition_point(|change| change.0 <= done);
            let end = stream
                .len()
                .min(new + 1 + random.below(9))
                .min(stream.partition_point(|change| change.0 <= to));
            if new == end {
                return;
            }
            let again = new.saturating_sub(random.below(4));
            let applied = live.apply(&stream[again..end]).unwrap();
            assert_eq!((applied.applied, applied.already_there), (end - new, new - again));
            assert_eq!(applied.position, stream[end - 1].0);
        }
    };
    // One is far ahead of the other when a dump is taken and published.
    feed(&hosts[0], 1, 900);
    feed(&hosts[1], 2, 300);
    let dump: Items = hosts[0].current().iter().map(|(id, row)| (id, row.to_vec())).collect();
    let first = hosts[0].status().log_position.unwrap();
    place.publish("v1", &dump, PublishOptions::new().log_position(first));
    for live in &hosts {
        live.refresh().unwrap();
        assert_eq!((number(live), live.current().len()), (2, dump.len()));
    }
    feed(&hosts[0], 3, 1_200);
    feed(&hosts[1], 4, 1_200);
    // One that begins now gets what the generations lack.
    let third = host("three");
    assert_eq!(third.status().log_position, Some(0), "the first generation may be gone back to");
    place.catalog.prune(Retention::new().keep(1)).unwrap();
    let fourth = host("four");
    assert_eq!(fourth.status().log_position, Some(first));
    let expected = hosts[0].current();
    for live in [&hosts[1], &third, &fourth] {
        feed(live, 5, 1_200);
        live.refresh().unwrap();
        let view = live.current();
        assert_eq!(view.len(), expected.len());
        assert!(expected.iter().all(|(id, row)| view.get(id) == Some(row)));
    }
}

#[test]
fn a_log_has_one_who_numbers_it() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    live.delete(1).unwrap();
    let error = live.apply(&[(7, Change::delete(1))]).unwrap_err();
    assert!(
        matches!(error, Error::Numbering { fed: false, .. }) && error.to_string().contains("fed_log"),
        "{error}"
    );
    drop(live);
    let fed = || LiveOptions::new().fed_log(place.log()).open(place.catalog.folder());
    assert!(matches!(fed(), Err(Error::Numbering { fed: false, .. })));
    fs::remove_file(place.log()).unwrap();
    let live = fed().unwrap();
    assert!(matches!(live.delete(1), Err(Error::Numbering { fed: true, .. })));
    for wrong in [
        vec![(0, Change::delete(1))],
        vec![(5, Change::delete(1)), (4, Change::delete(2))],
        vec![(1 << 63, Change::delete(1))],
    ] {
        assert!(matches!(live.apply(&wrong), Err(Error::BadOption { option: "position", .. })));
    }
    // Several changes of one event have one position.
    let event = [(4, Change::delete(1)), (4, Change::upsert("v1", 1, [1.0; DIM]))];
    assert_eq!(live.apply(&event).unwrap().applied, 2);
    assert_eq!(live.apply(&event).unwrap().already_there, 2);
    drop(live);
    assert!(matches!(place.options().open(place.catalog.folder()), Err(Error::Numbering { fed: true, .. })));
}

#[test]
fn a_batch_is_there_whole_or_not_at_all() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.options().fresh_limit(3).open(place.catalog.folder()).unwrap();
    let upsert = |id: u64| Change::upsert("v1", id << 40 | 1, [1.0; DIM]);
    let bad = [upsert(1), Change::upsert("v1", 2, [f32::NAN; DIM])];
    assert!(matches!(live.write(&bad), Err(Error::BadOption { .. })));
    let many: Vec<Change> = (0..4).map(upsert).collect();
    assert!(matches!(live.write(&many), Err(Error::OverlayFull { .. })));
    assert_eq!((live.current().len(), live.status().log_position), (50, Some(0)));
    let applied = live.write(&many[1..]).unwrap();
    assert_eq!((applied.position, applied.applied, live.current().len()), (3, 3, 53));
    assert_eq!(live.write(&[]).unwrap().position, 3);
}

#[test]
fn upserts_of_a_retired_version_are_refused_not_dropped() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    place.publish("v2", &items(50, DIM, 2), PublishOptions::new());
    let fed =
        LiveOptions::new().fed_log(place.folder.path().join("fed")).open(place.catalog.folder()).unwrap();
    let live = place.open();
    live.upsert("v1", 7, &[1.0; DIM]).unwrap();
    place.catalog.prune(Retention::new().versions(1)).unwrap();
    live.refresh().unwrap();
    fed.refresh().unwrap();
    let error = live.upsert("v1", 7, &[1.0; DIM]).unwrap_err();
    assert!(matches!(&error, Error::RetiredModel { model_version } if model_version == "v1"), "{error}");
    assert_eq!(live.status().log_position, Some(1));
    let changes = [(5, Change::upsert("v1", 7, [1.0; DIM])), (6, Change::upsert("v2", 7, [1.0; DIM]))];
    let applied = fed.apply(&changes).unwrap();
    assert_eq!((applied.applied, applied.retired, applied.position), (1, 1, 6));
}

#[test]
fn three_versions_serve_at_once() {
    let place = Place::new();
    for (seed, version) in ["v1", "v2", "v3", "v1"].into_iter().enumerate() {
        place.publish(version, &items(50, DIM, seed as u64), PublishOptions::new().versions(3));
    }
    let live = place.open();
    assert_eq!(live.model_versions(), ["v1", "v3", "v2"]);
    for version in live.model_versions() {
        live.upsert(&version, 1 << 40, &[1.0; DIM]).unwrap();
        assert!(live.for_model(&version).unwrap().contains(1 << 40));
    }
}

#[test]
fn the_limit_counts_new_places_of_a_version() {
    let place = Place::new();
    let rows = items(50, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.options().fresh_limit(10).open(place.catalog.folder()).unwrap();
    for id in 0..20 {
        live.delete(id << 40 | 5).unwrap();
    }
    assert_eq!(live.status().generations[0].fresh, 0, "what is nowhere takes no place");
    for id in 0..9 {
        live.upsert("v1", id << 40 | 1, &[1.0; DIM]).unwrap();
    }
    // With one place left, one item can be replaced any number of times, from any number of threads.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).all(|_| live.upsert("v1", 1, &[2.0; DIM]).unwrap() > 0));
        }
    });
    live.upsert("v1", 77 << 40, &[1.0; DIM]).unwrap();
    let full = live.upsert("v1", 78 << 40, &[1.0; DIM]).unwrap_err();
    assert!(
        matches!(&full, Error::OverlayFull { limit: 10, model_version } if model_version == "v1"),
        "{full}"
    );
    // At the limit too, whatever is there can be replaced and taken down.
    live.upsert("v1", 1, &[3.0; DIM]).unwrap();
    for (id, _) in &rows[..20] {
        live.delete(*id).unwrap();
        assert!(!live.current().contains(*id));
    }
    live.delete(1).unwrap();
    assert!(!live.current().contains(1));
}

#[test]
fn a_mistyped_version_does_not_keep_others_waiting() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.options().fresh_limit(10).open(place.catalog.folder()).unwrap();
    for _ in 0..30 {
        live.upsert("vv2", 7, &[1.0; DIM]).unwrap();
    }
    assert_eq!(live.status().waiting, 1);
    for id in 0..10 {
        live.upsert("vv2", id, &[1.0; DIM]).unwrap();
    }
    let full = live.upsert("vv2", 99, &[1.0; DIM]).unwrap_err().to_string();
    assert!(full.contains("\"vv2\""), "{full}");
    live.upsert("v2", 99, &[1.0; DIM]).unwrap();
    live.upsert("v1", 99, &[1.0; DIM]).unwrap();
    assert_eq!(live.status().waiting, 11);
}

#[test]
fn queries_of_every_kind_are_counted() {
    let place = Place::new();
    let rows = items(50, DIM, 1);
    place.publish("v1", &rows, PublishOptions::new());
    let live = place.open();
    for fresh in [false, true] {
        if fresh {
            live.upsert("v1", 7, &[1.0; DIM]).unwrap();
        }
        let (view, queries) = (live.current(), || live.status().generations[0].queries);
        let before = queries();
        let (user, ids) = ([1.0; DIM], [rows[0].0, 7]);
        let users = Matrix::new(DIM, vec![0.5; 3 * DIM]).unwrap();
        view.search(&user, 3).unwrap();
        view.rank(&user, &ids, 1).unwrap();
        view.rank_with(&user, &ids, &RankOptions::new(1).exact()).unwrap();
        view.rank_channels(&user, &[Channel::new(&ids)], &RankOptions::new(1)).unwrap();
        view.score(&user, &ids, &mut [0.0; 2]).unwrap();
        view.search_many(&users, &SearchOptions::new(3), 2).unwrap();
        view.rank_many(&users, &[&ids], &RankOptions::new(1), 2).unwrap();
        assert_eq!(queries() - before, 5 + 3 + 3);
    }
}

#[test]
fn a_log_that_is_moved_or_replaced_takes_nothing_more() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.open();
    live.upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
    let away = place.folder.path().join("away");
    fs::rename(place.log(), &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            fs::copy(&away, place.log()).unwrap();
        }
        let error = live.upsert("v1", 2 << 40, &[1.0; DIM]).unwrap_err();
        assert!(matches!(error, Error::LogReplaced { .. }), "{error}");
        assert!(!live.current().contains(2 << 40));
        assert!(live.status().log_error.unwrap().contains("moved or replaced"));
    }
    fs::rename(&away, place.log()).unwrap();
    assert_eq!(live.upsert("v1", 2 << 40, &[1.0; DIM]).unwrap(), 2);
    assert_eq!(live.status().log_error, None);
}

#[test]
fn a_log_has_one_writer_by_whatever_name() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let folder = place.folder.path();
    std::os::unix::fs::symlink(place.log(), folder.join("link")).unwrap();
    std::os::unix::fs::symlink(folder, folder.join("folder")).unwrap();
    let open = |path: &str| LiveOptions::new().log(folder.join(path)).open(place.catalog.folder());
    let nowhere = open("link").err().unwrap().to_string();
    assert!(nowhere.contains("link"), "{nowhere}");
    let live = place.open();
    for path in ["link", "folder/fresh.log", "folder/link"] {
        let error = open(path).err().unwrap().to_string();
        assert!(error.contains("another LiveIndex writes this log"), "{error}");
    }
    drop(live);
    let linked = open("link").unwrap();
    linked.delete(1).unwrap();
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    assert!(place.options().open(place.catalog.folder()).is_err());
}

#[test]
fn without_its_catalog_the_log_still_drops_what_is_superseded() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let live = place.options().sync(SyncPolicy::Never).open(place.catalog.folder()).unwrap();
    let away = place.folder.path().join("away");
    fs::rename(place.catalog.folder(), &away).unwrap();
    // Some 20 MB of changes, of which the last of each item counts.
    let changes: Vec<Change> = (0..1_280).map(|id| Change::upsert("v2", id % 5, [1.0; 4096])).collect();
    for changes in changes.chunks(64) {
        live.write(changes).unwrap();
    }
    let length = || fs::metadata(place.log()).unwrap().len();
    wait_until("the log is written anew", || length() < 8 << 20);
    fs::rename(&away, place.catalog.folder()).unwrap();
    live.refresh().unwrap();
    assert_eq!((live.status().waiting, live.status().last_error), (5, None));
}

#[test]
fn options_that_cannot_work_are_errors_and_an_index_may_be_resident() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let refused = LiveOptions::new().poll(Duration::ZERO).open(place.catalog.folder()).err().unwrap();
    assert!(matches!(refused, Error::BadOption { option: "poll", .. }), "{refused}");
    let resident = LiveOptions::new().open_with(OpenOptions::new().resident(true));
    let live = resident.open(place.catalog.folder()).unwrap();
    assert!(live.current().index().residency().copied > 0);
}

/// The child has the memory of its parent and none of its threads.
#[test]
fn after_a_fork_the_child_is_told_and_does_not_hang() {
    let place = Place::new();
    place.publish("v1", &items(50, DIM, 1), PublishOptions::new());
    let mut live = Some(place.open());
    live.as_ref().unwrap().upsert("v1", 1 << 40, &[1.0; DIM]).unwrap();
    let (told, mut child) = (place.folder.path().join("told"), Command::new("true"));
    let told_by = told.clone();
    let in_child = move || {
        let own = live.take().expect("the child's copy");
        let forked = |failed: bool| if failed { "forked" } else { "no error" };
        let said = [
            forked(matches!(own.upsert("v1", 5, &[1.0; DIM]), Err(Error::Forked))),
            forked(matches!(own.refresh(), Err(Error::Forked))),
            forked(own.current().contains(1 << 40)),
        ];
        drop(own);
        fs::write(&told_by, said.join(" "))
    };
    // SAFETY: the child calls what a program that forks without exec would call, before it runs `true`. Other
    // threads of this test may hold locks of the allocator, which glibc has in order after a fork.
    unsafe { child.pre_exec(in_child) };
    assert!(child.status().unwrap().success());
    assert_eq!(fs::read_to_string(told).unwrap(), "forked forked forked");
    // The parent's log is still locked.
    assert!(place.options().open(place.catalog.folder()).is_err());
    drop(child);
    place.open();
}

/// The change at a position of the stream that the killed processes below share.
fn change_at(position: u64) -> Change {
    let id = position * 7 % 53;
    let price = (!position.is_multiple_of(3)).then_some(position as i64);
    match position % 5 {
        0 => Change::delete(id),
        1 => Change::set_values(position * 11 % 53, Values::new().with("price", price)),
        _ => Change::upsert("v1", id, [position as f32; DIM]).with_values(Values::new().with("price", price)),
    }
}

/// What the stream makes of the items up to a position: embeddings and prices.
fn items_at(position: u64) -> BTreeMap<u64, (Vec<f32>, Value)> {
    let mut items = BTreeMap::from([(99, (vec![0.5; DIM], Value::Null))]);
    for change in (1..=position).map(change_at) {
        match change {
            Change::Upsert { id, embedding, values, .. } => {
                items.insert(id, (embedding, values.get("price").clone()));
            }
            Change::SetValues { id, values } => {
                if let Some(item) = items.get_mut(&id) {
                    item.1 = values.get("price").clone();
                }
            }
            _ => drop(items.remove(&change.id())),
        }
    }
    items
}

fn publish_stream(catalog: &Catalog, position: u64) -> itemdex::Result<Generation> {
    let items = items_at(position);
    let build = |path: &Path| {
        let prices = items.values().map(|(_, price)| price.clone());
        let prices = Column::new("price", ColumnKind::Number, prices)?;
        let builder = IndexBuilder::new("v1").m(2).ef_construction(4).threads(1).column(prices);
        builder.build_from(items.iter().map(|(id, (row, _))| (*id, row)), path)
    };
    Ok(catalog.publish_made(build, &PublishOptions::new().log_position(position))?.0)
}

fn fed(folder: &Path) -> LiveIndex {
    let options = LiveOptions::new()
        .poll(Duration::from_millis(5))
        .fed_log(folder.join("fed.log"))
        .retain(0, Duration::ZERO);
    options.sync(SyncPolicy::Every(Duration::from_millis(2))).open(folder.join("catalog")).unwrap()
}

/// Follows the catalog and feeds the log. Not a test by itself.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child_that_feeds_and_follows() {
    let Ok(folder) = std::env::var("ITEMDEX_TEST_FOLDER") else { return };
    let live = fed(Path::new(&folder));
    let mut next = live.status().log_position.unwrap() + 1;
    loop {
        let batch: Vec<_> =
            (next..next + 1 + next % 4).map(|position| (position, change_at(position))).collect();
        next = live.apply(&batch).unwrap().position + 1;
        println!("\nacknowledged {}", next - 1);
    }
}

/// Publishes dumps of the stream, each of a later position. Not a test by itself.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child_that_publishes() {
    let Ok(folder) = std::env::var("ITEMDEX_TEST_FOLDER") else { return };
    let folder = PathBuf::from(folder);
    let catalog = Catalog::open(folder.join("catalog")).unwrap();
    let mut position = catalog.current().unwrap().unwrap().log_position.unwrap();
    for step in 1.. {
        position += step % 30;
        match publish_stream(&catalog, position) {
            Ok(generation) => println!("\npublished {}", generation.number),
            Err(error) => println!("\nrefused {error}"),
        }
    }
}

/// Kills a publisher, and a process that feeds and follows, at the same moment.
fn kill_all(times: usize) {
    let place = Place::new();
    publish_stream(&place.catalog, 0).unwrap();
    let spawn = |test: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        command.env("ITEMDEX_TEST_FOLDER", place.folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut random = Random(3);
    let (mut acknowledged_to, mut generations) = (0, 0);
    for _ in 0..times {
        let mut children = [spawn("child_that_feeds_and_follows"), spawn("child_that_publishes")];
        let outputs = children.each_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines());
        thread::sleep(Duration::from_micros(random.below(60_000) as u64));
        children.iter_mut().for_each(|child| child.kill().unwrap());
        children.iter_mut().for_each(|child| assert!(!child.wait().unwrap().success()));
        for line in outputs.into_iter().flatten().map_while(Result::ok) {
            acknowledged_to = acknowledged(&line).unwrap_or(acknowledged_to).max(acknowledged_to);
        }
        let live = fed(place.folder.path());
        live.refresh().unwrap();
        let (view, position) = (live.current(), live.status().log_position.unwrap());
        assert!(position >= acknowledged_to, "{position} of {acknowledged_to}");
        let state = items_at(position.max(view.generation().log_position.unwrap()));
        assert_eq!(view.len(), state.len());
        for (id, (row, price)) in state {
            assert_eq!(view.get(id).as_deref(), Some(&row[..]), "item {id} at {position}");
            assert_eq!(view.values(id).unwrap().get("price"), &price, "item {id} at {position}");
        }
        generations = view.generation().number;
    }
    assert!(
        acknowledged_to > times as u64 && generations > times as u64 / 10,
        "{acknowledged_to} {generations}"
    );
}

#[test]
fn a_killed_publisher_feeder_and_follower_lose_nothing() {
    kill_all(15);
}

#[test]
#[ignore = "long: cargo test --release --test live 1000_times -- --ignored"]
fn a_publisher_feeder_and_follower_killed_1000_times_lose_nothing() {
    kill_all(1_000);
}
