//! What a live index is doing, as it tells its operator.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::catalog::Generation;
use super::fresh::Writer;
use super::log::Log;
use super::serving::Serving;
use super::view::View;

/// What a [`LiveIndex`](super::LiveIndex) is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What serves, newest generation first; the first is current.
    pub generations: Vec<GenerationStatus>,
    /// When what serves last changed or was found up to date.
    pub last_refresh: Option<SystemTime>,
    /// The last thing that went wrong with following the catalog, until a refresh goes well.
    pub last_error: Option<String>,
    /// Generations that were found bad and are not served: their numbers, and why.
    pub refused: Vec<(u64, String)>,
    /// The position of the last change in the log; none without a log.
    pub log_position: Option<u64>,
    /// Upserts in the log of model versions that no generation serves yet.
    pub waiting: usize,
}

/// A generation that serves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GenerationStatus {
    /// The generation.
    pub generation: Generation,
    /// Items, fresh ones included.
    pub items: usize,
    /// Fresh or deleted items laid over it.
    pub fresh: usize,
    /// Searches answered.
    pub queries: u64,
    /// The mean recall of the last 500 sampled searches, and how many there were; none without samples.
    pub recall: Option<(f64, usize)>,
}

impl Status {
    pub(super) fn of(serving: &Serving, writer: &Writer) -> Status {
        let generations = serving.views().iter().map(|view| GenerationStatus::of(view)).collect();
        let (log_position, waiting) = (writer.log.as_ref().map(Log::position), writer.waiting);
        let health = serving.health();
        let mut refused: Vec<_> = health.refused.values().cloned().collect();
        refused.sort_unstable();
        let (last_refresh, last_error) = (health.last_refresh, health.last_error.clone());
        Status { generations, last_refresh, last_error, refused, log_position, waiting }
    }
}

impl GenerationStatus {
    fn of(view: &View) -> GenerationStatus {
        GenerationStatus {
            generation: view.generation().clone(),
            items: view.len(),
            fresh: view.overlay.items,
            queries: view.held.queries.load(Ordering::Relaxed),
            recall: view.held.recalls.mean(),
        }
    }
}
