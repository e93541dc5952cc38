//! What an index and a view are asked.

use std::sync::{Arc, RwLock};

use itemdex::live;
use itemdex::shards::Part;
use itemdex::{Candidates, Channel, RankOptions, RankedChannels};
use numpy::IntoPyArray;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::answers::{found, found_many, plan_of, ranked, ranked_channels, ranked_many};
use crate::arrays::{Ids, Users, handed, matrix, reserved, users_of_dim};
use crate::candidates::{Given, Lists, Quoted};
use crate::errors::raised;
use crate::options::{Asked, rank_options, threads_or_all};
use crate::shown::{Filter, ItemSet, Shown};

/// What answers.
#[derive(Clone)]
pub enum Target {
    Index(Arc<itemdex::Index>),
    View(Arc<live::View>),
}

/// Items that can be searched and ranked: an `Index`, or a `View` of a `LiveIndex`.
///
/// Every method releases the GIL while it works, and any number of threads may call at once. Embeddings are
/// arrays of float32, float16 or float64; item ids are arrays of uint64 or int64. Do not change an array
/// while a call reads it.
#[pyclass(frozen, subclass, module = "itemdex")]
pub struct Items {
    /// None once it is closed.
    target: RwLock<Option<Target>>,
}

impl Items {
    pub fn new(target: Target) -> Items {
        Items { target: RwLock::new(Some(target)) }
    }

    pub fn target(&self) -> PyResult<Target> {
        let target = self.target.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        target.clone().ok_or_else(|| PyValueError::new_err("it is closed"))
    }
}

