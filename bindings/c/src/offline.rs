//! What an offline job does: building an index file, and publishing it.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use itemdex::dump::Dump;
use itemdex::live::{Catalog, Retention};
use itemdex::{IndexBuilder, Matrix, Quantization, RowFormat};

use crate::border::{Failure, Place, Result, call, optional_text, text, values};
use crate::columns::Column;
use crate::growing::{Growing, read_all, read_or_default};
use crate::options::plans_in;
use crate::status::Status;

/// Rows of 8 bits beside those of 32: a quarter more bytes, and faster searches.
pub const ITEMDEX_QUANTIZE_I8: u32 = 1;
/// Rows of 32 bits only.
pub const ITEMDEX_QUANTIZE_NONE: u32 = 2;

/// Embeddings in 16 bits a value: half the bytes. Values are rounded to what fits.
pub const ITEMDEX_ROWS_F16: u32 = 1;
/// Embeddings in 32 bits a value.
pub const ITEMDEX_ROWS_F32: u32 = 2;

/// How to build.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BuildOptions {
    /// sizeof(itemdex_build_options)
    size: usize,
    /// The plans that searches may take: ITEMDEX_PLAN_GRAPH, ITEMDEX_PLAN_PARTITIONS or both, as bits. 0
    /// for both, and the graph alone below 10,000 rows.
    plans: u32,
    /// ITEMDEX_QUANTIZE_...; 0 for rows of 8 bits if they cost no recall, which the build measures.
    quantize: u32,
    /// Links a row in the upper layers of the graph, 2 to 128; 0 for 16.
    m: usize,
    /// How wide the build looks for a row's neighbours, 1 to 10,000; 0 for 200.
    ef_construction: usize,
    /// Threads to build with, at most 1,024; 0 for one a core.
    threads: usize,
    /// A sample of user embeddings from logs, row after row, of the same dim as the items. NULL for none.
    users: *const f32,
    /// How many users there are.
    user_count: usize,
    /// Columns, for filters; all of the same size. NULL for none.
    columns: *const Column,
    /// How many there are.
    column_count: usize,
    /// Is told how far the build has come: the stage's name, and how much of how much is done. total is 0
    /// where that is not known. A result other than 0 cancels the build. It is called from the thread that
    /// builds. NULL for nobody.
    progress: Option<
        unsafe extern "C" fn(context: *mut c_void, stage: *const c_char, done: u64, total: u64) -> c_int,
    >,
    /// What progress gets as its context.
    context: *mut c_void,
    /// How the index keeps the embeddings, ITEMDEX_ROWS_...; 0 for 16 bits if a dump holds 16 bits, else 32.
    rows: u32,
    /// 0
    reserved: u32,
}

// SAFETY: repr(C), the size first, integers, pointers, and a function that may be NULL.
unsafe impl Growing for BuildOptions {
    const NAME: &str = "itemdex_build_options";
    const FIRST: usize = 88;
}

/// The caller's function, which a build calls from its own thread.
struct Told {
    progress: unsafe extern "C" fn(*mut c_void, *const c_char, u64, u64) -> c_int,
    context: *mut c_void,
}

// SAFETY: the header says that the function is called from the thread that builds, so whoever gives it has it
// called with its context from there.
unsafe impl Send for Told {}
// SAFETY: as above; a build reports from one thread at a time.
unsafe impl Sync for Told {}

impl Told {
    /// Whether the caller wants to go on.
    fn tell(&self, progress: itemdex::Progress) -> bool {
        let stage = CString::new(progress.stage.name()).unwrap_or_default();
        // SAFETY: the caller gave the function for this, and it takes what it gets as the header says.
        unsafe { (self.progress)(self.context, stage.as_ptr(), progress.done, progress.total) == 0 }
    }
}

