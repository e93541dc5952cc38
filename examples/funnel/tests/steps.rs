//! The steps one by one, on one household in twenty.

use funnel::als::{Als, DIM};
use funnel::data::{Bought, Data, LAST_TRAIN_WEEK, TEST, VALIDATION, Visit, Weeks};
use funnel::features::{FEATURES, features};
use funnel::logs::Log;
use funnel::measure::{METRICS, Truth, intervals};
use funnel::past::Past;
use funnel::recall::Recall;
use funnel::student::{Student, item_features, user_features};
use funnel::teacher::Teacher;
use funnel::train::{Course, List, Loss, gradients, train};
use funnel::trees::{DEPTH, Forest};

fn data() -> Data {
    Data::load(20)
}

#[test]
fn the_data_is_what_its_source_says() {
    let data = Data::load(1);
    assert_eq!((data.households.len(), data.products.len()), (2_469, 68_260));
    let purchases: u32 = data.households.iter().flat_map(|h| &h.bought).map(|b| b.weeks.count()).sum();
    assert_eq!(purchases, 1_416_838);
    assert!(data.products[..data.catalogue].is_sorted_by(|a, b| a.id < b.id));
    let bananas = data.products.iter().position(|product| product.id == 1_082_185).unwrap();
    assert!(data.name(bananas).starts_with("BANANAS"), "{}", data.name(bananas));
    assert_eq!(data.households.iter().filter(|h| h.demographics.iter().any(|&level| level > 0)).count(), 801);
}

#[test]
fn weeks_are_split_in_time() {
    assert!(LAST_TRAIN_WEEK < *VALIDATION.start() && VALIDATION.end() < TEST.start());
    let weeks = Weeks(1 << 3 | 1 << 7 | 1 << 50);
    assert_eq!(
        (weeks.before(7), weeks.before(8).last(), weeks.latest(8, 3).count()),
        (Weeks(1 << 3), Some(7), 1)
    );
    for visit in data().visits(TEST) {
        assert!(TEST.contains(&visit.week));
    }
}

/// The data with everything of a week and later taken away, and with everything of it bought by everybody.
fn changed_from(week: u8) -> [Data; 2] {
    let [mut without, mut full] = [data(), data()];
    let later = !((1u64 << week) - 1) & ((1 << 54) - 1);
    for household in &mut without.households {
        household.bought.iter_mut().for_each(|bought| bought.weeks.0 &= !later);
    }
    let catalogue = full.catalogue as u32;
    for household in &mut full.households {
        household.bought.iter_mut().for_each(|bought| bought.weeks.0 |= later);
        let known: Vec<u32> = household.bought.iter().map(|bought| bought.product).collect();
        let more = (0..catalogue).step_by(50).filter(|product| known.binary_search(product).is_err());
        household.bought.extend(more.map(|product| Bought { product, weeks: Weeks(later) }));
        household.bought.sort_unstable_by_key(|bought| bought.product);
    }
    [without, full]
}

#[test]
fn nothing_of_the_labels_week_or_later_reaches_a_feature() {
    let data = data();
    let week = 40;
    let folder = tempfile::tempdir().unwrap();
    let all = |data: &Data| {
        let past = Past::new(data);
        let als = Als::fit(data, week, 1);
        let recall = Recall::new(&past, &als, folder.path(), "leak").unwrap();
        let visits: Vec<Visit> =
            (0..data.households.len()).map(|household| Visit { household, week }).collect();
        recall
            .for_each(&visits, |known, candidates| {
                let products = candidates.products.iter().zip(&candidates.scores).step_by(20);
                let crossed: Vec<_> =
                    products.map(|(&p, &score)| features(&past, &known, p, score)).collect();
                let items: Vec<_> = (0..200).map(|product| item_features(&past, product, week)).collect();
                (candidates.products, crossed, user_features(data, &known), items)
            })
            .unwrap()
    };
    let honest = all(&data);
    for changed in changed_from(week) {
        assert!(
            all(&changed) == honest,
            "a feature of week {week} changes with what is bought in it or later"
        );
    }
    // And the test can fail: a week later, the same change is seen.
    let [without, _] = changed_from(week - 1);
    assert!(all(&without) != honest);
}

