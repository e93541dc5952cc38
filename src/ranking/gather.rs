//! Passes over scattered rows: blocks of rows, each row asked for some way ahead of its use.

use super::{Ranking, Scratch};

/// Rows scored at a time.
pub(super) const BLOCK: usize = 32;

/// How many rows ahead of its use a row is asked for.
const AHEAD: usize = 64;

/// Calls `each` with `rows` by blocks, and `prefetch` with each row some way ahead of that.
#[inline(always)]
pub(super) fn gather(rows: &[u32], prefetch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
    rows.iter().take(AHEAD).for_each(|&row| prefetch(row));
    for (number, block) in rows.chunks(BLOCK).enumerate() {
        let ahead = rows.get(number * BLOCK + AHEAD..).unwrap_or_default();
        ahead.iter().take(BLOCK).for_each(|&row| prefetch(row));
        each(block);
    }
}

impl Ranking<'_> {
    /// Reads each cache line of the `f32` rows that a rank would score, with the same prefetching and no
    /// arithmetic: the memory limit that a rank is measured against.
    pub fn read_rows(&self, scratch: &Scratch) -> f32 {
        let mut sum = 0.0;
        gather(
            &scratch.visits,
            |row| self.rows.prefetch(row),
            |rows| {
                let lines = rows.iter().flat_map(|&row| self.rows.padded(row).iter().step_by(16));
                sum += lines.sum::<f32>();
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
