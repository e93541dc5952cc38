//! Building index files from arrays, record batches and files.

use std::borrow::Cow;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use itemdex::dump::Dump;
use itemdex::{BuildReport, Error, IndexBuilder, Matrix, Quantization, RowFormat, Stage};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};

use crate::answers::BUILD_REPORT;
use crate::arrays::{Floats, Ids, RowsOf, Users};
use crate::columns::{check_out, columns_of};
use crate::errors::raised;
use crate::options::plan_named;
use crate::table::{Table, TableRow, bad, failed_or, is_table};
use crate::watch::{Reins, watched};

/// Builds an index file.
///
/// Args:
///     items: the item embeddings, of float32, float16 or float64: an array of shape (n, dim); or record
///         batches of anything that has `__arrow_c_stream__`, such as a pyarrow Table or RecordBatchReader, a
///         polars or pandas DataFrame, a duckdb relation; or the path of a .npy, .fbin, .fvecs,
///         .parquet or .safetensors file.
///     ids: the item ids, uint64 or int64 of shape (n,), for an array or record batches; the path of a .npy
///         file for a file. By default the column `id_column` of record batches and parquet, or the tensor
///         of that name, and row numbers otherwise.
///     users: user embeddings from logs, of the same model and not those you measure with: an array of shape
///         (u, dim), record batches, or a path. Some 10,000 are a good sample. More is found at the same
///         effort.
///     out: the path of the index file. A file that is there is replaced once the new one is whole.
///     model_version: names the model that made the embeddings, 1 to 255 bytes.
///     columns: what is known of items beside their embeddings, for filters: a dict of names and values, a
///         value for each item, in their order. Strings, and lists of strings, are tags; numbers are numbers;
///         bools are flags; None is null. Column(values, kind) says another kind: "tag" for ids as tags,
///         "expires" for the second since 1970 from which on the item is not shown. For record batches the
///         values may be the name of a column of theirs; then all batches are held in memory. Column(path,
///         kind) reads a .parquet, .npy or text file.
///     id_column: the column of ids in record batches and parquet. None for row numbers, in record batches.
///     embedding_column: the column of embeddings there: lists of floats, or arrays of one length.
///     plans: what searches are to answer by: a list of "graph" and "partitions"; by default both, and the
///         graph alone below 10,000 rows. Partitions alone build in a fraction of the time.
///     rows: "f16" or "f32": how the index keeps the embeddings. By default "f16" for files and arrays of
///         float16, and "f32" for all else. "f16" takes half the bytes and rounds values that it cannot hold.
///     quantize: "i8" or "none": which rows walks read. By default `i8` rows if that costs no recall.
///     m: links of a row in the upper layers of the graph, 2 to 128; the base layer has twice as many.
///     ef_construction: how wide the builder looks for neighbours, 1 to 10,000.
///     threads: threads to build with; all cores by default. One thread gives the same file every time.
///     progress: a function of (stage, done, total), called some times a second by the thread that builds; or
///         the class tqdm, or one with its interface. total is 0 where it is not known.
///
/// Returns:
///     BuildReport(rows, dim, bytes, copies, linked, rows_seconds, graph_seconds, seconds).
///
/// Reads arrays and record batches in place where they are float32, the arrays in C order. An interrupt, or
/// an exception of `progress`, stops the build and is raised. Where a build fails or is stopped, `out` is as
/// it was.
///
/// Raises:
///     InputError: for what the items hold, such as values that are not finite and ids that stand twice, and
///         for options that cannot work.
///     OSError: where the system refuses.
#[pyfunction]
#[pyo3(signature = (
    items, ids=None, users=None, *, out, model_version, columns=None, id_column="id",
    embedding_column="embedding", plans=None, rows=None, quantize=None, m=16, ef_construction=200, threads=None,
    progress=None,
))]
#[expect(clippy::too_many_arguments, reason = "Python names them")]
pub fn build<'py>(
    py: Python<'py>,
    items: &Bound<'py, PyAny>,
    ids: Option<&Bound<'py, PyAny>>,
    users: Option<&Bound<'py, PyAny>>,
    out: PathBuf,
    model_version: String,
    columns: Option<&Bound<'py, PyMapping>>,
    id_column: Option<&str>,
    embedding_column: &str,
    plans: Option<Vec<String>>,
    rows: Option<&str>,
    quantize: Option<&str>,
    m: usize,
    ef_construction: usize,
    threads: Option<usize>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = Names { ids: id_column.map(str::to_owned), embeddings: embedding_column.to_owned() };
    let mut builder = IndexBuilder::new(model_version).m(m).ef_construction(ef_construction);
    if let Some(names) = plans {
        let plans = names.iter().map(|name| plan_named(name));
        builder = builder.plans(plans.collect::<PyResult<Vec<_>>>()?);
    }
    if let Some(name) = rows {
        builder = builder.rows(row_format_named(name)?);
    }
    if let Some(name) = quantize {
        builder = builder.quantize(quantization_named(name)?);
    }
    if let Some(threads) = threads {
        builder = builder.threads(threads);
    }
    if let Some(users) = users {
        builder = builder.user_sample(sample(users, &names, &out)?);
    }
    let progress = progress.map(meter).transpose()?;
    let mut source = Source::of(items, ids, &names)?;
    for column in columns.map_or(Ok(Vec::new()), |columns| columns_of(columns, source.table(), &out))? {
        builder = builder.column(column);
    }
    let report = match source {
        Source::File(dump) => {
            watched(py, progress, |reins| builder_with(builder, reins, 0).build(*dump, &out).map_err(raised))
        }
        Source::Table(table, ids) => {
            let ids = ids.as_ref().map(Ids::list).transpose()?;
            watched(py, progress, |reins| build_table(builder_with(builder, reins, 0), table, ids, &out))
        }
        Source::Array(floats, ids) => {
            if rows.is_none() && matches!(floats, Floats::F16(_)) {
                builder = builder.rows(RowFormat::F16);
            }
            let (rows, ids) = array_rows(&floats, ids.as_ref())?;
            watched(py, progress, |reins| {
                let builder = builder_with(builder, reins, rows.len() as u64);
                builder.build_from(with_ids(rows, ids), &out).map_err(raised)
            })
        }
    };
    report_of(py, &report?)
}

