//! All shards of one generation, and searches of them.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::merge::{merge_found, share_of, to_ask_again};
use super::part::Part;
use super::request::{ShardedFilter, ShardedRows};
use crate::assignment::{Shard, shard_of, split_by_shard};
use crate::index::spread;
use crate::live::{Catalog, Generation, View, check_alike, check_ids};
use crate::{Error, Expression, Found, Hit, Index, Matrix, OpenOptions, Result, SearchOptions, Values};

/// All shards of one generation, which answer as one index that holds all items: bit for bit where the plan is
/// exact, as every rank is.
///
/// A [`ShardedIndex`] has indexes, a [`ShardedView`] has views, with fresh items. `Send + Sync`.
#[derive(Clone)]
pub struct Sharded<P> {
    pub(super) parts: Vec<Arc<P>>,
    pub(super) threads: usize,
}

/// All shards of one generation, as files that are open.
///
/// ```
/// use itemdex::live::{Catalog, PublishOptions};
/// use itemdex::shards::ShardedIndex;
/// use itemdex::{IndexBuilder, OpenOptions, Shard};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let catalog = Catalog::create(folder.path())?;
/// for number in 0..2 {
///     let shard = Shard::new(number, 2)?;
///     let items = (0..100).filter(|&id| shard.holds(id)).map(|id| (id, [id as f32, 1.0]));
///     catalog.stage_shard_made("job-17", shard, |path| IndexBuilder::new("v1").build_from(items, path))?;
/// }
/// let generation = catalog.publish_shards("job-17", 2, &PublishOptions::new())?;
///
/// let index = ShardedIndex::open(&catalog, &generation, OpenOptions::new())?.threads(2);
/// assert_eq!(index.search(&[1.0, 0.0], 3)?[0].id, 99);
/// assert_eq!(index.rank(&[1.0, 0.0], &[5, 70, 200], 1)?.hits[0].id, 70);
/// # Ok::<(), itemdex::Error>(())
/// ```
pub type ShardedIndex = Sharded<Index>;

/// All shards of one generation with the fresh items of each, as they were when it was asked for: what
/// [`ShardedLive`](super::ShardedLive) hands out for a request.
pub type ShardedView = Sharded<View>;

impl Sharded<Index> {
    /// Takes the shards of one generation, in their order. Reads the ids of all.
    ///
    /// # Errors
    /// [`Error::BadShards`] for indexes of two model versions, dims or sets of columns, and for one with items of
    /// another shard; [`Error::BadOption`] for none, or too many.
    pub fn new(indexes: Vec<Index>) -> Result<ShardedIndex> {
        for (number, index) in (0..).zip(&indexes) {
            let path = PathBuf::from(format!("shard {number} of {}", indexes.len()));
            let of = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
            check_ids(index, Shard::new(number, of)?, &path)?;
            check_alike(indexes.first(), index, &path)?;
        }
        if indexes.is_empty() {
            let problem = "there are none; give one at least".to_owned();
            return Err(Error::BadOption { option: "shards", problem });
        }
        Ok(Sharded::of(indexes.into_iter().map(Arc::new).collect()))
    }

    /// Opens all shards of a generation of a catalog. One of a single file is one shard.
    ///
    /// # Errors
    /// As [`OpenOptions::open`]; [`Error::Damaged`] for a file that is not the one that was published.
    pub fn open(catalog: &Catalog, generation: &Generation, options: OpenOptions) -> Result<ShardedIndex> {
        let parts = catalog.open_generation(generation, options)?;
        Ok(Sharded::of(parts.into_iter().map(Arc::new).collect()))
    }
}

impl<P: Part> Sharded<P> {
    pub(super) fn of(parts: Vec<Arc<P>>) -> Sharded<P> {
        Sharded { parts, threads: 1 }
    }

    /// Asks the shards on so many threads, the caller's among them. By default one after the other: a thread
    /// takes some 20 microseconds to start, so more than one pays for large shards.
    pub fn threads(mut self, threads: usize) -> Sharded<P> {
        self.threads = threads.max(1);
        self
    }

    /// The shards, in their order.
    pub fn parts(&self) -> &[Arc<P>] {
        &self.parts
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.parts.len() as u32
    }

