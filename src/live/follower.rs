//! The thread that follows the catalog: it opens generations, lays the log's changes over them, swaps them
//! in, and drops what the log need not keep.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, error, info, info_span, warn};

use super::catalog::{Generation, List, open_published};
use super::change::{Numbering, seconds};
use super::fresh::{Waiting, Writer, known, locked, replayed, with_records};
use super::log::{Kept, Record, Snapshot};
#[cfg(feature = "metrics")]
use super::meters::Meters;
use super::serving::Serving;
use super::view::{Held, View};
use crate::{Error, Index, OpenOptions, Result};

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

pub(super) struct Follower {
    serving: Arc<Serving>,
    writer: Arc<Mutex<Writer>>,
    retention: Kept,
    open: OpenOptions,
    /// The list that serves; none as long as it is to be read again.
    seen: Option<u64>,
    /// The generations that were to be held at that look.
    holding: Vec<u64>,
    /// The newest generation of a model version that is refused, and why.
    refused: Option<(u64, String)>,
    /// Every generation that is mapped. When no view has it any more, it is unmapped here, not in a request.
    held: Vec<Arc<Held>>,
    #[cfg(feature = "metrics")]
    meters: Meters,
}

/// The log while a list is taken up: a snapshot of it and all its records. Without a log there are none.
#[derive(Default)]
struct Replay {
    snapshot: Option<Snapshot>,
    records: Vec<Record>,
}

impl Follower {
    pub fn new(
        serving: Arc<Serving>,
        writer: Arc<Mutex<Writer>>,
        retention: Kept,
        open: OpenOptions,
    ) -> Follower {
        Follower {
            serving,
            writer,
            retention,
            open,
            seen: None,
            holding: Vec::new(),
            refused: None,
            held: Vec::new(),
            #[cfg(feature = "metrics")]
            meters: Meters::default(),
        }
    }

    pub fn run(mut self, wakes: &Receiver<Wake>, poll: Duration) {
        loop {
            let retiring = self.held.len() > self.serving.views().len();
            let answer = match wakes.recv_timeout(if retiring { poll.min(RETIRING) } else { poll }) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Refresh(answer)) => Some(answer),
                Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => None,
            };
            if self.serving.is_shutting_down() {
                return;
            }
            let looked = self.look();
            if let Some(answer) = answer {
                let _ = answer.send(looked);
            }
            #[cfg(feature = "metrics")]
            self.meters.set(&self.serving, &self.held);
            self.unmap();
        }
    }

    /// Serves what the catalog has; whether that is anything new. Notes what kept it from that.
    pub fn look(&mut self) -> Result<bool> {
        let looked = self.refresh();
        let grown = locked(&self.writer).log.as_ref().is_some_and(|log| log.has_grown());
        if grown {
            // What the catalog needs is not known while it cannot be read; what is superseded nobody needs.
            let floor = self.serving.catalog.read().map_or(0, |list| list.floor(seconds()));
            self.compact(Replay::default(), floor);
        }
        let mut health = self.serving.health();
        let text = looked.as_ref().err().map(Error::to_string);
        if let Some(error) = &text
            && health.last_error.as_ref() != Some(error)
        {
            error!(error, "cannot serve what the catalog has; what served before goes on");
        }
        health.last_error = text;
        if looked.is_ok() {
            health.last_refresh = Some(SystemTime::now());
        }
        drop(health);
        looked
    }

    /// Drops the generations that nobody has any more.
    fn unmap(&mut self) {
        let before = self.held.len();
        self.held.retain(|held| Arc::strong_count(held) > 1);
        if self.held.len() < before {
            debug!(generations = before - self.held.len(), "unmapped what no request uses any more");
        }
    }

    fn refresh(&mut self) -> Result<bool> {
        let hold = self.serving.hold().clone();
        let same = hold == self.holding && self.seen.is_some();
        if same && self.serving.catalog.newest()? == self.seen {
            return self.unless_refused(Ok(false));
        }
        let list = self.serving.catalog.read()?;
        let _span = info_span!("refresh", list = list.number).entered();
        let (mut chosen, trouble) = self.choose(&list);
        if chosen.is_empty() {
            return Err(trouble.unwrap_or_else(|| Error::NoGeneration {
                folder: self.serving.catalog.folder().to_owned(),
                problem: "the catalog has no generation that can serve; publish one".to_owned(),
            }));
        }
        self.add_held(&hold, &list, &mut chosen);
        self.holding = hold;
        let before = self.numbers();
        let replay = self.install(&chosen, &list)?;
        let changed = self.numbers() != before;
        if changed {
            info!(generations = ?self.numbers(), "serving");
        }
        let files: HashSet<&String> = list.generations.iter().map(|generation| &generation.file).collect();
        self.serving.health().refused.retain(|file, _| files.contains(file));
        self.compact(replay, list.floor(seconds()));
        match trouble {
            // Tried again at the next look, unless it is for good.
            Some(error) if is_passing(&error) => Err(error),
            _ => {
                self.seen = Some(list.number);
                self.unless_refused(trouble.map_or(Ok(changed), Err))
            }
        }
    }

    /// The numbers of the generations that serve.
    fn numbers(&self) -> Vec<u64> {
        self.serving.views().iter().map(|view| view.generation().number).collect()
    }

    fn unless_refused(&self, looked: Result<bool>) -> Result<bool> {
        match self.refused.clone() {
            Some((generation, problem)) => Err(Error::Refused { generation, problem }),
            None => looked,
        }
    }

    /// The newest generation of each model version that can serve, newest first, and the first thing that
    /// kept a newer one from it.
    fn choose(&mut self, list: &List) -> (Vec<Arc<Held>>, Option<Error>) {
        let (mut chosen, mut trouble): (Vec<Arc<Held>>, Option<Error>) = (Vec::new(), None);
        let mut tried = HashSet::new();
        self.refused = None;
        for generation in list.serving() {
            if chosen.iter().any(|held| held.generation.model_version == generation.model_version) {
                continue;
            }
            let newest = tried.insert(&generation.model_version);
            match self.take_up(generation) {
                Ok(held) => chosen.push(held),
                Err(error) => {
                    if newest && self.refused.is_none() && !is_passing(&error) {
                        let refused = self.serving.health().refused.get(&generation.file).cloned();
                        self.refused = refused;
                    }
                    trouble = trouble.or(Some(error));
                }
            }
        }
        // Where nothing that is listed of a version can serve, what serves of it goes on, unless it was
        // withdrawn.
        for view in self.serving.views().iter() {
            let of_version = |one: &Generation| one.model_version == view.model_version();
            let withdrawn = |one: &Generation| one.withdrawn && one.number == view.generation().number;
            if list.serving().any(of_version)
                && !chosen.iter().any(|held| of_version(&held.generation))
                && !list.generations.iter().any(withdrawn)
            {
                chosen.push(Arc::clone(&view.held));
            }
        }
        chosen.sort_by_key(|held| Reverse(held.generation.number));
        (chosen, trouble)
    }
}

