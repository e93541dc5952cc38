//! The header in the repository is the one that cbindgen writes from the source.

use std::fs;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// In the order in which a reader of the header meets them.
const SOURCES: [&str; 11] = [
    "version", "status", "border", "index", "shown", "options", "query", "rows", "columns", "live", "offline",
];

fn generated() -> String {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).unwrap();
    let with = |builder: cbindgen::Builder, source| builder.with_src(here(&format!("src/{source}.rs")));
    let builder = SOURCES.into_iter().fold(cbindgen::Builder::new().with_config(config), with);
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_the_generated_one() {
    let header = fs::read_to_string(here("include/itemdex.h")).unwrap();
    let write = "cargo test -p itemdex-c --test header write -- --ignored";
    assert!(header == generated(), "include/itemdex.h is not what the source says; run `{write}`");
}

#[test]
#[ignore = "writes the header"]
fn write() {
    fs::write(here("include/itemdex.h"), generated()).unwrap();
}
