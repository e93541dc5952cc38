//! The one error type. A message says what was wrong, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
///
/// Match on the variants in a program; the texts are for people. A failed build leaves its output path as it
/// was. A failed query does not affect the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: a missing file, no permission, a full disk. It may work when tried
    /// again.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was attempted, as a verb: "open", "read", "write", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said. It is part of the text, and so not its [`source`](std::error::Error::source).
        cause: io::Error,
    },

    /// A dump (or an iterator of rows) holds something that cannot be indexed.
    #[error("{origin}: {}{problem}", Row(*row))]
    BadDump {
        /// The dump's path, or a description of the iterator.
        origin: String,
        /// The row at fault, counted from 0; `None` if the dump as a whole is.
        row: Option<u64>,
        /// What is wrong, and what to do.
        problem: String,
    },

    /// Two rows carry the same item id.
    #[error(
        "{origin}: item id {id} stands at row {first} and again at row {second}; give every item one row"
    )]
    DuplicateId {
        /// The dump's path, or a description of the iterator.
        origin: String,
        /// The id.
        id: u64,
        /// The first row that has it, counted from 0.
        first: u64,
        /// A later row that has it, counted from 0.
        second: u64,
    },

    /// The file is not an itemdex index.
    #[error("{}: not an itemdex index: {problem}", path.display())]
    NotAnIndex {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        problem: String,
    },

    /// The file was written by a newer itemdex.
    #[error("{}: format version {found}, but this library reads version {supported}; upgrade itemdex or rebuild the index", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this library reads.
        supported: u32,
    },

    /// The index file is truncated or altered.
    #[error("{}: damaged at byte {offset}: {problem}; restore or rebuild it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage was found, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },

    /// A user embedding has another dim than the index.
    #[error("the user embedding has {found} values, the index has dim {expected}; is it of the same model?")]
    WrongDim {
        /// The index's dim.
        expected: usize,
        /// How many values the user embedding has.
        found: usize,
    },

    /// A user embedding cannot be scored: a value is not finite, or its norm is beyond
    /// [`MAX_NORM`](crate::MAX_NORM).
    #[error("the user embedding cannot be scored: {problem}")]
    BadUser {
        /// What is wrong with it.
        problem: String,
    },

    /// The row handles belong to another index file, such as the one before a rebuild.
    #[error("{}: the row handles are of another index file; look the items up, or search, in this one", path.display())]
    StaleRows {
        /// The file of the index that refused them.
        path: PathBuf,
    },

    /// The filter was made for another index file, such as the one before a rebuild.
    #[error("{}: the filter was made for another index file; make it anew, for this one", path.display())]
    StaleFilter {
        /// The file of the index that refused it.
        path: PathBuf,
    },

    /// The text or the expression of a filter cannot work.
    #[error("the filter: {problem}")]
    BadFilter {
        /// What is wrong, where in the text, and what was expected.
        problem: String,
    },

    /// An option has a value that cannot work.
    #[error("{option}: {problem}")]
    BadOption {
        /// The option's name.
        option: &'static str,
        /// What is wrong, and what values are allowed.
        problem: String,
    },

    /// Somebody else is changing the catalog, or has changed it since this work began. This call changed
    /// nothing.
    #[error("{}: {problem}", folder.display())]
    CatalogBusy {
        /// The catalog.
        folder: PathBuf,
        /// Who changes or changed it, and what to do.
        problem: String,
    },

    /// The catalog does not list the generation that was asked for.
    #[error("{}: {problem}", folder.display())]
    NoGeneration {
        /// The catalog.
        folder: PathBuf,
        /// What was asked for, and what the catalog lists.
        problem: String,
    },

    /// The shards of a generation do not fit together, or not to whoever was to take them up: one is missing,
    /// two have different model versions, an item belongs to another shard.
    #[error("{}: {problem}", path.display())]
    BadShards {
        /// The catalog, or the file at fault.
        path: PathBuf,
        /// What does not fit, and what to do.
        problem: String,
    },

    /// No generation of the model version is served.
    #[error("no generation of model version {asked:?} serves; there is {held:?}")]
    UnknownModel {
        /// The version that was asked for.
        asked: String,
        /// The versions that are served, that of the current generation first.
        held: Vec<String>,
    },

    /// The model version was retired from the catalog, so that no generation will have the item.
    #[error(
        "model version {model_version:?} is retired; send embeddings of a version that serves or is to come"
    )]
    RetiredModel {
        /// The version of the embedding.
        model_version: String,
    },

    /// There are as many fresh items of a model version as the limit allows. Items that are among them can
    /// still be replaced, and any item can be deleted.
    #[error(
        "there are {limit} fresh or deleted items of model version {model_version:?}, which is the limit; publish a generation that has them, with its log position"
    )]
    OverlayFull {
        /// The version of the embedding.
        model_version: String,
        /// The limit.
        limit: usize,
    },

    /// As many changes wait for the log as may. Nothing was logged; try again, or wait with
    /// `LiveIndex::send`.
    #[error("{waiting} batches of changes wait for the log already; try again later")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },

    /// A log numbers its changes itself, and the caller brought positions, or the other way round.
    #[error("{}: {}", path.display(), match fed {
        true => "positions of this log come from whoever feeds it; open it with LiveOptions::fed_log and call apply with a position for each change",
        false => "this log numbers its changes itself; open it with LiveOptions::log and call upsert, delete or write, or move it away and open a new one with LiveOptions::fed_log",
    })]
    Numbering {
        /// The log.
        path: PathBuf,
        /// Whether the log is fed.
        fed: bool,
    },

    /// A log that numbers its changes itself has not come to a position that a generation claims to have, as
    /// after an older copy of the log was restored. Changes logged now would be taken for ones that the
    /// generation has.
    #[error("{}: the log ends at position {log}, but generation {generation} of the catalog has the changes up to position {catalog}; restore a log that goes as far, or move this one away: a new one begins behind position {catalog}, and what only this log has is lost", path.display())]
    LogBehind {
        /// The log.
        path: PathBuf,
        /// The last position in the log.
        log: u64,
        /// The position that the generation was published with.
        catalog: u64,
        /// The generation's number.
        generation: u64,
    },

    /// The log does not have all that came after a generation's dump was taken any more.
    #[error("generation {generation}: its dump was taken at position {dump} of the log, and {} has dropped changes up to position {dropped_to}; publish a dump that was taken later, and reserve its position meanwhile (itemdex catalog reserve)", path.display())]
    RecordsDropped {
        /// The log.
        path: PathBuf,
        /// The generation's number.
        generation: u64,
        /// The position that the generation was published with; 0 without one.
        dump: u64,
        /// Records up to here may be gone.
        dropped_to: u64,
    },

    /// The log was moved, removed or replaced while the process had it open. Nothing is logged until it is
    /// back, or the process is started anew.
    #[error("{}: the log was moved or replaced while it was in use; move it back, or restart the process with the log that is to hold", path.display())]
    LogReplaced {
        /// Where the log was.
        path: PathBuf,
    },

    /// A generation was found bad, and what served before goes on.
    #[error("generation {generation} is refused: {problem}")]
    Refused {
        /// The generation's number.
        generation: u64,
        /// What was wrong.
        problem: String,
    },

    /// The process was forked since the `LiveIndex` was opened: its threads are in the parent only.
    #[error("this process was forked from the one that opened the LiveIndex; open one here")]
    Forked,

    /// The threads of the `LiveIndex` have ended.
    #[error("the LiveIndex is shutting down")]
    Closed,

    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |error| Error::Io { action, path, cause: without_path(error) }
    }

    pub(crate) fn dump(origin: &Path, problem: impl Into<String>) -> Error {
        Error::BadDump { origin: origin.display().to_string(), row: None, problem: problem.into() }
    }

    pub(crate) fn dump_row(origin: &Path, row: u64, problem: impl Into<String>) -> Error {
        Error::BadDump { origin: origin.display().to_string(), row: Some(row), problem: problem.into() }
    }
}

/// What the system said, without the path that `tempfile` puts behind it: ours is the one the caller knows.
fn without_path(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path \"") {
        Some((said, _)) => io::Error::new(error.kind(), said.to_owned()),
        None => error,
    }
}

struct Row(Option<u64>);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(row) => write!(f, "row {row}: "),
            None => Ok(()),
        }
    }
}