/// The names of the columns that are read of record batches and parquet.
struct Names {
    ids: Option<String>,
    embeddings: String,
}

/// Where items come from.
enum Source<'py> {
    File(Box<Dump>),
    Table(Table, Option<Ids<'py>>),
    Array(Floats<'py>, Option<Ids<'py>>),
}

impl<'py> Source<'py> {
    fn of(
        items: &Bound<'py, PyAny>,
        ids: Option<&Bound<'py, PyAny>>,
        names: &Names,
    ) -> PyResult<Source<'py>> {
        if let Some(path) = path_of(items)? {
            return Ok(Source::File(Box::new(open(path, ids, names)?)));
        }
        let ids = ids.map(Ids::of).transpose()?;
        if is_table(items)? {
            let id_column = names.ids.as_deref().filter(|_| ids.is_none());
            return Ok(Source::Table(Table::of(items, &names.embeddings, id_column)?, ids));
        }
        Ok(Source::Array(Floats::of(items, "item embeddings")?, ids))
    }

    fn table(&mut self) -> Option<&mut Table> {
        match self {
            Source::Table(table, _) => Some(table),
            _ => None,
        }
    }
}

/// The path that `object` is, if it is one.
fn path_of(object: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    match object.is_instance_of::<PyString>() || object.hasattr("__fspath__")? {
        true => object.extract().map(Some),
        false => Ok(None),
    }
}

fn open(path: PathBuf, ids: Option<&Bound<'_, PyAny>>, names: &Names) -> PyResult<Dump> {
    let mut options = Dump::options().vector_column(&names.embeddings);
    if let Some(name) = &names.ids {
        options = options.id_column(name);
    }
    if let Some(ids) = ids {
        let Some(ids) = path_of(ids)? else {
            let problem =
                "the ids of a file are a file: give the path of a .npy, or load the items as an array";
            return Err(PyTypeError::new_err(problem));
        };
        options = options.ids(ids);
    }
    options.open(path).map_err(raised)
}

fn sample(users: &Bound<'_, PyAny>, names: &Names, out: &Path) -> PyResult<Matrix> {
    if let Some(path) = path_of(users)? {
        check_out(out, &path)?;
        let options = Dump::options().without_ids().vector_column(&names.embeddings);
        return users.py().detach(|| options.open(path)?.into_matrix()).map_err(raised);
    }
    if is_table(users)? {
        let table = Table::of(users, &names.embeddings, None)?;
        return users.py().detach(|| table.into_matrix()).map_err(raised);
    }
    match Users::of(users)? {
        Users::Many(users) => Ok(users),
        Users::One(_) => Err(PyValueError::new_err("the user sample is of one dimension; give (u, dim)")),
    }
}

