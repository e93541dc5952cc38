//! Searches against scoring every row.

use bytemuck::Zeroable;
use std::collections::HashMap;

use proptest::prelude::*;

use super::calibration::Effort;
use super::search::{Among, Scratch, Searched, Wanted};
use super::*;
use crate::progress::Watch;
use crate::top::Hit;
use crate::vectors::{QuantizedRows, Rows, pad, stride_of};

/// Rows cluster by cluster, with ids that are not in their order.
struct World {
    dim: usize,
    values: Vec<f32>,
    ids: Vec<u64>,
    partitions: OwnedPartitions,
    quantized: Option<QuantizedRows>,
}

impl World {
    fn of(rows: &[Vec<f32>], clusters: usize, quantize: bool) -> World {
        let dim = rows[0].len();
        let padded: Vec<f32> = rows
            .iter()
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, stride_of(dim) - dim)))
            .collect();
        let clustering =
            Clustering::of(Rows::new(&padded, dim), clusters, 2, &Watch::new(None, None)).unwrap();
        let mut sorted = clustering.order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..rows.len() as u32), "every row once");
        assert_eq!(clustering.counts.iter().sum::<u32>(), rows.len() as u32);
        let values: Vec<f32> = clustering
            .order
            .iter()
            .flat_map(|&row| &padded[row as usize * stride_of(dim)..][..stride_of(dim)])
            .copied()
            .collect();
        let ids = (0..rows.len() as u64).map(|row| row * 7919 % 10_007).collect();
        let rows = Rows::new(&values, dim);
        let partitions = OwnedPartitions::build(rows, &clustering.counts, 2);
        assert_eq!(partitions.view().problem(rows.len(), dim), None);
        let quantized = quantize.then(|| QuantizedRows::of(rows));
        World { dim, ids, partitions, quantized, values }
    }

    fn searched(&self) -> Searched<'_> {
        Searched {
            partitions: self.partitions.view(),
            rows: Rows::new(&self.values, self.dim),
            ids: &self.ids,
            quantized: self.quantized.as_ref().map(QuantizedRows::view),
        }
    }

    fn exact(&self, user: &[f32], k: usize, allowed: Option<&[u64]>) -> Vec<Hit> {
        let mut padded = Vec::new();
        pad(user, &mut padded);
        let mut hits = Vec::new();
        Rows::new(&self.values, self.dim).score_all(&padded, 0..self.ids.len() as u32, |row, score| {
            if allowed.is_none_or(|allowed| allowed[row as usize / 64] >> (row % 64) & 1 == 1) {
                hits.push(Hit { id: self.ids[row as usize], score });
            }
        });
        hits.sort_by(Hit::order);
        hits.truncate(k);
        hits
    }
}

fn among(words: &[u64]) -> Among<'_> {
    Among { words, counts: None, budget: usize::MAX, aim: None }
}

