//! A catalog as publishers, operators and readers meet it, whole and after crashes.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use itemdex::live::{Generation, PublishOptions, Retention};
use itemdex::{Error, Index, IndexBuilder};
use serde_json::Value;

impl Place {
    /// An index file outside of the catalog, told from others by its rows.
    fn index(&self, model_version: &str, rows: usize) -> PathBuf {
        let path = self.folder.path().join(format!("{model_version}-{rows}.itemdex"));
        let builder = IndexBuilder::new(model_version).m(4).ef_construction(20).threads(1);
        builder.build_from(items(rows, 6, rows as u64), &path).unwrap();
        path
    }

    fn publish(&self, model_version: &str, rows: usize) -> Generation {
        self.catalog.publish(self.index(model_version, rows), &PublishOptions::new()).unwrap()
    }

    fn numbers(&self) -> Vec<u64> {
        self.catalog.generations().unwrap().iter().map(|generation| generation.number).collect()
    }

    /// What stands in the folder, without the lock and the lists.
    fn files(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.catalog.folder()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name != "catalog.lock" && !name.starts_with("catalog-")).collect()
    }

    fn listed(&self) -> BTreeSet<String> {
        self.catalog.generations().unwrap().into_iter().map(|generation| generation.file).collect()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_itemdex"));
        command.arg(name).arg(self.catalog.folder());
        command
    }

    /// The current generation, which opens and holds.
    fn checked_current(&self) -> Generation {
        let current = self.catalog.current().unwrap().unwrap();
        let index = Index::open(self.catalog.path_of(&current)).unwrap();
        index.verify(|_| ()).unwrap();
        assert_eq!(index.len() as u64, current.rows);
        current
    }
}

fn itemdex<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_itemdex"));
    command.args(arguments);
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&run(command.arg("--json"), 0).stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_last_one_published_is_current_and_two_of_a_version_stay() {
    let place = Place::new();
    assert_eq!(place.catalog.current().unwrap(), None);
    for rows in [10, 20, 30] {
        let published = place.publish("v1", rows);
        assert_eq!(place.checked_current(), published);
        assert_eq!(published.rows, rows as u64);
    }
    assert_eq!(place.numbers(), [2, 3]);
    assert_eq!(place.files(), place.listed());
    for generation in place.catalog.generations().unwrap() {
        let mode = fs::metadata(place.catalog.path_of(&generation)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "nobody is to write to a generation");
    }
}

#[test]
fn a_log_position_that_no_log_comes_to_is_an_error() {
    let place = Place::new();
    place.publish("v1", 10);
    let built = place.index("v1", 20);
    let error = place.catalog.publish(&built, &PublishOptions::new().log_position(1 << 63)).unwrap_err();
    let expected =
        "log_position: 9223372036854775808 is beyond what a log can come to; give what its status says";
    assert_eq!(error.to_string(), expected);
    assert_eq!(place.numbers(), [1]);
}

#[test]
fn the_version_before_stays_until_told_otherwise() {
    let place = Place::new();
    for (version, rows) in [("v1", 10), ("v1", 11), ("v1", 12), ("v2", 13), ("v2", 14), ("v2", 15)] {
        place.publish(version, rows);
    }
    assert_eq!(place.numbers(), [2, 3, 5, 6]);
    place.publish("v3", 16);
    assert_eq!(place.numbers(), [5, 6, 7]);
    let dropped = place.catalog.prune(Retention::new().keep(1)).unwrap();
    assert_eq!(dropped.iter().map(|generation| generation.rows).collect::<Vec<_>>(), [14]);
    place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap();
    assert_eq!(place.numbers(), [7]);
    assert_eq!(place.files(), place.listed());
    assert!(place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap().is_empty());
}

#[test]
fn three_versions_stay_for_a_test_of_three() {
    let place = Place::new();
    let three = PublishOptions::new().versions(3).keep(1);
    for (version, rows) in [("v1", 10), ("v2", 11), ("v3", 12), ("v1", 13), ("v2", 14), ("v4", 15)] {
        place.catalog.publish(place.index(version, rows), &three).unwrap();
    }
    let versions = place.catalog.generations().unwrap().into_iter().map(|one| one.model_version);
    assert_eq!(versions.collect::<Vec<_>>(), ["v1", "v2", "v4"]);
}

