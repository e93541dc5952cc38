//! Index files, whole and damaged: one that opens gives answers or an error, whatever its bytes.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use itemdex::{
    Error, Index, IndexBuilder, Matrix, OpenOptions, Plan, Quantization, RowFormat, SearchOptions,
};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 4096;
const DIM: usize = 5;
const FORMATS: [RowFormat; 2] = [RowFormat::F32, RowFormat::F16];

fn sample() -> (Built, Vec<u8>) {
    sample_in(RowFormat::F32)
}

fn sample_in(format: RowFormat) -> (Built, Vec<u8>) {
    let mut items = items(400, DIM, 1);
    // Copies and a zero row, so that every kind of link is in the file.
    for row in 390..400 {
        items[row].1 = items[3].1.clone();
    }
    items[7].1 = vec![0.0; DIM];
    let builder = IndexBuilder::new("v1").m(4).ef_construction(40).quantize(Quantization::I8);
    let built = build_with(&builder.rows(format).plans([Plan::Graph, Plan::Partitions]), &items);
    let bytes = fs::read(&built.path).unwrap();
    (built, bytes)
}

/// Asks everything of an index that may be damaged; answers may be wrong, but come.
fn exercise(index: &Index) {
    let users = [[0.5, -1.0, 2.0, 0.1, 0.7], [0.0; DIM]];
    for user in &users {
        let _ = index.search_with(user, &SearchOptions::new(5).ef(10));
        let _ = index.search(user, 50);
        for k in [5, 50, usize::MAX] {
            for recall in [0.5, 0.95, 1.0] {
                for plan in [Plan::Graph, Plan::Partitions, Plan::Scan] {
                    let options = SearchOptions::new(k).recall(recall).plan(plan);
                    ask(index, user, &options);
                    ask(index, user, &options.approximate_scores());
                }
            }
        }
        let ids: Vec<u64> = index.ids().iter().copied().take(100).chain([0, 1, u64::MAX]).collect();
        let _ = index.rank(user, &ids, 10);
        let _ = index.score(user, &ids, &mut vec![0.0; ids.len()]);
    }
    let _ = index.get(index.ids()[0]);
    let _ = index.info();
    let _ = index.iter().count();
}

/// An answer of an index that may be damaged has no item twice, and no more than there are.
fn ask(index: &Index, user: &[f32], options: &SearchOptions) {
    let Ok(found) = index.search_with(user, options) else { return };
    let mut ids: Vec<u64> = found.hits.iter().map(|hit| hit.id).collect();
    assert!(ids.len() <= index.len());
    ids.sort_unstable();
    let mut known = index.ids().to_vec();
    known.sort_unstable();
    // Damaged ids may be the same; each row still stands for one hit at most.
    let twice = |ids: &[u64]| ids.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(twice(&ids) <= twice(&known));
    let users = Matrix::new(DIM, [user; 3].concat()).unwrap();
    assert_eq!(index.search_many(&users, options, 2).unwrap().len(), 3);
}

fn damage(path: &Path, bytes: &[u8]) -> Option<Error> {
    fs::write(path, bytes).unwrap();
    let index = match Index::open(path) {
        Ok(index) => index,
        Err(error) => return Some(error),
    };
    exercise(&index);
    index.verify(|_| ()).err()
}

/// Brings the header's checksum up to date, as only a crafted file would.
fn reseal(bytes: &mut [u8]) {
    let checksum = xxh3_64(&bytes[..PAGE - 8]);
    bytes[PAGE - 8..PAGE].copy_from_slice(&checksum.to_le_bytes());
}

fn section_ends(built: &Built) -> Vec<usize> {
    let mut end = PAGE;
    let lengths = built.index.info().sections.into_iter().map(|(_, bytes)| bytes as usize);
    lengths
        .flat_map(|length| {
            let last = end + length;
            end = last.next_multiple_of(PAGE);
            [last, end]
        })
        .collect()
}

#[test]
fn a_whole_file_verifies() {
    for format in FORMATS {
        let (built, bytes) = sample_in(format);
        built.index.verify(|_| ()).unwrap();
        assert_eq!(built.index.info().bytes, bytes.len() as u64);
        exercise(&built.index);
    }
}

#[test]
fn truncated_files_do_not_open() {
    let (built, bytes) = sample();
    let path = built.folder.path().join("cut.itemdex");
    let mut random = Random(1);
    let ends = section_ends(&built);
    assert_eq!(ends.last(), Some(&bytes.len()));
    let places = (0..100).map(|_| random.below(bytes.len()));
    for length in ends.into_iter().chain([0, 1, 8, PAGE - 1, PAGE]).chain(places) {
        if length < bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(Index::open(&path).is_err(), "{length} bytes");
        }
    }
    fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    let error = Index::open(&path).err().unwrap().to_string();
    let length = bytes.len();
    let expected = format!(
        "damaged at byte {length}: the file has {} bytes, its header says {length}; restore or rebuild it",
        length + 1
    );
    assert!(error.ends_with(&expected), "{error}");
}

