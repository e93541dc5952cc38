//! The log of fresh items: what was upserted and deleted, in order, on disk before it counts.
//!
//! A header, then frames. A frame holds the changes that were made durable together, and a checksum over them; it is
//! written only when the frame before it is. So a crash can tear the last frame at most, of which nothing was
//! acknowledged, and it is cut. A frame that does not hold with whole ones behind it is not a crash but damage, and is an error.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use tempfile::NamedTempFile;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::catalog::List;
use super::lock::Lock;
use super::positions::MAX_POSITION;
use crate::vectors::problem_with;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"itemlog\0";
const MARK: [u8; 8] = *b"\xf5frame\n\0";
const FORMAT: u32 = 1;

/// In a frame's flags: all before it was synced when it was written.
const AFTER_SYNC: u32 = 1;

/// A frame that does not follow on from a crash is not larger.
const MAX_FRAME: usize = 1 << 30;

/// A log is written anew when it has doubled, and not below this.
const SMALL: u64 = 16 << 20;

/// Records a frame where a log is written anew.
const RECORDS_A_FRAME: usize = 1024;

/// When a change counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// On disk before it is acknowledged. Changes made at once share a sync.
    Always,
    /// With the operating system when it is acknowledged, and on disk so much later: a process that is killed loses
    /// nothing, a host that stops may lose this long.
    Every(Duration),
    /// With the operating system when it is acknowledged, and on disk when that sees fit.
    Never,
}

/// A change to the items.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Upsert { model_version: String, id: u64, embedding: Vec<f32> },
    Delete { id: u64 },
}

/// A change and its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub position: u64,
    pub change: Change,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    format: u32,
    reserved: u32,
    /// The position of the next record, if there is none in the file.
    next: u64,
    checksum: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Frame {
    mark: [u8; 8],
    /// Bytes behind this.
    length: u32,
    flags: u32,
    checksum: u64,
}

const HEADER: usize = size_of::<Header>();
const FRAME: usize = size_of::<Frame>();

pub(super) struct Log {
    path: PathBuf,
    file: File,
    policy: SyncPolicy,
    /// Where the next frame goes; beyond it there may be rubbish of one that failed.
    end: u64,
    next: u64,
    /// How much of it is synced.
    synced: u64,
    last_sync: Instant,
    /// The length at which it was last written anew.
    compacted: u64,
    /// Held as long as this is.
    _lock: Lock,
}

/// What a log's bytes hold.
struct Contents {
    records: Vec<Record>,
    next: u64,
    /// Where the last whole frame ends.
    end: usize,
}

impl Log {
    /// Opens a log, or begins one at `first`. A torn end is cut.
    pub fn open(path: &Path, policy: SyncPolicy, first: u64) -> Result<Log> {
        let lock_path = path.with_added_extension("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io("write", &lock_path))?;
        if lock.try_lock().is_err() {
            let used = io::Error::new(io::ErrorKind::ResourceBusy, "another LiveIndex writes this log");
            return Err(Error::io("lock", path)(used));
        }
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(Error::io("read", path))?,
        };
        if bytes.len() < HEADER {
            // The header is synced before the first change is accepted, so nothing was acknowledged.
            let Written { folder, .. } = write_new(path, first, &[])?;
            folder.sync_all().map_err(Error::io("sync the folder of", path))?;
        }
        let bytes =
            if bytes.len() < HEADER { fs::read(path).map_err(Error::io("read", path))? } else { bytes };
        let Contents { records, next, end } = parse(&bytes, path)?;
        let file = File::options().read(true).write(true).open(path).map_err(Error::io("write", path))?;
        if end < bytes.len() {
            warn!(path = %path.display(), bytes = bytes.len() - end, "cut the torn end of the log; nothing of it was acknowledged");
            file.set_len(end as u64).map_err(Error::io("cut", path))?;
        }
        file.sync_all().map_err(Error::io("sync", path))?;
        info!(path = %path.display(), records = records.len(), next, "opened the log of fresh items");
        let (path, end, last_sync) = (path.to_owned(), end as u64, Instant::now());
        Ok(Log { path, file, policy, end, next, synced: end, last_sync, compacted: end, _lock: Lock(lock) })
    }

    /// The position of the last record, or of the last that there was.
    pub fn position(&self) -> u64 {
        self.next - 1
    }

    /// All records, read again.
    pub fn records(&self) -> Result<Vec<Record>> {
        let bytes = fs::read(&self.path).map_err(Error::io("read", &self.path))?;
        let whole = bytes.get(..self.end as usize).unwrap_or(&bytes);
        Ok(parse(whole, &self.path)?.records)
    }

