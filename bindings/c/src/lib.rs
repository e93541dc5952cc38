//! The C interface of itemdex. What a caller sees is `include/itemdex.h`, which cbindgen writes from this
//! source; the guide is `docs/c.md`.
//!
//! # Overview
//!
//! - `status` has what calls return, and what each error of the library becomes.
//! - `border` is what every call goes through: pointers are checked, panics are stopped, errors are kept.
//! - `growing` reads and writes structs whose size the caller names, so that they can grow.
//! - `index` opens what is asked; `shown` has filters and sets of items, `options` what a query may say, and
//!   `query` asks.
//! - `live` follows a catalog; `offline` builds and publishes, `columns` is what filters are made of.

mod border;
mod columns;
mod growing;
mod index;
mod live;
mod offline;
mod options;
mod query;
mod shown;
mod status;

use std::ffi::c_char;

/// The version of this interface that the header describes. It goes up when a program has to be compiled
/// anew: structs that grow and new functions leave it.
pub const ITEMDEX_ABI_VERSION: u32 = 1;

/// The version of the interface of the library that is loaded. Compare it with ITEMDEX_ABI_VERSION when a
/// program starts: where they differ, call nothing else. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn itemdex_abi_version() -> u32 {
    ITEMDEX_ABI_VERSION
}

/// The version of the library that is loaded, such as "0.1.0". Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn itemdex_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
