//! What requests may see: filters, denied and allowed items, expiry, in searches, ranks and channels.

mod common;

use std::collections::HashSet;

use common::*;
use itemdex::{
    BloomFilter, Candidates, Channel, Column, ColumnKind, Error, Expression, Filter, Hit, Index,
    IndexBuilder, Items, Matrix, Parameters, Plan, Quantization, RankOptions, SearchOptions, Value,
};
use proptest::prelude::*;

const PLANS: [Plan; 3] = [Plan::Graph, Plan::Partitions, Plan::Scan];

/// An index of all plans with a number and an expiry an item: the row number of the dump, and every seventh second.
fn built(items: &common::Items) -> Built {
    let number = Column::new("number", ColumnKind::Number, (0..items.len() as i64).map(Value::from)).unwrap();
    let expiry = |row: i64| if row % 7 == 0 { Value::from(1_000 + row) } else { Value::Null };
    let expires = Column::new("expires", ColumnKind::Expires, (0..items.len() as i64).map(expiry)).unwrap();
    // One thread builds the same graph every time.
    let builder = IndexBuilder::new("v1").m(8).ef_construction(64).threads(1).quantize(Quantization::I8);
    build_with(&builder.plans([Plan::Graph, Plan::Partitions]).column(number).column(expires), items)
}

fn filter(index: &Index, text: &str) -> Filter {
    index.filter(&Expression::parse(text, &Parameters::new()).unwrap()).unwrap()
}

/// The exact answer among the items that pass, by a rank of all items, which takes no options.
fn reference(index: &Index, user: &[f32], k: usize, passes: impl Fn(u64) -> bool) -> Vec<Hit> {
    let options = RankOptions::new(index.len()).exact().now(0);
    let mut hits = index.rank_with(user, index.ids(), &options).unwrap().hits;
    hits.retain(|hit| passes(hit.id));
    hits.truncate(k);
    hits
}

/// Checks the answers of all plans among the `passing`, which the options leave.
fn check_plans(index: &Index, user: &[f32], k: usize, options: SearchOptions<'_>, passing: &HashSet<u64>) {
    let exact = reference(index, user, k, |id| passing.contains(&id));
    for plan in PLANS {
        for recall in [0.9, 1.0] {
            let options = options.plan(plan).recall(recall);
            let found = index.search_with(user, &options).unwrap();
            assert!(found.hits.iter().all(|hit| passing.contains(&hit.id)), "{plan:?}");
            assert_eq!(found.hits.len(), exact.len(), "{plan:?} at {recall}");
            if found.plan == Plan::Scan || recall == 1.0 && plan != Plan::Graph {
                assert_eq!(found.hits, exact, "{plan:?} at {recall}");
            }
        }
    }
    let found = index.search_with(user, &options.recall(1.0)).unwrap();
    assert_eq!(found.hits, exact);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Rows of small integers have many equal scores.
    #[test]
    fn answers_are_those_of_a_filtered_brute_force(
        rows in prop::collection::vec(prop::collection::vec(-3i8..4, 5), 1..700),
        keep in 0u64..101,
        (k, seed) in (0usize..60, any::<u64>()),
        now in 900i64..1_800,
    ) {
        let items: common::Items = (0..).zip(&rows).map(|(id, row)| {
            (id * 7919 % 10_007, row.iter().map(|&value| f32::from(value)).collect())
        }).collect();
        let built = built(&items);
        let index = &built.index;
        let user = [1.0, -0.5, 0.25, 2.0, 1.0];
        let mut random = Random(seed);
        let half = items.len() as u64 / 2;
        let below = filter(index, &format!("number < {half}"));
        prop_assert_eq!(below.matching() as u64, half);
        let chosen: Vec<u64> = items.iter().map(|item| item.0).filter(|_| random.next() % 100 < keep).collect();
        let named: HashSet<u64> = chosen.iter().copied().collect();
        let set = index.item_set(&chosen);
        let test = |id: u64| named.contains(&id);
        for filtered in [false, true] {
            let shown = |row: usize, id: u64, denies: bool| {
                let expired = row.is_multiple_of(7) && 1_000 + row as i64 <= now;
                !expired && named.contains(&id) != denies && (!filtered || (row as u64) < half)
            };
            for denies in [false, true] {
                let shown = |(row, item): (usize, &(u64, Vec<f32>))| shown(row, item.0, denies).then_some(item.0);
                let passing: HashSet<u64> = items.iter().enumerate().filter_map(shown).collect();
                for named in [Items::Ids(&chosen), Items::Set(&set), Items::Test(&test)] {
                    let mut options = SearchOptions::new(k).now(now);
                    if filtered {
                        options = options.filter(&below);
                    }
                    options = if denies { options.deny(named) } else { options.allow(named) };
                    check_plans(index, &user, k, options, &passing);
                    if !matches!(named, Items::Test(_)) {
                        let found = index.search_with(&user, &options).unwrap();
                        prop_assert_eq!(found.matching, passing.len());
                    }
                    let users = Matrix::new(5, [user, user].concat()).unwrap();
                    for plan in PLANS {
                        let options = options.plan(plan);
                        let alone = index.search_with(&user, &options).unwrap();
                        let many = index.search_many(&users, &options, 2).unwrap();
                        prop_assert_eq!(&many, &[alone.clone(), alone]);
                    }
                }
            }
        }
    }
}

