//! Where the tests of this crate make writing fail. Outside of them nothing stands here but the writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Called before whatever alters a file or a folder at `path`.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn before(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::before;

/// Writes at an offset of the file at `path`.
pub(super) fn write_all_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    before(path).inspect_err(|_| {
        // As of a process that was killed in the middle of it.
        let _ = file.write_all_at(&bytes[..bytes.len() / 2], offset);
    })?;
    file.write_all_at(bytes, offset)
}

/// Syncs a file, or the folder of one, at `path`.
pub(super) fn sync(file: &File, path: &Path) -> io::Result<()> {
    before(path)?;
    #[cfg(test)]
    armed::sync(path)?;
    file.sync_data()
}

#[cfg(test)]
pub(super) mod armed {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    /// Folders in which writing fails after so many more operations.
    static CRASHES: Mutex<Vec<(PathBuf, usize)>> = Mutex::new(Vec::new());

    /// Folders in which so many syncs fail.
    static SYNCS: Mutex<Vec<(PathBuf, usize)>> = Mutex::new(Vec::new());

    /// Has everything fail in a folder after so many operations, as of a process that is gone.
    pub fn crash_after(folder: &Path, operations: usize) {
        CRASHES.lock().unwrap().push((folder.to_owned(), operations));
    }

    /// Has so many syncs in a folder fail.
    pub fn fail_syncs(folder: &Path, count: usize) {
        SYNCS.lock().unwrap().push((folder.to_owned(), count));
    }

    /// Ends all that was asked for in a folder; whether anything failed.
    pub fn mend(folder: &Path) -> bool {
        let mut crashed = false;
        CRASHES.lock().unwrap().retain(|(armed, left)| {
            crashed |= armed == folder && *left == 0;
            armed != folder
        });
        SYNCS.lock().unwrap().retain(|(armed, _)| armed != folder);
        crashed
    }

    fn failed() -> io::Error {
        io::Error::other("made to fail")
    }

    pub fn before(path: &Path) -> io::Result<()> {
        let mut crashes = CRASHES.lock().unwrap();
        match crashes.iter_mut().find(|(folder, _)| path.starts_with(folder)) {
            Some((_, 0)) => Err(failed()),
            Some((_, left)) => {
                *left -= 1;
                if *left == 0 { Err(failed()) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    pub fn sync(path: &Path) -> io::Result<()> {
        let mut syncs = SYNCS.lock().unwrap();
        match syncs.iter_mut().find(|(folder, left)| path.starts_with(folder) && *left > 0) {
            Some((_, left)) => {
                *left -= 1;
                Err(failed())
            }
            None => Ok(()),
        }
    }
}
