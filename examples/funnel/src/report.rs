//! The report: one page of HTML with its style and pictures inside.

use std::fmt::Write;

use serde_json::Value;

use crate::measure::{COUNTS, METRICS};
use crate::story::{Story, Told};
use crate::svg::{self, COLOURS, Line, Stage};
use crate::test_set::{DISTILLED, HARD, List, MODELS};

const STYLE: &str = include_str!("report.css");

const METRIC_NAMES: [&str; METRICS.len()] = [
    "AUC",
    "NDCG@100",
    "recall@100",
    "teacher's 100 in 100",
    "teacher's 100 in 300",
    "teacher's 100 in 1,000",
    "NDCG by teacher",
];
const MODEL_NAMES: [&str; 5] =
    ["student, hard labels", "student, distilled", "teacher", "times bought", "ALS"];

pub fn html(results: &Value, lists: &[List], story: &Story) -> String {
    let sections = [
        summary(results),
        section("The funnel", &funnel(results)),
        section("The models", &models(results)),
        section("Curves", &curves(lists)),
        section("Calibration", &calibration(lists)),
        section("Serving", &serving(results)),
        section(&format!("Household {} in week {}", story.household, story.week), &told(story)),
        section("Going on", GOING_ON),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>The funnel</title><style>{STYLE}</style></head><body><main>{}</main></body></html>\n",
        sections.concat()
    )
}

fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>{body}</section>")
}

fn summary(results: &Value) -> String {
    let visits = &results["visits"];
    let seeds = &results["seeds"];
    let [auc, ndcg, recall, _, at_300, ..] =
        METRICS.map(|metric| interval(&results["difference"]["all"][metric]));
    format!(
        "<h1>What pre-ranking passes on</h1>\
         <p>The Complete Journey, weeks 49 to 52: {visits} household-weeks, {seeds} seed(s). A \
         ranking model of \
         boosted trees (the teacher) logs its scores. Two students of two towers each are trained \
         on these logs \
         from the same start: one on what was bought, the other distilled from the teacher's scores.</p>\
         <p class=\"lead\">Distilling moves AUC by {auc}, NDCG@100 by {ndcg}, recall@100 by \
         {recall}, and what \
         the best 300 hold of the teacher's best 100 by {at_300}.</p>\
         <p>In brackets: 95 in 100 bootstrap samples of the households lie there. The data is \
         called simulated by \
         one of its distributors, so the figures say what distilling did here and no more.</p>"
    )
}

fn interval(value: &Value) -> String {
    let [low, mean, high] = low_mean_high(value);
    format!("<b>{mean:+.3}</b> [{low:+.3}, {high:+.3}]")
}

fn low_mean_high(value: &Value) -> [f64; 3] {
    [0, 1, 2].map(|at| value[at].as_f64().unwrap_or(0.0))
}

fn funnel(results: &Value) -> String {
    let stages = results["funnel"].as_array().map_or(&[][..], Vec::as_slice);
    let share = |value: &Value| value.as_f64().unwrap_or(0.0);
    let name = |stage: &Value| stage["stage"].as_str().unwrap_or("").to_owned();
    let pictured: Vec<Stage> = stages
        .iter()
        .map(|stage| Stage {
            name: name(stage),
            shares: [share(&stage["kept"]), share(&stage["teacher_kept"])],
        })
        .collect();
    let mut rows = String::new();
    for stage in stages.iter().filter(|stage| !stage["hard"].is_null()) {
        let cells = [&stage["hard"], stage, &stage["teacher"]].map(|of| {
            format!("<td>{:.3}</td><td>{:.3}</td>", share(&of["kept"]), share(&of["teacher_kept"]))
        });
        let _ = write!(rows, "<tr><th>{}</th>{}</tr>", name(stage), cells.concat());
    }
    format!(
        "<p>What is left after each stage of what a household bought in the week, and of the 100 \
        products that \
         the teacher scores highest. The distilled student pre-ranks. In red, what the stage lost, \
         in points. \
         Products bought too rarely to be embedded are lost before recall.</p><figure>{}</figure>\
         <div class=\"wide\"><table><tr><th></th><th colspan=2>hard</th><th colspan=2>distilled</th>\
         <th colspan=2>the teacher itself</th></tr><tr><th></th>{}</tr>{rows}</table></div>",
        svg::funnel(&pictured, ["what was bought", "the teacher's best 100"]),
        "<th>bought</th><th>best</th>".repeat(3),
    )
}

