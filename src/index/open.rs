use std::path::Path;

use super::{Index, workspace::Workspaces};
use crate::Result;
use crate::columns::ExpiredRows;
use crate::file::{IndexFile, Residence};

/// How to open an index file.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0])], &path)?;
/// let index = itemdex::OpenOptions::new().resident(true).open(&path)?;
/// let residency = index.residency();
/// println!("{} bytes copied, {} of them on huge pages", residency.copied, residency.huge);
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    residence: Residence,
}

impl OpenOptions {
    /// Maps the file. Pages are read from disk when they are first used.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Copies the file into memory of this process, on huge pages where the system has them.
    ///
    /// Random reads are faster there; [`Index::residency`] says how much is on huge pages. The memory is not
    /// shared with other processes, and opening takes as long as reading the file. Later changes of the file
    /// do not matter.
    pub fn resident(mut self, resident: bool) -> OpenOptions {
        self.residence.resident = resident;
        self
    }

    /// Reads a mapped file into memory on opening, so that no query waits for the disk while memory suffices.
    ///
    /// A resident index is in memory in any case.
    pub fn prefault(mut self, prefault: bool) -> OpenOptions {
        self.residence.prefault = prefault;
        self
    }

    /// Reads the index into memory and keeps it there (`mlock`). The limit of `ulimit -l` must allow it.
    pub fn lock(mut self, lock: bool) -> OpenOptions {
        self.residence.lock = lock;
        self
    }

    /// Opens an index file.
    ///
    /// # Errors
    /// The errors of [`Index::open`]; also [`Error::Io`](crate::Error::Io) where memory cannot be had or
    /// locked.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Index> {
        let file = IndexFile::open(path.as_ref(), self.residence)?;
        let header = file.header();
        tracing::debug!(path = %file.path().display(), rows = header.rows, "opened an index");
        let index = Index { file, expired: ExpiredRows::default(), workspaces: Workspaces::new() };
        index.check_directory()?;
        Ok(index)
    }
}

/// Where an index is in memory, as far as the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residency {
    /// Bytes copied into memory of this process; 0 for a mapped index.
    pub copied: u64,
    /// How many of the copied bytes are on huge pages. Exact to about two huge pages on Linux; 0 elsewhere.
    pub huge: u64,
    /// Whether the index is locked in memory.
    pub locked: bool,
}

impl Index {
    /// Maps an index file. Takes about as long at any size: only the first page is read, and the other pages
    /// are read from disk when first used.
    ///
    /// The same as [`OpenOptions::open`] with default options; [`OpenOptions`] can also copy the index into
    /// memory.
    ///
    /// The header, the bounds of every section and the file's length are checked here. [`Index::verify`]
    /// checks the contents too.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NotAnIndex`](crate::Error::NotAnIndex),
    /// [`Error::UnknownFormat`](crate::Error::UnknownFormat), [`Error::Damaged`](crate::Error::Damaged).
    pub fn open(path: impl AsRef<Path>) -> Result<Index> {
        OpenOptions::new().open(path)
    }

    /// Where the index is in memory. Reads the process's memory map, so do not call it for every query.
    pub fn residency(&self) -> Residency {
        let Residence { resident, lock, .. } = self.file.residence();
        let (copied, huge) = match resident {
            true => (self.file.header().file_length, self.file.huge_bytes()),
            false => (0, 0),
        };
        Residency { copied, huge, locked: lock }
    }
}
