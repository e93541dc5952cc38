//! Sets of rows of one index: a bit for each row, and how many are set.

use std::sync::OnceLock;

use crate::vectors::kernels::interleaved::LANES;
use crate::vectors::kernels::ones::count;

/// A selection for many searches has a list where that takes no more memory than the bits: of at most one row in so
/// many.
const LISTED: usize = 32;

/// What is left of a list of at most one row in so many is listed too, without bits.
const FEW: usize = 256;

/// A set of rows, for filters and for what is denied or hidden.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RowSet {
    words: Vec<u64>,
    rows: usize,
    count: usize,
}

impl RowSet {
    /// No row of `rows`.
    pub fn none(rows: usize) -> RowSet {
        let mut none = RowSet::default();
        none.clear(rows);
        none
    }

    /// All `rows`.
    pub fn all(rows: usize) -> RowSet {
        let mut all = RowSet::default();
        all.fill(rows);
        all
    }

    /// The rows whose bits are set, row 0 in the lowest bit of the first word. Bits past the last row do not count.
    pub fn from_words(mut words: Vec<u64>, rows: usize) -> RowSet {
        words.resize(rows.div_ceil(64), 0);
        drop_past(&mut words, rows);
        let count = count(&words);
        RowSet { words, rows, count }
    }

    /// Puts a row in; a row that is not of the index is left out.
    pub fn insert(&mut self, row: u32) {
        if self.is_of_the_index(row) && !self.contains(row) {
            self.words[row as usize / 64] |= 1 << (row % 64);
            self.count += 1;
        }
    }

    pub fn contains(&self, row: u32) -> bool {
        self.is_of_the_index(row) && self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The first row from one on.
    pub fn first_from(&self, row: u32) -> Option<u32> {
        let at = row as usize / 64;
        let mut mask = u64::MAX << (row % 64);
        self.words.get(at..)?.iter().zip(at as u32..).find_map(|(&word, at)| {
            let word = word & std::mem::replace(&mut mask, u64::MAX);
            (word != 0).then(|| at * 64 + word.trailing_zeros())
        })
    }

    fn is_of_the_index(&self, row: u32) -> bool {
        (row as usize) < self.rows
    }

    /// How many rows are in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many rows the index has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bits, row 0 in the lowest bit of the first word; those past the last row are 0.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Keeps the rows that are in both sets, of one index.
    pub fn keep(&mut self, other: &RowSet) {
        self.combine(other, |a, b| a & b);
    }

    /// Adds the rows of another set of the same index.
    pub fn add(&mut self, other: &RowSet) {
        self.combine(other, |a, b| a | b);
    }

    /// Leaves out the rows of another set of the same index.
    pub fn drop(&mut self, other: &RowSet) {
        self.combine(other, |a, b| a & !b);
    }

    fn combine(&mut self, other: &RowSet, combined: impl Fn(u64, u64) -> u64) {
        debug_assert_eq!(self.rows, other.rows, "both sets are of one index");
        self.words.iter_mut().zip(&other.words).for_each(|(word, &with)| *word = combined(*word, with));
        self.count = count(&self.words);
    }

    /// Makes it the set of no row of `rows`, in the same memory.
    pub fn clear(&mut self, rows: usize) {
        self.words.clear();
        self.words.resize(rows.div_ceil(64), 0);
        (self.rows, self.count) = (rows, 0);
    }

    /// Makes it the set of all `rows`, in the same memory.
    pub fn fill(&mut self, rows: usize) {
        self.words.clear();
        self.words.resize(rows.div_ceil(64), u64::MAX);
        drop_past(&mut self.words, rows);
        (self.rows, self.count) = (rows, rows);
    }

    /// Makes it the set of the rows that are not in another, in the same memory.
    pub fn fill_without(&mut self, other: &RowSet) {
        self.words.clear();
        self.words.extend(other.words.iter().map(|word| !word));
        drop_past(&mut self.words, other.rows);
        (self.rows, self.count) = (other.rows, other.rows - other.count);
    }

    /// Makes it a copy of another set, in the same memory.
    pub fn copy(&mut self, other: &RowSet) {
        self.words.clone_from(&other.words);
        (self.rows, self.count) = (other.rows, other.count);
    }

    /// The rows that are not in it.
    pub fn others(&self) -> RowSet {
        let mut others = RowSet::default();
        others.fill_without(self);
        others
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| at as u32 * 64 + rest.trailing_zeros())
        })
    }
}

/// Takes out the bits past the last row.
fn drop_past(words: &mut [u64], rows: usize) {
    if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(64)) {
        *last &= (1 << (rows % 64)) - 1;
    }
}