/// Items in topics of their own, the directions of the axes.
fn topics(rows: usize) -> common::Items {
    let mut random = Random(3);
    let item = |row: usize| {
        let topic = row % 16;
        let value =
            |at: usize, random: &mut Random| random.normal() * 0.2 + if at == topic { 2.0 } else { 0.0 };
        (row as u64, (0..16).map(|at| value(at, &mut random)).collect())
    };
    (0..rows).map(item).collect()
}

#[test]
fn a_filter_finds_what_it_keeps_however_far_from_the_user() {
    let items = topics(6_000);
    let built = built(&items);
    let index = &built.index;
    let mut near = [0.0; 16];
    near[3] = 1.0;
    for topic in [3, 4] {
        let of_topic = |id: &u64| id % 16 == topic;
        let ids: Vec<u64> = (0..6_000).filter(of_topic).collect();
        let set = index.item_set(&ids);
        let users: Vec<[f32; 16]> = (0..8)
            .map(|turn| {
                let mut random = Random(turn);
                near.map(|value| value + 0.05 * random.normal())
            })
            .collect();
        for options in [SearchOptions::new(50).allow(&set).now(0), SearchOptions::new(400).allow(&ids).now(0)]
        {
            check_plans(index, &near, options_k(&options), options, &ids.iter().copied().collect());
            for plan in [None, Some(Plan::Graph), Some(Plan::Partitions)] {
                let options = plan.map_or(options, |plan| options.plan(plan));
                let (mut hits, mut wanted) = (0, 0);
                for user in &users {
                    let found = index.search_with(user, &options).unwrap().hits;
                    let exact = reference(index, user, options_k(&options), |id| of_topic(&id));
                    hits += found.iter().filter(|hit| exact.contains(hit)).count();
                    wanted += exact.len();
                }
                assert!(hits * 100 >= wanted * 90, "{hits} of {wanted} by {plan:?}");
            }
        }
    }
}

/// What a user has seen is the best for this user: all of it, most of it, or some; named by ids, answers are as by a set.
#[test]
fn seen_items_are_left_out_however_good_they_are() {
    let items = items(30_000, 24, 7);
    let built =
        build_with(&IndexBuilder::new("v1").plans([Plan::Partitions]).quantize(Quantization::I8), &items);
    let index = &built.index;
    let (mut good, mut wanted) = (0, 0);
    for (turn, user) in users(12, 24, 7).into_iter().enumerate() {
        let best = index.search_with(&user, &SearchOptions::new(4_000).recall(1.0)).unwrap().hits;
        let step = [1, 2, 9][turn % 3];
        let seen: Vec<u64> = best.iter().step_by(step).map(|hit| hit.id).chain([u64::MAX]).collect();
        let named: HashSet<u64> = seen.iter().copied().collect();
        let set = index.item_set(&seen);
        for k in [1, 20, 300] {
            let options = SearchOptions::new(k).deny(&seen);
            let exact = index.search_with(&user, &options.recall(1.0)).unwrap().hits;
            assert_eq!(exact, index.search_with(&user, &options.deny(&set).recall(1.0)).unwrap().hits);
            let found = index.search_with(&user, &options).unwrap();
            assert_eq!(found.hits.len(), k);
            let left = 30_000 + 1 - seen.len();
            assert!(found.matching == left || seen.len() > 1_000 && found.matching == 30_000);
            assert!(found.hits.iter().all(|hit| !named.contains(&hit.id)));
            let last = exact.last().unwrap().score;
            good += found.hits.iter().filter(|hit| hit.score >= last).count();
            wanted += k;
            let many = Matrix::new(24, [user.clone(), user.clone()].concat()).unwrap();
            assert_eq!(index.search_many(&many, &options, 1).unwrap(), [found.clone(), found]);
        }
    }
    assert!(good * 100 >= wanted * 93, "{good} of {wanted}");
}

