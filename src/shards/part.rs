//! What holds one shard.

use std::borrow::Cow;

use crate::index::{Candidates, check_quotas, keep_best_of_each_set};
use crate::live::{View, ViewRows};
use crate::{
    Channel, Found, Index, Matrix, RankOptions, Ranked, RankedChannels, Result, SearchOptions, Values,
};

/// What holds one shard: an [`Index`], or a [`View`] of a generation with its fresh items. The methods are theirs
/// of the same names.
pub trait Part: Send + Sync {
    /// The index, or that of the view's generation.
    fn index(&self) -> &Index;

    /// How many items there are.
    fn items(&self) -> usize;

    /// The best items for a user.
    ///
    /// # Errors
    /// As [`Index::search_with`].
    fn search_with(&self, user: &[f32], options: &SearchOptions<'_>) -> Result<Found>;

    /// The same for several users.
    ///
    /// # Errors
    /// As [`Index::search_many`].
    fn search_many(&self, users: &Matrix, options: &SearchOptions<'_>, threads: usize) -> Result<Vec<Found>>;

    /// The best of candidates.
    ///
    /// # Errors
    /// As [`Index::rank_with`].
    fn rank_with(
        &self,
        user: &[f32],
        candidates: Candidates<'_>,
        options: &RankOptions<'_>,
    ) -> Result<Ranked>;

    /// The same for several users, of one list for all or of a list for each.
    ///
    /// # Errors
    /// As [`Index::rank_many`].
    fn rank_many(
        &self,
        users: &Matrix,
        candidates: &[Candidates<'_>],
        options: &RankOptions<'_>,
        threads: usize,
    ) -> Result<Vec<Ranked>>;

    /// The best of what channels bring.
    ///
    /// # Errors
    /// As [`Index::rank_channels`].
    fn rank_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
    ) -> Result<RankedChannels>;

    /// The score of each candidate.
    ///
    /// # Errors
    /// As [`Index::score_with`].
    fn score_with(
        &self,
        user: &[f32],
        candidates: &[u64],
        options: &RankOptions<'_>,
        scores: &mut [f32],
    ) -> Result<usize>;

    /// The items of these ids that are there, for ranks.
    fn look_up(&self, ids: &[u64]) -> ViewRows;

    /// The embedding of an item, as [`Index::get`] gives it.
    fn get(&self, id: u64) -> Option<Cow<'_, [f32]>>;

    /// The values of an item.
    fn values(&self, id: u64) -> Option<Values>;

    /// What a shard contributes to a rank of channels over all shards ([`merge_channels`](super::merge_channels)
    /// takes it): its hits before the quotas, of each set of channels the best `k`. Without quotas they are the
    /// best `k` of all.
    ///
    /// # Errors
    /// As [`Index::rank_channels`].
    fn rank_channels_part(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
    ) -> Result<RankedChannels> {
        let k = options.k();
        check_quotas(channels, k)?;
        if !channels.iter().any(|channel| channel.has_quota(k)) {
            return self.rank_channels(user, channels, options);
        }
        let free: Vec<Channel<'_>> = channels.iter().map(|channel| channel.without_quotas()).collect();
        let all = free.iter().map(Channel::candidates_len).sum();
        let mut ranked = self.rank_channels(user, &free, &options.for_k(all))?;
        keep_best_of_each_set(&mut ranked.hits, k);
        Ok(ranked)
    }
}

/// The methods that an index and a view have under the same names.
macro_rules! forwarded {
    ($part:ty) => {
        fn items(&self) -> usize {
            self.len()
        }

        fn search_with(&self, user: &[f32], options: &SearchOptions<'_>) -> Result<Found> {
            <$part>::search_with(self, user, options)
        }

        fn search_many(
            &self,
            users: &Matrix,
            options: &SearchOptions<'_>,
            threads: usize,
        ) -> Result<Vec<Found>> {
            <$part>::search_many(self, users, options, threads)
        }

        fn rank_with(
            &self,
            user: &[f32],
            candidates: Candidates<'_>,
            options: &RankOptions<'_>,
        ) -> Result<Ranked> {
            <$part>::rank_with(self, user, candidates, options)
        }

        fn rank_many(
            &self,
            users: &Matrix,
            candidates: &[Candidates<'_>],
            options: &RankOptions<'_>,
            threads: usize,
        ) -> Result<Vec<Ranked>> {
            <$part>::rank_many(self, users, candidates, options, threads)
        }

        fn rank_channels(
            &self,
            user: &[f32],
            channels: &[Channel<'_>],
            options: &RankOptions<'_>,
        ) -> Result<RankedChannels> {
            <$part>::rank_channels(self, user, channels, options)
        }

        fn score_with(
            &self,
            user: &[f32],
            candidates: &[u64],
            options: &RankOptions<'_>,
            scores: &mut [f32],
        ) -> Result<usize> {
            <$part>::score_with(self, user, candidates, options, scores)
        }

        fn look_up(&self, ids: &[u64]) -> ViewRows {
            <$part>::look_up(self, ids).into()
        }

        fn get(&self, id: u64) -> Option<Cow<'_, [f32]>> {
            <$part>::get(self, id)
        }

        fn values(&self, id: u64) -> Option<Values> {
            <$part>::values(self, id)
        }
    };
}

impl Part for Index {
    fn index(&self) -> &Index {
        self
    }

    forwarded!(Index);
}

impl Part for View {
    fn index(&self) -> &Index {
        View::index(self)
    }

    forwarded!(View);
}
