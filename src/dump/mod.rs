//! Readers of dumps: the ids and embeddings that the item tower's batch job wrote, read front to back.
//!
//! The extension of the file decides the format:
//!
//! | extension | embeddings | ids |
//! |---|---|---|
//! | `.npy` | 2-D, C order, little-endian `f16`, `f32` or `f64` | a second file |
//! | `.fbin` | `i32` rows, `i32` dim, then `f32` rows | a second file |
//! | `.fvecs` | each row an `i32` dim, then `f32` values | a second file |
//! | `.parquet` (feature `parquet`) | a list column of floats | an integer column, or a second file |
//! | `.safetensors` (feature `safetensors`) | a 2-D tensor of `F16`, `BF16` or `F32` | a 1-D tensor, or a second file |
//!
//! [`read_column`] reads what is known of the items beside their embeddings, for filters.
//!
//! The second file is a 1-D `.npy` of `u64`, `i64`, `u32` or `i32`. Without one, ids are row numbers. A value of
//! `bf16` is an `f32` exactly, and is kept as one.
//!
//! Opening a dump compares its length with its header, so that a dump that was cut short fails before work is
//! spent on it. The build checks that values are finite and ids distinct.

mod columns;
mod npy;
#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet_columns;
mod records;
#[cfg(feature = "safetensors")]
mod tensors;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use columns::read_column;
use records::Records;

use crate::limits::{MAX_DIM, MAX_ROWS};
use crate::{Error, Matrix, Result, RowFormat};

/// Reads take about this many bytes of `f32` at once, in whole rows.
const BATCH_BYTES: usize = 1 << 20;

/// An open dump, read front to back in batches.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.fbin");
/// # let mut bytes = [2i32.to_le_bytes(), 3i32.to_le_bytes()].concat();
/// # for value in 0..6 { bytes.extend((value as f32).to_le_bytes()); }
/// # std::fs::write(&path, bytes).unwrap();
/// use itemdex::dump::{Batch, Dump};
///
/// let mut dump = Dump::open(&path)?;
/// assert_eq!((dump.rows(), dump.dim()), (2, 3));
/// let mut batch = Batch::default();
/// while dump.read(&mut batch)? {
///     assert_eq!(batch.ids, [0, 1]);
///     assert_eq!(batch.rows, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
/// }
/// # Ok::<(), itemdex::Error>(())
/// ```
pub struct Dump {
    path: PathBuf,
    dim: usize,
    rows: u64,
    next: u64,
    embeddings: Embeddings,
    /// The second file or tensor, if ids come from one.
    ids: Option<Records>,
}

enum Embeddings {
    Records(Records),
    #[cfg(feature = "parquet")]
    Parquet(parquet::Columns),
}

impl Embeddings {
    fn dim(&self) -> usize {
        match self {
            Embeddings::Records(records) => records.width(),
            #[cfg(feature = "parquet")]
            Embeddings::Parquet(columns) => columns.dim(),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Embeddings::Records(records) => records.rows(),
            #[cfg(feature = "parquet")]
            Embeddings::Parquet(columns) => columns.rows(),
        }
    }

    fn format(&self) -> RowFormat {
        match self {
            Embeddings::Records(records) => records.format(),
            #[cfg(feature = "parquet")]
            Embeddings::Parquet(columns) => columns.format(),
        }
    }
}

/// Some rows of a dump. [`Dump::read`] reuses its buffers.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// The item id of each row.
    pub ids: Vec<u64>,
    /// The embeddings, `ids.len() * dim` values, row after row.
    pub rows: Vec<f32>,
}

/// How to open a dump; made by [`Dump::options`].
#[derive(Debug, Clone)]
pub struct DumpOptions {
    ids: Option<PathBuf>,
    without_ids: bool,
    id_column: String,
    vector_column: String,
}

impl DumpOptions {
    /// The file with the ids: a 1-D integer `.npy` with one id for each row of the dump. By default ids are
    /// row numbers or, in parquet and safetensors, the id column or tensor.
    pub fn ids(mut self, path: impl AsRef<Path>) -> Self {
        self.ids = Some(path.as_ref().to_owned());
        self
    }

    /// Reads no ids, for user embeddings. Row numbers are the ids then, also in parquet and safetensors.
    pub fn without_ids(mut self) -> Self {
        self.without_ids = true;
        self
    }

    /// The column of item ids in parquet, or the tensor in safetensors, by default `id`. A safetensors file that
    /// holds the embeddings alone has row numbers as ids.
    pub fn id_column(mut self, name: impl Into<String>) -> Self {
        self.id_column = name.into();
        self
    }

