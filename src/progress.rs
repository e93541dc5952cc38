//! Progress and cancellation of a build.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// How far a build has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of this stage is done: rows, unless the stage says otherwise.
    pub done: u64,
    /// How much this stage has to do, in the same unit; 0 where that is not known.
    pub total: u64,
}

/// The stages of a build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Rows are read, checked and written.
    Rows,
    /// Rows are sorted so that like rows stand near each other, and written again.
    Order,
    /// Trial graphs are built over a part of the rows, to choose the space of the graph. Counts graphs.
    Try,
    /// The graph is built.
    Graph,
    /// Links are added for the user sample.
    Users,
    /// Every row is made reachable.
    Connect,
    /// Rows are coded for the partitions.
    Codes,
    /// Recall is measured. Counts queries and beams.
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
            Stage::Codes => "codes",
            Stage::Calibrate => "calibrate",
            Stage::Publish => "publish",
        }
    }
}

pub(crate) type ProgressFn = dyn Fn(Progress) + Send + Sync;

/// Reports progress to the caller and notices the caller's cancellation.
pub(crate) struct Watch<'a> {
    progress: Option<&'a ProgressFn>,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Watch<'a> {
    pub fn new(progress: Option<&'a ProgressFn>, cancel: Option<&'a AtomicBool>) -> Watch<'a> {
        Watch { progress, cancel }
    }

    /// A watch with the same cancellation that reports no progress.
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
