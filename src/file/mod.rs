//! The generation file: a fixed header, then page-aligned sections, each with its checksum.
//!
//! `docs/format.md` specifies it byte by byte. [`Header`] is the first page as it lies in the file,
//! [`IndexFile`] a mapped file whose header and section bounds hold, [`FileWriter`] the only way one is made:
//! written to a temporary file, synced, then renamed into place.

mod header;
mod map;
mod writer;

pub(crate) use header::{Header, MAX_LAYERS, Section};
pub(crate) use map::{IndexFile, Residence, map_rows};
pub(crate) use writer::FileWriter;

/// Sections and the header are multiples of this many bytes apart.
pub(crate) const PAGE: u64 = 4096;
