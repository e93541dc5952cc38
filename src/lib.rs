//! An embedded item index for two-tower recommenders.

#![deny(missing_docs, unsafe_code)]
// Without a builder an index can be read, and what writes one stands idle.
#![cfg_attr(not(feature = "hnsw_rs"), allow(dead_code, unused_imports))]

#[cfg(feature = "hnsw_rs")]
mod build;
pub mod dump;
mod error;
pub mod eval;
mod file;
mod graph;
mod ids;
mod index;
mod top;
mod vectors;

#[cfg(feature = "hnsw_rs")]
pub use build::{BuildReport, IndexBuilder, Progress, Stage};
pub use error::{Error, Result};
pub use index::{Index, Info, Ranked, SearchOptions};
pub use top::Hit;
pub use vectors::{MAX_NORM, Matrix};
