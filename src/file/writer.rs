use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytemuck::NoUninit;
use tempfile::TempPath;
use xxhash_rust::xxh3::Xxh3Default;

use super::header::{Section, Span};
use super::{Header, PAGE};
use crate::{Error, Result};

const BUFFER: usize = 1 << 20;

/// Writes an index file beside its final path and moves it there once it is whole.
///
/// Sections are written in the order of the file, front to back. A writer that is dropped before
/// [`FileWriter::publish`] removes what it wrote.
pub(crate) struct FileWriter {
    out: PathBuf,
    file: BufWriter<File>,
    /// Removes the file when dropped.
    temporary: TempPath,
    sections: Vec<Span>,
    open: Option<(u64, Xxh3Default)>,
    position: u64,
}

impl FileWriter {
    /// Creates the temporary file in the folder of `out`, so that the final rename stays on one file system.
    pub fn create(out: &Path) -> Result<FileWriter> {
        if out.is_dir() {
            return Err(Error::io("write", out)(io::ErrorKind::IsADirectory.into()));
        }
        // Readable by others as the umask allows: the serving process often runs as another user, and
        // tempfile's default lets only the owner read.
        let (file, temporary) = tempfile::Builder::new()
            .prefix(".itemdex-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder_of(out))
            .map_err(Error::io("create a file beside", out))?
            .into_parts();
        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.write_all(&[0; PAGE as usize]).map_err(Error::io("write", out))?;
        Ok(FileWriter {
            out: out.to_owned(),
            file,
            temporary,
            sections: Vec::new(),
            open: None,
            position: PAGE,
        })
    }

    /// The path of the finished file.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The unfinished file, with everything written so far in it.
    pub fn flushed(&mut self) -> Result<&File> {
        self.file.flush().map_err(Error::io("write", &self.out))?;
        Ok(self.file.get_ref())
    }

    /// Adds values to the section being written.
    pub fn write<T: NoUninit>(&mut self, values: &[T]) -> Result<()> {
        let bytes = bytemuck::cast_slice(values);
        let (_, checksum) = self.open.get_or_insert_with(|| (self.position, Xxh3Default::new()));
        checksum.update(bytes);
        self.put(bytes)
    }

    /// Ends the section being written, which may be empty.
    pub fn end_section(&mut self) -> Result<()> {
        let (offset, checksum) = self.open.take().unwrap_or_else(|| (self.position, Xxh3Default::new()));
        let length = self.position - offset;
        self.sections.push(Span { offset, length, checksum: checksum.digest() });
        let gap = self.position.next_multiple_of(PAGE) - self.position;
        self.put(&[0; PAGE as usize][..gap as usize])
    }

    /// Writes one whole section.
    pub fn write_section<T: NoUninit>(&mut self, values: &[T]) -> Result<()> {
        self.write(values)?;
        self.end_section()
    }

    /// Writes the header and makes the file appear at its path, whole or not at all: syncs the file, renames
    /// it, then syncs the folder. Returns the length of the file in bytes.
    ///
    /// # Panics
    /// If a section was not written, other than those of columns.
    pub fn publish(self, mut header: Header) -> Result<u64> {
        let whole = [Section::WITHOUT_COLUMNS, Section::ALL.len()];
        assert!(whole.contains(&self.sections.len()), "every section is written before the header");
        header.set_spans(&self.sections);
        header.file_length = self.position;
        let failed = Error::io("write", &self.out);
        self.finish(header.seal()).map_err(failed)?;
        Ok(header.file_length)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.out))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self, header: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        self.temporary.persist(&self.out).map_err(|error| error.error)?;
        File::open(folder_of(&self.out))?.sync_all()
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
