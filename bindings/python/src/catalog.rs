//! The catalog of generations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use itemdex::live::{self, PublishOptions, Retention};
use itemdex::{Error, Shard};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::answers::{GENERATION, RESERVATION, STAGED_SHARD};
use crate::errors::raised;

/// A folder of generations, of which one is current. Offline jobs publish to it, and any number of processes
/// follow it with a LiveIndex.
///
/// A crash at any instant leaves the old or the new generation current. As a context manager it does nothing
/// on leaving: there is nothing to close.
///
/// >>> catalog = itemdex.Catalog("/srv/catalog")
/// >>> catalog.publish("items.itemdex")
///
/// Args:
///     folder: the folder, which is made where there is none.
#[pyclass(frozen, module = "itemdex")]
pub struct Catalog(pub live::Catalog);

#[pymethods]
impl Catalog {
    #[new]
    fn new(folder: PathBuf) -> PyResult<Catalog> {
        live::Catalog::create(folder).map(Catalog).map_err(raised)
    }

    /// The folder.
    #[getter]
    fn folder(&self) -> PathBuf {
        self.0.folder().to_owned()
    }

    /// Copies an index file into the catalog, verifies the copy, and makes it current.
    ///
    /// Args:
    ///     index: the path of the file, which stays where it is.
    ///     log_position: the position of the log of fresh items at which its dump was taken.
    ///     keep: how many generations of each model version stay.
    ///     versions: how many model versions stay; the others are retired.
    ///
    /// Returns:
    ///     The Generation.
    ///
    /// Raises:
    ///     FileError: for a damaged file. LiveError: where somebody else changes the catalog (kind
    ///     "CatalogBusy"). OSError: where the system refuses. What was current stays current.
    #[pyo3(signature = (index, *, log_position=None, keep=2, versions=2))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        index: PathBuf,
        log_position: Option<u64>,
        keep: usize,
        versions: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = publish_options(log_position, keep, versions);
        let generation = py.detach(|| self.0.publish(index, &options)).map_err(raised)?;
        self.described(py, &generation)
    }

    /// Has `make` build an index file in the catalog's folder, verifies it, and makes it current, without a
    /// copy.
    ///
    /// >>> make = lambda path: itemdex.build(items, ids, out=path, model_version="2026-11-24")
    /// >>> catalog.publish_made(make)
    ///
    /// Args:
    ///     make: a function of the path to write. Others can publish while it runs.
    ///     log_position, keep, versions: as in `publish`.
    ///
    /// Returns:
    ///     The Generation.
    ///
    /// Raises:
    ///     What `make` raises, and what `publish` does. What was current stays current.
    #[pyo3(signature = (make, *, log_position=None, keep=2, versions=2))]
    fn publish_made<'py>(
        &self,
        py: Python<'py>,
        make: Py<PyAny>,
        log_position: Option<u64>,
        keep: usize,
        versions: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = publish_options(log_position, keep, versions);
        let mut failed = None;
        let made = py.detach(|| self.0.publish_made(called(make, &mut failed), &options));
        let (generation, ()) = made.map_err(|error| failed.unwrap_or_else(|| raised(error)))?;
        self.described(py, &generation)
    }

    /// Copies an index file into the catalog as one shard of a generation to come, and verifies the copy.
    /// Nobody sees it before `publish_shards`. Any number of processes may stage shards at once.
    ///
    /// Args:
    ///     key: names the dump that all shards come from, such as a job's id: letters, digits, "-", "_" and ".".
    ///         A shard may be staged again under it; the later file counts.
    ///     shard: the shard's number, from 0 on.
    ///     shards: how many shards there are.
    ///     index: the path of the file, which stays where it is. It has the items of this shard only (`shard_of`).
    ///
    /// Returns:
    ///     The StagedShard.
    ///
    /// Raises:
    ///     LiveError: for an item of another shard, and a key that was published already (kind "BadShards").
    ///     InputError: for what is no key or no shard. FileError, OSError: as `publish`.
    fn stage_shard<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        shard: u32,
        shards: u32,
        index: PathBuf,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shard = Shard::new(shard, shards).map_err(raised)?;
        let staged = py.detach(|| self.0.stage_shard(key, shard, index)).map_err(raised)?;
        staged_shard(py, &staged)
    }

    /// Has `make` build an index file in the catalog's folder, and stages it as `stage_shard` does, without a
    /// copy.
    ///
    /// Args:
    ///     key, shard, shards: as in `stage_shard`.
    ///     make: a function of the path to write.
    ///
    /// Returns:
    ///     The StagedShard.
    ///
    /// Raises:
    ///     What `make` raises, and what `stage_shard` does.
    fn stage_shard_made<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        shard: u32,
        shards: u32,
        make: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shard = Shard::new(shard, shards).map_err(raised)?;
        let mut failed = None;
        let made = py.detach(|| self.0.stage_shard_made(key, shard, called(make, &mut failed)));
        let (staged, ()) = made.map_err(|error| failed.unwrap_or_else(|| raised(error)))?;
        staged_shard(py, &staged)
    }

    /// The shards that are staged under a key, by their numbers: a list of StagedShard.
    fn staged_shards<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let staged = py.detach(|| self.0.staged_shards(key)).map_err(raised)?;
        staged.iter().map(|staged| staged_shard(py, staged)).collect()
    }

    /// Makes the shards that are staged under a key the current generation, all of them at one instant. A key
    /// that is published already gives its generation.
    ///
    /// Args:
    ///     key: the key.
    ///     shards: how many shards there are.
    ///     log_position, keep, versions: as in `publish`.
    ///
    /// Returns:
    ///     The Generation.
    ///
    /// Raises:
    ///     LiveError: for a shard that is missing, and shards that do not fit together (kind "BadShards"). What was
    ///     current stays current, and the shards stay staged.
    #[pyo3(signature = (key, shards, *, log_position=None, keep=2, versions=2))]
    fn publish_shards<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        shards: u32,
        log_position: Option<u64>,
        keep: usize,
        versions: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = publish_options(log_position, keep, versions);
        let generation = py.detach(|| self.0.publish_shards(key, shards, &options)).map_err(raised)?;
        self.described(py, &generation)
    }

    /// Removes what is staged under a key and not published, and returns how many files that were.
    fn discard_shards(&self, py: Python<'_>, key: &str) -> PyResult<usize> {
        py.detach(|| self.0.discard_shards(key)).map_err(raised)
    }

    /// All generations, oldest first, those withdrawn included: a list of Generation.
    fn generations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let generations = py.detach(|| self.0.generations()).map_err(raised)?;
        generations.iter().map(|generation| self.described(py, generation)).collect()
    }

    /// The generation that requests are to use, or None.
    fn current<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let current = py.detach(|| self.0.current()).map_err(raised)?;
        current.map(|generation| self.described(py, &generation)).transpose()
    }

    /// Makes an earlier generation current again, the one before by default, and returns it. Those published
    /// after it are withdrawn.
    ///
    /// Args:
    ///     to: the generation's number.
    #[pyo3(signature = (to=None))]
    fn rollback<'py>(&self, py: Python<'py>, to: Option<u64>) -> PyResult<Bound<'py, PyAny>> {
        let generation = py.detach(|| self.0.rollback(to)).map_err(raised)?;
        self.described(py, &generation)
    }

    /// Drops old generations and returns them.
    ///
    /// Args:
    ///     keep: how many generations of each model version stay.
    ///     versions: how many model versions stay; the others are retired.
    #[pyo3(signature = (*, keep=2, versions=2))]
    fn prune<'py>(&self, py: Python<'py>, keep: usize, versions: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let retention = Retention::new().keep(keep).versions(versions);
        let dropped = py.detach(|| self.0.prune(retention)).map_err(raised)?;
        dropped.iter().map(|generation| self.described(py, generation)).collect()
    }

    /// Has logs of fresh items keep what comes behind a position until a dump taken there is published with
    /// it.
    ///
    /// Args:
    ///     log_position: the position. Call this before the dump is taken.
    ///     hours: how long to hold it if nothing is published with it.
    ///
    /// Returns:
    ///     The Reservation.
    #[pyo3(signature = (log_position, *, hours=24.0))]
    fn reserve<'py>(&self, py: Python<'py>, log_position: u64, hours: f64) -> PyResult<Bound<'py, PyAny>> {
        let hold = seconds(hours * 3600.0, "hours")?;
        let reservation = py.detach(|| self.0.reserve(log_position, hold)).map_err(raised)?;
        RESERVATION.of(py, (reservation.log_position, reservation.until))
    }

    /// The positions that are reserved now: a list of Reservation.
    fn reservations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let reservations = py.detach(|| self.0.reservations()).map_err(raised)?;
        let described = reservations.iter().map(|one| RESERVATION.of(py, (one.log_position, one.until)));
        described.collect()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {}

    fn __repr__(&self) -> String {
        format!("<itemdex.Catalog {}>", self.0.folder().display())
    }
}

