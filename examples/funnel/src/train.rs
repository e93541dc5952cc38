//! The student's trainer: one step a logged list, by row-wise Adagrad over the rows that the list touches.

use rayon::prelude::*;

use crate::als::{DIM, dot};
use crate::logs::Log;
use crate::past::Past;
use crate::student::{Feature, ItemRows, ROWS, Student, Tower, item_features, user_features};

/// What a student learns from a list.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// What was bought, against the rest of the list: the cross entropy of a softmax.
    Hard,
    /// The teacher's scores, as differences between any two of the list, and a little of [`Loss::Hard`].
    Distilled,
}

/// How a student is trained.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub loss: Loss,
    pub epochs: usize,
    /// Adagrad's rate.
    pub rate: f32,
}

/// How much of the hard loss goes into a distilled one.
const HARD_SHARE: f32 = 0.2;

/// A logged list as the towers see it.
pub struct List {
    pub user: Vec<Feature>,
    /// The rows of the item tower that the list touches, ascending, and for each item the places of its own
    /// among them.
    pub rows: Vec<u32>,
    pub items: Vec<[u16; ROWS]>,
    pub teacher: Vec<f32>,
    pub bought: Vec<bool>,
    /// The logarithm of how many candidates each item stands for.
    pub log_weights: Vec<f32>,
}

/// The loss of a list and its gradients: those of all rows of the user tower are `user` times the row's
/// weight, and that of a row of the item tower is its factor times the user embedding.
pub struct Gradients {
    pub loss: f32,
    pub user: [f32; DIM],
    pub item: Vec<Feature>,
    pub embedding: [f32; DIM],
}

impl List {
    /// All lists of a log.
    pub fn all(past: &Past, log: &Log) -> Vec<List> {
        (0..log.visits.len()).into_par_iter().map(|list| List::new(past, log, list)).collect()
    }

    fn new(past: &Past, log: &Log, list: usize) -> List {
        let (visit, entries) = (log.visits[list], log.entries(list));
        let products = log.products[entries.clone()].iter();
        let items: Vec<ItemRows> =
            products.map(|&product| item_features(past, product as usize, visit.week)).collect();
        let mut rows = items.as_flattened().to_vec();
        rows.sort_unstable();
        rows.dedup();
        let place = |row: u32| rows.partition_point(|&before| before < row) as u16;
        List {
            user: user_features(past.data, &past.household(visit)),
            items: items.iter().map(|of_item| of_item.map(place)).collect(),
            rows,
            teacher: log.scores[entries.clone()].to_vec(),
            bought: log.bought[entries.clone()].to_vec(),
            log_weights: log.weights[entries].iter().map(|weight| weight.ln()).collect(),
        }
    }
}

/// Trains a student on the lists, in an order that the seed decides.
pub fn train(mut student: Student, lists: &[List], course: Course, seed: u64) -> Student {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order: Vec<&List> = lists.iter().collect();
    for _ in 0..course.epochs {
        random.shuffle(&mut order);
        order.iter().for_each(|list| step(&mut student, list, course));
    }
    student
}

fn step(student: &mut Student, list: &List, course: Course) {
    let gradients = gradients(student, list, course.loss);
    student.user.descend(&list.user, &gradients.user, course.rate);
    student.item.descend(&gradients.item, &gradients.embedding, course.rate);
}

impl Tower {
    /// Takes a step against the gradients, which are the factor of each row times `direction`.
    fn descend(&mut self, rows: &[Feature], direction: &[f32; DIM], rate: f32) {
        let square = dot(direction, direction) / DIM as f32;
        for &(row, factor) in rows {
            let row = row as usize;
            self.squares[row] += factor * factor * square;
            let step = rate * factor / self.squares[row].sqrt();
            let values = self.rows[row].iter_mut().zip(direction);
            values.for_each(|(value, direction)| *value -= step * direction);
        }
    }
}

pub fn gradients(student: &Student, list: &List, loss: Loss) -> Gradients {
    let embedding = student.embed_user(&list.user);
    let row = |place: u16| list.rows[place as usize];
    let embed = |places: &[u16; ROWS]| student.embed_item(places.map(row));
    let items: Vec<[f32; DIM]> = list.items.iter().map(embed).collect();
    let scores: Vec<f32> = items.iter().map(|item| dot(&embedding, item)).collect();
    let (value, by_score) = match loss {
        Loss::Hard => hard(&scores, list),
        Loss::Distilled => distilled(&scores, list),
    };
    let mut user = [0.0; DIM];
    let mut item: Vec<Feature> = list.rows.iter().map(|&row| (row, 0.0)).collect();
    for ((places, embedding), &slope) in list.items.iter().zip(&items).zip(&by_score) {
        user.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += slope * value);
        places.iter().for_each(|&place| item[place as usize].1 += slope);
    }
    Gradients { loss: value, user, item, embedding }
}

/// The cross entropy of what was bought under a softmax over the list, and its slope by each score. An item
/// that was drawn counts in the softmax for all that it stands for.
fn hard(scores: &[f32], list: &List) -> (f32, Vec<f32>) {
    let count = list.bought.iter().filter(|&&bought| bought).count();
    if count == 0 {
        return (0.0, vec![0.0; scores.len()]);
    }
    let logits: Vec<f32> =
        scores.iter().zip(&list.log_weights).map(|(score, weight)| score + weight).collect();
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let target = |bought: bool| if bought { 1.0 / count as f32 } else { 0.0 };
    let each = || logits.iter().zip(&list.bought);
    let loss = each().map(|(logit, &bought)| target(bought) * (largest + total.ln() - logit)).sum();
    (loss, each().map(|(logit, &bought)| (logit - largest).exp() / total - target(bought)).collect())
}

/// The mean squared error of the differences of scores to those of the teacher, over all pairs of the list,
/// by half. That is the variance of the errors of single scores, so it takes one pass.
fn distilled(scores: &[f32], list: &List) -> (f32, Vec<f32>) {
    let count = scores.len() as f32;
    let errors = || scores.iter().zip(&list.teacher).map(|(score, teacher)| score - teacher);
    let mean = errors().sum::<f32>() / count;
    let variance = errors().map(|error| (error - mean).powi(2)).sum::<f32>() / count;
    let (hard_loss, mut slopes) = hard(scores, list);
    for (slope, error) in slopes.iter_mut().zip(errors()) {
        *slope = HARD_SHARE * *slope + 2.0 * (error - mean) / count;
    }
    (variance + HARD_SHARE * hard_loss, slopes)
}
