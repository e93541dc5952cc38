/*
 * itemdex: an embedded item index for two-tower recommenders. The guide is docs/c.md.
 *
 * Written by cbindgen from bindings/c/src; do not edit.
 *
 * The rules of every function:
 *
 * - It returns ITEMDEX_OK or says what went wrong. itemdex_last_error() has the text.
 * - After an error, nothing has changed: no buffer of the caller, no index, no file. An exception is named
 *   where there is one.
 * - A pointer is valid for the length that stands beside it, and aligned. It may be NULL where the length is
 *   0 or the function says so. Anything else that is NULL is ITEMDEX_INVALID_ARGUMENT.
 * - Buffers to write to do not overlap any other argument.
 * - A text is UTF-8 and ends with a 0 byte.
 * - A struct begins with its size. Set it to sizeof the struct, and every field that you do not use to 0.
 * - itemdex keeps no pointer that it is given after the call returns.
 * - A handle is used by any number of threads at once. Only closing it needs that no other call uses it.
 *   A handle that was closed must not be used again.
 */

#ifndef ITEMDEX_H
#define ITEMDEX_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface that the header describes. It goes up when a program has to be compiled
// anew: structs that grow and new functions leave it.
#define ITEMDEX_ABI_VERSION 1

// A walk over the graph: approximate. Fast for few items.
#define ITEMDEX_PLAN_GRAPH 1

// A search by partitions: approximate, exact at a recall of 1. Fast for many items.
#define ITEMDEX_PLAN_PARTITIONS 2

// A scan that scores every item: exact.
#define ITEMDEX_PLAN_SCAN 4

// Tags, one or many an item: all texts or all ids.
#define ITEMDEX_COLUMN_TAG 1

// A number an item: all integers or all reals, which are kept in 32 bits.
#define ITEMDEX_COLUMN_NUMBER 2

// True or false.
#define ITEMDEX_COLUMN_FLAG 3

// The second from which on an item is not shown, in whole seconds since 1970. An index has at most one
// such column, and every query heeds it.
#define ITEMDEX_COLUMN_EXPIRES 4

// No value: what is not known.
#define ITEMDEX_VALUE_NULL 0

// Tags that are texts.
#define ITEMDEX_VALUE_TEXTS 1

// Tags that are numbers.
#define ITEMDEX_VALUE_IDS 2

// A whole number, or the second of an expiry.
#define ITEMDEX_VALUE_INTEGER 3

// A number that need not be whole.
#define ITEMDEX_VALUE_REAL 4

// True or false.
#define ITEMDEX_VALUE_FLAG 5

// A change is on disk before the call returns. Changes made at once share a sync.
#define ITEMDEX_SYNC_ALWAYS 0

// A change is with the operating system before the call returns, and on disk within sync_every_ms.
#define ITEMDEX_SYNC_EVERY 1

// A change is with the operating system before the call returns, and on disk when the system writes it.
#define ITEMDEX_SYNC_NEVER 2

// Puts an item in, or a new embedding in place of an item's, for one model version.
#define ITEMDEX_UPSERT 1

// Takes an item out of every model version.
#define ITEMDEX_DELETE 2

// Replaces values of an item, in every model version that has it.
#define ITEMDEX_SET_VALUES 3

// Rows of 8 bits beside those of 32: a quarter more bytes, and faster searches.
#define ITEMDEX_QUANTIZE_I8 1

// Rows of 32 bits only.
#define ITEMDEX_QUANTIZE_NONE 2

// Embeddings in 16 bits a value: half the bytes. Values are rounded to what fits.
#define ITEMDEX_ROWS_F16 1

// Embeddings in 32 bits a value.
#define ITEMDEX_ROWS_F32 2

