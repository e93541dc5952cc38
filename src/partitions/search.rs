use super::{Group, Partitions};
use crate::top::Hit;
use crate::vectors::kernels::codes::{COORDINATES, Reading, Readings, Run, block_bytes, read};
use crate::vectors::kernels::gaussian::{self, Normals};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride, products};
use crate::vectors::{Rows, pad, quantize};

/// Rounds to find the bar in, and how near its weight is to be to what is wanted, by their logarithms.
const BAR_ROUNDS: usize = 8;
const NEAR: f32 = 0.02;

/// Codes read to find the threshold, and how many times the readings wanted a pass may have before a threshold pays.
const SAMPLE: usize = 6000;

pub static ROUNDS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
const BLOCK: usize = 32;
const AHEAD: usize = 48;

#[derive(Default)]
pub(crate) struct Scratch {
    user: Vec<f32>,
    values: Vec<i8>,
    squares: Vec<f32>,
    square_values: Vec<i8>,
    codes_user: Vec<i8>,
    sums: Vec<[i32; LANES]>,
    square_sums: Vec<[i32; LANES]>,
    mean_scales: Vec<[f32; LANES]>,
    deviation_scales: Vec<[f32; LANES]>,
    pub means: Vec<[f32; LANES]>,
    pub narrow: Vec<[f32; LANES]>,
    pub weights: Vec<[f32; LANES]>,
    chosen: Vec<u32>,
    sample: Readings,
    pub readings: Readings,
    keys: Vec<u64>,
    spare: Vec<u64>,
    pub hits: Vec<Hit>,
    found: Vec<u64>,
    pub work: Work,
    pub times: [u64; 6],
}

#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Work {
    pub clusters: usize,
    pub coded: usize,
    pub scored: usize,
}

/// A user as the codes and the model take it.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub scale: f32,
    /// The scale of the user in the units of the codes, over `scale`.
    pub unit: f32,
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn now() -> u64 {
    unsafe { std::arch::x86_64::_rdtsc() }
}

impl<'a> Partitions<'a> {
    /// Lays the clusters' scores for a user out as normal distributions.
    pub fn locate(&self, user: &[f32], dim: usize, scratch: &mut Scratch) -> User {
        let s = scratch;
        let groups = self.groups.len();
        let stride = interleaved_stride(dim);
        pad(user, &mut s.user);
        let scale = quantize(user, &mut s.values);
        let total: i32 = s.values.iter().map(|&value| i32::from(value)).sum();
        let norm = (s.values.iter().map(|&v| i32::from(v).pow(2)).sum::<i32>() as f32).sqrt();
        s.squares.clear();
        s.squares.extend(s.values.iter().map(|&value| f32::from(value).powi(2)));
        let square_scale = quantize(&s.squares, &mut s.square_values);
        s.values.resize(stride, 0);
        s.square_values.resize(stride, 0);
        s.sums.resize(groups, [0; LANES]);
        s.square_sums.resize(groups, [0; LANES]);
        s.means.resize(groups, [0.0; LANES]);
        s.narrow.resize(groups, [0.0; LANES]);
        s.weights.resize(groups, [0.0; LANES]);
        s.mean_scales.resize(groups, [0.0; LANES]);
        s.deviation_scales.resize(groups, [0.0; LANES]);
        let bytes = LANES * stride;
        for (at, moments) in self.moments.chunks_exact(2 * bytes).enumerate() {
            products(&s.values, &moments[..bytes], &mut s.sums[at..at + 1]);
            products(&s.square_values, &moments[bytes..], &mut s.square_sums[at..at + 1]);
        }
        for (at, group) in self.groups.iter().enumerate() {
            s.mean_scales[at] = group.mean_scales;
            s.deviation_scales[at] = group.deviation_scales;
            s.weights[at] = group.counts.map(|count| count as f32);
        }
        gaussian::normals(
            (&s.sums, &s.square_sums),
            (&s.mean_scales, &s.deviation_scales),
            -128 * total,
            square_scale,
            norm / 12f32.sqrt(),
            (&mut s.means, &mut s.narrow),
        );
        // The user in the units of the codes.
        s.squares.clear();
        s.squares.extend(user.iter().zip(self.units).map(|(value, unit)| value * unit));
        let unit_scale = quantize(&s.squares, &mut s.codes_user);
        s.codes_user.resize(dim.next_multiple_of(COORDINATES), 0);
        User { scale, unit: if scale > 0.0 { unit_scale / scale } else { 0.0 } }
    }

