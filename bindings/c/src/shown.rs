//! What of the items a request may see: filters, and sets of items.

use std::ffi::c_char;

use itemdex::{Expression, Items, Parameters};

use crate::border::{Failure, Place, Result, call, shared, text, values};
use crate::growing::{Growing, read_all};
use crate::index::Index;
use crate::status::Status;

/// The items of one index for which an expression is true, found once and used in any number of requests.
pub struct Filter(itemdex::Filter);

impl Filter {
    /// # Safety
    /// The filter is NULL, or stays for `'a`.
    pub(crate) unsafe fn optional<'a>(filter: *const Filter) -> Result<Option<&'a itemdex::Filter>> {
        match filter.is_null() {
            true => Ok(None),
            // SAFETY: as the caller promised.
            false => unsafe { shared(filter, "filter") }.map(|filter| Some(&filter.0)),
        }
    }
}

/// Items of one index, made ready to be denied or allowed in any number of requests.
pub struct ItemSet(itemdex::ItemSet);

/// What a name behind `$` in the text of a filter stands for: a list, or one value where the text compares
/// with one. At most one of the arrays is set; the list is empty where none is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Parameter {
    /// sizeof(itemdex_parameter)
    size: usize,
    /// The name, without the `$`.
    name: *const c_char,
    /// For columns of tags that are texts.
    texts: *const *const c_char,
    /// For columns of tags that are numbers.
    ids: *const u64,
    /// For columns of whole numbers and of expiries.
    integers: *const i64,
    /// For columns of other numbers.
    reals: *const f64,
    /// How many values there are.
    count: usize,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Parameter {
    const NAME: &str = "itemdex_parameter";
    const FIRST: usize = 56;
}

impl Parameter {
    /// # Safety
    /// The texts and arrays are NULL or as the header says.
    unsafe fn add_to(self, parameters: Parameters) -> Result<Parameters> {
        // SAFETY: as the caller promised.
        let name = unsafe { text(self.name, "name of a parameter") }?;
        let set = [self.texts.is_null(), self.ids.is_null(), self.integers.is_null(), self.reals.is_null()];
        let set = set.iter().filter(|null| !**null).count();
        if set > 1 || (set == 0 && self.count > 0) {
            let problem = format!("the parameter {name} has {set} arrays for {} values; set one", self.count);
            return Err(Failure::argument("parameters", problem));
        }
        // SAFETY: as the caller promised. An array that is NULL is one of those that are not read.
        unsafe {
            if !self.texts.is_null() {
                let texts = values(self.texts, self.count, "texts")?.iter();
                let texts: Vec<&str> = texts.map(|&value| text(value, "texts")).collect::<Result<_>>()?;
                Ok(parameters.with(name, texts))
            } else if !self.integers.is_null() {
                Ok(parameters.with(name, values(self.integers, self.count, "integers")?.iter().copied()))
            } else if !self.reals.is_null() {
                Ok(parameters.with(name, values(self.reals, self.count, "reals")?.iter().copied()))
            } else {
                Ok(parameters.with(name, values(self.ids, self.count, "ids")?.iter().copied()))
            }
        }
    }
}

/// Makes a filter of a text such as `region in ("JP", "US") and not author in $blocked and price <= 1000`.
/// docs/filters.md has the language.
///
/// parameters: parameter_count of them, all of the same size. filter: the handle, for
/// itemdex_filter_close. It takes a bit for each item of the index, and outlives the index that it was
/// made with. Only an index of the same file takes it: after a live index has swapped generations, make it
/// again. Any number of threads may call it at once.
///
/// Errors: ITEMDEX_BAD_FILTER, whose text says at which character, and for a column that the index does not
/// have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_filter_make(
    index: *const Index,
    expression: *const c_char,
    parameters: *const Parameter,
    parameter_count: usize,
    filter: *mut *mut Filter,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, expression, parameters, filter) = unsafe {
            let read = read_all(parameters, parameter_count, "parameters")?;
            let mut bound = Parameters::new();
            for parameter in read {
                bound = parameter?.add_to(bound)?;
            }
            (shared(index, "index")?, text(expression, "expression")?, bound, Place::new(filter, "filter")?)
        };
        let made = index.source.file().filter(&Expression::parse(expression, &parameters)?)?;
        filter.write(Box::into_raw(Box::new(Filter(made))));
        Ok(())
    })
}