// What a call returns. Later versions may return others than these.
typedef enum itemdex_status {
  // Done.
  ITEMDEX_OK = 0,
  // An argument cannot be right: NULL, not aligned, no UTF-8, or a struct whose size is not set.
  ITEMDEX_INVALID_ARGUMENT = 1,
  // The operating system refused: a missing file, no permission, a full disk. It may work when tried
  // again.
  ITEMDEX_IO = 2,
  // The items to build from hold something that cannot be indexed.
  ITEMDEX_BAD_DUMP = 3,
  // Two rows have the same item id.
  ITEMDEX_DUPLICATE_ID = 4,
  // The file is not an itemdex index.
  ITEMDEX_NOT_AN_INDEX = 5,
  // The file was written by a newer itemdex.
  ITEMDEX_UNKNOWN_FORMAT = 6,
  // The file is cut short or altered.
  ITEMDEX_DAMAGED = 7,
  // The user embedding has another dim than the index. Is it of the same model?
  ITEMDEX_WRONG_DIM = 8,
  // The user embedding has a value that is not finite, or is too long.
  ITEMDEX_BAD_USER = 9,
  // An option has a value that cannot work.
  ITEMDEX_BAD_OPTION = 10,
  // The index has no item of this id.
  ITEMDEX_UNKNOWN_ITEM = 11,
  // The text of a filter is wrong, or names a column that the index does not have.
  ITEMDEX_BAD_FILTER = 12,
  // The filter or the set was made with another index file. Make it again with this one.
  ITEMDEX_STALE = 13,
  // Somebody else is changing the catalog, or has changed it. Try again.
  ITEMDEX_CATALOG_BUSY = 14,
  // The catalog has no generation that can serve.
  ITEMDEX_NO_GENERATION = 15,
  // No generation of this model version serves.
  ITEMDEX_UNKNOWN_MODEL = 16,
  // The model version was retired from the catalog.
  ITEMDEX_RETIRED_MODEL = 17,
  // There are as many fresh items of the model version as the limit allows.
  ITEMDEX_OVERLAY_FULL = 18,
  // The log numbers its changes itself and the caller gave positions, or the other way round.
  ITEMDEX_NUMBERING = 19,
  // The log has not come as far as a generation says it has.
  ITEMDEX_LOG_BEHIND = 20,
  // The log has dropped changes that a generation lacks.
  ITEMDEX_RECORDS_DROPPED = 21,
  // The log was moved or replaced while it was in use.
  ITEMDEX_LOG_REPLACED = 22,
  // A generation is bad, and what served before goes on.
  ITEMDEX_REFUSED = 23,
  // The process was forked from the one that opened the live index.
  ITEMDEX_FORKED = 24,
  // The live index is shutting down.
  ITEMDEX_CLOSED = 25,
  // The caller cancelled the work.
  ITEMDEX_CANCELLED = 26,
  // The library panicked, which is a fault of the library. The handle can be used further and closed.
  // The panic's message also went to standard error.
  ITEMDEX_PANIC = 27,
  // An error that this list has no number for yet.
  ITEMDEX_OTHER = 28,
} itemdex_status;

// The items of one index for which an expression is true, found once and used in any number of requests.
typedef struct itemdex_filter itemdex_filter;

// An index that answers queries: a file that itemdex_open opened, or what a live index held when
// itemdex_live_current was called. It does not change.
typedef struct itemdex_index itemdex_index;

// Items of one index, made ready to be denied or allowed in any number of requests.
typedef struct itemdex_set itemdex_set;

// A catalog in service: it follows the catalog on a thread of its own, and takes fresh items.
typedef struct itemdex_live itemdex_live;

// Items of one index by their rows, for ranks that look no id up.
typedef struct itemdex_rows itemdex_rows;

// How to open an index file.
typedef struct itemdex_open_options {
  // sizeof(itemdex_open_options)
  size_t size;
  // Not 0: copies the file into memory of this process, on huge pages where the system has them. Random
  // reads are faster there, and opening takes as long as reading the file.
  uint32_t resident;
  // Not 0: reads the mapped file into memory, so that no query waits for the disk while memory suffices.
  uint32_t prefault;
  // Not 0: reads the index into memory and keeps it there (mlock). `ulimit -l` must allow it.
  uint32_t lock;
  // Leave it 0.
  uint32_t reserved;
} itemdex_open_options;

// What an index is.
typedef struct itemdex_description {
  // In: sizeof(itemdex_description)
  size_t size;
  // How many items there are, fresh ones included.
  uint64_t items;
  // Values an embedding.
  uint64_t dim;
  // The number of the generation in its catalog; 0 for a file that itemdex_open opened.
  uint64_t generation;
  // The model version that the item embeddings came from. Score only user embeddings of the same version
  // against them. It stays until the index is closed.
  const char *model_version;
} itemdex_description;

// What a name behind `$` in the text of a filter stands for: a list, or one value where the text compares
// with one. At most one of the arrays is set; the list is empty where none is.
typedef struct itemdex_parameter {
  // sizeof(itemdex_parameter)
  size_t size;
  // The name, without the `$`.
  const char *name;
  // For columns of tags that are texts.
  const char *const *texts;
  // For columns of tags that are numbers.
  const uint64_t *ids;
  // For columns of whole numbers and of expiries.
  const int64_t *integers;
  // For columns of other numbers.
  const double *reals;
  // How many values there are.
  size_t count;
} itemdex_parameter;

// What of the items a request may see. An item is seen where everything that is set here lets it pass.
typedef struct itemdex_shown {
  // sizeof(itemdex_shown)
  size_t size;
  // Leaves out what the filter does not keep; NULL for no filter.
  const struct itemdex_filter *filter;
  // Leaves out these items, by id; NULL for none.
  const uint64_t *deny;
  // How many there are.
  size_t deny_count;
  // Leaves out the items of this set, in place of deny; NULL for none.
  const struct itemdex_set *deny_set;
  // Leaves out all items but these, by id; NULL for no such list. A list that is not NULL and has no ids
  // leaves out everything.
  const uint64_t *allow;
  // How many there are.
  size_t allow_count;
  // Leaves out all items but those of this set, in place of allow; NULL for none.
  const struct itemdex_set *allow_set;
  // Answers as at this second since 1970: items that have expired by then are left out. 0 for now.
  int64_t now;
} itemdex_shown;

