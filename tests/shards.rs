//! Shards: the answers of one index that holds all, and generations that are published all or nothing.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::*;
use itemdex::live::{Change, Generation, LiveIndex, LiveOptions, PublishOptions, View};
use itemdex::shards::{
    Part, Quota, Sharded, ShardedChannel, ShardedIndex, ShardedLive, ShardedView, merge_channels,
    merge_found, share_of, to_ask_again,
};
use itemdex::{
    Channel, Column, ColumnKind, Error, Expression, Index, IndexBuilder, Matrix, OpenOptions, Parameters,
    Plan, RankOptions, SearchOptions, Shard, Shown, Value, shard_of, split_by_shard,
};
use proptest::prelude::*;

const DIM: usize = 6;

fn builder(model_version: &str) -> IndexBuilder {
    IndexBuilder::new(model_version).m(4).ef_construction(30).threads(1)
}

/// The items of one shard, with a price for each.
fn build_shard(model_version: &str, items: &Items, shard: Shard, path: &Path) -> itemdex::Result<()> {
    let own: Vec<_> = items.iter().filter(|(id, _)| shard.holds(*id)).collect();
    let price = Column::new("price", ColumnKind::Number, own.iter().map(|(id, _)| (id % 10) as i64))?;
    builder(model_version).column(price).build_from(own.iter().map(|(id, row)| (*id, row)), path).map(drop)
}

impl Place {
    fn stage(&self, key: &str, model_version: &str, items: &Items, shard: Shard) -> itemdex::Result<()> {
        let make = |path: &Path| build_shard(model_version, items, shard, path);
        self.catalog.stage_shard_made(key, shard, make).map(drop)
    }

