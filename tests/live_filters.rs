//! What requests may see of a generation with fresh items laid over it.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use common::*;
use itemdex::live::{LiveIndex, LiveOptions, PublishOptions, View};
use itemdex::{
    BloomFilter, Channel, Column, ColumnKind, Expression, Hit, IndexBuilder, Items as Named, Matrix,
    Parameters, Plan, RankOptions, SearchOptions, Value,
};

const DIM: usize = 6;

/// A generation of 400 items with a number and an expiry each, and changes over it: some of its items replaced, some
/// deleted, others new.
struct Served {
    _place: Place,
    _live: LiveIndex,
    view: View,
    /// Every item there is, and which of them stand in the generation as they were built.
    items: BTreeMap<u64, Vec<f32>>,
    built: HashSet<u64>,
}

fn served() -> Served {
    let place = Place::new();
    let items = items(400, DIM, 1);
    let number = Column::new("number", ColumnKind::Number, (0..400i64).map(Value::from)).unwrap();
    let expires = Column::new("expires", ColumnKind::Expires, (0..400i64).map(|row| row * 10)).unwrap();
    let builder = IndexBuilder::new("v1").m(4).ef_construction(30).plans([Plan::Graph, Plan::Partitions]);
    let builder = builder.column(number).column(expires);
    let build = |path: &Path| builder.build_from(items.iter().map(|(id, row)| (*id, row)), path);
    place.catalog.publish_made(build, &PublishOptions::new()).unwrap();
    let options = LiveOptions::new().poll(Duration::from_secs(3600)).log(place.folder.path().join("log"));
    let live = options.open(place.catalog.folder()).unwrap();
    let mut random = Random(2);
    let mut all: BTreeMap<u64, Vec<f32>> = items.iter().cloned().collect();
    let mut built: HashSet<u64> = all.keys().copied().collect();
    for (row, (id, _)) in items.iter().enumerate().filter(|(row, _)| row % 3 == 0) {
        built.remove(id);
        if row % 2 == 0 {
            live.delete(*id).unwrap();
            all.remove(id);
        } else {
            all.insert(*id, random.embedding(DIM));
        }
    }
    (0..30).for_each(|fresh| _ = all.insert(5_000_000_000 + fresh, random.embedding(DIM)));
    for (&id, embedding) in all.iter().filter(|(id, _)| !built.contains(id)) {
        live.upsert("v1", id, embedding).unwrap();
    }
    let view = (*live.current()).clone();
    Served { _place: place, _live: live, view, items: all, built }
}