// How to search.
typedef struct itemdex_search_options {
  // sizeof(itemdex_search_options)
  size_t size;
  // The share of the exact best items that is found, in the mean over users: above 0 and at most 1. At 1
  // the answer is exact. 0 for the default, 0.95.
  float recall;
  // ITEMDEX_PLAN_...; 0 for the plan that is expected to be fastest.
  uint32_t plan;
  // The beam of a walk, in place of a recall; 0 for none. A wider beam finds more.
  uint64_t ef;
  // Not 0: a search by partitions may give the scores of rows of 8 bits, which saves time where you rank
  // afterwards anyway.
  uint32_t approximate_scores;
  // Leave it 0.
  uint32_t reserved;
  // What of the items the search may find; NULL for all of them.
  const struct itemdex_shown *shown;
} itemdex_search_options;

// What a query says beside the ids and scores it writes.
typedef struct itemdex_answer {
  // In: sizeof(itemdex_answer)
  size_t size;
  // Out: how many hits were written; fewer than asked for where there are no more.
  size_t count;
  // Out, of itemdex_rank and itemdex_rank_channels: how many different candidates the index does not
  // have.
  size_t unknown;
  // In, of the same: a buffer for their ids, ascending, each once. NULL where they are not wanted.
  uint64_t *unknown_ids;
  // In: how many ids fit in there; further ones are left out.
  size_t unknown_room;
  // In, of itemdex_rank_channels: a buffer of k numbers, for the channels that brought each hit, a bit
  // for each channel, the lowest for the first. NULL where they are not wanted.
  uint32_t *channels;
  // Out, of itemdex_search: how many items the answer is among, after what the options left out; of
  // more than 1,000 ids that are denied, the items may still count below a recall of 1.
  size_t matching;
  // Out, of itemdex_rank and itemdex_rank_channels: how many candidates were left out because they have
  // expired.
  size_t expired;
  // Out, of the same: because they are denied.
  size_t denied;
  // Out, of the same: because a filter does not keep them, or they are not among the allowed.
  size_t filtered;
  // Out, of itemdex_search: the plan that was taken, ITEMDEX_PLAN_...
  uint32_t plan;
  // Leave it 0.
  uint32_t reserved;
} itemdex_answer;

// How to rank.
typedef struct itemdex_rank_options {
  // sizeof(itemdex_rank_options)
  size_t size;
  // Not 0: scores every candidate in 32 bits. The answer is the same; this is the reference, and faster
  // where embeddings have a few values much larger than the others.
  uint32_t exact;
  // Leave it 0.
  uint32_t reserved;
  // Which candidates may be among the hits; NULL for all of them.
  const struct itemdex_shown *shown;
} itemdex_rank_options;

// A recall channel of itemdex_rank_channels: its candidates, and its quotas of the hits.
typedef struct itemdex_channel {
  // sizeof(itemdex_channel)
  size_t size;
  // The candidates' ids.
  const uint64_t *ids;
  // How many there are.
  size_t count;
  // How many of the hits are to be of this channel at least, where it has as many.
  size_t at_least;
  // How many of the hits are of this channel at most, those that other channels bring too included; 0
  // for any number.
  size_t at_most;
  // Takes no other candidates from this channel than those that the filter keeps, before quotas count;
  // NULL for no filter. Another channel may still bring the others.
  const struct itemdex_filter *filter;
} itemdex_channel;

// How to follow a catalog.
typedef struct itemdex_live_options {
  // sizeof(itemdex_live_options)
  size_t size;
  // Takes fresh items, and keeps them in the log at this path, which is made where there is none. The
  // log numbers its changes itself: for a single host. NULL for no fresh items.
  const char *log;
  // The same, where whoever feeds the log gives each change its position, so that positions mean the
  // same on every host. At most one of the two paths is set.
  const char *fed_log;
  // When a change counts as kept: ITEMDEX_SYNC_...
  uint32_t sync;
  // How often to look at the catalog where no notice of a change came, in milliseconds; 0 for 2,000.
  uint32_t poll_ms;
  // For ITEMDEX_SYNC_EVERY, in milliseconds.
  uint64_t sync_every_ms;
  // What the log keeps of the changes that every generation has: so many bytes of the newest; 0 for 256
  // MB.
  uint64_t retain_bytes;
  // And only while they are younger than this, in seconds; 0 for 6 hours.
  uint64_t retain_seconds;
  // The most fresh or deleted items of a model version; 0 for 100,000.
  uint64_t fresh_limit;
  // The share of the searches that is compared with the exact answer, 0 to 1.
  double sample_recall;
  // Not 0: opens generations as in itemdex_open_options.
  uint32_t resident;
  uint32_t prefault;
  uint32_t lock;
  // Leave it 0.
  uint32_t reserved;
} itemdex_live_options;

