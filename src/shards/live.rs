//! All shards of a catalog in service in one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::sharded::{Sharded, ShardedView};
use crate::assignment::{Shard, shard_of};
use crate::live::{Applied, Change, LiveIndex, LiveOptions, Status, View};
use crate::{Error, Result};

/// How often the shards are asked to look at the catalog where they have no generation in common.
const TRIES: usize = 5;

/// A catalog of sharded generations in service in one process: a [`LiveIndex`] for each shard.
///
/// [`ShardedLive::current`] hands out all shards of one generation: shards take up a new one one after the
/// other, and the old one goes on until all have the new. Fresh items go to the shard of their id. Logs have to
/// be ones that are fed; each shard has a file of its own, so that for `fed_log("fresh")` shard 2 of 8 has
/// `fresh-2-of-8`.
///
/// ```
/// use itemdex::live::{Catalog, Change, LiveOptions, PublishOptions};
/// use itemdex::shards::ShardedLive;
/// use itemdex::{IndexBuilder, Shard};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let catalog = Catalog::create(folder.path().join("catalog"))?;
/// # for number in 0..2 {
/// #     let shard = Shard::new(number, 2)?;
/// #     let items = (0..100).filter(|&id| shard.holds(id)).map(|id| (id, [id as f32, 1.0]));
/// #     catalog.stage_shard_made("job-17", shard, |path| IndexBuilder::new("v1").build_from(items, path))?;
/// # }
/// # catalog.publish_shards("job-17", 2, &PublishOptions::new())?;
/// let options = LiveOptions::new().fed_log(folder.path().join("fresh.log"));
/// let live = ShardedLive::open(catalog.folder(), 2, options)?;
/// live.apply(&[(1, Change::upsert("v1", 500, [500.0, 1.0])), (2, Change::delete(99))])?;
///
/// let view = live.current()?; // for one request
/// let ids: Vec<u64> = view.search(&[1.0, 0.0], 2)?.iter().map(|hit| hit.id).collect();
/// assert_eq!(ids, [500, 98]);
/// # Ok::<(), itemdex::Error>(())
/// ```
pub struct ShardedLive {
    lives: Vec<LiveIndex>,
    folder: PathBuf,
    threads: usize,
    /// The generations that every shard holds, until all have a newer one.
    held: ArcSwap<Vec<u64>>,
}

impl ShardedLive {
    /// Opens all shards of a catalog, and follows it from then on.
    ///
    /// # Errors
    /// As [`LiveOptions::open`]; [`Error::BadOption`] for a number of shards that cannot be, and for a log that
    /// numbers itself; [`Error::BadShards`] for a catalog of generations of another number of shards;
    /// [`Error::NoGeneration`] where the shards have no generation in common.
    pub fn open(catalog: impl AsRef<Path>, shards: u32, options: LiveOptions) -> Result<ShardedLive> {
        Shard::new(0, shards)?;
        let folder = catalog.as_ref().to_owned();
        let open = |number| options.for_shard(Shard::new(number, shards)?).open(&folder);
        let lives = (0..shards).map(open).collect::<Result<Vec<_>>>()?;
        let live = ShardedLive { lives, folder, threads: 1, held: ArcSwap::default() };
        live.current()?;
        Ok(live)
    }

    /// Has the views ask their shards on so many threads ([`Sharded::threads`]).
    pub fn threads(mut self, threads: usize) -> ShardedLive {
        self.threads = threads;
        self
    }

    /// The current generation of all shards, with their fresh items. Keep it for the request: it does not change.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] where the shards have no generation in common, as after some of them refused one
    /// that the others serve and the one before was dropped.
    pub fn current(&self) -> Result<ShardedView> {
        self.common(None)
    }

    /// The newest generation of a model version that all shards have.
    ///
    /// # Errors
    /// As [`ShardedLive::current`], and [`Error::UnknownModel`].
    pub fn for_model(&self, model_version: &str) -> Result<ShardedView> {
        self.lives[0].for_model(model_version)?;
        self.common(Some(model_version))
    }

