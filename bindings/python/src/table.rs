//! Rows from whatever gives Arrow record batches: pyarrow, polars, pandas, duckdb and others.
//!
//! The Arrow PyCapsule interface hands a stream over as C structs; Arrow's memory is read in place.

use std::sync::{Arc, Mutex};
use std::{iter, mem};

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, RecordBatchReader, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use itemdex::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::raised;

/// Where errors say that a row comes from.
const ORIGIN: &str = "the record batches";

/// The method of the Arrow PyCapsule interface.
const STREAM: &str = "__arrow_c_stream__";

/// Whether `object` gives record batches.
pub fn is_table(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.hasattr(STREAM)
}

/// Record batches, of which two columns are read.
pub struct Table {
    batches: Box<dyn Iterator<Item = Read<RecordBatch>> + Send>,
    schema: SchemaRef,
    embeddings: usize,
    ids: Option<usize>,
}

type Read<T> = std::result::Result<T, ArrowError>;

impl Table {
    /// `id_column` is none where ids come from elsewhere.
    #[expect(unsafe_code, reason = "Arrow's streams cross the border as C structs")]
    pub fn of(object: &Bound<'_, PyAny>, embedding_column: &str, id_column: Option<&str>) -> PyResult<Table> {
        let capsule = object.call_method0(STREAM)?.cast_into::<PyCapsule>()?;
        let stream = capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast::<FFI_ArrowArrayStream>();
        // SAFETY: a capsule of this name holds a valid ArrowArrayStream (Arrow PyCapsule interface), which
        // the capsule keeps until it is dropped at the end of this function. `from_raw` moves the stream out
        // and leaves one that is released behind, so that the capsule's destructor frees nothing of it. A
        // stream that another consumer has moved out already is an error. tests/test_build.py reads one
        // twice.
        let reader = unsafe { RecordBatchStreamReader::from_raw(stream.as_ptr()) };
        let reader = reader.map_err(unreadable).map_err(raised)?;
        let schema = reader.schema();
        let embeddings = column(&schema, embedding_column, "embedding_column").map_err(raised)?;
        let ids = id_column.map(|name| column(&schema, name, "id_column")).transpose().map_err(raised)?;
        Ok(Table { batches: Box::new(reader), schema, embeddings, ids })
    }

    /// The parts of a column, in order. Reads all batches and holds them: what comes in one stream cannot be
    /// read twice, and a source that is asked twice may give its rows in another order.
    pub fn read_column(&mut self, name: &str) -> Result<Vec<ArrayRef>> {
        let number = column(&self.schema, name, "columns")?;
        let stream = mem::replace(&mut self.batches, Box::new(iter::empty()));
        let batches: Vec<RecordBatch> = stream.collect::<Read<_>>().map_err(unreadable)?;
        let parts = batches.iter().map(|batch| Arc::clone(batch.column(number))).collect();
        self.batches = Box::new(batches.into_iter().map(Ok));
        Ok(parts)
    }

    /// The rows with their ids, which are row numbers where no column has them. An error ends them, and
    /// stands in `failed` then; the last row has no values, which no build takes for a row.
    pub fn rows(self, failed: Arc<Mutex<Option<Error>>>) -> impl Iterator<Item = (u64, TableRow)> {
        let Table { batches, embeddings, ids, .. } = self;
        let mut before = 0;
        let batches = batches.map(move |batch| {
            let batch = batch.map_err(unreadable)?;
            let batch = Batch::of(&batch, embeddings, ids, before)?;
            before += batch.len() as u64;
            Ok(batch)
        });
        batches.flat_map(move |batch| match batch {
            Ok(batch) => batch.rows(),
            Err(error) => Batch::refused(&failed, error).rows(),
        })
    }

    /// All embeddings as one matrix: a user sample.
    pub fn into_matrix(self) -> Result<itemdex::Matrix> {
        let failed = Arc::new(Mutex::new(None));
        let (mut values, mut dim) = (Vec::new(), None);
        for (number, (_, row)) in self.rows(Arc::clone(&failed)).enumerate() {
            let row = row.as_ref();
            if *dim.get_or_insert(row.len()) != row.len() {
                let problem =
                    format!("it has {} values, the rows before have {}", row.len(), dim.unwrap_or(0));
                return Err(failed_or(&failed, bad_row(number as u64, problem)));
            }
            values.extend_from_slice(row);
        }
        match failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            Some(error) => Err(error),
            None => itemdex::Matrix::new(dim.unwrap_or(1), values),
        }
    }
}

/// What stands in `failed`, and otherwise `error`.
pub fn failed_or(failed: &Mutex<Option<Error>>, error: Error) -> Error {
    failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take().unwrap_or(error)
}

/// The columns of a record batch that are read.
struct Batch {
    values: Arc<Float32Array>,
    /// Where each row ends in `values`, and before them where the first begins.
    ends: Vec<usize>,
    ids: Option<UInt64Array>,
    before: u64,
}

