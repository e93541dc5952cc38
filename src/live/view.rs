use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::catalog::Generation;
use super::overlay::{BULK, Overlay, Said};
use super::recall::{Recalls, Sampler};
use crate::top::{TopK, keep_best};
use crate::vectors::pad;
use crate::{Found, Hit, Index, Ranked, Result, SearchOptions};

/// Workspaces kept for later queries.
const POOL: usize = 64;

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
    pub queries: AtomicU64,
    /// What sampled searches found of the exact answer.
    pub recalls: Recalls,
    sampler: Option<Arc<Sampler>>,
    workspaces: ArrayQueue<Workspace>,
}

/// What a query over fresh items needs, kept for the next one.
#[derive(Default)]
struct Workspace {
    user: Vec<f32>,
    hits: Vec<Hit>,
    others: Vec<u64>,
}

impl Held {
    pub fn new(index: Index, generation: Generation, sampler: Option<Arc<Sampler>>) -> Held {
        let workspaces = ArrayQueue::new(POOL);
        Held {
            index,
            generation,
            queries: AtomicU64::new(0),
            recalls: Recalls::default(),
            sampler,
            workspaces,
        }
    }

    fn workspace_for(&self, user: &[f32]) -> Result<Workspace> {
        self.index.check_user(user)?;
        let mut workspace = self.workspaces.pop().unwrap_or_default();
        pad(user, &mut workspace.user);
        workspace.hits.clear();
        workspace.others.clear();
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
        let before = self.held.queries.fetch_add(1, Ordering::Relaxed);
        if let Some(sampler) = &self.held.sampler {
            sampler.offer(before, user, &found.hits, options.k(), self);
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
        keep_best(&mut hits, k);
        Ok(Found { hits, plan })
    }

    /// The exact scores of candidates, the best `k` of them back, best first; otherwise as [`Index::rank`].
    ///
    /// # Errors
    /// As [`Index::rank`].
    pub fn rank(&self, user: &[f32], candidates: &[u64], k: usize) -> Result<Ranked> {
        if self.overlay.is_empty() {
            return self.held.index.rank(user, candidates, k);
        }
        let mut workspace = self.held.workspace_for(user)?;
        let Workspace { user: padded, hits, others } = &mut workspace;
        let mut unknown = Vec::new();
        self.score_fresh(padded, candidates, |_, id, said| match said {
            Fresh::Score(score) => hits.push(Hit { id, score }),
            Fresh::Deleted => unknown.push(id),
            Fresh::Nothing => others.push(id),
        });
        hits.sort_unstable_by_key(|hit| hit.id);
        hits.dedup_by_key(|hit| hit.id);
        let mut ranked = self.held.index.rank(user, others, k)?;
        ranked.hits.extend_from_slice(hits);
        keep_best(&mut ranked.hits, k);
        self.held.put_back(workspace);
        if !unknown.is_empty() {
            ranked.unknown.append(&mut unknown);
            ranked.unknown.sort_unstable();
            ranked.unknown.dedup();
        }
        Ok(ranked)
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
        self.score_fresh(&workspace.user, candidates, |place, _, said| match said {
            Fresh::Score(score) => scores[place] = score,
            Fresh::Deleted => scores[place] = f32::NAN,
            Fresh::Nothing => {}
        });
        self.held.put_back(workspace);
        // No score is NaN otherwise: norms are limited.
        Ok(scores.iter().filter(|score| score.is_nan()).count())
    }

    /// Calls `found` with the place and id of each candidate and what the overlay says of it.
    fn score_fresh(&self, user: &[f32], candidates: &[u64], mut found: impl FnMut(usize, u64, Fresh)) {
        let mut said = [Said::Nothing; BULK];
        for (number, bulk) in candidates.chunks(BULK).enumerate() {
            self.overlay.find_all(bulk, &mut said);
            for (place, (&id, said)) in bulk.iter().zip(&said).enumerate() {
                let fresh = match said {
                    Said::Nothing => Fresh::Nothing,
                    Said::Deleted => Fresh::Deleted,
                    Said::Present(rows, row) => {
                        let mut score = [0.0];
                        rows.scores(user, &[*row], &mut score);
                        Fresh::Score(score[0])
                    }
                };
                found(number * BULK + place, id, fresh);
            }
        }
    }
}

enum Fresh {
    Nothing,
    Deleted,
    Score(f32),
}
