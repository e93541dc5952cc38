//! What recall channels hand to a rank: row handles, and the candidates of several channels, with quotas.

mod common;

use std::collections::HashSet;

use common::*;
use itemdex::{
    Candidates, Channel, Error, Hit, Index, IndexBuilder, MAX_CHANNELS, Matrix, Quantization, RankOptions,
    RankedChannels, SearchOptions,
};
use proptest::prelude::*;

/// How many hits are to be of a channel, at least and at most.
type Quota = (usize, usize);

const ANY: Quota = (0, usize::MAX);

fn quickly() -> IndexBuilder {
    IndexBuilder::new("v1").m(2).ef_construction(1).threads(1).quantize(Quantization::I8)
}

fn rank(index: &Index, user: &[f32], lists: &[Vec<u64>], quotas: &[Quota], k: usize) -> RankedChannels {
    let channel = |(list, &(least, most)): (_, &Quota)| Channel::new(list).at_least(least).at_most(most);
    let channels: Vec<Channel> = lists.iter().zip(quotas).map(channel).collect();
    index.rank_channels(user, &channels, &RankOptions::new(k)).unwrap()
}

fn plain(ranked: &RankedChannels) -> Vec<(Hit, u32)> {
    ranked.hits.iter().map(|hit| (Hit { id: hit.id, score: hit.score }, hit.channels)).collect()
}

/// The same by going over all items, best first: once for each channel, and once for the rest.
fn reference(index: &Index, user: &[f32], lists: &[Vec<u64>], quotas: &[Quota], k: usize) -> Vec<(Hit, u32)> {
    let all = index.rank(user, &lists.concat(), usize::MAX).unwrap().hits;
    let sets: Vec<HashSet<u64>> = lists.iter().map(|list| list.iter().copied().collect()).collect();
    let brought = |id| (0..sets.len()).filter(move |&channel| sets[channel].contains(&id));
    let brought = |hit: &Hit| brought.clone()(hit.id).collect::<Vec<_>>();
    let mut counts = vec![0; lists.len()];
    let mut chosen = vec![false; all.len()];
    for round in (0..lists.len()).map(Some).chain([None]) {
        for (at, hit) in all.iter().enumerate() {
            let channels = brought(hit);
            let enough = match round {
                Some(channel) => counts[channel] >= quotas[channel].0,
                None => chosen.iter().filter(|&&chosen| chosen).count() == k,
            };
            let own = round.is_none_or(|channel| channels.contains(&channel));
            let full = channels.iter().any(|&channel| counts[channel] >= quotas[channel].1);
            if own && !enough && !full && !chosen[at] {
                chosen[at] = true;
                channels.iter().for_each(|&channel| counts[channel] += 1);
            }
        }
    }
    let bits = |hit: &Hit| brought(hit).iter().fold(0, |bits, channel| bits | 1 << channel);
    let chosen = all.iter().zip(chosen).filter(|(_, chosen)| *chosen);
    chosen.map(|(hit, _)| (*hit, bits(hit))).collect()
}

#[test]
fn handles_rank_as_ids_do() {
    let items = items(5_000, 20, 1);
    let built = build_with(&quickly(), &items);
    let index = &built.index;
    let ids: Vec<u64> = items.iter().step_by(2).chain(&items[..700]).map(|item| item.0).collect();
    let handles = index.look_up(&ids);
    assert_eq!((handles.len(), handles.is_empty()), (ids.len(), false));
    for user in users(5, 20, 1) {
        for k in [0, 10, 1_000, 5_000] {
            for options in [RankOptions::new(k), RankOptions::new(k).exact()] {
                let by_handles = index.rank_with(&user, &handles, &options).unwrap();
                assert_eq!(by_handles, index.rank_with(&user, &ids, &options).unwrap());
                assert!(by_handles.unknown.is_empty());
            }
        }
        let options = SearchOptions::new(50).ef(100);
        let hits = index.search_with(&user, &options).unwrap().hits;
        let found = index.search_rows(&user, &options).unwrap();
        assert_eq!(index.rank(&user, &found, 50).unwrap().hits, hits);
    }
    let users = Matrix::new(20, users(3, 20, 1).concat()).unwrap();
    let options = RankOptions::new(10);
    let by_ids = index.rank_many(&users, &[&*ids], &options, 2).unwrap();
    assert_eq!(index.rank_many(&users, &[&handles], &options, 2).unwrap(), by_ids);
    let mixed = [Candidates::from(&ids), Candidates::from(&handles), Candidates::from(&ids)];
    assert_eq!(index.rank_many(&users, &mixed, &options, 2).unwrap(), by_ids);
    assert_eq!(index.look_up(&[1, 2, 3]).len(), 0);
}

