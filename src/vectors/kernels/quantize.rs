//! Embeddings as `i8` values.

use super::interleaved::LANES;
use super::widest;

/// A small whole number added to it stands in the low bits of the sum, from which a register of them is made at once.
const WHOLE: f32 = 12_582_912.0;

widest! {
    /// Writes the quantised embedding to `values`, as many as it has, and returns its scale. An embedding of zeros
    /// has scale 0.
    pub fn quantize(embedding: &[f32], values: &mut [i8]) -> f32 {
        let (chunks, rest) = embedding.as_chunks::<LANES>();
        let larger = |largest: f32, value: f32| if value.abs() > largest { value.abs() } else { largest };
        let mut largest = [0.0; LANES];
        for chunk in chunks {
            largest = std::array::from_fn(|lane| larger(largest[lane], chunk[lane]));
        }
        let scale = largest.iter().chain(rest).fold(0.0, |largest, &value| larger(largest, value)) / 127.0;
        // By division: the reciprocal of the smallest scales is infinite.
        let least = if scale > 0.0 { scale } else { 1.0 };
        for (value, quantized) in embedding.iter().zip(values) {
            *quantized = ((value / least).round() + WHOLE).to_bits() as i8;
        }
        scale
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_rounded_to_the_nearest_step(
            embedding in prop::collection::vec(prop_oneof![-1e3f32..1e3, (-254i16..=254).prop_map(|half| f32::from(half) / 2.0)], 1..70),
            size in prop_oneof![Just(1.0f32), Just(1e-42), Just(1e30), Just(0.0)],
        ) {
            let embedding: Vec<f32> = embedding.into_iter().map(|value| value * size).collect();
            let mut values = vec![1; embedding.len()];
            let scale = quantize(&embedding, &mut values);
            let largest = embedding.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            prop_assert_eq!(scale, largest / 127.0);
            let expected = |value: &f32| if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
            prop_assert_eq!(values, embedding.iter().map(expected).collect::<Vec<i8>>());
        }
    }
}
