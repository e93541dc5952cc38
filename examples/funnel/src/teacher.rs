//! The ranking model: gradient-boosted trees over crossed features, and what it logs while it serves.

use forust_ml::data::Matrix;
use forust_ml::gradientbooster::{ContributionsMethod, GradientBooster};

use crate::data::Visit;
use crate::features::{FEATURES, features};
use crate::past::{Known, Past};
use crate::recall::{Candidates, Recall};
use crate::trees::{DEPTH, Forest};

/// Candidates that were not bought, drawn for each visit that the trees are trained on.
const NEGATIVES: usize = 60;
const TREES: usize = 120;

pub struct Teacher {
    trees: GradientBooster,
    /// The same trees, quicker.
    forest: Forest,
}

impl Teacher {
    /// Trained on what was bought of the candidates of these visits.
    pub fn fit(past: &Past, recall: &Recall, visits: &[Visit], seed: u64) -> itemdex::Result<Teacher> {
        let rows =
            recall.for_each(visits, |known, candidates| training_rows(past, &known, &candidates, seed))?;
        let rows: Vec<([f32; FEATURES.len()], bool)> = rows.into_iter().flatten().collect();
        let values = columns(rows.iter().map(|(row, _)| row));
        let bought: Vec<f64> = rows.iter().map(|&(_, bought)| f64::from(u8::from(bought))).collect();
        let mut trees = GradientBooster::default()
            .set_iterations(TREES)
            .set_learning_rate(0.12)
            .set_max_depth(DEPTH)
            .set_max_leaves(64)
            .set_min_leaf_weight(5.0)
            .set_seed(seed);
        let matrix = Matrix::new(&values, rows.len(), FEATURES.len());
        trees.fit_unweighted(&matrix, &bought, None).expect("the features are numbers");
        let forest = Forest::new(&trees);
        Ok(Teacher { trees, forest })
    }

    /// The scores, as log odds, of products for a household; `recall_scores` as in [`features`].
    pub fn score(&self, past: &Past, known: &Known, products: &[u32], recall_scores: &[f32]) -> Vec<f32> {
        let rows: Vec<_> =
            products.iter().zip(recall_scores).map(|(&p, &s)| features(past, known, p, s)).collect();
        self.forest.score(&rows)
    }
}

impl Teacher {
    /// The features of one product, and what each adds to its score (Saabas's path attribution).
    pub fn contributions(
        &self,
        past: &Past,
        known: &Known,
        product: u32,
        recall_score: f32,
    ) -> ([f32; FEATURES.len()], Vec<f32>) {
        let row = features(past, known, product, recall_score);
        let values = columns([row].iter());
        let matrix = Matrix::new(&values, 1, FEATURES.len());
        let parts = self.trees.predict_contributions(&matrix, ContributionsMethod::Weight, false);
        (row, parts.into_iter().map(|part| part as f32).collect())
    }
}

/// All that was bought of the candidates, and some of the rest.
fn training_rows(
    past: &Past,
    known: &Known,
    candidates: &Candidates,
    seed: u64,
) -> Vec<([f32; FEATURES.len()], bool)> {
    let visit = candidates.visit;
    let bought = past.data.bought(visit);
    let mut random = visit.random(seed);
    let share = NEGATIVES as f32 / candidates.products.len() as f32;
    let mut rows = Vec::new();
    for (&product, &score) in candidates.products.iter().zip(&candidates.scores) {
        let was_bought = bought.binary_search(&product).is_ok();
        if was_bought || random.f32() < share {
            rows.push((features(past, known, product, score), was_bought));
        }
    }
    rows
}

/// The rows as one column after another, which is what the trees read.
fn columns<'a>(rows: impl ExactSizeIterator<Item = &'a [f32; FEATURES.len()]>) -> Vec<f64> {
    let count = rows.len();
    let mut values = vec![0.0; count * FEATURES.len()];
    for (at, row) in rows.enumerate() {
        row.iter().enumerate().for_each(|(feature, &value)| values[feature * count + at] = f64::from(value));
    }
    values
}
