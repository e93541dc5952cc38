//! The bytes of a log: a header, then frames.
//!
//! ```text
//! header   mark [u8; 8]   format u32   numbering u32   next u64   dropped_to u64
//!          length u64     checksum u64
//! frame    mark [u8; 8]   length u32   flags u32       time u64   checksum u64     then `length` bytes of records
//! record   position u64   kind u8      version length u8   dim u16   id u64
//!          and for an upsert the model version and `dim` values of f32,
//!          and for an upsert with values or a setting of them their length u32 and the values (values.rs)
//! ```
//!
//! The kinds are 1 upsert, 2 deletion, 3 upsert with values, 4 setting of values.
//!
//! All little-endian. A frame holds the changes that were made durable together. The header's length is that
//! of the file when it was written anew: so much of it was on disk before it had its name, and no crash tears
//! it. Format 1, which is read too, has neither `dropped_to` nor that length in its header nor `time` in its
//! frames, and numbers changes itself.

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::xxh3_64;

use super::values::{read_values, write_values};
use crate::columns::Values;
use crate::live::change::{Change, MAX_POSITION, Numbering, bytes_of_values, seconds};
use crate::vectors::problem_with;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"itemlog\0";
const MARK: [u8; 8] = *b"\xf5frame\n\0";
pub(super) const FORMAT: u32 = 2;

/// In a frame's flags: all before it was synced when it was written.
pub(super) const AFTER_SYNC: u32 = 1;

/// A frame that does not follow on from a crash is not larger.
const MAX_FRAME: usize = 1 << 30;

/// Bytes of frames that are hashed to find a whole one behind a torn one, for each byte of the log.
const SEARCH: usize = 4;

/// Records a frame where a log is written anew.
const RECORDS_A_FRAME: usize = 1024;

/// A header begins with these, whatever its format.
pub(super) const SHORTEST_HEADER: usize = HEADER_1;
const HEADER_1: usize = 32;
const FRAME_1: usize = 24;

/// A change and its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::live) struct Record {
    pub position: u64,
    /// When it was logged, in seconds since 1970.
    pub time: u64,
    pub change: Change,
}

/// What a log's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub numbering: Numbering,
    /// The position of the next record, if there is none in the file.
    pub next: u64,
    /// Records up to here may be gone.
    pub dropped_to: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: u32,
    numbering: u32,
    next: u64,
    dropped_to: u64,
    length: u64,
    checksum: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawFrame {
    mark: [u8; 8],
    /// Bytes behind this.
    length: u32,
    flags: u32,
    time: u64,
    checksum: u64,
}

const HEADER: usize = size_of::<RawHeader>();
const FRAME: usize = size_of::<RawFrame>();

/// What a log's bytes hold.
pub(super) struct Contents {
    pub header: Header,
    /// None where the format knows no `dropped_to`.
    pub dropped_to: Option<u64>,
    pub records: Vec<Record>,
    /// Where the last whole frame ends.
    pub end: usize,
}

/// The bytes of a log with these records.
pub(super) fn to_bytes(header: Header, records: &[Record]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    for of_one_time in records.chunk_by(|a, b| a.time == b.time) {
        for records in of_one_time.chunks(RECORDS_A_FRAME) {
            let changes = records.iter().map(|record| (record.position, &record.change));
            bytes.extend(frame_of(changes, AFTER_SYNC, records[0].time));
        }
    }
    let Header { numbering, next, dropped_to } = header;
    let (numbering, length) = (numbering as u32, bytes.len() as u64);
    let mut raw =
        RawHeader { magic: MAGIC, format: FORMAT, numbering, next, dropped_to, length, checksum: 0 };
    raw.checksum = xxh3_64(&bytemuck::bytes_of(&raw)[..HEADER - 8]);
    bytes[..HEADER].copy_from_slice(bytemuck::bytes_of(&raw));
    bytes
}

