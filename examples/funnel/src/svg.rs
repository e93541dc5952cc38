//! Pictures for the report, as SVG text. Sizes are in the picture's own units; the page scales it to its
//! width.

use std::fmt::Write;

pub const COLOURS: [&str; 5] = ["#b4540a", "#1a6fb5", "#2d7d46", "#7a7a7a", "#8250a0"];

/// A line of points and its name.
pub struct Line<'a> {
    pub name: &'a str,
    pub colour: &'a str,
    pub points: Vec<[f64; 2]>,
}

/// A stage of the funnel with two bars: a name, and two shares from 0 to 1.
pub struct Stage {
    pub name: String,
    pub shares: [f64; 2],
}

/// The funnel: for each stage a pair of bars around their middles, and beside each what it lost of the stage
/// before.
pub fn funnel(stages: &[Stage], names: [&str; 2]) -> String {
    let (row, top, middles) = (54.0, 28.0, [120.0, 352.0]);
    let mut svg = open(480.0, top + row * stages.len() as f64);
    for (middle, name) in middles.iter().zip(names) {
        let _ = write!(svg, r##"<text x="{middle}" y="16" text-anchor="middle" class="head">{name}</text>"##);
    }
    for (place, stage) in stages.iter().enumerate() {
        let y = top + row * place as f64;
        let _ = write!(svg, r##"<text x="236" y="{}" text-anchor="middle">{}</text>"##, y + 14.0, stage.name);
        for (side, &share) in stage.shares.iter().enumerate() {
            let before = if place == 0 { share } else { stages[place - 1].shares[side] };
            bar(&mut svg, middles[side], y + 20.0, COLOURS[side + 1], [share, before]);
        }
    }
    svg + "</svg>"
}

/// A bar of the funnel for a share, and what it is less than the share before.
fn bar(svg: &mut String, middle: f64, y: f64, colour: &str, [share, before]: [f64; 2]) {
    let width = 190.0 * share;
    let (x, right) = (middle - width / 2.0, middle + width / 2.0 + 5.0);
    let _ =
        write!(svg, r##"<rect x="{x:.1}" y="{y}" width="{width:.1}" height="24" fill="{colour}" rx="2"/>"##);
    let (text, percent) = (y + 17.0, share * 100.0);
    let _ = write!(
        svg,
        r##"<text x="{middle}" y="{text}" text-anchor="middle" class="bar">{percent:.0} %</text>"##
    );
    let lost = (before - share) * 100.0;
    if lost >= 0.5 {
        let _ = write!(svg, r##"<text x="{right:.1}" y="{text}" class="lost">−{lost:.0}</text>"##);
    }
}

/// Lines over a range, with ticks on both axes and the names of the lines at their ends.
pub fn lines(lines: &[Line], x: &[f64], y: &[f64], axes: [&str; 2]) -> String {
    let mut svg = open(480.0, 320.0);
    let (x_range, y_range) = ([x[0], x[x.len() - 1]], [y[0], y[y.len() - 1]]);
    let at = |point: [f64; 2]| {
        let share = |value: f64, range: [f64; 2]| (value - range[0]) / (range[1] - range[0]);
        [48.0 + 330.0 * share(point[0], x_range), 280.0 - 250.0 * share(point[1], y_range)]
    };
    for &tick in x {
        let [left, _] = at([tick, y[0]]);
        let _ = write!(svg, r##"<text x="{left:.1}" y="297" text-anchor="middle">{tick}</text>"##);
    }
    for &tick in y {
        let [_, top] = at([x[0], tick]);
        let _ = write!(svg, r##"<line x1="48" x2="378" y1="{top:.1}" y2="{top:.1}" class="grid"/>"##);
        let _ = write!(svg, r##"<text x="42" y="{:.1}" text-anchor="end">{tick}</text>"##, top + 4.0);
    }
    let _ = write!(svg, r##"<text x="213" y="315" text-anchor="middle" class="axis">{}</text>"##, axes[0]);
    let _ = write!(svg, r##"<text x="8" y="14" class="axis">{}</text>"##, axes[1]);
    for (line, label) in lines.iter().zip(labels(lines, at)) {
        let points: Vec<String> =
            line.points.iter().map(|&point| at(point)).map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let (points, colour) = (points.join(" "), line.colour);
        let _ =
            write!(svg, r##"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"##);
        let _ = write!(svg, r##"<text x="384" y="{label:.1}" style="fill:{colour}">{}</text>"##, line.name);
    }
    svg + "</svg>"
}

/// Where the names of lines stand: at their ends, moved apart so that none covers another.
fn labels(lines: &[Line], at: impl Fn([f64; 2]) -> [f64; 2]) -> Vec<f64> {
    let mut wanted: Vec<(usize, f64)> = lines
        .iter()
        .map(|line| line.points.last().map_or(0.0, |&last| at(last)[1] + 4.0))
        .enumerate()
        .collect();
    wanted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut labels = vec![0.0; lines.len()];
    let mut least = f64::MIN;
    for (line, y) in wanted {
        labels[line] = y.max(least);
        least = labels[line] + 14.0;
    }
    labels
}

/// Intervals around zero: names, and low, mean and high of each.
pub fn intervals(rows: &[(String, [f64; 3])]) -> String {
    let mut svg = open(480.0, 20.0 + 24.0 * rows.len() as f64 + 20.0);
    let most = rows.iter().map(|row| row.1[2]).fold(0.05, f64::max) * 1.1;
    let least = rows.iter().map(|row| row.1[0]).fold(0.0, f64::min) * 1.1;
    let at = |value: f64| 150.0 + 270.0 * (value - least) / (most - least);
    let bottom = 20.0 + 24.0 * rows.len() as f64;
    let zero = at(0.0);
    let _ = write!(svg, r##"<line x1="{zero:.1}" x2="{zero:.1}" y1="8" y2="{bottom}" class="zero"/>"##);
    let _ = write!(svg, r##"<text x="{zero:.1}" y="{}" text-anchor="middle">0</text>"##, bottom + 14.0);
    for (place, (name, [low, mean, high])) in rows.iter().enumerate() {
        let y = 24.0 + 24.0 * place as f64;
        let (low, middle, high) = (at(*low), at(*mean), at(*high));
        let colour = COLOURS[1];
        let _ = write!(svg, r##"<text x="140" y="{}" text-anchor="end">{name}</text>"##, y + 4.0);
        let _ = write!(
            svg,
            r##"<line x1="{low:.1}" x2="{high:.1}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>"##
        );
        let _ = write!(svg, r##"<circle cx="{middle:.1}" cy="{y}" r="4.5" fill="{colour}"/>"##);
        let _ = write!(svg, r##"<text x="428" y="{}">{mean:+.3}</text>"##, y + 4.0);
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64) -> String {
    format!(r##"<svg viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg">"##)
}
