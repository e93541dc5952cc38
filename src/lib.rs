//! An embedded item index for two-tower recommenders: the embeddings of all items in one memory-mapped file,
//! searched and ranked by inner product.
//!
//! An offline job builds an index file from a dump. A serving process opens the file and asks two questions
//! for a user embedding: [`Index::search`] finds the best `k` of all items, and [`Index::rank`] gives the
//! exact order of candidates named by id. A score is the inner product in `f32`; higher is better.
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
//! # Overview
//!
//! - [`IndexBuilder`] writes an index file from a [`dump::Dump`] or from pairs of id and embedding.
//! - [`Index`] is an open file: `search`, `rank`, `score`, `get`, `verify`, `info`. [`OpenOptions`] decides
//!   whether it is mapped or copied into memory.
//! - [`SearchOptions`] and [`RankOptions`] say how a question is answered; [`Found`] and [`Ranked`] are the
//!   answers.
//! - [`RowHandles`] spare a rank the look-up of ids. [`Channel`] merges several recall channels into one
//!   rank.
//! - [`Filter`] keeps the items for which an [`Expression`] of their columns is true.
//! - [`live`] serves over time: a [`live::Catalog`] of generations, and a [`live::LiveIndex`] that follows it
//!   and takes fresh items.
//! - [`shards`] divides the items of a generation among several files, which several processes can hold.
//! - [`eval`] measures recall and speed.
//! - [`Error`] is the one error type. No call panics on what the caller gives it, unless its docs say so.
//!
//! The folder `docs/` of the repository has guides to serving, ranking and choosing parameters, the design,
//! and the file format.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `hnsw_rs`: a second builder, that of the `hnsw_rs` crate.
//! - `parquet`: reads dumps in parquet.
//! - `metrics`: reports what a [`live::LiveIndex`] does through the `metrics` crate.

#![deny(missing_docs, unsafe_code)]

mod assignment;
mod bloom;
mod build;
mod calibration;
mod columns;
pub mod dump;
mod error;
pub mod eval;
mod file;
mod graph;
mod ids;
mod index;
mod limits;
pub mod live;
mod partitions;
mod progress;
mod ranking;
mod row_set;
pub mod shards;
mod top;
mod vectors;

pub use assignment::{MAX_SHARDS, Shard, shard_of, split_by_shard};
pub use bloom::BloomFilter;
pub use build::{BuildReport, Choice, Estimate, IndexBuilder, Quantization, Trial};
pub use columns::{
    Column, ColumnInfo, ColumnKind, Expression, Filter, FlagColumn, Literal, NumberColumn, Parameters,
    TagColumn, Value, Values, flag, is_null, number, tag,
};
pub use error::{Error, Result};
pub use half::f16;
pub use index::{
    Builder, Candidates, Channel, ChannelHit, Dropped, Found, Index, Info, ItemSet, Items, MAX_CHANNELS,
    OpenOptions, Plan, RankOptions, Ranked, RankedChannels, Residency, RowHandles, SearchOptions, Shown,
};
pub use limits::MAX_DIM;
pub use progress::{Progress, Stage};
pub use top::Hit;
pub use vectors::{EmbeddingValue, MAX_NORM, Matrix, RowFormat};

/// The programs in the guides, compiled and run as tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/filters.md")]
    struct Filters;
    #[doc = include_str!("../docs/ranking.md")]
    struct Ranking;
    #[doc = include_str!("../docs/serving.md")]
    struct Serving;
}
