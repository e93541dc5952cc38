//! A catalog in service.

use std::ffi::c_char;
use std::time::Duration;

use itemdex::live::{self, Batch, SyncPolicy};

use crate::border::{Failure, Place, Result, call, optional_text, shared, text, values, write_text};
use crate::columns::{Value, item_values};
use crate::growing::{Growing, Written, read_all, read_or_default};
use crate::index::{Index, Source};
use crate::status::Status;

/// A catalog in service: it follows the catalog on a thread of its own, and takes fresh items.
pub struct LiveIndex(live::LiveIndex);

/// A change is on disk before the call returns. Changes made at once share a sync.
pub const ITEMDEX_SYNC_ALWAYS: u32 = 0;
/// A change is with the operating system before the call returns, and on disk within sync_every_ms.
pub const ITEMDEX_SYNC_EVERY: u32 = 1;
/// A change is with the operating system before the call returns, and on disk when the system writes it.
pub const ITEMDEX_SYNC_NEVER: u32 = 2;

/// How to follow a catalog.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LiveOptions {
    /// sizeof(itemdex_live_options)
    pub(crate) size: usize,
    /// Takes fresh items, and keeps them in the log at this path, which is made where there is none. The
    /// log numbers its changes itself: for a single host. NULL for no fresh items.
    pub(crate) log: *const c_char,
    /// The same, where whoever feeds the log gives each change its position, so that positions mean the
    /// same on every host. At most one of the two paths is set.
    fed_log: *const c_char,
    /// When a change counts as kept: ITEMDEX_SYNC_...
    sync: u32,
    /// How often to look at the catalog where no notice of a change came, in milliseconds; 0 for 2,000.
    poll_ms: u32,
    /// For ITEMDEX_SYNC_EVERY, in milliseconds.
    sync_every_ms: u64,
    /// What the log keeps of the changes that every generation has: so many bytes of the newest; 0 for 256
    /// MB.
    retain_bytes: u64,
    /// And only while they are younger than this, in seconds; 0 for 6 hours.
    retain_seconds: u64,
    /// The most fresh or deleted items of a model version; 0 for 100,000.
    fresh_limit: u64,
    /// The share of the searches that is compared with the exact answer, 0 to 1.
    sample_recall: f64,
    /// Not 0: opens generations as in itemdex_open_options.
    resident: u32,
    prefault: u32,
    lock: u32,
    /// Leave it 0.
    reserved: u32,
}

// SAFETY: repr(C), the size first, integers, floats and pointers.
unsafe impl Growing for LiveOptions {
    const NAME: &str = "itemdex_live_options";
    const FIRST: usize = 88;
}

impl LiveOptions {
    /// # Safety
    /// The paths are NULL or texts.
    unsafe fn for_library(self) -> Result<live::LiveOptions> {
        let open = itemdex::OpenOptions::new()
            .resident(self.resident != 0)
            .prefault(self.prefault != 0)
            .lock(self.lock != 0);
        let mut options = live::LiveOptions::new().open_with(open).sample_recall(self.sample_recall);
        // SAFETY: as the caller promised.
        options = match unsafe { (optional_text(self.log, "log")?, optional_text(self.fed_log, "fed_log")?) }
        {
            (Some(path), None) => options.log(path),
            (None, Some(path)) => options.fed_log(path),
            (None, None) => options,
            _ => return Err(Failure::option("log", "fed_log is set too; a log has one kind of numbering")),
        };
        options = options.sync(match self.sync {
            ITEMDEX_SYNC_ALWAYS => SyncPolicy::Always,
            ITEMDEX_SYNC_EVERY => SyncPolicy::Every(Duration::from_millis(self.sync_every_ms)),
            ITEMDEX_SYNC_NEVER => SyncPolicy::Never,
            other => return Err(Failure::option("sync", format!("there is no policy {other}"))),
        });
        if self.poll_ms != 0 {
            options = options.poll(Duration::from_millis(self.poll_ms.into()));
        }
        if self.retain_bytes != 0 || self.retain_seconds != 0 {
            let bytes = if self.retain_bytes == 0 { 256 << 20 } else { self.retain_bytes };
            let seconds = if self.retain_seconds == 0 { 6 * 3600 } else { self.retain_seconds };
            options = options.retain(bytes, Duration::from_secs(seconds));
        }
        if self.fresh_limit != 0 {
            options = options.fresh_limit(usize::try_from(self.fresh_limit).unwrap_or(usize::MAX));
        }
        Ok(options)
    }
}

/// Puts an item in, or a new embedding in place of an item's, for one model version.
pub const ITEMDEX_UPSERT: u32 = 1;
/// Takes an item out of every model version.
pub const ITEMDEX_DELETE: u32 = 2;
/// Replaces values of an item, in every model version that has it.
pub const ITEMDEX_SET_VALUES: u32 = 3;

