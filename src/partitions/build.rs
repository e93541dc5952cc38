use super::{Group, Partitions, in_shares};
use crate::vectors::kernels::codes::{COORDINATES, MIDDLE, block_bytes};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride, place};
use crate::vectors::{Rows, quantize};
use bytemuck::Zeroable;

/// The partitions of an index, in memory.
pub(crate) struct OwnedPartitions {
    pub groups: Vec<Group>,
    pub moments: Vec<u8>,
    pub units: Vec<f32>,
    pub codes: Vec<u8>,
}

/// Scales that a row's codes are tried with, as shares of that at which the largest value fits.
const TRIED: [f64; 5] = [1.0, 0.93, 0.86, 0.79, 0.72];

impl OwnedPartitions {
    /// Of `rows` that stand cluster by cluster.
    pub fn build(rows: Rows<'_>, counts: &[u32], threads: usize) -> OwnedPartitions {
        let dim = rows.dim();
        let stride = interleaved_stride(dim);
        let groups = counts.len().div_ceil(LANES);
        let mut made = OwnedPartitions {
            groups: vec![Group::zeroed(); groups],
            moments: vec![0; groups * 2 * LANES * stride],
            units: Vec::new(),
            codes: Vec::new(),
        };
        let (mut row, mut block) = (0, 0);
        for (cluster, &count) in counts.iter().enumerate() {
            let (group, lane) = (&mut made.groups[cluster / LANES], cluster % LANES);
            (group.starts[lane], group.counts[lane], group.blocks[lane]) = (row, count, block);
            row += count;
            block += count.div_ceil(LANES as u32);
        }
        made.codes = vec![0; block as usize * block_bytes(dim)];
        let bytes = 2 * LANES * stride;
        let mut moments: Vec<(&mut Group, &mut [u8], Vec<f64>)> = made
            .groups
            .iter_mut()
            .zip(made.moments.chunks_exact_mut(bytes))
            .map(|(group, moments)| (group, moments, vec![0.0; dim]))
            .collect();
        in_shares(&mut moments, threads, |(group, moments, total)| set_moments(rows, group, moments, total));
        // The spread of each coordinate within clusters.
        let mut spread = vec![0.0; dim];
        for (_, _, total) in &moments {
            spread.iter_mut().zip(total).for_each(|(sum, value)| *sum += value);
        }
        let mut places = Vec::new();
        let mut left = &mut made.codes[..];
        for (group, moments, _) in moments {
            let bytes = group.counts.iter().map(|count| count.div_ceil(LANES as u32) as usize).sum::<usize>() * block_bytes(dim);
            let (own, rest) = left.split_at_mut(bytes);
            left = rest;
            places.push((group, &*moments, own));
        }
        let largest = spread.iter().copied().fold(0.0, f64::max);
        let units: Vec<f32> = spread
            .iter()
            .map(|&value| if largest > 0.0 { ((value / largest).sqrt().powf(std::env::var("P").map_or(0.75, |p| p.parse().unwrap())).max(1.0 / 64.0)) as f32 } else { 1.0 })
            .collect();
        in_shares(&mut places, threads, |(group, moments, codes)| set_codes(rows, group, moments, &units, codes));
        made.units = units;
        made
    }

    pub fn view(&self) -> Partitions<'_> {
        Partitions { groups: &self.groups, moments: &self.moments, units: &self.units, codes: &self.codes }
    }
}

fn rows_of(group: &Group, lane: usize) -> std::ops::Range<u32> {
    group.starts[lane]..group.starts[lane] + group.counts[lane]
}

