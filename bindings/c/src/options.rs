//! What a query may say.

use itemdex::Plan;

use crate::border::{Failure, Result, values};
use crate::growing::{Growing, read};
use crate::shown::{Filter, Shown};

/// A walk over the graph: approximate. Fast for few items.
pub const ITEMDEX_PLAN_GRAPH: u32 = 1;
/// A search by partitions: approximate, exact at a recall of 1. Fast for many items.
pub const ITEMDEX_PLAN_PARTITIONS: u32 = 2;
/// A scan that scores every item: exact.
pub const ITEMDEX_PLAN_SCAN: u32 = 4;

pub(crate) fn number_of(plan: Plan) -> u32 {
    match plan {
        Plan::Graph => ITEMDEX_PLAN_GRAPH,
        Plan::Partitions => ITEMDEX_PLAN_PARTITIONS,
        Plan::Scan => ITEMDEX_PLAN_SCAN,
        _ => 0,
    }
}

/// The plans whose bits are set.
pub(crate) fn plans_in(bits: u32, name: &str) -> Result<Vec<Plan>> {
    let all = [Plan::Graph, Plan::Partitions, Plan::Scan];
    match bits & !(ITEMDEX_PLAN_GRAPH | ITEMDEX_PLAN_PARTITIONS | ITEMDEX_PLAN_SCAN) {
        0 => Ok(all.into_iter().filter(|&plan| bits & number_of(plan) != 0).collect()),
        _ => Err(Failure::option(name, format!("{bits} is no plan; take ITEMDEX_PLAN_..."))),
    }
}

/// How to search.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SearchOptions {
    /// sizeof(itemdex_search_options)
    size: usize,
    /// The share of the exact best items that is found, in the mean over users: above 0 and at most 1. At 1
    /// the answer is exact. 0 for the default, 0.95.
    recall: f32,
    /// ITEMDEX_PLAN_...; 0 for the plan that is expected to be fastest.
    plan: u32,
    /// The beam of a walk, in place of a recall; 0 for none. A wider beam finds more.
    ef: u64,
    /// Not 0: a search by partitions may give the scores of rows of 8 bits, which saves time where you rank
    /// afterwards anyway.
    approximate_scores: u32,
    /// Leave it 0.
    reserved: u32,
    /// What of the items the search may find; NULL for all of them.
    shown: *const Shown,
}

// SAFETY: repr(C), the size first, integers, floats and a pointer.
unsafe impl Growing for SearchOptions {
    const NAME: &str = "itemdex_search_options";
    const FIRST: usize = 40;
}

impl SearchOptions {
    /// # Safety
    /// What is shown is NULL or as the header says, and stays for `'a`.
    pub unsafe fn for_k<'a>(self, k: usize) -> Result<itemdex::SearchOptions<'a>> {
        // SAFETY: as the caller promised.
        let shown = unsafe { seen(self.shown) }?;
        let mut options = itemdex::SearchOptions::new(k).shown(shown);
        if self.recall != 0.0 {
            options = options.recall(self.recall);
        }
        if self.ef != 0 {
            if self.recall != 0.0 {
                return Err(Failure::option("ef", "a recall is set too; leave one of them 0"));
            }
            options = options.ef(usize::try_from(self.ef).unwrap_or(usize::MAX));
        }
        match *plans_in(self.plan, "plan")? {
            [] => {}
            [plan] => options = options.plan(plan),
            _ => {
                return Err(Failure::option(
                    "plan",
                    "a search takes one plan; name one, or 0 for the fastest",
                ));
            }
        }
        if self.approximate_scores != 0 {
            options = options.approximate_scores();
        }
        Ok(options)
    }
}

/// How to rank.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RankOptions {
    /// sizeof(itemdex_rank_options)
    size: usize,
    /// Not 0: scores every candidate in 32 bits. The answer is the same; this is the reference, and faster
    /// where embeddings have a few values much larger than the others.
    exact: u32,
    /// Leave it 0.
    reserved: u32,
    /// Which candidates may be among the hits; NULL for all of them.
    shown: *const Shown,
}

