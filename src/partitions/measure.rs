use std::time::Instant;
use super::search::Scratch;
use super::*;
use crate::vectors::{Rows, pad, stride_of};
use crate::top::{Hit, TopK};

fn fbin(path: &str) -> (usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let dim = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let values: Vec<f32> = bytes[8..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (dim, values)
}

pub struct Set {
    pub dim: usize,
    pub rows: Vec<f32>,
    pub counts: Vec<u32>,
    pub sample: Vec<Vec<f32>>,
    pub test: Vec<Vec<f32>>,
}

pub fn load(name: &str) -> Set {
    let (dim, values) = fbin(&format!("/tmp/part/{name}/items.fbin"));
    let stride = stride_of(dim);
    let n = values.len() / dim;
    let mut rows = vec![0.0; n * stride];
    for (to, from) in rows.chunks_exact_mut(stride).zip(values.chunks_exact(dim)) { to[..dim].copy_from_slice(from); }
    let t = Instant::now();
    let factor: f64 = std::env::var("CLUSTERS").ok().and_then(|v| v.parse().ok()).unwrap_or(2.0);
    let clusters = ((n as f64).sqrt() * factor) as usize;
    let clustering = Clustering::of(Rows::new(&rows, dim), clusters, 2);
    let took = t.elapsed();
    let mut ordered = Vec::with_capacity(rows.len());
    for &row in &clustering.order { ordered.extend_from_slice(&rows[row as usize * stride..][..stride]); }
    println!("{name}: {n} x {dim}, {} clusters in {took:?}", clustering.counts.len());
    let users = |file: &str, most: usize| {
        let (_, values) = fbin(&format!("/tmp/part/{name}/{file}.fbin"));
        values.chunks_exact(dim).take(most).map(|u| u.to_vec()).collect::<Vec<_>>()
    };
    Set { dim, rows: ordered, counts: clustering.counts, sample: users("sample", 300), test: users("test", 500) }
}

/// exact top scores for k's
pub fn exact(set: &Set, users: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut out: Vec<Vec<f32>> = vec![Vec::new(); users.len()];
    let mut items: Vec<_> = users.iter().zip(&mut out).collect();
    let rows = Rows::new(&set.rows, set.dim);
    in_shares(&mut items, 2, |(user, out)| {
        let mut padded = Vec::new();
        pad(user, &mut padded);
        let mut scores = Vec::with_capacity(rows.len());
        rows.score_all(&padded, 0..rows.len() as u32, |_, score| scores.push(score));
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores.truncate(100_001);
        **out = scores;
    });
    let _ = TopK::new(1, Vec::<Hit>::new());
    out
}

#[test]
#[ignore]
fn measure() {
    let names = std::env::var("SETS").unwrap_or("gowalla".into());
    let ks: Vec<usize> = std::env::var("KS").unwrap_or("10,100,1000,10000".into()).split(',').map(|k| k.parse().unwrap()).collect();
    for name in names.split(',') {
        let set = load(name);
        let rows = Rows::new(&set.rows, set.dim);
        let t = Instant::now();
        let parts = OwnedPartitions::build(rows, &set.counts, 2);
        println!("built in {:?}; codes {} B/row", t.elapsed(), parts.codes.len() as f64 / rows.len() as f64);
        let truth = exact(&set, &set.test);
        let ids: Vec<u64> = (0..rows.len() as u64).collect();
        let view = parts.view();
        let mut scratch = Scratch::default();
        for &k in &ks {
            for target in [0.95f64, 0.99] {
                let mut run = |z: f32, wanted: usize, scratch: &mut Scratch| {
                    scratch.work = Default::default();
                    scratch.times = Default::default(); super::search::ROUNDS.store(0, std::sync::atomic::Ordering::Relaxed);
                    let (mut recall, mut time) = (0.0, std::time::Duration::ZERO);
                    let mut times = Vec::new();
                    for (user, truth) in set.test.iter().zip(&truth) {
                        let t = Instant::now();
                        view.search(rows, &ids, user, k, z, wanted, scratch);
                        times.push(t.elapsed());
                        time += t.elapsed();
                        recall += scratch.hits.iter().filter(|h| h.score >= truth[k - 1]).count() as f64 / k as f64;
                    }
                    times.sort();
                    (recall / set.test.len() as f64, time, times[times.len() / 2], times[times.len() * 99 / 100])
                };
                let factor = if target > 0.97 { 1.3 } else { 1.1 };
                let wanted = (k as f64 * factor) as usize + 2 + (2.0 * (k as f64).sqrt()) as usize;
                let (mut low, mut high) = (-8.0f32, 1.0);
                for _ in 0..10 {
                    let z = (low + high) / 2.0;
                    if run(z, wanted, &mut scratch).0 >= target { low = z } else { high = z }
                }
                let (recall, time, p50, p99) = run(low, wanted, &mut scratch);
                let n = set.test.len() as f64;
                let total: u64 = scratch.times.iter().sum();
                let us = time.as_secs_f64() * 1e6 / n;
                let parts: Vec<String> = scratch.times.iter().map(|&t| format!("{:.1}", t as f64 / total as f64 * us)).collect();
                println!("rounds {:.1} ", super::search::ROUNDS.load(std::sync::atomic::Ordering::Relaxed) as f64 / n);
println!("k {k:6} target {target}: recall {recall:.4} z {low:.2} {:8.0}/s p50 {p50:?} p99 {p99:?}  clusters {:.0} coded {:.0} scored {:.0}  us: locate/bar/read/cut/score/sort {}", n / time.as_secs_f64(),
                    scratch.work.clusters as f64 / n, scratch.work.coded as f64 / n, scratch.work.scored as f64 / n, parts.join("/"));
            }
        }
    }
}

#[test]
#[ignore]
fn code_errors() {
    let names = std::env::var("SETS").unwrap_or("gowalla,mf64,g1m,g256".into());
    for name in names.split(',') {
        let set = load(name);
        let rows = Rows::new(&set.rows, set.dim);
        let t = Instant::now();
        let parts = OwnedPartitions::build(rows, &set.counts, 2);
        println!("built in {:?}", t.elapsed());
        let view = parts.view();
        let ids: Vec<u64> = (0..rows.len() as u64).collect();
        let mut scratch = Scratch::default();
        let (mut square, mut sum, mut n, mut spread) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        let (mut padded, mut score) = (Vec::new(), [0.0]);
        for user in set.test.iter().take(100) {
            view.search(rows, &ids, user, 1000, -2.0, 2000, &mut scratch);
            pad(user, &mut padded);
            let mut all = Vec::new();
            let scale = user.iter().fold(0.0f32, |a, b| a.max(b.abs())) / 127.0;
            for (&row, &value) in scratch.readings.rows().iter().zip(scratch.readings.values()) {
                rows.scores(&padded, &[row], &mut score);
                all.push((f64::from(score[0]), f64::from(value * scale)));
            }
            let mean = all.iter().map(|a| a.0).sum::<f64>() / all.len() as f64;
            let dev = (all.iter().map(|a| (a.0 - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
            spread += 1.0;
            for (a, b) in all { square += ((a - b) / dev).powi(2); sum += (b - a) / dev; n += 1.0; }
        }
        println!("{name}: error rms {:.4} bias {:.4} in spreads of scores, {spread}", (square / n).sqrt(), sum / n);
    }
}
