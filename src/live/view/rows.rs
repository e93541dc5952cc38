//! Items of a view by their places.

use super::View;
use crate::index::Candidates;
use crate::live::overlay::Said;
use crate::{Result, RowHandles, SearchOptions};

/// Items of a view: by their rows those that its generation has, by their ids the others. Made by
/// [`View::look_up`] and [`View::search_rows`], for a rank by the same view or a later one of the same
/// generation. A reference to it goes where candidates go.
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
/// assert_eq!(view.rank(&[0.0, 1.0], &popular, 1)?.hits[0].id, 8);
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

    /// How many items there are; one named twice counts twice.
    pub fn len(&self) -> usize {
        self.rows.len() + self.fresh.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a ViewRows> for Candidates<'a> {
    fn from(items: &'a ViewRows) -> Self {
        Candidates::Both(&items.rows, &items.fresh)
    }
}

/// Items of an index, which has no fresh ones.
impl From<RowHandles> for ViewRows {
    fn from(rows: RowHandles) -> ViewRows {
        ViewRows { rows, fresh: Vec::new() }
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
}
