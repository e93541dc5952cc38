//! The command line as a user or a script meets it.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[cfg(feature = "parquet")]
use arrow::array::AsArray;
#[cfg(feature = "parquet")]
use arrow::datatypes::{Float32Type, UInt32Type, UInt64Type};
use common::run;
use itemdex::dump::Dump;
use itemdex::{Index, Plan, SearchOptions};
use npyz::WriterBuilder;
#[cfg(feature = "parquet")]
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/completejourney");

fn itemdex() -> Command {
    Command::new(env!("CARGO_BIN_EXE_itemdex"))
}

fn data(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&run(command, 0).stdout).unwrap()
}

fn json_lines(command: &mut Command) -> Vec<Value> {
    let output = run(command, 0).stdout;
    output.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn npy<V: npyz::AutoSerialize>(path: &Path, shape: &[u64], values: impl IntoIterator<Item = V>) {
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(fs::File::create(path).unwrap()).begin_nd().unwrap();
    writer.extend(values).unwrap();
    writer.finish().unwrap();
}

/// A small dump of the first products, and a place for its index.
struct Small {
    folder: TempDir,
    items: PathBuf,
    users: PathBuf,
    index: PathBuf,
}

fn write_fbin(path: &Path, rows: &[f32], dim: usize) {
    let header = [(rows.len() / dim) as i32, dim as i32];
    fs::write(path, [bytemuck::cast_slice(&header), bytemuck::cast_slice(rows)].concat()).unwrap();
}

fn small() -> Small {
    let folder = tempfile::tempdir().unwrap();
    let [items, users, index] =
        ["items.fbin", "users.fbin", "items.itemdex"].map(|name| folder.path().join(name));
    let products = Dump::open(data("items.npy")).unwrap().into_matrix().unwrap();
    let households = Dump::open(data("users_test.npy")).unwrap().into_matrix().unwrap();
    write_fbin(&items, &products.as_slice()[..3_000 * 64], 64);
    write_fbin(&users, &households.as_slice()[..3 * 64], 64);
    Small { folder, items, users, index }
}

impl Small {
    fn build(&self) -> Command {
        self.build_at(50)
    }

    fn build_at(&self, ef_construction: usize) -> Command {
        let mut command = itemdex();
        command.arg("build").arg("--items").arg(&self.items).arg("--out").arg(&self.index);
        command
            .args(["--model-version", "v1", "--m", "8", "--ef-construction"])
            .arg(ef_construction.to_string());
        command
    }

    fn built() -> Small {
        let small = small();
        run(&mut small.build(), 0);
        small
    }

    fn ask(&self, command: &str) -> Command {
        let mut asked = itemdex();
        asked.arg(command).arg(&self.index);
        if command != "info" && command != "verify" {
            asked.arg("--users").arg(&self.users);
        }
        asked
    }
}

#[test]
fn a_build_takes_columns_and_info_lists_them() {
    let small = small();
    let [author, region] = ["author.npy", "region.txt"].map(|name| small.folder.path().join(name));
    npy(&author, &[3_000], (0..3_000).map(|row| row % 7));
    fs::write(&region, "JP\n\nUS|BR\n".repeat(1_000)).unwrap();
    let named = |name: &str, path: &Path, kind: &str| format!("{name}={}{kind}", path.display());
    let mut build = small.build();
    build.arg("--column").arg(named("author", &author, ":tag"));
    build.arg("--column").arg(named("region", &region, ":tag"));
    build.arg("--column").arg(named("age", &author, ":number"));
    run(build.arg("--expires").arg(named("until", &author, "")), 0);
    let info = json(small.ask("info").arg("--json"));
    let columns = info["columns"].as_array().unwrap();
    let line = |column: &Value| {
        let text = |key: &str| column[key].to_string().replace('"', "");
        ["name", "kind", "type", "distinct", "nulls"].map(text).join(" ")
    };
    let lines: Vec<String> = columns.iter().map(line).collect();
    let expected =
        ["author tag u64 7 0", "region tag string 3 1000", "age number i64 7 0", "until expires i64 7 0"];
    assert_eq!(lines, expected);
    assert!(String::from_utf8(run(&mut small.ask("info"), 0).stdout).unwrap().contains("string"));
    run(&mut small.ask("verify"), 0);

    let refused = |arguments: &[String], code| {
        let output = run(small.build().args(arguments), code);
        String::from_utf8(output.stderr).unwrap()
    };
    let column = |text: String| ["--column".to_owned(), text];
    assert!(refused(&column("author".to_owned()), 2).contains("give its kind behind a colon"));
    assert!(refused(&column("a:text".to_owned()), 2).contains("none of tag, number and flag"));
    assert!(refused(&column("a:tag".to_owned()), 2).contains("name its file: a=FILE"));
    assert!(refused(&column(named("a", &region, ":number")), 1).contains("region.txt"));
    fs::write(&region, "JP\n").unwrap();
    let few = refused(&column(named("region", &region, ":tag")), 1);
    assert!(few.contains("column region: it has 1 values for the 3000 items"), "{few}");
    let onto = refused(&column(named("region", &small.index, ":tag")), 2);
    assert!(onto.contains("is the file of column region"), "{onto}");
}

#[test]
fn build_info_and_verify_agree() {
    let small = small();
    let report = json(small.build().arg("--json"));
    assert_eq!((&report["rows"], &report["dim"]), (&3_000.into(), &64.into()));
    let info = json(small.ask("info").arg("--json"));
    assert_eq!((&info["rows"], &info["dim"], &info["m"]), (&3_000.into(), &64.into(), &8.into()));
    assert_eq!(info["model_version"], "v1");
    assert_eq!(info["sections"]["rows"], 3_000 * 256);
    assert!(info["degree"]["mean"].as_f64().unwrap() > 2.0);
    assert_eq!(info["bytes"], fs::metadata(&small.index).unwrap().len());
    let verified = run(&mut small.ask("verify"), 0).stdout;
    assert!(String::from_utf8(verified).unwrap().ends_with("3000 rows, everything holds\n"));
    let text = String::from_utf8(run(&mut small.ask("info"), 0).stdout).unwrap();
    assert!(text.contains("model version  v1") && text.contains("rows           3000 x 64"));
}

#[test]
fn search_prints_one_object_a_user() {
    let small = Small::built();
    let answers = json_lines(small.ask("search").args(["-k", "7", "--ef", "100", "--json"]));
    let index = Index::open(&small.index).unwrap();
    let users = Dump::open(&small.users).unwrap().into_matrix().unwrap();
    assert_eq!(answers.len(), 3);
    for (user, answer) in answers.iter().enumerate() {
        assert_eq!(answer["user"], user);
        let hits = index.search_with(users.row(user), &SearchOptions::new(7).ef(100)).unwrap().hits;
        assert_eq!(answer["hits"].as_array().unwrap().len(), 7);
        for (printed, hit) in answer["hits"].as_array().unwrap().iter().zip(hits) {
            assert_eq!(printed["id"], hit.id);
            assert_eq!(printed["score"].as_f64().unwrap() as f32, hit.score);
        }
    }
    let text = String::from_utf8(run(small.ask("search").args(["-k", "7"]), 0).stdout).unwrap();
    assert_eq!(text.lines().count(), 3 * 8);
}

#[test]
fn the_best_items_of_many_users_go_to_one_file() {
    let small = Small::built();
    let users = small.folder.path().join("many.fbin");
    let households = Dump::open(&small.users).unwrap().into_matrix().unwrap();
    let many: Vec<f32> = (0..3_000).flat_map(|user| households.row(user % 3)).copied().collect();
    write_fbin(&users, &many, 64);
    let out = small.folder.path().join("best.npy");
    let part = small.folder.path().join("best.npy.part");
    let topk = || {
        let mut command = itemdex();
        command.arg("topk").arg(&small.index).arg("--users").arg(&users).arg("--out").arg(&out);
        command.args(["-k", "5", "--recall", "1", "--json"]);
        command
    };

    // A folder of that name keeps the file from being finished.
    fs::create_dir_all(out.join("taken")).unwrap();
    run(&mut topk(), 1);
    fs::remove_dir_all(&out).unwrap();
    let written = fs::read(&part).unwrap();
    let begin = written.len() - 3_000 * 5 * 12;
    let mut stopped = written[..begin + 2_100 * 5 * 12].to_vec();
    stopped[begin..begin + 8].copy_from_slice(&77u64.to_le_bytes());
    fs::write(&part, stopped).unwrap();
    let report = json(&mut topk());
    assert_eq!(
        (&report["users"], &report["answered"], &report["k"]),
        (&3_000.into(), &1_976.into(), &5.into())
    );
    assert!(!part.exists());

    // What was written before is taken as it is, and the rest is what the index answers.
    let hits = fs::read(&out).unwrap();
    assert_eq!(&hits[..6], b"\x93NUMPY");
    assert_eq!(hits[begin..begin + 8], 77u64.to_le_bytes());
    assert_eq!(hits[begin + 12..], written[begin + 12..]);
    let index = Index::open(&small.index).unwrap();
    let expected =
        index.search_with(households.row(2_999 % 3), &SearchOptions::new(5).recall(1.0)).unwrap().hits;
    let last = hits[hits.len() - 5 * 12..].chunks_exact(12).map(|hit| {
        let (id, score) = hit.split_at(8);
        (u64::from_le_bytes(id.try_into().unwrap()), f32::from_le_bytes(score.try_into().unwrap()))
    });
    assert!(last.eq(expected.iter().map(|hit| (hit.id, hit.score))));

    // Another question is answered from the beginning.
    fs::write(&part, &hits).unwrap();
    let report = json(topk().args(["--threads", "1"]));
    assert_eq!(report["answered"], 3_000);
    assert_eq!(fs::read(&out).unwrap(), written);
}

#[cfg(feature = "parquet")]
#[test]
fn the_best_items_of_many_users_go_to_parquet() {
    let small = Small::built();
    let out = small.folder.path().join("best.parquet");
    let mut command = itemdex();
    command.arg("topk").arg(&small.index).arg("--users").arg(&small.users).arg("--out").arg(&out);
    let report = json(command.args(["-k", "4", "--recall", "1", "--json"]));
    assert_eq!((&report["users"], &report["k"]), (&3.into(), &4.into()));
    let names = fs::read_dir(small.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_str().unwrap().starts_with("best")).count(), 1);

    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&out).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let [batch] = &batches[..] else { panic!("one batch, not {}", batches.len()) };
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let [users, ids] = ["user", "id"].map(|name| column(name).as_primitive::<UInt64Type>().values());
    let ranks = column("rank").as_primitive::<UInt32Type>().values();
    let scores = column("score").as_primitive::<Float32Type>().values();
    assert_eq!((batch.num_rows(), &ranks[..5]), (12, &[0, 1, 2, 3, 0][..]));
    let index = Index::open(&small.index).unwrap();
    let households = Dump::open(&small.users).unwrap().into_matrix().unwrap();
    for (user, household) in households.rows().enumerate() {
        let hits = index.search_with(household, &SearchOptions::new(4).recall(1.0)).unwrap().hits;
        for (at, hit) in (4 * user..).zip(hits) {
            assert_eq!((users[at], ids[at], scores[at]), (user as u64, hit.id, hit.score));
        }
    }
}