/// The bytes of a frame.
pub(super) fn frame_of<'a>(
    changes: impl Iterator<Item = (u64, &'a Change)>,
    flags: u32,
    time: u64,
) -> Vec<u8> {
    let mut bytes = vec![0; FRAME];
    for (position, change) in changes {
        bytes.extend(position.to_le_bytes());
        match change {
            Change::Upsert { model_version, id, embedding, values } => {
                let kind = if values.is_empty() { 1 } else { 3 };
                bytes.extend([kind, model_version.len() as u8]);
                bytes.extend((embedding.len() as u16).to_le_bytes());
                bytes.extend(id.to_le_bytes());
                bytes.extend(model_version.as_bytes());
                embedding.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                if kind == 3 {
                    add_values(values, &mut bytes);
                }
            }
            Change::SetValues { id, values } => {
                bytes.extend([4, 0, 0, 0]);
                bytes.extend(id.to_le_bytes());
                add_values(values, &mut bytes);
            }
            Change::Delete { id } => {
                bytes.extend([2, 0, 0, 0]);
                bytes.extend(id.to_le_bytes());
            }
        }
    }
    let length = (bytes.len() - FRAME) as u32;
    let frame = RawFrame { mark: MARK, length, flags, time, checksum: 0 };
    bytes[..FRAME].copy_from_slice(bytemuck::bytes_of(&frame));
    let checksum = sum(&bytes[..FRAME - 8], &bytes[FRAME..]);
    bytes[FRAME - 8..FRAME].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn add_values(values: &Values, bytes: &mut Vec<u8>) {
    bytes.extend((bytes_of_values(values) as u32).to_le_bytes());
    write_values(values, bytes);
}

fn sum(frame: &[u8], payload: &[u8]) -> u64 {
    xxh3_64(payload) ^ xxh3_64(frame)
}

/// A frame of either format.
struct Frame<'a> {
    flags: u32,
    time: Option<u64>,
    payload: &'a [u8],
    length: usize,
}

/// The length that the frame at the start of `bytes` claims, if one begins there.
fn claimed(bytes: &[u8], head: usize) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.get(8..12)?.as_array()?) as usize;
    (bytes.starts_with(&MARK) && length <= MAX_FRAME && bytes.len() >= head + length).then_some(length)
}

/// The frame that `bytes` begin with, if it is whole; `head` is the length of what stands before its payload.
fn whole_frame(bytes: &[u8], head: usize) -> Option<Frame<'_>> {
    let length = claimed(bytes, head)?;
    let word = |at: usize| bytes[at..at + 8].as_array().copied().map(u64::from_le_bytes);
    let payload = &bytes[head..head + length];
    let holds = word(head - 8)? == sum(&bytes[..head - 8], payload);
    let flags = u32::from_le_bytes(*bytes[12..16].as_array()?);
    let time = if head == FRAME { word(16) } else { None };
    holds.then_some(Frame { flags, time, payload, length: head + length })
}

pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Contents> {
    let damaged = |offset: usize, problem: &str| {
        Err(Error::Damaged { path: path.to_owned(), offset: offset as u64, problem: problem.to_owned() })
    };
    if bytes.len() < SHORTEST_HEADER {
        return damaged(0, "the log has no header");
    }
    if bytes[..8] != MAGIC {
        return damaged(0, "it is not a log of fresh items");
    }
    let format = u32::from_le_bytes(*bytes[8..12].as_array().expect("four bytes"));
    let (header_length, frame_length) = match format {
        1 => (HEADER_1, FRAME_1),
        FORMAT => (HEADER, FRAME),
        found => return Err(Error::UnknownFormat { path: path.to_owned(), found, supported: FORMAT }),
    };
    let Some(raw) = bytes.get(..header_length) else { return damaged(0, "the log has no header") };
    let word = |at: usize| u64::from_le_bytes(*raw[at..at + 8].as_array().expect("eight bytes"));
    if word(header_length - 8) != xxh3_64(&raw[..header_length - 8]) {
        return damaged(0, "the log's header does not match its checksum");
    }
    let numbering = match (format, raw[12..16] == [0; 4], raw[12..16] == [1, 0, 0, 0]) {
        (1, ..) | (_, true, _) => Numbering::Own,
        (_, _, true) => Numbering::Fed,
        _ => return damaged(12, "nobody that the library knows numbers its changes"),
    };
    let (first, dropped_to) = (word(16), (format == FORMAT).then(|| word(24)));
    let (mut records, mut at, unknown_time) = (Vec::new(), header_length, seconds());
    while let Some(frame) = whole_frame(&bytes[at..], frame_length) {
        let time = frame.time.unwrap_or(unknown_time);
        if read_records(frame.payload, time, &mut records).is_none() {
            return damaged(at, "a frame holds what is no change");
        }
        at += frame.length;
    }
    if records.first().is_some_and(|record| record.position == 0)
        || !records.is_sorted_by_key(|record| record.position)
    {
        return damaged(header_length, "its positions do not ascend");
    }
    if format == FORMAT && (at as u64) < word(32) {
        return damaged(at, "a frame does not hold that was on disk before the log had its name");
    }
    if let Some(problem) = behind_torn(&bytes[at..], frame_length, bytes.len()) {
        return damaged(at, problem);
    }
    let last = records.last().map_or(0, |record| record.position);
    if last.max(first).max(dropped_to.unwrap_or(0)) >= MAX_POSITION {
        return damaged(header_length, "its positions are beyond what a log can come to");
    }
    let next = (last + 1).max(first);
    if dropped_to.is_some_and(|dropped_to| dropped_to >= next) {
        return damaged(24, "it says that records were dropped that it has not come to");
    }
    let header = Header { numbering, next, dropped_to: dropped_to.unwrap_or(0) };
    Ok(Contents { header, dropped_to, records, end: at })
}

