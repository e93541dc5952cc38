use itemdex::Error;

/// What a call returns. Later versions may return others than these.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names are those of C")]
pub enum Status {
    /// Done.
    ITEMDEX_OK = 0,
    /// An argument cannot be right: NULL, not aligned, no UTF-8, or a struct whose size is not set.
    ITEMDEX_INVALID_ARGUMENT = 1,
    /// The operating system refused: a missing file, no permission, a full disk. It may work when tried
    /// again.
    ITEMDEX_IO = 2,
    /// The items to build from hold something that cannot be indexed.
    ITEMDEX_BAD_DUMP = 3,
    /// Two rows have the same item id.
    ITEMDEX_DUPLICATE_ID = 4,
    /// The file is not an itemdex index.
    ITEMDEX_NOT_AN_INDEX = 5,
    /// The file was written by a newer itemdex.
    ITEMDEX_UNKNOWN_FORMAT = 6,
    /// The file is cut short or altered.
    ITEMDEX_DAMAGED = 7,
    /// The user embedding has another dim than the index. Is it of the same model?
    ITEMDEX_WRONG_DIM = 8,
    /// The user embedding has a value that is not finite, or is too long.
    ITEMDEX_BAD_USER = 9,
    /// An option has a value that cannot work.
    ITEMDEX_BAD_OPTION = 10,
    /// The index has no item of this id.
    ITEMDEX_UNKNOWN_ITEM = 11,
    /// The text of a filter is wrong, or names a column that the index does not have.
    ITEMDEX_BAD_FILTER = 12,
    /// The filter or the set was made with another index file. Make it again with this one.
    ITEMDEX_STALE = 13,
    /// Somebody else is changing the catalog, or has changed it. Try again.
    ITEMDEX_CATALOG_BUSY = 14,
    /// The catalog has no generation that can serve.
    ITEMDEX_NO_GENERATION = 15,
    /// No generation of this model version serves.
    ITEMDEX_UNKNOWN_MODEL = 16,
    /// The model version was retired from the catalog.
    ITEMDEX_RETIRED_MODEL = 17,
    /// There are as many fresh items of the model version as the limit allows.
    ITEMDEX_OVERLAY_FULL = 18,
    /// The log numbers its changes itself and the caller gave positions, or the other way round.
    ITEMDEX_NUMBERING = 19,
    /// The log has not come as far as a generation says it has.
    ITEMDEX_LOG_BEHIND = 20,
    /// The log has dropped changes that a generation lacks.
    ITEMDEX_RECORDS_DROPPED = 21,
    /// The log was moved or replaced while it was in use.
    ITEMDEX_LOG_REPLACED = 22,
    /// A generation is bad, and what served before goes on.
    ITEMDEX_REFUSED = 23,
    /// The process was forked from the one that opened the live index.
    ITEMDEX_FORKED = 24,
    /// The live index is shutting down.
    ITEMDEX_CLOSED = 25,
    /// The caller cancelled the work.
    ITEMDEX_CANCELLED = 26,
    /// The library panicked, which is a fault of the library. The handle can be used further and closed.
    /// The panic's message also went to standard error.
    ITEMDEX_PANIC = 27,
    /// An error that this list has no number for yet.
    ITEMDEX_OTHER = 28,
}

use Status::*;

impl From<&Error> for Status {
    fn from(error: &Error) -> Status {
        match error {
            Error::Io { .. } => ITEMDEX_IO,
            Error::BadDump { .. } => ITEMDEX_BAD_DUMP,
            Error::DuplicateId { .. } => ITEMDEX_DUPLICATE_ID,
            Error::NotAnIndex { .. } => ITEMDEX_NOT_AN_INDEX,
            Error::UnknownFormat { .. } => ITEMDEX_UNKNOWN_FORMAT,
            Error::Damaged { .. } => ITEMDEX_DAMAGED,
            Error::WrongDim { .. } => ITEMDEX_WRONG_DIM,
            Error::BadUser { .. } => ITEMDEX_BAD_USER,
            Error::BadOption { .. } => ITEMDEX_BAD_OPTION,
            Error::BadFilter { .. } => ITEMDEX_BAD_FILTER,
            Error::StaleFilter { .. } | Error::StaleRows { .. } => ITEMDEX_STALE,
            Error::CatalogBusy { .. } => ITEMDEX_CATALOG_BUSY,
            Error::NoGeneration { .. } => ITEMDEX_NO_GENERATION,
            Error::UnknownModel { .. } => ITEMDEX_UNKNOWN_MODEL,
            Error::RetiredModel { .. } => ITEMDEX_RETIRED_MODEL,
            Error::OverlayFull { .. } => ITEMDEX_OVERLAY_FULL,
            Error::Numbering { .. } => ITEMDEX_NUMBERING,
            Error::LogBehind { .. } => ITEMDEX_LOG_BEHIND,
            Error::RecordsDropped { .. } => ITEMDEX_RECORDS_DROPPED,
            Error::LogReplaced { .. } => ITEMDEX_LOG_REPLACED,
            Error::Refused { .. } => ITEMDEX_REFUSED,
            Error::Forked => ITEMDEX_FORKED,
            Error::Closed => ITEMDEX_CLOSED,
            Error::Cancelled => ITEMDEX_CANCELLED,
            _ => ITEMDEX_OTHER,
        }
    }
}
