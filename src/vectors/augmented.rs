use super::{Quantized, Rows, prefetch};

/// The space of the graph: how near two items are, between their inner product and augmented L2.
///
/// Every item gets one more coordinate, `sqrt(max_norm^2 - |x|^2)`, which gives all items the same norm; a
/// query gets 0. The L2 distance of an item to a query then falls as their inner product rises (Bachrach et
/// al., "Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces",
/// RecSys 2014).
///
/// The nearness of two items is the inner product of their embeddings plus the augmentation times the product
/// of their extra coordinates: augmentation 1 orders items as augmented L2 does, 0 as their inner product
/// does. The coordinate stands beside the rows, so that these stay aligned.
pub(crate) struct Augmented<'a> {
    rows: Rows<'a>,
    /// If given, nearness is computed by these and not by the `f32` rows.
    quantized: Option<Quantized<'a>>,
    places: Vec<Place>,
    augmentation: f32,
    /// The largest squared norm, unless a few norms stand out.
    largest: f32,
}

/// What nearness needs of an item beside its values, on one cache line.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Place {
    squared_norm: f32,
    extra: f32,
    /// The scale of the `i8` row.
    scale: f32,
}

/// A kept neighbour drops a candidate only if the candidate is nearer to it by this share of what both lack
/// to the limit. With 0, the rule of the HNSW paper, lists stay thin; docs/design.md has the measurement.
const SLACK: f32 = 0.1;

/// The largest squared norm that counts for the limit, as a multiple of the mean: with one enormous norm in
/// the limit, the slack of all other items would be without end.
const OUTLYING: f32 = 8.0;

impl<'a> Augmented<'a> {
    pub fn new(
        rows: Rows<'a>,
        quantized: Option<Quantized<'a>>,
        squared_norms: &[f32],
        augmentation: f32,
    ) -> Augmented<'a> {
        let largest = squared_norms.iter().copied().fold(0.0, f32::max);
        let mean =
            squared_norms.iter().map(|&norm| f64::from(norm)).sum::<f64>() / squared_norms.len() as f64;
        let place = |(row, &squared_norm): (u32, &f32)| {
            let extra = (largest - squared_norm).sqrt();
            Place { squared_norm, extra, scale: quantized.map_or(1.0, |rows| rows.scale(row)) }
        };
        let places = (0..).zip(squared_norms).map(place).collect();
        let largest = largest.min(OUTLYING * mean as f32);
        Augmented { rows, quantized, places, augmentation, largest }
    }

    /// The space of the same items with another augmentation.
    pub fn at(self, augmentation: f32) -> Augmented<'a> {
        Augmented { augmentation, ..self }
    }

    /// How many items there are.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn squared_norm(&self, row: u32) -> f32 {
        self.places[row as usize].squared_norm
    }

    /// The squared L2 distance of two items in the augmented space: finite, never negative.
    #[cfg(feature = "hnsw_rs")]
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let distance = <f32 as simsimd::SpatialSimilarity>::sqeuclidean(&self.rows.get(a), &self.rows.get(b));
        let distance = distance.expect("rows of one length") as f32;
        let [a, b] = [a, b].map(|row| self.places[row as usize]);
        distance + a.extra_difference(b).powi(2)
    }

    /// Writes the nearness of an item to each of `others` to `scores`: finite, higher is nearer.
    #[inline(always)]
    pub fn nearness(&self, item: u32, others: &[u32], scores: &mut [f32]) {
        let place = self.places[item as usize];
        if let Some(quantized) = self.quantized {
            quantized.products(quantized.padded(item), others, scores, |product, other| {
                let other = self.places[other as usize];
                product * (place.scale * other.scale) - self.apart(place, other)
            });
        } else {
            self.rows.scores(&self.rows.padded(item), others, scores);
            for (score, &other) in scores.iter_mut().zip(others) {
                *score -= self.apart(place, self.places[other as usize]);
            }
        }
    }

    /// What to subtract from the inner product of two items to get their nearness, augmentation * (max_norm^2
    /// - extra * extra), computed so that it does not round away beside one enormous norm.
    #[inline(always)]
    fn apart(&self, a: Place, b: Place) -> f32 {
        0.5 * self.augmentation * (a.squared_norm + b.squared_norm + a.extra_difference(b).powi(2))
    }

    /// Whether a kept neighbour occludes a candidate: whether the candidate is nearer to it (`between`) than
    /// to the item whose neighbours are chosen (`nearness`), by at least the slack.
    #[inline(always)]
    pub fn occludes(&self, between: f32, nearness: f32) -> bool {
        // No two items are nearer than this.
        let limit = (1.0 - self.augmentation) * self.largest;
        between - nearness >= SLACK * (limit - between).max(0.0)
    }

    /// Prefetches what [`Augmented::nearness`] reads of a row.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        match self.quantized {
            Some(quantized) => quantized.prefetch_values(row),
            None => self.rows.prefetch(row),
        }
        prefetch(&self.places, row as usize, 1);
    }
}

impl Place {
    /// The difference of the extra coordinates, computed as the difference of the squared norms over the sum
    /// of the extras. Beside one enormous norm the extras are huge and nearly equal, and their difference
    /// would round away.
    #[inline(always)]
    fn extra_difference(self, other: Place) -> f32 {
        let sum = self.extra + other.extra;
        if sum > 0.0 { (other.squared_norm - self.squared_norm) / sum } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::pad;

    proptest! {
        #[test]
        fn distance_and_nearness_are_those_of_rows_with_one_more_coordinate(
            (dim, rows) in (1usize..100).prop_flat_map(|dim| {
                (Just(dim), prop::collection::vec(prop::collection::vec(-10.0f32..10.0, dim), 2..5))
            }),
            augmentation in 0.0f32..=1.0,
        ) {
            let (mut data, mut padded) = (Vec::new(), Vec::new());
            for row in &rows {
                pad(row, &mut padded);
                data.extend_from_slice(&padded);
            }
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            let norms: Vec<f32> = rows.iter().map(|row| product(row, row) as f32).collect();
            let largest = norms.iter().copied().map(f64::from).fold(0.0, f64::max);
            let extra = |row: usize| (largest - f64::from(norms[row])).max(0.0).sqrt();
            let space = Augmented::new(Rows::new(&data, dim), None, &norms, augmentation);
            for other in 0..rows.len() {
                let product = product(&rows[0], &rows[other]);
                let mut near = [0.0];
                space.nearness(0, &[other as u32], &mut near);
                let expected = product + f64::from(augmentation) * (extra(0) * extra(other) - largest);
                prop_assert!((f64::from(near[0]) - expected).abs() <= 1e-5 * largest, "{near:?} is not {expected}");
                #[cfg(feature = "hnsw_rs")]
                {
                    let distance = f64::from(space.distance(0, other as u32));
                    let expected = 2.0 * (largest - product - extra(0) * extra(other));
                    prop_assert!((distance - expected).abs() <= 1e-5 * largest, "{distance} is not {expected}");
                }
            }
        }
    }
}
