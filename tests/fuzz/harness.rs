//! What is done with the bytes of an input: opened as a file and, if that goes well, asked everything. Whatever they are, no
//! panic, no endless work; and a file that holds together gives right answers.
//!
//! Fuzz targets call this, and so does `tests/fuzz_seeds.rs`, with the inputs that are kept.
#![allow(dead_code, reason = "each target uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use itemdex::dump::{Batch, Dump, IdLists};
use itemdex::{
    BloomFilter, Channel, ColumnInfo, ColumnKind, Expression, Hit, Index, Matrix, Parameters, Plan,
    RankOptions, SearchOptions, Value, flag, is_null, number, tag,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 4096;

/// Hands `bytes` to `each` as a file of this name, in a folder that is used again and again.
fn as_file<T>(name: &str, bytes: &[u8], each: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FOLDER: TempDir = tempfile::tempdir().unwrap());
    let path: PathBuf = FOLDER.with(|folder| folder.path().join(name));
    fs::write(&path, bytes).unwrap();
    each(&path)
}

/// An index file: as it is but for the header's checksum, then with those of the sections, then laid out as its header says.
/// A whole file stays what it is.
pub fn index(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    let mut before = Vec::new();
    let mends: [fn(&mut Vec<u8>); 3] = [|file| seal(file), |file| seal_sections(file), lay_out];
    for mend in mends {
        mend(&mut file);
        if file != before {
            as_file("fuzzed.itemdex", &file, open_index);
        }
        before.clone_from(&file);
    }
}

fn open_index(path: &Path) {
    let Ok(index) = Index::open(path) else { return };
    let whole = index.verify(|_| ()).is_ok();
    let _ = index.info();
    let ids: Vec<u64> = index.ids().iter().take(200).copied().collect();
    // Another user for another file, rather than all for each.
    let scale = [1.0, 0.0, 1e-38, 1e17][(ids[0] % 4) as usize];
    let user: Vec<f32> = (0..index.dim()).map(|at| (at as f32 * 0.7 + 0.3).sin() * scale).collect();
    // In the first second that there is only what expired then has expired.
    match whole && !expires_first(&index) {
        true => expect_answers(&index, &user),
        false => ask(&index, &ids, &user),
    }
    for column in index.info().columns {
        ask_column(&index, &column, &ids, whole);
    }
}

/// Whether an item expires in the first second that there is.
fn expires_first(index: &Index) -> bool {
    index
        .info()
        .columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Expires)
        .any(|column| index.filter(&number(&column.name).is(FIRST)).unwrap().matching() > 0)
}

const FIRST: i64 = i64::MIN;

/// Filters by a column. In a whole index they keep the items that have the values.
fn ask_column(index: &Index, column: &ColumnInfo, ids: &[u64], whole: bool) {
    let of = |id: &u64| index.values(*id).map(|values| values.get(&column.name).clone());
    let name = || column.name.clone();
    let nulls = index.filter(&is_null(name())).unwrap().matching();
    assert!(nulls <= index.len() && (!whole || nulls as u64 == column.nulls));
    for value in ids.iter().take(3).filter_map(of) {
        let expression = match &value {
            Value::Tags(tags) => tag(name()).all(tags),
            Value::Ids(ids) => tag(name()).all(ids),
            Value::Integer(value) => number(name()).is(*value),
            Value::Real(value) if !value.is_nan() => number(name()).is(*value),
            Value::Flag(value) => flag(name()).is(*value),
            _ => continue,
        };
        let has = |of: &Value| match (of, &value) {
            (Value::Tags(has), Value::Tags(tags)) => tags.iter().all(|tag| has.contains(tag)),
            (Value::Ids(has), Value::Ids(ids)) => ids.iter().all(|id| has.contains(id)),
            (of, value) => of == value,
        };
        let kept = index.filter(&expression).unwrap().matching();
        let others = index.filter(&!expression).unwrap().matching();
        if whole {
            assert_eq!(kept, index.ids().iter().filter_map(of).filter(has).count());
            assert_eq!(kept + others + nulls, index.len());
        }
    }
    if matches!(column.kind, ColumnKind::Number | ColumnKind::Expires) {
        let below = index.filter(&number(name()).below(3)).unwrap().matching();
        let above = index.filter(&number(name()).at_least(3)).unwrap().matching();
        assert!(!whole || below + above + nulls == index.len());
    }
}

