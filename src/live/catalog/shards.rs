//! Generations of several files: each shard is staged by whoever built it, and one list publishes them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tracing::info;

use super::Catalog;
use super::list::{Generation, List, ShardFile};
use super::publish::{PublishOptions, protect};
use super::staged::{StagedName, check_key};
use super::staging::Staging;
use crate::assignment::{Shard, shard_of};
use crate::columns::ColumnInfo;
use crate::live::faults;
use crate::{Error, Index, Result};

/// How many missing shards an error names.
const NAMED: usize = 8;

/// A shard that waits in the catalog's folder for its publication.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StagedShard {
    /// Which it is, of how many.
    pub shard: Shard,
    /// Its file.
    pub path: PathBuf,
    /// The model version its embeddings came from.
    pub model_version: String,
    /// Items.
    pub rows: u64,
    /// Values an embedding.
    pub dim: u64,
    /// The file's length.
    pub bytes: u64,
    /// Tells the file from any other.
    pub fingerprint: u64,
}

impl Catalog {
    /// Copies an index file into the catalog as one shard of a generation to come, and verifies the copy. Nobody
    /// sees it before [`Catalog::publish_shards`]. Any number of shards can be staged at once, from any number
    /// of hosts that share the folder.
    ///
    /// The key names the dump that all shards come from, such as a job's id: what is staged under one key is
    /// published together. A shard may be staged again; the later file counts then. What is not published
    /// within seven days is swept.
    ///
    /// # Errors
    /// [`Error::BadShards`] for an item that belongs to another shard ([`shard_of`]), and for a key that was
    /// published already; [`Error::BadOption`] for a key with other characters than letters, digits, `-`, `_`
    /// and `.`; what [`Index::open`] and [`Index::verify`] find; [`Error::Io`].
    pub fn stage_shard(&self, key: &str, shard: Shard, index: impl AsRef<Path>) -> Result<StagedShard> {
        let index = index.as_ref();
        let copy = |file: &Path| {
            Index::open(index)?;
            fs::copy(index, file).map(drop).map_err(Error::io("copy into the catalog", index))
        };
        Ok(self.stage_shard_made(key, shard, copy)?.0)
    }