    /// The column of embeddings in parquet, or the tensor in safetensors, by default `embedding`.
    pub fn vector_column(mut self, name: impl Into<String>) -> Self {
        self.vector_column = name.into();
        self
    }

    /// Opens the dump and checks its shape, its length, and the number of its ids.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadDump`], which names the file and, if one is at fault, the row.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Dump> {
        let path = path.as_ref();
        let (embeddings, own_ids) = self.open_embeddings(path)?;
        let (dim, rows) = (embeddings.dim(), embeddings.rows());
        if rows == 0 {
            return Err(Error::dump(
                path,
                match self.without_ids {
                    true => "it is empty: it holds no embeddings",
                    false => "the dump is empty; an index needs at least one row",
                },
            ));
        }
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::dump(
                path,
                format!("its rows have dim {dim}, which is not within 1 to {MAX_DIM}"),
            ));
        }
        if rows > MAX_ROWS {
            return Err(Error::dump(
                path,
                format!("it has {rows} rows; at most 2^31 - 1 fit, split the dump"),
            ));
        }
        let ids = match &self.ids {
            Some(ids) => Some(open_ids(ids, path, rows)?),
            None => own_ids,
        };
        Ok(Dump { path: path.to_owned(), dim, rows, next: 0, embeddings, ids })
    }

    /// The embeddings, and a tensor of ids where one is wanted and there.
    fn open_embeddings(&self, path: &Path) -> Result<(Embeddings, Option<Records>)> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let records = match extension.to_ascii_lowercase().as_str() {
            "npy" => npy::open_embeddings(path)?,
            "fbin" => Records::open_fbin(path)?,
            "fvecs" => Records::open_fvecs(path)?,
            "parquet" => return Ok((self.open_parquet(path)?, None)),
            "safetensors" => return self.open_tensors(path),
            _ => {
                let problem = "the extension is none of .npy, .fbin, .fvecs, .parquet and .safetensors, which \
                               tell the format";
                return Err(Error::dump(path, problem));
            }
        };
        Ok((Embeddings::Records(records), None))
    }

    /// The name of the ids in the file of the embeddings, if they are to come from there.
    #[cfg(any(feature = "parquet", feature = "safetensors"))]
    fn own_ids(&self) -> Option<&str> {
        (self.ids.is_none() && !self.without_ids).then_some(self.id_column.as_str())
    }

    #[cfg(feature = "parquet")]
    fn open_parquet(&self, path: &Path) -> Result<Embeddings> {
        let columns = parquet::Columns::open(path, self.own_ids(), &self.vector_column)?;
        Ok(Embeddings::Parquet(columns))
    }

    #[cfg(not(feature = "parquet"))]
    fn open_parquet(&self, path: &Path) -> Result<Embeddings> {
        Err(without(path, "parquet"))
    }

    #[cfg(feature = "safetensors")]
    fn open_tensors(&self, path: &Path) -> Result<(Embeddings, Option<Records>)> {
        let tensors = tensors::Tensors::open(path)?;
        let records = tensors.embeddings(&self.vector_column)?;
        let ids = match self.own_ids() {
            Some(name) => tensors.ids(name, records.rows())?,
            None => None,
        };
        Ok((Embeddings::Records(records), ids))
    }

    #[cfg(not(feature = "safetensors"))]
    fn open_tensors(&self, path: &Path) -> Result<(Embeddings, Option<Records>)> {
        Err(without(path, "safetensors"))
    }
}

#[cfg(not(all(feature = "parquet", feature = "safetensors")))]
fn without(path: &Path, format: &str) -> Error {
    Error::dump(path, format!("this build does not read {format}; build itemdex with `--features {format}`"))
}

fn open_ids(ids: &Path, items: &Path, rows: u64) -> Result<Records> {
    let records = npy::open_ids(ids)?;
    if records.rows() != rows {
        let problem =
            format!("{} ids for the {rows} rows of {}; give one a row", records.rows(), items.display());
        return Err(Error::dump(ids, problem));
    }
    Ok(records)
}

