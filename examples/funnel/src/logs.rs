//! Ranking logs: what the ranking model scored while it served, and what was bought of it. Columns of npy
//! files, one folder a log, so that any trainer can read them.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use npyz::WriterBuilder;

use crate::data::{Data, Visit};
use crate::past::{Known, Past};
use crate::recall::{Candidates, Recall, place};
use crate::teacher::Teacher;

/// How many candidates the pre-ranking of the time passes on to the teacher, and how many the teacher shows.
const PASSED: usize = 600;
const SHOWN: usize = 100;
/// Candidates that nobody saw and that the teacher labels all the same, drawn from all others that were
/// recalled.
const UNSEEN: usize = 260;

/// One list for each visit, `entries(list)` of the columns.
#[derive(Default)]
pub struct Log {
    pub visits: Vec<Visit>,
    ends: Vec<usize>,
    /// Places of products.
    pub products: Vec<u32>,
    /// The teacher's log odds.
    pub scores: Vec<f32>,
    pub bought: Vec<bool>,
    /// How many candidates an entry stands for: 1, or more if it was drawn.
    pub weights: Vec<f32>,
}

struct Entry {
    product: u32,
    score: f32,
    bought: bool,
    weight: f32,
}

impl Log {
    /// Lets the teacher serve these visits, and logs them.
    pub fn serve(
        past: &Past,
        recall: &Recall,
        teacher: &Teacher,
        visits: &[Visit],
        seed: u64,
    ) -> itemdex::Result<Log> {
        let lists =
            recall.for_each(visits, |known, candidates| serve(past, teacher, &known, candidates, seed))?;
        let mut log = Log::default();
        for (&visit, list) in visits.iter().zip(lists) {
            log.push(visit, &list);
        }
        Ok(log)
    }

    fn push(&mut self, visit: Visit, list: &[Entry]) {
        self.visits.push(visit);
        for entry in list {
            self.products.push(entry.product);
            self.scores.push(entry.score);
            self.bought.push(entry.bought);
            self.weights.push(entry.weight);
        }
        self.ends.push(self.products.len());
    }

    pub fn entries(&self, list: usize) -> std::ops::Range<usize> {
        let start = if list == 0 { 0 } else { self.ends[list - 1] };
        start..self.ends[list]
    }

    /// Writes the columns to a folder: a household, a week and an end for each list, an item id, a score, a
    /// weight and whether it was bought for each entry.
    pub fn write(&self, folder: &Path, data: &Data) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let ids = |visit: &Visit| data.households[visit.household].id;
        write(folder, "household", self.visits.iter().map(ids))?;
        write(folder, "week", self.visits.iter().map(|visit| visit.week))?;
        write(folder, "end", self.ends.iter().map(|&end| end as u64))?;
        write(folder, "item", self.products.iter().map(|&product| data.products[product as usize].id))?;
        write(folder, "score", self.scores.iter().copied())?;
        write(folder, "weight", self.weights.iter().copied())?;
        write(folder, "bought", self.bought.iter().map(|&bought| u8::from(bought)))
    }

    pub fn read(folder: &Path, data: &Data) -> io::Result<Log> {
        let households: Vec<u32> = read(folder, "household")?;
        let weeks: Vec<u8> = read(folder, "week")?;
        let place_of = |id| data.households.binary_search_by_key(&id, |household| household.id);
        let visit = |(id, week)| Visit { household: place_of(id).expect("a household of the data"), week };
        Ok(Log {
            visits: households.into_iter().zip(weeks).map(visit).collect(),
            ends: read::<u64>(folder, "end")?.into_iter().map(|end| end as usize).collect(),
            products: read(folder, "item")?.into_iter().map(|id| place(data, id)).collect(),
            scores: read(folder, "score")?,
            weights: read(folder, "weight")?,
            bought: read::<u8>(folder, "bought")?.into_iter().map(|bought| bought == 1).collect(),
        })
    }
}

/// Scores what today's pre-ranking passes on and some of the rest, and keeps for the log what is shown, what
/// was bought, and what was drawn of all others.
fn serve(past: &Past, teacher: &Teacher, known: &Known, candidates: Candidates, seed: u64) -> Vec<Entry> {
    let bought = past.data.bought(candidates.visit);
    let was_bought = |product: u32| bought.binary_search(&product).is_ok();
    let mut random = candidates.visit.random(seed);
    let mut order: Vec<(u32, f32)> = candidates.products.into_iter().zip(candidates.scores).collect();
    // Bought before first, then by the factors: two channels with a place each in what is passed on.
    let key = |&(product, score): &(u32, f32)| known.weeks(product).count().min(3) as f32 * 0.2 + score;
    order.sort_unstable_by(|a, b| key(b).total_cmp(&key(a)).then(a.0.cmp(&b.0)));
    let rest = order.split_off(PASSED.min(order.len()));
    let mut shown = scored(past, teacher, known, order);
    shown.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut others = shown.split_off(SHOWN.min(shown.len()));
    others.extend(rest.into_iter().map(|(product, recall_score)| (product, f32::NAN, recall_score)));
    random.shuffle(&mut others);
    let (found, mut unseen): (Vec<Scored>, Vec<Scored>) =
        others.into_iter().partition(|entry| was_bought(entry.0));
    let weight = (unseen.len() as f32 / UNSEEN as f32).max(1.0);
    unseen.truncate(UNSEEN);
    let drawn = unseen.len();
    let late =
        unseen.into_iter().chain(found).map(|(product, _, recall_score)| (product, recall_score)).collect();
    let late = scored(past, teacher, known, late);
    let weights = std::iter::repeat_n(1.0, shown.len()).chain(std::iter::repeat_n(weight, drawn));
    let entries = shown.into_iter().chain(late).zip(weights.chain(std::iter::repeat(1.0)));
    entries
        .map(|((product, score, _), weight)| Entry { product, score, bought: was_bought(product), weight })
        .collect()
}

/// A product, the teacher's score, and that of the recall stage.
type Scored = (u32, f32, f32);

fn scored(past: &Past, teacher: &Teacher, known: &Known, products: Vec<(u32, f32)>) -> Vec<Scored> {
    let (products, recall_scores): (Vec<u32>, Vec<f32>) = products.into_iter().unzip();
    let scores = teacher.score(past, known, &products, &recall_scores);
    products
        .into_iter()
        .zip(scores)
        .zip(recall_scores)
        .map(|((product, score), recall)| (product, score, recall))
        .collect()
}

pub fn write<T: npyz::AutoSerialize>(
    folder: &Path,
    name: &str,
    values: impl ExactSizeIterator<Item = T>,
) -> io::Result<()> {
    write_rows(folder, name, &[values.len() as u64], values)
}

/// Writes `folder/name.npy` of a shape.
pub fn write_rows<T: npyz::AutoSerialize>(
    folder: &Path,
    name: &str,
    shape: &[u64],
    values: impl Iterator<Item = T>,
) -> io::Result<()> {
    let file = BufWriter::new(File::create(folder.join(format!("{name}.npy")))?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd()?;
    writer.extend(values)?;
    writer.finish()
}

fn read<T: npyz::Deserialize>(folder: &Path, name: &str) -> io::Result<Vec<T>> {
    let file = BufReader::new(File::open(folder.join(format!("{name}.npy")))?);
    npyz::NpyFile::new(file)?.into_vec()
}
