//! Which interface, and which library, a program has loaded.

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