/// A small log of a quickly trained teacher, and the students' start.
fn with_log(each: impl Fn(&Past, &Student, &Log)) {
    let data = data();
    let past = Past::new(&data);
    let folder = tempfile::tempdir().unwrap();
    let als = Als::fit(&data, 40, 1);
    let recall = Recall::new(&past, &als, folder.path(), "als").unwrap();
    let teacher = Teacher::fit(&past, &recall, &data.visits(40..=41), 1).unwrap();
    let log = Log::serve(&past, &recall, &teacher, &data.visits(42..=44), 1).unwrap();
    log.write(folder.path(), &data).unwrap();
    let read = Log::read(folder.path(), &data).unwrap();
    assert!(read.visits == log.visits && read.products == log.products && read.scores == log.scores);
    assert!(read.bought == log.bought && read.entries(1) == log.entries(1));
    let sample: Vec<Visit> = data.visits(45..=45);
    each(&past, &Student::start(&past, &als, &sample), &read);
}

#[test]
fn filled_trees_score_as_the_trees_they_were_made_of() {
    let mut random = fastrand::Rng::with_seed(1);
    // Small whole numbers, so that values meet the splits exactly, and thirds.
    let rows: Vec<[f32; 4]> =
        (0..2_003).map(|_| [(); 4].map(|()| (random.f32() * 20.0).round() / 3.0 - 2.0)).collect();
    let wanted: Vec<f64> =
        rows.iter().map(|row| f64::from(u8::from(row[0] * row[1] > row[2] + random.f32()))).collect();
    let columns: Vec<f64> = (0..4).flat_map(|at| rows.iter().map(move |row| f64::from(row[at]))).collect();
    let matrix = forust_ml::Matrix::new(&columns, rows.len(), 4);
    let mut trees = forust_ml::GradientBooster::default().set_iterations(20).set_max_depth(DEPTH);
    trees.fit_unweighted(&matrix, &wanted, None).unwrap();
    let slow: Vec<f32> = trees.predict(&matrix, false).into_iter().map(|score| score as f32).collect();
    let forest = Forest::new(&trees);
    assert_eq!(forest.score(&rows), slow);
    assert!(forest.score(&rows[..0]).is_empty());
}

#[test]
fn logs_hold_what_was_shown_bought_and_drawn() {
    with_log(|past, _, log| {
        for (list, &visit) in log.visits.iter().enumerate() {
            let entries = log.entries(list);
            assert!((330..530).contains(&entries.len()), "{} entries", entries.len());
            let bought = past.data.bought(visit);
            for entry in entries {
                assert_eq!(log.bought[entry], bought.binary_search(&log.products[entry]).is_ok());
                assert!(log.scores[entry].is_finite());
            }
        }
        // Bought products score higher than the others: the teacher has learned something.
        let mean = |wanted: bool| {
            let scores = log.scores.iter().zip(&log.bought).filter(|(_, bought)| **bought == wanted);
            let (sum, count) = scores.fold((0.0, 0.0), |(sum, count), (score, _)| (sum + score, count + 1.0));
            sum / count
        };
        assert!(mean(true) > mean(false) + 0.5);
    });
}

#[test]
fn gradients_are_those_of_finite_differences() {
    with_log(|past, start, log| {
        for loss in [Loss::Hard, Loss::Distilled] {
            let lists = List::all(past, log);
            let list = &lists[0];
            let mut student = train(start.clone(), &lists, Course { loss, epochs: 1, rate: 0.1 }, 1);
            let found = gradients(&student, list, loss);
            let (row, weight) = list.user[list.user.len() / 2];
            let (item, factor) = found.item[found.item.len() / 2];
            for at in [0, DIM / 2, DIM - 1] {
                let by_user =
                    slope(&mut student, list, loss, |student| &mut student.user.rows[row as usize][at]);
                close(by_user, weight * found.user[at]);
                let by_item =
                    slope(&mut student, list, loss, |student| &mut student.item.rows[item as usize][at]);
                close(by_item, factor * found.embedding[at]);
            }
        }
    });
}

