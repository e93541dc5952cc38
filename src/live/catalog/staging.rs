//! Where a generation is made before the catalog lists it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::debug;

use crate::live::lock::Locked;
use crate::{Error, Result};

/// How the names of staging folders begin.
pub(super) const STAGING: &str = "staging-";

/// A folder for a generation on its way; removed when dropped. Its lock says that somebody works in it.
pub(super) struct Staging {
    folder: TempDir,
    _lock: Locked,
}

impl Staging {
    pub fn create(catalog: &Path) -> Result<Staging> {
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
            return Ok(Staging { folder, _lock: Locked(lock) });
        }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("index.itemdex")
    }

    /// A name that the operating system gave to nobody else.
    pub fn unique_name(&self) -> String {
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        name.trim_start_matches(STAGING).to_owned()
    }

    /// Whether nobody works in a staging folder: its lock is free, or was never made.
    pub fn is_abandoned(path: &Path) -> bool {
        match File::options().write(true).open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}
