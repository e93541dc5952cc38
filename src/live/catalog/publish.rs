//! Publishing: a file is copied or made beside the generations, checked, named, and listed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::info;

use super::Catalog;
use super::list::{GENERATION, Generation, List, Retention};
use super::staging::Staging;
use crate::live::change::{POSITIONS, seconds};
use crate::live::faults;
use crate::{Error, Index, Result};

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
    retention: Retention,
}

impl PublishOptions {
    /// Keeps the two newest generations of each of the two newest model versions.
    pub fn new() -> PublishOptions {
        PublishOptions { log_position: None, retention: Retention::new() }
    }

    /// The position of the log of fresh items at which the dump was taken: the dump has what was logged up to
    /// there. Ends a reservation of that position ([`Catalog::reserve`]).
    pub fn log_position(mut self, position: u64) -> PublishOptions {
        self.log_position = Some(position);
        self
    }

    /// How many generations of each model version stay, the one published included; at least 1.
    pub fn keep(mut self, generations: usize) -> PublishOptions {
        self.retention = self.retention.keep(generations);
        self
    }

    /// How many model versions stay, that of the generation published included; at least 1. The others are
    /// retired.
    pub fn versions(mut self, versions: usize) -> PublishOptions {
        self.retention = self.retention.versions(versions);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        self.log_position.map_or(Ok(()), check_position)
    }
}

/// Checks that a log can come to a position.
pub(super) fn check_position(position: u64) -> Result<()> {
    if position < POSITIONS {
        return Ok(());
    }
    let problem = format!("{position} is beyond what a log can come to; give what its status says");
    Err(Error::BadOption { option: "log_position", problem })
}

impl Default for PublishOptions {
    fn default() -> PublishOptions {
        PublishOptions::new()
    }
}

impl Catalog {
    /// Copies an index file into the catalog, verifies the copy, and makes it current. `index` stays where it
    /// is.
    ///
    /// Reads the file twice. Drops older generations as [`PublishOptions::keep`] says, and what crashes left.
    ///
    /// # Errors
    /// What [`Index::open`] and [`Index::verify`] find; [`Error::CatalogBusy`] where somebody else publishes;
    /// [`Error::Io`], also for a full disk; [`Error::BadOption`] for a log position that no log comes to.
    /// What was current stays current.
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

    /// Has `make` write an index file at the path it is given, in the catalog's folder, and publishes that
    /// file as [`Catalog::publish`] does. While `make` runs, others can publish; it waits for its turn
    /// thereafter.
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

    /// Gives the staged file its name and commits the list that has it.
    fn place(
        &self,
        staging: Staging,
        index: Index,
        list: List,
        options: &PublishOptions,
    ) -> Result<Generation> {
        let staged = staging.file();
        protect(&staged)?;
        self.place_file(&staged, &staging.unique_name(), &index, list, options)
    }

    /// The same of a file that is protected and synced.
    pub(super) fn place_file(
        &self,
        file: &Path,
        unique: &str,
        index: &Index,
        mut list: List,
        options: &PublishOptions,
    ) -> Result<Generation> {
        list.number += 1;
        let mut generation = options.generation(&list, index);
        generation.file = format!("{}{:010}-{unique}{}", GENERATION.0, list.number, GENERATION.1);
        let path = self.path_of(&generation);
        let moved = faults::before(&path).and_then(|()| fs::rename(file, &path));
        moved.map_err(Error::io("move into place", &path))?;
        self.commit_generation(generation, list, options)
    }

    /// Commits a list with one more generation, whose files have their names.
    pub(super) fn commit_generation(
        &self,
        generation: Generation,
        mut list: List,
        options: &PublishOptions,
    ) -> Result<Generation> {
        list.generations.push(generation.clone());
        list.cut(options.retention);
        list.release(options.log_position, seconds());
        if let Err(error) = self.commit(&list) {
            // Where only the folder could not be synced, the list holds.
            let holds = !matches!(error, Error::CatalogBusy { .. }) && self.newest()? == Some(list.number);
            // Shards stay staged, and can be published again.
            if !holds && generation.shards.is_empty() {
                let path = self.path_of(&generation);
                let _ = faults::before(&path).and_then(|()| fs::remove_file(&path));
            }
            return Err(error);
        }
        self.sweep(&list);
        info!(number = generation.number, model_version = generation.model_version, "published a generation");
        Ok(generation)
    }
}

/// Makes a file read-only and brings it to the disk.
pub(super) fn protect(file: &Path) -> Result<()> {
    let set = faults::before(file).and_then(|()| fs::set_permissions(file, Permissions::from_mode(0o444)));
    set.map_err(Error::io("protect", file))?;
    let synced = File::open(file).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", file))
}

impl PublishOptions {
    /// A generation that is to be in this list, as far as one of its files tells: its file has no name yet.
    pub(super) fn generation(&self, list: &List, index: &Index) -> Generation {
        Generation {
            number: list.number,
            file: String::new(),
            model_version: index.model_version().to_owned(),
            rows: index.len() as u64,
            dim: index.dim() as u64,
            bytes: index.bytes(),
            fingerprint: index.fingerprint(),
            log_position: self.log_position,
            withdrawn: false,
            shards: Vec::new(),
        }
    }
}

/// The error about the copy of a file, turned into one about the file.
fn of_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Damaged { offset, problem, .. } => Error::Damaged { path: path.to_owned(), offset, problem },
        other => other,
    }
}
