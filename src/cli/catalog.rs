use std::io::Write;
use std::path::Path;
use std::time::Duration;

use itemdex::live::{Catalog, Generation, PublishOptions, Retention};
use serde_json::{Value, json};

use crate::commands::{Done, output};
use crate::{CatalogCommand, Placement, Prune, Publish};

impl From<&Placement> for PublishOptions {
    fn from(placement: &Placement) -> PublishOptions {
        let options = PublishOptions::new().keep(placement.keep).versions(placement.versions);
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

pub(crate) fn catalog(args: &crate::Catalog) -> Done {
    match (&args.command, &args.catalog) {
        (Some(CatalogCommand::Reserve { catalog, log_position, hours, json }), _) => {
            reserve(catalog, *log_position, *hours, *json)
        }
        (None, Some(folder)) => list(folder, args.json),
        (None, None) => unreachable!("the command line takes a catalog or a command"),
    }
}

fn reserve(folder: &Path, log_position: u64, hours: u32, json: bool) -> Done {
    let hold = Duration::from_secs(3600 * u64::from(hours));
    let reservation = Catalog::open(folder)?.reserve(log_position, hold)?;
    let mut out = output();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&reservation)?)?,
        false => writeln!(out, "reserved  position {log_position} for {hours} hours")?,
    }
    Ok(out.flush()?)
}

fn list(folder: &Path, json: bool) -> Done {
    let catalog = Catalog::open(folder)?;
    let reservations = catalog.reservations()?;
    let generations = catalog.generations()?;
    let current = generations.iter().rev().find(|generation| !generation.withdrawn);
    let current = current.map(|generation| generation.number);
    let mut out = output();
    if json {
        let generations: Vec<_> =
            generations.iter().map(|generation| described(&catalog, generation)).collect();
        writeln!(
            out,
            "{}",
            json!({"current": current, "generations": generations, "reservations": reservations})
        )?;
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
    for reservation in reservations {
        writeln!(out, "reserved  position {}", reservation.log_position)?;
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
    let versions = if args.retire_previous_version { 1 } else { args.versions };
    let dropped = catalog.prune(Retention::new().keep(args.keep).versions(versions))?;
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
