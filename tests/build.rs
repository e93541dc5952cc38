//! Building, and what is said of items that cannot be indexed.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use itemdex::dump::Dump;
use itemdex::{Builder, Error, Index, IndexBuilder, Matrix, Quantization, Result, SearchOptions, Stage, f16};

#[cfg(feature = "hnsw_rs")]
const BUILDERS: [Builder; 2] = [Builder::Native, Builder::HnswRs];
#[cfg(not(feature = "hnsw_rs"))]
const BUILDERS: [Builder; 1] = [Builder::Native];

fn builder() -> IndexBuilder {
    IndexBuilder::new("v1").m(8).ef_construction(64)
}

/// The message of a build that fails, which must leave no file and not touch the one that was there.
fn refusal(build: impl Fn(&Path) -> Result<itemdex::BuildReport>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let message = build(&path).unwrap_err().to_string();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&path, "what was there").unwrap();
    build(&path).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"what was there");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    message.replace(&format!("{}/", folder.path().display()), "")
}

fn refused_items(items: &[(u64, &[f32])]) -> String {
    refusal(|path| builder().build_from(items.iter().copied(), path))
}

#[test]
fn one_row_makes_an_index() {
    let built = build(&vec![(77, vec![1.0, 2.0])]);
    built.index.verify(|_| ()).unwrap();
    assert_eq!(built.index.search(&[1.0, 1.0], 10).unwrap()[0].id, 77);
}

#[test]
fn one_thread_gives_the_same_file_every_time() {
    let items = items(3_000, 9, 1);
    let sample = Matrix::new(9, users(100, 9, 1).concat()).unwrap();
    for kind in BUILDERS {
        let same = || builder().builder(kind).threads(1).user_sample(sample.clone());
        let [first, second] = [1, 2].map(|_| build_with(&same(), &items));
        assert!(fs::read(first.path).unwrap() == fs::read(second.path).unwrap(), "{kind:?}");
    }
}

#[test]
fn each_builder_makes_a_graph_that_is_whole_and_finds_items() {
    let items = items(6_000, 8, 1);
    for kind in BUILDERS {
        let built = build_with(&IndexBuilder::new("v1").builder(kind), &items);
        built.index.verify(|_| ()).unwrap();
        let found = found_of_10(&built, &items, &users(50, 8, 1), 200);
        assert!(found >= 450, "{kind:?} found {found} of 500");
    }
}

#[test]
fn walks_over_i8_rows_find_as_much_and_score_the_same() {
    let items = items(6_000, 24, 8);
    let users = users(50, 24, 8);
    let of = |quantization| build_with(&builder().threads(1).quantize(quantization), &items);
    let [plain, quantized] = [of(Quantization::None), of(Quantization::I8)];
    assert!(quantized.index.info().quantized && !plain.index.info().quantized);
    quantized.index.verify(|_| ()).unwrap();
    let [plain_found, found] = [&plain, &quantized].map(|built| found_of_10(built, &items, &users, 100));
    assert!(found + 5 >= plain_found, "{found} over i8, {plain_found} over f32");
    for user in &users {
        for hit in quantized.index.search(user, 20).unwrap() {
            let mut score = [0.0];
            plain.index.score(user, &[hit.id], &mut score).unwrap();
            assert_eq!(hit.score, score[0]);
        }
    }
}

#[test]
fn rows_that_i8_cannot_tell_apart_are_not_quantised() {
    // One huge coordinate, equal in all items, leaves the others no steps of i8.
    let mut items = items(3_000, 8, 9);
    items.iter_mut().for_each(|(_, row)| row[0] = 10_000.0);
    let sample: Vec<f32> = users(200, 8, 9)
        .into_iter()
        .flat_map(|mut user| {
            user[0] = 0.0;
            user
        })
        .collect();
    let built = build_with(&builder().user_sample(Matrix::new(8, sample).unwrap()), &items);
    assert!(!built.index.info().quantized);
}

