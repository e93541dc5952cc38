//! An index file.

use std::path::{PathBuf, absolute};
use std::sync::Arc;

use itemdex::{Info, OpenOptions};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrays::{Id, Ids, handed};
use crate::candidates::RowHandles;
use crate::columns;
use crate::errors::raised;
use crate::items::{Items, Target, one};
use crate::options::Asked;
use crate::shown::Shown;

/// An index file, mapped and ready for queries.
///
/// Any number of threads may share one, and any number of processes may open the same file: they share its
/// pages. Pickling sends the path, and the process that unpickles opens the file there. As a context manager
/// it closes itself.
///
/// >>> index = itemdex.Index.open("items.itemdex")
/// >>> found = index.search(user, 100)
/// >>> found.ids, found.scores
#[pyclass(frozen, extends = Items, module = "itemdex")]
pub struct Index {
    path: PathBuf,
    residence: Residence,
}

/// How the file is in memory.
#[derive(Clone, Copy)]
pub struct Residence {
    pub resident: bool,
    pub prefault: bool,
    pub lock: bool,
}

impl Residence {
    pub fn options(self) -> OpenOptions {
        OpenOptions::new().resident(self.resident).prefault(self.prefault).lock(self.lock)
    }
}

impl Index {
    fn opened(slf: &Bound<'_, Self>) -> PyResult<Arc<itemdex::Index>> {
        match slf.as_super().get().target()? {
            Target::Index(index) => Ok(index),
            Target::View(_) => unreachable!("it was made with an index"),
        }
    }
}

#[pymethods]
impl Index {
    /// Opens an index file. Takes milliseconds at any size, unless it is to be read into memory.
    ///
    /// Args:
    ///     path: the file.
    ///     resident: copies the file into memory of this process, on huge pages where the system has them.
    ///     prefault: reads a mapped file into memory, so that no query waits for the disk.
    ///     lock: keeps it in memory (mlock).
    ///
    /// Raises:
    ///     FileError: where it is no index, is damaged, or is of a later version of the format.
    ///     OSError: where the system refuses.
    #[staticmethod]
    #[pyo3(signature = (path, *, resident=false, prefault=false, lock=false))]
    pub fn open(
        py: Python<'_>,
        path: PathBuf,
        resident: bool,
        prefault: bool,
        lock: bool,
    ) -> PyResult<Py<Index>> {
        let residence = Residence { resident, prefault, lock };
        let index = py.detach(|| residence.options().open(&path)).map_err(raised)?;
        let path = absolute(path)?;
        let items = PyClassInitializer::from(Items::new(Target::Index(Arc::new(index))));
        Py::new(py, items.add_subclass(Index { path, residence }))
    }

