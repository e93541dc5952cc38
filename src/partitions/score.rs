//! The rows that codes leave: their scores, and the best of them in order.

use super::search::{Scratch, Searched};
use super::select::{key, parts, sort};
use crate::top::Hit;
use crate::vectors::Quantized;
use crate::vectors::gather::{BLOCK, gather};
use crate::vectors::kernels::prefetch;

impl Searched<'_> {
    /// Leaves among the rows read those to visit whose bounds by `i8` values reach `least`.
    pub(super) fn bound(&self, user: &[f32], least: f32, scratch: &mut Scratch) {
        let Scratch { readings, visits, values, .. } = scratch;
        let bounding =
            self.quantized.and_then(|quantized| Some((quantized, quantized.bounds(user, values)?)));
        let Some((quantized, bounds)) = bounding else {
            return visits.extend_from_slice(readings.rows());
        };
        gather(
            readings.rows(),
            |row| quantized.prefetch(row),
            |rows| {
                quantized.bound(values, bounds, rows, |row, _, most| {
                    if most >= least {
                        visits.push(row);
                    }
                });
            },
        );
    }

    /// Scores the visits in `f32`.
    pub(super) fn score(&self, scratch: &mut Scratch) {
        let Scratch { user, visits, keys, ids, .. } = scratch;
        keys.clear();
        ids.clear();
        let touch = |row: u32| {
            self.rows.prefetch(row);
            prefetch(self.ids, row as usize, 1);
        };
        gather(visits, touch, |rows| {
            let scores = &mut [0.0; BLOCK][..rows.len()];
            self.rows.scores(user, rows, scores);
            for (&row, &mut score) in rows.iter().zip(scores) {
                keys.push(key(score, ids.len() as u32));
                ids.push(self.ids[row as usize]);
            }
        });
        scratch.work.scored += visits.len();
    }

    /// Scores the visits by their `i8` values.
    pub(super) fn score_roughly(&self, quantized: Quantized<'_>, scratch: &mut Scratch) {
        let Scratch { user, model, visits, keys, ids, values, .. } = scratch;
        quantized.quantize_user(&user[..self.rows.dim()], values);
        keys.clear();
        ids.clear();
        let touch = |row: u32| {
            quantized.prefetch(row);
            prefetch(self.ids, row as usize, 1);
        };
        gather(visits, touch, |rows| {
            let scores = &mut [0.0; BLOCK][..rows.len()];
            quantized.scores(values, rows, scores);
            for (&row, &mut score) in rows.iter().zip(scores) {
                keys.push(key(score * model.scale + 0.0, ids.len() as u32));
                ids.push(self.ids[row as usize]);
            }
        });
        scratch.work.scored += visits.len();
    }

    /// Makes hits of the best `k`: by score, then by id.
    pub(super) fn finish(&self, k: usize, scratch: &mut Scratch) {
        let Scratch { keys, spare, ids, hits, .. } = scratch;
        sort(keys, spare);
        hits.clear();
        for equal in keys.chunk_by(|&a, &b| parts(a).0 == parts(b).0) {
            let start = hits.len();
            if start >= k {
                break;
            }
            hits.extend(equal.iter().map(|&key| Hit { id: ids[parts(key).1 as usize], score: parts(key).0 }));
            if equal.len() > 1 {
                hits[start..].sort_unstable_by_key(|hit| hit.id);
            }
        }
        hits.truncate(k);
    }
}
