//! The order of the rows in the file where there are no partitions: near rows stand together, so that a walk
//! reads few pages and often finds rows in the cache.

use std::sync::Mutex;
use std::thread;

use xxhash_rust::xxh3::xxh3_64;

use crate::vectors::Rows;

/// The pivots that rows are parted by, and the size of a part that is not parted again. Pivots are rows taken
/// by chance; each row goes with the nearest pivot.
const PIVOTS: usize = 32;

/// With fewer rows than this everything is in the cache anyway, and the order of the dump stays.
const FEW: usize = 10_000;

/// The rows in the order in which to place them.
pub(super) fn near_together(rows: Rows<'_>, threads: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    if order.len() < FEW {
        return order;
    }
    let mut parts = part(rows, &mut order, threads);
    // The smallest first: each thread takes the last that is left.
    parts.sort_unstable_by_key(|part| part.len());
    let left = Mutex::new(parts);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(part) = { left.lock().expect("sorting does not panic").pop() } {
                    sort(rows, part);
                }
            });
        }
    });
    drop(left);
    order
}

/// Parts `order`, and its parts, until they are small.
fn sort(rows: Rows<'_>, order: &mut [u32]) {
    if order.len() > PIVOTS {
        let whole = order.len();
        // Equal rows all go with one pivot, and cannot be parted.
        part(rows, order, 1).into_iter().filter(|part| part.len() < whole).for_each(|part| sort(rows, part));
    }
}

/// Sorts `order` by the pivot that each row is nearest to, neighbouring pivots near to each other; returns
/// the parts.
fn part<'o>(rows: Rows<'_>, order: &'o mut [u32], threads: usize) -> Vec<&'o mut [u32]> {
    let pivots = chain(rows, pivots(order));
    let numbers: Vec<u32> = (0..pivots.len() as u32).collect();
    let values: Vec<f32> = pivots.iter().flat_map(|&row| unit(&rows.padded(row))).collect();
    let pivot_rows = Rows::new(&values, rows.dim());
    let nearest = |&row: &u32| {
        let mut scores = [0.0; PIVOTS];
        pivot_rows.scores(&rows.padded(row), &numbers, &mut scores[..numbers.len()]);
        let best = (0..numbers.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        (best.unwrap_or_default() as u32, row)
    };
    let chunk = order.len().div_ceil(threads);
    let mut placed: Vec<(u32, u32)> = match threads {
        1 => order.iter().map(nearest).collect(),
        _ => thread::scope(|scope| {
            let place = |chunk: &[u32]| chunk.iter().map(nearest).collect::<Vec<_>>();
            let running: Vec<_> =
                order.chunks(chunk).map(|chunk| scope.spawn(move || place(chunk))).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("placing does not panic")).collect()
        }),
    };
    placed.sort_unstable();
    order.iter_mut().zip(&placed).for_each(|(place, &(_, row))| *place = row);
    let mut parts = Vec::new();
    let mut left = order;
    for part in placed.chunk_by(|a, b| a.0 == b.0) {
        let (first, rest) = left.split_at_mut(part.len());
        parts.push(first);
        left = rest;
    }
    parts
}

/// Rows taken by the hash of their number: evenly, but not by any pattern in the dump.
fn pivots(order: &[u32]) -> Vec<u32> {
    let hash = |number: usize| xxh3_64(&(number as u64).to_le_bytes()) as usize;
    let mut pivots: Vec<u32> = (0..PIVOTS).map(|number| order[hash(number) % order.len()]).collect();
    pivots.sort_unstable();
    pivots.dedup();
    pivots
}

/// The same rows in another order: each is followed by the nearest of those left.
fn chain(rows: Rows<'_>, mut left: Vec<u32>) -> Vec<u32> {
    let mut chain = Vec::with_capacity(left.len());
    let mut last = left.pop();
    while let Some(row) = last {
        chain.push(row);
        let mut scores = [0.0; PIVOTS];
        rows.scores(&rows.padded(row), &left, &mut scores[..left.len()]);
        let nearest = (0..left.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        last = nearest.map(|nearest| left.swap_remove(nearest));
    }
    chain
}

/// The embedding at norm 1, so that no pivot draws all rows by its norm; zeros stay zeros.
fn unit(embedding: &[f32]) -> Vec<f32> {
    let norm = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
    embedding.iter().map(|value| if norm > 0.0 { value / norm } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 16;

    fn order_of(count: usize, value: impl Fn(usize, usize) -> f32) -> Vec<u32> {
        let values: Vec<f32> = (0..count * DIM).map(|at| value(at / DIM, at % DIM)).collect();
        let order = near_together(Rows::new(&values, DIM), 2);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..count as u32), "every row once");
        order
    }

    #[test]
    fn rows_of_one_kind_stand_together() {
        let kinds = 40;
        let order = order_of(FEW + 5, |row, at| {
            let kind = (row % kinds + 1) as f32;
            (kind * (at * at + 1) as f32).sin() + 0.05 * ((row * 31 + at) as f32).sin()
        });
        let changes =
            order.windows(2).filter(|pair| pair[0] as usize % kinds != pair[1] as usize % kinds).count();
        assert!(changes < 10 * kinds, "{changes} changes of kind");
    }

    #[test]
    fn equal_rows_and_rows_of_zeros_are_placed_too() {
        order_of(FEW, |_, _| 1.0);
        order_of(FEW, |row, _| if row % 2 == 0 { 0.0 } else { 1.0 });
    }

    #[test]
    fn few_rows_stay_as_they_are() {
        assert!(order_of(FEW - 1, |row, at| (row * at) as f32).into_iter().eq(0..FEW as u32 - 1));
    }
}
