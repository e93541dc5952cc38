//! A catalog in service.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use itemdex::live::{self, Applied, Batch, Change, LiveOptions, Status, SyncPolicy};
use itemdex::{ColumnInfo, Shard, Values};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};

use crate::answers::APPLIED;
use crate::arrays::{Id, Ids, Users};
use crate::catalog::{described, seconds};
use crate::columns::values_of;
use crate::errors::raised;
use crate::index::Residence;
use crate::items::one;
use crate::view::{View, view};

/// A catalog in service: follows it in the background, answers from what is current, and takes fresh items.
///
/// As a context manager it stops its threads on leaving; views that were handed out stay. A process that
/// forks has the threads in the parent only: open a LiveIndex in the child.
///
/// >>> with itemdex.LiveIndex.open("/srv/catalog", log="fresh.log") as live:
/// ...     live.upsert("2026-11-24", 7, embedding)
/// ...     with live.current() as view:
/// ...         found = view.search(user, 100)
#[pyclass(frozen, module = "itemdex")]
pub struct LiveIndex {
    /// None once it is closed.
    live: RwLock<Option<Arc<live::LiveIndex>>>,
}

impl LiveIndex {
    fn live(&self) -> PyResult<Arc<live::LiveIndex>> {
        let live = self.live.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        live.clone().ok_or_else(|| PyValueError::new_err("the LiveIndex is closed"))
    }

    /// The columns of the current generation.
    fn columns(&self) -> PyResult<Vec<ColumnInfo>> {
        Ok(self.live()?.current().index().info().columns)
    }

    /// One dict of values by column, or a list of them.
    fn values(&self, values: &Bound<'_, PyAny>) -> PyResult<Vec<Values>> {
        let columns = self.columns()?;
        match values.cast::<PyMapping>() {
            Ok(one) => Ok(vec![values_of(one, &columns)?]),
            Err(_) => values.try_iter()?.map(|one| values_of(one?.cast()?, &columns)).collect(),
        }
    }

    fn send(&self, py: Python<'_>, batch: impl Into<Batch> + Send) -> PyResult<Applied> {
        let live = self.live()?;
        py.detach(|| live.send(batch)?.wait()).map_err(raised)
    }
}

