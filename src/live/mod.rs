//! Serving over time: generations, model versions, fresh items.
//!
//! A [`Catalog`] is a folder that offline jobs publish generations to, on one host or on several that share the
//! folder. A [`LiveIndex`] follows it in a serving process, hands out a [`View`] for each request, and lays fresh
//! items over the generations. The guide to running it is `docs/serving.md` in the repository.
//!
//! Its rooms, from the lowest up; imports go down only. `change`, `lock`: what a change is. `log`, `catalog`: what
//! is on disk. `overlay`: fresh items in memory. `view`: both under one name, for a request. `recall`, `serving`,
//! `pending`: what is handed out. `fresh`: the thread that logs changes. `status`, `meters`: what is told.
//! `follower`: the thread that follows the catalog. `options`, `live_index`: the way in.

mod catalog;
mod change;
mod faults;
mod follower;
mod fresh;
mod live_index;
mod lock;
mod log;
#[cfg(feature = "metrics")]
mod meters;
#[cfg(test)]
mod model;
mod options;
mod overlay;
mod pending;
mod recall;
mod serving;
mod status;
#[cfg(test)]
mod tests;
mod view;

pub use catalog::{Catalog, Generation, PublishOptions, Reservation, Retention, ShardFile, StagedShard};
pub(crate) use catalog::{check_alike, check_ids};
pub use change::{Batch, Change};
pub use live_index::LiveIndex;
pub use log::SyncPolicy;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::fuzz as fuzz_log;
pub use options::LiveOptions;
pub use pending::{Applied, Pending};
pub use status::{GenerationStatus, Status};
pub use view::{View, ViewRows};