/// Counts the items of the index file that a filter keeps. It is exact. Any number of threads may call it
/// at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_filter_matching(filter: *const Filter, matching: *mut u64) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (filter, matching) = unsafe { (shared(filter, "filter")?, Place::new(matching, "matching")?) };
        matching.write(filter.0.matching() as u64);
        Ok(())
    })
}

/// Closes a filter. NULL is allowed. No other call may use the filter meanwhile or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_filter_close(filter: *mut Filter) {
    if !filter.is_null() {
        // SAFETY: the caller has it from `itemdex_filter_make`, and closes it once.
        drop(unsafe { Box::from_raw(filter) });
    }
}

/// Makes items ready to be denied or allowed in many requests: what a user has seen, or what a page may
/// show. For one request, name the ids in itemdex_shown.
///
/// ids: id_count of them; those that the index does not have do no harm. set: the handle, for
/// itemdex_set_close. It takes some bits for each item of the index, and outlives the index that it was
/// made with. Only an index of the same file takes it. Any number of threads may call it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_set_make(
    index: *const Index,
    ids: *const u64,
    id_count: usize,
    set: *mut *mut ItemSet,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, ids, set) =
            unsafe { (shared(index, "index")?, values(ids, id_count, "ids")?, Place::new(set, "set")?) };
        set.write(Box::into_raw(Box::new(ItemSet(index.source.file().item_set(ids)))));
        Ok(())
    })
}

/// Closes a set. NULL is allowed. No other call may use the set meanwhile or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_set_close(set: *mut ItemSet) {
    if !set.is_null() {
        // SAFETY: the caller has it from `itemdex_set_make`, and closes it once.
        drop(unsafe { Box::from_raw(set) });
    }
}

/// What of the items a request may see. An item is seen where everything that is set here lets it pass.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shown {
    /// sizeof(itemdex_shown)
    size: usize,
    /// Leaves out what the filter does not keep; NULL for no filter.
    filter: *const Filter,
    /// Leaves out these items, by id; NULL for none.
    deny: *const u64,
    /// How many there are.
    deny_count: usize,
    /// Leaves out the items of this set, in place of deny; NULL for none.
    deny_set: *const ItemSet,
    /// Leaves out all items but these, by id; NULL for no such list. A list that is not NULL and has no ids
    /// leaves out everything.
    allow: *const u64,
    /// How many there are.
    allow_count: usize,
    /// Leaves out all items but those of this set, in place of allow; NULL for none.
    allow_set: *const ItemSet,
    /// Answers as at this second since 1970: items that have expired by then are left out. 0 for now.
    now: i64,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Shown {
    const NAME: &str = "itemdex_shown";
    const FIRST: usize = 72;
}

impl Shown {
    /// The same as the library takes it.
    ///
    /// # Safety
    /// The handles and arrays are NULL, or stay for `'a`.
    pub unsafe fn seen<'a>(self) -> Result<itemdex::Shown<'a>> {
        // SAFETY: as the caller promised.
        unsafe {
            Ok(itemdex::Shown {
                filter: Filter::optional(self.filter)?,
                deny: items(self.deny, self.deny_count, self.deny_set, "deny")?,
                allow: items(self.allow, self.allow_count, self.allow_set, "allow")?,
                now: (self.now != 0).then_some(self.now),
            })
        }
    }
}

/// Items that are denied or allowed: by id or by a set, or none.
///
/// # Safety
/// The set and the array are NULL, or stay for `'a`.
unsafe fn items<'a>(
    ids: *const u64,
    count: usize,
    set: *const ItemSet,
    name: &str,
) -> Result<Option<Items<'a>>> {
    match (ids.is_null() && count == 0, set.is_null()) {
        (true, true) => Ok(None),
        // SAFETY: as the caller promised.
        (true, false) => Ok(Some(Items::Set(&unsafe { shared(set, name) }?.0))),
        // SAFETY: as the caller promised.
        (false, true) => Ok(Some(Items::Ids(unsafe { values(ids, count, name) }?))),
        (false, false) => Err(Failure::option(name, "there are ids and a set; set one of them")),
    }
}
