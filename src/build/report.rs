//! What a build says of itself.

use std::time::Duration;

use super::space::{Choice, Trial};

/// A walk for 100 items that needs a wider beam than this for a recall of 0.95 is slow.
const WIDE: usize = 1000;

/// With fewer rows than this a scan is fast, however hard walks are.
const FEW: u64 = 10_000;

/// The share of rows that a sound builder leaves to be linked in.
const SOUND: f64 = 0.01;

/// What a build did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BuildReport {
    /// Rows in the index.
    pub rows: u64,
    /// Values an embedding.
    pub dim: usize,
    /// The file's length.
    pub bytes: u64,
    /// Rows whose embedding equals an earlier row's.
    pub copies: u64,
    /// Rows that no link of the graph's space led to. The native builder linked them from their nearest rows
    /// in augmented L2. Many are no harm: walks for few users come to them.
    pub secluded: u64,
    /// Rows the builder had left unreachable, which were then linked in.
    pub linked: u64,
    /// The space of the graph: the weight of the augmented coordinate, 0 for the inner product to 1 for
    /// augmented L2. 0 without a graph.
    pub augmentation: f32,
    /// Why the graph has this space; `None` without a graph.
    pub choice: Option<Choice>,
    /// What was measured to choose the space, if the build chose.
    pub trials: Vec<Trial>,
    /// Rows that started with links of the previous index.
    pub renewed: u64,
    /// Why the build did not start with the links of the previous index; `None` if it did, or if there was
    /// none to start with.
    pub cold: Option<String>,
    /// The recall@10, recall@100 and recall@1000 that walks had with each beam, less the standard error;
    /// empty without a graph.
    pub calibration: Vec<(usize, [f32; 3])>,
    /// The beams by which walks for 10, 100 and 1000 items have a recall of 0.95; `None` where no beam that
    /// was measured has.
    pub beams: [Option<usize>; 3],
    /// Time spent reading rows, putting them in order and writing them.
    pub rows_time: Duration,
    /// Time spent on the graph: choosing its space, building and connecting it, measuring what it finds.
    pub graph_time: Duration,
    /// Time from start to finish.
    pub total_time: Duration,
}

impl BuildReport {
    /// Whether the items are hard to walk: a recall@100 of 0.95 takes a beam over 1,000, and there are more
    /// than 10,000 rows. Partitions and scans may still answer fast.
    pub fn is_hard(&self) -> bool {
        self.choice.is_some() && self.rows > FEW && self.beams[1].is_none_or(|beam| beam > WIDE)
    }

    /// What the caller should know of the graph and do about it, a sentence or two each; most builds have
    /// none. The build logs them too.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_hard() {
            let beam = match self.beams[1] {
                Some(beam) => format!("a beam of {beam}"),
                None => "a wider beam than any that was measured".to_owned(),
            };
            warnings.push(format!(
                "hard items: a walk for 100 items needs {beam} for a recall of 0.95; try m 32, and give a \
                 sample of users if you gave none"
            ));
        }
        if let Some(why) = &self.cold {
            warnings.push(format!("the previous index was of no use, and the build started anew: {why}"));
        }
        let share = self.linked as f64 / self.rows as f64;
        if share > SOUND {
            warnings.push(format!(
                "{} rows, {:.1} % of all, could not be reached and were linked in, so walks may miss them; \
                 try m 32 or a larger augmentation than {}",
                self.linked,
                100.0 * share,
                self.augmentation
            ));
        }
        warnings
    }
}