impl BuildOptions {
    /// # Safety
    /// The users and the columns, of so many rows, are as the header says, and so is the progress.
    unsafe fn builder(self, model_version: &str, rows: usize, dim: usize) -> Result<IndexBuilder> {
        let mut builder = IndexBuilder::new(model_version);
        if self.plans != 0 {
            builder = builder.plans(plans_in(self.plans, "plans")?);
        }
        builder = match self.quantize {
            0 => builder,
            ITEMDEX_QUANTIZE_I8 => builder.quantize(Quantization::I8),
            ITEMDEX_QUANTIZE_NONE => builder.quantize(Quantization::None),
            other => return Err(Failure::option("quantize", format!("{other} is no ITEMDEX_QUANTIZE_..."))),
        };
        builder = match self.rows {
            0 => builder,
            ITEMDEX_ROWS_F16 => builder.rows(RowFormat::F16),
            ITEMDEX_ROWS_F32 => builder.rows(RowFormat::F32),
            other => return Err(Failure::option("rows", format!("{other} is no ITEMDEX_ROWS_..."))),
        };
        if self.reserved != 0 {
            return Err(Failure::option("reserved", format!("it is {}; leave it 0", self.reserved)));
        }
        if self.m != 0 {
            builder = builder.m(self.m);
        }
        if self.ef_construction != 0 {
            builder = builder.ef_construction(self.ef_construction);
        }
        if self.threads != 0 {
            builder = builder.threads(self.threads);
        }
        if self.user_count != 0 {
            let total = self.user_count.checked_mul(dim);
            let total =
                total.ok_or_else(|| Failure::option("user_count", "so many do not fit into memory"))?;
            // SAFETY: as the caller promised.
            let users = unsafe { values(self.users, total, "users") }?;
            builder = builder.user_sample(Matrix::new(dim, users.to_vec())?);
        }
        // SAFETY: as the caller promised.
        for column in unsafe { read_all(self.columns, self.column_count, "columns") }? {
            let column: Column = column?;
            // SAFETY: as the caller promised.
            builder = builder.column(unsafe { column.for_library(rows) }?);
        }
        if let Some(progress) = self.progress {
            let told = Told { progress, context: self.context };
            let stop = Arc::new(AtomicBool::new(false));
            builder = builder.cancel_when(Arc::clone(&stop)).on_progress(move |progress| {
                if !told.tell(progress) {
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
        Ok(builder)
    }
}

/// Builds an index file from items in memory, and replaces what is at the path only once the new file is
/// whole and on disk.
///
/// model_version: what made the embeddings, 1 to 255 bytes. ids: row_count ids, each once; NULL for row
/// numbers. embeddings: row_count rows of dim values each. options: NULL for the defaults. Any thread may
/// call it.
///
/// Errors: ITEMDEX_BAD_DUMP and ITEMDEX_DUPLICATE_ID for the items, which name the row; ITEMDEX_BAD_OPTION,
/// ITEMDEX_IO, ITEMDEX_CANCELLED. Then the path is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_build(
    model_version: *const c_char,
    ids: *const u64,
    embeddings: *const f32,
    row_count: usize,
    dim: usize,
    options: *const BuildOptions,
    path: *const c_char,
) -> Status {
    call(|| {
        let total = row_count.checked_mul(dim);
        let total =
            total.ok_or_else(|| Failure::argument("row_count", "so many rows do not fit into memory"))?;
        if dim == 0 {
            return Err(Failure::option("dim", "it is 0; an embedding has 1 value at least"));
        }
        // SAFETY: the caller keeps the rules of the header.
        let (ids, embeddings, builder, path) = unsafe {
            let builder = read_or_default(options, "options")?.builder(
                text(model_version, "model_version")?,
                row_count,
                dim,
            )?;
            let ids = if ids.is_null() { None } else { Some(values(ids, row_count, "ids")?) };
            (ids, values(embeddings, total, "embeddings")?, builder, text(path, "path")?)
        };
        let id = |row: usize| ids.map_or(row as u64, |ids| ids[row]);
        let items = embeddings.chunks_exact(dim).enumerate().map(|(row, embedding)| (id(row), embedding));
        builder.build_from(items, path)?;
        Ok(())
    })
}

/// Builds an index file from a dump: a file of embeddings that ends in .npy, .fbin, .fvecs or, where the
/// library was built with it, .parquet.
///
/// items: the file. ids: an .npy with an integer for each row; NULL for row numbers or, in parquet, for the
/// column `id`. The rest is as in itemdex_build. Any thread may call it.
///
/// Errors: as itemdex_build; ITEMDEX_BAD_OPTION where the path is a file of the dump.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_build_dump(
    model_version: *const c_char,
    items: *const c_char,
    ids: *const c_char,
    options: *const BuildOptions,
    path: *const c_char,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (version, items, ids, options, path) = unsafe {
            (
                text(model_version, "model_version")?,
                text(items, "items")?,
                optional_text(ids, "ids")?,
                read_or_default(options, "options")?,
                text(path, "path")?,
            )
        };
        let from = ids.into_iter().fold(Dump::options(), |from, ids| from.ids(ids));
        let dump = from.open(items)?;
        // SAFETY: as above.
        let builder = unsafe { options.builder(version, dump.rows() as usize, dump.dim()) }?;
        builder.build(dump, path)?;
        Ok(())
    })
}

