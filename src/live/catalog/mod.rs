//! The catalog: a folder of generations and the list of them.
//!
//! ```text
//! catalog-0000000012.json                     the lists, one for each change; the highest number holds
//! generation-0000000012-Xy3Zq1.itemdex        index files, read-only; the number is that of the list that added it
//! shard-2-of-8-Xy3Zq1-job_17.itemdex          a shard of a generation, staged or listed, with the key it was staged under
//! catalog.lock                                held by whoever changes the catalog
//! staging-Ab4Cd2/                             a generation on its way
//! ```
//!
//! A change writes a new list beside the others and gives it the next number, which succeeds for one writer
//! only, also on a shared file system without locks: the lock spares the second writer its work, the number
//! keeps the catalog whole. A crash leaves files that no list names. The next change sweeps them, unless
//! their number says that they may belong to a change still to come.

mod folder;
mod list;
mod publish;
mod shards;
mod staged;
mod staging;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info};

pub(super) use list::List;
pub use list::{Generation, Reservation, Retention, ShardFile};
pub use publish::PublishOptions;
pub use shards::StagedShard;
pub(crate) use shards::{check_alike, check_ids};

use super::change::seconds;
use super::lock::Locked;
use crate::assignment::Shard;
use crate::{Error, Index, OpenOptions, Result};

/// A folder of generations, of which one is current.
///
/// Any number of processes may read it while one changes it; a second one that wants to is told so. A crash
/// at any instant leaves the old or the new generation current.
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

impl Catalog {
    /// A catalog in an existing folder. An empty folder is a catalog without generations.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Catalog> {
        let folder = folder.as_ref();
        fs::read_dir(folder).map_err(Error::io("open", folder))?;
        Ok(Catalog { folder: folder.to_owned() })
    }

    /// The same, and makes the folder where there is none.
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

    /// Where a generation's file is. Of a generation of several shards it is a path that has no file:
    /// [`Catalog::paths_of`] has those of its files.
    pub fn path_of(&self, generation: &Generation) -> PathBuf {
        self.folder.join(&generation.file)
    }

    /// Where a generation's files are, a path for each shard.
    pub fn paths_of(&self, generation: &Generation) -> Vec<PathBuf> {
        generation.files().map(|(name, _)| self.folder.join(name)).collect()
    }

    /// Opens all files of a generation, and checks that they are those that were published.
    pub(crate) fn open_generation(
        &self,
        generation: &Generation,
        options: OpenOptions,
    ) -> Result<Vec<Index>> {
        let open =
            |(name, fingerprint): (&str, u64)| open_published(&self.folder.join(name), fingerprint, options);
        generation.files().map(open).collect()
    }

    /// The file of one shard of a generation, with its fingerprint.
    ///
    /// # Errors
    /// [`Error::BadShards`] where the generation has another number of shards.
    pub(in crate::live) fn file_of(&self, generation: &Generation, shard: Shard) -> Result<(PathBuf, u64)> {
        let count = generation.shard_count();
        if count != shard.of() {
            let problem = format!(
                "generation {} has {count} shards, and this process holds shard {shard}; open it with the \
                 generation's number of shards, or publish one of {} shards",
                generation.number,
                shard.of()
            );
            return Err(Error::BadShards { path: self.folder.clone(), problem });
        }
        let (name, fingerprint) = generation.files().nth(shard.number() as usize).unwrap_or_default();
        Ok((self.folder.join(name), fingerprint))
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

    /// Makes an earlier generation current again: the one of this number, or the one before the current.
    ///
    /// Generations published after it are withdrawn: no process serves them, and the next publication or
    /// [`Catalog::prune`] drops them. Until then a rollback to their number brings them back.
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

    /// Drops the generations that retention does not keep, and returns them.
    ///
    /// A process that has one of them open can use it until it drops it.
    ///
    /// # Errors
    /// [`Error::CatalogBusy`], and as [`Catalog::generations`].
    pub fn prune(&self, retention: Retention) -> Result<Vec<Generation>> {
        let _lock = self.lock()?;
        let mut list = self.read()?;
        // Before the list is written, which may need the room.
        self.sweep(&list);
        let dropped = list.cut(retention);
        if !dropped.is_empty() {
            list.number += 1;
            self.commit(&list)?;
        }
        self.sweep(&list);
        Ok(dropped)
    }

    /// Has every log of fresh items keep what comes behind a position, for a dump that was taken there and is
    /// to be published with it: until it is published, or for this time.
    ///
    /// To be called *before* the dump is taken, where building takes longer than logs keep changes anyway
    /// ([`LiveOptions::retain`](super::LiveOptions::retain)).
    ///
    /// # Errors
    /// [`Error::BadOption`] for a position that no log comes to; [`Error::CatalogBusy`], and as
    /// [`Catalog::generations`].
    pub fn reserve(&self, log_position: u64, hold: Duration) -> Result<Reservation> {
        publish::check_position(log_position)?;
        let _lock = self.lock()?;
        let mut list = self.read()?;
        let now = seconds();
        list.release(None, now);
        let reservation = Reservation { log_position, until: now.saturating_add(hold.as_secs()) };
        list.reservations.push(reservation.clone());
        list.number += 1;
        self.commit(&list)?;
        self.sweep(&list);
        Ok(reservation)
    }

    /// The positions that are reserved now.
    ///
    /// # Errors
    /// As [`Catalog::generations`].
    pub fn reservations(&self) -> Result<Vec<Reservation>> {
        let mut list = self.read()?;
        list.release(None, seconds());
        Ok(list.reservations)
    }

    fn lock(&self) -> Result<Option<Locked>> {
        self.lock_with(|file| match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(true),
        })
    }

    fn wait_for_lock(&self) -> Result<Option<Locked>> {
        self.lock_with(|file| file.lock().map(|()| true))
    }

    /// The lock, held until it is dropped; none where the file system has no locks.
    fn lock_with(&self, lock: impl Fn(&File) -> io::Result<bool>) -> Result<Option<Locked>> {
        let path = self.folder.join("catalog.lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(Error::io("write", &path))?;
        match lock(&file) {
            Ok(true) => Ok(Some(Locked(file))),
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

/// Opens a file, and checks that it is the one that was published under its name.
pub(in crate::live) fn open_published(path: &Path, fingerprint: u64, options: OpenOptions) -> Result<Index> {
    let index = options.open(path)?;
    if index.fingerprint() == fingerprint {
        return Ok(index);
    }
    let problem = "it is not the file that was published".to_owned();
    Err(Error::Damaged { path: path.to_owned(), offset: 0, problem })
}