impl Batch {
    fn of(batch: &RecordBatch, embeddings: usize, ids: Option<usize>, before: u64) -> Result<Batch> {
        let column = batch.column(embeddings);
        if let Some(row) = first_null(column) {
            return Err(bad_row(before + row, "it has no embedding (null)".to_owned()));
        }
        let (values, ends) = lists(column)?;
        let values = cast(values, &DataType::Float32).map_err(|error| bad(error.to_string()))?;
        if values.null_count() > 0 {
            let at = |row: &usize| (ends[*row]..ends[row + 1]).any(|at| values.is_null(at));
            if let Some(row) = (0..ends.len() - 1).find(at) {
                return Err(bad_row(before + row as u64, "its embedding holds a null".to_owned()));
            }
        }
        let values = Arc::new(values.as_primitive::<Float32Type>().clone());
        let ids = ids.map(|ids| read_ids(batch.column(ids), before)).transpose()?;
        Ok(Batch { values, ends, ids, before })
    }

    /// One row without values, and the error in `failed`.
    fn refused(failed: &Mutex<Option<Error>>, error: Error) -> Batch {
        *failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
        let values = Arc::new(Float32Array::from(Vec::<f32>::new()));
        Batch { values, ends: vec![0, 0], ids: None, before: 0 }
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn rows(self) -> impl Iterator<Item = (u64, TableRow)> {
        (0..self.len()).map(move |row| {
            let id = self.ids.as_ref().map_or(self.before + row as u64, |ids| ids.value(row));
            (
                id,
                TableRow { values: Arc::clone(&self.values), begin: self.ends[row], end: self.ends[row + 1] },
            )
        })
    }
}

/// An embedding in Arrow's memory.
pub struct TableRow {
    values: Arc<Float32Array>,
    begin: usize,
    end: usize,
}

impl TableRow {
    /// A row without values, which no build takes, and the error in `failed`.
    pub fn refused(failed: &Mutex<Option<Error>>, error: Error) -> TableRow {
        let Batch { values, .. } = Batch::refused(failed, error);
        TableRow { values, begin: 0, end: 0 }
    }
}

impl AsRef<[f32]> for TableRow {
    fn as_ref(&self) -> &[f32] {
        &self.values.values()[self.begin..self.end]
    }
}

/// The values of a column of lists of floats, and where each list ends in them.
fn lists(column: &ArrayRef) -> Result<(&ArrayRef, Vec<usize>)> {
    let (values, ends): (_, Vec<usize>) = match column.data_type() {
        DataType::FixedSizeList(..) => {
            let lists = column.as_fixed_size_list();
            let ends = (0..=lists.len()).map(|row| row * lists.value_length() as usize);
            (lists.values(), ends.collect())
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            (lists.values(), lists.offsets().iter().map(|&end| end as usize).collect())
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            (lists.values(), lists.offsets().iter().map(|&end| end as usize).collect())
        }
        other => return Err(not_floats(other)),
    };
    match values.data_type().is_floating() {
        true => Ok((values, ends)),
        false => Err(not_floats(column.data_type())),
    }
}

fn not_floats(found: &DataType) -> Error {
    bad(format!("the column of embeddings is of type {found}; embeddings are lists of floats"))
}

fn read_ids(column: &ArrayRef, before: u64) -> Result<UInt64Array> {
    if !column.data_type().is_integer() {
        return Err(bad(format!("the column of ids is of type {}; ids are integers", column.data_type())));
    }
    let ids = cast(column, &DataType::UInt64).map_err(|error| bad(error.to_string()))?;
    match first_null(&ids) {
        Some(row) => {
            Err(bad_row(before + row, "its id is null or negative; item ids are unsigned".to_owned()))
        }
        None => Ok(ids.as_primitive::<UInt64Type>().clone()),
    }
}

fn first_null(column: &ArrayRef) -> Option<u64> {
    (column.null_count() > 0)
        .then(|| (0..column.len()).find(|&row| column.is_null(row)))?
        .map(|row| row as u64)
}

fn column(schema: &Schema, name: &str, option: &str) -> Result<usize> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    match names.iter().filter(|&&own| own == name).count() {
        0 => Err(bad(format!("they have no column {name}, but {}; name yours ({option})", names.join(", ")))),
        1 => schema.index_of(name).map_err(unreadable),
        count => Err(bad(format!("they have {count} columns named {name}; rename the others"))),
    }
}

fn unreadable(error: ArrowError) -> Error {
    bad(format!("they cannot be read: {error}"))
}

/// An error of the record batches as a whole.
pub fn bad(problem: String) -> Error {
    Error::BadDump { origin: ORIGIN.to_owned(), row: None, problem }
}

fn bad_row(row: u64, problem: String) -> Error {
    Error::BadDump { origin: ORIGIN.to_owned(), row: Some(row), problem }
}
