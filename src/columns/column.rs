use std::collections::HashMap;
use std::hash::Hash;

use super::value::{Value, Values};
use crate::{Error, Result};

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// Tags, one or many an item: all strings or all `u64`.
    Tag,
    /// A number an item: all integers (`i64`) or all reals (`f32`).
    Number,
    /// True or false.
    Flag,
    /// The second from which on the item is not shown, in whole seconds since 1970. An index has at most one
    /// such column, and every query heeds it. An item whose expiry is null does not expire.
    Expires,
}

impl ColumnKind {
    /// The name of the kind on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ColumnKind::Tag => "tag",
            ColumnKind::Number => "number",
            ColumnKind::Flag => "flag",
            ColumnKind::Expires => "expires",
        }
    }
}

/// The longest name of a column, in bytes.
pub(super) const MAX_NAME: usize = 64;

/// What the text form of an expression takes for itself.
pub(super) const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "null", "any", "all", "none", "between", "true", "false"];

/// What keeps a text from being the name of a column.
pub(super) fn name_problem(name: &str) -> Option<String> {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    if KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name)) {
        return Some(format!("\"{name}\" is a word of the filters' language; name the column otherwise"));
    }
    match name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(letters)
    {
        true => None,
        false => Some(format!(
            "{name:?} cannot name a column; take letters, digits, _ and ., at most {MAX_NAME}, beginning with a letter or _"
        )),
    }
}

/// A column to build into an index: a value for each row, in the order of the dump.
///
/// ```
/// use itemdex::{Column, ColumnKind, Index, IndexBuilder, tag};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// let region = Column::new("region", ColumnKind::Tag, [Some("JP"), None, Some("US")])?;
/// let price = Column::new("price", ColumnKind::Number, [12.5, 3.0, 8.0])?;
/// IndexBuilder::new("v1")
///     .column(region)
///     .column(price)
///     .build_from([(7, [0.5, 1.0]), (9, [1.0, 0.0]), (4, [0.0, 2.0])], &path)?;
///
/// let index = Index::open(&path)?;
/// assert_eq!(index.filter(&tag("region").any(["JP", "BR"]))?.matching(), 1);
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    /// What the values come from, for errors.
    origin: String,
    /// Whether each row has a value.
    pub(super) present: Vec<bool>,
    pub(super) data: Data,
}

/// The values of all rows, null or not.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// All rows so far are null.
    Nothing,
    Tags(Lists<String>),
    Ids(Lists<u64>),
    Integers(Vec<i64>),
    Reals(Vec<f32>),
    Flags(Vec<bool>),
}

/// A list of tags for each row, each tag as its number in the order in which tags were first seen.
#[derive(Debug, Clone)]
pub(super) struct Lists<T> {
    pub numbers: HashMap<T, u32>,
    /// Where the list of each row ends in `tags`.
    pub ends: Vec<u64>,
    pub tags: Vec<u32>,
}

impl<T: Hash + Eq> Lists<T> {
    fn after(nulls: usize) -> Lists<T> {
        Lists { numbers: HashMap::new(), ends: vec![0; nulls], tags: Vec::new() }
    }

    fn push(&mut self, tags: Vec<T>) {
        let numbers = &mut self.numbers;
        let number = |tag| {
            let next = numbers.len() as u32;
            *numbers.entry(tag).or_insert(next)
        };
        let mut tags: Vec<u32> = tags.into_iter().map(number).collect();
        tags.sort_unstable();
        tags.dedup();
        self.tags.extend(tags);
        self.ends.push(self.tags.len() as u64);
    }
}

