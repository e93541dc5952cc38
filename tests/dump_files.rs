//! Dumps of every format, and what is said of bad ones.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use itemdex::dump::{Batch, Dump, IdLists, read_column};
use itemdex::{Column, ColumnKind, Index, IndexBuilder, Result, Value};
use npyz::WriterBuilder;
use proptest::prelude::*;
use tempfile::TempDir;

fn npy<T: npyz::AutoSerialize>(path: &Path, shape: &[u64], values: impl IntoIterator<Item = T>) {
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(fs::File::create(path).unwrap()).begin_nd().unwrap();
    writer.extend(values).unwrap();
    writer.finish().unwrap();
}

/// The values of a column, out of an index that was built with it.
fn values_of(column: Column) -> Vec<Value> {
    let folder = Folder::new();
    let (path, name, rows) = (folder.path("i.itemdex"), column.name().to_owned(), column.len() as u64);
    let builder = IndexBuilder::new("v1").m(2).threads(1).column(column);
    builder.build_from((0..rows).map(|id| (id, [id as f32, 1.0])), &path).unwrap();
    let index = Index::open(&path).unwrap();
    index.verify(|_| ()).unwrap();
    (0..rows).map(|id| index.values(id).unwrap().get(&name).clone()).collect()
}

#[test]
fn columns_are_read_from_text_and_arrays() {
    use ColumnKind::{Expires, Flag, Number, Tag};
    let folder = Folder::new();
    let read = |path: &Path, kind| values_of(read_column(path, "c", kind).unwrap());
    let text = folder.file("tags.txt", "jazz|live\r\n\n|\nlive||live\n\u{e9}, b");
    let tags = |tags: &[&str]| Value::from(tags.to_vec());
    let expected = [tags(&["jazz", "live"]), Value::Null, tags(&[]), tags(&["live"]), tags(&["\u{e9}, b"])];
    assert_eq!(read(&text, Tag), expected);

    let array = folder.path("a.npy");
    npy(&array, &[3], [1.5f32, -0.0, 3e38]);
    assert_eq!(read(&array, Number), [1.5, 0.0, f64::from(3e38f32)].map(Value::Real));
    npy(&array, &[2], [0.1f64, 2.0]);
    assert_eq!(read(&array, Number), [f64::from(0.1f32), 2.0].map(Value::Real));
    npy(&array, &[3], [5i64, i64::MIN, i64::MAX]);
    assert_eq!(read(&array, Number), [5, i64::MIN, i64::MAX].map(Value::Integer));
    npy(&array, &[2], [1_700_000_000u32, 7]);
    assert_eq!(read(&array, Expires), [1_700_000_000, 7].map(Value::Integer));
    npy(&array, &[3], [9u64, u64::MAX, 0]);
    assert_eq!(read(&array, Tag), [9, u64::MAX, 0].map(Value::from));
    npy(&array, &[3], [9i64, -1, 0]);
    assert_eq!(read(&array, Tag), [9u64.into(), Value::Null, 0u64.into()]);
    npy(&array, &[3, 2], [9i32, 4, 5, -1, -1, -1]);
    assert_eq!(read(&array, Tag), [vec![4, 9], vec![5], vec![]].map(Value::Ids));
    npy(&array, &[2], [true, false]);
    assert_eq!(read(&array, Flag), [true, false].map(Value::Flag));
    npy(&array, &[2], [0u8, 1]);
    assert_eq!(read(&array, Flag), [false, true].map(Value::Flag));
}

#[test]
fn columns_that_cannot_be_read_are_refused_with_their_row() {
    use ColumnKind::{Expires, Flag, Number, Tag};
    let folder = Folder::new();
    let refused = |path: &Path, kind| folder.message(read_column(path, "c", kind));
    let text = folder.file("tags.txt", b"a\nb\xff\n");
    assert_eq!(refused(&text, Tag), "tags.txt: row 1: its line is not UTF-8");
    assert!(refused(&text, Number).contains("numbers, flags and expiries are read from .npy and .parquet"));
    assert!(refused(&folder.path("gone.txt"), Tag).contains("cannot open gone.txt"));
    let array = folder.path("a.npy");
    npy(&array, &[2], [1.5f32, f32::NAN]);
    assert!(refused(&array, Number).starts_with("a.npy, column c: row 1: its number is NaN"));
    assert!(refused(&array, Tag).contains("row 0: its value is a real number; the column is of tags"));
    assert!(refused(&array, Expires).contains("row 0: its value is a real number"));
    npy(&array, &[2], [1u8, 2]);
    assert!(refused(&array, Flag).contains("row 1: its value is an integer; the column is of flags"));
    npy(&array, &[2], [1u64, 1 << 63]);
    assert!(refused(&array, Number).contains("row 1: its value is a tag that is a number"));
    npy(&array, &[2, 1], [1u64, 2]);
    assert!(refused(&array, Number).contains("only tags may be many an item"));
    npy(&array, &[1, 1, 1], [1u64]);
    assert!(refused(&array, Tag).contains("columns are 1-D"));
    assert!(folder.message(read_column(&array, "a b", Tag)).contains("cannot name a column"));
}

