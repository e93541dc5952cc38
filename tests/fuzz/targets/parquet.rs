#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(
    init: {
        // Panics of the parquet crate, which the library catches, are no findings; others still end the run.
        std::panic::set_hook(Box::new(|_| ()));
    },
    |bytes: &[u8]| harness::dump("parquet", bytes)
);
