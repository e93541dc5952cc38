//! The log of fresh items: what was upserted and deleted, in order, on disk before it counts.
//!
//! A frame is written only when the frame before it is. So a crash tears the last frame at most, none of
//! which was acknowledged, and opening cuts it. A frame that does not hold with whole ones behind it is not a
//! crash but damage, and an error.
//!
//! A log is written anew, without the records that nobody needs, beside what is appended meanwhile:
//! [`Log::snapshot`] and [`Rewrite`] do the long part without the log, [`Log::replace`] moves the new file
//! into place.

mod compaction;
mod format;
mod values;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tracing::{debug, info, warn};

use super::change::{Change, Numbering, seconds};
use super::faults;
use super::lock::Locked;
use crate::{Error, Result};
pub(super) use compaction::Kept;
pub(super) use format::Record;
use format::{AFTER_SYNC, Contents, Header, SHORTEST_HEADER, frame_of, parse, read_frames, to_bytes};

/// A log is written anew when it has doubled, and not below this.
const SMALL: u64 = 16 << 20;

/// When a change counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// On disk before it is acknowledged. Changes made at once share a sync.
    Always,
    /// With the operating system before it is acknowledged, and on disk within this time: a crash of the
    /// process loses nothing, a power failure what came within this time.
    Every(Duration),
    /// With the operating system before it is acknowledged, and on disk when the system writes it.
    Never,
}

/// Where a new log begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub next: u64,
    pub dropped_to: u64,
}

pub(super) struct Log {
    path: PathBuf,
    /// Locked as long as this is in use.
    file: Locked,
    policy: SyncPolicy,
    header: Header,
    /// Where the next frame goes; beyond it there may be what is left of one that failed.
    end: u64,
    /// How much of it is synced.
    synced: u64,
    last_sync: Instant,
    /// The length at which it was last written anew.
    compacted: u64,
    /// Whether a sync failed. What the system had not written by then it may never write.
    tainted: bool,
    /// Counts the files that this log was in.
    file_number: u64,
}

/// A log as it was at some moment, to be read without it.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    path: PathBuf,
    inode: (u64, u64),
    file_number: u64,
    pub end: u64,
    header: Header,
}

/// A log written anew, not in its place yet.
pub(super) struct Rewrite {
    file: NamedTempFile,
    header: Header,
    /// Its length, and how much of the old file it stands for.
    length: u64,
    of: Snapshot,
}

