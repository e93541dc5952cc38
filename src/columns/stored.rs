//! The columns of an index as they stand in its file.

use bytemuck::Pod;

use super::directory::{Entry, NO_TAG, Part, Type};
use super::value::{Value, Values};

/// How many `u32` a bit for each row takes, in whole `u64`.
pub(super) fn bitmap_length(rows: usize) -> usize {
    rows.div_ceil(64) * 2
}

/// Whether the rows of a tag are stored as a bit for each row, which then takes no more than a list.
pub(super) fn is_dense(count: usize, rows: usize) -> bool {
    count * 32 >= rows
}

/// The bits of some rows, row 0 in the lowest bit of the first word.
pub(super) fn words_of(bits: impl ExactSizeIterator<Item = bool>) -> Vec<u64> {
    let mut words = vec![0; bits.len().div_ceil(64)];
    bits.enumerate().for_each(|(row, bit)| words[row / 64] |= u64::from(bit) << (row % 64));
    words
}

/// The columns of an index.
///
/// Their entries were checked when the file was opened, and nothing that they lead to. So what is read here may
/// be anything, and is bounds-checked.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub entries: &'a [Entry],
    /// The section that the entries lead into.
    pub bytes: &'a [u8],
    pub rows: usize,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub entry: &'a Entry,
    bytes: &'a [u8],
    pub rows: usize,
}

/// The rows that have a tag.
pub(super) enum Posting<'a> {
    List(&'a [u32]),
    /// A bit for each row.
    Bits(&'a [u32]),
}

impl<'a> Columns<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = Stored<'a>> {
        let Columns { entries, bytes, rows } = self;
        entries.iter().map(move |entry| Stored { entry, bytes, rows })
    }

    pub(super) fn get(self, name: &str) -> Option<Stored<'a>> {
        self.iter().find(|column| column.entry.name() == name)
    }

    /// Whether there is a column that says when items expire.
    pub fn expire(self) -> bool {
        self.expiries().is_some()
    }

    /// The column that says when items expire.
    pub(super) fn expiries(self) -> Option<Stored<'a>> {
        self.iter().find(|column| column.entry.kind() == Type::Expiries)
    }

    /// Whether one of the values is of a column that there is.
    pub fn has_any(self, values: &Values) -> bool {
        values.iter().any(|(name, _)| self.get(name).is_some())
    }

    /// The values that an item with these has here: every column is named, and what does not fit is null.
    pub fn fitted(self, values: &Values) -> Values {
        let mut fitted = Values::new();
        self.iter().for_each(|column| {
            let name = column.entry.name();
            fitted.set(name, column.fitted(values.get(name)));
        });
        fitted
    }

    /// Replaces those of an item's values that others name, by what they are here.
    pub fn replace(self, values: &mut Values, others: &Values) {
        for (name, value) in others.iter() {
            if let Some(column) = self.get(name) {
                values.set(name, column.fitted(value));
            }
        }
    }

    /// The second since 1970 from which on an item with these values is not shown.
    pub fn expiry_of(self, values: &Values) -> Option<i64> {
        match values.get(self.expiries()?.entry.name()) {
            Value::Integer(second) => Some(*second),
            _ => None,
        }
    }

    /// The values of a row; every column is named.
    pub fn values(self, row: u32) -> Values {
        let mut values = Values::new();
        self.iter().for_each(|column| values.set(column.entry.name(), column.value(row)));
        values
    }
}