/// A change to the items.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Change {
    /// sizeof(itemdex_change)
    size: usize,
    /// ITEMDEX_UPSERT, ITEMDEX_DELETE or ITEMDEX_SET_VALUES
    kind: u32,
    /// Leave it 0.
    reserved: u32,
    /// The item's id.
    id: u64,
    /// The change's position, for a log that is fed; 0 for one that numbers its changes itself.
    position: u64,
    /// Of an upsert: the model version that the embedding came from.
    model_version: *const c_char,
    /// Of an upsert: dim values.
    embedding: *const f32,
    /// How many values the embedding has.
    dim: usize,
    /// Of an upsert and of ITEMDEX_SET_VALUES: the item's values in columns, all of the same size. After an
    /// upsert, columns that are not named are null; ITEMDEX_SET_VALUES leaves them as they are.
    values: *const Value,
    /// How many there are.
    value_count: usize,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Change {
    const NAME: &str = "itemdex_change";
    const FIRST: usize = 72;
}

impl Change {
    /// # Safety
    /// The texts and arrays are NULL or as the header says.
    unsafe fn for_library(self) -> Result<live::Change> {
        // SAFETY: as the caller promised.
        let of_columns = || unsafe { item_values(self.values, self.value_count) };
        match self.kind {
            ITEMDEX_UPSERT => {
                // SAFETY: as the caller promised.
                let (version, embedding) = unsafe {
                    (
                        text(self.model_version, "model_version")?,
                        values(self.embedding, self.dim, "embedding")?,
                    )
                };
                Ok(live::Change::upsert(version, self.id, embedding).with_values(of_columns()?))
            }
            ITEMDEX_DELETE => Ok(live::Change::delete(self.id)),
            ITEMDEX_SET_VALUES => Ok(live::Change::set_values(self.id, of_columns()?)),
            other => Err(Failure::option("kind", format!("there is no kind {other} of a change"))),
        }
    }
}

/// What became of changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Applied {
    /// In: sizeof(itemdex_applied)
    size: usize,
    /// The position of the last change in the log.
    position: u64,
    /// Changes that were logged, and that every index handed out from now on has.
    applied: u64,
    /// Changes at positions that the log had come to before. A retry finds all of them so.
    already_there: u64,
    /// Upserts of retired model versions, which were not logged.
    retired: u64,
}

// SAFETY: repr(C), the size first, and integers.
unsafe impl Growing for Applied {
    const NAME: &str = "itemdex_applied";
    const FIRST: usize = 40;
}

/// Opens what a catalog has, and follows it from then on, on threads of its own. Reads every file that is
/// to serve.
///
/// catalog: the folder. options: NULL for the defaults, which take no fresh items. live: the handle, for
/// itemdex_live_close. Any thread may call it.
///
/// Errors: ITEMDEX_NO_GENERATION, ITEMDEX_DAMAGED, ITEMDEX_NUMBERING, ITEMDEX_LOG_BEHIND,
/// ITEMDEX_BAD_OPTION, ITEMDEX_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_open(
    catalog: *const c_char,
    options: *const LiveOptions,
    live: *mut *mut LiveIndex,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (catalog, options, live) = unsafe {
            (
                text(catalog, "catalog")?,
                read_or_default(options, "options")?.for_library()?,
                Place::new(live, "live")?,
            )
        };
        live.write(Box::into_raw(Box::new(LiveIndex(options.open(catalog)?))));
        Ok(())
    })
}

/// Closes a live index, and waits for its threads. NULL is allowed. No other call may use it meanwhile or
/// later. What itemdex_live_current gave stays open, and is closed by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_close(live: *mut LiveIndex) {
    if !live.is_null() {
        // SAFETY: the caller has it from `itemdex_live_open`, and closes it once.
        let live = unsafe { Box::from_raw(live) };
        call(|| {
            drop(live);
            Ok(())
        });
    }
}

/// Gives the current generation with its fresh items, as an index that does not change. Take one for each
/// request, and close it with itemdex_close when the request is done: an old generation stays in memory as
/// long as one of its indexes is open.
///
/// It takes no lock, waits for nothing, and allocates the handle of some bytes. Any number of threads may
/// call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_current(live: *const LiveIndex, index: *mut *mut Index) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, index) = unsafe { (shared(live, "live")?, Place::new(index, "index")?) };
        Index::give(Source::View(live.0.current()), index);
        Ok(())
    })
}

/// The same for the newest generation of a model version, for requests whose user embedding is of that
/// version. Any number of threads may call it at once.
///
/// Errors: ITEMDEX_UNKNOWN_MODEL, whose text names the versions that there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_for_model(
    live: *const LiveIndex,
    model_version: *const c_char,
    index: *mut *mut Index,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, version, index) = unsafe {
            (shared(live, "live")?, text(model_version, "model_version")?, Place::new(index, "index")?)
        };
        Index::give(Source::View(live.0.for_model(version)?), index);
        Ok(())
    })
}