    /// How many items there are in all shards.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.items()).sum()
    }

    /// Whether every item was deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values an embedding.
    pub fn dim(&self) -> usize {
        self.parts[0].index().dim()
    }

    /// The model version that user embeddings have to be of.
    pub fn model_version(&self) -> &str {
        self.parts[0].index().model_version()
    }

    /// The embedding of an item, as [`Index::get`] gives it.
    pub fn get(&self, id: u64) -> Option<Cow<'_, [f32]>> {
        self.part_of(id).get(id)
    }

    /// Whether there is such an item.
    pub fn contains(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    /// The values of an item, all columns named; `None` if there is no such item.
    pub fn values(&self, id: u64) -> Option<Values> {
        self.part_of(id).values(id)
    }

    /// Finds the items of all shards for which an expression is true.
    ///
    /// # Errors
    /// As [`Index::filter`].
    pub fn filter(&self, expression: &Expression) -> Result<ShardedFilter> {
        let filters = self.each(|_, part| part.index().filter(expression))?;
        Ok(ShardedFilter { filters })
    }

    /// The shards and rows of items, for ranks; what no shard has is left out. A view has fresh items too.
    pub fn look_up(&self, ids: &[u64]) -> ShardedRows {
        let lists = split_by_shard(ids, self.shards());
        let rows = self.parts.iter().zip(&lists).map(|(part, ids)| part.look_up(ids));
        ShardedRows { rows: rows.collect() }
    }

    fn part_of(&self, id: u64) -> &P {
        &self.parts[shard_of(id, self.shards()) as usize]
    }

    /// Asks every shard, on the threads that the caller allows; the error is that of the first shard at fault.
    pub(super) fn each<T: Send>(&self, ask: impl Fn(usize, &P) -> Result<T> + Sync) -> Result<Vec<T>> {
        let mut answers: Vec<Option<Result<T>>> = self.parts.iter().map(|_| None).collect();
        spread(&mut answers, self.threads, |first, answers| {
            for (number, answer) in (first..).zip(answers) {
                *answer = Some(ask(number, &self.parts[number]));
            }
        });
        answers.into_iter().map(|answer| answer.expect("every shard was asked")).collect()
    }

    /// Refuses what was made for another number of shards.
    pub(super) fn check_count(&self, option: &'static str, count: usize) -> Result<()> {
        if count == self.parts.len() {
            return Ok(());
        }
        let problem =
            format!("it was made for {count} shards, and there are {}; make it anew", self.parts.len());
        Err(Error::BadOption { option, problem })
    }
}

/// Searches.
impl<P: Part> Sharded<P> {
    /// The best `k` items of all shards for a user, best first: the hits of [`Sharded::search_with`] with default
    /// options.
    ///
    /// # Errors
    /// As [`Sharded::search_with`].
    pub fn search(&self, user: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.search_with(user, &SearchOptions::new(k), None)?.hits)
    }

    /// The best items of all shards for a user.
    ///
    /// Each shard is asked for what it is likely to have of them ([`share_of`](super::share_of)), and asked again
    /// where it may have more. A filter goes here, not into the options: it is one for each shard.
    ///
    /// # Errors
    /// As [`Index::search_with`]; [`Error::BadOption`] for a filter of another number of shards.
    pub fn search_with(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<Found> {
        let (of_shard, k) = (self.search_options(options, filter)?, options.k());
        let share = share_of(k, self.parts.len());
        let mut found = self.each(|number, part| part.search_with(user, &of_shard(number).for_k(share)))?;
        for number in to_ask_again(&found, share, k) {
            found[number] = self.parts[number].search_with(user, &of_shard(number))?;
        }
        Ok(merge_found(found, k))
    }

    /// The items that [`Sharded::search_with`] finds, for a rank of the same generation.
    ///
    /// # Errors
    /// As [`Sharded::search_with`].
    pub fn search_rows(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<ShardedRows> {
        let found = self.search_with(user, options, filter)?;
        Ok(self.look_up(&found.hits.iter().map(|hit| hit.id).collect::<Vec<_>>()))
    }

    /// The best items for several users, an answer each, in their order. The shards are asked one after the
    /// other, each for all users on this object's threads.
    ///
    /// # Errors
    /// As [`Sharded::search_with`], for the first user at fault; then no user has an answer.
    pub fn search_many(
        &self,
        users: &Matrix,
        options: &SearchOptions<'_>,
        filter: Option<&ShardedFilter>,
    ) -> Result<Vec<Found>> {
        let (of_shard, k) = (self.search_options(options, filter)?, options.k());
        let share = share_of(k, self.parts.len());
        let mut by_user: Vec<Vec<Found>> = (0..users.len()).map(|_| Vec::new()).collect();
        for (number, part) in self.parts.iter().enumerate() {
            let found = part.search_many(users, &of_shard(number).for_k(share), self.threads)?;
            by_user.iter_mut().zip(found).for_each(|(of_user, found)| of_user.push(found));
        }
        let mut answers = Vec::with_capacity(users.len());
        for (user, mut found) in by_user.into_iter().enumerate() {
            for number in to_ask_again(&found, share, k) {
                found[number] = self.parts[number].search_with(users.row(user), &of_shard(number))?;
            }
            answers.push(merge_found(found, k));
        }
        Ok(answers)
    }

    /// The options for each shard.
    fn search_options<'s>(
        &self,
        options: &SearchOptions<'s>,
        filter: Option<&'s ShardedFilter>,
    ) -> Result<impl Fn(usize) -> SearchOptions<'s> + Sync> {
        self.check_filter(filter)?;
        let options = options.at_one_second();
        Ok(move |number: usize| match filter {
            Some(filter) => options.filter(&filter.filters[number]),
            None => options,
        })
    }

    pub(super) fn check_filter(&self, filter: Option<&ShardedFilter>) -> Result<()> {
        filter.map_or(Ok(()), |filter| self.check_count("filter", filter.filters.len()))
    }
}