impl Served {
    /// The exact answer among the items that pass.
    fn reference(&self, user: &[f32], k: usize, passes: impl Fn(u64) -> bool) -> Vec<Hit> {
        let ids: Vec<u64> = self.items.keys().copied().filter(|&id| passes(id)).collect();
        let mut scores = vec![0.0; ids.len()];
        let options = RankOptions::new(0).now(-1);
        self.view.score_with(user, &ids, &options, &mut scores).unwrap();
        let mut hits: Vec<Hit> = ids.iter().zip(scores).map(|(&id, score)| Hit { id, score }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(k);
        hits
    }

    /// The number that an item was built with, which its replacement does not have.
    fn number(&self, id: u64) -> Option<i64> {
        let value = self.built.contains(&id).then(|| self.view.index().values(id).unwrap());
        match value?.get("number") {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

#[test]
fn a_view_answers_among_what_a_request_may_see() {
    let served = served();
    let view = &served.view;
    let below = view.index().filter(&Expression::parse("number < 250", &Parameters::new()).unwrap()).unwrap();
    for user in users(5, DIM, 3) {
        let best = served.reference(&user, 60, |_| true);
        let seen: Vec<u64> = best.iter().map(|hit| hit.id).collect();
        let set = view.index().item_set(&seen);
        let test = |id: u64| seen.contains(&id);
        let bytes = vec![0; 32];
        let nobody = BloomFilter::new(&bytes).unwrap();
        for now in [-1, 1_500] {
            let alive = |id: u64| served.number(id).is_none_or(|number| number * 10 > now);
            for named in [Named::Ids(&seen), Named::Set(&set), Named::Test(&test)] {
                for (denies, filtered) in [(true, false), (false, false), (true, true), (false, true)] {
                    let shown = |id: u64| {
                        let kept = !filtered || served.number(id).is_some_and(|number| number < 250);
                        alive(id) && kept && seen.contains(&id) != denies
                    };
                    let mut options = SearchOptions::new(20).now(now).recall(1.0);
                    let mut ranks = RankOptions::new(20).now(now);
                    if filtered {
                        (options, ranks) = (options.filter(&below), ranks.filter(&below));
                    }
                    (options, ranks) = match denies {
                        true => (options.deny(named), ranks.deny(named)),
                        false => (options.allow(named), ranks.allow(named)),
                    };
                    let exact = served.reference(&user, 20, shown);
                    let found = view.search_with(&user, &options).unwrap();
                    assert_eq!(found.hits, exact);
                    if !matches!(named, Named::Test(_)) {
                        let matching = served.items.keys().filter(|&&id| shown(id)).count();
                        assert_eq!(found.matching, matching);
                    }
                    let users = Matrix::new(DIM, user.clone()).unwrap();
                    assert_eq!(view.search_many(&users, &options, 2).unwrap(), [found]);

                    let candidates: Vec<u64> = served.items.keys().copied().chain([3, 4]).collect();
                    let ranked = view.rank_with(&user, &candidates, &ranks).unwrap();
                    assert_eq!((&ranked.hits, &ranked.unknown), (&exact, &vec![3, 4]));
                    let dropped = ranked.dropped.expired + ranked.dropped.denied + ranked.dropped.filtered;
                    let hidden = served.items.keys().filter(|&&id| !shown(id)).count();
                    assert_eq!(dropped, hidden);
                    let mut scores = vec![0.0; candidates.len()];
                    let without = view.score_with(&user, &candidates, &ranks, &mut scores).unwrap();
                    assert_eq!(without, hidden + 2);
                    for (&id, score) in candidates.iter().zip(&scores) {
                        assert_eq!(score.is_nan(), !served.items.contains_key(&id) || !shown(id));
                    }
                }
            }
        }
        let all = view.search_with(&user, &SearchOptions::new(60).now(-1).recall(1.0).deny(&nobody)).unwrap();
        assert_eq!(all.hits, best);
    }
}

#[test]
fn the_filter_of_a_channel_is_asked_about_fresh_items_too() {
    let served = served();
    let view = &served.view;
    let user = &users(1, DIM, 4)[0];
    let below = view.index().filter(&Expression::parse("number < 250", &Parameters::new()).unwrap()).unwrap();
    let ids: Vec<u64> = served.items.keys().copied().collect();
    let channels = [Channel::new(&ids).filter(&below), Channel::new(&ids[..100])];
    let ranked = view.rank_channels(user, &channels, &RankOptions::new(1_000).now(-1)).unwrap();
    let of_first = |id: u64| served.number(id).is_some_and(|number| number < 250);
    let mut expected = 0;
    for hit in &ranked.hits {
        assert_eq!(hit.channels & 1 == 1, of_first(hit.id));
        assert_eq!(hit.channels & 2 == 2, ids[..100].contains(&hit.id));
        expected += 1;
    }
    let passing = ids.iter().filter(|&&id| of_first(id) || ids[..100].contains(&id)).count();
    assert_eq!((expected, ranked.dropped.filtered), (passing, ids.len() - passing));
}

/// Ids that one request denies are left out of the count once, those of replaced and deleted items too.
#[test]
fn denied_ids_are_counted_once_whatever_hides_them() {
    let served = served();
    let (view, user) = (&served.view, [1.0, -0.5, 0.25, 2.0, 1.0, 0.5]);
    let everything: Vec<u64> = items(400, DIM, 1).iter().map(|item| item.0).collect();
    let users = Matrix::new(DIM, user.to_vec()).unwrap();
    for count in [0, 1, 40, 399, 400] {
        let denied = &everything[..count];
        let left = served.items.keys().filter(|id| !denied.contains(id)).count();
        for plan in [Plan::Graph, Plan::Partitions, Plan::Scan] {
            for k in [1, 20] {
                let options = SearchOptions::new(k).now(-1).deny(denied).plan(plan);
                let found = view.search_with(&user, &options).unwrap();
                assert_eq!((found.hits.len(), found.matching), (k.min(left), left), "{count} {plan:?} {k}");
                assert!(found.hits.iter().all(|hit| !denied.contains(&hit.id)));
                assert_eq!(view.search_many(&users, &options, 1).unwrap(), [found]);
            }
        }
        let many: Vec<u64> = denied.iter().copied().chain(9_000_000_000..9_000_001_200).collect();
        let found = view.search_with(&user, &SearchOptions::new(20).now(-1).deny(&many)).unwrap();
        assert!(found.matching >= left && found.hits.len() == 20.min(left));
    }
}
