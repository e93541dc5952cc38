use super::search::{Scratch, Searched, Wanted, Work};
use super::*;
use crate::top::{Hit, TopK};
use crate::vectors::{Rows, pad, stride_of};
use std::time::Instant;

fn fbin(path: &str) -> (usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let dim = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let values: Vec<f32> =
        bytes[8..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    drop(bytes);
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
    for (to, from) in rows.chunks_exact_mut(stride).zip(values.chunks_exact(dim)) {
        to[..dim].copy_from_slice(from);
    }
    drop(values);
    let t = Instant::now();
    let factor: f64 = std::env::var("CLUSTERS").ok().and_then(|v| v.parse().ok()).unwrap_or(2.0);
    let clusters = ((n as f64).sqrt() * factor) as usize;
    let clustering = Clustering::of(Rows::new(&rows, dim), clusters, 2);
    let took = t.elapsed();
    let mut ordered = Vec::with_capacity(rows.len());
    for &row in &clustering.order {
        ordered.extend_from_slice(&rows[row as usize * stride..][..stride]);
    }
    drop(rows);
    println!("{name}: {n} x {dim}, {} clusters in {took:?}", clustering.counts.len());
    let users = |file: &str, most: usize| {
        let (_, values) = fbin(&format!("/tmp/part/{name}/{file}.fbin"));
        values.chunks_exact(dim).take(most).map(|u| u.to_vec()).collect::<Vec<_>>()
    };
    Set {
        dim,
        rows: ordered,
        counts: clustering.counts,
        sample: users("sample", 300),
        test: users("test", 500),
    }
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
    let targets: Vec<f32> = std::env::var("R")
        .unwrap_or("0.8,0.95,0.99,0.999,-0.95,1".into())
        .split(',')
        .map(|r| r.parse().unwrap())
        .collect();
    let ks: Vec<usize> = std::env::var("KS")
        .unwrap_or("10,100,1000,10000".into())
        .split(',')
        .map(|k| k.parse().unwrap())
        .collect();
    for name in names.split(',') {
        let set = load(name);
        let rows = Rows::new(&set.rows, set.dim);
        let t = Instant::now();
        let parts = OwnedPartitions::build(rows, &set.counts, 2);
        println!("built in {:?}; codes {} B/row", t.elapsed(), parts.codes.len() as f64 / rows.len() as f64);
        let quantized = crate::vectors::QuantizedRows::of(rows);
        let ids: Vec<u64> = (0..rows.len() as u64).collect();
        let searched =
            Searched { partitions: parts.view(), rows, ids: &ids, quantized: Some(quantized.view()) };
        let t = Instant::now();
        let users: Vec<&[f32]> =
            set.sample.iter().take(super::calibrate::measuring(rows.len())).map(|u| &u[..]).collect();
        let calibration =
            super::calibrate::calibrate(&searched, &users, 2, &crate::progress::Watch::new(None, None))
                .unwrap();
        println!("calibrated with {} users in {:?}", users.len(), t.elapsed());
        if std::env::var("TABLE").is_ok() {
            for (k, efforts) in super::calibration::CALIBRATED_K.iter().zip(&calibration.efforts) {
                println!(
                    "{k}: {}",
                    efforts
                        .iter()
                        .map(|e| format!("{:.2} {:.2} {:.4}", e.z, e.factor, e.coded))
                        .collect::<Vec<_>>()
                        .join(" | ")
                );
            }
        }
        let truth = exact(&set, &set.test);
        let mut scratch = Scratch::default();
        for &k in &ks {
            if k > rows.len() {
                continue;
            }
            for target in targets.clone() {
                let approximate = target < 0.0;
                let target = target.abs();
                let effort = if target == 1.0 {
                    calibration.effort(k, 1.0, 0.95)
                } else {
                    calibration.effort(k, 1.0, target)
                };
                let Some(effort) = effort else {
                    println!("k {k} target {target}: none");
                    continue;
                };
                let wanted = Wanted { k, allowed: None, approximate };
                let mut times = Vec::new();
                let mut recalls = Vec::new();
                let mut work = Work::default();

                let users = &set.test[..if target == 1.0 { 60 } else { set.test.len() }];
                for pass in 0..2 {
                    for (user, truth) in users.iter().zip(&truth) {
                        let t = Instant::now();
                        if target == 1.0 {
                            searched.search_exactly(user, wanted, effort, &mut scratch)
                        } else {
                            searched.search(user, wanted, effort, &mut scratch)
                        }
                        if pass == 0 {
                            times.push(t.elapsed());
                        } else {
                            let at = times.len() - users.len() + recalls.len();
                            times[at] = times[at].min(t.elapsed());
                            recalls.push(
                                scratch
                                    .hits
                                    .iter()
                                    .filter(|h| {
                                        h.score >= truth[k - 1] * (1.0 - 1e-6 * f32::from(approximate))
                                    })
                                    .count() as f64
                                    / k as f64,
                            );
                            work.clusters += scratch.work.clusters;
                            work.coded += scratch.work.coded;
                            work.scored += scratch.work.scored;
                        }
                    }
                }
                let n = users.len();
                times.sort();
                recalls.sort_by(f64::total_cmp);
                let sum: std::time::Duration = times.iter().sum();
                println!(
                    "k {k:6} {target}{}: recall {:.4} p5 {:.3} {:8.0}/s p50 {:.1?} p99 {:.1?} z {:.2} f {:.2} clusters {} coded {} scored {}",
                    if approximate { "~" } else { " " },
                    recalls.iter().sum::<f64>() / n as f64,
                    recalls[n / 20],
                    n as f64 / sum.as_secs_f64(),
                    times[n / 2],
                    times[n * 99 / 100],
                    effort.z,
                    effort.factor,
                    work.clusters / n,
                    work.coded / n,
                    work.scored / n
                );
            }
        }
    }
}
