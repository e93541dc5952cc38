//! The funnel of the test weeks: every model orders the same candidates of every visit.

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::Outcome;
use crate::als::{Als, DIM, dot};
use crate::data::Visit;
use crate::measure::{BEST, COUNTS, Measured, Metrics, Truth, order};
use crate::past::{Known, Past};
use crate::recall::{Candidates, Recall};
use crate::student::{Student, user_features};
use crate::teacher::Teacher;

/// The orders that are compared, by place in [`List::models`]; named as in `funnel.json`.
pub const MODELS: [&str; 5] = ["hard", "distilled", "teacher", "times_bought", "als"];
pub const HARD: usize = 0;
pub const DISTILLED: usize = 1;

/// A visit of the test, measured.
pub struct List {
    pub visit: Visit,
    /// For each model the order of all candidates, and of those never bought before. A student's figures are
    /// the means over its seeds.
    pub models: [[Measured; 2]; MODELS.len()],
    pub candidates: usize,
    /// What was bought of the catalogue, what of it was recalled, and what was bought in all.
    pub bought: usize,
    pub recalled: usize,
    pub bought_in_all: usize,
    /// The first seed's hard and distilled student: pairs of student's and teacher's score, each less the
    /// list's mean, of a few candidates.
    pub pairs: [Vec<[f32; 2]>; 2],
}

/// A student and its dump.
pub struct Dumped<'a> {
    pub student: &'a Student,
    pub items: Vec<[f32; DIM]>,
}

