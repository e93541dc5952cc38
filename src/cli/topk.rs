//! `itemdex topk`: the best items of many users, written to one file; goes on where it was stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::{Instant, SystemTime};

use itemdex::{Hit, Index, Matrix, SearchOptions};
use npyz::{DType, Field, WriterBuilder};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::TopK;
use crate::commands::{Done, Failure, interrupted, output, read_users};
use crate::progress::{self, Meter};

/// Users answered and written together, and how many hits they have at most.
const USERS: usize = 1024;
const HITS: usize = 1 << 22;

/// The bytes of a hit: a `u64` and an `f32`.
pub(crate) const HIT: usize = 12;

/// What stands where a user has fewer hits than `k`.
const NOTHING: Hit = Hit { id: u64::MAX, score: f32::NAN };

/// What the hits written so far are the answers to; kept beside them.
#[derive(Serialize, Deserialize, PartialEq)]
struct Question {
    index: Stamp,
    users: Stamp,
    k: usize,
    recall: f32,
}

/// Tells a file from others and from what it was before.
#[derive(Serialize, Deserialize, PartialEq)]
struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// The file that is asked for.
#[derive(Clone, Copy)]
enum Format {
    Npy,
    Parquet,
}

impl Format {
    fn of(out: &Path) -> Result<Format, Failure> {
        match out.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Ok(Format::Npy),
            Some("parquet") if cfg!(feature = "parquet") => Ok(Format::Parquet),
            Some("parquet") => {
                let problem = "this build does not write parquet; build itemdex with `--features parquet`";
                Err(Failure::Usage(format!("out: {}: {problem}", out.display())))
            }
            _ => {
                let problem = "ends in neither .npy nor .parquet, which tell the format";
                Err(Failure::Usage(format!("out: {} {problem}", out.display())))
            }
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(hits: &Path, out: &Path, width: usize) -> Done {
    let together = together(width) * width;
    crate::topk_parquet::write(hits, out, (width, together))
        .map_err(|problem| Failure::Said(format!("cannot write {}: {problem}", out.display())))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Path, _: &Path, _: usize) -> Done {
    unreachable!("Format::of refuses it")
}

/// The hits of the first users, in a file beside the one that will hold all.
struct Part<'a> {
    out: &'a Path,
    format: Format,
    hits: PathBuf,
    question: PathBuf,
}

pub(crate) fn topk(args: &TopK) -> Done {
    let format = Format::of(&args.out)?;
    let index = Index::open(&args.index)?;
    let users = read_users(&args.users)?;
    let options = SearchOptions::new(args.k).recall(args.recall);
    // Before anything is written: whether all of it can be asked.
    index.search_with(users.row(0), &options)?;
    let width = args.k.min(index.len());
    let question =
        Question { index: stamp(&args.index)?, users: stamp(&args.users)?, k: args.k, recall: args.recall };
    let part = Part::of(&args.out, format);
    let began = Instant::now();
    let before = part.answered(&question, width)?;
    if before > 0 {
        progress::say(format_args!("goes on behind {before} users whose answers are there"));
    }
    write(&part, &index, &users, &options, (before, width), args)?;
    let seconds = began.elapsed().as_secs_f64();
    let answered = users.len() - before;
    let mut out = output();
    if args.json {
        let file = args.out.display().to_string();
        let report =
            json!({"out": file, "users": users.len(), "k": width, "answered": answered, "seconds": seconds});
        writeln!(out, "{report}")?;
    } else {
        let rate = answered as f64 / seconds;
        writeln!(out, "{}: {} users, {width} hits each", args.out.display(), users.len())?;
        writeln!(out, "{answered} users in {seconds:.1} s, {rate:.0} a second")?;
    }
    Ok(out.flush()?)
}

/// Answers the users from `before` on, and gives the file its name.
fn write(
    part: &Part<'_>,
    index: &Index,
    users: &Matrix,
    options: &SearchOptions,
    (before, width): (usize, usize),
    args: &TopK,
) -> Done {
    let threads = args.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let failed = |error: io::Error| part.failure(error);
    let header = match part.format {
        Format::Npy => header(users.len(), width).map_err(failed)?,
        Format::Parquet => Vec::new(),
    };
    let mut file = part.continued(&header, before, width).map_err(failed)?;
    let stop = interrupted()?;
    let meter = Meter::new();
    let mut bytes = Vec::new();
    let together = together(width);
    for first in (before..users.len()).step_by(together) {
        meter.show("users", first as u64, users.len() as u64);
        if stop.load(Ordering::Relaxed) {
            meter.clear();
            let problem = format!("stopped behind {first} users; the same command goes on from there");
            return Err(Failure::Said(problem));
        }
        let rows = first..users.len().min(first + together);
        let chunk = Matrix::new(users.dim(), rows.flat_map(|user| users.row(user)).copied().collect())?;
        bytes.clear();
        for found in index.search_many(&chunk, options, threads)? {
            let hits = found.hits.iter().chain(std::iter::repeat(&NOTHING)).take(width);
            hits.for_each(|hit| {
                bytes.extend(hit.id.to_le_bytes());
                bytes.extend(hit.score.to_le_bytes());
            });
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
    }
    meter.clear();
    file.sync_all().map_err(failed)?;
    part.finish(width)
}

/// How many users are answered and written together.
fn together(width: usize) -> usize {
    (HITS / width).clamp(1, USERS)
}

/// What numpy reads ahead of `users` times `width` hits: a structured array with the fields `id` and `score`.
fn header(users: usize, width: usize) -> io::Result<Vec<u8>> {
    let plain = |text: &str| DType::Plain(text.parse().expect("the type is one of numpy"));
    let field = |name: &str, text| Field { name: name.to_owned(), dtype: plain(text) };
    let hit = DType::Record(vec![field("id", "<u8"), field("score", "<f4")]);
    let mut header = Vec::new();
    let options = npyz::WriteOptions::new_header_only().dtype(hit).shape(&[users as u64, width as u64]);
    options.writer(&mut header).write_header_only()?;
    Ok(header)
}

fn stamp(path: &Path) -> Result<Stamp, Failure> {
    let stamp = || {
        let file = fs::metadata(path)?;
        Ok(Stamp { path: path.canonicalize()?, bytes: file.len(), modified: file.modified()? })
    };
    stamp().map_err(|error: io::Error| Failure::Said(format!("{}: {error}", path.display())))
}

impl Part<'_> {
    fn of(out: &Path, format: Format) -> Part<'_> {
        let beside = |ending: &str| {
            let mut name = out.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Part { out, format, hits: beside(".part"), question: beside(".part.json") }
    }

    fn failure(&self, error: io::Error) -> Failure {
        Failure::Said(format!("cannot write {}: {error}", self.hits.display()))
    }

    /// How many users have their answers in the part. A part of another question is begun anew.
    ///
    /// The last users written together do not count: they may have been on their way to the disk when the machine stopped.
    fn answered(&self, question: &Question, width: usize) -> Result<usize, Failure> {
        let asked =
            fs::read(&self.question).ok().and_then(|text| serde_json::from_slice::<Question>(&text).ok());
        let written = fs::metadata(&self.hits).map_or(0, |file| file.len() as usize);
        if asked.is_some_and(|asked| asked == *question) {
            let chunks = written / (width * HIT) / together(width);
            return Ok(chunks.saturating_sub(1) * together(width));
        }
        let text = serde_json::to_vec(question)?;
        let begun = File::create(&self.hits).and_then(|_| fs::write(&self.question, text));
        begun.map_err(|error| self.failure(error))?;
        Ok(0)
    }

    /// The part, to be written on behind its first users.
    fn continued(&self, header: &[u8], users: usize, width: usize) -> io::Result<File> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.hits)?;
        file.set_len((header.len() + users * width * HIT) as u64)?;
        file.write_all(header)?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    }

    /// Makes the file of the hits of all users, `width` each.
    fn finish(&self, width: usize) -> Done {
        match self.format {
            Format::Npy => fs::rename(&self.hits, self.out).map_err(|error| self.failure(error))?,
            Format::Parquet => {
                parquet(&self.hits, self.out, width)?;
                fs::remove_file(&self.hits).map_err(|error| self.failure(error))?;
            }
        }
        fs::remove_file(&self.question).map_err(|error| self.failure(error))
    }
}