/// The text of a filter: read, and if that goes well, asked of a small index.
pub fn filter(bytes: &[u8]) {
    thread_local!(static ASKED: (TempDir, Index) = with_columns());
    let text = String::from_utf8_lossy(bytes);
    let parameters = Parameters::new().with("few", [1u64, 2]).with("one", ["a"]);
    if let Ok(expression) = Expression::parse(&text, &parameters) {
        ASKED.with(|(_, index)| {
            let count = |expression: &Expression| index.filter(expression).map(|filter| filter.matching());
            if let Ok(kept) = count(&expression) {
                assert!(kept + count(&!expression).unwrap() <= index.len());
            }
        });
    }
}

/// The bytes of a Bloom filter: denied, it hides what it may hold and nothing else.
pub fn bloom(bytes: &[u8]) {
    thread_local!(static ASKED: (TempDir, Index) = with_columns());
    let Ok(bloom) = BloomFilter::new(bytes) else { return };
    ASKED.with(|(_, index)| {
        let found = index.search_with(&[1.0, 0.5], &SearchOptions::new(9).deny(&bloom)).unwrap().hits;
        let hidden = index.ids().iter().filter(|&&id| bloom.may_contain(id)).count();
        assert!(found.iter().all(|hit| !bloom.may_contain(hit.id)));
        assert_eq!(found.len() + hidden, index.len());
    });
}

fn with_columns() -> (TempDir, Index) {
    use itemdex::{Column, IndexBuilder};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let column = |name: &str, kind, values: [Value; 4]| Column::new(name, kind, values).unwrap();
    let columns = [
        column("tag", ColumnKind::Tag, ["a".into(), ["b", "c"].into(), Value::Null, "a".into()]),
        column("id", ColumnKind::Tag, [1u64.into(), [2u64, 3].into(), Value::Null, 2u64.into()]),
        column("n", ColumnKind::Number, [1.into(), (-5).into(), Value::Null, 7.into()]),
        column("x", ColumnKind::Number, [1.5.into(), (-5.0).into(), Value::Null, 7.0.into()]),
        column("f", ColumnKind::Flag, [true.into(), false.into(), Value::Null, true.into()]),
    ];
    let builder = columns.into_iter().fold(IndexBuilder::new("v1").threads(1), IndexBuilder::column);
    builder.build_from((0..4).map(|id| (id, [id as f32, 1.0])), &path).unwrap();
    let index = Index::open(&path).unwrap();
    (folder, index)
}

/// Of a damaged index answers may be wrong, but come.
fn ask(index: &Index, ids: &[u64], user: &[f32]) {
    let candidates: Vec<u64> =
        ids.iter().copied().chain([0, 1, u64::MAX]).chain(ids.iter().copied()).collect();
    for k in [3, usize::MAX] {
        let options = SearchOptions::new(k);
        let plans = index.info().plans;
        for options in [options, options.recall(1.0), options.ef(3), options.approximate_scores()]
            .into_iter()
            .flat_map(|options| plans.iter().map(move |&plan| options.plan(plan)).chain([options]))
        {
            let hits = index.search_with(user, &options).unwrap().hits;
            assert!(hits.len() <= k.min(index.len()));
            let users = Matrix::new(user.len(), user.repeat(2)).unwrap();
            assert_eq!(index.search_many(&users, &options, 1).unwrap().len(), 2);
        }
        let handles = index.look_up(&candidates);
        let channels = [Channel::new(&candidates), Channel::new(&handles), Channel::new(&[7])];
        let quotas = [channels[0].at_most(5), channels[1].at_least(2), channels[2].at_least(1)];
        for options in [RankOptions::new(k), RankOptions::new(k).exact()] {
            let ranked = index.rank_with(user, &candidates, &options).unwrap();
            assert!(ranked.hits.len() <= k.min(candidates.len()));
            index.rank_with(user, &handles, &options).unwrap();
            for channels in [&channels, &quotas] {
                let ranked = index.rank_channels(user, channels, &options).unwrap();
                assert!(ranked.hits.len() <= k.min(candidates.len()));
            }
        }
    }
    index.score(user, &candidates, &mut vec![0.0; candidates.len()]).unwrap();
    for &id in &candidates {
        assert_eq!(index.get(id).is_some(), index.contains(id));
    }
}

