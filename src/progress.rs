//! How far a build has come, and whether it is to go on.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// How far a build has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Rows done in this stage, or what else it counts.
    pub done: u64,
    /// What this stage has to do; 0 where that is not known.
    pub total: u64,
}

/// The stages of a build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Rows are read, checked and written.
    Rows,
    /// Rows are put near to those that are like them, and written again.
    Order,
    /// Trial graphs are built on a part of the rows, to choose the space of the graph.
    Try,
    /// The graph is built.
    Graph,
    /// Links are added for the user sample.
    Users,
    /// Every row is made reachable.
    Connect,
    /// Recall is measured, in queries and beams.
    Calibrate,
    /// The rest is written, and the file synced and moved into place.
    Publish,
}

impl Stage {
    /// The stage in one word, as `itemdex build` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Rows => "rows",
            Stage::Order => "order",
            Stage::Try => "try",
            Stage::Graph => "graph",
            Stage::Users => "users",
            Stage::Connect => "connect",
            Stage::Calibrate => "calibrate",
            Stage::Publish => "publish",
        }
    }
}

pub(crate) type ProgressFn = dyn Fn(Progress) + Send + Sync;

/// Reports progress and passes cancellation on.
pub(crate) struct Watch<'a> {
    progress: Option<&'a ProgressFn>,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Watch<'a> {
    pub fn new(progress: Option<&'a ProgressFn>, cancel: Option<&'a AtomicBool>) -> Watch<'a> {
        Watch { progress, cancel }
    }

    /// The same cancellation, and nobody to tell of progress.
    pub fn silent(&self) -> Watch<'a> {
        Watch { progress: None, cancel: self.cancel }
    }

    pub fn tick(&self, stage: Stage, done: usize, total: usize) -> Result<()> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        if let Some(progress) = self.progress {
            progress(Progress { stage, done: done as u64, total: total as u64 });
        }
        Ok(())
    }
}
