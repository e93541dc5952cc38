//! The commands, one function each.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use itemdex::dump::{Dump, IdLists};
use itemdex::live::Catalog;
use itemdex::{
    Builder, Dropped, Hit, Index, IndexBuilder, Matrix, Progress, Quantization, RankOptions, RowFormat,
    SearchOptions,
};
use serde::Serialize;
use serde_json::json;

use crate::progress::Meter;
use crate::{Build, Rank, Search, estimate, report};

/// Why a command failed.
pub(crate) enum Failure {
    /// The library said so.
    Work(itemdex::Error),
    /// The library said so of the user at this row of the file.
    OfUser(usize, itemdex::Error),
    /// A value of the command line cannot work.
    Usage(String),
    /// Standard output cannot be written.
    Output(io::Error),
    /// Something only the command line could know.
    Said(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Work(error) => error.fmt(f),
            Failure::OfUser(user, error) => write!(f, "user {user}: {error}"),
            Failure::Output(error) => write!(f, "cannot write the output: {error}"),
            Failure::Said(text) | Failure::Usage(text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// 2 where another command line would have worked, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_)
            | Failure::Work(itemdex::Error::BadOption { .. } | itemdex::Error::BadFilter { .. })
            | Failure::OfUser(_, itemdex::Error::BadOption { .. }) => 2,
            _ => 1,
        }
    }
}

