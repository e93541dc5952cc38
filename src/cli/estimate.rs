//! `itemdex build --dry-run`: what a build is expected to take.

use std::io::Write;

use itemdex::Estimate;
use serde_json::{Map, json};

use crate::commands::{Done, output};

/// Rows and dim, such as 1000000x64.
pub(crate) fn shape(text: &str) -> Result<(u64, usize), String> {
    let shape = text.split_once('x').and_then(|(rows, dim)| Some((rows.parse().ok()?, dim.parse().ok()?)));
    shape.ok_or("give rows and dim, such as 1000000x64".to_owned())
}

/// Bytes, such as 8G; K, M, G and T are powers of 1,024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let power = text.chars().last().and_then(|last| "KMGT".find(last.to_ascii_uppercase()));
    let (number, factor) = match power {
        Some(power) => (&text[..text.len() - 1], 1u64 << (10 * (power + 1))),
        None => (text, 1),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    bytes.ok_or("give bytes, or so many K, M, G or T, such as 8G".to_owned())
}

pub(crate) fn print_estimate(expected: &Estimate, json: bool) -> Done {
    let mut out = output();
    let Estimate { rows, dim, file, disk, memory, threads, .. } = *expected;
    let (format, seconds) = (expected.format.name(), expected.time.as_secs_f64());
    if json {
        let sections: Map<_, _> =
            expected.sections.iter().map(|&(name, bytes)| (name.to_owned(), bytes.into())).collect();
        let document = json!({"rows": rows, "dim": dim, "row_format": format, "bytes": file, "sections": sections,
            "disk": disk, "memory": memory, "threads": threads, "seconds": seconds});
        writeln!(out, "{document}")?;
    } else {
        writeln!(out, "rows     {rows} x {dim}, kept as {format}")?;
        writeln!(out, "bytes    {file}, {} a row", file / rows)?;
        for (name, bytes) in expected.sections.iter().filter(|(_, bytes)| *bytes > 0) {
            writeln!(out, "  {name:<16} {bytes}")?;
        }
        writeln!(out, "disk     {disk} bytes at most while it builds")?;
        writeln!(out, "memory   {memory} bytes at most, beside pages of the file")?;
        writeln!(out, "time     about {seconds:.0} s on {threads} cores")?;
    }
    Ok(out.flush()?)
}
