//! The catalog: a folder of generations and the list of them.
//!
//! ```text
//! catalog-0000000012.json                     the lists, one a change; that of the highest number holds
//! generation-0000000012-Xy3Zq1.itemdex        index files, read-only; the number is that of the list that took it up
//! catalog.lock                                held by whoever changes the catalog
//! staging-Ab4Cd2/                             a generation on its way
//! ```
//!
//! A change writes a new list beside the others and gives it the next number, which succeeds for one writer only,
//! also where a shared file system does not know locks: the lock spares the second writer its work, the number keeps
//! the catalog whole. What no list names is left over from a crash, and the next change sweeps it, if its number says that it
//! cannot be of a change still to come.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};
use tracing::{debug, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::log::MAX_POSITION;
use crate::{Error, Index, Result};

/// The format of the list that this library writes and reads.
const FORMAT: u32 = 1;

/// Lists that are kept, for people who look into what happened.
const HISTORY: u64 = 8;

/// How often a reader looks again when the list that it was about to read went away.
const TRIES: usize = 100;

const LIST: (&str, &str) = ("catalog-", ".json");
const GENERATION: (&str, &str) = ("generation-", ".itemdex");
const STAGING: &str = "staging-";
const UNFINISHED: (&str, &str) = (".catalog-", ".tmp");

/// A folder of generations, of which one is current.
///
/// Any number of processes may read it while one changes it; a second one that wants to is told so. A crash at any
/// instant leaves the old or the new generation current.
///
/// ```
/// use itemdex::IndexBuilder;
/// use itemdex::live::{Catalog, PublishOptions};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, built) = (folder.path().join("catalog"), folder.path().join("items.itemdex"));
/// # IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 0.5])], &built)?;
/// let catalog = Catalog::create(&path)?;
/// let generation = catalog.publish(&built, &PublishOptions::new())?;
/// assert_eq!((generation.number, generation.model_version.as_str()), (1, "2026-11-23"));
/// assert_eq!(catalog.current()?, Some(generation));
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Catalog {
    folder: PathBuf,
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
    /// What tells its file from any other.
    pub fingerprint: u64,
    /// The position of the log of fresh items up to which its dump has them, where the publisher said so.
    pub log_position: Option<u64>,
    /// Whether a rollback took it out of service.
    pub withdrawn: bool,
}

/// How to publish.
///
/// ```
/// use itemdex::live::PublishOptions;
///
/// let usual = PublishOptions::new();
/// let with_fresh_items = PublishOptions::new().log_position(81_237).keep(3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOptions {
    log_position: Option<u64>,
    keep: usize,
}

impl PublishOptions {
    /// Keeps the two newest generations of the model version that is published, and the newest of the version before.
    pub fn new() -> PublishOptions {
        PublishOptions { log_position: None, keep: 2 }
    }

    /// The position of the log of fresh items that the dump was taken at: what was logged up to there, it has.
    pub fn log_position(mut self, position: u64) -> PublishOptions {
        self.log_position = Some(position);
        self
    }

    fn check(&self) -> Result<()> {
        match self.log_position {
            Some(position) if position >= MAX_POSITION => {
                let problem =
                    format!("{position} is beyond what a log can come to; give what its status says");
                Err(Error::BadOption { option: "log_position", problem })
            }
            _ => Ok(()),
        }
    }

    /// How many generations of the model version to keep, the one published included; at least 1.
    pub fn keep(mut self, generations: usize) -> PublishOptions {
        self.keep = generations;
        self
    }
}

impl Default for PublishOptions {
    fn default() -> PublishOptions {
        PublishOptions::new()
    }
}

/// A list, as it stands in its file before its checksum.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct List {
    format: u32,
    pub number: u64,
    /// Ascending by number.
    pub generations: Vec<Generation>,
    /// Model versions that were in the catalog and are not any more.
    pub retired: Vec<String>,
}

