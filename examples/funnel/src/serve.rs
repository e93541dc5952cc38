//! Serving: a version's dump becomes an index in the catalog, requests go on while the next is rolled out
//! beside it, and a product that no dump has is sold.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use itemdex::dump::Dump;
use itemdex::eval::quantile;
use itemdex::live::{Catalog, LiveIndex, LiveOptions, PublishOptions};
use itemdex::{Channel, IndexBuilder, RankOptions, SearchOptions};

use crate::Outcome;
use crate::als::DIM;
use crate::data::Visit;
use crate::logs::write_rows;
use crate::past::Past;
use crate::student::{Student, item_features, user_features};

/// What a request recalls by the index, and what pre-ranking passes on to the ranking model.
const RECALLED: usize = 2_000;
const PASSED: usize = 300;

/// A student that serves under a name: the model version of its item embeddings and of its user embeddings.
pub struct Version<'a> {
    pub name: &'a str,
    pub student: &'a Student,
}

impl Version<'_> {
    fn user(&self, past: &Past, visit: Visit) -> [f32; DIM] {
        self.student.embed_user(&user_features(past.data, &past.household(visit)))
    }

    /// Writes what the item tower's batch job would: item embeddings with their ids, and a sample of users.
    pub fn dump(&self, past: &Past, week: u8, sample: &[Visit], folder: &Path) -> Outcome<()> {
        fs::create_dir_all(folder)?;
        let rows = self.student.dump(past, week);
        let shape = [rows.len() as u64, DIM as u64];
        write_rows(folder, "items", &shape, rows.into_iter().flatten())?;
        let ids = past.data.products[..past.data.catalogue].iter().map(|product| product.id);
        write_rows(folder, "item_ids", &shape[..1], ids)?;
        let users = sample.iter().flat_map(|&visit| self.user(past, visit));
        write_rows(folder, "users", &[sample.len() as u64, DIM as u64], users)?;
        Ok(())
    }

    /// Builds an index from the dump and makes it current in the catalog.
    pub fn publish(&self, dump: &Path, catalog: &Path) -> Outcome<()> {
        let items = Dump::options().ids(dump.join("item_ids.npy")).open(dump.join("items.npy"))?;
        let users = Dump::options().without_ids().open(dump.join("users.npy"))?.into_matrix()?;
        let build = |path: &Path| IndexBuilder::new(self.name).user_sample(users).build(items, path);
        Catalog::create(catalog)?.publish_made(build, &PublishOptions::new())?;
        Ok(())
    }
}

/// What happened while the second version was rolled out.
pub struct RollOut {
    /// Requests answered by each version, and those that failed.
    pub answered: [usize; 2],
    pub failed: usize,
    pub seconds: f64,
}

