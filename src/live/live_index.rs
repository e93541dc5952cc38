use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, error, info, info_span, warn};

use super::catalog::{Catalog, Generation, List};
use super::fresh::{Request, Writer};
use super::log::{Change, Log, SyncPolicy};
use super::recall::Sampler;
use super::view::{Held, View};
use crate::limits::{MAX_DIM, check_model_version};
use crate::vectors::problem_with;
use crate::{Error, Index, Result};

/// Rows that a new generation is searched for before it serves.
const SELF_CHECKS: usize = 16;

/// How long an old generation that a request still uses is left before it is looked at again.
const RETIRING: Duration = Duration::from_millis(100);

/// Requests that wait for the log at most; further callers wait for their place among them.
const QUEUE: usize = 1024;

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
    poll: Duration,
    log: Option<PathBuf>,
    sync: SyncPolicy,
    fresh_limit: usize,
    sample: f64,
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

    /// Opens what the catalog has, and follows it from then on. Reads every file that is to serve.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] where the catalog has none that can serve, [`Error::Damaged`] for its list or the log,
    /// [`Error::BadOption`], [`Error::Io`].
    pub fn open(self, catalog: impl AsRef<Path>) -> Result<LiveIndex> {
        LiveIndex::start(Catalog::open(catalog)?, self)
    }
}

impl Default for LiveOptions {
    fn default() -> LiveOptions {
        LiveOptions::new()
    }
}

/// A catalog in service: follows it in the background, and answers from what is current.
///
/// `Send + Sync`; share one behind an `Arc`. [`LiveIndex::current`] takes no lock and does not wait for anything. Dropped,
/// it stops its threads; the views handed out stay.
///
/// ```
/// use itemdex::IndexBuilder;
/// use itemdex::live::{Catalog, LiveIndex, PublishOptions};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let catalog = Catalog::create(folder.path().join("catalog"))?;
/// let build = |path: &std::path::Path| IndexBuilder::new("v1").build_from([(7, [1.0, 0.5])], path);
/// catalog.publish_made(build, &PublishOptions::new())?;
///
/// let live = LiveIndex::open(catalog.folder())?;
/// let view = live.current(); // for one request
/// assert_eq!(view.search(&[1.0, 0.0], 10)?[0].id, 7);
/// assert_eq!(live.model_versions(), ["v1"]);
/// assert!(live.for_model("v2").is_err());
/// # Ok::<(), itemdex::Error>(())
/// ```
pub struct LiveIndex {
    shared: Arc<Shared>,
    follower: Option<JoinHandle<()>>,
    wake: Sender<Wake>,
    /// Ends notices when dropped; none where there are none to be had.
    _watcher: Option<RecommendedWatcher>,
    fresh: Option<(Sender<Request>, JoinHandle<()>)>,
}

/// What requests see, and how it came about.
pub(super) struct Shared {
    catalog: Catalog,
    serving: ArcSwap<Vec<Arc<View>>>,
    /// Whoever changes what serves holds this.
    writer: Mutex<Writer>,
    health: Mutex<Health>,
    sampler: Option<Arc<Sampler>>,
}

#[derive(Default)]
struct Health {
    last_refresh: Option<SystemTime>,
    last_error: Option<String>,
    /// The files that are not to be tried again, and why.
    refused: HashMap<String, (u64, String)>,
}

/// What a [`LiveIndex`] is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What serves, newest generation first; the first is current.
    pub generations: Vec<GenerationStatus>,
    /// When what serves last changed or was found up to date.
    pub last_refresh: Option<SystemTime>,
    /// The last thing that went wrong with following the catalog, until a refresh goes well.
    pub last_error: Option<String>,
    /// Generations that were found bad and are not served: their numbers, and why.
    pub refused: Vec<(u64, String)>,
    /// The position of the last change in the log; none without a log.
    pub log_position: Option<u64>,
    /// Upserts in the log of model versions that no generation serves yet.
    pub waiting: usize,
}

/// A generation that serves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GenerationStatus {
    /// The generation.
    pub generation: Generation,
    /// Items, fresh ones included.
    pub items: usize,
    /// Fresh or deleted items laid over it.
    pub fresh: usize,
    /// Searches answered.
    pub queries: u64,
    /// The mean recall of the last 500 sampled searches, and how many there were; none without samples.
    pub recall: Option<(f64, usize)>,
}

enum Wake {
    Look,
    Refresh(Sender<Result<bool>>),
    Stop,
}

