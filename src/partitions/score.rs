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
            keys.extend(scores.iter().zip(ids.len() as u32..).map(|(&score, number)| key(score, number)));
            ids.extend(rows.iter().map(|&row| self.ids[row as usize]));
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
            let numbered = scores.iter().zip(ids.len() as u32..);
            keys.extend(numbered.map(|(&score, number)| key(score * model.scale + 0.0, number)));
            ids.extend(rows.iter().map(|&row| self.ids[row as usize]));
        });
        scratch.work.scored += visits.len();
    }

    /// Makes hits of the best `k`: by score, then by id.
    pub(super) fn finish(&self, k: usize, scratch: &mut Scratch) {
        let Scratch { keys, spare, ids, hits, .. } = scratch;
        sort(keys, spare);
        let equal = |a: &u64, b: &u64| a >> 32 == b >> 32;
        // Equal scores are brought in order before the last of them are left out.
        let more = keys.get(k..).unwrap_or_default();
        let end = keys.len() - more.len() + more.iter().take_while(|key| equal(&keys[k - 1], key)).count();
        let keys = &keys[..end];
        hits.clear();
        hits.extend(keys.iter().map(|&key| Hit { id: ids[parts(key).1 as usize], score: parts(key).0 }));
        let mut from = 0;
        while let Some(at) = keys[from..].windows(2).position(|pair| equal(&pair[0], &pair[1])) {
            let run = keys[from + at..].chunk_by(equal).next().map_or(0, <[u64]>::len);
            hits[from + at..][..run].sort_unstable_by_key(|hit| hit.id);
            from += at + run;
        }
        hits.truncate(k);
    }
}
