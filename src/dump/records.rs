use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use half::{bf16, f16};

use crate::limits::MAX_DIM;
use crate::{Error, Result, RowFormat};

/// How a value is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Bool,
    U8,
    I8,
    F16,
    #[cfg_attr(not(feature = "safetensors"), expect(dead_code, reason = "no other format has it"))]
    BF16,
    F32,
    F64,
    U32,
    I32,
    U64,
    I64,
}

/// What -1 is read as where it stands for no item.
pub(super) const NO_ITEM: u64 = u64::MAX;

impl Value {
    fn bytes(self) -> usize {
        match self {
            Value::Bool | Value::U8 | Value::I8 => 1,
            Value::F16 | Value::BF16 => 2,
            Value::F32 | Value::U32 | Value::I32 => 4,
            Value::F64 | Value::U64 | Value::I64 => 8,
        }
    }
}

/// Where the rows of a file lie: rows of `width` values one after another from byte `start`, each after
/// `prefix` bytes.
pub(super) struct Layout {
    pub start: u64,
    pub value: Value,
    pub prefix: usize,
    pub width: usize,
    pub rows: u64,
}

/// A file of rows of one width, read front to back.
pub(super) struct Records {
    path: PathBuf,
    reader: BufReader<File>,
    layout: Layout,
    next: u64,
    bytes: Vec<u8>,
}

impl Records {
    /// A reader of the rows of `file`.
    ///
    /// # Errors
    /// [`Error::BadDump`] if the length of the file is not what the layout says.
    pub fn new(path: &Path, file: File, layout: Layout) -> Result<Records> {
        let found = length(path, &file)?;
        let row_bytes = (layout.prefix + layout.width * layout.value.bytes()) as u64;
        let expected = layout.rows.checked_mul(row_bytes).and_then(|bytes| bytes.checked_add(layout.start));
        if expected != Some(found) {
            let (rows, width) = (layout.rows, layout.width);
            let whole = found.saturating_sub(layout.start).checked_div(row_bytes).unwrap_or(rows).min(rows);
            let expected = expected.map_or("more".to_owned(), |bytes| bytes.to_string());
            let problem = format!(
                "its header says {rows} rows of dim {width}, {expected} bytes in all, but the file has {found}; \
                 {whole} rows are whole: was it cut short, or still being written?"
            );
            return Err(Error::dump(path, problem));
        }
        Records::within(path, file, layout)
    }

    /// A reader of rows that the caller knows to lie within `file`.
    pub fn within(path: &Path, mut file: File, layout: Layout) -> Result<Records> {
        file.seek(SeekFrom::Start(layout.start)).map_err(Error::io("read", path))?;
        let reader = BufReader::with_capacity(1 << 20, file);
        Ok(Records { path: path.to_owned(), reader, layout, next: 0, bytes: Vec::new() })
    }

    /// Opens an `.fbin`: an `i32` number of rows, an `i32` dim, then rows of `f32`.
    pub fn open_fbin(path: &Path) -> Result<Records> {
        let mut file = open(path)?;
        let [rows, dim] = read_header(path, &mut file)?;
        let (Ok(rows), Ok(width)) = (u64::try_from(rows), usize::try_from(dim)) else {
            return Err(Error::dump(
                path,
                format!("its header says {rows} rows of dim {dim}; is it an .fbin?"),
            ));
        };
        Records::new(path, file, Layout { start: 8, value: Value::F32, prefix: 0, width, rows })
    }

