//! The rows for which an expression is true.

use std::ops::Bound;

use super::Expression;
use super::directory::{Part, Type};
use super::expression::{Literal, MAX_DEPTH, Node, Scalar, within};
use super::stored::{Columns, Posting, Stored};
use crate::row_set::RowSet;
use crate::{Error, Result};

impl<'a> Columns<'a> {
    /// The rows for which an expression is true.
    ///
    /// # Errors
    /// [`Error::BadFilter`] where it names a column that is not there, or compares one with what it cannot
    /// hold.
    pub fn select(self, expression: &Expression) -> Result<RowSet> {
        self.rows_where(&expression.0, true)
    }

    /// The rows for which a node is true or, if that is wanted, false. Null is neither, so these are not all
    /// rows.
    fn rows_where(self, node: &Node, wanted: bool) -> Result<RowSet> {
        let (column, mut found) = match node {
            Node::Not(inner) => return self.rows_where(inner, !wanted),
            Node::And(nodes) => return self.joined(nodes, wanted, wanted),
            Node::Or(nodes) => return self.joined(nodes, wanted, !wanted),
            Node::TooDeep => return Err(bad(format!("it is nested deeper than {MAX_DEPTH}"))),
            Node::Null { column } => {
                let mut found = self.column(column)?.present();
                if wanted {
                    found = not(&found);
                }
                return Ok(found);
            }
            Node::Any { column, literals } => {
                let column = self.column(column)?.of(literals)?;
                (column, column.any(literals))
            }
            Node::All { column, literals } => {
                let column = self.column(column)?.of(literals)?;
                let mut found = column.present();
                literals.iter().for_each(|literal| found.keep(&column.any(std::slice::from_ref(literal))));
                (column, found)
            }
            Node::Range { column, low, high } => {
                let column = self.column(column)?;
                (column, column.range(low, high)?)
            }
        };
        if !wanted {
            let mut others = column.present();
            others.drop(&found);
            found = others;
        }
        Ok(found)
    }

    /// The rows where each, or some, of the nodes is as wanted.
    fn joined(self, nodes: &[Node], wanted: bool, each: bool) -> Result<RowSet> {
        let mut joined = if each { RowSet::all(self.rows) } else { RowSet::none(self.rows) };
        for node in nodes {
            let rows = self.rows_where(node, wanted)?;
            if each { joined.keep(&rows) } else { joined.add(&rows) }
        }
        Ok(joined)
    }

    fn column(self, name: &str) -> Result<Stored<'a>> {
        self.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name()).collect();
            bad(match names.is_empty() {
                true => format!("there is no column {name}: the index was built without columns"),
                false => format!("there is no column {name}, but {}", names.join(", ")),
            })
        })
    }
}

impl<'a> Stored<'a> {
    /// The rows that are not null.
    fn present(self) -> RowSet {
        let nulls: &[u64] = self.part(Part::Nulls);
        match nulls.is_empty() {
            true => RowSet::all(self.rows),
            false => RowSet::from_words(nulls.iter().map(|word| !word).collect(), self.rows),
        }
    }

