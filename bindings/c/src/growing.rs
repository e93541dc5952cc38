//! Structs whose first field is their size, as the caller knows it. A library that is newer than the program
//! takes the fields that are missing as 0; one that is older takes fields that it does not know, if they are
//! 0.

use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use crate::border::{Failure, Result};

/// More than any struct will have: a size above it was never set.
const LARGEST: usize = 4096;

/// A struct of the header that can grow.
///
/// # Safety
/// It is `repr(C)`, its first field is its size as a `usize`, and any bytes are a value of it.
pub(crate) unsafe trait Growing: Copy {
    /// Its name in C.
    const NAME: &str;
    /// Its size in the first version of the interface.
    const FIRST: usize;
}

/// The struct's size, as the caller says.
///
/// # Safety
/// The pointer is NULL, not aligned, or points to a `T` of some version.
pub(crate) unsafe fn size_of_struct<T: Growing>(pointer: *const T, name: &str) -> Result<usize> {
    // SAFETY: as the caller promised; every struct begins with its size.
    let size = *unsafe { crate::border::shared(pointer.cast::<usize>(), name) }?;
    let aligned = size.is_multiple_of(align_of::<T>());
    match (T::FIRST..=LARGEST).contains(&size) && aligned {
        true => Ok(size),
        false => {
            let problem =
                format!("its size is {size}; set it to sizeof({}), and unused fields to 0", T::NAME);
            Err(Failure::argument(name, problem))
        }
    }
}

/// Reads a struct.
///
/// # Safety
/// The pointer is NULL, not aligned, or points to a `T` of some version, of as many bytes as it says.
pub(crate) unsafe fn read<T: Growing>(pointer: *const T, name: &str) -> Result<T> {
    // SAFETY: as the caller promised.
    let size = unsafe { size_of_struct(pointer, name) }?;
    let bytes = pointer.cast::<u8>();
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the struct has `size` bytes, as the caller promised, and no more than the value are copied. Any
    // bytes are a value, as `Growing` promises.
    let value = unsafe {
        ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast(), size.min(size_of::<T>()));
        value.assume_init()
    };
    // SAFETY: the bytes of the struct behind what this version knows; none if there are not more.
    let rest = unsafe {
        slice::from_raw_parts(bytes.add(size.min(size_of::<T>())), size.saturating_sub(size_of::<T>()))
    };
    match rest.iter().all(|&byte| byte == 0) {
        true => Ok(value),
        false => {
            let problem =
                format!("it has fields behind byte {} that this library does not know", size_of::<T>());
            Err(Failure::option(
                name,
                format!("{problem}; leave them 0, or install the version of your header"),
            ))
        }
    }
}

/// Reads a struct that may be NULL, which stands for one whose fields are all 0.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn read_or_default<T: Growing>(pointer: *const T, name: &str) -> Result<T> {
    match pointer.is_null() {
        // SAFETY: any bytes are a value, as `Growing` promises.
        true => Ok(unsafe { MaybeUninit::<T>::zeroed().assume_init() }),
        // SAFETY: as the caller promised.
        false => unsafe { read(pointer, name) },
    }
}

/// Reads an array of structs that all are of the first one's size.
///
/// # Safety
/// The pointer is NULL, not aligned, or points to `length` values of `T`, all of the version of the first.
pub(crate) unsafe fn read_all<T: Growing>(
    pointer: *const T,
    length: usize,
    name: &str,
) -> Result<impl Iterator<Item = Result<T>>> {
    let size = match length {
        0 => 0,
        // SAFETY: as the caller promised.
        _ => unsafe { size_of_struct(pointer, name) }?,
    };
    // SAFETY: the struct is among the `length` of this size, as the caller promised.
    Ok((0..length).map(move |number| unsafe { read(pointer.byte_add(number * size), name) }))
}

/// A struct that a call writes its answer into.
pub(crate) struct Written<T> {
    pointer: *mut T,
    /// What the caller set, and what is to be written.
    pub value: T,
    size: usize,
}

impl<T: Growing> Written<T> {
    /// # Safety
    /// As for [`read`], and the struct can be written until this is gone.
    pub unsafe fn new(pointer: *mut T, name: &str) -> Result<Written<T>> {
        // SAFETY: as the caller promised.
        let (value, size) = unsafe { (read(pointer, name)?, size_of_struct(pointer, name)?) };
        Ok(Written { pointer, value, size })
    }

    /// Writes the fields that the caller knows.
    pub fn write(self) {
        let bytes = self.size.min(size_of::<T>());
        // SAFETY: whoever made this promised that the struct of `size` bytes can be written.
        unsafe { ptr::copy_nonoverlapping((&raw const self.value).cast::<u8>(), self.pointer.cast(), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Now {
        size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: two integers behind the size.
    unsafe impl Growing for Now {
        const NAME: &str = "now";
        const FIRST: usize = 16;
    }

    /// Reads the struct that a caller of any version lays out as these words.
    fn read_words(words: &[u64]) -> Result<Now> {
        // SAFETY: each test gives as many words as the first says.
        unsafe { read(words.as_ptr().cast::<Now>(), "now") }
    }

    #[test]
    fn a_caller_of_before_leaves_new_fields_zero() {
        let Ok(read) = read_words(&[16, 7, u64::MAX]) else { panic!("it is refused") };
        assert_eq!(read, Now { size: 16, old: 7, new: 0 });
    }

    #[test]
    fn a_caller_of_later_may_have_fields_that_are_zero() {
        assert!(read_words(&[32, 7, 8, 0]).is_ok_and(|read| read.new == 8));
        assert!(read_words(&[32, 7, 8, 1]).is_err());
    }

    #[test]
    fn a_size_that_was_not_set_is_refused() {
        for size in [0, 8, 15, 17, 8192] {
            assert!(read_words(&[size, 0, 0, 0]).is_err(), "{size}");
        }
    }

    #[test]
    fn a_caller_of_before_gets_what_it_knows() {
        let mut words = [16u64, 0, 5];
        // SAFETY: the words are a struct of 16 bytes, and stay until the end of the test.
        let Ok(mut written) = (unsafe { Written::new(words.as_mut_ptr().cast::<Now>(), "now") }) else {
            panic!("it is refused")
        };
        (written.value.old, written.value.new) = (3, 4);
        written.write();
        assert_eq!(words, [16, 3, 5]);
    }

    #[test]
    fn arrays_go_by_the_size_of_the_first() {
        let words = [16u64, 1, 16, 2, 16, 3];
        // SAFETY: three structs of 16 bytes.
        let Ok(read) = (unsafe { read_all(words.as_ptr().cast::<Now>(), 3, "now") }) else {
            panic!("they are refused")
        };
        let old: Vec<u64> = read.filter_map(|now| now.ok()).map(|now| now.old).collect();
        assert_eq!(old, [1, 2, 3]);
    }
}
