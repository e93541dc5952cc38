//! `itemdex demo`: the main job on the data in the repository, told in words.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use itemdex::dump::{Dump, IdLists};
use itemdex::eval::{Point, measure, quantile};
use itemdex::{
    BuildReport, Column, ColumnKind, Error, Expression, Hit, Index, IndexBuilder, Matrix, Parameters, Plan,
    SearchOptions,
};

use crate::Demo;
use crate::commands::{Done, Failure, output, read_users, show_on};
use crate::progress::Meter;

/// The household whose offers are shown: a row of `users_test.npy`, and that of `household_bought.npy`.
const HOUSEHOLD: usize = 120;

/// The funnel: all products, so many candidates by search, so many of them by rank.
const CANDIDATES: usize = 1000;
const RANKED: usize = 100;
const SHOWN: usize = 10;

/// What else is offered: products of a department.
const DEPARTMENT: &str = "PRODUCE";
const OFFERED: usize = 5;

pub(crate) fn demo(args: &Demo) -> Done {
    let folder = args.data.clone().unwrap_or_else(bundled);
    let data = Data::open(&folder)?;
    let path = out_path(args)?;
    let mut out = output();
    writeln!(
        out,
        "The Complete Journey: households and the grocery products they bought, embedded as users and items.\n"
    )?;

    let report = build(&folder, &path, &data)?;
    let began = Instant::now();
    let index = Index::open(&path)?;
    let opened = began.elapsed();
    index.verify(|_| ())?;
    writeln!(
        out,
        "index      {} products x {} in {:.1} MB",
        report.rows,
        report.dim,
        report.bytes as f64 / 1e6
    )?;
    writeln!(
        out,
        "built      in {:.1?}, opened in {opened:.0?}, every checksum and link verified",
        report.total_time
    )?;

    show_household(&mut out, &index, &data)?;
    show_filtered(&mut out, &index, &data)?;
    out.flush()?;
    let figures = Figures::measure(&index, &data.users)?;
    figures.show(&mut out, data.users.len())?;
    show_next(&mut out, &path, &folder)?;
    Ok(out.flush()?)
}

/// Where the data lies in the repository that the program was compiled in.
fn bundled() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    root.join("examples/completejourney")
}

struct Data {
    users: Matrix,
    households: IdLists,
    /// Products that the household bought.
    bought: IdLists,
    names: HashMap<u64, Name>,
}

/// What a product is called, and where it is sold.
struct Name {
    department: String,
    text: String,
}

impl Data {
    fn open(folder: &Path) -> Result<Data, Failure> {
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(Failure::Said(format!(
                "there is no folder {folder}; name the repository's examples/completejourney with --data"
            )));
        }
        Ok(Data {
            users: read_users(&folder.join("users_test.npy"))?,
            households: IdLists::open(folder.join("users_test_household.npy"))?,
            bought: IdLists::open(folder.join("household_bought.npy"))?,
            names: read_names(&folder.join("products.tsv.gz"))?,
        })
    }

    fn name(&self, id: u64) -> &str {
        self.names.get(&id).map_or("(no name)", |name| &name.text)
    }
}

fn read_names(path: &Path) -> Result<HashMap<u64, Name>, Failure> {
    let failed = |error| Error::Io { action: "read", path: path.to_owned(), cause: error };
    let lines = BufReader::new(GzDecoder::new(File::open(path).map_err(failed)?)).lines();
    let mut names = HashMap::new();
    for line in lines.skip(1) {
        let line = line.map_err(failed)?;
        let mut fields = line.split('\t');
        let id = fields.next().and_then(|id| id.parse().ok());
        let [department, category, kind, size] = [(); 4].map(|()| fields.next().unwrap_or_default().trim());
        let text = [category, kind, size].map(|field| field.split_whitespace().collect::<Vec<_>>().join(" "));
        if let Some(id) = id {
            let text = format!("{:<32} {:<32} {}", text[0].to_lowercase(), text[1].to_lowercase(), text[2]);
            names.insert(id, Name { department: department.to_owned(), text });
        }
    }
    Ok(names)
}

fn out_path(args: &Demo) -> Result<PathBuf, Failure> {
    if let Some(out) = &args.out {
        return Ok(out.clone());
    }
    let folder = std::env::temp_dir().join("itemdex-demo");
    fs::create_dir_all(&folder).map_err(|cause| Error::Io {
        action: "create",
        path: folder.clone(),
        cause,
    })?;
    Ok(folder.join("completejourney.itemdex"))
}

fn build(data: &Path, out: &Path, named: &Data) -> Result<BuildReport, Failure> {
    let ids = IdLists::open(data.join("item_ids.npy"))?;
    let department = |id| named.names.get(id).map(|name| name.department.as_str());
    let departments = Column::new("department", ColumnKind::Tag, ids.list(0).iter().map(department))?;
    let dump = Dump::options().ids(data.join("item_ids.npy")).open(data.join("items.npy"))?;
    let meter = Arc::new(Meter::new());
    let builder = IndexBuilder::new("completejourney-2017")
        .user_sample(read_users(&data.join("users_sample.npy"))?)
        .column(departments);
    let report = builder.on_progress(show_on(&meter)).build(dump, out);
    meter.clear();
    Ok(report?)
}