fn inode(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

impl Log {
    /// Opens a log, or begins one. A torn end is cut.
    pub fn open(path: &Path, policy: SyncPolicy, numbering: Numbering, begin: Beginning) -> Result<Log> {
        let (path, file) = open_locked(path, numbering, begin)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let Contents { mut header, dropped_to, records, end } = parse(&bytes, &path)?;
        if header.numbering != numbering {
            return Err(Error::Numbering { path, fed: header.numbering == Numbering::Fed });
        }
        if end < bytes.len() {
            warn!(path = %path.display(), bytes = bytes.len() - end, "cut the torn end of the log; nothing of it was acknowledged");
            file.0.set_len(end as u64).map_err(Error::io("cut", &path))?;
        }
        file.0.sync_all().map_err(Error::io("sync", &path))?;
        info!(path = %path.display(), records = records.len(), next = header.next, "opened the log of fresh items");
        let end = end as u64;
        let (synced, compacted, last_sync) = (end, end, Instant::now());
        // A log of format 1 had what the generations of the catalog lacked, and does not say more.
        header.dropped_to = dropped_to.unwrap_or_else(|| begin.dropped_to.min(header.next - 1));
        let (tainted, file_number) = (false, 0);
        let mut log =
            Log { path, file, policy, header, end, synced, last_sync, compacted, tainted, file_number };
        if dropped_to.is_none() {
            log.rewrite(&records)?;
        }
        Ok(log)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn numbering(&self) -> Numbering {
        self.header.numbering
    }

    /// The position of the last record, or of the last that there was.
    pub fn position(&self) -> u64 {
        self.header.next - 1
    }

    /// Records up to here may be gone.
    pub fn dropped_to(&self) -> u64 {
        self.header.dropped_to
    }

    /// Leaves out positions up to this one.
    pub fn skip_to(&mut self, position: u64) {
        self.header.next = self.header.next.max(position + 1);
    }

    /// Writes changes, at least one, as one frame, and syncs it as the policy says. Positions ascend from
    /// beyond [`Log::position`]. An error leaves the log as it was.
    pub fn append(&mut self, changes: &[(u64, Change)]) -> Result<()> {
        self.check_in_place()?;
        if self.tainted {
            self.rewrite_all()?;
        }
        let flags = if self.synced == self.end { AFTER_SYNC } else { 0 };
        let numbered = changes.iter().map(|(position, change)| (*position, change));
        let frame = frame_of(numbered, flags, seconds());
        if let Err(error) = self.write(&frame) {
            // What stands behind the end is written over by the next frame, and cut when the log is opened.
            let _ = faults::before(&self.path).and_then(|()| self.file.0.set_len(self.end));
            return Err(Error::io("write", &self.path)(error));
        }
        self.header.next = changes.last().map_or(self.header.next, |(position, _)| position + 1);
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        faults::before(&self.path)?;
        self.file.0.set_len(self.end)?;
        faults::write_all_at(&self.file.0, &self.path, frame, self.end)?;
        let due = match self.policy {
            SyncPolicy::Always => true,
            SyncPolicy::Every(time) => self.last_sync.elapsed() >= time,
            SyncPolicy::Never => false,
        };
        if due {
            self.sync_data()?;
        }
        self.end += frame.len() as u64;
        if due {
            self.synced = self.end;
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.last_sync = Instant::now();
        let synced = faults::sync(&self.file.0, &self.path);
        self.tainted |= synced.is_err();
        synced
    }

    /// Whether its name still leads to it.
    pub fn check_in_place(&self) -> Result<()> {
        let own = self.file.0.metadata().map_err(Error::io("look at", &self.path))?;
        match fs::metadata(&self.path) {
            Ok(named) if inode(&named) == inode(&own) => Ok(()),
            Ok(_) => Err(Error::LogReplaced { path: self.path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::LogReplaced { path: self.path.clone() })
            }
            Err(error) => Err(Error::io("look at", &self.path)(error)),
        }
    }

    /// How long until what is written has to be synced.
    pub fn sync_due(&self) -> Option<Duration> {
        match self.policy {
            SyncPolicy::Every(time) if self.synced < self.end => {
                Some(time.saturating_sub(self.last_sync.elapsed()))
            }
            _ => None,
        }
    }

    /// Syncs what is written.
    pub fn sync(&mut self) -> Result<()> {
        if self.tainted {
            return self.rewrite_all();
        }
        self.sync_data().map_err(Error::io("sync", &self.path))?;
        self.synced = self.end;
        Ok(())
    }

    /// Whether it has grown so much that writing it anew pays.
    pub fn has_grown(&self) -> bool {
        self.end > SMALL.max(2 * self.compacted)
    }

    /// Notes that it is not to be written anew before it has grown again.
    pub fn set_compacted(&mut self) {
        self.compacted = self.end;
    }

    /// The log as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let inode = self.file.0.metadata().as_ref().map_or((0, 0), inode);
        let (path, file_number, end) = (self.path.clone(), self.file_number, self.end);
        Snapshot { path, inode, file_number, end, header: self.header }
    }

    /// Writes the log anew, after a sync that failed.
    fn rewrite_all(&mut self) -> Result<()> {
        let records = self.snapshot().read()?;
        self.rewrite(&records)?;
        warn!(path = %self.path.display(), "wrote the log anew, since a sync of it had failed");
        Ok(())
    }

    /// Writes the log anew with these records, all that it has.
    fn rewrite(&mut self, records: &[Record]) -> Result<()> {
        let header = Header { next: self.header.next, ..self.header };
        let rewrite = Rewrite::write(self.snapshot(), header, records)?;
        self.replace(rewrite)
    }

    /// Moves a log that was written anew into the place of this, with what was appended meanwhile.
    pub fn replace(&mut self, mut rewrite: Rewrite) -> Result<()> {
        self.check_in_place()?;
        rewrite.catch_up(&self.snapshot())?;
        let Rewrite { file, mut header, length, .. } = rewrite;
        header.next = self.header.next;
        let path = &self.path;
        let folder = File::open(folder_of(path)).map_err(Error::io("open the folder of", path))?;
        // Nobody else has it: a lock that is refused is a file system without locks.
        let _ = file.as_file().try_lock();
        faults::before(path).map_err(Error::io("write", path))?;
        let file = file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
        // From here on changes go to the new file, whatever else fails: the old one has no name any more.
        (self.file, self.header, self.file_number) = (Locked(file), header, self.file_number + 1);
        (self.end, self.synced, self.compacted) = (length, length, length);
        let synced = faults::sync(&folder, path);
        // Where its name is not on disk, the next change has it written once more.
        self.tainted = synced.is_err();
        synced.map_err(Error::io("sync the folder of", path))
    }
}

impl Snapshot {
    fn open(&self) -> Result<File> {
        let path = &self.path;
        let file = File::open(path).map_err(Error::io("read", path))?;
        match file.metadata() {
            Ok(metadata) if inode(&metadata) == self.inode => Ok(file),
            Ok(_) => Err(Error::LogReplaced { path: path.clone() }),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// All records, read from the file.
    pub fn read(&self) -> Result<Vec<Record>> {
        let path = &self.path;
        let mut bytes = vec![0; self.end as usize];
        self.open()?.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
        let Contents { records, end, .. } = parse(&bytes, path)?;
        match end == bytes.len() {
            true => Ok(records),
            false => {
                let problem = "a frame does not hold".to_owned();
                Err(Error::Damaged { path: path.clone(), offset: end as u64, problem })
            }
        }
    }

    /// The records that came after an earlier snapshot.
    pub fn since(&self, earlier: &Snapshot) -> Result<Vec<Record>> {
        let bytes = self.bytes_since(earlier)?;
        let mut records = Vec::new();
        match read_frames(&bytes, &mut records) {
            Some(()) => Ok(records),
            None => {
                let problem = "a frame does not hold".to_owned();
                Err(Error::Damaged { path: self.path.clone(), offset: earlier.end, problem })
            }
        }
    }

    fn bytes_since(&self, earlier: &Snapshot) -> Result<Vec<u8>> {
        if earlier.file_number != self.file_number {
            return Err(Error::LogReplaced { path: self.path.clone() });
        }
        let mut bytes = vec![0; (self.end - earlier.end) as usize];
        if !bytes.is_empty() {
            let file = self.open()?;
            file.read_exact_at(&mut bytes, earlier.end).map_err(Error::io("read", &self.path))?;
        }
        Ok(bytes)
    }

    /// Writes a log without what may go of these records, which are all that this has, beside the old one;
    /// none where all stay.
    pub fn compacted(&self, records: Vec<Record>, floor: u64, kept: Kept) -> Result<Option<Rewrite>> {
        let before = records.len();
        let (records, dropped_to) = compaction::compact(records, floor, kept);
        if records.len() == before {
            return Ok(None);
        }
        let dropped_to = dropped_to.unwrap_or(0).max(self.header.dropped_to);
        info!(
            before,
            after = records.len(),
            dropped_to,
            "writing the log anew without records that nobody needs"
        );
        Rewrite::write(self.clone(), Header { dropped_to, ..self.header }, &records).map(Some)
    }
}

impl Rewrite {
    fn write(of: Snapshot, header: Header, records: &[Record]) -> Result<Rewrite> {
        let path = &of.path;
        let bytes = to_bytes(header, records);
        let file = faults::before(path)
            .and_then(|()| NamedTempFile::with_prefix_in(".itemlog-", folder_of(path)))
            .map_err(Error::io("write", path))?;
        let mut rewrite = Rewrite { file, header, length: 0, of };
        rewrite.write_on(&bytes)?;
        Ok(rewrite)
    }

    /// Takes up what the log has got meanwhile.
    pub fn catch_up(&mut self, now: &Snapshot) -> Result<()> {
        let bytes = now.bytes_since(&self.of)?;
        if !bytes.is_empty() {
            self.write_on(&bytes)?;
            self.of.end = now.end;
        }
        Ok(())
    }

    fn write_on(&mut self, bytes: &[u8]) -> Result<()> {
        let (file, path) = (self.file.as_file(), &self.of.path);
        let written =
            faults::write_all_at(file, path, bytes, self.length).and_then(|()| faults::sync(file, path));
        written.map_err(Error::io("write", path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Opens and locks the file at `path`, which may be a symbolic link, and makes one where there is none.
fn open_locked(path: &Path, numbering: Numbering, begin: Beginning) -> Result<(PathBuf, Locked)> {
    loop {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(path).is_ok_and(|named| named.is_symlink()) =>
            {
                return Err(Error::io("follow the symbolic link", path)(error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, numbering, begin)?;
                continue;
            }
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let file = File::options().read(true).write(true).open(&path).map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let used = io::Error::new(io::ErrorKind::ResourceBusy, "another LiveIndex writes this log");
                return Err(Error::io("lock", &path)(used));
            }
            Err(TryLockError::Error(error)) => debug!(%error, "no locks here; one process may write a log"),
        }
        let file = Locked(file);
        let opened = file.0.metadata().map_err(Error::io("read", &path))?;
        // The one who had it locked may have written it anew.
        if fs::metadata(&path).is_ok_and(|named| inode(&named) == inode(&opened)) {
            // The header is on disk before the first change is accepted, so there was none.
            if opened.len() < SHORTEST_HEADER as u64 {
                let header = Header { numbering, next: begin.next, dropped_to: begin.dropped_to };
                let written = file.0.write_all_at(&to_bytes(header, &[]), 0).and_then(|()| file.0.sync_all());
                written.map_err(Error::io("write", &path))?;
            }
            return Ok((path, file));
        }
    }
}

/// Makes a log without records, unless somebody else does at this moment.
fn create(path: &Path, numbering: Numbering, begin: Beginning) -> Result<()> {
    let header = Header { numbering, next: begin.next, dropped_to: begin.dropped_to };
    let create = || {
        let folder = File::open(folder_of(path))?;
        faults::before(path)?;
        let file = NamedTempFile::with_prefix_in(".itemlog-", folder_of(path))?;
        faults::write_all_at(file.as_file(), path, &to_bytes(header, &[]), 0)?;
        faults::sync(file.as_file(), path)?;
        faults::before(path)?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
        folder.sync_all()
    };
    create().map_err(Error::io("write", path))
}

/// The last position of the log at `path`, and its changes.
#[cfg(test)]
pub(super) fn contents(path: &Path) -> Result<(u64, Vec<(u64, Change)>)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let Contents { header, records, .. } = parse(&bytes, path)?;
    Ok((header.next - 1, records.into_iter().map(|record| (record.position, record.change)).collect()))
}

/// What tests/fuzz does with a log, without the threads that would take most of its time: what is read of it
/// stands in it the next time too, with what was added.
#[cfg(fuzzing)]
pub fn fuzz(path: &Path) {
    let bits =
        |records: &[Record]| frame_of(records.iter().map(|record| (record.position, &record.change)), 0, 0);
    let begin = Beginning { next: 1, dropped_to: 0 };
    for numbering in [Numbering::Own, Numbering::Fed] {
        let open = || Log::open(path, SyncPolicy::Never, numbering, begin);
        let Ok(mut log) = open() else { continue };
        let mut records = log.snapshot().read().expect("what opened is read again");
        let (position, change) = (log.position() + 1, Change::Delete { id: 77 });
        log.append(&[(position, change.clone())]).expect("an append");
        records.push(Record { position, time: 0, change });
        drop(log);
        let log = open().expect("what opened once opens again");
        assert_eq!(bits(&log.snapshot().read().expect("what opened is read again")), bits(&records));
    }
}
