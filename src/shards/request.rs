//! What is asked of all shards, where it differs from what is asked of one index.

use crate::Filter;
use crate::index::RowHandles;

use super::merge::Quota;

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

/// Items by their shards and rows: a rank of them needs no look-up. Made by
/// [`Sharded::look_up`](super::Sharded::look_up), for the same generation only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardedRows {
    pub(super) rows: Vec<RowHandles>,
}

impl ShardedRows {
    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.iter().map(RowHandles::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of each shard.
    pub fn rows(&self) -> &[RowHandles] {
        &self.rows
    }
}

/// What a rank over all shards takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ShardedCandidates<'a> {
    /// By id. The answer reports ids that no shard has.
    Ids(&'a [u64]),
    /// By shard and row, without a look-up.
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
