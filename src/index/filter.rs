use super::Index;
use crate::columns::{Expression, Filter};
use crate::row_set::RowSet;
use crate::{Error, Result};

impl Index {
    /// Finds the items for which an expression is true.
    ///
    /// # Errors
    /// [`Error::BadFilter`] where the expression names a column that the index does not have, or compares a
    /// column with what it cannot hold.
    pub fn filter(&self, expression: &Expression) -> Result<Filter> {
        Ok(Filter::new(self.generation(), RowSet::none(self.len()), expression.clone()))
    }

    /// Refuses a filter that was made for another index.
    pub(crate) fn check_filter(&self, filter: &Filter) -> Result<()> {
        match filter.generation() == self.generation() {
            true => Ok(()),
            false => Err(Error::StaleFilter { path: self.file.path().to_owned() }),
        }
    }
}
