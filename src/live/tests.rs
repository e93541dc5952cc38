//! What only a test inside of the crate can bring about: a writer that is held, a sync that fails.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tempfile::TempDir;

use super::faults::armed;
use super::fresh::locked;
use super::{Catalog, Change, LiveIndex, LiveOptions, PublishOptions, SyncPolicy};
use crate::{Error, IndexBuilder};

struct Place {
    folder: TempDir,
    catalog: Catalog,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
        let build = |path: &Path| IndexBuilder::new("v1").threads(1).build_from([(7, [1.0, 0.5])], path);
        catalog.publish_made(build, &PublishOptions::new()).unwrap();
        Place { folder, catalog }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("fresh.log")
    }

    fn open(&self, sync: SyncPolicy) -> LiveIndex {
        let options = LiveOptions::new().poll(Duration::from_secs(3600)).log(self.log()).sync(sync);
        options.open(self.catalog.folder()).unwrap()
    }
}

#[test]
fn the_status_waits_for_nobody_who_writes() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Always);
    live.delete(7).unwrap();
    let writer = locked(&live.writer);
    let status = live.status();
    assert_eq!((status.log_position, status.generations[0].items), (Some(1), 0));
    drop(writer);
}

#[test]
fn a_queue_that_is_full_refuses_who_would_not_wait() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Never);
    let writer = locked(&live.writer);
    let mut sent = Vec::new();
    let refused = loop {
        match live.try_send(Change::upsert("v1", sent.len() as u64, [1.0, 0.0])) {
            Ok(pending) => sent.push(pending),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::QueueFull { .. }) && sent.len() >= 1024, "{refused}");
    drop(writer);
    let count = sent.len();
    for (number, pending) in sent.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap().position, number as u64 + 1);
    }
    assert!(live.current().len() >= count);
}

/// Wakes the thread that runs a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        thread::park();
    }
}

#[test]
fn changes_can_be_awaited() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Always);
    let answer = block_on(async {
        let first = live.try_send(Change::upsert("v1", 8, [1.0, 0.0]))?.await?;
        let second = live.try_send(vec![Change::delete(7), Change::delete(8)])?.await?;
        assert!(first.position == 1 && live.current().is_empty());
        Ok::<_, Error>(second)
    });
    let answer = answer.unwrap();
    assert_eq!((answer.position, answer.applied), (3, 2));
}

#[test]
fn shutting_down_does_not_wait_for_a_generation_that_is_being_read() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Always);
    let serving = Arc::clone(&live.serving);
    let (begun, (done, wait)) = (channel(), channel::<()>());
    let reading = thread::spawn(move || {
        serving.opening(|| {
            begun.0.send(()).unwrap();
            let _ = wait.recv();
        })
    });
    begun.1.recv().unwrap();
    drop(live);
    // The log is free for the next process, whatever is still read.
    let next = place.open(SyncPolicy::Always);
    assert!(next.serving.opening(|| ()).is_some());
    drop(done);
    reading.join().unwrap();
}

#[test]
fn after_a_sync_that_failed_the_log_is_written_anew() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Every(Duration::from_secs(3600)));
    live.upsert("v1", 1, &[1.0, 1.0]).unwrap();
    let before = fs::metadata(place.log()).unwrap().ino();
    armed::fail_syncs(place.folder.path(), 1);
    let failed = locked(&live.writer).log.as_mut().unwrap().sync();
    assert!(matches!(failed, Err(Error::Io { action: "sync", .. })));
    // What the system gave up on writing it would not write at the next sync.
    live.upsert("v1", 2, &[2.0, 2.0]).unwrap();
    assert_ne!(fs::metadata(place.log()).unwrap().ino(), before);
    armed::mend(place.folder.path());
    drop(live);
    let live = place.open(SyncPolicy::Always);
    assert!(live.current().contains(1) && live.current().contains(2));
}

#[test]
fn a_change_that_could_not_be_synced_is_refused_and_said_in_the_status() {
    let place = Place::new();
    let live = place.open(SyncPolicy::Always);
    armed::fail_syncs(place.folder.path(), 2);
    for _ in 0..2 {
        assert!(matches!(live.delete(7), Err(Error::Io { .. })));
        assert!(live.current().contains(7) && live.status().log_error.unwrap().contains("made to fail"));
    }
    live.delete(7).unwrap();
    assert_eq!((live.status().log_error, live.current().contains(7)), (None, false));
    armed::mend(place.folder.path());
}
