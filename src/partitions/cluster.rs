//! Which rows stand together: k-means, by the products of `i8` rows.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::in_shares;
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::vectors::kernels::interleaved::{Centres, LANES, SHARED, interleaved_stride, nearest, place};
use crate::vectors::{Rows, quantize};

/// Rows that clusters are fitted to for each of them, and how often they are.
const SAMPLED: usize = 50;
const ROUNDS: usize = 8;

/// Rows assigned at a time by one thread, and those between two looks at progress and cancellation.
const CHUNK: usize = 1024;
const TICK: usize = 64 * CHUNK;

/// Rows in the order in which they are to stand, cluster by cluster.
pub(crate) struct Clustering {
    /// Row numbers.
    pub order: Vec<u32>,
    /// How many rows each cluster has, at least one.
    pub counts: Vec<u32>,
}

impl Clustering {
    /// The rows in at most so many clusters; the same whatever the number of threads.
    pub fn of(rows: Rows<'_>, clusters: usize, threads: usize, watch: &Watch<'_>) -> Result<Clustering> {
        let total = rows.len();
        let clusters = clusters.clamp(1, total);
        let sample: Vec<u32> = spread(0..total as u32, clusters.saturating_mul(SAMPLED).min(total));
        let mut centroids: Vec<f32> = Vec::new();
        for row in spread(0..sample.len() as u32, clusters) {
            centroids.extend_from_slice(&rows.get(sample[row as usize]));
        }
        for round in 0..ROUNDS {
            watch.tick(Stage::Order, 0, total)?;
            let assigned = assign(rows, &sample, &Centroids::of(&centroids, rows.dim()), threads);
            let members = Members::of(&assigned, clusters);
            update(rows, &sample, &members, &mut centroids, round, threads);
        }
        let order = chain(&centroids, rows.dim());
        let centroids: Vec<f32> = order
            .iter()
            .flat_map(|&at| &centroids[at as usize * rows.dim()..][..rows.dim()])
            .copied()
            .collect();
        let all: Vec<u32> = (0..total as u32).collect();
        let centroids = Centroids::of(&centroids, rows.dim());
        let mut assigned = Vec::with_capacity(total);
        for part in all.chunks(TICK) {
            watch.tick(Stage::Order, assigned.len(), total)?;
            assigned.extend(assign(rows, part, &centroids, threads));
        }
        watch.tick(Stage::Order, total, total)?;
        let members = Members::of(&assigned, clusters);
        let counts =
            (0..clusters).map(|at| members.of_cluster(at).len() as u32).filter(|&count| count > 0).collect();
        Ok(Clustering { order: members.order, counts })
    }
}

/// `count` numbers of a range, one by chance of each of as many equal parts.
fn spread(range: Range<u32>, count: usize) -> Vec<u32> {
    let total = u64::from(range.end - range.start);
    let bound = |part: u64| part * total / count as u64;
    let chosen = |part: u64| {
        let (start, end) = (bound(part), bound(part + 1));
        range.start + (start + xxh3_64(&part.to_le_bytes()) % (end - start).max(1)) as u32
    };
    (0..count as u64).map(chosen).collect()
}

/// Rows by the cluster they are assigned to.
struct Members {
    /// Positions in what was assigned, cluster by cluster, ascending in each.
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl Members {
    fn of(assigned: &[u32], clusters: usize) -> Members {
        let mut starts = vec![0u32; clusters + 1];
        assigned.iter().for_each(|&cluster| starts[cluster as usize + 1] += 1);
        for at in 0..clusters {
            starts[at + 1] += starts[at];
        }
        let mut places = starts.clone();
        let mut order = vec![0; assigned.len()];
        for (at, &cluster) in (0..).zip(assigned) {
            let place = &mut places[cluster as usize];
            order[*place as usize] = at;
            *place += 1;
        }
        Members { order, starts }
    }

    fn of_cluster(&self, cluster: usize) -> &[u32] {
        &self.order[self.starts[cluster] as usize..self.starts[cluster + 1] as usize]
    }
}

/// Sets each centroid to the mean of its rows; one without rows goes to a row of the largest cluster.
fn update(
    rows: Rows<'_>,
    sample: &[u32],
    members: &Members,
    centroids: &mut [f32],
    round: usize,
    threads: usize,
) {
    let dim = rows.dim();
    let clusters = centroids.len() / dim;
    in_shares(
        &mut centroids.chunks_exact_mut(dim).enumerate().collect::<Vec<_>>(),
        threads,
        |(cluster, centroid)| {
            let members = members.of_cluster(*cluster);
            if members.is_empty() {
                return;
            }
            let mut sums = vec![0.0f64; dim];
            for &at in members {
                sums.iter_mut()
                    .zip(&*rows.get(sample[at as usize]))
                    .for_each(|(sum, &value)| *sum += f64::from(value));
            }
            let count = members.len() as f64;
            centroid.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum / count) as f32);
        },
    );
    let mut sizes: Vec<usize> = (0..clusters).map(|at| members.of_cluster(at).len()).collect();
    let empty: Vec<usize> = (0..clusters).filter(|&at| sizes[at] == 0).collect();
    let mut largest: Vec<usize> = (0..clusters).collect();
    largest.sort_by_key(|&at| (usize::MAX - sizes[at], at));
    for (empty, &from) in empty.into_iter().zip(&largest) {
        let members = members.of_cluster(from);
        sizes[from] /= 2;
        let Some(last) = members.len().checked_sub(1) else { return };
        let chosen = members[xxh3_64(&[round as u8]) as usize % (last + 1)];
        centroids[empty * dim..][..dim].copy_from_slice(&rows.get(sample[chosen as usize]));
    }
}

