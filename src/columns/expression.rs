//! Expressions: what an item must be for a filter to keep it.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{BitAnd, BitOr, Bound, Not};

use super::value::{Value, Values};

/// How deep expressions may be nested.
pub(super) const MAX_DEPTH: usize = 100;

/// What an item must be for a filter to keep it: comparisons of its columns, joined by `&`, `|` and `!`.
///
/// Made by [`tag`], [`number`], [`flag`] and [`is_null`], or read from a text by
/// [`Expression::parse`](Expression::parse). An [`Index`](crate::Index::filter) makes a filter of it.
///
/// ```
/// use itemdex::{number, tag};
///
/// let blocked = [17u64, 99];
/// let shown = tag("region").any(["JP", "US"]) & !tag("author").any(blocked) & number("price").at_most(1000.0);
/// ```
///
/// A comparison with null is neither true nor false but null, and so is its negation. `&` and `|` go by
/// Kleene's logic: null and false is false, null or true is true. A filter keeps the items for which the whole
/// is true.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression(pub(super) Node);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// The value is one of these, which are in order; of many tags, one of them is.
    Any {
        column: String,
        literals: Vec<Literal>,
    },
    /// All of these are among the tags.
    All {
        column: String,
        literals: Vec<Literal>,
    },
    /// The number lies within these bounds.
    Range {
        column: String,
        low: Bound<Literal>,
        high: Bound<Literal>,
    },
    /// There is no value.
    Null {
        column: String,
    },
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// Stands for what was nested too deep to be worked on.
    TooDeep,
}

/// A value that an expression compares with: made from `&str`, `String`, `bool` and all numbers but `u128`.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal(pub(super) Scalar);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Integer(i128),
    Real(f64),
    Flag(bool),
}

macro_rules! literals_from {
    ($($from:ty: $value:ident => $made:expr),* $(,)?) => {
        $(impl From<$from> for Literal {
            fn from($value: $from) -> Literal {
                Literal($made)
            }
        })*
    };
}

literals_from! {
    &str: text => Scalar::Text(text.to_owned()),
    &String: text => Scalar::Text(text.clone()),
    String: text => Scalar::Text(text),
    i32: number => Scalar::Integer(number.into()),
    u32: number => Scalar::Integer(number.into()),
    i64: number => Scalar::Integer(number.into()),
    u64: number => Scalar::Integer(number.into()),
    &u64: number => Scalar::Integer((*number).into()),
    f32: number => Scalar::Real(number.into()),
    f64: number => Scalar::Real(number),
    bool: flag => Scalar::Flag(flag),
}

/// A column of tags, to be compared.
pub fn tag(column: impl Into<String>) -> TagColumn {
    TagColumn(column.into())
}

/// A column of numbers, to be compared. The column of expiries is one too.
pub fn number(column: impl Into<String>) -> NumberColumn {
    NumberColumn(column.into())
}

/// A column of flags, to be compared.
pub fn flag(column: impl Into<String>) -> FlagColumn {
    FlagColumn(column.into())
}

/// An item has no value in a column. This is true or false for every item, never null.
pub fn is_null(column: impl Into<String>) -> Expression {
    Expression(Node::Null { column: column.into() })
}

/// A column of tags, made by [`tag`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagColumn(String);

impl TagColumn {
    /// At least one of the item's tags is one of these.
    pub fn any<T: Into<Literal>>(self, tags: impl IntoIterator<Item = T>) -> Expression {
        Expression(Node::any(self.0, tags.into_iter().map(Into::into).collect()))
    }

    /// Each of these is a tag of the item.
    pub fn all<T: Into<Literal>>(self, tags: impl IntoIterator<Item = T>) -> Expression {
        Expression(Node::All { column: self.0, literals: tags.into_iter().map(Into::into).collect() })
    }

    /// None of these is a tag of the item: the negation of [`TagColumn::any`].
    pub fn none<T: Into<Literal>>(self, tags: impl IntoIterator<Item = T>) -> Expression {
        !self.any(tags)
    }

    /// This is a tag of the item.
    pub fn is(self, tag: impl Into<Literal>) -> Expression {
        self.any([tag])
    }
}

/// A column of numbers, made by [`number`].
///
/// In a column of reals numbers are compared as `f32`, the bound rounded as the column was; in a column of
/// integers they are compared exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberColumn(String);

impl NumberColumn {
    /// The number is this or greater.
    pub fn at_least(self, least: impl Into<Literal>) -> Expression {
        self.within(Bound::Included(least.into()), Bound::Unbounded)
    }