impl Column {
    /// A column of these values.
    ///
    /// # Errors
    /// [`Error::BadOption`] for the name, which must be of letters, digits, `_` and `.`;
    /// [`Error::BadDump`] with the row for a value that is not of the kind, not of the same type as those
    /// before, or not finite.
    pub fn new<V: Into<Value>>(
        name: impl Into<String>,
        kind: ColumnKind,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Column> {
        let name = name.into();
        let mut column = Column::from_origin("the values given", name, kind)?;
        values.into_iter().try_for_each(|value| column.push(value.into()))?;
        Ok(column)
    }

    /// A column without rows; `origin` says in errors where its values come from.
    pub(crate) fn from_origin(origin: &str, name: String, kind: ColumnKind) -> Result<Column> {
        if let Some(problem) = name_problem(&name) {
            return Err(Error::BadOption { option: "column", problem });
        }
        let origin = format!("{origin}, column {name}");
        Ok(Column { name, kind, origin, present: Vec::new(), data: Data::Nothing })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn kind(&self) -> ColumnKind {
        self.kind
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Adds the value of the next row.
    pub(crate) fn push(&mut self, value: Value) -> Result<()> {
        let nulls = self.len();
        self.present.push(!value.is_null());
        if let Data::Nothing = self.data {
            self.data = match (self.kind, &value) {
                (ColumnKind::Tag, Value::Tags(_)) => Data::Tags(Lists::after(nulls)),
                (ColumnKind::Tag, Value::Ids(_)) => Data::Ids(Lists::after(nulls)),
                (ColumnKind::Number | ColumnKind::Expires, Value::Integer(_)) => {
                    Data::Integers(vec![0; nulls])
                }
                (ColumnKind::Number, Value::Real(_)) => Data::Reals(vec![0.0; nulls]),
                (ColumnKind::Flag, Value::Flag(_)) => Data::Flags(vec![false; nulls]),
                (_, Value::Null) => return Ok(()),
                _ => return Err(self.bad_value(&value)),
            };
        }
        match (&mut self.data, value) {
            (Data::Tags(lists), Value::Tags(tags)) => lists.push(tags),
            (Data::Ids(lists), Value::Ids(ids)) => lists.push(ids),
            (Data::Integers(values), Value::Integer(value)) => values.push(value),
            (Data::Reals(values), Value::Real(value)) if (value as f32).is_finite() => {
                // Adding 0 makes 0 of -0, so that equal numbers have equal bytes.
                values.push(value as f32 + 0.0);
            }
            (Data::Flags(values), Value::Flag(value)) => values.push(value),
            (data, Value::Null) => data.push_null(),
            (_, value) => return Err(self.bad_value(&value)),
        }
        Ok(())
    }

    /// The error for the last row, whose value does not fit.
    fn bad_value(&self, value: &Value) -> Error {
        let found = match value {
            Value::Real(number) if number.is_nan() => {
                return self.bad_row("its number is NaN; leave it null, or give a number".to_owned());
            }
            Value::Real(number) if !(*number as f32).is_finite() => {
                return self.bad_row(format!("its number {number} is not finite as f32"));
            }
            Value::Null => "null",
            Value::Tags(_) => "a tag that is a string",
            Value::Ids(_) => "a tag that is a number",
            Value::Integer(_) => "an integer",
            Value::Real(_) => "a real number",
            Value::Flag(_) => "a flag",
        };
        let expected = match (&self.data, self.kind) {
            (Data::Tags(_), _) => "strings as the rows before",
            (Data::Ids(_), _) => "numbers (u64) as the rows before",
            (Data::Integers(_), ColumnKind::Number) => "integers as the rows before",
            (Data::Reals(_), _) => "reals as the rows before",
            (_, ColumnKind::Tag) => "tags, which are strings or u64",
            (_, ColumnKind::Number) => "numbers",
            (_, ColumnKind::Flag) => "flags, true or false",
            (_, ColumnKind::Expires) => "whole seconds since 1970",
        };
        self.bad_row(format!("its value is {found}; the column is of {expected}"))
    }

    fn bad_row(&self, problem: String) -> Error {
        let row = self.len().saturating_sub(1) as u64;
        Error::BadDump { origin: self.origin.clone(), row: Some(row), problem }
    }

    /// Refuses a column that has not one value for each of so many rows.
    pub(crate) fn check_rows(&self, rows: usize) -> Result<()> {
        match self.len() == rows {
            true => Ok(()),
            false => {
                let problem =
                    format!("it has {} values for the {rows} items; give each item one", self.len());
                Err(Error::BadDump { origin: self.origin.clone(), row: None, problem })
            }
        }
    }
}

impl Data {
    fn push_null(&mut self) {
        match self {
            Data::Nothing => {}
            Data::Tags(lists) => lists.push(Vec::new()),
            Data::Ids(lists) => lists.push(Vec::new()),
            Data::Integers(values) => values.push(0),
            Data::Reals(values) => values.push(0.0),
            Data::Flags(values) => values.push(false),
        }
    }
}

/// What keeps values from being logged: a name that no column can have, or a number that none can hold.
pub(crate) fn values_problem(values: &Values) -> Option<String> {
    values.iter().find_map(|(name, value)| {
        name_problem(name).or_else(|| match value {
            Value::Real(number) if !(*number as f32).is_finite() => {
                Some(format!("the number {number} of column {name} is not finite as f32"))
            }
            _ => None,
        })
    })
}

/// Refuses two columns of one name, and more than one with expiries.
pub(crate) fn check_columns(columns: &[Column]) -> Result<()> {
    let bad = |problem| Err(Error::BadOption { option: "column", problem });
    for (number, column) in columns.iter().enumerate() {
        let before = &columns[..number];
        if before.iter().any(|other| other.name == column.name) {
            return bad(format!("there are two columns {}; give each a name of its own", column.name));
        }
        let expires = |column: &Column| column.kind == ColumnKind::Expires;
        if let Some(other) = before.iter().find(|&other| expires(other) && expires(column)) {
            let problem = format!("{} and {} both say when items expire; give one", other.name, column.name);
            return bad(problem);
        }
    }
    Ok(())
}
