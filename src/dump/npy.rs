use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use npyz::{NpyHeader, Order};

use super::records::{Layout, NO_ITEM, Records, Value, open};
use super::{IdLists, ScoreLists};
use crate::{Error, Result};

/// The longest header that is read. Plain arrays have one of 128 bytes; a crafted one could say gigabytes.
const MAX_HEADER: usize = 4096;

pub(super) fn open_embeddings(path: &Path) -> Result<Records> {
    let (file, header) = open_array(path)?;
    let [rows, dim] = *header.shape else {
        let problem = format!("its shape is {:?}; embeddings are 2-D, one row an item", header.shape);
        return Err(Error::dump(path, problem));
    };
    header.check_floats(path, "embeddings")?;
    header.records(path, file, rows, dim)
}

pub(super) fn open_ids(path: &Path) -> Result<Records> {
    let (file, header) = open_array(path)?;
    let [rows] = *header.shape else {
        return Err(Error::dump(path, format!("its shape is {:?}; ids are 1-D", header.shape)));
    };
    header.check_integers(path)?;
    header.records(path, file, rows, 1)
}

/// With `fills`, -1 stands for no item.
pub(super) fn read_id_lists(path: &Path, fills: bool) -> Result<IdLists> {
    let (file, header) = open_array(path)?;
    header.check_integers(path)?;
    let (rows, width, one) = match *header.shape {
        [length] => (length, 1, true),
        [lists, length] => (lists, length, false),
        _ => {
            let problem =
                format!("its shape is {:?}; lists of ids are 1-D, or 2-D with a row a user", header.shape);
            return Err(Error::dump(path, problem));
        }
    };
    let mut records = header.records(path, file, rows, width)?;
    let mut ids = Vec::new();
    // Lists of length 0 hold no values, however many lists there are.
    if width > 0 {
        records.read_ids(rows as usize, fills, &mut ids)?;
    }
    let mut ends: Vec<usize> = (1..=rows as usize).map(|list| list * width as usize).collect();
    if fills && header.is_signed() {
        let mut kept = Vec::with_capacity(ids.len());
        for (list, end) in ids.chunks(width.max(1) as usize).zip(&mut ends) {
            kept.extend(list.iter().filter(|&&id| id != NO_ITEM));
            *end = kept.len();
        }
        ids = kept;
    }
    Ok(IdLists { ids, ends: (!one).then_some(ends) })
}

/// The values of a column: one a row in a 1-D array, or in a 2-D one so many as it is wide.
pub(super) fn open_column(path: &Path) -> Result<(Records, bool)> {
    let (file, header) = open_array(path)?;
    match *header.shape {
        [rows] => Ok((header.records(path, file, rows, 1)?, false)),
        [rows, width] if width > 0 => Ok((header.records(path, file, rows, width)?, true)),
        _ => {
            let problem = format!(
                "its shape is {:?}; columns are 1-D, or for tags 2-D with a row an item",
                header.shape
            );
            Err(Error::dump(path, problem))
        }
    }
}

pub(super) fn read_score_lists(path: &Path) -> Result<ScoreLists> {
    let (file, header) = open_array(path)?;
    let [lists, length] = *header.shape else {
        let problem = format!("its shape is {:?}; lists of scores are 2-D with a row a user", header.shape);
        return Err(Error::dump(path, problem));
    };
    header.check_floats(path, "scores")?;
    let mut records = header.records(path, file, lists, length)?;
    let mut scores = Vec::new();
    if length > 0 {
        records.read_floats(lists as usize, &mut scores)?;
    }
    Ok(ScoreLists { scores, length: length as usize, lists: lists as usize })
}

struct Header {
    start: u64,
    value: Value,
    shape: Vec<u64>,
}