fn models(results: &Value) -> String {
    let mut body = String::from(
        "<p>All models order the same candidates, some thousands for each household and week. \
        \"New\" orders only \
         the products that the household never bought before. Repeats are most of what is bought, \
         so sorting by \
         times bought is strong over all products and cannot say anything about new ones. The last column's \
         gains are the teacher's chances of a purchase, in place of what was bought.</p>",
    );
    for (part, title) in [("all", "All products"), ("new", "Products never bought before")] {
        let heads: String = METRIC_NAMES.iter().map(|name| format!("<th>{name}</th>")).collect();
        let mut rows = String::new();
        for (model, name) in MODELS.iter().zip(MODEL_NAMES) {
            let value = |metric: &str| results["models"][model][part][metric].as_f64().unwrap_or(0.0);
            let cells: String =
                METRICS.iter().map(|metric| format!("<td>{:.3}</td>", value(metric))).collect();
            let _ = write!(rows, "<tr><th>{name}</th>{cells}</tr>");
        }
        let differences: Vec<(String, [f64; 3])> = METRICS
            .iter()
            .zip(METRIC_NAMES)
            .map(|(metric, name)| (name.to_owned(), low_mean_high(&results["difference"][part][metric])))
            .collect();
        let _ = write!(
            body,
            "<h3>{title}</h3><div class=\"wide\"><table><tr><th></th>{heads}</tr>{rows}</table></div>\
             <figure>{}<figcaption>Distilled less hard, with 95 % intervals</figcaption></figure>",
            svg::intervals(&differences)
        );
    }
    body
}

fn curves(lists: &[List]) -> String {
    let counts = COUNTS.map(|count| count as f64);
    let mean = |values: Vec<[f32; COUNTS.len()]>| -> Vec<[f64; 2]> {
        let mean_at = |at: usize| {
            values.iter().map(|value| f64::from(value[at])).sum::<f64>() / values.len().max(1) as f64
        };
        (0..COUNTS.len()).map(|at| [counts[at], mean_at(at)]).collect()
    };
    let line = |model: usize, points: Vec<[f64; 2]>| Line {
        name: ["hard", "distilled", "teacher", "times bought", "ALS"][model],
        colour: COLOURS[model],
        points,
    };
    let bought = |model: usize| mean(lists.iter().filter_map(|list| list.models[model][0].bought).collect());
    let best = |model: usize| mean(lists.iter().map(|list| list.models[model][0].best).collect());
    let recall: Vec<Line> = (0..MODELS.len()).map(|model| line(model, bought(model))).collect();
    let agreement: Vec<Line> = [HARD, DISTILLED, 3, 4].map(|model| line(model, best(model))).into();
    let x = [0.0, 100.0, 300.0, 500.0, 700.0, 1000.0];
    let y = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    format!(
        "<div class=\"pair\"><figure>{}<figcaption>Share of the recalled purchases among the first \
         products</figcaption></figure><figure>{}<figcaption>Share of the teacher's best 100 among the first \
         products</figcaption></figure></div>",
        svg::lines(&recall, &x, &y, ["products passed on", "recall"]),
        svg::lines(&agreement, &x, &y, ["products passed on", "agreement"]),
    )
}

fn calibration(lists: &[List]) -> String {
    let lines = [HARD, DISTILLED].map(|kind| Line {
        name: ["hard", "distilled"][kind],
        colour: COLOURS[kind],
        points: by_teacher(lists, kind),
    });
    let same = Line { name: "same", colour: "#bbbbbb", points: vec![[-3.0, -3.0], [6.0, 6.0]] };
    let [hard, distilled] = lines;
    let ticks = [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0];
    format!(
        "<p>Scores less their mean over the list, since an order needs no more. Twenty groups of \
        candidates by the \
         teacher's score, and the mean score that each student gives them.</p><figure>{}</figure>",
        svg::lines(&[hard, distilled, same], &ticks, &ticks, ["teacher's score", "student's score"])
    )
}

/// The mean scores of teacher and student in twenty groups, as many candidates in each.
fn by_teacher(lists: &[List], kind: usize) -> Vec<[f64; 2]> {
    let mut pairs: Vec<[f32; 2]> = lists.iter().flat_map(|list| &list.pairs[kind]).copied().collect();
    pairs.sort_unstable_by(|a, b| a[1].total_cmp(&b[1]));
    let groups = pairs.chunks(pairs.len().div_ceil(20).max(1));
    let mean = |group: &[[f32; 2]], of: usize| {
        group.iter().map(|pair| f64::from(pair[of])).sum::<f64>() / group.len() as f64
    };
    groups.map(|group| [mean(group, 1), mean(group, 0)]).collect()
}

