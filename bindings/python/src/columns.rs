//! Columns of items: from arrays and lists, from columns of record batches, and back to Python.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, UInt64Type};
use itemdex::dump::read_column;
use itemdex::{Column, ColumnInfo, ColumnKind, Error, Result, Value, Values};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyMapping, PyString, PyTuple};

use crate::errors::raised;
use crate::table::{Table, bad};

const KINDS: [ColumnKind; 4] = [ColumnKind::Tag, ColumnKind::Number, ColumnKind::Flag, ColumnKind::Expires];

/// The columns that a caller names, with their values: each an array or a list, or a `Column` that says the
/// kind, or the path of a file in such a `Column`. Where the items are a table, the values may be the name of
/// a column of it. `out` must not be one of the files.
pub fn columns_of(
    columns: &Bound<'_, PyMapping>,
    mut table: Option<&mut Table>,
    out: &Path,
) -> PyResult<Vec<Column>> {
    let py = columns.py();
    let mut found = Vec::new();
    for pair in columns.items()? {
        let (name, given): (String, Bound<'_, PyAny>) = pair.extract()?;
        let is_column = given.is_instance_of::<PyTuple>() && given.hasattr(intern!(py, "kind"))?;
        let (values, kind) = match is_column {
            true => {
                let kind: Option<String> = given.getattr(intern!(py, "kind"))?.extract()?;
                let kind = kind.map(|kind| kind_named(&kind)).transpose()?;
                (given.getattr(intern!(py, "values"))?, kind)
            }
            false => (given, None),
        };
        if values.hasattr("__fspath__")? {
            let file: PathBuf = values.extract()?;
            let Some(kind) = kind else {
                let problem = "say the kind of a column that is read from a file: Column(path, kind)";
                return Err(PyTypeError::new_err(format!("column {name}: {problem}")));
            };
            check_out(out, &file)?;
            found.push(py.detach(|| read_column(file, name, kind)).map_err(raised)?);
            continue;
        }
        let values = match (values.cast::<PyString>(), table.as_deref_mut()) {
            (Ok(named), Some(table)) => of_table(table, &named.to_cow()?, kind).map_err(raised)?,
            (Ok(_), None) => {
                let problem = "names a column, but the items are no record batches; give its values";
                return Err(PyTypeError::new_err(format!("column {name}: {values:?} {problem}")));
            }
            (Err(_), _) => of_values(&values, kind)?,
        };
        found.push(column(name, kind, values)?);
    }
    Ok(found)
}

fn kind_named(name: &str) -> PyResult<ColumnKind> {
    KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "kind {name:?} of a column is none of \"tag\", \"number\", \"flag\" and \"expires\""
        ))
    })
}

fn of_values(values: &Bound<'_, PyAny>, kind: Option<ColumnKind>) -> PyResult<Vec<Value>> {
    let list = match values.hasattr("tolist")? {
        true => values.call_method0("tolist")?,
        false => values.clone(),
    };
    list.try_iter()?.map(|value| value_of(&value?, kind)).collect()
}

/// Refuses to write over a file that is read.
pub fn check_out(out: &Path, read: &Path) -> PyResult<()> {
    match out.canonicalize().ok().zip(read.canonicalize().ok()).is_some_and(|(out, read)| out == read) {
        true => {
            let problem = format!("{} is read for the build; name another", out.display());
            Err(raised(Error::BadOption { option: "out", problem }))
        }
        false => Ok(()),
    }
}

/// A value of an item in a column of this kind; without one the value tells.
fn value_of(value: &Bound<'_, PyAny>, kind: Option<ColumnKind>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(flag.is_true().into());
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(value.extract::<f64>()?.into());
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(match kind {
            Some(ColumnKind::Tag) => value.extract::<u64>()?.into(),
            _ => value.extract::<i64>()?.into(),
        });
    }
    // A scalar of numpy's, or an array of tags.
    if value.hasattr("tolist")? {
        return value_of(&value.call_method0("tolist")?, kind);
    }
    let Ok(tags) = value.try_iter() else {
        let kind = value.get_type();
        return Err(PyTypeError::new_err(format!(
            "a column holds str, bool, int, float, lists of str or int, and None, not {kind}"
        )));
    };
    let tags: Vec<Bound<'_, PyAny>> = tags.collect::<PyResult<_>>()?;
    match tags.first().is_some_and(|tag| tag.hasattr("__index__").unwrap_or(false)) {
        true => Ok(tags.iter().map(|tag| tag.extract()).collect::<PyResult<Vec<u64>>>()?.into()),
        false => Ok(tags.iter().map(|tag| tag.extract()).collect::<PyResult<Vec<String>>>()?.into()),
    }
}

