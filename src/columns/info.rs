use super::column::ColumnKind;
use super::directory::Type;
use super::stored::Columns;

/// What an index file holds of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: ColumnKind,
    /// What its values are: `string` or `u64` for tags, `i64` or `f32` for numbers, `bool` for flags, `i64`
    /// for expiries.
    pub type_name: &'static str,
    /// How many distinct values, or tags, there are.
    pub distinct: u64,
    /// How many rows are null.
    pub nulls: u64,
    /// How many bytes of the file it takes.
    pub bytes: u64,
}

impl Columns<'_> {
    /// What is known of each column, without reading it.
    pub fn info(self) -> Vec<ColumnInfo> {
        let info = |entry: &super::Entry| {
            let (kind, type_name) = match entry.kind() {
                Type::Tags => (ColumnKind::Tag, "string"),
                Type::Ids => (ColumnKind::Tag, "u64"),
                Type::Integers => (ColumnKind::Number, "i64"),
                Type::Reals => (ColumnKind::Number, "f32"),
                Type::Flags => (ColumnKind::Flag, "bool"),
                Type::Expiries => (ColumnKind::Expires, "i64"),
            };
            let (distinct, nulls, bytes) = (entry.distinct, entry.nulls, entry.bytes());
            ColumnInfo { name: entry.name().to_owned(), kind, type_name, distinct, nulls, bytes }
        };
        self.entries.iter().map(info).collect()
    }
}
