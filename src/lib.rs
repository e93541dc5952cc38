//! An embedded item index for two-tower recommenders: item embeddings in one memory-mapped file, searched and
//! ranked by inner product.
//!
//! An offline job builds an index file from a dump; a serving process opens it and asks, for each user embedding,
//! for the best items of the whole index ([`Index::search`]) or for the exact order of candidates ([`Index::rank`]).
//!
//! ```
//! use itemdex::{Index, IndexBuilder, SearchOptions};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("items.itemdex");
//! let items = (0..5_000u64).map(|id| (id * 31, [(id as f32).sin(), (id as f32).cos(), 1.0]));
//! IndexBuilder::new("2026-11-23").build_from(items, &path)?;
//!
//! let index = Index::open(&path)?;
//! let user = [0.6, 0.8, 0.1];
//! let ranked = index.rank(&user, &[31, 62, 93, 94], 2)?;
//! assert_eq!((ranked.hits.len(), ranked.unknown), (2, vec![94]));
//!
//! let best = index.search_with(&user, &SearchOptions::new(10).ef(200))?.hits;
//! assert!(best[0].score >= ranked.hits[0].score);
//! # Ok::<(), itemdex::Error>(())
//! ```
//!
//! The folder `docs/` of the repository has the design, the file format, and guides to serving and to choosing parameters.
//!
//! # Features
//!
//! - `hnsw_rs` (default): the choice of building with the `hnsw_rs` crate.
//! - `parquet`: dumps in parquet.
//! - `metrics`: what a [`live::LiveIndex`] does, as metrics of the `metrics` crate.
//! - `cli` (default): what the `itemdex` binary needs beside.

#![deny(missing_docs, unsafe_code)]

mod build;
mod calibration;
mod channels;
pub mod dump;
mod error;
pub mod eval;
mod file;
mod graph;
mod ids;
mod index;
pub mod live;
#[allow(dead_code, unused_imports, reason = "not in the file yet")]
mod partitions;
mod progress;
mod rank;
mod top;
mod vectors;

pub use build::{BuildReport, IndexBuilder, Quantization};
pub use channels::{Channel, ChannelHit, MAX_CHANNELS, RankedChannels};
pub use error::{Error, Result};
pub use index::{Builder, Found, Index, Info, OpenOptions, Plan, Residency, SearchOptions};
pub use progress::{Progress, Stage};
pub use rank::{Candidates, RankOptions, Ranked, RowHandles};
pub use top::Hit;
pub use vectors::{MAX_NORM, Matrix};

/// The programs in the guides, compiled and run as tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/ranking.md")]
    struct Ranking;
    #[doc = include_str!("../docs/serving.md")]
    struct Serving;
}
