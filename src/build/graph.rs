//! The graph of an index: its space, its links, and what was measured of it.

use super::grow::{Grown, grow};
use super::measure::{self, GroundTruth};
use super::previous::{Previous, Start};
use super::space::{self, Choice, Trial};
use super::{IndexBuilder, Quantization};
use crate::Result;
use crate::calibration::Calibration;
#[cfg(feature = "hnsw_rs")]
use crate::graph::hnsw_rs;
use crate::graph::repair::Copies;
#[cfg(feature = "hnsw_rs")]
use crate::graph::repair::connect;
use crate::graph::{OwnedGraph, Parameters};
use crate::ids::IdMap;
use crate::index::Builder;
use crate::progress::Watch;
use crate::vectors::{Augmented, QuantizedRows, Rows};

/// A graph, and how it was made.
pub(super) struct Made {
    pub graph: OwnedGraph,
    pub augmentation: f32,
    pub choice: Choice,
    pub trials: Vec<Trial>,
    pub calibration: Calibration,
    /// How many rows a walk scores for each place in its beam.
    pub scored_a_place: f32,
    pub copies: usize,
    pub secluded: usize,
    pub linked: usize,
    /// Rows that started with links of the previous index, and why there are none.
    pub renewed: usize,
    pub cold: Option<String>,
}

impl IndexBuilder {
    pub(super) fn graph(
        &self,
        rows: Rows<'_>,
        squared_norms: &[f32],
        users: measure::Users<'_>,
        (previous, ids): (Option<&Previous>, IdMap<'_>),
        (threads, watch): (usize, &Watch<'_>),
    ) -> Result<(Option<QuantizedRows>, Made)> {
        let truth = GroundTruth::new(rows, users.measuring, threads, watch)?;
        let quantized = match self.quantization {
            Some(Quantization::None) => None,
            Some(Quantization::I8) => Some(QuantizedRows::of(rows)),
            None => Some(QuantizedRows::of(rows)).filter(|quantized| truth.loses_nothing(quantized.view())),
        };
        let walked = quantized.as_ref().map(QuantizedRows::view);
        let parameters = Parameters { m: self.m, ef_construction: self.ef_construction, threads };
        let copies = Copies::find(rows);
        let space = |augmentation| Augmented::new(rows, walked, squared_norms, augmentation);
        let start = previous.map_or(Start::Cold(None), |previous| {
            let members = copies.originals(squared_norms.len() as u32);
            let of = (rows.dim(), self.ef_construction, self.augmentation);
            previous.start(ids, (&members, squared_norms.len()), of, space)
        });
        let (augmentation, choice, trials) = match (self.augmentation, self.builder, &start) {
            #[cfg(feature = "hnsw_rs")]
            (_, Builder::HnswRs, _) => (1.0, Choice::OfBuilder, Vec::new()),
            (Some(fixed), ..) => (fixed, Choice::Given, Vec::new()),
            (None, _, &Start::Warm { augmentation, .. }) => (augmentation, Choice::Previous, Vec::new()),
            (None, _, Start::Cold(_)) => {
                space::choose(rows, squared_norms, walked.is_some(), users, &parameters, watch)?
            }
        };
        let (seeds, renewed, cold) = match start {
            Start::Warm { seeds, rows, .. } => (Some(seeds), rows, None),
            Start::Cold(why) => (None, 0, why),
        };
        let space = space(augmentation);
        let grown = match self.builder {
            Builder::Native => {
                let of = (rows, walked, users.linked_for);
                grow(space, &copies, seeds.as_deref(), of, &parameters, watch)?
            }
            #[cfg(feature = "hnsw_rs")]
            Builder::HnswRs => {
                let originals = copies.originals(squared_norms.len() as u32);
                let mut graph = hnsw_rs::build(&space, &originals, &parameters, watch)?;
                copies.attach(&mut graph);
                let linked = connect(&mut graph, &space, watch)?;
                Grown { graph, secluded: 0, linked }
            }
        };
        let Grown { graph, secluded, linked } = grown;
        let calibration = truth.calibrate(graph.view(), walked, watch)?;
        let scored_a_place = truth.scored_a_place(graph.view(), walked);
        let copies = copies.len();
        let made = Made {
            graph,
            augmentation,
            choice,
            trials,
            calibration,
            scored_a_place,
            copies,
            secluded,
            linked,
            renewed,
            cold,
        };
        Ok((quantized, made))
    }
}
