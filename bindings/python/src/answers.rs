//! Answers as the named tuples of `itemdex._answers`.

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
