//! Passes over scattered rows: blocks of rows, each row asked for some way ahead of its use.

/// Rows handed on at a time.
pub(crate) const BLOCK: usize = 32;

/// How many rows ahead of its use a row is asked for.
const AHEAD: usize = 64;

/// Calls `each` with `rows` by blocks, and `prefetch` with each row some way ahead of that.
#[inline(always)]
pub(crate) fn gather(rows: &[u32], prefetch: impl Fn(u32), mut each: impl FnMut(&[u32])) {
    rows.iter().take(AHEAD).for_each(|&row| prefetch(row));
    for (number, block) in rows.chunks(BLOCK).enumerate() {
        let ahead = rows.get(number * BLOCK + AHEAD..).unwrap_or_default();
        ahead.iter().take(BLOCK).for_each(|&row| prefetch(row));
        each(block);
    }
}