/// How a generation is taken up.
impl Follower {
    /// Adds the generations that are to be held, as far as they can be had.
    fn add_held(&mut self, hold: &[u64], list: &List, chosen: &mut Vec<Arc<Held>>) {
        let mut held = Vec::new();
        for &number in hold {
            if chosen.iter().chain(&held).any(|held: &Arc<Held>| held.generation.number == number) {
                continue;
            }
            let serves = self.serving.of_number(number).map(|view| Arc::clone(&view.held));
            let listed = list.serving().find(|generation| generation.number == number);
            held.extend(serves.or_else(|| self.take_up(listed?).ok()));
        }
        held.sort_by_key(|held| Reverse(held.generation.number));
        chosen.extend(held);
    }

    /// The generation, opened and checked, unless it is open or was refused before.
    fn take_up(&mut self, generation: &Generation) -> Result<Arc<Held>> {
        let serves = |view: &&Arc<View>| view.generation().file == generation.file;
        if let Some(view) = self.serving.views().iter().find(serves) {
            return Ok(Arc::clone(&view.held));
        }
        if let Some((generation, problem)) = self.serving.health().refused.get(&generation.file).cloned() {
            return Err(Error::Refused { generation, problem });
        }
        let held = self.held.iter().find(|held| held.generation.file == generation.file).cloned();
        let taken = self.check_position(generation).and_then(|()| match held {
            Some(held) => Ok(held),
            None => {
                let opened = self.serving.opening(|| self.open(generation));
                let index = match opened {
                    None | Some(Err(Error::Cancelled)) => Err(Error::Closed),
                    Some(opened) => opened,
                }?;
                let held = Held::new(index, generation.clone(), self.serving.sampling.clone());
                Ok(Arc::new(held))
            }
        });
        match taken {
            Ok(held) => {
                if !self.held.iter().any(|other| Arc::ptr_eq(other, &held)) {
                    self.held.push(Arc::clone(&held));
                }
                Ok(held)
            }
            Err(error) => {
                error!(number = generation.number, %error, "refused a generation");
                if !is_passing(&error) {
                    let reason = (generation.number, error.to_string());
                    self.serving.health().refused.insert(generation.file.clone(), reason);
                }
                Err(error)
            }
        }
    }

    /// Checks that the log has all that came after the dump of a generation, and nothing else at its
    /// position.
    fn check_position(&self, generation: &Generation) -> Result<()> {
        let mut writer = locked(&self.writer);
        let Some(log) = &mut writer.log else { return Ok(()) };
        let (path, dump, dropped_to) = (log.path().to_owned(), generation.position(), log.dropped_to());
        let generation = generation.number;
        if dump < dropped_to {
            return Err(Error::RecordsDropped { path, generation, dump, dropped_to });
        }
        if log.numbering() == Numbering::Own && dump > log.position() {
            let behind = Error::LogBehind { path, log: log.position(), catalog: dump, generation };
            // What is logged from now on is behind the generation's position, and so is never taken for what
            // it has.
            log.skip_to(dump);
            return Err(behind);
        }
        Ok(())
    }

