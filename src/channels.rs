//! Several recall channels' candidates in one rank: the best of all, within what each channel is to have of them.

use std::cmp::Ordering;

use crate::rank::Candidates;
use crate::{Error, Hit, Result};

/// The most channels that one rank merges: a bit each.
pub const MAX_CHANNELS: usize = u32::BITS as usize;

/// Hits that are put in order at first, for each that is wanted, and how many times as many when these do not do.
const SPARE: usize = 2;
const GROWTH: usize = 8;

/// A recall channel: its candidates, and how many of the hits are to be of them.
///
/// ```
/// use itemdex::Channel;
///
/// let (near, new, popular) = ([1, 2, 3], [4, 5], [2, 5, 6]);
/// let channels = [
///     Channel::new(&near),
///     Channel::new(&new).at_least(1),
///     Channel::new(&popular).at_most(2),
/// ];
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    pub(crate) candidates: Candidates<'a>,
    least: usize,
    most: usize,
}

impl<'a> Channel<'a> {
    /// A channel that brings these candidates, of which any number may be among the hits.
    pub fn new(candidates: impl Into<Candidates<'a>>) -> Channel<'a> {
        Channel { candidates: candidates.into(), least: 0, most: usize::MAX }
    }

    /// Asks for so many hits of this channel, as far as it has as many items and no [`Channel::at_most`] is against it.
    pub fn at_least(mut self, hits: usize) -> Channel<'a> {
        self.least = hits;
        self
    }

    /// Bounds how many hits are of this channel, those that others brought too included.
    pub fn at_most(mut self, hits: usize) -> Channel<'a> {
        self.most = hits;
        self
    }

    /// Whether it asks for anything.
    pub(crate) fn has_quota(&self) -> bool {
        self.least > 0 || self.most < usize::MAX
    }
}

/// An item, its score, and the channels that brought it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ChannelHit {
    /// The item's id.
    pub id: u64,
    /// The inner product; finite.
    pub score: f32,
    /// A bit for each channel that brought the item: the lowest for the first channel.
    pub channels: u32,
}

impl ChannelHit {
    pub(crate) fn new(Hit { id, score }: Hit, channels: u32) -> ChannelHit {
        ChannelHit { id, score, channels }
    }

    /// Best first; of equal scores the smaller id comes first.
    pub(crate) fn order(&self, other: &ChannelHit) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

/// The answer of [`Index::rank_channels`](crate::Index::rank_channels).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RankedChannels {
    /// The chosen items, best first; of equal scores the smaller id comes first.
    pub hits: Vec<ChannelHit>,
    /// The candidates that the index does not have, ascending, each once.
    pub unknown: Vec<u64>,
}

/// Whether a choice of `k` can be made at all.
pub(crate) fn check(channels: &[Channel<'_>], k: usize) -> Result<()> {
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

/// What a choice needs and the next one reuses.
#[derive(Default)]
pub(crate) struct Chooser {
    /// Whether an item is chosen.
    taken: Vec<bool>,
    /// How many of each channel are.
    counts: [usize; MAX_CHANNELS],
    scores: Vec<f32>,
    best: Vec<u32>,
}

impl Chooser {
    /// Leaves in `hits` the `k` that channels with quotas let in, best first.
    ///
    /// First each channel, in their order, gets the best of its own until it has what it is to have at least, then the best of
    /// all fill up. Nothing is taken that would give a channel more than its most.
    pub fn choose(&mut self, hits: &mut Vec<ChannelHit>, k: usize, channels: &[Channel<'_>]) {
        self.taken.clear();
        self.taken.resize(hits.len(), false);
        self.counts = [0; MAX_CHANNELS];
        for (number, channel) in channels.iter().enumerate() {
            let wanted = channel.least.saturating_sub(self.counts[number]);
            self.take(hits, 1 << number, wanted, channels);
        }
        let reserved = self.taken.iter().filter(|&&taken| taken).count();
        self.take(hits, u32::MAX, k - reserved, channels);
        let mut taken = self.taken.iter();
        hits.retain(|_| *taken.next().expect("as long as the hits"));
        hits.sort_unstable_by(ChannelHit::order);
    }

    /// Takes `wanted` more of those that some of `of` brought, or as many as may be.
    fn take(&mut self, hits: &[ChannelHit], of: u32, mut wanted: usize, channels: &[Channel<'_>]) {
        let mut reach = wanted.saturating_mul(SPARE);
        while wanted > 0 {
            let all = self.order_best(hits, of, reach);
            for &at in &self.best {
                let hit = hits[at as usize];
                if wanted == 0 {
                    return;
                }
                if self.taken[at as usize] || !may_take(&self.counts, hit.channels, channels) {
                    continue;
                }
                self.taken[at as usize] = true;
                bits(hit.channels).for_each(|number| self.counts[number] += 1);
                wanted -= 1;
            }
            if all {
                return;
            }
            reach = reach.saturating_mul(GROWTH);
        }
    }

    /// Puts at least the best `reach`, at least 1, of those that some of `of` brought in order; whether these are all.
    fn order_best(&mut self, hits: &[ChannelHit], of: u32, reach: usize) -> bool {
        let own = || hits.iter().enumerate().filter(|(_, hit)| hit.channels & of != 0);
        self.scores.clear();
        self.scores.extend(own().map(|(_, hit)| hit.score));
        let all = reach >= self.scores.len();
        let bar = match all {
            true => f32::NEG_INFINITY,
            false => *self.scores.select_nth_unstable_by(reach, |a, b| b.total_cmp(a)).1,
        };
        self.best.clear();
        self.best.extend(own().filter(|(_, hit)| hit.score >= bar).map(|(at, _)| at as u32));
        self.best.sort_unstable_by(|&a, &b| hits[a as usize].order(&hits[b as usize]));
        all
    }
}

/// Whether none of the channels that brought an item has its most already.
fn may_take(counts: &[usize; MAX_CHANNELS], brought: u32, channels: &[Channel<'_>]) -> bool {
    bits(brought).all(|number| counts[number] < channels[number].most)
}

fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let number = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(number)
    })
}
