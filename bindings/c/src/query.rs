//! Queries. Each writes into the caller's buffers.

use std::slice;

use itemdex::{Candidates, Dropped, Hit, MAX_CHANNELS, Matrix};

use crate::border::{Failure, Place, Result, call, shared, values};
use crate::growing::{Written, read_all, read_or_default};
use crate::index::Index;
use crate::kept::with_kept;
use crate::options::{Answer, Channel, RankOptions, SearchOptions, number_of};
use crate::status::Status;

/// The caller's buffers for ids and scores.
#[derive(Clone, Copy)]
pub(crate) struct Buffers {
    ids: *mut u64,
    /// NULL where scores are not wanted.
    scores: *mut f32,
}

impl Buffers {
    /// Buffers with room for `k` hits a user.
    ///
    /// # Safety
    /// Each pointer is NULL, not aligned, or can be written for as many hits as will be.
    pub unsafe fn new(ids: *mut u64, scores: *mut f32, k: usize) -> Result<Buffers> {
        if k > 0 {
            // SAFETY: as the caller promised. Nothing is written yet; the names are for the errors.
            unsafe { (Place::new(ids, "ids")?, Place::optional(scores, "scores")?) };
        }
        Ok(Buffers { ids, scores })
    }

    /// Writes hits from the place `first` on.
    pub fn write(self, first: usize, hits: impl Iterator<Item = Hit>) {
        for (place, hit) in (first..).zip(hits) {
            // SAFETY: whoever made the buffers promised room for `k` hits a user, and no user has more.
            unsafe {
                self.ids.add(place).write(hit.id);
                if !self.scores.is_null() {
                    self.scores.add(place).write(hit.score);
                }
            }
        }
    }
}

/// The caller's buffers for the answers of several users.
struct Answers {
    buffers: Buffers,
    counts: *mut usize,
    k: usize,
}

impl Answers {
    /// # Safety The buffers have room for `k` hits of each user, and `counts` is NULL, not aligned, or can be
    /// written for each user.
    unsafe fn new(buffers: Buffers, counts: *mut usize, users: usize, k: usize) -> Result<Answers> {
        let overflow = || Failure::argument("user_count", "so many users do not fit into memory");
        users.checked_mul(k).ok_or_else(overflow)?;
        if users > 0 {
            // SAFETY: as the caller promised. Nothing is written yet; the name is for the error.
            unsafe { Place::new(counts, "counts") }?;
        }
        Ok(Answers { buffers, counts, k })
    }

    fn write<'a>(self, lists: impl Iterator<Item = &'a [Hit]>) {
        for (user, hits) in lists.enumerate() {
            self.buffers.write(user * self.k, hits.iter().copied());
            // SAFETY: `counts` has a number for each user, as whoever made this promised.
            unsafe { self.counts.add(user).write(hits.len()) };
        }
    }
}

/// The users of a call, of the index's dim; none where there are none.
///
/// # Safety
/// The users are NULL, not aligned, or `count` rows of `dim` values.
unsafe fn matrix(index: &Index, users: *const f32, count: usize, dim: usize) -> Result<Option<Matrix>> {
    let overflow = || Failure::argument("user_count", "so many users do not fit into memory");
    let total = count.checked_mul(dim).ok_or_else(overflow)?;
    // SAFETY: as the caller promised.
    let users = unsafe { values(users, total, "users") }?;
    if count == 0 {
        return Ok(None);
    }
    if dim != index.source.dim() {
        return Err(itemdex::Error::WrongDim { expected: index.source.dim(), found: dim }.into());
    }
    Ok(Some(Matrix::new(dim, users.to_vec())?))
}

/// One thread a core where the caller names no number.
fn threads_or_all(threads: usize) -> usize {
    if threads == 0 { usize::MAX } else { threads }
}

/// Finds the best k items for a user, best first; of equal scores the smaller id comes first. Scores are
/// inner products, and exact. Which items are found is approximate, unless the recall is 1 or the plan a
/// scan.
///
/// user: dim values. options: NULL for the defaults. ids, scores: buffers for k hits each; scores may be
/// NULL. answer: its count is how many hits were written. Nothing has to be freed. Any number of threads
/// may call it at once.
///
/// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER; ITEMDEX_BAD_OPTION for a recall that is not above 0 and at
/// most 1, and for a plan that the index was built without; ITEMDEX_STALE for a filter or a set of another
/// index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_search(
    index: *const Index,
    user: *const f32,
    dim: usize,
    k: usize,
    options: *const SearchOptions,
    ids: *mut u64,
    scores: *mut f32,
    answer: *mut Answer,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, options, buffers, mut answer) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                read_or_default(options, "options")?.for_k(k)?,
                Buffers::new(ids, scores, k)?,
                Written::new(answer, "answer")?,
            )
        };
        with_kept(|kept| {
            let found = &mut kept.found;
            index.source.search(user, &options, found)?;
            answer.value.matching = found.matching;
            answer.value.plan = number_of(found.plan);
            answer.write_hits(buffers, found.hits.iter().copied());
            Ok(())
        })
    })
}