    /// Opens an `.fvecs`: each row is an `i32` dim, then `f32` values.
    pub fn open_fvecs(path: &Path) -> Result<Records> {
        let mut file = open(path)?;
        let [dim] = read_header(path, &mut file)?;
        let width =
            usize::try_from(dim).ok().filter(|width| (1..=MAX_DIM).contains(width)).ok_or_else(|| {
                Error::dump_row(path, 0, format!("its dim is {dim}, which is not within 1 to {MAX_DIM}"))
            })?;
        let rows = length(path, &file)?.div_ceil(4 + 4 * width as u64);
        Records::new(path, file, Layout { start: 0, value: Value::F32, prefix: 4, width, rows })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn width(&self) -> usize {
        self.layout.width
    }

    pub fn format(&self) -> RowFormat {
        match self.layout.value {
            Value::F16 => RowFormat::F16,
            _ => RowFormat::F32,
        }
    }

    pub fn rows(&self) -> u64 {
        self.layout.rows
    }

    /// Appends the next rows, at most `most`, as floats.
    pub fn read_floats(&mut self, most: usize, out: &mut Vec<f32>) -> Result<()> {
        self.read(most)?;
        let (value, prefix) = (self.layout.value, self.layout.prefix);
        for (row, bytes) in self.bytes.chunks_exact(self.row_bytes()).enumerate() {
            let (dim, values) = bytes.split_at(prefix);
            if prefix > 0 && dim != (self.layout.width as i32).to_le_bytes() {
                let problem = format!("its dim is not {} as row 0's is", self.layout.width);
                return Err(Error::dump_row(&self.path, self.next - self.left_behind(row), problem));
            }
            match value {
                Value::F16 => out.extend(each::<u16>(values).map(|bits| f16::from_bits(bits).to_f32())),
                Value::BF16 => out.extend(each::<u16>(values).map(|bits| bf16::from_bits(bits).to_f32())),
                Value::F64 => out.extend(each::<f64>(values).map(|value| value as f32)),
                _ => out.extend(each::<f32>(values)),
            }
        }
        Ok(())
    }

    /// Appends the values of the next rows, at most `most`, as ids. With `fills`, -1 becomes [`NO_ITEM`].
    pub fn read_ids(&mut self, most: usize, fills: bool, out: &mut Vec<u64>) -> Result<()> {
        self.read(most)?;
        let before = out.len();
        match self.layout.value {
            Value::U64 => out.extend(each::<u64>(&self.bytes)),
            Value::U32 => out.extend(each::<u32>(&self.bytes).map(u64::from)),
            // Negative ids wrap to the upper half here and are found below.
            Value::I64 => out.extend(each::<i64>(&self.bytes).map(|id| id as u64)),
            _ => out.extend(each::<i32>(&self.bytes).map(|id| i64::from(id) as u64)),
        }
        let signed = matches!(self.layout.value, Value::I64 | Value::I32);
        match out[before..].iter().position(|&id| signed && id > i64::MAX as u64 && !(fills && id == NO_ITEM))
        {
            Some(at) => {
                let row = at / self.layout.width.max(1);
                let problem =
                    format!("its id {} is negative; item ids are unsigned", out[before + at] as i64);
                Err(Error::dump_row(&self.path, self.next - self.left_behind(row), problem))
            }
            None => Ok(()),
        }
    }

    /// The values of the next rows, at most `most`, as numbers: `f64` where they are reals, else integers.
    pub fn read_numbers(&mut self, most: usize) -> Result<Numbers> {
        self.read(most)?;
        let bytes = &self.bytes;
        Ok(match self.layout.value {
            Value::F16 => {
                Numbers::Reals(each::<u16>(bytes).map(|bits| f16::from_bits(bits).into()).collect())
            }
            Value::BF16 => {
                Numbers::Reals(each::<u16>(bytes).map(|bits| bf16::from_bits(bits).into()).collect())
            }
            Value::F32 => Numbers::Reals(each::<f32>(bytes).map(f64::from).collect()),
            Value::F64 => Numbers::Reals(each(bytes).collect()),
            Value::Bool | Value::U8 => Numbers::Integers(bytes.iter().map(|&value| value.into()).collect()),
            Value::I8 => Numbers::Integers(each::<i8>(bytes).map(i128::from).collect()),
            Value::U32 => Numbers::Integers(each::<u32>(bytes).map(i128::from).collect()),
            Value::I32 => Numbers::Integers(each::<i32>(bytes).map(i128::from).collect()),
            Value::U64 => Numbers::Integers(each::<u64>(bytes).map(i128::from).collect()),
            Value::I64 => Numbers::Integers(each::<i64>(bytes).map(i128::from).collect()),
        })
    }

    /// Reads the bytes of the next rows, at most `most`.
    fn read(&mut self, most: usize) -> Result<()> {
        let rows = (self.layout.rows - self.next).min(most as u64);
        self.bytes.resize(rows as usize * self.row_bytes(), 0);
        self.reader.read_exact(&mut self.bytes).map_err(Error::io("read", &self.path))?;
        self.next += rows;
        Ok(())
    }

    /// How far before `next` the `row`-th of the rows just read stands.
    fn left_behind(&self, row: usize) -> u64 {
        (self.bytes.len() / self.row_bytes() - row) as u64
    }

    fn row_bytes(&self) -> usize {
        self.layout.prefix + self.layout.width * self.layout.value.bytes()
    }
}

/// Values of an array.
pub(super) enum Numbers {
    Integers(Vec<i128>),
    Reals(Vec<f64>),
}

/// The values in `bytes`, which need not be aligned.
fn each<T: AnyBitPattern>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

pub(super) fn open(path: &Path) -> Result<File> {
    // Checked before the file is opened, since opening a pipe would wait for someone to write to it.
    let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if !metadata.is_file() {
        return Err(Error::dump(path, "it is not a regular file; write the dump to one"));
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    match length(path, &file)? {
        0 => Err(Error::dump(path, "it is empty: the file has no bytes")),
        _ => Ok(file),
    }
}

pub(super) fn length(path: &Path, file: &File) -> Result<u64> {
    file.metadata().map(|metadata| metadata.len()).map_err(Error::io("open", path))
}

fn read_header<const N: usize>(path: &Path, file: &mut File) -> Result<[i32; N]> {
    let mut header = [0i32; N];
    match file.read_exact(bytemuck::bytes_of_mut(&mut header)) {
        Ok(()) => Ok(header),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Error::dump(path, format!("the file ends within its header of {} bytes", 4 * N)))
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}
