//! What of the items a request may see: filters, and items that are denied or allowed.

use itemdex::{Expression, Index, Items, Literal, Parameters};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use crate::arrays::Ids;
use crate::errors::raised;

/// The items of one index for which an expression is true, found once for any number of queries.
///
/// Made by `filter` of an Index or a View. Only the same file, or a copy of it, takes it; any other raises
/// `InputError`. Takes a bit for each item.
#[pyclass(frozen, module = "itemdex")]
pub struct Filter {
    filter: itemdex::Filter,
    text: String,
}

#[pymethods]
impl Filter {
    /// How many items of the index it keeps.
    #[getter]
    fn matching(&self) -> usize {
        self.filter.matching()
    }

    fn __repr__(&self) -> String {
        format!("<itemdex.Filter {:?}: {} items>", self.text, self.filter.matching())
    }
}

impl Filter {
    /// Reads an expression, and finds the items for which it is true.
    pub fn of(
        py: Python<'_>,
        index: &Index,
        text: &str,
        parameters: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Filter> {
        let given = parameters_of(parameters)?;
        let filter = py.detach(|| index.filter(&Expression::parse(text, &given)?)).map_err(raised)?;
        Ok(Filter { filter, text: text.to_owned() })
    }
}

/// The parameters of an expression.
pub fn parameters_of(parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Parameters> {
    let mut given = Parameters::new();
    for (name, value) in parameters.into_iter().flatten() {
        given = given.with(name.extract::<String>()?, literals(&value)?);
    }
    Ok(given)
}

/// What a parameter stands for: a value, or several.
fn literals(value: &Bound<'_, PyAny>) -> PyResult<Vec<Literal>> {
    let value = match value.hasattr("tolist")? {
        true => &value.call_method0("tolist")?,
        false => value,
    };
    match value.is_instance_of::<PyString>() || !value.hasattr("__iter__")? {
        true => Ok(vec![literal(value)?]),
        false => value.try_iter()?.map(|value| literal(&value?)).collect(),
    }
}

fn literal(value: &Bound<'_, PyAny>) -> PyResult<Literal> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(flag.is_true().into());
    }
    if value.is_instance_of::<PyString>() {
        return Ok(value.extract::<String>()?.into());
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(value.extract::<f64>()?.into());
    }
    if value.is_instance_of::<PyInt>() || value.hasattr("__index__")? {
        return match value.extract::<u64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Ok(value.extract::<i64>()?.into()),
        };
    }
    let kind = value.get_type();
    Err(PyTypeError::new_err(format!("a filter compares with str, bool, int and float, not with {kind}")))
}

/// Items of one index, made ready to be denied or allowed by many requests.
///
/// Made by `item_set` of an Index or a View. Only the same file, or a copy of it, takes it; any other raises
/// `InputError`. `len()` is how many of the items the index has.
#[pyclass(frozen, module = "itemdex")]
pub struct ItemSet(pub itemdex::ItemSet);

#[pymethods]
impl ItemSet {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<itemdex.ItemSet of {} items>", self.0.len())
    }
}

/// Items that are denied or allowed: ids, or a set.
enum Named<'py> {
    Ids(Ids<'py>),
    Set(Bound<'py, ItemSet>),
}

impl<'py> Named<'py> {
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Named<'py>> {
        match object.cast::<ItemSet>() {
            Ok(set) => Ok(Named::Set(set.clone())),
            Err(_) => Ok(Named::Ids(Ids::of(object)?)),
        }
    }

    fn items(&self) -> PyResult<Items<'_>> {
        match self {
            Named::Ids(ids) => Ok(ids.list()?.into()),
            Named::Set(set) => Ok((&set.get().0).into()),
        }
    }
}

/// What a request may see.
pub struct Shown<'py> {
    filter: Option<itemdex::Filter>,
    deny: Option<Named<'py>>,
    allow: Option<Named<'py>>,
    now: Option<i64>,
}

impl<'py> Shown<'py> {
    /// A filter is a `Filter`, or a text that is read for this request.
    pub fn of(
        index: &Index,
        filter: Option<&Bound<'py, PyAny>>,
        [deny, allow]: [Option<&Bound<'py, PyAny>>; 2],
        now: Option<i64>,
    ) -> PyResult<Shown<'py>> {
        let filter = filter.map(|filter| match filter.cast::<Filter>() {
            Ok(filter) => Ok(filter.get().filter.clone()),
            Err(_) => {
                let text: String = filter.extract()?;
                Ok::<_, PyErr>(Filter::of(filter.py(), index, &text, None)?.filter)
            }
        });
        let [deny, allow] = [deny, allow].map(|items| items.map(Named::of).transpose());
        Ok(Shown { filter: filter.transpose()?, deny: deny?, allow: allow?, now })
    }

    /// The same as the library takes it.
    pub fn to_library(&self) -> PyResult<itemdex::Shown<'_>> {
        let [deny, allow] =
            [&self.deny, &self.allow].map(|items| items.as_ref().map(Named::items).transpose());
        Ok(itemdex::Shown { filter: self.filter.as_ref(), deny: deny?, allow: allow?, now: self.now })
    }
}
