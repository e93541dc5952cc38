//! Changes on their way: into the log, then into the overlays, then before readers.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use tracing::{error, warn};

use super::catalog::List;
use super::log::{Change, Log, Record};
use super::overlay::{Fresh, Overlay};
use super::serving::Serving;
use super::view::{Held, View};
use crate::{Error, Result};

/// Changes that share a sync at most.
const GROUP: usize = 512;

/// A warning comes when an overlay is so full, in tenths of its limit.
const WARN_AT: usize = 7;

/// How long to wait for changes where nothing is to be synced.
const IDLE: Duration = Duration::from_secs(3600);

/// A change, and whom to tell.
pub(super) struct Request {
    pub change: Change,
    pub reply: Sender<Result<u64>>,
}

/// What changes what serves, one at a time.
pub(super) struct Writer {
    pub log: Option<Log>,
    limit: usize,
    /// Upserts of model versions that nobody serves yet.
    pub waiting: usize,
    /// Whether the warning was given since there was room.
    warned: bool,
}

impl Writer {
    pub fn new(log: Option<Log>, limit: usize) -> Writer {
        Writer { log, limit, waiting: 0, warned: false }
    }

    /// Serves these generations, each under the changes in the log that its dump does not have.
    pub fn install(&mut self, serving: &Serving, held: &[Arc<Held>], list: &List) -> Result<()> {
        let before = serving.views();
        let same = |held: &Arc<Held>| before.iter().find(|view| Arc::ptr_eq(&view.held, held)).cloned();
        let records = match &self.log {
            Some(log) if held.iter().any(|held| same(held).is_none()) => log.records()?,
            _ => Vec::new(),
        };
        let view = |held| same(held).unwrap_or_else(|| replayed(held, &records));
        serving.serve(held.iter().map(view).collect());
        if let Some(log) = &mut self.log
            && let Err(error) = log.compact(list)
        {
            warn!(%error, "cannot drop old records of the log; it will be tried with the next generation");
        }
        if let Some(log) = &self.log {
            let waits = |record: &Record| match &record.change {
                Change::Upsert { model_version, .. } => {
                    held.iter().all(|one| one.index.model_version() != model_version)
                }
                Change::Delete { .. } => false,
            };
            self.waiting = log.records()?.iter().filter(|record| waits(record)).count();
        }
        self.warned = false;
        Ok(())
    }

    /// Logs changes together and serves them.
    fn write(&mut self, serving: &Serving, requests: Vec<Request>) {
        let before = serving.views();
        let room = |view: &Arc<View>| self.limit.saturating_sub(view.overlay.items);
        let mut rooms: Vec<usize> = before.iter().map(room).collect();
        let mut room_waiting = self.limit.saturating_sub(self.waiting);
        let (mut accepted, mut waiting) = (Vec::new(), 0);
        for request in requests {
            // Where the change takes a place: an upsert with its model version, a deletion with all.
            let serves = |view: &Arc<View>| match &request.change {
                Change::Upsert { model_version, .. } => view.model_version() == model_version,
                Change::Delete { .. } => true,
            };
            let mut places: Vec<&mut usize> = rooms
                .iter_mut()
                .zip(&*before)
                .filter(|(_, view)| serves(view))
                .map(|(room, _)| room)
                .collect();
            let waits = places.is_empty();
            if waits {
                places.push(&mut room_waiting);
            }
            if places.iter().any(|places| **places == 0) {
                let _ = request.reply.send(Err(Error::OverlayFull { limit: self.limit }));
                continue;
            }
            places.into_iter().for_each(|places| *places -= 1);
            waiting += usize::from(waits);
            accepted.push(request);
        }
        let Some(log) = self.log.as_mut().filter(|_| !accepted.is_empty()) else { return };
        let first = match log.append(accepted.iter().map(|request| &request.change)) {
            Ok(first) => first,
            Err(error) => {
                error!(%error, "cannot log fresh items");
                accepted.iter().for_each(|request| drop(request.reply.send(Err(again(&error)))));
                return;
            }
        };
        self.waiting += waiting;
        let with = |view: &Arc<View>| {
            let changes =
                accepted.iter().filter_map(|request| concerning(view.model_version(), &request.change));
            laid_over(&view.held, &view.overlay, changes)
        };
        let views: Vec<_> = before.iter().map(with).collect();
        let fullest = views.iter().map(|view| view.overlay.items).max().unwrap_or(0);
        serving.serve(views);
        for (position, request) in (first..).zip(&accepted) {
            let _ = request.reply.send(Ok(position));
        }
        if fullest.max(self.waiting) * 10 >= self.limit * WARN_AT && !self.warned {
            let limit = self.limit;
            warn!(fresh = fullest, limit, "the overlay fills up; publish a generation with its log position");
            self.warned = true;
        }
        if log.has_grown()
            && let Err(error) = serving.catalog.read().and_then(|list| log.compact(&list))
        {
            warn!(%error, "cannot drop superseded records of the log");
        }
    }
}

pub(super) fn locked(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Takes changes until nobody can send any, each with those that came while the ones before were synced.
pub(super) fn run(serving: &Serving, writer: &Mutex<Writer>, requests: &Receiver<Request>) {
    loop {
        let due = locked(writer).log.as_ref().and_then(Log::sync_due);
        match requests.recv_timeout(due.unwrap_or(IDLE)) {
            Ok(first) => {
                let mut group = vec![first];
                group.extend(requests.try_iter().take(GROUP - 1));
                locked(writer).write(serving, group);
            }
            Err(RecvTimeoutError::Timeout) => sync(writer),
            Err(RecvTimeoutError::Disconnected) => return sync(writer),
        }
    }
}

fn sync(writer: &Mutex<Writer>) {
    if let Some(log) = &mut locked(writer).log
        && log.sync_due().is_some()
        && let Err(error) = log.sync()
    {
        error!(%error, "cannot sync the log of fresh items");
    }
}

/// A generation under those changes of the log that its dump does not have.
fn replayed(held: &Arc<Held>, records: &[Record]) -> Arc<View> {
    let had = held.generation.log_position.unwrap_or(0);
    let later = records.iter().filter(|record| record.position > had);
    let changes = later.filter_map(|record| concerning(held.index.model_version(), &record.change));
    laid_over(held, &Overlay::default(), changes)
}

fn laid_over(held: &Arc<Held>, overlay: &Overlay, changes: impl Iterator<Item = Fresh>) -> Arc<View> {
    let dim = held.index.dim();
    let fits = |fresh: &Fresh| {
        let fits = fresh.embedding.as_ref().is_none_or(|embedding| embedding.len() == dim);
        if !fits {
            warn!(id = fresh.id, dim, "left out a fresh item of another dim than its model version has");
        }
        fits
    };
    let overlay = overlay.with(changes.filter(fits), dim, |id| held.index.contains(id));
    Arc::new(View { held: Arc::clone(held), overlay })
}

/// What a change means for a model version.
fn concerning(model_version: &str, change: &Change) -> Option<Fresh> {
    match change {
        Change::Upsert { model_version: of, id, embedding } => {
            (of == model_version).then(|| Fresh { id: *id, embedding: Some(embedding.clone()) })
        }
        Change::Delete { id } => Some(Fresh { id: *id, embedding: None }),
    }
}

/// The error of a group, for each of it.
fn again(error: &Error) -> Error {
    match error {
        Error::Io { action, path, cause } => {
            Error::Io { action, path: path.clone(), cause: io::Error::new(cause.kind(), cause.to_string()) }
        }
        other => unreachable!("writing a log fails with {other}"),
    }
}