    /// Has `make` write an index file at the path it is given, in the catalog's folder, and stages that file as
    /// [`Catalog::stage_shard`] does.
    ///
    /// ```
    /// use itemdex::live::{Catalog, PublishOptions};
    /// use itemdex::{IndexBuilder, Shard};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// let catalog = Catalog::create(folder.path())?;
    /// for number in 0..2 {
    ///     let shard = Shard::new(number, 2)?;
    ///     let items = (0..100).filter(|&id| shard.holds(id)).map(|id| (id, [id as f32, 1.0]));
    ///     catalog.stage_shard_made("job-17", shard, |path| IndexBuilder::new("v1").build_from(items, path))?;
    /// }
    /// assert_eq!(catalog.current()?, None);
    /// let generation = catalog.publish_shards("job-17", 2, &PublishOptions::new())?;
    /// assert_eq!((generation.rows, generation.shard_count()), (100, 2));
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `make` returns, and as [`Catalog::stage_shard`].
    pub fn stage_shard_made<T>(
        &self,
        key: &str,
        shard: Shard,
        make: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<(StagedShard, T)> {
        check_key(key)?;
        self.check_unpublished(key, &self.read()?)?;
        let staging = Staging::create(self.folder())?;
        let file = staging.file();
        let made = make(&file)?;
        let index = Index::open(&file)?;
        index.verify(|_| ())?;
        check_ids(&index, shard, &file)?;
        protect(&file)?;
        let name = StagedName { shard, key }.with(&staging.unique_name());
        let path = self.folder().join(name);
        let _lock = self.wait_for_lock()?;
        // A task that was given up may come here after another has done its work.
        self.check_unpublished(key, &self.read()?)?;
        let moved = faults::before(&path).and_then(|()| fs::rename(&file, &path));
        moved.map_err(Error::io("move into place", &path))?;
        info!(%shard, key, rows = index.len(), "staged a shard");
        Ok((staged(&index, shard, path), made))
    }

    /// The shards that are staged under a key, by their numbers. Of one that was staged several times, the
    /// latest.
    ///
    /// # Errors
    /// [`Error::BadOption`] for what is no key; [`Error::Io`], and what [`Index::open`] finds.
    pub fn staged_shards(&self, key: &str) -> Result<Vec<StagedShard>> {
        let files = self.staged_files(key)?;
        files.into_iter().map(|(shard, path)| Ok(staged(&Index::open(&path)?, shard, path))).collect()
    }

    /// Makes the shards that are staged under a key the current generation: all of them at one instant, by one
    /// list. A key that is published already gives its generation, so that a call can be repeated.
    ///
    /// Reads the ids of all shards; their other contents were verified when they were staged. Drops older
    /// generations as [`PublishOptions::keep`] says. One shard becomes a generation like any other.
    ///
    /// # Errors
    /// [`Error::BadShards`] for shards that are missing, of two model versions, dims or sets of columns, or
    /// with items of another shard; [`Error::CatalogBusy`] where somebody publishes at the same instant;
    /// [`Error::BadOption`] for what is no key, no number of shards or no position; what [`Index::open`] finds;
    /// [`Error::Io`]. What was current stays current, and the shards stay staged.
    pub fn publish_shards(&self, key: &str, shards: u32, options: &PublishOptions) -> Result<Generation> {
        options.check()?;
        check_key(key)?;
        Shard::new(0, shards)?;
        let _lock = self.wait_for_lock()?;
        let list = self.read()?;
        if let Some(published) = published(key, &list) {
            return Ok(published.clone());
        }
        let paths = self.whole_set(key, shards)?;
        let mut indexes = Vec::new();
        for (number, path) in (0..).zip(&paths) {
            let index = Index::open(path)?;
            check_ids(&index, Shard::new(number, shards)?, path)?;
            check_alike(indexes.first(), &index, path)?;
            indexes.push(index);
        }
        match &*indexes {
            [index] => self.place_file(&paths[0], key, index, list, options),
            indexes => self.list_shards(&paths, key, indexes, list, options),
        }
    }

    /// Removes what is staged under a key and not published; how many files.
    ///
    /// # Errors
    /// [`Error::BadOption`] for what is no key; [`Error::Io`].
    pub fn discard_shards(&self, key: &str) -> Result<usize> {
        check_key(key)?;
        let _lock = self.wait_for_lock()?;
        let list = self.read()?;
        let listed = list.files();
        let of_key = |name: &String| {
            !listed.contains(&**name) && StagedName::parse(name).is_some_and(|staged| staged.key == key)
        };
        let names: Vec<String> = self.names()?.into_iter().filter(of_key).collect();
        for name in &names {
            let path = self.folder().join(name);
            faults::before(&path)
                .and_then(|()| fs::remove_file(&path))
                .map_err(Error::io("remove", &path))?;
        }
        Ok(names.len())
    }

    fn list_shards(
        &self,
        paths: &[PathBuf],
        key: &str,
        indexes: &[Index],
        mut list: List,
        options: &PublishOptions,
    ) -> Result<Generation> {
        list.number += 1;
        let shards = paths.iter().zip(indexes).map(|(path, index)| ShardFile {
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            rows: index.len() as u64,
            bytes: index.bytes(),
            fingerprint: index.fingerprint(),
        });
        let mut generation = options.generation(&list, &indexes[0]);
        generation.shards = shards.collect();
        generation.rows = generation.shards.iter().map(|shard| shard.rows).sum();
        generation.bytes = generation.shards.iter().map(|shard| shard.bytes).sum();
        generation.name_shards(key);
        self.commit_generation(generation, list, options)
    }

    fn check_unpublished(&self, key: &str, list: &List) -> Result<()> {
        let Some(generation) = published(key, list) else { return Ok(()) };
        let problem = format!(
            "what was staged under the key {key:?} is published already, as generation {}; give each dump a key of \
             its own",
            generation.number
        );
        Err(Error::BadShards { path: self.folder().to_owned(), problem })
    }

    /// The latest file of each shard of a key, by number.
    fn staged_files(&self, key: &str) -> Result<Vec<(Shard, PathBuf)>> {
        check_key(key)?;
        let mut latest = BTreeMap::new();
        for name in self.names()? {
            let Some(StagedName { shard, .. }) = StagedName::parse(&name).filter(|staged| staged.key == key)
            else {
                continue;
            };
            let path = self.folder().join(&name);
            let written =
                path.metadata().and_then(|file| file.modified()).map_err(Error::io("read", &path))?;
            let entry = latest.entry((shard.of(), shard.number())).or_insert((written, path.clone()));
            if *entry < (written, path.clone()) {
                *entry = (written, path);
            }
        }
        latest.into_iter().map(|((of, number), (_, path))| Ok((Shard::new(number, of)?, path))).collect()
    }

    /// The files of all shards of a key.
    fn whole_set(&self, key: &str, shards: u32) -> Result<Vec<PathBuf>> {
        let staged = self.staged_files(key)?;
        let mut of_set: BTreeMap<u32, PathBuf> = BTreeMap::new();
        let mut others = Vec::new();
        for (shard, path) in staged {
            match shard.of() == shards {
                true => _ = of_set.insert(shard.number(), path),
                false => others.push(shard.to_string()),
            }
        }
        let missing: Vec<u32> = (0..shards).filter(|number| !of_set.contains_key(number)).collect();
        if missing.is_empty() {
            return Ok(of_set.into_values().collect());
        }
        let named: Vec<_> = missing.iter().take(NAMED).map(u32::to_string).collect();
        let more = if missing.len() > NAMED { ", ..." } else { "" };
        let other = match others.first() {
            Some(shard) => format!(" (another number of shards is staged too: {shard})"),
            None => String::new(),
        };
        let problem = format!(
            "of the {shards} shards of key {key:?}, {} are not staged: {}{more}{other}; stage them, then publish again",
            missing.len(),
            named.join(", "),
        );
        Err(Error::BadShards { path: self.folder().to_owned(), problem })
    }
}

/// The generation that a key was published as.
fn published<'a>(key: &str, list: &'a List) -> Option<&'a Generation> {
    list.generations.iter().find(|generation| generation.key() == Some(key))
}

