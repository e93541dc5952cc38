//! Searching and ranking, compared with a brute-force reference.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use common::*;
use itemdex::{Error, Hit, IndexBuilder, Matrix, Plan, Quantization, RankOptions, SearchOptions};
use proptest::prelude::*;

#[test]
fn search_finds_most_of_the_best_and_scores_them_exactly() {
    let items = items(6_000, 8, 1);
    let built = build_with(&IndexBuilder::new("v1").threads(1), &items);
    let mut found = 0;
    let users = users(50, 8, 1);
    for user in &users {
        let hits = built.index.search_with(user, &SearchOptions::new(20).ef(200)).unwrap().hits;
        assert_eq!(hits.len(), 20);
        assert_ordered(&hits);
        let best: HashSet<u64> = brute_force(&items, user)[..20].iter().map(|item| item.0).collect();
        found += hits.iter().filter(|hit| best.contains(&hit.id)).count();
        for hit in &hits {
            let row = built.index.get(hit.id).unwrap();
            assert!((f64::from(hit.score) - inner_product(user, &row)).abs() <= rounding(user, &row));
        }
    }
    assert!(found as f64 >= 0.9 * 20.0 * users.len() as f64, "found {found} of {}", 20 * users.len());
}

#[test]
fn a_beam_as_wide_as_the_index_answers_exactly() {
    let items = items(700, 10, 2);
    let built = build(&items);
    for user in users(10, 10, 2) {
        for k in [1, 3, 699, 700, 5_000, usize::MAX] {
            let hits = built.index.search_with(&user, &SearchOptions::new(k).ef(700)).unwrap().hits;
            assert_best(&hits, &items, &user, k);
        }
    }
}

#[test]
fn a_search_says_which_plan_it_took_and_takes_the_one_it_is_told() {
    let items = items(5_000, 8, 4);
    let built = build_with(&IndexBuilder::new("v1").quantize(Quantization::I8), &items);
    let user = &users(1, 8, 4)[0];
    let plan = |options: SearchOptions| built.index.search_with(user, &options).unwrap().plan;
    let narrow = SearchOptions::new(10).ef(10);
    assert_eq!(plan(narrow), Plan::Graph);
    assert_eq!(plan(narrow.plan(Plan::Scan)), Plan::Scan);
    assert_eq!(plan(narrow.ef(5_000)), Plan::Scan);
    assert_eq!(plan(narrow.ef(5_000).plan(Plan::Graph)), Plan::Graph);
    assert_eq!(plan(narrow.recall(1.0)), Plan::Scan);
    assert_eq!(plan(SearchOptions::new(4_000)), Plan::Scan);
    assert_eq!(plan(SearchOptions::new(0).plan(Plan::Graph)), Plan::Graph);
}

#[test]
fn a_scan_is_exact_for_users_and_rows_that_bounds_tell_nothing_about() {
    let mut items = items(3_000, 20, 9);
    // Mostly copies, rows of one enormous value, and rows of zeros.
    for (number, (_, row)) in items.iter_mut().enumerate() {
        match number % 4 {
            0 | 1 => row.fill(1.0),
            2 => row[number % 20] = 1e9,
            _ => row.iter_mut().for_each(|value| *value *= (number % 3) as f32 * 1e-30),
        }
    }
    let built =
        build_with(&IndexBuilder::new("v1").m(2).ef_construction(1).quantize(Quantization::I8), &items);
    let mut users = users(5, 20, 9);
    users.extend([vec![0.0; 20], vec![1e-38; 20], vec![-1.0; 20]]);
    for user in &users {
        for k in [1, 2, 100, 374, 375, 376, 3_000] {
            let options = SearchOptions::new(k).plan(Plan::Scan);
            let hits = built.index.search_with(user, &options).unwrap().hits;
            assert_eq!(hits, built.index.search_with(user, &options.recall(1.0)).unwrap().hits);
            let mut all: Vec<Hit> = built.index.ids().iter().map(|&id| Hit { id, score: 0.0 }).collect();
            let mut scores = vec![0.0; all.len()];
            built.index.score(user, built.index.ids(), &mut scores).unwrap();
            all.iter_mut().zip(scores).for_each(|(hit, score)| hit.score = score);
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
            assert_eq!(hits, all[..k]);
        }
    }
}

