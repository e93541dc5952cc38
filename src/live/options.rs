//! How to follow a catalog.

use std::path::PathBuf;
use std::time::Duration;

use super::log::SyncPolicy;

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
    pub(super) log: Option<PathBuf>,
    pub(super) sync: SyncPolicy,
    pub(super) fresh_limit: usize,
    pub(super) sample: f64,
}

impl LiveOptions {
    /// Follows the catalog, takes no fresh items, samples nothing.
    pub fn new() -> LiveOptions {
        let poll = Duration::from_secs(2);
        LiveOptions { poll, log: None, sync: SyncPolicy::Always, fresh_limit: 100_000, sample: 0.0 }
    }

    /// How often to look at the catalog where no notice of a change came: notices do not cross from host to host on a
    /// shared file system. 2 seconds by default.
    pub fn poll(mut self, every: Duration) -> LiveOptions {
        self.poll = every;
        self
    }

    /// Takes fresh items, and keeps them in the log at this path, which is made where there is none. One `LiveIndex`
    /// uses a log at a time.
    pub fn log(mut self, path: impl Into<PathBuf>) -> LiveOptions {
        self.log = Some(path.into());
        self
    }

    /// When a fresh item counts as kept, by default [`SyncPolicy::Always`].
    pub fn sync(mut self, policy: SyncPolicy) -> LiveOptions {
        self.sync = policy;
        self
    }

    /// The most fresh or deleted items to lay over a generation, by default 100,000: each is scored in every search.
    pub fn fresh_limit(mut self, items: usize) -> LiveOptions {
        self.fresh_limit = items;
        self
    }

    /// Compares this share of the searches, 0 to 1, with the exact answer, on a thread that takes a twentieth of a core at
    /// most; [`GenerationStatus::recall`] has the result. None by default.
    pub fn sample_recall(mut self, share: f64) -> LiveOptions {
        self.sample = share;
        self
    }
}

impl Default for LiveOptions {
    fn default() -> LiveOptions {
        LiveOptions::new()
    }
}