/// An npy file with any header: `shape` and `order` are Python.
fn raw_npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
}

fn fbin(rows: i32, dim: i32, values: &[f32]) -> Vec<u8> {
    [&rows.to_le_bytes()[..], &dim.to_le_bytes(), bytemuck::cast_slice(values)].concat()
}

fn fvecs(rows: &[&[f32]]) -> Vec<u8> {
    let row = |row: &&[f32]| [&(row.len() as i32).to_le_bytes()[..], bytemuck::cast_slice(row)].concat();
    rows.iter().flat_map(row).collect()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The message for a file, without the folder's name.
    fn message<T>(&self, result: Result<T>) -> String {
        let error = result.err().expect("an error").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn refusal(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        self.message(Dump::open(self.file(name, bytes)))
    }
}

fn read_all(mut dump: Dump) -> Result<(Vec<u64>, Vec<f32>)> {
    let (mut ids, mut rows, mut batch) = (vec![], vec![], Batch::default());
    while dump.read(&mut batch)? {
        ids.extend(&batch.ids);
        rows.extend(&batch.rows);
    }
    assert_eq!(rows.len(), ids.len() * dump.dim());
    assert_eq!(ids.len() as u64, dump.rows());
    Ok((ids, rows))
}

const VALUES: [f32; 6] = [1.0, -2.5, 0.0, 65504.0, -0.125, 3.0];

#[test]
fn every_format_gives_the_same_rows() {
    let folder = Folder::new();
    npy(&folder.path("f2.npy"), &[2, 3], VALUES.map(f16::from_f32));
    npy(&folder.path("f4.npy"), &[2, 3], VALUES);
    npy(&folder.path("f8.npy"), &[2, 3], VALUES.map(f64::from));
    folder.file("v.fbin", fbin(2, 3, &VALUES));
    folder.file("v.fvecs", fvecs(&[&VALUES[..3], &VALUES[3..]]));
    for name in ["f2.npy", "f4.npy", "f8.npy", "v.fbin", "v.fvecs"] {
        let dump = Dump::open(folder.path(name)).unwrap();
        assert_eq!((dump.rows(), dump.dim()), (2, 3), "{name}");
        assert_eq!(read_all(dump).unwrap(), (vec![0, 1], VALUES.to_vec()), "{name}");
        let matrix = Dump::open(folder.path(name)).unwrap().into_matrix().unwrap();
        assert_eq!((matrix.dim(), matrix.as_slice()), (3, &VALUES[..]), "{name}");
    }
}

#[test]
fn ids_may_be_of_any_integer_type() {
    let folder = Folder::new();
    let items = folder.file("v.fbin", fbin(2, 3, &VALUES));
    npy(&folder.path("u8.npy"), &[2], [7u64, u64::MAX]);
    npy(&folder.path("i8.npy"), &[2], [7i64, i64::MAX]);
    npy(&folder.path("u4.npy"), &[2], [7u32, u32::MAX]);
    npy(&folder.path("i4.npy"), &[2], [7i32, i32::MAX]);
    let largest = [u64::MAX, i64::MAX as u64, u64::from(u32::MAX), i32::MAX as u64];
    for (name, largest) in ["u8.npy", "i8.npy", "u4.npy", "i4.npy"].iter().zip(largest) {
        let dump = Dump::options().ids(folder.path(name)).open(&items).unwrap();
        assert_eq!(read_all(dump).unwrap().0, [7, largest]);
    }
}

#[test]
fn a_dump_longer_than_a_batch_is_read_in_order() {
    let folder = Folder::new();
    let (rows, dim) = (20_000, 30);
    let values: Vec<f32> = (0..rows * dim).map(|i| i as f32).collect();
    folder.file("v.fbin", fbin(rows, dim, &values));
    npy(&folder.path("ids.npy"), &[rows as u64], (0..rows as u64).map(|row| row * 3));
    let dump = Dump::options().ids(folder.path("ids.npy")).open(folder.path("v.fbin")).unwrap();
    let (ids, read) = read_all(dump).unwrap();
    assert!(ids.iter().copied().eq((0..rows as u64).map(|row| row * 3)));
    assert!(read == values);
}

#[test]
fn candidates_are_one_list_or_one_a_user() {
    let folder = Folder::new();
    npy(&folder.path("one.npy"), &[3], [5u64, 6, 7]);
    let one = IdLists::open(folder.path("one.npy")).unwrap();
    assert_eq!((one.lists(), one.list(0), one.list(9)), (None, &[5, 6, 7][..], &[5, 6, 7][..]));
    npy(&folder.path("two.npy"), &[2, 2], [5i32, 6, 7, 8]);
    let two = IdLists::open(folder.path("two.npy")).unwrap();
    assert_eq!((two.lists(), two.list(1), two.list(2)), (Some(2), &[7, 8][..], &[][..]));
    npy::<u64>(&folder.path("none.npy"), &[2, 0], []);
    assert_eq!(IdLists::open(folder.path("none.npy")).unwrap().list(1), [] as [u64; 0]);
    npy(&folder.path("floats.npy"), &[2], [0.5f32, 1.0]);
    let floats = folder.message(IdLists::open(folder.path("floats.npy")));
    assert_eq!(floats, "floats.npy: its values are F32; ids are u64, i64, u32 or i32");
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    let message = folder.message(Dump::open(folder.path("items.npy")));
    assert_eq!(message, "cannot open items.npy: No such file or directory (os error 2)");
}

#[test]
fn an_unknown_extension_is_refused() {
    let message = Folder::new().refusal("items.csv", "1,2,3");
    let expected = "items.csv: the extension is none of .npy, .fbin, .fvecs, .parquet and .safetensors, which \
                    tell the format";
    assert_eq!(message, expected);
}

#[test]
fn empty_dumps_are_refused() {
    let folder = Folder::new();
    for name in ["e.npy", "e.fbin", "e.fvecs"] {
        assert_eq!(folder.refusal(name, ""), format!("{name}: it is empty: the file has no bytes"));
    }
    let no_rows = "the dump is empty; an index needs at least one row";
    assert_eq!(folder.refusal("e.fbin", fbin(0, 3, &[])), format!("e.fbin: {no_rows}"));
    assert_eq!(folder.refusal("e.npy", raw_npy("<f4", "False", "(0, 3)", b"")), format!("e.npy: {no_rows}"));
}

#[test]
fn a_dump_cut_short_says_how_much_of_it_is_whole() {
    let folder = Folder::new();
    let cut = "its header says 2 rows of dim 3, 32 bytes in all, but the file has 27; 1 rows are whole: \
               was it cut short, or still being written?";
    assert_eq!(folder.refusal("v.fbin", &fbin(2, 3, &VALUES)[..27]), format!("v.fbin: {cut}"));
    let bytes = raw_npy("<f4", "False", "(2, 3)", bytemuck::cast_slice(&VALUES));
    let message = folder.refusal("v.npy", &bytes[..bytes.len() - 1]);
    assert!(message.contains("2 rows of dim 3") && message.contains("1 rows are whole"), "{message}");
    let message = folder.refusal("v.fvecs", &fvecs(&[&VALUES[..3], &VALUES[3..]])[..30]);
    assert!(message.contains("but the file has 30; 1 rows are whole"), "{message}");
    let message = folder.refusal("v.fbin", [fbin(2, 3, &VALUES), vec![0]].concat());
    assert!(message.contains("32 bytes in all, but the file has 33"), "{message}");
    for name in ["v.npy", "v.fbin", "v.fvecs"] {
        let message = folder.refusal(name, b"\x93NU");
        assert!(message.contains("the file ends within its"), "{message}");
    }
}

#[test]
fn npy_arrays_of_another_kind_are_refused() {
    let folder = Folder::new();
    let data = [0; 48];
    let refusal = |descr, order, shape| folder.refusal("v.npy", raw_npy(descr, order, shape, &data));
    assert_eq!(
        refusal("<f4", "True", "(4, 3)"),
        "v.npy: it is in Fortran order; save `numpy.ascontiguousarray(a)`"
    );
    assert_eq!(
        refusal("<f4", "False", "(2, 2, 3)"),
        "v.npy: its shape is [2, 2, 3]; embeddings are 2-D, one row an item"
    );
    assert_eq!(
        refusal(">f4", "False", "(4, 3)"),
        "v.npy: its values are big-endian (>f4); save `a.astype('<f4')`"
    );
    assert_eq!(
        refusal("<i4", "False", "(4, 3)"),
        "v.npy: its values are I32; embeddings are f16, f32 or f64"
    );
    assert_eq!(
        refusal("<c8", "False", "(2, 3)"),
        "v.npy: its dtype <c8 is not supported; save it as f4 or, for ids, u8"
    );
    assert_eq!(refusal("<f4", "False", "(0"), refusal("<f4", "False", "(0"));
    assert!(refusal("<f4", "False", "(0").starts_with("v.npy: its npy header cannot be read: "));
    let huge = "(99999999999, 99999999999)";
    assert_eq!(refusal("<f4", "False", huge), "v.npy: its npy header is not that of a plain array");
    let nested = format!("({}", "(".repeat(3000));
    assert_eq!(refusal("<f4", "False", &nested), "v.npy: its npy header is not that of a plain array");
    assert_eq!(
        folder.refusal("v.npy", [&b"\x93NUMPX"[..], &data].concat()),
        "v.npy: it does not begin as an npy file does; is it one?"
    );
}

#[test]
fn dims_are_at_least_1_and_at_most_4096() {
    let folder = Folder::new();
    let dim_0 = "its rows have dim 0, which is not within 1 to 4096";
    assert_eq!(folder.refusal("v.fbin", fbin(2, 0, &[])), format!("v.fbin: {dim_0}"));
    assert_eq!(folder.refusal("v.npy", raw_npy("<f4", "False", "(2, 0)", b"")), format!("v.npy: {dim_0}"));
    let wide = vec![0.0; 4097];
    assert_eq!(
        folder.refusal("v.fbin", fbin(1, 4097, &wide)),
        "v.fbin: its rows have dim 4097, which is not within 1 to 4096"
    );
    assert_eq!(
        folder.refusal("v.fvecs", fvecs(&[&wide])),
        "v.fvecs: row 0: its dim is 4097, which is not within 1 to 4096"
    );
    assert!(Dump::open(folder.file("v.fbin", fbin(1, 4096, &wide[..4096]))).is_ok());
    let message = folder.refusal("v.fbin", fbin(-1, 3, &VALUES));
    assert_eq!(message, "v.fbin: its header says -1 rows of dim 3; is it an .fbin?");
}

#[test]
fn fvecs_rows_of_another_dim_are_named() {
    let folder = Folder::new();
    let mut bytes = fvecs(&[&VALUES[..3], &VALUES[3..], &VALUES[..3]]);
    bytes[32] = 2;
    let message = folder.message(read_all(Dump::open(folder.file("v.fvecs", bytes)).unwrap()));
    assert_eq!(message, "v.fvecs: row 2: its dim is not 3 as row 0's is");
}

#[test]
fn ids_must_be_as_many_as_items_and_unsigned() {
    let folder = Folder::new();
    let items = folder.file("v.fbin", fbin(2, 3, &VALUES));
    let with_ids = |name: &str| Dump::options().ids(folder.path(name)).open(&items);
    npy(&folder.path("three.npy"), &[3], [1u64, 2, 3]);
    let message = folder.message(with_ids("three.npy"));
    assert_eq!(message, "three.npy: 3 ids for the 2 rows of v.fbin; give one a row");
    npy(&folder.path("flat.npy"), &[2, 1], [1u64, 2]);
    assert_eq!(folder.message(with_ids("flat.npy")), "flat.npy: its shape is [2, 1]; ids are 1-D");
    npy(&folder.path("negative.npy"), &[2], [1i64, -5]);
    let message = folder.message(read_all(with_ids("negative.npy").unwrap()));
    assert_eq!(message, "negative.npy: row 1: its id -5 is negative; item ids are unsigned");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_parquet_is_refused() {
    let message = Folder::new().refusal("v.parquet", "PAR1");
    assert_eq!(
        message,
        "v.parquet: this build does not read parquet; build itemdex with `--features parquet`"
    );
}

#[cfg(not(feature = "safetensors"))]
#[test]
fn safetensors_need_the_feature() {
    let message = Folder::new().refusal("items.safetensors", "{}");
    assert!(message.contains("build itemdex with `--features safetensors`"), "{message}");
}

#[cfg(feature = "safetensors")]
mod safetensors {
    use half::bf16;
    use itemdex::RowFormat;

    use super::*;

    /// What all three of the dtypes hold.
    const EXACT: [f32; 6] = [1.0, -2.5, 0.0, 0.5, -0.125, 3.0];

    /// A file of tensors, one behind the other, each of a name, a dtype, a shape and its bytes.
    fn file(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
        let (mut entries, mut values) =
            (vec![r#""__metadata__":{"made_by":"a test"}"#.to_owned()], Vec::new());
        for (name, dtype, shape, bytes) in tensors {
            let start = values.len();
            values.extend_from_slice(bytes);
            entries.push(format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
                values.len()
            ));
        }
        raw(&format!("{{{}}}", entries.join(",")), &values)
    }

    fn raw(header: &str, values: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), values].concat()
    }

    #[test]
    fn embeddings_of_each_dtype_are_read_with_their_ids() {
        let folder = Folder::new();
        let f32s: Vec<u8> = bytemuck::cast_slice(&EXACT).to_vec();
        let f16s: Vec<u8> = EXACT.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let bf16s: Vec<u8> = EXACT.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        let ids: [(&str, &[u8]); 4] = [
            ("U64", bytemuck::cast_slice(&[7u64, 9])),
            ("I64", bytemuck::cast_slice(&[7i64, 9])),
            ("U32", bytemuck::cast_slice(&[7u32, 9])),
            ("I32", bytemuck::cast_slice(&[7i32, 9])),
        ];
        for (dtype, values, format) in
            [("F32", &f32s, RowFormat::F32), ("F16", &f16s, RowFormat::F16), ("BF16", &bf16s, RowFormat::F32)]
        {
            for (of_ids, id_values) in ids {
                let bytes = file(&[
                    ("bias", "F64", &[1], &[0; 8]),
                    ("embedding", dtype, &[2, 3], values),
                    ("id", of_ids, &[2], id_values),
                ]);
                let dump = Dump::open(folder.file("v.safetensors", bytes)).unwrap();
                assert_eq!((dump.rows(), dump.dim(), dump.format()), (2, 3, format));
                let batch = read_all(dump).unwrap();
                assert_eq!(batch, (vec![7, 9], EXACT.to_vec()), "{dtype} {of_ids}");
            }
        }
    }

    #[test]
    fn ids_are_row_numbers_where_there_are_embeddings_only() {
        let folder = Folder::new();
        let values = bytemuck::cast_slice(&EXACT);
        let path = folder.file("v.safetensors", file(&[("weight", "F32", &[2, 3], values)]));
        let dump = Dump::options().vector_column("weight").open(&path).unwrap();
        assert_eq!(read_all(dump).unwrap().0, [0, 1]);
        npy(&folder.path("ids.npy"), &[2], [4u64, 5]);
        let dump = Dump::options().vector_column("weight").ids(folder.path("ids.npy")).open(&path).unwrap();
        assert_eq!(read_all(dump).unwrap().0, [4, 5]);
        let users = file(&[("embedding", "F32", &[2, 3], values), ("other", "U8", &[1], &[1])]);
        let users = Dump::options().without_ids().open(folder.file("u.safetensors", users)).unwrap();
        assert_eq!(users.into_matrix().unwrap().as_slice(), EXACT);
    }

    #[test]
    fn bf16_is_kept_exactly() {
        let folder = Folder::new();
        // Beyond what f16 holds, and below.
        let values = [1e15f32, -3e-30, 0.1, -0.0].map(bf16::from_f32);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let path = folder.file("v.safetensors", file(&[("embedding", "BF16", &[2, 2], &bytes)]));
        let out = folder.path("v.itemdex");
        IndexBuilder::new("v1").m(2).build(Dump::open(path).unwrap(), &out).unwrap();
        let index = Index::open(&out).unwrap();
        assert_eq!(index.info().row_format, RowFormat::F32);
        for (id, row) in (0..).zip(values.chunks(2)) {
            assert_eq!(*index.get(id).unwrap(), [row[0].to_f32(), row[1].to_f32()]);
        }
    }

    #[test]
    fn files_that_are_not_what_they_say_are_refused() {
        let folder = Folder::new();
        let refusal = |bytes: &[u8]| folder.refusal("v.safetensors", bytes);
        let values: &[u8] = bytemuck::cast_slice(&EXACT);
        let whole = file(&[("embedding", "F32", &[2, 3], values), ("id", "U32", &[2], &[0; 8])]);
        assert_eq!(refusal(b""), "v.safetensors: it is empty: the file has no bytes");
        let ends = "v.safetensors: the file ends within the 8 bytes that a safetensors begins with";
        assert_eq!(refusal(&whole[..7]), ends);
        assert!(refusal(&whole[..40]).starts_with("v.safetensors: the file ends within its header of "));
        let said = refusal(&whole[..whole.len() - 1]);
        assert!(said.ends_with("was it cut short, or still being written?"), "{said}");
        assert!(refusal(&[&whole[..], b"x"].concat()).contains("but the file has"));
        let said = refusal(b"\xff\xff\xff\xff\xff\xff\xff\xff{}");
        assert!(said.contains("at most 1048576 are read; is it a safetensors?"), "{said}");
        for header in ["", "{", "[]", r#"{"embedding":{"dtype":"F33","shape":[2,3],"data_offsets":[0,24]}}"#]
        {
            let said = refusal(&raw(header, values));
            assert!(said.starts_with("v.safetensors: its safetensors header cannot be read: "), "{said}");
        }
        // Offsets that leave bytes out, lie one over the other, or are not what the shape takes; shapes that overflow.
        for (shape, offsets) in [
            ("2,3", "4,28"),
            ("2,3", "24,0"),
            ("2,3", "0,20"),
            ("3,3", "0,24"),
            ("2305843009213693952,8", "0,0"),
        ] {
            let tensor = format!(r#"{{"dtype":"F32","shape":[{shape}],"data_offsets":[{offsets}]}}"#);
            let said = refusal(&raw(&format!(r#"{{"embedding":{tensor}}}"#), values));
            assert!(said.starts_with("v.safetensors: its safetensors header cannot be read: "), "{said}");
        }
    }

    #[test]
    fn tensors_of_another_kind_are_refused_by_name() {
        let folder = Folder::new();
        let refusal =
            |tensors: &[(&str, &str, &[usize], &[u8])]| folder.refusal("v.safetensors", file(tensors));
        let values: &[u8] = bytemuck::cast_slice(&EXACT);
        let embedding: (&str, &str, &[usize], &[u8]) = ("embedding", "F32", &[2, 3], values);
        assert_eq!(
            refusal(&[("weight", "F32", &[2, 3], values), ("id", "U32", &[2], &[0; 8])]),
            "v.safetensors: it has no tensor embedding, but id, weight; name yours (--vector-column)"
        );
        assert_eq!(
            refusal(&[embedding, ("item", "U32", &[2], &[0; 8])]),
            "v.safetensors: it has no tensor id, but embedding, item; name yours (--id-column)"
        );
        assert_eq!(
            refusal(&[("embedding", "F32", &[6], values)]),
            "v.safetensors: tensor embedding is of shape [6]; embeddings are 2-D, one row an item"
        );
        assert_eq!(
            refusal(&[("embedding", "I32", &[2, 3], values)]),
            "v.safetensors: tensor embedding holds I32; embeddings are F16, BF16 or F32"
        );
        assert_eq!(
            refusal(&[embedding, ("id", "F32", &[2], &[0; 8])]),
            "v.safetensors: tensor id holds F32; ids are U64, I64, U32 or I32"
        );
        assert_eq!(
            refusal(&[embedding, ("id", "U32", &[2, 1], &[0; 8])]),
            "v.safetensors: tensor id is of shape [2, 1]; ids are 1-D"
        );
        assert_eq!(
            refusal(&[embedding, ("id", "U32", &[3], &[0; 12])]),
            "v.safetensors: tensor id has 3 ids for 2 rows; give one a row"
        );
        let bytes = file(&[embedding, ("id", "I32", &[2], bytemuck::cast_slice(&[1i32, -5]))]);
        let dump = Dump::open(folder.file("v.safetensors", bytes)).unwrap();
        let message = folder.message(read_all(dump));
        assert_eq!(message, "v.safetensors: row 1: its id -5 is negative; item ids are unsigned");
        let empty = "the dump is empty; an index needs at least one row";
        assert_eq!(refusal(&[("embedding", "F32", &[0, 3], b"")]), format!("v.safetensors: {empty}"));
        let no_dim = "its rows have dim 0, which is not within 1 to 4096";
        assert_eq!(refusal(&[("embedding", "F32", &[2, 0], b"")]), format!("v.safetensors: {no_dim}"));
    }
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, FixedSizeListArray, Int64Array, LargeListArray, ListArray, RecordBatch, StringArray,
    };
    use arrow::datatypes::{Float32Type, Float64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path.to_owned()
    }

    type Rows = Vec<Option<Vec<Option<f32>>>>;

    fn rows(rows: usize, dim: usize) -> Rows {
        (0..rows).map(|row| Some((0..dim).map(|at| Some((row * dim + at) as f32)).collect())).collect()
    }

    fn lists(rows: Rows) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    }

    fn ids(ids: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(ids))
    }

    #[test]
    fn lists_of_any_kind_are_read() {
        let folder = Folder::new();
        let wide =
            rows(10_000, 3).into_iter().map(|row| row.map(|row| row.into_iter().map(|v| v.map(f64::from))));
        let columns: [(&str, ArrayRef); 3] = [
            ("list", lists(rows(10_000, 3))),
            ("large", Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>(wide))),
            (
                "fixed",
                Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows(10_000, 3), 3)),
            ),
        ];
        for (name, column) in columns {
            let path = folder.path("v.parquet");
            parquet(&path, vec![("sku", ids((0..10_000).map(|id| id * 2))), (name, column)]);
            let dump = Dump::options().id_column("sku").vector_column(name).open(&path).unwrap();
            assert_eq!((dump.rows(), dump.dim()), (10_000, 3));
            let (ids, read) = read_all(dump).unwrap();
            assert!(ids.into_iter().eq((0..10_000).map(|id| id * 2)), "{name}");
            assert!(read.into_iter().eq((0..30_000).map(|value| value as f32)), "{name}");
        }
    }

    #[test]
    fn columns_of_any_type_are_read() {
        use arrow::array::{
            BooleanArray, Date32Array, Float64Array, Int32Array, ListBuilder, StringBuilder,
            TimestampMillisecondArray, UInt64Array,
        };
        use arrow::datatypes::Int32Type;

        let folder = Folder::new();
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("b"), Some("a"), None]);
        lists.append_null();
        lists.append_value(Vec::<Option<&str>>::new());
        let owners = vec![Some(vec![Some(3), Some(1)]), None, Some(vec![])];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("region", Arc::new(StringArray::from(vec![Some("JP"), None, Some("US")]))),
            ("labels", Arc::new(lists.finish())),
            ("owners", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(owners))),
            ("author", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(3)]))),
            ("price", Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-2.0)]))),
            ("age", Arc::new(Int32Array::from(vec![Some(-5), None, Some(7)]))),
            ("new", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            (
                "until",
                Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_999), None, Some(-1)])),
            ),
            ("day", Arc::new(Date32Array::from(vec![Some(2), None, Some(0)]))),
        ];
        let path = parquet(&folder.path("v.parquet"), columns);
        let read = |name: &str, kind| values_of(read_column(&path, name, kind).unwrap());
        let null = || Value::Null;
        use ColumnKind::{Expires, Flag, Number, Tag};
        assert_eq!(read("region", Tag), ["JP".into(), null(), "US".into()]);
        assert_eq!(read("labels", Tag), [["a", "b"].into(), null(), Value::Tags(vec![])]);
        assert_eq!(read("owners", Tag), [[1u64, 3].into(), null(), Value::Ids(vec![])]);
        assert_eq!(read("author", Tag), [u64::MAX.into(), null(), 3u64.into()]);
        assert_eq!(read("price", Number), [0.5.into(), null(), (-2.0).into()]);
        assert_eq!(read("age", Number), [(-5).into(), null(), 7.into()]);
        assert_eq!(read("new", Flag), [true.into(), null(), false.into()]);
        assert_eq!(read("until", Expires)[..2], [1_700_000_000i64.into(), null()]);
        assert_eq!(read("day", Expires), [172_800i64.into(), null(), 0i64.into()]);

        let refused = |name: &str, kind| folder.message(read_column(&path, name, kind));
        assert!(refused("prize", Number).contains("it has no column prize, but region, labels"));
        assert!(refused("region", Number).contains("numbers are integers, floats or decimals"));
        assert!(refused("price", Tag).contains("tags are strings, integers, or lists of them"));
        assert!(refused("author", Number).contains("row 0: a value of the column does not fit into Int64"));
        assert!(refused("age", Tag).contains("row 0: a value of the column does not fit into UInt64"));
        assert!(refused("age", Flag).contains("flags are booleans"));
    }

    #[test]
    fn an_ids_file_takes_the_place_of_the_column() {
        let folder = Folder::new();
        let path = parquet(&folder.path("v.parquet"), vec![("embedding", lists(rows(2, 3)))]);
        npy(&folder.path("ids.npy"), &[2], [8u64, 9]);
        let dump = Dump::options().ids(folder.path("ids.npy")).open(&path).unwrap();
        assert_eq!(read_all(dump).unwrap().0, [8, 9]);
    }

    #[test]
    fn users_need_no_id_column() {
        let folder = Folder::new();
        let path = parquet(&folder.path("v.parquet"), vec![("embedding", lists(rows(2, 3)))]);
        let users = Dump::options().without_ids().open(path).unwrap().into_matrix().unwrap();
        assert_eq!(users.as_slice(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn columns_that_do_not_serve_are_named() {
        let folder = Folder::new();
        let refusal = |columns| {
            let path = parquet(&folder.path("v.parquet"), columns);
            folder.message(Dump::open(path).and_then(read_all))
        };
        let one = || lists(rows(3, 2));
        assert_eq!(
            refusal(vec![("sku", ids([1, 2, 3])), ("embedding", one())]),
            "v.parquet: it has no column id, but sku, embedding; name yours (--id-column)"
        );
        assert_eq!(
            refusal(vec![("id", ids([1, 2, 3])), ("vector", one())]),
            "v.parquet: it has no column embedding, but id, vector; name yours (--vector-column)"
        );
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        assert_eq!(
            refusal(vec![("id", names.clone()), ("embedding", one())]),
            "v.parquet: column id is of type Utf8; ids are integers"
        );
        assert_eq!(
            refusal(vec![("id", ids([1, 2, 3])), ("embedding", names)]),
            "v.parquet: column embedding is of type Utf8; embeddings are lists of floats"
        );
        assert_eq!(
            refusal(vec![("id", ids([1, -2, 3])), ("embedding", one())]),
            "v.parquet: row 1: its id is null or negative; item ids are unsigned"
        );
        let mut uneven = rows(3, 2);
        uneven[2] = Some(vec![Some(1.0)]);
        assert_eq!(
            refusal(vec![("id", ids([1, 2, 3])), ("embedding", lists(uneven))]),
            "v.parquet: row 2: its embedding has 1 values, row 0's has 2"
        );
        let mut missing = rows(3, 2);
        missing[1] = None;
        assert_eq!(
            refusal(vec![("id", ids([1, 2, 3])), ("embedding", lists(missing))]),
            "v.parquet: row 1: it has no embedding (null)"
        );
        let mut holed = rows(3, 2);
        holed[1] = Some(vec![Some(1.0), None]);
        assert_eq!(
            refusal(vec![("id", ids([1, 2, 3])), ("embedding", lists(holed))]),
            "v.parquet: row 1: its embedding holds a null"
        );
    }

    #[test]
    fn pages_of_every_kind_are_read() {
        let folder = Folder::new();
        let columns: [(&str, ArrayRef); 2] =
            [("id", ids((0..50_000).map(|id| id / 7 + id))), ("embedding", lists(rows(50_000, 3)))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let compressions = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ];
        for (number, compression) in compressions.into_iter().enumerate() {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_dictionary_enabled(number % 2 == 0)
                    .set_write_page_header_statistics(number % 2 == 1)
                    .set_data_page_row_count_limit(3_000)
                    .set_max_row_group_row_count(Some(20_000))
                    .build();
                let mut bytes = Vec::new();
                let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
                writer.write(&batch).unwrap();
                writer.close().unwrap();
                let (ids, read) = read_all(Dump::open(folder.file("v.parquet", bytes)).unwrap()).unwrap();
                assert!(ids.into_iter().eq((0..50_000).map(|id| id / 7 + id)), "{compression}, {version:?}");
                assert!(
                    read.into_iter().eq((0..150_000).map(|value| value as f32)),
                    "{compression}, {version:?}"
                );
            }
        }
    }

    #[test]
    fn a_page_that_asks_for_more_memory_than_it_can_fill_is_refused() {
        let folder = Folder::new();
        let row = || Some((0..4).map(|_| Some(1.0)));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..200_000).map(|_| row())));
        let batch = RecordBatch::try_from_iter([("embedding", lists)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(1 << 30)
            .set_data_page_row_count_limit(1 << 30)
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let page = writer.close().unwrap().row_group(0).column(0).data_page_offset() as usize;
        let open = |bytes: &[u8]| {
            let path = folder.file("v.parquet", bytes);
            Dump::options().without_ids().open(path).and_then(Dump::into_matrix)
        };
        assert_eq!(open(&bytes).unwrap().len(), 200_000);
        // The second field of the header, in four bytes of seven bits each: from some megabytes to 134.
        assert!(
            bytes[page + 2] == 0x15
                && bytes[page + 6] < 0x80
                && bytes[page + 3..page + 6].iter().all(|&byte| byte >= 0x80)
        );
        bytes[page + 3..page + 7].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0x7F]);
        let message = folder.message(open(&bytes));
        assert!(
            message.starts_with(&format!(
                "v.parquet: it cannot be read as parquet: the page at byte {page} says"
            )),
            "{message}"
        );
        assert!(message.contains("unpack to 134217727;"), "{message}");
    }

    #[test]
    fn a_cut_or_empty_parquet_is_refused() {
        let folder = Folder::new();
        let path =
            parquet(&folder.path("v.parquet"), vec![("id", ids([1, 2])), ("embedding", lists(rows(2, 2)))]);
        let bytes = fs::read(path).unwrap();
        let message = folder.refusal("cut.parquet", &bytes[..bytes.len() - 9]);
        assert!(message.starts_with("cut.parquet: it cannot be read as parquet: "), "{message}");
        let path =
            parquet(&folder.path("v.parquet"), vec![("id", ids([])), ("embedding", lists(rows(0, 2)))]);
        let message = folder.message(Dump::open(path));
        assert_eq!(message, "v.parquet: the dump is empty; an index needs at least one row");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_a_reader_panic(
        format in prop::sample::select(vec!["npy", "fbin", "fvecs"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = match format {
            "npy" => raw_npy("<f4", "False", "(2, 3)", bytemuck::cast_slice(&VALUES)),
            "fbin" => fbin(2, 3, &VALUES),
            _ => fvecs(&[&VALUES[..3], &VALUES[3..]]),
        };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = Folder::new();
        let path = folder.file(&format!("v.{format}"), &bytes);
        if let Ok((ids, rows)) = Dump::open(&path).and_then(read_all) {
            prop_assert!(ids.len() <= bytes.len() && rows.len() <= bytes.len());
        }
        let _ = IdLists::open(&path);
        for kind in [ColumnKind::Tag, ColumnKind::Number, ColumnKind::Flag, ColumnKind::Expires] {
            let _ = read_column(&path, "c", kind);
        }
    }
}
