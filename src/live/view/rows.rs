//! Items of a view by their places.

use super::View;
use crate::index::Channel;
use crate::live::overlay::Said;
use crate::{RankOptions, Ranked, Result, RowHandles, SearchOptions};

/// Items of a view: by their rows those that its generation has, by their ids the others. Made by
/// [`View::look_up`] and [`View::search_rows`], for a rank by the same view or a later one of the same
/// generation.
///
/// ```
/// # use itemdex::IndexBuilder;
/// # use itemdex::live::{Catalog, LiveOptions, PublishOptions};
/// # let folder = tempfile::tempdir().unwrap();
/// # let catalog = Catalog::create(folder.path().join("catalog"))?;
/// # let build = |path: &std::path::Path| IndexBuilder::new("v1").build_from([(7, [1.0, 0.5])], path);
/// # catalog.publish_made(build, &PublishOptions::new())?;
/// # let live = LiveOptions::new().log(folder.path().join("fresh.log")).open(catalog.folder())?;
/// live.upsert("v1", 8, &[0.5, 1.0])?;
/// let view = live.current();
/// let popular = view.look_up(&[7, 8, 9]);
/// assert_eq!((popular.rows().len(), popular.fresh()), (1, &[8][..]));
/// assert_eq!(view.rank_rows(&[0.0, 1.0], &popular, 1)?.hits[0].id, 8);
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRows {
    rows: RowHandles,
    fresh: Vec<u64>,
}

impl ViewRows {
    /// The items that the generation has.
    pub fn rows(&self) -> &RowHandles {
        &self.rows
    }

    /// The ids of the items that it does not have.
    pub fn fresh(&self) -> &[u64] {
        &self.fresh
    }
}

impl View {
    /// The items of these ids; what the view does not have is left out. Otherwise as
    /// [`Index::look_up`](crate::Index::look_up).
    pub fn look_up(&self, ids: &[u64]) -> ViewRows {
        let index = &self.held.index;
        let said = |&id: &u64| self.overlay.find(id);
        let (of_generation, others): (Vec<u64>, Vec<u64>) = ids
            .iter()
            .filter(|id| !matches!(said(id), Said::Deleted))
            .partition(|&&id| matches!(said(&id), Said::Nothing) || index.contains(id));
        ViewRows { rows: index.look_up(&of_generation), fresh: others }
    }

    /// The items that [`View::search_with`] finds, for a rank by this view.
    ///
    /// # Errors
    /// As [`View::search_with`].
    pub fn search_rows(&self, user: &[f32], options: &SearchOptions) -> Result<ViewRows> {
        let ids: Vec<u64> = self.search_with(user, options)?.hits.iter().map(|hit| hit.id).collect();
        Ok(self.look_up(&ids))
    }

    /// As [`View::rank`], of looked up items.
    ///
    /// # Errors
    /// As [`View::rank`]; [`Error::StaleRows`](crate::Error::StaleRows) for items of a view of another
    /// generation.
    pub fn rank_rows(&self, user: &[f32], items: &ViewRows, k: usize) -> Result<Ranked> {
        let channels = [Channel::new(&items.rows), Channel::new(&*items.fresh)];
        let ranked = self.rank_channels(user, &channels, &RankOptions::new(k))?;
        let hits = ranked.hits.iter().map(|hit| hit.hit()).collect();
        Ok(Ranked { hits, unknown: ranked.unknown, dropped: ranked.dropped })
    }
}