fn staged(index: &Index, shard: Shard, path: PathBuf) -> StagedShard {
    StagedShard {
        shard,
        path,
        model_version: index.model_version().to_owned(),
        rows: index.len() as u64,
        dim: index.dim() as u64,
        bytes: index.bytes(),
        fingerprint: index.fingerprint(),
    }
}

/// Checks that every item belongs to the shard. Reads the ids.
pub(crate) fn check_ids(index: &Index, shard: Shard, path: &Path) -> Result<()> {
    let Some(id) = index.ids().iter().find(|&&id| !shard.holds(id)) else { return Ok(()) };
    let problem = format!(
        "item {id} belongs to shard {}, not {shard}; divide the items by shard_of",
        shard_of(*id, shard.of())
    );
    Err(Error::BadShards { path: path.to_owned(), problem })
}

/// Checks that a shard can be of one generation with the first.
pub(crate) fn check_alike(first: Option<&Index>, index: &Index, path: &Path) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    let differs = |what: &str, this: &str, first: &str| {
        let problem = format!(
            "its {what} is {this}, and that of shard 0 is {first}; build all shards from one dump of one model"
        );
        Err(Error::BadShards { path: path.to_owned(), problem })
    };
    if index.model_version() != first.model_version() {
        return differs("model version", index.model_version(), first.model_version());
    }
    if index.dim() != first.dim() {
        return differs("dim", &index.dim().to_string(), &first.dim().to_string());
    }
    check_columns(&first.columns().info(), &index.columns().info())
        .map_or(Ok(()), |(this, first)| differs("column", &this, &first))
}