#[test]
fn handles_of_another_index_are_an_error() {
    let items = items(50, 4, 2);
    let (one, copy) = (build_with(&quickly(), &items), build_with(&quickly(), &items));
    let other = build_with(&quickly(), &items[1..].to_vec());
    let user = [1.0; 4];
    let handles = one.index.look_up(&[items[3].0]);
    // A file that was built alike is the same generation.
    assert_eq!(copy.index.rank(&user, &handles, 1).unwrap().hits[0].id, items[3].0);
    let errors = [
        other.index.rank(&user, &handles, 1).unwrap_err(),
        other.index.rank_channels(&user, &[Channel::new(&handles)], &RankOptions::new(1)).unwrap_err(),
        other
            .index
            .rank_many(&Matrix::new(4, user.to_vec()).unwrap(), &[&handles], &RankOptions::new(1), 1)
            .unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::StaleRows { .. }));
        let expected = "the row handles are of another index file; look the items up, or search, in this one";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn each_hit_says_which_channels_brought_it() {
    let items: Items = (0..6).map(|id| (id, vec![id as f32])).collect();
    let index = &build_with(&quickly(), &items).index;
    let lists = [vec![0, 1, 2, 5], vec![5, 4, 4, 77], vec![], vec![1, 5, 78, 77]];
    let ranked = rank(index, &[1.0], &lists, &[ANY; 4], 3);
    let hits: Vec<_> = ranked.hits.iter().map(|hit| (hit.id, hit.score, hit.channels)).collect();
    assert_eq!(hits, [(5, 5.0, 0b1011), (4, 4.0, 0b10), (2, 2.0, 0b1)]);
    assert_eq!(ranked.unknown, [77, 78]);
    assert_eq!(rank(index, &[1.0], &[], &[], 3), RankedChannels::default());
    assert_eq!(rank(index, &[1.0], &lists, &[ANY; 4], 0).hits, []);
}

#[test]
fn quotas_are_kept() {
    let items: Items = (0..10).map(|id| (id, vec![id as f32])).collect();
    let index = &build_with(&quickly(), &items).index;
    let lists = [vec![9, 8, 7, 6, 5], vec![4, 3, 2], vec![9, 8, 1, 0]];
    let ids = |quotas: &[Quota], k| -> Vec<u64> {
        rank(index, &[1.0], &lists, quotas, k).hits.iter().map(|hit| hit.id).collect()
    };
    assert_eq!(ids(&[ANY, ANY, ANY], 4), [9, 8, 7, 6]);
    assert_eq!(ids(&[ANY, (2, 2), ANY], 4), [9, 8, 4, 3]);
    assert_eq!(ids(&[(0, 3), ANY, ANY], 5), [9, 8, 7, 4, 3]);
    // What another channel brought too counts for both.
    assert_eq!(ids(&[ANY, ANY, (0, 1)], 4), [9, 7, 6, 5]);
    assert_eq!(ids(&[(0, 1), ANY, (3, 4)], 5), [9, 4, 3, 1, 0]);
    // A channel cannot have more than it brings, or than the others leave it.
    assert_eq!(ids(&[ANY, (4, 9), ANY], 5), [9, 8, 4, 3, 2]);
    assert_eq!(ids(&[(0, 0), ANY, (2, 2)], 9), [4, 3, 2, 1, 0]);
}

#[test]
fn channels_that_cannot_be_served_are_errors() {
    let index = &build(&items(10, 2, 3)).index;
    let message = |channels: &[Channel]| {
        index.rank_channels(&[1.0, 2.0], channels, &RankOptions::new(5)).unwrap_err().to_string()
    };
    let channel = Channel::new(&[1]);
    assert_eq!(message(&vec![channel; MAX_CHANNELS + 1]), "channels: there are 33, and 32 at most");
    assert_eq!(
        message(&[channel, channel.at_least(3).at_most(2)]),
        "at_least: channel 1 is to have 3 hits at least and 2 at most"
    );
    assert_eq!(
        message(&[channel.at_least(3), channel.at_least(3)]),
        "at_least: the channels are to have 6 hits at least, and 5 are asked for"
    );
    assert_eq!(
        message(&[channel.at_least(usize::MAX), channel.at_least(3)]),
        format!("at_least: the channels are to have {} hits at least, and 5 are asked for", usize::MAX)
    );
}

