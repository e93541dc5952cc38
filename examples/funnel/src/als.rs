//! Matrix factorization of purchases by alternating least squares with confidences (Hu, Koren and Volinsky,
//! ICDM 2008): the recall channel before there is a student, and what the student's training starts from.

use rayon::prelude::*;

use crate::data::{Data, Weeks};

pub const DIM: usize = 96;

/// How much more a purchase weighs than a product that was not bought, by the number of weeks it was bought
/// in.
const CONFIDENCE: f32 = 2.0;
const REGULARIZATION: f32 = 10.0;
const ITERATIONS: usize = 6;

pub struct Als {
    /// The factors of each product of the catalogue.
    pub items: Vec<[f32; DIM]>,
    /// The sum of the outer products of all of them, with the regularization on the diagonal.
    gram: Gram,
}

type Gram = Box<[[f32; DIM]; DIM]>;

/// A place on the other side, and the weight of the pair.
type Pair = (u32, f32);

fn weight(weeks: Weeks) -> f32 {
    CONFIDENCE * (1.0 + weeks.count() as f32).ln()
}

impl Als {
    /// Factors of what was bought before `week`.
    pub fn fit(data: &Data, week: u8, seed: u64) -> Als {
        let mut by_household = vec![Vec::new(); data.households.len()];
        let mut by_item = vec![Vec::new(); data.catalogue];
        for (place, household) in data.households.iter().enumerate() {
            for bought in household.bought.iter().take_while(|b| (b.product as usize) < data.catalogue) {
                let weeks = bought.weeks.before(week);
                if !weeks.is_empty() {
                    by_household[place].push((bought.product, weight(weeks)));
                    by_item[bought.product as usize].push((place as u32, weight(weeks)));
                }
            }
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut items: Vec<[f32; DIM]> =
            (0..data.catalogue).map(|_| [(); DIM].map(|()| 0.1 * (random.f32() - 0.5))).collect();
        for _ in 0..ITERATIONS {
            let households = solve_all(&items, &by_household);
            items = solve_all(&households, &by_item);
        }
        let gram = gram(&items);
        Als { items, gram }
    }

    /// The factors of a household that bought these products.
    pub fn fold_in(&self, bought: &[(u32, Weeks)]) -> [f32; DIM] {
        let in_catalogue = bought.iter().filter(|(product, _)| (*product as usize) < self.items.len());
        let pairs: Vec<Pair> = in_catalogue.map(|&(product, weeks)| (product, weight(weeks))).collect();
        solve(&self.items, &self.gram, &pairs)
    }
}

fn solve_all(others: &[[f32; DIM]], pairs: &[Vec<Pair>]) -> Vec<[f32; DIM]> {
    let gram = gram(others);
    pairs.par_iter().map(|pairs| solve(others, &gram, pairs)).collect()
}

fn gram(rows: &[[f32; DIM]]) -> Gram {
    let add = |mut sum: Gram, row: &[f32; DIM]| {
        add_outer(&mut sum, row, 1.0);
        sum
    };
    // Pieces of a fixed size, so that the sum does not depend on the number of threads.
    let parts: Vec<Gram> = rows.par_chunks(4096).map(|rows| rows.iter().fold(zero(), add)).collect();
    let mut sum = zero();
    for part in parts {
        for (sum, part) in sum.iter_mut().zip(part.iter()) {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    (0..DIM).for_each(|at| sum[at][at] += REGULARIZATION);
    sum
}

fn zero() -> Gram {
    Box::new([[0.0; DIM]; DIM])
}

/// Adds `weight` times the outer product of `row` with itself: the lower triangle, which is all that is read.
fn add_outer(sum: &mut Gram, row: &[f32; DIM], weight: f32) {
    for (at, sum) in sum.iter_mut().enumerate() {
        let value = weight * row[at];
        sum[..=at].iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
    }
}

/// The row that fits these pairs best, by Cholesky's decomposition.
fn solve(others: &[[f32; DIM]], gram: &Gram, pairs: &[Pair]) -> [f32; DIM] {
    let mut matrix = gram.clone();
    let mut right = [0.0; DIM];
    for &(other, weight) in pairs {
        let other = &others[other as usize];
        add_outer(&mut matrix, other, weight);
        right.iter_mut().zip(other).for_each(|(right, value)| *right += (1.0 + weight) * value);
    }
    cholesky(&mut matrix);
    substitute(&matrix, right)
}

/// The map `rows` for which `rows * from` is nearest to `to` over all pairs.
pub fn least_squares(pairs: &[([f32; DIM], [f32; DIM])]) -> Vec<[f32; DIM]> {
    let mut matrix = zero();
    let mut right = vec![[0.0; DIM]; DIM];
    for (from, to) in pairs {
        add_outer(&mut matrix, from, 1.0);
        for (right, &to) in right.iter_mut().zip(to) {
            right.iter_mut().zip(from).for_each(|(right, from)| *right += to * from);
        }
    }
    (0..DIM).for_each(|at| matrix[at][at] += 1e-3);
    cholesky(&mut matrix);
    right.into_iter().map(|right| substitute(&matrix, right)).collect()
}

/// Solves the equations of a matrix whose root is the lower triangle of `root`.
fn substitute(root: &Gram, mut right: [f32; DIM]) -> [f32; DIM] {
    for row in 0..DIM {
        let known = dot(&root[row][..row], &right[..row]);
        right[row] = (right[row] - known) / root[row][row];
    }
    for row in (0..DIM).rev() {
        let known: f32 = (row + 1..DIM).map(|column| root[column][row] * right[column]).sum();
        right[row] = (right[row] - known) / root[row][row];
    }
    right
}

/// Replaces the lower triangle of a positive definite matrix by its root.
fn cholesky(matrix: &mut [[f32; DIM]; DIM]) {
    for row in 0..DIM {
        for column in 0..=row {
            let known = dot(&matrix[row][..column], &matrix[column][..column]);
            let rest = matrix[row][column] - known;
            matrix[row][column] =
                if row == column { rest.max(1e-6).sqrt() } else { rest / matrix[column][column] };
        }
    }
}

/// The inner product, summed in eight lanes that the compiler adds up side by side.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