fn options_k(options: &SearchOptions<'_>) -> usize {
    if format!("{options:?}").contains("k: 50") { 50 } else { 375 }
}

#[test]
fn of_equal_rows_the_one_that_passes_is_found() {
    let items: common::Items = (0..100_000).map(|id| (id, vec![1.0, 2.0, 3.0])).collect();
    let builder = IndexBuilder::new("v1").m(8).ef_construction(32).plans([Plan::Graph, Plan::Partitions]);
    let built = build_with(&builder, &items);
    let only = built.index.item_set(&[77_777]);
    let others: Vec<u64> = (0..100_000).filter(|id| *id != 77_777).collect();
    let test = |id: u64| id == 77_777;
    let user = [0.5, 0.25, 1.0];
    for plan in PLANS {
        let options = SearchOptions::new(10).plan(plan);
        let denied = built.index.item_set(&others);
        for options in [
            options.allow(&only),
            options.allow(&[77_777]),
            options.deny(&others),
            options.deny(&denied),
            options.allow(Items::Test(&test)),
        ] {
            let hits = built.index.search_with(&user, &options).unwrap().hits;
            assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [77_777], "{options:?}");
        }
    }
}

#[test]
fn empty_and_full_sets_leave_nothing_and_everything() {
    let items = items(500, 6, 1);
    let built = built(&items);
    let index = &built.index;
    let user = [1.0; 6];
    let options = SearchOptions::new(20).now(0);
    let all = index.search_with(&user, &options).unwrap();
    assert_eq!(all.matching, 500);
    let (none, full) = (index.item_set(&[]), index.item_set(index.ids()));
    assert!(none.is_empty() && full.len() == 500);
    for options in [options.deny(&none), options.allow(&full), options.deny(&[]), options.deny(&[1, 1])] {
        assert_eq!(index.search_with(&user, &options).unwrap(), all);
    }
    for options in [options.allow(&none), options.deny(&full), options.allow(&[]), options.allow(&[1, 2])] {
        for plan in PLANS {
            let found = index.search_with(&user, &options.plan(plan)).unwrap();
            assert_eq!((found.hits, found.matching), (vec![], 0));
        }
    }
    assert!(filter(index, "number < 0").matching() == 0);
}

#[test]
fn ranks_say_what_they_left_out() {
    let items = items(3_000, 8, 2);
    let built = built(&items);
    let index = &built.index;
    let user = [0.5; 8];
    let ids: Vec<u64> = items.iter().map(|item| item.0).chain([5, 5, items[1].0]).collect();
    let below = filter(index, "number < 2000");
    let denied: Vec<u64> = items[..100].iter().map(|item| item.0).collect();
    let set = index.item_set(&denied);
    let test = |id: u64| denied.contains(&id);
    let options = RankOptions::new(40).filter(&below).now(1_050);
    let row = |id: u64| items.iter().position(|item| item.0 == id).unwrap();
    let expired = |row: usize| row.is_multiple_of(7) && row <= 50;
    let exact = reference(index, &user, 40, |id| (100..2_000).contains(&row(id)));
    let handles = index.look_up(&ids);
    for options in [options.deny(&denied), options.deny(&set), options.deny(Items::Test(&test))] {
        for candidates in [Candidates::from(&ids), Candidates::from(&handles)] {
            let ranked = index.rank_with(&user, candidates, &options).unwrap();
            assert_eq!(ranked.hits, exact);
            let dropped = ranked.dropped;
            assert_eq!((dropped.expired, dropped.denied, dropped.filtered), (8, 92, 1_000));
            let users = Matrix::new(8, [user, user].concat()).unwrap();
            let many = index.rank_many(&users, &[candidates], &options, 2).unwrap();
            assert_eq!(many, [ranked.clone(), ranked]);
        }
        let mut scores = vec![0.0; ids.len()];
        assert_eq!(index.score_with(&user, &ids, &options, &mut scores).unwrap(), 1_100 + 3);
        for (place, score) in scores.iter().enumerate() {
            let row = if place < 3_000 { place } else { 0 };
            assert_eq!(score.is_nan(), !(100..2_000).contains(&row) || expired(row), "{place}");
        }
    }
    // Without options, what has expired by now is left out all the same.
    assert_eq!(index.rank(&user, &ids, 10).unwrap().dropped.expired, 429);
    assert_eq!(index.search_with(&user, &SearchOptions::new(5)).unwrap().matching, 3_000 - 429);
}