#[test]
fn every_flipped_bit_is_found() {
    for format in FORMATS {
        let (built, mut bytes) = sample_in(format);
        let path = built.folder.path().join("flipped.itemdex");
        let mut random = Random(2);
        for _ in 0..700 {
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            bytes[at] ^= 1 << bit;
            assert!(damage(&path, &bytes).is_some(), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
        assert!(damage(&path, &bytes).is_none());
    }
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let (built, mut bytes) = sample();
    let path = built.folder.path().join("other");
    let message = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let message = Index::open(&path).err().unwrap().to_string();
        message.replace(&format!("{}", path.display()), "FILE")
    };
    assert_eq!(message(b""), "FILE: not an itemdex index: the file is empty");
    let other = "FILE: not an itemdex index: it does not begin with the bytes \"itemdex\\0\"";
    assert_eq!(message(b"\x93NUMPY and so on"), other);
    assert_eq!(message(&[7; 10_000]), other);
    bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
    reseal(&mut bytes);
    assert_eq!(
        message(&bytes),
        "FILE: format version 9, but this library reads version 3; upgrade itemdex or rebuild the index"
    );
    assert!(matches!(Index::open(built.folder.path()), Err(Error::NotAnIndex { .. })));
    assert!(matches!(Index::open("/dev/zero"), Err(Error::NotAnIndex { .. })));
    assert!(matches!(Index::open(built.folder.path().join("missing")), Err(Error::Io { .. })));
}

#[test]
fn an_index_serves_from_a_file_that_was_replaced() {
    let (built, _) = sample();
    let user = [1.0; DIM];
    let before = built.index.search(&user, 5).unwrap();
    IndexBuilder::new("v2").build_from([(1, vec![1.0; DIM])], &built.path).unwrap();
    assert_eq!(built.index.search(&user, 5).unwrap(), before);
    let new = Index::open(&built.path).unwrap();
    assert_eq!((new.model_version(), new.len()), ("v2", 1));
}

#[test]
fn an_index_in_memory_answers_as_a_mapped_one() {
    let (built, bytes) = sample();
    let user = [1.0; DIM];
    let expected = built.index.search(&user, 5).unwrap();
    let mapped = built.index.residency();
    assert_eq!((mapped.copied, mapped.huge, mapped.locked), (0, 0, false));
    for options in [OpenOptions::new().resident(true), OpenOptions::new().prefault(true)] {
        assert_eq!(options.open(&built.path).unwrap().search(&user, 5).unwrap(), expected);
    }
    match OpenOptions::new().lock(true).open(&built.path) {
        Ok(index) => assert!(index.residency().locked && index.search(&user, 5).unwrap() == expected),
        Err(error) => assert!(error.to_string().starts_with("cannot lock in memory"), "{error}"),
    }
    let resident = OpenOptions::new().resident(true).open(&built.path).unwrap();
    assert_eq!(resident.residency().copied, bytes.len() as u64);
    // A copy does not mind what happens to the file.
    fs::write(&built.path, b"").unwrap();
    assert_eq!(resident.search(&user, 5).unwrap(), expected);
    resident.verify(|_| ()).unwrap();
}

/// A value for a place in the header or behind it: small, huge or near what stands there.
fn crafted() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..600, any::<u32>(), Just(u32::MAX), Just(u32::MAX - 1), Just(399), Just(400), Just(401)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn crafted_headers_and_sections_do_no_harm(
        number in 0..FORMATS.len(),
        header in prop::collection::vec((0usize..440, crafted()), 0..3),
        body in prop::collection::vec((any::<prop::sample::Index>(), crafted()), 0..60),
    ) {
        thread_local!(static SAMPLES: [(Built, Vec<u8>); 2] = FORMATS.map(sample_in));
        SAMPLES.with(|samples| {
            let (built, bytes) = &samples[number];
            let mut bytes = bytes.clone();
            for (word, value) in header {
                bytes[8 + 4 * word..][..4].copy_from_slice(&value.to_le_bytes());
            }
            for (at, value) in body {
                let word = at.index((bytes.len() - PAGE) / 4);
                bytes[PAGE + 4 * word..][..4].copy_from_slice(&value.to_le_bytes());
            }
            reseal(&mut bytes);
            damage(&built.folder.path().join("crafted.itemdex"), &bytes);
        });
    }
}

/// Where a section begins: docs/format.md.
fn section_start(bytes: &[u8], section: usize) -> usize {
    let span = if section < 7 { 384 + 24 * section } else { 1648 + 24 * (section - 7) };
    u64::from_le_bytes(bytes[span..span + 8].try_into().unwrap()) as usize
}

const CLUSTERS: usize = 7;
const GROUP: usize = 448;
const CALIBRATION: usize = 892;
const LIMITS: usize = 1812;