    /// Writes changes as one frame, and syncs it as the policy says. The error leaves the log as it was. Returns the
    /// position of the first.
    pub fn append<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> Result<u64> {
        let first = self.next;
        let flags = if self.synced == self.end { AFTER_SYNC } else { 0 };
        let (frame, count) = frame_of((first..).zip(changes), flags);
        if let Err(error) = self.write(&frame) {
            // What stands behind the end is written over by the next frame, and cut when the log is opened.
            let _ = self.file.set_len(self.end);
            return Err(Error::io("write", &self.path)(error));
        }
        self.next += count;
        Ok(first)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.write_all_at(frame, self.end)?;
        let due = match self.policy {
            SyncPolicy::Always => true,
            SyncPolicy::Every(time) => self.last_sync.elapsed() >= time,
            SyncPolicy::Never => false,
        };
        if due {
            self.file.sync_data()?;
            self.last_sync = Instant::now();
        }
        self.end += frame.len() as u64;
        if due {
            self.synced = self.end;
        }
        Ok(())
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
        self.last_sync = Instant::now();
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        self.synced = self.end;
        Ok(())
    }

    /// Whether it has grown so much that writing it anew pays.
    pub fn has_grown(&self) -> bool {
        self.end > SMALL.max(2 * self.compacted)
    }

    /// Writes the log anew with those records that a generation of the catalog may still need, and moves it into place.
    pub fn compact(&mut self, list: &List) -> Result<()> {
        let records = self.records()?;
        let before = records.len();
        let needed = needed(records, list);
        self.compacted = self.end;
        if needed.len() == before {
            return Ok(());
        }
        let path = &self.path;
        let Written { file, length, folder } = write_new(path, self.next, &needed)?;
        // From here on changes go to the new file, whatever else fails: the old one has no name any more.
        (self.file, self.end, self.synced, self.compacted) = (file, length, length, length);
        folder.sync_all().map_err(Error::io("sync the folder of", path))?;
        info!(before, after = needed.len(), "dropped records of the log that the catalog has");
        Ok(())
    }
}

/// The records that count for some generation of the catalog or for one to come: the newest of an item, and later than
/// the dumps of all generations that it is laid over.
fn needed(records: Vec<Record>, list: &List) -> Vec<Record> {
    let had_by = |version: Option<&str>| {
        let of_version =
            list.generations.iter().filter(|one| version.is_none_or(|version| one.model_version == version));
        of_version.map(|generation| generation.log_position.unwrap_or(0)).min().unwrap_or(0)
    };
    let had_by_all = had_by(None);
    let (mut upserts, mut deletes) = (HashMap::new(), HashMap::new());
    for record in &records {
        match &record.change {
            Change::Upsert { model_version, id, .. } => {
                upserts.insert((model_version.clone(), *id), record.position)
            }
            Change::Delete { id } => deletes.insert(*id, record.position),
        };
    }
    let is_needed = |record: &Record| match &record.change {
        Change::Upsert { model_version, id, .. } => {
            upserts.get(&(model_version.clone(), *id)) == Some(&record.position)
                && deletes.get(id).is_none_or(|&deleted| deleted < record.position)
                && !list.retired.contains(model_version)
                && record.position > had_by(Some(model_version))
        }
        Change::Delete { id } => deletes.get(id) == Some(&record.position) && record.position > had_by_all,
    };
    records.into_iter().filter(is_needed).collect()
}

/// A log in its place.
struct Written {
    file: File,
    length: u64,
    /// Not synced yet.
    folder: File,
}

/// Writes a log beside its place and moves it there; after an error the one that was there still is.
fn write_new(path: &Path, next: u64, records: &[Record]) -> Result<Written> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut header = Header { magic: MAGIC, format: FORMAT, reserved: 0, next, checksum: 0 };
    header.checksum = xxh3_64(&bytemuck::bytes_of(&header)[..HEADER - 8]);
    let mut bytes = bytemuck::bytes_of(&header).to_vec();
    for records in records.chunks(RECORDS_A_FRAME) {
        let changes = records.iter().map(|record| (record.position, &record.change));
        bytes.extend(frame_of(changes, AFTER_SYNC).0);
    }
    let write = || {
        let opened = File::open(folder)?;
        let file = NamedTempFile::with_prefix_in(".itemlog-", folder)?;
        file.as_file().write_all_at(&bytes, 0)?;
        file.as_file().sync_all()?;
        let file = file.persist(path).map_err(|error| error.error)?;
        Ok(Written { file, length: bytes.len() as u64, folder: opened })
    };
    write().map_err(Error::io("write", path))
}