#[test]
fn a_dry_run_says_what_the_build_takes_and_builds_nothing() {
    let small = small();
    let build = || {
        let mut command = small.build();
        command.args(["--plans", "graph", "--quantize", "i8", "--rows", "f16", "--json"]);
        command
    };
    let expected = json(build().arg("--dry-run"));
    assert!(!small.index.exists());
    let report = json(&mut build());
    assert_eq!(expected["bytes"], report["bytes"]);
    assert_eq!((&expected["rows"], &expected["dim"]), (&report["rows"], &report["dim"]));
    assert_eq!(expected["row_format"], "f16");
    assert!(expected["memory"].as_u64() > Some(0) && expected["seconds"].as_f64() > Some(0.0));

    // Without a dump.
    let mut of_shape = itemdex();
    of_shape.args(["build", "--dry-run", "--shape", "10000000x64"]);
    let text = String::from_utf8(run(&mut of_shape, 0).stdout).unwrap();
    assert!(text.starts_with("rows     10000000 x 64, kept as f32\nbytes    "), "{text}");
    let said = run(of_shape.args(["--memory", "1G"]), 2).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("but 1024 MiB are allowed"), "{said}");
    run(build().args(["--memory", "1M"]), 2);
    run(build().args(["--memory", "1G"]), 0);
    run(build().args(["--memory", "1X"]), 2);
    run(itemdex().args(["build", "--dry-run", "--shape", "10x"]), 2);
    run(itemdex().args(["build", "--shape", "10x10"]), 2);
    run(itemdex().args(["build", "--dry-run"]), 2);
}