// SAFETY: repr(C), the size first, integers and a pointer.
unsafe impl Growing for RankOptions {
    const NAME: &str = "itemdex_rank_options";
    const FIRST: usize = 24;
}

impl RankOptions {
    /// # Safety
    /// What is shown is NULL or as the header says, and stays for `'a`.
    pub unsafe fn for_k<'a>(self, k: usize) -> Result<itemdex::RankOptions<'a>> {
        // SAFETY: as the caller promised.
        let shown = unsafe { seen(self.shown) }?;
        let options = itemdex::RankOptions::new(k).shown(shown);
        Ok(if self.exact != 0 { options.exact() } else { options })
    }
}

/// What a request may see; everything where that is NULL.
///
/// # Safety
/// As for [`Shown::seen`].
unsafe fn seen<'a>(shown: *const Shown) -> Result<itemdex::Shown<'a>> {
    match shown.is_null() {
        true => Ok(itemdex::Shown::default()),
        // SAFETY: as the caller promised.
        false => unsafe { read(shown, "shown")?.seen() },
    }
}

/// A recall channel of itemdex_rank_channels: its candidates, and its quotas of the hits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Channel {
    /// sizeof(itemdex_channel)
    pub(crate) size: usize,
    /// The candidates' ids.
    pub(crate) ids: *const u64,
    /// How many there are.
    pub(crate) count: usize,
    /// How many of the hits are to be of this channel at least, where it has as many.
    at_least: usize,
    /// How many of the hits are of this channel at most, those that other channels bring too included; 0
    /// for any number.
    at_most: usize,
    /// Takes no other candidates from this channel than those that the filter keeps, before quotas count;
    /// NULL for no filter. Another channel may still bring the others.
    filter: *const Filter,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Channel {
    const NAME: &str = "itemdex_channel";
    const FIRST: usize = 48;
}

impl Channel {
    /// # Safety
    /// The ids and the filter are NULL or as the header says, and stay for `'a`.
    pub unsafe fn for_library<'a>(self) -> Result<itemdex::Channel<'a>> {
        // SAFETY: as the caller promised.
        let (ids, filter) =
            unsafe { (values(self.ids, self.count, "ids of a channel")?, Filter::optional(self.filter)?) };
        let mut channel = itemdex::Channel::new(ids).at_least(self.at_least);
        if self.at_most != 0 {
            channel = channel.at_most(self.at_most);
        }
        Ok(filter.into_iter().fold(channel, itemdex::Channel::filter))
    }
}

/// What a query says beside the ids and scores it writes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Answer {
    /// In: sizeof(itemdex_answer)
    pub(crate) size: usize,
    /// Out: how many hits were written; fewer than asked for where there are no more.
    pub(crate) count: usize,
    /// Out, of itemdex_rank and itemdex_rank_channels: how many different candidates the index does not
    /// have.
    pub(crate) unknown: usize,
    /// In, of the same: a buffer for their ids, ascending, each once. NULL where they are not wanted.
    pub(crate) unknown_ids: *mut u64,
    /// In: how many ids fit in there; further ones are left out.
    pub(crate) unknown_room: usize,
    /// In, of itemdex_rank_channels: a buffer of k numbers, for the channels that brought each hit, a bit
    /// for each channel, the lowest for the first. NULL where they are not wanted.
    pub(crate) channels: *mut u32,
    /// Out, of itemdex_search: how many items the answer is among, after what the options left out; of
    /// more than 1,000 ids that are denied, the items may still count below a recall of 1.
    pub(crate) matching: usize,
    /// Out, of itemdex_rank and itemdex_rank_channels: how many candidates were left out because they have
    /// expired.
    pub(crate) expired: usize,
    /// Out, of the same: because they are denied.
    pub(crate) denied: usize,
    /// Out, of the same: because a filter does not keep them, or they are not among the allowed.
    pub(crate) filtered: usize,
    /// Out, of itemdex_search: the plan that was taken, ITEMDEX_PLAN_...
    pub(crate) plan: u32,
    /// Leave it 0.
    reserved: u32,
}

// SAFETY: repr(C), the size first, integers and pointers.
unsafe impl Growing for Answer {
    const NAME: &str = "itemdex_answer";
    const FIRST: usize = 88;
}