impl LiveIndex {
    /// Opens a catalog with default options: no fresh items.
    ///
    /// # Errors
    /// As [`LiveOptions::open`].
    pub fn open(catalog: impl AsRef<Path>) -> Result<LiveIndex> {
        LiveOptions::new().open(catalog)
    }

    fn start(catalog: Catalog, options: LiveOptions) -> Result<LiveIndex> {
        let folder = catalog.folder().to_owned();
        if !(0.0..=1.0).contains(&options.sample) {
            let problem = format!("{} is not within 0 to 1", options.sample);
            return Err(Error::BadOption { option: "sample_recall", problem });
        }
        let sampler = match options.sample > 0.0 {
            true => Some(Arc::new(
                Sampler::start(options.sample).map_err(Error::io("start a thread for", &folder))?,
            )),
            false => None,
        };
        let list = catalog.read()?;
        let log = match &options.log {
            Some(path) => {
                // A log that was lost begins where no generation has its changes.
                let positions = list.generations.iter().filter_map(|generation| generation.log_position);
                Some(Log::open(path, options.sync, positions.max().unwrap_or(0).saturating_add(1))?)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            catalog,
            serving: ArcSwap::default(),
            writer: Mutex::new(Writer::new(log, options.fresh_limit)),
            health: Mutex::default(),
            sampler,
        });
        let (wake, wakes) = bounded(16);
        // Watched before it is read, so that no change falls between.
        let watcher = watch(&folder, wake.clone());
        let mut follower = Follower { shared: Arc::clone(&shared), seen: None, held: Vec::new() };
        // A generation that is bad is not what keeps a process from starting, if another can serve.
        if let Err(error) = follower.look()
            && shared.serving().is_empty()
        {
            return Err(error);
        }
        let poll = options.poll;
        let spawn = thread::Builder::new().name("itemdex-follow".to_owned());
        let follower = spawn
            .spawn(move || follower.run(&wakes, poll))
            .map_err(Error::io("start a thread for", &folder))?;
        let mut live = LiveIndex { shared, follower: Some(follower), wake, _watcher: watcher, fresh: None };
        if options.log.is_some() {
            let (requests, received) = bounded(QUEUE);
            let shared = Arc::clone(&live.shared);
            let spawn = thread::Builder::new().name("itemdex-log".to_owned());
            let thread = spawn.spawn(move || super::fresh::run(&shared, &received));
            live.fresh = Some((requests, thread.map_err(Error::io("start a thread for", &folder))?));
        }
        Ok(live)
    }

    /// The current generation, with its fresh items. Keep it for the request: it does not change.
    pub fn current(&self) -> Arc<View> {
        Arc::clone(&self.shared.serving.load()[0])
    }

    /// The newest generation of a model version, with its fresh items.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], which names the versions that there are.
    pub fn for_model(&self, model_version: &str) -> Result<Arc<View>> {
        let serving = self.shared.serving.load();
        let found = serving.iter().find(|view| view.model_version() == model_version);
        found.cloned().ok_or_else(|| Error::UnknownModel {
            asked: model_version.to_owned(),
            held: self.model_versions(),
        })
    }

    /// The model versions that serve, that of the current generation first: what the user tower may compute.
    pub fn model_versions(&self) -> Vec<String> {
        self.shared.serving.load().iter().map(|view| view.model_version().to_owned()).collect()
    }