#[test]
fn an_index_has_the_plans_it_is_told_and_searches_by_them() {
    let small = small();
    run(small.build().args(["--plans", "partitions"]), 0);
    run(&mut small.ask("verify"), 0);
    let info = json(small.ask("info").arg("--json"));
    assert_eq!(info["plans"], serde_json::json!(["partitions", "scan"]));
    assert_eq!((&info["format_version"], &info["sections"]["base_layer"]), (&2.into(), &0.into()));
    assert!(info["clusters"].as_u64().unwrap() > 50);
    for plan in ["partitions", "scan"] {
        let mut search = small.ask("search");
        search.args(["-k", "5", "--recall", "1", "--json", "--plan", plan]);
        let answers = json_lines(&mut search);
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| answer["plan"] == plan));
        let scanned = json_lines(small.ask("search").args(["-k", "5", "--json", "--plan", "scan"]));
        let hits =
            |answers: &[Value]| answers.iter().map(|answer| answer["hits"].clone()).collect::<Vec<_>>();
        assert_eq!(hits(&answers), hits(&scanned));
    }
    let said = run(small.ask("search").args(["--plan", "graph"]), 2).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("built without a graph; build it with --plans graph,partitions"), "{said}");

    run(small.build().args(["--plans", "graph,partitions"]), 0);
    let info = json(small.ask("info").arg("--json"));
    assert_eq!(info["plans"], serde_json::json!(["graph", "partitions", "scan"]));
    run(small.build().args(["--plans", "scan"]), 2);
    run(small.build().args(["--plans", "trees"]), 2);
}