    fn publish(&self, key: &str, model_version: &str, items: &Items, shards: u32) -> Generation {
        for number in 0..shards {
            self.stage(key, model_version, items, Shard::new(number, shards).unwrap()).unwrap();
        }
        self.catalog.publish_shards(key, shards, &PublishOptions::new()).unwrap()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = fs::read_dir(self.catalog.folder()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    fn options(&self) -> LiveOptions {
        LiveOptions::new()
            .poll(Duration::from_secs(3600))
            .fed_log(self.folder.path().join("fresh.log"))
            .retain(0, Duration::ZERO)
    }
}

/// One index of all items, and the same in shards.
struct Both {
    place: Place,
    whole: Index,
    sharded: ShardedIndex,
}

fn both(items: &Items, shards: u32) -> Both {
    let place = Place::new();
    let generation = place.publish("job", "v1", items, shards);
    let sharded = ShardedIndex::open(&place.catalog, &generation, OpenOptions::new()).unwrap().threads(2);
    let path = place.folder.path().join("whole.itemdex");
    build_shard("v1", items, Shard::new(0, 1).unwrap(), &path).unwrap();
    Both { whole: Index::open(path).unwrap(), place, sharded }
}

fn price_below(limit: u64) -> Expression {
    Expression::parse(&format!("price < {limit}"), &Parameters::new()).unwrap()
}

/// Lists of candidates, some named twice, some that nobody has.
fn candidates(items: &Items, random: &mut Random, count: usize) -> Vec<u64> {
    let one = |random: &mut Random| match random.below(8) {
        0 => random.next() % 1000 + 5_000_000_000,
        _ => items[random.below(items.len())].0,
    };
    (0..count).map(|_| one(random)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shards_answer_as_one_index(shards in 1u32..6, rows in 60usize..400, k in 1usize..120, seed in any::<u64>()) {
        let items = items(rows, DIM, seed);
        let Both { whole, sharded, place: _place } = both(&items, shards);
        let mut random = Random(seed);
        prop_assert_eq!(sharded.len(), rows);
        let limit = random.below(11) as u64;
        let filters = (whole.filter(&price_below(limit)).unwrap(), sharded.filter(&price_below(limit)).unwrap());
        prop_assert_eq!(filters.0.matching(), filters.1.matching());
        let many = users(5, DIM, seed);
        for user in &many {
            let denied = candidates(&items, &mut random, 30);
            let odd = |id: u64| id % 2 == 1;
            let asked = [
                Shown::default(),
                Shown { deny: Some((&denied).into()), ..Shown::default() },
                Shown { allow: Some((&denied).into()), ..Shown::default() },
                Shown { deny: Some(itemdex::Items::Test(&odd)), ..Shown::default() },
            ];
            for shown in asked {
                for filtered in [false, true] {
                    let of_whole = Shown { filter: filtered.then_some(&filters.0), ..shown };
                    let filter = filtered.then_some(&filters.1);
                    // Exact searches.
                    let options = SearchOptions::new(k).recall(1.0);
                    let found = sharded.search_with(user, &options.shown(shown), filter).unwrap();
                    let expected = whole.search_with(user, &options.shown(of_whole)).unwrap();
                    prop_assert_eq!(&found.hits, &expected.hits);
                    prop_assert_eq!(found.matching, expected.matching);
                    // Ranks.
                    let list = candidates(&items, &mut random, 80);
                    let options = RankOptions::new(k);
                    let ranked = sharded.rank_with(user, &list, &options.shown(shown), filter).unwrap();
                    prop_assert_eq!(ranked, whole.rank_with(user, &list, &options.shown(of_whole)).unwrap());
                    let [mut scores, mut expected] = [vec![0.0; 80], vec![0.0; 80]];
                    let without = sharded.score_with(user, &list, &options.shown(shown), filter, &mut scores);
                    let without_whole = whole.score_with(user, &list, &options.shown(of_whole), &mut expected);
                    prop_assert_eq!(without.unwrap(), without_whole.unwrap());
                    let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&scores), bits(&expected));
                }
            }
            let item = &items[random.below(rows)];
            prop_assert_eq!(sharded.get(item.0), whole.get(item.0));
            prop_assert_eq!(sharded.values(item.0), whole.values(item.0));
            prop_assert!(!sharded.contains(u64::MAX));
        }
        let matrix = Matrix::new(DIM, many.concat()).unwrap();
        let options = SearchOptions::new(k).plan(Plan::Scan);
        let found = sharded.search_many(&matrix, &options, None).unwrap();
        for (found, expected) in found.iter().zip(whole.search_many(&matrix, &options, 1).unwrap()) {
            prop_assert_eq!(&found.hits, &expected.hits);
        }
        let lists: Vec<Vec<u64>> = many.iter().map(|_| candidates(&items, &mut random, 50)).collect();
        let lists: Vec<&[u64]> = lists.iter().map(|list| &list[..]).collect();
        for lists in [&lists[..], &lists[..1]] {
            let options = RankOptions::new(k).deny(&lists[0][..5]);
            let ranked = sharded.rank_many(&matrix, lists, &options, Some(&filters.1)).unwrap();
            let expected = whole.rank_many(&matrix, lists, &options.filter(&filters.0), 1).unwrap();
            prop_assert_eq!(ranked, expected);
        }
        let wrong = sharded.rank_many(&matrix, &lists[..2], &RankOptions::new(k), None);
        let is_refused = matches!(wrong, Err(Error::BadOption { option: "candidates", .. }));
        prop_assert!(is_refused);
    }

    #[test]
    fn channels_of_shards_are_those_of_one_index(
        shards in 1u32..6, rows in 60usize..300, k in 0usize..40, seed in any::<u64>(),
        quotas in prop::collection::vec((0usize..4, 0usize..30), 1..5),
    ) {
        let items = items(rows, DIM, seed);
        let Both { whole, sharded, place: _place } = both(&items, shards);
        let mut random = Random(seed);
        let lists: Vec<Vec<u64>> = quotas.iter().map(|_| candidates(&items, &mut random, 60)).collect();
        let cheap = (whole.filter(&price_below(6)).unwrap(), sharded.filter(&price_below(6)).unwrap());
        let rows_of_all = (whole.look_up(&lists[0]), sharded.look_up(&lists[0]));
        for (user, by_rows) in users(4, DIM, seed).iter().zip([false, true, false, true]) {
            let mut of_whole: Vec<Channel> = Vec::new();
            let mut of_shards: Vec<ShardedChannel> = Vec::new();
            for (number, (&(least, above), list)) in quotas.iter().zip(&lists).enumerate() {
                let most = if above > 20 { usize::MAX } else { least + above };
                let mut pair = (Channel::new(list), ShardedChannel::new(list));
                if by_rows && number == 0 {
                    pair = (Channel::new(&rows_of_all.0), ShardedChannel::new(&rows_of_all.1));
                }
                if number == 1 {
                    pair = (pair.0.filter(&cheap.0), pair.1.filter(&cheap.1));
                }
                of_whole.push(pair.0.at_least(least).at_most(most));
                of_shards.push(pair.1.at_least(least).at_most(most));
            }
            let denied = candidates(&items, &mut random, 20);
            let options = RankOptions::new(k).deny(&denied);
            let expected = whole.rank_channels(user, &of_whole, &options);
            match sharded.rank_channels(user, &of_shards, &options, None) {
                Ok(ranked) => prop_assert_eq!(ranked, expected.unwrap()),
                Err(error) => prop_assert_eq!(error.to_string(), expected.unwrap_err().to_string()),
            }
        }
    }

    #[test]
    fn fresh_items_of_shards_are_those_of_one_index(shards in 2u32..5, seed in any::<u64>()) {
        let items = items(200, DIM, seed);
        let mut random = Random(seed);
        let (sharded, whole) = (Place::new(), Place::new());
        sharded.publish("job", "v1", &items, shards);
        whole.publish("job", "v1", &items, 1);
        let sharded_live = ShardedLive::open(sharded.catalog.folder(), shards, sharded.options()).unwrap();
        let live = whole.options().open(whole.catalog.folder()).unwrap();
        let changes: Vec<(u64, Change)> = (1..60)
            .map(|position| {
                let id = candidates(&items, &mut random, 1)[0];
                let change = match random.below(3) {
                    0 => Change::delete(id),
                    1 => Change::set_values(id, itemdex::Values::new().with("price", 3i64)),
                    _ => Change::upsert("v1", id, random.embedding(DIM)),
                };
                (position, change)
            })
            .collect();
        prop_assert_eq!(sharded_live.apply(&changes).unwrap(), live.apply(&changes).unwrap());
        let (view, one) = (sharded_live.current().unwrap(), live.current());
        prop_assert_eq!(view.len(), one.len());
        for user in users(4, DIM, seed) {
            let options = SearchOptions::new(20).recall(1.0);
            let (found, expected) = (view.search_with(&user, &options, None).unwrap(), one.search_with(&user, &options).unwrap());
            prop_assert_eq!((&found.hits, found.matching), (&expected.hits, expected.matching));
            let list = candidates(&items, &mut random, 50);
            prop_assert_eq!(view.rank(&user, &list, 10).unwrap(), one.rank(&user, &list, 10).unwrap());
            let (rows, of_one) = (view.look_up(&list), one.look_up(&list));
            prop_assert_eq!(rows.len(), of_one.len());
            prop_assert_eq!(view.rank(&user, &rows, 10).unwrap(), one.rank(&user, &of_one, 10).unwrap());
            let found_rows = view.search_rows(&user, &options, None).unwrap();
            prop_assert_eq!(&view.rank(&user, &found_rows, 20).unwrap().hits, &found.hits);
            let of_one = [Channel::new(&list).at_most(3), Channel::new(&of_one).at_least(1).at_most(20)];
            let of_all = [ShardedChannel::new(&list).at_most(3), ShardedChannel::new(&rows).at_least(1).at_most(20)];
            let options = RankOptions::new(10);
            let ranked = view.rank_channels(&user, &of_all, &options, None).unwrap();
            prop_assert_eq!(ranked, one.rank_channels(&user, &of_one, &options).unwrap());
        }
        for (id, _) in &items {
            prop_assert_eq!(view.get(*id), one.get(*id));
            prop_assert_eq!(view.values(*id), one.values(*id));
        }
    }
}

/// An item, its embedding and its price.
type Priced = (u64, Vec<f32>, Option<i64>);

/// What a dump of a view has.
fn dump_of(view: &View) -> Vec<Priced> {
    let price = |id| match view.values(id).unwrap().get("price") {
        Value::Integer(price) => Some(*price),
        _ => None,
    };
    let mut items: Vec<Priced> = view.iter().map(|(id, row)| (id, row.to_vec(), price(id))).collect();
    items.sort_by_key(|item| item.0);
    items
}

impl Place {
    fn publish_dump(&self, key: &str, version: &str, dump: &[Priced], shards: u32, position: u64) {
        for number in 0..shards {
            let shard = Shard::new(number, shards).unwrap();
            let own = || dump.iter().filter(|item| shard.holds(item.0));
            let price = Column::new("price", ColumnKind::Number, own().map(|item| item.2)).unwrap();
            let make = |path: &Path| {
                let items = own().map(|(id, row, _)| (*id, row));
                builder(version).column(price).build_from(items, path)
            };
            self.catalog.stage_shard_made(key, shard, make).unwrap();
        }
        self.catalog.publish_shards(key, shards, &PublishOptions::new().log_position(position)).unwrap();
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Changes of these items, the last few of which were sent before.
    Change {
        ids: Vec<u64>,
        again: usize,
    },
    /// A dump of a version, taken at one of the last changes.
    Publish {
        version: usize,
        back: usize,
    },
    /// One shard looks at the catalog.
    Look {
        shard: usize,
    },
    /// All shards look at the catalog.
    LookAll,
    Rollback {
        to: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (prop::collection::vec(0u64..40, 1..12), 0usize..4)
            .prop_map(|(ids, again)| Step::Change { ids, again }),
        3 => (0usize..2, 0usize..3).prop_map(|(version, back)| Step::Publish { version, back }),
        3 => (0usize..4).prop_map(|shard| Step::Look { shard }),
        1 => Just(Step::LookAll),
        1 => (0usize..4).prop_map(|to| Step::Rollback { to }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..20)
}

/// Shards that are in service, and beside them one index with all items that is told the same.
struct Twins {
    shards: u32,
    random: Random,
    sharded: Place,
    whole: Place,
    live: Option<ShardedLive>,
    one: LiveIndex,
    changes: Vec<(u64, Change)>,
    dumps: Vec<(u64, &'static str, Vec<Priced>)>,
    published: u64,
}

impl Twins {
    const VERSIONS: [&'static str; 2] = ["a", "b"];

    fn new(shards: u32, seed: u64) -> Twins {
        let mut random = Random(seed);
        let (sharded, whole) = (Place::new(), Place::new());
        let dump: Vec<Priced> =
            (20..100).map(|id| (id, random.embedding(DIM), Some(id as i64 % 10))).collect();
        sharded.publish_dump("1", "a", &dump, shards, 0);
        whole.publish_dump("1", "a", &dump, 1, 0);
        let live = Some(Twins::open(&sharded, shards));
        let one = Twins::options(&whole).open(whole.catalog.folder()).unwrap();
        let dumps = vec![(0, "a", dump)];
        Twins { shards, random, sharded, whole, live, one, changes: Vec::new(), dumps, published: 1 }
    }

    fn options(place: &Place) -> LiveOptions {
        LiveOptions::new().poll(Duration::from_secs(3600)).fed_log(place.folder.path().join("fresh.log"))
    }

    fn open(place: &Place, shards: u32) -> ShardedLive {
        ShardedLive::open(place.catalog.folder(), shards, Twins::options(place)).unwrap()
    }

    fn live(&self) -> &ShardedLive {
        self.live.as_ref().unwrap()
    }

    fn position(&self) -> u64 {
        self.changes.len() as u64
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change { ids, again } => self.change(&ids, again),
            Step::Publish { version, back } => self.publish(Twins::VERSIONS[version], back),
            Step::Look { shard } => {
                self.live().shards()[shard % self.shards as usize].refresh().unwrap();
            }
            Step::LookAll => {
                self.live().refresh().unwrap();
            }
            Step::Rollback { to } => {
                let generations = self.whole.catalog.generations().unwrap();
                let number = generations[to % generations.len()].number;
                for place in [&self.whole, &self.sharded] {
                    place.catalog.rollback(Some(number)).unwrap();
                }
            }
            Step::Restart => {
                self.live = None;
                self.live = Some(Twins::open(&self.sharded, self.shards));
                let position = self.live().log_position().unwrap();
                let behind = self.changes.iter().filter(|change| change.0 > position).cloned();
                self.live().apply(&behind.collect::<Vec<_>>()).unwrap();
            }
        }
        // A rollback takes a number too, so that there are greater ones than were published.
        let generations = self.whole.catalog.generations().unwrap();
        let newest = generations.iter().map(|generation| generation.number).max().unwrap();
        self.one.hold(&(1..=newest).collect::<Vec<_>>());
        self.one.refresh().unwrap();
    }

    fn change(&mut self, ids: &[u64], again: usize) {
        let from = self.changes.len().saturating_sub(again);
        for &id in ids {
            let price = itemdex::Values::new().with("price", self.random.below(10) as i64);
            let change = match self.random.below(4) {
                0 => Change::delete(id),
                1 => Change::set_values(id, price),
                version => Change::upsert(Twins::VERSIONS[version % 2], id, self.random.embedding(DIM)),
            };
            self.changes.push((self.position() + 1, change));
        }
        self.one.apply(&self.changes[from..]).unwrap();
        self.live().apply(&self.changes[from..]).unwrap();
        for version in Twins::VERSIONS {
            if let Ok(view) = self.one.for_model(version) {
                self.dumps.push((self.position(), version, dump_of(&view)));
            }
        }
    }

    fn publish(&mut self, version: &'static str, back: usize) {
        let listed = self.whole.catalog.generations().unwrap();
        let is_listed = listed.iter().any(|generation| generation.model_version == version);
        // A retired version, which `one` still holds, lacks what came meanwhile if it is published again.
        if !is_listed && self.one.for_model(version).is_ok() {
            return;
        }
        let known = self.dumps.iter().rev().filter(|dump| dump.1 == version).nth(back);
        // The first of a version takes its items of the other one.
        let (position, _, dump) = known.unwrap_or(self.dumps.last().unwrap()).clone();
        self.published += 1;
        let key = self.published.to_string();
        self.sharded.publish_dump(&key, version, &dump, self.shards, position);
        self.whole.publish_dump(&key, version, &dump, 1, position);
    }

    fn check(&mut self) {
        let numbers = |place: &Place| -> Vec<u64> {
            place.catalog.generations().unwrap().iter().map(|one| one.number).collect()
        };
        assert_eq!(numbers(&self.sharded), numbers(&self.whole));
        self.check_view(&self.live().current().unwrap());
        for version in Twins::VERSIONS {
            if let Ok(view) = self.live().for_model(version) {
                assert_eq!(view.model_version(), version);
                self.check_view(&view);
            }
        }
    }

    fn check_view(&self, view: &ShardedView) {
        let number = view.parts()[0].generation().number;
        assert!(view.parts().iter().all(|part| part.generation().number == number));
        let one = self.one.generation(number).unwrap();
        assert_eq!((view.len(), view.model_version()), (one.len(), one.model_version()));
        let ids: Vec<u64> = (0..104).collect();
        for &id in &ids {
            assert_eq!((view.get(id), view.values(id)), (one.get(id), one.values(id)), "{id}");
        }
        let user = Random(number).embedding(DIM);
        let filters = (view.filter(&price_below(5)).unwrap(), one.index().filter(&price_below(5)).unwrap());
        for k in [5, 200] {
            let options = SearchOptions::new(k).recall(1.0);
            let found = view.search_with(&user, &options, Some(&filters.0)).unwrap();
            let expected = one.search_with(&user, &options.filter(&filters.1)).unwrap();
            assert_eq!((found.hits, found.matching), (expected.hits, expected.matching));
            let ranked = view.rank(&user, &ids, k).unwrap();
            assert_eq!(ranked, one.rank(&user, &ids, k).unwrap());
            assert_eq!(view.rank(&user, &view.look_up(&ids), k).unwrap().hits, ranked.hits);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shards_in_service_are_as_one_index_in_service(shards in 1u32..5, seed in any::<u64>(), steps in steps()) {
        let mut twins = Twins::new(shards, seed);
        for step in steps {
            twins.step(step);
            twins.check();
        }
    }
}

#[test]
fn a_generation_is_seen_when_all_its_shards_are_there() {
    let place = Place::new();
    let items = items(200, DIM, 1);
    let old = place.publish("old", "v1", &items, 1);
    assert!(old.shards.is_empty() && old.file.ends_with(".itemdex"));
    let shard = |number| Shard::new(number, 3).unwrap();
    for number in [0, 2] {
        place.stage("job", "v1", &items, shard(number)).unwrap();
        assert_eq!(place.catalog.current().unwrap(), Some(old.clone()));
    }
    let refused = place.catalog.publish_shards("job", 3, &PublishOptions::new()).unwrap_err().to_string();
    assert!(refused.contains("of the 3 shards of key \"job\", 1 are not staged: 1;"), "{refused}");
    let refused = place.catalog.publish_shards("job", 4, &PublishOptions::new()).unwrap_err().to_string();
    assert!(refused.contains("another number of shards is staged too: 0/3"), "{refused}");
    assert!(place.catalog.publish_shards("other", 2, &PublishOptions::new()).is_err());
    place.stage("job", "v1", &items, shard(1)).unwrap();
    // A task that was retried.
    place.stage("job", "v1", &items, shard(1)).unwrap();
    assert_eq!(place.catalog.staged_shards("job").unwrap().len(), 3);
    let generation = place.catalog.publish_shards("job", 3, &PublishOptions::new()).unwrap();
    assert_eq!((generation.rows, generation.shard_count(), generation.number), (200, 3, 2));
    // Once more, as after an answer that was lost.
    assert_eq!(place.catalog.publish_shards("job", 3, &PublishOptions::new()).unwrap(), generation);
    let late = place.stage("job", "v1", &items, shard(1)).unwrap_err();
    assert!(
        matches!(&late, Error::BadShards { .. }) && late.to_string().contains("as generation 2"),
        "{late}"
    );
    assert_eq!(place.names("shard-").len(), 3);
    assert!(place.names("staging-").is_empty());
    assert_eq!(place.catalog.rollback(None).unwrap().number, old.number);
    assert_eq!(place.catalog.rollback(Some(generation.number)).unwrap().file, generation.file);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let place = Place::new();
    let items = items(200, DIM, 1);
    let old = place.publish("old", "v1", &items, 2);
    let (first, second) = (Shard::new(0, 2).unwrap(), Shard::new(1, 2).unwrap());
    let publish =
        |key: &str| place.catalog.publish_shards(key, 2, &PublishOptions::new()).unwrap_err().to_string();

    place.stage("versions", "v1", &items, first).unwrap();
    place.stage("versions", "v2", &items, second).unwrap();
    assert!(publish("versions").contains("its model version is v2, and that of shard 0 is v1"));

    place.stage("dims", "v1", &items, first).unwrap();
    place.stage("dims", "v1", &common::items(50, DIM + 1, 1), second).unwrap();
    assert!(publish("dims").contains("its dim is 7"));

    let own: Items = items.iter().filter(|(id, _)| second.holds(*id)).cloned().collect();
    let no_columns = |path: &Path| builder("v1").build_from(own.iter().map(|(id, row)| (*id, row)), path);
    place.stage("columns", "v1", &items, first).unwrap();
    place.catalog.stage_shard_made("columns", second, no_columns).unwrap();
    assert!(
        publish("columns").contains("its column is missing, and that of shard 0 is price (number of i64)")
    );

    // Items of another shard: refused when they are staged, and where a file was put there by hand.
    let wrong = place.catalog.stage_shard_made("wrong", first, no_columns).unwrap_err();
    assert!(matches!(&wrong, Error::BadShards { .. }), "{wrong}");
    assert!(wrong.to_string().contains("belongs to shard 1, not 0/2"), "{wrong}");
    place.stage("swapped", "v1", &items, first).unwrap();
    place.stage("swapped", "v1", &items, second).unwrap();
    let staged = place.catalog.staged_shards("swapped").unwrap();
    let (a, b, aside) = (&staged[0].path, &staged[1].path, place.folder.path().join("aside"));
    fs::rename(a, &aside).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(&aside, b).unwrap();
    assert!(publish("swapped").contains("not 0/2"));

    for key in ["", "a/b", "x y"] {
        assert!(matches!(place.catalog.staged_shards(key), Err(Error::BadOption { option: "key", .. })));
    }
    assert_eq!(place.catalog.current().unwrap(), Some(old.clone()));
    assert_eq!(place.catalog.discard_shards("swapped").unwrap(), 2);
    assert_eq!(place.catalog.discard_shards("old").unwrap(), 0);
    assert_eq!(ShardedIndex::open(&place.catalog, &old, OpenOptions::new()).unwrap().len(), 200);
}

#[test]
fn a_file_of_another_catalog_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    let generation = place.publish("job", "v1", &items(200, DIM, 1), 2);
    let another = other.publish("job", "v1", &items(200, DIM, 2), 2);
    let [mine, theirs] =
        [(&place, &generation), (&other, &another)].map(|(place, one)| place.catalog.paths_of(one));
    fs::remove_file(&mine[1]).unwrap();
    fs::copy(&theirs[1], &mine[1]).unwrap();
    let opened = ShardedIndex::open(&place.catalog, &generation, OpenOptions::new());
    assert!(matches!(opened, Err(Error::Damaged { path, .. }) if path == mine[1]));
    let live = |number| place.options().shard(Shard::new(number, 2).unwrap()).open(place.catalog.folder());
    assert!(live(0).is_ok());
    assert!(matches!(live(1), Err(Error::Damaged { .. })));
    assert!(ShardedLive::open(place.catalog.folder(), 2, place.options()).is_err());
}

#[test]
fn a_list_of_another_catalog_leaves_what_serves() {
    let (place, other) = (Place::new(), Place::new());
    let items = items(200, DIM, 1);
    place.publish("job", "v1", &items, 2);
    let live = ShardedLive::open(place.catalog.folder(), 2, place.options()).unwrap();
    let expected = live.current().unwrap().search(&[1.0; DIM], 5).unwrap();
    for key in ["a", "b", "c"] {
        other.publish(key, "v1", &common::items(200, DIM, 2), 2);
    }
    let newest = other.names("catalog-").into_iter().filter(|name| name.ends_with(".json")).max().unwrap();
    fs::copy(other.catalog.folder().join(&newest), place.catalog.folder().join(&newest)).unwrap();
    let error = live.refresh().unwrap_err().to_string();
    assert!(error.contains("shard-0-of-2-") && error.contains("No such file"), "{error}");
    let view = live.current().unwrap();
    assert_eq!(view.parts()[0].generation().number, 1);
    assert_eq!(view.search(&[1.0; DIM], 5).unwrap(), expected);
    assert!(ShardedLive::open(place.catalog.folder(), 2, place.options()).is_err());
}

#[test]
fn dropped_shards_go_and_leftovers_are_swept() {
    let place = Place::new();
    let items = items(120, DIM, 1);
    for key in ["a", "b", "c"] {
        place.publish(key, "v1", &items, 2);
    }
    // Two generations of a model version stay.
    assert_eq!(place.names("shard-").len(), 4);
    place.stage("left", "v1", &items, Shard::new(0, 2).unwrap()).unwrap();
    place.publish("d", "v1", &items, 2);
    assert_eq!(place.names("shard-").len(), 5);
    let left = place.catalog.staged_shards("left").unwrap().remove(0).path;
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let file = fs::File::open(&left).unwrap();
    file.set_modified(long_ago).unwrap();
    place.publish("e", "v1", &items, 2);
    assert!(!left.exists());
    assert_eq!(place.names("shard-").len(), 4);
}

#[test]
fn an_older_release_is_told_that_it_cannot_read_the_list() {
    let place = Place::new();
    let items = items(120, DIM, 1);
    let format = || {
        let newest = place.names("catalog-").into_iter().max().unwrap();
        let text = fs::read_to_string(place.catalog.folder().join(newest)).unwrap();
        let list: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        (list["format"].as_u64().unwrap(), list["generations"][0].get("shards").is_some())
    };
    place.publish("a", "v1", &items, 1);
    assert_eq!(format(), (1, false));
    place.publish("b", "v1", &items, 2);
    assert_eq!(format().0, 2);
    place.publish("c", "v1", &items, 1);
    place.publish("d", "v1", &items, 1);
    assert_eq!(format().0, 1);
}

#[test]
fn a_process_that_holds_a_shard_takes_its_changes_only() {
    let place = Place::new();
    let items = items(200, DIM, 1);
    place.publish("a", "v1", &items, 2);
    let shard = Shard::new(1, 2).unwrap();
    let own_log = LiveOptions::new().shard(shard).log(place.folder.path().join("own.log"));
    assert!(matches!(own_log.open(place.catalog.folder()), Err(Error::BadOption { option: "log", .. })));
    let live = place.options().shard(shard).open(place.catalog.folder()).unwrap();
    let lists = split_by_shard(&(0..20).collect::<Vec<_>>(), 2);
    let changes: Vec<_> =
        (1..21).map(|position| (position, Change::upsert("v1", position - 1, [1.0; DIM]))).collect();
    let applied = live.apply(&changes).unwrap();
    assert_eq!((applied.applied, applied.elsewhere), (lists[1].len(), lists[0].len()));
    assert_eq!(live.apply(&changes).unwrap().already_there + live.apply(&changes).unwrap().elsewhere, 20);
    assert!(lists[1].iter().all(|&id| live.current().contains(id)));
    assert!(!lists[0].iter().any(|&id| live.current().contains(id)));
    drop(live);
    // The log of another shard.
    let other = place.options().shard(Shard::new(0, 2).unwrap()).open(place.catalog.folder());
    let Err(error) = other else { panic!("it was opened") };
    assert!(
        matches!(&error, Error::BadShards { .. }) && error.to_string().contains("the log of another shard"),
        "{error}"
    );
    // Another number of shards.
    let Err(error) = LiveIndex::open(place.catalog.folder()) else { panic!("it was opened") };
    assert!(error.to_string().contains("has 2 shards, and this process holds shard 0/1"), "{error}");
    let live = place.options().shard(shard).open(place.catalog.folder()).unwrap();
    place.publish("b", "v1", &items, 3);
    assert!(matches!(live.refresh(), Err(Error::Refused { generation: 2, .. })));
    assert_eq!(live.current().generation().number, 1);
}

#[test]
fn a_generation_that_is_held_serves_beside_the_newest() {
    let place = Place::new();
    let items = items(200, DIM, 1);
    place.publish("a", "v1", &items, 2);
    let shard = Shard::new(0, 2).unwrap();
    let live = place.options().shard(shard).open(place.catalog.folder()).unwrap();
    live.hold(&[1]);
    place.publish("b", "v1", &items, 2);
    live.refresh().unwrap();
    assert_eq!((live.generations(), live.current().generation().number), (vec![2, 1], 2));
    assert_eq!(live.model_versions(), ["v1"]);
    // It has the changes too, and goes on where it is dropped.
    let id = items.iter().find(|(id, _)| shard.holds(*id)).unwrap().0;
    live.apply(&[(5, Change::delete(id))]).unwrap();
    place.publish("c", "v1", &items, 2);
    place.publish("d", "v1", &items, 2);
    live.refresh().unwrap();
    assert_eq!(live.generations(), [4, 1]);
    for number in [1, 4] {
        assert!(!live.generation(number).unwrap().contains(id));
    }
    assert!(matches!(live.generation(2), Err(Error::NoGeneration { .. })));
    live.hold(&[3]);
    live.refresh().unwrap();
    assert_eq!(live.generations(), [4, 3]);
    live.hold(&[]);
    live.refresh().unwrap();
    assert_eq!(live.generations(), [4]);
}

#[test]
fn a_view_never_mixes_generations() {
    let place = Place::new();
    let items = items(200, DIM, 1);
    place.publish("a", "v1", &items, 3);
    let live = ShardedLive::open(place.catalog.folder(), 3, place.options()).unwrap();
    let numbers = || {
        let view = live.current().unwrap();
        view.parts().iter().map(|part| part.generation().number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(), [1; 3]);
    place.publish("b", "v2", &items, 3);
    for shard in live.shards() {
        let numbers = numbers();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
        shard.refresh().unwrap();
    }
    assert_eq!(numbers(), [2; 3]);
    assert_eq!(live.for_model("v1").unwrap().model_version(), "v1");
    assert!(matches!(live.for_model("v3"), Err(Error::UnknownModel { .. })));
    place.catalog.rollback(None).unwrap();
    for shard in live.shards() {
        let numbers = numbers();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
        shard.refresh().unwrap();
    }
    assert_eq!(numbers(), [1; 3]);
}

#[test]
fn requests_during_swaps_are_answered() {
    let place = Place::new();
    let items = items(150, DIM, 1);
    place.publish("first", "v1", &items, 2);
    let options = LiveOptions::new().poll(Duration::from_millis(1));
    let live = ShardedLive::open(place.catalog.folder(), 2, options).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let user = &users(1, DIM, 1)[0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..8 {
                place.publish(&format!("job-{number}"), "v1", &items, 2);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut answered = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let view = live.current().unwrap();
            assert_eq!(view.parts()[0].generation().number, view.parts()[1].generation().number);
            assert_eq!(view.search(user, 5).unwrap().len(), 5);
            answered += 1;
        }
        assert!(answered > 0);
    });
}

#[test]
fn shards_of_one_index_have_to_be_in_order() {
    let items = items(100, DIM, 1);
    let folder = tempfile::tempdir().unwrap();
    let open = |number| {
        let path = folder.path().join(format!("{number}.itemdex"));
        build_shard("v1", &items, Shard::new(number, 2).unwrap(), &path).unwrap();
        Index::open(path).unwrap()
    };
    assert_eq!(Sharded::new(vec![open(0), open(1)]).unwrap().len(), 100);
    assert!(matches!(Sharded::new(vec![open(1), open(0)]), Err(Error::BadShards { .. })));
    assert!(matches!(Sharded::new(Vec::new()), Err(Error::BadOption { .. })));
    let (two, other) = (Sharded::new(vec![open(0), open(1)]).unwrap(), both(&items, 3).sharded);
    let filter = other.filter(&price_below(5)).unwrap();
    let found = two.search_with(&[1.0; DIM], &SearchOptions::new(3), Some(&filter));
    assert!(matches!(found, Err(Error::BadOption { option: "filter", .. })));
    assert!(two.rank(&[1.0; DIM], &other.look_up(&[1]), 3).is_err());
    assert!(matches!(two.search(&[1.0; 2], 3), Err(Error::WrongDim { .. })));
}

#[test]
fn answers_of_shards_can_be_merged_elsewhere() {
    let items = items(300, DIM, 3);
    let Both { whole, sharded, place: _place } = both(&items, 3);
    let ids: Vec<u64> = items.iter().map(|item| item.0).collect();
    let user = &users(1, DIM, 3)[0];
    let (all, some) = (split_by_shard(&ids, 3), split_by_shard(&ids[..40], 3));
    let parts = sharded.parts().iter().enumerate().map(|(number, part)| {
        let channels = [Channel::new(&all[number]).at_most(7), Channel::new(&some[number]).at_least(4)];
        part.rank_channels_part(user, &channels, &RankOptions::new(10)).unwrap()
    });
    let quotas = [Quota { at_least: 0, at_most: 7 }, Quota { at_least: 4, at_most: usize::MAX }];
    let merged = merge_channels(parts.collect::<Vec<_>>(), 10, &quotas).unwrap();
    let channels = [Channel::new(&ids).at_most(7), Channel::new(&ids[..40]).at_least(4)];
    assert_eq!(merged, whole.rank_channels(user, &channels, &RankOptions::new(10)).unwrap());
    assert!(ids.iter().all(|&id| all[shard_of(id, 3) as usize].contains(&id)));
}

/// What asking each shard for its share saves against asking each for all `k`: prints microseconds a search on one
/// thread, and the recall.
#[test]
#[ignore = "measures: cargo test --test shards -- --ignored --nocapture share"]
fn asking_each_shard_for_its_share() {
    let (rows, dim) = (100_000, 64);
    let items = items(rows, dim, 5);
    let users = users(200, dim, 5);
    let shards = 4;
    let place = Place::new();
    let builder = IndexBuilder::new("v1").plans([Plan::Graph, Plan::Partitions]);
    for number in 0..shards {
        let shard = Shard::new(number, shards).unwrap();
        let own = items.iter().filter(|(id, _)| shard.holds(*id)).map(|(id, row)| (*id, row));
        place.catalog.stage_shard_made("job", shard, |path| builder.build_from(own, path)).unwrap();
    }
    let generation = place.catalog.publish_shards("job", shards, &PublishOptions::new()).unwrap();
    let sharded = ShardedIndex::open(&place.catalog, &generation, OpenOptions::new()).unwrap();
    for k in [100, 1000] {
        let options = SearchOptions::new(k).recall(0.95);
        let all = |user: &Vec<f32>| {
            let found = sharded.parts().iter().map(|part| part.search_with(user, &options).unwrap());
            merge_found(found.collect::<Vec<_>>(), k)
        };
        let share = |user: &Vec<f32>| sharded.search_with(user, &options, None).unwrap();
        let timed = |search: &dyn Fn(&Vec<f32>) -> itemdex::Found| {
            users.iter().for_each(|user| drop(search(user)));
            let started = std::time::Instant::now();
            users.iter().for_each(|user| drop(search(user)));
            started.elapsed().as_micros() / users.len() as u128
        };
        let recall = |search: &dyn Fn(&Vec<f32>) -> itemdex::Found| {
            let exact = SearchOptions::new(k).recall(1.0);
            let of_user = |user: &Vec<f32>| {
                let best: std::collections::HashSet<u64> =
                    sharded.search_with(user, &exact, None).unwrap().hits.iter().map(|hit| hit.id).collect();
                search(user).hits.iter().filter(|hit| best.contains(&hit.id)).count()
            };
            users[..50].iter().map(of_user).sum::<usize>() as f64 / (50 * k) as f64
        };
        let asked = share_of(k, shards as usize);
        let again = users.iter().filter(|user| {
            let options = options_of(asked);
            let found: Vec<_> =
                sharded.parts().iter().map(|part| part.search_with(user, &options).unwrap()).collect();
            !to_ask_again(&found, asked, k).is_empty()
        });
        println!(
            "{shards} shards, k {k}: each asked for {asked}: {} us, recall {:.3}, {} of {} asked again; for all: {} us, recall {:.3}",
            timed(&share),
            recall(&share),
            again.count(),
            users.len(),
            timed(&all),
            recall(&all),
        );
    }
}

fn options_of(k: usize) -> SearchOptions<'static> {
    SearchOptions::new(k).recall(0.95)
}
