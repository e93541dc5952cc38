//! Candidates ranked: those that the overlay has something to say of by it, the others by the generation.

use super::View;
use super::held::Workspace;
use crate::index::Candidates;
use crate::index::{Channel, ChannelHit, Dropped, MAX_CHANNELS, RankedChannels, Reason};
use crate::live::overlay::{BULK, Said};
use crate::ranking::{Source, keep_once};
use crate::{Hit, RankOptions, Ranked, Result};

impl View {
    /// The exact scores of candidates, the best `k` of them back, best first; otherwise as
    /// [`Index::rank`](crate::Index::rank).
    ///
    /// Row handles are those of [`View::index`]: an item that was upserted since is scored by its new
    /// embedding, and one that was deleted is reported among the unknown.
    ///
    /// # Errors
    /// As [`Index::rank`](crate::Index::rank).
    pub fn rank<'a>(&self, user: &[f32], candidates: impl Into<Candidates<'a>>, k: usize) -> Result<Ranked> {
        self.rank_with(user, candidates, &RankOptions::new(k))
    }

    /// As [`View::rank`]. The options decide how the answer is computed, not what it is.
    ///
    /// # Errors
    /// As [`View::rank`].
    pub fn rank_with<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<Candidates<'a>>,
        options: &RankOptions<'_>,
    ) -> Result<Ranked> {
        let mut ranked = Ranked::default();
        self.rank_into(user, candidates, options, &mut ranked)?;
        Ok(ranked)
    }

    /// As [`View::rank_with`], into the answer of an earlier rank; otherwise as
    /// [`Index::rank_into`](crate::Index::rank_into).
    ///
    /// # Errors
    /// As [`View::rank`].
    pub fn rank_into<'a>(
        &self,
        user: &[f32],
        candidates: impl Into<Candidates<'a>>,
        options: &RankOptions<'_>,
        ranked: &mut Ranked,
    ) -> Result<()> {
        self.ranked(user, candidates.into(), options, ranked)?;
        self.held.queries.add_others(1);
        Ok(())
    }

    /// The same, not counted among the queries.
    pub(super) fn ranked(
        &self,
        user: &[f32],
        candidates: Candidates<'_>,
        options: &RankOptions<'_>,
        ranked: &mut Ranked,
    ) -> Result<()> {
        if self.overlay.is_empty() {
            return self.held.index.rank_into(user, candidates, options, ranked);
        }
        let mut workspace = self.held.workspace_for(user)?;
        let mut merged = std::mem::take(&mut workspace.merged);
        self.merge(user, &[Channel::new(candidates)], options, &mut workspace, &mut merged)?;
        ranked.hits.clear();
        ranked.hits.extend(merged.hits.iter().map(ChannelHit::hit));
        ranked.unknown.clone_from(&merged.unknown);
        ranked.dropped = merged.dropped;
        workspace.merged = merged;
        self.held.put_back(workspace);
        Ok(())
    }

    /// The best `k` of what several recall channels bring, within their quotas: otherwise as
    /// [`Index::rank_channels`](crate::Index::rank_channels), and as [`View::rank`].
    ///
    /// # Errors
    /// As [`Index::rank_channels`](crate::Index::rank_channels).
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

    /// As [`View::rank_channels`], into the answer of an earlier one; otherwise as
    /// [`Index::rank_channels_into`](crate::Index::rank_channels_into).
    ///
    /// # Errors
    /// As [`Index::rank_channels`](crate::Index::rank_channels).
    pub fn rank_channels_into(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
        ranked: &mut RankedChannels,
    ) -> Result<()> {
        if self.overlay.is_empty() {
            self.held.index.rank_channels_into(user, channels, options, ranked)?;
        } else {
            let mut workspace = self.held.workspace_for(user)?;
            self.merge(user, channels, options, &mut workspace, ranked)?;
            self.held.put_back(workspace);
        }
        self.held.queries.add_others(1);
        Ok(())
    }

    /// The same where there are fresh items.
    fn merge(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
        workspace: &mut Workspace,
        ranked: &mut RankedChannels,
    ) -> Result<()> {
        let index = &self.held.index;
        index.check_channels(channels, options)?;
        let sources = index.sources(user, channels, options.k())?;
        let sources = &sources[..channels.len()];
        let mut starts = [(0, 0); MAX_CHANNELS + 1];
        for (number, &source) in sources.iter().enumerate() {
            self.split(source, 1 << number, workspace);
            starts[number + 1] = (workspace.ids.len(), workspace.rows.len());
        }
        let Workspace { channel_hits: fresh, ids, rows, deleted, .. } = workspace;
        fresh.sort_unstable_by_key(|hit| hit.id);
        fresh.dedup_by(|next, hit| {
            hit.channels |= if next.id == hit.id { next.channels } else { 0 };
            next.id == hit.id
        });
        let (gate, mut dropped) = (self.fresh_gate(&options.shown), Dropped::default());
        fresh.retain_mut(|hit| {
            for (number, filter) in (0..).zip(channels).filter_map(|(at, own)| Some((at, own.own_filter()?)))
            {
                hit.channels &= !(u32::from(!gate.keeps(filter, hit.id)) << number);
            }
            gate.note(hit.id, &mut dropped) && dropped.note((hit.channels == 0).then_some(Reason::Filtered))
        });
        let mut left = [Source::default(); MAX_CHANNELS];
        for (left, ends) in left[..sources.len()].iter_mut().zip(starts.windows(2)) {
            *left = Source { ids: &ids[ends[0].0..ends[1].0], rows: &rows[ends[0].1..ends[1].1] };
        }
        index.ranked_channels(user, channels, &left[..sources.len()], options, fresh, ranked);
        ranked.dropped += dropped;
        if !deleted.is_empty() {
            ranked.unknown.extend_from_slice(deleted);
            keep_once(&mut ranked.unknown);
        }
        Ok(())
    }

    /// Scores what the overlay has of the candidates, and leaves to the generation what it says nothing
    /// about.
    fn split(&self, candidates: Source<'_>, channel: u32, workspace: &mut Workspace) {
        let Workspace { user, channel_hits, ids, rows, ids_of_rows, deleted, .. } = workspace;
        let mut fresh = |id, said: Fresh| match said {
            Fresh::Score(score) => channel_hits.push(ChannelHit::new(Hit { id, score }, channel)),
            Fresh::Deleted => deleted.push(id),
        };
        self.score_fresh(user, candidates.ids, |place, said| match said {
            Some(said) => fresh(candidates.ids[place], said),
            None => ids.push(candidates.ids[place]),
        });
        if self.overlay.hidden == 0 {
            rows.extend_from_slice(candidates.rows);
            return;
        }
        ids_of_rows.resize(candidates.rows.len(), 0);
        self.held.index.ranking().ids_of(candidates.rows, ids_of_rows);
        self.score_fresh(user, ids_of_rows, |place, said| match said {
            Some(said) => fresh(ids_of_rows[place], said),
            None => rows.push(candidates.rows[place]),
        });
    }

    /// Writes the exact score of each candidate to the same place of `scores`, NaN for one that is not there
    /// or deleted; otherwise as [`Index::score`](crate::Index::score).
    ///
    /// # Errors
    /// As [`Index::score`](crate::Index::score).
    pub fn score(&self, user: &[f32], candidates: &[u64], scores: &mut [f32]) -> Result<usize> {
        self.score_with(user, candidates, &RankOptions::new(0), scores)
    }

    /// As [`View::score`], with NaN also for candidates that the options leave out, and those counted too.
    ///
    /// # Errors
    /// As [`Index::score_with`](crate::Index::score_with).
    pub fn score_with(
        &self,
        user: &[f32],
        candidates: &[u64],
        options: &RankOptions<'_>,
        scores: &mut [f32],
    ) -> Result<usize> {
        let without = self.held.index.score_with(user, candidates, options, scores)?;
        self.held.queries.add_others(1);
        if self.overlay.is_empty() {
            return Ok(without);
        }
        let workspace = self.held.workspace_for(user)?;
        let gate = self.fresh_gate(&options.shown);
        self.score_fresh(&workspace.user, candidates, |place, said| match said {
            Some(Fresh::Score(score)) if gate.passes_id(candidates[place]) => scores[place] = score,
            Some(_) => scores[place] = f32::NAN,
            None => {}
        });
        self.held.put_back(workspace);
        // No score is NaN otherwise: norms are limited.
        Ok(scores.iter().filter(|score| score.is_nan()).count())
    }

    /// Calls `found` with the place of each candidate and what the overlay says of it, if anything.
    fn score_fresh(&self, user: &[f32], candidates: &[u64], mut found: impl FnMut(usize, Option<Fresh>)) {
        let mut said = [Said::Nothing; BULK];
        for (number, bulk) in candidates.chunks(BULK).enumerate() {
            self.overlay.find_all(bulk, &mut said);
            for (place, said) in said[..bulk.len()].iter().enumerate() {
                let fresh = match said {
                    Said::Nothing => None,
                    Said::Deleted => Some(Fresh::Deleted),
                    Said::Present(rows, row) => {
                        let mut score = [0.0];
                        rows.scores(user, &[*row], &mut score);
                        Some(Fresh::Score(score[0]))
                    }
                };
                found(number * BULK + place, fresh);
            }
        }
    }
}

enum Fresh {
    Deleted,
    Score(f32),
}