#[test]
fn what_a_user_may_not_see_is_left_out() {
    let small = small();
    let [number, expires, deny, candidates] = ["number", "expires", "deny", "candidates"]
        .map(|name| small.folder.path().join(format!("{name}.npy")));
    npy(&number, &[3_000], 0..3_000i64);
    npy(&expires, &[3_000], (0..3_000i64).map(|row| if row < 100 { 500i64 } else { 5_000_000_000 }));
    let mut build = small.build();
    build.arg("--column").arg(format!("number={}:number", number.display()));
    run(build.arg("--expires").arg(format!("expires={}", expires.display())), 0);
    let search = || {
        let mut search = small.ask("search");
        search.args(["-k", "20", "--json", "--filter", "number < 200 and number != 150"]);
        search
    };
    let ids = |answer: &Value| -> Vec<u64> {
        answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap()).collect()
    };
    for answer in json_lines(&mut search()) {
        assert_eq!((&answer["matching"], &answer["plan"]), (&99.into(), &"scan".into()));
        assert!(ids(&answer).len() == 20 && ids(&answer).iter().all(|id| (100..200).contains(id)));
    }
    assert_eq!(json_lines(search().args(["--now", "499"]))[0]["matching"], 199);

    let best = ids(&json_lines(&mut search())[1])[0] as i64;
    npy(&deny, &[3, 2], [-1, -1, best, -1, 199, 198]);
    let answers = json_lines(search().arg("--deny").arg(&deny));
    let matching: Vec<&Value> = answers.iter().map(|answer| &answer["matching"]).collect();
    assert_eq!(matching, [99, 98, 97]);
    assert!(!ids(&answers[1]).contains(&(best as u64)));

    npy(&candidates, &[4], [best as u64, 250, 50, 7_777]);
    let mut rank = small.ask("rank");
    rank.args(["-k", "5", "--json", "--filter", "number < 200", "--candidates"]).arg(&candidates);
    let answer = &json_lines(rank.arg("--deny").arg(&deny))[1];
    for (name, count) in [("unknown", 1), ("expired", 1), ("denied", 1), ("filtered", 1), ("matching", 0)] {
        assert_eq!(answer[name], count, "{name}");
    }

    let said = run(small.ask("search").args(["--filter", "number <"]), 2).stderr;
    assert!(String::from_utf8(said).unwrap().contains("character"));
    npy(&deny, &[2, 1], [1u64, 2]);
    let said = run(search().arg("--deny").arg(&deny), 1).stderr;
    assert!(String::from_utf8(said).unwrap().ends_with("give one row a user\n"));
}

