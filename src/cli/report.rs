//! What a build did and what an index holds, for readers and for programs.

use std::io::Write;
use std::path::Path;

use itemdex::{BuildReport, Choice, ColumnInfo, Index, Trial};
use serde_json::{Value, json};

use crate::commands::{Done, output};
use crate::progress::say;

/// `generation` is the number of the one that was published, if the index went to a catalog.
pub(crate) fn print_report(report: &BuildReport, path: &Path, generation: Option<u64>, json: bool) -> Done {
    let mut out = output();
    if json {
        let seconds = report.total_time.as_secs_f64();
        let (rows, dim, bytes) = (report.rows, report.dim, report.bytes);
        let (copies, linked) = (report.copies, report.linked);
        let (rows_seconds, graph_seconds) = (report.rows_time.as_secs_f64(), report.graph_time.as_secs_f64());
        let mut document = json!({
            "path": path.display().to_string(), "rows": rows, "dim": dim, "bytes": bytes, "copies": copies, "linked": linked,
            "rows_seconds": rows_seconds, "graph_seconds": graph_seconds, "seconds": seconds,
            "secluded": report.secluded, "augmentation": report.augmentation, "choice": report.choice.map(why),
            "trials": report.trials.iter().map(trial).collect::<Vec<_>>(), "beams": beams_json(&report.beams),
            "calibration": report.calibration.iter().map(point).collect::<Vec<_>>(),
            "renewed": report.renewed, "cold": report.cold, "hard": report.is_hard(), "warnings": report.warnings(),
        });
        if let Some(generation) = generation {
            document["generation"] = generation.into();
        }
        writeln!(out, "{document}")?;
    } else {
        writeln!(out, "built    {}", path.display())?;
        if let Some(generation) = generation {
            writeln!(out, "current  generation {generation}")?;
        }
        writeln!(out, "rows     {} x {}", report.rows, report.dim)?;
        writeln!(out, "bytes    {}", report.bytes)?;
        writeln!(out, "copies   {} rows equal an earlier one", report.copies)?;
        if let Some(choice) = report.choice {
            print_graph(&mut out, report, choice)?;
        }
        writeln!(out, "time     {:.1?}, of it {:.1?} for the graph", report.total_time, report.graph_time)?;
    }
    report.warnings().iter().for_each(|warning| say(format_args!("warning: {warning}")));
    Ok(out.flush()?)
}

/// What the build says of the graph.
fn print_graph(out: &mut impl Write, report: &BuildReport, choice: Choice) -> Done {
    let augmentation = report.augmentation;
    writeln!(out, "space    {augmentation} of the way from inner product to augmented L2, {}", why(choice))?;
    if report.renewed > 0 {
        writeln!(out, "renewed  {} with links of the previous index", share_of(report.renewed, report.rows))?;
    }
    for trial in &report.trials {
        let Trial { augmentation, rows: [_, rows], scored: [_, scored], expected, .. } = trial;
        writeln!(
            out,
            "  tried  {augmentation}: a walk scores {scored:.0} of {rows} rows; {expected:.0} are expected"
        )?;
    }
    writeln!(out, "secluded {}: no link of the space led to them", share_of(report.secluded, report.rows))?;
    writeln!(out, "linked   {} that could not be reached", share_of(report.linked, report.rows))?;
    writeln!(out, "recall   0.95 takes {}", beams(&report.beams))?;
    Ok(writeln!(out, "walks    {}", if report.is_hard() { "hard" } else { "easy" })?)
}

fn why(choice: Choice) -> &'static str {
    match choice {
        Choice::Tried => "the best of those tried",
        Choice::Usual => "as usual for want of a trial",
        Choice::Given => "as told",
        Choice::Previous => "as in the previous index",
        Choice::OfBuilder => "the only one of this builder",
        _ => "for another reason",
    }
}