#[test]
fn a_position_is_reserved_until_a_generation_is_published_with_it() {
    let place = Place::new();
    place.publish("v1", 10);
    let hour = Duration::from_secs(3600);
    for position in [40, 41, 41] {
        place.catalog.reserve(position, hour).unwrap();
    }
    place.catalog.reserve(7, Duration::ZERO).unwrap();
    let reserved = || -> Vec<u64> {
        place.catalog.reservations().unwrap().iter().map(|reserved| reserved.log_position).collect()
    };
    assert_eq!(reserved(), [40, 41, 41], "one of no time is over");
    place.publish("v1", 20);
    place.catalog.publish(place.index("v1", 30), &PublishOptions::new().log_position(41)).unwrap();
    assert_eq!(reserved(), [40, 41], "one builder is done, the other is not");
    assert!(matches!(place.catalog.reserve(1 << 63, hour), Err(Error::BadOption { .. })));
    let said = json(itemdex(["catalog", "reserve"]).arg(place.catalog.folder()).args([
        "--log-position",
        "50",
        "--hours",
        "2",
    ]));
    assert_eq!(said["log_position"], 50);
    let listed = json(&mut place.command("catalog"));
    assert_eq!(listed["reservations"].as_array().unwrap().len(), 3);
}

#[test]
fn lists_of_earlier_releases_are_read() {
    let place = Place::new();
    let first = place.publish("v1", 10);
    let path = place.catalog.folder().join("catalog-0000000001.json");
    let text = fs::read_to_string(&path).unwrap();
    let list = text.lines().next().unwrap().replace(",\"reservations\":[]", "");
    assert!(!list.contains("reservations"));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let sum = xxhash_rust::xxh3::xxh3_64(list.as_bytes());
    fs::write(&path, format!("{list}\n{sum:016x}\n")).unwrap();
    assert_eq!(place.catalog.current().unwrap(), Some(first));
    place.catalog.reserve(3, Duration::from_secs(60)).unwrap();
}

#[test]
fn a_rollback_withdraws_what_came_later_and_can_be_taken_back() {
    let place = Place::new();
    let (first, second) = (place.publish("v1", 10), place.publish("v2", 20));
    assert_eq!(place.catalog.rollback(None).unwrap(), first);
    assert_eq!(place.checked_current(), first);
    let withdrawn: Vec<_> = place.catalog.generations().unwrap().iter().map(|one| one.withdrawn).collect();
    assert_eq!(withdrawn, [false, true]);
    let error = place.catalog.rollback(None).unwrap_err().to_string();
    assert!(
        error.ends_with("there is no generation to go back to: one before the current of [1, 2]"),
        "{error}"
    );

    assert_eq!(place.catalog.rollback(Some(2)).unwrap(), second);
    assert_eq!(place.checked_current(), second);
    assert!(matches!(place.catalog.rollback(Some(9)), Err(Error::NoGeneration { .. })));

    place.catalog.rollback(Some(1)).unwrap();
    let third = place.publish("v2", 30);
    assert_eq!(place.checked_current(), third);
    assert!(!place.numbers().contains(&2), "what was withdrawn goes with the next publication");
}

#[test]
fn a_reader_keeps_a_generation_that_is_pruned() {
    let place = Place::new();
    let first = place.publish("v1", 50);
    let index = Index::open(place.catalog.path_of(&first)).unwrap();
    place.publish("v1", 60);
    place.catalog.prune(Retention::new().keep(1)).unwrap();
    assert!(!place.catalog.path_of(&first).exists());
    index.verify(|_| ()).unwrap();
    assert_eq!(index.search(&[1.0; 6], 5).unwrap().len(), 5);
}

