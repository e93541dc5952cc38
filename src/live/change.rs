//! Changes to the items, and who numbers them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::columns::{Value, Values, values_problem};
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
/// use itemdex::Values;
///
/// let priced = Values::new().with("price", 12.5).with("region", "JP");
/// let changes = [
///     Change::upsert("2026-11-23", 7, [1.0, 0.5]).with_values(priced),
///     Change::delete(8),
///     Change::set_values(9, Values::new().with("price", 11.0)),
/// ];
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Puts an item in, or replaces its embedding and its values, for one model version.
    Upsert {
        /// The model version that the embedding came from.
        model_version: String,
        /// The item's id.
        id: u64,
        /// As many values as the model version has dimensions.
        embedding: Vec<f32>,
        /// The item's values; null in columns that are not named.
        values: Values,
    },
    /// Replaces some of an item's values, in every model version that has the item.
    SetValues {
        /// The item's id.
        id: u64,
        /// The new values. The item keeps those of columns that are not named.
        values: Values,
    },
    /// Takes an item out of every model version.
    Delete {
        /// The item's id.
        id: u64,
    },
}

impl Change {
    /// Puts an item in, or replaces its embedding and its values, for one model version. The item has the
    /// values of [`Change::with_values`]; without them all are null.
    pub fn upsert(model_version: impl Into<String>, id: u64, embedding: impl Into<Vec<f32>>) -> Change {
        let (model_version, embedding) = (model_version.into(), embedding.into());
        Change::Upsert { model_version, id, embedding, values: Values::new() }
    }

    /// The same upsert, or the same setting of values, with these values in place of its own. A deletion has
    /// none.
    pub fn with_values(mut self, new: Values) -> Change {
        if let Change::Upsert { values, .. } | Change::SetValues { values, .. } = &mut self {
            *values = new;
        }
        self
    }

    /// Replaces the values of the columns that are named, in every model version that has the item. Where
    /// none has it, nothing changes.
    pub fn set_values(id: u64, values: Values) -> Change {
        Change::SetValues { id, values }
    }

    /// Takes an item out of every model version.
    pub fn delete(id: u64) -> Change {
        Change::Delete { id }
    }

    /// The item's id.
    pub fn id(&self) -> u64 {
        match self {
            Change::Upsert { id, .. } | Change::SetValues { id, .. } | Change::Delete { id } => *id,
        }
    }

    /// Checks that the change can be logged; `dim` is that of a model version, where it is known.
    pub(super) fn check(&self, dim: impl FnOnce(&str) -> Option<usize>) -> Result<()> {
        if let Change::Upsert { values, .. } | Change::SetValues { values, .. } = self {
            check_values(values)?;
        }
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

/// The most bytes that the values of one change may take in a log.
pub(super) const MAX_VALUES: usize = 1 << 16;

fn check_values(values: &Values) -> Result<()> {
    let too_long = || {
        let bytes = bytes_of_values(values);
        (bytes > MAX_VALUES).then(|| format!("they take {bytes} bytes in the log, more than {MAX_VALUES}"))
    };
    match values_problem(values).or_else(too_long) {
        Some(problem) => Err(Error::BadOption { option: "values", problem }),
        None => Ok(()),
    }
}

/// How many bytes values take in a log.
pub(super) fn bytes_of_values(values: &Values) -> usize {
    let bytes = |(name, value): (&str, &Value)| {
        2 + name.len()
            + match value {
                Value::Null => 0,
                Value::Tags(tags) => 4 + tags.iter().map(|tag| 4 + tag.len()).sum::<usize>(),
                Value::Ids(ids) => 4 + 8 * ids.len(),
                Value::Integer(_) | Value::Real(_) => 8,
                Value::Flag(_) => 1,
            }
    };
    values.iter().map(bytes).sum()
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