/// Publishes the second version while two threads of requests go on, half of which stay with the first.
pub fn roll_out(
    past: &Past,
    versions: &[Version; 2],
    dump: &Path,
    catalog: &Path,
    visits: &[Visit],
) -> Outcome<(LiveIndex, RollOut)> {
    let log = catalog.with_extension("log");
    let live = LiveOptions::new().log(log).sample_recall(0.05).open(catalog)?;
    let (stop, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answered = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let started = Instant::now();
    thread::scope(|scope| {
        for worker in 0..2 {
            let (live, stop, failed, answered) = (&live, &stop, &failed, &answered);
            scope.spawn(move || {
                for &visit in visits.iter().cycle().skip(worker).step_by(2) {
                    match request(live, past, versions, visit, worker == 0) {
                        Ok(version) => answered[version].fetch_add(1, Ordering::Relaxed),
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Requests come one after another, not as fast as they can: the build needs the cores
                    // too.
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let published = versions[1].publish(dump, catalog).and_then(|()| Ok(live.refresh()?));
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        published
    })?;
    let [first, second] = answered.map(AtomicUsize::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    Ok((live, RollOut { answered: [first, second], failed: failed.into_inner(), seconds }))
}

/// One request: recall by the index and by what was bought before, pre-ranked together. Some clients hold
/// user embeddings of the first version and ask for it; the others compute the current one. Returns the
/// place of the version that answered.
fn request(
    live: &LiveIndex,
    past: &Past,
    versions: &[Version; 2],
    visit: Visit,
    stays: bool,
) -> Outcome<usize> {
    let view = if stays { live.for_model(versions[0].name)? } else { live.current() };
    let place = usize::from(view.model_version() == versions[1].name);
    let user = versions[place].user(past, visit);
    let near: Vec<u64> = view.search(&user, RECALLED)?.iter().map(|hit| hit.id).collect();
    let household = past.household(visit);
    let bought: Vec<u64> = household.bought.iter().map(|&(p, _)| past.data.products[p as usize].id).collect();
    let channels = [Channel::new(&near), Channel::new(&bought).at_least(PASSED / 3)];
    view.rank_channels(&user, &channels, &RankOptions::new(PASSED))?;
    Ok(place)
}

/// Visits that a fresh product's place is taken from, beside those that buy it.
const OTHERS: usize = 100;

/// A product that came into the shops after the dump.
pub struct Fresh {
    pub product: usize,
    pub buyers: usize,
    /// The median place of the product among all, for its later buyers and for the other households.
    pub places: [usize; 2],
}

/// Upserts the most bought product that was never sold before the test, placed at the mean of the items of
/// its type, and looks where the households that bought it later find it. None if there is no such product.
pub fn sell_fresh(
    past: &Past,
    live: &LiveIndex,
    version: &Version,
    visits: &[Visit],
) -> Outcome<Option<Fresh>> {
    let data = past.data;
    let week = *crate::data::TEST.start();
    let last = *crate::data::TEST.end();
    let sold = |product: usize| past.buyers(product, last + 1) as usize;
    let unseen = (data.catalogue..data.products.len()).filter(|&product| past.buyers(product, week) == 0.0);
    let like = |product: usize| {
        let same = |&other: &usize| data.products[other].kind == data.products[product].kind;
        (0..data.catalogue).filter(same).collect::<Vec<usize>>()
    };
    let Some(product) =
        unseen.filter(|&product| !like(product).is_empty()).max_by_key(|&product| sold(product))
    else {
        return Ok(None);
    };
    let like = like(product);
    let mut embedding = [0.0; DIM];
    for &other in &like {
        let item = version.student.embed_item(item_features(past, other, week));
        embedding.iter_mut().zip(item).for_each(|(sum, value)| *sum += value / like.len() as f32);
    }
    live.upsert(version.name, data.products[product].id, &embedding)?;
    let view = live.for_model(version.name)?;
    let mut places = [Vec::new(), Vec::new()];
    let buys = |visit: &Visit| {
        let bought = data.households[visit.household].bought.iter();
        bought.filter(|b| b.product as usize == product).any(|b| b.weeks.has(visit.week))
    };
    let others = visits.iter().step_by((visits.len() / OTHERS).max(1));
    for &visit in visits.iter().filter(|visit| buys(visit)).chain(others.filter(|visit| !buys(visit))) {
        let user = version.user(past, visit);
        let hits = view.search_with(&user, &SearchOptions::new(view.len()).recall(1.0))?.hits;
        let place = hits.iter().position(|hit| hit.id == data.products[product].id);
        places[usize::from(!buys(&visit))].push(place.expect("a view has what was upserted") + 1);
    }
    let places = places.map(|mut places| {
        places.sort_unstable();
        places.get(places.len() / 2).copied().unwrap_or(0)
    });
    Ok(Some(Fresh { product, buyers: sold(product), places }))
}

/// What a search costs and misses, against the exact answer.
pub struct Speed {
    pub k: usize,
    pub recall: f64,
    /// Of the approximate search, of the exact one, and of ranking some 2,500 candidates: median and 99th
    /// percentile, in microseconds.
    pub search: [f64; 2],
    pub exact: [f64; 2],
    pub rank: [f64; 2],
    pub candidates: usize,
}

/// Times searches and ranks of the current version, on one thread.
pub fn speed(
    past: &Past,
    live: &LiveIndex,
    version: &Version,
    lists: &[(Visit, Vec<u64>)],
) -> Outcome<Speed> {
    let view = live.for_model(version.name)?;
    let users: Vec<[f32; DIM]> = lists.iter().map(|&(visit, _)| version.user(past, visit)).collect();
    let (k, mut recall) = (1_000, 0.0);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    // The first turn warms up.
    for turn in 0..3 {
        for (user, (_, candidates)) in users.iter().zip(lists) {
            let approximate = SearchOptions::new(k);
            let asked = Instant::now();
            let found = view.search_with(user, &approximate)?.hits;
            let searched = asked.elapsed();
            let asked = Instant::now();
            let exact = view.search_with(user, &approximate.recall(1.0))?.hits;
            let scanned = asked.elapsed();
            let asked = Instant::now();
            std::hint::black_box(view.rank(user, candidates, PASSED)?);
            let ranked = asked.elapsed();
            if turn > 0 {
                recall += itemdex::eval::recall(&exact, &found);
                times.iter_mut().zip([searched, scanned, ranked]).for_each(|(times, took)| times.push(took));
            }
        }
    }
    let recall = recall / times[0].len().max(1) as f64;
    let [search, exact, rank] = times.map(|mut times| {
        times.sort_unstable();
        [0.5, 0.99].map(|q| quantile(&times, q).as_nanos() as f64 / 1e3)
    });
    let candidates = lists.iter().map(|(_, list)| list.len()).sum::<usize>() / lists.len().max(1);
    Ok(Speed { k, recall, search, exact, rank, candidates })
}
