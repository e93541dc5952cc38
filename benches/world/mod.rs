//! Generated items and users, for all benchmarks.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::path::Path;

pub use common::Items;
use common::Random;
use itemdex::IndexBuilder;

pub const DIM: usize = 64;
const TOPICS: usize = 200;
pub const USERS: usize = 256;

/// Embeddings around topics, items with uneven norms, users as a mixture of two topics.
pub struct World {
    pub random: Random,
    topics: Vec<Vec<f32>>,
}

impl World {
    pub fn new() -> World {
        let mut random = Random(7);
        let topics = (0..TOPICS).map(|_| random.embedding(DIM)).collect();
        World { random, topics }
    }

    fn near(&mut self, topic: usize, noise: f32) -> Vec<f32> {
        let jitter = self.random.embedding(DIM);
        self.topics[topic].iter().zip(jitter).map(|(centre, jitter)| centre + noise * jitter).collect()
    }

    pub fn items(&mut self, rows: usize) -> Items {
        let item = |row| {
            let topic = self.random.below(TOPICS);
            let norm = (0.3 * self.random.normal()).exp();
            let embedding = self.near(topic, 0.7).iter().map(|value| value * norm).collect();
            (row as u64 * 7919, embedding)
        };
        (0..rows).map(item).collect()
    }

    pub fn users(&mut self, rows: usize) -> Vec<Vec<f32>> {
        let user = |_| {
            let (first, second) = (self.random.below(TOPICS), self.random.below(TOPICS));
            self.near(first, 0.5).iter().zip(self.near(second, 0.5)).map(|(a, b)| a + 0.5 * b).collect()
        };
        (0..rows).map(user).collect()
    }
}

pub fn build(builder: IndexBuilder, items: &Items, path: &Path) {
    builder.build_from(items.iter().map(|(id, row)| (*id, row)), path).unwrap();
}
