use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Schema, UInt64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use super::{Batch, pages, records};
use crate::{Error, Result, RowFormat};

/// Rows decoded at once.
const BATCH_ROWS: usize = 4096;

/// The id and embedding columns of a parquet file, read front to back.
pub(super) struct Columns {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    /// Rows already decoded but not returned: the first ones, to learn the dim, and what exceeds a batch.
    ahead: VecDeque<RecordBatch>,
    id_column: Option<String>,
    vector_column: String,
    dim: usize,
    format: RowFormat,
    rows: u64,
    next: u64,
}

impl Columns {
    /// Opens a file. With `None` for `id_column`, the caller gets ids elsewhere.
    pub fn open(path: &Path, id_column: Option<&str>, vector_column: &str) -> Result<Columns> {
        let file = records::open(path)?;
        let builder = decoded(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let schema = builder.schema();
        let vector = column(path, schema, vector_column, "--vector-column")?;
        let id = id_column.map(|name| column(path, schema, name, "--id-column")).transpose()?;
        let reader = reader(path, builder, id.into_iter().chain([vector]))?;
        let mut columns = Columns {
            path: path.to_owned(),
            reader,
            ahead: VecDeque::new(),
            id_column: id_column.map(str::to_owned),
            vector_column: vector_column.to_owned(),
            dim: 0,
            format: RowFormat::F32,
            rows,
            next: 0,
        };
        columns.learn_dim()?;
        Ok(columns)
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn format(&self) -> RowFormat {
        self.format
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Fills `batch` with the next rows, at most `most`, and with their ids if those come from a column.
    pub fn read(&mut self, most: usize, batch: &mut Batch) -> Result<()> {
        let Some(found) = self.next_batch()? else {
            return match self.next == self.rows {
                true => Ok(()),
                false => Err(self.bad(format!("it says {} rows, but holds {}", self.rows, self.next))),
            };
        };
        let rows = found.num_rows().min(most);
        if rows < found.num_rows() {
            self.ahead.push_front(found.slice(rows, found.num_rows() - rows));
        }
        let found = found.slice(0, rows);
        self.read_vectors(&found, &mut batch.rows)?;
        self.read_ids(&found, &mut batch.ids)?;
        self.next += rows as u64;
        Ok(())
    }

    fn learn_dim(&mut self) -> Result<()> {
        if let Some(first) = self.next_batch()? {
            let (values, lengths) = self.lists(&first)?;
            self.dim = lengths.first().copied().unwrap_or(0);
            if *values.data_type() == DataType::Float16 {
                self.format = RowFormat::F16;
            }
            self.ahead.push_front(first);
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let next = match self.ahead.pop_front() {
                None => decoded(&self.path, || self.reader.next().transpose())?,
                ahead => ahead,
            };
            match next {
                Some(batch) if batch.num_rows() == 0 => {}
                batch => return Ok(batch),
            }
        }
    }

    fn read_vectors(&self, batch: &RecordBatch, out: &mut Vec<f32>) -> Result<()> {
        let (values, lengths) = self.lists(batch)?;
        if let Some(row) = lengths.iter().position(|&length| length != self.dim) {
            let problem = format!("its embedding has {} values, row 0's has {}", lengths[row], self.dim);
            return Err(self.bad_row(row, problem));
        }
        let values = cast(&values, &DataType::Float32).map_err(unreadable(&self.path))?;
        if let Some(at) = (0..values.len()).find(|&at| values.is_null(at)) {
            return Err(self.bad_row(at / self.dim, "its embedding holds a null".to_owned()));
        }
        out.extend_from_slice(values.as_primitive::<Float32Type>().values());
        Ok(())
    }

    fn read_ids(&self, batch: &RecordBatch, out: &mut Vec<u64>) -> Result<()> {
        let Some(name) = &self.id_column else { return Ok(()) };
        let column = self.column(batch, name)?;
        if !column.data_type().is_integer() {
            let problem = format!("column {name} is of type {}; ids are integers", column.data_type());
            return Err(self.bad(problem));
        }
        let ids = cast(column, &DataType::UInt64).map_err(unreadable(&self.path))?;
        if let Some(row) = (0..ids.len()).find(|&row| ids.is_null(row)) {
            return Err(self.bad_row(row, "its id is null or negative; item ids are unsigned".to_owned()));
        }
        out.extend_from_slice(ids.as_primitive::<UInt64Type>().values());
        Ok(())
    }

    /// The values of all lists of the vector column, one list after another, and the length of each list.
    fn lists(&self, batch: &RecordBatch) -> Result<(ArrayRef, Vec<usize>)> {
        let column = self.column(batch, &self.vector_column)?;
        if let Some(row) = (0..column.len()).find(|&row| column.is_null(row)) {
            return Err(self.bad_row(row, "it has no embedding (null)".to_owned()));
        }
        let (values, ends) = match column.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = column.as_fixed_size_list();
                let ends = (0..=lists.len()).map(|row| lists.value_offset_at(row)).collect();
                (lists.values(), ends)
            }
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                (lists.values(), lists.offsets().iter().map(|&end| end as usize).collect::<Vec<_>>())
            }
            DataType::LargeList(_) => {
                let lists = column.as_list::<i64>();
                (lists.values(), lists.offsets().iter().map(|&end| end as usize).collect())
            }
            other => return Err(self.not_floats(other)),
        };
        if !values.data_type().is_floating() {
            return Err(self.not_floats(column.data_type()));
        }
        let (first, last) = (ends[0], ends[ends.len() - 1]);
        let lengths = ends.windows(2).map(|ends| ends[1] - ends[0]).collect();
        Ok((values.slice(first, last - first), lengths))
    }