impl Header {
    fn records(&self, path: &Path, file: File, rows: u64, width: u64) -> Result<Records> {
        let Some(width) = usize::try_from(width).ok().filter(|&width| width <= u32::MAX as usize) else {
            return Err(Error::dump(path, format!("rows of {width} values are too long")));
        };
        Records::new(path, file, Layout { start: self.start, value: self.value, prefix: 0, width, rows })
    }

    fn is_signed(&self) -> bool {
        matches!(self.value, Value::I64 | Value::I32)
    }

    fn check_floats(&self, path: &Path, what: &str) -> Result<()> {
        match self.value {
            Value::F16 | Value::F32 | Value::F64 => Ok(()),
            _ => {
                Err(Error::dump(path, format!("its values are {:?}; {what} are f16, f32 or f64", self.value)))
            }
        }
    }

    fn check_integers(&self, path: &Path) -> Result<()> {
        match self.value {
            Value::U64 | Value::I64 | Value::U32 | Value::I32 => Ok(()),
            _ => Err(Error::dump(
                path,
                format!("its values are {:?}; ids are u64, i64, u32 or i32", self.value),
            )),
        }
    }
}

fn open_array(path: &Path) -> Result<(File, Header)> {
    let mut file = open(path)?;
    let bytes = header_bytes(path, &mut file)?;
    let header = NpyHeader::from_reader(&bytes[..])
        .map_err(|error| Error::dump(path, format!("its npy header cannot be read: {error}")))?;
    if header.order() == Order::Fortran {
        let problem = "it is in Fortran order; save `numpy.ascontiguousarray(a)`";
        return Err(Error::dump(path, problem));
    }
    let value = value_of(path, &header)?;
    Ok((file, Header { start: bytes.len() as u64, value, shape: header.shape().to_vec() }))
}

fn value_of(path: &Path, header: &NpyHeader) -> Result<Value> {
    let descr = header.dtype().descr();
    let descr = descr.trim_matches('\'');
    Ok(match descr {
        "|b1" => Value::Bool,
        "|u1" => Value::U8,
        "|i1" => Value::I8,
        "<f2" => Value::F16,
        "<f4" => Value::F32,
        "<f8" => Value::F64,
        "<u4" => Value::U32,
        "<i4" => Value::I32,
        "<u8" => Value::U64,
        "<i8" => Value::I64,
        _ => {
            let problem = match descr.strip_prefix('>') {
                Some(kind) => format!("its values are big-endian ({descr}); save `a.astype('<{kind}')`"),
                None => format!("its dtype {descr} is not supported; save it as f4 or, for ids, u8"),
            };
            return Err(Error::dump(path, problem));
        }
    })
}

/// Reads the file up to the first value. The npyz parser recurses and multiplies without checks, so only the
/// header of a plain array of possible size is passed on to it.
fn header_bytes(path: &Path, file: &mut File) -> Result<Vec<u8>> {
    let bad = |problem: &str| Error::dump(path, problem);
    let cut = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => bad("the file ends within its npy header"),
        _ => Error::io("read", path)(error),
    };
    let mut bytes = vec![0; 10];
    file.read_exact(&mut bytes).map_err(cut)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(bad("it does not begin as an npy file does; is it one?"));
    }
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] > 1 {
        bytes.resize(12, 0);
        file.read_exact(&mut bytes[10..]).map_err(cut)?;
        length |= usize::from(u16::from_le_bytes([bytes[10], bytes[11]])) << 16;
    }
    if length > MAX_HEADER {
        return Err(bad("its npy header is too long for a plain array"));
    }
    let text = bytes.len();
    bytes.resize(text + length, 0);
    file.read_exact(&mut bytes[text..]).map_err(cut)?;
    let count = |wanted: fn(&u8) -> bool| bytes[text..].iter().filter(|byte| wanted(byte)).count();
    let brackets = count(|byte| b"([{".contains(byte));
    let digits = count(u8::is_ascii_digit);
    match brackets > 8 || digits > 19 {
        true => Err(bad("its npy header is not that of a plain array")),
        false => Ok(bytes),
    }
}