/// Centroids as [`nearest`] takes them.
struct Centroids {
    groups: Vec<u8>,
    scales: Vec<[f32; LANES]>,
    halves: Vec<[f32; LANES]>,
}

impl Centroids {
    fn of(centroids: &[f32], dim: usize) -> Centroids {
        let clusters = centroids.len() / dim;
        let (groups, bytes) = (clusters.div_ceil(LANES), LANES * interleaved_stride(dim));
        let mut made = Centroids {
            groups: vec![0; groups * bytes],
            scales: vec![[0.0; LANES]; groups],
            halves: vec![[f32::INFINITY; LANES]; groups],
        };
        let mut values = Vec::new();
        for (number, centroid) in centroids.chunks_exact(dim).enumerate() {
            let (group, lane) = (number / LANES, number % LANES);
            made.scales[group][lane] = quantize(centroid, &mut values);
            let norm: f64 = centroid.iter().map(|&value| f64::from(value).powi(2)).sum();
            made.halves[group][lane] = (norm / 2.0) as f32;
            for (at, &value) in values.iter().enumerate() {
                made.groups[group * bytes + place(lane, at)] = value as u8 ^ 128;
            }
        }
        made
    }

    fn view(&self) -> Centres<'_> {
        Centres { groups: &self.groups, scales: &self.scales, halves: &self.halves }
    }
}

/// The centroid that each of `numbers` is nearest to.
fn assign(rows: Rows<'_>, numbers: &[u32], centroids: &Centroids, threads: usize) -> Vec<u32> {
    let mut assigned = vec![0u32; numbers.len()];
    let mut chunks: Vec<_> = numbers.chunks(CHUNK).zip(assigned.chunks_mut(CHUNK)).collect();
    in_shares(&mut chunks, threads, |(numbers, assigned)| {
        let width = interleaved_stride(rows.dim());
        let mut values = Vec::new();
        let mut queries = vec![0i8; SHARED * width];
        for (numbers, assigned) in numbers.chunks(SHARED).zip(assigned.chunks_mut(SHARED)) {
            let (mut weights, mut offsets) = ([0.0; SHARED], [0; SHARED]);
            for (at, &row) in numbers.iter().enumerate() {
                let scale = quantize(&rows.get(row), &mut values);
                weights[at] = if scale > 0.0 { 1.0 / scale } else { 1.0 };
                offsets[at] = -128 * values.iter().map(|&value| i32::from(value)).sum::<i32>();
                queries[at * width..][..values.len()].copy_from_slice(&values);
            }
            let queries = std::array::from_fn(|at| &queries[at * width..][..width]);
            let found = nearest(queries, weights, offsets, centroids.view());
            assigned.copy_from_slice(&found[..assigned.len()]);
        }
    });
    assigned
}

/// The centroids in an order in which neighbours are near to each other.
fn chain(centroids: &[f32], dim: usize) -> Vec<u32> {
    let unit: Vec<f32> = centroids
        .chunks_exact(dim)
        .flat_map(|centroid| {
            let norm = centroid.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            centroid.iter().map(move |&value| if norm > 0.0 { (f64::from(value) / norm) as f32 } else { 0.0 })
        })
        .collect();
    let mut left: Vec<u32> = (0..(unit.len() / dim) as u32).collect();
    let mut chain = Vec::with_capacity(left.len());
    let mut padded = Vec::new();
    let stride = crate::vectors::stride_of(dim);
    let mut all = vec![0.0; left.len() * stride];
    for (from, to) in unit.chunks_exact(dim).zip(all.chunks_exact_mut(stride)) {
        to[..dim].copy_from_slice(from);
    }
    let rows = Rows::new(&all, dim);
    let mut last = left.pop();
    let mut scores = vec![0.0; left.len()];
    while let Some(number) = last {
        chain.push(number);
        crate::vectors::pad(&rows.get(number), &mut padded);
        scores.truncate(left.len());
        rows.scores(&padded, &left, &mut scores);
        let nearest = (0..left.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        last = nearest.map(|nearest| left.swap_remove(nearest));
    }
    chain
}