/// Finds the best k items for each of several users: the answers of itemdex_search, faster, on several
/// threads.
///
/// users: user_count rows of dim values each. threads: how many may work, one a core at most; 0 for one a
/// core. ids, scores: buffers for user_count * k hits, those of user u from place u * k on; scores may be
/// NULL. counts: user_count numbers, how many hits each user has. What is behind a user's hits stays as it
/// is.
///
/// It allocates the answers of all users while it works. Nothing has to be freed. Any number of threads may
/// call it at once.
///
/// Errors: as itemdex_search, for the first user at fault. Then no user has an answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_search_many(
    index: *const Index,
    users: *const f32,
    user_count: usize,
    dim: usize,
    k: usize,
    options: *const SearchOptions,
    threads: usize,
    ids: *mut u64,
    scores: *mut f32,
    counts: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, users, options, answers) = unsafe {
            let index = shared(index, "index")?;
            (
                index,
                matrix(index, users, user_count, dim)?,
                read_or_default(options, "options")?.for_k(k)?,
                Answers::new(Buffers::new(ids, scores, k)?, counts, user_count, k)?,
            )
        };
        let Some(users) = users else { return Ok(()) };
        let found = index.source.search_many(&users, &options, threads_or_all(threads))?;
        answers.write(found.iter().map(|found| &*found.hits));
        Ok(())
    })
}

/// Ranks candidates by their exact scores for a user and gives the best k, best first; of equal scores the
/// smaller id comes first. A candidate named twice counts once.
///
/// user: dim values. candidates: candidate_count ids, in any order. options: NULL for the defaults. ids,
/// scores: buffers for k hits each; scores may be NULL. answer: its count is how many hits were written,
/// its unknown how many candidates the index does not have. Nothing has to be freed. Any number of threads
/// may call it at once.
///
/// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER; ITEMDEX_BAD_OPTION for 2^32 candidates and more;
/// ITEMDEX_STALE for a filter or a set of another index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rank(
    index: *const Index,
    user: *const f32,
    dim: usize,
    candidates: *const u64,
    candidate_count: usize,
    k: usize,
    options: *const RankOptions,
    ids: *mut u64,
    scores: *mut f32,
    answer: *mut Answer,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, candidates, options, buffers, answer) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                values(candidates, candidate_count, "candidates")?,
                read_or_default(options, "options")?.for_k(k)?,
                Buffers::new(ids, scores, k)?,
                Written::new(answer, "answer")?,
            )
        };
        rank(index, user, candidates.into(), &options, buffers, answer)
    })
}

/// Ranks candidates for one user, and writes the answer.
pub(crate) fn rank(
    index: &Index,
    user: &[f32],
    candidates: Candidates<'_>,
    options: &itemdex::RankOptions<'_>,
    buffers: Buffers,
    mut answer: Written<Answer>,
) -> Result<()> {
    with_kept(|kept| {
        let ranked = &mut kept.ranked;
        index.source.rank(user, candidates, options, ranked)?;
        write_others(&mut answer.value, &ranked.unknown, ranked.dropped)?;
        answer.write_hits(buffers, ranked.hits.iter().copied());
        Ok(())
    })
}

