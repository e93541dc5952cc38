//! The command line of itemdex, as a function: the program and the Python package call it.
//!
//! Results go to standard output (with `--json` nothing but JSON), progress and errors to standard error.
//! Exit codes: 0 done, 1 the work failed, 2 wrong usage.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod catalog;
mod columns;
mod commands;
mod demo;
mod estimate;
mod eval;
mod progress;
mod report;
mod shown;
mod topk;
#[cfg(feature = "parquet")]
mod topk_parquet;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use shown::ShownArgs;
use tracing_subscriber::EnvFilter;

/// An embedded item index for two-tower recommenders.
#[derive(Parser)]
#[command(name = "itemdex", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an index file from a dump of item embeddings
    Build(Box<Build>),
    /// Say what an index file holds
    Info {
        index: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Check every checksum, every id, every value and every link of an index file
    Verify {
        index: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Find the best items of the whole index for each user
    Search(Search),
    /// Write the best items of many users to a file, as a nightly job does
    Topk(TopK),
    /// Score a list of candidate items exactly for each user
    Rank(Rank),
    /// Measure recall and latency over a sweep of beams, or the time of a rank
    Eval(Eval),
    /// Copy an index file into a catalog of generations, verify it there, and make it current
    Publish(Publish),
    /// List the generations of a catalog, publish shards, or reserve a position of the log for a dump
    Catalog(Catalog),
    /// Make an earlier generation current again
    Rollback {
        catalog: PathBuf,
        /// The generation's number [default: the one before the current]
        #[arg(long, value_name = "NUMBER")]
        to: Option<u64>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Drop old generations from a catalog
    Prune(Prune),
    /// See the whole of it on the real data in the repository
    Demo(Demo),
}

#[derive(Args)]
struct Build {
    /// Item embeddings: .npy, .fbin, .fvecs, .parquet or .safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "shape")]
    items: Option<PathBuf>,
    /// Item ids: a 1-D integer .npy; without it, ids are row numbers (parquet, safetensors: the id column)
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// A sample of user embeddings from logs
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// The model version that made the embeddings
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    model_version: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Print what the build is expected to take, and build nothing
    #[arg(long)]
    dry_run: bool,
    /// For --dry-run without a dump: how many rows there will be, and their dim
    #[arg(long, value_name = "ROWSxDIM", value_parser = estimate::shape, requires = "dry_run", conflicts_with = "items")]
    shape: Option<(u64, usize)>,
    /// Refuse to build what is expected to take more memory, such as 8G; take fewer threads where that fits
    #[arg(long, value_name = "BYTES", value_parser = estimate::bytes)]
    memory: Option<u64>,
    #[command(flatten)]
    placement: Placement,
    /// What builds the graph
    #[arg(long, value_enum, default_value_t = Builder::Native)]
    builder: Builder,
    /// How the index keeps the embeddings [default: f16 if the dump holds f16, else f32]
    #[arg(long, value_enum, default_value_t = RowsChoice::Auto, hide_default_value = true)]
    rows: RowsChoice,
    /// Over what a search walks [default: i8 rows if that costs no recall]
    #[arg(long, value_enum)]
    quantize: Option<Quantize>,
    /// What searches are to answer by [default: graph,partitions; below 10,000 rows graph]
    #[arg(long, value_enum, value_name = "PLAN,...", value_delimiter = ',')]
    plans: Option<Vec<Plan>>,
    /// Links a row in the upper layers; twice as many in the base layer
    #[arg(long, default_value_t = 16)]
    m: usize,
    /// How wide the builder looks for a row's neighbours
    #[arg(long, default_value_t = 200)]
    ef_construction: usize,
    /// The space of the graph, 0 for the inner product to 1 for augmented L2 [default: what trial graphs tell]
    #[arg(long, value_name = "WEIGHT")]
    augmentation: Option<f32>,
    /// The index of the last generation, whose links the graph starts with
    #[arg(long, value_name = "INDEX")]
    previous: Option<PathBuf>,
    /// Threads to build with [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Take the items of one shard only, such as 2/8: shards are numbered from 0 on
    #[arg(long, value_name = "N/SHARDS")]
    shard: Option<itemdex::Shard>,
    /// The key under which --stage stages the shard, such as a job's id
    #[arg(long, value_name = "KEY", requires = "stage")]
    key: Option<String>,
    /// Parquet, safetensors: the column of item ids
    #[arg(long, value_name = "NAME", default_value = "id")]
    id_column: String,
    /// Parquet, safetensors: the column of embeddings
    #[arg(long, value_name = "NAME", default_value = "embedding")]
    vector_column: String,
    #[command(flatten)]
    columns: columns::Columns,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Where a build goes.
#[derive(Args)]
#[group(multiple = false)]
struct Target {
    /// The index file to write
    #[arg(long, value_name = "FILE", required_unless_present_any = ["publish", "stage", "dry_run"], conflicts_with_all = ["log_position", "keep", "versions"])]
    out: Option<PathBuf>,
    /// The catalog to publish to instead
    #[arg(long, value_name = "CATALOG", conflicts_with = "shard")]
    publish: Option<PathBuf>,
    /// The catalog to stage a shard in instead, until publish-shards publishes all of them
    #[arg(long, value_name = "CATALOG", requires_all = ["shard", "key"], conflicts_with_all = ["log_position", "keep", "versions"])]
    stage: Option<PathBuf>,
}

/// How a generation is taken up by a catalog.
#[derive(Args)]
struct Placement {
    /// The position of the log of fresh items that the dump was taken at
    #[arg(long, value_name = "N")]
    log_position: Option<u64>,
    /// How many generations of each model version to keep
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// How many model versions to keep; the others are retired
    #[arg(long, value_name = "M", default_value_t = 2)]
    versions: usize,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Catalog {
    #[arg(required = true)]
    catalog: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<catalog::CatalogCommand>,
}

#[derive(Args)]
struct Publish {
    /// The catalog's folder, which is made where there is none
    catalog: PathBuf,
    /// The index file; it stays where it is
    index: PathBuf,
    #[command(flatten)]
    placement: Placement,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Prune {
    catalog: PathBuf,
    /// How many generations of each model version to keep
    #[arg(long, value_name = "N")]
    keep: usize,
    /// How many model versions to keep; the others are retired
    #[arg(long, value_name = "M", default_value_t = 2)]
    versions: usize,
    /// Keep the current model version only
    #[arg(long, conflicts_with = "versions")]
    retire_previous_version: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Builder {
    /// The builder of this crate
    Native,
    /// The hnsw_rs crate
    #[cfg(feature = "hnsw_rs")]
    #[value(name = "hnsw_rs")]
    HnswRs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// A walk over the graph
    Graph,
    /// Codes of the clusters that promise most
    Partitions,
    /// Every row
    Scan,
}

impl From<Plan> for itemdex::Plan {
    fn from(plan: Plan) -> itemdex::Plan {
        match plan {
            Plan::Graph => itemdex::Plan::Graph,
            Plan::Partitions => itemdex::Plan::Partitions,
            Plan::Scan => itemdex::Plan::Scan,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum RowsChoice {
    /// Two bytes a value, rounded to the nearest that fits
    F16,
    /// Four bytes a value
    F32,
    /// f16 if the dump holds f16, else f32
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum Quantize {
    /// Rows of i8; what is found is scored by its embedding
    I8,
    /// The embeddings
    None,
}

#[derive(Args)]
struct Search {
    index: PathBuf,
    /// User embeddings, one query a row
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
    /// How many items to find
    #[arg(short, default_value_t = 100)]
    k: usize,
    /// The share of the exact best k to find [default: 0.95]
    #[arg(long, value_name = "SHARE", conflicts_with = "ef")]
    recall: Option<f32>,
    /// The beam of the walk instead; wider finds more
    #[arg(long, value_name = "N")]
    ef: Option<usize>,
    /// How to find them [default: whatever is expected to be fastest]
    #[arg(long, value_enum)]
    plan: Option<Plan>,
    #[command(flatten)]
    shown: ShownArgs,
    /// Print one JSON object a line and a user
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Rank {
    index: PathBuf,
    /// User embeddings, one query a row
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
    /// Candidate item ids: an integer .npy, 1-D for all users or 2-D with one row a user
    #[arg(long, value_name = "FILE")]
    candidates: PathBuf,
    /// How many of them to keep
    #[arg(short, default_value_t = 1000)]
    k: usize,
    #[command(flatten)]
    shown: ShownArgs,
    /// Print one JSON object a line and a user
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Eval {
    index: PathBuf,
    /// User embeddings, one query a row
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
    /// Recall at how many items; with --rank, how many candidates to keep; with --funnel, how many of the
    /// teacher's best to look for
    #[arg(short, default_value_t = 100)]
    k: usize,
    /// The beams of walks to measure [default: 50,100,200,400,800; none with another plan]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    ef: Option<Vec<usize>>,
    /// Recalls to ask for and measure besides
    #[arg(long, value_name = "SHARE,SHARE,...", value_delimiter = ',')]
    recall: Vec<f32>,
    /// How to search [default: whatever is expected to be fastest]
    #[arg(long, value_enum)]
    plan: Option<Plan>,
    /// Let partitions answer with the scores of i8 rows
    #[arg(long)]
    approximate_scores: bool,
    /// Threads that query at once
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: usize,
    /// Time ranking instead, of so many candidates drawn at random; with --threads above 1, its throughput too
    #[arg(long, value_name = "N", conflicts_with_all = ["ef", "recall", "plan", "plot", "filter", "deny", "now"])]
    rank: Option<usize>,
    /// Measure how much of a teacher's best the index's order of the candidates keeps: lists of candidates, an
    /// integer .npy with a row a user
    #[arg(long, value_name = "FILE", requires = "teacher", conflicts_with_all = ["ef", "recall", "plan", "plot", "rank", "approximate_scores"])]
    funnel: Option<PathBuf>,
    /// The teacher's scores of these candidates: a floating-point .npy with a row a user; NaN where it gave none
    #[arg(long, value_name = "FILE", requires = "funnel")]
    teacher: Option<PathBuf>,
    /// How many candidates each stage of the funnel passes on
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        default_value = "1000,300,100",
        requires = "funnel"
    )]
    stages: Vec<usize>,
    /// How many ranks to time
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "rank", value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
    /// Copy the index into memory, on huge pages where the system has them
    #[arg(long)]
    resident: bool,
    #[command(flatten)]
    shown: ShownArgs,
    /// Draw recall against queries per second
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct TopK {
    index: PathBuf,
    /// User embeddings, one user a row
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
    /// How many items to find for each
    #[arg(short, default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    k: usize,
    /// The share of the exact best k to find; 1 is exact
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    recall: f32,
    /// Where to write them, best first: .npy, an array of (id, score) for each user, or .parquet, with the columns
    /// user, rank, id and score. A run that was stopped goes on
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Threads [default: one a core]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Demo {
    /// The folder of the data [default: the repository's examples/completejourney]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to leave the index file [default: a folder for temporary files]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command line `args`, the name of the program first, and returns the exit code.
///
/// Takes over the interrupts of the process while it builds, so it is for a process that ends with it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    log();
    let command = match CommandLine::try_parse_from(args) {
        Ok(CommandLine { command }) => command,
        Err(error) => {
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    let done = match command {
        Command::Build(build) => commands::build(&build),
        Command::Info { index, json } => report::info(&index, json),
        Command::Verify { index, json } => commands::verify(&index, json),
        Command::Search(search) => commands::search(&search),
        Command::Topk(topk) => topk::topk(&topk),
        Command::Rank(rank) => commands::rank(&rank),
        Command::Eval(eval) => eval::eval(&eval),
        Command::Publish(publish) => catalog::publish(&publish),
        Command::Catalog(catalog) => catalog::catalog(&catalog),
        Command::Rollback { catalog, to, json } => catalog::rollback(&catalog, to, json),
        Command::Prune(prune) => catalog::prune(&prune),
        Command::Demo(demo) => demo::demo(&demo),
    };
    match done {
        Ok(()) => 0,
        // Whoever read our output has seen enough.
        Err(commands::Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(failure) => {
            progress::say(format_args!("error: {failure}"));
            failure.exit_code()
        }
    }
}

/// Logs to standard error what `RUST_LOG` asks for. A standard error that cannot be written is no reason to stop.
fn log() {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::try_new(asked).unwrap_or_else(|error| {
        progress::say(format_args!("{}: {error}", EnvFilter::DEFAULT_ENV));
        EnvFilter::default()
    });
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_env_filter(filter)
        .init();
}
