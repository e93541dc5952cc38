//! What of the items a request may see, found in the index.

use std::ops::AddAssign;
use std::sync::Arc;

use super::Index;
use super::items::{ItemSet, Items};
use super::options::{SearchOptions, Shown};
use crate::columns::Filter;
use crate::row_set::{Excluded, RowSet, Selection};
use crate::top::Hit;
use crate::{Error, Result};

/// How many of the candidates of a rank were left out, each for the first reason that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Dropped {
    /// Those that have expired.
    pub expired: usize,
    /// Those that are denied.
    pub denied: usize,
    /// Those that a filter does not keep, and those that are not among the allowed.
    pub filtered: usize,
}

/// Why an item is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Expired,
    Denied,
    Filtered,
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, more: Dropped) {
        self.expired += more.expired;
        self.denied += more.denied;
        self.filtered += more.filtered;
    }
}

impl Dropped {
    /// Counts a verdict; whether it lets the item pass.
    pub(crate) fn note(&mut self, verdict: Option<Reason>) -> bool {
        if let Some(reason) = verdict {
            self.count(reason);
        }
        verdict.is_none()
    }

    pub(crate) fn count(&mut self, reason: Reason) {
        match reason {
            Reason::Expired => self.expired += 1,
            Reason::Denied => self.denied += 1,
            Reason::Filtered => self.filtered += 1,
        }
    }
}

/// What a gate needs, kept for the next one: items named by id, and the rows that pass.
#[derive(Default)]
pub(super) struct Sieve {
    pub named: Named,
    pub passing: Selection,
}

/// Rows that one request names.
#[derive(Default)]
pub(super) struct Named {
    denied: RowSet,
    allowed: RowSet,
    found: Vec<u32>,
}

impl Sieve {
    /// The memory that is held for ids, in bytes; the other does not grow.
    pub fn bytes(&self) -> usize {
        self.named.found.capacity() * 4
    }
}

/// Items that are denied or allowed: rows, or what is asked of ids.
#[derive(Clone, Copy)]
enum Test<'a> {
    Prepared(&'a ItemSet),
    Named(&'a RowSet),
    Ids(Items<'a>),
}

/// Decides of rows whether a request may see them.
pub(super) struct Gate<'a> {
    expired: Option<Arc<Excluded>>,
    /// Rows that an overlay hides are denied too.
    deny: [Option<Test<'a>>; 2],
    filter: Option<&'a Filter>,
    allow: Option<Test<'a>>,
}

impl Index {
    /// Refuses what was made for another index.
    pub(super) fn check_shown(&self, shown: &Shown<'_>) -> Result<()> {
        shown.filter.map_or(Ok(()), |filter| self.check_filter(filter))?;
        let stale = |items: &Items<'_>| match items {
            Items::Set(set) => set.generation != self.generation(),
            _ => false,
        };
        match shown.deny.iter().chain(&shown.allow).any(stale) {
            true => Err(Error::StaleRows { path: self.file.path().to_owned() }),
            false => Ok(()),
        }
    }

    /// How many of a few rows a search may see, as far as rows and ids that are denied tell.
    pub(crate) fn count_shown(&self, options: &SearchOptions<'_>, rows: &[u32]) -> usize {
        let mut workspace = self.workspace();
        let parts = &mut *workspace;
        let gate = self.gate(&options.shown_before(), &[], &mut parts.sieve.named);
        let selected = rows.iter().filter(|&&row| gate.selects(row));
        parts.hits.clear();
        parts.hits.extend(selected.map(|&row| Hit { id: self.ids()[row as usize], score: 0.0 }));
        parts.denied.drop_from(options.denied_afterwards().unwrap_or_default(), &mut parts.hits);
        let count = parts.hits.len();
        self.put_back(workspace);
        count
    }

    /// Finds what a request may see, less the rows that are `hidden`.
    pub(super) fn gate<'s>(&self, shown: &Shown<'s>, hidden: &[u32], named: &'s mut Named) -> Gate<'s> {
        let Named { denied, allowed, found } = named;
        let ids = |items: Option<Items<'s>>| match items {
            Some(Items::Ids(ids)) => Some(ids),
            _ => None,
        };
        if ids(shown.deny).is_some() || !hidden.is_empty() {
            denied.clear(self.len());
            self.insert_rows_of(ids(shown.deny).unwrap_or_default(), found, denied);
            hidden.iter().for_each(|&row| denied.insert(row));
        }
        if let Some(ids) = ids(shown.allow) {
            allowed.clear(self.len());
            self.insert_rows_of(ids, found, allowed);
        }
        let (denied, allowed) = (&*denied, &*allowed);
        let test = |items, rows| match items {
            Items::Set(set) => Test::Prepared(set),
            Items::Ids(_) => Test::Named(rows),
            Items::Bloom(_) | Items::Test(_) => Test::Ids(items),
        };
        let deny = shown.deny.map(|items| test(items, denied));
        let hides = (!hidden.is_empty() && ids(shown.deny).is_none()).then_some(Test::Named(denied));
        Gate {
            expired: self.expired(shown.now),
            deny: [deny, hides],
            filter: shown.filter,
            allow: shown.allow.map(|items| test(items, allowed)),
        }
    }
}

