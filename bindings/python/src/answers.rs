//! Answers as the named tuples of `itemdex._answers`.

use itemdex::{Dropped, Found, Plan, Ranked, RankedChannels};
use numpy::IntoPyArray;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::arrays::{handed, split, split_all};

/// A class of `itemdex._answers`, looked up once.
pub struct Answer {
    name: &'static str,
    class: PyOnceLock<Py<PyType>>,
}

impl Answer {
    const fn new(name: &'static str) -> Answer {
        Answer { name, class: PyOnceLock::new() }
    }

    pub fn of<'py>(&self, py: Python<'py>, fields: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.class.import(py, "itemdex._answers", self.name)?.call1(fields)
    }
}

static FOUND: Answer = Answer::new("Found");
static RANKED: Answer = Answer::new("Ranked");
static RANKED_CHANNELS: Answer = Answer::new("RankedChannels");
pub static DROPPED: Answer = Answer::new("Dropped");
pub static BUILD_REPORT: Answer = Answer::new("BuildReport");
pub static GENERATION: Answer = Answer::new("Generation");
pub static RESERVATION: Answer = Answer::new("Reservation");
pub static APPLIED: Answer = Answer::new("Applied");
pub static STAGED_SHARD: Answer = Answer::new("StagedShard");

/// What a search for one user answers.
pub fn found(py: Python<'_>, found: Found) -> PyResult<Bound<'_, PyAny>> {
    let (ids, scores) = split(&found.hits);
    FOUND.of(py, (handed(py, ids), handed(py, scores), found.plan.name(), found.matching))
}

/// What a search for several users answers, `k` places a user. The GIL is released for the arrays.
pub fn found_many<'py>(
    py: Python<'py>,
    found: Vec<Found>,
    k: usize,
    plan: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    let matching = found.first().map_or(0, |found| found.matching);
    let (ids, scores) = py.detach(move || split_all(found.iter().map(|found| &*found.hits), k))?;
    FOUND.of(py, (ids.into_pyarray(py), scores.into_pyarray(py), plan, matching))
}

/// What a rank for one user answers.
pub fn ranked(py: Python<'_>, ranked: Ranked) -> PyResult<Bound<'_, PyAny>> {
    let Ranked { hits, unknown, dropped, .. } = ranked;
    let (ids, scores) = split(&hits);
    let dropped = dropped_of(py, [dropped].into_iter())?;
    RANKED.of(py, (handed(py, ids), handed(py, scores), handed(py, unknown), dropped))
}

/// What a rank for several users answers, `k` places a user; of one list for all, unknown and dropped are those of the
/// list. The GIL is released for the arrays.
pub fn ranked_many<'py>(
    py: Python<'py>,
    ranked: Vec<Ranked>,
    lists: usize,
    k: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let (ids, scores) = py.detach(|| split_all(ranked.iter().map(|ranked| &*ranked.hits), k))?;
    let of_lists = if lists == 1 { &ranked[..ranked.len().min(1)] } else { &ranked };
    let dropped = dropped_of(py, of_lists.iter().map(|ranked| ranked.dropped))?;
    let unknown = handed(py, unknown_of(of_lists));
    RANKED.of(py, (ids.into_pyarray(py), scores.into_pyarray(py), unknown, dropped))
}

/// What a rank of channels answers.
pub fn ranked_channels(py: Python<'_>, ranked: RankedChannels) -> PyResult<Bound<'_, PyAny>> {
    let RankedChannels { hits, unknown, dropped, .. } = ranked;
    let (ids, scores): (Vec<u64>, Vec<f32>) = hits.iter().map(|hit| (hit.id, hit.score)).unzip();
    let bits: Vec<u32> = hits.iter().map(|hit| hit.channels).collect();
    let (ids, scores, bits) = (handed(py, ids), handed(py, scores), handed(py, bits));
    let dropped = dropped_of(py, [dropped].into_iter())?;
    RANKED_CHANNELS.of(py, (ids, scores, bits, handed(py, unknown), dropped))
}

/// The plan that found the answers of several users.
pub fn plan_of(found: &[Found]) -> &'static str {
    match found.split_first() {
        None => Plan::Scan.name(),
        Some((first, others)) if others.iter().all(|other| other.plan == first.plan) => first.plan.name(),
        Some(_) => "mixed",
    }
}

/// The unknown candidates of all lists together.
fn unknown_of(ranked: &[Ranked]) -> Vec<u64> {
    let mut unknown: Vec<u64> = ranked.iter().flat_map(|ranked| &ranked.unknown).copied().collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// How many candidates of all lists were left out, by the reason.
fn dropped_of<'py>(py: Python<'py>, dropped: impl Iterator<Item = Dropped>) -> PyResult<Bound<'py, PyAny>> {
    let (mut expired, mut denied, mut filtered) = (0, 0, 0);
    for of_list in dropped {
        expired += of_list.expired;
        denied += of_list.denied;
        filtered += of_list.filtered;
    }
    DROPPED.of(py, (expired, denied, filtered))
}
