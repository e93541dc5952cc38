//! Columns to build into an index, and the values of fresh items.

use std::ffi::c_char;

use itemdex::{ColumnKind, Values};

use crate::border::{Failure, Result, text, values};
use crate::growing::{Growing, read_all};

/// Tags, one or many an item: all texts or all ids.
pub const ITEMDEX_COLUMN_TAG: u32 = 1;
/// A number an item: all integers or all reals, which are kept in 32 bits.
pub const ITEMDEX_COLUMN_NUMBER: u32 = 2;
/// True or false.
pub const ITEMDEX_COLUMN_FLAG: u32 = 3;
/// The second from which on an item is not shown, in whole seconds since 1970. An index has at most one
/// such column, and every query heeds it.
pub const ITEMDEX_COLUMN_EXPIRES: u32 = 4;

/// A column to build into an index: a value for each row, for filters. One of the arrays is set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Column {
    /// sizeof(itemdex_column)
    size: usize,
    /// The name: letters, digits, _ and .
    name: *const c_char,
    /// ITEMDEX_COLUMN_...
    kind: u32,
    /// Leave it 0.
    reserved: u32,
    /// Tags that are texts.
    texts: *const *const c_char,
    /// Tags that are numbers, such as the ids of authors.
    ids: *const u64,
    /// Whole numbers, or the seconds of expiries.
    integers: *const i64,
    /// Numbers that need not be whole.
    reals: *const f64,
    /// Flags, where anything but 0 is true.
    flags: *const u8,
    /// For tags: where the tags of each row end among the texts or ids, in ascending order. NULL for one
    /// tag a row.
    ends: *const usize,
    /// Not 0 for each row that has a value; the others are null. NULL where every row has one.
    present: *const u8,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Column {
    const NAME: &str = "itemdex_column";
    const FIRST: usize = 80;
}