/// An index that verifies answers exactly where it says so.
fn expect_answers(index: &Index, user: &[f32]) {
    let mut scores = vec![0.0; index.len()];
    assert_eq!(index.score_with(user, index.ids(), &RankOptions::new(0).now(FIRST), &mut scores).unwrap(), 0);
    let mut all: Vec<Hit> = index.ids().iter().zip(&scores).map(|(&id, &score)| Hit { id, score }).collect();
    assert!(all.iter().all(|hit| hit.score.is_finite()));
    let place = |a: &Hit, b: &Hit| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id));
    all.sort_by(place);
    for k in [3, all.len()] {
        let (options, best) = (SearchOptions::new(k).now(FIRST), &all[..k.min(all.len())]);
        assert_eq!(index.search_with(user, &options.recall(1.0)).unwrap().hits, best);
        assert_eq!(index.search_with(user, &options.plan(Plan::Scan)).unwrap().hits, best);
        let plans = index.info().plans;
        if plans.contains(&Plan::Partitions) {
            let partitions = options.recall(1.0).plan(Plan::Partitions);
            assert_eq!(index.search_with(user, &partitions).unwrap().hits, best);
        }
        assert_eq!(index.rank_with(user, index.ids(), &RankOptions::new(k).now(FIRST)).unwrap().hits, best);
        assert_eq!(
            index.rank_with(user, index.ids(), &RankOptions::new(k).now(FIRST).exact()).unwrap().hits,
            best
        );
        for options in plans.into_iter().map(|plan| options.ef(3).plan(plan)).chain([options]) {
            let hits = index.search_with(user, &options).unwrap().hits;
            assert_eq!(hits.len(), best.len());
            assert!(
                hits.is_sorted_by(|a, b| place(a, b).is_lt()) && hits.iter().all(|hit| all.contains(hit))
            );
        }
    }
    for (id, row) in index.iter() {
        assert_eq!(index.get(id), Some(row));
    }
}

/// Places in the header: docs/format.md.
const VERSION: usize = 8;
const DIM: usize = 12;
const LENGTH: usize = 16;
const ROWS: usize = 24;
const M: usize = 32;
const ENTRY: usize = 44;
const BUCKETS: usize = 48;
const LAYERS: usize = 64;
const SECTIONS: usize = 384;
const QUANTIZATION: usize = 552;
const WITHOUT_GRAPH: usize = 880;
const ROW_FORMAT: usize = 1804;
const GROUPS: usize = 884;
const BLOCKS: usize = 888;
const MORE_SECTIONS: usize = 1648;

/// Where the header says of a section where it lies.
fn span(section: usize) -> usize {
    if section < 7 { SECTIONS + 24 * section } else { MORE_SECTIONS + 24 * (section - 7) }
}

fn sections(file: &[u8]) -> usize {
    match get::<4>(file, VERSION) {
        1 => 7,
        _ if has_columns(file) => 13,
        _ => 11,
    }
}

fn has_columns(file: &[u8]) -> bool {
    file[span(11)..span(13)].iter().any(|&byte| byte != 0)
}

