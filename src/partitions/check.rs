//! Whether the sections of the partitions hold: what searches rely on but do not prove.

use super::build::{mean_of, members};
use super::encode::level;
use super::{Group, Searched};
use crate::vectors::kernels::codes::{block_bytes, get};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride};

/// The rounding that norms and errors may differ by, as a share.
const ROUNDING: f64 = 1e-5;

impl Searched<'_> {
    /// Checks that clusters hold every row once, in order, and that no row differs from what its codes stand for by more
    /// than its error says. `Err` says what does not hold.
    pub fn verify(&self) -> Result<(), String> {
        let (mut row, mut block) = (0u64, 0u64);
        let groups = self.partitions.groups;
        for (number, group) in groups.iter().enumerate() {
            for lane in 0..LANES {
                let cluster = number * LANES + lane;
                let count = group.counts[lane];
                let follows = u64::from(group.starts[lane]) == row && u64::from(group.blocks[lane]) == block;
                row += u64::from(count);
                block += u64::from(count.div_ceil(LANES as u32));
                if count > 0 && !follows || row > self.rows.len() as u64 {
                    return Err(format!("cluster {cluster} does not follow the one before it"));
                }
            }
        }
        let bytes = block * block_bytes(self.rows.dim()) as u64;
        if row != self.rows.len() as u64 || bytes != self.partitions.codes.len() as u64 {
            return Err(format!("clusters hold {row} of {} rows", self.rows.len()));
        }
        let moments = self.partitions.moments.chunks_exact(2 * LANES * interleaved_stride(self.rows.dim()));
        for (number, (group, moments)) in groups.iter().zip(moments).enumerate() {
            for lane in 0..LANES {
                let wrong = |problem| format!("cluster {}: {problem}", number * LANES + lane);
                self.verify_cluster(group, lane, moments).map_err(wrong)?;
            }
        }
        Ok(())
    }

    fn verify_cluster(&self, group: &Group, lane: usize, moments: &[u8]) -> Result<(), String> {
        let dim = self.rows.dim();
        let mean = mean_of(group, lane, moments, dim);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let most = |limit: f32| f64::from(limit) * (1.0 + ROUNDING) + f64::from(f32::MIN_POSITIVE);
        let mut codes = vec![0; dim];
        let holds = |actual: f64, limit: f32| actual <= most(limit);
        if !holds(norm(&mut mean.iter().copied()), group.norms[lane]) {
            return Err("its mean is longer than its norm".to_owned());
        }
        let start = group.blocks[lane] as usize;
        for (at, row) in members(group, lane).enumerate() {
            let block = &self.partitions.codes[(start + at / LANES) * block_bytes(dim)..][..block_bytes(dim)];
            let (scale, error) = get(block, at % LANES, &mut codes);
            let coded = |at: usize| f64::from(level(codes[at])) * f64::from(scale);
            let units = self.partitions.units;
            let values = self.rows.get(row);
            let left = |at: usize| f64::from(values[at]) - mean[at] - coded(at) * f64::from(units[at]);
            if !holds(norm(&mut (0..dim).map(coded)), group.reaches[lane])
                || !holds(norm(&mut (0..dim).map(left)), error)
            {
                return Err(format!("row {row} differs from its codes by more than its error"));
            }
        }
        Ok(())
    }
}
