//! A catalog in service.

use std::mem;
use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Sender, TrySendError, bounded};
use notify::RecommendedWatcher;
use tracing::error;

use super::catalog::{Catalog, Generation, List};
use super::change::{Batch, Change, Numbering};
use super::follower::{Follower, Wake, watch};
use super::fresh::{Request, Writer, locked, run};
use super::log::{Beginning, Log, SyncPolicy};
use super::options::LiveOptions;
use super::pending::{Applied, Pending, pending};
use super::recall::sample;
use super::serving::Serving;
use super::status::Status;
use super::view::View;
use crate::assignment::Shard;
use crate::{Error, Result, Values};

/// Batches that wait for the log at most; further callers wait for their place among them.
const QUEUE: usize = 1024;

/// A catalog in service: follows it in the background, and answers from what is current.
///
/// `Send + Sync`; share one behind an `Arc`. [`LiveIndex::current`] takes no lock and waits for nothing.
/// Dropped, it stops its threads, and the views handed out stay. A process that forks has its threads in the
/// parent only: the child can ask the views, and gets [`Error::Forked`] for changes and refreshes.
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
    pub(super) serving: Arc<Serving>,
    pub(super) writer: Arc<Mutex<Writer>>,
    follower: Option<JoinHandle<()>>,
    wake: Sender<Wake>,
    /// Ends notices when dropped; none where there are none to be had.
    watcher: Option<RecommendedWatcher>,
    fresh: Option<Fresh>,
    /// The process that the threads are in.
    process: u32,
}

/// The way into the log.
struct Fresh {
    requests: Sender<Request>,
    numbering: Numbering,
    path: std::path::PathBuf,
    thread: JoinHandle<()>,
}

