//! Columns and filters: what is known of items beside their embeddings, and which items may be shown.
//!
//! - [`Value`] is what an item has in a column, [`Values`] what it has in all of them.
//! - [`Expression`] says what an item must be; [`Filter`] is the set of rows for which it is true.

mod expression;
mod filter;
mod value;

pub use expression::{Expression, FlagColumn, Literal, NumberColumn, TagColumn, flag, is_null, number, tag};
pub use filter::Filter;
pub use value::{Value, Values};