#[pymethods]
impl LiveIndex {
    /// Opens what the catalog has, and follows it from then on.
    ///
    /// Args:
    ///     catalog: the catalog's folder.
    ///     log: the file that keeps fresh items and numbers them; made where there is none.
    ///     fed_log: the same, where whoever feeds it gives each change its position (`apply`).
    ///     sync: when a fresh item counts as kept: "always" on disk, "never" on disk but with the system, or
    ///         seconds within which it is on disk.
    ///     poll: seconds between looks at the catalog where no notice of a change comes.
    ///     fresh_limit: the most fresh or deleted items of a model version.
    ///     sample_recall: the share of searches that are compared with the exact answer, 0 to 1.
    ///     shard: a pair (number, shards): serves this shard of the catalog's generations only. Its log has to be
    ///         one that is fed, with a file of its own; it takes the changes of its items.
    ///     resident, prefault, lock: how index files are opened, as in `Index.open`.
    ///
    /// Raises:
    ///     LiveError: where the catalog has no generation that can serve (kind "NoGeneration"), and for a log
    ///         that does not fit it. OSError: where the system refuses.
    #[staticmethod]
    #[pyo3(signature = (
        catalog, *, log=None, fed_log=None, sync=None, poll=2.0, fresh_limit=100_000, sample_recall=0.0,
        shard=None, resident=false, prefault=false, lock=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn open(
        py: Python<'_>,
        catalog: PathBuf,
        log: Option<PathBuf>,
        fed_log: Option<PathBuf>,
        sync: Option<&Bound<'_, PyAny>>,
        poll: f64,
        fresh_limit: usize,
        sample_recall: f64,
        shard: Option<(u32, u32)>,
        resident: bool,
        prefault: bool,
        lock: bool,
    ) -> PyResult<LiveIndex> {
        let residence = Residence { resident, prefault, lock };
        let mut options = LiveOptions::new()
            .poll(seconds(poll, "poll")?)
            .fresh_limit(fresh_limit)
            .sample_recall(sample_recall)
            .open_with(residence.options());
        options = match (log, fed_log) {
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err(
                    "give log or fed_log, not both: a log is numbered one way",
                ));
            }
            (Some(path), None) => options.log(path),
            (None, Some(path)) => options.fed_log(path),
            (None, None) => options,
        };
        if let Some((number, shards)) = shard {
            options = options.shard(Shard::new(number, shards).map_err(raised)?);
        }
        if let Some(sync) = sync {
            options = options.sync(policy(sync)?);
        }
        let live = py.detach(|| options.open(&catalog)).map_err(raised)?;
        Ok(LiveIndex { live: RwLock::new(Some(Arc::new(live))) })
    }

    /// The View of the current generation, with its fresh items. Waits for nothing.
    fn current(&self, py: Python<'_>) -> PyResult<Py<View>> {
        view(py, self.live()?.current())
    }

    /// The View of the newest generation of a model version.
    ///
    /// Raises:
    ///     LiveError: where none serves (kind "UnknownModel"); its message names the versions that do.
    fn for_model(&self, py: Python<'_>, model_version: &str) -> PyResult<Py<View>> {
        view(py, self.live()?.for_model(model_version).map_err(raised)?)
    }

    /// The View of a generation by its number, for a request that asks several shards of one generation.
    ///
    /// Raises:
    ///     LiveError: where it does not serve (kind "NoGeneration"); its message names those that do.
    fn generation(&self, py: Python<'_>, number: u64) -> PyResult<Py<View>> {
        view(py, self.live()?.generation(number).map_err(raised)?)
    }

    /// The numbers of the generations that serve: the newest of each model version, the current one first,
    /// and behind them those that are held.
    fn generations(&self) -> PyResult<Vec<u64>> {
        Ok(self.live()?.generations())
    }

    /// Has generations serve beside the newest, from the next look at the catalog on, until this is called
    /// again.
    ///
    /// Processes that share the shards of a catalog take up a new generation one after the other. Whoever
    /// spreads requests over them holds the generation that all have, asks for it by its number
    /// (`generation`), and holds the next one when all have that.
    ///
    /// Args:
    ///     generations: a list of numbers.
    fn hold(&self, generations: Vec<u64>) -> PyResult<()> {
        self.live()?.hold(&generations);
        Ok(())
    }

    /// Which shard this serves, of how many: a pair (number, shards).
    #[getter]
    fn shard(&self) -> PyResult<(u32, u32)> {
        let shard = self.live()?.shard();
        Ok((shard.number(), shard.of()))
    }

    /// The model versions that serve, that of the current generation first.
    fn model_versions(&self) -> PyResult<Vec<String>> {
        Ok(self.live()?.model_versions())
    }

    /// Looks at the catalog now, and returns when what it has serves: whether anything changed.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        let live = self.live()?;
        py.detach(|| live.refresh()).map_err(raised)
    }

    /// Puts items in, or new embeddings in place of theirs, in one write: every view handed out from when
    /// this returns has them. For a log that numbers its changes itself.
    ///
    /// Args:
    ///     model_version: the version that the embeddings are of; only its generation gets them.
    ///     ids: an int, or item ids of shape (n,).
    ///     embeddings: shape (dim,) for an int, (n, dim) for n ids.
    ///     values: for an int a dict of values by column, for n ids a list of n such dicts. A column that a
    ///         dict does not name is null from then on, and so are all without a dict.
    ///
    /// Returns:
    ///     Applied(position, applied, already_there, retired).
    #[pyo3(signature = (model_version, ids, embeddings, values=None))]
    fn upsert<'py>(
        &self,
        py: Python<'py>,
        model_version: &str,
        ids: &Bound<'py, PyAny>,
        embeddings: &Bound<'py, PyAny>,
        values: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut changes: Vec<Change> = match (ids.extract::<u64>(), Users::of(embeddings)?) {
            (Ok(id), Users::One(embedding)) => vec![Change::upsert(model_version, id, embedding)],
            (_, Users::Many(embeddings)) => {
                let ids = Ids::of(ids)?;
                let ids = ids.list()?;
                if ids.len() != embeddings.len() {
                    let problem = format!("{} ids for {} embeddings", ids.len(), embeddings.len());
                    return Err(PyValueError::new_err(problem));
                }
                let pairs = ids.iter().zip(embeddings.rows());
                pairs.map(|(&id, embedding)| Change::upsert(model_version, id, embedding)).collect()
            }
            (Err(_), Users::One(_)) => {
                Ids::of(ids)?;
                return Err(PyValueError::new_err(
                    "the embeddings are of one dimension; give (n, dim) for ids",
                ));
            }
        };
        if let Some(values) = values {
            let values = self.values(values)?;
            if values.len() != changes.len() {
                let problem = format!("{} dicts of values for {} items", values.len(), changes.len());
                return Err(PyValueError::new_err(problem));
            }
            changes =
                changes.into_iter().zip(values).map(|(change, values)| change.with_values(values)).collect();
        }
        applied(py, self.send(py, changes)?)
    }

    /// Replaces values of an item in every model version that has it, without an embedding: its price, or
    /// whether it is in stock. Columns that are not named keep theirs. An item that is not there is no error.
    ///
    /// Args:
    ///     id: the item.
    ///     values: a dict of values by column; None is null.
    ///
    /// Returns:
    ///     Applied(position, applied, already_there, retired).
    fn set_values<'py>(
        &self,
        py: Python<'py>,
        id: Id,
        values: &Bound<'py, PyMapping>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let values = values_of(values, &self.columns()?)?;
        applied(py, self.send(py, Change::set_values(id.0, values))?)
    }

    /// Takes items out of every model version, in one write. An item that is not there is no error.
    ///
    /// Args:
    ///     ids: an int, or item ids of shape (n,).
    ///
    /// Returns:
    ///     Applied(position, applied, already_there, retired).
    fn delete<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let changes: Vec<Change> = match ids.extract::<u64>() {
            Ok(id) => vec![Change::delete(id)],
            Err(_) => Ids::of(ids)?.list()?.iter().map(|&id| Change::delete(id)).collect(),
        };
        applied(py, self.send(py, changes)?)
    }

    /// Logs changes together, all of them or none, and has requests see them at one instant. For a log that
    /// numbers its changes itself.
    ///
    /// Args:
    ///     changes: a list of Upsert(model_version, id, embedding) and Delete(id).
    ///
    /// Returns:
    ///     Applied(position, applied, already_there, retired).
    fn write<'py>(&self, py: Python<'py>, changes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let changes = changes.try_iter()?.map(|one| change(&one?)).collect::<PyResult<Vec<_>>>()?;
        applied(py, self.send(py, changes)?)
    }

    /// Logs changes at the positions that they have, for a log that is fed. What is at or before the log's
    /// last position is there already and is not applied again, so that a call can be repeated.
    ///
    /// Args:
    ///     changes: a list of (position, change), where positions ascend from 1 on.
    ///
    /// Returns:
    ///     Applied(position, applied, already_there, retired).
    fn apply<'py>(&self, py: Python<'py>, changes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let pair = |pair: PyResult<Bound<'py, PyAny>>| {
            let (position, one): (u64, Bound<'py, PyAny>) = pair?.extract()?;
            Ok((position, change(&one)?))
        };
        let changes = changes.try_iter()?.map(pair).collect::<PyResult<Vec<_>>>()?;
        applied(py, self.send(py, changes)?)
    }

    /// What serves, how it fares, and what went wrong, as a dict: generations, last_refresh, last_error,
    /// refused, log_position, log_dropped_to, log_error, waiting. Waits for no file.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        told(py, &self.live()?.status())
    }

    /// Stops the threads, once calls that are under way are done. Every later call raises ValueError.
    fn close(&self, py: Python<'_>) {
        let live = self.live.write().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        py.detach(|| drop(live));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        match self.live() {
            Ok(live) => format!("<itemdex.LiveIndex of model versions {:?}>", live.model_versions()),
            Err(_) => "<itemdex.LiveIndex: closed>".to_owned(),
        }
    }
}

