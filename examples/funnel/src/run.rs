//! The steps one after another.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::Outcome;
use crate::als::Als;
use crate::data::{Data, LAST_TRAIN_WEEK, TEST, Visit};
use crate::logs::Log;
use crate::measure::{METRICS, intervals, means};
use crate::past::Past;
use crate::recall::Recall;
use crate::report;
use crate::serve::{self, Version};
use crate::story;
use crate::student::Student;
use crate::teacher::Teacher;
use crate::test_set::{self, Dumped, List, MODELS};
use crate::train::{Course, List as TrainingList, Loss, train};

/// The teacher is trained on what was bought in these weeks, and serves the next ones, which are logged. So
/// no score in the logs is of a purchase that the teacher has learned.
const TEACHER_WEEKS: RangeInclusive<u8> = 21..=33;
const LOGGED_WEEKS: RangeInclusive<u8> = 34..=LAST_TRAIN_WEEK;

/// How the two students are trained: each was chosen by the validation weeks.
const COURSES: [Course; 2] = [
    Course { loss: Loss::Hard, epochs: 3, rate: 0.02 },
    Course { loss: Loss::Distilled, epochs: 6, rate: 0.05 },
];

pub struct Settings {
    pub out: PathBuf,
    pub seed: u64,
    /// Take one household in so many.
    pub every: usize,
    /// The share of the visits that the teacher is trained on, and of those that it logs.
    pub teacher_share: f32,
    pub log_share: f32,
    /// How many pairs of students are trained.
    pub students: u64,
}

impl Settings {
    pub fn full() -> Settings {
        let out = PathBuf::from("funnel-out");
        Settings { out, seed: 1, every: 1, teacher_share: 1.0, log_share: 1.0, students: 3 }
    }

    pub fn quick() -> Settings {
        Settings { every: 6, students: 1, ..Settings::full() }
    }
}

/// Says what is done, with the seconds since the start.
struct Progress(Instant);

