//! The sections of the partitions, made of rows that stand cluster by cluster.

use std::ops::Range;

use bytemuck::Zeroable;

use super::encode::{Encoder, above};
use super::{Group, Partitions, in_shares};
use crate::vectors::kernels::codes::{block_bytes, put};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride, place};
use crate::vectors::{Rows, quantize};

/// Units follow the deviations of coordinates within clusters, but less than in proportion, and down to a
/// limit: a user's values that are not as spread as those of the items shall not meet coarse codes.
const POWER: f64 = 0.75;
const SMALLEST_UNIT: f64 = 1.0 / 64.0;

/// The partitions of an index, in memory.
pub(crate) struct OwnedPartitions {
    pub groups: Vec<Group>,
    pub moments: Vec<u8>,
    pub units: Vec<f32>,
    pub codes: Vec<u8>,
}

impl OwnedPartitions {
    /// Of `rows` that stand cluster by cluster, so many each.
    pub fn build(rows: Rows<'_>, counts: &[u32], threads: usize) -> OwnedPartitions {
        let dim = rows.dim();
        let mut groups = lay_out(counts);
        let mut moments = vec![0; groups.len() * 2 * LANES * interleaved_stride(dim)];
        let units = set_moments(rows, &mut groups, &mut moments, threads);
        let blocks: usize = counts.iter().map(|count| count.div_ceil(LANES as u32) as usize).sum();
        let mut codes = vec![0; blocks * block_bytes(dim)];
        let mut left = &mut codes[..];
        let mut shares: Vec<_> = Vec::new();
        for (group, moments) in
            groups.iter_mut().zip(moments.chunks_exact(2 * LANES * interleaved_stride(dim)))
        {
            let blocks: usize = group.counts.iter().map(|count| count.div_ceil(LANES as u32) as usize).sum();
            let (own, rest) = left.split_at_mut(blocks * block_bytes(dim));
            left = rest;
            shares.push((group, moments, own));
        }
        in_shares(&mut shares, threads, |(group, moments, codes)| {
            set_codes(rows, group, moments, &units, codes)
        });
        OwnedPartitions { groups, moments, units, codes }
    }

    /// As a search takes them.
    pub fn view(&self) -> Partitions<'_> {
        Partitions { groups: &self.groups, moments: &self.moments, units: &self.units, codes: &self.codes }
    }
}

/// Where the rows and the blocks of each cluster are.
fn lay_out(counts: &[u32]) -> Vec<Group> {
    let mut groups = vec![Group::zeroed(); counts.len().div_ceil(LANES)];
    let (mut row, mut block) = (0, 0);
    for (cluster, &count) in counts.iter().enumerate() {
        let (group, lane) = (&mut groups[cluster / LANES], cluster % LANES);
        (group.starts[lane], group.counts[lane], group.blocks[lane]) = (row, count, block);
        row += count;
        block += count.div_ceil(LANES as u32);
    }
    groups
}

/// Sets means and variances; returns the units of the codes.
fn set_moments(rows: Rows<'_>, groups: &mut [Group], moments: &mut [u8], threads: usize) -> Vec<f32> {
    let bytes = 2 * LANES * interleaved_stride(rows.dim());
    let mut shares: Vec<_> = groups
        .iter_mut()
        .zip(moments.chunks_exact_mut(bytes))
        .map(|(group, moments)| (group, moments, vec![0.0; rows.dim()]))
        .collect();
    in_shares(&mut shares, threads, |(group, moments, squares)| {
        (0..LANES).for_each(|lane| set_moments_of(rows, group, lane, moments, squares));
    });
    let mut squares = vec![0.0; rows.dim()];
    for (_, _, more) in &shares {
        squares.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
    }
    let largest = squares.iter().copied().fold(0.0, f64::max);
    let unit = |&square: &f64| {
        if largest > 0.0 { (square / largest).sqrt().powf(POWER).max(SMALLEST_UNIT) } else { 1.0 }
    };
    squares.iter().map(|square| unit(square) as f32).collect()
}

/// Mean and variances of a cluster, whose squared distances from the mean are added to `total`.
fn set_moments_of(rows: Rows<'_>, group: &mut Group, lane: usize, moments: &mut [u8], total: &mut [f64]) {
    let (means, variances) = moments.split_at_mut(moments.len() / 2);
    let members = members(group, lane);
    let count = members.len().max(1) as f64;
    let mut mean = vec![0.0f64; rows.dim()];
    for row in members.clone() {
        mean.iter_mut().zip(&*rows.get(row)).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mean: Vec<f32> = mean.into_iter().map(|sum| (sum / count) as f32).collect();
    let mut values = Vec::new();
    group.mean_scales[lane] = quantize(&mean, &mut values);
    values.iter().enumerate().for_each(|(at, &value)| means[place(lane, at)] = value as u8 ^ 128);
    let mean = mean_of(group, lane, means, rows.dim());
    group.norms[lane] = above(mean.iter().map(|value| value * value).sum::<f64>().sqrt());

    let mut squares = vec![0.0f64; rows.dim()];
    for row in members {
        for ((square, &value), mean) in squares.iter_mut().zip(&*rows.get(row)).zip(&mean) {
            *square += (f64::from(value) - mean).powi(2);
        }
    }
    let largest = squares.iter().copied().fold(0.0, f64::max);
    group.deviation_scales[lane] = (largest / count / f64::from(u8::MAX)).sqrt() as f32;
    for (at, square) in squares.iter().enumerate() {
        let share = if largest > 0.0 { square / largest } else { 0.0 };
        variances[place(lane, at)] = (share * f64::from(u8::MAX)).round() as u8;
    }
    total.iter_mut().zip(&squares).for_each(|(total, square)| *total += square);
}

fn set_codes(rows: Rows<'_>, group: &mut Group, moments: &[u8], units: &[f32], codes: &mut [u8]) {
    let mut blocks = codes.chunks_exact_mut(block_bytes(rows.dim()));
    let mut encoder = Encoder::new(units);
    for lane in 0..LANES {
        let mean = mean_of(group, lane, moments, rows.dim());
        let mut reach = 0.0f64;
        let members = members(group, lane);
        for (first, block) in members.clone().step_by(LANES).zip(&mut blocks) {
            for row in first..members.end.min(first + LANES as u32) {
                let coded = encoder.encode(&rows.get(row), &mean);
                reach = reach.max(coded.size);
                put(block, (row - first) as usize, &encoder.codes, coded.scale, coded.error);
            }
        }
        group.reaches[lane] = above(reach);
    }
}

pub(super) fn members(group: &Group, lane: usize) -> Range<u32> {
    group.starts[lane]..group.starts[lane] + group.counts[lane]
}

/// The mean of a cluster as the file has it.
pub(super) fn mean_of(group: &Group, lane: usize, moments: &[u8], dim: usize) -> Vec<f64> {
    let scale = f64::from(group.mean_scales[lane]);
    (0..dim).map(|at| scale * f64::from((moments[place(lane, at)] ^ 128) as i8)).collect()
}
