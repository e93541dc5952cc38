//! Whether every answer is that of the plain maps.

use std::collections::BTreeMap;

use super::items::{Items, Known, edit, integer};
use super::{ALWAYS, VERSIONS, World};
use crate::live::View;
use crate::{SearchOptions, number};

impl World {
    pub fn check(&self) {
        let (live, status) = (self.live(), self.live().status());
        assert!(status.log_dropped_to.unwrap() <= self.may_drop, "{status:?} {}", self.may_drop);
        for version in live.model_versions() {
            self.check_view(&live.for_model(&version).unwrap());
        }
        // The newest of each version serves, or is refused for a reason.
        let list = self.catalog.read().unwrap();
        for version in VERSIONS {
            let Some(newest) = list.serving().find(|one| one.model_version == version) else { continue };
            let serves = live.for_model(version).is_ok_and(|view| *view.generation() == *newest);
            let refused = status.refused.iter().find(|refused| refused.0 == newest.number);
            assert!(serves || refused.is_some(), "{newest:?} {status:?}");
            if let Some((_, reason)) = refused {
                let dropped = newest.position() < status.log_dropped_to.unwrap();
                let behind = !self.kind.fed && reason.contains("the log ends at");
                assert!(dropped || behind, "{newest:?} {status:?}");
            }
        }
    }

    fn check_view(&self, view: &View) {
        let generation = view.generation();
        let dump = &self.dumps[&generation.file];
        assert_eq!(dump.version, view.model_version());
        let mut expected = dump.items.clone();
        let later = self.logged.iter().filter(|change| change.0 > generation.position());
        later.for_each(|(_, change)| edit(&mut expected, dump.version, change));
        if !dump.stock {
            expected.values_mut().for_each(|known| known.stock = None);
        }
        let ids: Vec<u64> = (0..5).chain([ALWAYS]).collect();
        let known = |id| {
            let values = view.values(id)?;
            Some(Known {
                first: view.get(id)?[0],
                price: integer(&values, "price"),
                stock: integer(&values, "stock"),
            })
        };
        let found: Items = ids.iter().filter_map(|&id| Some((id, known(id)?))).collect();
        assert_eq!(found, expected, "{generation:?}, logged {:?}", self.logged);
        assert_eq!(view.len(), expected.len());
        let iterated: BTreeMap<u64, f32> = view.iter().map(|(id, embedding)| (id, embedding[0])).collect();
        let firsts: BTreeMap<u64, f32> = expected.iter().map(|(&id, known)| (id, known.first)).collect();
        assert_eq!(iterated, firsts);
        check_filtered(view, &expected);
        let mut best: Vec<(u64, f32)> = firsts.into_iter().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let hits = view.search_with(&[1.0, 0.0], &SearchOptions::new(3).recall(1.0)).unwrap().hits;
        let hits: Vec<_> = hits.iter().map(|hit| (hit.id, hit.score)).collect();
        assert_eq!(hits, best[..best.len().min(3)]);
        let ranked = view.rank(&[1.0, 0.0], &ids, 3).unwrap();
        assert_eq!(ranked.hits.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>(), hits);
        assert_eq!(ranked.unknown.len(), ids.len() - best.len());
    }
}

/// A filter keeps the items that have the values, wherever these come from.
fn check_filtered(view: &View, items: &Items) {
    let prices: Vec<i64> = items.values().filter_map(|known| known.price).collect();
    let middle = prices.iter().sum::<i64>() / prices.len().max(1) as i64;
    let filter = view.index().filter(&number("price").at_most(middle)).unwrap();
    let options = SearchOptions::new(10).recall(1.0).filter(&filter);
    let mut found: Vec<u64> =
        view.search_with(&[1.0, 0.0], &options).unwrap().hits.iter().map(|hit| hit.id).collect();
    found.sort_unstable();
    let keeps = |known: &Known| known.price.is_some_and(|price| price <= middle);
    let expected = items.iter().filter(|(_, known)| keeps(known)).map(|(&id, _)| id);
    assert!(found.iter().copied().eq(expected), "{found:?} of {items:?}, at most {middle}");
}
