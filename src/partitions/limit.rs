//! How much a search reads at most.
//!
//! With one `z` for all, the searches of a few users read many times as many rows as most do: their best rows are spread
//! over many clusters. A limit ends such a search, and `z` is a little lower for all in return. Lower values of `z` have
//! higher limits, so that each cluster of a user is read from some `z` on: calibration measures with that one.

use super::search::{Scratch, Searched};
use crate::vectors::kernels::codes::block_bytes;
use crate::vectors::kernels::interleaved::LANES;

/// From the first to the second, z is told apart in so many steps.
const NEAREST: f32 = 8.0;
const FARTHEST: f32 = -24.0;
pub(super) const STEPS: usize = 640;

/// A search takes no more than so many times what the search of the user in the middle takes.
const TIMES: u64 = 2;

/// A limit pays where the search of the user in the middle takes no more than so many times as long for it.
const DEARER: f64 = 1.25;

/// So many users tell who is in the middle.
const USERS: usize = 200;

/// The rows that a search reads at most, at each step of z; without values there is no limit.
#[derive(Default)]
pub(super) struct Limit(Vec<u64>);

/// The limits for each `k`.
pub(super) fn limits(searched: &Searched<'_>, users: &[&[f32]], ks: &[usize]) -> Vec<Limit> {
    let mut scratch = Scratch::default();
    let mut read = vec![Vec::new(); ks.len()];
    for user in users.iter().take(USERS) {
        scratch.model.set(&searched.partitions, user, None);
        for (read, &k) in read.iter_mut().zip(ks) {
            read.push(rows_up_to(searched, &steps(&scratch, searched.partitions.clusters(), k)));
        }
    }
    // Choosing clusters takes as long as reading so many rows: moments are read twice as fast, byte by byte.
    let chosen = (searched.partitions.moments.len() / 2 / (block_bytes(searched.rows.dim()) / LANES)) as u64;
    let most = |read: &Vec<_>, step| TIMES * (chosen + middle(read, step)) - chosen;
    read.iter().map(|read| Limit((0..STEPS).map(|step| most(read, step)).collect())).collect()
}

/// The step of each cluster's z.
pub(super) fn steps(scratch: &Scratch, clusters: u32, k: usize) -> Vec<usize> {
    let bar = scratch.model.bar(k);
    let step = |z: f32| ((NEAREST - z) / (NEAREST - FARTHEST) * STEPS as f32) as usize;
    (0..clusters).map(|cluster| step(scratch.model.z(cluster, bar)).min(STEPS - 1)).collect()
}

/// The z that is lower than that of all clusters up to a step.
pub(super) fn z_after(step: usize) -> f32 {
    NEAREST - (NEAREST - FARTHEST) * (step + 1) as f32 / STEPS as f32
}

/// The rows that the user in the middle reads up to a step.
fn middle(read: &[Vec<u64>], step: usize) -> u64 {
    let mut rows: Vec<u64> = read.iter().map(|rows| rows[step]).collect();
    let half = rows.len() / 2;
    if rows.is_empty() { 0 } else { *rows.select_nth_unstable(half).1 }
}

/// Adds to the rows of each step those of the clusters at it.
pub(super) fn add_rows(searched: &Searched<'_>, steps: &[usize], rows: &mut [u64]) {
    for (group, steps) in searched.partitions.groups.iter().zip(steps.chunks(LANES)) {
        steps.iter().zip(&group.counts).for_each(|(&step, &count)| rows[step] += u64::from(count));
    }
}

/// How many rows the clusters up to each step have.
fn rows_up_to(searched: &Searched<'_>, steps: &[usize]) -> Vec<u64> {
    let mut rows = vec![0; STEPS];
    add_rows(searched, steps, &mut rows);
    let mut sum = 0;
    for rows in &mut rows {
        sum += *rows;
        *rows = sum;
    }
    rows
}

impl Limit {
    /// The share of `rows` that a search reads at most at a step.
    pub fn share(&self, step: usize, rows: usize) -> f32 {
        self.0.get(step).map_or(1.0, |&most| (most as f64 / rows as f64).min(1.0) as f32)
    }

    /// Whether this limit pays, where searches go to the step `limited` with it and to the step `free` without.
    pub fn pays(&self, free: usize, limited: usize) -> bool {
        self.0[limited] as f64 <= DEARER * self.0[free] as f64
    }

    /// Moves each cluster of a user to the first step at which the limit allows for the rows of the clusters up to it.
    pub fn apply(&self, searched: &Searched<'_>, steps: &mut [usize]) {
        if self.0.is_empty() {
            return;
        }
        let rows = rows_up_to(searched, steps);
        let (mut allowed, mut at) = (vec![0; STEPS], 0);
        for (step, allowed) in allowed.iter_mut().enumerate() {
            at = at.max(step);
            while at < STEPS - 1 && self.0[at] < rows[step] {
                at += 1;
            }
            *allowed = at;
        }
        steps.iter_mut().for_each(|step| *step = allowed[*step]);
    }
}
