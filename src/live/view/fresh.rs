//! Which fresh items a request may see.

use super::View;
use crate::columns::{Filter, Values};
use crate::index::{Dropped, Items, Reason, Shown};

/// Decides of fresh items whether a request may see them.
pub(super) struct FreshGate<'a> {
    view: &'a View,
    shown: Shown<'a>,
    /// The fresh items among those named by id, ascending.
    denied: Vec<u64>,
    allowed: Vec<u64>,
}

impl View {
    /// What a request may see of the fresh items. Costs a look-up among them for each item that is named by id.
    pub(super) fn fresh_gate<'a>(&'a self, shown: &Shown<'a>) -> FreshGate<'a> {
        let fresh = |items: Option<Items<'_>>| match items {
            Some(Items::Ids(ids)) => {
                let mut fresh: Vec<u64> = ids.iter().copied().filter(|&id| self.overlay.has(id)).collect();
                fresh.sort_unstable();
                fresh
            }
            _ => Vec::new(),
        };
        FreshGate { view: self, shown: *shown, denied: fresh(shown.deny), allowed: fresh(shown.allow) }
    }
}

impl FreshGate<'_> {
    /// Why an item may not be seen, if it may not.
    pub fn verdict(&self, id: u64) -> Option<Reason> {
        if self.shown.deny.is_some_and(|items| self.names(items, &self.denied, id)) {
            return Some(Reason::Denied);
        }
        let filtered = self.shown.filter.is_some_and(|filter| !self.keeps(filter, id))
            || self.shown.allow.is_some_and(|items| !self.names(items, &self.allowed, id));
        filtered.then_some(Reason::Filtered)
    }

    pub fn passes(&self, id: u64) -> bool {
        self.verdict(id).is_none()
    }

    /// Counts a verdict; whether it lets the item pass.
    pub fn note(&self, id: u64, dropped: &mut Dropped) -> bool {
        dropped.note(self.verdict(id))
    }

    /// Whether a filter keeps an item. Nothing is known of fresh items beside their embeddings.
    pub fn keeps(&self, filter: &Filter, _id: u64) -> bool {
        filter.accepts(&Values::new())
    }

    fn names(&self, items: Items<'_>, by_id: &[u64], id: u64) -> bool {
        match items {
            Items::Ids(_) => by_id.binary_search(&id).is_ok(),
            Items::Set(set) => self.view.held.index.is_in(set, id),
            Items::Bloom(bloom) => bloom.may_contain(id),
            Items::Test(test) => test(id),
        }
    }
}