/// The first column that two indexes differ in, as each has it. One whose rows are all null may be of any type.
fn check_columns(first: &[ColumnInfo], this: &[ColumnInfo]) -> Option<(String, String)> {
    let described =
        |column: &ColumnInfo| format!("{} ({} of {})", column.name, column.kind.name(), column.type_name);
    let named =
        |columns: &[ColumnInfo], name: &str| columns.iter().find(|column| column.name == name).cloned();
    let missing = || "missing".to_owned();
    for column in first {
        let Some(other) = named(this, &column.name) else { return Some((missing(), described(column))) };
        let typed = column.distinct > 0 && other.distinct > 0;
        if column.kind != other.kind || (typed && column.type_name != other.type_name) {
            return Some((described(&other), described(column)));
        }
    }
    let more = this.iter().find(|column| named(first, &column.name).is_none())?;
    Some((described(more), missing()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::IndexBuilder;
    use crate::live::faults::armed;

    fn stage(catalog: &Catalog, key: &str, number: u32, shards: u32) -> Result<StagedShard> {
        let shard = Shard::new(number, shards)?;
        let items = (0..20).map(|id| (id, [id as f32, 1.0]));
        let make = |path: &Path| IndexBuilder::new("v1").threads(1).shard(shard).build_from(items, path);
        Ok(catalog.stage_shard_made(key, shard, make)?.0)
    }

    fn stage_and_publish(catalog: &Catalog, key: &str, shards: u32) -> Result<Generation> {
        (0..shards).try_for_each(|number| stage(catalog, key, number, shards).map(drop))?;
        catalog.publish_shards(key, shards, &PublishOptions::new())
    }

    fn files(catalog: &Catalog) -> Vec<String> {
        let mut names = catalog.names().unwrap();
        names.retain(|name| !name.starts_with("catalog"));
        names.sort_unstable();
        names
    }

    /// Whether something was made to fail.
    fn crash(folder: &TempDir, catalog: &Catalog, key: &str, shards: u32, after: usize) -> bool {
        let before = catalog.current().unwrap().unwrap();
        armed::crash_after(folder.path(), after);
        let published = stage_and_publish(catalog, key, shards);
        let crashed = armed::mend(folder.path());
        let current = catalog.current().unwrap().unwrap();
        if current.number != before.number {
            assert_eq!(current.number, before.number + 1);
            for (path, (_, fingerprint)) in catalog.paths_of(&current).iter().zip(current.files()) {
                let index = Index::open(path).unwrap();
                index.verify(|_| ()).unwrap();
                assert_eq!(index.fingerprint(), fingerprint);
            }
            assert_eq!(current.rows, 20);
        } else {
            assert!(published.is_err(), "after {after}");
        }
        for path in catalog.paths_of(&before) {
            assert!(path.exists(), "after {after}");
        }
        crashed
    }

    #[test]
    fn a_crash_at_any_write_leaves_the_old_or_the_new_generation() {
        for shards in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let catalog = Catalog::open(folder.path()).unwrap();
            stage_and_publish(&catalog, "first", shards).unwrap();
            let mut after = 1;
            while crash(&folder, &catalog, &format!("job-{after}"), shards, after) {
                // The job begins anew, under its key where that was not published.
                let key = format!("job-{after}");
                let list = catalog.read().unwrap();
                if published(&key, &list).is_none() {
                    stage_and_publish(&catalog, &key, shards).unwrap();
                }
                let last = stage_and_publish(&catalog, &format!("next-{after}"), shards).unwrap();
                let list = catalog.read().unwrap();
                assert_eq!(list.current(), Some(&last));
                let mut listed: Vec<String> = list.files().into_iter().map(str::to_owned).collect();
                listed.sort_unstable();
                assert_eq!(files(&catalog), listed, "after {after}: leftovers are swept");
                after += 1;
            }
            assert!(after > 8, "{after}");
        }
    }
}
