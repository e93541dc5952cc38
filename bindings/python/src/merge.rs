//! Merging what shards answer, wherever they are: arrays in, arrays out.

use itemdex::shards::{self, Quota};
use itemdex::{ChannelHit, Dropped, Found, Hit, Plan, Ranked, RankedChannels};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::answers::{found, found_many, ranked, ranked_channels};
use crate::arrays::{Floats, Ids, NO_ITEM, handed};
use crate::errors::raised;
use crate::options::plan_named;

/// The shard that each item belongs to, of so many: a fixed hash of its id.
///
/// Args:
///     ids: an int, or item ids of shape (n,).
///     shards: how many shards there are.
///
/// Returns:
///     An int for an int; otherwise uint32 of shape (n,), 0 to `shards` - 1.
#[pyfunction]
pub fn shard_of<'py>(py: Python<'py>, ids: &Bound<'py, PyAny>, shards: u32) -> PyResult<Bound<'py, PyAny>> {
    itemdex::Shard::new(0, shards).map_err(raised)?;
    if let Ok(id) = ids.extract::<u64>() {
        return Ok(itemdex::shard_of(id, shards).into_pyobject(py)?.into_any());
    }
    let ids = Ids::of(ids)?;
    let ids = ids.list()?;
    let numbers: Vec<u32> = py.detach(|| ids.iter().map(|&id| itemdex::shard_of(id, shards)).collect());
    Ok(handed(py, numbers).into_any())
}

/// For how many items each of so many shards is asked at first, where the best `k` of all are wanted: what it
/// is expected to have of them, and three standard deviations more. `to_ask_again` says where that is too
/// few.
///
/// Args:
///     k: how many items are wanted.
///     shards: how many shards there are.
#[pyfunction]
pub fn share_of(k: usize, shards: usize) -> usize {
    shards::share_of(k, shards)
}

/// What a shard found, as its arrays say it.
struct Part {
    ids: Vec<u64>,
    scores: Vec<f32>,
    /// None for one user.
    users: Option<usize>,
    plan: String,
    matching: usize,
}

impl Part {
    fn of(part: &Bound<'_, PyAny>) -> PyResult<Part> {
        let py = part.py();
        let ids = part.getattr(intern!(py, "ids"))?;
        let ids = Ids::of(&ids)?;
        let scores = Floats::of(&part.getattr(intern!(py, "scores"))?, "scores")?;
        if ids.shape() != scores.shape() {
            let problem = format!("ids are of shape {:?}, and scores of {:?}", ids.shape(), scores.shape());
            return Err(PyValueError::new_err(problem));
        }
        let users = match *ids.shape() {
            [_] => None,
            [users, _] => Some(users),
            ref shape => {
                return Err(PyValueError::new_err(format!(
                    "ids are of shape {shape:?}; give (h,) or (n, k)"
                )));
            }
        };
        let plan = part.getattr(intern!(py, "plan"))?.extract()?;
        let matching = part.getattr(intern!(py, "matching"))?.extract()?;
        Ok(Part { ids: ids.as_slice().to_vec(), scores: scores.to_vec(), users, plan, matching })
    }

    /// All parts, which are of the same users.
    fn all(parts: &Bound<'_, PyAny>) -> PyResult<Vec<Part>> {
        let parts: Vec<Part> = parts.try_iter()?.map(|part| Part::of(&part?)).collect::<PyResult<_>>()?;
        match parts.iter().find(|part| part.users != parts[0].users) {
            None if parts.is_empty() => Err(PyValueError::new_err("there are no answers to merge")),
            None => Ok(parts),
            Some(_) => Err(PyValueError::new_err("the answers are of different numbers of users")),
        }
    }

    fn found(&self, user: usize) -> Found {
        let width = self.ids.len() / self.users.unwrap_or(1).max(1);
        let hits = hits_of(&self.ids[user * width..][..width], &self.scores[user * width..][..width]);
        let plan = plan_named(&self.plan).unwrap_or(Plan::Graph);
        Found::new(hits, plan, self.matching)
    }
}

fn hits_of(ids: &[u64], scores: &[f32]) -> Vec<Hit> {
    let hits = ids.iter().zip(scores).map(|(&id, &score)| Hit { id, score });
    hits.take_while(|hit| hit.id != NO_ITEM || !hit.score.is_nan()).collect()
}

/// The best `k` of what all shards found.
///
/// Args:
///     parts: the Found of each shard, or anything with its attributes: all for one user, or all for the same n.
///     k: how many items to find.
///
/// Returns:
///     Found(ids, scores, plan, matching), as `search` gives it. matching is the sum, and plan the least exact.
///
/// Raises:
///     ValueError: for no parts, and for parts of different numbers of users.
#[pyfunction]
pub fn merge_found<'py>(py: Python<'py>, parts: &Bound<'py, PyAny>, k: usize) -> PyResult<Bound<'py, PyAny>> {
    let parts = Part::all(parts)?;
    let mixed = parts.iter().any(|part| part.plan == "mixed");
    let merged = |user: usize| shards::merge_found(parts.iter().map(|part| part.found(user)), k);
    match parts[0].users {
        None => found(py, merged(0)),
        Some(users) => {
            let of_users: Vec<Found> = py.detach(|| (0..users).map(merged).collect());
            let plan = of_users.first().map_or(Plan::Scan, |found| found.plan).name();
            found_many(py, of_users, k, if mixed { "mixed" } else { plan })
        }
    }
}