    /// Looks at the catalog now, and returns when what it has serves: whether anything changed.
    ///
    /// # Errors
    /// What kept it from serving what the catalog has; what served before goes on.
    pub fn refresh(&self) -> Result<bool> {
        let (reply, answer) = bounded(1);
        let stopped =
            || Error::io("follow", self.shared.catalog.folder())(io::Error::other("its thread ended"));
        self.wake.send(Wake::Refresh(reply)).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Puts an item in, or a new embedding in place of an item's: every view handed out from when this returns has it.
    /// Returns its position in the log.
    ///
    /// The embedding is of `model_version`, and only that version's generation gets it. A version that no generation serves
    /// yet is taken too, and its items appear with its first generation, so that a new model's items can be fed
    /// before its index is there. Calls made at once share a sync: for throughput, call from several threads.
    ///
    /// # Errors
    /// [`Error::BadOption`] for an embedding that cannot be indexed and where there is no log, [`Error::OverlayFull`],
    /// [`Error::Io`]; then nothing has changed.
    pub fn upsert(&self, model_version: &str, id: u64, embedding: &[f32]) -> Result<u64> {
        check_model_version(model_version)?;
        let bad = |problem| Err(Error::BadOption { option: "embedding", problem });
        let dim = self.for_model(model_version).map(|view| view.dim()).ok();
        match embedding.len() {
            found if !(1..=MAX_DIM).contains(&found) => {
                return bad(format!("it has {found} values, not 1 to {MAX_DIM}"));
            }
            found if dim.is_some_and(|dim| dim != found) => {
                return bad(format!(
                    "it has {found} values, model version {model_version} has dim {}",
                    dim.unwrap_or(0)
                ));
            }
            _ => {}
        }
        if let Some(problem) = problem_with(embedding) {
            return bad(problem);
        }
        let (model_version, embedding) = (model_version.to_owned(), embedding.to_vec());
        self.change(Change::Upsert { model_version, id, embedding })
    }

    /// Takes an item out, of every model version: no view handed out from when this returns has it. An item that is not
    /// there is no error. Returns the deletion's position in the log.
    ///
    /// # Errors
    /// As [`LiveIndex::upsert`].
    pub fn delete(&self, id: u64) -> Result<u64> {
        self.change(Change::Delete { id })
    }

    fn change(&self, change: Change) -> Result<u64> {
        let Some((requests, _)) = &self.fresh else {
            let problem = "this LiveIndex was opened without one; give LiveOptions::log a path".to_owned();
            return Err(Error::BadOption { option: "log", problem });
        };
        let stopped = || {
            Error::io("log a change of", self.shared.catalog.folder())(io::Error::other("its thread ended"))
        };
        let (reply, answer) = bounded(1);
        requests.send(Request { change, reply }).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// What serves, how it fares, and what went wrong.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

impl Drop for LiveIndex {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        let log = self.fresh.take().map(|(requests, thread)| {
            drop(requests);
            thread
        });
        for thread in self.follower.take().into_iter().chain(log) {
            if thread.join().is_err() {
                error!("a thread of the live index panicked");
            }
        }
    }
}

impl Shared {
    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn serving(&self) -> Arc<Vec<Arc<View>>> {
        self.serving.load_full()
    }

    fn status(&self) -> Status {
        let generations = self.serving.load().iter().map(|view| view.status()).collect();
        let (log_position, waiting) = {
            let writer = self.writer();
            (writer.log.as_ref().map(Log::position), writer.waiting)
        };
        let health = self.health();
        let mut refused: Vec<_> = health.refused.values().cloned().collect();
        refused.sort_unstable();
        let (last_refresh, last_error) = (health.last_refresh, health.last_error.clone());
        Status { generations, last_refresh, last_error, refused, log_position, waiting }
    }

    /// Whoever calls this holds the writer.
    pub fn serve(&self, views: Vec<Arc<View>>) {
        self.serving.store(Arc::new(views));
    }

    pub fn list(&self) -> Result<List> {
        self.catalog.read()
    }
}

impl View {
    fn status(&self) -> GenerationStatus {
        GenerationStatus {
            generation: self.generation().clone(),
            items: self.len(),
            fresh: self.overlay.items,
            queries: self.held.queries.load(Ordering::Relaxed),
            recall: self.held.recalls.mean(),
        }
    }
}

/// Sends a wake at each change in the folder, as far as the system tells of them.
fn watch(folder: &Path, wake: Sender<Wake>) -> Option<RecommendedWatcher> {
    let look = move |event: notify::Result<notify::Event>| {
        // Where the queue is full, the follower is to look anyway.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = wake.try_send(Wake::Look);
        }
    };
    let watcher = notify::recommended_watcher(look)
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!(%error, "no notice of changes to be had; the catalog is polled only");
            None
        }
    }
}

/// The thread that follows the catalog.
struct Follower {
    shared: Arc<Shared>,
    /// The list that serves, by its number.
    seen: Option<u64>,
    /// Every generation that is mapped; when no view has it any more, it is unmapped here, not in a request.
    held: Vec<Arc<Held>>,
}

