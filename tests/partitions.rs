//! Search by partitions: the recall asked for, the exact answer where it is asked for, and indexes without a graph.

mod common;

use std::fs;
use std::sync::OnceLock;

use common::*;
use itemdex::{Error, Found, Hit, Index, IndexBuilder, Matrix, Plan, Quantization, SearchOptions, eval};
use proptest::prelude::*;

const DIM: usize = 32;

/// A catalogue of themes and users who like some of them, as two-tower models make them.
struct World {
    themes: Vec<Vec<f32>>,
    random: Random,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let themes = (0..200).map(|_| random.embedding(DIM)).collect();
        World { themes, random }
    }

    /// An embedding near one of the themes.
    fn near_a_theme(&mut self, apart: f32) -> Vec<f32> {
        let theme = self.random.below(self.themes.len());
        let off = self.random.embedding(DIM);
        self.themes[theme].iter().zip(off).map(|(&value, off)| value + apart * off).collect()
    }

    fn items(&mut self, rows: usize) -> Items {
        (0..rows as u64).map(|row| (row * 7 + 3, self.near_a_theme(0.7))).collect()
    }

    fn users(&mut self, count: usize) -> Matrix {
        let users: Vec<f32> = (0..count).flat_map(|_| self.near_a_theme(1.0)).collect();
        Matrix::new(DIM, users).unwrap()
    }
}

/// 20,000 items with both plans, and users that the build has not seen. Built once for all tests.
fn catalogue() -> &'static (Built, Matrix) {
    static CATALOGUE: OnceLock<(Built, Matrix)> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let mut world = World::new(1);
        let items = world.items(20_000);
        let builder = IndexBuilder::new("v1").m(8).ef_construction(40).quantize(Quantization::I8);
        let builder = builder.plans([Plan::Graph, Plan::Partitions]).user_sample(world.users(2_000));
        (build_with(&builder, &items), world.users(200))
    })
}

fn partitions_only() -> IndexBuilder {
    IndexBuilder::new("v1").plans([Plan::Partitions])
}

fn mean_recall(index: &Index, users: &Matrix, exact: &[Vec<Hit>], options: &SearchOptions) -> f64 {
    let found = index.search_many(users, options, 2).unwrap();
    assert!(found.iter().all(|found| found.plan == Plan::Partitions));
    let recalls = found.iter().zip(exact).map(|(found, exact)| eval::recall(exact, &found.hits));
    recalls.sum::<f64>() / exact.len() as f64
}

#[test]
fn held_out_users_get_the_recall_they_ask_for() {
    let (built, users) = catalogue();
    for k in [10, 100, 1_000, 5_000] {
        let exact = eval::exact(&built.index, users, k, 2, |_| ()).unwrap();
        for recall in [0.9, 0.95, 0.99] {
            let options = SearchOptions::new(k).recall(recall).plan(Plan::Partitions);
            let reached = mean_recall(&built.index, users, &exact, &options);
            assert!(reached > f64::from(recall) - 0.015, "{reached} of {recall} at k {k}");
        }
        let certain = SearchOptions::new(k).recall(1.0).plan(Plan::Partitions);
        assert_eq!(mean_recall(&built.index, users, &exact, &certain), 1.0);
    }
}

#[test]
fn scores_are_exact_and_best_first() {
    let (built, users) = catalogue();
    for user in users.rows().take(20) {
        for k in [1, 10, 2_000] {
            let options = SearchOptions::new(k).plan(Plan::Partitions);
            let hits = built.index.search_with(user, &options).unwrap().hits;
            assert_eq!(hits.len(), k);
            assert_ordered(&hits);
            assert_eq!(hits, rescored(&built.index, user, &hits));
        }
    }
}

/// The hits with their exact scores, in their own order.
fn rescored(index: &Index, user: &[f32], hits: &[Hit]) -> Vec<Hit> {
    let ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
    let mut scores = vec![0.0; ids.len()];
    index.score(user, &ids, &mut scores).unwrap();
    ids.into_iter().zip(scores).map(|(id, score)| Hit { id, score }).collect()
}