/// Which shards are to be asked again for `k` items, and for which users, after each was asked for `asked`:
/// those that have all that they found among the best `k`, so that more of theirs may be.
///
/// Args:
///     parts: the Found of each shard, as in `merge_found`.
///     asked: for how many items each was asked.
///     k: how many items are wanted.
///
/// Returns:
///     For each shard the rows of the users to ask it for again: int64 of shape (u,), mostly empty. For one user
///     row 0.
#[pyfunction]
pub fn to_ask_again<'py>(
    py: Python<'py>,
    parts: &Bound<'py, PyAny>,
    asked: usize,
    k: usize,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let parts = Part::all(parts)?;
    let mut again: Vec<Vec<i64>> = vec![Vec::new(); parts.len()];
    for user in 0..parts[0].users.unwrap_or(1) {
        let found: Vec<Found> = parts.iter().map(|part| part.found(user)).collect();
        shards::to_ask_again(&found, asked, k).into_iter().for_each(|part| again[part].push(user as i64));
    }
    Ok(again.into_iter().map(|rows| handed(py, rows).into_any()).collect())
}

fn dropped(part: &Bound<'_, PyAny>) -> PyResult<Dropped> {
    let (expired, denied, filtered) = part.getattr(intern!(part.py(), "dropped"))?.extract()?;
    let mut dropped = Dropped::default();
    (dropped.expired, dropped.denied, dropped.filtered) = (expired, denied, filtered);
    Ok(dropped)
}

fn ids_of(part: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u64>> {
    Ok(Ids::of(&part.getattr(name)?)?.list()?.to_vec())
}

fn scores_of(part: &Bound<'_, PyAny>, ids: &[u64]) -> PyResult<Vec<f32>> {
    let scores = Floats::of(&part.getattr(intern!(part.py(), "scores"))?, "scores")?.to_vec();
    match scores.len() == ids.len() {
        true => Ok(scores),
        false => Err(PyValueError::new_err(format!("{} scores for {} ids", scores.len(), ids.len()))),
    }
}

/// The best `k` of what shards ranked for one user, each asked about the candidates that belong to it
/// (`shard_of`).
///
/// Args:
///     parts: the Ranked of each shard, or anything with its attributes.
///     k: how many to return.
///
/// Returns:
///     Ranked(ids, scores, unknown, dropped), as `rank` gives it for one user.
#[pyfunction]
pub fn merge_ranked<'py>(
    py: Python<'py>,
    parts: &Bound<'py, PyAny>,
    k: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let part = |part: PyResult<Bound<'py, PyAny>>| {
        let part = part?;
        let ids = ids_of(&part, "ids")?;
        let mut ranked = Ranked::default();
        ranked.hits = hits_of(&ids, &scores_of(&part, &ids)?);
        ranked.unknown = ids_of(&part, "unknown")?;
        ranked.dropped = dropped(&part)?;
        PyResult::Ok(ranked)
    };
    let parts: Vec<Ranked> = parts.try_iter()?.map(part).collect::<PyResult<_>>()?;
    ranked(py, shards::merge_ranked(parts, k))
}

/// The best `k` that quotas allow of what shards ranked by `rank_channels_part`, each asked about those
/// candidates of each channel that belong to it.
///
/// Args:
///     parts: the RankedChannels of each shard, or anything with its attributes.
///     k: how many to return.
///     quotas: a pair (at_least, at_most) for each channel; at_most is None where there is no limit.
///
/// Returns:
///     RankedChannels(ids, scores, channels, unknown, dropped), as `rank_channels` gives it.
///
/// Raises:
///     InputError: for quotas that contradict each other or `k`.
#[pyfunction]
pub fn merge_channels<'py>(
    py: Python<'py>,
    parts: &Bound<'py, PyAny>,
    k: usize,
    quotas: Vec<(usize, Option<usize>)>,
) -> PyResult<Bound<'py, PyAny>> {
    let part = |part: PyResult<Bound<'py, PyAny>>| {
        let part = part?;
        let ids = ids_of(&part, "ids")?;
        let scores = scores_of(&part, &ids)?;
        let channels = part.getattr(intern!(py, "channels"))?;
        let channels: Vec<u32> = channels.call_method0(intern!(py, "tolist"))?.extract()?;
        if channels.len() != ids.len() {
            let problem = format!("{} sets of channels for {} ids", channels.len(), ids.len());
            return Err(PyValueError::new_err(problem));
        }
        let hits = ids.iter().zip(scores).zip(channels);
        let mut ranked = RankedChannels::default();
        ranked.hits = hits.map(|((&id, score), bits)| ChannelHit::new(Hit { id, score }, bits)).collect();
        ranked.unknown = ids_of(&part, "unknown")?;
        ranked.dropped = dropped(&part)?;
        Ok(ranked)
    };
    let parts: Vec<RankedChannels> = parts.try_iter()?.map(part).collect::<PyResult<_>>()?;
    let quota = |(at_least, at_most): (usize, Option<usize>)| Quota {
        at_least,
        at_most: at_most.unwrap_or(usize::MAX),
    };
    let quotas: Vec<Quota> = quotas.into_iter().map(quota).collect();
    ranked_channels(py, shards::merge_channels(parts, k, &quotas).map_err(raised)?)
}