/// How to publish.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PublishOptions {
    /// sizeof(itemdex_publish_options)
    size: usize,
    /// The position of the log of fresh items at which the dump was taken: the dump has what was logged up
    /// to there. 0 where there is none.
    log_position: u64,
    /// How many generations of each model version stay, this one included; 0 for 2.
    keep: usize,
    /// How many model versions stay, this one included; 0 for 2. The others are retired.
    versions: usize,
}

// SAFETY: repr(C), the size first, and integers.
unsafe impl Growing for PublishOptions {
    const NAME: &str = "itemdex_publish_options";
    const FIRST: usize = 32;
}

impl From<PublishOptions> for itemdex::live::PublishOptions {
    fn from(given: PublishOptions) -> itemdex::live::PublishOptions {
        let mut options = itemdex::live::PublishOptions::new();
        if given.log_position != 0 {
            options = options.log_position(given.log_position);
        }
        if given.keep != 0 {
            options = options.keep(given.keep);
        }
        if given.versions != 0 {
            options = options.versions(given.versions);
        }
        options
    }
}

/// Copies an index file into a catalog, verifies the copy, and makes it current for every process that
/// follows the catalog. The file stays where it is. A catalog is a folder, which is made where there is
/// none.
///
/// options: NULL for the defaults. generation: its number in the catalog; NULL where that is not wanted.
/// Any thread may call it.
///
/// Errors: what is wrong with the file; ITEMDEX_CATALOG_BUSY where somebody else publishes;
/// ITEMDEX_BAD_OPTION for a log position that no log comes to; ITEMDEX_IO. What was current stays current.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_publish(
    catalog: *const c_char,
    path: *const c_char,
    options: *const PublishOptions,
    generation: *mut u64,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (catalog, path, options, generation) = unsafe {
            (
                text(catalog, "catalog")?,
                text(path, "path")?,
                read_or_default(options, "options")?,
                Place::optional(generation, "generation")?,
            )
        };
        let published = Catalog::create(catalog)?.publish(path, &options.into())?;
        if let Some(generation) = generation {
            generation.write(published.number);
        }
        Ok(())
    })
}

/// Makes an earlier generation of a catalog current again. Those published after it are withdrawn: no process
/// serves them, and the next publication or itemdex_prune drops them. Until then a rollback to their number
/// brings them back.
///
/// to: the generation's number; 0 for the one before the current. generation: the number that is current now;
/// NULL where that is not wanted. Any thread may call it.
///
/// Errors: ITEMDEX_NO_GENERATION where there is none to go back to; ITEMDEX_CATALOG_BUSY where somebody else
/// changes the catalog; ITEMDEX_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rollback(catalog: *const c_char, to: u64, generation: *mut u64) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (catalog, generation) =
            unsafe { (text(catalog, "catalog")?, Place::optional(generation, "generation")?) };
        let current = Catalog::open(catalog)?.rollback(Some(to).filter(|&to| to != 0))?;
        if let Some(generation) = generation {
            generation.write(current.number);
        }
        Ok(())
    })
}

/// Drops old generations of a catalog. A process that has one open can use it until it closes it.
///
/// keep: how many generations of each model version stay; 0 for 2. versions: how many model versions stay; 0
/// for 2. dropped: how many generations were dropped; NULL where that is not wanted. Any thread may call it.
///
/// Errors: ITEMDEX_CATALOG_BUSY where somebody else changes the catalog; ITEMDEX_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_prune(
    catalog: *const c_char,
    keep: usize,
    versions: usize,
    dropped: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (catalog, place) = unsafe { (text(catalog, "catalog")?, Place::optional(dropped, "dropped")?) };
        let mut retention = Retention::new();
        if keep != 0 {
            retention = retention.keep(keep);
        }
        if versions != 0 {
            retention = retention.versions(versions);
        }
        let gone = Catalog::open(catalog)?.prune(retention)?;
        if let Some(place) = place {
            place.write(gone.len());
        }
        Ok(())
    })
}
