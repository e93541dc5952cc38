//! The two-tower student. Each tower sums weighted rows of a table: one row for each product bought, share,
//! demographic or attribute. The score of a household and a product is the inner product of the two sums.

use rayon::prelude::*;

use crate::als::{Als, DIM, dot};
use crate::data::{Data, Visit};
use crate::past::{Known, Past};

/// A row of a tower's table, and its weight.
pub type Feature = (u32, f32);

/// The rows of a product: its own, and those of its department, category, type, maker and popularity.
pub type ItemRows = [u32; ROWS];
pub const ROWS: usize = 6;

/// Products are told apart by how often they were bought in the last 13 weeks, in powers of two.
const POPULARITY: usize = 12;

/// Starting factors are made larger by this, so that scores begin in the range of log odds.
const START_SCALE: f32 = 2.5;

#[derive(Clone)]
pub struct Tower {
    pub rows: Vec<[f32; DIM]>,
    /// The sum of squared gradients of each row, for Adagrad.
    pub squares: Vec<f32>,
}

#[derive(Clone)]
pub struct Student {
    pub user: Tower,
    pub item: Tower,
}

impl Tower {
    fn new(rows: Vec<[f32; DIM]>) -> Tower {
        let squares = vec![1e-3; rows.len()];
        Tower { rows, squares }
    }

    pub fn embed(&self, features: impl IntoIterator<Item = Feature>) -> [f32; DIM] {
        let mut sum = [0.0; DIM];
        for (row, weight) in features {
            sum.iter_mut().zip(&self.rows[row as usize]).for_each(|(sum, value)| *sum += weight * value);
        }
        sum
    }
}

impl Student {
    /// Starts from the factors of ALS: an item is its factors, and a household is what the map of its bag of
    /// products to its factors gives. All other rows are zero.
    pub fn start(past: &Past, als: &Als, sample: &[Visit]) -> Student {
        let data = past.data;
        let map = fit_map(past, als, sample);
        let mut user = vec![[0.0; DIM]; user_rows(data)];
        let mut item = vec![[0.0; DIM]; item_rows(data)];
        for (product, factors) in als.items.iter().enumerate() {
            item[product] = factors.map(|value| value * START_SCALE);
            for (to, row) in user[product].iter_mut().zip(&map) {
                *to = START_SCALE * dot(row, factors);
            }
        }
        Student { user: Tower::new(user), item: Tower::new(item) }
    }

    pub fn embed_user(&self, features: &[Feature]) -> [f32; DIM] {
        self.user.embed(features.iter().copied())
    }

    pub fn embed_item(&self, rows: ItemRows) -> [f32; DIM] {
        self.item.embed(rows.map(|row| (row, 1.0)))
    }

    /// The item embeddings of the catalogue as of a week: the dump.
    pub fn dump(&self, past: &Past, week: u8) -> Vec<[f32; DIM]> {
        let products = 0..past.data.catalogue;
        products.into_par_iter().map(|product| self.embed_item(item_features(past, product, week))).collect()
    }
}

fn user_rows(data: &Data) -> usize {
    2 * data.catalogue + data.levels.departments + data.demographics.iter().sum::<usize>() + 1
}

/// A household as rows of the user tower.
pub fn user_features(data: &Data, known: &Known) -> Vec<Feature> {
    let week = known.visit.week;
    let mut features = Vec::with_capacity(known.bought.len() + 40);
    bag(&mut features, known, data, 0, |weeks| (1.0 + weeks.count() as f32).ln());
    bag(&mut features, known, data, data.catalogue, |weeks| weeks.latest(week, 6).count() as f32);
    let mut first = 2 * data.catalogue;
    let shares = known.departments.iter().enumerate().filter(|(_, times)| **times > 0.0);
    features.extend(shares.map(|(at, times)| ((first + at) as u32, times / known.total)));
    first += data.levels.departments;
    for (&level, levels) in data.households[known.visit.household].demographics.iter().zip(&data.demographics)
    {
        features.push(((first + level) as u32, 1.0));
        first += levels;
    }
    features.push((first as u32, 1.0));
    features
}

/// Adds the products bought before, with weights whose squares sum to 1.
fn bag(
    features: &mut Vec<Feature>,
    known: &Known,
    data: &Data,
    first: usize,
    weight: impl Fn(crate::data::Weeks) -> f32,
) {
    let start = features.len();
    let in_catalogue = known.bought.iter().take_while(|(product, _)| (*product as usize) < data.catalogue);
    let weights = in_catalogue.map(|&(product, weeks)| (first as u32 + product, weight(weeks)));
    features.extend(weights.filter(|&(_, weight)| weight > 0.0));
    let norm = features[start..].iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
    features[start..].iter_mut().for_each(|(_, weight)| *weight /= norm);
}

fn item_rows(data: &Data) -> usize {
    let levels = data.levels;
    data.catalogue + levels.departments + levels.categories + levels.kinds + levels.makers + POPULARITY
}

/// A product of the catalogue as rows of the item tower.
pub fn item_features(past: &Past, product: usize, week: u8) -> ItemRows {
    let data = past.data;
    let (of, levels) = (data.products[product], data.levels);
    let popularity = (past.purchases(product, week, 13) + 1.0).log2() as usize;
    let fields = [
        (product, data.catalogue),
        (of.department, levels.departments),
        (of.category, levels.categories),
        (of.kind, levels.kinds),
        (of.maker, levels.makers),
        (popularity.min(POPULARITY - 1), POPULARITY),
    ];
    let mut first = 0;
    fields.map(|(code, levels)| {
        let row = first + code;
        first += levels;
        row as u32
    })
}

/// The linear map from bags of products to the factors of their households, by least squares over a sample.
fn fit_map(past: &Past, als: &Als, sample: &[Visit]) -> Vec<[f32; DIM]> {
    let pairs: Vec<([f32; DIM], [f32; DIM])> = sample
        .par_iter()
        .map(|&visit| {
            let known = past.household(visit);
            let mut features = Vec::new();
            bag(&mut features, &known, past.data, 0, |weeks| (1.0 + weeks.count() as f32).ln());
            let mut bag = [0.0; DIM];
            for (product, weight) in features {
                bag.iter_mut()
                    .zip(&als.items[product as usize])
                    .for_each(|(sum, value)| *sum += weight * value);
            }
            (bag, als.fold_in(&known.bought))
        })
        .collect();
    crate::als::least_squares(&pairs)
}