impl<'a> Stored<'a> {
    /// The values of a part; none where the file has changed and they do not lie in it any more.
    pub fn part<T: Pod>(self, part: Part) -> &'a [T] {
        let place = self.entry.parts[part as usize];
        let end = place.offset.saturating_add(place.length);
        let bytes = self.bytes.get(place.offset as usize..end as usize).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }

    pub fn is_null(self, row: u32) -> bool {
        bit(self.part(Part::Nulls), row)
    }

    /// The value of a row.
    pub fn value(self, row: u32) -> Value {
        if self.is_null(row) {
            return Value::Null;
        }
        match self.entry.kind() {
            Type::Tags => {
                let text = |&tag: &u32| Some(String::from_utf8_lossy(self.text(tag as usize)?).into_owned());
                Value::Tags(self.row_tags(row).iter().filter_map(text).collect())
            }
            Type::Ids => {
                let ids = self.part::<u64>(Part::Values);
                let tags = self.row_tags(row).iter();
                Value::Ids(tags.filter_map(|&tag| ids.get(tag as usize).copied()).collect())
            }
            Type::Flags => Value::Flag(self.flag(row)),
            Type::Integers | Type::Reals | Type::Expiries => self.number(row),
        }
    }

    /// A value as the column would have it; null where it does not fit.
    fn fitted(self, value: &Value) -> Value {
        match (self.entry.kind(), value) {
            (Type::Tags, Value::Tags(tags)) => Value::Tags(sorted(tags)),
            (Type::Ids, Value::Ids(ids)) => Value::Ids(sorted(ids)),
            // Without any tag the column does not know yet which kind it has.
            (Type::Tags, Value::Ids(ids)) if self.entry.distinct == 0 => Value::Ids(sorted(ids)),
            (Type::Reals, Value::Real(number)) => Value::Real((*number as f32 + 0.0).into()),
            // Nor does one without any number.
            (Type::Reals, Value::Integer(_)) if self.entry.distinct == 0 => value.clone(),
            (Type::Reals, Value::Integer(number)) => Value::Real((*number as f32).into()),
            (Type::Integers | Type::Expiries, Value::Integer(_)) | (Type::Flags, Value::Flag(_)) => {
                value.clone()
            }
            _ => Value::Null,
        }
    }

    /// The number of a row that is not null.
    pub fn number(self, row: u32) -> Value {
        let row = row as usize;
        match self.entry.kind() {
            Type::Reals => self
                .part::<f32>(Part::Values)
                .get(row)
                .map_or(Value::Null, |&number| Value::Real(number.into())),
            _ => {
                self.part::<i64>(Part::Values).get(row).map_or(Value::Null, |&number| Value::Integer(number))
            }
        }
    }

    /// The flag of a row that is not null.
    pub fn flag(self, row: u32) -> bool {
        bit(self.part(Part::Values), row)
    }

    /// The text of a tag, which is UTF-8 in a sound file.
    pub fn text(self, tag: usize) -> Option<&'a [u8]> {
        self.part::<u8>(Part::Texts).get(range(self.part(Part::Values), tag)?)
    }

    /// The tags of a row by their numbers.
    pub fn row_tags(self, row: u32) -> &'a [u32] {
        let (ends, tags) = (self.part(Part::RowEnds), self.part::<u32>(Part::RowTags));
        let row = row as usize;
        let range = match self.entry.parts[Part::RowEnds as usize].length {
            0 => Some(row..row + usize::from(tags.get(row).is_some_and(|&tag| tag != NO_TAG))),
            _ => range(ends, row),
        };
        range.and_then(|range| tags.get(range)).unwrap_or_default()
    }

    /// The rows that have a tag.
    pub fn posting(self, tag: usize) -> Posting<'a> {
        let rows = range(self.part(Part::PostingEnds), tag)
            .and_then(|range| self.part::<u32>(Part::Postings).get(range))
            .unwrap_or_default();
        match rows.len() == bitmap_length(self.rows) {
            true => Posting::Bits(rows),
            false => Posting::List(rows),
        }
    }
}

fn sorted<T: Ord + Clone>(tags: &[T]) -> Vec<T> {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// The place of a part among parts that follow each other.
pub(super) fn range(ends: &[u64], number: usize) -> Option<std::ops::Range<usize>> {
    let start = match number {
        0 => 0,
        _ => *ends.get(number - 1)?,
    };
    Some(start as usize..*ends.get(number)? as usize)
}

/// Whether the bit of a row is set.
fn bit(words: &[u64], row: u32) -> bool {
    words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
}
