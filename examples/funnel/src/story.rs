//! One household in words: what it bought, what each model would pass on first, and where the student and the
//! teacher disagree.

use crate::Outcome;
use crate::data::Visit;
use crate::features::FEATURES;
use crate::measure::order;
use crate::past::{Known, Past};
use crate::recall::{Candidates, Recall};
use crate::teacher::Teacher;
use crate::test_set::{DISTILLED, Dumped, HARD, List};

/// How many products are told of each order.
const TOLD: usize = 10;
/// The disagreement is looked for among so many of the teacher's best.
const LOOKED_AT: usize = 20;

pub struct Story {
    pub household: u32,
    pub week: u8,
    pub bought_before: usize,
    pub bought: Vec<Told>,
    /// The first products of the teacher, the hard and the distilled student.
    pub orders: [(&'static str, Vec<Told>); 3],
    pub disagreement: Disagreement,
}

/// A product, whether it was bought in the visit, and how often before.
pub struct Told {
    pub name: String,
    pub bought: bool,
    pub times: u32,
}

/// One of the teacher's best that the distilled student puts lowest, and why the teacher wants it.
pub struct Disagreement {
    pub product: Told,
    /// Its places for the teacher, the hard and the distilled student.
    pub places: [usize; 3],
    /// Features, their values, and what each adds to the teacher's log odds; the largest first.
    pub reasons: Vec<(&'static str, f32, f32)>,
}

/// The story of a typical visit: one with at least six purchases whose agreement is the median.
pub fn tell(
    past: &Past,
    recall: &Recall,
    teacher: &Teacher,
    students: &[Dumped; 2],
    lists: &[List],
) -> Outcome<Story> {
    let mut typical: Vec<(f32, Visit)> = lists
        .iter()
        .filter(|list| list.recalled >= 6)
        .map(|list| (list.models[DISTILLED][0].best[2], list.visit))
        .collect();
    typical.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (_, visit) = typical.get(typical.len() / 2).ok_or("no household of the test bought six products")?;
    let told = recall
        .for_each(&[*visit], |known, candidates| about(past, teacher, students, &known, &candidates))?;
    Ok(told.into_iter().next().expect("one story for one visit"))
}

fn about(
    past: &Past,
    teacher: &Teacher,
    students: &[Dumped; 2],
    known: &Known,
    candidates: &Candidates,
) -> Story {
    let (data, products) = (past.data, &candidates.products);
    let bought = data.bought(known.visit);
    let told = |product: u32| Told {
        name: data.name(product as usize),
        bought: bought.binary_search(&product).is_ok(),
        times: known.weeks(product).count(),
    };
    let scores = [
        teacher.score(past, known, products, &candidates.scores),
        students[HARD].scores(past, known, products),
        students[DISTILLED].scores(past, known, products),
    ];
    let orders = scores.each_ref().map(|scores| order(scores));
    let first = |order: &[usize]| order.iter().take(TOLD).map(|&at| told(products[at])).collect();
    let place =
        |model: usize, wanted: usize| orders[model].iter().position(|&at| at == wanted).unwrap_or(0) + 1;
    let wanted = orders[0].iter().take(LOOKED_AT).copied().max_by_key(|&at| place(2, at)).unwrap_or(0);
    let mut reasons = teacher.reasons(past, known, products[wanted], candidates.scores[wanted]);
    reasons.sort_by(|a, b| b.2.total_cmp(&a.2));
    reasons.truncate(4);
    Story {
        household: data.households[known.visit.household].id,
        week: known.visit.week,
        bought_before: known.bought.len(),
        bought: bought.iter().map(|&product| told(product)).collect(),
        orders: [
            ("teacher", first(&orders[0])),
            ("hard", first(&orders[1])),
            ("distilled", first(&orders[2])),
        ],
        disagreement: Disagreement {
            product: told(products[wanted]),
            places: [0, 1, 2].map(|model| place(model, wanted)),
            reasons,
        },
    }
}

impl Teacher {
    /// Each feature with its value and what it adds to the score of one product.
    fn reasons(
        &self,
        past: &Past,
        known: &Known,
        product: u32,
        recall_score: f32,
    ) -> Vec<(&'static str, f32, f32)> {
        let (values, parts) = self.contributions(past, known, product, recall_score);
        FEATURES.iter().zip(values).zip(parts).map(|((&name, value), part)| (name, value, part)).collect()
    }
}
