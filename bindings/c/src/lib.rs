//! The C interface of itemdex. What a caller sees is `include/itemdex.h`, which cbindgen writes from this
//! source; the guide is `docs/c.md`.
//!
//! # Overview
//!
//! - `version` says what a program has loaded; `status` has what calls return, and what each error of the
//!   library becomes.
//! - `border` is what every call goes through: pointers are checked, panics are stopped, errors are kept.
//! - `growing` reads and writes structs whose size the caller names, so that they can grow.
//! - `index` opens what is asked; `shown` has filters and sets of items, `options` what a query may say, and
//!   `query` asks; `rows` asks by what was looked up before; `kept` is the space of a thread's answers.
//! - `live` follows a catalog; `offline` builds and publishes, `columns` is what filters are made of.

#[cfg(test)]
mod allocations;
mod border;
mod columns;
mod growing;
mod index;
mod kept;
mod live;
mod offline;
mod options;
mod query;
mod rows;
mod shown;
mod status;
mod version;
