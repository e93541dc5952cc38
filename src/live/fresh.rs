//! Changes on their way: into the log, then into the overlays, then before readers.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tracing::{error, warn};

use super::change::{Batch, Change, Changes};
use super::log::{Log, Record};
use super::overlay::{Item, Known, Overlay};
use super::pending::{Applied, Reply};
use super::serving::Serving;
use super::view::{Held, View};
use crate::assignment::Shard;
use crate::columns::{Columns, Values};
use crate::ids::NONE;
use crate::{Error, Result};

/// Changes that share a sync at most, unless one batch has more.
const GROUP: usize = 512;

/// A warning comes when an overlay is so full, in tenths of its limit.
const WARN_AT: usize = 7;

/// How long to wait for changes where nothing is to be synced.
const IDLE: Duration = Duration::from_secs(3600);

/// A batch, and whom to tell what became of it.
pub(super) struct Request {
    pub batch: Batch,
    pub reply: Reply,
}

/// What changes what serves, one change at a time. It is held over a write and its sync, and over nothing
/// longer.
pub(super) struct Writer {
    /// None without one, and once the process shuts down.
    pub log: Option<Log>,
    /// Changes of other items are left out.
    pub shard: Shard,
    limit: usize,
    waiting: Waiting,
    /// Model versions that were in the catalog and are not any more.
    retired: Vec<String>,
    /// Whether the warning was given since there was room.
    warned: bool,
}

/// Items of model versions that nobody serves yet.
#[derive(Default)]
pub(super) struct Waiting(HashMap<String, HashSet<u64>>);

impl Waiting {
    pub fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }

    /// Takes up the upserts among these records whose model version is not one of `known`.
    pub fn add<'a>(&mut self, records: impl Iterator<Item = &'a Change>, known: &[&str]) {
        for change in records {
            if let Change::Upsert { model_version, id, .. } = change
                && !known.contains(&&**model_version)
            {
                self.0.entry(model_version.clone()).or_default().insert(*id);
            }
        }
    }
}

/// The new places that the batches of one write take, by model version.
#[derive(Default)]
struct Taken<'a> {
    ids: HashMap<&'a str, HashSet<u64>>,
    /// Those of the batch at hand, which gives them back if it is refused.
    of_batch: Vec<(&'a str, u64)>,
}

impl Taken<'_> {
    fn give_back(&mut self) {
        for (version, id) in self.of_batch.drain(..) {
            self.ids.entry(version).or_default().remove(&id);
        }
    }
}

impl Writer {
    pub fn new(log: Option<Log>, shard: Shard, limit: usize) -> Writer {
        let (waiting, retired) = (Waiting::default(), Vec::new());
        Writer { log, shard, limit, waiting, retired, warned: false }
    }

    /// Serves these views from now on.
    pub fn install(
        &mut self,
        serving: &Serving,
        views: Vec<Arc<View>>,
        waiting: Waiting,
        retired: &[String],
    ) {
        serving.serve(views);
        (self.waiting, self.retired, self.warned) = (waiting, retired.to_vec(), false);
        self.tell(serving);
    }

    /// Says in the status where the log stands.
    pub fn tell(&self, serving: &Serving) {
        if let Some(log) = &self.log {
            let mut health = serving.health();
            let told = health.log.get_or_insert_default();
            (told.position, told.dropped_to) = (log.position(), log.dropped_to());
            told.waiting = self.waiting.len();
        }
    }

    /// Logs batches together and serves them.
    fn write(&mut self, serving: &Serving, requests: Vec<Request>) {
        let views = serving.views();
        let Some(log) = &self.log else { return };
        let (mut last, mut taken) = (log.position(), Taken::default());
        let (mut changes, mut accepted) = (Vec::new(), Vec::new());
        for Request { batch, reply } in &requests {
            taken.of_batch.clear();
            match self.admit(batch, last, &views, &mut taken) {
                Ok((admitted, applied)) => {
                    last = applied.position;
                    changes.extend(admitted);
                    accepted.push((reply, applied));
                }
                Err(error) => {
                    taken.give_back();
                    reply.send(Err(error));
                }
            }
        }
        if !changes.is_empty() && !self.log_and_serve(serving, &views, &changes, &accepted) {
            return;
        }
        accepted.into_iter().for_each(|(reply, applied)| reply.send(Ok(applied)));
        self.warn_when_full(&serving.views());
    }

