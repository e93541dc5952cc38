//! What requests see, and how the process that shows it to them fares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::catalog::Catalog;
use super::view::{Sampling, View};

/// A catalog, and what serves of it.
pub(super) struct Serving {
    pub catalog: Catalog,
    /// Newest generation first.
    views: ArcSwap<Vec<Arc<View>>>,
    health: Mutex<Health>,
    pub sampling: Option<Sampling>,
}

/// How following the catalog goes.
#[derive(Default)]
pub(super) struct Health {
    pub last_refresh: Option<SystemTime>,
    pub last_error: Option<String>,
    /// The files that are not to be tried again: the generation's number, and why.
    pub refused: HashMap<String, (u64, String)>,
}

impl Serving {
    pub fn new(catalog: Catalog, sampling: Option<Sampling>) -> Serving {
        Serving { catalog, views: ArcSwap::default(), health: Mutex::default(), sampling }
    }

    pub fn views(&self) -> Arc<Vec<Arc<View>>> {
        self.views.load_full()
    }

    /// The view of the current generation.
    pub fn current(&self) -> Arc<View> {
        Arc::clone(&self.views.load()[0])
    }

    /// Hands these views out from now on. Only whoever holds the writer calls this.
    pub fn serve(&self, views: Vec<Arc<View>>) {
        self.views.store(Arc::new(views));
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
