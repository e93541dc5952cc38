//! What serves, as metrics of the `metrics` crate: set by the thread that follows the catalog, at each look,
//! so that a request does not pay for them. `docs/serving.md` names them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::{counter, gauge};

use super::serving::Serving;
use super::status::{GenerationStatus, Status};
use super::view::Held;

#[derive(Default)]
pub(super) struct Meters {
    /// What was counted of the queries of each generation that is mapped.
    counted: HashMap<u64, u64>,
    /// The model versions that served at the last look.
    versions: Vec<String>,
}

impl Meters {
    pub fn set(&mut self, serving: &Serving, held: &[Arc<Held>]) {
        let status = Status::of(serving);
        // The newest of each model version comes first, and those that are held do not count.
        let mut seen = HashSet::new();
        let newest = status.generations.iter().filter(|one| seen.insert(&one.generation.model_version));
        newest.for_each(set_generation);
        let serves =
            |version: &String| status.generations.iter().any(|one| one.generation.model_version == *version);
        self.versions.drain(..).filter(|version| !serves(version)).for_each(clear);
        self.versions = status.generations.iter().map(|one| one.generation.model_version.clone()).collect();
        gauge!("itemdex_refused_generations").set(status.refused.len() as f64);
        gauge!("itemdex_refresh_failing").set(f64::from(u8::from(status.last_error.is_some())));
        gauge!("itemdex_log_failing").set(f64::from(u8::from(status.log_error.is_some())));
        gauge!("itemdex_waiting_items").set(status.waiting as f64);
        if let Some(position) = status.log_position {
            gauge!("itemdex_log_position").set(position as f64);
        }
        self.count(held);
    }

    /// Counts queries by model version: generations come and go, and a label for each would grow for ever.
    fn count(&mut self, held: &[Arc<Held>]) {
        let mut counted = HashMap::new();
        for held in held {
            let (number, queries) = (held.generation.number, held.queries.count());
            let before = self.counted.get(&number).copied().unwrap_or(0);
            let model_version = held.generation.model_version.clone();
            counter!("itemdex_queries_total", "model_version" => model_version)
                .increment(queries.saturating_sub(before));
            counted.insert(number, queries);
        }
        self.counted = counted;
    }
}

fn set_generation(one: &GenerationStatus) {
    let labels = [("model_version", one.generation.model_version.clone())];
    gauge!("itemdex_generation", &labels).set(one.generation.number as f64);
    gauge!("itemdex_items", &labels).set(one.items as f64);
    gauge!("itemdex_fresh_items", &labels).set(one.fresh as f64);
    gauge!("itemdex_expired_items", &labels).set(one.expired as f64);
    if let Some((mean, _)) = one.recall {
        gauge!("itemdex_recall", &labels).set(mean);
    }
}

/// A version that serves no more has nothing.
fn clear(model_version: String) {
    let labels = [("model_version", model_version)];
    for name in ["itemdex_generation", "itemdex_items", "itemdex_fresh_items", "itemdex_expired_items"] {
        gauge!(name, &labels).set(0.0);
    }
}
