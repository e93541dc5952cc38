//! What the queries of a thread leave for the next ones: the space of their answers.

use std::cell::Cell;

use itemdex::{ChannelHit, Found, Hit, Ranked, RankedChannels};

use crate::border::Result;

/// Answers that hold more bytes than this are not kept: one huge query must not cost its memory for ever.
const LARGEST_KEPT: usize = 16 << 20;

/// The last answers of one thread, for the next queries to write over.
#[derive(Default)]
pub(crate) struct Kept {
    pub found: Found,
    pub ranked: Ranked,
    pub merged: RankedChannels,
}

impl Kept {
    /// The memory that is held, in bytes.
    fn bytes(&self) -> usize {
        let Kept { found, ranked, merged } = self;
        (found.hits.capacity() + ranked.hits.capacity()) * size_of::<Hit>()
            + merged.hits.capacity() * size_of::<ChannelHit>()
            + (ranked.unknown.capacity() + merged.unknown.capacity()) * size_of::<u64>()
    }
}

thread_local! {
    static KEPT: Cell<Kept> = Cell::default();
}

/// Lends this thread's answers to a query. A thread that is ending has none left, and makes them anew.
pub(crate) fn with_kept(query: impl FnOnce(&mut Kept) -> Result<()>) -> Result<()> {
    let mut kept = KEPT.try_with(Cell::take).unwrap_or_default();
    let done = query(&mut kept);
    if kept.bytes() <= LARGEST_KEPT {
        let _ = KEPT.try_with(|place| place.set(kept));
    }
    done
}
