//! `cargo run --release --manifest-path examples/funnel/Cargo.toml -- [--out DIR] [--seed N] [--json]`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use funnel::run::{Settings, run};

/// The loop on real data: distil, dump, build, serve, measure the funnel
#[derive(Parser)]
struct Arguments {
    /// Where the logs, the dumps, the catalog, funnel.json and report.html go
    #[arg(long, value_name = "DIR", default_value = "funnel-out")]
    out: PathBuf,
    /// What all chance begins from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print funnel.json
    #[arg(long)]
    json: bool,
    /// One household in six, one seed, fewer trees and epochs: under a minute, with figures that say little
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = if arguments.quick { Settings::quick() } else { Settings::full() };
    match run(&Settings { out: arguments.out, seed: arguments.seed, ..settings }) {
        Ok(results) => {
            if arguments.json {
                println!("{results:#}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