#[test]
fn a_channel_has_a_filter_of_its_own() {
    let items = items(1_000, 8, 3);
    let built = built(&items);
    let index = &built.index;
    let user = [0.5; 8];
    let ids: Vec<u64> = items.iter().map(|item| item.0).collect();
    let (low, high) = (filter(index, "number < 300"), filter(index, "number >= 250"));
    let channels =
        [Channel::new(&ids).filter(&low).at_least(3), Channel::new(&ids[..400]).filter(&high).at_most(5)];
    let options = RankOptions::new(30).now(0).deny(&ids[..10]);
    let ranked = index.rank_channels(&user, &channels, &options).unwrap();
    assert_eq!((ranked.dropped.denied, ranked.dropped.filtered), (10, 600));
    assert_eq!(ranked.hits.len(), 30);
    for hit in &ranked.hits {
        let row = ids.iter().position(|&id| id == hit.id).unwrap();
        let (first, second) = ((10..300).contains(&row), (250..400).contains(&row));
        assert_eq!(hit.channels, u32::from(first) | u32::from(second) << 1);
        assert!(hit.channels != 0);
    }
    let of_second = ranked.hits.iter().filter(|hit| hit.channels & 2 != 0).count();
    assert!(of_second <= 5, "{of_second}");
}

/// Puts ids into a bitset as Parquet's specification of the filter says, block by block.
fn bloom_of(ids: &[u64], blocks: usize) -> Vec<u8> {
    const SALTS: [u32; 8] =
        [0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31];
    let mut words = vec![0u32; blocks * 8];
    for id in ids {
        let hash = xxhash_rust::xxh64::xxh64(&id.to_le_bytes(), 0);
        let block = (((hash >> 32) * blocks as u64) >> 32) as usize;
        for (word, salt) in words[block * 8..][..8].iter_mut().zip(SALTS) {
            *word |= 1 << ((hash as u32).wrapping_mul(salt) >> 27);
        }
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_bloom_filter_hides_what_was_put_in_and_little_else() {
    let items = items(4_000, 12, 4);
    let built = built(&items);
    let index = &built.index;
    for user in users(10, 12, 4) {
        let seen: Vec<u64> = reference(index, &user, 600, |_| true).iter().map(|hit| hit.id).collect();
        let bytes = bloom_of(&seen, 32);
        let bloom = BloomFilter::new(&bytes).unwrap();
        let passing: HashSet<u64> =
            items.iter().map(|item| item.0).filter(|&id| !bloom.may_contain(id)).collect();
        assert!(passing.len() > 3_200 && seen.iter().all(|id| !passing.contains(id)));
        check_plans(index, &user, 30, SearchOptions::new(30).deny(&bloom).now(0), &passing);
        let ranked = index.rank_with(&user, index.ids(), &RankOptions::new(30).deny(&bloom).now(0)).unwrap();
        assert_eq!(ranked.hits, reference(index, &user, 30, |id| passing.contains(&id)));
        assert_eq!(ranked.dropped.denied, 4_000 - passing.len());
    }
}

#[test]
fn what_another_index_made_is_refused() {
    let (one, other) = (built(&items(300, 4, 5)), built(&items(300, 4, 6)));
    let user = [1.0; 4];
    let (set, below) = (one.index.item_set(&[0]), filter(&one.index, "number < 5"));
    let ids = [0, 1];
    let channel = [Channel::new(&ids).filter(&below)];
    let errors = [
        other.index.search_with(&user, &SearchOptions::new(1).deny(&set)).unwrap_err(),
        other.index.rank_with(&user, &ids, &RankOptions::new(1).allow(&set)).unwrap_err(),
        other.index.search_with(&user, &SearchOptions::new(1).filter(&below)).unwrap_err(),
        other.index.rank_channels(&user, &channel, &RankOptions::new(1)).unwrap_err(),
        other.index.score_with(&user, &ids, &RankOptions::new(1).filter(&below), &mut [0.0; 2]).unwrap_err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        let stale_filter = matches!(error, Error::StaleFilter { .. });
        assert!(stale_filter == (number >= 2) && (stale_filter || matches!(error, Error::StaleRows { .. })));
    }
}
