use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::view::View;
use crate::eval::recall;
use crate::{Hit, SearchOptions};

/// Searches that the recall of a generation is the mean of.
const KEPT: usize = 500;

/// The thread rests so many times as long as an exact answer took: it takes a twentieth of a core at most.
const REST: u32 = 19;

/// Hands a share of the searches to a thread that compares them with the exact answer.
pub(super) struct Sampler {
    /// One search in so many.
    every: u64,
    samples: Sender<Sample>,
}

struct Sample {
    view: View,
    user: Vec<f32>,
    hits: Vec<Hit>,
    k: usize,
}

/// The recall of sampled searches, the latest of them.
#[derive(Default)]
pub(super) struct Recalls(Mutex<VecDeque<f64>>);

impl Recalls {
    fn push(&self, recall: f64) {
        let mut recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if recalls.len() == KEPT {
            recalls.pop_front();
        }
        recalls.push_back(recall);
    }

    /// Their mean and number; none where there are none.
    pub fn mean(&self) -> Option<(f64, usize)> {
        let recalls = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (!recalls.is_empty()).then(|| (recalls.iter().sum::<f64>() / recalls.len() as f64, recalls.len()))
    }
}

impl Sampler {
    /// Starts the thread, which ends when the last generation that offers to it is gone.
    pub fn start(share: f64) -> std::io::Result<Sampler> {
        let (samples, receiver) = bounded(1);
        thread::Builder::new().name("itemdex-recall".to_owned()).spawn(move || run(&receiver))?;
        Ok(Sampler { every: (1.0 / share).round().max(1.0) as u64, samples })
    }

    /// Takes the search if it is one of the share, unless the thread is still busy with another.
    pub fn offer(&self, number: u64, user: &[f32], hits: &[Hit], k: usize, view: &View) {
        if number.is_multiple_of(self.every) && !self.samples.is_full() {
            let sample = Sample { view: view.clone(), user: user.to_vec(), hits: hits.to_vec(), k };
            let _ = self.samples.try_send(sample);
        }
    }
}

fn run(samples: &Receiver<Sample>) {
    for Sample { view, user, hits, k } in samples {
        let started = Instant::now();
        if let Ok(exact) = view.find(&user, &SearchOptions::new(k).recall(1.0)) {
            view.held.recalls.push(recall(&exact.hits, &hits));
        }
        drop(view);
        thread::sleep(started.elapsed() * REST);
    }
}