fn policy(sync: &Bound<'_, PyAny>) -> PyResult<SyncPolicy> {
    if let Ok(within) = sync.extract::<f64>() {
        return Ok(SyncPolicy::Every(seconds(within, "sync")?));
    }
    match sync.extract::<String>().as_deref() {
        Ok("always") => Ok(SyncPolicy::Always),
        Ok("never") => Ok(SyncPolicy::Never),
        _ => {
            Err(PyValueError::new_err(format!("sync {sync:?} is none of \"always\", \"never\" and seconds")))
        }
    }
}

/// An `Upsert` or a `Delete`.
fn change(change: &Bound<'_, PyAny>) -> PyResult<Change> {
    let py = change.py();
    let Some(id) = change.getattr_opt(intern!(py, "id"))? else {
        return Err(PyTypeError::new_err(format!("{change:?} is neither an Upsert nor a Delete")));
    };
    let Id(id) = id.extract()?;
    match change.getattr_opt(intern!(py, "embedding"))? {
        None => Ok(Change::delete(id)),
        Some(embedding) => {
            let version: String = change.getattr(intern!(py, "model_version"))?.extract()?;
            Ok(Change::upsert(version, id, one(&embedding)?))
        }
    }
}

fn applied<'py>(py: Python<'py>, applied: Applied) -> PyResult<Bound<'py, PyAny>> {
    let Applied { position, applied, already_there, retired, elsewhere, .. } = applied;
    APPLIED.of(py, (position, applied, already_there, retired, elsewhere))
}

fn told<'py>(py: Python<'py>, status: &Status) -> PyResult<Bound<'py, PyDict>> {
    let mut generations = Vec::new();
    for one in &status.generations {
        let dict = PyDict::new(py);
        dict.set_item("generation", described(py, &one.generation, None)?)?;
        dict.set_item("items", one.items)?;
        dict.set_item("fresh", one.fresh)?;
        dict.set_item("queries", one.queries)?;
        dict.set_item("recall", one.recall)?;
        generations.push(dict);
    }
    let dict = PyDict::new(py);
    dict.set_item("generations", generations)?;
    dict.set_item("last_refresh", status.last_refresh)?;
    dict.set_item("last_error", &status.last_error)?;
    dict.set_item("refused", &status.refused)?;
    dict.set_item("log_position", status.log_position)?;
    dict.set_item("log_dropped_to", status.log_dropped_to)?;
    dict.set_item("log_error", &status.log_error)?;
    dict.set_item("waiting", status.waiting)?;
    Ok(dict)
}
