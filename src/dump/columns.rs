use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::records::{Numbers, Records};
use super::{npy, records};
use crate::columns::{Column, ColumnKind, Value};
use crate::{Error, Result};

/// Between the tags of a line.
const SEPARATOR: char = '|';

/// Rows read at once.
const BATCH_ROWS: usize = 1 << 16;

/// Reads a column from a file, one value a row of the dump. The extension decides the format:
///
/// | extension | tags | numbers, flags, expiries |
/// |---|---|---|
/// | `.parquet` | the column `name`: strings, integers, or lists of them | the column `name`: a number, a boolean, a timestamp |
/// | `.npy` | integers, 1-D, or 2-D with a row an item; negative ones are left out | 1-D; a flag is a boolean, or 0 and 1 |
/// | any other | text, a line an item: its tags with `|` between them | |
///
/// Null is a null in parquet, an empty line in a text, and a negative tag in a 1-D array. A line that is only
/// `|`, an empty list and a row of negative tags have no tags, which is not null.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadDump`], which names the file and the row; [`Error::BadOption`] for the name.
pub fn read_column(path: impl AsRef<Path>, name: impl Into<String>, kind: ColumnKind) -> Result<Column> {
    let (path, name) = (path.as_ref(), name.into());
    let column = Column::from_origin(&path.display().to_string(), name, kind)?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "parquet" => read_parquet(path, column),
        "npy" => read_npy(path, column),
        _ if kind == ColumnKind::Tag => read_text(path, column),
        _ => {
            let problem = "numbers, flags and expiries are read from .npy and .parquet; tags also from text";
            Err(Error::dump(path, problem))
        }
    }
}

#[cfg(feature = "parquet")]
fn read_parquet(path: &Path, column: Column) -> Result<Column> {
    super::parquet_columns::read_column(path, column)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path, _: Column) -> Result<Column> {
    Err(super::without(path, "parquet"))
}

fn read_npy(path: &Path, mut column: Column) -> Result<Column> {
    let (mut records, many) = npy::open_column(path)?;
    if many && column.kind() != ColumnKind::Tag {
        return Err(Error::dump(path, "it is 2-D; only tags may be many an item"));
    }
    while column.len() < records.rows() as usize {
        match read_numbers(&mut records)? {
            Numbers::Integers(numbers) => {
                for row in numbers.chunks_exact(records.width()) {
                    column.push(integers(row, column.kind(), many))?;
                }
            }
            Numbers::Reals(numbers) => {
                numbers.into_iter().try_for_each(|number| column.push(number.into()))?
            }
        }
    }
    Ok(column)
}

fn read_numbers(records: &mut Records) -> Result<Numbers> {
    records.read_numbers((BATCH_ROWS / records.width()).max(1))
}

/// The value that a row of integers stands for. One that does not fit the kind is left to be refused.
fn integers(row: &[i128], kind: ColumnKind, many: bool) -> Value {
    let ids: Vec<u64> = row.iter().filter_map(|&id| u64::try_from(id).ok()).collect();
    match (kind, row) {
        (ColumnKind::Tag, _) if ids.is_empty() && !many => Value::Null,
        (ColumnKind::Tag, _) => Value::Ids(ids),
        (ColumnKind::Flag, [flag @ (0 | 1)]) => Value::Flag(*flag == 1),
        (_, [number]) => match i64::try_from(*number) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Ids(ids),
        },
        _ => Value::Ids(ids),
    }
}

fn read_text(path: &Path, mut column: Column) -> Result<Column> {
    let file: File = records::open(path)?;
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(Error::io("read", path))? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(Error::dump_row(path, column.len() as u64, "its line is not UTF-8"));
        };
        let tags = text.split(SEPARATOR).filter(|tag| !tag.is_empty()).map(str::to_owned);
        column.push(if text.is_empty() { Value::Null } else { Value::Tags(tags.collect()) })?;
        line.clear();
    }
    Ok(column)
}
