//! What a request asks for.

use itemdex::{Plan, RankOptions, SearchOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::shown::Shown;

/// How a search is to find its answer.
pub struct Asked<'a> {
    pub k: usize,
    pub recall: Option<f32>,
    pub ef: Option<usize>,
    pub plan: Option<&'a str>,
    pub approximate_scores: bool,
}

impl Asked<'_> {
    pub fn options<'s>(&self, shown: &'s Shown<'_>) -> PyResult<SearchOptions<'s>> {
        let mut options = SearchOptions::new(self.k);
        match (self.recall, self.ef) {
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err("give recall or ef, not both: ef is a beam by hand"));
            }
            (Some(recall), None) => options = options.recall(recall),
            (None, Some(ef)) => options = options.ef(ef),
            (None, None) => {}
        }
        if let Some(name) = self.plan {
            options = options.plan(plan_named(name)?);
        }
        let options = options.shown(shown.to_library()?);
        Ok(if self.approximate_scores { options.approximate_scores() } else { options })
    }
}

pub fn plan_named(name: &str) -> PyResult<Plan> {
    let plans = [Plan::Graph, Plan::Partitions, Plan::Scan];
    plans.into_iter().find(|plan| plan.name() == name).ok_or_else(|| {
        PyValueError::new_err(format!("plan {name:?} is none of \"graph\", \"partitions\" and \"scan\""))
    })
}

pub fn rank_options<'s>(k: usize, exact: bool, shown: &'s Shown<'_>) -> PyResult<RankOptions<'s>> {
    let options = RankOptions::new(k).shown(shown.to_library()?);
    Ok(if exact { options.exact() } else { options })
}

/// All cores where the caller names no number.
pub fn threads_or_all(threads: Option<usize>) -> usize {
    threads.unwrap_or(usize::MAX)
}
