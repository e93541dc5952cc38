//! `itemdex eval`: recall against speed, as a table, JSON or a plot; the speed of ranking; and what pre-ranking
//! keeps of a teacher's best.

use std::io::Write;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use itemdex::dump::{IdLists, ScoreLists};
use itemdex::eval::{Point, exact, funnel, measure_each, measure_rank, measure_rank_threads, quantile};
use itemdex::{Hit, Index, Matrix, OpenOptions, SearchOptions};
use plotters::prelude::*;
use serde_json::json;

use crate::commands::{Done, Failure, output, read_users};
use crate::progress::Meter;
use crate::shown::Shown;
use crate::{Eval, Plan};

/// What is measured where nothing else is asked for.
const BEAMS: [usize; 5] = [50, 100, 200, 400, 800];
const RECALLS: [f32; 3] = [0.9, 0.95, 0.99];

/// A point, and the recall that was asked for if it was not a beam.
type Measured = (Point, Option<f32>);

pub(crate) fn eval(args: &Eval) -> Done {
    let index = OpenOptions::new().resident(args.resident).open(&args.index)?;
    let users = read_users(&args.users)?;
    if let Some(candidates) = args.rank {
        if candidates > index.len() {
            let (rows, index) = (index.len(), args.index.display());
            let problem = format!("rank: {index} has {rows} items; give at most so many candidates");
            return Err(Failure::Usage(problem));
        }
        return rank(&index, &users, candidates, args);
    }
    if let (Some(candidates), Some(teacher)) = (&args.funnel, &args.teacher) {
        return survival(&index, &users, candidates, teacher, args);
    }
    let (asked, shown) = (asked(&index, args), args.shown.read(&index, users.len())?);
    // Before the exact answers, which take long: whether all of it can be asked.
    for &(options, _) in &asked {
        index.search_with(users.row(0), &options.shown(shown.to(0)))?;
    }
    let truth = match shown.is_all() {
        true => truth(&index, &users, args.k)?,
        false => truth_shown(&index, &users, args.k, &shown)?,
    };
    let points = asked.into_iter().map(|(options, target)| {
        let each = |user| options.shown(shown.to(user));
        Ok((measure_each(&index, &users, &truth, each, args.threads)?, target))
    });
    let points = points.collect::<Result<Vec<Measured>, Failure>>()?;
    if let Some(path) = &args.plot {
        plot(path, args.k, &points)
            .map_err(|error| Failure::Said(format!("cannot draw {}: {error}", path.display())))?;
    }
    let mut out = output();
    if args.json {
        let points: Vec<_> = points.iter().map(point_json).collect();
        writeln!(
            out,
            "{}",
            json!({"k": args.k, "users": users.len(), "threads": args.threads, "points": points})
        )?;
    } else {
        writeln!(out, "{} users, {} thread(s), recall@{}", users.len(), args.threads, args.k)?;
        let head = ("plan", "ef", "recall", "p5", "queries/s", "p50 us", "p99 us");
        let (plan, ef, recall, p5, qps, p50, p99) = head;
        writeln!(out, "{plan:<10} {ef:>6} {recall:>8} {p5:>8} {qps:>11} {p50:>9} {p99:>9}")?;
        for (Point { plan, ef, recall, recall_p5, qps, p50, p99, .. }, target) in points {
            let ef = if plan == itemdex::Plan::Graph { ef.to_string() } else { String::new() };
            let (p50, p99) = (p50.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
            let asked = target.map(|target| format!("  asked for {target}")).unwrap_or_default();
            let plan = plan.name();
            write!(
                out,
                "{plan:<10} {ef:>6} {recall:>8.4} {recall_p5:>8.4} {qps:>11.0} {p50:>9.1} {p99:>9.1}"
            )?;
            writeln!(out, "{asked}")?;
        }
    }
    Ok(out.flush()?)
}

/// The exact answers, on all cores, with progress.
pub(crate) fn truth(index: &Index, users: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, Failure> {
    let meter = Meter::new();
    let cores = available_parallelism().map_or(1, usize::from);
    let total = users.len() as u64;
    let truth = exact(index, users, k, cores, |done| meter.show("exact", done as u64, total));
    meter.clear();
    Ok(truth?)
}

/// The exact answers among what each user may see.
fn truth_shown(index: &Index, users: &Matrix, k: usize, shown: &Shown) -> Result<Vec<Vec<Hit>>, Failure> {
    let answer = |(user, embedding)| {
        let options = SearchOptions::new(k).recall(1.0).shown(shown.to(user));
        Ok(index.search_with(embedding, &options)?.hits)
    };
    users.rows().enumerate().map(answer).collect()
}

/// The searches to measure: each beam once, and the recalls; without any, usual ones.
fn asked(index: &Index, args: &Eval) -> Vec<(SearchOptions<'static>, Option<f32>)> {
    let mut all = SearchOptions::new(args.k);
    if let Some(plan) = args.plan {
        all = all.plan(plan.into());
    }
    if args.approximate_scores {
        all = all.approximate_scores();
    }
    let walks = args.plan.is_none_or(|plan| plan == Plan::Graph)
        && index.info().plans.contains(&itemdex::Plan::Graph);
    let mut beams = args.ef.clone().unwrap_or(if walks { BEAMS.to_vec() } else { Vec::new() });
    beams.sort_unstable();
    beams.dedup();
    let usual = if beams.is_empty() && args.recall.is_empty() { &RECALLS[..] } else { &[] };
    let by_beam = beams.iter().map(|&ef| (all.ef(ef), None));
    let by_recall = args.recall.iter().chain(usual).map(|&recall| (all.recall(recall), Some(recall)));
    by_beam.chain(by_recall).collect()
}

/// How fast candidates are ranked, and what of that is memory.
fn rank(index: &Index, users: &Matrix, candidates: usize, args: &Eval) -> Done {
    let meter = Meter::new();
    meter.show("rank", 0, 0);
    let times = measure_rank(index, users, candidates, args.k, args.calls as usize)?;
    let threads =
        (args.threads > 1).then(|| measure_rank_threads(index, users, candidates, args.k, args.threads));
    let threads = threads.transpose()?;
    meter.clear();
    let us = |times: &[Duration], q| quantile(times, q).as_nanos() as f64 / 1e3;
    let overlap = times.overlap;
    let parts = [
        ("lookup", us(&times.lookup, 0.5)),
        ("gather_limit_rows", us(&times.gather_rows, 0.5)),
        ("gather_limit_i8", us(&times.gather_i8, 0.5)),
    ];
    let ranks = [("exact", &times.exact), ("two_step", &times.two_step), ("by_rows", &times.by_rows)];
    let mut out = output();
    if args.json {
        let mut rank = json!({"candidates": candidates, "k": args.k});
        for (name, times) in ranks {
            rank[name] = json!({"p50_us": us(times, 0.5), "p99_us": us(times, 0.99)});
        }
        rank["two_step"]["overlap"] = overlap.into();
        for (name, p50) in parts {
            rank[format!("{name}_p50_us")] = p50.into();
        }
        if args.resident {
            let residency = index.residency();
            rank["resident"] = json!({"bytes": residency.copied, "huge_bytes": residency.huge});
        }
        if let Some([one, all]) = threads {
            rank["throughput"] =
                json!({"threads": args.threads, "ranks_per_s": all, "one_thread_ranks_per_s": one});
        }
        writeln!(out, "{}", json!({"rank": rank}))?;
    } else {
        writeln!(
            out,
            "{candidates} candidates, the best {} of them, 1 thread, {} calls",
            args.k, args.calls
        )?;
        writeln!(out, "{:<18} {:>9} {:>9}", "", "p50 us", "p99 us")?;
        for (name, times) in ranks {
            writeln!(out, "{name:<18} {:>9.1} {:>9.1}", us(times, 0.5), us(times, 0.99))?;
        }
        for (name, p50) in parts {
            writeln!(out, "{name:<18} {p50:>9.1}")?;
        }
        if args.resident {
            let residency = index.residency();
            writeln!(out, "resident: {} bytes, {} of them on huge pages", residency.copied, residency.huge)?;
        }
        if let Some([one, all]) = threads {
            writeln!(out, "{all:.0} ranks/s on {} threads, {one:.0} on one", args.threads)?;
        }
        writeln!(out, "overlap of two_step with exact: {overlap}")?;
    }
    Ok(out.flush()?)
}

/// What the index's order of the candidates keeps of the teacher's best, stage by stage.
fn survival(index: &Index, users: &Matrix, candidates: &Path, teacher: &Path, args: &Eval) -> Done {
    let (lists, scores) = (IdLists::open(candidates)?, ScoreLists::open(teacher)?);
    let found = (lists.lists().unwrap_or(users.len()), scores.lists());
    if found != (users.len(), users.len()) {
        let (candidates, teacher, users) = (candidates.display(), teacher.display(), users.len());
        let problem = format!(
            "{candidates} has {} rows and {teacher} {} for {users} users; give one row a user",
            found.0, found.1
        );
        return Err(Failure::Said(problem));
    }
    let (lists, scores): (Vec<_>, Vec<_>) =
        (0..users.len()).map(|user| (lists.list(user), scores.list(user))).unzip();
    let funnel = funnel(index, users, &lists, &scores, args.k, &args.stages)?;
    let mut out = output();
    if args.json {
        let stages = funnel.stages.iter();
        let stages: Vec<_> = stages
            .map(|stage| json!({"passed": stage.passed, "kept": stage.kept, "kept_p5": stage.kept_p5}))
            .collect();
        let funnel =
            json!({"best": args.k, "users": funnel.users, "indexed": funnel.indexed, "stages": stages});
        writeln!(out, "{}", json!({"funnel": funnel}))?;
    } else {
        writeln!(out, "{} users, the teacher's best {} of their candidates", funnel.users, args.k)?;
        writeln!(out, "{:<14} {:>8} {:>8}", "", "kept", "p5")?;
        writeln!(out, "{:<14} {:>8.4}", "in the index", funnel.indexed)?;
        for stage in &funnel.stages {
            let passed = format!("passed {}", stage.passed);
            writeln!(out, "{passed:<14} {:>8.4} {:>8.4}", stage.kept, stage.kept_p5)?;
        }
    }
    Ok(out.flush()?)
}

fn point_json(&(point, target): &Measured) -> serde_json::Value {
    let Point { plan, ef, recall, recall_p5, qps, p50, p99, .. } = point;
    let (p50, p99) = (p50.as_nanos() as f64 / 1e3, p99.as_nanos() as f64 / 1e3);
    let mut json = json!({"plan": plan.name(), "ef": ef, "recall": recall, "recall_p5": recall_p5, "qps": qps, "p50_us": p50, "p99_us": p99});
    if let Some(target) = target {
        json["target"] = target.into();
    }
    json
}

fn plot(path: &Path, k: usize, points: &[Measured]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (720, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut points: Vec<Point> = points.iter().map(|&(point, _)| point).collect();
    points.sort_unstable_by(|a, b| a.recall.total_cmp(&b.recall));
    let recalls = points.iter().map(|point| point.recall);
    let least = recalls.fold(1.0, f64::min);
    let fastest = points.iter().map(|point| point.qps).fold(1.0, f64::max);
    let slowest = points.iter().map(|point| point.qps).fold(fastest, f64::min);
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(least - 0.01..1.005, (slowest / 1.5..fastest * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!("recall@{k}"))
        .y_desc("queries per second")
        .y_label_formatter(&|qps| format!("{qps:.0}"))
        .draw()?;
    let line = points.iter().map(|point| (point.recall, point.qps));
    chart.draw_series(LineSeries::new(line, &BLUE))?;
    for point in points {
        let at = (point.recall, point.qps);
        let how = match point.plan {
            itemdex::Plan::Graph => format!("ef {}", point.ef),
            plan => plan.name().to_owned(),
        };
        let mark = EmptyElement::at(at)
            + Circle::new((0, 0), 3, BLUE.filled())
            + Text::new(how, (6, -12), ("sans-serif", 12));
        chart.draw_series(std::iter::once(mark))?;
    }
    Ok(area.present()?)
}