/// Ranks candidates for each of several users: the answers of itemdex_rank, faster, on several threads. One
/// list for all users is looked up once, and users share a pass over its rows.
///
/// users: user_count rows of dim values each. candidates: the ids of all lists, one list behind the other.
/// list_lengths: list_count numbers, how many ids each list has. There is one list for all users, or one for
/// each. threads: how many may work, one a core at most; 0 for one a core. ids, scores: buffers for
/// user_count * k hits, those of user u from place u * k on; scores may be NULL. counts: user_count numbers,
/// how many hits each user has. What is behind a user's hits stays as it is.
///
/// It allocates the answers of all users while it works. Nothing has to be freed. Any number of threads may
/// call it at once.
///
/// Errors: as itemdex_rank, for the first user at fault, and ITEMDEX_BAD_OPTION for another number of lists.
/// Then no user has an answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rank_many(
    index: *const Index,
    users: *const f32,
    user_count: usize,
    dim: usize,
    candidates: *const u64,
    list_lengths: *const usize,
    list_count: usize,
    k: usize,
    options: *const RankOptions,
    threads: usize,
    ids: *mut u64,
    scores: *mut f32,
    counts: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, users, lists, options, answers) = unsafe {
            let index = shared(index, "index")?;
            (
                index,
                matrix(index, users, user_count, dim)?,
                lists_of(candidates, values(list_lengths, list_count, "list_lengths")?)?,
                read_or_default(options, "options")?.for_k(k)?,
                Answers::new(Buffers::new(ids, scores, k)?, counts, user_count, k)?,
            )
        };
        let Some(users) = users else { return Ok(()) };
        let ranked = index.source.rank_many(&users, &lists, &options, threads_or_all(threads))?;
        answers.write(ranked.iter().map(|ranked| &*ranked.hits));
        Ok(())
    })
}

/// Lists of candidates that lie one behind the other.
///
/// # Safety
/// The candidates are NULL, not aligned, or as many as all lengths together, and stay as they are for `'a`.
unsafe fn lists_of<'a>(candidates: *const u64, lengths: &[usize]) -> Result<Vec<&'a [u64]>> {
    let overflow = || Failure::argument("list_lengths", "so many candidates do not fit into memory");
    let total =
        lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length)).ok_or_else(overflow)?;
    // SAFETY: as the caller promised.
    let mut rest: &[u64] = unsafe { values(candidates, total, "candidates") }?;
    let lists = lengths.iter().map(|&length| {
        let list;
        (list, rest) = rest.split_at(length);
        list
    });
    Ok(lists.collect())
}

/// Merges what several recall channels bring, each item once, and gives the best k within the channels'
/// quotas: the answer of itemdex_rank for all their candidates.
///
/// A hit counts for every channel that brought it. First each channel, in the order given, gets the best of
/// its own until it has at_least of them; then the best of all fill up. No item is taken that would give a
/// channel more than at_most, so there may be fewer than k.
///
/// channels: channel_count of them, at most 32, all of the same size. answer: its channels, where not NULL,
/// gets the channels that brought each hit. The rest is as in itemdex_rank.
///
/// Errors: as itemdex_rank; ITEMDEX_BAD_OPTION for more than 32 channels, for a channel whose at_least is
/// above its at_most, and for channels whose at_least add up to more than k.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_rank_channels(
    index: *const Index,
    user: *const f32,
    dim: usize,
    channels: *const Channel,
    channel_count: usize,
    k: usize,
    options: *const RankOptions,
    ids: *mut u64,
    scores: *mut f32,
    answer: *mut Answer,
) -> Status {
    call(|| {
        if channel_count > MAX_CHANNELS {
            let problem = format!("there are {channel_count}, and {MAX_CHANNELS} at most");
            return Err(Failure::option("channels", problem));
        }
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, channels, options, buffers, mut answer) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                read_all(channels, channel_count, "channels")?,
                read_or_default(options, "options")?.for_k(k)?,
                Buffers::new(ids, scores, k)?,
                Written::new(answer, "answer")?,
            )
        };
        let mut read = [itemdex::Channel::new(&[0; 0]); MAX_CHANNELS];
        for (place, channel) in read.iter_mut().zip(channels) {
            // SAFETY: the caller keeps the rules of the header.
            *place = unsafe { channel?.for_library() }?;
        }
        with_kept(|kept| {
            let ranked = &mut kept.merged;
            index.source.rank_channels(user, &read[..channel_count], &options, ranked)?;
            // SAFETY: as above. The place is for the error.
            let bits = unsafe { Place::optional(answer.value.channels, "channels of the answer") }?;
            write_others(&mut answer.value, &ranked.unknown, ranked.dropped)?;
            if bits.is_some() {
                for (number, hit) in ranked.hits.iter().enumerate() {
                    // SAFETY: the buffer has room for `k` numbers, as the caller promised, and there are no
                    // more hits.
                    unsafe { answer.value.channels.add(number).write(hit.channels) };
                }
            }
            let hits = ranked.hits.iter().map(|hit| Hit { id: hit.id, score: hit.score });
            answer.write_hits(buffers, hits);
            Ok(())
        })
    })
}