/// Places in an entry of the directory of columns, and its size.
const NULLS: usize = 72;
const DISTINCT: usize = 80;
const PARTS: usize = 88;
const ENTRY_BYTES: usize = 216;

/// The directory of columns with entries that a reader takes, and how many bytes the columns then have.
fn lay_out_columns(file: &[u8], rows: u64) -> (Vec<u8>, u64) {
    let (offset, length) = (get::<8>(file, span(12)) as usize, get::<8>(file, span(12) + 8) as usize);
    let found = offset.checked_add(length.min(4 * ENTRY_BYTES)).and_then(|end| file.get(offset..end));
    let mut directory = found.unwrap_or_default().to_vec();
    directory.resize((directory.len() / ENTRY_BYTES).max(1) * ENTRY_BYTES, 0);
    let (mut end, words) = (0, rows.div_ceil(64) * 8);
    for entry in directory.chunks_exact_mut(ENTRY_BYTES) {
        let kind = match get::<4>(entry, 0) {
            kind @ 1..=6 => kind,
            kind => 1 + kind % 6,
        };
        let (nulls, distinct) = (get::<8>(entry, NULLS).min(rows), get::<8>(entry, DISTINCT).min(200));
        set::<4>(entry, 0, kind);
        set::<8>(entry, NULLS, nulls);
        set::<8>(entry, DISTINCT, distinct);
        let free = |part: usize, entry: &[u8]| get::<8>(entry, PARTS + 16 * part + 8).min(2048);
        let lists = get::<8>(entry, PARTS + 16 * 6 + 8) > 0;
        let mut lengths = [0; 8];
        lengths[0] = if nulls > 0 { words } else { 0 };
        match kind {
            5 => lengths[1] = words,
            3 | 4 | 6 => {
                lengths[1] = rows * if kind == 4 { 4 } else { 8 };
                lengths[2] = (rows - nulls) * 4;
            }
            _ => {
                (lengths[1], lengths[4]) = (distinct * 8, distinct * 8);
                lengths[3] = if kind == 1 { free(3, entry) } else { 0 };
                lengths[5] = free(5, entry);
                lengths[6] = if lists { rows * 8 } else { 0 };
                lengths[7] = if lists { free(7, entry) } else { rows * 4 };
            }
        }
        for (part, length) in lengths.into_iter().enumerate() {
            set::<8>(entry, PARTS + 16 * part, end);
            set::<8>(entry, PARTS + 16 * part + 8, length);
            end = (end + length).next_multiple_of(64);
        }
    }
    (directory, end)
}

fn get<const N: usize>(file: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&file[at..at + N]);
    u64::from_le_bytes(wide)
}

fn set<const N: usize>(file: &mut [u8], at: usize, value: u64) {
    file[at..at + N].copy_from_slice(&value.to_le_bytes()[..N]);
}

/// Brings the header's checksum up to date.
fn seal(file: &mut [u8]) {
    if file.len() >= PAGE {
        let checksum = xxh3_64(&file[..PAGE - 8]);
        set::<8>(file, PAGE - 8, checksum);
    }
}

/// The same for sections too, where they lie within the file.
fn seal_sections(file: &mut [u8]) {
    if file.len() < PAGE {
        return;
    }
    for section in 0..sections(file) {
        let at = span(section);
        let (offset, length) = (get::<8>(file, at) as usize, get::<8>(file, at + 8) as usize);
        if let Some(bytes) = offset.checked_add(length).and_then(|end| file.get(offset..end)) {
            let checksum = xxh3_64(bytes);
            set::<8>(file, at + 16, checksum);
        }
    }
    seal(file);
}