impl Dump {
    /// Opens a dump whose ids are row numbers or, in parquet and safetensors, the column or tensor `id`.
    ///
    /// # Errors
    /// As [`DumpOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Dump> {
        Dump::options().open(path)
    }

    /// The default options for opening a dump.
    pub fn options() -> DumpOptions {
        DumpOptions {
            ids: None,
            without_ids: false,
            id_column: "id".to_owned(),
            vector_column: "embedding".to_owned(),
        }
    }

    /// The file with the embeddings.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file with the ids: the file with the embeddings where ids are a column of it, or row numbers.
    pub fn id_path(&self) -> &Path {
        self.ids.as_ref().map_or(&self.path, Records::path)
    }

    /// Whether `path` leads to a file of this dump, under whatever name: writing there would destroy it.
    pub fn reads(&self, path: impl AsRef<Path>) -> bool {
        let file = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let there = file(path.as_ref());
        there.is_some() && [self.path(), self.id_path()].into_iter().any(|read| file(read) == there)
    }

    /// How many values an embedding has, 1 to [`MAX_DIM`].
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How an index is to keep the embeddings unless it is told: `f16` if the dump holds `f16`, else `f32`.
    pub fn format(&self) -> RowFormat {
        self.embeddings.format()
    }

    /// How many rows the whole dump has, at least 1.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Replaces the contents of `batch` by the next rows, about 1 MiB of them. Returns `false`, with `batch`
    /// empty, if there are no more.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadDump`]. Do not use the contents of `batch` then.
    pub fn read(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.ids.clear();
        batch.rows.clear();
        let most = (BATCH_BYTES / (4 * self.dim)).max(1);
        match &mut self.embeddings {
            Embeddings::Records(records) => records.read_floats(most, &mut batch.rows)?,
            #[cfg(feature = "parquet")]
            Embeddings::Parquet(columns) => columns.read(most, batch)?,
        }
        let rows = batch.rows.len() / self.dim;
        match &mut self.ids {
            Some(ids) => ids.read_ids(rows, false, &mut batch.ids)?,
            None if batch.ids.is_empty() => batch.ids.extend(self.next..self.next + rows as u64),
            None => {}
        }
        self.next += rows as u64;
        Ok(rows > 0)
    }

    /// Reads all remaining rows, without their ids, as a matrix of `dim` columns: for user samples and query
    /// sets.
    ///
    /// # Errors
    /// As [`Dump::read`].
    pub fn into_matrix(mut self) -> Result<Matrix> {
        let mut batch = Batch::default();
        let mut values = Vec::new();
        while self.read(&mut batch)? {
            values.extend_from_slice(&batch.rows);
        }
        Matrix::new(self.dim, values)
    }
}

/// Lists of ids, read from an integer `.npy`: candidates to rank, or items to deny.
#[derive(Debug, Clone, PartialEq)]
pub struct IdLists {
    ids: Vec<u64>,
    /// Where in `ids` each list ends; `None` for one list for all users.
    ends: Option<Vec<usize>>,
}

impl IdLists {
    /// Reads a 1-D `.npy`, which is one list for all users, or a 2-D one, which has one row a user.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadDump`].
    pub fn open(path: impl AsRef<Path>) -> Result<IdLists> {
        npy::read_id_lists(path.as_ref(), false)
    }

    /// The same of lists that may be of different lengths: -1 fills a row, and is no item.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadDump`].
    pub fn open_filled(path: impl AsRef<Path>) -> Result<IdLists> {
        npy::read_id_lists(path.as_ref(), true)
    }

    /// How many lists there are; `None` if there is one for all users.
    pub fn lists(&self) -> Option<usize> {
        self.ends.as_ref().map(Vec::len)
    }

    /// The list for a user; empty for a user beyond the last list.
    pub fn list(&self, user: usize) -> &[u64] {
        let Some(ends) = &self.ends else { return &self.ids };
        let Some(&end) = ends.get(user) else { return &[] };
        let start = if user == 0 { 0 } else { ends[user - 1] };
        &self.ids[start..end]
    }
}

/// A teacher's scores of the candidates of [`IdLists`], read from a floating-point `.npy`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreLists {
    scores: Vec<f32>,
    length: usize,
    lists: usize,
}

impl ScoreLists {
    /// Reads a 2-D `.npy` of `f16`, `f32` or `f64`, which has one row a user.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadDump`].
    pub fn open(path: impl AsRef<Path>) -> Result<ScoreLists> {
        npy::read_score_lists(path.as_ref())
    }

    /// How many lists there are.
    pub fn lists(&self) -> usize {
        self.lists
    }

    /// The scores for a user; empty for a user beyond the last list.
    pub fn list(&self, user: usize) -> &[f32] {
        if user < self.lists { &self.scores[user * self.length..][..self.length] } else { &[] }
    }
}
