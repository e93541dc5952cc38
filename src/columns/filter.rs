use std::sync::Arc;

use super::{Expression, Values};
use crate::row_set::{RowSet, Selection};

/// The items of one index for which an [`Expression`] is true, found once and used in any number of queries.
///
/// Made by [`Index::filter`](crate::Index::filter). Takes a bit for each row of the index; a clone shares it.
/// Only an index of the same file, or of a copy of it, takes the filter; any other gives
/// [`Error::StaleFilter`](crate::Error::StaleFilter).
#[derive(Debug, Clone)]
pub struct Filter(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    generation: (u64, usize),
    rows: Selection,
    expression: Expression,
}

impl Filter {
    pub(crate) fn new(generation: (u64, usize), rows: RowSet, expression: Expression) -> Filter {
        Filter(Arc::new(Compiled { generation, rows: Selection::new(rows), expression }))
    }

    /// How many items of the index it keeps; exact.
    pub fn matching(&self) -> usize {
        self.0.rows.count()
    }

    /// What it was made of.
    pub fn expression(&self) -> &Expression {
        &self.0.expression
    }

    /// The rows that it keeps.
    pub(crate) fn rows(&self) -> &RowSet {
        self.0.rows.set()
    }

    /// The same, ready for searches.
    pub(crate) fn selection(&self) -> &Selection {
        &self.0.rows
    }

    /// The fingerprint of the index, and how many rows it has.
    pub(crate) fn generation(&self) -> (u64, usize) {
        self.0.generation
    }

    /// Whether it keeps an item with these values, which stands in no row of the index.
    pub(crate) fn accepts(&self, values: &Values) -> bool {
        self.0.expression.accepts(values)
    }
}