#[test]
fn the_command_line_publishes_lists_rolls_back_and_prunes() {
    let place = Place::new();
    let published = json(place.command("publish").arg(place.index("v1", 10)));
    assert_eq!((&published["generation"], &published["rows"]), (&1.into(), &10.into()));
    let published = json(place.command("publish").arg(place.index("v1", 20)).args(["--log-position", "77"]));
    assert_eq!(published["log_position"], 77);
    let listed = json(&mut place.command("catalog"));
    assert_eq!((&listed["current"], listed["generations"].as_array().unwrap().len()), (&2.into(), 2));
    let text = String::from_utf8(run(&mut place.command("catalog"), 0).stdout).unwrap();
    assert!(text.lines().nth(2).unwrap().ends_with("77  current"), "{text}");

    assert_eq!(json(&mut place.command("rollback"))["generation"], 1);
    assert_eq!(json(place.command("rollback").args(["--to", "2"]))["generation"], 2);
    assert_eq!(json(place.command("prune").args(["--keep", "1"]))["dropped"], serde_json::json!([1]));
    assert!(said(&run(&mut place.command("rollback"), 1)).contains("no generation to go back to"));
    assert!(said(&run(Place::new().command("publish").arg("/dev/null"), 1)).contains("not a regular file"));
}

#[test]
fn a_build_publishes_what_it_built() {
    let place = Place::new();
    let items = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/completejourney/users_test.npy");
    let build = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_itemdex"));
        command.args(["build", "--items", items, "--model-version", "v1", "--ef-construction", "20"]);
        command.arg("--publish").arg(place.catalog.folder());
        command
    };
    let report = json(build().args(["--log-position", "5"]));
    let current = place.checked_current();
    assert_eq!((current.log_position, report["rows"].as_u64()), (Some(5), Some(current.rows)));
    assert_eq!(report["generation"], current.number);
    assert_eq!(report["path"].as_str().map(Path::new), Some(&*place.catalog.path_of(&current)));
    assert!(said(&run(build().args(["--out", "elsewhere"]), 2)).contains("cannot be used with"));
    assert_eq!(place.files(), place.listed());
}

#[test]
fn a_bad_index_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let good = place.publish("v1", 10);
    let bad = place.index("v1", 300);
    let mut bytes = fs::read(&bad).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&bad, &bytes).unwrap();
    let error = place.catalog.publish(&bad, &PublishOptions::new()).unwrap_err();
    assert!(matches!(&error, Error::Damaged { path, .. } if *path == bad), "{error}");
    fs::write(&bad, &bytes[..9_000]).unwrap();
    assert!(matches!(place.catalog.publish(&bad, &PublishOptions::new()), Err(Error::Damaged { .. })));
    assert_eq!(place.checked_current(), good);
    assert_eq!(place.files(), place.listed());
}

