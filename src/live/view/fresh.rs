//! Which fresh items a request may see.

use super::View;
use crate::columns::Filter;
use crate::index::{Dropped, Items, Reason, Shown};
use crate::live::change::seconds;
use crate::live::overlay::Known;

/// Decides of fresh items whether a request may see them.
pub(super) struct FreshGate<'a> {
    view: &'a View,
    shown: Shown<'a>,
    /// The fresh items among those named by id, ascending.
    denied: Vec<u64>,
    allowed: Vec<u64>,
    /// The second since 1970 that decides what has expired; `None` where nothing expires.
    now: Option<i64>,
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
        let now = self.held.index.columns().expire().then(|| shown.now.unwrap_or_else(|| seconds() as i64));
        FreshGate { view: self, shown: *shown, denied: fresh(shown.deny), allowed: fresh(shown.allow), now }
    }
}

impl FreshGate<'_> {
    /// Why an item may not be seen, if it may not.
    fn verdict(&self, id: u64, known: &Known) -> Option<Reason> {
        if self.now.is_some_and(|now| known.has_expired(now)) {
            return Some(Reason::Expired);
        }
        if self.shown.deny.is_some_and(|items| self.names(items, &self.denied, id)) {
            return Some(Reason::Denied);
        }
        let filtered = self.shown.filter.is_some_and(|filter| !filter.accepts(&known.values))
            || self.shown.allow.is_some_and(|items| !self.names(items, &self.allowed, id));
        filtered.then_some(Reason::Filtered)
    }

    pub fn passes(&self, id: u64, known: &Known) -> bool {
        self.verdict(id, known).is_none()
    }

    /// The same of an item whose id alone is at hand, which costs a look-up.
    pub fn passes_id(&self, id: u64) -> bool {
        self.verdict_of_id(id).is_none()
    }

    fn verdict_of_id(&self, id: u64) -> Option<Reason> {
        self.view.overlay.known(id).and_then(|known| self.verdict(id, known))
    }

    /// Counts a verdict; whether it lets the item pass.
    pub fn note(&self, id: u64, dropped: &mut Dropped) -> bool {
        dropped.note(self.verdict_of_id(id))
    }

    /// Whether a filter keeps an item.
    pub fn keeps(&self, filter: &Filter, id: u64) -> bool {
        self.view.overlay.known(id).is_some_and(|known| filter.accepts(&known.values))
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
