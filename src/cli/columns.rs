//! Columns on the command line of a build.

use std::path::{Path, PathBuf};

use clap::Args;
use itemdex::dump::read_column;
use itemdex::{Column, ColumnKind};

use crate::commands::Failure;

#[derive(Args)]
pub(crate) struct Columns {
    /// A column for filters, KIND tag, number or flag: of the parquet dump, or of a file with a value a row
    /// (.parquet, .npy, or for tags a text with a line an item, tags separated by |)
    #[arg(long = "column", value_name = "NAME[=FILE]:KIND", value_parser = column)]
    columns: Vec<Named>,
    /// The column that says when items expire, in seconds since 1970
    #[arg(long, value_name = "NAME[=FILE]", value_parser = expires)]
    expires: Option<Named>,
}

/// A column to read.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    name: String,
    file: Option<PathBuf>,
    kind: ColumnKind,
}

fn column(text: &str) -> Result<Named, String> {
    let (column, kind) = text.rsplit_once(':').ok_or("give its kind behind a colon: tag, number or flag")?;
    let kinds = [ColumnKind::Tag, ColumnKind::Number, ColumnKind::Flag];
    match kinds.into_iter().find(|known| known.name() == kind) {
        Some(kind) => Ok(named(column, kind)),
        None if kind == "expires" => Err(format!("write --expires {column}")),
        None => Err(format!("its kind {kind:?} is none of tag, number and flag")),
    }
}

fn expires(text: &str) -> Result<Named, String> {
    Ok(named(text, ColumnKind::Expires))
}

fn named(text: &str, kind: ColumnKind) -> Named {
    match text.split_once('=') {
        Some((name, file)) => Named { name: name.to_owned(), file: Some(file.into()), kind },
        None => Named { name: text.to_owned(), file: None, kind },
    }
}

impl Columns {
    /// Reads the columns, those without a file from the dump. `out` must not be one of the files.
    pub fn read(&self, items: &Path, out: Option<&Path>) -> Result<Vec<Column>, Failure> {
        let read = |column: &Named| {
            let Named { name, file, kind } = column;
            if file.is_none() && !is_parquet(items) {
                return Err(Failure::Usage(format!(
                    "column {name}: {} has no columns; name its file: {name}=FILE",
                    items.display()
                )));
            }
            let file = file.as_deref().unwrap_or(items);
            if out.is_some_and(|out| is_same_file(out, file)) {
                return Err(Failure::Usage(format!(
                    "out: {} is the file of column {name}; name another",
                    file.display()
                )));
            }
            Ok(read_column(file, name, *kind)?)
        };
        self.columns.iter().chain(&self.expires).map(read).collect()
    }
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}
