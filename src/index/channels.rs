use super::gate::{Dropped, Reason, Sieve};
use super::options::RankOptions;
use super::quotas::{Channel, ChannelHit, MAX_CHANNELS};
use super::rank::check_total;
use super::{Index, workspace::Workspace};
use crate::ranking::Source;
use crate::{Error, Result};

/// The answer of [`Index::rank_channels`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RankedChannels {
    /// The chosen items, best first; of equal scores the smaller id comes first.
    pub hits: Vec<ChannelHit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
    /// How many of the candidates that it has were left out, and why.
    pub dropped: Dropped,
}

impl Index {
    /// The best `k` of what several recall channels bring, each item once, with the channels that brought it.
    /// The answer is that of [`Index::rank`] for all their candidates, within the channels' quotas.
    ///
    /// A hit counts for every channel that brought it. First each channel, in the order given, gets the best
    /// of its own until it has [`Channel::at_least`] of them; then the best of all fill up. No item is taken
    /// that would give a channel more than [`Channel::at_most`], so there may be fewer than `k`. Where no two
    /// channels share items, no other choice within the quotas scores higher.
    ///
    /// Costs a rank of all candidates and some nanoseconds for each; with quotas, all of them are scored in
    /// `f32`. Allocates the answer only.
    ///
    /// # Errors
    /// The errors of [`Index::rank`]; [`Error::BadOption`] for more than [`MAX_CHANNELS`], for a channel
    /// whose `at_least` is above its `at_most`, and for channels whose `at_least` add up to more than `k`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # let items = (0..1000u64).map(|i| (i, [(i as f32).sin(), (i as f32).cos(), 0.1]));
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from(items, &path)?;
    /// use itemdex::{Channel, Index, RankOptions, SearchOptions};
    ///
    /// let index = Index::open(&path)?;
    /// let user = [0.3, 0.9, 1.0];
    /// let found = index.search_rows(&user, &SearchOptions::new(50))?;
    /// let uploaded_today = [990, 991, 992, 993, 1017];
    /// let channels = [Channel::new(&found), Channel::new(&uploaded_today).at_least(2)];
    ///
    /// let ranked = index.rank_channels(&user, &channels, &RankOptions::new(10))?;
    /// assert_eq!(ranked.hits.iter().filter(|hit| hit.channels & 0b10 != 0).count(), 2);
    /// assert_eq!(ranked.unknown, [1017]);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn rank_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
    ) -> Result<RankedChannels> {
        let mut ranked = RankedChannels::default();
        self.rank_channels_into(user, channels, options, &mut ranked)?;
        Ok(ranked)
    }

    /// As [`Index::rank_channels`], into the answer of an earlier one. Allocates nothing once that has held
    /// as many hits and unknown ids. After an error it is as it was.
    ///
    /// # Errors
    /// The errors of [`Index::rank_channels`].
    pub fn rank_channels_into(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
        ranked: &mut RankedChannels,
    ) -> Result<()> {
        self.check_channels(channels, options)?;
        let sources = self.sources(user, channels, options.k)?;
        self.ranked_channels(user, channels, &sources[..channels.len()], options, &[], ranked);
        Ok(())
    }

    /// The same for candidates that are checked, with `others`: hits from beside the index.
    pub(crate) fn ranked_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        sources: &[Source<'_>],
        options: &RankOptions<'_>,
        others: &[ChannelHit],
        ranked: &mut RankedChannels,
    ) {
        let mut workspace = self.workspace_for(user);
        let Workspace { user, rank, hits, channel_hits, chooser, sieve: Sieve { named, .. }, .. } =
            &mut *workspace;
        let ranking = self.ranking();
        let gate = self.gate(&options.shown, &[], named);
        let mut dropped = self.merge(sources, &gate, rank, &mut ranked.unknown);
        if channels.iter().any(|channel| channel.filter.is_some()) {
            let own = |number: usize| channels[number].filter.map(|filter| (1 << number, filter.rows()));
            ranking.retain_merged(rank, |row, bits| {
                let dropped_by = (0..channels.len()).filter_map(own).filter(|(_, rows)| !rows.contains(row));
                dropped_by.for_each(|(bit, _): (u32, _)| *bits &= !bit);
                dropped.note((*bits == 0).then_some(Reason::Filtered))
            });
        }
        match channels.iter().any(|channel| channel.has_quota(options.k)) {
            true => ranking.score_visits(user, rank, hits),
            false => ranking.best(user, options.selection(), rank, hits),
        }
        channel_hits.clear();
        channel_hits
            .extend(hits.iter().zip(rank.channels()).map(|(&hit, channels)| ChannelHit::new(hit, channels)));
        channel_hits.extend_from_slice(others);
        chooser.choose(channel_hits, options.k, channels);
        ranked.hits.clone_from(channel_hits);
        ranked.dropped = dropped;
        self.put_back(workspace);
    }

    /// Refuses options and filters of channels that were made for another index.
    pub(crate) fn check_channels(&self, channels: &[Channel<'_>], options: &RankOptions<'_>) -> Result<()> {
        self.check_shown(&options.shown)?;
        channels.iter().filter_map(|channel| channel.filter).try_for_each(|filter| self.check_filter(filter))
    }

    /// Checks that channels can be ranked for a user; returns their candidates.
    pub(crate) fn sources<'a>(
        &self,
        user: &[f32],
        channels: &[Channel<'a>],
        k: usize,
    ) -> Result<[Source<'a>; MAX_CHANNELS]> {
        self.check_user(user)?;
        check_quotas(channels, k)?;
        let mut sources = [Source::default(); MAX_CHANNELS];
        for (source, channel) in sources.iter_mut().zip(channels) {
            *source = self.source(channel.candidates)?;
        }
        check_total(&sources)?;
        Ok(sources)
    }
}

/// Checks that quotas do not contradict each other or `k`.
pub(crate) fn check_quotas(channels: &[Channel<'_>], k: usize) -> Result<()> {
    let wrong = |option, problem| Err(Error::BadOption { option, problem });
    if channels.len() > MAX_CHANNELS {
        return wrong("channels", format!("there are {}, and {MAX_CHANNELS} at most", channels.len()));
    }
    if let Some(number) = channels.iter().position(|channel| channel.least > channel.most) {
        let Channel { least, most, .. } = channels[number];
        return wrong(
            "at_least",
            format!("channel {number} is to have {least} hits at least and {most} at most"),
        );
    }
    let least = channels.iter().fold(0usize, |sum, channel| sum.saturating_add(channel.least));
    if least > k {
        return wrong(
            "at_least",
            format!("the channels are to have {least} hits at least, and {k} are asked for"),
        );
    }
    Ok(())
}
