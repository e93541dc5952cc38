//! Ids that one request denies: taken out of what a search found, and looked up only where that leaves too few.

use super::Index;
use super::denied_ids::DeniedIds;
use super::gate::Gate;
use super::options::{Plan, SearchOptions};
use super::plan::COUNTED;
use super::workspace::Workspace;
use crate::row_set::Selection;

/// Where more than one in so many of the items asked for is denied, they are searched for again with a recall for what
/// is left; and so many more than by the share that is denied: one in so many.
const FEW: usize = 4;
const SPARE: usize = 4;

/// Ids that are denied, and the rows without them where these are known.
#[derive(Clone, Copy)]
pub(super) struct Denial<'a> {
    pub ids: &'a [u64],
    pub others: Option<&'a Selection>,
}

impl Index {
    /// Leaves in the workspace the hits that pass a gate, among some rows or all, and are not denied; the plan that found
    /// them, and how many items they are among.
    ///
    /// Mostly some more items are searched for, and those that are denied taken out. Where too few are left, the items
    /// that a user has seen are the best for this user: the ids are then looked up, and their rows left out.
    pub(super) fn find_others(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        denial: Denial<'_>,
        among: Option<&Selection>,
        gate: &Gate<'_>,
        workspace: &mut Workspace,
    ) -> (Plan, usize) {
        if !gate.asks()
            && let Some(plan) = self.take_out(user, options, denial.ids, among, workspace)
        {
            return (plan, self.count_past(denial, among, &mut workspace.denied));
        }
        if let Some(others) = denial.others {
            return self.find_passing(user, options, Some(others), gate, workspace);
        }
        let mut others = std::mem::take(&mut workspace.others);
        self.leave_out(denial.ids, among, &mut workspace.denied, &mut others);
        let found = self.find_passing(user, options, Some(&others), gate, workspace);
        workspace.others = others;
        found
    }

    /// Leaves in the workspace the best of what was found beside denied ids, and the plan that found it. None where too
    /// few are left, or looking the ids up is cheaper.
    fn take_out(
        &self,
        user: &[f32],
        options: &SearchOptions<'_>,
        ids: &[u64],
        among: Option<&Selection>,
        workspace: &mut Workspace,
    ) -> Option<Plan> {
        let count = self.count_among(among);
        let k = options.k().min(count);
        let options = &options.for_k(k);
        let mut more = options.past(ids);
        for last in [false, true] {
            if !self.takes_out(options, &more, ids, among) {
                return None;
            }
            let plan = self.find(user, &more, among, workspace);
            let (hits, asked) = (&mut workspace.hits, more.k().min(count));
            workspace.denied.drop_from(ids, hits);
            let left = hits.len();
            if left >= k && (last || (asked - left) * FEW <= k) {
                hits.truncate(k);
                return Some(plan);
            }
            // Those left are the last of what was found, of which most are missed.
            let enough = (k * asked).div_ceil(left.max(1));
            more = options.for_more((enough + enough / SPARE).max(asked).min(count));
        }
        None
    }

    /// How many items of some or all are not denied. Where many ids are, all count.
    fn count_past(&self, denial: Denial<'_>, among: Option<&Selection>, denied: &mut DeniedIds) -> usize {
        let all = self.count_among(among);
        match denial {
            Denial { ids, .. } if ids.len() > COUNTED => all,
            Denial { others: Some(others), .. } => others.count(),
            Denial { ids, .. } => {
                let rows = &mut denied.looked_up;
                self.rows_of(ids, rows);
                rows.sort_unstable();
                rows.dedup();
                let left_out = |row: u32| {
                    (row as usize) < self.len() && among.is_none_or(|among| among.set().contains(row))
                };
                all - rows.iter().filter(|&&row| left_out(row)).count()
            }
        }
    }

    /// Leaves in `others` the rows among some or all whose ids are not denied.
    pub(super) fn leave_out(
        &self,
        ids: &[u64],
        among: Option<&Selection>,
        denied: &mut DeniedIds,
        others: &mut Selection,
    ) {
        let DeniedIds { rows, looked_up, .. } = denied;
        rows.clear(self.len());
        self.insert_rows_of(ids, looked_up, rows);
        others.refill_without(among, rows);
    }
}
