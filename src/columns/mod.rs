//! Columns and filters: what is known of items beside their embeddings, and which items may be shown.
//!
//! # Overview
//!
//! - [`Value`] is what an item has in a column, [`Values`] what it has in all of them.
//! - [`Column`] is what a build takes; [`Encoded`] is the same as the file has it. [`Entry`] names it in the
//!   file's directory.
//! - [`Columns`] are those of an index: their values, the rows that have expired, and whether they are sound.
//! - [`Expression`] says what an item must be; [`Columns::select`] finds the rows for which it is true, and a
//!   [`Filter`] keeps them.

mod check;
mod column;
mod directory;
mod encode;
mod expiry;
mod expression;
mod filter;
mod info;
mod parse;
mod select;
mod stored;
mod value;

pub use column::{Column, ColumnKind};
pub(crate) use column::{check_columns, values_problem};
pub(crate) use directory::{Entry, directory_problem};
pub(crate) use encode::Encoded;
pub(crate) use expiry::ExpiredRows;
pub use expression::{Expression, FlagColumn, Literal, NumberColumn, TagColumn, flag, is_null, number, tag};
pub use filter::Filter;
pub use info::ColumnInfo;
pub use parse::Parameters;
pub(crate) use stored::Columns;
pub use value::{Value, Values};
