//! What a request sees: a generation, and the fresh items laid over it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;

use super::catalog::Generation;
use super::overlay::{BULK, Overlay, Said};
use crate::index::{Candidates, Channel, ChannelHit, MAX_CHANNELS, RankedChannels};
use crate::ranking::{Source, sorted_once};
use crate::top::{TopK, keep_best};
use crate::vectors::pad;
use crate::{Found, Hit, Index, RankOptions, Ranked, Result, SearchOptions};

/// Workspaces kept for later queries.
const POOL: usize = 64;

/// Searches that the recall of a generation is the mean of.
const RECALLS: usize = 500;

/// A generation with the fresh items laid over it, as they were when it was asked for.
///
/// What [`LiveIndex::current`](super::LiveIndex::current) hands out: keep it for a request, so that all of the request sees
/// the same items, and let it go then. It never changes. The answers are those of an [`Index`] that holds what the
/// generation holds, with what was upserted later in place of older embeddings and without what was deleted.
#[derive(Clone)]
pub struct View {
    pub(super) held: Arc<Held>,
    pub(super) overlay: Overlay,
}

/// An open generation.
pub(super) struct Held {
    pub index: Index,
    pub generation: Generation,
    pub queries: Queries,
    /// What sampled searches found of the exact answer.
    pub recalls: Recalls,
    sampling: Option<Sampling>,
    workspaces: ArrayQueue<Workspace>,
}

/// Queries that a generation answered.
#[derive(Default)]
pub(super) struct Queries {
    searches: AtomicU64,
    others: AtomicU64,
}

impl Queries {
    pub fn count(&self) -> u64 {
        self.searches.load(Ordering::Relaxed) + self.others.load(Ordering::Relaxed)
    }

    /// Counts one that is no search.
    fn add(&self) {
        self.others.fetch_add(1, Ordering::Relaxed);
    }
}

/// Which searches are compared with the exact answer, and where to.
#[derive(Clone)]
pub(super) struct Sampling {
    /// One search in so many.
    pub every: u64,
    pub samples: Sender<Sample>,
}

/// A search and its answer.
pub(super) struct Sample {
    pub view: View,
    pub user: Vec<f32>,
    pub hits: Vec<Hit>,
    pub k: usize,
}

impl Sampling {
    /// Hands on the search with this number if it is one of the share, unless the receiver is busy with another.
    fn offer(&self, number: u64, user: &[f32], hits: &[Hit], k: usize, view: &View) {
        if number.is_multiple_of(self.every) && !self.samples.is_full() {
            let sample = Sample { view: view.clone(), user: user.to_vec(), hits: hits.to_vec(), k };
            let _ = self.samples.try_send(sample);
        }
    }
}

/// The recall of the latest sampled searches.
#[derive(Default)]
pub(super) struct Recalls(Mutex<VecDeque<f64>>);

impl Recalls {
    pub fn push(&self, recall: f64) {
        let mut recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if recalls.len() == RECALLS {
            recalls.pop_front();
        }
        recalls.push_back(recall);
    }

    /// Their mean and number; none where there are none.
    pub fn mean(&self) -> Option<(f64, usize)> {
        let recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (!recalls.is_empty()).then(|| (recalls.iter().sum::<f64>() / recalls.len() as f64, recalls.len()))
    }
}

/// What a query over fresh items needs, kept for the next one.
#[derive(Default)]
struct Workspace {
    user: Vec<f32>,
    hits: Vec<Hit>,
    channel_hits: Vec<ChannelHit>,
    /// The candidates that are the generation's to score.
    ids: Vec<u64>,
    rows: Vec<u32>,
    /// The ids of the row handles of a channel.
    ids_of_rows: Vec<u64>,
}

impl Held {
    pub fn new(index: Index, generation: Generation, sampling: Option<Sampling>) -> Held {
        let workspaces = ArrayQueue::new(POOL);
        Held {
            index,
            generation,
            queries: Queries::default(),
            recalls: Recalls::default(),
            sampling,
            workspaces,
        }
    }

    fn workspace_for(&self, user: &[f32]) -> Result<Workspace> {
        self.index.check_user(user)?;
        let mut workspace = self.workspaces.pop().unwrap_or_default();
        pad(user, &mut workspace.user);
        workspace.hits.clear();
        workspace.channel_hits.clear();
        workspace.ids.clear();
        workspace.rows.clear();
        Ok(workspace)
    }