impl List {
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
    fn cut(&mut self, keep: usize, previous_version: bool) -> Vec<Generation> {
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
}

impl Catalog {
    /// Names a catalog in a folder that there is. An empty folder is a catalog without generations.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Catalog> {
        let folder = folder.as_ref();
        fs::read_dir(folder).map_err(Error::io("open", folder))?;
        Ok(Catalog { folder: folder.to_owned() })
    }

    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: impl AsRef<Path>) -> Result<Catalog> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Catalog::open(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a generation's file is.
    pub fn path_of(&self, generation: &Generation) -> PathBuf {
        self.folder.join(&generation.file)
    }

    /// All generations, oldest first, those withdrawn included.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] for the list, [`Error::UnknownFormat`].
    pub fn generations(&self) -> Result<Vec<Generation>> {
        Ok(self.read()?.generations)
    }

    /// The generation that requests are to use: the newest that is not withdrawn.
    ///
    /// # Errors
    /// As [`Catalog::generations`].
    pub fn current(&self) -> Result<Option<Generation>> {
        Ok(self.read()?.current().cloned())
    }

    /// Copies an index file into the catalog, verifies the copy, and makes it current. `index` stays where it is.
    ///
    /// Reads the file twice. Older generations go as [`PublishOptions::keep`] says, and so does what crashes left.
    ///
    /// # Errors
    /// What [`Index::open`] and [`Index::verify`] find; [`Error::CatalogBusy`] where somebody else publishes;
    /// [`Error::Io`], also for a full disk; [`Error::BadOption`] for a log position that no log comes to. What was current stays so.
    pub fn publish(&self, index: impl AsRef<Path>, options: &PublishOptions) -> Result<Generation> {
        let index = index.as_ref();
        options.check()?;
        let _lock = self.lock()?;
        let list = self.read()?;
        Index::open(index)?;
        let staging = Staging::create(&self.folder)?;
        let file = staging.file();
        fs::copy(index, &file).map_err(Error::io("copy into the catalog", index))?;
        let opened = Index::open(&file).and_then(|copy| copy.verify(|_| ()).map(|()| copy));
        self.place(staging, opened.map_err(|error| of_file(error, index))?, list, options)
    }

    /// Has `make` write an index file at the path it is given, in the catalog's folder, and publishes that; otherwise as
    /// [`Catalog::publish`]. Where `make` takes long it keeps nobody from publishing; it waits for its turn thereafter.
    ///
    /// ```
    /// use itemdex::IndexBuilder;
    /// use itemdex::live::{Catalog, PublishOptions};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// let catalog = Catalog::create(folder.path())?;
    /// let build = |path: &std::path::Path| IndexBuilder::new("v1").build_from([(7, [1.0, 0.5])], path);
    /// let (generation, report) = catalog.publish_made(build, &PublishOptions::new())?;
    /// assert_eq!(generation.rows, report.rows);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `make` returns, and as [`Catalog::publish`].
    pub fn publish_made<T>(
        &self,
        make: impl FnOnce(&Path) -> Result<T>,
        options: &PublishOptions,
    ) -> Result<(Generation, T)> {
        options.check()?;
        let staging = Staging::create(&self.folder)?;
        let made = make(&staging.file())?;
        let _lock = self.wait_for_lock()?;
        let list = self.read()?;
        let index = Index::open(staging.file())?;
        index.verify(|_| ())?;
        Ok((self.place(staging, index, list, options)?, made))
    }

    /// Makes an earlier generation current again: that of the number, or without one the one before the current. Those
    /// published after it are withdrawn: nobody serves them, and the next publication or [`Catalog::prune`] drops them.
    /// Until then a rollback to their number brings them back.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::CatalogBusy`], and as [`Catalog::generations`].
    pub fn rollback(&self, to: Option<u64>) -> Result<Generation> {
        let _lock = self.lock()?;
        let mut list = self.read()?;
        let chosen = match to {
            Some(number) => list.generations.iter().find(|generation| generation.number == number),
            None => list.serving().nth(1),
        };
        let Some(chosen) = chosen.map(|generation| generation.number) else {
            let numbers: Vec<_> = list.generations.iter().map(|generation| generation.number).collect();
            let asked = to.map_or("one before the current".to_owned(), |number| format!("number {number}"));
            let problem = format!("there is no generation to go back to: {asked} of {numbers:?}");
            return Err(Error::NoGeneration { folder: self.folder.clone(), problem });
        };
        for generation in &mut list.generations {
            generation.withdrawn = match generation.number.cmp(&chosen) {
                std::cmp::Ordering::Less => generation.withdrawn,
                std::cmp::Ordering::Equal => false,
                std::cmp::Ordering::Greater => true,
            };
        }
        list.number += 1;
        self.commit(&list)?;
        self.sweep(&list);
        info!(number = chosen, "rolled back");
        Ok(list.current().expect("the chosen generation is not withdrawn").clone())
    }

    /// Drops all but the current generation, the `keep` newest of its model version, and, unless
    /// `retire_previous_version` says otherwise, the newest of the model version before. Returns those dropped.
    ///
    /// A process that has one of them open keeps it until it lets go.
    ///
    /// # Errors
    /// [`Error::CatalogBusy`], and as [`Catalog::generations`].
    pub fn prune(&self, keep: usize, retire_previous_version: bool) -> Result<Vec<Generation>> {
        let _lock = self.lock()?;
        let mut list = self.read()?;
        let dropped = list.cut(keep, !retire_previous_version);
        if !dropped.is_empty() {
            list.number += 1;
            self.commit(&list)?;
        }
        self.sweep(&list);
        Ok(dropped)
    }

    /// Gives the staged file its name and commits the list that has it.
    fn place(
        &self,
        staging: Staging,
        index: Index,
        mut list: List,
        options: &PublishOptions,
    ) -> Result<Generation> {
        let staged = staging.file();
        fs::set_permissions(&staged, Permissions::from_mode(0o444)).map_err(Error::io("protect", &staged))?;
        let synced = File::open(&staged).and_then(|file| file.sync_all());
        synced.map_err(Error::io("sync", &staged))?;
        list.number += 1;
        let unique = staging.unique_name();
        let generation = Generation {
            number: list.number,
            file: format!("{}{:010}-{unique}{}", GENERATION.0, list.number, GENERATION.1),
            model_version: index.model_version().to_owned(),
            rows: index.len() as u64,
            dim: index.dim() as u64,
            bytes: index.bytes(),
            fingerprint: index.fingerprint(),
            log_position: options.log_position,
            withdrawn: false,
        };
        let path = self.path_of(&generation);
        fs::rename(&staged, &path).map_err(Error::io("move into place", &path))?;
        list.generations.push(generation.clone());
        list.cut(options.keep, true);
        if let Err(error) = self.commit(&list) {
            // Where only the folder could not be synced, the list holds.
            let holds = !matches!(error, Error::CatalogBusy { .. }) && self.newest()? == Some(list.number);
            if !holds {
                let _ = fs::remove_file(&path);
            }
            return Err(error);
        }
        drop(staging);
        self.sweep(&list);
        info!(number = generation.number, model_version = generation.model_version, "published a generation");
        Ok(generation)
    }

    /// The list that holds; one without generations where there is none.
    pub(super) fn read(&self) -> Result<List> {
        for _ in 0..TRIES {
            let Some(number) = self.newest()? else {
                return Ok(List { format: FORMAT, number: 0, generations: Vec::new(), retired: Vec::new() });
            };
            let path = self.list_path(number);
            match fs::read_to_string(&path) {
                Ok(text) => return parse(&text, number, &path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let problem = "it is not text".to_owned();
                    return Err(Error::Damaged { path, offset: 0, problem });
                }
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        let problem = format!("its list changed {TRIES} times while it was read; try again");
        Err(Error::CatalogBusy { folder: self.folder.clone(), problem })
    }

    /// The number of the newest list.
    pub(super) fn newest(&self) -> Result<Option<u64>> {
        Ok(self.names()?.iter().filter_map(|name| number_in(name, LIST)).max())
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("open", &self.folder))?;
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let names = names.map_err(Error::io("list", &self.folder))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn list_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}{number:010}{}", LIST.0, LIST.1))
    }

    /// Writes the list under its number, unless somebody else has taken that.
    fn commit(&self, list: &List) -> Result<()> {
        let path = self.list_path(list.number);
        let text = serde_json::to_string(list).expect("a list is plain data");
        let write = |mut file: NamedTempFile| {
            writeln!(file, "{text}\n{:016x}", xxh3_64(text.as_bytes()))?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path).map_err(|error| error.error)
        };
        let file = tempfile::Builder::new()
            .prefix(UNFINISHED.0)
            .suffix(UNFINISHED.1)
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(&self.folder);
        let committed = match file.and_then(write) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("write", &path)(error)),
            // A writer that slept through several changes may have found its number free again.
            Ok(_) => self.newest()? == Some(list.number),
        };
        if !committed {
            let problem =
                "somebody else changed the catalog meanwhile; look at it, then try again".to_owned();
            return Err(Error::CatalogBusy { folder: self.folder.clone(), problem });
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io("sync", &self.folder))
    }

    /// Removes what no list can name any more. What cannot be removed is left for the next time.
    fn sweep(&self, list: &List) {
        for name in self.names().unwrap_or_default() {
            let path = self.folder.join(&name);
            let listed = list.generations.iter().any(|generation| generation.file == name);
            let old_file =
                number_in(&name, GENERATION).is_some_and(|number| number <= list.number) && !listed;
            let old_list = number_in(&name, LIST).is_some_and(|number| number + HISTORY <= list.number);
            let unfinished = name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1);
            let removed = match () {
                () if old_file || old_list || unfinished => fs::remove_file(&path),
                () if name.starts_with(STAGING) && Staging::is_abandoned(&path) => fs::remove_dir_all(&path),
                () => continue,
            };
            match removed {
                Ok(()) => debug!(name, "swept"),
                Err(error) => {
                    warn!(name, %error, "cannot sweep; the next change of the catalog will try again")
                }
            }
        }
    }

    fn lock(&self) -> Result<Option<Lock>> {
        self.lock_with(|file| match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(true),
        })
    }

    fn wait_for_lock(&self) -> Result<Option<Lock>> {
        self.lock_with(|file| file.lock().map(|()| true))
    }

    /// The lock, held until it is dropped; none where the file system has no locks.
    fn lock_with(&self, lock: impl Fn(&File) -> io::Result<bool>) -> Result<Option<Lock>> {
        let path = self.folder.join("catalog.lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(Error::io("write", &path))?;
        match lock(&file) {
            Ok(true) => Ok(Some(Lock(file))),
            Ok(false) => {
                let problem =
                    "somebody else is changing the catalog; try again when they are done".to_owned();
                Err(Error::CatalogBusy { folder: self.folder.clone(), problem })
            }
            Err(error) => {
                debug!(%error, "no locks here; the catalog relies on the numbers of its lists");
                Ok(None)
            }
        }
    }
}

