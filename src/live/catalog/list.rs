//! What a list of a catalog says: its generations, which of them is current, which model versions are
//! retired.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::staged::StagedName;
use crate::{Error, Result};

/// The formats of the list that this library writes and reads: the second has generations of several files.
const FORMAT: u32 = 1;
const WITH_SHARDS: u32 = 2;

/// How the name of a file begins and ends; a number stands between.
pub(super) type Affixes = (&'static str, &'static str);

/// The names of index files in a catalog.
pub(super) const GENERATION: Affixes = ("generation-", ".itemdex");

/// The name of a sharded generation, which no file has.
const SHARDED: Affixes = ("generation-", ".shards");

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
    /// The name of its file in the catalog's folder. Of a generation of several shards it is a name that no
    /// file has: [`Generation::shards`] has those of its files.
    pub file: String,
    /// The model version its embeddings came from.
    pub model_version: String,
    /// Items.
    pub rows: u64,
    /// Values an embedding.
    pub dim: u64,
    /// The length of its file, or of all of them.
    pub bytes: u64,
    /// Tells its file from any other; of several shards the fingerprints of all go into it.
    pub fingerprint: u64,
    /// The position of the log of fresh items at which its dump was taken, where the publisher gave one.
    pub log_position: Option<u64>,
    /// Whether a rollback took it out of service.
    pub withdrawn: bool,
    /// The files of its shards, by their numbers; empty where one file has all items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardFile>,
}

/// A shard of a generation as its catalog lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShardFile {
    /// The name of its file in the catalog's folder.
    pub file: String,
    /// Items.
    pub rows: u64,
    /// The file's length.
    pub bytes: u64,
    /// Tells the file from any other.
    pub fingerprint: u64,
}

impl Generation {
    /// How many files have its items: at least 1.
    pub fn shard_count(&self) -> u32 {
        self.shards.len().max(1) as u32
    }

    /// The key that it was staged under. One that was not staged has a name that no key is likely to be.
    pub(super) fn key(&self) -> Option<&str> {
        let middle = self.file.strip_prefix(GENERATION.0)?;
        let middle = middle.strip_suffix(GENERATION.1).or_else(|| middle.strip_suffix(SHARDED.1))?;
        Some(middle.split_once('-')?.1)
    }

    /// The names of its files, and what tells each from any other.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        let whole = self.shards.is_empty().then_some((&*self.file, self.fingerprint));
        whole.into_iter().chain(self.shards.iter().map(|shard| (&*shard.file, shard.fingerprint)))
    }

    /// The name and the fingerprint of a sharded generation.
    pub(super) fn name_shards(&mut self, key: &str) {
        let fingerprints: Vec<u8> =
            self.shards.iter().flat_map(|shard| shard.fingerprint.to_le_bytes()).collect();
        self.file = format!("{}{:010}-{key}{}", SHARDED.0, self.number, SHARDED.1);
        self.fingerprint = xxh3_64(&fingerprints);
    }

    /// The position up to which its dump has the changes of the log; 0 where the publisher gave none.
    pub(in crate::live) fn position(&self) -> u64 {
        self.log_position.unwrap_or(0)
    }
}

/// A position of the log that a generation to come will be published with: logs keep the changes behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reservation {
    /// The position.
    pub log_position: u64,
    /// Until when it holds, in seconds since 1970, unless a generation is published with it before.
    pub until: u64,
}

/// Which generations stay when others are published, or when a catalog is pruned.
///
/// ```
/// use itemdex::live::Retention;
///
/// let usual = Retention::new();
/// let three_way_test = Retention::new().versions(3).keep(1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    keep: usize,
    versions: usize,
}

impl Retention {
    /// The two newest generations of each of the two newest model versions.
    pub fn new() -> Retention {
        Retention { keep: 2, versions: 2 }
    }

    /// How many generations of each model version stay, at least 1.
    pub fn keep(mut self, generations: usize) -> Retention {
        self.keep = generations.max(1);
        self
    }

    /// How many model versions stay, at least 1: the newest, by their newest generation. The others are
    /// retired.
    pub fn versions(mut self, versions: usize) -> Retention {
        self.versions = versions.max(1);
        self
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::new()
    }
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
    /// None in lists of earlier releases.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
}

impl List {
    /// The list of a catalog to which nothing was published yet.
    pub fn empty() -> List {
        let (generations, retired, reservations) = (Vec::new(), Vec::new(), Vec::new());
        List { format: FORMAT, number: 0, generations, retired, reservations }
    }

    /// The newest generation that is not withdrawn.
    pub fn current(&self) -> Option<&Generation> {
        self.serving().next()
    }

    /// The generations that are not withdrawn, newest first.
    pub fn serving(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter().rev().filter(|generation| !generation.withdrawn)
    }

    /// The names of all files that it has.
    pub fn files(&self) -> HashSet<&str> {
        self.generations.iter().flat_map(Generation::files).map(|(name, _)| name).collect()
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

    /// The position that every generation to be served has: of those listed, those withdrawn included, and of
    /// those that a position is reserved for at this time.
    pub fn floor(&self, seconds: u64) -> u64 {
        let listed = self.generations.iter().map(Generation::position);
        let reserved = self.reservations.iter().filter(|reserved| reserved.until > seconds);
        listed.chain(reserved.map(|reserved| reserved.log_position)).min().unwrap_or(0)
    }

    /// Ends reservations that are over at this time, and one of a position that a generation was published
    /// with.
    pub fn release(&mut self, position: Option<u64>, seconds: u64) {
        self.reservations.retain(|reserved| reserved.until > seconds);
        let of_position = |reserved: &Reservation| Some(reserved.log_position) == position;
        if let Some(at) = self.reservations.iter().position(of_position) {
            self.reservations.remove(at);
        }
    }

    /// Keeps what retention says. Returns the generations that go.
    pub fn cut(&mut self, retention: Retention) -> Vec<Generation> {
        let newest = self.newest_of_each();
        if newest.is_empty() {
            return Vec::new();
        }
        let versions = newest.iter().take(retention.versions).map(|newest| &newest.model_version);
        let kept: Vec<u64> = versions
            .flat_map(|version| {
                let of_version = self.serving().filter(move |one| one.model_version == *version);
                of_version.take(retention.keep).map(|generation| generation.number)
            })
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
        let sharded = self.generations.iter().any(|generation| !generation.shards.is_empty());
        let format = if sharded { WITH_SHARDS } else { FORMAT };
        let list = List { format, ..self.clone() };
        let text = serde_json::to_string(&list).expect("a list is plain data");
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
        if ![FORMAT, WITH_SHARDS].contains(&format) {
            return Err(Error::UnknownFormat {
                path: path.to_owned(),
                found: format,
                supported: WITH_SHARDS,
            });
        }
        let list: List = serde_json::from_str(list).map_err(not_a_list)?;
        let leads_out = |generation: &Generation| {
            let affixes = if generation.shards.is_empty() { GENERATION } else { SHARDED };
            number_in(&generation.file, affixes).is_none()
                || generation.file.contains('/')
                || generation.shards.iter().any(|shard| StagedName::parse(&shard.file).is_none())
        };
        match list.generations.iter().find(|generation| leads_out(generation)) {
            _ if list.number != number => Err(damaged(format!("it says that it is list {}", list.number))),
            Some(generation) => Err(damaged(format!("{:?} is no name of a generation", generation.file))),
            None => Ok(list),
        }
    }
}
