//! The items of one generation in several files, and answers as of one index that holds all.
//!
//! Each item belongs to one shard by a fixed hash of its id ([`shard_of`](crate::shard_of)). A catalog publishes
//! all shards of a generation at one instant
//! ([`Catalog::publish_shards`](crate::live::Catalog::publish_shards)). A [`ShardedIndex`] holds them in one
//! process, and a [`ShardedLive`] follows the catalog. Processes that hold a shard each open it with
//! [`LiveOptions::shard`](crate::live::LiveOptions::shard); whoever asks them merges their answers with the
//! functions here: [`merge_found`], [`merge_ranked`], [`merge_channels`]. The guide is `docs/scale.md` in the
//! repository.
//!
//! Its rooms, from the lowest up: `merge`, then `part`: what one shard answers; `request`: what is asked; `sharded`
//! and `rank`: what all of them answer; `live`: over time.

mod live;
mod merge;
mod part;
mod rank;
mod request;
mod sharded;

pub use live::ShardedLive;
pub use merge::{Quota, merge_channels, merge_found, merge_ranked, share_of, to_ask_again};
pub use part::Part;
pub use request::{ShardedCandidates, ShardedChannel, ShardedFilter, ShardedRows};
pub use sharded::{Sharded, ShardedIndex, ShardedView};
