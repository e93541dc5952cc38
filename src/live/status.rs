//! What a live index is doing, as it tells its operator.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::catalog::Generation;
use super::change::seconds;
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
    /// What was wrong at the last look at the catalog: it could not be read, or the newest generation of a
    /// model version is refused. None where all is well.
    pub last_error: Option<String>,
    /// Generations that were found bad and are not served: their numbers, and why.
    pub refused: Vec<(u64, String)>,
    /// The position of the last change in the log; none without a log. A feeder goes on behind it.
    pub log_position: Option<u64>,
    /// The log may lack changes up to this position: it takes no generation whose dump is older. None without
    /// a log.
    pub log_dropped_to: Option<u64>,
    /// Why changes are not logged, until one is.
    pub log_error: Option<String>,
    /// Items in the log of model versions that no generation serves yet.
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
    /// Items, fresh ones included, that have expired: no query shows them.
    pub expired: usize,
    /// Queries answered, of every kind; each user of `search_many` and `rank_many` counts.
    pub queries: u64,
    /// The mean recall of the last 500 sampled searches, and how many there were; none without samples.
    pub recall: Option<(f64, usize)>,
}

impl Status {
    pub(super) fn of(serving: &Serving) -> Status {
        let generations = serving.views().iter().map(|view| GenerationStatus::of(view)).collect();
        let health = serving.health();
        let mut refused: Vec<_> = health.refused.values().cloned().collect();
        refused.sort_unstable();
        let log = health.log.as_ref();
        Status {
            generations,
            last_refresh: health.last_refresh,
            last_error: health.last_error.clone(),
            refused,
            log_position: log.map(|log| log.position),
            log_dropped_to: log.map(|log| log.dropped_to),
            log_error: log.and_then(|log| log.error.clone()),
            waiting: log.map_or(0, |log| log.waiting),
        }
    }
}

impl Status {
    /// The same as a JSON document: the names are those of the fields, and times are in seconds since 1970.
    pub fn to_json(&self) -> String {
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let refused = self
            .refused
            .iter()
            .map(|(generation, problem)| json!({"generation": generation, "problem": problem}));
        let document = json!({
            "generations": self.generations.iter().map(GenerationStatus::to_json).collect::<Vec<_>>(),
            "last_refresh": self.last_refresh.map(since_1970), "last_error": self.last_error,
            "refused": refused.collect::<Vec<_>>(),
            "log_position": self.log_position, "log_dropped_to": self.log_dropped_to,
            "log_error": self.log_error, "waiting": self.waiting,
        });
        document.to_string()
    }
}

impl GenerationStatus {
    fn to_json(&self) -> Value {
        json!({
            "generation": self.generation, "items": self.items, "fresh": self.fresh, "queries": self.queries,
            "recall": self.recall.map(|(mean, _)| mean), "samples": self.recall.map_or(0, |(_, count)| count),
        })
    }

    fn of(view: &View) -> GenerationStatus {
        GenerationStatus {
            generation: view.generation().clone(),
            items: view.len(),
            fresh: view.overlay.items,
            expired: view.expired(seconds() as i64),
            queries: view.held.queries.count(),
            recall: view.held.recalls.mean(),
        }
    }
}