fn norm(values: &[f32]) -> f64 {
    inner_product(values, values).sqrt()
}

#[test]
fn approximate_scores_find_about_the_same_and_are_off_by_rounding() {
    let (built, users) = catalogue();
    let k = 2_000;
    let exact = SearchOptions::new(k).recall(0.99).plan(Plan::Partitions);
    // Rounded to whole 127ths of the largest value, a value is off by half of one at most.
    let rounding = |values: &[f32]| {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        f64::from(largest) / 254.0 * (DIM as f64).sqrt()
    };
    let mut overlap = 0.0;
    for user in users.rows().take(50) {
        let precise = built.index.search_with(user, &exact).unwrap().hits;
        let rough = built.index.search_with(user, &exact.approximate_scores()).unwrap().hits;
        assert_ordered(&rough);
        for (rough, precise) in rough.iter().zip(rescored(&built.index, user, &rough)) {
            let row = built.index.get(rough.id).unwrap();
            let most = rounding(&row) * norm(user) + rounding(user) * (norm(&row) + rounding(&row));
            let off = f64::from(rough.score) - f64::from(precise.score);
            assert!(off.abs() <= most * 1.0001, "off by {off}, at most {most}");
            assert!(most < 0.05 * norm(user) * norm(&row));
        }
        overlap += eval::recall(&precise, &rescored(&built.index, user, &rough));
    }
    assert!(overlap / 50.0 > 0.97, "{overlap} of 50");
}

#[test]
fn a_search_for_no_items_finds_none_and_one_for_too_many_finds_all() {
    let mut world = World::new(2);
    let items = world.items(500);
    let built = build_with(&partitions_only(), &items);
    for recall in [0.5, 0.95, 1.0] {
        let options = |k| SearchOptions::new(k).recall(recall).plan(Plan::Partitions);
        for user in world.users(5).rows() {
            assert_eq!(built.index.search_with(user, &options(0)).unwrap().hits, []);
            for k in [500, 501, usize::MAX] {
                assert_best(&built.index.search_with(user, &options(k)).unwrap().hits, &items, user, k);
            }
        }
    }
}

#[test]
fn an_index_without_a_graph_answers_by_partitions_or_a_scan() {
    let mut world = World::new(3);
    let items = world.items(3_000);
    let built = build_with(&partitions_only(), &items);
    built.index.verify(|_| ()).unwrap();
    let info = built.index.info();
    assert_eq!(info.plans, [Plan::Partitions, Plan::Scan]);
    assert!(info.clusters > 50 && info.clusters <= 200, "{} clusters", info.clusters);
    assert_eq!((info.layers, info.degree, info.calibration), (Vec::new(), (0, 0.0, 0), Vec::new()));
    let section = |name| info.sections.iter().find(|section| section.0 == name).unwrap().1;
    assert_eq!((section("base_layer"), section("upper_layers")), (0, 0));
    assert!(section("codes") > 0 && section("clusters") > 0);

    let user = world.users(1).row(0).to_vec();
    let walk = built.index.search_with(&user, &SearchOptions::new(10).plan(Plan::Graph)).unwrap_err();
    assert_eq!(
        walk.to_string(),
        "plan: this index was built without a graph; build it with --plans graph,partitions"
    );
    // A beam asks for the usual recall here.
    let by_ef = built.index.search_with(&user, &SearchOptions::new(10).ef(64)).unwrap();
    assert_eq!(by_ef, built.index.search_with(&user, &SearchOptions::new(10)).unwrap());
    assert_ne!(by_ef.plan, Plan::Graph);
    assert_eq!(built.index.rank(&user, &[3, 10, 17, 4], 3).unwrap().unknown, [4]);
    let certain = built.index.search_with(&user, &SearchOptions::new(10).recall(1.0)).unwrap().hits;
    assert_best(&certain, &items, &user, 10);
}