/// `rows` is how many there are to read, or 0 where nobody knows.
fn builder_with(builder: IndexBuilder, reins: Reins, rows: u64) -> IndexBuilder {
    let Reins { report, cancel } = reins;
    builder.cancel_when(cancel).on_progress(move |mut progress| {
        if progress.stage == Stage::Rows && progress.total == 0 {
            progress.total = rows;
        }
        report(progress);
    })
}

fn build_table(
    builder: IndexBuilder,
    table: Table,
    ids: Option<&[u64]>,
    out: &Path,
) -> PyResult<BuildReport> {
    let failed = Arc::new(Mutex::new(None));
    let rows = table.rows(Arc::clone(&failed));
    let built = match ids {
        None => builder.build_from(rows, out),
        Some(ids) => builder.build_from(numbered(rows, ids, Arc::clone(&failed)), out),
    };
    built.map_err(|error| raised(failed_or(&failed, error)))
}

/// The rows of record batches with ids that come from elsewhere, one for each row.
fn numbered(
    mut rows: impl Iterator<Item = (u64, TableRow)>,
    ids: &[u64],
    failed: Arc<Mutex<Option<Error>>>,
) -> impl Iterator<Item = (u64, TableRow)> {
    let mut left = ids.iter();
    let count = ids.len();
    iter::from_fn(move || match (rows.next(), left.next()) {
        (None, None) => None,
        (Some((_, row)), Some(&id)) => Some((id, row)),
        (row, _) => {
            let than = if row.is_some() { "more" } else { "fewer" };
            let problem = format!("they have {than} rows than the {count} ids given; give an id for each");
            Some((0, TableRow::refused(&failed, bad(problem))))
        }
    })
}

fn array_rows<'a>(
    floats: &'a Floats<'_>,
    ids: Option<&'a Ids<'_>>,
) -> PyResult<(RowsOf<'a>, Option<&'a [u64]>)> {
    let Some(rows) = floats.rows() else {
        let shape = floats.shape();
        return Err(PyValueError::new_err(format!("item embeddings are of shape {shape:?}; give (n, dim)")));
    };
    let ids = ids.map(Ids::list).transpose()?;
    match ids.filter(|ids| ids.len() != rows.len()) {
        Some(ids) => Err(PyValueError::new_err(format!(
            "{} ids for {} items; give an id for each",
            ids.len(),
            rows.len()
        ))),
        None => Ok((rows, ids)),
    }
}

/// The rows of an array with their ids, or with their numbers.
fn with_ids<'a>(rows: RowsOf<'a>, ids: Option<&'a [u64]>) -> impl Iterator<Item = (u64, Cow<'a, [f32]>)> {
    (0..rows.len()).map(move |row| (ids.map_or(row as u64, |ids| ids[row]), rows.get(row)))
}

fn row_format_named(name: &str) -> PyResult<RowFormat> {
    match name {
        "f16" => Ok(RowFormat::F16),
        "f32" => Ok(RowFormat::F32),
        _ => Err(PyValueError::new_err(format!("rows {name:?} is neither \"f16\" nor \"f32\""))),
    }
}

fn quantization_named(name: &str) -> PyResult<Quantization> {
    match name {
        "i8" => Ok(Quantization::I8),
        "none" => Ok(Quantization::None),
        _ => Err(PyValueError::new_err(format!("quantize {name:?} is neither \"i8\" nor \"none\""))),
    }
}

/// A function of stage, done and total for what the caller gave as progress.
fn meter(progress: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    match progress.hasattr("update")? {
        true => Ok(progress.py().import("itemdex._progress")?.getattr("Bars")?.call1((progress,))?.unbind()),
        false => Ok(progress.clone().unbind()),
    }
}

fn report_of<'py>(py: Python<'py>, report: &BuildReport) -> PyResult<Bound<'py, PyAny>> {
    let [rows, graph, total] =
        [report.rows_time, report.graph_time, report.total_time].map(|time| time.as_secs_f64());
    let BuildReport { rows: count, dim, bytes, copies, linked, .. } = *report;
    BUILD_REPORT.of(py, (count, dim, bytes, copies, linked, rows, graph, total))
}
