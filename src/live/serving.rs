//! What requests see, and how the process that shows it to them fares. Nobody holds a lock of this room while
//! files are read or written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::catalog::Catalog;
use super::view::{Sampling, View};
use crate::assignment::Shard;

/// A catalog, and what serves of it.
pub(super) struct Serving {
    pub catalog: Catalog,
    /// Which shard of the catalog's generations serves.
    pub shard: Shard,
    /// The newest generation of each model version, the newest of all first; behind them those that are held.
    views: ArcSwap<Vec<Arc<View>>>,
    /// Generations that are to serve beside the newest.
    hold: Mutex<Vec<u64>>,
    health: Mutex<Health>,
    pub sampling: Option<Sampling>,
    shutdown: Mutex<Shutdown>,
}

/// How following the catalog and logging changes go.
#[derive(Default)]
pub(super) struct Health {
    pub last_refresh: Option<SystemTime>,
    /// What was wrong at the last look at the catalog.
    pub last_error: Option<String>,
    /// The files that are not to be tried again: the generation's number, and why.
    pub refused: HashMap<String, (u64, String)>,
    /// None without a log.
    pub log: Option<LogHealth>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct LogHealth {
    pub position: u64,
    pub dropped_to: u64,
    pub waiting: usize,
    /// Why changes are not logged.
    pub error: Option<String>,
}

#[derive(Default)]
struct Shutdown {
    asked: bool,
    /// Whether a generation is being opened, which takes as long as reading it.
    opening: bool,
}

impl Serving {
    pub fn new(catalog: Catalog, shard: Shard, sampling: Option<Sampling>) -> Serving {
        let (views, hold) = (ArcSwap::default(), Mutex::default());
        let (health, shutdown) = (Mutex::default(), Mutex::default());
        Serving { catalog, shard, views, hold, health, sampling, shutdown }
    }

    pub fn views(&self) -> Arc<Vec<Arc<View>>> {
        self.views.load_full()
    }

    /// The view of the current generation.
    pub fn current(&self) -> Arc<View> {
        Arc::clone(&self.views.load()[0])
    }

    /// The view of a model version, and the versions that serve where it does not.
    pub fn of_version(&self, model_version: &str) -> Option<Arc<View>> {
        self.views.load().iter().find(|view| view.model_version() == model_version).cloned()
    }

    /// The view of a generation.
    pub fn of_number(&self, number: u64) -> Option<Arc<View>> {
        self.views.load().iter().find(|view| view.generation().number == number).cloned()
    }

    /// The generations that are to serve beside the newest.
    pub fn hold(&self) -> MutexGuard<'_, Vec<u64>> {
        self.hold.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Hands these views out from now on. Only whoever holds the writer calls this.
    pub fn serve(&self, views: Vec<Arc<View>>) {
        self.views.store(Arc::new(views));
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn shutdown(&self) -> MutexGuard<'_, Shutdown> {
        self.shutdown.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has the threads end; whether one of them is opening a generation, which it finishes first.
    pub fn shut_down(&self) -> bool {
        let mut shutdown = self.shutdown();
        shutdown.asked = true;
        shutdown.opening
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutdown().asked
    }

    /// Opens a generation with `open`, unless the process is shutting down.
    pub fn opening<T>(&self, open: impl FnOnce() -> T) -> Option<T> {
        {
            let mut shutdown = self.shutdown();
            shutdown.opening = !shutdown.asked;
            if shutdown.asked {
                return None;
            }
        }
        let opened = open();
        self.shutdown().opening = false;
        Some(opened)
    }
}