/// The bytes of a frame, and how many records it has.
fn frame_of<'a>(changes: impl Iterator<Item = (u64, &'a Change)>, flags: u32) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; FRAME];
    let mut count = 0;
    for (position, change) in changes {
        count += 1;
        bytes.extend(position.to_le_bytes());
        match change {
            Change::Upsert { model_version, id, embedding } => {
                bytes.extend([1, model_version.len() as u8]);
                bytes.extend((embedding.len() as u16).to_le_bytes());
                bytes.extend(id.to_le_bytes());
                bytes.extend(model_version.as_bytes());
                embedding.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            }
            Change::Delete { id } => {
                bytes.extend([2, 0, 0, 0]);
                bytes.extend(id.to_le_bytes());
            }
        }
    }
    let length = (bytes.len() - FRAME) as u32;
    let mut frame = Frame { mark: MARK, length, flags, checksum: 0 };
    frame.checksum = sum(&frame, &bytes[FRAME..]);
    bytes[..FRAME].copy_from_slice(bytemuck::bytes_of(&frame));
    (bytes, count)
}

fn sum(frame: &Frame, payload: &[u8]) -> u64 {
    xxh3_64(payload) ^ xxh3_64(&bytemuck::bytes_of(frame)[..FRAME - 8])
}

/// The flags and payload of the frame that `bytes` begin with, if it is whole.
fn whole_frame(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let frame: Frame = bytemuck::pod_read_unaligned(bytes.get(..FRAME)?);
    let payload = bytes[FRAME..].get(..frame.length as usize)?;
    let holds = frame.mark == MARK && payload.len() <= MAX_FRAME && frame.checksum == sum(&frame, payload);
    holds.then_some((frame.flags, payload))
}

fn parse(bytes: &[u8], path: &Path) -> Result<Contents> {
    let damaged = |offset: usize, problem: &str| {
        Err(Error::Damaged { path: path.to_owned(), offset: offset as u64, problem: problem.to_owned() })
    };
    let Some(header) = bytes.get(..HEADER) else { return damaged(0, "the log has no header") };
    let header: Header = bytemuck::pod_read_unaligned(header);
    if header.magic != MAGIC {
        return damaged(0, "it is not a log of fresh items");
    }
    if header.checksum != xxh3_64(&bytemuck::bytes_of(&header)[..HEADER - 8]) {
        return damaged(0, "the log's header does not match its checksum");
    }
    if header.format != FORMAT {
        return Err(Error::UnknownFormat { path: path.to_owned(), found: header.format, supported: FORMAT });
    }
    let (mut records, mut last, mut at) = (Vec::new(), 0, HEADER);
    while let Some((_, payload)) = whole_frame(&bytes[at..]) {
        if read_records(payload, &mut records).is_none() {
            return damaged(at, "a frame holds what is no change");
        }
        at += FRAME + payload.len();
    }
    for record in &records {
        if record.position <= last {
            return damaged(HEADER, "its positions do not ascend");
        }
        last = record.position;
    }
    let rest = &bytes[at..];
    let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let mut whole = marks.filter_map(|(place, _)| whole_frame(&rest[place..]));
    if whole.any(|(flags, _)| flags & AFTER_SYNC != 0) {
        return damaged(at, "a frame does not hold, and whole ones follow it");
    }
    if last.max(header.next) >= MAX_POSITION {
        return damaged(HEADER, "its positions are beyond what a log can come to");
    }
    let next = (last + 1).max(header.next);
    Ok(Contents { records, next, end: at })
}

fn read_records(mut bytes: &[u8], records: &mut Vec<Record>) -> Option<()> {
    while !bytes.is_empty() {
        let position = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let &[kind, version, dim @ ..] = bytes.split_off(..4)?.as_array::<4>()?;
        let id = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let change = match kind {
            1 => {
                let model_version = str::from_utf8(bytes.split_off(..version.into())?).ok()?.to_owned();
                let values = bytes.split_off(..4 * usize::from(u16::from_le_bytes(dim)))?;
                let values = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
                let embedding =
                    Some(values.collect()).filter(|values: &Vec<f32>| problem_with(values).is_none())?;
                Change::Upsert { model_version, id, embedding }
            }
            2 => Change::Delete { id },
            _ => return None,
        };
        records.push(Record { position, change });
    }
    Some(())
}

/// What tests/fuzz does with a log, without the threads that would take most of its time: what is read of it stands in it the
/// next time too, with what was added.
#[cfg(fuzzing)]
pub fn fuzz(path: &Path) {
    let bits =
        |records: &[Record]| frame_of(records.iter().map(|record| (record.position, &record.change)), 0).0;
    let Ok(mut log) = Log::open(path, SyncPolicy::Never, 1) else { return };
    let mut records = log.records().expect("what opened is read again");
    let change = Change::Delete { id: 77 };
    let position = log.append([&change].into_iter()).expect("an append");
    records.push(Record { position, change });
    drop(log);
    let log = Log::open(path, SyncPolicy::Never, 1).expect("what opened once opens again");
    assert_eq!(bits(&log.records().expect("what opened is read again")), bits(&records));
}