#[test]
fn an_index_without_partitions_refuses_that_plan() {
    let built = build_with(&IndexBuilder::new("v1").plans([Plan::Graph]), &World::new(4).items(300));
    assert_eq!(built.index.info().plans, [Plan::Graph, Plan::Scan]);
    let user = vec![1.0; DIM];
    let options = SearchOptions::new(10).plan(Plan::Partitions);
    let expected = "plan: this index was built without partitions; build it with --plans graph,partitions";
    assert_eq!(built.index.search_with(&user, &options).unwrap_err().to_string(), expected);
    let users = Matrix::new(DIM, user).unwrap();
    assert_eq!(built.index.search_many(&users, &options, 2).unwrap_err().to_string(), expected);
}

#[test]
fn a_build_needs_a_plan_that_it_can_build() {
    let folder = tempfile::tempdir().unwrap();
    for plans in [vec![], vec![Plan::Scan]] {
        let builder = IndexBuilder::new("v1").plans(plans);
        let error = builder.build_from([(1, [1.0])], folder.path().join("items.itemdex")).unwrap_err();
        assert!(matches!(error, Error::BadOption { option: "plans", .. }), "{error}");
    }
}

#[test]
fn partitions_are_built_from_10_000_rows_on() {
    let plans = |rows| {
        let items = items(rows, 4, 5);
        let builder = IndexBuilder::new("v1").m(2).ef_construction(4);
        build_with(&builder, &items).index.info().plans
    };
    assert_eq!(plans(9_999), [Plan::Graph, Plan::Scan]);
    assert_eq!(plans(10_000), [Plan::Graph, Plan::Partitions, Plan::Scan]);
}

#[test]
fn any_number_of_threads_gives_the_same_file() {
    let mut world = World::new(6);
    let (items, sample) = (world.items(12_000), world.users(500));
    let file = |threads| {
        let builder = partitions_only().threads(threads).user_sample(sample.clone());
        fs::read(build_with(&builder, &items).path).unwrap()
    };
    let one = file(1);
    for threads in [2, 3, 8] {
        assert!(file(threads) == one, "{threads} threads");
    }
}

#[test]
fn a_search_takes_the_plan_that_costs_least() {
    let (built, users) = catalogue();
    let user = users.row(0);
    let plan = |options: SearchOptions| built.index.search_with(user, &options).unwrap().plan;
    assert_eq!(plan(SearchOptions::new(10).ef(20)), Plan::Graph);
    assert_eq!(plan(SearchOptions::new(2_000)), Plan::Partitions);
    for taken in [Plan::Graph, Plan::Partitions, Plan::Scan] {
        assert_eq!(plan(SearchOptions::new(10).plan(taken)), taken);
        assert_eq!(plan(SearchOptions::new(0).plan(taken)), taken);
    }
}