fn serving(results: &Value) -> String {
    let serving = &results["serving"];
    let ms = |value: &Value| format!("{:.2}", value.as_f64().unwrap_or(0.0) / 1e3);
    let (search, rank, fresh) = (&serving["search"], &serving["rank"], &serving["fresh"]);
    let row = |name: String, times: &Value, recall: String| {
        format!(
            "<tr><th>{name}</th><td>{}</td><td>{}</td><td>{recall}</td></tr>",
            ms(&times[0]),
            ms(&times[1])
        )
    };
    let k = &search["k"];
    let rows = [
        row(
            format!("search, best {k}"),
            &search["us"],
            format!("{:.4}", search["recall"].as_f64().unwrap_or(0.0)),
        ),
        row("the same, exact".to_owned(), &search["exact_us"], "1".to_owned()),
        row(format!("rank {} candidates", rank["candidates"]), &rank["us"], "1".to_owned()),
    ];
    let fresh = match fresh.is_null() {
        true => String::new(),
        false => format!(
            "<p>A fresh product, {}, was upserted between two rebuilds, placed at the mean of its \
            type. In the test \
             weeks {} household(s) bought it. It stands at place {} of all products for them \
             (median), and at {} for \
             the others.</p>",
            escaped(fresh["product"].as_str().unwrap_or("")),
            fresh["households"],
            fresh["place_for_buyers"],
            fresh["place_for_others"]
        ),
    };
    format!(
        "<div class=\"wide\"><table><tr><th></th><th>median ms</th><th>p99 \
        ms</th><th>recall</th></tr>{}</table></div>\
         <p>The hard student served first. The distilled one was published beside it in {:.1} \
         seconds, in which {} \
         requests were answered by the first version and {} by the second; {} failed. Half of the \
         clients kept the \
         first version to the end.</p>{fresh}",
        rows.concat(),
        serving["roll_out_seconds"].as_f64().unwrap_or(0.0),
        serving["answered"]["hard"],
        serving["answered"]["distilled"],
        serving["failed"],
    )
}

fn told(story: &Story) -> String {
    let names = |products: &[Told]| -> String { products.iter().map(product).collect() };
    let orders: String = story
        .orders
        .iter()
        .map(|(model, first)| format!("<div><h3>{model}</h3><ol>{}</ol></div>", names(first)))
        .collect();
    let disagreement = &story.disagreement;
    let [teacher, hard, distilled] = disagreement.places;
    let reasons: Vec<String> = disagreement
        .reasons
        .iter()
        .map(|(name, value, part)| format!("<li>{name} = {value:.2}: {part:+.2}</li>"))
        .collect();
    format!(
        "<p>A typical household of the test: its agreement is the median. It had bought {} products \
        before, and \
         bought these in the week; <b>bold</b> is what was bought, and in brackets how often it was \
         before.</p>\
         <ul class=\"flow\">{}</ul><p>What each model puts first:</p><div class=\"three\">{orders}</div>\
         <p>The largest disagreement among the teacher's best: {}, at place {teacher} for the \
         teacher, {distilled} for \
         the distilled student and {hard} for the hard one. What moves the teacher, in log \
         odds:</p><ul>{}</ul>",
        story.bought_before,
        names(&story.bought),
        words(&disagreement.product),
        reasons.concat()
    )
}

fn product(told: &Told) -> String {
    format!("<li>{}</li>", words(told))
}

fn words(told: &Told) -> String {
    let name = escaped(&told.name);
    let name = if told.bought { format!("<b>{name}</b>") } else { name };
    if told.times == 0 { format!("{name} (new)") } else { format!("{name} ({})", told.times) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const GOING_ON: &str = "<p>Everything that this page was made from lies beside it.</p><pre>\
itemdex catalog catalog\n\
itemdex eval catalog/generation-2-*.itemdex --users dump-distilled/users.npy -k 1000\n\
itemdex search catalog/generation-2-*.itemdex --users dump-distilled/users.npy -k 10\n\
itemdex eval catalog/generation-2-*.itemdex --users YOUR.npy --funnel CANDIDATES.npy --teacher SCORES.npy</pre>\
<p><code>ranking-logs</code> holds what the teacher logged, as npy columns; \
<code>funnel.json</code> all figures; \
<code>docs/funnel.md</code> in the repository tells the loop for a team that has its own towers.</p>";
