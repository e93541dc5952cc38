//! Ranks over all shards.

use super::merge::{Quota, merge_channels, merge_ranked};
use super::part::Part;
use super::request::{ShardedCandidates, ShardedChannel, ShardedFilter};
use super::sharded::Sharded;
use crate::assignment::{shard_of, split_by_shard};
use crate::index::{Candidates, check_places, check_quotas, wrong_lists};
use crate::{Matrix, RankOptions, Ranked, RankedChannels, Result};

/// Candidates divided among the shards.
enum Divided<'a> {
    Ids(Vec<Vec<u64>>),
    Rows(&'a super::ShardedRows),
}

impl Divided<'_> {
    fn of_shard(&self, number: usize) -> Candidates<'_> {
        match self {
            Divided::Ids(lists) => Candidates::Ids(&lists[number]),
            Divided::Rows(rows) => (&rows.rows[number]).into(),
        }
    }
}

impl<P: Part> Sharded<P> {
    /// The best `k` of many candidates by their exact scores, best first: as
    /// [`Index::rank`](crate::Index::rank) of one index with all items.
    ///
    /// # Errors
    /// As [`Sharded::rank_with`].
    pub fn rank<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<ShardedCandidates<'a>>,
        k: usize,
    ) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k), None)
    }

    /// As [`Sharded::rank`], with options. A filter goes here, not into the options: it is one for each shard.
    ///
    /// Each candidate goes to its shard only, which costs a hash of its id.
    ///
    /// # Errors
    /// As [`Index::rank_with`](crate::Index::rank_with); [`Error::BadOption`](crate::Error::BadOption) for a filter or rows of another
    /// number of shards.
    pub fn rank_with<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<ShardedCandidates<'a>>,
        options: &RankOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<Ranked> {
        let divided = self.divide(candidates.into())?;
        let of_shard = self.rank_options(options, filter)?;
        let ranked =
            self.each(|number, part| part.rank_with(user, divided.of_shard(number), &of_shard(number)))?;
        Ok(merge_ranked(ranked, options.k()))
    }

    /// The candidates of several users at once, an answer each, in their order: as [`Sharded::rank_with`] gives
    /// them. The shards are asked one after the other, each for all users on this object's threads.
    ///
    /// `candidates` is one list for all users, or a list for each, of ids or of looked up items.
    ///
    /// # Errors
    /// As [`Sharded::rank_with`], for the first user at fault; [`Error::BadOption`](crate::Error::BadOption) where
    /// there are neither one list nor as many as users. Then no user has an answer.
    pub fn rank_many<'a, C: Into<ShardedCandidates<'a>> + Copy>(
        &self,
        users: &Matrix,
        candidates: &[C],
        options: &RankOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<Vec<Ranked>> {
        if candidates.len() != 1 && candidates.len() != users.len() {
            return Err(wrong_lists(candidates.len(), users.len()));
        }
        let divided = candidates.iter().map(|&list| self.divide(list.into()));
        let divided: Vec<Divided<'_>> = divided.collect::<Result<_>>()?;
        let of_shard = self.rank_options(options, filter)?;
        let mut by_user: Vec<Vec<Ranked>> = (0..users.len()).map(|_| Vec::new()).collect();
        for (number, part) in self.parts.iter().enumerate() {
            let lists: Vec<Candidates<'_>> = divided.iter().map(|list| list.of_shard(number)).collect();
            let ranked = part.rank_many(users, &lists, &of_shard(number), self.threads)?;
            by_user.iter_mut().zip(ranked).for_each(|(of_user, ranked)| of_user.push(ranked));
        }
        Ok(by_user.into_iter().map(|ranked| merge_ranked(ranked, options.k())).collect())
    }

    /// The best `k` of what several recall channels bring, within their quotas: as
    /// [`Index::rank_channels`](crate::Index::rank_channels) of one index with all items.
    ///
    /// # Errors
    /// As [`Index::rank_channels`](crate::Index::rank_channels); [`Error::BadOption`](crate::Error::BadOption) for a filter or rows of
    /// another number of shards.
    pub fn rank_channels(
        &self,
        user: &[f32],
        channels: &[ShardedChannel<'_>],
        options: &RankOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<RankedChannels> {
        let quotas: Vec<Quota> = channels.iter().map(|channel| channel.quota).collect();
        check_quotas(&Quota::channels(&quotas), options.k())?;
        channels.iter().try_for_each(|channel| self.check_filter(channel.filter))?;
        let divided: Vec<Divided<'_>> =
            channels.iter().map(|channel| self.divide(channel.candidates)).collect::<Result<_>>()?;
        let of_shard = self.rank_options(options, filter)?;
        let ranked = self.each(|number, part| {
            let own = channels.iter().zip(&divided).map(|(channel, divided)| {
                let own = channel.quota.of(divided.of_shard(number));
                channel.filter.map_or(own, |filter| own.filter(&filter.filters[number]))
            });
            part.rank_channels_part(user, &own.collect::<Vec<_>>(), &of_shard(number))
        })?;
        merge_channels(ranked, options.k(), &quotas)
    }

    /// Writes the exact score of each candidate to the same place of `scores`, and NaN for one that no shard has.
    /// Returns how many those are. Allocates lists of the candidates.
    ///
    /// # Errors
    /// As [`Index::score`](crate::Index::score).
    pub fn score(&self, user: &[f32], candidates: &[u64], scores: &mut [f32]) -> Result<usize> {
        self.score_with(user, candidates, &RankOptions::new(0), None, scores)
    }

    /// As [`Sharded::score`], with NaN also for candidates that the options or the filter leave out, and those
    /// counted too.
    ///
    /// # Errors
    /// As [`Index::score_with`](crate::Index::score_with).
    pub fn score_with(
        &self,
        user: &[f32],
        candidates: &[u64],
        options: &RankOptions<'_>,
        filter: Option<&ShardedFilter>,
        scores: &mut [f32],
    ) -> Result<usize> {
        check_places(candidates, scores)?;
        let lists = split_by_shard(candidates, self.shards());
        let of_shard = self.rank_options(options, filter)?;
        let scored = self.each(|number, part| {
            let mut scores = vec![0.0; lists[number].len()];
            let without = part.score_with(user, &lists[number], &of_shard(number), &mut scores)?;
            Ok((scores, without))
        })?;
        let mut next: Vec<_> = scored.iter().map(|(scores, _)| scores.iter()).collect();
        for (place, &id) in scores.iter_mut().zip(candidates) {
            let of_shard = &mut next[shard_of(id, self.shards()) as usize];
            *place = *of_shard.next().expect("a score for each candidate");
        }
        Ok(scored.iter().map(|(_, without)| without).sum())
    }

    /// The options for each shard.
    fn rank_options<'s>(
        &self,
        options: &RankOptions<'s>,
        filter: Option<&'s ShardedFilter>,
    ) -> Result<impl Fn(usize) -> RankOptions<'s> + Sync> {
        self.check_filter(filter)?;
        let options = options.at_one_second();
        Ok(move |number: usize| match filter {
            Some(filter) => options.filter(&filter.filters[number]),
            None => options,
        })
    }

    fn divide<'a>(&self, candidates: ShardedCandidates<'a>) -> Result<Divided<'a>> {
        match candidates {
            ShardedCandidates::Ids(ids) => Ok(Divided::Ids(split_by_shard(ids, self.shards()))),
            ShardedCandidates::Rows(rows) => {
                self.check_count("candidates", rows.rows.len())?;
                Ok(Divided::Rows(rows))
            }
        }
    }
}