#[test]
fn k_0_returns_nothing_and_k_beyond_the_end_everything() {
    let items = items(40, 3, 3);
    let built = build(&items);
    let user = [1.0, -2.0, 0.5];
    let ids: Vec<u64> = items.iter().map(|item| item.0).collect();
    assert_eq!(built.index.search(&user, 0).unwrap(), []);
    assert_eq!(built.index.search(&user, 1_000).unwrap().len(), 40);
    assert_eq!(built.index.rank(&user, &ids, 0).unwrap().hits, []);
    assert_best(&built.index.rank(&user, &ids, usize::MAX).unwrap().hits, &items, &user, 40);
}

#[test]
fn equal_scores_order_by_item_id() {
    let items: Items = [30, 10, 20, 40].into_iter().map(|id| (id, vec![1.0, 0.0])).collect();
    let built = build(&items);
    let ids = |hits: Vec<Hit>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    assert_eq!(ids(built.index.search(&[1.0, 1.0], 3).unwrap()), [10, 20, 30]);
    assert_eq!(ids(built.index.rank(&[1.0, 1.0], &[40, 30, 20], 2).unwrap().hits), [20, 30]);
    // Nothing sets 0.0 and -0.0 apart, here of items on either side of a user.
    let items: Items = vec![(2, vec![0.0, 1.0]), (1, vec![0.0, -1.0])];
    assert_eq!(ids(build(&items).index.search(&[1.0, 0.0], 2).unwrap()), [1, 2]);
    assert_eq!(ids(build(&items).index.search(&[-0.0, -0.0], 2).unwrap()), [1, 2]);
}

#[test]
fn a_user_embedding_that_cannot_be_scored_is_an_error() {
    let built = build(&items(10, 3, 4));
    let message = |user: &[f32]| {
        let messages = [
            built.index.search(user, 5).unwrap_err().to_string(),
            built.index.rank(user, &[1], 5).unwrap_err().to_string(),
            built.index.score(user, &[1], &mut [0.0]).unwrap_err().to_string(),
        ];
        assert!(messages.iter().all(|message| *message == messages[0]));
        messages[0].clone()
    };
    assert_eq!(
        message(&[1.0, 2.0]),
        "the user embedding has 2 values, the index has dim 3; is it of the same model?"
    );
    assert_eq!(
        message(&[1.0, f32::NAN, 0.0]),
        "the user embedding cannot be scored: value 1 is NaN; every value must be finite"
    );
    assert!(message(&[1.0, 2.0, f32::INFINITY]).contains("value 2 is inf"));
    assert!(message(&[1e30, 0.0, 0.0]).contains("its norm 1.0000000150474662e30 is beyond"));
    assert!(matches!(built.index.search(&[], 1), Err(Error::WrongDim { expected: 3, found: 0 })));
}

#[test]
fn lists_that_fit_no_users_and_users_that_fit_no_index_are_errors() {
    let built = build(&items(10, 2, 4));
    let two = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let rank =
        |users: &Matrix, lists: &[&[u64]]| built.index.rank_many(users, lists, &RankOptions::new(1), 2);
    let error = rank(&two, &[&[1], &[2], &[3]]).unwrap_err();
    assert_eq!(error.to_string(), "candidates: 3 lists for 2 users; give one list for all, or one for each");
    assert!(rank(&two, &[]).is_err());
    let wide = Matrix::new(3, vec![1.0, 2.0, 3.0]).unwrap();
    assert!(matches!(rank(&wide, &[&[1]]), Err(Error::WrongDim { expected: 2, found: 3 })));
    let search = built.index.search_many(&wide, &SearchOptions::new(1), 2);
    assert!(matches!(search, Err(Error::WrongDim { expected: 2, found: 3 })));
}

#[test]
fn unknown_candidates_are_counted_and_named() {
    let built = build(&vec![(5, vec![1.0]), (6, vec![2.0])]);
    let ranked = built.index.rank(&[1.0], &[6, 9, 5, u64::MAX, 9, 0], 10).unwrap();
    assert_eq!(ranked.hits, [Hit { id: 6, score: 2.0 }, Hit { id: 5, score: 1.0 }]);
    assert_eq!(ranked.unknown, [0, 9, u64::MAX]);

    let mut scores = [0.0; 3];
    assert_eq!(built.index.score(&[1.0], &[6, 9, 5], &mut scores).unwrap(), 1);
    assert_eq!((scores[0], scores[2]), (2.0, 1.0));
    assert!(scores[1].is_nan());
    let error = built.index.score(&[1.0], &[6, 9], &mut scores).unwrap_err();
    assert_eq!(error.to_string(), "scores: 3 places for the scores of 2 candidates");
}