    /// The changes of a batch that are to be logged, with their positions, behind `last`.
    fn admit<'a>(
        &self,
        batch: &'a Batch,
        last: u64,
        views: &'a [Arc<View>],
        taken: &mut Taken<'a>,
    ) -> Result<(Vec<(u64, Change)>, Applied)> {
        let mut applied = Applied { position: last, applied: 0, already_there: 0, retired: 0, elsewhere: 0 };
        let mut admitted = Vec::new();
        let mut admit = |position, change: &'a Change| -> Result<()> {
            if !self.shard.holds(change.id()) {
                applied.elsewhere += 1;
                return Ok(());
            }
            if let Some(version) = self.retired_version(change, views) {
                applied.retired += 1;
                return match &batch.0 {
                    Changes::Own(_) => Err(Error::RetiredModel { model_version: version.to_owned() }),
                    Changes::Fed(_) => Ok(()),
                };
            }
            self.take_place(position, change, views, taken)?;
            applied.applied += 1;
            applied.position = position;
            admitted.push((position, change.clone()));
            Ok(())
        };
        match &batch.0 {
            Changes::Own(changes) => {
                (last + 1..).zip(changes).try_for_each(|(at, change)| admit(at, change))?
            }
            Changes::Fed(changes) => {
                let new = changes.partition_point(|(position, _)| *position <= last);
                changes[new..].iter().try_for_each(|(position, change)| admit(*position, change))?;
                applied.already_there = new;
            }
        }
        Ok((admitted, applied))
    }

    /// The model version of an upsert, where it is retired.
    fn retired_version<'a>(&self, change: &'a Change, views: &[Arc<View>]) -> Option<&'a str> {
        let Change::Upsert { model_version, .. } = change else { return None };
        let serves = views.iter().any(|view| view.model_version() == model_version);
        (!serves && self.retired.contains(model_version)).then_some(model_version)
    }

    /// Finds a change a place in the overlay of each model version that it is for, or among what waits for
    /// that. Deletions need none.
    fn take_place<'a>(
        &self,
        position: u64,
        change: &'a Change,
        views: &'a [Arc<View>],
        taken: &mut Taken<'a>,
    ) -> Result<()> {
        let places = |view: &View| view.overlay.items;
        match change {
            Change::Upsert { model_version, id, .. } => {
                let view = views.iter().find(|view| view.model_version() == model_version);
                match (view, self.waiting.0.get(model_version)) {
                    (Some(view), _) if position <= view.position() || view.overlay.has(*id) => Ok(()),
                    (Some(view), _) => self.take(model_version, *id, places(view), taken),
                    (None, Some(waiting)) if waiting.contains(id) => Ok(()),
                    (None, waiting) => self.take(model_version, *id, waiting.map_or(0, HashSet::len), taken),
                }
            }
            Change::SetValues { id, values } => {
                let index =
                    |view: &View| view.held.index.contains(*id) && view.held.index.columns().has_any(values);
                let new =
                    |view: &&Arc<View>| position > view.position() && !view.overlay.has(*id) && index(view);
                let mut views = views.iter().filter(new);
                views.try_for_each(|view| self.take(view.model_version(), *id, places(view), taken))
            }
            Change::Delete { .. } => Ok(()),
        }
    }

    /// Takes a place for an item that has none, where so many are taken.
    fn take<'a>(&self, model_version: &'a str, id: u64, places: usize, taken: &mut Taken<'a>) -> Result<()> {
        let new = taken.ids.entry(model_version).or_default();
        if new.contains(&id) {
            return Ok(());
        }
        if places + new.len() >= self.limit {
            let model_version = model_version.to_owned();
            return Err(Error::OverlayFull { model_version, limit: self.limit });
        }
        new.insert(id);
        taken.of_batch.push((model_version, id));
        Ok(())
    }

    /// Whether that went well; if not, all were told.
    fn log_and_serve(
        &mut self,
        serving: &Serving,
        views: &[Arc<View>],
        changes: &[(u64, Change)],
        accepted: &[(&Reply, Applied)],
    ) -> bool {
        let Some(log) = &mut self.log else { return false };
        let logged = log.append(changes);
        note(serving, &logged);
        if let Err(error) = logged {
            accepted.iter().for_each(|(reply, _)| reply.send(Err(again(&error))));
            return false;
        }
        serving.serve(views.iter().map(|view| laid_over(view, changes.iter().map(by_position))).collect());
        let known = known(views, &self.retired);
        self.waiting.add(changes.iter().map(|(_, change)| change), &known);
        self.tell(serving);
        true
    }

    fn warn_when_full(&mut self, views: &[Arc<View>]) {
        let waiting = self.waiting.0.iter().map(|(version, ids)| (&**version, ids.len()));
        let laid = views.iter().map(|view| (view.model_version(), view.overlay.items));
        let fullest = laid.chain(waiting).max_by_key(|(_, fresh)| *fresh);
        if let Some((model_version, fresh)) = fullest.filter(|(_, fresh)| fresh * 10 >= self.limit * WARN_AT)
            && !self.warned
        {
            let limit = self.limit;
            warn!(
                model_version,
                fresh, limit, "the overlay fills up; publish a generation with its log position"
            );
            self.warned = true;
        }
    }
}

/// The model versions whose upserts do not wait: those that serve, and those retired.
pub(super) fn known<'a>(views: &'a [Arc<View>], retired: &'a [String]) -> Vec<&'a str> {
    views.iter().map(|view| view.model_version()).chain(retired.iter().map(String::as_str)).collect()
}

