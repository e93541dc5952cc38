//! Ids that a search denies, on indexes of every make, against brute force.

mod common;

use std::collections::{HashMap, HashSet};

use common::*;
use itemdex::{
    Column, ColumnKind, Expression, Found, Hit, IndexBuilder, Items as Named, Matrix, Parameters, Plan,
    RankOptions, RowFormat, SearchOptions, Value,
};

/// Builders of both plans and of each alone, over rows of both formats.
fn builders() -> impl Iterator<Item = IndexBuilder> {
    let plans = [vec![Plan::Graph], vec![Plan::Partitions], vec![Plan::Graph, Plan::Partitions]];
    let formats = [RowFormat::F32, RowFormat::F16];
    plans.into_iter().flat_map(move |plans| {
        formats.map(|format| {
            IndexBuilder::new("v1")
                .m(4)
                .ef_construction(30)
                .augmentation(0.5)
                .rows(format)
                .plans(plans.clone())
        })
    })
}

fn check(dim: usize, rows: usize) {
    let items = items(rows, dim, 3);
    for builder in builders() {
        let number = Column::new("number", ColumnKind::Number, (0..rows as i64).map(Value::from)).unwrap();
        let expiry = (0..rows as i64).map(|row| if row % 5 == 0 { Value::from(10) } else { Value::Null });
        let expires = Column::new("expires", ColumnKind::Expires, expiry).unwrap();
        let built = build_with(&builder.column(number).column(expires), &items);
        let index = &built.index;
        let text = format!("number < {}", rows * 3 / 4);
        let filter = index.filter(&Expression::parse(&text, &Parameters::new()).unwrap()).unwrap();
        let kept: HashSet<u64> = items[..rows * 3 / 4].iter().map(|item| item.0).collect();
        let expired: HashSet<u64> = items.iter().step_by(5).map(|item| item.0).collect();
        let allowed: Vec<u64> =
            items.iter().map(|item| item.0).filter(|id| id % 3 > 0).chain([u64::MAX]).collect();
        let users = users(2, dim, 9);
        let flat: Vec<f32> = users.concat();
        let mut answer = Found::default();
        for user in &users {
            let all = RankOptions::new(rows).exact().now(0);
            let ranked = index.rank_with(user, index.ids(), &all).unwrap().hits;
            for denied in [0, 1, 20, rows / 2, rows] {
                let mut ids: Vec<u64> = ranked[..denied.min(rows)].iter().map(|hit| hit.id).collect();
                ids.extend([u64::MAX, 7, u64::MAX]);
                ids.extend(ids.clone());
                let named: HashSet<u64> = ids.iter().copied().collect();
                for (filtered, allows, now) in [
                    (false, false, 0),
                    (true, false, 0),
                    (false, true, 0),
                    (false, false, 99),
                    (true, true, 99),
                ] {
                    let expected: Vec<Hit> = ranked
                        .iter()
                        .copied()
                        .filter(|hit| {
                            !named.contains(&hit.id)
                                && (!filtered || kept.contains(&hit.id))
                                && (!allows || hit.id % 3 > 0)
                                && (now < 10 || !expired.contains(&hit.id))
                        })
                        .collect();
                    let left: HashMap<u64, f32> = expected.iter().map(|hit| (hit.id, hit.score)).collect();
                    for k in [0, 1, 10, expected.len(), rows + 5, usize::MAX] {
                        for recall in [0.9, 1.0] {
                            let mut options = SearchOptions::new(k).recall(recall).now(now).deny(&ids);
                            if filtered {
                                options = options.filter(&filter);
                            }
                            if allows {
                                options = options.allow(Named::Ids(&allowed));
                            }
                            let case =
                                format!("{dim} {rows} {denied} {filtered} {allows} {now} {k} {recall}");
                            let wrong = index.search_into(&user[1..], &options, &mut answer);
                            assert!(wrong.is_err());
                            index.search_into(user, &options, &mut answer).unwrap();
                            assert_eq!(answer, index.search_with(user, &options).unwrap(), "{case}");
                            assert_eq!(answer.hits.len(), k.min(expected.len()), "{case}");
                            assert!(
                                answer.hits.iter().all(|hit| left.get(&hit.id) == Some(&hit.score)),
                                "{case}"
                            );
                            if ids.len() <= 1_000 || answer.hits.len() < k {
                                assert_eq!(answer.matching, expected.len(), "{case}");
                            }
                            if recall == 1.0 {
                                assert_eq!(answer.hits, expected[..k.min(expected.len())], "{case}");
                            }
                        }
                    }
                }
                let options = SearchOptions::new(10).now(0).deny(&ids);
                let many = index.search_many(&Matrix::new(dim, flat.clone()).unwrap(), &options, 2).unwrap();
                for (user, found) in users.iter().zip(&many) {
                    let alone = index.search_with(user, &options).unwrap();
                    assert_eq!(found.hits.len(), alone.hits.len());
                    if ids.len() <= 1_000 || alone.hits.len() < 10 {
                        assert_eq!(found.matching, alone.matching);
                    }
                }
            }
        }
    }
}

#[test]
fn a_search_finds_what_is_left_of_any_index() {
    for (dim, rows) in [(1, 1), (3, 2), (5, 40), (17, 700), (64, 1_500), (299, 300)] {
        check(dim, rows);
    }
}