/// Embeddings that try what exactness rests on: copies, zeros, one value far above the others, and norms from tiny to
/// the largest there may be.
fn odd_items(rows: usize, dim: usize, odd: u8, seed: u64) -> Items {
    let mut items = items(rows, dim, seed);
    let pattern: Vec<f32> = items[0].1.clone();
    let norm = |(_, row): &(u64, Vec<f32>)| row.iter().map(|value| value * value).sum::<f32>().sqrt();
    let largest = items.iter().map(norm).fold(1.0, f32::max);
    for (number, (_, row)) in items.iter_mut().enumerate() {
        let (all, some) = match odd {
            0 => (1.0, 1.0),
            1 => (4e17 / largest, 1.0),
            2 => (1e-36, 1.0),
            3 => (1e-12, 1e20),
            _ => (1.0, 1e-30),
        };
        match number % 11 {
            1 | 2 if odd.is_multiple_of(2) => row.clone_from(&pattern),
            3 => row.fill(0.0),
            4 => row[number % dim] *= 8.0,
            5 => row.iter_mut().for_each(|value| *value *= some),
            _ => {}
        }
        row.iter_mut().for_each(|value| *value *= all);
    }
    items
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn at_a_recall_of_1_partitions_equal_the_scan(
        rows in prop_oneof![1usize..40, 1usize..3_000],
        dim in prop_oneof![1usize..20, 1usize..=300],
        odd in 0u8..5,
        seed in any::<u64>(),
        quantized in any::<bool>(),
        k in prop_oneof![1usize..20, 0usize..3_200, Just(usize::MAX)],
        power in prop_oneof![Just(0.0f32), -30.0f32..17.0],
    ) {
        let quantization = if quantized { Quantization::I8 } else { Quantization::None };
        let items = odd_items(rows, dim, odd, seed);
        let built = build_with(&partitions_only().quantize(quantization), &items);
        built.index.verify(|_| ()).unwrap();
        let mut users = users(3, dim, seed);
        users[0].iter_mut().for_each(|value| *value *= 10f32.powf(power));
        users.extend([items[rows / 2].1.clone(), vec![0.0; dim], vec![1e-38; dim]]);
        let partitions = SearchOptions::new(k).recall(1.0).plan(Plan::Partitions);
        for user in &users {
            let scanned = built.index.search_with(user, &partitions.plan(Plan::Scan)).unwrap().hits;
            let found = built.index.search_with(user, &partitions).unwrap();
            prop_assert_eq!(found.plan, Plan::Partitions);
            prop_assert_eq!(bits(&found.hits), bits(&scanned));
        }
    }

    #[test]
    fn many_users_get_what_each_gets_alone(
        rows in 1usize..3_000,
        dim in 1usize..=100,
        odd in 0u8..5,
        seed in any::<u64>(),
        quantized in any::<bool>(),
        count in 0usize..20,
        threads in 0usize..4,
        k in prop_oneof![0usize..20, 0usize..3_200, Just(usize::MAX)],
        recall in prop_oneof![Just(0.9f32), Just(0.99), Just(1.0)],
    ) {
        let quantization = if quantized { Quantization::I8 } else { Quantization::None };
        let built = build_with(&partitions_only().quantize(quantization), &odd_items(rows, dim, odd, seed));
        let each = users(count, dim, seed);
        let users = Matrix::new(dim, each.concat()).unwrap();
        let options = SearchOptions::new(k).recall(recall).plan(Plan::Partitions);
        for options in [options, options.approximate_scores()] {
            let alone: Vec<Found> =
                each.iter().map(|user| built.index.search_with(user, &options).unwrap()).collect();
            for found in &alone {
                prop_assert_eq!(found.hits.len(), k.min(rows));
                assert_ordered(&found.hits);
            }
            prop_assert_eq!(built.index.search_many(&users, &options, threads).unwrap(), alone);
        }
    }
}

fn bits(hits: &[Hit]) -> Vec<(u64, u32)> {
    hits.iter().map(|hit| (hit.id, hit.score.to_bits())).collect()
}

#[test]
fn the_largest_norms_there_may_be_are_found_like_others() {
    let dim = 40;
    let mut items = items(2_000, dim, 7);
    let largest = items.iter().map(|(_, row)| norm(row)).fold(0.0, f64::max);
    let most = 2f64.powi(62) * 0.99 / largest;
    items.iter_mut().flat_map(|(_, row)| row).for_each(|value| *value = (f64::from(*value) * most) as f32);
    let built = build_with(&partitions_only(), &items);
    built.index.verify(|_| ()).unwrap();
    let mut users = users(10, dim, 7);
    users[0][1..].fill(0.0);
    users[1] = items[0].1.clone();
    for user in &users {
        let scan = SearchOptions::new(100).recall(1.0).plan(Plan::Scan);
        let exact = built.index.search_with(user, &scan).unwrap().hits;
        for recall in [0.9, 1.0] {
            let options = SearchOptions::new(100).recall(recall).plan(Plan::Partitions);
            let hits = built.index.search_with(user, &options).unwrap().hits;
            assert_eq!(hits.len(), 100, "at a recall of {recall}");
            assert!(eval::recall(&exact, &hits) > f64::from(recall) - 0.2);
        }
    }
}