#[pymethods]
impl Items {
    /// The best `k` items for each user, best first.
    ///
    /// Args:
    ///     users: shape (dim,) for one user, or (n, dim).
    ///     k: how many items to find.
    ///     recall: the share of the exact best `k` to find, above 0 and at most 1, on average over users;
    ///         0.95 by default. At 1 the answer is exact.
    ///     filter: finds only items for which this is true: a text in the language of filters, such as
    ///         'region = "JP" and price < 10', or a Filter, which is found once for many requests.
    ///     deny: leaves out these items: ids of shape (d,), or an ItemSet.
    ///     allow: finds only these items: ids of shape (a,), or an ItemSet.
    ///     now: answers as at this second since 1970: items that have expired by then are left out. By
    ///         default the second of the call.
    ///     ef: the beam of a walk over the graph, in place of a recall.
    ///     plan: "graph", "partitions" or "scan", in place of what is expected to be fastest.
    ///     approximate_scores: lets partitions answer with scores of `i8` rows, for those who rank
    ///         afterwards.
    ///     threads: how many threads share the users of a matrix; all cores by default.
    ///
    /// Returns:
    ///     Found(ids, scores, plan, matching). For one user ids are uint64 and scores float32 of shape (h,),
    ///     where h is `k`, or fewer if there are fewer items. For n users both are of shape (n, k); places
    ///     without an item have the id NO_ITEM (2^64 - 1, which is -1 seen as int64) and the score NaN. Of
    ///     equal scores the smaller id comes first. plan names what found them; "mixed" where users differ.
    ///     matching is how many items the answer is among; of more than 1,000 ids to deny that are not an
    ///     ItemSet, the items may still count below a recall of 1.
    ///
    /// Raises:
    ///     InputError: for users of another dim or with values that are not finite, for a recall out of
    ///         range, for a plan that the index was built without, for a filter that cannot be read or names
    ///         a column that the index does not have, and for a Filter or an ItemSet of another index.
    #[pyo3(signature = (
        users, k, *, recall=None, filter=None, deny=None, allow=None, now=None, ef=None, plan=None,
        approximate_scores=false, threads=None,
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
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target()?;
        let shown = Shown::of(target.index(), filter, [deny, allow], now)?;
        let options = Asked { k, recall, ef, plan, approximate_scores }.options(&shown)?;
        match Users::of(users)? {
            Users::One(user) => {
                let answer = py.detach(|| target.part().search_with(&user, &options));
                found(py, answer.map_err(raised)?)
            }
            Users::Many(users) => {
                users_of_dim(&users, target.dim())?;
                let threads = threads_or_all(threads);
                let answers = py.detach(|| target.part().search_many(&users, &options, threads));
                let answers = answers.map_err(raised)?;
                let plan = plan_of(&answers);
                found_many(py, answers, k, plan)
            }
        }
    }

    /// The best `k` candidates of each user by their exact scores, best first.
    ///
    /// Args:
    ///     users: shape (dim,) for one user, or (n, dim).
    ///     candidates: item ids of shape (m,), or RowHandles, for one user or for all users alike. For n
    ///         users also an array of shape (n, m), or a list of n arrays or RowHandles. A candidate named
    ///         twice counts once.
    ///     k: how many to return.
    ///     filter, deny, allow, now: leave candidates out, as in `search`.
    ///     exact: scores every candidate in float32, without bounds from `i8` rows. The answer is the same.
    ///     threads: how many threads share the users of a matrix; all cores by default.
    ///
    /// Returns:
    ///     Ranked(ids, scores, unknown, dropped): ids and scores as `search` gives them; the candidates that
    ///     are not in the index, of all lists together: uint64 of shape (u,), ascending, each once; and how
    ///     many candidates of all lists were left out: Dropped(expired, denied, filtered).
    ///
    /// Raises:
    ///     InputError: for users of another dim or with values that are not finite, for RowHandles of another
    ///         index, and for lists that are as many as there are users neither.
    #[pyo3(signature = (
        users, candidates, k, *, filter=None, deny=None, allow=None, now=None, exact=false, threads=None,
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
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target()?;
        let shown = Shown::of(target.index(), filter, [deny, allow], now)?;
        let options = rank_options(k, exact, &shown)?;
        match Users::of(users)? {
            Users::One(user) => {
                let given = Given::of(candidates)?;
                let candidates = given.list()?;
                let answer = py.detach(|| target.part().rank_with(&user, candidates, &options));
                ranked(py, answer.map_err(raised)?)
            }
            Users::Many(users) => {
                users_of_dim(&users, target.dim())?;
                let given = Lists::of(candidates)?;
                let lists = given.lists(users.len())?;
                let threads = threads_or_all(threads);
                let ranked = py.detach(|| target.part().rank_many(&users, &lists, &options, threads));
                ranked_many(py, ranked.map_err(raised)?, lists.len(), k)
            }
        }
    }

    /// The best `k` of what several recall channels bring, each item once, within the channels' quotas.
    ///
    /// Args:
    ///     user: shape (dim,).
    ///     channels: at most 32. Each is item ids of shape (m,), RowHandles, or a Channel, which adds quotas.
    ///     k: how many to return.
    ///     filter, deny, allow, now: leave candidates out, as in `search`.
    ///     exact: scores every candidate in float32, without bounds from `i8` rows. The answer is the same.
    ///
    /// Returns:
    ///     RankedChannels(ids, scores, channels, unknown, dropped), of shape (h,) the first three: channels
    ///     are uint32 with a bit for each channel that brought the item, the lowest for the first. unknown
    ///     and dropped are those of `rank`.
    ///
    /// Raises:
    ///     InputError: as `rank`, and for quotas that contradict each other or `k`.
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
        let target = self.target()?;
        let shown = Shown::of(target.index(), filter, [deny, allow], now)?;
        target.of_channels(py, user, channels, &rank_options(k, exact, &shown)?, <dyn Part>::rank_channels)
    }

    /// What this shard contributes to a rank of channels over all shards, which `merge_channels` merges: its
    /// hits before the quotas, of each set of channels the best `k`. Arguments and answer are those of
    /// `rank_channels`, where the candidates are those that belong to this shard.
    #[pyo3(signature = (user, channels, k, *, filter=None, deny=None, allow=None, now=None, exact=false))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn rank_channels_part<'py>(
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
        let target = self.target()?;
        let shown = Shown::of(target.index(), filter, [deny, allow], now)?;
        target.of_channels(
            py,
            user,
            channels,
            &rank_options(k, exact, &shown)?,
            <dyn Part>::rank_channels_part,
        )
    }

    /// The exact score of every candidate, in the order of the candidates.
    ///
    /// Args:
    ///     users: shape (dim,) for one user, or (n, dim).
    ///     candidates: item ids of shape (m,), or for n users also of shape (n, m).
    ///     filter, deny, allow, now: leave candidates out, as in `search`.
    ///
    /// Returns:
    ///     float32 of shape (m,), or (n, m) for n users; NaN where a candidate is not in the index or is left
    ///     out.
    ///
    /// Raises:
    ///     InputError: for users of another dim or with values that are not finite.
    #[pyo3(signature = (users, candidates, *, filter=None, deny=None, allow=None, now=None))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn score<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        candidates: &Bound<'py, PyAny>,
        filter: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        now: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target()?;
        let shown = Shown::of(target.index(), filter, [deny, allow], now)?;
        let options = rank_options(0, false, &shown)?;
        let ids = Ids::of(candidates)?;
        match Users::of(users)? {
            Users::One(user) => {
                let ids = ids.list()?;
                let mut scores = vec![0.0; ids.len()];
                py.detach(|| target.part().score_with(&user, ids, &options, &mut scores)).map_err(raised)?;
                Ok(handed(py, scores).into_any())
            }
            Users::Many(users) => {
                users_of_dim(&users, target.dim())?;
                let lists = Lists::One(Given::Ids(ids));
                let lists = lists.lists(users.len())?;
                let columns = lists.first().map_or(0, length);
                let shape = (users.len(), columns);
                let mut scores = reserved(shape)?;
                scores.resize(users.len() * columns, 0.0);
                py.detach(|| {
                    let places = scores.chunks_mut(columns.max(1));
                    for ((number, user), places) in users.rows().enumerate().zip(places) {
                        if let Candidates::Ids(ids) = lists[number.min(lists.len() - 1)] {
                            target.part().score_with(user, ids, &options, places)?;
                        }
                    }
                    Ok(())
                })
                .map_err(raised)?;
                Ok(matrix(shape, scores)?.into_pyarray(py).into_any())
            }
        }
    }

    /// The embedding of an item, or of several.
    ///
    /// Args:
    ///     ids: an int, or item ids of shape (n,).
    ///
    /// Returns:
    ///     A copy: float32 of shape (dim,), or None for an int that is not in the index; for n ids of shape
    ///     (n, dim), with NaN in the rows of ids that are not in the index.
    fn get<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let target = self.target()?;
        if let Ok(id) = ids.extract::<u64>() {
            return Ok(target.part().get(id).map(|embedding| handed(py, embedding.into_owned()).into_any()));
        }
        let ids = Ids::of(ids)?;
        let (ids, dim) = (ids.list()?, target.dim());
        let mut values = reserved((ids.len(), dim))?;
        py.detach(|| {
            for (row, &id) in ids.iter().enumerate() {
                values.extend_from_slice(&target.part().get(id).unwrap_or_default());
                values.resize((row + 1) * dim, f32::NAN);
            }
        });
        Ok(Some(matrix((ids.len(), dim), values)?.into_pyarray(py).into_any()))
    }

    /// Finds the items for which an expression is true, for any number of requests.
    ///
    /// Args:
    ///     text: the expression, such as 'region in ("JP", "US") and not author in $blocked and price <= 10'.
    ///     parameters: what the names behind `$` stand for: str, bool, int or float, or a list or array of
    ///         them.
    ///
    /// Returns:
    ///     A Filter. A View takes one that was made by a View of the same generation, and heeds fresh items.
    ///
    /// Raises:
    ///     InputError: for a text that cannot be read, and for a column that the index does not have.
    #[pyo3(signature = (text, **parameters))]
    fn filter(&self, py: Python<'_>, text: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Filter> {
        Filter::of(py, self.target()?.index(), text, parameters)
    }

    /// Makes a set of items ready to be denied or allowed by many requests.
    ///
    /// Args:
    ///     ids: item ids of shape (n,).
    fn item_set(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<ItemSet> {
        let target = self.target()?;
        let ids = Ids::of(ids)?;
        let ids = ids.list()?;
        Ok(ItemSet(py.detach(|| target.index().item_set(ids))))
    }

    /// How many items there are.
    fn __len__(&self) -> PyResult<usize> {
        Ok(self.target()?.part().items())
    }

    /// Whether there is an item of this id.
    fn __contains__(&self, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let target = self.target()?;
        Ok(id.extract::<u64>().is_ok_and(|id| target.part().get(id).is_some()))
    }

    /// Values an embedding.
    #[getter]
    fn dim(&self) -> PyResult<usize> {
        Ok(self.target()?.dim())
    }

    /// The model version that the item embeddings came from. User embeddings have to be of the same.
    #[getter]
    fn model_version(&self) -> PyResult<String> {
        Ok(self.target()?.index().model_version().to_owned())
    }

    /// Lets the file go, once calls that are under way are done. Every later call raises ValueError.
    fn close(&self, py: Python<'_>) {
        let target = self.target.write().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        py.detach(|| drop(target));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}

impl Target {
    /// What it is asked, whichever it is.
    fn part(&self) -> &(dyn Part + 'static) {
        match self {
            Target::Index(index) => &**index,
            Target::View(view) => &**view,
        }
    }

    /// The index, or that of the view's generation.
    pub fn index(&self) -> &itemdex::Index {
        self.part().index()
    }

    pub fn dim(&self) -> usize {
        self.index().dim()
    }

    /// What a rank of channels answers, of all of them or of those of one shard.
    fn of_channels<'py>(
        &self,
        py: Python<'py>,
        user: &Bound<'py, PyAny>,
        channels: &Bound<'py, PyAny>,
        options: &RankOptions<'_>,
        rank: impl Fn(
            &(dyn Part + 'static),
            &[f32],
            &[Channel<'_>],
            &RankOptions<'_>,
        ) -> itemdex::Result<RankedChannels>
        + Sync,
    ) -> PyResult<Bound<'py, PyAny>> {
        let user = one(user)?;
        let given = Quoted::all(channels)?;
        let channels: Vec<Channel<'_>> = given.iter().map(Quoted::channel).collect::<PyResult<_>>()?;
        ranked_channels(py, py.detach(|| rank(self.part(), &user, &channels, options)).map_err(raised)?)
    }
}

/// The embedding of one user.
pub fn one(user: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    match Users::of(user)? {
        Users::One(user) => Ok(user),
        Users::Many(users) => {
            let shape = (users.len(), users.dim());
            Err(PyValueError::new_err(format!("the user embedding is of shape {shape:?}; give (dim,)")))
        }
    }
}

fn length(candidates: &Candidates<'_>) -> usize {
    match candidates {
        Candidates::Ids(ids) => ids.len(),
        _ => 0,
    }
}