/// A number for the place of a float: of any size, or none.
fn crafted_float() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), -30.0f32..30.0, Just(f32::NAN), Just(f32::INFINITY), Just(0.0), Just(1e6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn crafted_clusters_do_no_harm(
        numbers in prop::collection::vec((0usize..3, 0usize..48, crafted()), 0..60),
        floats in prop::collection::vec((3usize..7, 0usize..48, crafted_float()), 0..30),
        efforts in prop::collection::vec((0usize..63, -1e6f32..1e6, 1.0f32..1e6, 0.0f32..1.0), 0..10),
        limits in prop::collection::vec((0usize..63, 0.0f32..1.0), 0..10),
    ) {
        thread_local!(static SAMPLE: (Built, Vec<u8>) = sample());
        SAMPLE.with(|(built, bytes)| {
            let mut bytes = bytes.clone();
            let clusters = section_start(&bytes, CLUSTERS);
            let floats = floats.into_iter().map(|(array, cluster, value)| (array, cluster, value.to_bits()));
            for (array, cluster, value) in numbers.into_iter().chain(floats) {
                let at = clusters + cluster / 16 * GROUP + 64 * array + cluster % 16 * 4;
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            for (entry, z, factor, coded) in efforts {
                bytes[CALIBRATION + 12 * entry..][..12].copy_from_slice(bytemuck::cast_slice(&[z, factor, coded]));
            }
            for (entry, limit) in limits {
                bytes[LIMITS + 4 * entry..][..4].copy_from_slice(&limit.to_le_bytes());
            }
            reseal(&mut bytes);
            damage(&built.folder.path().join("clusters.itemdex"), &bytes);
        });
    }
}

#[test]
fn a_row_format_that_cannot_be_is_refused() {
    let (built, mut bytes) = sample_in(RowFormat::F16);
    let path = built.folder.path().join("format.itemdex");
    for (format, problem) in [(2u32, "row format 2 is not within 0 to 1"), (0, "section rows is 12800 bytes")]
    {
        bytes[1804..1808].copy_from_slice(&format.to_le_bytes());
        reseal(&mut bytes);
        let error = damage(&path, &bytes).unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn clusters_that_hold_each_other_s_rows_or_none_do_no_harm() {
    let (built, bytes) = sample();
    let path = built.folder.path().join("clusters.itemdex");
    let clusters = section_start(&bytes, CLUSTERS);
    // Every cluster of the file: start, rows, first block.
    for (start, count, block) in [
        (0, 400, 0),
        (0, u32::MAX, 0),
        (0, 0, 0),
        (399, 1, 0),
        (400, 1, 0),
        (u32::MAX, u32::MAX, u32::MAX),
        (0, 400, u32::MAX),
        (0, 1, 30),
        (100, 300, 0),
    ] {
        let mut crafted = bytes.clone();
        for cluster in 0..16 * u32::from_le_bytes(bytes[884..888].try_into().unwrap()) as usize {
            for (array, value) in [start, count, block].into_iter().enumerate() {
                let at = clusters + cluster / 16 * GROUP + 64 * array + cluster % 16 * 4;
                crafted[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        let error = damage(&path, &crafted).unwrap().to_string();
        assert!(error.contains("section clusters does not match its checksum"), "{error}");
    }
}

#[test]
fn a_header_with_partitions_that_cannot_be_is_refused() {
    let (built, bytes) = sample();
    let path = built.folder.path().join("header.itemdex");
    let message = |at: usize, value: u32| {
        let mut crafted = bytes.clone();
        crafted[at..at + 4].copy_from_slice(&value.to_le_bytes());
        reseal(&mut crafted);
        let message = damage(&path, &crafted).unwrap().to_string();
        message.rsplit_once("damaged at byte 0: ").unwrap().1.to_owned()
    };
    let [graph, groups, blocks] = [880, 884, 888];
    assert!(message(graph, 2).starts_with("the mark of a file without a graph 2 is not within 0 to 1"));
    // Without a graph there are no links.
    assert!(message(graph, 1).starts_with("section base_layer is"));
    assert!(message(groups, 401).starts_with("number of cluster groups 401 is not within 0 to 400"));
    assert!(message(groups, 0).starts_with("number of code blocks"));
    let made = u32::from_le_bytes(bytes[groups..groups + 4].try_into().unwrap());
    let section = format!("section clusters is {} bytes", GROUP * made as usize);
    assert!(message(groups, made + 1).starts_with(&section));
    assert!(message(blocks, 24).starts_with("number of code blocks 24 is not within 25 to 400"));
    assert!(message(blocks, u32::MAX).starts_with("number of code blocks"));
    assert!(message(blocks, 399).starts_with("section codes is"));
    // Of an entry z, factor and coded, in this order.
    for (place, value) in [
        (0, f32::NAN),
        (0, f32::NEG_INFINITY),
        (1, f32::NAN),
        (1, 0.5),
        (1, 1e9),
        (2, f32::NAN),
        (2, -0.1),
        (2, 1.5),
    ] {
        let said = message(CALIBRATION + 4 * place, value.to_bits());
        assert!(said.starts_with("the calibration of the partitions is not one"), "{said}");
    }
    for value in [f32::NAN, -0.1, 1.5] {
        let said = message(LIMITS, value.to_bits());
        assert!(said.starts_with("the limits of the partitions are not within 0 to 1"), "{said}");
    }
}