    /// Has every shard look at the catalog now, and returns when all that it has serves: whether anything changed.
    ///
    /// # Errors
    /// As [`LiveIndex::refresh`], of the first shard at fault, after all have looked.
    pub fn refresh(&self) -> Result<bool> {
        let refreshed: Vec<Result<bool>> = self.lives.iter().map(LiveIndex::refresh).collect();
        refreshed.into_iter().try_fold(false, |changed, one| Ok(changed | one?))
    }

    /// Logs changes at the positions that they have, each with the shard of its item: as [`LiveIndex::apply`] does.
    /// The position of the answer is that of the last change in any log.
    ///
    /// # Errors
    /// As [`LiveIndex::apply`]. Some shards may have their changes then; repeat the call until it succeeds.
    pub fn apply(&self, changes: &[(u64, Change)]) -> Result<Applied> {
        let mut of_shards: Vec<Vec<(u64, Change)>> = vec![Vec::new(); self.lives.len()];
        for change in changes {
            of_shards[shard_of(change.1.id(), self.lives.len() as u32) as usize].push(change.clone());
        }
        let sent = self.lives.iter().zip(of_shards).map(|(live, changes)| live.send(changes));
        // All are sent before the first is waited for.
        let sent: Vec<_> = sent.collect();
        let answers: Vec<Result<Applied>> = sent.into_iter().map(|pending| pending?.wait()).collect();
        let mut all: Option<Applied> = None;
        for answer in answers {
            let answer = answer?;
            all = Some(match all {
                None => answer,
                Some(mut all) => {
                    all.position = all.position.max(answer.position);
                    all.applied += answer.applied;
                    all.already_there += answer.already_there;
                    all.retired += answer.retired;
                    all
                }
            });
        }
        Ok(all.expect("there is one shard at least"))
    }

    /// The position up to which every shard has its changes for certain: a feeder goes on behind it. None without
    /// logs.
    pub fn log_position(&self) -> Option<u64> {
        self.lives.iter().filter_map(|live| live.status().log_position).min()
    }

    /// What each shard is doing.
    pub fn statuses(&self) -> Vec<Status> {
        self.lives.iter().map(LiveIndex::status).collect()
    }

    /// The shards, in their order.
    pub fn shards(&self) -> &[LiveIndex] {
        &self.lives
    }

    /// The first of the generations that all shards have, or of those of a model version.
    fn common(&self, model_version: Option<&str>) -> Result<ShardedView> {
        for _ in 0..TRIES {
            let common = self.all_common();
            self.hold(&common);
            let of_version = |views: &Vec<Arc<View>>| {
                model_version.is_none_or(|version| views[0].model_version() == version)
            };
            if let Some(views) = common.into_iter().find(of_version) {
                return Ok(Sharded::of(views).threads(self.threads));
            }
            // What keeps one shard from following the catalog is in its status.
            let _ = self.refresh();
        }
        let serve: Vec<_> = self.lives.iter().map(LiveIndex::generations).collect();
        let problem = format!("the shards have no generation in common; by shard they serve {serve:?}");
        Err(Error::NoGeneration { folder: self.folder.clone(), problem })
    }

    /// The newest generation of each model version that all shards have, in the order of the first shard.
    fn all_common(&self) -> Vec<Vec<Arc<View>>> {
        let mut common: Vec<Vec<Arc<View>>> = Vec::new();
        for number in self.lives[0].generations() {
            let views = self.lives.iter().map(|live| live.generation(number).ok());
            let Some(views) = views.collect::<Option<Vec<_>>>() else { continue };
            if common.iter().all(|other| other[0].model_version() != views[0].model_version()) {
                common.push(views);
            }
        }
        common
    }

    /// Has all shards hold these generations.
    fn hold(&self, common: &[Vec<Arc<View>>]) {
        let numbers: Vec<u64> = common.iter().map(|views| views[0].generation().number).collect();
        if !numbers.is_empty() && **self.held.load() != numbers {
            self.lives.iter().for_each(|live| live.hold(&numbers));
            self.held.store(Arc::new(numbers));
        }
    }
}