impl LiveOptions {
    /// Opens what the catalog has, and follows it from then on. Reads every file that is to serve.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] where the catalog has none that can serve, [`Error::Damaged`] for its list or
    /// the log, [`Error::Numbering`] for a log that is fed and should not be, or the other way round,
    /// [`Error::LogBehind`] for a log that numbers itself and has not come to where the catalog is,
    /// [`Error::BadOption`], [`Error::Io`].
    pub fn open(self, catalog: impl AsRef<Path>) -> Result<LiveIndex> {
        LiveIndex::start(Catalog::open(catalog)?, self)
    }
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
        options.check()?;
        let folder = catalog.folder().to_owned();
        let started = || Error::io("start a thread for", &folder);
        let sampling = match options.sample > 0.0 {
            true => Some(sample(options.sample).map_err(started())?),
            false => None,
        };
        let list = catalog.read()?;
        let log = match &options.log {
            Some((path, numbering)) => Some(open_log(path, *numbering, options.sync, &list)?),
            None => None,
        };
        let log_path = log.as_ref().map(|log| (log.path().to_owned(), log.numbering()));
        let shard = options.shard.map_or_else(|| Shard::new(0, 1), Ok)?;
        let serving = Arc::new(Serving::new(catalog, shard, sampling));
        let writer = Arc::new(Mutex::new(Writer::new(log, shard, options.fresh_limit)));
        let (wake, wakes) = bounded(16);
        // Watched before it is read, so that no change falls between.
        let watcher = watch(&folder, wake.clone());
        let mut follower =
            Follower::new(Arc::clone(&serving), Arc::clone(&writer), options.retention, options.open);
        // A generation that is bad is not what keeps a process from starting, if another can serve.
        if let Err(error) = follower.look()
            && serving.views().is_empty()
        {
            return Err(error);
        }
        let poll = options.poll;
        let spawn = thread::Builder::new().name("itemdex-follow".to_owned());
        let follower = spawn.spawn(move || follower.run(&wakes, poll)).map_err(started())?;
        let (follower, process) = (Some(follower), process::id());
        let mut live = LiveIndex { serving, writer, follower, wake, watcher, fresh: None, process };
        if let Some((path, numbering)) = log_path {
            let (requests, received) = bounded(QUEUE);
            let (serving, writer) = (Arc::clone(&live.serving), Arc::clone(&live.writer));
            let wake = live.wake.clone();
            // Where the queue is full, the follower is to look anyway.
            let grown = move || drop(wake.try_send(Wake::Look));
            let spawn = thread::Builder::new().name("itemdex-log".to_owned());
            let thread = spawn.spawn(move || run(&serving, &writer, &received, grown)).map_err(started())?;
            live.fresh = Some(Fresh { requests, numbering, path, thread });
        }
        Ok(live)
    }

    /// The current generation, with its fresh items. Keep it for the request: it does not change.
    pub fn current(&self) -> Arc<View> {
        self.serving.current()
    }

    /// The newest generation of a model version, with its fresh items.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], which names the versions that there are.
    pub fn for_model(&self, model_version: &str) -> Result<Arc<View>> {
        self.serving.of_version(model_version).ok_or_else(|| Error::UnknownModel {
            asked: model_version.to_owned(),
            held: self.model_versions(),
        })
    }

    /// A generation by its number, with its fresh items: for a request that asks several shards, each in a
    /// process of its own, of one generation.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], which names those that serve.
    pub fn generation(&self, number: u64) -> Result<Arc<View>> {
        self.serving.of_number(number).ok_or_else(|| {
            let serve = self.generations();
            let problem = format!("generation {number} does not serve here; there are {serve:?}");
            Error::NoGeneration { folder: self.serving.catalog.folder().to_owned(), problem }
        })
    }

    /// The numbers of the generations that serve: the newest of each model version, the current one first, and
    /// behind them those that are held.
    pub fn generations(&self) -> Vec<u64> {
        self.serving.views().iter().map(|view| view.generation().number).collect()
    }

    /// Has these generations serve beside the newest, from the next look at the catalog on, until this is called
    /// again. One that serves goes on also where it was dropped or withdrawn; another is opened if the catalog
    /// has it.
    ///
    /// Processes that share the shards of a catalog take up a new generation one after the other. Whoever spreads
    /// a request over them holds the generation that all of them have, asks for it by its number
    /// ([`LiveIndex::generation`]), and holds the next one when all have that. Each that is held is mapped.
    pub fn hold(&self, generations: &[u64]) {
        *self.serving.hold() = generations.to_vec();
        // Where the queue is full, the follower is to look anyway.
        let _ = self.wake.try_send(Wake::Look);
    }

    /// The shard that this serves, of the catalog's generations: 0 of 1 unless the options say otherwise.
    pub fn shard(&self) -> Shard {
        self.serving.shard
    }

    /// The model versions that serve, that of the current generation first: what the user tower may compute.
    pub fn model_versions(&self) -> Vec<String> {
        let mut versions: Vec<String> = Vec::new();
        for view in self.serving.views().iter() {
            if versions.iter().all(|version| version != view.model_version()) {
                versions.push(view.model_version().to_owned());
            }
        }
        versions
    }

    /// Looks at the catalog now, and returns when what it has serves: whether anything changed.
    ///
    /// # Errors
    /// What kept it from serving what the catalog has; what served before goes on. As long as the newest
    /// generation of a model version is refused, that is [`Error::Refused`].
    pub fn refresh(&self) -> Result<bool> {
        self.check_process()?;
        let (reply, answer) = bounded(1);
        self.wake.send(Wake::Refresh(reply)).map_err(|_| Error::Closed)?;
        answer.recv().map_err(|_| Error::Closed)?
    }

    /// What serves, how it fares, and what went wrong. Waits for no file.
    pub fn status(&self) -> Status {
        Status::of(&self.serving)
    }
}

/// Changes to the items.
impl LiveIndex {
    /// Puts an item in, or replaces it: every view handed out from when this returns has it. All its values
    /// are null; [`LiveIndex::upsert_with`] gives it some. Returns its position in the log, which numbers its
    /// changes itself.
    ///
    /// The embedding is of `model_version`, and only that version's generation gets it. A version that no
    /// generation serves yet is taken too, and its items appear with its first generation, so that a new
    /// model's items can be fed before its index is there. Calls made at once share a sync: for throughput,
    /// call from several threads, or send [`LiveIndex::write`] many at once.
    ///
    /// # Errors
    /// As [`LiveIndex::send`].
    pub fn upsert(&self, model_version: &str, id: u64, embedding: &[f32]) -> Result<u64> {
        Ok(self.send(Change::upsert(model_version, id, embedding))?.wait()?.position)
    }

