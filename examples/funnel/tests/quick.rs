//! The whole loop, small.

use std::fs;

use funnel::measure::METRICS;
use funnel::run::{Settings, run};
use funnel::test_set::MODELS;

#[test]
fn the_loop_runs_and_distilling_brings_the_students_order_nearer_to_the_teachers() {
    let folder = tempfile::tempdir().unwrap();
    let results = run(&Settings { out: folder.path().to_owned(), every: 20, ..Settings::quick() }).unwrap();
    for model in MODELS {
        for part in ["all", "new"] {
            for metric in METRICS {
                let value = results["models"][model][part][metric].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&value), "{model} {part} {metric} is {value}");
            }
        }
    }
    for metric in ["agree100", "agree300", "agree1000", "teacher_ndcg100"] {
        let [hard, distilled] =
            ["hard", "distilled"].map(|model| results["models"][model]["all"][metric].as_f64());
        assert!(distilled > hard, "{metric}: {distilled:?} after distilling, {hard:?} without");
    }
    assert_eq!(results["models"]["teacher"]["all"]["teacher_ndcg100"], 1.0);
    let kept: Vec<f64> =
        results["funnel"].as_array().unwrap().iter().map(|stage| stage["kept"].as_f64().unwrap()).collect();
    assert!(kept.len() == 6 && kept.is_sorted_by(|a, b| a >= b), "{kept:?}");
    let serving = &results["serving"];
    assert_eq!(serving["failed"], 0);
    assert!(
        serving["answered"]["hard"].as_u64() > Some(0) && serving["answered"]["distilled"].as_u64() > Some(0)
    );
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("funnel.json")).unwrap()).unwrap();
    assert_eq!(written["models"], results["models"]);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("</html>") && !page.contains("<script") && !page.contains("NaN"));
}