    /// The score that `k` rows reach by the model.
    pub fn bar(&self, k: usize, scratch: &Scratch) -> f32 {
        let normals = Normals { means: &scratch.means, narrow: &scratch.narrow, weights: &scratch.weights };
        let spread = gaussian::spread(normals);
        let (mut low, mut high) = (spread.least, spread.most);
        let share = k as f32 / spread.weight;
        if share >= 1.0 {
            return low;
        }
        // How many deviations a normal distribution of all rows has that share above (Abramowitz and Stegun, 26.2.23).
        let t = (-2.0 * share.min(0.5).ln()).sqrt();
        let z = t - (2.515_517 + 0.802_853 * t) / (1.0 + 1.432_788 * t + 0.189_269 * t * t);
        let deviation = 1.25 * spread.between + spread.within;
        let mut bar = (spread.mean + z * deviation).clamp(low, high);
        for _ in 0..BAR_ROUNDS {
            ROUNDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (above, fall) = gaussian::above(normals, bar);
            let off = (above / k as f32).ln();
            if off.abs() < NEAR {
                break;
            }
            if off > 0.0 { low = bar } else { high = bar }
            let next = bar + off * above / fall;
            bar = if next > low && next < high { next } else { (low + high) / 2.0 };
        }
        bar
    }

    fn group(&self, cluster: u32) -> (&'a Group, usize) {
        (&self.groups[cluster as usize / LANES], cluster as usize % LANES)
    }

