//! Generated items and the reference that answers are compared with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::process::{Command, Output};

use itemdex::live::Catalog;
use itemdex::{Hit, Index, IndexBuilder, Plan, SearchOptions};
use tempfile::TempDir;

/// A small, seeded generator (splitmix64), so that every run sees the same data.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Roughly normal: the sum of twelve uniform values, centred.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }

    pub fn embedding(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.normal()).collect()
    }
}

pub type Items = Vec<(u64, Vec<f32>)>;

/// Items with sparse ids and uneven norms.
pub fn items(rows: usize, dim: usize, seed: u64) -> Items {
    let mut random = Random(seed);
    let item = |row: usize| {
        let norm = (0.5 * random.normal()).exp();
        let embedding = random.embedding(dim).into_iter().map(|value| value * norm).collect();
        (row as u64 * 1_000_003 % 4_294_967_291, embedding)
    };
    (0..rows).map(item).collect()
}

pub fn users(rows: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed ^ 0xFFFF);
    (0..rows).map(|_| random.embedding(dim)).collect()
}

/// An index in a folder that lives as long as it does.
pub struct Built {
    pub folder: TempDir,
    pub path: PathBuf,
    pub index: Index,
}

pub fn build(items: &Items) -> Built {
    build_with(&IndexBuilder::new("v1").m(8).ef_construction(64), items)
}

pub fn build_with(builder: &IndexBuilder, items: &Items) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    builder.build_from(items.iter().map(|(id, row)| (*id, row)), &path).unwrap();
    let index = Index::open(&path).unwrap();
    Built { folder, path, index }
}

pub fn inner_product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// By how much a sum of products in `f32` may be off.
pub fn rounding(a: &[f32], b: &[f32]) -> f64 {
    let size: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) * f64::from(b)).abs()).sum();
    1e-6 * size + 1e-30
}

/// Every item with its score in `f64`, best first, equal scores by id.
pub fn brute_force(items: &Items, user: &[f32]) -> Vec<(u64, f64)> {
    let mut scored: Vec<_> = items.iter().map(|(id, row)| (*id, inner_product(user, row))).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored
}

/// Checks that `hits` are the best of `items`, up to what rounding may swap.
pub fn assert_best(hits: &[Hit], items: &Items, user: &[f32], k: usize) {
    let expected = brute_force(items, user);
    assert_eq!(hits.len(), k.min(items.len()));
    let embedding = |id| &items.iter().find(|item| item.0 == id).expect("an item of the index").1;
    for (hit, (_, score)) in hits.iter().zip(&expected) {
        let row = embedding(hit.id);
        let slack = rounding(user, row);
        assert!(
            (f64::from(hit.score) - inner_product(user, row)).abs() <= slack,
            "{hit:?} is not its item's score"
        );
        assert!((f64::from(hit.score) - score).abs() <= 2.0 * slack, "{hit:?} stands where {score} should");
    }
    assert_ordered(hits);
}

/// How many of the best 10 of each user a walk with a beam of `ef` finds.
pub fn found_of_10(built: &Built, items: &Items, users: &[Vec<f32>], ef: usize) -> usize {
    let found = |user: &Vec<f32>| {
        let best: Vec<u64> = brute_force(items, user)[..10].iter().map(|item| item.0).collect();
        let walk = SearchOptions::new(10).ef(ef).plan(Plan::Graph);
        let hits = built.index.search_with(user, &walk).unwrap().hits;
        hits.iter().filter(|hit| best.contains(&hit.id)).count()
    };
    users.iter().map(found).sum()
}

pub fn assert_ordered(hits: &[Hit]) {
    for pair in hits.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert!(a.score > b.score || (a.score == b.score && a.id < b.id), "{a:?} before {b:?}");
    }
}

/// A catalog, in a folder that lives as long as it does.
pub struct Place {
    pub folder: TempDir,
    pub catalog: Catalog,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
        Place { folder, catalog }
    }
}

/// What a command put out, which must exit with `code`.
pub fn run(command: &mut Command, code: i32) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    output
}
