//! A set of rows of one index: a bit for each row, and how many are set.

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
        RowSet { words: vec![0; rows.div_ceil(64)], rows, count: 0 }
    }

    /// All `rows`.
    pub fn all(rows: usize) -> RowSet {
        RowSet::from_words(vec![u64::MAX; rows.div_ceil(64)], rows)
    }

    /// The rows whose bits are set, row 0 in the lowest bit of the first word. Bits past the last row do not count.
    pub fn from_words(mut words: Vec<u64>, rows: usize) -> RowSet {
        words.resize(rows.div_ceil(64), 0);
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(64)) {
            *last &= (1 << (rows % 64)) - 1;
        }
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        RowSet { words, rows, count }
    }

    /// Puts a row in; a row that is not of the index is left out.
    pub fn insert(&mut self, row: u32) {
        if self.is_of_the_index(row) && !self.contains(row) {
            self.words[row as usize / 64] |= 1 << (row % 64);
            self.count += 1;
        }
    }

    pub fn remove(&mut self, row: u32) {
        if self.contains(row) {
            self.words[row as usize / 64] &= !(1 << (row % 64));
            self.count -= 1;
        }
    }

    pub fn contains(&self, row: u32) -> bool {
        self.is_of_the_index(row) && self.words[row as usize / 64] >> (row % 64) & 1 == 1
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
        self.count = self.words.iter().map(|word| word.count_ones() as usize).sum();
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
        let mut odd = set(&[1, 3, 129, 129, 130, u32::MAX]);
        assert_eq!((odd.count(), odd.iter().collect::<Vec<_>>()), (3, vec![1, 3, 129]));
        odd.remove(3);
        odd.remove(7);
        assert_eq!((odd.count(), odd.contains(3), odd.contains(129)), (2, false, true));
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
