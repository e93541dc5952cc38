use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Sender, bounded};
use notify::RecommendedWatcher;
use tracing::error;

use super::catalog::Catalog;
use super::follower::{Follower, Wake, watch};
use super::fresh::{Request, Writer, locked, run};
use super::log::{Change, Log};
use super::options::LiveOptions;
use super::recall::sample;
use super::serving::Serving;
use super::status::Status;
use super::view::View;
use crate::limits::{MAX_DIM, check_model_version};
use crate::vectors::problem_with;
use crate::{Error, Result};

/// Requests that wait for the log at most; further callers wait for their place among them.
const QUEUE: usize = 1024;

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
    serving: Arc<Serving>,
    writer: Arc<Mutex<Writer>>,
    follower: Option<JoinHandle<()>>,
    wake: Sender<Wake>,
    /// Ends notices when dropped; none where there are none to be had.
    _watcher: Option<RecommendedWatcher>,
    fresh: Option<(Sender<Request>, JoinHandle<()>)>,
}

impl LiveOptions {
    /// Opens what the catalog has, and follows it from then on. Reads every file that is to serve.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] where the catalog has none that can serve, [`Error::Damaged`] for its list or the log,
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
        let folder = catalog.folder().to_owned();
        if !(0.0..=1.0).contains(&options.sample) {
            let problem = format!("{} is not within 0 to 1", options.sample);
            return Err(Error::BadOption { option: "sample_recall", problem });
        }
        let sampling = match options.sample > 0.0 {
            true => Some(sample(options.sample).map_err(Error::io("start a thread for", &folder))?),
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
        let serving = Arc::new(Serving::new(catalog, sampling));
        let writer = Arc::new(Mutex::new(Writer::new(log, options.fresh_limit)));
        let (wake, wakes) = bounded(16);
        // Watched before it is read, so that no change falls between.
        let watcher = watch(&folder, wake.clone());
        let mut follower = Follower::new(Arc::clone(&serving), Arc::clone(&writer));
        // A generation that is bad is not what keeps a process from starting, if another can serve.
        if let Err(error) = follower.look()
            && serving.views().is_empty()
        {
            return Err(error);
        }
        let poll = options.poll;
        let spawn = thread::Builder::new().name("itemdex-follow".to_owned());
        let follower = spawn
            .spawn(move || follower.run(&wakes, poll))
            .map_err(Error::io("start a thread for", &folder))?;
        let mut live =
            LiveIndex { serving, writer, follower: Some(follower), wake, _watcher: watcher, fresh: None };
        if options.log.is_some() {
            let (requests, received) = bounded(QUEUE);
            let (serving, writer) = (Arc::clone(&live.serving), Arc::clone(&live.writer));
            let spawn = thread::Builder::new().name("itemdex-log".to_owned());
            let thread = spawn.spawn(move || run(&serving, &writer, &received));
            live.fresh = Some((requests, thread.map_err(Error::io("start a thread for", &folder))?));
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
        let serving = self.serving.views();
        let found = serving.iter().find(|view| view.model_version() == model_version);
        found.cloned().ok_or_else(|| Error::UnknownModel {
            asked: model_version.to_owned(),
            held: self.model_versions(),
        })
    }

    /// The model versions that serve, that of the current generation first: what the user tower may compute.
    pub fn model_versions(&self) -> Vec<String> {
        self.serving.views().iter().map(|view| view.model_version().to_owned()).collect()
    }

    /// Looks at the catalog now, and returns when what it has serves: whether anything changed.
    ///
    /// # Errors
    /// What kept it from serving what the catalog has; what served before goes on.
    pub fn refresh(&self) -> Result<bool> {
        let (reply, answer) = bounded(1);
        let stopped =
            || Error::io("follow", self.serving.catalog.folder())(io::Error::other("its thread ended"));
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
            Error::io("log a change of", self.serving.catalog.folder())(io::Error::other("its thread ended"))
        };
        let (reply, answer) = bounded(1);
        requests.send(Request { change, reply }).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// What serves, how it fares, and what went wrong.
    pub fn status(&self) -> Status {
        Status::of(&self.serving, &locked(&self.writer))
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