/// Numbers that look random, from -1 to 1.
fn noise(at: usize) -> f32 {
    (xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Rows around some topics.
fn topics(rows: usize, dim: usize) -> Vec<Vec<f32>> {
    let row = |row: usize| {
        (0..dim).map(|at| noise(row % 20 * 1000 + at) + 0.3 * noise((1 << 20) + row * dim + at)).collect()
    };
    (0..rows).map(row).collect()
}

fn effort(z: f32, factor: f32) -> Effort {
    Effort { z, factor, coded: 0.5 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Rows of few values and of many scales: with ties, copies, zeros, and bounds that are put to the test.
    #[test]
    fn an_exact_search_is_a_scan(
        rows in (1usize..=300).prop_flat_map(|dim| prop::collection::vec((prop::collection::vec(-2i8..3, dim), 0usize..6), 1..90)),
        scales in prop::array::uniform6(-130i32..60),
        user_scale in -60i32..60,
        fine in any::<bool>(),
        (clusters, k, z, quantize) in (1usize..20, 1usize..40, -9f32..3.0, any::<bool>()),
        mask in prop::option::of(any::<[u64; 2]>()),
    ) {
        let dim = rows[0].0.len();
        let scaled = |(number, (row, scale)): (usize, &(Vec<i8>, usize))| -> Vec<f32> {
            let value = |(at, &value): (usize, &i8)| {
                let more = if fine { noise(number * dim + at) } else { 0.0 };
                (f32::from(value) + more) * (scales[*scale] as f32).exp2() / 64.0
            };
            row.iter().enumerate().map(value).collect()
        };
        let rows: Vec<Vec<f32>> = rows.iter().enumerate().map(scaled).collect();
        let world = World::of(&rows, clusters, quantize);
        let k = k.min(rows.len());
        let user: Vec<f32> = (0..dim).map(|at| noise(at + 77) * (user_scale as f32).exp2()).collect();
        let allowed = mask.as_ref().map(<[u64; 2]>::as_slice);
        let wanted = Wanted { k, among: allowed.map(among), approximate: false, most: 1.0 };
        let mut scratch = Scratch::default();
        for user in [&user, &rows[0], &vec![0.0; dim]] {
            world.searched().search_exactly(user, wanted, effort(z, 1.1), &mut scratch);
            prop_assert_eq!(&scratch.hits, &world.exact(user, k, allowed));
        }
    }
}

#[test]
fn searches_find_most_and_score_it_exactly() {
    for (rows, dim) in [(3000, 16), (2000, 100), (500, 256)] {
        let world = World::of(&topics(rows, dim), 40, true);
        let mut scratch = Scratch::default();
        let mut found = 0;
        for user in topics(50, dim) {
            let wanted = Wanted { k: 20, among: None, approximate: false, most: 1.0 };
            world.searched().search(&user, wanted, effort(-3.0, 1.5), &mut scratch);
            let exact = world.exact(&user, 20, None);
            found += scratch.hits.iter().filter(|hit| exact.contains(hit)).count();
            assert!(scratch.hits.len() == 20 && scratch.hits.is_sorted_by(|a, b| a.order(b).is_lt()));
            let exactly = scratch.hits.clone();
            world.searched().search(
                &user,
                Wanted { approximate: true, ..wanted },
                effort(-3.0, 1.5),
                &mut scratch,
            );
            assert!((scratch.hits[0].score / exactly[0].score - 1.0).abs() < 0.02);
        }
        assert!(found > 950, "{found} of 1000 hits");
        assert!(rows < 1000 || scratch.work.coded < rows, "{:?}", scratch.work);
    }
}

#[test]
fn any_number_of_rows_is_searched_whole() {
    for rows in (1..40).chain([255, 256, 257]) {
        let world = World::of(&topics(rows, 7), 2 * rows.isqrt(), rows % 2 == 0);
        let user = vec![0.5; 7];
        let mut scratch = Scratch::default();
        for k in [1, rows.div_ceil(2), rows] {
            let wanted = Wanted { k, among: None, approximate: false, most: 1.0 };
            world.searched().search(&user, wanted, effort(5.0, 1.0), &mut scratch);
            assert_eq!(scratch.hits.len(), k, "of {rows}");
            world.searched().search_exactly(&user, wanted, effort(5.0, 1.0), &mut scratch);
            assert_eq!(scratch.hits, world.exact(&user, k, None));
        }
    }
}

#[test]
fn only_allowed_rows_are_found() {
    let world = World::of(&topics(4000, 24), 60, true);
    let mut scratch = Scratch::default();
    for user in topics(20, 24) {
        for every in [1u32, 3, 50, 5000] {
            let mut allowed = vec![0u64; 4000usize.div_ceil(64)];
            (0..4000)
                .filter(|row| row % every == 0)
                .for_each(|row| allowed[row as usize / 64] |= 1 << (row % 64));
            let wanted = Wanted { k: 30, among: Some(among(&allowed)), approximate: false, most: 1.0 };
            world.searched().search(&user, wanted, effort(-4.0, 2.0), &mut scratch);
            let exact = world.exact(&user, 30, Some(&allowed));
            assert_eq!(scratch.hits.len(), exact.len());
            let found = scratch.hits.iter().filter(|hit| exact.contains(hit)).count();
            assert!(found * 10 >= exact.len() * 8, "{found} of {}", exact.len());
        }
    }
}

#[test]
fn a_search_among_far_rows_reads_what_it_may_and_no_more() {
    let world = World::of(&topics(4000, 24), 120, true);
    let mut scratch = Scratch::default();
    let mut gave_up = 0;
    for user in topics(20, 24) {
        let mut allowed = vec![0u64; 4000usize.div_ceil(64)];
        let rank: HashMap<u64, usize> =
            world.exact(&user, 4000, None).iter().map(|hit| hit.id).zip(0..).collect();
        (0..4000)
            .filter(|&row: &usize| rank[&world.ids[row]] >= 3000)
            .for_each(|row| allowed[row / 64] |= 1 << (row % 64));
        for budget in [0, 500, 2000, 8000] {
            let among = Among { budget, ..among(&allowed) };
            let wanted = Wanted { k: 30, among: Some(among), approximate: false, most: 1.0 };
            let found = world.searched().search(&user, wanted, effort(-2.0, 1.5), &mut scratch);
            assert!(scratch.work.coded <= budget, "{:?}", scratch.work);
            assert!(!found || scratch.hits.len() == 30);
            gave_up += usize::from(!found);
        }
    }
    assert!((20..80).contains(&gave_up), "{gave_up} of 80 searches gave up");
}

#[test]
fn many_users_find_exactly_what_each_does_alone() {
    let world = World::of(&topics(3000, 40), 50, false);
    let users = topics(9, 40);
    let users: Vec<&[f32]> = users.iter().map(Vec::as_slice).collect();
    let mut scratches: Vec<Scratch> = users.iter().map(|_| Scratch::default()).collect();
    let wanted = Wanted { k: 100, among: None, approximate: false, most: 1.0 };
    world.searched().search_many_exactly(&users, wanted, effort(-2.0, 1.2), &mut scratches);
    for (user, many) in users.iter().zip(&scratches) {
        assert_eq!(many.hits, world.exact(user, 100, None));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let world = topics(5000, 20);
    let padded: Vec<f32> = world.iter().flat_map(|row| row.iter().copied().chain([0.0; 12])).collect();
    let rows = Rows::new(&padded, 20);
    let made = |threads| {
        let clustering = Clustering::of(rows, 140, threads, &Watch::new(None, None)).unwrap();
        let partitions = OwnedPartitions::build(rows, &clustering.counts, threads);
        (
            clustering.order,
            clustering.counts,
            partitions.groups,
            partitions.moments,
            partitions.units,
            partitions.codes,
        )
    };
    assert!(made(1) == made(3));
}

#[test]
fn copies_make_one_cluster_and_are_found() {
    let mut rows = vec![vec![1.0, 2.0, 3.0]; 3000];
    rows.extend(topics(1000, 3));
    let world = World::of(&rows, 120, true);
    let wanted = Wanted { k: 3100, among: None, approximate: false, most: 1.0 };
    let mut scratch = Scratch::default();
    world.searched().search_exactly(&[1.0, 1.0, 1.0], wanted, effort(-2.0, 1.1), &mut scratch);
    assert_eq!(scratch.hits, world.exact(&[1.0, 1.0, 1.0], 3100, None));
}

#[test]
fn extreme_norms_are_searched() {
    for scale in [crate::vectors::MAX_NORM, 1e-30, f32::MIN_POSITIVE, 1e-42] {
        let rows: Vec<Vec<f32>> = topics(600, 9)
            .into_iter()
            .map(|row| row.into_iter().map(|value| value / 10.0 * scale).collect())
            .collect();
        let world = World::of(&rows, 30, true);
        let mut scratch = Scratch::default();
        for user_scale in [crate::vectors::MAX_NORM / 10.0, 1.0, 1e-42] {
            let user: Vec<f32> = (0..9).map(|at| noise(at) * user_scale).collect();
            let wanted = Wanted { k: 17, among: None, approximate: false, most: 1.0 };
            world.searched().search_exactly(&user, wanted, effort(-3.0, 1.1), &mut scratch);
            assert_eq!(scratch.hits, world.exact(&user, 17, None), "{scale:e} {user_scale:e}");
            world.searched().search(&user, wanted, effort(-3.0, 1.1), &mut scratch);
            assert!(scratch.hits.len() == 17 && scratch.hits.iter().all(|hit| hit.score.is_finite()));
        }
    }
}

#[test]
fn a_calibrated_search_finds_what_was_asked_for() {
    let rows = topics(6000, 24);
    let world = World::of(&rows, 150, true);
    let numbers: Vec<u64> = (0..6000).collect();
    let searched = Searched { ids: &numbers, ..world.searched() };
    let users: Vec<Vec<f32>> = (0..300)
        .map(|user| (0..24).map(|at| noise(user % 17 * 1000 + at) + noise(user * 24 + at)).collect())
        .collect();
    let users: Vec<&[f32]> = users.iter().map(Vec::as_slice).collect();
    let (calibration, limits) =
        super::calibrate::calibrate(&searched, &users[..150], 2, &Watch::new(None, None)).unwrap();
    assert_eq!((calibration.problem(), limits.problem()), (None, None));
    assert!(calibration.efforts[7..].as_flattened().iter().all(|effort| *effort == Effort::zeroed()));
    assert!(limits.shares[7..].as_flattened().iter().all(|&share| share == 0.0));
    let mut scratch = Scratch::default();
    for (k, recall) in [(10, 0.9), (100, 0.95), (300, 0.99), (2000, 0.95)] {
        let effort = calibration.effort(k, 1.0, recall).unwrap();
        let most = limits.most(k, 1.0, recall);
        let mut found = 0;
        for user in &users[150..] {
            let wanted = Wanted { k, among: None, approximate: false, most };
            world.searched().search(user, wanted, effort, &mut scratch);
            let last = world.exact(user, k, None)[k - 1].score;
            found += scratch.hits.iter().filter(|hit| hit.score >= last).count();
        }
        let found = found as f32 / (150 * k) as f32;
        assert!((found - recall).abs() < 0.03, "{found} for {recall} at {k}");
    }
}

#[test]
fn a_limit_ends_a_search_with_as_many_hits_as_were_asked_for() {
    let world = World::of(&topics(6000, 24), 150, true);
    let groups = &world.partitions.groups;
    let largest = groups.iter().flat_map(|group| group.counts).max().unwrap() as usize;
    let (user, effort) = (vec![0.3; 24], effort(-6.0, 1.2));
    let mut scratch = Scratch::default();
    for k in [1, 50, 1500] {
        let mut before = 0;
        for most in [0.0, 0.02, 0.3, 1.0] {
            let wanted = Wanted { k, among: None, approximate: false, most };
            assert!(world.searched().search(&user, wanted, effort, &mut scratch));
            assert_eq!(scratch.hits.len(), k);
            let coded = scratch.work.coded;
            assert!(
                coded < effort.rows(k).max((most * 6000.0) as usize) + largest,
                "{coded} for {k}, {most}"
            );
            assert!(coded >= before, "{coded} after {before}");
            before = coded;
        }
        assert!(before > 500, "{before}");
    }
}

proptest! {
    /// Whatever sections hold, a search ends, and finds no row twice.
    #[test]
    fn damaged_sections_do_no_harm(
        damage in prop::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<u8>()), 1..60),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut world = World::of(&topics(700, 12), 50, true);
        for (section, at, byte) in damage {
            let made = &mut world.partitions;
            let bytes: &mut [u8] = match section {
                0 | 1 => bytemuck::cast_slice_mut(&mut made.groups),
                2 => &mut made.moments,
                3 => bytemuck::cast_slice_mut(&mut made.units),
                _ => &mut made.codes,
            };
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(world.partitions.codes.len());
            world.partitions.codes.truncate(len);
        }
        let _ = world.partitions.view().problem(700, 12);
        let mut scratch = Scratch::default();
        for k in [1, 100, 700] {
            let wanted = Wanted { k, among: None, approximate: false, most: 1.0 };
            for exactly in [false, true] {
                match exactly {
                    false => {
                        world.searched().search(&[0.3; 12], wanted, effort(-3.0, 1.1), &mut scratch);
                    }
                    true => world.searched().search_exactly(&[0.3; 12], wanted, effort(-3.0, 1.1), &mut scratch),
                }
                let mut ids: Vec<u64> = scratch.hits.iter().map(|hit| hit.id).collect();
                ids.sort_unstable();
                prop_assert!(ids.is_sorted_by(|a, b| a < b) && ids.len() <= k);
            }
        }
    }
}

#[test]
fn sections_that_do_not_fit_together_are_told() {
    let world = World::of(&topics(300, 12), 20, false);
    let good = world.partitions.view();
    assert!(good.problem(301, 12).is_some());
    assert!(good.problem(300, 20).is_some());
    assert!(Partitions { codes: &good.codes[64..], ..good }.problem(300, 12).is_some());
    assert!(Partitions { units: &[f32::NAN; 12], ..good }.problem(300, 12).is_some());
    let damages: [fn(&mut Group); 4] = [
        |group| group.starts[1] += 1,
        |group| group.counts[0] = 1 << 31,
        |group| group.blocks[1] = u32::MAX,
        |group| group.mean_scales[0] = f32::INFINITY,
    ];
    for damage in damages {
        let mut groups = good.groups.to_vec();
        damage(&mut groups[0]);
        assert!(Partitions { groups: &groups, ..good }.problem(300, 12).is_some());
    }
}
