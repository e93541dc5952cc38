use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::denied::Denial;
use super::gate::Sieve;
use super::options::{RankOptions, SearchOptions};
use super::plan::Route;
use super::search::{Found, scope_of};
use super::workspace::Workspace;
use super::{Candidates, Index, Ranked};
use crate::partitions::{self, Wanted};
use crate::ranking::{ScanUser, Scope, Source};
use crate::row_set::Excluded;
use crate::top::Hit;
use crate::{Error, Matrix, Result};

/// Users that share a pass over the rows: their embeddings and a block of rows stay in the core's nearest
/// cache.
const USERS_A_GROUP: usize = 32;

impl Index {
    /// The items of several users at once, one answer a user, in the order of the users. Each answer is that
    /// of [`Index::search_with`], bit for bit.
    ///
    /// Users are spread over `threads`, at least 1 and at most one a core. The caller's thread is one of
    /// them. In a scan 32 users share a pass, and a row is loaded once for all of them. So they do by
    /// partitions at a recall of 1, which takes a half to a quarter of the time of one user after the other.
    /// Other searches share nothing. Allocates the answers and, for users that share, their space on each
    /// thread.
    ///
    /// # Errors
    /// The errors of [`Index::search_with`], for the first user at fault; then no user has an answer.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// let users = itemdex::Matrix::new(2, vec![0.0, 1.0, 1.0, 0.0])?;
    /// let found = index.search_many(&users, &itemdex::SearchOptions::new(1), 2)?;
    /// assert_eq!((found[0].hits[0].id, found[1].hits[0].id), (7, 8));
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn search_many(
        &self,
        users: &Matrix,
        options: &SearchOptions<'_>,
        threads: usize,
    ) -> Result<Vec<Found>> {
        self.check_users(users)?;
        self.check_search(options)?;
        let mut workspace = self.workspace();
        let mut sieve = std::mem::take(&mut workspace.sieve);
        let Sieve { named, passing } = &mut sieve;
        let gate = self.gate(&options.shown_before(), &[], named);
        let among = gate.select(passing).filter(|among| among.count() < self.len());
        let mut others = std::mem::take(&mut workspace.others);
        let denial = options.denied_afterwards().map(|ids| {
            self.leave_out(ids, among, &mut workspace.denied, &mut others);
            Denial { ids, others: Some(&others) }
        });
        let past =
            denial.filter(|denial| self.takes_out(options, &options.past(denial.ids), denial.ids, among));
        let among = if past.is_some() { among } else { denial.map_or(among, |denial| denial.others) };
        let planned = self.plan(options, among).route;
        let matching = self.count_among(among);
        let k = options.k().min(matching);
        let plan = planned.plan();
        let mut answers = vec![Found { hits: Vec::new(), plan, matching }; users.len()];
        match planned {
            _ if k == 0 => {}
            Route::Scan if !gate.asks() => {
                let lists = self.scan_many(users, scope_of(among), (k, options.bounding()), threads, |_| ());
                answers.iter_mut().zip(lists).for_each(|(answer, hits)| answer.hits = hits);
            }
            Route::Partitions(None) if !gate.asks() => {
                let wanted = self.wanted(options, among);
                spread(&mut answers, threads, |first, answers| {
                    self.exact_many(users, first, wanted, answers)
                });
            }
            _ => spread(&mut answers, threads, |first, answers| {
                for (user, answer) in (first..).zip(answers) {
                    let mut workspace = self.workspace_for(users.row(user));
                    let (user, gate, workspace_of) = (users.row(user), &gate, &mut workspace);
                    (answer.plan, answer.matching) = match past {
                        None => self.find_passing(user, options, among, gate, workspace_of),
                        Some(denial) => self.find_others(user, options, denial, among, gate, workspace_of),
                    };
                    answer.hits.clone_from(&workspace.hits);
                    self.put_back(workspace);
                }
            }),
        }
        (workspace.sieve, workspace.others) = (sieve, others);
        self.put_back(workspace);
        Ok(answers)
    }