/// A set of rows made ready for searches: bits, a list, or both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The rows, unless they are listed only.
    set: RowSet,
    list: Vec<u32>,
    kind: Kind,
    /// How many of the rows each cluster has, of a selection for many searches and once somebody asked.
    counts: Option<OnceLock<Vec<[f32; LANES]>>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Bits,
    List,
    Both,
}

impl Selection {
    /// A selection for many searches.
    pub fn new(set: RowSet) -> Selection {
        let mut selection = Selection { counts: Some(OnceLock::new()), ..Selection::default() };
        if set.count <= set.rows / LISTED {
            selection.list.extend(set.iter());
            selection.kind = Kind::Both;
        }
        Selection { set, ..selection }
    }

    /// Replaces the rows, of a selection that is used once, by those that `fill` puts into the last set, in the same
    /// memory.
    pub fn refill(&mut self, fill: impl FnOnce(&mut RowSet)) {
        fill(&mut self.set);
        self.kind = Kind::Bits;
    }

    /// Replaces the rows by others, ascending, in the same memory, without bits.
    pub fn refill_listed(&mut self, rows: impl Iterator<Item = u32>) {
        self.list.clear();
        self.list.extend(rows);
        self.kind = Kind::List;
    }

    /// Replaces the rows, of a selection that is used once, by those among some or all that are not in a set, in the same
    /// memory.
    pub fn refill_without(&mut self, among: Option<&Selection>, dropped: &RowSet) {
        let listed = |among: &&Selection| among.is_listed_only() || among.short_list().is_some();
        match (among.filter(listed).and_then(Selection::list), among) {
            (Some(rows), _) => self.refill_listed(rows.iter().copied().filter(|&row| !dropped.contains(row))),
            (None, Some(among)) => self.refill(|set| {
                set.copy(&among.set);
                set.drop(dropped);
            }),
            (None, None) => self.refill(|set| set.fill_without(dropped)),
        }
    }

    /// The bits; empty or of other rows where the rows are listed only.
    pub fn set(&self) -> &RowSet {
        &self.set
    }

    pub fn count(&self) -> usize {
        if self.kind == Kind::List { self.list.len() } else { self.set.count }
    }

    /// The rows in order, where they are listed.
    pub fn list(&self) -> Option<&[u32]> {
        (self.kind != Kind::Bits).then_some(&self.list)
    }

    /// The same where they are so few that what is left of them need not have bits.
    pub fn short_list(&self) -> Option<&[u32]> {
        self.list().filter(|list| list.len() <= self.set.rows / FEW)
    }

    pub fn is_listed_only(&self) -> bool {
        self.kind == Kind::List
    }

    /// How many of the rows each cluster has, of a selection for many searches; `count` is called once.
    pub fn counts(&self, count: impl FnOnce(&[u64]) -> Vec<[f32; LANES]>) -> Option<&[[f32; LANES]]> {
        let counts = self.counts.as_ref()?;
        Some(counts.get_or_init(|| count(&self.set.words)))
    }
}

/// A set of rows to leave out of searches, and once somebody asked, all others made ready.
#[derive(Debug, Clone, Default)]
pub(crate) struct Excluded {
    rows: RowSet,
    others: OnceLock<Selection>,
}

impl Excluded {
    pub fn new(rows: RowSet) -> Excluded {
        Excluded { rows, others: OnceLock::new() }
    }

    pub fn rows(&self) -> &RowSet {
        &self.rows
    }

    /// The rows that are not left out.
    pub fn others(&self) -> &Selection {
        self.others.get_or_init(|| Selection::new(self.rows.others()))
    }
}

#[cfg(test)]
mod tests {
    use super::RowSet;

    fn set(rows: &[u32]) -> RowSet {
        let mut set = RowSet::none(130);
        rows.iter().for_each(|&row| set.insert(row));
        set
    }

    #[test]
    fn a_set_counts_the_rows_it_holds() {
        let odd = set(&[1, 3, 129, 129, 130, u32::MAX]);
        assert_eq!((odd.count(), odd.iter().collect::<Vec<_>>()), (3, vec![1, 3, 129]));
        assert_eq!((odd.contains(3), odd.contains(7), odd.contains(129)), (true, false, true));
        assert_eq!(RowSet::all(130).iter().collect::<Vec<_>>(), (0..130).collect::<Vec<_>>());
    }

    #[test]
    fn sets_combine_as_sets_do() {
        let (mut kept, mut all, mut rest) = (set(&[1, 64, 100]), set(&[1, 64, 100]), set(&[1, 64, 100]));
        let other = set(&[0, 64, 129]);
        kept.keep(&other);
        all.add(&other);
        rest.drop(&other);
        assert_eq!(kept, set(&[64]));
        assert_eq!(all, set(&[0, 1, 64, 100, 129]));
        assert_eq!(rest, set(&[1, 100]));
    }
}
