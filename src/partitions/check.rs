//! Whether the sections of the partitions hold: what searches rely on but do not prove.

use super::build::{mean_of, members};
use super::encode::level;
use super::{Group, Partitions, Searched};
use crate::vectors::kernels::codes::{block_bytes, get};
use crate::vectors::kernels::interleaved::{LANES, interleaved_stride};

/// The rounding that norms and errors may differ by, as a share.
const ROUNDING: f64 = 1e-5;

impl Partitions<'_> {
    /// What is wrong with sections that were read, of an index of so many rows. A search is safe without: it
    /// finds rows of its index, and none twice.
    pub(super) fn problem(&self, rows: usize, dim: usize) -> Option<String> {
        let moments = self.groups.len() * 2 * LANES * interleaved_stride(dim);
        if self.moments.len() != moments || self.units.len() != dim {
            return Some("the sections of the partitions do not fit together".to_owned());
        }
        if !self.units.iter().all(|unit| *unit > 0.0 && *unit <= 1.0) {
            return Some("a unit of the codes is not above 0 and at most 1".to_owned());
        }
        let (mut row, mut block) = (0usize, 0usize);
        for cluster in 0..self.clusters() {
            let (group, lane) = self.place(cluster);
            let count = group.counts[lane] as usize;
            if count == 0 {
                continue;
            }
            if (group.starts[lane] as usize, group.blocks[lane] as usize) != (row, block) {
                return Some(format!("cluster {cluster} does not begin where the one before it ends"));
            }
            let scales = [group.mean_scales, group.deviation_scales, group.norms, group.reaches];
            if !scales.iter().all(|scales| scales[lane] >= 0.0 && scales[lane].is_finite()) {
                return Some(format!("cluster {cluster} has a scale or a norm that is none"));
            }
            row += count;
            block += count.div_ceil(LANES);
        }
        let whole = row == rows && self.codes.len() == block * block_bytes(dim);
        (!whole).then(|| {
            format!("the clusters hold {row} rows in {block} blocks, not {rows}, or not as many blocks")
        })
    }
}

impl Searched<'_> {
    /// Checks that clusters hold every row once, in order, and that no row differs from what its codes stand for by more
    /// than its error says. `Err` says what does not hold.
    pub fn verify(&self) -> Result<(), String> {
        self.partitions.problem(self.rows.len(), self.rows.dim()).map_or(Ok(()), Err)?;
        let groups = self.partitions.groups;
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
