use super::{Graph, Scored, Scratch};
use crate::vectors::{Quantized, Rows, inner_product, prefetch, quantize};

/// Rows whose embeddings are asked for ahead of the one being scored again.
const AHEAD: usize = 8;

/// Finds rows of large inner product with a user, by a beam of `ef`; `found` then holds them with their exact scores, in no
/// particular order. Walks over the quantised embeddings if there are any.
pub(crate) fn search(
    graph: Graph<'_>,
    rows: Rows<'_>,
    quantized: Option<Quantized<'_>>,
    user: &[f32],
    ef: usize,
    scratch: &mut Scratch,
    found: &mut Vec<Scored>,
) {
    found.clear();
    let Some(quantized) = quantized else {
        graph.walk(ef, scratch, |row| inner_product(user, rows.get(row)), |row| prefetch(rows.get(row)));
        found.extend(scratch.found());
        return;
    };
    let mut user_values = std::mem::take(&mut scratch.user);
    quantize(user, &mut user_values);
    graph.walk(ef, scratch, |row| quantized.score(&user_values, row), |row| quantized.prefetch(row));
    scratch.user = user_values;
    found.extend(scratch.found());
    for at in 0..found.len() {
        if let Some(next) = found.get(at + AHEAD) {
            prefetch(rows.get(next.row()));
        }
        let row = found[at].row();
        found[at] = Scored::new(inner_product(user, rows.get(row)), row);
    }
}