impl Written<Answer> {
    /// Writes the hits of one user and the answer.
    fn write_hits(mut self, buffers: Buffers, hits: impl ExactSizeIterator<Item = Hit>) {
        self.value.count = hits.len();
        buffers.write(0, hits);
        self.write();
    }
}

/// Says which candidates are not among the hits: writes unknown ids into the caller's buffer, as many as
/// fit.
fn write_others(answer: &mut Answer, unknown: &[u64], dropped: Dropped) -> Result<()> {
    answer.unknown = unknown.len();
    (answer.expired, answer.denied, answer.filtered) = (dropped.expired, dropped.denied, dropped.filtered);
    // SAFETY: the answer has a buffer of `unknown_room` ids or NULL, as the caller promised.
    if unsafe { Place::optional(answer.unknown_ids, "unknown_ids") }?.is_some() {
        for (number, &id) in unknown.iter().take(answer.unknown_room).enumerate() {
            // SAFETY: as above, and below `unknown_room`.
            unsafe { answer.unknown_ids.add(number).write(id) };
        }
    }
    Ok(())
}

/// Writes the exact score of each candidate to the same place of scores, and NaN for one that the index
/// does not have or the options leave out. It allocates nothing.
///
/// user: dim values. candidates: candidate_count ids. options: NULL for the defaults. scores:
/// candidate_count places. unscored: how many candidates have no score; NULL where that is not wanted. Any
/// number of threads may call it at once.
///
/// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER, ITEMDEX_STALE. Then the scores are unspecified.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_score(
    index: *const Index,
    user: *const f32,
    dim: usize,
    candidates: *const u64,
    candidate_count: usize,
    options: *const RankOptions,
    scores: *mut f32,
    unscored: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, user, candidates, options, unscored) = unsafe {
            (
                shared(index, "index")?,
                values(user, dim, "user")?,
                values(candidates, candidate_count, "candidates")?,
                read_or_default(options, "options")?.for_k(0)?,
                Place::optional(unscored, "unscored")?,
            )
        };
        // SAFETY: as above.
        let scores = unsafe { scores_of(scores, candidate_count) }?;
        let count = index.source.score(user, candidates, &options, scores)?;
        if let Some(unscored) = unscored {
            unscored.write(count);
        }
        Ok(())
    })
}

/// The caller's buffer of scores, with a value in each place.
///
/// # Safety
/// The pointer is NULL, not aligned, or points to `count` places that nobody else uses for `'a`.
unsafe fn scores_of<'a>(scores: *mut f32, count: usize) -> Result<&'a mut [f32]> {
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as the caller promised. The place is for the error.
    unsafe { Place::new(scores, "scores") }?;
    // SAFETY: neither NULL nor misaligned, as was checked, and of `count` places, as the caller promised: so
    // many candidates are in memory, of twice the bytes. Each place has a value before there is a slice.
    Ok(unsafe {
        scores.write_bytes(0, count);
        slice::from_raw_parts_mut(scores, count)
    })
}

/// Copies the embedding of an item. It allocates nothing.
///
/// embedding: dim places; NULL, with a dim of 0, only asks whether the index has the item. Any number of
/// threads may call it at once.
///
/// Errors: ITEMDEX_UNKNOWN_ITEM; ITEMDEX_WRONG_DIM where there is a buffer of another dim than the index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn itemdex_get(
    index: *const Index,
    id: u64,
    embedding: *mut f32,
    dim: usize,
) -> Status {
    call(|| {
        // SAFETY: the caller keeps the rules of the header.
        let (index, place) = unsafe { (shared(index, "index")?, Place::optional(embedding, "embedding")?) };
        let expected = index.source.dim();
        if place.is_none() && dim > 0 {
            return Err(Failure::argument("embedding", "it is NULL, which takes a dim of 0"));
        }
        if place.is_some() && dim != expected {
            let problem = format!("the embedding has room for {dim} values, the index has dim {expected}");
            return Err(Failure::new(Status::ITEMDEX_WRONG_DIM, problem));
        }
        let Some(found) = index.source.get(id) else {
            return Err(Failure::new(Status::ITEMDEX_UNKNOWN_ITEM, format!("the index has no item {id}")));
        };
        if place.is_some() {
            // SAFETY: the buffer has `dim` places, as the caller promised, and so many values has the item.
            unsafe { embedding.copy_from_nonoverlapping(found.as_ptr(), dim) };
        }
        Ok(())
    })
}
