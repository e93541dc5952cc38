//! The house of docs/design.md: its rooms are those of `src`, and imports go down only.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms from the top down, as the document's table has them: `index` for `src/index/` or `src/index.rs`. The program
/// is a package of its own, which the compiler keeps to what the library exports.
fn rooms() -> Vec<String> {
    let design = fs::read_to_string(source().join("../docs/design.md")).unwrap();
    let (_, table) = design.split_once("## Rooms").expect("a section on rooms");
    let table = table.split("\n## ").next().unwrap_or_default();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let mut rooms = Vec::new();
    for path in first_cells.flat_map(|(cell, _)| cell.split(", ")).map(|path| path.trim_matches('`')) {
        let room = path.strip_prefix("src/").unwrap_or_else(|| panic!("{path} is not in src"));
        assert!(source().join(room).exists(), "{path} is not there");
        if room != "cli/" {
            rooms.push(room.trim_end_matches(['/']).trim_end_matches(".rs").to_owned());
        }
    }
    rooms
}

/// The modules of a room, each with its name in the room and its text without comments and unit tests. A folder in a room
/// is one module.
fn files_of(room: &str) -> Vec<(String, String)> {
    let folder = source().join(room);
    let paths = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![folder.with_extension("rs")],
    };
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), code(path))).collect()
}

fn code(path: &Path) -> String {
    if let Ok(entries) = fs::read_dir(path) {
        return entries.map(|entry| code(&entry.unwrap().path())).collect::<Vec<_>>().join("\n");
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The paths that `code` names behind each `prefix`, as `a::b` for `crate::a::b` and for `crate::{a::{b, c}, d}` all three.
fn paths(code: &str, prefix: &str) -> Vec<String> {
    code.split(prefix).skip(1).flat_map(|rest| leaves(&rest[..end_of_path(rest)])).collect()
}

/// Where a path, with its braces if it has any, ends.
fn end_of_path(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth > 0 || letter.is_alphanumeric() || "_:".contains(letter) => {}
            _ => return at,
        }
        if letter == '}' && depth <= 0 {
            return if depth == 0 { at + 1 } else { at };
        }
    }
    text.len()
}

/// The paths of a tree of imports.
fn leaves(tree: &str) -> Vec<String> {
    let Some((before, inner)) = tree.split_once('{') else {
        return vec![tree.split_whitespace().next().unwrap_or_default().to_owned()];
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut found) = (0, Vec::new());
    let parts = inner.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        found.extend(leaves(part).iter().map(|leaf| format!("{before}{leaf}")));
    }
    found
}

/// Which module a file re-exports each name from.
fn re_exports(code: &str) -> HashMap<String, String> {
    let imports = code.split("use ").skip(1).flat_map(|rest| leaves(&rest[..rest.find(';').unwrap_or(0)]));
    let from = |path: String| {
        let (room, rest) = path.split_once("::")?;
        Some((rest.rsplit("::").next()?.to_owned(), room.to_owned()))
    };
    imports.filter_map(from).collect()
}

#[test]
fn imports_go_down_only() {
    let rooms = rooms();
    let exported = re_exports(&code(&source().join("lib.rs")));
    let place = |room: &str| rooms.iter().position(|other| other == room);
    let mut wrong = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        for (file, code) in files_of(room) {
            for path in paths(&code, "crate::") {
                let first = path.split("::").next().unwrap_or_default();
                let imported = exported.get(first).map_or(first, String::as_str);
                match place(imported) {
                    Some(place) if place >= number => {}
                    Some(_) => wrong.push(format!("{room} ({file}) imports crate::{path}, from above")),
                    None => wrong.push(format!("{room} ({file}) imports crate::{path}, from no room")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_document() {
    let named: BTreeSet<String> = rooms().into_iter().chain(["lib", "cli"].map(str::to_owned)).collect();
    let entries = fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeSet<String> =
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(there, named);
}

#[test]
fn the_files_of_a_room_do_not_import_in_circles() {
    for room in rooms().iter().filter(|room| source().join(room).is_dir()) {
        let files: HashMap<String, String> = files_of(room).into_iter().collect();
        let exported = re_exports(&files["mod"]);
        let mut left: HashMap<&str, BTreeSet<String>> = HashMap::new();
        for (file, code) in files.iter().filter(|(file, _)| *file != "mod") {
            let of = |path: String| {
                let first = path.split("::").next().unwrap_or_default();
                exported.get(first).cloned().unwrap_or(first.to_owned())
            };
            let siblings = paths(code, "super::").into_iter().map(of);
            left.insert(file, siblings.filter(|name| name != file && files.contains_key(name)).collect());
        }
        // Files that import none of those left are taken away, until none or a circle is left.
        while let Some(&free) = left.iter().find(|(_, of)| of.is_empty()).map(|(file, _)| file) {
            left.remove(free);
            left.values_mut().for_each(|of| of.retain(|name| name != free));
        }
        assert!(left.is_empty(), "files of src/{room} import each other in a circle: {left:?}");
    }
}
