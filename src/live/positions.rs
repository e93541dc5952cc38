//! Positions in a log of fresh items.

/// Positions are below this: far more than any log comes to, and far from where counting them overflows.
pub(super) const MAX_POSITION: u64 = 1 << 63;