impl Follower {
    fn run(mut self, wakes: &Receiver<Wake>, poll: Duration) {
        loop {
            let retiring = self.held.len() > self.shared.serving.load().len();
            let answer = match wakes.recv_timeout(if retiring { poll.min(RETIRING) } else { poll }) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Refresh(answer)) => Some(answer),
                Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => None,
            };
            let refreshed = self.look();
            if let Some(answer) = answer {
                let _ = answer.send(refreshed);
            }
            self.unmap();
            #[cfg(feature = "metrics")]
            super::meters::set(&self.shared.status());
        }
    }

    /// Serves what the catalog has, and notes what kept it from that.
    fn look(&mut self) -> Result<bool> {
        let refreshed = self.refresh();
        if let Err(error) = &refreshed {
            let text = error.to_string();
            let mut health = self.shared.health();
            if health.last_error.as_ref() != Some(&text) {
                error!(%error, "cannot serve what the catalog has; what served before goes on");
            }
            health.last_error = Some(text);
        }
        refreshed
    }

    /// Drops the generations that nobody has any more.
    fn unmap(&mut self) {
        let before = self.held.len();
        self.held.retain(|held| Arc::strong_count(held) > 1);
        if self.held.len() < before {
            debug!(generations = before - self.held.len(), "unmapped what no request uses any more");
        }
    }

    /// Serves what the catalog has; whether that is anything new.
    fn refresh(&mut self) -> Result<bool> {
        if self.seen.is_some() && self.shared.catalog.newest()? == self.seen {
            self.refreshed();
            return Ok(false);
        }
        let list = self.shared.catalog.read()?;
        let _span = info_span!("refresh", list = list.number).entered();
        let (mut serving, mut trouble): (Vec<Arc<Held>>, _) = (Vec::new(), None);
        // Where the newest of a version is bad, the one before it serves.
        for generation in list.serving() {
            if serving.iter().any(|held| held.generation.model_version == generation.model_version) {
                continue;
            }
            match self.take_up(generation) {
                Ok(held) => serving.extend(held),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        // Where nothing that is listed of a version can serve, what serves of it goes on, unless it was withdrawn.
        for view in self.shared.serving().iter() {
            let of_version = |one: &Generation| one.model_version == view.model_version();
            let withdrawn = |one: &Generation| one.withdrawn && one.number == view.generation().number;
            if list.serving().any(of_version)
                && !serving.iter().any(|held| of_version(&held.generation))
                && !list.generations.iter().any(withdrawn)
            {
                serving.push(Arc::clone(&view.held));
            }
        }
        serving.sort_by_key(|held| Reverse(held.generation.number));
        if serving.is_empty() {
            return Err(trouble.unwrap_or_else(|| Error::NoGeneration {
                folder: self.shared.catalog.folder().to_owned(),
                problem: "the catalog has no generation that can serve; publish one".to_owned(),
            }));
        }
        let numbers =
            |views: &[Arc<View>]| views.iter().map(|view| view.generation().number).collect::<Vec<_>>();
        let before = numbers(&self.shared.serving());
        self.shared.writer().install(&self.shared, &serving, &list)?;
        let now = numbers(&self.shared.serving());
        if now != before {
            info!(generations = ?now, "serving");
        }
        let files: HashSet<&String> = list.generations.iter().map(|generation| &generation.file).collect();
        self.shared.health().refused.retain(|file, _| files.contains(file));
        match trouble {
            // Tried again at the next look, unless it is for good.
            Some(error) => Err(error),
            None => {
                self.seen = Some(list.number);
                self.refreshed();
                Ok(now != before)
            }
        }
    }

    fn refreshed(&self) {
        let mut health = self.shared.health();
        health.last_refresh = Some(SystemTime::now());
        if health.refused.is_empty() {
            health.last_error = None;
        }
    }

    /// The generation, opened and checked, unless it is open; none where it was refused before.
    fn take_up(&mut self, generation: &Generation) -> Result<Option<Arc<Held>>> {
        if self.shared.health().refused.contains_key(&generation.file) {
            return Ok(None);
        }
        if let Some(held) = self.held.iter().find(|held| held.generation.file == generation.file) {
            return Ok(Some(Arc::clone(held)));
        }
        match self.open(generation) {
            Ok(index) => {
                let held = Arc::new(Held::new(index, generation.clone(), self.shared.sampler.clone()));
                self.held.push(Arc::clone(&held));
                Ok(Some(held))
            }
            Err(error) => {
                error!(number = generation.number, %error, "refused a generation");
                // What the system would not do now it may do later.
                if !matches!(error, Error::Io { .. }) {
                    let reason = (generation.number, error.to_string());
                    self.shared.health().refused.insert(generation.file.clone(), reason);
                }
                Err(error)
            }
        }
    }

    /// Reads all of a generation, so that its pages are in memory, checks it, and searches it once or twice.
    fn open(&self, generation: &Generation) -> Result<Index> {
        let path = self.shared.catalog.path_of(generation);
        let _span = info_span!("open", number = generation.number).entered();
        let index = Index::open(&path)?;
        if index.fingerprint() != generation.fingerprint {
            let problem = "it is not the file that was published".to_owned();
            return Err(Error::Damaged { path, offset: 0, problem });
        }
        index.verify(|_| ())?;
        for (_, row) in index.iter().take(SELF_CHECKS) {
            index.search(row, SELF_CHECKS)?;
        }
        Ok(index)
    }
}