    /// The number is this or less.
    pub fn at_most(self, most: impl Into<Literal>) -> Expression {
        self.within(Bound::Unbounded, Bound::Included(most.into()))
    }

    /// The number is greater.
    pub fn above(self, bound: impl Into<Literal>) -> Expression {
        self.within(Bound::Excluded(bound.into()), Bound::Unbounded)
    }

    /// The number is less.
    pub fn below(self, bound: impl Into<Literal>) -> Expression {
        self.within(Bound::Unbounded, Bound::Excluded(bound.into()))
    }

    /// The number is one of these two or lies between them.
    pub fn between(self, least: impl Into<Literal>, most: impl Into<Literal>) -> Expression {
        self.within(Bound::Included(least.into()), Bound::Included(most.into()))
    }

    /// The number is this.
    pub fn is(self, number: impl Into<Literal>) -> Expression {
        Expression(Node::any(self.0, vec![number.into()]))
    }

    fn within(self, low: Bound<Literal>, high: Bound<Literal>) -> Expression {
        Expression(Node::Range { column: self.0, low, high })
    }
}

/// A column of flags, made by [`flag`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagColumn(String);

impl FlagColumn {
    /// The flag is this.
    pub fn is(self, flag: bool) -> Expression {
        Expression(Node::any(self.0, vec![flag.into()]))
    }

    /// The flag is true.
    pub fn is_true(self) -> Expression {
        self.is(true)
    }
}

impl Not for Expression {
    type Output = Expression;

    fn not(self) -> Expression {
        match self.0 {
            Node::Not(inner) => Expression(*inner),
            node => Expression(Node::Not(Box::new(node)).bounded()),
        }
    }
}

impl BitAnd for Expression {
    type Output = Expression;

    fn bitand(self, other: Expression) -> Expression {
        let nodes = chained(self.0, other.0, |node| match node {
            Node::And(inner) => Ok(inner),
            node => Err(node),
        });
        Expression(Node::And(nodes).bounded())
    }
}

impl BitOr for Expression {
    type Output = Expression;

    fn bitor(self, other: Expression) -> Expression {
        let nodes = chained(self.0, other.0, |node| match node {
            Node::Or(inner) => Ok(inner),
            node => Err(node),
        });
        Expression(Node::Or(nodes).bounded())
    }
}

/// The two nodes, those of a chain by themselves, so that long chains do not nest.
fn chained(first: Node, second: Node, links: impl Fn(Node) -> Result<Vec<Node>, Node>) -> Vec<Node> {
    let mut nodes = links(first).unwrap_or_else(|node| vec![node]);
    nodes.extend(links(second).unwrap_or_else(|node| vec![node]));
    nodes
}

impl Expression {
    /// Whether an item with these values is kept.
    pub(crate) fn accepts(&self, values: &Values) -> bool {
        self.0.truth(values) == Some(true)
    }
}

impl Node {
    pub fn any(column: String, mut literals: Vec<Literal>) -> Node {
        literals.sort_by(|a, b| a.0.order(&b.0));
        literals.dedup();
        Node::Any { column, literals }
    }

    /// Itself, or `TooDeep` in its place. What is replaced is no deeper than can be dropped safely.
    fn bounded(self) -> Node {
        if self.depth() > MAX_DEPTH { Node::TooDeep } else { self }
    }

    fn depth(&self) -> usize {
        match self {
            Node::Not(inner) => 1 + inner.depth(),
            Node::And(nodes) | Node::Or(nodes) => 1 + nodes.iter().map(Node::depth).max().unwrap_or(0),
            _ => 1,
        }
    }

    /// Whether it is true of an item with these values; `None` if that is null.
    fn truth(&self, values: &Values) -> Option<bool> {
        match self {
            Node::Any { column, literals } => is_any(values.get(column), literals),
            Node::All { column, literals } => {
                join(literals.iter().map(|literal| equals(values.get(column), literal)), false)
                    .filter(|_| !values.get(column).is_null())
            }
            Node::Range { column, low, high } => within(values.get(column), low, high),
            Node::Null { column } => Some(values.get(column).is_null()),
            Node::Not(inner) => inner.truth(values).map(|truth| !truth),
            Node::And(nodes) => join(nodes.iter().map(|node| node.truth(values)), false),
            Node::Or(nodes) => join(nodes.iter().map(|node| node.truth(values)), true),
            Node::TooDeep => None,
        }
    }
}

/// Kleene's conjunction, where `decisive` is false, or disjunction, where it is true.
fn join(truths: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut joined = Some(!decisive);
    for truth in truths {
        match truth {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => joined = None,
        }
    }
    joined
}

