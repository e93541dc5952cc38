//! numpy arrays in and out.

use std::borrow::Cow;

use bytemuck::cast_slice;
use itemdex::{Error, Hit, Matrix};
use numpy::ndarray::{Array2, ArrayView2, Axis};
use numpy::{
    Element, IntoPyArray, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::Borrowed;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::errors::raised;

/// The id in the places of a matrix for which there is no item. Seen as `int64` it is -1.
pub const NO_ITEM: u64 = u64::MAX;

/// What `object` is as an array, and the array. Lists and tuples of numbers become arrays of `kind`; what
/// lies across the alignment of its values is copied. `what` says in errors what the array is to be.
fn array<'py>(
    object: &Bound<'py, PyAny>,
    kind: Option<&str>,
    what: &str,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    check_masks(object, what)?;
    let array = match object.cast::<PyUntypedArray>() {
        Ok(array) => array.clone(),
        Err(_) => {
            let numpy = object.py().import("numpy")?;
            let options = PyDict::new(object.py());
            if let Some(kind) = kind.filter(|_| is_list(object)) {
                options.set_item("dtype", kind)?;
            }
            numpy.call_method("asarray", (object,), Some(&options))?.cast_into()?
        }
    };
    match array.is_aligned() {
        true => Ok(array),
        false => Ok(array.call_method0("copy")?.cast_into()?),
    }
}

/// Refuses an array of which values are masked: what is behind a mask means nothing.
fn check_masks(object: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    if object.is_exact_instance_of::<PyUntypedArray>() || !object.is_instance_of::<PyUntypedArray>() {
        return Ok(());
    }
    let masks = object.py().import("numpy.ma")?;
    match masks.call_method1("is_masked", (object,))?.is_truthy()? {
        false => Ok(()),
        true => {
            let count = masks.call_method1("count_masked", (object,))?;
            let problem = "drop those rows, or give them values with filled()";
            Err(PyValueError::new_err(format!("{count} values of the {what} are masked; {problem}")))
        }
    }
}

fn is_list(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>()
}

/// The users of a query, as `f32`.
pub enum Users {
    /// An array of shape `(dim,)`.
    One(Vec<f32>),
    /// An array of shape `(n, dim)`.
    Many(Matrix),
}

impl Users {
    /// Copies the embeddings: they are few, and a call that reads its own copy needs no lock on yours.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Users> {
        let floats = Floats::of(object, "user embeddings")?;
        match *floats.shape() {
            [_] => Ok(Users::One(floats.to_vec())),
            [_, dim] => Ok(Users::Many(Matrix::new(dim, floats.to_vec()).map_err(raised)?)),
            ref shape => {
                let problem = "give (dim,) for one user, or (n, dim)";
                Err(PyValueError::new_err(format!("user embeddings are of shape {shape:?}; {problem}")))
            }
        }
    }
}

/// The embeddings of a matrix of users, which has the dim of an index also where it has no rows.
pub fn users_of_dim(users: &Matrix, dim: usize) -> PyResult<()> {
    match users.dim() == dim {
        true => Ok(()),
        false => Err(raised(Error::WrongDim { expected: dim, found: users.dim() })),
    }
}

