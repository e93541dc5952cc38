//! Merging what shards answer.

use crate::index::{Candidates, Channel, ChannelHit, check_quotas, choose};
use crate::top::keep_best;
use crate::{Found, Hit, Plan, Ranked, RankedChannels, Result};

/// A shard is asked for what it is expected to have of the best `k`, and for so many standard deviations more.
const DEVIATIONS: f64 = 3.0;

/// For how many items each of so many shards is asked at first, where the best `k` of all are wanted.
///
/// Items are spread over shards by a hash, so a shard has of the best `k` a number that is binomial: `k / shards`
/// on average. This is three standard deviations more, and one. Where that is too few, the shard is asked again
/// ([`to_ask_again`]).
///
/// ```
/// use itemdex::shards::share_of;
///
/// assert_eq!((share_of(100, 1), share_of(100, 4), share_of(1000, 16)), (100, 39, 87));
/// ```
pub fn share_of(k: usize, shards: usize) -> usize {
    if shards <= 1 {
        return k;
    }
    let part = 1.0 / shards as f64;
    let mean = k as f64 * part;
    let deviation = (mean * (1.0 - part)).sqrt();
    ((mean + DEVIATIONS * deviation).ceil() as usize + 1).min(k)
}

/// Which shards are to be asked again for `k` items, after each was asked for `asked`: those that found as many and
/// have all of them among the best `k`, so that more of theirs may be.
pub fn to_ask_again(parts: &[Found], asked: usize, k: usize) -> Vec<usize> {
    if asked >= k {
        return Vec::new();
    }
    let mut best: Vec<Hit> = parts.iter().flat_map(|part| &part.hits).copied().collect();
    let enough = best.len() >= k;
    keep_best(&mut best, k, Hit::order);
    let short = |part: &Found| {
        let may_have_more = part.hits.len() >= asked && part.matching > part.hits.len();
        let all_in = match (part.hits.last(), best.last()) {
            (Some(last), Some(bar)) if enough => last.order(bar).is_le(),
            _ => true,
        };
        may_have_more && all_in
    };
    (0..parts.len()).filter(|&number| short(&parts[number])).collect()
}

/// The best `k` of what all shards found. `matching` is the sum, and `plan` the least exact that a shard took: a
/// walk, then partitions, then a scan.
///
/// ```
/// use itemdex::shards::merge_found;
/// use itemdex::{Found, Hit, Plan};
///
/// let part = |hits: &[(u64, f32)]| {
///     let hits: Vec<_> = hits.iter().map(|&(id, score)| Hit { id, score }).collect();
///     Found::new(hits, Plan::Scan, 100)
/// };
/// let found = merge_found([part(&[(7, 3.0), (9, 1.0)]), part(&[(8, 2.0)])], 2);
/// assert_eq!((found.hits[0].id, found.hits[1].id, found.matching), (7, 8, 200));
/// ```
pub fn merge_found(parts: impl IntoIterator<Item = Found>, k: usize) -> Found {
    let mut all = Found::new(Vec::new(), Plan::Scan, 0);
    for part in parts {
        all.hits.extend(part.hits);
        all.matching += part.matching;
        all.plan = less_exact(all.plan, part.plan);
    }
    keep_best(&mut all.hits, k, Hit::order);
    all
}

fn less_exact(a: Plan, b: Plan) -> Plan {
    [Plan::Graph, Plan::Partitions].into_iter().find(|plan| [a, b].contains(plan)).unwrap_or(Plan::Scan)
}

/// The best `k` of what shards ranked, each asked about those candidates that belong to it
/// ([`split_by_shard`](crate::split_by_shard)). `unknown` has those of all shards, and `dropped` is the sum.
///
/// Make a [`Ranked`] from what came over a network by setting the fields of its default.
pub fn merge_ranked(parts: impl IntoIterator<Item = Ranked>, k: usize) -> Ranked {
    let mut all = Ranked::default();
    for part in parts {
        all.hits.extend(part.hits);
        all.unknown.extend(part.unknown);
        all.dropped += part.dropped;
    }
    keep_best(&mut all.hits, k, Hit::order);
    all.unknown.sort_unstable();
    all.unknown.dedup();
    all
}

