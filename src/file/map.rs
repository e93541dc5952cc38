use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use memmap2::{Mmap, MmapOptions};
use xxhash_rust::xxh3::xxh3_64;

use super::{Header, PAGE, Section};
use crate::{Error, Result};

/// A mapped index file whose header and section bounds were checked.
pub(crate) struct IndexFile {
    path: PathBuf,
    header: Header,
    map: Mmap,
    residence: Residence,
}

/// Where the bytes of an index file are read from, and what opening does with its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Residence {
    /// Copies the file into anonymous memory instead of mapping it.
    pub resident: bool,
    /// Reads all pages into memory.
    pub prefault: bool,
    /// Reads all pages into memory and keeps them there.
    pub lock: bool,
}

impl IndexFile {
    /// Maps the file and checks its header. Reads one page at any size of the file, unless `residence` asks
    /// for more.
    pub fn open(path: &Path, residence: Residence) -> Result<IndexFile> {
        // Checked before the file is opened, since opening a pipe would wait for someone to write to it.
        let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            let problem = "it is not a regular file".to_owned();
            return Err(Error::NotAnIndex { path: path.to_owned(), problem });
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("open", path))?;
        // Read and not mapped: if somebody cuts the file short meanwhile, a read is an error, and a map kills
        // the process.
        let mut page = [0; PAGE as usize];
        let page = &mut page[..metadata.len().min(PAGE) as usize];
        file.read_exact_at(page, 0).map_err(Error::io("read", path))?;
        let header = Header::read(page, metadata.len(), path)?;
        let map = map_file(&file, metadata.len()).map_err(Error::io("map", path))?;
        let map = match residence.resident {
            true => copy_file(&file, map.len()).map_err(Error::io("copy into memory", path))?,
            false => map,
        };
        if residence.prefault && !residence.resident {
            fault_in(&map).map_err(Error::io("read into memory", path))?;
        }
        if residence.lock {
            map.lock().map_err(Error::io("lock in memory (see `ulimit -l`)", path))?;
        }
        Ok(IndexFile { path: path.to_owned(), header, map, residence })
    }

    pub fn residence(&self) -> Residence {
        self.residence
    }

    /// How many bytes of the map lie on huge pages, as Linux reports it; 0 on other systems.
    pub fn huge_bytes(&self) -> u64 {
        let start = self.map.as_ptr() as usize;
        huge_bytes(start..start + self.map.len()).unwrap_or(0)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The values of a section, in place.
    pub fn section<T: Pod>(&self, section: Section) -> &[T] {
        bytemuck::cast_slice(&self.map[self.range(section)])
    }

    /// Compares a section with its checksum, and the gap after it with zeros.
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

    /// The error for a section whose `value`-th value is wrong.
    pub fn wrong(&self, section: Section, value: usize, problem: String) -> Error {
        let width = match section {
            Section::Ids => 8,
            Section::Rows => self.header.row_format().value_bytes(),
            Section::QuantizedRows
            | Section::Moments
            | Section::Codes
            | Section::Columns
            | Section::ColumnDirectory => 1,
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
pub(crate) fn map_rows(file: &File, bytes: usize, path: &Path) -> Result<MappedRows> {
    let map = map_file(file, PAGE + bytes as u64).map_err(Error::io("map", path))?;
    Ok(MappedRows(map))
}

/// The rows section of an unfinished file.
pub(crate) struct MappedRows(Mmap);

impl MappedRows {
    pub fn bytes(&self) -> &[u8] {
        &self.0[PAGE as usize..]
    }
}

/// Copies the file into anonymous memory, on huge pages where the system has them. A random read then seldom
/// misses the processor's cache of page addresses.
fn copy_file(file: &File, length: usize) -> std::io::Result<Mmap> {
    let mut copy = MmapOptions::new().len(length).map_anon()?;
    #[cfg(target_os = "linux")]
    if let Err(error) = copy.advise(memmap2::Advice::HugePage) {
        tracing::warn!(%error, "no huge pages");
    }
    file.read_exact_at(&mut copy, 0)?;
    copy.make_read_only()
}

fn fault_in(map: &Mmap) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    if map.advise(memmap2::Advice::PopulateRead).is_ok() {
        return Ok(());
    }
    // Older systems cannot do that: read a byte of each page.
    let sum = map.iter().step_by(PAGE as usize).fold(0, |sum: u8, &byte| sum.wrapping_add(byte));
    std::hint::black_box(sum);
    Ok(())
}

/// The bytes on huge pages in the mappings that overlap `range`, at most as many as `range` has.
fn huge_bytes(range: Range<usize>) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut within, mut bytes) = (false, 0);
    for line in maps.lines() {
        let (first, rest) = line.split_once([' ', ':'])?;
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16));
            within = start.is_ok_and(|start| start < range.end) && end.is_ok_and(|end| end > range.start);
        } else if within && first == "AnonHugePages" {
            bytes += rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
        }
    }
    Some(bytes.min(range.len() as u64))
}

#[allow(unsafe_code)]
fn map_file(file: &File, length: u64) -> std::io::Result<Mmap> {
    let length = usize::try_from(length).map_err(std::io::Error::other)?;
    // SAFETY: the map is read-only and shared. Its bytes are only ever read as plain integers and floats, for
    // which every bit pattern is a value, and each use is bounds-checked, so a file that another process
    // alters gives wrong values, not undefined ones. A file cut short while mapped raises SIGBUS, which no
    // reader of a map can prevent: finished files are never changed in place, only replaced by a rename (see
    // `FileWriter`), and docs/serving.md says so to those who publish them by other means.
    unsafe { MmapOptions::new().len(length).map(file) }
}