fn share_of(rows: u64, total: u64) -> String {
    format!("{rows} rows ({:.2} %)", 100.0 * rows as f64 / total as f64)
}

fn beams(beams: &[Option<usize>; 3]) -> String {
    let beam = |(k, beam): (usize, &Option<usize>)| match beam {
        Some(beam) => format!("a beam of {beam} for {k} items"),
        None => format!("more than any beam for {k} items"),
    };
    [10, 100, 1000].into_iter().zip(beams).map(beam).collect::<Vec<_>>().join(", ")
}

fn beams_json([at_10, at_100, at_1000]: &[Option<usize>; 3]) -> Value {
    json!({"10": at_10, "100": at_100, "1000": at_1000})
}

fn trial(trial: &Trial) -> Value {
    // JSON has no infinity.
    let finite = |scored: f32| scored.is_finite().then_some(scored);
    let Trial { augmentation, rows, scored, expected, .. } = trial;
    json!({"augmentation": augmentation, "rows": rows, "scored": scored.map(finite), "expected": finite(*expected)})
}

fn point(&(ef, [at_10, at_100, at_1000]): &(usize, [f32; 3])) -> Value {
    json!({"ef": ef, "recall@10": at_10, "recall@100": at_100, "recall@1000": at_1000})
}

pub(crate) fn info(path: &Path, json: bool) -> Done {
    let info = Index::open(path)?.info();
    let (least, mean, most) = info.degree;
    let mut out = output();
    if json {
        writeln!(out, "{}", info.to_json())?;
    } else {
        writeln!(out, "rows           {} x {}", info.rows, info.dim)?;
        writeln!(out, "kept as        {}", info.row_format.name())?;
        writeln!(out, "model version  {}", info.model_version)?;
        writeln!(
            out,
            "builder        {}, m {}, ef_construction {}",
            info.builder, info.m, info.ef_construction
        )?;
        let plans: Vec<_> = info.plans.iter().map(|plan| plan.name()).collect();
        writeln!(out, "plans          {}", plans.join(", "))?;
        writeln!(out, "clusters       {}", info.clusters)?;
        writeln!(out, "walks over     {} rows", if info.quantized { "i8" } else { info.row_format.name() })?;
        writeln!(out, "norms          vary by {:.2} of their mean", info.norm_variation)?;
        writeln!(
            out,
            "graph space    {:.1} of the way from inner product to augmented L2",
            info.augmentation
        )?;
        writeln!(out, "secluded       {}", share_of(info.secluded as u64, info.rows as u64))?;
        writeln!(out, "linked         {}", share_of(info.linked as u64, info.rows as u64))?;
        writeln!(out, "beams for 0.95 {}", beams(&info.beams))?;
        writeln!(out, "degree         {least} to {most}, mean {mean:.1}")?;
        writeln!(out, "upper layers   {:?}", info.layers)?;
        writeln!(out, "bytes          {:>14}", info.bytes)?;
        for (name, bytes) in &info.sections {
            writeln!(out, "  {name:<12} {bytes:>14}")?;
        }
        if !info.columns.is_empty() {
            let (name, kind, of) = ("column", "kind", "of");
            writeln!(out, "{name:<14} {kind:<8} {of:<7} {:>12} {:>12} {:>14}", "distinct", "null", "bytes")?;
        }
        for ColumnInfo { name, kind, type_name, distinct, nulls, bytes, .. } in &info.columns {
            let kind = kind.name();
            writeln!(out, "  {name:<12} {kind:<8} {type_name:<7} {distinct:>12} {nulls:>12} {bytes:>14}")?;
        }
        writeln!(out, "calibration    ef   recall@10  recall@100  recall@1000")?;
        for (ef, [at_10, at_100, at_1000]) in &info.calibration {
            writeln!(out, "           {ef:>6} {at_10:>11.4} {at_100:>11.4} {at_1000:>12.4}")?;
        }
    }
    Ok(out.flush()?)
}
