//! Columns of values from parquet files.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::parquet::{column, decoded, reader, unreadable};
use super::records;
use crate::columns::{Column, ColumnKind, Value};
use crate::{Error, Result};

/// Reads the column of the file that has the name of `values`.
pub(super) fn read_column(path: &Path, mut values: Column) -> Result<Column> {
    let file = records::open(path)?;
    let builder = decoded(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let place = column(path, builder.schema(), values.name(), "--column")?;
    let mut batches = reader(path, builder, [place])?;
    while let Some(batch) = decoded(path, || batches.next().transpose())? {
        let Some(array) = batch.columns().first() else { break };
        let array = Values { path, start: values.len(), array };
        array.read(values.kind())?.into_iter().try_for_each(|value| values.push(value))?;
    }
    Ok(values)
}

/// Some rows of a column.
struct Values<'a> {
    path: &'a Path,
    /// How many rows are before them.
    start: usize,
    array: &'a ArrayRef,
}

impl Values<'_> {
    fn read(&self, kind: ColumnKind) -> Result<Vec<Value>> {
        let found = self.array.data_type();
        match (kind, found) {
            (ColumnKind::Tag, DataType::List(_)) => {
                let lists = self.array.as_list::<i32>();
                let ends: Vec<usize> = lists.offsets().iter().map(|&end| end as usize).collect();
                self.lists(lists.values(), &ends)
            }
            (ColumnKind::Tag, DataType::LargeList(_)) => {
                let lists = self.array.as_list::<i64>();
                let ends: Vec<usize> = lists.offsets().iter().map(|&end| end as usize).collect();
                self.lists(lists.values(), &ends)
            }
            (ColumnKind::Tag, _) => {
                let one = |tag: Option<Value>| tag.unwrap_or(Value::Null);
                Ok(self.tags(self.array, true)?.into_iter().map(one).collect())
            }
            (ColumnKind::Flag, DataType::Boolean) => {
                Ok(self.array.as_boolean().iter().map(Value::from).collect())
            }
            (ColumnKind::Number | ColumnKind::Expires, found) if found.is_integer() => {
                self.integers(self.array)
            }
            (ColumnKind::Number, found) if found.is_floating() || found.is_decimal() => {
                let numbers = self.cast(self.array, &DataType::Float64)?;
                Ok(numbers.as_primitive::<Float64Type>().iter().map(Value::from).collect())
            }
            (ColumnKind::Expires, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) => {
                self.integers(&self.cast(self.array, &DataType::Timestamp(TimeUnit::Second, None))?)
            }
            (kind, found) => {
                let expected = match kind {
                    ColumnKind::Tag => "tags are strings, integers, or lists of them",
                    ColumnKind::Number => "numbers are integers, floats or decimals",
                    ColumnKind::Flag => "flags are booleans",
                    ColumnKind::Expires => "expiries are integers, in seconds since 1970, or timestamps",
                };
                Err(Error::dump(self.path, format!("the column is of type {found}; {expected}")))
            }
        }
    }

    fn integers(&self, array: &ArrayRef) -> Result<Vec<Value>> {
        let integers = self.cast(array, &DataType::Int64)?;
        self.check_cast(array, &integers, true)?;
        Ok(integers.as_primitive::<Int64Type>().iter().map(Value::from).collect())
    }

    /// A value for each element, which is a tag or null.
    fn tags(&self, array: &ArrayRef, one_a_row: bool) -> Result<Vec<Option<Value>>> {
        match array.data_type() {
            found if found.is_integer() => {
                let ids = self.cast(array, &DataType::UInt64)?;
                self.check_cast(array, &ids, one_a_row)?;
                Ok(ids.as_primitive::<UInt64Type>().iter().map(|id| id.map(Value::from)).collect())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
                let texts = self.cast(array, &DataType::LargeUtf8)?;
                Ok(texts.as_string::<i64>().iter().map(|text| text.map(Value::from)).collect())
            }
            found => {
                let problem =
                    format!("the column is of type {found}; tags are strings, integers, or lists of them");
                Err(Error::dump(self.path, problem))
            }
        }
    }

    /// The lists that end at `ends`, behind the first. Nulls in a list are left out.
    fn lists(&self, values: &ArrayRef, ends: &[usize]) -> Result<Vec<Value>> {
        let tags = self.tags(values, false)?;
        let list = |(row, ends): (usize, &[usize])| {
            if self.array.is_null(row) {
                return Value::Null;
            }
            let tags = tags.get(ends[0]..ends[1]).unwrap_or_default().iter().flatten();
            let (mut texts, mut ids) = (Vec::new(), Vec::new());
            for tag in tags.cloned() {
                match tag {
                    Value::Tags(tag) => texts.extend(tag),
                    Value::Ids(id) => ids.extend(id),
                    _ => {}
                }
            }
            if values.data_type().is_integer() { Value::Ids(ids) } else { Value::Tags(texts) }
        };
        Ok(ends.windows(2).enumerate().map(list).collect())
    }

    fn cast(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        cast(array, to).map_err(unreadable(self.path))
    }

    /// Refuses a value that the cast made null, since it does not fit.
    fn check_cast(&self, before: &ArrayRef, after: &ArrayRef, one_a_row: bool) -> Result<()> {
        let problem = || format!("a value of the column does not fit into {}", after.data_type());
        match (0..before.len()).find(|&at| after.is_null(at) && !before.is_null(at)) {
            Some(row) if one_a_row => Err(Error::dump_row(self.path, (self.start + row) as u64, problem())),
            Some(_) => Err(Error::dump(self.path, problem())),
            None => Ok(()),
        }
    }
}
