//! Changes to the items, and who numbers them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits::{MAX_DIM, check_model_version};
use crate::vectors::problem_with;
use crate::{Error, Result};

/// Positions that are given are below this: far more than any log comes to.
pub(super) const POSITIONS: u64 = 1 << 62;

/// What a log holds is below this, so that it can count on from any position that is given.
pub(super) const MAX_POSITION: u64 = 1 << 63;

/// Seconds since 1970, which changes and reservations are dated by.
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A change to the items.
///
/// ```
/// use itemdex::live::Change;
///
/// let changes = [Change::upsert("2026-11-23", 7, [1.0, 0.5]), Change::delete(8)];
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Puts an item in, or replaces its embedding, for one model version.
    Upsert {
        /// The model version that the embedding came from.
        model_version: String,
        /// The item's id.
        id: u64,
        /// As many values as the model version has dimensions.
        embedding: Vec<f32>,
    },
    /// Takes an item out of every model version.
    Delete {
        /// The item's id.
        id: u64,
    },
}

impl Change {
    /// Puts an item in, or replaces its embedding, for one model version.
    pub fn upsert(model_version: impl Into<String>, id: u64, embedding: impl Into<Vec<f32>>) -> Change {
        Change::Upsert { model_version: model_version.into(), id, embedding: embedding.into() }
    }

    /// Takes an item out of every model version.
    pub fn delete(id: u64) -> Change {
        Change::Delete { id }
    }

    /// The item's id.
    pub fn id(&self) -> u64 {
        match self {
            Change::Upsert { id, .. } | Change::Delete { id } => *id,
        }
    }

    /// Checks that the change can be logged; `dim` is that of a model version, where it is known.
    pub(super) fn check(&self, dim: impl FnOnce(&str) -> Option<usize>) -> Result<()> {
        let Change::Upsert { model_version, embedding, .. } = self else { return Ok(()) };
        check_model_version(model_version)?;
        let found = embedding.len();
        let problem = match dim(model_version) {
            _ if !(1..=MAX_DIM).contains(&found) => {
                Some(format!("it has {found} values, not 1 to {MAX_DIM}"))
            }
            Some(dim) if dim != found => {
                Some(format!("it has {found} values, model version {model_version} has dim {dim}"))
            }
            _ => problem_with(embedding),
        };
        match problem {
            Some(problem) => Err(Error::BadOption { option: "embedding", problem }),
            None => Ok(()),
        }
    }
}

/// Who numbers the changes of a log. The number is what the log's header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Numbering {
    /// The log, one after the other.
    Own = 0,
    /// Whoever feeds it.
    Fed = 1,
}

/// Changes that are logged together, all of them or none: `Change`s for a log that numbers them itself, or
/// pairs of a position and a `Change` for a log that is fed.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch(pub(super) Changes);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Changes {
    Own(Vec<Change>),
    Fed(Vec<(u64, Change)>),
}

impl From<Change> for Batch {
    fn from(change: Change) -> Batch {
        Batch(Changes::Own(vec![change]))
    }
}

impl From<Vec<Change>> for Batch {
    fn from(changes: Vec<Change>) -> Batch {
        Batch(Changes::Own(changes))
    }
}

impl From<Vec<(u64, Change)>> for Batch {
    fn from(changes: Vec<(u64, Change)>) -> Batch {
        Batch(Changes::Fed(changes))
    }
}

impl Batch {
    pub(super) fn numbering(&self) -> Numbering {
        match &self.0 {
            Changes::Own(_) => Numbering::Own,
            Changes::Fed(_) => Numbering::Fed,
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Changes::Own(changes) => changes.len(),
            Changes::Fed(changes) => changes.len(),
        }
    }

    /// Checks every change, and that positions ascend; changes of one position may stand beside each other.
    pub(super) fn check(&self, dim: impl Fn(&str) -> Option<usize>) -> Result<()> {
        match &self.0 {
            Changes::Own(changes) => changes.iter().try_for_each(|change| change.check(&dim)),
            Changes::Fed(changes) => {
                let mut before = 1;
                for (number, (position, change)) in changes.iter().enumerate() {
                    if !(before..POSITIONS).contains(position) {
                        let problem = format!(
                            "change {number} of the batch has position {position} behind {before}; give \
                             positions that ascend, from 1 on and below {POSITIONS}"
                        );
                        return Err(Error::BadOption { option: "position", problem });
                    }
                    before = *position;
                    change.check(&dim)?;
                }
                Ok(())
            }
        }
    }
}
