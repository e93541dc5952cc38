//! The teacher's trees, laid out for scoring many rows: every tree is filled up to the same depth, so a row
//! takes as many steps as any other, and several rows go down a tree side by side.

use forust_ml::gradientbooster::GradientBooster;
use forust_ml::tree::Tree;

/// How deep the trees are.
pub const DEPTH: usize = 7;
const NODES: usize = 1 << DEPTH;

/// Rows that go down a tree together.
const TOGETHER: usize = 8;

pub struct Forest {
    base: f64,
    trees: Vec<Full>,
}

/// A tree as a heap: the children of node `n` are `2 n` and `2 n + 1`, and node 1 is the root.
struct Full {
    splits: [Split; NODES],
    leaves: [f32; NODES],
}

/// Values from `from` on go right.
#[derive(Clone, Copy, Default)]
struct Split {
    feature: u32,
    from: f32,
}

impl Forest {
    /// The trees of a booster of at most [`DEPTH`].
    pub fn new(booster: &GradientBooster) -> Forest {
        let full = |tree: &Tree| {
            let mut full = Full { splits: [Split::default(); NODES], leaves: [0.0; NODES] };
            full.fill(1, tree, 0);
            full
        };
        Forest { base: booster.base_score, trees: booster.trees.iter().map(full).collect() }
    }

    /// The scores of rows of features, as log odds. No feature may be NaN.
    pub fn score<const N: usize>(&self, rows: &[[f32; N]]) -> Vec<f32> {
        let mut scores = Vec::with_capacity(rows.len() + TOGETHER);
        for rows in rows.chunks(TOGETHER) {
            // The last rows are filled up with copies, of which the scores are dropped.
            let rows: [&[f32; N]; TOGETHER] = std::array::from_fn(|at| &rows[at.min(rows.len() - 1)]);
            let mut sums = [self.base; TOGETHER];
            for tree in &self.trees {
                tree.add(&rows, &mut sums);
            }
            scores.extend(sums.map(|sum| sum as f32));
        }
        scores.truncate(rows.len());
        scores
    }
}

impl Full {
    /// Puts a node of the tree and all below it to a place of the heap. A leaf above the last level becomes a
    /// subtree that ends in the same leaf everywhere.
    fn fill(&mut self, place: usize, tree: &Tree, node: usize) {
        let from = &tree.nodes[node];
        if place >= NODES {
            self.leaves[place - NODES] = from.weight_value;
            return;
        }
        let [left, right] = if from.is_leaf { [node; 2] } else { [from.left_child, from.right_child] };
        self.splits[place] = Split { feature: from.split_feature as u32, from: not_below(from.split_value) };
        self.fill(2 * place, tree, left);
        self.fill(2 * place + 1, tree, right);
    }

    fn add<const N: usize>(&self, rows: &[&[f32; N]; TOGETHER], sums: &mut [f64; TOGETHER]) {
        let mut places = [1; TOGETHER];
        for _ in 0..DEPTH {
            for (place, row) in places.iter_mut().zip(rows) {
                let split = self.splits[*place % NODES];
                *place = 2 * *place + usize::from(row[split.feature as usize] >= split.from);
            }
        }
        for (sum, place) in sums.iter_mut().zip(places) {
            *sum += f64::from(self.leaves[place % NODES]);
        }
    }
}

/// The smallest f32 that is not below a value: no f32 lies between the two.
fn not_below(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}
