//! What is asked of all shards, where it differs from what is asked of one index.

use super::merge::Quota;
use crate::Filter;
use crate::live::ViewRows;

/// The items of all shards for which an expression is true: a [`Filter`] for each shard. Made by
/// [`Sharded::filter`](super::Sharded::filter), for the same generation only.
#[derive(Debug, Clone)]
pub struct ShardedFilter {
    pub(super) filters: Vec<Filter>,
}

impl ShardedFilter {
    /// How many items of all shards it keeps; exact.
    pub fn matching(&self) -> usize {
        self.filters.iter().map(Filter::matching).sum()
    }

    /// The filter of each shard.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }
}

/// Items by their shards and rows, and fresh ones by their ids: a rank of them looks up the fresh ones only. Made by
/// [`Sharded::look_up`](super::Sharded::look_up) and [`Sharded::search_rows`](super::Sharded::search_rows), for the
/// same generation only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardedRows {
    pub(super) rows: Vec<ViewRows>,
}

impl ShardedRows {
    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.iter().map(ViewRows::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items of each shard.
    pub fn rows(&self) -> &[ViewRows] {
        &self.rows
    }
}

/// What a rank over all shards takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ShardedCandidates<'a> {
    /// By id. The answer reports ids that no shard has.
    Ids(&'a [u64]),
    /// By shard and row, without a look-up but of fresh items.
    Rows(&'a ShardedRows),
}

impl<'a> From<&'a [u64]> for ShardedCandidates<'a> {
    fn from(ids: &'a [u64]) -> Self {
        ShardedCandidates::Ids(ids)
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for ShardedCandidates<'a> {
    fn from(ids: &'a [u64; N]) -> Self {
        ShardedCandidates::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u64>> for ShardedCandidates<'a> {
    fn from(ids: &'a Vec<u64>) -> Self {
        ShardedCandidates::Ids(ids)
    }
}

impl<'a> From<&'a ShardedRows> for ShardedCandidates<'a> {
    fn from(rows: &'a ShardedRows) -> Self {
        ShardedCandidates::Rows(rows)
    }
}

/// A recall channel over all shards: its candidates, and its quotas of the hits. As
/// [`Channel`](crate::Channel) is for one index.
#[derive(Debug, Clone, Copy)]
pub struct ShardedChannel<'a> {
    pub(super) candidates: ShardedCandidates<'a>,
    pub(super) quota: Quota,
    pub(super) filter: Option<&'a ShardedFilter>,
}

impl<'a> ShardedChannel<'a> {
    /// A channel without quotas.
    pub fn new(candidates: impl Into<ShardedCandidates<'a>>) -> ShardedChannel<'a> {
        ShardedChannel { candidates: candidates.into(), quota: Quota::default(), filter: None }
    }

    /// Asks for at least `hits` hits of this channel, of all shards together.
    pub fn at_least(mut self, hits: usize) -> ShardedChannel<'a> {
        self.quota.at_least = hits;
        self
    }

    /// Allows at most `hits` hits of this channel, of all shards together.
    pub fn at_most(mut self, hits: usize) -> ShardedChannel<'a> {
        self.quota.at_most = hits;
        self
    }

    /// Takes no other candidates from this channel than those that the filter keeps.
    pub fn filter(mut self, filter: &'a ShardedFilter) -> ShardedChannel<'a> {
        self.filter = Some(filter);
        self
    }
}