// What a fresh item has in one column.
typedef struct itemdex_value {
  // sizeof(itemdex_value)
  size_t size;
  // The column's name.
  const char *column;
  // ITEMDEX_VALUE_...
  uint32_t kind;
  // Of ITEMDEX_VALUE_FLAG: 0 for false.
  uint32_t flag;
  // Of ITEMDEX_VALUE_TEXTS: count tags.
  const char *const *texts;
  // Of ITEMDEX_VALUE_IDS: count tags.
  const uint64_t *ids;
  // How many tags there are.
  size_t count;
  // Of ITEMDEX_VALUE_INTEGER.
  int64_t integer;
  // Of ITEMDEX_VALUE_REAL.
  double real;
} itemdex_value;

// A change to the items.
typedef struct itemdex_change {
  // sizeof(itemdex_change)
  size_t size;
  // ITEMDEX_UPSERT, ITEMDEX_DELETE or ITEMDEX_SET_VALUES
  uint32_t kind;
  // Leave it 0.
  uint32_t reserved;
  // The item's id.
  uint64_t id;
  // The change's position, for a log that is fed; 0 for one that numbers its changes itself.
  uint64_t position;
  // Of an upsert: the model version that the embedding came from.
  const char *model_version;
  // Of an upsert: dim values.
  const float *embedding;
  // How many values the embedding has.
  size_t dim;
  // Of an upsert and of ITEMDEX_SET_VALUES: the item's values in columns, all of the same size. After an
  // upsert, columns that are not named are null; ITEMDEX_SET_VALUES leaves them as they are.
  const struct itemdex_value *values;
  // How many there are.
  size_t value_count;
} itemdex_change;

// What became of changes.
typedef struct itemdex_applied {
  // In: sizeof(itemdex_applied)
  size_t size;
  // The position of the last change in the log.
  uint64_t position;
  // Changes that were logged, and that every index handed out from now on has.
  uint64_t applied;
  // Changes at positions that the log had come to before. A retry finds all of them so.
  uint64_t already_there;
  // Upserts of retired model versions, which were not logged.
  uint64_t retired;
} itemdex_applied;

// A column to build into an index: a value for each row, for filters. One of the arrays is set.
typedef struct itemdex_column {
  // sizeof(itemdex_column)
  size_t size;
  // The name: letters, digits, _ and .
  const char *name;
  // ITEMDEX_COLUMN_...
  uint32_t kind;
  // Leave it 0.
  uint32_t reserved;
  // Tags that are texts.
  const char *const *texts;
  // Tags that are numbers, such as the ids of authors.
  const uint64_t *ids;
  // Whole numbers, or the seconds of expiries.
  const int64_t *integers;
  // Numbers that need not be whole.
  const double *reals;
  // Flags, where anything but 0 is true.
  const uint8_t *flags;
  // For tags: where the tags of each row end among the texts or ids, in ascending order. NULL for one
  // tag a row.
  const size_t *ends;
  // Not 0 for each row that has a value; the others are null. NULL where every row has one.
  const uint8_t *present;
} itemdex_column;

// How to build.
typedef struct itemdex_build_options {
  // sizeof(itemdex_build_options)
  size_t size;
  // The plans that searches may take: ITEMDEX_PLAN_GRAPH, ITEMDEX_PLAN_PARTITIONS or both, as bits. 0
  // for both, and the graph alone below 10,000 rows.
  uint32_t plans;
  // ITEMDEX_QUANTIZE_...; 0 for rows of 8 bits if they cost no recall, which the build measures.
  uint32_t quantize;
  // Links a row in the upper layers of the graph, 2 to 128; 0 for 16.
  size_t m;
  // How wide the build looks for a row's neighbours, 1 to 10,000; 0 for 200.
  size_t ef_construction;
  // Threads to build with, at most 1,024; 0 for one a core.
  size_t threads;
  // A sample of user embeddings from logs, row after row, of the same dim as the items. NULL for none.
  const float *users;
  // How many users there are.
  size_t user_count;
  // Columns, for filters; all of the same size. NULL for none.
  const struct itemdex_column *columns;
  // How many there are.
  size_t column_count;
  // Is told how far the build has come: the stage's name, and how much of how much is done. total is 0
  // where that is not known. A result other than 0 cancels the build. It is called from the thread that
  // builds. NULL for nobody.
  int (*progress)(void *context,
                  const char *stage,
                  uint64_t done,
                  uint64_t total);
  // What progress gets as its context.
  void *context;
  // How the index keeps the embeddings, ITEMDEX_ROWS_...; 0 for 16 bits if a dump holds 16 bits, else 32.
  uint32_t rows;
  // 0
  uint32_t reserved;
} itemdex_build_options;

// How to publish.
typedef struct itemdex_publish_options {
  // sizeof(itemdex_publish_options)
  size_t size;
  // The position of the log of fresh items at which the dump was taken: the dump has what was logged up
  // to there. 0 where there is none.
  uint64_t log_position;
  // How many generations of each model version stay, this one included; 0 for 2.
  size_t keep;
  // How many model versions stay, this one included; 0 for 2. The others are retired.
  size_t versions;
} itemdex_publish_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface of the library that is loaded. Compare it with ITEMDEX_ABI_VERSION when a
// program starts: where they differ, call nothing else. Any thread may call it.
uint32_t itemdex_abi_version(void);

