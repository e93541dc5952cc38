use std::collections::BTreeMap;

/// What an item has in one column.
///
/// Most calls that take a value take whatever it can be made from: `&str`, `String`, `u64`, `bool`, `f32`,
/// `f64`, `i32`, `i64`, arrays and vectors of `&str`, `String` and `u64`, and an `Option` of these, whose
/// `None` is null. A `u64` is a tag; other numbers are numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// It has none: what is not known. No comparison with null is true.
    #[default]
    Null,
    /// Tags that are strings. An empty list is no null: the item is known to have no tags.
    Tags(Vec<String>),
    /// Tags that are numbers, such as the ids of authors.
    Ids(Vec<u64>),
    /// A whole number.
    Integer(i64),
    /// A number that need not be whole. Columns hold it as `f32`.
    Real(f64),
    /// True or false.
    Flag(bool),
}

impl Value {
    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }
}

macro_rules! values_from {
    ($($from:ty: $value:ident => $made:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Value {
                $made
            }
        })*
    };
}

values_from! {
    &str: tag => Value::Tags(vec![tag.to_owned()]),
    String: tag => Value::Tags(vec![tag]),
    Vec<String>: tags => Value::Tags(tags),
    Vec<&str>: tags => Value::Tags(tags.into_iter().map(str::to_owned).collect()),
    u64: id => Value::Ids(vec![id]),
    Vec<u64>: ids => Value::Ids(ids),
    i32: number => Value::Integer(number.into()),
    i64: number => Value::Integer(number),
    f32: number => Value::Real(number.into()),
    f64: number => Value::Real(number),
    bool: flag => Value::Flag(flag),
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(tags: [&str; N]) -> Value {
        Value::Tags(tags.map(str::to_owned).into())
    }
}

impl<const N: usize> From<[u64; N]> for Value {
    fn from(ids: [u64; N]) -> Value {
        Value::Ids(ids.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// The values of one item, by the names of their columns. A column that is not named is null.
///
/// ```
/// use itemdex::{Value, Values};
///
/// let values = Values::new().with("region", ["JP", "US"]).with("price", 12.5).with("new", true);
/// assert_eq!(values.get("price"), &Value::Real(12.5));
/// assert_eq!(values.get("author"), &Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// No values: every column is null.
    pub fn new() -> Values {
        Values::default()
    }

    /// The same with a value for a column, in place of the one before.
    pub fn with(mut self, column: impl Into<String>, value: impl Into<Value>) -> Values {
        self.set(column, value);
        self
    }

    /// Sets the value of a column.
    pub fn set(&mut self, column: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(column.into(), value.into());
    }

    /// The value of a column; null if it is not named.
    pub fn get(&self, column: &str) -> &Value {
        self.0.get(column).unwrap_or(&Value::Null)
    }

    /// The named columns and their values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(column, value)| (column.as_str(), value))
    }

    /// Whether no column is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
