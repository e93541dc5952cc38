//! The recall stage: some 2,500 candidates of the catalogue for a visit, from three channels.

use itemdex::{Index, IndexBuilder, Matrix, Plan, SearchOptions};
use rayon::prelude::*;

use crate::als::{Als, DIM, dot};
use crate::data::{Data, Visit};
use crate::past::{Known, Past};

/// What each channel brings at most.
const NEAREST: usize = 2_000;
const BOUGHT: usize = 600;
const POPULAR: usize = 300;

/// Visits whose searches share passes over the index.
const TOGETHER: usize = 256;

/// The candidates of a visit: places of products, ascending, and for each the score by the factors of ALS.
pub struct Candidates {
    pub visit: Visit,
    pub products: Vec<u32>,
    pub scores: Vec<f32>,
}

pub struct Recall<'a> {
    past: &'a Past<'a>,
    als: &'a Als,
    index: Index,
}

impl<'a> Recall<'a> {
    /// Indexes the factors in a file of its own in `folder`.
    pub fn new(
        past: &'a Past<'a>,
        als: &'a Als,
        folder: &std::path::Path,
        name: &str,
    ) -> itemdex::Result<Recall<'a>> {
        let path = folder.join(format!("{name}.itemdex"));
        let items = past.data.products.iter().zip(&als.items).map(|(product, factors)| (product.id, factors));
        // Thousands of each search are wanted once: clusters are built sooner than a graph.
        IndexBuilder::new(name).plans([Plan::Partitions]).build_from(items, &path)?;
        Ok(Recall { past, als, index: Index::open(&path)? })
    }

    /// The candidates of each visit, in their order, handed to `each` together with what was known before it.
    pub fn for_each<T: Send>(
        &self,
        visits: &[Visit],
        each: impl Fn(Known, Candidates) -> T + Sync,
    ) -> itemdex::Result<Vec<T>> {
        let mut all = Vec::with_capacity(visits.len());
        for visits in visits.chunks(TOGETHER) {
            let known: Vec<(Known, [f32; DIM])> = visits
                .par_iter()
                .map(|&visit| self.past.household(visit))
                .map(|known| {
                    let user = self.als.fold_in(&known.bought);
                    (known, user)
                })
                .collect();
            let users = known.iter().flat_map(|(_, user)| *user).collect();
            let options = SearchOptions::new(NEAREST);
            let found =
                self.index.search_many(&Matrix::new(DIM, users)?, &options, rayon::current_num_threads())?;
            let of_visits = known.into_par_iter().zip(found).map(|((known, user), found)| {
                let near = found.hits.iter().map(|hit| place(self.past.data, hit.id));
                let candidates = self.merge(&known, &user, near);
                each(known, candidates)
            });
            all.extend(of_visits.collect::<Vec<T>>());
        }
        Ok(all)
    }

    fn merge(&self, known: &Known, user: &[f32; DIM], near: impl Iterator<Item = u32>) -> Candidates {
        let (visit, catalogue) = (known.visit, self.past.data.catalogue as u32);
        let mut bought: Vec<(u32, u8)> =
            known.bought.iter().map(|&(p, weeks)| (p, weeks.last().unwrap_or(0))).collect();
        bought.retain(|&(product, _)| product < catalogue);
        bought.sort_unstable_by_key(|&(product, last)| (std::cmp::Reverse(last), product));
        let bought = bought.iter().take(BOUGHT).map(|&(product, _)| product);
        let mut products: Vec<u32> = near.chain(bought).chain(self.popular(visit.week)).collect();
        products.sort_unstable();
        products.dedup();
        let score = |&product: &u32| dot(user, &self.als.items[product as usize]);
        let scores = products.iter().map(score).collect();
        Candidates { visit, products, scores }
    }

    /// What most households bought in the four weeks before.
    fn popular(&self, week: u8) -> impl Iterator<Item = u32> {
        let mut all: Vec<(u32, u32)> = (0..self.past.data.catalogue as u32)
            .map(|product| (self.past.purchases(product as usize, week, 4) as u32, product))
            .collect();
        all.select_nth_unstable_by_key(POPULAR, |&(purchases, product)| {
            (std::cmp::Reverse(purchases), product)
        });
        all.truncate(POPULAR);
        all.into_iter().map(|(_, product)| product)
    }
}

/// The place of a product of the catalogue, whose ids ascend.
pub fn place(data: &Data, id: u64) -> u32 {
    let found = data.products[..data.catalogue].binary_search_by_key(&id, |product| product.id);
    found.expect("the index holds the catalogue") as u32
}