/// The household's best products.
fn show_household(out: &mut impl Write, index: &Index, data: &Data) -> Done {
    let user = data.users.row(HOUSEHOLD);
    let household = data.households.list(0)[HOUSEHOLD];
    let found = index.search_with(user, &SearchOptions::new(CANDIDATES))?;
    let candidates: Vec<u64> = found.hits.iter().map(|hit| hit.id).collect();
    let ranked = index.rank(user, &candidates, RANKED)?;
    writeln!(out, "\nthe funnel for household {household}:")?;
    writeln!(out, "  {:>6} products in the index", index.len())?;
    writeln!(out, "  {:>6} candidates by search, which {}", candidates.len(), way(found.plan))?;
    writeln!(out, "  {:>6} of those by rank, which scores each candidate\n", ranked.hits.len())?;
    writeln!(out, "its best {SHOWN}:")?;
    show_hits(out, data, &ranked.hits[..SHOWN.min(ranked.hits.len())])
}

/// A filter in words: what the household may want of a department and never bought.
fn show_filtered(out: &mut impl Write, index: &Index, data: &Data) -> Done {
    let text = format!("department = \"{DEPARTMENT}\"");
    let filter = index.filter(&Expression::parse(&text, &Parameters::new())?)?;
    let bought = data.bought.list(0);
    let options = SearchOptions::new(OFFERED).filter(&filter).deny(bought);
    let found = index.search_with(data.users.row(HOUSEHOLD), &options)?;
    writeln!(
        out,
        "\nonly {text}, which keeps {} products, and never one of the {} that it bought before:",
        filter.matching(),
        bought.len()
    )?;
    show_hits(out, data, &found.hits)
}

fn show_hits(out: &mut impl Write, data: &Data, hits: &[Hit]) -> Done {
    for Hit { id, score } in hits {
        writeln!(out, "  {score:>6.2}  {:>8}  {}", id, data.name(*id))?;
    }
    Ok(())
}

/// What a search by a plan does, for somebody who has not heard of plans.
fn way(plan: Plan) -> String {
    let does = match plan {
        Plan::Graph => "walks from product to like product",
        Plan::Partitions => "reads the groups of like products that promise most",
        Plan::Scan => "scores every product",
        _ => "takes a plan of its own",
    };
    format!("{does} (plan: {})", plan.name())
}

/// What search and rank answer for all test households, beside the exact answer.
struct Figures {
    searches: Vec<(usize, Point)>,
    agreeing: f64,
    rank_p50: Duration,
    rank_p99: Duration,
    candidates: usize,
}

impl Figures {
    fn measure(index: &Index, users: &Matrix) -> Result<Figures, Failure> {
        let mut exact = crate::eval::truth(index, users, CANDIDATES)?;
        let mut searches = Vec::new();
        for k in [CANDIDATES, RANKED] {
            exact.iter_mut().for_each(|hits| hits.truncate(k));
            searches.push((k, measure(index, users, &exact, &SearchOptions::new(k), 1)?));
        }
        let mut times = Vec::with_capacity(users.len());
        let mut agreeing = 0;
        for (user, exact) in users.rows().zip(&exact) {
            let asked = Instant::now();
            let ranked = index.rank(user, index.ids(), RANKED)?;
            times.push(asked.elapsed());
            agreeing += usize::from(ranked.hits == *exact);
        }
        times.sort_unstable();
        Ok(Figures {
            searches,
            agreeing: agreeing as f64 / users.len() as f64,
            rank_p50: quantile(&times, 0.5),
            rank_p99: quantile(&times, 0.99),
            candidates: index.len(),
        })
    }

    fn show(&self, out: &mut impl Write, users: usize) -> Done {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        writeln!(
            out,
            "\nmeasured on {users} households, one thread, recall is the share of the exact answer found:"
        )?;
        for (k, point) in &self.searches {
            writeln!(
                out,
                "  search  best {k} of {}: recall {:.3}, median {:.0} us, p99 {:.0} us (plan: {})",
                self.candidates,
                point.recall,
                micros(point.p50),
                micros(point.p99),
                point.plan.name()
            )?;
        }
        writeln!(
            out,
            "  rank    {} candidates to {RANKED}: {:.1}% in exact order, median {:.0} us, p99 {:.0} us",
            self.candidates,
            self.agreeing * 100.0,
            micros(self.rank_p50),
            micros(self.rank_p99)
        )?;
        Ok(())
    }
}

fn show_next(out: &mut impl Write, index: &Path, data: &Path) -> Done {
    let (index, users) = (index.display(), data.join("users_test.npy"));
    let users = users.display();
    writeln!(out, "\nwhat to type next (`itemdex` is `cargo run --release --` here):")?;
    writeln!(out, "  itemdex info {index}")?;
    writeln!(out, "  itemdex search {index} --users {users} -k 5")?;
    writeln!(out, "  itemdex eval {index} --users {users} --plot recall.svg")?;
    Ok(())
}
