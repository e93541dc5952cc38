//! Recall channels, their quotas, and the best hits within the quotas.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::candidates::{Candidates, RowHandles};
use crate::columns::Filter;
use crate::graph::Scored;
use crate::top::{Hit, keep_best};

/// The most channels that one rank merges. Each is a bit of [`ChannelHit::channels`].
pub const MAX_CHANNELS: usize = u32::BITS as usize;

/// At first so many hits are put in order for each that is wanted. While too few of them fit the quotas, the
/// next part is so many times as large.
const SPARE: usize = 2;
const GROWTH: usize = 8;

/// A recall channel: its candidates, and its quotas of the hits.
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
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) filter: Option<&'a Filter>,
}

impl<'a> Channel<'a> {
    /// A channel without quotas: any number of its candidates may be among the hits.
    pub fn new(candidates: impl Into<Candidates<'a>>) -> Channel<'a> {
        Channel { candidates: candidates.into(), least: 0, most: usize::MAX, filter: None }
    }

    /// Asks for at least `hits` hits of this channel. There are fewer where the channel brings fewer
    /// candidates, or where its candidates would exceed the [`Channel::at_most`] of another channel that
    /// brings them too.
    ///
    /// A number above this channel's own [`Channel::at_most`] is an error of the rank.
    pub fn at_least(mut self, hits: usize) -> Channel<'a> {
        self.least = hits;
        self
    }

    /// Allows at most `hits` hits of this channel, those that other channels bring too included.
    pub fn at_most(mut self, hits: usize) -> Channel<'a> {
        self.most = hits;
        self
    }

    /// Takes no other candidates from this channel than those that the filter keeps, before quotas count. Another
    /// channel may still bring the others.
    pub fn filter(mut self, filter: &'a Filter) -> Channel<'a> {
        self.filter = Some(filter);
        self
    }

    /// The same channel without its quotas.
    pub(crate) fn without_quotas(self) -> Channel<'a> {
        Channel { least: 0, most: usize::MAX, ..self }
    }

    /// How many candidates it brings, those that it names twice counted twice.
    pub(crate) fn candidates_len(&self) -> usize {
        let (handles, ids) = self.candidates.parts();
        handles.map_or(0, RowHandles::len) + ids.len()
    }

    pub(crate) fn own_filter(&self) -> Option<&'a Filter> {
        self.filter
    }

    /// Whether its quotas can change the best `k`.
    pub(crate) fn has_quota(&self, k: usize) -> bool {
        self.least > 0 || self.most < k
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
    /// A hit, and a bit for each channel that brought it.
    pub fn new(Hit { id, score }: Hit, channels: u32) -> ChannelHit {
        ChannelHit { id, score, channels }
    }

    /// Best first; of equal scores the smaller id comes first.
    pub(crate) fn order(&self, other: &ChannelHit) -> Ordering {
        self.hit().order(&other.hit())
    }

    pub(crate) fn hit(&self) -> Hit {
        Hit { id: self.id, score: self.score }
    }
}