    fn put_back(&self, workspace: Workspace) {
        let _ = self.workspaces.push(workspace);
    }
}

impl View {
    /// The generation, as its catalog listed it when it was taken up.
    pub fn generation(&self) -> &Generation {
        &self.held.generation
    }

    /// The position of the log up to which the generation's dump has changes; 0 where the publisher gave none.
    pub(super) fn position(&self) -> u64 {
        self.held.generation.position()
    }

    /// The model version that the user embedding has to be of.
    pub fn model_version(&self) -> &str {
        self.held.index.model_version()
    }

    /// Values an embedding.
    pub fn dim(&self) -> usize {
        self.held.index.dim()
    }

    /// How many items there are: those of the generation, with the fresh ones and without the deleted. May be 0.
    pub fn len(&self) -> usize {
        self.held.index.len() - self.overlay.hidden + self.overlay.items - self.overlay.deleted
    }

    /// Whether every item was deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of the generation alone, without fresh items.
    pub fn index(&self) -> &Index {
        &self.held.index
    }

    /// The embedding of an item, in place.
    pub fn get(&self, id: u64) -> Option<&[f32]> {
        match self.overlay.find(id) {
            Said::Present(rows, row) => Some(rows.get(row)),
            Said::Deleted => None,
            Said::Nothing => self.held.index.get(id),
        }
    }

    /// Whether there is such an item.
    pub fn contains(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    /// Every item with its embedding, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[f32])> {
        let of_generation = self.held.index.iter().filter(|item| !self.overlay.has(item.0));
        of_generation.chain(self.overlay.iter())
    }

