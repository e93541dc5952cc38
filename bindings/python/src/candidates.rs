//! What a rank takes: ids, or row handles, of one channel or several.

use itemdex::{Candidates, Channel};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::arrays::Ids;

/// Items of one index file by their rows: a rank of them needs no look-up of ids.
///
/// Made by `Index.look_up` and `Index.search_rows`. Only an index of the same file, or of a copy of it, takes
/// them; any other raises `InputError`. `len()` is the number of items. Takes 4 bytes an item.
#[pyclass(frozen, module = "itemdex")]
pub struct RowHandles(pub itemdex::RowHandles);

#[pymethods]
impl RowHandles {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<itemdex.RowHandles of {} items>", self.0.len())
    }
}

/// The candidates of one user, or of all users alike.
pub enum Given<'py> {
    Ids(Ids<'py>),
    Rows(Bound<'py, RowHandles>),
}

impl<'py> Given<'py> {
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Given<'py>> {
        match object.cast::<RowHandles>() {
            Ok(rows) => Ok(Given::Rows(rows.clone())),
            Err(_) => Ok(Given::Ids(Ids::of(object)?)),
        }
    }

    /// One list; an error where it is an array of more than one dimension.
    pub fn list(&self) -> PyResult<Candidates<'_>> {
        match self {
            Given::Ids(ids) => Ok(ids.list()?.into()),
            Given::Rows(rows) => Ok((&rows.get().0).into()),
        }
    }
}

/// The candidates of several users: one list for all, or a list for each.
pub enum Lists<'py> {
    /// A list, or an array with a row for each user.
    One(Given<'py>),
    Each(Vec<Given<'py>>),
}

impl<'py> Lists<'py> {
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Lists<'py>> {
        let lists = (object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>())
            && object.len()? > 0
            && object.get_item(0)?.hasattr("__len__")?;
        if !lists {
            return Ok(Lists::One(Given::of(object)?));
        }
        let lists = object.try_iter()?.map(|list| Given::of(&list?));
        Ok(Lists::Each(lists.collect::<PyResult<_>>()?))
    }

    /// A list for all users, or as many as there are users.
    pub fn lists(&self, users: usize) -> PyResult<Vec<Candidates<'_>>> {
        match self {
            Lists::One(Given::Ids(ids)) if ids.shape().len() == 2 => {
                let &[rows, columns] = ids.shape() else { unreachable!("it has two dimensions") };
                if rows != users {
                    let problem = format!("{rows} rows of candidates for {users} users; give a row for each");
                    return Err(PyValueError::new_err(problem));
                }
                let ids = ids.as_slice();
                Ok((0..rows).map(|row| ids[row * columns..][..columns].into()).collect())
            }
            Lists::One(list) => Ok(vec![list.list()?]),
            Lists::Each(lists) => lists.iter().map(Given::list).collect(),
        }
    }
}

/// A recall channel with its quotas.
pub struct Quoted<'py> {
    candidates: Given<'py>,
    at_least: usize,
    at_most: Option<usize>,
}

impl<'py> Quoted<'py> {
    pub fn of(channel: &Bound<'py, PyAny>) -> PyResult<Quoted<'py>> {
        let py = channel.py();
        match channel.getattr_opt(intern!(py, "candidates"))? {
            None => Ok(Quoted { candidates: Given::of(channel)?, at_least: 0, at_most: None }),
            Some(candidates) => Ok(Quoted {
                candidates: Given::of(&candidates)?,
                at_least: channel.getattr(intern!(py, "at_least"))?.extract()?,
                at_most: channel.getattr(intern!(py, "at_most"))?.extract()?,
            }),
        }
    }

    /// All channels of a call.
    pub fn all(channels: &Bound<'py, PyAny>) -> PyResult<Vec<Quoted<'py>>> {
        channels.try_iter()?.map(|channel| Quoted::of(&channel?)).collect()
    }

    pub fn list(&self) -> PyResult<Candidates<'_>> {
        self.candidates.list()
    }

    /// How many hits it is to have at least, and at most.
    pub fn quotas(&self) -> (usize, Option<usize>) {
        (self.at_least, self.at_most)
    }

    pub fn channel(&self) -> PyResult<Channel<'_>> {
        let channel = Channel::new(self.list()?).at_least(self.at_least);
        Ok(self.at_most.map_or(channel, |hits| channel.at_most(hits)))
    }
}