/// Leaves in `hits` the best `k` that the quotas allow, best first.
pub(crate) fn choose(hits: &mut Vec<ChannelHit>, k: usize, channels: &[Channel<'_>]) {
    Chooser::default().choose(hits, k, channels);
}

/// Leaves of hits in order the first `k` that the same channels brought, for all sets of channels. Whatever the quotas,
/// no choice of `k` of these and others takes another: of hits that the same channels brought, it takes the best.
pub(crate) fn keep_best_of_each_set(hits: &mut Vec<ChannelHit>, k: usize) {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    hits.retain(|hit| {
        let count = counts.entry(hit.channels).or_default();
        *count += 1;
        *count <= k
    });
}

/// What a choice needs and the next one reuses.
#[derive(Default)]
pub(super) struct Chooser {
    /// The places of all hits, and those of one channel's.
    all: Vec<Scored>,
    own: Vec<Scored>,
    taken: Vec<bool>,
}

impl Chooser {
    /// The memory that is held, in bytes.
    pub fn bytes(&self) -> usize {
        (self.all.capacity() + self.own.capacity()) * size_of::<Scored>() + self.taken.capacity()
    }

    /// Leaves in `hits` the best `k` that the quotas allow, best first.
    ///
    /// First each channel, in order, gets the best of its own until it has its least; then the best of all
    /// fill up. No hit is taken that would give a channel more than its most.
    pub fn choose(&mut self, hits: &mut Vec<ChannelHit>, k: usize, channels: &[Channel<'_>]) {
        if !channels.iter().any(|channel| channel.has_quota(k)) {
            return keep_best(hits, k, ChannelHit::order);
        }
        let Chooser { all, own, taken } = self;
        taken.clear();
        taken.resize(hits.len(), false);
        all.clear();
        all.extend(hits.iter().zip(0..).map(|(hit, at)| Scored::new(hit.score, at)));
        // The whole choice is mostly among these; then the others need no order.
        let (best, others) = split_best(all, k.saturating_mul(SPARE), hits);
        let mut choice = Choice { hits, channels, taken, counts: [0; MAX_CHANNELS] };
        let mut free = k;
        for round in (0..channels.len()).map(Some).chain([None]) {
            let (of, wanted) = match round {
                Some(number) => (1 << number, channels[number].least.saturating_sub(choice.counts[number])),
                None => (u32::MAX, free),
            };
            let mut left = wanted;
            choice.take(best, of, &mut left);
            if left > 0 {
                own.clear();
                own.extend(others.iter().filter(|other| choice.may_take(other, of)));
                choice.take_by_parts(own, of, &mut left);
            }
            free -= wanted - left;
        }
        let mut taken = self.taken.iter();
        hits.retain(|_| *taken.next().expect("as long as the hits"));
        hits.sort_unstable_by(ChannelHit::order);
    }
}

struct Choice<'a> {
    hits: &'a [ChannelHit],
    channels: &'a [Channel<'a>],
    /// Whether each hit is chosen, and how many hits of each channel are.
    taken: &'a mut [bool],
    counts: [usize; MAX_CHANNELS],
}

impl Choice<'_> {
    /// Whether a hit is not yet chosen, one of the channels `of` brought it, and no channel that brought it
    /// has its most. A hit that may not be taken for `of` now never may later.
    fn may_take(&self, scored: &Scored, of: u32) -> bool {
        let brought = self.hits[scored.row() as usize].channels;
        let full = |number: usize| self.counts[number] >= self.channels[number].most;
        brought & of != 0 && !self.taken[scored.row() as usize] && !bits(brought).any(full)
    }

    /// Takes the hits of `scored` that the channels `of` brought, in order, until none is left to take.
    fn take(&mut self, scored: &[Scored], of: u32, left: &mut usize) {
        for scored in scored {
            if *left == 0 {
                return;
            }
            if self.may_take(scored, of) {
                let at = scored.row() as usize;
                self.taken[at] = true;
                bits(self.hits[at].channels).for_each(|number| self.counts[number] += 1);
                *left -= 1;
            }
        }
    }

    /// The same for hits in no order.
    fn take_by_parts(&mut self, mut scored: &mut [Scored], of: u32, left: &mut usize) {
        let mut reach = left.saturating_mul(SPARE);
        while *left > 0 && !scored.is_empty() {
            let best;
            (best, scored) = split_best(scored, reach, self.hits);
            self.take(best, of, left);
            reach = reach.saturating_mul(GROWTH);
        }
    }
}

/// Sorts the best `count`, and those that score as the last of them, to the front. Returns them and the rest.
fn split_best<'s>(
    scored: &'s mut [Scored],
    count: usize,
    hits: &[ChannelHit],
) -> (&'s mut [Scored], &'s mut [Scored]) {
    let count = count.min(scored.len());
    let mut end = count;
    if (1..scored.len()).contains(&count) {
        let last = scored.select_nth_unstable_by(count - 1, Scored::order).1.score();
        for at in count..scored.len() {
            if scored[at].score() == last {
                scored.swap(at, end);
                end += 1;
            }
        }
    }
    let (best, rest) = scored.split_at_mut(end);
    let id = |scored: &Scored| hits[scored.row() as usize].id;
    best.sort_unstable_by(|a, b| b.score().total_cmp(&a.score()).then_with(|| id(a).cmp(&id(b))));
    (best, rest)
}

/// The numbers of the bits of a set.
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let number = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(number)
    })
}
