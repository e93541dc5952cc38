/// Items of one index, named by their rows: a rank of them needs no look-up. Takes 4 bytes an item. The order
/// in which the items were given is not kept.
///
/// For a channel that has searched the index already ([`Index::search_rows`](crate::Index::search_rows)), or
/// that brings the same items to many requests ([`Index::look_up`](crate::Index::look_up)). Only an index of
/// the same file, or of a copy of it, takes them; any other gives
/// [`Error::StaleRows`](crate::Error::StaleRows).
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, later) = (folder.path().join("items.itemdex"), folder.path().join("later.itemdex"));
/// # itemdex::IndexBuilder::new("v1").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
/// # itemdex::IndexBuilder::new("v2").build_from([(8, [1.0, 2.0]), (7, [2.0, 1.0])], &later)?;
/// let index = itemdex::Index::open(&path)?;
/// let popular = index.look_up(&[8, 7]);
/// assert_eq!(index.rank(&[0.0, 1.0], &popular, 1)?.hits[0].id, 7);
///
/// let rebuilt = itemdex::Index::open(&later)?;
/// assert!(rebuilt.rank(&[0.0, 1.0], &popular, 1).is_err());
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHandles {
    /// The fingerprint of the index, and how many rows it has: all of `rows` are below that.
    pub(super) generation: (u64, usize),
    /// Ascending: the order that a rank visits them in.
    pub(super) rows: Vec<u32>,
}

impl RowHandles {
    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What a rank takes: item ids, or row handles. Every method that takes candidates takes a reference to
/// either.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Candidates<'a> {
    /// By id. The answer reports ids that the index does not have.
    Ids(&'a [u64]),
    /// By row, without a look-up.
    Rows(&'a RowHandles),
    /// Some by row and the others by id, as a view's [`ViewRows`](crate::live::ViewRows) has them.
    Both(&'a RowHandles, &'a [u64]),
}

impl<'a> Candidates<'a> {
    pub(super) fn parts(self) -> (Option<&'a RowHandles>, &'a [u64]) {
        match self {
            Candidates::Ids(ids) => (None, ids),
            Candidates::Rows(rows) => (Some(rows), &[]),
            Candidates::Both(rows, ids) => (Some(rows), ids),
        }
    }
}

impl<'a> From<&'a [u64]> for Candidates<'a> {
    fn from(ids: &'a [u64]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for Candidates<'a> {
    fn from(ids: &'a [u64; N]) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u64>> for Candidates<'a> {
    fn from(ids: &'a Vec<u64>) -> Self {
        Candidates::Ids(ids)
    }
}

impl<'a> From<&'a RowHandles> for Candidates<'a> {
    fn from(rows: &'a RowHandles) -> Self {
        Candidates::Rows(rows)
    }
}
