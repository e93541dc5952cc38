//! What an index may hold. The header of a file, the readers of dumps, the builder and the overlay of fresh items all
//! keep to these limits.

use crate::{Error, Result};

/// The largest dim of an embedding.
pub const MAX_DIM: usize = 4096;

/// The most rows of an index: a row number takes 31 bits.
pub(crate) const MAX_ROWS: u64 = (1 << 31) - 1;

/// The fewest and the most links of a node in an upper layer of the graph. A row has twice as many in the base layer.
pub(crate) const MIN_M: usize = 2;
pub(crate) const MAX_M: usize = 128;

/// The longest model version, in bytes of UTF-8.
pub(crate) const MAX_MODEL_VERSION: usize = 255;

/// Refuses a model version that no file can hold, or that would garble a terminal or a log.
pub(crate) fn check_model_version(model_version: &str) -> Result<()> {
    let problem = if model_version.is_empty() {
        "it is empty; name the model the embeddings came from, for example its training date"
    } else if model_version.len() > MAX_MODEL_VERSION {
        "it is longer than 255 bytes"
    } else if model_version.contains(char::is_control) {
        "it has a control character, a line break for instance; use printable ones"
    } else {
        return Ok(());
    };
    Err(Error::BadOption { option: "model version", problem: problem.to_owned() })
}