#[test]
fn a_user_sample_helps_users_who_are_not_like_items() {
    // Items about many topics; users each between two topics, where there are no items.
    let mut random = Random(3);
    let topics: Vec<Vec<f32>> = (0..60).map(|_| random.embedding(24)).collect();
    let near = |topic: usize, random: &mut Random| -> Vec<f32> {
        topics[topic].iter().zip(random.embedding(24)).map(|(centre, jitter)| centre + 0.4 * jitter).collect()
    };
    let items: Items = (0..6_000).map(|id| (id, near(id as usize % 60, &mut random))).collect();
    let mut user = || -> Vec<f32> {
        let [first, second] = [random.below(60), random.below(60)].map(|topic| near(topic, &mut random));
        first.iter().zip(second).map(|(a, b)| a + b).collect()
    };
    let sample = Matrix::new(24, (0..2_000).flat_map(|_| user()).collect()).unwrap();
    let users: Vec<Vec<f32>> = (0..100).map(|_| user()).collect();
    let narrow = IndexBuilder::new("v1").m(8).ef_construction(60).threads(1);
    let without = found_of_10(&build_with(&narrow, &items), &items, &users, 40);
    let with = found_of_10(&build_with(&narrow.user_sample(sample), &items), &items, &users, 40);
    assert!(with > without, "{with} with a sample, {without} without");
}

#[test]
fn a_search_finds_the_share_that_it_asks_for() {
    let items = items(12_000, 24, 4);
    let sample = Matrix::new(24, users(2_000, 24, 5).concat()).unwrap();
    let built = build_with(&builder().threads(1).user_sample(sample), &items);
    let users = users(200, 24, 6);
    let truth: Vec<Vec<u64>> = users
        .iter()
        .map(|user| brute_force(&items, user)[..50].iter().map(|item| item.0).collect())
        .collect();
    let mut before = 0;
    for recall in [0.8, 0.9, 0.95] {
        let options = SearchOptions::new(50).recall(recall);
        let ef = built.index.ef(&options).unwrap();
        assert!(ef > before && ef < 1_000, "ef {ef} for {recall}");
        before = ef;
        let found = |(user, best): (&Vec<f32>, &Vec<u64>)| {
            let hits = built.index.search_with(user, &options).unwrap().hits;
            hits.iter().filter(|hit| best.contains(&hit.id)).count()
        };
        let found: usize = users.iter().zip(&truth).map(found).sum();
        let share = found as f32 / (50 * users.len()) as f32;
        assert!(share >= recall - 0.01, "{share} found, {recall} asked for");
    }
}

/// How many of each user's exact 10 best a search finds, summed.
#[test]
fn the_report_and_info_say_what_was_built() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let mut items = items(2_000, 20, 2);
    items[1_500].1 = items[10].1.clone();
    let report = builder().build_from(items.clone(), &path).unwrap();
    assert_eq!((report.rows, report.dim, report.copies), (2_000, 20, 1));
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    let info = Index::open(&path).unwrap().info();
    assert_eq!((info.rows, info.dim, info.m, info.ef_construction), (2_000, 20, 8, 64));
    assert_eq!((info.model_version.as_str(), info.builder), ("v1", "native"));
    assert_eq!(info.sections[0], ("rows", 2_000 * 32 * 4));
    assert!(info.degree.0 >= 1 && info.degree.2 <= 16);
}

#[test]
fn a_dump_gives_the_index_that_its_rows_give() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, dim) = (9_000, 40);
    let items: Items = items(rows, dim, 3).into_iter().zip(0..).map(|((_, row), id)| (id, row)).collect();
    let mut bytes = [(rows as i32).to_le_bytes(), (dim as i32).to_le_bytes()].concat();
    items.iter().for_each(|(_, row)| bytes.extend_from_slice(bytemuck::cast_slice(row)));
    fs::write(folder.path().join("items.fbin"), bytes).unwrap();
    let dump = Dump::open(folder.path().join("items.fbin")).unwrap();
    let path = folder.path().join("items.itemdex");
    let quick = IndexBuilder::new("v1").m(4).ef_construction(10).threads(1);
    quick.build(dump, &path).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(build_with(&quick, &items).path).unwrap());
}

