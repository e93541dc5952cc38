//! Answers as the named tuples of `itemdex._answers`.

use itemdex::{Dropped, Found, Plan, Ranked};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

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

pub static FOUND: Answer = Answer::new("Found");
pub static RANKED: Answer = Answer::new("Ranked");
pub static RANKED_CHANNELS: Answer = Answer::new("RankedChannels");
pub static DROPPED: Answer = Answer::new("Dropped");
pub static BUILD_REPORT: Answer = Answer::new("BuildReport");
pub static GENERATION: Answer = Answer::new("Generation");
pub static RESERVATION: Answer = Answer::new("Reservation");
pub static APPLIED: Answer = Answer::new("Applied");
pub static STAGED_SHARD: Answer = Answer::new("StagedShard");

/// The plan that found the answers of several users.
pub fn plan_of(found: &[Found]) -> &'static str {
    match found.split_first() {
        None => Plan::Scan.name(),
        Some((first, others)) if others.iter().all(|other| other.plan == first.plan) => first.plan.name(),
        Some(_) => "mixed",
    }
}

/// The unknown candidates of all lists together.
pub fn unknown_of(ranked: &[Ranked]) -> Vec<u64> {
    let mut unknown: Vec<u64> = ranked.iter().flat_map(|ranked| &ranked.unknown).copied().collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// How many candidates of all lists were left out, by the reason.
pub fn dropped_of<'py>(
    py: Python<'py>,
    dropped: impl Iterator<Item = Dropped>,
) -> PyResult<Bound<'py, PyAny>> {
    let (mut expired, mut denied, mut filtered) = (0, 0, 0);
    for of_list in dropped {
        expired += of_list.expired;
        denied += of_list.denied;
        filtered += of_list.filtered;
    }
    DROPPED.of(py, (expired, denied, filtered))
}