impl From<itemdex::Error> for Failure {
    fn from(error: itemdex::Error) -> Failure {
        Failure::Work(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Output(error.into())
    }
}

pub(crate) type Done = Result<(), Failure>;

#[derive(Serialize)]
struct HitJson {
    id: u64,
    score: f32,
}

/// What is said of the candidates of a rank.
#[derive(Serialize)]
struct CandidatesJson {
    unknown: usize,
    expired: usize,
    denied: usize,
    filtered: usize,
}

#[derive(Serialize)]
struct UserJson {
    user: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    candidates: Option<CandidatesJson>,
    matching: usize,
    plan: &'static str,
    hits: Vec<HitJson>,
}

pub(crate) fn build(args: &Build) -> Done {
    if let Some((rows, dim)) = args.shape {
        return estimate::print_estimate(&builder_of(args)?.estimate(rows, dim, RowFormat::F32)?, args.json);
    }
    let mut options = Dump::options().id_column(&args.id_column).vector_column(&args.vector_column);
    if let Some(ids) = &args.ids {
        options = options.ids(ids);
    }
    let dump = options.open(items_of(args))?;
    let mut builder = builder_of(args)?;
    if args.dry_run {
        let expected = builder.estimate(dump.rows(), dump.dim(), dump.format())?;
        return estimate::print_estimate(&expected, args.json);
    }
    let meter = Arc::new(Meter::new());
    builder = builder.cancel_when(interrupted()?).on_progress(show_on(&meter));
    let staged = args.target.stage.as_ref().zip(args.shard).zip(args.key.as_ref());
    if let Some(((folder, shard), key)) = staged {
        let catalog = Catalog::create(folder)?;
        let made = catalog.stage_shard_made(key, shard, |path| builder.build(dump, path));
        meter.clear();
        let (staged, report) = made?;
        return report::print_report(&report, &staged.path, None, args.json);
    }
    let (path, generation, report) = match (&args.target.publish, &args.target.out) {
        (Some(folder), _) => {
            let catalog = Catalog::create(folder)?;
            let made = catalog.publish_made(|path| builder.build(dump, path), &(&args.placement).into());
            meter.clear();
            let (generation, report) = made?;
            (catalog.path_of(&generation), Some(generation.number), report)
        }
        (None, out) => {
            let out = out.clone().unwrap_or_default();
            let report = builder.build(dump, &out);
            meter.clear();
            (out, None, report?)
        }
    };
    report::print_report(&report, &path, generation, args.json)
}

fn items_of(args: &Build) -> &Path {
    args.items.as_deref().unwrap_or(Path::new(""))
}

/// The builder that the command line asks for.
fn builder_of(args: &Build) -> Result<IndexBuilder, Failure> {
    // None is needed where nothing is built.
    let model_version = args.model_version.as_deref().unwrap_or("-");
    let mut builder = IndexBuilder::new(model_version).m(args.m).ef_construction(args.ef_construction);
    if let Some(plans) = &args.plans {
        builder = builder.plans(plans.iter().map(|&plan| plan.into()).collect::<Vec<_>>());
    }
    builder = match args.rows {
        crate::RowsChoice::F16 => builder.rows(RowFormat::F16),
        crate::RowsChoice::F32 => builder.rows(RowFormat::F32),
        crate::RowsChoice::Auto => builder,
    };
    if let Some(quantize) = args.quantize {
        builder = builder.quantize(match quantize {
            crate::Quantize::I8 => Quantization::I8,
            crate::Quantize::None => Quantization::None,
        });
    }
    if let Some(augmentation) = args.augmentation {
        builder = builder.augmentation(augmentation);
    }
    if let Some(previous) = &args.previous {
        builder = builder.previous(previous);
    }
    if let Some(shard) = args.shard {
        builder = builder.shard(shard);
    }
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(bytes) = args.memory {
        builder = builder.memory(bytes);
    }
    if let Some(path) = &args.users {
        let users = open_users(path)?;
        if let Some(out) = args.target.out.as_ref().filter(|&out| users.reads(out)) {
            return Err(Failure::Usage(format!("out: {} is the user sample; name another", out.display())));
        }
        builder = builder.user_sample(users.into_matrix()?);
    }
    let columns = args.columns.read(items_of(args), args.target.out.as_deref())?;
    builder = columns.into_iter().fold(builder, IndexBuilder::column);
    Ok(builder.builder(match args.builder {
        crate::Builder::Native => Builder::Native,
        #[cfg(feature = "hnsw_rs")]
        crate::Builder::HnswRs => Builder::HnswRs,
    }))
}

pub(crate) fn verify(path: &Path, json: bool) -> Done {
    let index = Index::open(path)?;
    let meter = Meter::new();
    let checks = index.verify(|check| meter.show(check, 0, 0));
    meter.clear();
    checks?;
    let mut out = output();
    let (path, rows) = (path.display().to_string(), index.len());
    match json {
        true => writeln!(out, "{}", json!({"path": path, "rows": rows, "holds": true}))?,
        false => writeln!(out, "{path}: {rows} rows, everything holds")?,
    }
    Ok(out.flush()?)
}

pub(crate) fn search(args: &Search) -> Done {
    let index = Index::open(&args.index)?;
    let users = read_users(&args.users)?;
    let mut options = SearchOptions::new(args.k);
    if let Some(recall) = args.recall {
        options = options.recall(recall);
    }
    if let Some(ef) = args.ef {
        options = options.ef(ef);
    }
    if let Some(plan) = args.plan {
        options = options.plan(plan.into());
    }
    let shown = args.shown.read(&index, users.len())?;
    let mut out = output();
    for (user, embedding) in users.rows().enumerate() {
        // As a set, so that items which are denied do not count as matching.
        let denied = shown.denied(user).map(|ids| index.item_set(ids));
        let mut shown = shown.to(user);
        shown.deny = denied.as_ref().map(Into::into);
        let options = options.shown(shown);
        let found = index.search_with(embedding, &options).map_err(|error| Failure::OfUser(user, error))?;
        let (plan, matching) = (found.plan.name(), found.matching);
        print_hits(&mut out, UserJson::new(user, None, (matching, plan), &found.hits), args.json)?;
    }
    Ok(out.flush()?)
}

pub(crate) fn rank(args: &Rank) -> Done {
    let index = Index::open(&args.index)?;
    let users = read_users(&args.users)?;
    let candidates = IdLists::open(&args.candidates)?;
    check_lists(&args.candidates, &candidates, "candidates", users.len())?;
    let shown = args.shown.read(&index, users.len())?;
    let mut out = output();
    for (user, embedding) in users.rows().enumerate() {
        let list = candidates.list(user);
        let options = RankOptions::new(args.k).shown(shown.to(user));
        let ranked =
            index.rank_with(embedding, list, &options).map_err(|error| Failure::OfUser(user, error))?;
        let (unknown, dropped) = (ranked.unknown.len(), ranked.dropped);
        let Dropped { expired, denied, filtered, .. } = dropped;
        let distinct = list.iter().collect::<HashSet<_>>().len();
        let matching = distinct - unknown - expired - denied - filtered;
        let of_candidates = CandidatesJson { unknown, expired, denied, filtered };
        let answer = UserJson::new(user, Some(of_candidates), (matching, "rank"), &ranked.hits);
        print_hits(&mut out, answer, args.json)?;
    }
    Ok(out.flush()?)
}

impl UserJson {
    fn new(
        user: usize,
        candidates: Option<CandidatesJson>,
        (matching, plan): (usize, &'static str),
        hits: &[Hit],
    ) -> UserJson {
        let hits = hits.iter().map(|&Hit { id, score }| HitJson { id, score }).collect();
        UserJson { user, candidates, matching, plan, hits }
    }
}

/// Refuses lists that are neither one for all users nor one for each.
pub(crate) fn check_lists(path: &Path, lists: &IdLists, of: &str, users: usize) -> Done {
    match lists.lists().filter(|&lists| lists != users) {
        None => Ok(()),
        Some(lists) => {
            let path = path.display();
            let problem = format!("{path}: {lists} rows of {of} for {users} users; give one row a user");
            Err(Failure::Said(problem))
        }
    }
}

fn print_hits(out: &mut impl Write, answer: UserJson, json: bool) -> Done {
    if json {
        serde_json::to_writer(&mut *out, &answer)?;
        writeln!(out)?;
        return Ok(());
    }
    let UserJson { user, candidates, plan, hits, .. } = answer;
    match candidates {
        Some(CandidatesJson { unknown, expired, denied, filtered }) => {
            write!(out, "user {user}  ({unknown} candidates unknown")?;
            let dropped = [(expired, "expired"), (denied, "denied"), (filtered, "filtered")];
            for (count, why) in dropped.into_iter().filter(|(count, _)| *count > 0) {
                write!(out, ", {count} {why}")?;
            }
            writeln!(out, ")")?;
        }
        None => writeln!(out, "user {user}  (by {plan})")?,
    }
    for (place, hit) in (1..).zip(hits) {
        writeln!(out, "{place:>6}  {:>20}  {:>12.6}", hit.id, hit.score)?;
    }
    Ok(())
}

pub(crate) fn output() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

pub(crate) fn read_users(path: &Path) -> Result<Matrix, Failure> {
    Ok(open_users(path)?.into_matrix()?)
}

fn open_users(path: &Path) -> Result<Dump, Failure> {
    Ok(Dump::options().without_ids().open(path)?)
}

/// A flag that becomes true when the user interrupts, so that a build can clean up after itself.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::Said(format!("cannot listen for an interrupt: {error}")))?;
    Ok(flag)
}

pub(crate) fn show_on(meter: &Arc<Meter>) -> impl Fn(Progress) + Send + Sync + 'static {
    let meter = Arc::clone(meter);
    move |progress| meter.show(progress.stage.name(), progress.done, progress.total)
}