/// Makes the header one that a reader takes, with few rows, and the file as long as it says, with the sections where they belong.
fn lay_out(file: &mut Vec<u8>) {
    if file.len() < PAGE {
        return;
    }
    let within = |value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
        true => value,
        false => least + value % (most - least + 1),
    };
    let (dim, rows) = (within(get::<4>(file, DIM), 1, 80), within(get::<8>(file, ROWS), 1, 120));
    let (m, quantized) = (within(get::<4>(file, M), 2, 16), get::<4>(file, QUANTIZATION) % 2);
    let (entry, buckets) = (get::<4>(file, ENTRY) % rows, rows * 3 / 16 + 8);
    set::<4>(file, DIM, dim);
    set::<8>(file, ROWS, rows);
    set::<4>(file, M, m);
    set::<4>(file, QUANTIZATION, quantized);
    set::<4>(file, ENTRY, entry);
    set::<8>(file, BUCKETS, buckets);
    let version = within(get::<4>(file, VERSION), 1, 3);
    set::<4>(file, VERSION, version);
    let half = if version == 3 { get::<4>(file, ROW_FORMAT) % 2 } else { 0 };
    set::<4>(file, ROW_FORMAT, half);
    let (mut graph, mut groups, mut blocks) = (1, 0, 0);
    if version > 1 {
        graph = 1 - get::<4>(file, WITHOUT_GRAPH) % 2;
        groups = get::<4>(file, GROUPS).min(rows);
        blocks = if groups > 0 { within(get::<4>(file, BLOCKS), rows.div_ceil(16), rows) } else { 0 };
        set::<4>(file, WITHOUT_GRAPH, 1 - graph);
        set::<4>(file, GROUPS, groups);
        set::<4>(file, BLOCKS, blocks);
    }
    let columns = (version > 1 && has_columns(file)).then(|| lay_out_columns(file, rows));
    let (directory, column_bytes) = columns.unwrap_or_default();
    let (mut more, mut upper) = (true, 0);
    for layer in 0..15 {
        let at = LAYERS + 4 * layer;
        let nodes = if more { get::<4>(file, at) % (rows + 1) } else { 0 };
        more = nodes > 0;
        set::<4>(file, at, nodes);
        upper += nodes * (2 + m) * 4;
    }
    let (row, row_i8) = (dim.next_multiple_of(16) * (4 - 2 * half), dim.next_multiple_of(64) * quantized);
    let lengths = [
        rows * row,
        rows * row_i8,
        rows * 4 * quantized,
        rows * 8,
        buckets * 64,
        graph * rows * 2 * m * 4,
        upper,
        groups * 448,
        groups * 32 * dim.next_multiple_of(4),
        groups.min(1) * dim * 4,
        blocks * (dim.div_ceil(8) + 1) * 64,
        column_bytes,
        directory.len() as u64,
    ];
    let mut end = PAGE;
    for (section, length) in lengths.into_iter().enumerate().take(sections(file)) {
        let at = span(section);
        set::<8>(file, at, end as u64);
        set::<8>(file, at + 8, length);
        let last = end + length as usize;
        end = last.next_multiple_of(PAGE);
        file.resize(file.len().max(end), 0);
        file[last..end].fill(0);
    }
    if !directory.is_empty() {
        let start = get::<8>(file, span(12)) as usize;
        file[start..start + directory.len()].copy_from_slice(&directory);
    }
    file.truncate(end);
    set::<8>(file, LENGTH, end as u64);
    seal_sections(file);
}

/// A dump: what is read of it is as long as it said, and no more than is in the file where a value takes bytes.
pub fn dump(format: &str, bytes: &[u8]) {
    as_file(&format!("fuzzed.{format}"), bytes, |path| {
        let _ = read_dump(path);
        if format == "npy"
            && let Ok(lists) = IdLists::open(path)
        {
            let users = lists.lists().unwrap_or(1);
            let ids: usize = (0..users.min(100)).map(|user| lists.list(user).len()).sum();
            assert!(ids <= bytes.len() && lists.list(users).len() <= bytes.len());
        }
    });
}

