//! What every call goes through.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use crate::status::Status;

/// Why a call did not do what it was asked to.
pub(crate) struct Failure {
    status: Status,
    text: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(status: Status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    pub fn argument(name: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Status::ITEMDEX_INVALID_ARGUMENT, format!("{name}: {problem}"))
    }

    /// An option whose value the library cannot be asked about.
    pub fn option(name: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Status::ITEMDEX_BAD_OPTION, format!("{name}: {problem}"))
    }

    fn panic(payload: Box<dyn Any + Send>) -> Failure {
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text =
            format!("the library panicked, please report it: {}", said.unwrap_or("it did not say why"));
        // Whatever the panic carried might panic again when it is dropped.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        dropped.unwrap_or_else(std::mem::forget);
        Failure::new(Status::ITEMDEX_PANIC, text)
    }
}

impl From<itemdex::Error> for Failure {
    fn from(error: itemdex::Error) -> Failure {
        Failure::new(Status::from(&error), error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Does the work of a call. What it returns with, and what a panic says, is kept for `itemdex_last_error`.
///
/// What a panic leaves behind can be used further: a query gives its workspace up, and the locks of a live
/// index do not mind having been held.
pub(crate) fn call(work: impl FnOnce() -> Result<()>) -> Status {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return Status::ITEMDEX_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::panic(payload),
    };
    let text = CString::new(failure.text.replace('\0', " ")).unwrap_or_default();
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
    failure.status
}

/// The text of the last error on this thread: what was wrong, where, and what to do. Empty where there was
/// none. It stays as it is until the next call on this thread that fails. Any thread may call it, and each
/// has its own text.
#[unsafe(no_mangle)]
pub extern "C" fn itemdex_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Frees a text that a function of itemdex wrote to a `char **`. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller has it from `write_text`, which made it from a `CString`, and frees it once.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// Panics behind the border, for the test that no panic crosses it. Not in the header.
#[unsafe(no_mangle)]
pub extern "C" fn itemdex_test_panic() -> Status {
    call(|| panic!("asked to"))
}

fn check<T>(pointer: *const T, name: &str) -> Result<()> {
    match pointer {
        _ if pointer.is_null() => Err(Failure::argument(name, "it is NULL")),
        _ if !pointer.is_aligned() => Err(Failure::argument(name, "the pointer is not aligned")),
        _ => Ok(()),
    }
}

/// What a pointer points to.
///
/// # Safety
/// It is NULL, not aligned, or points to a value that stays as it is for `'a`.
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    check(pointer, name)?;
    // SAFETY: as the caller promised; neither NULL nor misaligned, as was checked.
    Ok(unsafe { &*pointer })
}

/// The values that a pointer points to.
///
/// # Safety
/// It is NULL, not aligned, or points to `length` values that stay as they are for `'a`.
pub(crate) unsafe fn values<'a, T>(pointer: *const T, length: usize, name: &str) -> Result<&'a [T]> {
    if length == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if length > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(name, format!("{length} values do not fit into memory")));
    }
    // SAFETY: as the caller promised; neither NULL, misaligned nor too long, as was checked.
    Ok(unsafe { slice::from_raw_parts(pointer, length) })
}

/// A text, which is not empty.
///
/// # Safety
/// It is NULL or ends with a 0 byte, and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: as the caller promised.
    match unsafe { optional_text(pointer, name) }? {
        Some("") => Err(Failure::argument(name, "it is empty")),
        Some(text) => Ok(text),
        None => Err(Failure::argument(name, "it is NULL")),
    }
}

/// The same, where NULL stands for no text.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promised; not NULL, as was checked.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|error| Failure::argument(name, format!("it is not UTF-8: {error}")))
}

/// A place that a call writes one value to.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// # Safety
    /// The pointer is NULL, not aligned, or can be written through until the place is gone.
    pub unsafe fn new(pointer: *mut T, name: &str) -> Result<Place<T>> {
        check(pointer, name)?;
        Ok(Place(pointer))
    }

    /// The same, where NULL stands for no place.
    ///
    /// # Safety
    /// As for [`Place::new`].
    pub unsafe fn optional(pointer: *mut T, name: &str) -> Result<Option<Place<T>>> {
        match pointer.is_null() {
            true => Ok(None),
            // SAFETY: as the caller promised.
            false => unsafe { Place::new(pointer, name) }.map(Some),
        }
    }

    pub fn write(self, value: T) {
        // SAFETY: whoever made the place promised that it can be written; neither NULL nor misaligned, as was
        // checked. What was there is the caller's, or nothing, and is not dropped.
        unsafe { self.0.write(value) }
    }
}

/// Hands a text over to the caller.
pub(crate) fn write_text(place: Place<*mut c_char>, text: String) -> Result<()> {
    let text = CString::new(text).map_err(|error| Failure::new(Status::ITEMDEX_OTHER, error.to_string()))?;
    place.write(text.into_raw());
    Ok(())
}
