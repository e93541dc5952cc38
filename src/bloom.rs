//! Bloom filters as recommenders keep them of what a user has seen.

use xxhash_rust::xxh64::xxh64;

use crate::{Error, Result};

/// A block: eight words, in each of which an id sets one bit.
const BLOCK: usize = 32;

/// What chooses the bit in each word (Parquet's specification of the filter).
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// A split-block Bloom filter of item ids, as [Parquet specifies it]: the bitset alone, ids hashed by xxh64
/// with seed 0 as eight little-endian bytes.
///
/// It takes about a byte an item and knows no item for certain: of items that were never put in it names
/// some, about one in a hundred at 10 bits an item, and those stay hidden where it is denied.
///
/// [Parquet specifies it]: https://github.com/apache/parquet-format/blob/master/BloomFilter.md
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BloomFilter<'a> {
    blocks: &'a [[u8; BLOCK]],
}

impl<'a> BloomFilter<'a> {
    /// A filter in these bytes, which are read in place.
    ///
    /// # Errors
    /// [`Error::BadOption`] where the bytes are not one block of 32 or several.
    pub fn new(bytes: &'a [u8]) -> Result<BloomFilter<'a>> {
        match bytes.as_chunks() {
            (blocks, []) if !blocks.is_empty() => Ok(BloomFilter { blocks }),
            _ => {
                let problem =
                    format!("{} bytes; the bitset has blocks of {BLOCK}, at least one", bytes.len());
                Err(Error::BadOption { option: "Bloom filter", problem })
            }
        }
    }

    /// Whether an id was put in; sometimes also where it was not.
    pub fn may_contain(&self, id: u64) -> bool {
        let hash = xxh64(&id.to_le_bytes(), 0);
        let block = &self.blocks[(((hash >> 32) * self.blocks.len() as u64) >> 32) as usize];
        let words: &[[u8; 4]] = block.as_chunks().0;
        words.iter().zip(SALTS).all(|(&word, salt)| {
            let bit = (hash as u32).wrapping_mul(salt) >> 27;
            u32::from_le_bytes(word) >> bit & 1 == 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_blocks_are_refused() {
        for bytes in [0, 1, 31, 33] {
            let error = BloomFilter::new(&vec![0; bytes]).unwrap_err().to_string();
            assert!(error.contains("blocks of 32"), "{error}");
        }
        assert!(!BloomFilter::new(&[0; 64]).unwrap().may_contain(7));
        assert!(BloomFilter::new(&[255; 32]).unwrap().may_contain(7));
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn what_parquet_put_in_is_found() {
        use parquet::bloom_filter::Sbbf;

        let mut theirs = Sbbf::new_with_ndv_fpp(2_000, 0.01).unwrap();
        (0..2_000i64).for_each(|id| theirs.insert(&(id * 7919)));
        let mut bytes = Vec::new();
        theirs.write_bitset(&mut bytes).unwrap();
        let bloom = BloomFilter::new(&bytes).unwrap();
        assert!((0..2_000).all(|id| bloom.may_contain(id * 7919)));
        let others = (0..10_000u64).map(|id| id * 7919 + 1);
        assert!(others.clone().all(|id| bloom.may_contain(id) == theirs.check(&(id as i64))));
        assert!(others.filter(|&id| bloom.may_contain(id)).count() < 300);
    }
}
