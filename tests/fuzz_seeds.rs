//! The inputs of the fuzz targets, gone through as those do, and some more made of them by chance. docs/testing.md says how to
//! run the targets themselves.

mod common;
#[path = "fuzz/harness.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use itemdex::Index;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target)
}

/// The names and bytes of a target's seeds, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap());
    let mut seeds: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

/// Goes through every seed, and so many more of which each is a seed with some bytes overwritten, or cut short.
fn go_through(target: &str, more: usize, each: impl Fn(&[u8])) {
    let seeds = seeds(target);
    seeds.iter().for_each(|(_, bytes)| each(bytes));
    let mut random = Random(1);
    for _ in 0..more {
        let mut bytes = seeds[random.below(seeds.len())].1.clone();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len());
            bytes[at] = [0, 1, 0x7F, 0xFF, random.next() as u8][random.below(5)];
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        each(&bytes);
    }
}

#[test]
fn index_files_do_no_harm() {
    go_through("index", 500, harness::index);
}

#[test]
fn dumps_do_no_harm() {
    for format in ["npy", "fbin", "fvecs"] {
        go_through(format, 1_000, |bytes| harness::dump(format, bytes));
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_files_do_no_harm() {
    go_through("parquet", 1_000, |bytes| harness::dump("parquet", bytes));
}

#[cfg(feature = "safetensors")]
#[test]
fn safetensors_do_no_harm() {
    go_through("safetensors", 1_000, |bytes| harness::dump("safetensors", bytes));
}

#[test]
fn texts_of_filters_do_no_harm() {
    go_through("filter", 2_000, harness::filter);
}

#[test]
fn bloom_filters_do_no_harm() {
    go_through("bloom", 1_000, harness::bloom);
}

#[test]
fn logs_do_no_harm() {
    go_through("log", 300, harness::log);
}

/// Those that are no findings are files that the library writes or reads: else the targets would start from nothing.
#[test]
fn seeds_are_whole_files() {
    for (name, _) in seeds("index").iter().filter(|(name, _)| !name.starts_with("found")) {
        Index::open(folder("index").join(name)).unwrap().verify(|_| ()).unwrap();
    }
}

/// Writes the seeds anew, as after a change of format; what was found is left as it is.
#[cfg(feature = "parquet")]
#[test]
#[ignore = "writes tests/fuzz/seeds: cargo test --features parquet,safetensors --test fuzz_seeds write -- --ignored"]
fn write_the_seeds() {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, FixedSizeListArray, Int64Array, LargeListArray, ListArray, RecordBatch, UInt32Array,
    };
    use arrow::datatypes::{Float32Type, Float64Type};
    use itemdex::live::{Change, LiveOptions, PublishOptions};
    use itemdex::{Column, ColumnKind, IndexBuilder, Plan, Quantization, RowFormat, Value, Values};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    let write = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(folder(target)).unwrap();
        fs::write(folder(target).join(name), bytes).unwrap();
    };
    let builder = |m| IndexBuilder::new("v1").m(m).ef_construction(10).threads(1);
    let i8 = build_with(&builder(4).quantize(Quantization::I8), &items(30, 20, 1));
    write("index", "i8", &fs::read(&i8.path).unwrap());
    let mut plain = items(50, 4, 2);
    plain[40..].iter_mut().for_each(|item| item.1 = vec![0.5; 4]);
    plain[7].1 = vec![0.0; 4];
    let plain = build_with(&builder(2).quantize(Quantization::None), &plain);
    write("index", "f32", &fs::read(&plain.path).unwrap());
    let partitions = |plans: &[Plan]| builder(2).plans(plans);
    let both = partitions(&[Plan::Graph, Plan::Partitions]).quantize(Quantization::I8);
    write("index", "both_plans", &fs::read(&build_with(&both, &items(60, 6, 4)).path).unwrap());
    let alone = partitions(&[Plan::Partitions]).quantize(Quantization::None);
    write("index", "partitions", &fs::read(&build_with(&alone, &items(110, 10, 5)).path).unwrap());
    let half = builder(2).rows(RowFormat::F16).plans([Plan::Graph, Plan::Partitions]);
    write("index", "f16", &fs::read(&build_with(&half, &items(60, 9, 6)).path).unwrap());
    let one = build_with(&builder(2).quantize(Quantization::None), &items(1, 1, 3));
    write("index", "one_row", &fs::read(&one.path).unwrap());

    let columns = [
        Column::new("region", ColumnKind::Tag, (0..40).map(|row| ["JP", "US", "BR"][row % 3])),
        Column::new(
            "labels",
            ColumnKind::Tag,
            (0..40).map(|row| (row % 4 > 0).then(|| ["a", "b"].repeat(row % 3))),
        ),
        Column::new("author", ColumnKind::Tag, (0..40u64).map(|row| row % 21)),
        Column::new(
            "price",
            ColumnKind::Number,
            (0..40).map(|row| (row % 5 > 0).then_some(row as f32 / 3.0)),
        ),
        Column::new("age", ColumnKind::Number, (0..40).map(|row| row * 7 % 11)),
        Column::new("new", ColumnKind::Flag, (0..40).map(|row| (row % 3 > 0).then_some(row % 2 == 0))),
        Column::new("until", ColumnKind::Expires, (0..40).map(|row| (row % 3 > 0).then_some(row))),
    ];
    for (name, columns) in [("columns", &columns[..3]), ("numbers", &columns[3..])] {
        let builder = IndexBuilder::new("v1").m(2).threads(1);
        let builder = columns.iter().flatten().cloned().fold(builder, IndexBuilder::column);
        write("index", name, &fs::read(&build_with(&builder, &items(40, 3, 3)).path).unwrap());
    }

    let spread = |block: u8| std::array::from_fn::<u8, 32, _>(|at| (at as u8).wrapping_mul(block));
    write("bloom", "one-block", &spread(37));
    write("bloom", "three-blocks", &[spread(0), spread(91), spread(255)].concat());

    let array = |descr: &str, shape: &str, values: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let text = format!("{text:117}\n");
        write("npy", &descr[1..], &[b"\x93NUMPY\x01\0\x76\0", text.as_bytes(), values].concat());
    };
    let values: [f32; 6] = [1.0, -2.5, 0.0, 65504.0, -0.125, 3.0];
    array("<f2", "(2, 3)", bytemuck::cast_slice(&values.map(half::f16::from_f32)));
    array("<f4", "(3, 2)", bytemuck::cast_slice(&values));
    array("<f8", "(1, 6)", bytemuck::cast_slice(&values.map(f64::from)));
    array("<u8", "(3,)", bytemuck::cast_slice(&[7u64, 9, u64::MAX]));
    array("<i4", "(2, 2)", bytemuck::cast_slice(&[7i32, 9, 11, i32::MAX]));
    let values = bytemuck::cast_slice(&values);
    write("fbin", "2x3", &[&[2, 0, 0, 0, 3, 0, 0, 0], values].concat());
    let rows = values.chunks(12).map(|row| [&[3, 0, 0, 0], row].concat());
    write("fvecs", "2x3", &rows.collect::<Vec<_>>().concat());

    let tensors = |name: &str, header: &str, values: &[u8]| {
        let length = (header.len() as u64).to_le_bytes();
        write("safetensors", name, &[&length, header.as_bytes(), values].concat());
    };
    let halves = values.chunks(4).map(|value| half::bf16::from_f32(bytemuck::pod_read_unaligned(value)));
    let halves: Vec<u8> = halves.flat_map(half::bf16::to_le_bytes).collect();
    let embedding = |dtype: &str, bytes: usize| {
        format!(r#""embedding":{{"dtype":"{dtype}","shape":[2,3],"data_offsets":[0,{bytes}]}}"#)
    };
    tensors("alone", &format!("{{{}}}", embedding("F32", 24)), values);
    let ids = r#""id":{"dtype":"I64","shape":[2],"data_offsets":[12,28]}"#;
    let ids_after = [&halves[..], bytemuck::cast_slice(&[7i64, 9])].concat();
    tensors("ids", &format!("{{{},{ids}}}", embedding("BF16", 12)), &ids_after);

    let parquet = |name: &str, compression, ids: ArrayRef, lists: ArrayRef| {
        let batch = RecordBatch::try_from_iter([("id", ids), ("embedding", lists)]).unwrap();
        let properties = WriterProperties::builder().set_compression(compression);
        let properties = properties.set_max_row_group_row_count(Some(20)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        write("parquet", name, &writer.into_inner().unwrap());
    };
    let rows = |count| (0..count).map(|row| Some((0..3).map(move |at| Some((row * at) as f32))));
    let ids = |count| -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..count)) };
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(rows(9));
    parquet("list", Compression::UNCOMPRESSED, ids(9), Arc::new(lists));
    let lists = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows(30), 3);
    parquet("fixed", Compression::SNAPPY, Arc::new(UInt32Array::from_iter_values(0..30)), Arc::new(lists));
    let wide = rows(9).map(|row| row.map(|row| row.map(|value| value.map(f64::from))));
    let lists = LargeListArray::from_iter_primitive::<Float64Type, _, _>(wide);
    parquet("large", Compression::ZSTD(ZstdLevel::default()), ids(9), Arc::new(lists));

    let place = Place::new();
    let build = |path: &Path| IndexBuilder::new("v1").build_from([(1, [1.0, 2.0])], path);
    place.catalog.publish_made(build, &PublishOptions::new()).unwrap();
    let path = place.folder.path().join("fresh.log");
    let live = LiveOptions::new().log(&path).open(place.catalog.folder()).unwrap();
    write("log", "empty", &fs::read(&path).unwrap());
    for id in 0..6 {
        live.upsert("v1", id, &[id as f32, -1.0]).unwrap();
    }
    live.delete(3).unwrap();
    live.upsert("v2", 5, &[0.5]).unwrap();
    let whole = fs::read(&path).unwrap();
    write("log", "whole", &whole);
    write("log", "torn", &whole[..whole.len() - 9]);
    drop(live);
    let path = place.folder.path().join("values.log");
    let live = LiveOptions::new().log(&path).open(place.catalog.folder()).unwrap();
    let values = Values::new().with("price", 7).with("region", ["JP", "US"]).with("new", true);
    live.upsert_with("v1", 5, &[0.5, 1.0], values.with("author", 9u64).with("x", 1.5)).unwrap();
    live.set_values(2, Values::new().with("price", Value::Null)).unwrap();
    live.set_values(5, Values::new().with("price", 8)).unwrap();
    write("log", "values", &fs::read(&path).unwrap());
    let path = place.folder.path().join("fed.log");
    let live = LiveOptions::new().fed_log(&path).open(place.catalog.folder()).unwrap();
    live.apply(&[(5, Change::upsert("v1", 7, [1.0, 2.0])), (9, Change::delete(1))]).unwrap();
    write("log", "fed", &fs::read(&path).unwrap());
}