/// The lock of a file that this process has locked, let go when dropped. Not by closing the file: a child that is being started
/// holds it open a moment longer.
pub(super) struct Lock(pub File);

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked when it is closed.
        let _ = self.0.unlock();
    }
}

/// A folder for a generation on its way. Its lock says that somebody is at work in it; dropped, it goes.
struct Staging {
    folder: TempDir,
    _lock: Lock,
}

impl Staging {
    fn create(catalog: &Path) -> Result<Staging> {
        loop {
            let failed = || Error::io("create a folder in", catalog);
            let folder = tempfile::Builder::new().prefix(STAGING).tempdir_in(catalog).map_err(failed())?;
            let lock = match File::create(folder.path().join("lock")) {
                // Somebody swept it before it was locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed())?,
            };
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    debug!(%error, "no locks here; sweep staging folders by hand")
                }
                Ok(()) => {}
            }
            return Ok(Staging { folder, _lock: Lock(lock) });
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("index.itemdex")
    }

    /// What the operating system made sure nobody else has.
    fn unique_name(&self) -> String {
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        name.trim_start_matches(STAGING).to_owned()
    }

    /// Whether nobody is at work in a staging folder: its lock can be had, or was never made.
    fn is_abandoned(path: &Path) -> bool {
        match File::options().write(true).open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// The error for the copy of a file, told of the file.
fn of_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Damaged { offset, problem, .. } => Error::Damaged { path: path.to_owned(), offset, problem },
        other => other,
    }
}

