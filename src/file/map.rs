use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use memmap2::{Mmap, MmapOptions};
use xxhash_rust::xxh3::xxh3_64;

use super::{Header, PAGE, Section};
use crate::{Error, Result};

/// A mapped index file whose header and section bounds hold.
pub(crate) struct IndexFile {
    path: PathBuf,
    header: Header,
    map: Mmap,
}

impl IndexFile {
    /// Maps the file and checks its header: one page is read, whatever the file's size.
    pub fn open(path: &Path) -> Result<IndexFile> {
        // Before it is opened: opening a pipe would wait for someone to write to it.
        let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            let problem = "it is not a regular file".to_owned();
            return Err(Error::NotAnIndex { path: path.to_owned(), problem });
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("open", path))?;
        let map = map_file(&file, metadata.len()).map_err(Error::io("map", path))?;
        let header = Header::read(&map[..map.len().min(PAGE as usize)], metadata.len(), path)?;
        Ok(IndexFile { path: path.to_owned(), header, map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// A section's values, in place.
    pub fn section<T: Pod>(&self, section: Section) -> &[T] {
        bytemuck::cast_slice(&self.map[self.range(section)])
    }

    /// Compares a section with its checksum, and the gap behind it with zeros.
    pub fn check(&self, section: Section) -> Result<()> {
        let range = self.range(section);
        let gap = range.end..range.end.next_multiple_of(PAGE as usize);
        if xxh3_64(&self.map[range.clone()]) != self.header.section(section).checksum {
            return Err(
                self.damaged(range.start, format!("section {} does not match its checksum", section.name()))
            );
        }
        match self.map[gap.clone()].iter().position(|&byte| byte != 0) {
            Some(at) => Err(self.damaged(gap.start + at, "a byte between sections is not zero".to_owned())),
            None => Ok(()),
        }
    }

    /// The error for a section whose values contradict each other.
    pub fn wrong(&self, section: Section, value: usize, problem: String) -> Error {
        let width = match section {
            Section::Ids => 8,
            Section::QuantizedRows => 1,
            _ => 4,
        };
        self.damaged(self.range(section).start + value * width, problem)
    }

    fn damaged(&self, offset: usize, problem: String) -> Error {
        Error::Damaged { path: self.path.clone(), offset: offset as u64, problem }
    }

    fn range(&self, section: Section) -> Range<usize> {
        let span = self.header.section(section);
        span.offset as usize..(span.offset + span.length) as usize
    }
}

/// Maps the rows of an index file that is still being written.
pub(crate) fn map_rows(file: &File, values: usize, path: &Path) -> Result<MappedRows> {
    let map = map_file(file, PAGE + values as u64 * 4).map_err(Error::io("map", path))?;
    Ok(MappedRows(map))
}

/// The rows section of an unfinished file.
pub(crate) struct MappedRows(Mmap);

impl MappedRows {
    pub fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0[PAGE as usize..])
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File, length: u64) -> std::io::Result<Mmap> {
    let length = usize::try_from(length).map_err(std::io::Error::other)?;
    // SAFETY: the map is read-only and shared. Its bytes are only ever read as plain integers and floats, for
    // which every bit pattern is a value, and each use is bounds-checked, so a file that another process alters
    // gives wrong values, not undefined ones. A file cut short while mapped raises SIGBUS, which no reader of
    // a map can prevent: finished files are never changed in place, only replaced by a rename
    // (see `FileWriter`), and docs/serving.md says so to those who publish them by other means.
    unsafe { MmapOptions::new().len(length).map(file) }
}