fn quota() -> impl Strategy<Value = Quota> {
    prop_oneof![
        Just(ANY),
        (0usize..8, 0usize..60).prop_map(|(least, more)| (least, least + more)),
        (0usize..8).prop_map(|most| (0, most)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn channels_rank_as_the_reference(
        rows in 1usize..1_500,
        dim in 1usize..40,
        seed in any::<u64>(),
        picks in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 0..20), 0..400), 0..6),
        quotas in prop::collection::vec(quota(), 6),
        with_quotas in any::<bool>(),
        by_rows in any::<u32>(),
        spare in prop_oneof![0usize..10, 0usize..1_000],
    ) {
        let items = items(rows, dim, seed);
        let index = &build_with(&quickly(), &items).index;
        let user = users(1, dim, seed).remove(0);
        let pick = |(at, unknown): &(prop::sample::Index, i32)| match unknown {
            0 => u64::MAX - at.index(100) as u64,
            _ => items[at.index(rows)].0,
        };
        let lists: Vec<Vec<u64>> = picks.iter().map(|picks| picks.iter().map(pick).collect()).collect();
        let quotas: Vec<Quota> = lists.iter().zip(quotas).map(|(_, quota)| if with_quotas { quota } else { ANY }).collect();
        let k = quotas.iter().map(|quota| quota.0).sum::<usize>() + spare;

        let ranked = rank(index, &user, &lists, &quotas, k);
        prop_assert_eq!(plain(&ranked), reference(index, &user, &lists, &quotas, k));
        prop_assert_eq!(&ranked.unknown, &index.rank(&user, &lists.concat(), k).unwrap().unknown);

        let handles: Vec<_> = lists.iter().map(|list| index.look_up(list)).collect();
        let channels: Vec<Channel> = (0..lists.len())
            .map(|number| match by_rows >> number & 1 {
                0 => Channel::new(&lists[number]),
                _ => Channel::new(&handles[number]),
            })
            .zip(&quotas)
            .map(|(channel, &(least, most))| channel.at_least(least).at_most(most))
            .collect();
        for options in [RankOptions::new(k), RankOptions::new(k).exact()] {
            let mixed = index.rank_channels(&user, &channels, &options).unwrap();
            prop_assert_eq!(&mixed.hits, &ranked.hits);
        }
    }

    #[test]
    fn no_choice_from_channels_that_share_nothing_scores_higher(
        values in prop::collection::vec(-20i8..20, 1..12),
        owners in prop::collection::vec(0usize..3, 12),
        quotas in prop::collection::vec((0usize..3, 0usize..4), 3),
        spare in 0usize..5,
    ) {
        let items: Items = (0..).zip(&values).map(|(id, &value)| (id, vec![f32::from(value)])).collect();
        let index = &build_with(&quickly(), &items).index;
        let of = |channel| (0..items.len()).filter(|&item| owners[item] == channel).map(|item| item as u64).collect();
        let lists: Vec<Vec<u64>> = (0..3).map(of).collect();
        let quotas: Vec<Quota> = quotas.into_iter().map(|(least, more)| (least, least + more)).collect();
        let k = quotas.iter().map(|quota| quota.0).sum::<usize>() + spare;
        let ranked = rank(index, &[1.0], &lists, &quotas, k);

        // Of all sets that keep the quotas, as far as there are items, the largest, and of those the one that scores highest.
        let best = (0u32..1 << items.len())
            .filter(|set| {
                set.count_ones() as usize <= k
                    && (0..3).all(|channel| {
                        let own = lists[channel].iter().filter(|&&id| set >> id & 1 == 1).count();
                        own >= quotas[channel].0.min(lists[channel].len()) && own <= quotas[channel].1
                    })
            })
            .map(|set| {
                let score: i32 = (0..items.len()).filter(|item| set >> item & 1 == 1).map(|item| i32::from(values[item])).sum();
                (set.count_ones(), score)
            })
            .max()
            .unwrap();
        let score: f32 = ranked.hits.iter().map(|hit| hit.score).sum();
        prop_assert_eq!((ranked.hits.len() as u32, score as i32), best);
    }
}