#[test]
fn rank_takes_one_list_or_one_a_user() {
    let small = Small::built();
    let path = small.folder.path().join("candidates.npy");
    let mut rank = small.ask("rank");
    rank.args(["-k", "2", "--json", "--candidates"]).arg(&path);

    npy(&path, &[5], [10u64, 20, 30, 999_999, 888_888]);
    let answers = json_lines(&mut rank);
    assert_eq!(answers.len(), 3);
    for answer in &answers {
        assert_eq!((&answer["unknown"], answer["hits"].as_array().unwrap().len()), (&2.into(), 2));
    }
    npy(&path, &[3, 2], [10u64, 20, 30, 40, 50, 60]);
    for (user, answer) in json_lines(&mut rank).iter().enumerate() {
        let mut ids: Vec<u64> =
            answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [20 * user as u64 + 10, 20 * user as u64 + 20]);
    }
    npy(&path, &[2, 1], [1u64, 2]);
    let said = String::from_utf8(run(&mut rank, 1).stderr).unwrap();
    assert!(said.ends_with("2 rows of candidates for 3 users; give one row a user\n"), "{said}");
}

#[test]
fn eval_measures_each_beam_and_draws() {
    let small = Small::built();
    let plot = small.folder.path().join("plot.svg");
    let mut eval = small.ask("eval");
    eval.args(["-k", "100", "--ef", "50,374,50", "--json", "--plot"]).arg(&plot);
    let report = json(&mut eval);
    assert_eq!((&report["k"], &report["users"]), (&100.into(), &3.into()));
    let points = report["points"].as_array().unwrap();
    // Each beam is measured once.
    assert_eq!(points.iter().map(|point| point["ef"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 374]);
    for point in points {
        let value = |name: &str| point[name].as_f64().unwrap();
        assert!(value("recall") > 0.2 && value("qps") > 0.0 && value("p99_us") >= value("p50_us"));
    }
    assert!(fs::read_to_string(plot).unwrap().starts_with("<svg"));
}

#[test]
fn eval_measures_the_plan_it_is_told() {
    let small = small();
    run(small.build().args(["--plans", "partitions"]), 0);
    let plot = small.folder.path().join("plot.svg");
    let mut eval = small.ask("eval");
    eval.args(["-k", "50", "--plan", "partitions", "--recall", "0.9,1", "--json", "--plot"]).arg(&plot);
    let points = json(&mut eval)["points"].clone();
    let points = points.as_array().unwrap();
    assert_eq!(points.len(), 2);
    for point in points {
        assert_eq!(point["plan"], "partitions");
        let value = |name: &str| point[name].as_f64().unwrap();
        assert!(value("recall_p5") > 0.2 && value("recall_p5") <= value("recall"));
    }
    assert_eq!((&points[1]["recall"], &points[1]["recall_p5"]), (&1.0.into(), &1.0.into()));
    assert!(fs::read_to_string(plot).unwrap().contains("partitions"));
    run(small.ask("eval").args(["--plan", "graph"]), 2);
}

#[test]
fn eval_times_ranks_beside_their_memory() {
    let small = Small::built();
    let mut eval = small.ask("eval");
    eval.args(["--rank", "3000", "-k", "50", "--calls", "20", "--threads", "2", "--resident", "--json"]);
    let rank = &json(&mut eval)["rank"];
    assert_eq!((&rank["candidates"], &rank["k"]), (&3000.into(), &50.into()));
    let value = |value: &Value| value.as_f64().unwrap();
    for way in ["exact", "two_step", "by_rows"] {
        assert!(value(&rank[way]["p50_us"]) > 0.0);
        assert!(value(&rank[way]["p99_us"]) >= value(&rank[way]["p50_us"]));
    }
    assert_eq!(value(&rank["two_step"]["overlap"]), 1.0);
    for part in ["lookup_p50_us", "gather_limit_rows_p50_us", "gather_limit_i8_p50_us"] {
        assert!(value(&rank[part]) > 0.0, "{part}");
    }
    let throughput = &rank["throughput"];
    assert_eq!(throughput["threads"], 2);
    assert!(value(&throughput["ranks_per_s"]) > 0.0 && value(&throughput["one_thread_ranks_per_s"]) > 0.0);
    assert_eq!(rank["resident"]["bytes"].as_u64(), Some(fs::metadata(&small.index).unwrap().len()));
    run(small.ask("eval").args(["--rank", "10", "--ef", "50"]), 2);
}

#[test]
fn eval_says_what_the_index_keeps_of_a_teachers_best() {
    let small = Small::built();
    let index = Index::open(&small.index).unwrap();
    let users = Dump::options().without_ids().open(&small.users).unwrap().into_matrix().unwrap();
    // Twenty candidates a user. The teacher holds the index's last five best, and did not score its first.
    let (mut candidates, mut teacher) = (Vec::new(), Vec::new());
    for user in users.rows() {
        let hits = index.search_with(user, &SearchOptions::new(20).recall(1.0)).unwrap().hits;
        candidates.extend(hits.iter().map(|hit| hit.id));
        teacher.extend((0..20).map(|place| if place == 0 { f32::NAN } else { place as f32 }));
    }
    let [lists, scores] = ["candidates.npy", "teacher.npy"].map(|name| small.folder.path().join(name));
    let shape = [users.len() as u64, 20];
    npy(&lists, &shape, candidates);
    npy(&scores, &shape, teacher);
    let mut eval = small.ask("eval");
    eval.args(["-k", "5", "--stages", "20,17,5", "--funnel"]).arg(&lists).arg("--teacher").arg(&scores);
    assert!(String::from_utf8(run(&mut eval, 0).stdout).unwrap().contains("passed 17"));
    let funnel = &json(eval.arg("--json"))["funnel"];
    assert_eq!(
        (&funnel["best"], &funnel["users"], &funnel["indexed"]),
        (&5.into(), &users.len().into(), &1.0.into())
    );
    let kept: Vec<f64> = (0..3).map(|stage| funnel["stages"][stage]["kept"].as_f64().unwrap()).collect();
    assert!((kept[0] - 1.0).abs() + (kept[1] - 0.4).abs() + kept[2] < 1e-9, "{kept:?}");

    run(small.ask("eval").arg("--funnel").arg(&lists), 2);
    npy(&scores, &[1, 20], vec![0.5; 20]);
    let mut eval = small.ask("eval");
    let said = run(eval.arg("--funnel").arg(&lists).arg("--teacher").arg(&scores), 1).stderr;
    assert!(String::from_utf8(said).unwrap().contains("give one row a user"));
}

#[test]
fn wrong_usage_exits_with_2_and_failed_work_with_1() {
    run(&mut itemdex(), 2);
    run(itemdex().arg("dance"), 2);
    run(itemdex().args(["build", "--items", "x.npy"]), 2);
    run(itemdex().args(["search", "x.itemdex", "--users", "y.npy", "-k", "many"]), 2);
    let failed = run(itemdex().args(["info", "/missing.itemdex", "--json"]), 1);
    assert!(failed.stdout.is_empty());
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(said, "error: cannot open /missing.itemdex: No such file or directory (os error 2)\n");
    run(itemdex().arg("--help"), 0);
}

#[test]
fn wrong_values_are_wrong_usage() {
    let small = Small::built();
    let refused = |command: &mut Command| {
        let output = run(command, 2);
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    for (option, value) in [("--threads", "0"), ("--m", "1"), ("--m", "129"), ("--ef-construction", "0")] {
        let mut build = itemdex();
        build.args(["build", "--model-version", "v1", "--items"]).arg(&small.items);
        build.args(["--out", "/nowhere/items.itemdex", option, value]);
        let said = refused(&mut build);
        assert!(said.contains(&format!("{value} is not within")), "{said}");
    }
    for version in ["", "two\nlines", "\u{1b}[2J"] {
        let mut build = itemdex();
        build.args(["build", "--out", "/nowhere/items.itemdex", "--model-version", version, "--items"]);
        let said = refused(build.arg(&small.items));
        assert!(said.starts_with("error: model version: it ") && !said.contains('\u{1b}'), "{said}");
    }
    refused(small.ask("search").args(["--recall", "0"]));
    refused(small.ask("search").args(["--recall", "1.01"]));
    refused(small.ask("eval").args(["--threads", "0"]));
    refused(small.ask("eval").args(["--recall", "0.9,0"]));
    let said = refused(small.ask("eval").args(["--rank", "99999999"]));
    assert!(said.ends_with("has 3000 items; give at most so many candidates\n"), "{said}");
}

#[test]
fn a_standard_error_that_cannot_be_written_ends_no_work() {
    let small = small();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    for stderr in [closed(), full()] {
        let output = small.build().env("RUST_LOG", "trace").stderr(stderr).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        Index::open(&small.index).unwrap().verify(|_| ()).unwrap();
        fs::remove_file(&small.index).unwrap();
    }
    for stderr in [closed(), full()] {
        let failed = small.ask("info").env("RUST_LOG", "no=such=filter").stderr(stderr).output().unwrap();
        assert_eq!(failed.status.code(), Some(1));
    }
}

#[test]
fn a_path_that_is_no_text_is_printed_as_well_as_it_can_be() {
    let mut small = small();
    small.index = small.folder.path().join(OsStr::from_bytes(b"items-\xFF.itemdex"));
    let printed = format!("{}/items-\u{FFFD}.itemdex", small.folder.path().display());
    assert_eq!(json(small.build().arg("--json"))["path"], printed);
    let verified = json(small.ask("verify").arg("--json"));
    assert_eq!(verified, serde_json::json!({"path": printed, "rows": 3000, "holds": true}));
    let mut build = itemdex();
    build.args(["build", "--json", "--model-version", "v1", "--items"]).arg(&small.items);
    build.arg("--publish").arg(small.folder.path().join(OsStr::from_bytes(b"catalog-\xFF")));
    let published = json(&mut build);
    assert_eq!(published["generation"], 1);
    assert!(published["path"].as_str().unwrap().contains("/catalog-\u{FFFD}/"), "{published}");
}

#[test]
fn an_index_is_not_written_over_what_it_is_built_from() {
    let small = small();
    let ids = small.folder.path().join("ids.npy");
    npy(&ids, &[3_000], 0..3_000);
    let inputs = [&small.items, &ids, &small.users];
    let before = inputs.map(|path| fs::read(path).unwrap());
    let link = small.folder.path().join("link");
    for (input, other) in [(0, false), (0, true), (1, false), (2, false), (2, true)] {
        let mut build = itemdex();
        build.args(["build", "--model-version", "v1", "--items"]).arg(&small.items);
        build.arg("--ids").arg(&ids).arg("--users").arg(&small.users).arg("--out");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(inputs[input], &link).unwrap();
        build.arg(if other { &link } else { inputs[input] });
        let said = String::from_utf8(run(&mut build, 2).stderr).unwrap();
        assert!(said.contains("; name another"), "{said}");
    }
    assert!(inputs.map(|path| fs::read(path).unwrap()) == before);
}

#[test]
fn faults_of_files_are_told_of_the_file_that_has_them() {
    let small = Small::built();
    let said = |command: &mut Command| String::from_utf8(run(command, 1).stderr).unwrap();
    let ids = small.folder.path().join("ids.npy");
    npy(&ids, &[3_000], (0..3_000).map(|id| id % 2_999));
    let twice = said(small.build().arg("--ids").arg(&ids));
    let expected = format!(
        "error: {}: item id 0 stands at row 0 and again at row 2999; give every item one row\n",
        ids.display()
    );
    assert!(twice.ends_with(&expected), "{twice}");

    let users = small.users.display().to_string();
    write_fbin(&small.users, &[], 64);
    assert_eq!(
        said(&mut small.ask("search")),
        format!("error: {users}: it is empty: it holds no embeddings\n")
    );
    fs::write(&small.users, "").unwrap();
    assert_eq!(
        said(&mut small.ask("search")),
        format!("error: {users}: it is empty: the file has no bytes\n")
    );

    let out = small.folder.path().join("missing/items.itemdex");
    let mut build = itemdex();
    build.args(["build", "--model-version", "v1", "--items"]).arg(&small.items).arg("--out").arg(&out);
    let missing = "No such file or directory (os error 2)";
    let expected = format!("error: cannot create a file beside {}: {missing}\n", out.display());
    assert_eq!(said(&mut build), expected);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let small = Small::built();
    let mut child = small.ask("search").args(["-k", "3000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "user 0  (by scan)\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_is_named_and_leaves_the_old_index() {
    let small = Small::built();
    let before = fs::read(&small.index).unwrap();
    // A limit on what a process may write fails as a full disk does, and needs no rights to set.
    let shell = format!("trap '' XFSZ; ulimit -f 600; exec {:?}", small.build());
    let said = String::from_utf8(run(Command::new("bash").args(["-c", &shell]), 1).stderr).unwrap();
    let expected = format!("error: cannot write {}: File too large (os error 27)\n", small.index.display());
    assert!(said.ends_with(&expected), "{said}");
    assert!(fs::read(&small.index).unwrap() == before);
    assert_eq!(fs::read_dir(small.folder.path()).unwrap().count(), 3);
}

#[test]
fn a_killed_build_leaves_the_old_index() {
    let small = Small::built();
    let before = fs::read(&small.index).unwrap();
    let mut slow = small.build_at(400);
    slow.stderr(Stdio::piped());
    // Killed when it has said so many lines: while rows, graph and the rest are made.
    for lines in 1..5 {
        let mut child = slow.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        (0..lines).for_each(|_| drop(said.next()));
        child.kill().unwrap();
        child.wait().unwrap();
        let index = Index::open(&small.index).unwrap();
        index.verify(|_| ()).unwrap();
        if index.info().ef_construction == 50 {
            assert!(fs::read(&small.index).unwrap() == before);
        }
    }
}

#[test]
fn an_interrupted_build_cleans_up() {
    let small = small();
    let mut child = small.build_at(2000).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let begun = stderr.by_ref().lines().any(|line| line.unwrap().starts_with("graph"));
    assert!(begun);
    run(Command::new("kill").args(["-INT", &child.id().to_string()]), 0);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.ends_with("error: cancelled\n"), "{rest}");
    assert_eq!(fs::read_dir(small.folder.path()).unwrap().count(), 2);
}

#[test]
fn demo_tells_the_whole_story() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo.itemdex");
    let output = run(itemdex().arg("demo").arg("--out").arg(&out), 0);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "28165 products x 64",
        "household 1865",
        "1000 candidates by search",
        "bacon",
        "best 1000 of 28165: recall 0.9",
        "best 100 of 28165: recall 0.9",
        "100.0% in exact order",
        "only department = \"PRODUCE\", which keeps 10",
        "itemdex eval",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    let plans = [Plan::Graph, Plan::Partitions, Plan::Scan].map(Plan::name);
    assert!(plans.iter().any(|plan| text.contains(&format!("(plan: {plan})"))), "no plan in:\n{text}");
    Index::open(&out).unwrap();
}