/// Checks that ranks with bounds by `i8` rows and without give the same, bit for bit.
fn assert_bounds_lose_nothing(items: &Items, random: &mut Random) {
    let built =
        build_with(&IndexBuilder::new("v1").m(2).ef_construction(1).quantize(Quantization::I8), items);
    for user in users(5, items[0].1.len(), random.next()) {
        let candidates: Vec<u64> = (0..4_000).map(|_| items[random.below(items.len())].0).collect();
        for k in [0, 1, 10, 100, 1_000, 5_000] {
            let options = RankOptions::new(k);
            let reference = built.index.rank_with(&user, &candidates, &options.exact()).unwrap();
            let ranked = built.index.rank_with(&user, &candidates, &options).unwrap();
            assert_eq!(ranked, reference);
            assert_eq!(ranked, built.index.rank(&user, &candidates, k).unwrap());
        }
    }
}

#[test]
fn bounds_lose_nothing() {
    let mut random = Random(8);
    let mut items = items(3_000, 32, 8);
    assert_bounds_lose_nothing(&items, &mut random);
    // Values of which one is far larger than the others, rows of zeros, copies, and rows too small to quantise well.
    for (number, (_, row)) in items.iter_mut().enumerate() {
        match number % 5 {
            0 => row[number % 32] *= 1e4,
            1 => row.fill(0.0),
            2 => row.fill(1.0),
            3 => row.iter_mut().for_each(|value| *value *= 1e-36),
            _ => {}
        }
    }
    assert_bounds_lose_nothing(&items, &mut random);
    items.iter_mut().for_each(|(_, row)| row.iter_mut().for_each(|value| *value *= 1e12));
    assert_bounds_lose_nothing(&items, &mut random);
}

#[test]
fn items_are_found_by_id() {
    let items = items(300, 7, 5);
    let built = build(&items);
    assert_eq!((built.index.len(), built.index.dim(), built.index.model_version()), (300, 7, "v1"));
    for (id, row) in &items {
        assert_eq!(built.index.get(*id).unwrap(), *row);
        assert!(built.index.contains(*id));
    }
    assert!(!built.index.contains(1));
    assert_eq!(built.index.get(u64::MAX), None);
    let all: Items = built.index.iter().map(|(id, row)| (id, row.to_vec())).collect();
    assert_eq!(all, items);
    assert!(built.index.ids().iter().eq(items.iter().map(|(id, _)| id)));
}

#[test]
fn eight_threads_get_what_one_gets() {
    let built = build(&items(3_000, 16, 6));
    let users = Arc::new(users(200, 16, 6));
    let index = Arc::new(built.index);
    let candidates: Vec<u64> = index.ids().iter().step_by(3).copied().collect();
    let answers = |users: &[Vec<f32>]| -> Vec<_> {
        let answer =
            |user: &Vec<f32>| (index.search(user, 30).unwrap(), index.rank(user, &candidates, 30).unwrap());
        users.iter().map(answer).collect()
    };
    let alone = answers(&users);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(answers(&users), alone));
        }
    });
}