/// An array of floats, borrowed from numpy.
pub enum Floats<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, itemdex::f16>),
    F64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Floats<'py> {
    /// `what` says in errors what the array is to be.
    pub fn of(object: &Bound<'py, PyAny>, what: &str) -> PyResult<Floats<'py>> {
        let array = array(object, Some("float32"), what)?;
        if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
            return Ok(Floats::F32(array.try_readonly()?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<itemdex::f16>>() {
            return Ok(Floats::F16(array.try_readonly()?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f64>>() {
            return Ok(Floats::F64(array.try_readonly()?));
        }
        let problem = "give float32, float16 or float64 in the byte order of this machine";
        Err(PyTypeError::new_err(format!("{what} are of dtype {}; {problem}", described(&array)?)))
    }

    pub fn shape(&self) -> &[usize] {
        match self {
            Floats::F32(array) => array.shape(),
            Floats::F16(array) => array.shape(),
            Floats::F64(array) => array.shape(),
        }
    }

    /// All values in C order.
    pub fn to_vec(&self) -> Vec<f32> {
        match self {
            Floats::F32(array) => match array.as_array().to_slice() {
                Some(values) => values.to_vec(),
                None => array.as_array().iter().copied().collect(),
            },
            Floats::F16(array) => array.as_array().iter().map(|value| value.to_f32()).collect(),
            Floats::F64(array) => array.as_array().iter().map(|&value| value as f32).collect(),
        }
    }

    /// The array as a matrix; none where it is of another shape than `(rows, dim)`.
    pub fn rows(&self) -> Option<RowsOf<'_>> {
        Some(match self {
            Floats::F32(array) => RowsOf::F32(array.as_array().into_dimensionality().ok()?),
            Floats::F16(array) => RowsOf::F16(array.as_array().into_dimensionality().ok()?),
            Floats::F64(array) => RowsOf::F64(array.as_array().into_dimensionality().ok()?),
        })
    }
}

/// A matrix of floats, which a thread without the GIL may read.
#[derive(Clone, Copy)]
pub enum RowsOf<'a> {
    F32(ArrayView2<'a, f32>),
    F16(ArrayView2<'a, itemdex::f16>),
    F64(ArrayView2<'a, f64>),
}

impl<'a> RowsOf<'a> {
    pub fn len(&self) -> usize {
        match self {
            RowsOf::F32(rows) => rows.nrows(),
            RowsOf::F16(rows) => rows.nrows(),
            RowsOf::F64(rows) => rows.nrows(),
        }
    }

    /// A row: in place where its values are `f32`, one behind the other.
    pub fn get(&self, row: usize) -> Cow<'a, [f32]> {
        match self {
            RowsOf::F32(rows) => {
                let row = rows.index_axis_move(Axis(0), row);
                row.to_slice().map_or_else(|| row.to_vec().into(), Cow::Borrowed)
            }
            RowsOf::F16(rows) => rows.row(row).iter().map(|value| value.to_f32()).collect(),
            RowsOf::F64(rows) => rows.row(row).iter().map(|&value| value as f32).collect(),
        }
    }
}

/// The id of one item.
pub struct Id(pub u64);

impl FromPyObject<'_, '_> for Id {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Id> {
        object.extract::<u64>().map(Id).map_err(|error| {
            match error.is_instance_of::<PyOverflowError>(object.py()) {
                true => PyValueError::new_err(format!("item id {:?}: item ids are 0 to 2^64 - 1", &*object)),
                false => error,
            }
        })
    }
}

/// An array of item ids: borrowed from numpy where its values lie one behind the other, otherwise copied.
pub struct Ids<'py> {
    values: IdValues<'py>,
    shape: Vec<usize>,
}

enum IdValues<'py> {
    Unsigned(PyReadonlyArrayDyn<'py, u64>),
    /// None is negative, so that they are the same bits as unsigned ones.
    Signed(PyReadonlyArrayDyn<'py, i64>),
    Copied(Vec<u64>),
}

impl<'py> Ids<'py> {
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Ids<'py>> {
        let array = array(object, None, "item ids")?;
        let shape = array.shape().to_vec();
        let values = if let Ok(array) = array.cast::<PyArrayDyn<u64>>() {
            match array.is_c_contiguous() {
                true => IdValues::Unsigned(array.try_readonly()?),
                false => IdValues::Copied(array.try_readonly()?.as_array().iter().copied().collect()),
            }
        } else if let Ok(array) = array.cast::<PyArrayDyn<i64>>() {
            check_signs(array)?;
            match array.is_c_contiguous() {
                true => IdValues::Signed(array.try_readonly()?),
                false => IdValues::Copied(
                    array.try_readonly()?.as_array().iter().map(|&id| id.cast_unsigned()).collect(),
                ),
            }
        } else if array.is_empty() && is_list(object) {
            IdValues::Copied(Vec::new())
        } else if matches!(array.dtype().kind(), b'i' | b'u') && array.dtype().itemsize() < 8 {
            let wide = array.call_method1("astype", ("int64",))?;
            return Ids::of(&wide);
        } else {
            let problem = "give uint64 or int64 in the byte order of this machine";
            return Err(PyTypeError::new_err(format!(
                "item ids are of dtype {}; {problem}",
                described(&array)?
            )));
        };
        Ok(Ids { values, shape })
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All ids in C order.
    pub fn as_slice(&self) -> &[u64] {
        const CHECKED: &str = "it was checked to lie one behind the other";
        match &self.values {
            IdValues::Unsigned(array) => array.as_slice().expect(CHECKED),
            IdValues::Signed(array) => cast_slice(array.as_slice().expect(CHECKED)),
            IdValues::Copied(ids) => ids,
        }
    }

    /// The ids of an array of one dimension.
    pub fn list(&self) -> PyResult<&[u64]> {
        match self.shape.len() {
            1 => Ok(self.as_slice()),
            _ => Err(PyValueError::new_err(format!("item ids are of shape {:?}; give (n,)", self.shape))),
        }
    }
}

fn check_signs(array: &Bound<'_, PyArrayDyn<i64>>) -> PyResult<()> {
    let array = array.try_readonly()?;
    match array.as_array().iter().position(|&id| id < 0) {
        None => Ok(()),
        Some(place) => {
            let id = array.as_array().iter().nth(place).copied().unwrap_or_default();
            let problem = "item ids are 0 to 2^64 - 1; give them as uint64 if they wrapped around";
            Err(PyValueError::new_err(format!("item id {id} at place {place} is negative: {problem}")))
        }
    }
}

fn described(array: &Bound<'_, PyUntypedArray>) -> PyResult<String> {
    Ok(array.dtype().str()?.to_string())
}

/// The ids and scores of one user's hits: two arrays as long as there are hits.
pub fn split(hits: &[Hit]) -> (Vec<u64>, Vec<f32>) {
    hits.iter().map(|hit| (hit.id, hit.score)).unzip()
}

/// The ids and scores of several users' hits, `k` places for each. Places without a hit have [`NO_ITEM`] and
/// NaN.
pub fn split_all<'a>(
    lists: impl ExactSizeIterator<Item = &'a [Hit]>,
    k: usize,
) -> PyResult<(Array2<u64>, Array2<f32>)> {
    let shape = (lists.len(), k);
    let (mut ids, mut scores) = (reserved(shape)?, reserved(shape)?);
    for (number, hits) in lists.enumerate() {
        ids.extend(hits.iter().map(|hit| hit.id));
        scores.extend(hits.iter().map(|hit| hit.score));
        ids.resize((number + 1) * k, NO_ITEM);
        scores.resize((number + 1) * k, f32::NAN);
    }
    Ok((matrix(shape, ids)?, matrix(shape, scores)?))
}

/// A matrix of `values`, which are as many as the shape says.
pub fn matrix<T>(shape: (usize, usize), values: Vec<T>) -> PyResult<Array2<T>> {
    Array2::from_shape_vec(shape, values).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Room for a matrix of this shape.
pub fn reserved<T>((rows, columns): (usize, usize)) -> PyResult<Vec<T>> {
    let mut values = Vec::new();
    let room = rows.checked_mul(columns).is_some_and(|places| values.try_reserve_exact(places).is_ok());
    match room {
        true => Ok(values),
        false => Err(PyMemoryError::new_err(format!("no memory for an answer of {rows} x {columns} places"))),
    }
}

/// Hands a vector over to numpy.
pub fn handed<T: Element>(py: Python<'_>, values: Vec<T>) -> Bound<'_, PyArray1<T>> {
    values.into_pyarray(py)
}
