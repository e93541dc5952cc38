//! The index file: a header of one page, then page-aligned sections, each with a checksum.
//!
//! `docs/format.md` specifies the file byte by byte.
//!
//! - [`Header`] is the first page as it stands in the file.
//! - [`IndexFile`] is a mapped file whose header and section bounds were checked.
//! - [`FileWriter`] makes a file: it writes a temporary file, syncs it, and renames it into place.

mod header;
mod map;
mod writer;

pub(crate) use header::{Header, MAX_LAYERS, Section};
pub(crate) use map::{IndexFile, Residence, map_rows};
pub(crate) use writer::FileWriter;

/// The header has this many bytes, and every section starts at a multiple of it.
pub(crate) const PAGE: u64 = 4096;
