//! Builds an index of usearch, and searches it with filters, on one thread.
//!
//! `usearch-filter build ITEMS.fbin INDEX` builds with M 16 and `ef_construction` 200.
//!
//! `usearch-filter search INDEX USERS.fbin KEPT FOUND K EF` writes the rows found to FOUND, `k` `i64` a user, -1 where there are
//! fewer, and prints the seconds that the searches took. KEPT has a byte for each row, 1 where it may be found: once for all users,
//! or once for each.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

struct Vectors {
    dim: usize,
    values: Vec<f32>,
}

impl Vectors {
    fn read(path: &str) -> Result<Vectors> {
        let bytes = fs::read(path).with_context(|| path.to_owned())?;
        let words: Vec<[u8; 4]> = bytes.chunks_exact(4).map(|word| word.try_into().unwrap()).collect();
        let [_, dim, values @ ..] = &words[..] else { bail!("{path} has no header") };
        Ok(Vectors {
            dim: u32::from_le_bytes(*dim) as usize,
            values: values.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        })
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }
}

fn options(dimensions: usize, expansion_search: usize) -> IndexOptions {
    IndexOptions {
        dimensions,
        metric: MetricKind::IP,
        quantization: ScalarKind::F32,
        connectivity: 16,
        expansion_add: 200,
        expansion_search,
        multi: false,
    }
}

fn build(items: &str, path: &str) -> Result<()> {
    let items = Vectors::read(items)?;
    let index = Index::new(&options(items.dim, 0))?;
    index.reserve(items.rows().len())?;
    for (row, item) in items.rows().enumerate() {
        index.add(row as u64, item)?;
    }
    Ok(index.save(path)?)
}

fn search(path: &str, users: &str, kept: &str, found: &str, k: usize, ef: usize) -> Result<Duration> {
    let users = Vectors::read(users)?;
    let index = Index::new(&options(users.dim, ef))?;
    index.load(path)?;
    let kept = fs::read(kept)?;
    let filters: Vec<&[u8]> = kept.chunks_exact(index.size()).collect();
    let (mut rows, mut taken) = (Vec::new(), Duration::ZERO);
    for (user, at) in users.rows().zip(0..) {
        let kept = filters[at.min(filters.len() - 1)];
        let started = Instant::now();
        let answer = black_box(index.filtered_search(user, k, |row| kept[row as usize] == 1)?);
        taken += started.elapsed();
        let found = answer.keys.iter().map(|&row| row as i64);
        rows.extend(found.chain(std::iter::repeat(-1)).take(k).flat_map(i64::to_le_bytes));
    }
    fs::write(found, rows)?;
    Ok(taken)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build", items, index] => build(items, index),
        ["search", index, users, kept, found, k, ef] => {
            let taken = search(index, users, kept, found, k.parse()?, ef.parse()?)?;
            println!("{}", taken.as_secs_f64());
            Ok(())
        }
        _ => bail!("build ITEMS.fbin INDEX | search INDEX USERS.fbin KEPT FOUND K EF"),
    }
}
