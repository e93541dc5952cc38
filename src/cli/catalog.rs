use std::io::Write;
use std::path::Path;

use itemdex::live::{Catalog, Generation, PublishOptions};
use serde_json::{Value, json};

use crate::commands::{Done, output};
use crate::{Placement, Prune, Publish};

impl From<&Placement> for PublishOptions {
    fn from(placement: &Placement) -> PublishOptions {
        let options = PublishOptions::new().keep(placement.keep);
        match placement.log_position {
            Some(position) => options.log_position(position),
            None => options,
        }
    }
}

pub(crate) fn publish(args: &Publish) -> Done {
    let catalog = Catalog::create(&args.catalog)?;
    let generation = catalog.publish(&args.index, &(&args.placement).into())?;
    print_current(&catalog, &generation, args.json)
}

pub(crate) fn list(folder: &Path, json: bool) -> Done {
    let catalog = Catalog::open(folder)?;
    let generations = catalog.generations()?;
    let current = generations.iter().rev().find(|generation| !generation.withdrawn);
    let current = current.map(|generation| generation.number);
    let mut out = output();
    if json {
        let generations: Vec<_> =
            generations.iter().map(|generation| described(&catalog, generation)).collect();
        writeln!(out, "{}", json!({"current": current, "generations": generations}))?;
        return Ok(out.flush()?);
    }
    writeln!(
        out,
        "{:>10}  {:<20} {:>12} {:>14} {:>14}",
        "generation", "model version", "rows", "bytes", "log position"
    )?;
    for generation in &generations {
        let position = generation.log_position.map_or("-".to_owned(), |position| position.to_string());
        let state = match generation.withdrawn {
            true => "  withdrawn",
            false if current == Some(generation.number) => "  current",
            false => "",
        };
        writeln!(
            out,
            "{:>10}  {:<20} {:>12} {:>14} {position:>14}{state}",
            generation.number, generation.model_version, generation.rows, generation.bytes
        )?;
    }
    Ok(out.flush()?)
}

pub(crate) fn rollback(folder: &Path, to: Option<u64>, json: bool) -> Done {
    let catalog = Catalog::open(folder)?;
    let generation = catalog.rollback(to)?;
    print_current(&catalog, &generation, json)
}

pub(crate) fn prune(args: &Prune) -> Done {
    let catalog = Catalog::open(&args.catalog)?;
    let dropped = catalog.prune(args.keep, args.retire_previous_version)?;
    let numbers: Vec<_> = dropped.iter().map(|generation| generation.number).collect();
    let bytes: u64 = dropped.iter().map(|generation| generation.bytes).sum();
    let mut out = output();
    match args.json {
        true => writeln!(out, "{}", json!({"dropped": numbers, "bytes": bytes}))?,
        false => writeln!(out, "dropped  {} generations of {bytes} bytes: {numbers:?}", numbers.len())?,
    }
    Ok(out.flush()?)
}

/// Prints the generation that is current now.
pub(crate) fn print_current(catalog: &Catalog, generation: &Generation, json: bool) -> Done {
    let mut out = output();
    match json {
        true => writeln!(out, "{}", described(catalog, generation))?,
        false => writeln!(
            out,
            "current  generation {} of model version {}, {} rows: {}",
            generation.number,
            generation.model_version,
            generation.rows,
            catalog.path_of(generation).display()
        )?,
    }
    Ok(out.flush()?)
}

fn described(catalog: &Catalog, generation: &Generation) -> Value {
    json!({
        "generation": generation.number, "path": catalog.path_of(generation).display().to_string(),
        "model_version": generation.model_version, "rows": generation.rows, "dim": generation.dim,
        "bytes": generation.bytes, "log_position": generation.log_position, "withdrawn": generation.withdrawn,
    })
}