    fn run(&self, cluster: u32, dim: usize) -> Run<'a> {
        let (group, lane) = self.group(cluster);
        let blocks = self.codes.get(group.blocks[lane] as usize * block_bytes(dim)..).unwrap_or(&[]);
        Run { blocks, first: group.starts[lane], count: group.counts[lane] as usize, allowed: None }
    }

    pub fn search(&self, rows: Rows<'_>, ids: &[u64], user: &[f32], k: usize, z: f32, wanted: usize, scratch: &mut Scratch) {
        let dim = rows.dim();
        let t0 = now();
        let located = self.locate(user, dim, scratch);
        let t1 = now();
        let bar = self.bar(k, scratch);
        let normals = Normals { means: &scratch.means, narrow: &scratch.narrow, weights: &scratch.weights };
        gaussian::reaching(normals, bar, z, &mut scratch.chosen);
        let t2 = now();
        let s = scratch;
        let count: usize = s.chosen.iter().map(|&cluster| self.run(cluster, dim).count).sum();
        let mut reading = Reading { query: &s.codes_user, unit: located.unit, caution: 0.0, base: 0.0, bar: f32::NEG_INFINITY };
        let base = |cluster: u32| s.means[cluster as usize / LANES][cluster as usize % LANES];
        let ample = 8 * wanted < count;
        if count > 3 * SAMPLE || ample {
            s.sample.clear();
            let step = if ample { (count / SAMPLE).max(8) } else { count / SAMPLE };
            let mut at = 0;
            for &cluster in &s.chosen {
                let run = self.run(cluster, dim);
                let blocks = run.count.div_ceil(LANES);
                reading.base = base(cluster);
                while at < blocks {
                    let run = Run {
                        blocks: &run.blocks[at * block_bytes(dim)..],
                        first: 0,
                        count: (run.count - at * LANES).min(LANES),
                        allowed: None,
                    };
                    read(&reading, run, &mut s.sample);
                    at += step;
                }
                at -= blocks;
            }
            let sampled = s.sample.len();
            let share = wanted as f32 / count as f32 * sampled as f32;
            let sure = (share + if share > 300.0 { 0.5 } else { 2.5 } * share.sqrt() + 2.0) as usize;
            if sure < sampled {
                s.keys.clear();
                s.keys.extend(s.sample.values().iter().map(|&value| u64::from(ordered(value))));
                let (_, &mut at, _) = s.keys.select_nth_unstable(sampled - 1 - sure);
                reading.bar = unordered(at as u32);
            }
        }
        s.readings.clear();
        for (at, &cluster) in s.chosen.iter().enumerate() {
            reading.base = base(cluster);
            if let Some(&next) = s.chosen.get(at + 1) {
                let run = self.run(next, dim);
                crate::vectors::kernels::prefetch_far(run.blocks, 0, 3 * block_bytes(dim));
            }
            read(&reading, self.run(cluster, dim), &mut s.readings);
        }
        let t3 = now();
        if s.readings.len() > wanted + wanted / 8 {
            s.keys.clear();
            s.keys.extend(s.readings.values().iter().map(|&value| u64::from(ordered(value))));
            let last = s.keys.len() - wanted;
            let (_, &mut at, _) = s.keys.select_nth_unstable(last);
            s.readings.retain(unordered(at as u32));
        }
        let t4 = now();
        s.work.clusters += s.chosen.len();
        s.work.coded += count;
        s.work.scored += s.readings.len();
        // Score in f32.
        let found = s.readings.rows();
        s.keys.clear();
        s.found.clear();
        for (number, block) in found.chunks(BLOCK).enumerate() {
            for at in 0..block.len() {
                if let Some(&row) = found.get(number * BLOCK + at + AHEAD) {
                    rows.prefetch_far(row);
                    crate::vectors::kernels::prefetch_far(ids, row as usize, 1);
                }
            }
            let scores = &mut [0.0; BLOCK][..block.len()];
            rows.scores(&s.user, block, scores);
            for (&row, &mut score) in block.iter().zip(scores) {
                s.keys.push(u64::from(!ordered(score)) << 32 | s.found.len() as u64);
                s.found.push(ids[row as usize]);
            }
        }
        let t5 = now();
        sort(&mut s.keys, &mut s.spare);
        s.hits.clear();
        s.hits.extend(s.keys.iter().take(k).map(|&key| Hit { id: s.found[key as u32 as usize], score: unordered(!(key >> 32) as u32) }));
        let t6 = now();
        for (total, (a, b)) in s.times.iter_mut().zip([(t0, t1), (t1, t2), (t2, t3), (t3, t4), (t4, t5), (t5, t6)]) {
            *total += b - a;
        }
    }
}

fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

fn unordered(key: u32) -> f32 {
    f32::from_bits(key ^ if key >> 31 == 1 { 1 << 31 } else { u32::MAX })
}

/// Sorts by the upper half.
fn sort(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    if keys.len() < 512 {
        return keys.sort_unstable();
    }
    let (least, most) = keys.iter().fold((u32::MAX, 0), |(least, most), &key| {
        let key = (key >> 32) as u32;
        (least.min(key), most.max(key))
    });
    let bits = 32 - (most - least).leading_zeros();
    spare.resize(keys.len(), 0);
    let passes = bits.div_ceil(11);
    for pass in 0..passes {
        let shift = pass * 11;
        let mut counts = [0u32; 2048];
        let digit = |key: u64| (((key >> 32) as u32 - least) >> shift) as usize & 2047;
        keys.iter().for_each(|&key| counts[digit(key)] += 1);
        let mut total = 0;
        for count in &mut counts {
            (*count, total) = (total, total + *count);
        }
        for &key in &*keys {
            let place = &mut counts[digit(key)];
            spare[*place as usize] = key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}