// The version of the library that is loaded, such as "0.1.0". Any thread may call it.
const char *itemdex_version(void);

// The text of the last error on this thread: what was wrong, where, and what to do. Empty where there was
// none. It stays as it is until the next call on this thread that fails. Any thread may call it, and each
// has its own text.
const char *itemdex_last_error(void);

// Frees a text that a function of itemdex wrote to a `char **`. NULL is allowed.
void itemdex_text_free(char *text);

// Opens an index file. The file is mapped, which takes about as long at any size; the options can have it
// in memory instead.
//
// options: NULL for the defaults. index: the handle, for itemdex_close. On Linux any number of processes
// that map the same file share its pages. Any thread may call it.
//
// Errors: ITEMDEX_IO, ITEMDEX_NOT_AN_INDEX, ITEMDEX_UNKNOWN_FORMAT, ITEMDEX_DAMAGED.
enum itemdex_status itemdex_open(const char *path,
                                 const struct itemdex_open_options *options,
                                 struct itemdex_index **index);

// Closes an index. NULL is allowed. No other call may use the index meanwhile or later. Where a live index
// gave it, the live index need not be open any more.
void itemdex_close(struct itemdex_index *index);

// Says what an index is. Any number of threads may call it at once.
enum itemdex_status itemdex_describe(const struct itemdex_index *index,
                                     struct itemdex_description *description);

// Says what the index file holds, as the JSON document that `itemdex info --json` prints: sections and
// their bytes, plans, measured recalls. Fresh items are not in it.
//
// json: the text, for itemdex_text_free. Any number of threads may call it at once.
enum itemdex_status itemdex_info(const struct itemdex_index *index,
                                 char **json);

// Makes a filter of a text such as `region in ("JP", "US") and not author in $blocked and price <= 1000`.
// docs/filters.md has the language.
//
// parameters: parameter_count of them, all of the same size. filter: the handle, for
// itemdex_filter_close. It takes a bit for each item of the index, and outlives the index that it was
// made with. Only an index of the same file takes it: after a live index has swapped generations, make it
// again. Any number of threads may call it at once.
//
// Errors: ITEMDEX_BAD_FILTER, whose text says at which character, and for a column that the index does not
// have.
enum itemdex_status itemdex_filter_make(const struct itemdex_index *index,
                                        const char *expression,
                                        const struct itemdex_parameter *parameters,
                                        size_t parameter_count,
                                        struct itemdex_filter **filter);

// Counts the items of the index file that a filter keeps. It is exact. Any number of threads may call it
// at once.
enum itemdex_status itemdex_filter_matching(const struct itemdex_filter *filter,
                                            uint64_t *matching);

// Closes a filter. NULL is allowed. No other call may use the filter meanwhile or later.
void itemdex_filter_close(struct itemdex_filter *filter);

// Makes items ready to be denied or allowed in many requests: what a user has seen, or what a page may
// show. For one request, name the ids in itemdex_shown.
//
// ids: id_count of them; those that the index does not have do no harm. set: the handle, for
// itemdex_set_close. It takes some bits for each item of the index, and outlives the index that it was
// made with. Only an index of the same file takes it. Any number of threads may call it at once.
enum itemdex_status itemdex_set_make(const struct itemdex_index *index,
                                     const uint64_t *ids,
                                     size_t id_count,
                                     struct itemdex_set **set);

// Closes a set. NULL is allowed. No other call may use the set meanwhile or later.
void itemdex_set_close(struct itemdex_set *set);

// Finds the best k items for a user, best first; of equal scores the smaller id comes first. Scores are
// inner products, and exact. Which items are found is approximate, unless the recall is 1 or the plan a
// scan.
//
// user: dim values. options: NULL for the defaults. ids, scores: buffers for k hits each; scores may be
// NULL. answer: its count is how many hits were written. Nothing has to be freed. Any number of threads
// may call it at once.
//
// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER; ITEMDEX_BAD_OPTION for a recall that is not above 0 and at
// most 1, and for a plan that the index was built without; ITEMDEX_STALE for a filter or a set of another
// index.
enum itemdex_status itemdex_search(const struct itemdex_index *index,
                                   const float *user,
                                   size_t dim,
                                   size_t k,
                                   const struct itemdex_search_options *options,
                                   uint64_t *ids,
                                   float *scores,
                                   struct itemdex_answer *answer);

// Finds the best k items for each of several users: the answers of itemdex_search, faster, on several
// threads.
//
// users: user_count rows of dim values each. threads: how many may work, one a core at most; 0 for one a
// core. ids, scores: buffers for user_count * k hits, those of user u from place u * k on; scores may be
// NULL. counts: user_count numbers, how many hits each user has. What is behind a user's hits stays as it
// is.
//
// It allocates the answers of all users while it works. Nothing has to be freed. Any number of threads may
// call it at once.
//
// Errors: as itemdex_search, for the first user at fault. Then no user has an answer.
enum itemdex_status itemdex_search_many(const struct itemdex_index *index,
                                        const float *users,
                                        size_t user_count,
                                        size_t dim,
                                        size_t k,
                                        const struct itemdex_search_options *options,
                                        size_t threads,
                                        uint64_t *ids,
                                        float *scores,
                                        size_t *counts);