    /// As [`LiveIndex::upsert`], of an item with values. Those of columns that its generation does not have,
    /// or of another kind than they have there, are kept in the log, and are null until a generation has
    /// such a column.
    ///
    /// # Errors
    /// As [`LiveIndex::send`].
    ///
    /// ```
    /// # use itemdex::{Column, ColumnKind, IndexBuilder};
    /// # use itemdex::live::{Catalog, PublishOptions};
    /// use itemdex::{SearchOptions, Value, Values, live::LiveOptions, number};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let catalog = Catalog::create(folder.path().join("catalog"))?;
    /// # let price = Column::new("price", ColumnKind::Number, [12.5])?;
    /// # let builder = IndexBuilder::new("v1").column(price);
    /// # catalog.publish_made(|path| builder.build_from([(7, [1.0, 0.5])], path), &PublishOptions::new())?;
    /// let live = LiveOptions::new().log(folder.path().join("fresh.log")).open(catalog.folder())?;
    /// live.upsert_with("v1", 8, &[0.5, 1.0], Values::new().with("price", 3.0))?;
    /// live.set_values(7, Values::new().with("price", 2.0))?;
    ///
    /// let view = live.current();
    /// assert_eq!(view.values(7).unwrap().get("price"), &Value::Real(2.0));
    /// let cheap = view.index().filter(&number("price").below(2.5))?;
    /// let found = view.search_with(&[1.0, 1.0], &SearchOptions::new(10).filter(&cheap))?;
    /// assert_eq!((found.hits.len(), found.hits[0].id), (1, 7));
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn upsert_with(
        &self,
        model_version: &str,
        id: u64,
        embedding: &[f32],
        values: Values,
    ) -> Result<u64> {
        let change = Change::upsert(model_version, id, embedding).with_values(values);
        Ok(self.send(change)?.wait()?.position)
    }

    /// Replaces values of an item in every model version that has it, without an embedding: its price, or
    /// whether it is in stock. It keeps the values of columns that are not named. An item that is not there is
    /// no error, and nothing changes then. Returns its position in the log, which numbers its changes itself.
    ///
    /// An item of a generation becomes a fresh item by this, and takes a place among those.
    ///
    /// # Errors
    /// As [`LiveIndex::send`].
    pub fn set_values(&self, id: u64, values: Values) -> Result<u64> {
        Ok(self.send(Change::set_values(id, values))?.wait()?.position)
    }

    /// Takes an item out, of every model version: no view handed out from when this returns has it. An item
    /// that is not there is no error. Returns the deletion's position in the log, which numbers its changes
    /// itself.
    ///
    /// # Errors
    /// As [`LiveIndex::send`], but never [`Error::OverlayFull`].
    pub fn delete(&self, id: u64) -> Result<u64> {
        Ok(self.send(Change::delete(id))?.wait()?.position)
    }

    /// Logs changes together, in one write and one sync, and has requests see them at one instant: all of
    /// them, or after an error none. For a log that numbers its changes itself.
    ///
    /// # Errors
    /// As [`LiveIndex::send`].
    pub fn write(&self, changes: &[Change]) -> Result<Applied> {
        self.send(changes.to_vec())?.wait()
    }

