//! The names of staged shards. A name says all that a publication looks for: which shard of how many, and the key
//! under which it was staged.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::assignment::Shard;
use crate::{Error, Result};

const PREFIX: &str = "shard-";
const SUFFIX: &str = ".itemdex";

/// How long a shard waits for its publication before it is swept.
const STAGED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

const MAX_KEY: usize = 100;

/// A name such as `shard-2-of-8-Xy3Zq1-job_17.itemdex`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StagedName<'a> {
    pub shard: Shard,
    pub key: &'a str,
}

impl<'a> StagedName<'a> {
    pub fn parse(name: &'a str) -> Option<StagedName<'a>> {
        let middle = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let mut parts = middle.splitn(5, '-');
        let number = parts.next()?.parse().ok()?;
        let of = parts.nth(1)?.parse().ok()?;
        let key = parts.nth(1)?;
        let shard = Shard::new(number, of).ok()?;
        check_key(key).ok()?;
        Some(StagedName { shard, key })
    }

    /// The name, with a part that no other has.
    pub fn with(self, unique: &str) -> String {
        let StagedName { shard, key } = self;
        format!("{PREFIX}{}-of-{}-{unique}-{key}{SUFFIX}", shard.number(), shard.of())
    }
}

/// Refuses a key that cannot be a part of a file's name.
pub(super) fn check_key(key: &str) -> Result<()> {
    let letter = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(letter) {
        return Ok(());
    }
    let problem = format!(
        "{key:?} is no key; give 1 to {MAX_KEY} letters, digits, '-', '_' and '.', such as a job's id"
    );
    Err(Error::BadOption { option: "key", problem })
}

/// Whether a shard has waited too long for its publication.
pub(super) fn is_old(path: &Path) -> bool {
    let written = path.metadata().and_then(|file| file.modified());
    written.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > STAGED_FOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_again() {
        let shard = Shard::new(2, 8).unwrap();
        for key in ["job", "2026-11-23", "a-of-b", "x.y_z"] {
            let name = StagedName { shard, key };
            assert_eq!(StagedName::parse(&name.with("Xy3Zq1")), Some(name));
        }
        for wrong in [
            "shard-2-of-8-a.itemdex",
            "shard-8-of-8-a-b.itemdex",
            "shard-x-of-8-a-b.itemdex",
            "generation-1.itemdex",
        ] {
            assert_eq!(StagedName::parse(wrong), None, "{wrong}");
        }
        for wrong in ["", "a/b", "..é", &"k".repeat(101)] {
            assert!(check_key(wrong).is_err(), "{wrong}");
        }
    }
}