    /// The file's absolute path.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The item ids in the file's order: a copy, uint64 of shape (len(index),).
    fn ids<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let index = Index::opened(slf)?;
        let ids = slf.py().detach(|| index.ids().to_vec());
        Ok(handed(slf.py(), ids).into_any())
    }

    /// What the file holds, as a dict: rows, dim, model_version, bytes, format_version, plans, clusters,
    /// sections, columns, row_format, quantized, builder, m, ef_construction, layers, calibration,
    /// norm_variation, augmentation, degree. Reads every row and every link.
    fn info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let index = Index::opened(slf)?;
        let info = slf.py().detach(|| index.info());
        described(slf.py(), &info)
    }

    /// Reads the whole file and checks every checksum, every id, every value and every link.
    ///
    /// Raises:
    ///     FileError: for the first thing that is wrong.
    fn verify(slf: &Bound<'_, Self>) -> PyResult<()> {
        let index = Index::opened(slf)?;
        slf.py().detach(|| index.verify(|_| ())).map_err(raised)
    }

    /// What an item has in the columns of the index, as a dict, or None if there is no such item. Tags are a
    /// list; null is None.
    ///
    /// Args:
    ///     id: an int.
    fn values<'py>(slf: &Bound<'py, Self>, id: Id) -> PyResult<Option<Bound<'py, PyDict>>> {
        let values = Index::opened(slf)?.values(id.0);
        values.map(|values| columns::described(slf.py(), &values)).transpose()
    }

    /// Where the index is in memory, as a dict: bytes copied, how many of them are on huge pages, and whether
    /// it is locked.
    fn residency<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let residency = Index::opened(slf)?.residency();
        let dict = PyDict::new(slf.py());
        dict.set_item("copied", residency.copied)?;
        dict.set_item("huge", residency.huge)?;
        dict.set_item("locked", residency.locked)?;
        Ok(dict)
    }

    /// The rows of items, for ranks that look nothing up. Ids that are not in the index are left out.
    ///
    /// Args:
    ///     ids: item ids of shape (m,).
    fn look_up(slf: &Bound<'_, Self>, ids: &Bound<'_, PyAny>) -> PyResult<RowHandles> {
        let index = Index::opened(slf)?;
        let ids = Ids::of(ids)?;
        let ids = ids.list()?;
        Ok(RowHandles(slf.py().detach(|| index.look_up(ids))))
    }

    /// The rows of the items that `search` finds for one user, for a rank by this index.
    ///
    /// Args:
    ///     user: shape (dim,).
    ///     k and the others: as in `search`.
    #[pyo3(signature = (
        user, k, *, recall=None, filter=None, deny=None, allow=None, now=None, ef=None, plan=None,
        approximate_scores=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn search_rows(
        slf: &Bound<'_, Self>,
        user: &Bound<'_, PyAny>,
        k: usize,
        recall: Option<f32>,
        filter: Option<&Bound<'_, PyAny>>,
        deny: Option<&Bound<'_, PyAny>>,
        allow: Option<&Bound<'_, PyAny>>,
        now: Option<i64>,
        ef: Option<usize>,
        plan: Option<&str>,
        approximate_scores: bool,
    ) -> PyResult<RowHandles> {
        let index = Index::opened(slf)?;
        let shown = Shown::of(&index, filter, [deny, allow], now)?;
        let options = Asked { k, recall, ef, plan, approximate_scores }.options(&shown)?;
        let user = one(user)?;
        let rows = slf.py().detach(|| index.search_rows(&user, &options));
        rows.map(RowHandles).map_err(raised)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let Index { path, residence } = slf.get();
        let open = py.import("itemdex._itemdex")?.getattr("_open")?;
        let arguments = (path, residence.resident, residence.prefault, residence.lock);
        Ok((open, arguments.into_pyobject(py)?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let path = slf.get().path.display();
        match Index::opened(slf) {
            Ok(index) => {
                let (rows, dim, version) = (index.len(), index.dim(), index.model_version());
                format!("<itemdex.Index {path}: {rows} x {dim} of model version {version:?}>")
            }
            Err(_) => format!("<itemdex.Index {path}: closed>"),
        }
    }
}

/// Opens an index: what unpickling calls.
#[pyfunction]
pub fn _open(
    py: Python<'_>,
    path: PathBuf,
    resident: bool,
    prefault: bool,
    lock: bool,
) -> PyResult<Py<Index>> {
    Index::open(py, path, resident, prefault, lock)
}

fn described<'py>(py: Python<'py>, info: &Info) -> PyResult<Bound<'py, PyDict>> {
    let plans: Vec<&str> = info.plans.iter().map(|plan| plan.name()).collect();
    let sections = PyDict::new(py);
    info.sections.iter().try_for_each(|(name, bytes)| sections.set_item(name, bytes))?;
    let columns = info.columns.iter().map(|column| {
        let dict = PyDict::new(py);
        dict.set_item("name", &column.name)?;
        dict.set_item("kind", column.kind.name())?;
        dict.set_item("type", column.type_name)?;
        dict.set_item("distinct", column.distinct)?;
        dict.set_item("nulls", column.nulls)?;
        dict.set_item("bytes", column.bytes)?;
        Ok(dict)
    });
    let dict = PyDict::new(py);
    dict.set_item("columns", columns.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("rows", info.rows)?;
    dict.set_item("dim", info.dim)?;
    dict.set_item("model_version", &info.model_version)?;
    dict.set_item("bytes", info.bytes)?;
    dict.set_item("format_version", info.format_version)?;
    dict.set_item("plans", plans)?;
    dict.set_item("clusters", info.clusters)?;
    dict.set_item("sections", sections)?;
    dict.set_item("row_format", info.row_format.name())?;
    dict.set_item("quantized", info.quantized)?;
    dict.set_item("builder", info.builder)?;
    dict.set_item("m", info.m)?;
    dict.set_item("ef_construction", info.ef_construction)?;
    dict.set_item("layers", &info.layers)?;
    dict.set_item(
        "calibration",
        info.calibration.iter().map(|(ef, recalls)| (*ef, recalls.to_vec())).collect::<Vec<_>>(),
    )?;
    dict.set_item("norm_variation", info.norm_variation)?;
    dict.set_item("augmentation", info.augmentation)?;
    dict.set_item("degree", info.degree)?;
    Ok(dict)
}