fn read_dump(path: &Path) -> itemdex::Result<()> {
    let mut dump = Dump::open(path)?;
    let (mut batch, mut rows) = (Batch::default(), 0);
    // A few bytes of parquet may stand for millions of values.
    while rows < 100_000 {
        if !dump.read(&mut batch)? {
            assert_eq!(rows, dump.rows());
            break;
        }
        assert!(!batch.ids.is_empty() && batch.rows.len() == batch.ids.len() * dump.dim());
        rows += batch.ids.len() as u64;
    }
    Ok(())
}

/// The bytes of a log's header, and of what stands before the records of a frame, in its format.
fn log_layout(file: &[u8]) -> (usize, usize) {
    if file.get(8) == Some(&1) { (32, 24) } else { (48, 32) }
}

/// A log of fresh items: as it is but for the header's checksum, then with those of its frames.
pub fn log(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    let mut before = Vec::new();
    for mend in [seal_log, seal_frames] {
        mend(&mut file);
        if file != before {
            as_file("fuzzed.log", &file, open_log);
        }
        before.clone_from(&file);
    }
}

fn seal_log(file: &mut [u8]) {
    let (header, _) = log_layout(file);
    if file.len() >= header {
        let checksum = xxh3_64(&file[..header - 8]);
        set::<8>(file, header - 8, checksum);
    }
}

fn seal_frames(file: &mut [u8]) {
    let (mut at, frame) = log_layout(file);
    while file.len() >= at + frame {
        let payload = at + frame..at + frame + get::<4>(file, at + 8) as usize;
        let end = payload.end;
        let Some(payload) = file.get(payload) else { return };
        let checksum = xxh3_64(payload) ^ xxh3_64(&file[at..at + frame - 8]);
        set::<8>(file, at + frame - 8, checksum);
        at = end;
    }
}

#[cfg(fuzzing)]
fn open_log(path: &Path) {
    itemdex::live::fuzz_log(path);
}

/// What is read of a log stands in it the next time too, with what was added.
#[cfg(not(fuzzing))]
fn open_log(path: &Path) {
    use itemdex::live::{LiveOptions, SyncPolicy};
    use std::time::Duration;

    thread_local!(static CATALOG: TempDir = catalog());
    CATALOG.with(|catalog| {
        let options = || LiveOptions::new().log(path).sync(SyncPolicy::Never).poll(Duration::from_secs(3600));
        let Ok(live) = options().open(catalog.path()) else { return };
        let before = live.current();
        let hits = before.search(&[1.0, -0.5], usize::MAX).unwrap();
        assert!(hits.len() == before.len() && hits.iter().all(|hit| hit.score.is_finite()));
        live.upsert("v1", 77, &[0.25, 4.0]).unwrap();
        drop(live);
        let after = options().open(catalog.path()).expect("what opened once opens again").current();
        for Hit { id, .. } in hits.into_iter().filter(|hit| hit.id != 77) {
            assert_eq!(after.get(id), before.get(id), "item {id}");
            assert_eq!(after.values(id), before.values(id), "item {id}");
        }
        assert_eq!(after.get(77).as_deref(), Some(&[0.25, 4.0][..]));
        assert_eq!(after.len(), before.len() + usize::from(!before.contains(77)));
    });
}

/// A catalog of one small generation.
#[cfg(not(fuzzing))]
fn catalog() -> TempDir {
    use itemdex::live::{Catalog, PublishOptions};
    use itemdex::{Column, IndexBuilder};

    let folder = tempfile::tempdir().unwrap();
    let build = |path: &Path| {
        let price = Column::new("price", ColumnKind::Number, [1, 2, 3, 4])?;
        let region = Column::new("region", ColumnKind::Tag, ["JP", "US", "JP", "BR"])?;
        let builder = IndexBuilder::new("v1").threads(1).column(price).column(region);
        builder.build_from((0..4).map(|id| (id, [id as f32, 1.0])), path)
    };
    Catalog::open(folder.path()).unwrap().publish_made(build, &PublishOptions::new()).unwrap();
    folder
}
