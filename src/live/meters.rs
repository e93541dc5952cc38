//! What serves, as metrics of the `metrics` crate: set by the thread that follows the catalog, at each look, so that a
//! request does not pay for them. `docs/serving.md` names them.

use metrics::{counter, gauge};

use super::status::Status;

pub(super) fn set(status: &Status) {
    for one in &status.generations {
        let labels = [("model_version", one.generation.model_version.clone())];
        gauge!("itemdex_generation", &labels).set(one.generation.number as f64);
        gauge!("itemdex_items", &labels).set(one.items as f64);
        gauge!("itemdex_fresh_items", &labels).set(one.fresh as f64);
        if let Some((mean, _)) = one.recall {
            gauge!("itemdex_recall", &labels).set(mean);
        }
        let generation = one.generation.number.to_string();
        counter!("itemdex_searches_total", "generation" => generation).absolute(one.queries);
    }
    gauge!("itemdex_refused_generations").set(status.refused.len() as f64);
    gauge!("itemdex_refresh_failing").set(f64::from(u8::from(status.last_error.is_some())));
    gauge!("itemdex_waiting_items").set(status.waiting as f64);
    if let Some(position) = status.log_position {
        gauge!("itemdex_log_position").set(position as f64);
    }
}
