//! Rows of `f16` answer as the same values in `f32` do, bit for bit.

mod common;

use std::path::Path;

use common::*;
use itemdex::dump::Dump;
use itemdex::{
    Error, Index, IndexBuilder, Matrix, OpenOptions, Plan, Quantization, RankOptions, RowFormat,
    SearchOptions, f16,
};

/// Items whose values are `f16`: uneven norms, copies, zeros, subnormals, the largest, and both zeros.
fn halves(rows: usize, dim: usize) -> Vec<(u64, Vec<f16>)> {
    let mut items: Vec<(u64, Vec<f16>)> = items(rows, dim, 11)
        .into_iter()
        .map(|(id, row)| (id, row.into_iter().map(f16::from_f32).collect()))
        .collect();
    let awkward = [f16::MIN_POSITIVE_SUBNORMAL, f16::MAX, f16::NEG_ZERO, f16::MIN, f16::ZERO];
    for (at, value) in awkward.into_iter().cycle().take(20).enumerate() {
        items[at * 7].1[at % dim] = value;
    }
    items[3].1.fill(f16::MIN_POSITIVE_SUBNORMAL);
    items[4].1.fill(f16::NEG_ZERO);
    items[6].1 = items[5].1.clone();
    items
}

fn builder() -> IndexBuilder {
    IndexBuilder::new("v1").m(8).ef_construction(40).threads(1).plans([Plan::Graph, Plan::Partitions])
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|score| score.to_bits()).collect()
}

fn assert_same(half: &Index, wide: &Index, dim: usize) {
    assert_eq!(half.ids(), wide.ids());
    assert!(
        half.iter().zip(wide.iter()).all(|(half, wide)| half.0 == wide.0 && bits(&half.1) == bits(&wide.1))
    );
    let candidates: Vec<u64> = half.ids().iter().step_by(2).copied().chain([u64::MAX]).collect();
    let users = users(6, dim, 5);
    for user in &users {
        for plan in [Plan::Graph, Plan::Partitions, Plan::Scan] {
            for k in [1, 30, half.len()] {
                let mut options = SearchOptions::new(k).plan(plan);
                options = if plan == Plan::Graph { options.ef(50) } else { options.recall(1.0) };
                let [half, wide] = [half, wide].map(|index| index.search_with(user, &options).unwrap().hits);
                assert_eq!(half, wide, "{plan:?} of {k} at dim {dim}");
            }
        }
        for options in [RankOptions::new(20), RankOptions::new(20).exact()] {
            let [half, wide] =
                [half, wide].map(|index| index.rank_with(user, &candidates, &options).unwrap());
            assert_eq!((half.hits, half.unknown), (wide.hits, wide.unknown), "a rank at dim {dim}");
        }
        let [half, wide] = [half, wide].map(|index| {
            let mut scores = vec![0.0; candidates.len()];
            index.score(user, &candidates, &mut scores).unwrap();
            bits(&scores)
        });
        assert_eq!(half, wide);
    }
    let users = Matrix::new(dim, users.concat()).unwrap();
    for options in
        [SearchOptions::new(9).plan(Plan::Scan), SearchOptions::new(9).plan(Plan::Partitions).recall(1.0)]
    {
        let many = |index: &Index| {
            let answers = index.search_many(&users, &options, 2).unwrap();
            answers.into_iter().map(|found| found.hits).collect::<Vec<_>>()
        };
        assert_eq!(many(half), many(wide));
    }
}