    /// The candidates of several users at once, one answer a user, in the order of the users. Each answer is
    /// that of [`Index::rank_with`], bit for bit.
    ///
    /// `candidates` is one list for all users, or a list for each, of ids or of row handles. Users are spread
    /// over `threads` as in [`Index::search_many`]. One list for all is looked up once, and 32 users share a
    /// pass over its rows, in which a row is loaded once for all of them; lists of their own share nothing.
    /// Allocates the answers and, for one list, the space of 32 users on each thread.
    ///
    /// # Errors
    /// The errors of [`Index::rank_with`], for the first user at fault; [`Error::BadOption`] where the number
    /// of lists is neither 1 nor the number of users. Then no user has an answer.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("items.itemdex");
    /// # itemdex::IndexBuilder::new("2026-11-23").build_from([(7, [1.0, 2.0]), (8, [2.0, 1.0])], &path)?;
    /// # let index = itemdex::Index::open(&path)?;
    /// let users = itemdex::Matrix::new(2, vec![0.0, 1.0, 1.0, 0.0])?;
    /// let ranked = index.rank_many(&users, &[&[7, 8, 9]], &itemdex::RankOptions::new(1), 2)?;
    /// assert_eq!((ranked[0].hits[0].id, ranked[1].hits[0].id), (7, 8));
    /// assert_eq!(ranked[1].unknown, [9]);
    /// # Ok::<(), itemdex::Error>(())
    /// ```
    pub fn rank_many<'a, C: Into<Candidates<'a>> + Copy>(
        &self,
        users: &Matrix,
        candidates: &[C],
        options: &RankOptions<'_>,
        threads: usize,
    ) -> Result<Vec<Ranked>> {
        self.check_users(users)?;
        self.check_shown(&options.shown)?;
        let sources = candidates.iter().map(|&list| self.source(list.into()));
        let sources: Vec<Source<'_>> = sources.collect::<Result<_>>()?;
        if users.len() == sources.len() {
            let mut answers = vec![Ranked::default(); users.len()];
            spread(&mut answers, threads, |first, answers| {
                for (user, answer) in (first..).zip(answers) {
                    self.ranked(users.row(user), sources[user], options, answer);
                }
            });
            return Ok(answers);
        }
        let &[shared] = &*sources else {
            return Err(wrong_lists(candidates.len(), users.len()));
        };
        let mut workspace = self.workspace();
        let Workspace { rank, sieve: Sieve { named, .. }, .. } = &mut *workspace;
        let mut unknown = Vec::new();
        let dropped = self.merge(&[shared], &self.gate(&options.shown, &[], named), rank, &mut unknown);
        let rows = &workspace.rank.visits;
        let (k, bounding) = options.selection();
        let selection = (k.min(rows.len()), bounding);
        let answers = self.scan_many(users, Scope::Listed(rows), selection, threads, |_| ());
        self.put_back(workspace);
        Ok(answers.into_iter().map(|hits| Ranked { hits, unknown: unknown.clone(), dropped }).collect())
    }

    /// The best `k` of the rows that have not expired for each user, all scored in `f32`. `progress` is told after each
    /// group of users how many are done.
    pub(crate) fn scan_exactly(
        &self,
        users: &Matrix,
        k: usize,
        threads: usize,
        progress: impl Fn(usize) + Sync,
    ) -> Vec<Vec<Hit>> {
        let expired = self.expired(None);
        let scope = scope_of(expired.as_deref().map(Excluded::others));
        self.scan_many(users, scope, (k.min(scope.count(self.len())), false), threads, progress)
    }

    /// The best `k` of the rows in `scope` for each user. `progress` is told after each group of users how
    /// many are done.
    fn scan_many(
        &self,
        users: &Matrix,
        scope: Scope<'_>,
        (k, bounding): (usize, bool),
        threads: usize,
        progress: impl Fn(usize) + Sync,
    ) -> Vec<Vec<Hit>> {
        let done = AtomicUsize::new(0);
        let mut answers = vec![Vec::new(); users.len()];
        if k == 0 {
            return answers;
        }
        spread(&mut answers, threads, |first, answers| {
            let mut group = Vec::new();
            for (number, answers) in answers.chunks_mut(USERS_A_GROUP).enumerate() {
                group.resize_with(answers.len(), ScanUser::default);
                let start = first + number * USERS_A_GROUP;
                group.iter_mut().zip(start..).for_each(|(user, row)| user.set_user(users.row(row)));
                self.ranking().scan(scope, (k, bounding), &|_| true, &mut group);
                answers.iter_mut().zip(&group).for_each(|(answer, user)| answer.clone_from(&user.hits));
                progress(done.fetch_add(answers.len(), Ordering::Relaxed) + answers.len());
            }
        });
        answers
    }

    /// Answers the users from `first` on exactly by partitions, some of them together.
    fn exact_many(&self, users: &Matrix, first: usize, wanted: Wanted<'_>, answers: &mut [Found]) {
        let mut scratches = Vec::new();
        for (number, answers) in answers.chunks_mut(USERS_A_GROUP).enumerate() {
            let start = first + number * USERS_A_GROUP;
            let group: Vec<&[f32]> = (start..).take(answers.len()).map(|user| users.row(user)).collect();
            scratches.resize_with(answers.len(), partitions::Scratch::default);
            self.searched().search_many_exactly(&group, wanted, partitions::BEGINNING, &mut scratches);
            let found = answers.iter_mut().zip(&scratches);
            found.for_each(|(answer, scratch)| answer.hits.clone_from(&scratch.hits));
        }
    }

    pub(crate) fn check_users(&self, users: &Matrix) -> Result<()> {
        users.rows().try_for_each(|user| self.check_user(user))
    }
}

/// The error for lists of candidates that are neither one for all users nor one for each.
pub(crate) fn wrong_lists(lists: usize, users: usize) -> Error {
    let problem = format!("{lists} lists for {users} users; give one list for all, or one for each");
    Error::BadOption { option: "candidates", problem }
}

/// Calls `each` on up to `threads` threads, at least 1, with a part of `answers` and the number of its first.
///
/// The caller's thread works too, so a system that refuses more threads makes this slower and nothing else.
/// More threads than cores would only wait for each other, so there are never more.
pub(crate) fn spread<T: Send>(answers: &mut [T], threads: usize, each: impl Fn(usize, &mut [T]) + Sync) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.clamp(1, cores);
    let share = answers.len().div_ceil(threads).max(1);
    let parts = Mutex::new(answers.chunks_mut(share).enumerate());
    let next = || parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let work = || {
        while let Some((number, part)) = next() {
            each(number * share, part);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}