impl<'a> Test<'a> {
    fn holds(self, row: u32, ids: &[u64]) -> bool {
        match self {
            Test::Prepared(set) => set.rows().contains(row),
            Test::Named(rows) => rows.contains(row),
            Test::Ids(items) => names(items, ids[row as usize]),
        }
    }

    /// The rows, where they are known.
    fn rows(self) -> Option<&'a RowSet> {
        match self {
            Test::Prepared(set) => Some(set.rows()),
            Test::Named(rows) => Some(rows),
            Test::Ids(_) => None,
        }
    }

    fn prepared(self) -> Option<&'a ItemSet> {
        match self {
            Test::Prepared(set) => Some(set),
            Test::Named(_) | Test::Ids(_) => None,
        }
    }
}

fn names(items: Items<'_>, id: u64) -> bool {
    match items {
        Items::Bloom(bloom) => bloom.may_contain(id),
        Items::Test(test) => test(id),
        Items::Ids(_) | Items::Set(_) => unreachable!("their rows are known"),
    }
}

impl<'a> Gate<'a> {
    /// Whether every item passes.
    pub fn is_open(&self) -> bool {
        self.expired.is_none()
            && self.filter.is_none()
            && self.deny.iter().chain([&self.allow]).all(Option::is_none)
    }

    /// Why a row does not pass, if it does not.
    pub fn verdict(&self, row: u32, ids: &[u64]) -> Option<Reason> {
        if self.expired.as_ref().is_some_and(|expired| expired.rows().contains(row)) {
            return Some(Reason::Expired);
        }
        if self.deny.iter().flatten().any(|test| test.holds(row, ids)) {
            return Some(Reason::Denied);
        }
        let filtered = self.filter.is_some_and(|filter| !filter.rows().contains(row))
            || self.allow.is_some_and(|test| !test.holds(row, ids));
        filtered.then_some(Reason::Filtered)
    }

    /// Why rows do not pass, where there is one reason only: then nobody has to ask of each.
    pub fn only_reason(&self) -> Option<Reason> {
        let denies = self.deny.iter().any(Option::is_some);
        match (self.expired.is_some(), denies, self.filter.is_some() || self.allow.is_some()) {
            (true, false, false) => Some(Reason::Expired),
            (false, true, false) => Some(Reason::Denied),
            (false, false, true) => Some(Reason::Filtered),
            _ => None,
        }
    }

    /// Whether a row is among those that are selected.
    fn selects(&self, row: u32) -> bool {
        let holds = |rows: &RowSet| rows.contains(row);
        !self.dropped().any(holds) && self.kept().all(holds)
    }

    /// The sets of rows that are left out, and those that rows have to be in.
    fn dropped(&self) -> impl Iterator<Item = &RowSet> {
        let denied = self.deny.iter().flatten().filter_map(|test| test.rows());
        self.expired.as_deref().map(Excluded::rows).into_iter().chain(denied)
    }

    fn kept(&self) -> impl Iterator<Item = &RowSet> {
        let allowed = self.allow.iter().filter_map(|test| test.rows());
        self.filter.iter().map(|filter| filter.rows()).chain(allowed)
    }

    /// Whether ids have to be asked about, beyond the rows that pass.
    pub fn asks(&self) -> bool {
        let asks = |test: &Test<'_>| matches!(test, Test::Ids(_));
        self.deny.iter().flatten().chain(&self.allow).any(asks)
    }

    /// Whether an item of a row that passes is let pass by what ids are asked about.
    pub fn lets_pass(&self, id: u64) -> bool {
        let named = |test: &Test<'_>| match test {
            Test::Ids(items) => Some(names(*items, id)),
            _ => None,
        };
        !self.deny.iter().flatten().any(|test| named(test) == Some(true))
            && self.allow.as_ref().and_then(named) != Some(false)
    }

    /// The rows that pass, as far as rows tell; none where all do. `passing` is only used for its space.
    pub fn select<'s>(&'s self, passing: &'s mut Selection) -> Option<&'s Selection> {
        let allowed = self.allow.and_then(Test::prepared).map(ItemSet::selection);
        let mut ready = self.filter.map(Filter::selection).into_iter().chain(allowed);
        let whole = match (self.dropped().count(), self.kept().count()) {
            (0, 0) => return None,
            (1, 0) => {
                let denied = self.deny[0].and_then(Test::prepared).map(ItemSet::others);
                denied.or(self.expired.as_deref().map(Excluded::others))
            }
            (0, 1) => ready.next(),
            _ => None,
        };
        if whole.is_some() {
            return whole;
        }
        if let Some(rows) = ready.find_map(Selection::short_list) {
            let passes = |row: &u32| self.selects(*row);
            passing.refill_listed(rows.iter().copied().filter(passes));
            return Some(passing);
        }
        passing.refill(|set| {
            match self.kept().next() {
                Some(first) => set.copy(first),
                None => self.dropped().take(1).for_each(|rows| set.fill_without(rows)),
            }
            self.kept().skip(1).for_each(|rows| set.keep(rows));
            let left = usize::from(self.kept().next().is_none());
            self.dropped().skip(left).for_each(|rows| set.drop(rows));
        });
        Some(passing)
    }
}