/// Where no kind is given, the first value that is not null tells it.
fn column(name: String, kind: Option<ColumnKind>, values: Vec<Value>) -> PyResult<Column> {
    let kind = kind.unwrap_or(match values.iter().find(|value| !value.is_null()) {
        Some(Value::Flag(_)) => ColumnKind::Flag,
        Some(Value::Integer(_) | Value::Real(_)) => ColumnKind::Number,
        _ => ColumnKind::Tag,
    });
    Column::new(name, kind, values).map_err(raised)
}

fn of_table(table: &mut Table, column: &str, kind: Option<ColumnKind>) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    for part in table.read_column(column)? {
        of_array(&part, kind == Some(ColumnKind::Tag), &mut values)?;
    }
    Ok(values)
}

/// Adds the values of an Arrow array; whole numbers are tags where that is said.
fn of_array(array: &ArrayRef, tags: bool, out: &mut Vec<Value>) -> Result<()> {
    match array.data_type() {
        DataType::Boolean => out.extend(array.as_boolean().iter().map(Value::from)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = if item.data_type().is_integer() { DataType::UInt64 } else { DataType::LargeUtf8 };
            let lists = as_type(array, DataType::LargeList(Arc::new(Field::new("item", item, true))))?;
            for list in lists.as_list::<i64>().iter() {
                out.push(list.map_or(Ok(Value::Null), |list| of_list(&list))?);
            }
        }
        kind if kind.is_integer() && tags => {
            let ids = as_type(array, DataType::UInt64)?;
            out.extend(ids.as_primitive::<UInt64Type>().iter().map(Value::from));
        }
        kind if kind.is_integer() => {
            let numbers = as_type(array, DataType::Int64)?;
            out.extend(numbers.as_primitive::<Int64Type>().iter().map(Value::from));
        }
        kind if kind.is_temporal() => {
            let seconds = as_type(array, DataType::Timestamp(TimeUnit::Second, None))?;
            let seconds = as_type(&seconds, DataType::Int64)?;
            out.extend(seconds.as_primitive::<Int64Type>().iter().map(Value::from));
        }
        kind if kind.is_floating() => {
            let numbers = as_type(array, DataType::Float64)?;
            out.extend(numbers.as_primitive::<Float64Type>().iter().map(Value::from));
        }
        _ => {
            let texts = as_type(array, DataType::LargeUtf8)?;
            out.extend(texts.as_string::<i64>().iter().map(Value::from));
        }
    }
    Ok(())
}

/// The tags of one item.
fn of_list(list: &ArrayRef) -> Result<Value> {
    if list.null_count() > 0 {
        return Err(bad("a list of tags holds a null or a negative number".to_owned()));
    }
    Ok(match list.data_type() {
        DataType::UInt64 => list.as_primitive::<UInt64Type>().values().to_vec().into(),
        _ => list.as_string::<i64>().iter().flatten().map(str::to_owned).collect::<Vec<String>>().into(),
    })
}

/// The same values as another type, all of which have one there.
fn as_type(array: &ArrayRef, kind: DataType) -> Result<ArrayRef> {
    let found = cast(array, &kind).map_err(|error| bad(error.to_string()))?;
    match found.null_count() == array.logical_null_count() {
        true => Ok(found),
        false => Err(bad(format!("a value of type {} does not fit into {kind}", array.data_type()))),
    }
}

/// The values of an item from a dict. What kind a column has where `known` tells of it decides what a value
/// of it is, and otherwise the value.
pub fn values_of(values: &Bound<'_, PyMapping>, known: &[ColumnInfo]) -> PyResult<Values> {
    let mut found = Values::new();
    for pair in values.items()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair.extract()?;
        let kind = known.iter().find(|column| column.name == name).map(|column| column.kind);
        let value = value_of(&value, kind)
            .map_err(|error| PyTypeError::new_err(format!("column {name}: {}", error.value(values.py()))))?;
        found.set(name, value);
    }
    Ok(found)
}

/// The values of an item as a dict.
pub fn described<'py>(py: Python<'py>, values: &Values) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in values.iter() {
        let value = match value {
            Value::Null => py.None().into_bound(py),
            Value::Tags(tags) => tags.into_bound_py_any(py)?,
            Value::Ids(ids) => ids.into_bound_py_any(py)?,
            Value::Integer(number) => number.into_bound_py_any(py)?,
            Value::Real(number) => number.into_bound_py_any(py)?,
            Value::Flag(flag) => flag.into_bound_py_any(py)?,
        };
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
