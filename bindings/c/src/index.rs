//! What is asked: an index file, or a live index as one request sees it.

use std::borrow::Cow;
use std::ffi::{CString, c_char};
use std::sync::{Arc, OnceLock};

use itemdex::live::View;
use itemdex::{
    Candidates, Channel, Found, Matrix, RankOptions, Ranked, RankedChannels, Result as Answered,
    SearchOptions,
};

use crate::border::{Place, call, shared, text, write_text};
use crate::growing::{Growing, Written, read_or_default};
use crate::status::Status;

/// An index that answers queries: a file that itemdex_open opened, or what a live index held when
/// itemdex_live_current was called. It does not change.
pub struct Index {
    pub(crate) source: Source,
    /// The model version as C wants it, once it was asked for.
    model_version: OnceLock<CString>,
}

pub(crate) enum Source {
    /// In a box of its own, so that a handle of a view is small: a request makes one.
    File(Box<itemdex::Index>),
    View(Arc<View>),
}

/// Calls a method that an index file and a view both have.
macro_rules! of_either {
    ($source:expr, $method:ident($($argument:expr),*)) => {
        match $source {
            Source::File(index) => index.$method($($argument),*),
            Source::View(view) => view.$method($($argument),*),
        }
    };
}

impl Source {
    pub fn dim(&self) -> usize {
        of_either!(self, dim())
    }

    fn len(&self) -> usize {
        of_either!(self, len())
    }

    fn model_version(&self) -> &str {
        of_either!(self, model_version())
    }

    pub fn get(&self, id: u64) -> Option<Cow<'_, [f32]>> {
        of_either!(self, get(id))
    }

    pub fn search(&self, user: &[f32], options: &SearchOptions<'_>, found: &mut Found) -> Answered<()> {
        of_either!(self, search_into(user, options, found))
    }

    pub fn search_many(
        &self,
        users: &Matrix,
        options: &SearchOptions<'_>,
        threads: usize,
    ) -> Answered<Vec<Found>> {
        of_either!(self, search_many(users, options, threads))
    }

    pub fn rank(
        &self,
        user: &[f32],
        candidates: Candidates<'_>,
        options: &RankOptions<'_>,
        ranked: &mut Ranked,
    ) -> Answered<()> {
        of_either!(self, rank_into(user, candidates, options, ranked))
    }

    pub fn rank_many(
        &self,
        users: &Matrix,
        lists: &[&[u64]],
        options: &RankOptions<'_>,
        threads: usize,
    ) -> Answered<Vec<Ranked>> {
        of_either!(self, rank_many(users, lists, options, threads))
    }

    pub fn rank_channels(
        &self,
        user: &[f32],
        channels: &[Channel<'_>],
        options: &RankOptions<'_>,
        ranked: &mut RankedChannels,
    ) -> Answered<()> {
        of_either!(self, rank_channels_into(user, channels, options, ranked))
    }

    pub fn score(
        &self,
        user: &[f32],
        candidates: &[u64],
        options: &RankOptions<'_>,
        scores: &mut [f32],
    ) -> Answered<usize> {
        of_either!(self, score_with(user, candidates, options, scores))
    }

    /// The file alone, without fresh items.
    pub fn file(&self) -> &itemdex::Index {
        match self {
            Source::File(index) => index,
            Source::View(view) => view.index(),
        }
    }
}

impl Index {
    /// Hands an index over to the caller.
    pub(crate) fn give(source: Source, place: Place<*mut Index>) {
        place.write(Box::into_raw(Box::new(Index { source, model_version: OnceLock::new() })));
    }
}

/// How to open an index file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OpenOptions {
    /// sizeof(itemdex_open_options)
    size: usize,
    /// Not 0: copies the file into memory of this process, on huge pages where the system has them. Random
    /// reads are faster there, and opening takes as long as reading the file.
    resident: u32,
    /// Not 0: reads the mapped file into memory, so that no query waits for the disk while memory suffices.
    prefault: u32,
    /// Not 0: reads the index into memory and keeps it there (mlock). `ulimit -l` must allow it.
    lock: u32,
    /// Leave it 0.
    reserved: u32,
}

// SAFETY: repr(C), the size first, and integers.
unsafe impl Growing for OpenOptions {
    const NAME: &str = "itemdex_open_options";
    const FIRST: usize = 24;
}

impl From<OpenOptions> for itemdex::OpenOptions {
    fn from(options: OpenOptions) -> itemdex::OpenOptions {
        itemdex::OpenOptions::new()
            .resident(options.resident != 0)
            .prefault(options.prefault != 0)
            .lock(options.lock != 0)
    }
}

/// What an index is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Description {
    /// In: sizeof(itemdex_description)
    size: usize,
    /// How many items there are, fresh ones included.
    items: u64,
    /// Values an embedding.
    dim: u64,
    /// The number of the generation in its catalog; 0 for a file that itemdex_open opened.
    generation: u64,
    /// The model version that the item embeddings came from. Score only user embeddings of the same version
    /// against them. It stays until the index is closed.
    model_version: *const c_char,
}

// SAFETY: repr(C), the size first, integers and a pointer.
unsafe impl Growing for Description {
    const NAME: &str = "itemdex_description";
    const FIRST: usize = 40;
}

/// Opens an index file. The file is mapped, which takes about as long at any size; the options can have it
/// in memory instead.
///
/// options: NULL for the defaults. index: the handle, for itemdex_close. On Linux any number of processes
/// that map the same file share its pages. Any thread may call it.
///
/// Errors: ITEMDEX_IO, ITEMDEX_NOT_AN_INDEX, ITEMDEX_UNKNOWN_FORMAT, ITEMDEX_DAMAGED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_open(
    path: *const c_char,
    options: *const OpenOptions,
    index: *mut *mut Index,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (path, options, index) = unsafe {
            (text(path, "path")?, read_or_default(options, "options")?, Place::new(index, "index")?)
        };
        let opened = itemdex::OpenOptions::from(options).open(path)?;
        Index::give(Source::File(Box::new(opened)), index);
        Ok(())
    })
}

/// Closes an index. NULL is allowed. No other call may use the index meanwhile or later. Where a live index
/// gave it, the live index need not be open any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_close(index: *mut Index) {
    if !index.is_null() {
        // SAFETY: the caller has it from `Index::give`, and closes it once. Dropping it cannot be what makes
        // later calls wrong: the caller makes none.
        let index = unsafe { Box::from_raw(index) };
        call(|| {
            drop(index);
            Ok(())
        });
    }
}

/// Says what an index is. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_describe(index: *const Index, description: *mut Description) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, mut written) =
            unsafe { (shared(index, "index")?, Written::new(description, "description")?) };
        // A model version has no control characters.
        let model_version = index
            .model_version
            .get_or_init(|| CString::new(index.source.model_version()).unwrap_or_default());
        let generation = match &index.source {
            Source::File(_) => 0,
            Source::View(view) => view.generation().number,
        };
        written.value = Description {
            size: written.value.size,
            items: index.source.len() as u64,
            dim: index.source.dim() as u64,
            generation,
            model_version: model_version.as_ptr(),
        };
        written.write();
        Ok(())
    })
}

/// Says what the index file holds, as the JSON document that `itemdex info --json` prints: sections and
/// their bytes, plans, measured recalls. Fresh items are not in it.
///
/// json: the text, for itemdex_text_free. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_info(index: *const Index, json: *mut *mut c_char) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, json) = unsafe { (shared(index, "index")?, Place::new(json, "json")?) };
        write_text(json, index.source.file().info().to_json())
    })
}
