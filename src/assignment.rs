//! Which shard an item belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result};

/// The most shards of a generation.
pub const MAX_SHARDS: u32 = 4096;

/// The shard that an item belongs to, of so many: 0 to `shards` - 1. The same in every release and on every
/// machine.
///
/// It is the upper half of `h * shards`, a product of 128 bits, where `h` is the XXH3 hash of 64 bits, with
/// seed 0, of the id's 8 bytes, the lowest first.
///
/// # Panics
/// For 0 shards.
///
/// ```
/// use itemdex::shard_of;
///
/// assert_eq!([7, 8, 9, 10].map(|id| shard_of(id, 4)), [2, 2, 0, 3]);
/// ```
pub fn shard_of(id: u64, shards: u32) -> u32 {
    assert!(shards > 0, "there is one shard at least");
    ((u128::from(xxh3_64(&id.to_le_bytes())) * u128::from(shards)) >> 64) as u32
}

/// Item ids by the shard that they belong to: a list for each shard, each in the order of `ids`.
///
/// # Panics
/// For 0 shards.
pub fn split_by_shard(ids: &[u64], shards: u32) -> Vec<Vec<u64>> {
    let mut lists = vec![Vec::with_capacity(ids.len() / shards.max(1) as usize); shards as usize];
    ids.iter().for_each(|&id| lists[shard_of(id, shards) as usize].push(id));
    lists
}

/// One shard of so many. As a text it is `2/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shard {
    number: u32,
    of: u32,
}

impl Shard {
    /// The shard of this number, from 0 on, of so many.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a number that is not below `of`, and for 0 or more than [`MAX_SHARDS`] shards.
    pub fn new(number: u32, of: u32) -> Result<Shard> {
        let problem = match () {
            () if !(1..=MAX_SHARDS).contains(&of) => format!("{of} shards are not within 1 to {MAX_SHARDS}"),
            () if number >= of => format!("there is no shard {number} of {of}; they are numbered from 0 on"),
            () => return Ok(Shard { number, of }),
        };
        Err(Error::BadOption { option: "shard", problem })
    }

    /// Its number, from 0 on.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many shards there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Whether an item belongs to it.
    pub fn holds(self, id: u64) -> bool {
        self.of == 1 || shard_of(id, self.of) == self.number
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shard> {
        let parts =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let Some((number, of)) = parts else {
            let problem = format!("{text:?} is no shard; give its number and how many there are, as 2/8");
            return Err(Error::BadOption { option: "shard", problem });
        };
        Shard::new(number, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_about_equal() {
        for shards in [2, 3, 8, 100] {
            let lists = split_by_shard(&(0..100_000).collect::<Vec<_>>(), shards);
            let mean = 100_000.0 / f64::from(shards);
            for (number, list) in (0..).zip(&lists) {
                assert!((list.len() as f64 - mean).abs() < 5.0 * mean.sqrt(), "{number}: {}", list.len());
                assert!(list.iter().all(|&id| Shard::new(number, shards).unwrap().holds(id)));
            }
        }
    }

    #[test]
    fn shards_as_text() {
        assert_eq!("2/8".parse::<Shard>().unwrap(), Shard::new(2, 8).unwrap());
        assert_eq!(Shard::new(2, 8).unwrap().to_string(), "2/8");
        for wrong in ["", "2", "8/8", "-1/8", "0/0", "1/5000", "a/b"] {
            assert!(
                matches!(wrong.parse::<Shard>(), Err(Error::BadOption { option: "shard", .. })),
                "{wrong}"
            );
        }
    }
}
