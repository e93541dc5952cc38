//! The metrics of a serving process, as a recorder gets them.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use itemdex::IndexBuilder;
use itemdex::live::{Catalog, LiveOptions, PublishOptions};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Keeps the last value of each metric.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Values {
    fn slot(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.0.lock().unwrap().get(name).map(|value| f64::from_bits(value.load(Ordering::Relaxed)))
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.0.lock().unwrap().get(name).map(|value| value.load(Ordering::Relaxed))
    }
}

impl Recorder for Values {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.slot(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn what_serves_is_measured() {
    let values = Values::default();
    metrics::set_global_recorder(values.clone()).ok().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
    let rows = common::items(100, 4, 1);
    let build =
        |path: &Path| IndexBuilder::new("v1").build_from(rows.iter().map(|(id, row)| (*id, row)), path);
    catalog.publish_made(build, &PublishOptions::new()).unwrap();
    let options = LiveOptions::new().log(folder.path().join("log")).poll(Duration::from_millis(5));
    let live = options.open(catalog.folder()).unwrap();
    live.upsert("v1", 1 << 40, &[1.0; 4]).unwrap();
    for _ in 0..3 {
        live.current().search(&[1.0; 4], 5).unwrap();
    }
    // The last that a look sets, and what the searches above bring.
    wait_until(|| {
        values.counter("itemdex_queries_total{model_version=v1}") == Some(3)
            && values.gauge("itemdex_log_position{}") == Some(1.0)
    });
    let expected = [
        ("itemdex_generation{model_version=v1}", 1.0),
        ("itemdex_items{model_version=v1}", 101.0),
        ("itemdex_fresh_items{model_version=v1}", 1.0),
        ("itemdex_expired_items{model_version=v1}", 0.0),
        ("itemdex_refused_generations{}", 0.0),
        ("itemdex_refresh_failing{}", 0.0),
        ("itemdex_log_failing{}", 0.0),
        ("itemdex_waiting_items{}", 0.0),
        ("itemdex_log_position{}", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(values.gauge(name), Some(value), "{name}");
    }
    // Generations come and go, and the metrics stay the same.
    let names = || values.0.lock().unwrap().keys().cloned().collect::<Vec<_>>();
    let before = names();
    for queries in 4..8 {
        let build =
            |path: &Path| IndexBuilder::new("v1").build_from(rows.iter().map(|(id, row)| (*id, row)), path);
        catalog.publish_made(build, &PublishOptions::new()).unwrap();
        live.refresh().unwrap();
        live.current().rank(&[1.0; 4], &[rows[0].0], 5).unwrap();
        wait_until(|| values.counter("itemdex_queries_total{model_version=v1}") == Some(queries));
    }
    assert_eq!(names(), before);
    let build = |path: &Path| IndexBuilder::new("v2").build_from([(1, [1.0, 2.0])], path);
    catalog.publish_made(build, &PublishOptions::new().versions(1)).unwrap();
    live.refresh().unwrap();
    wait_until(|| values.gauge("itemdex_generation{model_version=v1}") == Some(0.0));
}

fn wait_until(holds: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}