/// The arrays of a column, each for the column's rows.
enum Array<'a> {
    Texts(&'a [*const c_char]),
    Ids(&'a [u64]),
    Integers(&'a [i64]),
    Reals(&'a [f64]),
    Flags(&'a [u8]),
}

impl Column {
    /// The column, of so many rows.
    ///
    /// # Safety
    /// The texts and arrays are NULL or as the header says.
    pub unsafe fn for_library(self, rows: usize) -> Result<itemdex::Column> {
        // SAFETY: as the caller promised.
        let name = unsafe { text(self.name, "name of a column") }?;
        let kind = match self.kind {
            ITEMDEX_COLUMN_TAG => ColumnKind::Tag,
            ITEMDEX_COLUMN_NUMBER => ColumnKind::Number,
            ITEMDEX_COLUMN_FLAG => ColumnKind::Flag,
            ITEMDEX_COLUMN_EXPIRES => ColumnKind::Expires,
            other => return Err(Failure::option("kind", format!("{other} is no ITEMDEX_COLUMN_..."))),
        };
        // SAFETY: as the caller promised.
        let (ends, present) = unsafe {
            let ends = if self.ends.is_null() { None } else { Some(values(self.ends, rows, "ends")?) };
            let present =
                if self.present.is_null() { None } else { Some(values(self.present, rows, "present")?) };
            (ends, present)
        };
        if ends.is_some_and(|ends| !ends.is_sorted()) {
            return Err(Failure::argument("ends", format!("those of the column {name} do not ascend")));
        }
        let length = ends.map_or(rows, |ends| ends.last().copied().unwrap_or(0));
        // SAFETY: as the caller promised.
        let array = unsafe { self.array(name, length) }?;
        let tags = |row: usize| match ends {
            Some(ends) => row.checked_sub(1).map_or(0, |before| ends[before])..ends[row],
            None => row..row + 1,
        };
        let value = |row: usize| match (present.is_none_or(|present| present[row] != 0), &array) {
            (false, _) => Ok(itemdex::Value::Null),
            (true, Array::Texts(texts)) => {
                // SAFETY: as the caller promised.
                let tag = |&tag: &*const c_char| unsafe { text(tag, "texts") }.map(str::to_owned);
                texts[tags(row)].iter().map(tag).collect::<Result<_>>().map(itemdex::Value::Tags)
            }
            (true, Array::Ids(ids)) => Ok(itemdex::Value::Ids(ids[tags(row)].to_vec())),
            (true, Array::Integers(integers)) => Ok(itemdex::Value::Integer(integers[row])),
            (true, Array::Reals(reals)) => Ok(itemdex::Value::Real(reals[row])),
            (true, Array::Flags(flags)) => Ok(itemdex::Value::Flag(flags[row] != 0)),
        };
        let mut failed = None;
        let read = (0..rows).map_while(|row| value(row).map_err(|failure| failed = Some(failure)).ok());
        let column = itemdex::Column::new(name, kind, read)?;
        failed.map_or(Ok(column), Err)
    }

    /// The array that is set.
    ///
    /// # Safety
    /// The arrays are NULL, or of this length and stay for `'a`.
    unsafe fn array<'a>(&self, name: &str, length: usize) -> Result<Array<'a>> {
        let set = [
            !self.texts.is_null(),
            !self.ids.is_null(),
            !self.integers.is_null(),
            !self.reals.is_null(),
            !self.flags.is_null(),
        ];
        let tags = !self.texts.is_null() || !self.ids.is_null();
        if !tags && !self.ends.is_null() {
            return Err(Failure::argument("ends", format!("the column {name} has no tags; leave it NULL")));
        }
        // SAFETY: as the caller promised.
        unsafe {
            match set {
                [true, false, false, false, false] => Ok(Array::Texts(values(self.texts, length, "texts")?)),
                [false, true, false, false, false] => Ok(Array::Ids(values(self.ids, length, "ids")?)),
                [false, false, true, false, false] => {
                    Ok(Array::Integers(values(self.integers, length, "integers")?))
                }
                [false, false, false, true, false] => Ok(Array::Reals(values(self.reals, length, "reals")?)),
                [false, false, false, false, true] => Ok(Array::Flags(values(self.flags, length, "flags")?)),
                _ => Err(Failure::argument("columns", format!("set one array of the column {name}"))),
            }
        }
    }
}

/// No value: what is not known.
pub const ITEMDEX_VALUE_NULL: u32 = 0;
/// Tags that are texts.
pub const ITEMDEX_VALUE_TEXTS: u32 = 1;
/// Tags that are numbers.
pub const ITEMDEX_VALUE_IDS: u32 = 2;
/// A whole number, or the second of an expiry.
pub const ITEMDEX_VALUE_INTEGER: u32 = 3;
/// A number that need not be whole.
pub const ITEMDEX_VALUE_REAL: u32 = 4;
/// True or false.
pub const ITEMDEX_VALUE_FLAG: u32 = 5;

/// What a fresh item has in one column.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    /// sizeof(itemdex_value)
    size: usize,
    /// The column's name.
    column: *const c_char,
    /// ITEMDEX_VALUE_...
    kind: u32,
    /// Of ITEMDEX_VALUE_FLAG: 0 for false.
    flag: u32,
    /// Of ITEMDEX_VALUE_TEXTS: count tags.
    texts: *const *const c_char,
    /// Of ITEMDEX_VALUE_IDS: count tags.
    ids: *const u64,
    /// How many tags there are.
    count: usize,
    /// Of ITEMDEX_VALUE_INTEGER.
    integer: i64,
    /// Of ITEMDEX_VALUE_REAL.
    real: f64,
}

// SAFETY: repr(C), the size first, integers, floats and pointers.
unsafe impl Growing for Value {
    const NAME: &str = "itemdex_value";
    const FIRST: usize = 64;
}

impl Value {
    /// # Safety
    /// The tags are NULL or as the header says.
    unsafe fn for_library(self) -> Result<itemdex::Value> {
        // SAFETY: as the caller promised.
        unsafe {
            match self.kind {
                ITEMDEX_VALUE_NULL => Ok(itemdex::Value::Null),
                ITEMDEX_VALUE_TEXTS => {
                    let texts = values(self.texts, self.count, "texts")?.iter();
                    let tags = texts.map(|&tag| text(tag, "texts").map(str::to_owned));
                    tags.collect::<Result<_>>().map(itemdex::Value::Tags)
                }
                ITEMDEX_VALUE_IDS => Ok(itemdex::Value::Ids(values(self.ids, self.count, "ids")?.to_vec())),
                ITEMDEX_VALUE_INTEGER => Ok(itemdex::Value::Integer(self.integer)),
                ITEMDEX_VALUE_REAL => Ok(itemdex::Value::Real(self.real)),
                ITEMDEX_VALUE_FLAG => Ok(itemdex::Value::Flag(self.flag != 0)),
                other => Err(Failure::option("kind", format!("{other} is no ITEMDEX_VALUE_..."))),
            }
        }
    }
}

/// The values of an item.
///
/// # Safety
/// The pointer is NULL, not aligned, or points to `count` values, which are as the header says.
pub(crate) unsafe fn item_values(pointer: *const Value, count: usize) -> Result<Values> {
    let mut read = Values::new();
    // SAFETY: as the caller promised.
    for value in unsafe { read_all(pointer, count, "values") }? {
        let value: Value = value?;
        // SAFETY: as the caller promised.
        let (column, value) = unsafe { (text(value.column, "column")?, value.for_library()?) };
        read.set(column, value);
    }
    Ok(read)
}