/// Puts an item in, or a new embedding in place of an item's: every index handed out from when this returns
/// has it. Its values in columns are null; itemdex_live_write takes an upsert with values. For a log that
/// numbers its changes itself.
///
/// embedding: dim values of the model version. position: the change's position in the log; NULL where it is
/// not wanted. Any number of threads may call it at once; calls made at once share a sync of the disk.
///
/// Errors: ITEMDEX_BAD_OPTION for an embedding that cannot be indexed, and where the live index has no log;
/// ITEMDEX_NUMBERING, ITEMDEX_OVERLAY_FULL, ITEMDEX_RETIRED_MODEL, ITEMDEX_LOG_REPLACED, ITEMDEX_IO,
/// ITEMDEX_FORKED. Then nothing is logged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_upsert(
    live: *const LiveIndex,
    model_version: *const c_char,
    id: u64,
    embedding: *const f32,
    dim: usize,
    position: *mut u64,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, version, embedding, position) = unsafe {
            (
                shared(live, "live")?,
                text(model_version, "model_version")?,
                values(embedding, dim, "embedding")?,
                Place::optional(position, "position")?,
            )
        };
        let logged = live.0.upsert(version, id, embedding)?;
        if let Some(position) = position {
            position.write(logged);
        }
        Ok(())
    })
}

/// Replaces values of an item, in every model version that has it: its price, or whether it is in stock.
/// Columns that are not named stay as they are. An item that is not there is no error. For a log that numbers
/// its changes itself.
///
/// values: value_count of them, all of the same size. position and errors: as in itemdex_live_upsert. Any
/// number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_set_values(
    live: *const LiveIndex,
    id: u64,
    values: *const Value,
    value_count: usize,
    position: *mut u64,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, values, position) = unsafe {
            (shared(live, "live")?, item_values(values, value_count)?, Place::optional(position, "position")?)
        };
        let logged = live.0.set_values(id, values)?;
        if let Some(position) = position {
            position.write(logged);
        }
        Ok(())
    })
}

/// Takes an item out of every model version: no index handed out from when this returns has it. An item that
/// is not there is no error. For a log that numbers its changes itself.
///
/// position and errors: as in itemdex_live_upsert. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_delete(live: *const LiveIndex, id: u64, position: *mut u64) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, position) = unsafe { (shared(live, "live")?, Place::optional(position, "position")?) };
        let logged = live.0.delete(id)?;
        if let Some(position) = position {
            position.write(logged);
        }
        Ok(())
    })
}

/// Logs changes together, in one write and one sync, and has requests see all of them at one instant, or
/// after an error none.
///
/// changes: change_count of them, all of the same size. For a log that numbers its changes itself, their
/// positions are 0. For a log that is fed, positions ascend from 1 on and may leave some out; what is at
/// or before the log's last position is there already and is not applied again, so a call can be repeated
/// until it succeeds. applied: what became of them; NULL where that is not wanted. Any number of threads
/// may call it at once for a log that numbers itself, and one feeder at a time for a log that is fed.
///
/// Errors: as itemdex_live_upsert; ITEMDEX_BAD_OPTION for positions that do not ascend. Upserts of a
/// retired version are an error only where the log numbers itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_write(
    live: *const LiveIndex,
    changes: *const Change,
    change_count: usize,
    applied: *mut Applied,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, changes) = unsafe { (shared(live, "live")?, read_all(changes, change_count, "changes")?) };
        let mut fed = Vec::with_capacity(change_count.min(1 << 16));
        for change in changes {
            let change: Change = change?;
            // SAFETY: as above.
            fed.push((change.position, unsafe { change.for_library() }?));
        }
        // SAFETY: as above. Read before anything is logged, for its errors.
        let mut answer = match applied.is_null() {
            true => None,
            false => Some(unsafe { Written::new(applied, "applied") }?),
        };
        let batch = match fed.iter().any(|(position, _)| *position != 0) {
            true => Batch::from(fed),
            false => Batch::from(fed.into_iter().map(|(_, change)| change).collect::<Vec<_>>()),
        };
        let done = live.0.send(batch)?.wait()?;
        if let Some(answer) = &mut answer {
            answer.value = Applied {
                size: answer.value.size,
                position: done.position,
                applied: done.applied as u64,
                already_there: done.already_there as u64,
                retired: done.retired as u64,
            };
        }
        if let Some(answer) = answer {
            answer.write();
        }
        Ok(())
    })
}

/// Looks at the catalog now, and returns when what it has serves. A live index also does so by itself.
///
/// changed: 1 if anything changed, otherwise 0; NULL where that is not wanted. Any number of threads may
/// call it at once.
///
/// Errors: what kept it from serving what the catalog has, ITEMDEX_REFUSED among them. What served before
/// goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_refresh(live: *const LiveIndex, changed: *mut u32) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, changed) = unsafe { (shared(live, "live")?, Place::optional(changed, "changed")?) };
        let refreshed = live.0.refresh()?;
        if let Some(changed) = changed {
            changed.write(refreshed.into());
        }
        Ok(())
    })
}

/// Says what serves, how it fares and what went wrong, as a JSON document that docs/c.md describes. It
/// waits for no file.
///
/// json: the text, for itemdex_text_free. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_live_status(live: *const LiveIndex, json: *mut *mut c_char) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (live, json) = unsafe { (shared(live, "live")?, Place::new(json, "json")?) };
        write_text(json, live.0.status().to_json())
    })
}
