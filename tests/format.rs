//! The worked example of docs/format.md is a real file, byte for byte.

use itemdex::IndexBuilder;

#[test]
fn the_worked_example_is_what_the_library_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.itemdex");
    let items = [(1001, [1.0f32, 2.0, 0.5]), (7, [-1.0, 0.0, 3.0])];
    IndexBuilder::new("v1").m(2).ef_construction(10).threads(1).build_from(items, &path).unwrap();
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
