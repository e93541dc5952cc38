//! What memory alone takes for the rows of a rank.

use super::{Ranking, Scratch};
use crate::vectors::gather::gather;

impl Ranking<'_> {
    /// Reads each cache line of the rows that a rank would score, with the same prefetching and no
    /// arithmetic: the memory limit that a rank is measured against.
    pub fn read_rows(&self, scratch: &Scratch) -> u64 {
        let mut sum = 0;
        gather(
            &scratch.visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let lines = rows.iter().flat_map(|&row| self.rows.bytes(row).iter().step_by(64));
                sum += lines.map(|&byte| u64::from(byte)).sum::<u64>();
            },
        );
        sum
    }

    /// The same for the `i8` rows; 0 where there are none.
    pub fn read_quantized(&self, scratch: &Scratch) -> i32 {
        let Some(quantized) = self.quantized else { return 0 };
        let mut sum = 0;
        gather(
            &scratch.visits,
            |row| quantized.prefetch(row),
            |rows| {
                let lines = rows.iter().flat_map(|&row| quantized.padded(row).iter().step_by(64));
                sum += lines.map(|&value| i32::from(value)).sum::<i32>();
            },
        );
        sum
    }
}
