use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use itemdex::live::{Catalog, Generation, PublishOptions, Retention, StagedShard};
use serde_json::{Value, json};

use crate::commands::{Done, output};
use crate::{Placement, Prune, Publish};

#[derive(Subcommand)]
pub(crate) enum CatalogCommand {
    /// Have logs of fresh items keep what comes behind a position, until a dump taken there is published with it
    Reserve {
        catalog: PathBuf,
        /// The position of the log of fresh items that the dump is taken at
        #[arg(long, value_name = "N")]
        log_position: u64,
        /// How long to hold it if nothing is published with it
        #[arg(long, value_name = "H", default_value_t = 24)]
        hours: u32,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Copy an index file of one shard into a catalog, where it waits for the others
    Stage {
        catalog: PathBuf,
        /// The index file; it stays where it is
        index: PathBuf,
        /// The key under which the shards of this dump are staged, such as a job's id
        #[arg(long)]
        key: String,
        /// Which shard of how many, such as 2/8: shards are numbered from 0 on
        #[arg(long, value_name = "N/SHARDS")]
        shard: itemdex::Shard,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// List the shards that are staged under a key
    Staged {
        catalog: PathBuf,
        #[arg(long)]
        key: String,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Make the shards that are staged under a key the current generation
    PublishShards {
        catalog: PathBuf,
        #[arg(long)]
        key: String,
        /// How many shards there are
        #[arg(long, value_name = "N")]
        shards: u32,
        #[command(flatten)]
        placement: Placement,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Remove what is staged under a key and not published
    Discard {
        catalog: PathBuf,
        #[arg(long)]
        key: String,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

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
        (Some(CatalogCommand::Stage { catalog, index, key, shard, json }), _) => {
            let catalog = Catalog::create(catalog)?;
            let staged = catalog.stage_shard(key, *shard, index)?;
            print_staged(&[staged], *json)
        }
        (Some(CatalogCommand::Staged { catalog, key, json }), _) => {
            print_staged(&Catalog::open(catalog)?.staged_shards(key)?, *json)
        }
        (Some(CatalogCommand::PublishShards { catalog, key, shards, placement, json }), _) => {
            let catalog = Catalog::open(catalog)?;
            let generation = catalog.publish_shards(key, *shards, &placement.into())?;
            print_current(&catalog, &generation, *json)
        }
        (Some(CatalogCommand::Discard { catalog, key, json }), _) => {
            let files = Catalog::open(catalog)?.discard_shards(key)?;
            let mut out = output();
            match json {
                true => writeln!(out, "{}", json!({"key": key, "files": files}))?,
                false => writeln!(out, "discarded  {files} staged shards of key {key}")?,
            }
            Ok(out.flush()?)
        }
        (None, Some(folder)) => list(folder, args.json),
        (None, None) => unreachable!("the command line takes a catalog or a command"),
    }
}

/// Prints staged shards, with JSON one object a line.
pub(crate) fn print_staged(staged: &[StagedShard], json: bool) -> Done {
    let mut out = output();
    for StagedShard { shard, path, model_version, rows, bytes, .. } in staged {
        let (shard, path) = (shard.to_string(), path.display().to_string());
        match json {
            true => writeln!(
                out,
                "{}",
                json!({"shard": shard, "path": path, "model_version": model_version, "rows": rows, "bytes": bytes})
            )?,
            false => {
                writeln!(out, "staged  shard {shard} of model version {model_version}, {rows} rows: {path}")?
            }
        }
    }
    Ok(out.flush()?)
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
        "{:>10}  {:<20} {:>6} {:>12} {:>14} {:>14}",
        "generation", "model version", "shards", "rows", "bytes", "log position"
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
            "{:>10}  {:<20} {:>6} {:>12} {:>14} {position:>14}{state}",
            generation.number,
            generation.model_version,
            generation.shard_count(),
            generation.rows,
            generation.bytes
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
    let at = match generation.shard_count() {
        1 => catalog.path_of(generation).display().to_string(),
        shards => format!("{shards} shards in {}", catalog.folder().display()),
    };
    match json {
        true => writeln!(out, "{}", described(catalog, generation))?,
        false => writeln!(
            out,
            "current  generation {} of model version {}, {} rows: {at}",
            generation.number, generation.model_version, generation.rows,
        )?,
    }
    Ok(out.flush()?)
}

fn described(catalog: &Catalog, generation: &Generation) -> Value {
    let paths: Vec<String> =
        catalog.paths_of(generation).iter().map(|path| path.display().to_string()).collect();
    json!({
        "generation": generation.number, "path": if paths.len() == 1 { Some(&paths[0]) } else { None },
        "paths": paths,
        "model_version": generation.model_version, "rows": generation.rows, "dim": generation.dim,
        "bytes": generation.bytes, "log_position": generation.log_position, "withdrawn": generation.withdrawn,
    })
}