/// Whether a value is, or has among its tags, one of the literals, which are in order.
fn is_any(value: &Value, literals: &[Literal]) -> Option<bool> {
    let has = |order: &dyn Fn(&Scalar) -> Option<Ordering>| {
        literals.binary_search_by(|literal| order(&literal.0).unwrap_or(Ordering::Less)).is_ok()
    };
    let text = |tag: &String| {
        has(&|scalar| match scalar {
            Scalar::Text(text) => Some(text.cmp(tag)),
            _ => None,
        })
    };
    let id = |tag: &u64| {
        has(&|scalar| match scalar {
            Scalar::Integer(id) => Some(id.cmp(&i128::from(*tag))),
            _ => None,
        })
    };
    let fits = |kind: fn(&Scalar) -> bool| literals.iter().all(|literal| kind(&literal.0));
    match value {
        Value::Null => None,
        Value::Tags(tags) if fits(|scalar| matches!(scalar, Scalar::Text(_))) => Some(tags.iter().any(text)),
        Value::Ids(ids) if fits(|scalar| matches!(scalar, Scalar::Integer(_))) => Some(ids.iter().any(id)),
        value => join(literals.iter().map(|literal| equals(value, literal)), true),
    }
}

/// Whether a value is, or has among its tags, the literal; `None` for null and for values of another kind.
fn equals(value: &Value, literal: &Literal) -> Option<bool> {
    match (value, &literal.0) {
        (Value::Tags(tags), Scalar::Text(text)) => Some(tags.contains(text)),
        (Value::Ids(ids), Scalar::Integer(id)) => Some(ids.iter().any(|&tag| i128::from(tag) == *id)),
        (Value::Flag(value), Scalar::Flag(flag)) => Some(value == flag),
        (Value::Tags(tags), _) if tags.is_empty() => Some(false),
        (Value::Ids(ids), _) if ids.is_empty() => Some(false),
        _ => compare(value, literal).map(Ordering::is_eq),
    }
}

pub(super) fn within(value: &Value, low: &Bound<Literal>, high: &Bound<Literal>) -> Option<bool> {
    let above = match low {
        Bound::Included(low) => compare(value, low)?.is_ge(),
        Bound::Excluded(low) => compare(value, low)?.is_gt(),
        Bound::Unbounded => true,
    };
    let below = match high {
        Bound::Included(high) => compare(value, high)?.is_le(),
        Bound::Excluded(high) => compare(value, high)?.is_lt(),
        Bound::Unbounded => true,
    };
    Some(above && below)
}

/// Where a number stands to the literal; `None` where one of them is none.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, &literal.0) {
        (Value::Integer(value), Scalar::Integer(bound)) => Some(i128::from(*value).cmp(bound)),
        (Value::Integer(value), Scalar::Real(bound)) => compare_integer(*value, *bound),
        (Value::Real(value), Scalar::Integer(bound)) => (*value as f32).partial_cmp(&(*bound as f32)),
        (Value::Real(value), Scalar::Real(bound)) => (*value as f32).partial_cmp(&(*bound as f32)),
        _ => None,
    }
}

/// Compares exactly, though an `f64` has fewer digits than an `i64`.
fn compare_integer(value: i64, bound: f64) -> Option<Ordering> {
    let whole = bound.floor();
    if bound.is_nan() {
        return None;
    }
    // Beyond 2^63 an `f64` is greater than every `i64`, and the cast keeps all the values between.
    let below = i128::from(value).cmp(&(whole as i128));
    Some(if below.is_eq() && bound > whole { Ordering::Less } else { below })
}

impl Scalar {
    /// An order of all literals, by their kinds first.
    fn order(&self, other: &Scalar) -> Ordering {
        let kind = |scalar: &Scalar| match scalar {
            Scalar::Text(_) => 0,
            Scalar::Integer(_) => 1,
            Scalar::Real(_) => 2,
            Scalar::Flag(_) => 3,
        };
        match (self, other) {
            (Scalar::Text(a), Scalar::Text(b)) => a.cmp(b),
            (Scalar::Integer(a), Scalar::Integer(b)) => a.cmp(b),
            (Scalar::Real(a), Scalar::Real(b)) => a.total_cmp(b),
            (Scalar::Flag(a), Scalar::Flag(b)) => a.cmp(b),
            (a, b) => kind(a).cmp(&kind(b)),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => write!(f, "the text {text:?}"),
            Scalar::Integer(number) => write!(f, "the integer {number}"),
            Scalar::Real(number) => write!(f, "the number {number}"),
            Scalar::Flag(flag) => write!(f, "{flag}"),
        }
    }
}