// Ranks candidates by their exact scores for a user and gives the best k, best first; of equal scores the
// smaller id comes first. A candidate named twice counts once.
//
// user: dim values. candidates: candidate_count ids, in any order. options: NULL for the defaults. ids,
// scores: buffers for k hits each; scores may be NULL. answer: its count is how many hits were written,
// its unknown how many candidates the index does not have. Nothing has to be freed. Any number of threads
// may call it at once.
//
// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER; ITEMDEX_BAD_OPTION for 2^32 candidates and more;
// ITEMDEX_STALE for a filter or a set of another index.
enum itemdex_status itemdex_rank(const struct itemdex_index *index,
                                 const float *user,
                                 size_t dim,
                                 const uint64_t *candidates,
                                 size_t candidate_count,
                                 size_t k,
                                 const struct itemdex_rank_options *options,
                                 uint64_t *ids,
                                 float *scores,
                                 struct itemdex_answer *answer);

// Ranks candidates for each of several users: the answers of itemdex_rank, faster, on several threads. One
// list for all users is looked up once, and users share a pass over its rows.
//
// users: user_count rows of dim values each. candidates: the ids of all lists, one list behind the other.
// list_lengths: list_count numbers, how many ids each list has. There is one list for all users, or one for
// each. threads: how many may work, one a core at most; 0 for one a core. ids, scores: buffers for
// user_count * k hits, those of user u from place u * k on; scores may be NULL. counts: user_count numbers,
// how many hits each user has. What is behind a user's hits stays as it is.
//
// It allocates the answers of all users while it works. Nothing has to be freed. Any number of threads may
// call it at once.
//
// Errors: as itemdex_rank, for the first user at fault, and ITEMDEX_BAD_OPTION for another number of lists.
// Then no user has an answer.
enum itemdex_status itemdex_rank_many(const struct itemdex_index *index,
                                      const float *users,
                                      size_t user_count,
                                      size_t dim,
                                      const uint64_t *candidates,
                                      const size_t *list_lengths,
                                      size_t list_count,
                                      size_t k,
                                      const struct itemdex_rank_options *options,
                                      size_t threads,
                                      uint64_t *ids,
                                      float *scores,
                                      size_t *counts);

// Merges what several recall channels bring, each item once, and gives the best k within the channels'
// quotas: the answer of itemdex_rank for all their candidates.
//
// A hit counts for every channel that brought it. First each channel, in the order given, gets the best of
// its own until it has at_least of them; then the best of all fill up. No item is taken that would give a
// channel more than at_most, so there may be fewer than k.
//
// channels: channel_count of them, at most 32, all of the same size. answer: its channels, where not NULL,
// gets the channels that brought each hit. The rest is as in itemdex_rank.
//
// Errors: as itemdex_rank; ITEMDEX_BAD_OPTION for more than 32 channels, for a channel whose at_least is
// above its at_most, and for channels whose at_least add up to more than k.
enum itemdex_status itemdex_rank_channels(const struct itemdex_index *index,
                                          const float *user,
                                          size_t dim,
                                          const struct itemdex_channel *channels,
                                          size_t channel_count,
                                          size_t k,
                                          const struct itemdex_rank_options *options,
                                          uint64_t *ids,
                                          float *scores,
                                          struct itemdex_answer *answer);

// Writes the exact score of each candidate to the same place of scores, and NaN for one that the index
// does not have or the options leave out. It allocates nothing.
//
// user: dim values. candidates: candidate_count ids. options: NULL for the defaults. scores:
// candidate_count places. unscored: how many candidates have no score; NULL where that is not wanted. Any
// number of threads may call it at once.
//
// Errors: ITEMDEX_WRONG_DIM, ITEMDEX_BAD_USER, ITEMDEX_STALE. Then the scores are unspecified.
enum itemdex_status itemdex_score(const struct itemdex_index *index,
                                  const float *user,
                                  size_t dim,
                                  const uint64_t *candidates,
                                  size_t candidate_count,
                                  const struct itemdex_rank_options *options,
                                  float *scores,
                                  size_t *unscored);

// Copies the embedding of an item. It allocates nothing.
//
// embedding: dim places; NULL, with a dim of 0, only asks whether the index has the item. Any number of
// threads may call it at once.
//
// Errors: ITEMDEX_UNKNOWN_ITEM; ITEMDEX_WRONG_DIM where there is a buffer of another dim than the index.
enum itemdex_status itemdex_get(const struct itemdex_index *index,
                                uint64_t id,
                                float *embedding,
                                size_t dim);