    fn column<'a>(&self, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
        batch.column_by_name(name).ok_or_else(|| self.bad(format!("column {name} is missing from its rows")))
    }

    fn not_floats(&self, found: &DataType) -> Error {
        self.bad(format!("column {} is of type {found}; embeddings are lists of floats", self.vector_column))
    }

    fn bad(&self, problem: String) -> Error {
        Error::dump(&self.path, problem)
    }

    fn bad_row(&self, row: usize, problem: String) -> Error {
        Error::dump_row(&self.path, self.next + row as u64, problem)
    }
}

/// A reader of some columns of a file.
pub(super) fn reader(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<File>,
    columns: impl IntoIterator<Item = usize>,
) -> Result<ParquetRecordBatchReader> {
    let wanted = ProjectionMask::roots(builder.parquet_schema(), columns);
    check_pages(path, builder.metadata(), &wanted)?;
    decoded(path, || builder.with_projection(wanted).with_batch_size(BATCH_ROWS).build())
}

/// Refuses what the parquet crate would not check itself: columns that lie outside of the file, and pages that ask for
/// much more memory than they have bytes.
fn check_pages(path: &Path, metadata: &ParquetMetaData, wanted: &ProjectionMask) -> Result<()> {
    let file = records::open(path)?;
    let length = records::length(path, &file)?;
    for group in metadata.row_groups() {
        for (number, chunk) in group.columns().iter().enumerate() {
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let end = end.and_then(|(start, size)| start.checked_add(size)).filter(|&end| end <= length);
            let Some(end) = end else {
                let problem = "it cannot be read as parquet: a column lies outside of the file";
                return Err(Error::dump(path, problem));
            };
            if wanted.leaf_included(number)
                && let Some(problem) =
                    pages::problem(&file, start as u64..end).map_err(Error::io("read", path))?
            {
                return Err(Error::dump(path, format!("it cannot be read as parquet: {problem}")));
            }
        }
    }
    Ok(())
}

pub(super) fn column(path: &Path, schema: &Schema, name: &str, option: &str) -> Result<usize> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let problem = match names.iter().filter(|&&own| own == name).count() {
        0 => format!("it has no column {name}, but {}; name yours ({option})", names.join(", ")),
        1 => return schema.index_of(name).map_err(|error| Error::dump(path, error.to_string())),
        count => format!("it has {count} columns named {name}; rename the others"),
    };
    Err(Error::dump(path, problem))
}

/// Calls the parquet crate, which may panic on a damaged file, and turns a panic into an error.
pub(super) fn decoded<T, E: Display>(
    path: &Path,
    decode: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(unreadable(path)),
        Err(_) => Err(Error::dump(path, "it cannot be read as parquet: it is damaged; write it anew")),
    }
}

pub(super) fn unreadable<E: Display>(path: &Path) -> impl FnOnce(E) -> Error {
    move |error| Error::dump(path, format!("it cannot be read as parquet: {error}"))
}