/// How many hits a recall channel is to have, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// At least so many, if it brings as many.
    pub at_least: usize,
    /// At most so many.
    pub at_most: usize,
}

impl Default for Quota {
    /// Any number.
    fn default() -> Quota {
        Quota { at_least: 0, at_most: usize::MAX }
    }
}

impl Quota {
    /// A channel of one shard, with the quota of all shards.
    pub(super) fn of<'a>(self, candidates: impl Into<Candidates<'a>>) -> Channel<'a> {
        Channel::new(candidates).at_least(self.at_least).at_most(self.at_most)
    }

    /// Channels that bring nothing, for what looks at their quotas only.
    pub(super) fn channels(quotas: &[Quota]) -> Vec<Channel<'static>> {
        quotas.iter().map(|quota| quota.of(&[])).collect()
    }
}

/// The best `k` that the quotas allow of what shards ranked, each asked about those candidates of each channel that
/// belong to it. The answer is that of [`Index::rank_channels`](crate::Index::rank_channels) for one index with
/// all items, if each shard answered by [`Part::rank_channels_part`](super::Part::rank_channels_part).
///
/// # Errors
/// [`Error::BadOption`](crate::Error::BadOption) for quotas that contradict each other or `k`, and for more than
/// [`MAX_CHANNELS`](crate::MAX_CHANNELS).
pub fn merge_channels(
    parts: impl IntoIterator<Item = RankedChannels>,
    k: usize,
    quotas: &[Quota],
) -> Result<RankedChannels> {
    let channels = Quota::channels(quotas);
    check_quotas(&channels, k)?;
    let mut all = RankedChannels::default();
    for part in parts {
        all.hits.extend(part.hits);
        all.unknown.extend(part.unknown);
        all.dropped += part.dropped;
    }
    // A hit may name channels that the quotas do not: those have none.
    let known = u32::MAX.checked_shr(32 - quotas.len() as u32).unwrap_or(0);
    if all.hits.iter().any(|hit: &ChannelHit| hit.channels & !known != 0) {
        let problem = format!("there are {}, and a hit is of a channel beyond them", quotas.len());
        return Err(crate::Error::BadOption { option: "quotas", problem });
    }
    choose(&mut all.hits, k, &channels);
    all.unknown.sort_unstable();
    all.unknown.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(scores: &[f32], matching: usize) -> Found {
        let hits = scores.iter().zip(0..).map(|(&score, id)| Hit { id, score }).collect();
        Found::new(hits, Plan::Scan, matching)
    }

    #[test]
    fn who_may_have_more_is_asked_again() {
        let asks = |parts: &[Found]| to_ask_again(parts, 2, 3);
        assert_eq!(asks(&[found(&[9.0, 8.0], 5), found(&[7.0, 6.0], 5)]), [0]);
        assert_eq!(asks(&[found(&[9.0, 5.0], 5), found(&[7.0, 6.0], 5)]), [1]);
        assert_eq!(asks(&[found(&[9.0, 8.0], 2), found(&[7.0, 6.0], 5)]), [0; 0]);
        assert_eq!(asks(&[found(&[9.0, 8.0], 5), found(&[], 0)]), [0]);
        assert_eq!(to_ask_again(&[found(&[9.0, 8.0], 5)], 2, 2), [0; 0]);
    }

    #[test]
    fn quotas_that_contradict_are_refused() {
        let quota = Quota { at_least: 3, at_most: 2 };
        assert!(merge_channels([], 5, &[quota]).is_err());
        let hits = vec![ChannelHit::new(Hit { id: 1, score: 1.0 }, 0b10)];
        let part = RankedChannels { hits, ..RankedChannels::default() };
        assert!(merge_channels([part.clone()], 5, &[Quota::default()]).is_err());
        assert_eq!(merge_channels([part], 5, &[Quota::default(); 2]).unwrap().hits.len(), 1);
        assert!(merge_channels([], 5, &[Quota::default(); 33]).is_err());
    }
}
