//! Files are as docs/format.md says: its worked example byte for byte, and files of the version before this one.

mod common;

use std::path::Path;

use common::*;
use itemdex::{Error, Index, IndexBuilder, Plan, RankOptions, SearchOptions};

#[test]
fn the_worked_example_is_what_the_library_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.itemdex");
    let items = [(1001, [1.0f32, 2.0, 0.5]), (7, [-1.0, 0.0, 3.0])];
    let builder = IndexBuilder::new("v1").m(2).ef_construction(10).threads(1);
    builder.plans([Plan::Graph, Plan::Partitions]).build_from(items, &path).unwrap();
    let written = std::fs::read(&path).unwrap();
    assert!(written == documented(written.len()), "the file is now:\n{}", dump(&written));
}

/// The lines `offset: bytes` of the document; what it leaves out is zero.
fn documented(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for line in include_str!("../docs/format.md").lines() {
        let Some((offset, values)) = line.split_once(": ") else { continue };
        let Ok(offset) = usize::from_str_radix(offset, 16) else { continue };
        let values = values.split("  ").next().unwrap().split_whitespace();
        for (place, value) in values.enumerate() {
            bytes[offset + place] = u8::from_str_radix(value, 16).unwrap();
        }
    }
    bytes
}

fn dump(bytes: &[u8]) -> String {
    let line = |(number, line): (usize, &[u8])| {
        let values: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        line.iter().any(|&byte| byte != 0).then(|| format!("{:04x}: {}\n", number * 16, values.join(" ")))
    };
    bytes.chunks(16).enumerate().filter_map(line).collect()
}

/// A file that a build of itemdex before version 2 wrote, and its items.
fn version_1() -> (Index, Items) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version_1.itemdex");
    let mut items = items(300, 5, 1);
    for row in 290..300 {
        items[row].1 = items[3].1.clone();
    }
    items[7].1 = vec![0.0; 5];
    (Index::open(path).unwrap(), items)
}

#[test]
fn a_file_of_version_1_says_what_it_holds_and_verifies() {
    let (index, items) = version_1();
    let info = index.info();
    assert_eq!((info.format_version, info.rows, info.dim, info.m), (1, 300, 5, 4));
    assert_eq!((info.plans, info.clusters), (vec![Plan::Graph, Plan::Scan], 0));
    assert!(info.quantized && !info.calibration.is_empty());
    assert_eq!(info.sections.len(), 7);
    for (id, row) in &items {
        assert_eq!(index.get(*id).as_deref(), Some(&row[..]));
    }
    let mut checked = Vec::new();
    index.verify(|section| checked.push(section)).unwrap();
    assert!(checked.contains(&"upper_layers") && !checked.contains(&"codes"), "{checked:?}");
}

#[test]
fn a_file_of_version_1_answers() {
    let (index, items) = version_1();
    let ids: Vec<u64> = items.iter().map(|item| item.0).collect();
    let mut found = 0;
    for user in users(20, 5, 3) {
        for k in [0, 1, 20, 300, usize::MAX] {
            assert_best(
                &index.search_with(&user, &SearchOptions::new(k).recall(1.0)).unwrap().hits,
                &items,
                &user,
                k,
            );
            assert_best(&index.rank(&user, &ids, k).unwrap().hits, &items, &user, k);
            let exact = index.rank_with(&user, &ids, &RankOptions::new(k).exact()).unwrap();
            assert_eq!(index.rank(&user, &ids, k).unwrap(), exact);
        }
        let walk = index.search_with(&user, &SearchOptions::new(20).plan(Plan::Graph).ef(60)).unwrap();
        let best: Vec<u64> = brute_force(&items, &user)[..20].iter().map(|item| item.0).collect();
        found += walk.hits.iter().filter(|hit| best.contains(&hit.id)).count();
        let partitions = index.search_with(&user, &SearchOptions::new(20).plan(Plan::Partitions));
        assert!(matches!(partitions, Err(Error::BadOption { option: "plan", .. })));
    }
    assert!(found >= 20 * 20 * 9 / 10, "walks found {found} of {}", 20 * 20);
}