impl Catalog {
    fn described<'py>(&self, py: Python<'py>, generation: &live::Generation) -> PyResult<Bound<'py, PyAny>> {
        let path = (generation.shard_count() == 1).then(|| self.0.path_of(generation));
        described(py, generation, path)
    }
}

/// A generation as Python sees it.
pub fn described<'py>(
    py: Python<'py>,
    generation: &live::Generation,
    path: Option<PathBuf>,
) -> PyResult<Bound<'py, PyAny>> {
    let live::Generation { number, rows, dim, bytes, log_position, withdrawn, .. } = *generation;
    let version = &generation.model_version;
    let shards = generation.shard_count();
    GENERATION.of(py, (number, version, rows, dim, bytes, log_position, withdrawn, path, shards))
}

fn staged_shard<'py>(py: Python<'py>, staged: &live::StagedShard) -> PyResult<Bound<'py, PyAny>> {
    let live::StagedShard { shard, rows, dim, bytes, .. } = *staged;
    let (path, version) = (&staged.path, &staged.model_version);
    STAGED_SHARD.of(py, (shard.number(), shard.of(), path, version, rows, dim, bytes))
}

/// Calls a function of Python with the path to write. What it raised is left in `failed`.
fn called<'f>(
    make: Py<PyAny>,
    failed: &'f mut Option<PyErr>,
) -> impl FnOnce(&Path) -> itemdex::Result<()> + 'f {
    move |path| {
        Python::attach(|py| make.call1(py, (path,)).map(drop)).map_err(|error| {
            *failed = Some(error);
            Error::Cancelled
        })
    }
}

fn publish_options(log_position: Option<u64>, keep: usize, versions: usize) -> PublishOptions {
    let options = PublishOptions::new().keep(keep).versions(versions);
    match log_position {
        Some(position) => options.log_position(position),
        None => options,
    }
}

/// A time that a caller gave in seconds.
pub fn seconds(seconds: f64, option: &'static str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| raised(Error::BadOption { option, problem: error.to_string() }))
}
