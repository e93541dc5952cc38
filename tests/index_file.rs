//! Index files, whole and damaged: one that opens gives answers or an error, whatever its bytes.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use itemdex::{Error, Index, IndexBuilder, OpenOptions, Quantization, SearchOptions};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 4096;
const DIM: usize = 5;

fn sample() -> (Built, Vec<u8>) {
    let mut items = items(400, DIM, 1);
    // Copies and a zero row, so that every kind of link is in the file.
    for row in 390..400 {
        items[row].1 = items[3].1.clone();
    }
    items[7].1 = vec![0.0; DIM];
    let built =
        build_with(&IndexBuilder::new("v1").m(4).ef_construction(40).quantize(Quantization::I8), &items);
    let bytes = fs::read(&built.path).unwrap();
    (built, bytes)
}

/// Asks everything of an index that may be damaged; answers may be wrong, but come.
fn exercise(index: &Index) {
    let users = [[0.5, -1.0, 2.0, 0.1, 0.7], [0.0; DIM]];
    for user in &users {
        let _ = index.search_with(user, &SearchOptions::new(5).ef(10));
        let _ = index.search(user, 50);
        let ids: Vec<u64> = index.ids().iter().copied().take(100).chain([0, 1, u64::MAX]).collect();
        let _ = index.rank(user, &ids, 10);
        let _ = index.score(user, &ids, &mut vec![0.0; ids.len()]);
    }
    let _ = index.get(index.ids()[0]);
    let _ = index.info();
    let _ = index.iter().count();
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
    let (built, bytes) = sample();
    built.index.verify(|_| ()).unwrap();
    assert_eq!(built.index.info().bytes, bytes.len() as u64);
    exercise(&built.index);
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
    let (built, mut bytes) = sample();
    let path = built.folder.path().join("flipped.itemdex");
    let mut random = Random(2);
    for _ in 0..1_000 {
        let (at, bit) = (random.below(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        assert!(damage(&path, &bytes).is_some(), "bit {bit} of byte {at}");
        bytes[at] ^= 1 << bit;
    }
    assert!(damage(&path, &bytes).is_none());
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
        "FILE: format version 9, but this library reads version 1; upgrade itemdex or rebuild the index"
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
        header in prop::collection::vec((0usize..128, crafted()), 0..3),
        body in prop::collection::vec((any::<prop::sample::Index>(), crafted()), 0..60),
    ) {
        thread_local!(static SAMPLE: (Built, Vec<u8>) = sample());
        SAMPLE.with(|(built, bytes)| {
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
