//! Builds that start with the links of the last generation.

mod common;

use std::fs;

use common::*;
use itemdex::{Choice, Error, Index, IndexBuilder, Plan};

const DIM: usize = 16;

fn builder() -> IndexBuilder {
    IndexBuilder::new("v2").m(8).ef_construction(64).threads(1)
}

/// The items of the next day: one in twenty is gone, as many are new, and all embeddings moved a little.
fn next_day(items: &Items) -> Items {
    let mut random = Random(77);
    let mut moved: Items = items
        .iter()
        .filter(|(id, _)| id % 20 != 0)
        .map(|(id, row)| {
            let norm = inner_product(row, row).sqrt() as f32;
            let step = 0.2 * norm / (DIM as f32).sqrt();
            (*id, row.iter().map(|value| value + step * random.normal()).collect())
        })
        .collect();
    let newcomers = common::items(items.len() - moved.len(), DIM, 99);
    moved.extend(newcomers.into_iter().map(|(id, row)| (id + (1 << 40), row)));
    moved
}

#[test]
fn a_warm_build_finds_as_much_as_a_cold_one() {
    let today = items(8_000, DIM, 1);
    let tomorrow = next_day(&today);
    let previous = build_with(&builder(), &today);
    let folder = tempfile::tempdir().unwrap();
    let warm = folder.path().join("warm.itemdex");
    let report = builder()
        .previous(&previous.path)
        .build_from(tomorrow.iter().map(|(id, row)| (*id, row)), &warm)
        .unwrap();
    assert_eq!(report.choice, Some(Choice::Previous));
    assert_eq!(report.cold, None);
    assert!(report.renewed as usize > tomorrow.len() * 9 / 10, "{report:?}");
    let index = Index::open(&warm).unwrap();
    index.verify(|_| ()).unwrap();
    assert_eq!(index.info().augmentation, previous.index.info().augmentation);

    let warm = Built { folder, path: warm, index };
    let cold = build_with(&builder().augmentation(report.augmentation), &tomorrow);
    let users = users(200, DIM, 5);
    let [warm, cold] = [&warm, &cold].map(|built| found_of_10(built, &tomorrow, &users, 40));
    assert!(warm + 20 >= cold, "{warm} of 2,000 by the warm build, {cold} by the cold one");
}

#[test]
fn one_thread_gives_the_same_warm_build_every_time() {
    let today = items(3_000, DIM, 2);
    let previous = build_with(&builder(), &today);
    let tomorrow = next_day(&today);
    let again = || fs::read(build_with(&builder().previous(&previous.path), &tomorrow).path).unwrap();
    assert!(again() == again());
}

#[test]
fn an_index_of_no_use_is_said_to_be_and_the_build_is_a_cold_one() {
    let items = items(3_000, DIM, 3);
    let cold = fs::read(build_with(&builder(), &items).path).unwrap();
    let said = |previous: &Built| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.itemdex");
        let builder = builder().previous(&previous.path);
        let report = builder.build_from(items.iter().map(|(id, row)| (*id, row)), &path).unwrap();
        assert_eq!(report.renewed, 0);
        assert!(report.warnings().iter().any(|warning| warning.contains("previous index")));
        assert!(fs::read(path).unwrap() == cold, "the file of a cold build");
        report.cold.unwrap()
    };
    let without_graph = build_with(&builder().plans([Plan::Partitions]), &items);
    assert_eq!(said(&without_graph), "it has no graph");
    let other_dim = build(&common::items(3_000, DIM + 1, 3));
    assert_eq!(said(&other_dim), "its dim is 17, not 16");
    let other_items = build(&items.iter().map(|(id, row)| (id + (1 << 40), row.clone())).collect());
    assert_eq!(said(&other_items), "it has links for 0 of 3000 rows only");
    // The same ids with the embeddings of an unrelated model.
    let mut unrelated = common::items(3_000, DIM, 4);
    unrelated.iter_mut().zip(&items).for_each(|(item, (id, _))| item.0 = *id);
    let why = said(&build(&unrelated));
    assert!(why.contains("of the nearest rows are found"), "{why}");
}

#[test]
fn another_model_version_another_m_and_one_row_serve() {
    let items = items(3_000, DIM, 5);
    let previous = build_with(&IndexBuilder::new("v1").m(32).threads(1), &items);
    let built = build_with(&builder().previous(&previous.path), &items);
    built.index.verify(|_| ()).unwrap();
    let one = common::items(1, DIM, 5);
    let built = build_with(&builder().previous(&previous.path), &one);
    built.index.verify(|_| ()).unwrap();
}

#[test]
fn a_damaged_previous_index_is_an_error_that_leaves_what_was_there() {
    let items = items(3_000, DIM, 6);
    let previous = build_with(&builder(), &items);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("items.itemdex");
    fs::write(&out, "what was there").unwrap();
    let refused = |path: &std::path::Path| {
        let builder = builder().previous(path);
        let error = builder.build_from(items.iter().map(|(id, row)| (*id, row)), &out).unwrap_err();
        assert_eq!(fs::read(&out).unwrap(), b"what was there");
        error
    };
    assert!(matches!(refused(&folder.path().join("none")), Error::Io { .. }));
    assert!(matches!(refused(&out), Error::NotAnIndex { .. }));

    let whole = fs::read(&previous.path).unwrap();
    let damaged = folder.path().join("damaged");
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(refused(&damaged), Error::Damaged { .. }));
    // A byte of the base layer, which follows the id table.
    let at = |section: usize| {
        let field = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
        field(384 + section * 24) + field(384 + section * 24 + 8) / 2
    };
    let mut flipped = whole.clone();
    flipped[at(5)] ^= 1;
    fs::write(&damaged, flipped).unwrap();
    let error = refused(&damaged).to_string();
    assert!(error.contains("base_layer"), "{error}");
}