/// The slope of the loss by one value of a table, by a step in either direction.
fn slope(student: &mut Student, list: &List, loss: Loss, value: impl Fn(&mut Student) -> &mut f32) -> f32 {
    const STEP: f32 = 0.01;
    let before = *value(student);
    let mut at = |shift: f32| {
        *value(student) = before + shift;
        gradients(student, list, loss).loss
    };
    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    *value(student) = before;
    slope
}

fn close(a: f32, b: f32) {
    assert!((a - b).abs() < 2e-3 + 0.02 * b.abs(), "{a} by finite differences, {b} by the formula");
}

#[test]
fn training_is_decided_by_its_seed() {
    with_log(|past, start, log| {
        let lists = List::all(past, log);
        let train =
            |seed| train(start.clone(), &lists, Course { loss: Loss::Distilled, epochs: 1, rate: 0.1 }, seed);
        let (first, again, other) = (train(1), train(1), train(2));
        assert!(first.user.rows == again.user.rows && first.item.rows == again.item.rows);
        assert!(first.item.rows != other.item.rows);
    });
}

#[test]
fn metrics_are_what_they_are_called() {
    let scores: Vec<f32> = (0..400).map(|at| -(at as f32)).collect();
    let marks = |marked: &[usize]| (0..400).map(|at| marked.contains(&at)).collect::<Vec<bool>>();
    // Bought: the first and the 200th. The teacher wants the reverse order.
    let reversed: Vec<f32> = scores.iter().map(|score| -score - 399.0).collect();
    let measured = Truth::new(&reversed, marks(&[0, 199])).measure(&scores);
    let [auc, ndcg, recall, at_100, at_300, at_1000, by_teacher] = measured.metrics.map(Option::unwrap);
    assert!((auc - (398.0 + 200.0) / 796.0).abs() < 1e-6, "{auc}");
    assert!((ndcg - 1.0 / (1.0 + 1.0 / 3f32.log2())).abs() < 1e-6, "{ndcg}");
    assert_eq!((recall, at_100, at_300, at_1000), (0.5, 0.0, 0.0, 1.0));
    // The first hundred are what the teacher wants least: to it, chances of about nothing.
    assert!(by_teacher < 1e-6, "{by_teacher}");
    // Log odds of 0 and of ln(3) are chances of 1/2 and 3/4.
    let truth = Truth::new(&[0.0, 3f32.ln()], vec![false; 2]);
    let second = 1.0 / 3f32.log2();
    let swapped = (0.5 + 0.75 * second) / (0.75 + 0.5 * second);
    assert!((truth.measure(&[2.0, 1.0]).metrics[6].unwrap() - swapped).abs() < 1e-6);
    assert_eq!(truth.measure(&[1.0, 2.0]).metrics[6], Some(1.0));
    assert_eq!(Truth::new(&[], vec![]).measure(&[]).metrics[6], None);
    assert_eq!(Truth::new(&scores, marks(&[])).measure(&scores).metrics[..3], [None; 3]);

    let lists: Vec<_> = (0..300).map(|at| (at / 3, [Some((at % 7) as f32); METRICS.len()])).collect();
    let [low, mean, high] = intervals(&lists, 1)[0];
    assert!(low < mean && mean < high && high - low < 0.6, "{low} {mean} {high}");
}

#[test]
fn items_have_one_row_each_and_features_one_name_each() {
    let data = data();
    let past = Past::new(&data);
    let known = past.household(Visit { household: 0, week: 40 });
    assert_eq!(features(&past, &known, 0, 0.5).len(), FEATURES.len());
    // A row for each product itself, and the rows of attributes behind all of these.
    assert_eq!([0, 1].map(|product| item_features(&past, product, 40)[0]), [0, 1]);
    assert!(item_features(&past, 0, 40)[1..].iter().all(|&row| row as usize >= data.catalogue));
    let squares: f32 = user_features(&data, &known)
        .iter()
        .take_while(|(row, _)| (*row as usize) < data.catalogue)
        .map(|(_, w)| w * w)
        .sum();
    assert!((squares - 1.0).abs() < 1e-4);
}
