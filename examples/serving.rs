//! A serving process and the offline job beside it: requests, a refresh, the roll-out of a new model version, a fresh item.
//!
//! ```sh
//! cargo run --release --example serving
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use itemdex::live::{Catalog, LiveIndex, LiveOptions, PublishOptions, Retention, SyncPolicy};
use itemdex::{Channel, ChannelHit, Error, Hit, IndexBuilder, RankOptions, SearchOptions};

/// What your user tower is: it computes the embedding of a user in the version it is asked for.
fn user_tower(model_version: &str, user: u64) -> Vec<f32> {
    let angle = user as f32 * if model_version == "2026-11-23" { 0.1 } else { 0.2 };
    vec![angle.sin(), angle.cos(), 1.0]
}

/// What your item tower is.
fn item_tower(model_version: &str, item: u64) -> Vec<f32> {
    user_tower(model_version, item)
}

/// One request. It asks for the version that the user embedding is of, and keeps the view it gets: search and rank see
/// the same items, whatever is published or uploaded meanwhile.
fn recommend(live: &LiveIndex, user: u64, followed: &[u64]) -> itemdex::Result<Vec<ChannelHit>> {
    // The version to compute is the current one, unless a user embedding was cached.
    let view = live.current();
    let embedding = user_tower(view.model_version(), user);
    let hits = view.search_with(&embedding, &SearchOptions::new(200).recall(0.95))?.hits;
    let near: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
    // Two recall channels; one of the followed is to be among the best whatever it scores.
    let channels = [Channel::new(&near), Channel::new(followed).at_least(1)];
    Ok(view.rank_channels(&embedding, &channels, &RankOptions::new(20))?.hits)
}

/// A request whose user embedding was computed earlier, by a version that may be gone.
fn recommend_cached(live: &LiveIndex, version: &str, embedding: &[f32]) -> itemdex::Result<Option<Vec<Hit>>> {
    match live.for_model(version) {
        Ok(view) => Ok(Some(view.search(embedding, 20)?)),
        Err(Error::UnknownModel { held, .. }) => {
            println!("version {version} is retired; compute the embedding with one of {held:?}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The offline job: `itemdex build --publish CATALOG --log-position N` does the same.
fn publish(catalog: &Path, version: &str, items: u64, log_position: u64) -> itemdex::Result<()> {
    let catalog = Catalog::create(catalog)?;
    let dump = (0..items).map(|item| (item, item_tower(version, item)));
    let build = |path: &Path| IndexBuilder::new(version).build_from(dump, path);
    let (generation, _) = catalog.publish_made(build, &PublishOptions::new().log_position(log_position))?;
    println!("published generation {} of {version}", generation.number);
    Ok(())
}

fn main() -> itemdex::Result<()> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let catalog = folder.path().join("catalog");
    publish(&catalog, "2026-11-23", 5_000, 0)?;

    let live = LiveOptions::new()
        .log(folder.path().join("fresh.log"))
        .sync(SyncPolicy::Every(Duration::from_millis(50)))
        .sample_recall(0.01)
        .open(&catalog)?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (live, stop) = (&live, &stop);
            scope.spawn(move || {
                for request in 0.. {
                    let hits = recommend(live, worker + 2 * request, &[17, 1_000_000]).expect("an answer");
                    assert_eq!(hits.len(), 20);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }

        // A fresh item: uploaded now, found by the next request.
        let version = live.current().model_version().to_owned();
        live.upsert(&version, 1_000_000, &[9.0, 9.0, 9.0])?;
        assert_eq!(live.current().search(&[1.0, 1.0, 1.0], 1)?[0].id, 1_000_000);
        let position = live.delete(3)?;

        // A rebuild, from a dump taken at this position of the log. The process follows the catalog by itself; to
        // ask it to is for programs that cannot wait a moment.
        publish(&catalog, "2026-11-23", 6_000, position)?;
        live.refresh()?;

        // The roll-out of a new model version: the old one goes on serving for those who ask for it.
        publish(&catalog, "2026-11-24", 6_000, position)?;
        live.refresh()?;
        assert_eq!(live.model_versions(), ["2026-11-24", "2026-11-23"]);
        let cached = user_tower("2026-11-23", 7);
        assert!(recommend_cached(&live, "2026-11-23", &cached)?.is_some());

        // When no user embedding of the old version is left: retire it.
        Catalog::open(&catalog)?.prune(Retention::new().versions(1))?;
        live.refresh()?;
        assert!(recommend_cached(&live, "2026-11-23", &cached)?.is_none());
        stop.store(true, Ordering::Relaxed);
        println!("{:#?}", live.status());
        Ok(())
    })
}