impl Progress {
    fn say(&self, what: &str) {
        eprintln!("{:>5.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the whole loop, writes everything to `settings.out`, and returns what `funnel.json` holds.
pub fn run(settings: &Settings) -> Outcome<Value> {
    let progress = Progress(Instant::now());
    fs::create_dir_all(&settings.out)?;
    let data = Data::load(settings.every);
    let past = Past::new(&data);
    progress.say(&format!(
        "{} households, {} products in the catalogue",
        data.households.len(),
        data.catalogue
    ));

    let teacher = fit_teacher(&past, settings)?;
    progress.say("the teacher is trained");
    let logs = settings.out.join("ranking-logs");
    let lists = write_logs(&past, &teacher, settings, &logs)?;
    progress.say(&format!("the teacher served and logged {lists} lists"));

    let als = Als::fit(&data, LAST_TRAIN_WEEK + 1, settings.seed);
    let recall = Recall::new(&past, &als, &settings.out, "als")?;
    let sample = households_at(&past, LAST_TRAIN_WEEK + 1);
    let students = train_students(&past, &als, &sample, &Log::read(&logs, &data)?, settings);
    progress.say(&format!("{} pairs of students are trained", students.len()));

    let versions = [
        Version { name: "hard", student: &students[0][0] },
        Version { name: "distilled", student: &students[0][1] },
    ];
    let visits = data.visits(TEST);
    let served = serve_both(&past, &recall, &versions, &sample, &visits, settings)?;
    progress.say("both versions served; one was rolled out beside the other");

    let dumped: Vec<[Dumped; 2]> = students
        .iter()
        .map(|pair| pair.each_ref().map(|student| Dumped::new(student, &past, LAST_TRAIN_WEEK + 1)))
        .collect();
    let lists = test_set::measure(&past, &recall, &teacher, &dumped, &visits)?;
    let some: Vec<Visit> = visits.iter().copied().step_by((visits.len() / 60).max(1)).collect();
    let best_recalled = test_set::best_recalled(&past, &als, &recall, &teacher, &some)?;
    progress.say(&format!("{} visits of the test are measured", lists.len()));

    let story = story::tell(&past, &recall, &teacher, &dumped[0], &lists)?;
    let mut results = results(&lists, best_recalled, settings);
    results["serving"] = served;
    results["seconds"] = progress.0.elapsed().as_secs_f64().into();
    fs::write(settings.out.join("funnel.json"), format!("{results:#}\n"))?;
    fs::write(settings.out.join("report.html"), report::html(&results, &lists, &story))?;
    progress.say(&format!("written: {}", settings.out.join("report.html").display()));
    Ok(results)
}

fn fit_teacher(past: &Past, settings: &Settings) -> Outcome<Teacher> {
    let first = *TEACHER_WEEKS.start();
    let als = Als::fit(past.data, first, settings.seed);
    let recall = Recall::new(past, &als, &settings.out, &format!("als-{first}"))?;
    let visits = drawn(past.data.visits(TEACHER_WEEKS), settings.teacher_share, settings.seed);
    Ok(Teacher::fit(past, &recall, &visits, settings.seed)?)
}

/// Lets the teacher serve the logged weeks; returns the number of lists. The recall of the time is of the
/// purchases before these weeks.
fn write_logs(past: &Past, teacher: &Teacher, settings: &Settings, folder: &Path) -> Outcome<usize> {
    let first = *LOGGED_WEEKS.start();
    let als = Als::fit(past.data, first, settings.seed);
    let recall = Recall::new(past, &als, &settings.out, &format!("als-{first}"))?;
    let visits = drawn(past.data.visits(LOGGED_WEEKS), settings.log_share, settings.seed);
    let log = Log::serve(past, &recall, teacher, &visits, settings.seed)?;
    log.write(folder, past.data)?;
    Ok(log.visits.len())
}

fn drawn(mut visits: Vec<Visit>, share: f32, seed: u64) -> Vec<Visit> {
    visits.retain(|visit| visit.random(seed).f32() < share);
    visits
}

/// Each household that bought anything before a week, in that week.
fn households_at(past: &Past, week: u8) -> Vec<Visit> {
    let visits = (0..past.data.households.len()).map(|household| Visit { household, week });
    visits.filter(|&visit| !past.household(visit).bought.is_empty()).collect()
}

/// For each seed a student on hard labels and a distilled one, from the same start and on the same lists.
fn train_students(
    past: &Past,
    als: &Als,
    sample: &[Visit],
    log: &Log,
    settings: &Settings,
) -> Vec<[Student; 2]> {
    let start = Student::start(past, als, sample);
    let lists = TrainingList::all(past, log);
    let seeds = settings.seed..settings.seed + settings.students;
    let jobs: Vec<(u64, Course)> = seeds.flat_map(|seed| COURSES.map(|course| (seed, course))).collect();
    let trained: Vec<Student> = jobs
        .par_iter()
        .with_max_len(1)
        .map(|&(seed, course)| train(start.clone(), &lists, course, seed))
        .collect();
    let mut trained = trained.into_iter();
    let mut pairs = Vec::new();
    while let (Some(hard), Some(distilled)) = (trained.next(), trained.next()) {
        pairs.push([hard, distilled]);
    }
    pairs
}

/// Serves the hard student, rolls the distilled one out beside it, sells a fresh product, and measures speed.
fn serve_both(
    past: &Past,
    recall: &Recall,
    versions: &[Version; 2],
    sample: &[Visit],
    visits: &[Visit],
    settings: &Settings,
) -> Outcome<Value> {
    let catalog = settings.out.join("catalog");
    // What an earlier run left.
    fs::remove_dir_all(&catalog).or_else(missing_is_fine)?;
    fs::remove_file(catalog.with_extension("log")).or_else(missing_is_fine)?;
    let dumps = versions.each_ref().map(|version| settings.out.join(format!("dump-{}", version.name)));
    for (version, dump) in versions.iter().zip(&dumps) {
        version.dump(past, LAST_TRAIN_WEEK + 1, sample, dump)?;
    }
    versions[0].publish(&dumps[0], &catalog)?;
    let (live, roll_out) = serve::roll_out(past, versions, &dumps[1], &catalog, visits)?;
    let asked: Vec<Visit> = visits.iter().copied().step_by((visits.len() / 200).max(1)).collect();
    let lists = recall.for_each(&asked, |_, candidates| {
        let ids = candidates.products.iter().map(|&product| past.data.products[product as usize].id);
        (candidates.visit, ids.collect())
    })?;
    let speed = serve::speed(past, &live, &versions[1], &lists)?;
    let fresh = serve::sell_fresh(past, &live, &versions[1], visits)?;
    Ok(json!({
        "answered": {"hard": roll_out.answered[0], "distilled": roll_out.answered[1]},
        "failed": roll_out.failed,
        "roll_out_seconds": roll_out.seconds,
        "search": {"k": speed.k, "recall": speed.recall, "us": speed.search, "exact_us": speed.exact},
        "rank": {"candidates": speed.candidates, "us": speed.rank},
        "fresh": fresh.map(|fresh| json!({
            "product": past.data.name(fresh.product),
            "households": fresh.buyers,
            "place_for_buyers": fresh.places[0],
            "place_for_others": fresh.places[1],
        })),
    }))
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What `funnel.json` holds of the measures.
fn results(lists: &[List], best_recalled: f64, settings: &Settings) -> Value {
    let named =
        |values: Vec<Value>| -> Value { METRICS.iter().map(|name| name.to_string()).zip(values).collect() };
    let of_model = |model: usize| {
        let part = |part: usize| {
            let means = means(lists.iter().map(|list| list.models[model][part].metrics));
            named(means.iter().map(|&mean| rounded(mean)).collect())
        };
        (MODELS[model].to_owned(), json!({"all": part(0), "new": part(1)}))
    };
    let models: Value = (0..MODELS.len()).map(of_model).collect();
    let difference = |part: usize| {
        let intervals = intervals(&test_set::differences(lists, part), settings.seed);
        named(intervals.iter().map(|interval| interval.map(rounded).to_vec().into()).collect())
    };
    json!({
        "models": models,
        "difference": {"all": difference(0), "new": difference(1)},
        "funnel": test_set::funnel(lists, best_recalled),
        "visits": lists.len(),
        "seeds": settings.students,
    })
}

fn rounded(value: f64) -> Value {
    ((value * 1e4).round() / 1e4).into()
}
