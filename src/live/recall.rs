//! Recall in service: a thread compares a share of the searches with the exact answer.

use std::io;
use std::thread;
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};

use super::view::{Sample, Sampling};
use crate::eval::recall;
use crate::{Found, SearchOptions};

/// The thread rests so many times as long as an exact answer took: it takes a twentieth of a core at most.
const REST: u32 = 19;

/// Starts the thread, which ends when nobody has the sampling any more.
pub(super) fn sample(share: f64) -> io::Result<Sampling> {
    let (samples, receiver) = bounded(1);
    thread::Builder::new().name("itemdex-recall".to_owned()).spawn(move || run(&receiver))?;
    Ok(Sampling { every: (1.0 / share).round().max(1.0) as u64, samples })
}

fn run(samples: &Receiver<Sample>) {
    for Sample { view, user, hits, k } in samples {
        let started = Instant::now();
        let mut exact = Found::default();
        if view.find(&user, &SearchOptions::new(k).recall(1.0), &mut exact).is_ok() {
            view.held.recalls.push(recall(&exact.hits, &hits));
        }
        drop(view);
        thread::sleep(started.elapsed() * REST);
    }
}
