//! The headers of a parquet file's pages, looked at before the parquet crate reads them.
//!
//! A page begins with what it unpacks to, and that crate reserves as much, up to 2 GiB, before it has unpacked a byte.
//! So what a header says is compared with the bytes of its page first. Headers are in Thrift's compact protocol; of
//! their fields three are of interest here, and the rest is skipped.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::ops::Range;

/// A page may unpack to so many bytes, or if its bytes are many to so many times as much: writers make pages of some
/// MiB, and a rare one of equal rows shrinks more than this.
const MOST: i64 = 64 << 20;
const MOST_TIMES: i64 = 256;

/// Structs within structs, at most; headers have two.
const DEPTH: usize = 8;

/// What is wrong with the headers of the pages that lie in `chunk`, if anything is.
pub(super) fn problem(file: &File, chunk: Range<u64>) -> io::Result<Option<String>> {
    let mut bytes = BufReader::with_capacity(1 << 12, file);
    bytes.seek(io::SeekFrom::Start(chunk.start))?;
    loop {
        let at = bytes.stream_position()?;
        if at >= chunk.end {
            return Ok(None);
        }
        let header = match read_header(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            header => header?,
        };
        let Some(Sizes { unpacked, packed }) = header else {
            return Ok(Some(format!("the page at byte {at} has no header")));
        };
        if unpacked > MOST.max(packed.saturating_mul(MOST_TIMES)) {
            let problem = format!(
                "the page at byte {at} says that its {packed} bytes unpack to {unpacked}; if that is so, write smaller pages"
            );
            return Ok(Some(problem));
        }
        bytes.seek_relative(packed)?;
    }
}

/// The bytes of a page as it lies in the file, and unpacked.
struct Sizes {
    packed: i64,
    unpacked: i64,
}

/// `None` where the bytes are no header.
fn read_header(bytes: &mut impl Read) -> io::Result<Option<Sizes>> {
    let (mut unpacked, mut packed, mut id) = (None, None, 0);
    loop {
        let kind = match field(bytes, &mut id)? {
            0 => break,
            kind => kind,
        };
        let value = match (id, kind) {
            (2, 5) => &mut unpacked,
            (3, 5) => &mut packed,
            _ if skip(bytes, kind, DEPTH)? => continue,
            _ => return Ok(None),
        };
        let Some(size) = varint(bytes)? else { return Ok(None) };
        // Zigzag, where even numbers are positive ones doubled.
        *value = Some((size / 2) as i64).filter(|_| size.is_multiple_of(2));
    }
    Ok(packed.zip(unpacked).map(|(packed, unpacked)| Sizes { packed, unpacked }))
}

/// The kind of the next field of a struct, 0 at its end; `id` becomes its number.
fn field(bytes: &mut impl Read, id: &mut i64) -> io::Result<u8> {
    let first = byte(bytes)?;
    *id = match first >> 4 {
        0 if first != 0 => varint(bytes)?.map_or(-1, |id| (id / 2) as i64),
        step => *id + i64::from(step),
    };
    Ok(first & 15)
}

/// Skips a value of a kind; `false` where headers have none of that kind.
fn skip(bytes: &mut impl Read, kind: u8, depth: usize) -> io::Result<bool> {
    let length = match kind {
        // Booleans are in their kind.
        1 | 2 => 0,
        3 => 1,
        4..=6 => return Ok(varint(bytes)?.is_some()),
        7 => 8,
        8 => match varint(bytes)? {
            Some(length) => length,
            None => return Ok(false),
        },
        12 if depth > 0 => {
            let mut id = 0;
            loop {
                match field(bytes, &mut id)? {
                    0 => return Ok(true),
                    kind if skip(bytes, kind, depth - 1)? => {}
                    _ => return Ok(false),
                }
            }
        }
        _ => return Ok(false),
    };
    let skipped = io::copy(&mut bytes.take(length), &mut io::sink())?;
    if skipped == length { Ok(true) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Seven bits a byte, the lowest first; `None` for more than 64.
fn varint(bytes: &mut impl Read) -> io::Result<Option<u64>> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        value |= u64::from(next & 0x7F) << shift;
        if next < 0x80 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn byte(bytes: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    bytes.read_exact(&mut byte)?;
    Ok(byte[0])
}