#[test]
fn f16_rows_answer_as_the_same_rows_in_f32() {
    for dim in [1, 15, 16, 17, 32, 33, 48, 64, 100, 257] {
        for quantization in [Quantization::I8, Quantization::None] {
            let items = halves(300, dim);
            let folder = tempfile::tempdir().unwrap();
            let [half, wide] = ["half", "wide"].map(|name| folder.path().join(name));
            builder().quantize(quantization).build_from(items.iter().cloned(), &half).unwrap();
            let builder = builder().quantize(quantization).rows(RowFormat::F32);
            builder.build_from(items.iter().cloned(), &wide).unwrap();
            let [half, wide] = [half, wide].map(|path| Index::open(path).unwrap());
            for index in [&half, &wide] {
                index.verify(|_| ()).unwrap();
            }
            let [of_half, of_wide] = [half.info(), wide.info()];
            assert_eq!([of_half.row_format, of_wide.row_format], [RowFormat::F16, RowFormat::F32]);
            assert_eq!([of_half.format_version, of_wide.format_version], [3, 2]);
            assert_eq!(2 * of_half.sections[0].1, of_wide.sections[0].1);
            assert_same(&half, &wide, dim);
        }
    }
}

#[test]
fn a_resident_index_has_rows_of_f16_too() {
    let items = halves(300, 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half");
    builder().build_from(items.iter().cloned(), &path).unwrap();
    let resident = OpenOptions::new().resident(true).open(&path).unwrap();
    assert_same(&resident, &Index::open(&path).unwrap(), 20);
}

#[test]
fn a_build_starts_with_the_links_of_rows_of_the_other_format() {
    let items = halves(600, 12);
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    builder().rows(RowFormat::F32).build_from(items.iter().cloned(), &before).unwrap();
    let report = builder().previous(&before).build_from(items.iter().cloned(), &after).unwrap();
    assert!(report.renewed > 0, "{:?}", report.cold);
    Index::open(&after).unwrap().verify(|_| ()).unwrap();
}

#[test]
fn rows_are_rounded_if_so_told_and_refused_beyond_f16() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let builder = builder().rows(RowFormat::F16);
    builder.build_from([(1, [0.1f32, 1e-9]), (2, [65_519.0, -65_504.0])], &path).unwrap();
    let index = Index::open(&path).unwrap();
    assert_eq!(index.get(1).as_deref(), Some(&[f16::from_f32(0.1).to_f32(), 0.0][..]));
    assert_eq!(index.get(2).as_deref(), Some(&[65_504.0, -65_504.0][..]));
    index.verify(|_| ()).unwrap();
    let error = builder.build_from([(1, [0.1f32, 1.0]), (2, [0.0, -65_520.0])], &path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the items given: row 1: value 1 is -65520, beyond what f16 holds; build with rows of f32"
    );
}

/// A dump of two rows of three values.
fn dump(folder: &Path, descr: &str, values: &[u8]) -> Dump {
    let path = folder.join("items.npy");
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 3), }}");
    let header = format!("{header:<117}\n");
    let bytes = [b"\x93NUMPY\x01\x00".as_slice(), &118u16.to_le_bytes(), header.as_bytes(), values].concat();
    std::fs::write(&path, bytes).unwrap();
    Dump::open(&path).unwrap()
}

#[test]
fn the_dump_says_how_rows_are_kept_unless_the_build_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("items.itemdex");
    let values = [0.5f32, -1.0, 2.0, 4.0, 0.0, 0.25];
    let half: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    for (told, descr, bytes, expected) in [
        (None, "<f2", &half, RowFormat::F16),
        (None, "<f4", &wide, RowFormat::F32),
        (Some(RowFormat::F32), "<f2", &half, RowFormat::F32),
        (Some(RowFormat::F16), "<f4", &wide, RowFormat::F16),
    ] {
        let builder = told.into_iter().fold(builder(), IndexBuilder::rows);
        builder.build(dump(folder.path(), descr, bytes), &out).unwrap();
        let index = Index::open(&out).unwrap();
        assert_eq!(index.info().row_format, expected);
        assert_eq!(index.get(1).as_deref(), Some(&values[3..]));
    }
}

#[test]
fn a_reader_of_version_2_refuses_a_file_of_f16_by_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    builder().build_from([(1, [f16::ONE])], &path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // What such a reader compares first, with 2.
    assert_eq!((bytes[8], bytes[1804]), (3, 1));
    bytes[8] = 4;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(Index::open(&path), Err(Error::UnknownFormat { found: 4, supported: 3, .. })));
}
