//! What one request sees of a catalog in service.

use std::sync::Arc;

use itemdex::live;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Id, Ids, handed};
use crate::candidates::RowHandles;
use crate::catalog::described;
use crate::columns;
use crate::errors::raised;
use crate::items::{Items, Target, one};
use crate::options::Asked;
use crate::shown::Shown;

/// Items of a view: those of its generation by their rows, fresh ones by their ids.
///
/// Made by `View.look_up` and `View.search_rows`. A view of the same generation ranks them as two channels:
/// `view.rank_channels(user, [items.rows, items.fresh], k)`. `len()` is the number of items.
#[pyclass(frozen, module = "itemdex")]
pub struct ViewRows(live::ViewRows);

#[pymethods]
impl ViewRows {
    /// RowHandles of the items that the generation has.
    #[getter]
    fn rows(&self) -> RowHandles {
        RowHandles(self.0.rows().clone())
    }

    /// The ids of the items that only the view has: uint64 of shape (f,).
    #[getter]
    fn fresh<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        handed(py, self.0.fresh().to_vec()).into_any()
    }

    fn __len__(&self) -> usize {
        self.0.rows().len() + self.0.fresh().len()
    }

    fn __repr__(&self) -> String {
        format!("<itemdex.ViewRows of {} items, {} of them fresh>", self.__len__(), self.0.fresh().len())
    }
}

/// What one request sees: a generation with the fresh items laid over it, as they were when it was asked for.
///
/// Made by `LiveIndex.current` and `LiveIndex.for_model`. It never changes. Keep it for a request, and let it
/// go then: as a context manager it closes itself.
#[pyclass(frozen, extends = Items, module = "itemdex")]
pub struct View;

impl View {
    fn opened(slf: &Bound<'_, Self>) -> PyResult<Arc<live::View>> {
        match slf.as_super().get().target()? {
            Target::View(view) => Ok(view),
            Target::Index(_) => unreachable!("it was made with a view"),
        }
    }
}

#[pymethods]
impl View {
    /// The Generation, as its catalog listed it when it was taken up; its path is None.
    #[getter]
    fn generation<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        described(slf.py(), View::opened(slf)?.generation(), None)
    }

    /// What an item has in the columns, fresh or not, as `Index.values` says it. None if there is no such
    /// item.
    ///
    /// Args:
    ///     id: an int.
    fn values<'py>(slf: &Bound<'py, Self>, id: Id) -> PyResult<Option<Bound<'py, PyDict>>> {
        View::opened(slf)?.values(id.0).map(|values| columns::described(slf.py(), &values)).transpose()
    }

    /// Items of this view, for ranks that look nothing up. Ids that it does not have are left out.
    ///
    /// Args:
    ///     ids: item ids of shape (m,).
    fn look_up(slf: &Bound<'_, Self>, ids: &Bound<'_, PyAny>) -> PyResult<ViewRows> {
        let view = View::opened(slf)?;
        let ids = Ids::of(ids)?;
        let ids = ids.list()?;
        Ok(ViewRows(slf.py().detach(|| view.look_up(ids))))
    }

    /// The items that `search` finds for one user, for a rank by this view.
    ///
    /// Args:
    ///     user: shape (dim,).
    ///     k and the others: as in `search`.
    #[pyo3(signature = (
        user, k, *, recall=None, filter=None, deny=None, allow=None, now=None, ef=None, plan=None,
        approximate_scores=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn search_rows(
        slf: &Bound<'_, Self>,
        user: &Bound<'_, PyAny>,
        k: usize,
        recall: Option<f32>,
        filter: Option<&Bound<'_, PyAny>>,
        deny: Option<&Bound<'_, PyAny>>,
        allow: Option<&Bound<'_, PyAny>>,
        now: Option<i64>,
        ef: Option<usize>,
        plan: Option<&str>,
        approximate_scores: bool,
    ) -> PyResult<ViewRows> {
        let view = View::opened(slf)?;
        let shown = Shown::of(view.index(), filter, [deny, allow], now)?;
        let options = Asked { k, recall, ef, plan, approximate_scores }.options(&shown)?;
        let user = one(user)?;
        let rows = slf.py().detach(|| view.search_rows(&user, &options));
        rows.map(ViewRows).map_err(raised)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        match slf.as_super().get().target() {
            Ok(Target::View(view)) => {
                let (number, version) = (view.generation().number, view.model_version());
                format!(
                    "<itemdex.View of generation {number}, model version {version:?}: {} items>",
                    view.len()
                )
            }
            _ => "<itemdex.View: closed>".to_owned(),
        }
    }
}

pub fn view(py: Python<'_>, view: Arc<live::View>) -> PyResult<Py<View>> {
    Py::new(py, PyClassInitializer::from(Items::new(Target::View(view))).add_subclass(View))
}
