//! Ids that one request denies: taken out of what a search found, and looked up only where that leaves too few.

use super::Index;
use super::denied_ids::DeniedIds;
use super::gate::Gate;
use super::options::{Plan, SearchOptions};
use super::workspace::Workspace;
use crate::row_set::Selection;

/// How many ids are looked up for the count of what is left. More than these would take longer than the search.
const COUNTED: usize = 1000;

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
        let k = options.k();
        if let Some(asked) = self.asked_past(options, denial.ids.len(), among).filter(|_| !gate.asks()) {
            let plan = self.find(user, &options.for_k(asked), among, workspace);
            workspace.denied.drop_from(denial.ids, &mut workspace.hits);
            if workspace.hits.len() >= k {
                workspace.hits.truncate(k);
                return (plan, self.count_past(denial, among, &mut workspace.denied));
            }
        }
        if let Some(others) = denial.others {
            return (self.find_passing(user, options, Some(others), gate, workspace), others.count());
        }
        let mut others = std::mem::take(&mut workspace.others);
        self.leave_out(denial.ids, among, &mut workspace.denied, &mut others);
        let found = (self.find_passing(user, options, Some(&others), gate, workspace), others.count());
        workspace.others = others;
        found
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
