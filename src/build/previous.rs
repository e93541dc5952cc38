//! The last generation, with whose links a build may start.

use std::path::Path;

use tracing::info;

use crate::Result;
use crate::graph::seeds::Seeds;
use crate::graph::{NONE, native};
use crate::ids::IdMap;
use crate::index::Index;
use crate::vectors::Augmented;

/// Links of an older graph serve if this share of the rows has some, and if walks along them find this share
/// of the nearest rows. Otherwise a graph made anew is better and hardly slower to make.
const IN_BOTH: f64 = 0.5;
const FIT: f32 = 0.5;

/// An older index.
pub(super) struct Previous {
    index: Index,
}

/// What a build starts with.
pub(super) enum Start<'a> {
    /// Links of so many rows, chosen in the space of this augmentation.
    Warm { seeds: Box<Seeds<'a>>, augmentation: f32, rows: usize },
    /// Nothing, and why.
    Cold(Option<String>),
}

impl Previous {
    /// Opens an index and checks what a build takes of it.
    pub fn open(path: &Path) -> Result<Previous> {
        let index = Index::open(path)?;
        index.verify_links()?;
        Ok(Previous { index })
    }

    /// The links between items that `members` are rows of too, if they serve in the space that `space` gives
    /// for an augmentation. `rows` is the map of this build's ids.
    pub fn start<'r>(
        &self,
        rows: IdMap<'_>,
        (members, total): (&[u32], usize),
        (dim, ef_construction, fixed): (usize, usize, Option<f32>),
        space: impl Fn(f32) -> Augmented<'r>,
    ) -> Start<'_> {
        let cold = |why: String| Start::Cold(Some(why));
        let Some((graph, augmentation)) = self.index.links() else {
            return cold("it has no graph".to_owned());
        };
        if self.index.dim() != dim {
            return cold(format!("its dim is {}, not {dim}", self.index.dim()));
        }
        let new = self.index.ids().iter().map(|&id| rows.row(id).unwrap_or(NONE)).collect();
        let seeds = Seeds::new(graph, new, members, total);
        let in_both = seeds.count(members);
        if (in_both as f64) < IN_BOTH * members.len() as f64 {
            return cold(format!("it has links for {in_both} of {} rows only", members.len()));
        }
        let augmentation = fixed.unwrap_or(augmentation);
        let fit = seeds.fit(&space(augmentation), members, native::renewing(ef_construction));
        info!(in_both, fit, "rows with links of the previous index, and the nearest rows found by them");
        if fit < FIT {
            return cold(format!("by its links {:.0} % of the nearest rows are found", 100.0 * fit));
        }
        Start::Warm { seeds: Box::new(seeds), augmentation, rows: in_both }
    }
}
