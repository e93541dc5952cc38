//! How much further a search has to go where a filter keeps rows far from the user.
//!
//! The model takes the scores of a cluster for a normal distribution. Far from the user the best rows stand in
//! clusters of low mean, where they are fewer and the tails count for more. By how much cannot be told from users
//! without filters, so it is measured: rows that stand together in the file are like each other, and the half of the
//! file that is farthest from where a user's best row stands holds rows far from the user.

use super::calibrate::BEGINNING;
use super::calibration::Calibration;
use super::in_shares;
use super::search::{Aim, Among, Scratch, Searched, Wanted};
use crate::Result;
use crate::progress::{Stage, Watch};
use crate::row_set::RowSet;

/// Margins tried, in deviations.
const MARGINS: [f32; 7] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0];

/// The recall that is measured, for so many items, and how near to it a margin has to come.
const RECALL: f32 = 0.95;
const K: usize = 100;
const NEAR: f32 = 0.005;

/// The shares of the rows that the measured filters keep, and how many users measure.
const SHARES: [usize; 3] = [2, 10, 50];
const USERS: usize = 32;

/// The smallest margin by which filters far from users reach the recall, of an index whose `ids` here are the numbers
/// of its rows.
pub(crate) fn margin(
    searched: &Searched<'_>,
    users: &[&[f32]],
    calibration: &Calibration,
    threads: usize,
    watch: &Watch<'_>,
) -> Result<f32> {
    watch.tick(Stage::Calibrate, 0, 1)?;
    let mut found: Vec<(&[f32], [usize; MARGINS.len() + 1])> =
        users.iter().take(USERS).map(|&user| (user, [0; MARGINS.len() + 1])).collect();
    in_shares(&mut found, threads, |(user, found)| {
        SHARES.into_iter().for_each(|share| measure(searched, user, calibration, share, found));
    });
    let sums: Vec<usize> =
        (0..=MARGINS.len()).map(|at| found.iter().map(|(_, found)| found[at]).sum()).collect();
    let wanted = (RECALL - NEAR) * sums[MARGINS.len()] as f32;
    let enough = sums[..MARGINS.len()].iter().position(|&found| found as f32 >= wanted);
    watch.tick(Stage::Calibrate, 1, 1)?;
    Ok(MARGINS[enough.unwrap_or(MARGINS.len() - 1)])
}

/// Adds how many of the exact best a search with each margin finds, and last how many there are.
fn measure(
    searched: &Searched<'_>,
    user: &[f32],
    calibration: &Calibration,
    share: usize,
    found: &mut [usize; MARGINS.len() + 1],
) {
    let total = searched.rows.len();
    let (kept, mut scratch) = (total / share, Scratch::default());
    if kept <= K {
        return;
    }
    let all = Wanted { k: 1, among: None, approximate: false, most: 1.0 };
    searched.search_exactly(user, all, BEGINNING, &mut scratch);
    let best = scratch.hits.first().map_or(0, |hit| hit.id as usize);
    let mut rows = RowSet::none(total);
    let first = best + total / 2 - kept / 2;
    (first..first + kept).for_each(|row| rows.insert((row % total) as u32));

    let among = Among { words: rows.words(), counts: None, budget: usize::MAX, aim: None };
    let wanted = Wanted { k: K, among: Some(among), approximate: false, most: 1.0 };
    searched.search_exactly(user, wanted, BEGINNING, &mut scratch);
    let Some(last) = scratch.hits.last().map(|hit| hit.score) else { return };
    found[MARGINS.len()] += K;
    let Some(effort) = calibration.effort(K, 1.0 / share as f32, RECALL) else { return };
    for (found, margin) in found.iter_mut().zip(MARGINS) {
        let aim = Some(Aim { calibration, recall: RECALL, margin });
        let wanted = Wanted { among: Some(Among { aim, ..among }), ..wanted };
        searched.search(user, wanted, effort, &mut scratch);
        *found += scratch.hits.iter().filter(|hit| hit.score >= last).count().min(K);
    }
}