    /// Reads all of a generation, so that its pages are in memory, checks it, and searches it once or twice.
    fn open(&self, generation: &Generation) -> Result<Index> {
        let (path, fingerprint) = self.serving.catalog.file_of(generation, self.serving.shard)?;
        let _span = info_span!("open", number = generation.number).entered();
        let index = open_published(&path, fingerprint, self.open)?;
        index.verify_unless(&|| self.serving.is_shutting_down(), |_| ())?;
        for (_, row) in index.iter().take(SELF_CHECKS) {
            index.search(&row, SELF_CHECKS)?;
        }
        Ok(index)
    }
}

/// How generations come to serve, each under its changes in the log.
impl Follower {
    /// Serves these generations, each under the changes in the log that its dump does not have.
    ///
    /// The log is read without the writer. What was logged meanwhile is laid over in a second round, and what
    /// was logged during that, which is little, under the writer's lock.
    fn install(&self, chosen: &[Arc<Held>], list: &List) -> Result<Replay> {
        let before = self.serving.views();
        let serves = |held: &Arc<Held>, views: &[Arc<View>]| {
            views.iter().find(|view| Arc::ptr_eq(&view.held, held)).cloned()
        };
        let replay = self.read_log()?;
        let new = chosen.iter().filter(|held| serves(held, &before).is_none());
        let mut new: Vec<Arc<View>> = new.map(|held| replayed(held, &replay.records)).collect();
        let mut seen = replay.snapshot.clone();
        let mut later = Vec::new();
        let mut catch_up = |now: Option<Snapshot>| -> Result<()> {
            if let (Some(seen), Some(now)) = (&mut seen, now) {
                let records = now.since(seen)?;
                new.iter_mut().for_each(|view| *view = with_records(view, &records));
                *seen = now;
                later.extend(records);
            }
            Ok(())
        };
        catch_up(self.snapshot())?;
        let mut writer = locked(&self.writer);
        catch_up(writer.log.as_ref().map(|log| log.snapshot()))?;
        let now = self.serving.views();
        let view = |held| serves(held, &now).or_else(|| serves(held, &new)).expect("a view of each");
        let views: Vec<_> = chosen.iter().map(view).collect();
        let mut waiting = Waiting::default();
        let records = replay.records.iter().chain(&later).map(|record| &record.change);
        waiting.add(records, &known(&views, &list.retired));
        writer.install(&self.serving, views, waiting, &list.retired);
        Ok(replay)
    }

    fn snapshot(&self) -> Option<Snapshot> {
        locked(&self.writer).log.as_ref().map(|log| log.snapshot())
    }

    fn read_log(&self) -> Result<Replay> {
        let snapshot = self.snapshot();
        let records = snapshot.as_ref().map_or(Ok(Vec::new()), Snapshot::read)?;
        self.check_shard(&records)?;
        Ok(Replay { snapshot, records })
    }

    /// Refuses the log of another shard.
    fn check_shard(&self, records: &[Record]) -> Result<()> {
        let shard = self.serving.shard;
        let Some(record) = records.iter().find(|record| !shard.holds(record.change.id())) else {
            return Ok(());
        };
        let path = locked(&self.writer).log.as_ref().map(|log| log.path().to_owned()).unwrap_or_default();
        let problem = format!(
            "item {} at position {} does not belong to shard {shard}; this is the log of another shard, or of \
             another number of them",
            record.change.id(),
            record.position
        );
        Err(Error::BadShards { path, problem })
    }

    /// Writes the log anew without what nobody needs. Where that fails, the log goes on as it is.
    fn compact(&self, replay: Replay, floor: u64) {
        if let Err(error) = self.try_compact(replay, floor) {
            warn!(%error, "cannot drop old records of the log; it will be tried again when it has grown");
        }
        if let Some(log) = &mut locked(&self.writer).log {
            log.set_compacted();
        }
    }

    fn try_compact(&self, replay: Replay, floor: u64) -> Result<()> {
        let replay = match replay.snapshot {
            Some(_) => replay,
            None => self.read_log()?,
        };
        let Some(snapshot) = replay.snapshot else { return Ok(()) };
        let Some(mut rewrite) = snapshot.compacted(replay.records, floor, self.retention)? else {
            return Ok(());
        };
        self.snapshot().map_or(Ok(()), |now| rewrite.catch_up(&now))?;
        let mut writer = locked(&self.writer);
        let replaced = writer.log.as_mut().map_or(Ok(()), |log| log.replace(rewrite));
        writer.tell(&self.serving);
        replaced
    }
}

/// Whether something may go better the next time.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::LogReplaced { .. } | Error::Closed)
}