// Looks items up, to rank them in many requests: what is popular, say. Ids that the index does not have are
// left out.
//
// ids: id_count of them. rows: the handle, for itemdex_rows_close. It takes 4 bytes an item, and outlives
// the index that it was made with. Only an index of the same file takes it. Any number of threads may call
// it at once.
enum itemdex_status itemdex_look_up(const struct itemdex_index *index,
                                    const uint64_t *ids,
                                    size_t id_count,
                                    struct itemdex_rows **rows);

// Finds the items that itemdex_search finds, to rank them: the handle is as that of itemdex_look_up.
//
// Errors: as itemdex_search.
enum itemdex_status itemdex_search_rows(const struct itemdex_index *index,
                                        const float *user,
                                        size_t dim,
                                        size_t k,
                                        const struct itemdex_search_options *options,
                                        struct itemdex_rows **rows);

// Counts the items of a handle. Any number of threads may call it at once.
enum itemdex_status itemdex_rows_count(const struct itemdex_rows *rows,
                                       size_t *count);

// Ranks items that were looked up: the answer of itemdex_rank for their ids.
//
// rows: of an index of the same file. The rest is as in itemdex_rank.
//
// Errors: as itemdex_rank; ITEMDEX_STALE for the rows of another index.
enum itemdex_status itemdex_rank_rows(const struct itemdex_index *index,
                                      const float *user,
                                      size_t dim,
                                      const struct itemdex_rows *rows,
                                      size_t k,
                                      const struct itemdex_rank_options *options,
                                      uint64_t *ids,
                                      float *scores,
                                      struct itemdex_answer *answer);

// Closes a handle of rows. NULL is allowed. No other call may use it meanwhile or later.
void itemdex_rows_close(struct itemdex_rows *rows);

// Opens what a catalog has, and follows it from then on, on threads of its own. Reads every file that is
// to serve.
//
// catalog: the folder. options: NULL for the defaults, which take no fresh items. live: the handle, for
// itemdex_live_close. Any thread may call it.
//
// Errors: ITEMDEX_NO_GENERATION, ITEMDEX_DAMAGED, ITEMDEX_NUMBERING, ITEMDEX_LOG_BEHIND,
// ITEMDEX_BAD_OPTION, ITEMDEX_IO.
enum itemdex_status itemdex_live_open(const char *catalog,
                                      const struct itemdex_live_options *options,
                                      struct itemdex_live **live);

// Closes a live index, and waits for its threads. NULL is allowed. No other call may use it meanwhile or
// later. What itemdex_live_current gave stays open, and is closed by itself.
void itemdex_live_close(struct itemdex_live *live);

// Gives the current generation with its fresh items, as an index that does not change. Take one for each
// request, and close it with itemdex_close when the request is done: an old generation stays in memory as
// long as one of its indexes is open.
//
// It takes no lock, waits for nothing, and allocates the handle of some bytes. Any number of threads may
// call it at once.
enum itemdex_status itemdex_live_current(const struct itemdex_live *live,
                                         struct itemdex_index **index);

// The same for the newest generation of a model version, for requests whose user embedding is of that
// version. Any number of threads may call it at once.
//
// Errors: ITEMDEX_UNKNOWN_MODEL, whose text names the versions that there are.
enum itemdex_status itemdex_live_for_model(const struct itemdex_live *live,
                                           const char *model_version,
                                           struct itemdex_index **index);

// Puts an item in, or a new embedding in place of an item's: every index handed out from when this returns
// has it. Its values in columns are null; itemdex_live_write takes an upsert with values. For a log that
// numbers its changes itself.
//
// embedding: dim values of the model version. position: the change's position in the log; NULL where it is
// not wanted. Any number of threads may call it at once; calls made at once share a sync of the disk.
//
// Errors: ITEMDEX_BAD_OPTION for an embedding that cannot be indexed, and where the live index has no log;
// ITEMDEX_NUMBERING, ITEMDEX_OVERLAY_FULL, ITEMDEX_RETIRED_MODEL, ITEMDEX_LOG_REPLACED, ITEMDEX_IO,
// ITEMDEX_FORKED. Then nothing is logged.
enum itemdex_status itemdex_live_upsert(const struct itemdex_live *live,
                                        const char *model_version,
                                        uint64_t id,
                                        const float *embedding,
                                        size_t dim,
                                        uint64_t *position);

// Replaces values of an item, in every model version that has it: its price, or whether it is in stock.
// Columns that are not named stay as they are. An item that is not there is no error. For a log that numbers
// its changes itself.
//
// values: value_count of them, all of the same size. position and errors: as in itemdex_live_upsert. Any
// number of threads may call it at once.
enum itemdex_status itemdex_live_set_values(const struct itemdex_live *live,
                                            uint64_t id,
                                            const struct itemdex_value *values,
                                            size_t value_count,
                                            uint64_t *position);

// Takes an item out of every model version: no index handed out from when this returns has it. An item that
// is not there is no error. For a log that numbers its changes itself.
//
// position and errors: as in itemdex_live_upsert. Any number of threads may call it at once.
enum itemdex_status itemdex_live_delete(const struct itemdex_live *live,
                                        uint64_t id,
                                        uint64_t *position);

