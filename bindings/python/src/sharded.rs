//! All shards of a generation in one process.

use itemdex::shards::{self, ShardedCandidates, ShardedChannel};
use itemdex::{Candidates, Expression, Parameters};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::answers::{found, found_many, plan_of, ranked, ranked_channels, ranked_many};
use crate::arrays::{Id, Ids, Users, handed, users_of_dim};
use crate::candidates::{Lists, Quoted};
use crate::catalog::Catalog;
use crate::errors::raised;
use crate::index::Residence;
use crate::items::one;
use crate::options::{Asked, rank_options};
use crate::shown::{Shown, parameters_of};

/// The items of all shards for which an expression is true. Made by `ShardedIndex.filter`.
#[pyclass(frozen, module = "itemdex")]
pub struct ShardedFilter(shards::ShardedFilter);

#[pymethods]
impl ShardedFilter {
    /// How many items of all shards it keeps.
    #[getter]
    fn matching(&self) -> usize {
        self.0.matching()
    }
}

/// All shards of one generation of a catalog, which answer as one index that holds all items.
///
/// Every method releases the GIL while it works, and any number of threads may call at once. The arguments
/// are those of `Index` by the same names, except that deny and allow are ids, and a filter is a text or a
/// ShardedFilter.
///
/// >>> index = itemdex.ShardedIndex.open(itemdex.Catalog("/srv/catalog"))
/// >>> index.search(user, 100).ids
#[pyclass(frozen, module = "itemdex")]
pub struct ShardedIndex(shards::ShardedIndex);

impl ShardedIndex {
    fn filter_of(
        &self,
        py: Python<'_>,
        filter: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<shards::ShardedFilter>> {
        let Some(filter) = filter else { return Ok(None) };
        if let Ok(made) = filter.cast::<ShardedFilter>() {
            return Ok(Some(made.get().0.clone()));
        }
        let text: String = filter.extract()?;
        Ok(Some(self.filter(py, &text, None)?.0))
    }

    fn shown<'py>(&self, items: [Option<&Bound<'py, PyAny>>; 2], now: Option<i64>) -> PyResult<Shown<'py>> {
        Shown::of(&self.0.parts()[0], None, items, now)
    }
}