#[test]
fn more_threads_than_the_system_has_are_no_error() {
    let items = items(300, 6, 12);
    let built = build(&items);
    let users = Matrix::new(6, users(70_000, 6, 12).concat()).unwrap();
    let options = SearchOptions::new(1).ef(2);
    let found = built.index.search_many(&users, &options, usize::MAX).unwrap();
    assert_eq!(found, built.index.search_many(&users, &options, 1).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rank_and_score_equal_the_reference(
        rows in 1usize..200,
        dim in 1usize..=300,
        seed in any::<u64>(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..300),
        k in prop_oneof![0usize..10, 0usize..250],
    ) {
        let items = items(rows, dim, seed);
        let built = build_with(&IndexBuilder::new("v1").m(8).ef_construction(20).quantize(Quantization::I8), &items);
        let user = users(1, dim, seed).remove(0);
        let pick = |(at, known): &(prop::sample::Index, bool)| match known {
            true => items[at.index(rows)].0,
            false => u64::MAX - at.index(1_000) as u64,
        };
        let candidates: Vec<u64> = picks.iter().map(pick).collect();
        let wanted: HashSet<u64> = candidates.iter().copied().collect();
        let known: Items = items.iter().filter(|item| wanted.contains(&item.0)).cloned().collect();

        let ranked = built.index.rank(&user, &candidates, k).unwrap();
        prop_assert_eq!(ranked.unknown.len(), wanted.len() - known.len());
        assert_best(&ranked.hits, &known, &user, k);
        prop_assert_eq!(&ranked, &built.index.rank_with(&user, &candidates, &RankOptions::new(k).exact()).unwrap());

        let mut scores = vec![0.0; candidates.len()];
        built.index.score(&user, &candidates, &mut scores).unwrap();
        for (id, score) in candidates.iter().zip(scores) {
            match built.index.get(*id) {
                Some(row) => prop_assert!((f64::from(score) - inner_product(&user, &row)).abs() <= rounding(&user, &row)),
                None => prop_assert!(score.is_nan()),
            }
        }
    }

    #[test]
    fn a_scan_equals_the_reference(
        rows in 1usize..400,
        dim in 1usize..=300,
        seed in any::<u64>(),
        copies in 0usize..40,
        quantized in any::<bool>(),
        k in prop_oneof![0usize..10, 0usize..450, Just(usize::MAX)],
    ) {
        let mut items = items(rows, dim, seed);
        for copy in 0..copies.min(rows) {
            items[copy].1 = items[rows - 1].1.clone();
        }
        let quantization = if quantized { Quantization::I8 } else { Quantization::None };
        let built = build_with(&IndexBuilder::new("v1").m(2).ef_construction(1).quantize(quantization), &items);
        for user in users(2, dim, seed) {
            let options = SearchOptions::new(k).plan(Plan::Scan);
            let found = built.index.search_with(&user, &options).unwrap();
            prop_assert_eq!(found.plan, Plan::Scan);
            assert_best(&found.hits, &items, &user, k);
            let reference = built.index.search_with(&user, &options.recall(1.0)).unwrap();
            prop_assert_eq!(found, reference);
        }
    }

    #[test]
    fn many_users_get_what_each_gets_alone(
        rows in 1usize..400,
        dim in 1usize..=300,
        seed in any::<u64>(),
        count in prop_oneof![0usize..4, 30usize..70],
        threads in 0usize..4,
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..300),
        k in prop_oneof![0usize..10, 0usize..450, Just(usize::MAX)],
        exact in any::<bool>(),
    ) {
        let items = items(rows, dim, seed);
        let built = build_with(&IndexBuilder::new("v1").m(4).ef_construction(10).quantize(Quantization::I8), &items);
        let index = &built.index;
        let each = users(count, dim, seed);
        let users = Matrix::new(dim, each.concat()).unwrap();
        for plan in [Plan::Graph, Plan::Scan] {
            let options = SearchOptions::new(k).ef(20).plan(plan);
            let alone: Vec<_> = each.iter().map(|user| index.search_with(user, &options).unwrap()).collect();
            prop_assert_eq!(index.search_many(&users, &options, threads).unwrap(), alone);
        }

        let pick = |(at, known): &(prop::sample::Index, bool)| match known {
            true => items[at.index(rows)].0,
            false => u64::MAX - at.index(1_000) as u64,
        };
        let candidates: Vec<u64> = picks.iter().map(pick).collect();
        let options = if exact { RankOptions::new(k).exact() } else { RankOptions::new(k) };
        let alone = |lists: &[&[u64]]| -> Vec<_> {
            each.iter().zip(lists).map(|(user, list)| index.rank_with(user, *list, &options).unwrap()).collect()
        };
        let shared = index.rank_many(&users, &[&candidates], &options, threads).unwrap();
        prop_assert_eq!(shared, alone(&vec![&candidates[..]; count]));
        let lists: Vec<&[u64]> = (0..count).map(|user| &candidates[user.min(candidates.len())..]).collect();
        prop_assert_eq!(index.rank_many(&users, &lists, &options, threads).unwrap(), alone(&lists));
    }

    #[test]
    fn search_returns_items_of_the_index_with_their_scores(
        rows in 1usize..600,
        dim in 1usize..40,
        seed in any::<u64>(),
        k in 0usize..50,
        ef in 1usize..80,
    ) {
        let items = items(rows, dim, seed);
        let built = build(&items);
        for user in users(3, dim, seed) {
            let hits = built.index.search_with(&user, &SearchOptions::new(k).ef(ef)).unwrap().hits;
            assert_ordered(&hits);
            prop_assert_eq!(hits.len(), k.min(rows));
            for hit in hits {
                let row = built.index.get(hit.id).unwrap();
                prop_assert!((f64::from(hit.score) - inner_product(&user, &row)).abs() <= rounding(&user, &row));
            }
        }
    }
}