    /// Itself, if it can be compared with all of the literals.
    fn of(self, literals: &[Literal]) -> Result<Stored<'a>> {
        literals.iter().try_for_each(|literal| self.check(literal)).map(|()| self)
    }

    fn check(self, literal: &Literal) -> Result<()> {
        let holds = match self.entry.kind() {
            Type::Tags => "tags that are strings",
            Type::Ids => "tags that are numbers (u64)",
            Type::Integers | Type::Reals => "numbers",
            Type::Expiries => "expiries, in seconds since 1970",
            Type::Flags => "flags",
        };
        let name = self.entry.name();
        match (self.entry.kind(), &literal.0) {
            (_, Scalar::Real(number)) if number.is_nan() => Err(bad(format!("{name} is compared with NaN"))),
            (Type::Tags, Scalar::Text(_)) | (Type::Ids, Scalar::Integer(_)) => Ok(()),
            (Type::Integers | Type::Reals | Type::Expiries, Scalar::Integer(_) | Scalar::Real(_)) => Ok(()),
            (Type::Flags, Scalar::Flag(_)) => Ok(()),
            // Without any tag nothing says which they would be.
            (Type::Tags | Type::Ids, Scalar::Text(_) | Scalar::Integer(_)) if self.entry.distinct == 0 => {
                Ok(())
            }
            (_, literal) => {
                Err(bad(format!("column {name} has {holds}; it cannot be compared with {literal}")))
            }
        }
    }

    /// The rows whose value, or one of whose tags, is one of the literals.
    fn any(self, literals: &[Literal]) -> RowSet {
        let mut words = vec![0u64; self.rows.div_ceil(64)];
        for literal in literals {
            match self.entry.kind() {
                Type::Tags | Type::Ids => {
                    if let Some(tag) = self.tag(literal) {
                        self.posting(tag).add_to(&mut words);
                    }
                }
                Type::Integers | Type::Reals | Type::Expiries => {
                    let bound = Bound::Included(literal.clone());
                    add(&mut words, self.rows_within(&bound, &bound));
                }
                Type::Flags => {
                    let flip = if literal.0 == Scalar::Flag(true) { 0 } else { u64::MAX };
                    let flags = self.part::<u64>(Part::Values);
                    words.iter_mut().zip(flags).for_each(|(word, flags)| *word |= flags ^ flip);
                }
            }
        }
        let mut found = RowSet::from_words(words, self.rows);
        if self.entry.nulls > 0 {
            found.keep(&self.present());
        }
        found
    }

    /// The number of a tag among the distinct ones.
    fn tag(self, literal: &Literal) -> Option<usize> {
        match &literal.0 {
            Scalar::Text(text) => {
                let (mut low, mut high) = (0, self.part::<u64>(Part::Values).len());
                while low < high {
                    let middle = low + (high - low) / 2;
                    match self.text(middle)?.cmp(text.as_bytes()) {
                        std::cmp::Ordering::Less => low = middle + 1,
                        std::cmp::Ordering::Greater => high = middle,
                        std::cmp::Ordering::Equal => return Some(middle),
                    }
                }
                None
            }
            Scalar::Integer(id) => {
                self.part::<u64>(Part::Values).binary_search(&u64::try_from(*id).ok()?).ok()
            }
            _ => None,
        }
    }

    /// The rows whose number lies within the bounds.
    fn range(self, low: &Bound<Literal>, high: &Bound<Literal>) -> Result<RowSet> {
        for bound in [low, high] {
            if let Bound::Included(literal) | Bound::Excluded(literal) = bound {
                self.check(literal)?;
            }
        }
        if !matches!(self.entry.kind(), Type::Integers | Type::Reals | Type::Expiries) {
            return Err(bad(format!("column {} has no numbers; ranges are of numbers", self.entry.name())));
        }
        let mut words = vec![0u64; self.rows.div_ceil(64)];
        add(&mut words, self.rows_within(low, high));
        Ok(RowSet::from_words(words, self.rows))
    }

    fn rows_within(self, low: &Bound<Literal>, high: &Bound<Literal>) -> &'a [u32] {
        let order: &[u32] = self.part(Part::Order);
        let is_within = |row, low: &_, high: &_| within(&self.number(row), low, high) == Some(true);
        let start = order.partition_point(|&row| !is_within(row, low, &Bound::Unbounded));
        let end = order.partition_point(|&row| is_within(row, &Bound::Unbounded, high));
        order.get(start..end).unwrap_or_default()
    }
}

impl Posting<'_> {
    fn add_to(&self, words: &mut [u64]) {
        match self {
            Posting::List(rows) => add(words, rows),
            Posting::Bits(bits) => {
                let pairs = bits.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32);
                words.iter_mut().zip(pairs).for_each(|(word, bits)| *word |= bits);
            }
        }
    }
}

/// Sets the bits of rows; those that are none of the index are left out.
fn add(words: &mut [u64], rows: &[u32]) {
    for &row in rows {
        if let Some(word) = words.get_mut(row as usize / 64) {
            *word |= 1 << (row % 64);
        }
    }
}

fn bad(problem: String) -> Error {
    Error::BadFilter { problem }
}

fn not(rows: &RowSet) -> RowSet {
    let mut others = RowSet::all(rows.rows());
    others.drop(rows);
    others
}
