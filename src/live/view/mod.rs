//! What a request sees: a generation, and the fresh items laid over it.

mod fresh;
mod held;
mod many;
mod rank;
mod rows;

use std::borrow::Cow;
use std::sync::Arc;

pub(super) use held::{Held, Sample, Sampling};
pub use rows::ViewRows;

use fresh::FreshGate;

use super::catalog::Generation;
use super::overlay::{Overlay, Said};
use crate::top::{TopK, keep_best};
use crate::{Found, Hit, Index, Result, SearchOptions, Values};

/// A generation with the fresh items laid over it, as they were when it was asked for.
///
/// What [`LiveIndex::current`](super::LiveIndex::current) hands out: keep it for a request, so that all of
/// the request sees the same items, and let it go then. It never changes. The answers are those of an
/// [`Index`] that holds what the generation holds, with what was upserted later in place of older embeddings
/// and without what was deleted.
#[derive(Clone)]
pub struct View {
    pub(super) held: Arc<Held>,
    pub(super) overlay: Overlay,
}

impl View {
    /// The generation, as its catalog listed it when it was taken up.
    pub fn generation(&self) -> &Generation {
        &self.held.generation
    }

    /// The position of the log up to which the generation's dump has changes; 0 where the publisher gave
    /// none.
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

    /// How many items there are: those of the generation, with the fresh ones and without the deleted. May be
    /// 0.
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

    /// The embedding of an item, as [`Index::get`] gives it.
    pub fn get(&self, id: u64) -> Option<Cow<'_, [f32]>> {
        match self.overlay.find(id) {
            Said::Present(rows, row) => Some(rows.get(row)),
            Said::Deleted => None,
            Said::Nothing => self.held.index.get(id),
        }
    }

    /// The values of an item, all columns of the generation named; `None` if there is no such item. A fresh
    /// item has those that it was upserted with or that were set since, as far as the generation has such
    /// columns; the others are null.
    pub fn values(&self, id: u64) -> Option<Values> {
        match self.overlay.find(id) {
            Said::Present(..) => self.overlay.known(id).map(|known| known.values.clone()),
            Said::Deleted => None,
            Said::Nothing => self.held.index.values(id),
        }
    }

    /// How many items have expired at a second since 1970, fresh ones included.
    pub(super) fn expired(&self, now: i64) -> usize {
        let columns = self.held.index.columns();
        let mut hidden = Vec::new();
        self.overlay.hidden_rows(&mut hidden);
        let hidden = hidden.into_iter().filter(|&row| columns.has_expired(row, now)).count();
        let fresh = self.overlay.present().filter(|(_, known)| known.has_expired(now)).count();
        columns.expired(now).len() - hidden + fresh
    }

    /// Whether there is such an item.
    pub fn contains(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    /// Every item with its embedding, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Cow<'_, [f32]>)> {
        let of_generation = self.held.index.iter().filter(|item| !self.overlay.has(item.0));
        of_generation.chain(self.overlay.iter().map(|(id, embedding)| (id, embedding.into())))
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
    /// own. Where they hide more than that of the best, it is searched once more among the rows that they do not hide, by
    /// partitions or a scan; so a search costs at most about two scans. Fresh items are all scored.
    ///
    /// # Errors
    /// As [`Index::search_with`].
    pub fn search_with(&self, user: &[f32], options: &SearchOptions<'_>) -> Result<Found> {
        let mut found = Found::default();
        self.search_into(user, options, &mut found)?;
        Ok(found)
    }

    /// As [`View::search_with`], into the answer of an earlier search; otherwise as [`Index::search_into`].
    ///
    /// # Errors
    /// As [`Index::search_with`].
    pub fn search_into(&self, user: &[f32], options: &SearchOptions<'_>, found: &mut Found) -> Result<()> {
        self.find(user, options, found)?;
        let before = self.held.queries.add_searches(1);
        if let Some(sampling) = &self.held.sampling {
            sampling.offer(before, user, &found.hits, options.k(), self);
        }
        Ok(())
    }

    /// The same, not counted among the queries.
    pub(super) fn find(&self, user: &[f32], options: &SearchOptions<'_>, found: &mut Found) -> Result<()> {
        let (index, overlay) = (&self.held.index, &self.overlay);
        let k = options.k().min(self.len());
        if overlay.is_empty() || k == 0 {
            return index.search_into(user, &options.for_k(k), found);
        }
        let options = &options.at_one_second();
        let asked = self.asked_at_first(k);
        index.search_into(user, &options.for_k(asked), found)?;
        let fresh = self.fresh_gate(&options.shown);
        self.lay_over(user, options, (k, asked), &fresh, found)
    }

    /// For how many items the generation is searched at first, so that `k` are likely left of them.
    fn asked_at_first(&self, k: usize) -> usize {
        k + self.overlay.hidden.min(k / 8 + 8)
    }

    /// Lays the fresh items over what was found in the generation for as many items as were asked for: takes away what they
    /// hide, searches once more where too few are left, and adds the best of them.
    fn lay_over(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        (k, asked): (usize, usize),
        fresh: &FreshGate<'_>,
        found: &mut Found,
    ) -> Result<()> {
        let (index, overlay) = (&self.held.index, &self.overlay);
        found.hits.retain(|hit| matches!(overlay.find(hit.id), Said::Nothing));
        let mut workspace = self.held.workspace_for(user)?;
        overlay.hidden_rows(&mut workspace.rows);
        if found.hits.len() < k && asked < found.matching {
            index.search_without(user, &options.for_k(k), &workspace.rows, found)?;
        } else {
            found.matching -= index.count_shown(options, &workspace.rows);
        }
        let present = overlay.items - overlay.deleted;
        if present > 0 {
            let mut top = TopK::new(k.min(present), std::mem::take(&mut workspace.hits));
            overlay.search(&workspace.user, |id, known| fresh.passes(id, known), &mut top);
            workspace.hits = top.into_sorted();
            found.hits.extend_from_slice(&workspace.hits);
            found.matching += overlay.present().filter(|(id, known)| fresh.passes(*id, known)).count();
        }
        self.held.put_back(workspace);
        keep_best(&mut found.hits, k, Hit::order);
        Ok(())
    }
}
