//! Serving over time: generations, model versions, fresh items.
//!
//! A [`Catalog`] is a folder that offline jobs publish generations to, on one host or on several that share the folder. A
//! [`LiveIndex`] follows it in a serving process, hands out a [`View`] for each request, and lays fresh items over the
//! generations. The guide to running it is `docs/serving.md` in the repository.

mod catalog;
mod fresh;
mod live_index;
mod log;
#[cfg(feature = "metrics")]
mod meters;
mod overlay;
mod recall;
mod view;

pub use catalog::{Catalog, Generation, PublishOptions};
pub use live_index::{GenerationStatus, LiveIndex, LiveOptions, Status};
pub use log::SyncPolicy;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::fuzz as fuzz_log;
pub use view::View;
