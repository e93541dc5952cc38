//! The thread that follows the catalog.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, error, info, info_span, warn};

use super::catalog::Generation;
use super::fresh::{Writer, locked};
use super::serving::Serving;
#[cfg(feature = "metrics")]
use super::status::Status;
use super::view::{Held, View};
use crate::{Error, Index, Result};

/// Rows that a new generation is searched for before it serves.
const SELF_CHECKS: usize = 16;

/// How long an old generation that a request still uses is left before it is looked at again.
const RETIRING: Duration = Duration::from_millis(100);

/// Why the follower looks at the catalog now.
pub(super) enum Wake {
    Look,
    Refresh(Sender<Result<bool>>),
    Stop,
}

/// Sends a wake at each change in the folder, as far as the system tells of them.
pub(super) fn watch(folder: &Path, wake: Sender<Wake>) -> Option<RecommendedWatcher> {
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
pub(super) struct Follower {
    serving: Arc<Serving>,
    writer: Arc<Mutex<Writer>>,
    /// The number of the list that serves.
    seen: Option<u64>,
    /// Every generation that is mapped. When no view has it any more, it is unmapped here, not in a request.
    held: Vec<Arc<Held>>,
}

impl Follower {
    pub fn new(serving: Arc<Serving>, writer: Arc<Mutex<Writer>>) -> Follower {
        Follower { serving, writer, seen: None, held: Vec::new() }
    }

    pub fn run(mut self, wakes: &Receiver<Wake>, poll: Duration) {
        loop {
            let retiring = self.held.len() > self.serving.views().len();
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
            super::meters::set(&Status::of(&self.serving, &locked(&self.writer)));
        }
    }

    /// Serves what the catalog has, and notes what kept it from that.
    pub fn look(&mut self) -> Result<bool> {
        let refreshed = self.refresh();
        if let Err(error) = &refreshed {
            let text = error.to_string();
            let mut health = self.serving.health();
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
        if self.seen.is_some() && self.serving.catalog.newest()? == self.seen {
            self.refreshed();
            return Ok(false);
        }
        let list = self.serving.catalog.read()?;
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
        for view in self.serving.views().iter() {
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
                folder: self.serving.catalog.folder().to_owned(),
                problem: "the catalog has no generation that can serve; publish one".to_owned(),
            }));
        }
        let numbers =
            |views: &[Arc<View>]| views.iter().map(|view| view.generation().number).collect::<Vec<_>>();
        let before = numbers(&self.serving.views());
        locked(&self.writer).install(&self.serving, &serving, &list)?;
        let now = numbers(&self.serving.views());
        if now != before {
            info!(generations = ?now, "serving");
        }
        let files: HashSet<&String> = list.generations.iter().map(|generation| &generation.file).collect();
        self.serving.health().refused.retain(|file, _| files.contains(file));
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
        let mut health = self.serving.health();
        health.last_refresh = Some(SystemTime::now());
        if health.refused.is_empty() {
            health.last_error = None;
        }
    }

    /// The generation, opened and checked, unless it is open; none where it was refused before.
    fn take_up(&mut self, generation: &Generation) -> Result<Option<Arc<Held>>> {
        if self.serving.health().refused.contains_key(&generation.file) {
            return Ok(None);
        }
        if let Some(held) = self.held.iter().find(|held| held.generation.file == generation.file) {
            return Ok(Some(Arc::clone(held)));
        }
        match self.open(generation) {
            Ok(index) => {
                let held = Arc::new(Held::new(index, generation.clone(), self.serving.sampling.clone()));
                self.held.push(Arc::clone(&held));
                Ok(Some(held))
            }
            Err(error) => {
                error!(number = generation.number, %error, "refused a generation");
                // What the system would not do now it may do later.
                if !matches!(error, Error::Io { .. }) {
                    let reason = (generation.number, error.to_string());
                    self.serving.health().refused.insert(generation.file.clone(), reason);
                }
                Err(error)
            }
        }
    }

    /// Reads all of a generation, so that its pages are in memory, checks it, and searches it once or twice.
    fn open(&self, generation: &Generation) -> Result<Index> {
        let path = self.serving.catalog.path_of(generation);
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
