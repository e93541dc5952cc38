use std::fmt;
use std::sync::OnceLock;

use super::Index;
use crate::bloom::BloomFilter;
use crate::ids::NONE;
use crate::row_set::{Excluded, RowSet, Selection};

/// Items that a request denies or allows. The methods that take them take a reference to what names them; a
/// test goes by `Items::Test(&|id| ...)`.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Items<'a> {
    /// By id, for one request. Costs a look-up an item, some nanoseconds; ids that the index does not have
    /// are passed over.
    Ids(&'a [u64]),
    /// Prepared by the index, for many requests.
    Set(&'a ItemSet),
    /// As a Bloom filter. It also names some items that were never put in.
    Bloom(&'a BloomFilter<'a>),
    /// Those of whose id this is true. A search asks of the items that come up only, so it is to be true of
    /// few where items are denied, and of most where they are allowed; a rank asks of every candidate.
    Test(&'a (dyn Fn(u64) -> bool + Sync)),
}

impl fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Items::Ids(ids) => f.debug_tuple("Ids").field(ids).finish(),
            Items::Set(set) => f.debug_tuple("Set").field(set).finish(),
            Items::Bloom(bloom) => f.debug_tuple("Bloom").field(bloom).finish(),
            Items::Test(_) => f.write_str("Test"),
        }
    }
}

impl<'a> From<&'a [u64]> for Items<'a> {
    fn from(ids: &'a [u64]) -> Self {
        Items::Ids(ids)
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for Items<'a> {
    fn from(ids: &'a [u64; N]) -> Self {
        Items::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u64>> for Items<'a> {
    fn from(ids: &'a Vec<u64>) -> Self {
        Items::Ids(ids)
    }
}

impl<'a> From<&'a ItemSet> for Items<'a> {
    fn from(set: &'a ItemSet) -> Self {
        Items::Set(set)
    }
}

impl<'a> From<&'a BloomFilter<'a>> for Items<'a> {
    fn from(bloom: &'a BloomFilter<'a>) -> Self {
        Items::Bloom(bloom)
    }
}

/// Items of one index, made ready to be denied or allowed by many requests: what a user has seen, or what a
/// page may show. Made by [`Index::item_set`].
///
/// Takes a bit for each item of the index, and another once searches deny it or allow it. Only an index
/// of the same file, or of a copy of it, takes it; any other gives
/// [`Error::StaleRows`](crate::Error::StaleRows).
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # itemdex::IndexBuilder::new("v1").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
/// use itemdex::{Index, SearchOptions};
///
/// let index = Index::open(&path)?;
/// let seen = index.item_set(&[7]);
/// let found = index.search_with(&[0.0, 1.0], &SearchOptions::new(2).deny(&seen))?;
/// assert_eq!((found.hits[0].id, found.matching), (8, 1));
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ItemSet {
    /// The fingerprint of the index, and how many rows it has.
    pub(super) generation: (u64, usize),
    rows: OnceLock<Selection>,
    excluded: Excluded,
    /// The ids that the index does not have, ascending.
    unknown: Vec<u64>,
}

impl ItemSet {
    /// How many of the items the index has.
    pub fn len(&self) -> usize {
        self.rows().count()
    }

    /// Whether the index has none of the items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn rows(&self) -> &RowSet {
        self.excluded.rows()
    }

    /// The rows in it, made ready for searches.
    pub(super) fn selection(&self) -> &Selection {
        self.rows.get_or_init(|| Selection::new(self.rows().clone()))
    }

    /// The rows that are not in it.
    pub(super) fn others(&self) -> &Selection {
        self.excluded.others()
    }
}

impl Index {
    /// Makes a set of items ready for requests to this index. Ids may be named twice; those that the index
    /// does not have are kept for a [`View`](crate::live::View) of it, which may.
    ///
    /// Costs a look-up an item, and a pass over an eighth of a byte for each item of the index.
    pub fn item_set(&self, ids: &[u64]) -> ItemSet {
        let (mut found, mut set) = (Vec::new(), RowSet::none(self.len()));
        self.insert_rows_of(ids, &mut found, &mut set);
        let mut unknown: Vec<u64> =
            ids.iter().zip(&found).filter(|(_, row)| **row == NONE).map(|(&id, _)| id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let generation = self.generation();
        ItemSet { generation, rows: OnceLock::new(), excluded: Excluded::new(set), unknown }
    }

    /// Whether an item is in a set, be it of the index or not.
    pub(crate) fn is_in(&self, set: &ItemSet, id: u64) -> bool {
        match self.id_map().row(id) {
            Some(row) => set.rows().contains(row),
            None => set.unknown.binary_search(&id).is_ok(),
        }
    }

    /// Puts the rows of ids into a set, and leaves in `found` the row of each.
    pub(super) fn insert_rows_of(&self, ids: &[u64], found: &mut Vec<u32>, set: &mut RowSet) {
        self.rows_of(ids, found);
        found.iter().for_each(|&row| set.insert(row));
    }

    /// Leaves in `found` the row of each id. That of an unknown id is beyond every index.
    pub(super) fn rows_of(&self, ids: &[u64], found: &mut Vec<u32>) {
        found.clear();
        found.resize(ids.len(), NONE);
        self.id_map().rows(ids, found);
    }
}
