//! What a build is expected to take, and what it takes.

mod common;

use common::*;
use itemdex::{
    Column, ColumnKind, Error, Estimate, Index, IndexBuilder, Matrix, Plan, Quantization, RowFormat, Shard,
};

fn built(builder: IndexBuilder, rows: usize, dim: usize) -> (Estimate, Index) {
    let expected = builder.estimate(rows as u64, dim, RowFormat::F32).unwrap();
    let built = build_with(&builder, &items(rows, dim, 7));
    (expected, built.index)
}

#[test]
fn a_file_with_a_graph_is_as_long_as_expected_to_the_byte() {
    for (rows, dim, m) in [(1, 1, 16), (700, 5, 2), (3_000, 33, 8), (1_500, 200, 16)] {
        for format in [RowFormat::F32, RowFormat::F16] {
            for quantization in [Quantization::I8, Quantization::None] {
                let builder = IndexBuilder::new("v1").m(m).ef_construction(10).plans([Plan::Graph]);
                let price = Column::new("price", ColumnKind::Number, (0..rows as i64).map(|row| row % 9));
                let builder = builder.quantize(quantization).rows(format).column(price.unwrap());
                let (expected, index) = built(builder, rows, dim);
                let info = index.info();
                assert_eq!((expected.sections, expected.file), (info.sections, info.bytes));
                assert_eq!((expected.rows, expected.dim, expected.format), (rows as u64, dim, format));
            }
        }
    }
}

#[test]
fn a_file_with_partitions_is_about_as_long_as_expected() {
    for (rows, dim) in [(4_000, 16), (20_000, 24)] {
        let builder = IndexBuilder::new("v1").plans([Plan::Partitions]).quantize(Quantization::I8);
        let (expected, index) = built(builder, rows, dim);
        let info = index.info();
        let off = expected.file as f64 / info.bytes as f64 - 1.0;
        assert!(off.abs() < 0.01, "{} expected, {} built", expected.file, info.bytes);
        for (expected, built) in
            expected.sections.iter().zip(&info.sections).filter(|pair| pair.0.0 != "codes")
        {
            assert_eq!(expected, built);
        }
    }
}

#[test]
fn each_option_costs_what_it_costs() {
    let of = |builder: &IndexBuilder| builder.estimate(1_000_000, 64, RowFormat::F32).unwrap();
    let builder = || IndexBuilder::new("v1").threads(8);
    let both = of(&builder());
    let half = of(&builder().rows(RowFormat::F16));
    assert_eq!(both.file - half.file, 128_000_000);
    let parted = of(&builder().plans([Plan::Partitions]));
    assert!(parted.file < both.file && parted.memory < both.memory && parted.time < both.time);
    let alone = of(&builder().threads(1));
    assert!(both.memory > alone.memory + 7 * 2_000_000);
    assert!(alone.time > 4 * both.time && alone.threads == 1);
    let users = Matrix::new(64, vec![1.0; 64 * 50_000]).unwrap();
    assert!(of(&builder().user_sample(users)).memory > both.memory);
    let shard = of(&builder().shard(Shard::new(0, 4).unwrap()));
    assert_eq!(shard.rows, 250_000);
    assert!(shard.disk >= shard.file && 3 * shard.file < both.file);
}

#[test]
fn a_build_that_does_not_fit_is_refused_before_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let builder = |bytes| IndexBuilder::new("v1").m(4).threads(4).memory(bytes);
    let refused = builder(1 << 20).estimate(10_000_000, 64, RowFormat::F32).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("a build of 10000000 rows of dim 64 is expected to take"), "{said}");
    assert!(said.contains("but 1 MiB are allowed"), "{said}");
    let items = items(2_000, 8, 1);
    let refused = builder(1 << 20).build_from(items.iter().cloned(), &path).unwrap_err();
    assert!(matches!(refused, Error::BadOption { option: "memory", .. }), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    // Room for two threads' marks of rows, but not for four.
    let with = |threads| {
        IndexBuilder::new("v1").m(4).threads(threads).estimate(2_000, 8, RowFormat::F32).unwrap().memory
    };
    let expected = builder(with(3) - 1).estimate(2_000, 8, RowFormat::F32).unwrap();
    assert_eq!((expected.threads, expected.memory), (2, with(2)));
    builder(with(3) - 1).build_from(items.iter().cloned(), &path).unwrap();
    Index::open(&path).unwrap().verify(|_| ()).unwrap();
}

#[test]
fn what_no_build_can_be_told_is_an_error() {
    let builder = IndexBuilder::new("v1");
    for (rows, dim) in [(0, 8), (u64::MAX, 8), (1 << 31, 8), (10, 0), (10, 4_097)] {
        assert!(matches!(builder.estimate(rows, dim, RowFormat::F32), Err(Error::BadOption { .. })));
    }
    let price = Column::new("price", ColumnKind::Number, 0..5i64).unwrap();
    assert!(builder.column(price).estimate(6, 8, RowFormat::F32).is_err());
}
