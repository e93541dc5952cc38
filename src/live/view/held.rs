//! An open generation, and what is counted of it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;

use super::View;
use crate::index::{ChannelHit, RankedChannels};
use crate::live::catalog::Generation;
use crate::vectors::pad;
use crate::{Hit, Index, Result};

/// Workspaces kept for later queries.
const POOL: usize = 64;

/// Searches that the recall of a generation is the mean of.
const RECALLS: usize = 500;

/// An open generation.
pub(in crate::live) struct Held {
    pub index: Index,
    pub generation: Generation,
    pub queries: Queries,
    /// What sampled searches found of the exact answer.
    pub recalls: Recalls,
    pub(super) sampling: Option<Sampling>,
    workspaces: ArrayQueue<Workspace>,
}

/// Queries that a generation answered.
#[derive(Default)]
pub(in crate::live) struct Queries {
    searches: AtomicU64,
    others: AtomicU64,
}

impl Queries {
    pub fn count(&self) -> u64 {
        self.searches.load(Ordering::Relaxed) + self.others.load(Ordering::Relaxed)
    }

    /// Counts searches; how many there were before.
    pub(super) fn add_searches(&self, count: usize) -> u64 {
        self.searches.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// Counts queries of other kinds.
    pub(super) fn add_others(&self, count: usize) {
        self.others.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Which searches are compared with the exact answer, and where to.
#[derive(Clone)]
pub(in crate::live) struct Sampling {
    /// One search in so many.
    pub every: u64,
    pub samples: Sender<Sample>,
}

/// A search and its answer.
pub(in crate::live) struct Sample {
    pub view: View,
    pub user: Vec<f32>,
    pub hits: Vec<Hit>,
    pub k: usize,
}

impl Sampling {
    /// Hands on the search with this number if it is one of the share, unless the receiver is busy with
    /// another.
    pub(super) fn offer(&self, number: u64, user: &[f32], hits: &[Hit], k: usize, view: &View) {
        if number.is_multiple_of(self.every) && !self.samples.is_full() {
            let sample = Sample { view: view.clone(), user: user.to_vec(), hits: hits.to_vec(), k };
            let _ = self.samples.try_send(sample);
        }
    }
}

/// The recall of the latest sampled searches.
#[derive(Default)]
pub(in crate::live) struct Recalls(Mutex<VecDeque<f64>>);

impl Recalls {
    pub fn push(&self, recall: f64) {
        let mut recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if recalls.len() == RECALLS {
            recalls.pop_front();
        }
        recalls.push_back(recall);
    }

    /// Their mean and number; none where there are none.
    pub fn mean(&self) -> Option<(f64, usize)> {
        let recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (!recalls.is_empty()).then(|| (recalls.iter().sum::<f64>() / recalls.len() as f64, recalls.len()))
    }
}

/// What a query over fresh items needs, kept for the next one.
#[derive(Default)]
pub(super) struct Workspace {
    pub user: Vec<f32>,
    pub hits: Vec<Hit>,
    pub channel_hits: Vec<ChannelHit>,
    /// The candidates that are the generation's to score.
    pub ids: Vec<u64>,
    pub rows: Vec<u32>,
    /// The ids of the row handles of a channel.
    pub ids_of_rows: Vec<u64>,
    /// The candidates that were deleted.
    pub deleted: Vec<u64>,
    /// The answer of a rank, before its channel is taken off.
    pub merged: RankedChannels,
}

impl Held {
    pub fn new(index: Index, generation: Generation, sampling: Option<Sampling>) -> Held {
        let workspaces = ArrayQueue::new(POOL);
        Held {
            index,
            generation,
            queries: Queries::default(),
            recalls: Recalls::default(),
            sampling,
            workspaces,
        }
    }

    pub(super) fn workspace_for(&self, user: &[f32]) -> Result<Workspace> {
        self.index.check_user(user)?;
        let mut workspace = self.workspaces.pop().unwrap_or_default();
        pad(user, &mut workspace.user);
        workspace.hits.clear();
        workspace.channel_hits.clear();
        workspace.ids.clear();
        workspace.rows.clear();
        workspace.deleted.clear();
        Ok(workspace)
    }

    pub(super) fn put_back(&self, workspace: Workspace) {
        let _ = self.workspaces.push(workspace);
    }
}