    /// Logs changes at the positions that they have, in one write and one sync: for a log that is fed
    /// ([`LiveOptions::fed_log`]).
    ///
    /// Positions ascend, from 1 on, and may leave some out, as the offsets of a Kafka partition do (add 1:
    /// they begin with 0). Changes at one position go into one call. What is at or before the log's last
    /// position is there already, and is not applied again, so that a call can be repeated until it succeeds.
    /// One feeder calls this at a time, and after a start it goes on behind [`Status::log_position`].
    ///
    /// # Errors
    /// As [`LiveIndex::send`]. Then no change of the call is applied.
    ///
    /// ```
    /// # use itemdex::IndexBuilder;
    /// # use itemdex::live::{Catalog, PublishOptions};
    /// use itemdex::live::{Change, LiveOptions};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let catalog = Catalog::create(folder.path().join("catalog"))?;
    /// # let build = |path: &std::path::Path| IndexBuilder::new("v1").build_from([(7, [1.0, 0.5])], path);
    /// # catalog.publish_made(build, &PublishOptions::new())?;
    /// let live = LiveOptions::new().fed_log(folder.path().join("fresh.log")).open(catalog.folder())?;
    /// let changes = [(41, Change::upsert("v1", 8, [0.5, 1.0])), (44, Change::delete(7))];
    /// let applied = live.apply(&changes)?;
    /// assert_eq!((applied.position, applied.applied), (44, 2));
    /// assert_eq!(live.apply(&changes)?.already_there, 2);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn apply(&self, changes: &[(u64, Change)]) -> Result<Applied> {
        self.send(changes.to_vec())?.wait()
    }

    /// Hands changes over to the log, and returns what to wait for, or to await. Waits where the log is too
    /// far behind.
    ///
    /// `batch` is a [`Change`] or a vector of them, or for a log that is fed a vector of pairs of a position
    /// and a [`Change`]. They are logged in the order of the calls, all of a batch or none.
    ///
    /// # Errors
    /// [`Error::BadOption`] for an embedding that cannot be indexed, for values that cannot be logged (a name
    /// that no column can have, a number that is not finite, more than 64 KiB of them), for positions that do not ascend, and
    /// where there is no log; [`Error::Numbering`] for positions where the log numbers itself, or the other
    /// way round; [`Error::Forked`]. And of what is waited for: [`Error::OverlayFull`],
    /// [`Error::RetiredModel`] (where the log numbers itself; a feeder is told how many),
    /// [`Error::LogReplaced`], [`Error::Io`]. Then nothing of the batch is there.
    pub fn send(&self, batch: impl Into<Batch>) -> Result<Pending> {
        let (fresh, request, answer) = self.request(batch.into())?;
        fresh.requests.send(request).map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    /// The same, which never waits.
    ///
    /// # Errors
    /// As [`LiveIndex::send`]; [`Error::QueueFull`] where the log is too far behind.
    pub fn try_send(&self, batch: impl Into<Batch>) -> Result<Pending> {
        let (fresh, request, answer) = self.request(batch.into())?;
        match fresh.requests.try_send(request) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(Error::QueueFull { waiting: QUEUE }),
            Err(TrySendError::Disconnected(_)) => Err(Error::Closed),
        }
    }

    fn request(&self, batch: Batch) -> Result<(&Fresh, Request, Pending)> {
        self.check_process()?;
        let Some(fresh) = &self.fresh else {
            let problem = "this LiveIndex was opened without one; give LiveOptions::log a path".to_owned();
            return Err(Error::BadOption { option: "log", problem });
        };
        if batch.numbering() != fresh.numbering {
            let fed = fresh.numbering == Numbering::Fed;
            return Err(Error::Numbering { path: fresh.path.clone(), fed });
        }
        batch.check(|model_version| self.serving.of_version(model_version).map(|view| view.dim()))?;
        let (reply, answer) = pending();
        Ok((fresh, Request { batch, reply }, answer))
    }

    fn check_process(&self) -> Result<()> {
        match process::id() == self.process {
            true => Ok(()),
            false => Err(Error::Forked),
        }
    }
}

impl Drop for LiveIndex {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // Threads and locks are the parent's.
            mem::forget((self.follower.take(), self.watcher.take(), self.fresh.take()));
            return;
        }
        let opening = self.serving.shut_down();
        let _ = self.wake.try_send(Wake::Stop);
        let log = self.fresh.take().map(|fresh| fresh.thread);
        // One that reads a large file ends when it is through, and serves nothing of it.
        let follower = self.follower.take().filter(|_| !opening);
        for thread in follower.into_iter().chain(log) {
            if thread.join().is_err() {
                error!("a thread of the live index panicked");
            }
        }
        locked(&self.writer).log = None;
    }
}

/// Opens the log, or begins one where the catalog is.
fn open_log(path: &Path, numbering: Numbering, sync: SyncPolicy, list: &List) -> Result<Log> {
    let ahead = list.generations.iter().max_by_key(|generation| generation.position());
    let highest = ahead.map_or(0, Generation::position);
    // A log that is fed gets again what the oldest generation lacks that may serve. One that numbers itself
    // cannot.
    let lowest = list.serving().map(Generation::position).min().unwrap_or(0);
    let before = match numbering {
        Numbering::Own => highest,
        Numbering::Fed => lowest,
    };
    let log = Log::open(path, sync, numbering, Beginning { next: before + 1, dropped_to: lowest })?;
    match ahead {
        Some(generation) if numbering == Numbering::Own && highest > log.position() => {
            Err(Error::LogBehind {
                path: log.path().to_owned(),
                log: log.position(),
                catalog: highest,
                generation: generation.number,
            })
        }
        _ => Ok(log),
    }
}
