//! itemdex for Python: the extension module `itemdex._itemdex`, whose names the package `itemdex` has.
//!
//! `arrays` and `table` take what callers have: numpy arrays, and record batches by Arrow's PyCapsule
//! interface. `items` has the queries, which an `index` and a `view` of a `live` index answer alike;
//! `candidates` and `shown` say of which items. `build` builds, under `watch`, with `columns`. Answers are
//! the named tuples of `itemdex._answers`, and exceptions those of `itemdex._errors`.

#![deny(unsafe_code)]

mod answers;
mod arrays;
mod build;
mod candidates;
mod catalog;
mod columns;
mod errors;
mod index;
mod items;
mod live;
mod merge;
mod options;
mod sharded;
mod shown;
mod table;
mod view;
mod watch;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command line `itemdex` and returns its exit code.
#[pyfunction]
fn _run(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| itemdex_cli::run(args))
}

#[pymodule]
fn _itemdex(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<items::Items>()?;
    module.add_class::<index::Index>()?;
    module.add_class::<candidates::RowHandles>()?;
    module.add_class::<shown::Filter>()?;
    module.add_class::<shown::ItemSet>()?;
    module.add_class::<catalog::Catalog>()?;
    module.add_class::<live::LiveIndex>()?;
    module.add_class::<sharded::ShardedIndex>()?;
    module.add_class::<sharded::ShardedFilter>()?;
    module.add_function(wrap_pyfunction!(merge::shard_of, module)?)?;
    module.add_function(wrap_pyfunction!(merge::share_of, module)?)?;
    module.add_function(wrap_pyfunction!(merge::to_ask_again, module)?)?;
    module.add_function(wrap_pyfunction!(merge::merge_found, module)?)?;
    module.add_function(wrap_pyfunction!(merge::merge_ranked, module)?)?;
    module.add_function(wrap_pyfunction!(merge::merge_channels, module)?)?;
    module.add_class::<view::View>()?;
    module.add_class::<view::ViewRows>()?;
    module.add_function(wrap_pyfunction!(build::build, module)?)?;
    module.add_function(wrap_pyfunction!(index::_open, module)?)?;
    module.add_function(wrap_pyfunction!(_run, module)?)?;
    module.add("NO_ITEM", arrays::NO_ITEM)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
