//! The index: a mapped generation file, and what it is asked.
//!
//! # Overview
//!
//! - This file says what an [`Index`] is: its items, its model version, and the parts of the file that
//!   queries read.
//! - `open` opens files; `check` verifies them and says what they hold.
//! - `options` is what requests ask for; `plan` chooses the plan that answers a search.
//! - `items` names items to deny or to allow; `gate` finds their rows, and decides who passes.
//! - `search`, `rank`, `channels` and `many` each answer one kind of question, with its options and its
//!   answer beside it.
//! - `filter` makes filters, and gives the values of items.
//! - `candidates` is what a rank takes; `quotas` has recall channels, and chooses hits within their quotas.
//! - `workspace` holds what a query borrows and gives back.

mod candidates;
mod channels;
mod check;
mod denied;
mod denied_ids;
mod filter;
mod gate;
mod items;
mod many;
mod open;
mod options;
mod plan;
mod quotas;
mod rank;
mod search;
mod workspace;

pub use candidates::{Candidates, RowHandles};
pub use channels::RankedChannels;
pub(crate) use channels::check_quotas;
pub use check::{Builder, Info};
pub use gate::Dropped;
pub(crate) use gate::Reason;
pub use items::{ItemSet, Items};
pub(crate) use many::{spread, wrong_lists};
pub use open::{OpenOptions, Residency};
pub use options::{Plan, RankOptions, SearchOptions, Shown};
pub use quotas::{Channel, ChannelHit, MAX_CHANNELS};
pub(crate) use quotas::{choose, keep_best_of_each_set};
pub use rank::Ranked;
pub(crate) use rank::check_places;
pub use search::Found;

use std::borrow::Cow;

use workspace::Workspaces;

use crate::columns::ExpiredRows;
use crate::file::{IndexFile, Section};
use crate::graph::Graph;
use crate::ids::IdMap;
use crate::partitions::{Partitions, Searched};
use crate::ranking::Ranking;
use crate::vectors::{Quantized, Rows, problem_with};
use crate::{Error, Result};

/// An index file, mapped and ready for queries.
///
/// `Send + Sync`: share one behind an `Arc` among any number of threads. Queries take no lock and, after the
/// first few, allocate nothing but what they return. Any number of processes may map the same file; they
/// share its pages.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("items.itemdex");
/// # let items = (0..1000u64).map(|i| (i * 10, [(i as f32).sin(), (i as f32).cos(), 0.1]));
/// # itemdex::IndexBuilder::new("2026-11-23").build_from(items, &path)?;
/// let index = itemdex::Index::open(&path)?;
/// let user = [0.3, 0.9, 1.0];
/// for hit in index.search(&user, 10)? {
///     println!("item {} scores {}", hit.id, hit.score);
/// }
/// let ranked = index.rank(&user, &[120, 7770, 31337], 2)?;
/// assert_eq!(ranked.hits.len(), 2);
/// assert_eq!(ranked.unknown, [31337]);
/// # Ok::<(), itemdex::Error>(())
/// ```
pub struct Index {
    file: IndexFile,
    expired: ExpiredRows,
    workspaces: Workspaces,
}

impl Index {
    /// How many items there are; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an index is never empty")]
    pub fn len(&self) -> usize {
        self.file.header().rows as usize
    }

    /// Values an embedding.
    pub fn dim(&self) -> usize {
        self.file.header().dim as usize
    }

    /// The model version that the item embeddings came from. Score only user embeddings of the same version
    /// against them.
    pub fn model_version(&self) -> &str {
        self.file.header().model_version()
    }

    /// The embedding of an item. Costs one look-up. Rows of `f32` are borrowed in place; rows of `f16` are
    /// converted into a copy.
    pub fn get(&self, id: u64) -> Option<Cow<'_, [f32]>> {
        self.id_map().row(id).map(|row| self.rows().get(row))
    }

    /// Whether the index has an item. Costs one look-up.
    pub fn contains(&self, id: u64) -> bool {
        self.id_map().row(id).is_some()
    }

    /// The item ids in the file's order.
    pub fn ids(&self) -> &[u64] {
        self.file.section(Section::Ids)
    }

    /// Every item id with its embedding, in the file's order; the embeddings as [`Index::get`] gives them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, Cow<'_, [f32]>)> {
        let rows = self.rows();
        self.ids().iter().enumerate().map(move |(row, &id)| (id, rows.get(row as u32)))
    }

    /// A number that two undamaged files share only if they are equal, byte for byte.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.file.header().fingerprint()
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.header().file_length
    }

    /// Tells this index from all others: its fingerprint and how many rows it has.
    fn generation(&self) -> (u64, usize) {
        (self.fingerprint(), self.len())
    }

    pub(crate) fn check_user(&self, user: &[f32]) -> Result<()> {
        if user.len() != self.dim() {
            return Err(Error::WrongDim { expected: self.dim(), found: user.len() });
        }
        problem_with(user).map_or(Ok(()), |problem| Err(Error::BadUser { problem }))
    }

    pub(crate) fn ranking(&self) -> Ranking<'_> {
        Ranking { map: self.id_map(), ids: self.ids(), rows: self.rows(), quantized: self.quantized() }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::stored(self.file.section(Section::Rows), self.file.header().row_format(), self.dim())
    }

    fn quantized(&self) -> Option<Quantized<'_>> {
        let values = self.file.section(Section::QuantizedRows);
        let scales = self.file.section(Section::Scales);
        (self.file.header().quantized == 1).then(|| Quantized::new(values, scales, self.dim()))
    }

    fn id_map(&self) -> IdMap<'_> {
        let seed = self.file.header().id_seed;
        IdMap::new(self.file.section(Section::IdTable), self.len(), seed)
    }

    /// What searches by partitions read. Only of an index that has partitions.
    fn searched(&self) -> Searched<'_> {
        let partitions = Partitions {
            groups: self.file.section(Section::Clusters),
            moments: self.file.section(Section::Moments),
            units: self.file.section(Section::CodeUnits),
            codes: self.file.section(Section::Codes),
        };
        Searched { partitions, rows: self.rows(), ids: self.ids(), quantized: self.quantized() }
    }

    /// The graph. Only of an index that has one.
    fn graph(&self) -> Graph<'_> {
        let header = self.file.header();
        let base = self.file.section(Section::BaseLayer);
        let layers = &header.layer_nodes[..header.layers()];
        Graph::new(header.entry, header.m as usize, base)
            .with_layers(layers, self.file.section(Section::UpperLayers))
    }
}