#[pymethods]
impl ShardedIndex {
    /// Opens all shards of a generation.
    ///
    /// Args:
    ///     catalog: the Catalog.
    ///     generation: its number; the current one by default.
    ///     threads: how many threads ask the shards of one request; by default one after the other.
    ///     resident, prefault, lock: as in `Index.open`.
    ///
    /// Raises:
    ///     LiveError: where there is no such generation (kind "NoGeneration"). FileError, OSError: as `Index.open`.
    #[staticmethod]
    #[pyo3(signature = (
        catalog, generation=None, *, threads=1, resident=false, prefault=false, lock=false,
    ))]
    fn open(
        py: Python<'_>,
        catalog: &Bound<'_, Catalog>,
        generation: Option<u64>,
        threads: usize,
        resident: bool,
        prefault: bool,
        lock: bool,
    ) -> PyResult<ShardedIndex> {
        let catalog = &catalog.get().0;
        let options = Residence { resident, prefault, lock }.options();
        let opened = py.detach(|| {
            let found = match generation {
                None => catalog.current()?,
                Some(number) => catalog.generations()?.into_iter().find(|one| one.number == number),
            };
            let Some(found) = found else {
                let asked =
                    generation.map_or("a generation".to_owned(), |number| format!("generation {number}"));
                let problem = format!("the catalog has not {asked}");
                return Err(itemdex::Error::NoGeneration { folder: catalog.folder().to_owned(), problem });
            };
            shards::ShardedIndex::open(catalog, &found, options)
        });
        Ok(ShardedIndex(opened.map_err(raised)?.threads(threads)))
    }

    /// The best `k` items of all shards for each user, best first. As `Index.search`.
    #[pyo3(signature = (
        users, k, *, recall=None, filter=None, deny=None, allow=None, now=None, ef=None, plan=None,
        approximate_scores=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        k: usize,
        recall: Option<f32>,
        filter: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        now: Option<i64>,
        ef: Option<usize>,
        plan: Option<&str>,
        approximate_scores: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (shown, filter) = (self.shown([deny, allow], now)?, self.filter_of(py, filter)?);
        let options = Asked { k, recall, ef, plan, approximate_scores }.options(&shown)?;
        match Users::of(users)? {
            Users::One(user) => {
                let answer = py.detach(|| self.0.search_with(&user, &options, filter.as_ref()));
                found(py, answer.map_err(raised)?)
            }
            Users::Many(users) => {
                users_of_dim(&users, self.0.dim())?;
                let answers = py.detach(|| self.0.search_many(&users, &options, filter.as_ref()));
                let answers = answers.map_err(raised)?;
                let plan = plan_of(&answers);
                found_many(py, answers, k, plan)
            }
        }
    }

    /// The best `k` candidates of each user by their exact scores, best first. As `Index.rank`, for ids.
    #[pyo3(signature = (
        users, candidates, k, *, filter=None, deny=None, allow=None, now=None, exact=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn rank<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        candidates: &Bound<'py, PyAny>,
        k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        now: Option<i64>,
        exact: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (shown, filter) = (self.shown([deny, allow], now)?, self.filter_of(py, filter)?);
        let options = rank_options(k, exact, &shown)?;
        match Users::of(users)? {
            Users::One(user) => {
                let ids = Ids::of(candidates)?;
                let ids = ids.list()?;
                let answer = py.detach(|| self.0.rank_with(&user, ids, &options, filter.as_ref()));
                ranked(py, answer.map_err(raised)?)
            }
            Users::Many(users) => {
                users_of_dim(&users, self.0.dim())?;
                let given = Lists::of(candidates)?;
                let lists = given.lists(users.len())?.into_iter().map(sharded);
                let lists: Vec<ShardedCandidates<'_>> = lists.collect::<PyResult<_>>()?;
                let answers = py.detach(|| self.0.rank_many(&users, &lists, &options, filter.as_ref()));
                ranked_many(py, answers.map_err(raised)?, lists.len(), k)
            }
        }
    }

    /// The best `k` of what several recall channels bring, within their quotas. As `Index.rank_channels`, for
    /// ids.
    #[pyo3(signature = (user, channels, k, *, filter=None, deny=None, allow=None, now=None, exact=false))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn rank_channels<'py>(
        &self,
        py: Python<'py>,
        user: &Bound<'py, PyAny>,
        channels: &Bound<'py, PyAny>,
        k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        now: Option<i64>,
        exact: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (shown, filter) = (self.shown([deny, allow], now)?, self.filter_of(py, filter)?);
        let options = rank_options(k, exact, &shown)?;
        let user = one(user)?;
        let given = Quoted::all(channels)?;
        let channels: Vec<ShardedChannel<'_>> = given.iter().map(Quoted::sharded).collect::<PyResult<_>>()?;
        let answer = py.detach(|| self.0.rank_channels(&user, &channels, &options, filter.as_ref()));
        ranked_channels(py, answer.map_err(raised)?)
    }

    /// The exact score of every candidate for one user, in the order of the candidates: float32 of shape
    /// (m,), NaN where no shard has the candidate.
    fn score<'py>(
        &self,
        py: Python<'py>,
        user: &Bound<'py, PyAny>,
        candidates: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (user, ids) = (one(user)?, Ids::of(candidates)?);
        let ids = ids.list()?;
        let mut scores = vec![0.0; ids.len()];
        py.detach(|| self.0.score(&user, ids, &mut scores)).map_err(raised)?;
        Ok(handed(py, scores).into_any())
    }

    /// A copy of the embedding of an item, of shape (dim,); None if no shard has it.
    fn get<'py>(&self, py: Python<'py>, id: Id) -> Option<Bound<'py, PyAny>> {
        self.0.get(id.0).map(|embedding| handed(py, embedding.to_vec()).into_any())
    }

    /// Finds the items of all shards for which an expression is true. As `Index.filter`.
    #[pyo3(signature = (text, **parameters))]
    fn filter(
        &self,
        py: Python<'_>,
        text: &str,
        parameters: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<ShardedFilter> {
        let given: Parameters = parameters_of(parameters)?;
        let made = py.detach(|| self.0.filter(&Expression::parse(text, &given)?));
        Ok(ShardedFilter(made.map_err(raised)?))
    }

    /// How many items all shards have.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Whether a shard has an item of this id.
    fn __contains__(&self, id: &Bound<'_, PyAny>) -> bool {
        id.extract::<u64>().is_ok_and(|id| self.0.contains(id))
    }

    /// Values an embedding.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// The model version that the item embeddings came from.
    #[getter]
    fn model_version(&self) -> String {
        self.0.model_version().to_owned()
    }

    /// How many shards there are.
    #[getter]
    fn shards(&self) -> u32 {
        self.0.shards()
    }

    fn __repr__(&self) -> String {
        let (version, items, shards) = (self.0.model_version(), self.0.len(), self.0.shards());
        format!("<itemdex.ShardedIndex of model version {version:?}: {items} items in {shards} shards>")
    }
}

fn sharded(candidates: Candidates<'_>) -> PyResult<ShardedCandidates<'_>> {
    match candidates {
        Candidates::Ids(ids) => Ok(ids.into()),
        _ => Err(PyTypeError::new_err("row handles are of one shard; give ids to a ShardedIndex")),
    }
}

impl Quoted<'_> {
    fn sharded(&self) -> PyResult<ShardedChannel<'_>> {
        let (at_least, at_most) = self.quotas();
        let channel = ShardedChannel::new(sharded(self.list()?)?).at_least(at_least);
        Ok(at_most.map_or(channel, |hits| channel.at_most(hits)))
    }
}
