//! Links that a graph starts with: those of the last generation, between items that this one has too.

use super::{Beam, Graph, NONE, Scratch};
use crate::vectors::Augmented;

/// Rows whose nearest are looked for both ways to see whether the links fit, and how many of the nearest.
const ASKED: usize = 100;
const NEAREST: usize = 10;

/// The links of an older graph, in the rows of the new one.
pub(crate) struct Seeds<'a> {
    graph: Graph<'a>,
    /// The old row of each new one and the new row of each old one, [`NONE`] where there is none.
    old: Vec<u32>,
    new: Vec<u32>,
}

impl<'a> Seeds<'a> {
    /// `new` holds the new row of each row of `graph`, or [`NONE`]. Only `members` keep links and are linked to.
    pub fn new(graph: Graph<'a>, mut new: Vec<u32>, members: &[u32], rows: usize) -> Seeds<'a> {
        let mut old = vec![NONE; rows];
        for (before, &row) in (0..).zip(&new) {
            if row != NONE {
                old[row as usize] = before;
            }
        }
        let mut is_member = vec![false; rows];
        members.iter().for_each(|&row| is_member[row as usize] = true);
        new.iter_mut().filter(|row| **row != NONE && !is_member[**row as usize]).for_each(|row| *row = NONE);
        Seeds { graph, old, new }
    }

    /// The links that `row` starts with, different rows and not itself; none if the older graph lacks it.
    pub fn links(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let old = Some(self.old[row as usize]).filter(|&old| old != NONE && self.new[old as usize] == row);
        let links = old.into_iter().flat_map(|old| self.graph.links(old));
        links.map(|link| self.new[link as usize]).filter(move |&link| link != NONE && link != row)
    }

    /// How many of `members` have links to start with.
    pub fn count(&self, members: &[u32]) -> usize {
        members.iter().filter(|&&row| self.links(row).next().is_some()).count()
    }

    /// The share of the nearest members of a row that a walk from it along the links finds, over some rows.
    pub fn fit(&self, space: &Augmented<'_>, members: &[u32], beam: Beam) -> f32 {
        let mut scratch = Scratch::new(space.rows());
        let seeded: Vec<u32> =
            members.iter().copied().filter(|&row| self.links(row).next().is_some()).collect();
        let asked = seeded.iter().step_by(seeded.len().div_ceil(ASKED).max(1));
        let (mut nearest, mut found) = (0, 0);
        for &row in asked {
            let score = |others: &[u32], scores: &mut [f32]| space.nearness(row, others, scores);
            scratch.beam(
                beam,
                [row, row],
                (|of| self.links(of), |_| ()),
                (score, |other| space.prefetch(other)),
            );
            let near: Vec<u32> = scratch.found(beam).map(|found| found.row()).collect();
            let best = nearest_of(space, members, row);
            nearest += best.len();
            found += best.iter().filter(|best| near.contains(best)).count();
        }
        found as f32 / nearest.max(1) as f32
    }
}

/// The members nearest to `row`, by looking at all.
fn nearest_of(space: &Augmented<'_>, members: &[u32], row: u32) -> Vec<u32> {
    let mut scores = vec![0.0; members.len()];
    space.nearness(row, members, &mut scores);
    let mut order: Vec<usize> = (0..members.len()).filter(|&at| members[at] != row).collect();
    let nearest = NEAREST.min(order.len());
    let further = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    if nearest < order.len() {
        order.select_nth_unstable_by(nearest, further);
    }
    order[..nearest].iter().map(|&at| members[at]).collect()
}