    /// The best `k` items for a user, best first: the hits of [`View::search_with`] with default options.
    ///
    /// # Errors
    /// As [`Index::search`].
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.search_with(user, &SearchOptions::new(k))?.hits)
    }

    /// The best items for a user, and whether the generation was walked or scanned.
    ///
    /// The generation is searched as [`Index::search_with`] does, for some more than `k` where fresh items hide some of its
    /// own, and again for twice as many where that was not enough; fresh items are all scored.
    ///
    /// # Errors
    /// As [`Index::search_with`].
    pub fn search_with(&self, user: &[f32], options: &SearchOptions) -> Result<Found> {
        let found = self.find(user, options)?;
        let before = self.held.queries.searches.fetch_add(1, Ordering::Relaxed);
        if let Some(sampling) = &self.held.sampling {
            sampling.offer(before, user, &found.hits, options.k(), self);
        }
        Ok(found)
    }

    /// The same, not counted among the queries.
    pub(super) fn find(&self, user: &[f32], options: &SearchOptions) -> Result<Found> {
        let (index, overlay) = (&self.held.index, &self.overlay);
        let k = options.k().min(self.len());
        if overlay.is_empty() || k == 0 {
            return index.search_with(user, &options.for_k(k));
        }
        let mut asked = k + overlay.hidden.min(k / 8 + 8);
        let Found { mut hits, plan } = loop {
            let mut found = index.search_with(user, &options.for_k(asked))?;
            found.hits.retain(|hit| matches!(overlay.find(hit.id), Said::Nothing));
            if found.hits.len() >= k.min(index.len() - overlay.hidden) || asked >= index.len() {
                break found;
            }
            asked *= 2;
        };
        let present = overlay.items - overlay.deleted;
        if present > 0 {
            let mut workspace = self.held.workspace_for(user)?;
            let mut top = TopK::new(k.min(present), std::mem::take(&mut workspace.hits));
            overlay.search(&workspace.user, &mut top);
            workspace.hits = top.into_sorted();
            hits.extend_from_slice(&workspace.hits);
            self.held.put_back(workspace);
        }
        keep_best(&mut hits, k, Hit::order);
        Ok(Found { hits, plan })
    }

    /// The exact scores of candidates, the best `k` of them back, best first; otherwise as [`Index::rank`].
    ///
    /// Row handles are those of [`View::index`]: an item that was upserted since is scored by its new embedding, and one that was
    /// deleted is reported among the unknown.
    ///
    /// # Errors
    /// As [`Index::rank`].
    pub fn rank<'a>(&self, user: &[f32], candidates: impl Into<Candidates<'a>>, k: usize) -> Result<Ranked> {
        let candidates = candidates.into();
        if self.overlay.is_empty() {
            return self.held.index.rank(user, candidates, k);
        }
        let channel = Channel::new(candidates);
        let RankedChannels { hits, unknown } = self.rank_channels(user, &[channel], &RankOptions::new(k))?;
        let hits = hits.iter().map(ChannelHit::hit).collect();
        Ok(Ranked { hits, unknown })
    }

    /// The best `k` of what several recall channels bring, within their quotas: otherwise as [`Index::rank_channels`], and as
    /// [`View::rank`].
    ///
    /// # Errors
    /// As [`Index::rank_channels`].
    pub fn rank_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions,
    ) -> Result<RankedChannels> {
        let index = &self.held.index;
        if self.overlay.is_empty() {
            return index.rank_channels(user, channels, options);
        }
        let sources = index.sources(user, channels, options.k())?;
        let sources = &sources[..channels.len()];
        let mut workspace = self.held.workspace_for(user)?;
        let mut deleted = Vec::new();
        let mut starts = [(0, 0); MAX_CHANNELS + 1];
        for (number, &source) in sources.iter().enumerate() {
            self.split(source, 1 << number, &mut workspace, &mut deleted);
            starts[number + 1] = (workspace.ids.len(), workspace.rows.len());
        }
        let Workspace { channel_hits: fresh, ids, rows, .. } = &mut workspace;
        fresh.sort_unstable_by_key(|hit| hit.id);
        fresh.dedup_by(|next, hit| {
            hit.channels |= if next.id == hit.id { next.channels } else { 0 };
            next.id == hit.id
        });
        let mut left = [Source::Ids(&[]); MAX_CHANNELS];
        for ((left, source), ends) in left.iter_mut().zip(sources).zip(starts.windows(2)) {
            *left = match source {
                Source::Ids(_) => Source::Ids(&ids[ends[0].0..ends[1].0]),
                Source::Rows(_) => Source::Rows(&rows[ends[0].1..ends[1].1]),
            };
        }
        let mut ranked = index.ranked_channels(user, channels, &left[..sources.len()], options, fresh);
        self.held.put_back(workspace);
        if !deleted.is_empty() {
            ranked.unknown.append(&mut deleted);
            ranked.unknown = sorted_once(ranked.unknown);
        }
        Ok(ranked)
    }

    /// Scores what the overlay has of the candidates, and leaves to the generation what it says nothing about.
    fn split(&self, candidates: Source<'_>, channel: u32, workspace: &mut Workspace, deleted: &mut Vec<u64>) {
        let Workspace { user, channel_hits, ids, rows, ids_of_rows, .. } = workspace;
        let mut fresh = |id, said: Fresh| match said {
            Fresh::Score(score) => channel_hits.push(ChannelHit::new(Hit { id, score }, channel)),
            Fresh::Deleted => deleted.push(id),
        };
        match candidates {
            Source::Ids(candidates) => self.score_fresh(user, candidates, |place, said| match said {
                Some(said) => fresh(candidates[place], said),
                None => ids.push(candidates[place]),
            }),
            Source::Rows(candidates) if self.overlay.hidden == 0 => rows.extend_from_slice(candidates),
            Source::Rows(candidates) => {
                ids_of_rows.resize(candidates.len(), 0);
                self.held.index.ranking().ids_of(candidates, ids_of_rows);
                self.score_fresh(user, ids_of_rows, |place, said| match said {
                    Some(said) => fresh(ids_of_rows[place], said),
                    None => rows.push(candidates[place]),
                });
            }
        }
    }

    /// Writes the exact score of each candidate to the same place of `scores`, NaN for one that is not there or deleted;
    /// otherwise as [`Index::score`].
    ///
    /// # Errors
    /// As [`Index::score`].
    pub fn score(&self, user: &[f32], candidates: &[u64], scores: &mut [f32]) -> Result<usize> {
        let unknown = self.held.index.score(user, candidates, scores)?;
        if self.overlay.is_empty() {
            return Ok(unknown);
        }
        let workspace = self.held.workspace_for(user)?;
        self.score_fresh(&workspace.user, candidates, |place, said| match said {
            Some(Fresh::Score(score)) => scores[place] = score,
            Some(Fresh::Deleted) => scores[place] = f32::NAN,
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