#[test]
fn a_file_that_changes_while_it_is_published_is_refused_or_published_whole() {
    let place = Place::new();
    let given = place.index("v1", 300);
    let whole = fs::read(&given).unwrap();
    let file = File::options().write(true).open(&given).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut random = Random(8);
            while !done.load(Ordering::Relaxed) {
                file.set_len([0, random.below(whole.len()) as u64][random.below(2)]).unwrap();
                let at = random.below(whole.len());
                file.write_all_at(&[whole[at] ^ 4], at as u64).unwrap();
                file.write_all_at(&whole, 0).unwrap();
            }
        });
        let publishing = scope.spawn(|| {
            for _ in 0..100 {
                // One that is opened and not used yet does no harm either.
                (0..50).for_each(|_| drop(Index::open(&given)));
                match place.catalog.publish(&given, &PublishOptions::new()) {
                    Ok(generation) => assert_eq!(place.checked_current(), generation),
                    Err(Error::Damaged { .. } | Error::NotAnIndex { .. } | Error::Io { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        });
        let published = publishing.join();
        done.store(true, Ordering::Relaxed);
        changing.join().unwrap();
        published.unwrap();
    });
    let last = place.catalog.publish(&given, &PublishOptions::new()).unwrap();
    assert_eq!((place.checked_current(), last.rows), (last.clone(), 300));
    assert_eq!(place.files(), place.listed());
}

#[test]
fn a_generation_is_never_changed_only_removed() {
    let place = Place::new();
    let kept = place.publish("v1", 50);
    let path = place.catalog.path_of(&kept);
    let state = || {
        let metadata = fs::metadata(&path).unwrap();
        (metadata.ino(), metadata.modified().unwrap(), metadata.mode(), fs::read(&path).unwrap())
    };
    let before = state();
    place.publish("v1", 60);
    assert_eq!(state(), before);
    place.catalog.rollback(None).unwrap();
    assert_eq!(state(), before);
    place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap();
    assert_eq!(state(), before);
    place.publish("v1", 70);
    place.catalog.prune(Retention::new().keep(1).versions(1)).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_damaged_list_is_an_error_and_removing_it_goes_back() {
    let place = Place::new();
    let first = place.publish("v1", 10);
    place.publish("v1", 20);
    let path = place.catalog.folder().join("catalog-0000000002.json");
    let whole = fs::read_to_string(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    for text in [whole.replace("v1", "v7"), whole[..40].to_owned(), String::new()] {
        fs::write(&path, text).unwrap();
        assert!(matches!(place.catalog.current(), Err(Error::Damaged { .. })));
        let published = place.catalog.publish(place.index("v1", 30), &PublishOptions::new());
        assert!(matches!(published, Err(Error::Damaged { .. })));
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(place.checked_current(), first);
}

#[test]
fn of_two_publishers_one_is_told_that_the_other_was_first() {
    let place = Place::new();
    let (small, large) = (place.index("v1", 10), place.index("v1", 20));
    let second = || place.catalog.publish(&small, &PublishOptions::new());
    let (generation, busy) = place
        .catalog
        .publish_made(
            |path| {
                // One that makes its file in place keeps nobody waiting.
                second().unwrap();
                fs::copy(&large, path).map(|_| ()).map_err(|cause| Error::Io {
                    action: "copy",
                    path: large.clone(),
                    cause,
                })?;
                let lock = File::open(place.catalog.folder().join("catalog.lock")).unwrap();
                lock.lock().unwrap();
                let busy = second().unwrap_err();
                let message = busy.to_string();
                assert!(message.ends_with("try again when they are done"), "{message}");
                Ok(busy)
            },
            &PublishOptions::new(),
        )
        .unwrap();
    assert!(matches!(busy, Error::CatalogBusy { .. }));
    assert_eq!(place.checked_current(), generation);
    assert_eq!((generation.number, generation.rows), (2, 20));
}

#[test]
fn a_list_knows_its_number() {
    let place = Place::new();
    place.publish("v1", 10);
    let lists = |number: u64| place.catalog.folder().join(format!("catalog-{number:010}.json"));
    fs::hard_link(lists(1), lists(2)).unwrap();
    assert!(matches!(place.catalog.current(), Err(Error::Damaged { .. })));
    fs::remove_file(lists(2)).unwrap();
    assert_eq!(place.checked_current().number, 1);
}

/// Publishers and a reader, each in its own process, all at once.
#[test]
fn publishers_and_a_reader_in_several_processes() {
    let place = Place::new();
    let indexes = [place.index("v1", 400), place.index("v1", 500)];
    place.publish("v1", 10);
    let mut done = 0;
    let mut refused = 0;
    for _ in 0..8 {
        let mut running: Vec<_> = indexes
            .iter()
            .map(|index| {
                place
                    .command("publish")
                    .arg(index)
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        while running.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            let listed = json(&mut place.command("catalog"));
            assert!(listed["current"].is_u64());
        }
        for child in running {
            let output = child.wait_with_output().unwrap();
            match output.status.code() {
                Some(0) => done += 1,
                _ => {
                    refused += 1;
                    let said = said(&output);
                    assert!(said.contains("somebody else"), "{said}");
                }
            }
        }
        place.checked_current();
    }
    assert_eq!(done + refused, 16);
    assert!(done >= 8, "one of two gets through: {done}");
    assert_eq!(place.files(), place.listed());
}

/// Kills publishers at moments spread over the time that one takes.
fn kill_publishers(times: usize) {
    let place = Place::new();
    let indexes = [place.index("v1", 2_000), place.index("v1", 3_000)];
    let mut known = place.publish("v1", 10);
    let mut random = Random(7);
    let started = Instant::now();
    run(place.command("publish").arg(&indexes[0]), 0);
    let takes = started.elapsed().as_micros() as usize;
    let (mut old, mut new) = (0, 0);
    for round in 0..times {
        let before = place.checked_current();
        let mut child =
            place.command("publish").arg(&indexes[round % 2]).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(random.below(takes * 5 / 4) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        known = place.checked_current();
        match known.number.cmp(&before.number) {
            std::cmp::Ordering::Equal => old += 1,
            _ => {
                assert_eq!(known.number, before.number + 1);
                new += 1;
            }
        }
    }
    assert!(old > 0 && old + new == times, "{old} old, {new} new");
    let last = place.publish("v1", 20);
    assert_eq!(last.number, known.number + 1);
    assert_eq!(place.files(), place.listed(), "leftovers are swept");
}

#[test]
fn a_killed_publisher_leaves_the_old_or_the_new_generation() {
    kill_publishers(20);
}

#[test]
#[ignore = "takes a minute: cargo test --test catalog -- --ignored"]
fn a_publisher_killed_200_times_leaves_the_old_or_the_new_generation() {
    kill_publishers(200);
}

/// A dump of so many items with ids from 0 on, as npy files in a folder.
fn dump(folder: &Path, rows: usize) -> PathBuf {
    let path = folder.join("items.fvecs");
    let mut bytes = Vec::new();
    for (_, row) in items(rows, 6, 1) {
        bytes.extend(6u32.to_le_bytes());
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn shards_are_built_staged_and_published() {
    let place = Place::new();
    let dump = dump(place.folder.path(), 500);
    let catalog = place.catalog.folder().to_str().unwrap();
    let build = |arguments: &[&str]| {
        let mut command = itemdex(["build", "--model-version", "v1", "--threads", "1", "--items"]);
        command.arg(&dump).args(arguments);
        command
    };
    let out = place.folder.path().join("1.itemdex");
    run(&mut build(&["--shard", "1/3", "--out", out.to_str().unwrap()]), 0);
    let staged = itemdex(["catalog", "stage", catalog])
        .arg(&out)
        .args(["--key", "job", "--shard", "1/3"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&staged.stdout).starts_with("staged  shard 1/3 of model version v1"));
    let wrong =
        run(itemdex(["catalog", "stage", catalog]).arg(&out).args(["--key", "job", "--shard", "0/3"]), 1);
    assert!(said(&wrong).contains("belongs to shard 1, not 0/3"), "{}", said(&wrong));
    let publish = || itemdex(["catalog", "publish-shards", catalog, "--key", "job", "--shards", "3"]);
    let missing = run(&mut publish(), 1);
    assert!(said(&missing).contains("2 are not staged: 0, 2"), "{}", said(&missing));
    for shard in ["0/3", "2/3"] {
        run(&mut build(&["--shard", shard, "--stage", catalog, "--key", "job"]), 0);
    }
    run(&mut build(&["--shard", "0/3", "--stage", catalog]), 2);
    run(&mut build(&["--shard", "3/3", "--stage", catalog, "--key", "job"]), 2);
    let listed = run(&mut itemdex(["catalog", "staged", catalog, "--key", "job", "--json"]), 0);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    let generation = json(&mut publish());
    assert_eq!((generation["rows"].as_u64(), generation["paths"].as_array().unwrap().len()), (Some(500), 3));
    assert!(generation["path"].is_null());
    assert_eq!(json(&mut publish()), generation);
    let listed = run(&mut itemdex(["catalog", catalog]), 0);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("current"));
    run(&mut build(&["--shard", "0/2", "--stage", catalog, "--key", "other"]), 0);
    assert_eq!(json(&mut itemdex(["catalog", "discard", catalog, "--key", "other"]))["files"], 1);
    for path in generation["paths"].as_array().unwrap() {
        run(&mut itemdex(["verify", path.as_str().unwrap()]), 0);
    }
}

#[test]
fn killed_publishers_of_shards_leave_the_old_or_the_new_generation() {
    let place = Place::new();
    let dump = dump(place.folder.path(), 3_000);
    let catalog = place.catalog.folder().to_str().unwrap().to_owned();
    let shards: Vec<PathBuf> = (0..2)
        .map(|number| {
            let out = place.folder.path().join(format!("{number}.itemdex"));
            let shard = format!("{number}/2");
            let arguments =
                ["build", "--model-version", "v1", "--threads", "1", "--shard", &shard, "--items"];
            run(itemdex(arguments).arg(&dump).arg("--out").arg(&out), 0);
            out
        })
        .collect();
    place.publish("v1", 10);
    let commands = |key: &str| -> Vec<Command> {
        let stage = |number: usize| {
            let mut command = itemdex(["catalog", "stage", &catalog]);
            let shard = format!("{number}/2");
            command.arg(&shards[number]).args(["--key", key, "--shard", &shard]);
            command
        };
        let publish = itemdex(["catalog", "publish-shards", &catalog, "--key", key, "--shards", "2"]);
        vec![stage(0), stage(1), publish]
    };
    let started = Instant::now();
    commands("first").iter_mut().for_each(|command| drop(run(command, 0)));
    let takes = started.elapsed().as_micros() as usize / 3;
    let mut random = Random(7);
    for round in 0..20 {
        let before = place.catalog.current().unwrap().unwrap();
        let key = format!("job-{round}");
        let mut commands = commands(&key);
        let killed = random.below(3);
        commands[..killed].iter_mut().for_each(|command| drop(run(command, 0)));
        let mut child = commands[killed].stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(random.below(takes * 5 / 4) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let current = place.catalog.current().unwrap().unwrap();
        assert!(current == before || killed == 2, "{current:?}");
        for path in place.catalog.paths_of(&current) {
            Index::open(path).unwrap().verify(|_| ()).unwrap();
        }
        // The job is begun anew, whatever it had done.
        if current == before {
            for command in &mut commands {
                run(command.stdout(Stdio::null()), 0);
            }
        }
        let current = place.catalog.current().unwrap().unwrap();
        assert_eq!((current.number, current.shard_count()), (before.number + 1, 2));
    }
    let listed: BTreeSet<String> = place
        .catalog
        .generations()
        .unwrap()
        .iter()
        .flat_map(|one| place.catalog.paths_of(one))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(place.files(), listed, "leftovers are swept");
}

#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let place = Place::new();
    let good = place.publish("v1", 10);
    let index = place.index("v1", 2_000);
    // Files may not grow beyond 40 KB: writing more fails as on a full disk, with EFBIG for ENOSPC.
    let limited = || {
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$@\"", "sh"]);
        limited.arg(env!("CARGO_BIN_EXE_itemdex"));
        limited
    };
    let output = run(limited().arg("publish").arg(place.catalog.folder()).arg(&index), 1);
    assert!(said(&output).contains("cannot copy into the catalog"), "{}", said(&output));
    let items = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/completejourney/users_test.npy");
    let mut build = limited();
    build.args(["build", "--items", items, "--model-version", "v1", "--publish"]).arg(place.catalog.folder());
    let output = run(&mut build, 1);
    assert!(said(&output).contains("cannot write"), "{}", said(&output));
    assert_eq!(place.checked_current(), good);
    assert_eq!(place.files(), place.listed());
    run(place.command("publish").arg(&index), 0);
    assert_eq!(place.checked_current().rows, 2_000);
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error_and_harms_nothing() {
    let place = Place::new();
    let good = place.publish("v1", 10);
    let index = place.index("v1", 20);
    let program = place.folder.path().join("itemdex");
    fs::copy(env!("CARGO_BIN_EXE_itemdex"), &program).unwrap();
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.catalog.folder(), Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(program);
    command.arg("publish").arg(place.catalog.folder()).arg(&index);
    // Permissions do not bind the superuser.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(65_534).gid(65_534);
    }
    let output = run(&mut command, 1);
    assert!(said(&output).contains("Permission denied"), "{}", said(&output));
    assert_eq!(place.checked_current(), good);
    fs::set_permissions(place.catalog.folder(), Permissions::from_mode(0o755)).unwrap();
    run(place.command("publish").arg(&index), 0);
    assert_eq!(place.checked_current().rows, 20);
}
