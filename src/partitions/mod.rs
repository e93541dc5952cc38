//! Partitions: rows cluster by cluster, what is known of each cluster, and codes of the rows.
//!
//! - [`Clustering`] puts rows in order; the file has them so.
//! - [`OwnedPartitions`] makes the sections, and [`Partitions`] is a view of them.
//! - `model` tells by the moments of the clusters which of them to read for a user.
//! - [`Searched::search`] reads the codes of their rows and scores the best by their embeddings;
//!   [`Searched::search_exactly`] proves that no other row is better.
//! - [`calibrate`] measures how far to go for a recall, and [`Calibration`] keeps it.
//!
//! Compare ScaNN (Guo et al., ICML 2020), which chooses clusters by their centroids alone.

mod bounds;
mod build;
mod calibrate;
mod calibration;
mod check;
mod cluster;
mod encode;
mod limit;
mod margin;
mod model;
mod score;
mod search;
mod select;
#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::thread;

pub(crate) use build::OwnedPartitions;
pub(crate) use calibrate::{BEGINNING, calibrate, measuring};
pub(crate) use calibration::{Calibration, Effort, Limits};
pub(crate) use cluster::Clustering;
pub(crate) use margin::margin;
pub(crate) use search::{Aim, Among, Scratch, Searched, Wanted};

use bytemuck::{Pod, Zeroable};

use crate::vectors::kernels::codes::block_bytes;
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride};
use crate::vectors::kernels::ones::ones;

/// A lane each for sixteen clusters.
pub(crate) type Lanes = [f32; LANES];

/// Sixteen clusters: where their rows and blocks are, and the scales of their moments.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq)]
#[repr(C)]
pub(crate) struct Group {
    /// The first row of each, and how many there are; 0 in lanes that are not used.
    pub starts: [u32; LANES],
    pub counts: [u32; LANES],
    /// The first block of codes.
    pub blocks: [u32; LANES],
    /// Of the means and of the deviations.
    pub mean_scales: [f32; LANES],
    pub deviation_scales: [f32; LANES],
    /// The L2 norm of the mean.
    pub norms: [f32; LANES],
    /// The largest L2 norm that the codes of a row stand for, each coordinate in its unit.
    pub reaches: [f32; LANES],
}

/// How many bytes the parts of the sections take.
pub(crate) struct SectionSizes {
    /// A group of clusters.
    pub group: u64,
    /// The moments of a group.
    pub moments: u64,
    /// A block of codes.
    pub block: u64,
}

/// The sizes for embeddings of `dim`.
pub(crate) fn section_sizes(dim: usize) -> SectionSizes {
    SectionSizes {
        group: size_of::<Group>() as u64,
        moments: (2 * LANES * interleaved_stride(dim)) as u64,
        block: block_bytes(dim) as u64,
    }
}

/// A view of the partitions of an index; the default has none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Partitions<'a> {
    pub groups: &'a [Group],
    /// For each group, interleaved: the means, each 128 above its `i8` value, and the variances.
    pub moments: &'a [u8],
    /// The unit of each coordinate of the codes.
    pub units: &'a [f32],
    pub codes: &'a [u8],
}

/// How many clusters so many rows are parted into, if there are as many rows: at least two.
///
/// With more of them a search reads fewer rows and asks the model about more clusters. Together that takes least near
/// the root of the rows, times the root of what a row takes beside a cluster. Both take more at larger dims, and neither
/// takes nothing at small ones.
pub(crate) fn clusters_for(rows: usize, dim: usize) -> usize {
    let dim = dim as f64;
    ((5.0 * rows as f64 * (dim + 8.0) / (dim + 108.0)).sqrt() as usize).max(2)
}

impl<'a> Partitions<'a> {
    /// How many there are; some may have no rows.
    fn clusters(&self) -> u32 {
        (self.groups.len() * LANES) as u32
    }

    /// How many clusters have rows.
    pub fn len(&self) -> usize {
        self.groups.iter().flat_map(|group| group.counts).filter(|&count| count > 0).count()
    }

    /// The group of a cluster, and its lane there.
    fn place(&self, cluster: u32) -> (&'a Group, usize) {
        (&self.groups[cluster as usize / LANES], cluster as usize % LANES)
    }

    /// Counts the rows of each cluster whose bits are set.
    pub fn count(&self, words: &[u64], counts: &mut [Lanes]) {
        for (group, counts) in self.groups.iter().zip(counts) {
            *counts = ones(words, &group.starts, &group.counts);
        }
    }

    pub fn count_all(&self, words: &[u64]) -> Vec<Lanes> {
        let mut counts = vec![[0.0; LANES]; self.groups.len()];
        self.count(words, &mut counts);
        counts
    }

    /// Leaves of ascending clusters those whose rows follow those of the others, as they do in a sound file:
    /// so no row is found twice.
    fn drop_overlaps(&self, clusters: &mut Vec<u32>) {
        let mut end = 0;
        clusters.retain(|&cluster| {
            let (group, lane) = self.place(cluster);
            let start = group.starts[lane];
            let follows = start >= end;
            end = if follows { start.saturating_add(group.counts[lane]) } else { end };
            follows
        });
    }
}

/// Does `work` on each of `items`, which threads take as they are free.
fn in_shares<T: Send>(items: &mut [T], threads: usize, work: impl Fn(&mut T) + Sync) {
    if threads == 1 {
        return items.iter_mut().for_each(work);
    }
    let left = Mutex::new(items.iter_mut());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = { left.lock().expect("work does not panic").next() } {
                    work(item);
                }
            });
        }
    });
}