/// What is wrong with a log whose frames stop holding where `rest` begins, unless it is the torn end that a
/// crash leaves.
fn behind_torn(rest: &[u8], head: usize, total: usize) -> Option<&'static str> {
    let mut left = SEARCH * total;
    let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    for (place, _) in marks {
        let Some(length) = claimed(&rest[place..], head) else { continue };
        // A log that was written by this library has few marks behind a torn end. One made to have many would
        // be hashed for each of them.
        let Some(fewer) = left.checked_sub(head + length) else {
            return Some("a frame does not hold, and more marks of frames follow it than a log has");
        };
        left = fewer;
        if whole_frame(&rest[place..], head).is_some_and(|frame| frame.flags & AFTER_SYNC != 0) {
            return Some("a frame does not hold, and whole ones follow it");
        }
    }
    None
}

/// Adds the records of a frame that is known to hold.
pub(super) fn read_frames(bytes: &[u8], records: &mut Vec<Record>) -> Option<()> {
    let mut at = 0;
    while at < bytes.len() {
        let frame = whole_frame(&bytes[at..], FRAME)?;
        read_records(frame.payload, frame.time?, records)?;
        at += frame.length;
    }
    Some(())
}

fn read_records(mut bytes: &[u8], time: u64, records: &mut Vec<Record>) -> Option<()> {
    while !bytes.is_empty() {
        let position = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let &[kind, version, dim @ ..] = bytes.split_off(..4)?.as_array::<4>()?;
        let id = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let change = match kind {
            1 | 3 => {
                let model_version = str::from_utf8(bytes.split_off(..version.into())?).ok()?.to_owned();
                let values = bytes.split_off(..4 * usize::from(u16::from_le_bytes(dim)))?;
                let values = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
                let embedding =
                    Some(values.collect()).filter(|values: &Vec<f32>| problem_with(values).is_none())?;
                let values = if kind == 3 { take_values(&mut bytes)? } else { Values::new() };
                Change::Upsert { model_version, id, embedding, values }
            }
            2 => Change::Delete { id },
            4 => Change::SetValues { id, values: take_values(&mut bytes)? },
            _ => return None,
        };
        records.push(Record { position, time, change });
    }
    Some(())
}

fn take_values(bytes: &mut &[u8]) -> Option<Values> {
    let length = u32::from_le_bytes(*bytes.split_off(..4)?.as_array()?) as usize;
    read_values(bytes.split_off(..length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: u32) -> Vec<u8> {
        let header = Header { numbering: Numbering::Own, next: 1, dropped_to: 0 };
        let records = [1, 2].map(|position| Record { position, time: position, change: Change::delete(7) });
        let bytes = to_bytes(header, &records);
        if format == FORMAT {
            return bytes;
        }
        let mut old = [&bytes[..8], &[1, 0, 0, 0], &bytes[12..24]].concat();
        old.extend(xxh3_64(&old).to_le_bytes());
        for frame in bytes[HEADER..].chunks(FRAME + 20) {
            let head = &frame[..16];
            old.extend([head, &sum(head, &frame[FRAME..]).to_le_bytes(), &frame[FRAME..]].concat());
        }
        old
    }

    #[test]
    fn a_log_of_format_1_is_read() {
        let path = Path::new("fresh.log");
        let contents = parse(&log(1), path).unwrap();
        let [first, second] = &*contents.records else { panic!("two records") };
        assert_eq!((first.position, second.position, &second.change), (1, 2, &Change::delete(7)));
        assert_eq!((contents.header.next, contents.dropped_to), (3, None));
        let contents = parse(&log(2), path).unwrap();
        assert_eq!((contents.records[1].time, contents.dropped_to), (2, Some(0)));
    }

    /// Each of the marks begins a frame that claims all that follows.
    #[test]
    fn a_log_made_of_marks_opens_in_linear_time() {
        let mut bytes = log(2);
        let end = bytes.len();
        let frames = 100_000;
        for frame in 0..frames {
            let left = (frames - frame - 1) * FRAME;
            let head = RawFrame { mark: MARK, length: left as u32, flags: 0, time: 0, checksum: 7 };
            bytes.extend(bytemuck::bytes_of(&head));
        }
        let error = parse(&bytes, Path::new("fresh.log")).err().unwrap().to_string();
        assert!(error.contains(&format!("byte {end}")) && error.contains("more marks"), "{error}");
    }
}
