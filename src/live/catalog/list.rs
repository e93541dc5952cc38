//! What a list of a catalog says: its generations, which of them is current, which model versions are retired.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result};

/// The format of the list that this library writes and reads.
const FORMAT: u32 = 1;

/// How the name of a file begins and ends; a number stands between.
pub(super) type Affixes = (&'static str, &'static str);

/// The names of index files in a catalog.
pub(super) const GENERATION: Affixes = ("generation-", ".itemdex");

/// The number in a name such as `catalog-0000000012.json` or `generation-0000000012-Xy3Zq1.itemdex`.
pub(super) fn number_in(name: &str, (prefix, suffix): Affixes) -> Option<u64> {
    let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    middle.split('-').next()?.parse().ok()
}

/// A generation as its catalog lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Generation {
    /// Counts up with the changes of the catalog: the later one published has the higher number.
    pub number: u64,
    /// The name of its file in the catalog's folder.
    pub file: String,
    /// The model version its embeddings came from.
    pub model_version: String,
    /// Items.
    pub rows: u64,
    /// Values an embedding.
    pub dim: u64,
    /// The file's length.
    pub bytes: u64,
    /// Tells its file from any other.
    pub fingerprint: u64,
    /// The position of the log of fresh items at which its dump was taken, where the publisher gave one.
    pub log_position: Option<u64>,
    /// Whether a rollback took it out of service.
    pub withdrawn: bool,
}

/// A list, as it stands in its file before its checksum.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::live) struct List {
    format: u32,
    pub number: u64,
    /// Ascending by number.
    pub generations: Vec<Generation>,
    /// Model versions that were in the catalog and are not any more.
    pub retired: Vec<String>,
}

impl List {
    /// The list of a catalog to which nothing was published yet.
    pub fn empty() -> List {
        List { format: FORMAT, number: 0, generations: Vec::new(), retired: Vec::new() }
    }

    /// The newest generation that is not withdrawn.
    pub fn current(&self) -> Option<&Generation> {
        self.serving().next()
    }

    /// The generations that are not withdrawn, newest first.
    pub fn serving(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter().rev().filter(|generation| !generation.withdrawn)
    }

    /// The newest generation of each model version, the current one first.
    fn newest_of_each(&self) -> Vec<&Generation> {
        let mut newest: Vec<&Generation> = Vec::new();
        for generation in self.serving() {
            if newest.iter().all(|other| other.model_version != generation.model_version) {
                newest.push(generation);
            }
        }
        newest
    }

    /// Keeps the newest generations of the current model version and, where asked to, the newest of the version
    /// before. Returns those that go.
    pub fn cut(&mut self, keep: usize, previous_version: bool) -> Vec<Generation> {
        let newest = self.newest_of_each();
        let Some(current) = newest.first().map(|current| current.model_version.clone()) else {
            return Vec::new();
        };
        let of_current = self.serving().filter(|generation| generation.model_version == current);
        let previous = newest.get(1).filter(|_| previous_version);
        let kept: Vec<u64> = of_current
            .take(keep.max(1))
            .chain(previous.copied())
            .map(|generation| generation.number)
            .collect();
        let stays = |generation: &Generation| kept.contains(&generation.number);
        let (stay, go): (Vec<_>, Vec<_>) = self.generations.drain(..).partition(stays);
        self.generations = stay;
        self.retired.extend(go.iter().map(|generation| generation.model_version.clone()));
        self.retired.sort_unstable();
        self.retired.dedup();
        let held = &self.generations;
        self.retired.retain(|version| held.iter().all(|generation| generation.model_version != *version));
        go
    }

    /// The text of its file: a line of JSON, and a line with the checksum of that.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string(self).expect("a list is plain data");
        format!("{text}\n{:016x}\n", xxh3_64(text.as_bytes()))
    }

    /// Reads the text of the list with this number; `path` is for errors.
    pub fn parse(text: &str, number: u64, path: &Path) -> Result<List> {
        let damaged = |problem: String| Error::Damaged { path: path.to_owned(), offset: 0, problem };
        let mut lines = text.lines();
        let (list, sum) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if format!("{:016x}", xxh3_64(list.as_bytes())) != sum {
            return Err(damaged("it does not match its checksum".to_owned()));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let not_a_list =
            |error: serde_json::Error| damaged(format!("it is not a list of generations: {error}"));
        let Format { format } = serde_json::from_str(list).map_err(not_a_list)?;
        if format != FORMAT {
            return Err(Error::UnknownFormat { path: path.to_owned(), found: format, supported: FORMAT });
        }
        let list: List = serde_json::from_str(list).map_err(not_a_list)?;
        let leads_out = |generation: &Generation| {
            number_in(&generation.file, GENERATION).is_none() || generation.file.contains('/')
        };
        match list.generations.iter().find(|generation| leads_out(generation)) {
            _ if list.number != number => Err(damaged(format!("it says that it is list {}", list.number))),
            Some(generation) => Err(damaged(format!("{:?} is no name of a generation", generation.file))),
            None => Ok(list),
        }
    }
}