#[test]
fn progress_passes_through_the_stages() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let sample = Matrix::new(4, users(50, 4, 4).concat()).unwrap();
    let builder =
        builder().user_sample(sample).on_progress(move |progress| note.lock().unwrap().push(progress));
    build_with(&builder, &items(6_000, 4, 4));
    let seen = seen.lock().unwrap();
    for stage in [Stage::Rows, Stage::Graph, Stage::Users, Stage::Connect, Stage::Publish] {
        assert!(seen.iter().any(|progress| progress.stage == stage), "{stage:?}");
    }
    let graph: Vec<u64> = seen.iter().filter(|p| p.stage == Stage::Graph).map(|p| p.done).collect();
    assert!(graph.is_sorted() && graph.last() == Some(&6_000));
}

#[test]
fn a_cancelled_build_leaves_nothing() {
    let items = items(6_000, 4, 5);
    for stop_at in [Stage::Rows, Stage::Graph, Stage::Publish] {
        let cancel = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let (flag, count) = (Arc::clone(&cancel), Arc::clone(&seen));
        let builder = builder().cancel_when(cancel).on_progress(move |progress| {
            if progress.stage == stop_at {
                flag.store(true, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(refusal(|path| builder.build_from(items.clone(), path)), "cancelled");
        assert!(seen.load(Ordering::Relaxed) >= 1);
    }
}

#[test]
fn rows_that_cannot_be_scored_are_named() {
    assert_eq!(refused_items(&[]), "the items given: there are no rows; an index needs at least one");
    assert_eq!(
        refused_items(&[(1, &[0.0, 1.0]), (2, &[0.0, f32::NAN])]),
        "the items given: row 1: value 1 is NaN; every value must be finite"
    );
    assert_eq!(
        refused_items(&[(1, &[f32::NEG_INFINITY, 1.0])]),
        "the items given: row 0: value 0 is -inf; every value must be finite"
    );
    assert_eq!(
        refused_items(&[(1, &[0.0, 1.0]), (2, &[0.0])]),
        "the items given: row 1: it has 1 values, the rows before have 2"
    );
    assert_eq!(
        refused_items(&[(5, &[1.0]), (6, &[2.0]), (5, &[3.0])]),
        "the items given: item id 5 stands at row 0 and again at row 2; give every item one row"
    );
    assert_eq!(refused_items(&[(5, &[])]), "dim: 0 is not within 1 to 4096");
    assert_eq!(refused_items(&[(5, &[0.0; 4097])]), "dim: 4097 is not within 1 to 4096");
    assert_eq!(
        refused_items(&[(5, &[1e19])]),
        "the items given: row 0: its norm 9.999999980506448e18 is beyond 4.611686e18, where inner products \
         overflow; scale it down"
    );
}

#[test]
fn options_that_cannot_work_are_named() {
    let refused = |builder: IndexBuilder| refusal(|path| builder.build_from([(1, [1.0f32, 2.0])], path));
    assert_eq!(
        refused(IndexBuilder::new("")),
        "model version: it is empty; name the model the embeddings came from, for example its training date"
    );
    assert_eq!(refused(IndexBuilder::new("x".repeat(256))), "model version: it is longer than 255 bytes");
    for garbling in ["v1\n", "\u{1b}[31mv1", "v\u{9b}1", "v1\t"] {
        let control =
            "model version: it has a control character, a line break for instance; use printable ones";
        assert_eq!(refused(IndexBuilder::new(garbling)), control);
    }
    assert_eq!(refused(builder().m(1)), "m: 1 is not within 2 to 128");
    assert_eq!(refused(builder().ef_construction(0)), "ef_construction: 0 is not within 1 to 10000");
    assert_eq!(refused(builder().threads(0)), "threads: 0 is not within 1 to 1024");
    let users = |dim, value| Matrix::new(dim, vec![value; 3 * dim]).unwrap();
    assert_eq!(
        refused(builder().user_sample(users(3, 1.0))),
        "user sample: its dim is 3, the items' is 2; are both of one model?"
    );
    assert_eq!(
        refused(builder().user_sample(users(2, f32::NAN))),
        "user sample: row 0: value 0 is NaN; every value must be finite"
    );
    build_with(&builder().user_sample(users(2, 1.0)), &vec![(1, vec![1.0, 2.0])]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let item = [(1, [1.0f32])];
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| {
        let error = builder().build_from(item, path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        error.to_string().replace(&format!("{}", folder.path().display()), "DIR")
    };
    let missing = message(&folder.path().join("missing/items.itemdex"));
    assert!(missing.starts_with("cannot create a file beside DIR/missing/items.itemdex: "), "{missing}");
    assert_eq!(message(folder.path()), "cannot write DIR: is a directory");
    // Nobody, not even root, creates files here.
    #[cfg(target_os = "linux")]
    assert!(message(Path::new("/proc/self/items.itemdex")).starts_with("cannot create a file beside /proc"));
}

#[test]
fn an_error_says_what_the_system_said_once() {
    let error = builder().build_from([(1, [1.0f32])], "/nowhere/items.itemdex").unwrap_err();
    let mut said = vec![error.to_string()];
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        said.push(cause.to_string());
        source = cause.source();
    }
    let said = said.join("\n");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert_eq!(said.matches("/nowhere").count(), 1, "{said}");
}

#[test]
fn rows_of_f16_are_kept_exactly() {
    let values = [[0.5, -2.0], [65504.0, 0.000061], [f16::MIN_POSITIVE_SUBNORMAL.to_f32(), -0.0]];
    let rows = values.map(|row| row.map(f16::from_f32));
    let folder = tempfile::tempdir().unwrap();
    let [arrays, vectors] = ["arrays", "vectors"].map(|name| folder.path().join(name));
    builder().build_from((0..).zip(rows), &arrays).unwrap();
    builder().build_from((0..).zip(&rows.map(Vec::from)), &vectors).unwrap();
    for path in [arrays, vectors] {
        let index = Index::open(path).unwrap();
        for (id, row) in (0..).zip(rows) {
            assert_eq!(index.get(id).as_deref(), Some(&row.map(f16::to_f32)[..]));
        }
    }
    assert_eq!(
        refusal(|path| builder().build_from([(1, [f16::INFINITY])], path)),
        "the items given: row 0: value 0 is inf; every value must be finite"
    );
}

#[test]
fn a_dump_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.fvecs");
    let bytes = [1i32.to_le_bytes(), 0.5f32.to_le_bytes()].concat();
    fs::write(&path, &bytes).unwrap();
    let error = builder().build(Dump::open(&path).unwrap(), &path).unwrap_err();
    assert!(matches!(error, Error::BadOption { option: "out", .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn files_are_readable_as_the_umask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let built = build(&vec![(1, vec![1.0])]);
    let plain = built.folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&built.path), mode(&plain));
}

#[test]
fn all_zero_and_all_equal_embeddings_answer_promptly() {
    let equal = |value: f32| -> Items { (0..100_000).map(|id| (id, vec![value; 8])).collect() };
    for value in [0.0, 1.5] {
        let built = build(&equal(value));
        built.index.verify(|_| ()).unwrap();
        let hits = built.index.search(&[1.0; 8], 100).unwrap();
        let ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
        assert_eq!(ids, (0..100).collect::<Vec<u64>>());
        assert!(hits.iter().all(|hit| hit.score == 8.0 * value));
    }
}

#[test]
fn one_enormous_norm_spoils_nothing() {
    let mut items = items(3_000, 8, 6);
    items[1_234].1 = vec![1e18; 8];
    let built = build_with(&IndexBuilder::new("v1").threads(1), &items);
    built.index.verify(|_| ()).unwrap();
    let users = users(20, 8, 6);
    for user in &users {
        let hits = built.index.search(user, 100).unwrap();
        assert!(hits.iter().all(|hit| hit.score.is_finite()));
    }
    let found = found_of_10(&built, &items, &users, 200);
    assert!(found >= 160, "found {found} of 200");
}

#[test]
fn indexes_of_any_size_with_copies_in_them_hold() {
    for rows in [2, 3, 17, 300, 2_000] {
        let mut items = items(rows, 6, 7);
        for row in (0..rows).step_by(3) {
            items[row].1 = items[row % 7].1.clone();
        }
        let built = build(&items);
        built.index.verify(|_| ()).unwrap();
        let hits = built.index.search_with(&[1.0; 6], &SearchOptions::new(10).ef(64)).unwrap().hits;
        assert_eq!(hits.len(), 10.min(rows));
    }
}
