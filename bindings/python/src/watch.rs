//! Long work: interrupts and progress while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use itemdex::Progress;
use pyo3::prelude::*;

/// How soon an interrupt is noticed where the work says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What work is given: where to report its progress, and the flag that has it stop.
pub struct Reins {
    pub report: Box<dyn Fn(Progress) + Send + Sync>,
    pub cancel: Arc<AtomicBool>,
}

/// Runs `work` on a thread of its own, without the GIL. This thread meanwhile calls `progress` with the
/// stage, what is done and what there is to do, and looks for interrupts. An exception of either stops the
/// work and is raised.
pub fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(Reins) -> PyResult<T> + Send,
) -> PyResult<T> {
    let (sender, received) = channel();
    let cancel = Arc::new(AtomicBool::new(false));
    let report = Box::new(move |progress| _ = sender.send(progress));
    let reins = Reins { report, cancel: Arc::clone(&cancel) };
    py.detach(move || {
        thread::scope(|scope| {
            let working = scope.spawn(move || work(reins));
            let watched = watch(&received, progress.as_ref());
            cancel.store(watched.is_err(), Ordering::Relaxed);
            let done = working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            watched.and(done)
        })
    })
}

/// Returns when the work is done, or with what stopped the watch.
fn watch(received: &Receiver<Progress>, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    loop {
        match received.recv_timeout(LOOK_EVERY) {
            Ok(first) => tell(newest(first, received), progress)?,
            Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals())?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// The last that has come of each stage.
fn newest(first: Progress, received: &Receiver<Progress>) -> Vec<Progress> {
    let mut newest = vec![first];
    for progress in received.try_iter() {
        match newest.last_mut().filter(|last| last.stage == progress.stage) {
            Some(last) => *last = progress,
            None => newest.push(progress),
        }
    }
    newest
}

fn tell(reports: Vec<Progress>, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        let Some(progress) = progress else { return Ok(()) };
        for report in reports {
            progress.call1(py, (report.stage.name(), report.done, report.total))?;
        }
        Ok(())
    })
}
