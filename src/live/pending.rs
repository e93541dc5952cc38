//! The answer to changes that are on their way into the log.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::{Error, Result};

/// What became of a batch of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The position of the last change in the log: that of the batch's last change where all were new.
    pub position: u64,
    /// Changes that were logged, and that every view handed out from now on has.
    pub applied: usize,
    /// Changes at positions that the log has come to before. A retry finds all of them so.
    pub already_there: usize,
    /// Upserts of retired model versions, which were not logged.
    pub retired: usize,
    /// Changes of items that belong to other shards, which were not logged
    /// ([`LiveOptions::shard`](super::LiveOptions::shard)).
    pub elsewhere: usize,
}

/// Changes on their way into the log: wait for them with [`Pending::wait`], or await them in an async
/// program.
///
/// Any executor will do. The changes are logged whether or not anybody waits. A future that was ready stays
/// pending when it is polled again.
#[must_use = "the changes may be refused; wait for them, or await them"]
pub struct Pending(Arc<Slot>);

/// Answers once; dropped without an answer, it says that the thread ended.
pub(super) struct Reply(Arc<Slot>);

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Result<Applied>>,
    answered: bool,
    waker: Option<Waker>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn answer(&self, answer: Result<Applied>) {
        let waker = {
            let mut state = self.state();
            if state.answered {
                return;
            }
            (state.answer, state.answered) = (Some(answer), true);
            state.waker.take()
        };
        self.answered.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A question and its answer to be.
pub(super) fn pending() -> (Reply, Pending) {
    let slot = Arc::<Slot>::default();
    (Reply(Arc::clone(&slot)), Pending(slot))
}

impl Reply {
    pub fn send(&self, answer: Result<Applied>) {
        self.0.answer(answer);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.answer(Err(Error::Closed));
    }
}

impl Pending {
    /// Waits until the changes are logged and seen by requests, or refused.
    ///
    /// # Errors
    /// As [`LiveIndex::send`](super::LiveIndex::send).
    pub fn wait(self) -> Result<Applied> {
        let mut state = self.0.state();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            state = self.0.answered.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Future for Pending {
    type Output = Result<Applied>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Applied>> {
        let mut state = self.0.state();
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
