//! How to follow a catalog.

use std::path::PathBuf;
use std::time::Duration;

use super::change::Numbering;
use super::log::{Kept, SyncPolicy};
use crate::assignment::Shard;
use crate::{Error, OpenOptions, Result};

/// How to follow a catalog.
///
/// ```no_run
/// use std::time::Duration;
/// use itemdex::live::{LiveOptions, SyncPolicy};
///
/// let live = LiveOptions::new()
///     .log("/var/lib/feed/fresh.log")
///     .sync(SyncPolicy::Every(Duration::from_millis(50)))
///     .sample_recall(0.001)
///     .open("/srv/catalog")?;
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LiveOptions {
    pub(super) poll: Duration,
    pub(super) log: Option<(PathBuf, Numbering)>,
    pub(super) sync: SyncPolicy,
    pub(super) retention: Kept,
    pub(super) fresh_limit: usize,
    pub(super) sample: f64,
    pub(super) open: OpenOptions,
    pub(super) shard: Option<Shard>,
}

impl LiveOptions {
    /// Follows the catalog, takes no fresh items, samples nothing.
    pub fn new() -> LiveOptions {
        LiveOptions {
            poll: Duration::from_secs(2),
            log: None,
            sync: SyncPolicy::Always,
            retention: Kept { bytes: 256 << 20, age: Duration::from_secs(6 * 3600) },
            fresh_limit: 100_000,
            sample: 0.0,
            open: OpenOptions::new(),
            shard: None,
        }
    }

    /// How often to look at the catalog where no notice of a change came: notices do not cross from host to
    /// host on a shared file system. 2 seconds by default, 1 millisecond at least.
    pub fn poll(mut self, every: Duration) -> LiveOptions {
        self.poll = every;
        self
    }

    /// Takes fresh items, and keeps them in the log at this path, which is made where there is none. The log
    /// numbers them: this is for a single host. One `LiveIndex` uses a log at a time.
    pub fn log(mut self, path: impl Into<PathBuf>) -> LiveOptions {
        self.log = Some((path.into(), Numbering::Own));
        self
    }

    /// The same, where whoever feeds the log gives each change its position
    /// ([`LiveIndex::apply`](super::LiveIndex::apply)), so that positions mean the same on every host.
    pub fn fed_log(mut self, path: impl Into<PathBuf>) -> LiveOptions {
        self.log = Some((path.into(), Numbering::Fed));
        self
    }

    /// When a fresh item counts as kept, by default [`SyncPolicy::Always`].
    pub fn sync(mut self, policy: SyncPolicy) -> LiveOptions {
        self.sync = policy;
        self
    }

    /// What the log keeps of the changes that every generation in the catalog has: the newest, as long as
    /// they are younger than `age` and fit into `bytes`. By default 6 hours and 256 MB.
    ///
    /// A generation whose dump was taken so long ago can be published without a reservation.
    pub fn retain(mut self, bytes: u64, age: Duration) -> LiveOptions {
        self.retention = Kept { bytes, age };
        self
    }

    /// The most fresh or deleted items of a model version, by default 100,000: each is scored in every
    /// search.
    pub fn fresh_limit(mut self, items: usize) -> LiveOptions {
        self.fresh_limit = items;
        self
    }

    /// Compares this share of the searches, 0 to 1, with the exact answer, on a thread that takes a twentieth
    /// of a core at most; [`GenerationStatus::recall`](super::GenerationStatus::recall) has the result. None
    /// by default.
    pub fn sample_recall(mut self, share: f64) -> LiveOptions {
        self.sample = share;
        self
    }

    /// How index files are opened: mapped by default, or resident, prefaulted or locked.
    pub fn open_with(mut self, options: OpenOptions) -> LiveOptions {
        self.open = options;
        self
    }

    /// Serves this shard of the catalog's generations, so that several processes can share them. Generations of
    /// another number of shards are refused.
    ///
    /// Its log has to be one that is fed ([`LiveOptions::fed_log`]), with a file of its own: feed each shard all
    /// changes, and it takes those of its items ([`Applied::elsewhere`](super::Applied::elsewhere) counts the
    /// others). So a position means the same on every shard.
    pub fn shard(mut self, shard: Shard) -> LiveOptions {
        self.shard = Some(shard);
        self
    }

    /// The same for one shard of several in this process: its log has a name of its own.
    pub(crate) fn for_shard(&self, shard: Shard) -> LiveOptions {
        let mut options = self.clone().shard(shard);
        if let Some((path, _)) = &mut options.log
            && shard.of() > 1
        {
            path.as_mut_os_string().push(format!("-{}-of-{}", shard.number(), shard.of()));
        }
        options
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |option, problem| Err(Error::BadOption { option, problem });
        if !(0.0..=1.0).contains(&self.sample) {
            return bad("sample_recall", format!("{} is not within 0 to 1", self.sample));
        }
        if self.shard.is_some_and(|shard| shard.of() > 1) && matches!(self.log, Some((_, Numbering::Own))) {
            let problem =
                "a shard needs a log that is fed, so that positions mean the same on every shard; give \
                           LiveOptions::fed_log a path"
                    .to_owned();
            return bad("log", problem);
        }
        if self.poll < Duration::from_millis(1) {
            return bad("poll", format!("{:?} is no time to rest; give 1 millisecond at least", self.poll));
        }
        Ok(())
    }
}

impl Default for LiveOptions {
    fn default() -> LiveOptions {
        LiveOptions::new()
    }
}