// Logs changes together, in one write and one sync, and has requests see all of them at one instant, or
// after an error none.
//
// changes: change_count of them, all of the same size. For a log that numbers its changes itself, their
// positions are 0. For a log that is fed, positions ascend from 1 on and may leave some out; what is at
// or before the log's last position is there already and is not applied again, so a call can be repeated
// until it succeeds. applied: what became of them; NULL where that is not wanted. Any number of threads
// may call it at once for a log that numbers itself, and one feeder at a time for a log that is fed.
//
// Errors: as itemdex_live_upsert; ITEMDEX_BAD_OPTION for positions that do not ascend. Upserts of a
// retired version are an error only where the log numbers itself.
enum itemdex_status itemdex_live_write(const struct itemdex_live *live,
                                       const struct itemdex_change *changes,
                                       size_t change_count,
                                       struct itemdex_applied *applied);

// Looks at the catalog now, and returns when what it has serves. A live index also does so by itself.
//
// changed: 1 if anything changed, otherwise 0; NULL where that is not wanted. Any number of threads may
// call it at once.
//
// Errors: what kept it from serving what the catalog has, ITEMDEX_REFUSED among them. What served before
// goes on.
enum itemdex_status itemdex_live_refresh(const struct itemdex_live *live,
                                         uint32_t *changed);

// Says what serves, how it fares and what went wrong, as a JSON document that docs/c.md describes. It
// waits for no file.
//
// json: the text, for itemdex_text_free. Any number of threads may call it at once.
enum itemdex_status itemdex_live_status(const struct itemdex_live *live,
                                        char **json);

// Builds an index file from items in memory, and replaces what is at the path only once the new file is
// whole and on disk.
//
// model_version: what made the embeddings, 1 to 255 bytes. ids: row_count ids, each once; NULL for row
// numbers. embeddings: row_count rows of dim values each. options: NULL for the defaults. Any thread may
// call it.
//
// Errors: ITEMDEX_BAD_DUMP and ITEMDEX_DUPLICATE_ID for the items, which name the row; ITEMDEX_BAD_OPTION,
// ITEMDEX_IO, ITEMDEX_CANCELLED. Then the path is as it was.
enum itemdex_status itemdex_build(const char *model_version,
                                  const uint64_t *ids,
                                  const float *embeddings,
                                  size_t row_count,
                                  size_t dim,
                                  const struct itemdex_build_options *options,
                                  const char *path);

// Builds an index file from a dump: a file of embeddings that ends in .npy, .fbin, .fvecs or, where the
// library was built with it, .parquet.
//
// items: the file. ids: an .npy with an integer for each row; NULL for row numbers or, in parquet, for the
// column `id`. The rest is as in itemdex_build. Any thread may call it.
//
// Errors: as itemdex_build; ITEMDEX_BAD_OPTION where the path is a file of the dump.
enum itemdex_status itemdex_build_dump(const char *model_version,
                                       const char *items,
                                       const char *ids,
                                       const struct itemdex_build_options *options,
                                       const char *path);

// Copies an index file into a catalog, verifies the copy, and makes it current for every process that
// follows the catalog. The file stays where it is. A catalog is a folder, which is made where there is
// none.
//
// options: NULL for the defaults. generation: its number in the catalog; NULL where that is not wanted.
// Any thread may call it.
//
// Errors: what is wrong with the file; ITEMDEX_CATALOG_BUSY where somebody else publishes;
// ITEMDEX_BAD_OPTION for a log position that no log comes to; ITEMDEX_IO. What was current stays current.
enum itemdex_status itemdex_publish(const char *catalog,
                                    const char *path,
                                    const struct itemdex_publish_options *options,
                                    uint64_t *generation);

// Makes an earlier generation of a catalog current again. Those published after it are withdrawn: no process
// serves them, and the next publication or itemdex_prune drops them. Until then a rollback to their number
// brings them back.
//
// to: the generation's number; 0 for the one before the current. generation: the number that is current now;
// NULL where that is not wanted. Any thread may call it.
//
// Errors: ITEMDEX_NO_GENERATION where there is none to go back to; ITEMDEX_CATALOG_BUSY where somebody else
// changes the catalog; ITEMDEX_IO.
enum itemdex_status itemdex_rollback(const char *catalog,
                                     uint64_t to,
                                     uint64_t *generation);

// Drops old generations of a catalog. A process that has one open can use it until it closes it.
//
// keep: how many generations of each model version stay; 0 for 2. versions: how many model versions stay; 0
// for 2. dropped: how many generations were dropped; NULL where that is not wanted. Any thread may call it.
//
// Errors: ITEMDEX_CATALOG_BUSY where somebody else changes the catalog; ITEMDEX_IO.
enum itemdex_status itemdex_prune(const char *catalog,
                                  size_t keep,
                                  size_t versions,
                                  size_t *dropped);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ITEMDEX_H */
