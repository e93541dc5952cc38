//! Rows of `f16` answer as the same values in `f32` do, bit for bit.

mod common;

use std::path::Path;

use common::*;
use itemdex::dump::Dump;
use itemdex::live::{LiveOptions, PublishOptions};
use itemdex::shards::ShardedIndex;
use itemdex::{
    Column, ColumnKind, Error, Expression, Hit, Index, IndexBuilder, Matrix, OpenOptions, Parameters, Plan,
    Quantization, RankOptions, RowFormat, SearchOptions, Shard, f16,
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

/// Every candidate that is there, best first, by what `score` gives.
fn sorted(index: &Index, user: &[f32], candidates: &[u64]) -> Vec<Hit> {
    let mut scores = vec![0.0; candidates.len()];
    index.score(user, candidates, &mut scores).unwrap();
    let mut hits: Vec<Hit> = candidates.iter().zip(scores).map(|(&id, score)| Hit { id, score }).collect();
    hits.retain(|hit| !hit.score.is_nan());
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    hits.dedup_by_key(|hit| hit.id);
    hits
}

#[test]
fn ranks_and_scores_are_those_of_f32_at_every_dim() {
    let folder = tempfile::tempdir().unwrap();
    let [half, wide] = ["half", "wide"].map(|name| folder.path().join(name));
    for dim in 1..=300 {
        let mut items = halves(160, dim);
        // Ties: rows that are copies, and rows that score 0.
        for row in 140..150 {
            items[row].1 = items[139].1.clone();
            items[row + 10].1.fill([f16::ZERO, f16::NEG_ZERO][row % 2]);
        }
        let builder = IndexBuilder::new("v1").m(2).ef_construction(2).threads(1).quantize(Quantization::I8);
        let builder = builder.plans([Plan::Partitions]);
        builder.build_from(items.iter().cloned(), &half).unwrap();
        builder.rows(RowFormat::F32).build_from(items.iter().cloned(), &wide).unwrap();
        let [half, wide] = [&half, &wide].map(|path| Index::open(path).unwrap());
        assert_eq!([half.info().row_format, wide.info().row_format], [RowFormat::F16, RowFormat::F32]);
        let ids = half.ids();
        let candidates: Vec<u64> =
            [ids, &[3, u64::MAX], &ids[..40], &ids[100..]].concat().into_iter().rev().collect();
        for mut user in users(2, dim, dim as u64) {
            user[0] *= 1e-3;
            let expected = sorted(&wide, &user, &candidates);
            assert_eq!(expected.len(), 160);
            assert_eq!(sorted(&half, &user, &candidates), expected, "dim {dim}");
            for k in [1, 5, 14, 160, 1_000] {
                for options in [RankOptions::new(k), RankOptions::new(k).exact()] {
                    let ranked = half.rank_with(&user, &candidates, &options).unwrap();
                    assert_eq!(ranked.hits, expected[..k.min(160)], "the best {k} at dim {dim}");
                    assert_eq!(ranked.unknown, [3, u64::MAX]);
                }
            }
        }
    }
}

#[test]
fn filters_keep_the_same_of_either() {
    let items = halves(300, 12);
    let folder = tempfile::tempdir().unwrap();
    let [half, wide] = ["half", "wide"].map(|name| folder.path().join(name));
    let price = Column::new("price", ColumnKind::Number, (0..300i64).map(|row| row % 10)).unwrap();
    let builder = builder().column(price);
    builder.build_from(items.iter().cloned(), &half).unwrap();
    builder.rows(RowFormat::F32).build_from(items.iter().cloned(), &wide).unwrap();
    let [half, wide] = [half, wide].map(|path| Index::open(path).unwrap());
    let expression = Expression::parse("price < 4", &Parameters::new()).unwrap();
    for user in users(5, 12, 9) {
        for plan in [Plan::Graph, Plan::Partitions, Plan::Scan] {
            let [half, wide] = [&half, &wide].map(|index| {
                let filter = index.filter(&expression).unwrap();
                let deny = &index.ids()[..50];
                let options = SearchOptions::new(20).filter(&filter).deny(deny).recall(1.0).plan(plan);
                index.search_with(&user, &options).unwrap().hits
            });
            assert_eq!(half, wide, "{plan:?}");
        }
        let [half, wide] = [&half, &wide].map(|index| {
            let filter = index.filter(&expression).unwrap();
            index.rank_with(&user, &ids_of(&items), &RankOptions::new(20).filter(&filter)).unwrap().hits
        });
        assert_eq!(half, wide);
    }
}

fn ids_of(items: &[(u64, Vec<f16>)]) -> Vec<u64> {
    items.iter().map(|item| item.0).collect()
}

#[test]
fn fresh_items_lie_over_rows_of_f16() {
    let items = halves(300, 7);
    let views = [RowFormat::F16, RowFormat::F32].map(|format| {
        let place = Place::new();
        let build = |path: &Path| builder().rows(format).build_from(items.iter().cloned(), path);
        place.catalog.publish_made(build, &PublishOptions::new()).unwrap();
        let log = place.folder.path().join("fresh.log");
        let live = LiveOptions::new().log(log).open(place.catalog.folder()).unwrap();
        for (number, user) in users(40, 7, 3).iter().enumerate() {
            // Half of them replace items of the generation, with values that no f16 holds.
            let id = if number % 2 == 0 { items[number * 3].0 } else { 5_000_000_000 + number as u64 };
            live.upsert("v1", id, user).unwrap();
        }
        live.delete(items[8].0).unwrap();
        (live.current(), place)
    });
    let [half, wide] = views.each_ref().map(|(view, _)| view);
    let candidates: Vec<u64> = wide.iter().map(|(id, _)| id).chain([1]).collect();
    for user in users(5, 7, 21) {
        for k in [1, 25, 320] {
            let options = SearchOptions::new(k).recall(1.0);
            let [half, wide] = [half, wide].map(|view| view.search_with(&user, &options).unwrap().hits);
            assert_eq!(half, wide);
        }
        let [half, wide] = [half, wide].map(|view| view.rank(&user, &candidates, 30).unwrap());
        assert_eq!((half.hits, half.unknown), (wide.hits, wide.unknown));
    }
    for &id in &candidates {
        assert_eq!(half.get(id), wide.get(id));
    }
}

#[test]
fn shards_of_f16_answer_as_one_index_of_f32() {
    let items = halves(300, 9);
    let place = Place::new();
    for number in 0..2 {
        let shard = Shard::new(number, 2).unwrap();
        let make = |path: &Path| builder().shard(shard).build_from(items.iter().cloned(), path);
        place.catalog.stage_shard_made("job", shard, |path| make(path).map(drop)).unwrap();
    }
    let generation = place.catalog.publish_shards("job", 2, &PublishOptions::new()).unwrap();
    let sharded = ShardedIndex::open(&place.catalog, &generation, OpenOptions::new()).unwrap();
    let path = place.folder.path().join("wide");
    builder().rows(RowFormat::F32).build_from(items.iter().cloned(), &path).unwrap();
    let wide = Index::open(path).unwrap();
    for user in users(4, 9, 2) {
        let options = SearchOptions::new(25).recall(1.0);
        let found = sharded.search_with(&user, &options, None).unwrap();
        assert_eq!(found.hits, wide.search_with(&user, &options).unwrap().hits);
    }
    for (id, _) in &items {
        assert_eq!(sharded.get(*id), wide.get(*id));
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
