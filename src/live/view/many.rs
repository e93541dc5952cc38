//! Several users at once.

use std::sync::Mutex;

use super::View;
use crate::index::{Candidates, spread, wrong_lists};
use crate::{Error, Found, Matrix, RankOptions, Ranked, Result, SearchOptions};

impl View {
    /// The items of several users at once, an answer each, in their order: as [`View::search_with`] gives
    /// them.
    ///
    /// The generation is searched for all users together, as
    /// [`Index::search_many`](crate::Index::search_many) does, on so many threads, and so are the fresh
    /// items.
    ///
    /// # Errors
    /// As [`View::search_with`], for the first user at fault; then no user has an answer.
    pub fn search_many(
        &self,
        users: &Matrix,
        options: &SearchOptions<'_>,
        threads: usize,
    ) -> Result<Vec<Found>> {
        let k = options.k().min(self.len());
        let index = &self.held.index;
        let options = &options.at_one_second();
        let plain = self.overlay.is_empty() || k == 0;
        let asked = if plain { k } else { self.asked_at_first(k) };
        let mut answers = index.search_many(users, &options.for_k(asked), threads)?;
        if !plain {
            let fresh = self.fresh_gate(&options.shown);
            each(&mut answers, threads, |user, answer| {
                self.lay_over(users.row(user), options, (k, asked), &fresh, answer)
            })?;
        }
        self.held.queries.add_searches(users.len());
        Ok(answers)
    }

    /// The candidates of several users at once, an answer each, in their order: as [`View::rank_with`] gives
    /// them.
    ///
    /// `candidates` is one list for all users, or a list for each, of ids or of row handles.
    ///
    /// # Errors
    /// As [`View::rank_with`], for the first user at fault; [`Error::BadOption`] where there are neither one
    /// list nor as many as users. Then no user has an answer.
    pub fn rank_many<'a, C: Into<Candidates<'a>> + Copy>(
        &self,
        users: &Matrix,
        candidates: &[C],
        options: &RankOptions<'_>,
        threads: usize,
    ) -> Result<Vec<Ranked>> {
        let lists: Vec<Candidates<'_>> = candidates.iter().map(|&list| list.into()).collect();
        if lists.len() != 1 && lists.len() != users.len() {
            return Err(wrong_lists(lists.len(), users.len()));
        }
        let mut answers = vec![Ranked::default(); users.len()];
        if self.overlay.is_empty() {
            answers = self.held.index.rank_many(users, candidates, options, threads)?;
        } else {
            each(&mut answers, threads, |user, answer| {
                self.ranked(users.row(user), lists[user.min(lists.len() - 1)], options, answer)
            })?;
        }
        self.held.queries.add_others(users.len());
        Ok(answers)
    }
}

/// Calls `answer` with the number of each user and a place for the answer, on so many threads. The error is that of the
/// first user at fault.
fn each<T: Send>(
    answers: &mut [T],
    threads: usize,
    answer: impl Fn(usize, &mut T) -> Result<()> + Sync,
) -> Result<()> {
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    spread(answers, threads, |first, answers| {
        let part = &mut (first..).zip(answers);
        if let Some(found) = part.find_map(|(user, place)| Some((user, answer(user, place).err()?))) {
            let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if failed.as_ref().is_none_or(|(user, _)| found.0 < *user) {
                *failed = Some(found);
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.map_or(Ok(()), |(_, error)| Err(error))
}