/// The number in a name such as `catalog-0000000012.json` or `generation-0000000012-Xy3Zq1.itemdex`.
fn number_in(name: &str, (prefix, suffix): (&str, &str)) -> Option<u64> {
    let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    middle.split('-').next()?.parse().ok()
}

fn parse(text: &str, number: u64, path: &Path) -> Result<List> {
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
    let not_a_list = |error: serde_json::Error| damaged(format!("it is not a list of generations: {error}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers that do not see each other's lock, as on a file system without them.
    #[test]
    fn of_two_writers_of_one_number_the_second_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let mut list = catalog.read().unwrap();
        let refused = |list: &List| matches!(catalog.commit(list), Err(Error::CatalogBusy { .. }));
        list.number = 1;
        catalog.commit(&list).unwrap();
        assert!(refused(&list));
        list.number = 2;
        catalog.commit(&list).unwrap();
        // One that slept for long finds its number free again.
        fs::remove_file(catalog.list_path(1)).unwrap();
        list.number = 1;
        assert!(refused(&list));
        assert_eq!(catalog.read().unwrap().number, 2);
    }

    #[test]
    fn a_generation_of_a_change_to_come_is_not_swept() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let mut list = catalog.read().unwrap();
        list.number = 5;
        let [left, coming] =
            [5, 6].map(|number| folder.path().join(format!("generation-{number:010}-abc.itemdex")));
        for path in [&left, &coming] {
            fs::write(path, "").unwrap();
        }
        catalog.sweep(&list);
        assert!(!left.exists() && coming.exists());
    }
}
