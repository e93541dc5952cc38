use std::sync::Arc;

use super::Index;
use super::options::seconds_now;
use crate::columns::{Columns, Entry, Expression, Filter, Values, directory_problem};
use crate::file::Section;
use crate::row_set::Excluded;
use crate::{Error, Result};

impl Index {
    /// Finds the items for which an expression is true. Takes a bit for each item; a filter can be used in any
    /// number of queries of this index.
    ///
    /// ```
    /// # use itemdex::{Column, ColumnKind, Expression, Index, IndexBuilder, Parameters};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # let price = Column::new("price", ColumnKind::Number, [12.5, 3.0])?;
    /// # IndexBuilder::new("v1").column(price).build_from([(7, [0.5, 1.0]), (9, [1.0, 0.0])], &path)?;
    /// let index = Index::open(&path)?;
    /// let cheap = index.filter(&Expression::parse("price < 10", &Parameters::new())?)?;
    /// assert_eq!(cheap.matching(), 1);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadFilter`] where the expression names a column that the index does not have, or compares one
    /// with what it cannot hold.
    pub fn filter(&self, expression: &Expression) -> Result<Filter> {
        let rows = self.columns().select(expression)?;
        Ok(Filter::new(self.generation(), rows, expression.clone()))
    }

    /// The values of an item, all columns of the index named; `None` if it does not have the item.
    pub fn values(&self, id: u64) -> Option<Values> {
        self.id_map().row(id).map(|row| self.columns().values(row))
    }

    /// The rows that have expired at a second since 1970, or now; `None` if there are none. Looks at the clock only where
    /// items expire.
    pub(super) fn expired(&self, now: Option<i64>) -> Option<Arc<Excluded>> {
        let columns = self.columns();
        match columns.expire() {
            true => self.expired.at(columns, now.unwrap_or_else(seconds_now)),
            false => None,
        }
    }

    pub(crate) fn columns(&self) -> Columns<'_> {
        let (entries, bytes): (&[Entry], &[u8]) = match self.file.header().has_columns() {
            true => (self.file.section(Section::ColumnDirectory), self.file.section(Section::Columns)),
            false => (&[], &[]),
        };
        Columns { entries, bytes, rows: self.len() }
    }

    /// Refuses a filter that was made for another index.
    pub(crate) fn check_filter(&self, filter: &Filter) -> Result<()> {
        match filter.generation() == self.generation() {
            true => Ok(()),
            false => Err(Error::StaleFilter { path: self.file.path().to_owned() }),
        }
    }

    /// Checks the directory of columns, which has a few entries, so that columns lie where it says.
    pub(super) fn check_directory(&self) -> Result<()> {
        if !self.file.header().has_columns() {
            return Ok(());
        }
        let wrong = |problem| Err(self.file.wrong(Section::ColumnDirectory, 0, problem));
        let directory: &[u8] = self.file.section(Section::ColumnDirectory);
        if directory.is_empty() || !directory.len().is_multiple_of(size_of::<Entry>()) {
            return wrong(format!("the directory of columns has {} bytes", directory.len()));
        }
        let Columns { entries, bytes, rows } = self.columns();
        directory_problem(entries, rows as u64, bytes.len() as u64).map_or(Ok(()), wrong)
    }
}