/// Means and variances of the clusters of a group, whose squared distances from the means are added to `total`.
fn set_moments(rows: Rows<'_>, group: &mut Group, moments: &mut [u8], total: &mut [f64]) {
    let dim = rows.dim();
    let (means, variances) = moments.split_at_mut(moments.len() / 2);
    let mut values = Vec::new();
    for lane in 0..LANES {
        let members = rows_of(group, lane);
        if members.is_empty() {
            continue;
        }
        let count = members.len() as f64;
        let mut sums = vec![0.0f64; dim];
        for row in members.clone() {
            sums.iter_mut().zip(rows.get(row)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
        let scale = quantize(&mean, &mut values);
        group.mean_scales[lane] = scale;
        let near: Vec<f64> = values.iter().map(|&value| f64::from(scale) * f64::from(value)).collect();
        group.norms[lane] = up(near.iter().map(|value| value * value).sum::<f64>().sqrt());
        values.iter().enumerate().for_each(|(at, &value)| means[place(lane, at)] = value as u8 ^ 128);
        let mut squares = vec![0.0f64; dim];
        for row in members {
            for ((square, &value), near) in squares.iter_mut().zip(rows.get(row)).zip(&near) {
                *square += (f64::from(value) - near).powi(2);
            }
        }
        let largest = squares.iter().copied().fold(0.0, f64::max);
        group.deviation_scales[lane] = (largest / count / 255.0).sqrt() as f32;
        for (at, square) in squares.iter().enumerate() {
            let share = if largest > 0.0 { square / largest } else { 0.0 };
            variances[place(lane, at)] = (share * 255.0).round() as u8;
        }
        total.iter_mut().zip(&squares).for_each(|(total, square)| *total += square);
    }
}

fn set_codes(rows: Rows<'_>, group: &mut Group, moments: &[u8], units: &[f32], codes: &mut [u8]) {
    let dim = rows.dim();
    let mut blocks = codes.chunks_exact_mut(block_bytes(dim));
    let mut residual = vec![0.0f64; dim];
    let mut mean = vec![0.0f64; dim];
    let mut chosen = vec![0u8; dim];
    let mut tried = vec![0u8; dim];
    for lane in 0..LANES {
        let scale = f64::from(group.mean_scales[lane]);
        for (at, value) in mean.iter_mut().enumerate() {
            *value = scale * f64::from((moments[place(lane, at)] ^ 128) as i8);
        }
        let members = rows_of(group, lane);
        let mut reach = 0.0f64;
        for first in members.clone().step_by(LANES) {
            let block = blocks.next().expect("a block for every sixteen rows of a cluster");
            let (lines, tail) = block.split_at_mut(block_bytes(dim) - 64);
            for row in first..members.end.min(first + LANES as u32) {
                let at_row = (row - first) as usize;
                for (at, value) in residual.iter_mut().enumerate() {
                    *value = f64::from(rows.get(row)[at]) - mean[at];
                }
                let (row_scale, error, size) = encode(rows.get(row), &residual, units, &mut chosen, &mut tried);
                reach = reach.max(size);
                for (at, &code) in chosen.iter().enumerate() {
                    let byte = &mut lines[at / COORDINATES * 64 + at_row * 4 + at % 4];
                    *byte |= if at % COORDINATES < 4 { code } else { code << 4 };
                }
                tail[2 * at_row..][..2].copy_from_slice(&row_scale.to_le_bytes());
                tail[32 + 2 * at_row..][..2].copy_from_slice(&error.to_le_bytes());
            }
        }
        group.reaches[lane] = up(reach);
    }
}

/// Chooses codes; returns scale, error and the norm of what codes stand for in their units.
fn encode(row: &[f32], residual: &[f64], units: &[f32], codes: &mut Vec<u8>, tried: &mut Vec<u8>) -> (u16, u16, f64) {
    let largest = residual.iter().zip(units).map(|(value, &unit)| (value / f64::from(unit)).abs()).fold(0.0, f64::max);
    let mut best = (f64::INFINITY, 0u16, 0.0);
    for share in TRIED {
        let half = half_down((largest / 15.0 * share) as f32);
        let scale = f64::from(from_half(half));
        let (mut error, mut size) = (0.0, 0.0);
        for ((code, &value), &unit) in tried.iter_mut().zip(residual).zip(units) {
            let unit = f64::from(unit);
            let step = 2.0 * unit * scale;
            let level = if scale > 0.0 { (value / step + 7.5).round().clamp(0.0, 15.0) } else { 0.0 };
            *code = level as u8;
            let level = 2.0 * level - f64::from(MIDDLE);
            error += (value - level * scale * unit).powi(2);
            size += (level * scale).powi(2);
        }
        if error < best.0 {
            best = (error, half, size);
            std::mem::swap(codes, tried);
        }
    }
    let lambda: f64 = std::env::var("L").map_or(3.0, |p| p.parse().unwrap());
    let scale = f64::from(from_half(best.1));
    if lambda > 0.0 && scale > 0.0 {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let direction: Vec<f64> = row.iter().map(|&v| f64::from(v) / norm).collect();
        let mut errors: Vec<f64> = codes.iter().zip(residual).zip(units).map(|((&code, value), &unit)| value - (2.0 * f64::from(code) - 15.0) * scale * f64::from(unit)).collect();
        let mut along: f64 = errors.iter().zip(&direction).map(|(a, b)| a * b).sum();
        for _ in 0..2 {
            for at in 0..codes.len() {
                let step = 2.0 * scale * f64::from(units[at]);
                // try moving toward other side
                let delta = if errors[at] > 0.0 { 1i32 } else { -1 };
                for delta in [delta, -delta] {
                    let new = i32::from(codes[at]) + delta;
                    if !(0..16).contains(&new) { continue; }
                    let change = -f64::from(delta) * step;
                    let cost = 2.0 * errors[at] * change + change * change + lambda * (2.0 * along * direction[at] * change + (direction[at] * change).powi(2));
                    if cost < 0.0 {
                        codes[at] = new as u8;
                        errors[at] += change;
                        along += change * direction[at];
                        break;
                    }
                }
            }
        }
        best.0 = errors.iter().map(|e| e * e).sum();
        best.2 = codes.iter().map(|&code| ((2.0 * f64::from(code) - 15.0) * scale).powi(2)).sum();
    }
    (best.1, half_up(best.0.sqrt()), best.2.sqrt())
}

fn from_half(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn half_down(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}

/// The upper half of the smallest such `f32` that is at least `value`, which is not negative.
fn half_up(value: f64) -> u16 {
    let bits = up(value).to_bits();
    (bits >> 16) as u16 + u16::from(bits & 0xFFFF != 0)
}

/// An `f32` above a number that is not negative.
fn up(value: f64) -> f32 {
    (value as f32).next_up()
}
