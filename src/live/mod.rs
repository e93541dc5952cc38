//! Serving over time: a catalog of generations.
//!
//! A [`Catalog`] is a folder that offline jobs publish generations to, on one host or on several that share the folder.

mod catalog;

pub use catalog::{Catalog, Generation, PublishOptions};