/// Keeps for the status whether changes are logged.
fn note(serving: &Serving, logged: &Result<()>) {
    let error = logged.as_ref().err().map(Error::to_string);
    let mut health = serving.health();
    let told = health.log.get_or_insert_default();
    if let Some(error) = &error
        && told.error.as_ref() != Some(error)
    {
        error!(error, "cannot log fresh items");
    }
    told.error = error;
}

pub(super) fn locked(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Takes batches until nobody can send any, each with those that came while the ones before were synced.
/// `grown` is called when the log should be written anew.
pub(super) fn run(serving: &Serving, writer: &Mutex<Writer>, requests: &Receiver<Request>, grown: impl Fn()) {
    loop {
        let due = locked(writer).log.as_ref().and_then(Log::sync_due);
        match requests.recv_timeout(due.unwrap_or(IDLE)) {
            Ok(first) => {
                let mut changes = first.batch.len();
                let mut group = vec![first];
                while changes < GROUP
                    && let Ok(next) = requests.try_recv()
                {
                    changes += next.batch.len();
                    group.push(next);
                }
                let mut writer = locked(writer);
                writer.write(serving, group);
                if writer.log.as_ref().is_some_and(Log::has_grown) {
                    grown();
                }
            }
            Err(RecvTimeoutError::Timeout) => sync(serving, writer),
            Err(RecvTimeoutError::Disconnected) => return sync(serving, writer),
        }
    }
}

fn sync(serving: &Serving, writer: &Mutex<Writer>) {
    if let Some(log) = &mut locked(writer).log
        && log.sync_due().is_some()
    {
        note(serving, &log.sync());
    }
}

/// A generation under those of these records that its dump does not have.
pub(super) fn replayed(held: &Arc<Held>, records: &[Record]) -> Arc<View> {
    let bare = View { held: Arc::clone(held), overlay: Overlay::default() };
    with_records(&bare, records)
}

/// A view with later records.
pub(super) fn with_records(view: &View, records: &[Record]) -> Arc<View> {
    laid_over(view, records.iter().map(|record| (record.position, &record.change)))
}

fn by_position((position, change): &(u64, Change)) -> (u64, &Change) {
    (*position, change)
}

/// A view with those of later changes that the dump of its generation does not have.
fn laid_over<'a>(view: &View, changes: impl Iterator<Item = (u64, &'a Change)>) -> Arc<View> {
    let mut newest = HashMap::new();
    for (position, change) in changes {
        if position > view.position() {
            lay(view, change, &mut newest);
        }
    }
    let map = view.held.index.ranking().map;
    let overlay = view.overlay.with(&newest, view.dim(), |id| map.row(id).unwrap_or(NONE));
    Arc::new(View { held: Arc::clone(&view.held), overlay })
}

/// Notes what a change makes of an item of a view, after those in `newest`.
fn lay(view: &View, change: &Change, newest: &mut HashMap<u64, Option<Item>>) {
    let columns = view.held.index.columns();
    match change {
        Change::Upsert { model_version, id, embedding, values } if model_version == view.model_version() => {
            if embedding.len() == view.dim() {
                let item = item(columns, embedding.clone(), columns.fitted(values));
                newest.insert(*id, Some(item));
            } else {
                let dim = view.dim();
                warn!(id, dim, "left out a fresh item of another dim than its model version has");
            }
        }
        Change::Upsert { .. } => {}
        Change::SetValues { id, values } if columns.has_any(values) => {
            let before = match newest.get(id) {
                Some(item) => item.as_ref().map(|item| (item.embedding.clone(), item.known.values.clone())),
                None => view.get(*id).map(Cow::into_owned).zip(view.values(*id)),
            };
            if let Some((embedding, mut merged)) = before {
                columns.replace(&mut merged, values);
                newest.insert(*id, Some(item(columns, embedding, merged)));
            }
        }
        Change::SetValues { .. } => {}
        Change::Delete { id } => drop(newest.insert(*id, None)),
    }
}

fn item(columns: Columns<'_>, embedding: Vec<f32>, values: Values) -> Item {
    let expiry = columns.expiry_of(&values);
    let known = if values.is_empty() { Known::nothing() } else { Arc::new(Known { values, expiry }) };
    Item { embedding, known }
}

/// The error of a group, for each of it.
fn again(error: &Error) -> Error {
    match error {
        Error::Io { action, path, cause } => {
            Error::Io { action, path: path.clone(), cause: io::Error::new(cause.kind(), cause.to_string()) }
        }
        Error::LogReplaced { path } => Error::LogReplaced { path: path.clone() },
        Error::Damaged { path, offset, problem } => {
            Error::Damaged { path: path.clone(), offset: *offset, problem: problem.clone() }
        }
        other => unreachable!("writing a log fails with {other}"),
    }
}