impl<'a> Dumped<'a> {
    pub fn new(student: &'a Student, past: &Past, week: u8) -> Dumped<'a> {
        Dumped { student, items: student.dump(past, week) }
    }

    pub fn scores(&self, past: &Past, known: &Known, products: &[u32]) -> Vec<f32> {
        let user = self.student.embed_user(&user_features(past.data, known));
        products.iter().map(|&product| dot(&user, &self.items[product as usize])).collect()
    }
}

/// Measures all models on these visits. `students` holds for each seed the hard and the distilled one.
pub fn measure(
    past: &Past,
    recall: &Recall,
    teacher: &Teacher,
    students: &[[Dumped; 2]],
    visits: &[Visit],
) -> Outcome<Vec<List>> {
    Ok(recall.for_each(visits, |known, candidates| list(past, teacher, students, &known, &candidates))?)
}

/// How the candidates are ordered by the number of times that they were bought before, and then by ALS.
pub fn by_times_bought(known: &Known, candidates: &Candidates) -> Vec<f32> {
    let products = candidates.products.iter().zip(&candidates.scores);
    products.map(|(&product, score)| known.weeks(product).count() as f32 + 1e-3 * score).collect()
}

fn list(
    past: &Past,
    teacher: &Teacher,
    students: &[[Dumped; 2]],
    known: &Known,
    candidates: &Candidates,
) -> List {
    let products = &candidates.products;
    let bought = past.data.bought(candidates.visit);
    let marks: Vec<bool> = products.iter().map(|product| bought.binary_search(product).is_ok()).collect();
    let new: Vec<usize> = (0..products.len()).filter(|&at| known.weeks(products[at]).is_empty()).collect();
    let pick = |scores: &[f32]| new.iter().map(|&at| scores[at]).collect::<Vec<f32>>();
    let by_teacher = teacher.score(past, known, products, &candidates.scores);
    let truths = [
        Truth::new(&by_teacher, marks.clone()),
        Truth::new(&pick(&by_teacher), new.iter().map(|&at| marks[at]).collect()),
    ];
    let measure = |scores: &[f32]| [truths[0].measure(scores), truths[1].measure(&pick(scores))];
    let by_student = |kind: usize| -> Vec<Vec<f32>> {
        students.iter().map(|of_seed| of_seed[kind].scores(past, known, products)).collect()
    };
    let by_students = [HARD, DISTILLED].map(by_student);
    let [hard, distilled] =
        by_students.each_ref().map(|seeds| mean(seeds.iter().map(|scores| measure(scores)).collect()));
    List {
        visit: candidates.visit,
        models: [
            hard,
            distilled,
            measure(&by_teacher),
            measure(&by_times_bought(known, candidates)),
            measure(&candidates.scores),
        ],
        candidates: products.len(),
        bought: bought.len(),
        recalled: marks.iter().filter(|&&mark| mark).count(),
        bought_in_all: past.data.households[candidates.visit.household]
            .bought
            .iter()
            .filter(|bought| bought.weeks.has(candidates.visit.week))
            .count(),
        pairs: by_students.map(|seeds| centred_pairs(&seeds[0], &by_teacher)),
    }
}

/// The mean of the measures of one list under students of several seeds.
fn mean(seeds: Vec<[Measured; 2]>) -> [Measured; 2] {
    let count = seeds.len() as f32;
    let mean_of = |value: &dyn Fn(&[Measured; 2]) -> f32| seeds.iter().map(value).sum::<f32>() / count;
    let first = seeds[0];
    [0, 1].map(|part| Measured {
        metrics: std::array::from_fn(|metric| {
            first[part].metrics[metric].map(|_| mean_of(&|seed| seed[part].metrics[metric].unwrap_or(0.0)))
        }),
        bought: first[part].bought.map(|_| {
            std::array::from_fn(|at| mean_of(&|seed| seed[part].bought.map_or(0.0, |bought| bought[at])))
        }),
        best: std::array::from_fn(|at| mean_of(&|seed| seed[part].best[at])),
    })
}

fn centred_pairs(student: &[f32], teacher: &[f32]) -> Vec<[f32; 2]> {
    let mean = |scores: &[f32]| scores.iter().sum::<f32>() / scores.len().max(1) as f32;
    let (of_student, of_teacher) = (mean(student), mean(teacher));
    let pairs = student.iter().zip(teacher).step_by(50);
    pairs.map(|(student, teacher)| [student - of_student, teacher - of_teacher]).collect()
}

/// The difference of the distilled to the hard student in each metric, by household; `part` 0 is all
/// candidates, 1 those never bought before.
pub fn differences(lists: &[List], part: usize) -> Vec<(usize, Metrics)> {
    let difference = |list: &List| -> Metrics {
        let [hard, distilled] = [HARD, DISTILLED].map(|model| list.models[model][part].metrics);
        std::array::from_fn(|metric| Some(distilled[metric]? - hard[metric]?))
    };
    lists.iter().map(|list| (list.visit.household, difference(list))).collect()
}

/// The share of the teacher's best of the whole catalogue that is among the candidates, over these visits.
pub fn best_recalled(
    past: &Past,
    als: &Als,
    recall: &Recall,
    teacher: &Teacher,
    visits: &[Visit],
) -> Outcome<f64> {
    let all: Vec<u32> = (0..past.data.catalogue as u32).collect();
    let candidates = recall.for_each(visits, |_, candidates| candidates)?;
    let shares: Vec<f64> = candidates
        .par_iter()
        .map(|candidates| {
            let known = past.household(candidates.visit);
            let user = als.fold_in(&known.bought);
            let scores: Vec<f32> = als.items.iter().map(|item| dot(&user, item)).collect();
            let best = order(&teacher.score(past, &known, &all, &scores));
            let found = |&&at: &&usize| candidates.products.binary_search(&(at as u32)).is_ok();
            best.iter().take(BEST).filter(found).count() as f64 / BEST as f64
        })
        .collect();
    Ok(shares.iter().sum::<f64>() / shares.len().max(1) as f64)
}

/// The funnel stage by stage: the share of what was bought that is left (`kept`, by the distilled student),
/// and of the teacher's best; then both for the hard student and the teacher itself.
pub fn funnel(lists: &[List], best_recalled: f64) -> Value {
    let sum = |value: fn(&List) -> usize| lists.iter().map(value).sum::<usize>() as f64;
    let in_all = sum(|list| list.bought_in_all);
    let mut stages = vec![
        json!({"stage": "bought", "kept": 1.0, "teacher_kept": 1.0}),
        json!({"stage": "in the index", "kept": sum(|list| list.bought) / in_all, "teacher_kept": 1.0}),
        json!({"stage": "recall", "kept": sum(|list| list.recalled) / in_all, "teacher_kept": best_recalled}),
    ];
    for count in [1000, 300, 100] {
        let at = COUNTS.iter().position(|&of_curve| of_curve == count).expect("the curves are taken there");
        let bought = |model: usize| {
            let of_list = |list: &List| list.models[model][0].bought.map_or(0.0, |bought| bought[at]) as f64;
            lists.iter().map(|list| of_list(list) * list.recalled as f64).sum::<f64>() / in_all
        };
        let best = |model: usize| {
            let kept = lists.iter().map(|list| list.models[model][0].best[at] as f64);
            best_recalled * kept.sum::<f64>() / lists.len() as f64
        };
        stages.push(json!({
            "stage": format!("pre-ranking to {count}"),
            "kept": bought(DISTILLED),
            "teacher_kept": best(DISTILLED),
            "hard": {"kept": bought(HARD), "teacher_kept": best(HARD)},
            "teacher": {"kept": bought(2), "teacher_kept": best(2)},
        }));
    }
    stages.into()
}
