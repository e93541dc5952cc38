/* Calls each function with arguments that are right and with arguments that are wrong. The one argument is a
 * folder to write in. */
#include <itemdex.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 2000, DIM = 8, K = 10, THREADS = 4 };

/* Not in the header. */
extern itemdex_status itemdex_test_panic(void);

static uint64_t ids[ITEMS];
static float items[ITEMS][DIM];
static char folder[256];

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s does not hold (last error: %s)\n", __LINE__, #condition, \
                    itemdex_last_error()); \
            exit(1); \
        } \
    } while (0)
#define OK(call) CHECK((call) == ITEMDEX_OK)
/* The call fails with this status, and its error has this text. */
#define FAILS(status, text, call) \
    do { \
        CHECK((call) == (status)); \
        CHECK(strstr(itemdex_last_error(), (text)) != NULL); \
    } while (0)
#define INVALID(text, call) FAILS(ITEMDEX_INVALID_ARGUMENT, text, call)

static const char *in_folder(const char *name) {
    static char paths[8][300];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static float score_of(const float *user, size_t row) {
    float sum = 0;
    for (size_t at = 0; at < DIM; at++) sum += user[at] * items[row][at];
    return sum;
}

static size_t row_of(uint64_t id) { return (size_t)((id - 3) / 7); }

static void make_items(void) {
    uint32_t state = 1;
    for (size_t row = 0; row < ITEMS; row++) {
        ids[row] = row * 7 + 3;
        for (size_t at = 0; at < DIM; at++) {
            state = state * 1664525u + 1013904223u;
            items[row][at] = (float)(state >> 8) / (1 << 24) - 0.5f;
        }
    }
}

static const float USER[DIM] = {0.3f, -0.2f, 0.9f, 0.1f, -0.7f, 0.5f, 0.2f, -0.4f};

/* Checks that hits are in order, and that their scores are those of their items. */
static void check_hits(const float *user, const uint64_t *found, const float *scores, size_t count) {
    for (size_t at = 0; at < count; at++) {
        CHECK(fabsf(scores[at] - score_of(user, row_of(found[at]))) < 1e-5f);
        CHECK(at == 0 || scores[at - 1] >= scores[at]);
    }
}

/* How many of all items have a higher score than this. */
static size_t better_than(const float *user, float score) {
    size_t better = 0;
    for (size_t row = 0; row < ITEMS; row++) better += score_of(user, row) > score + 1e-5f;
    return better;
}

static int progress(void *context, const char *stage, uint64_t done, uint64_t total) {
    CHECK(stage[0] != '\0' && (total == 0 || done <= total));
    (*(int *)context)++;
    return 0;
}

static int cancel(void *context, const char *stage, uint64_t done, uint64_t total) {
    (void)context, (void)stage, (void)done, (void)total;
    return 1;
}

static void build(void) {
    const char *path = in_folder("items.itemdex");
    int told = 0;
    itemdex_build_options options = {.size = sizeof options, .context = &told, .progress = progress};
    options.plans = ITEMDEX_PLAN_GRAPH | ITEMDEX_PLAN_PARTITIONS;
    options.users = USER;
    options.user_count = 1;
    options.m = 8;
    options.quantize = ITEMDEX_QUANTIZE_I8;
    OK(itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    CHECK(told > 0);

    INVALID("model_version", itemdex_build(NULL, ids, items[0], ITEMS, DIM, NULL, path));
    INVALID("model_version: it is empty", itemdex_build("", ids, items[0], ITEMS, DIM, NULL, path));
    INVALID("UTF-8", itemdex_build("\xff", ids, items[0], ITEMS, DIM, NULL, path));
    INVALID("embeddings", itemdex_build("v1", ids, NULL, ITEMS, DIM, NULL, path));
    INVALID("path", itemdex_build("v1", ids, items[0], ITEMS, DIM, NULL, NULL));
    INVALID("row_count", itemdex_build("v1", ids, items[0], SIZE_MAX, DIM, NULL, path));
    FAILS(ITEMDEX_BAD_OPTION, "dim", itemdex_build("v1", ids, items[0], ITEMS, 0, NULL, path));
    FAILS(ITEMDEX_IO, "nowhere",
          itemdex_build("v1", ids, items[0], ITEMS, DIM, NULL, in_folder("nowhere/x")));
    uint64_t twice[2] = {5, 5};
    FAILS(ITEMDEX_DUPLICATE_ID, "5", itemdex_build("v1", twice, items[0], 2, DIM, NULL, path));
    float bad[2] = {1, NAN};
    FAILS(ITEMDEX_BAD_DUMP, "row 0", itemdex_build("v1", NULL, bad, 1, 2, NULL, path));
    FAILS(ITEMDEX_BAD_DUMP, "", itemdex_build("v1", NULL, NULL, 0, 2, NULL, path));

    itemdex_build_options wrong = {.size = sizeof wrong, .m = 1};
    FAILS(ITEMDEX_BAD_OPTION, "m:", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));
    wrong = (itemdex_build_options){.size = sizeof wrong, .plans = 64};
    FAILS(ITEMDEX_BAD_OPTION, "plans", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));
    wrong = (itemdex_build_options){.size = sizeof wrong, .quantize = 9};
    FAILS(ITEMDEX_BAD_OPTION, "quantize", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));
    wrong = (itemdex_build_options){.size = sizeof wrong, .rows = 7};
    FAILS(ITEMDEX_BAD_OPTION, "rows", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));
    wrong = (itemdex_build_options){.size = sizeof wrong, .reserved = 1};
    FAILS(ITEMDEX_BAD_OPTION, "reserved", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));
    wrong = (itemdex_build_options){.size = sizeof wrong, .progress = cancel};
    FAILS(ITEMDEX_CANCELLED, "", itemdex_build("v1", ids, items[0], ITEMS, DIM, &wrong, path));

    /* A dump: two rows of dim 2. */
    FILE *file = fopen(in_folder("dump.fbin"), "wb");
    int32_t shape[2] = {2, 2};
    float values[4] = {1, 0, 0, 1};
    CHECK(file && fwrite(shape, sizeof shape, 1, file) == 1 && fwrite(values, sizeof values, 1, file) == 1);
    CHECK(fclose(file) == 0);
    OK(itemdex_build_dump("v1", in_folder("dump.fbin"), NULL, NULL, in_folder("dump.itemdex")));
    itemdex_build_options half = {.size = sizeof half, .rows = ITEMDEX_ROWS_F16};
    OK(itemdex_build_dump("v1", in_folder("dump.fbin"), NULL, &half, in_folder("half.itemdex")));
    itemdex_index *index = NULL;
    OK(itemdex_open(in_folder("half.itemdex"), NULL, &index));
    float embedding[2] = {0};
    OK(itemdex_get(index, 1, embedding, 2));
    CHECK(embedding[0] == 0 && embedding[1] == 1);
    itemdex_close(index);
    INVALID("items", itemdex_build_dump("v1", NULL, NULL, NULL, in_folder("dump.itemdex")));
    FAILS(ITEMDEX_IO, "none.fbin",
          itemdex_build_dump("v1", in_folder("none.fbin"), NULL, NULL, in_folder("dump.itemdex")));
    FAILS(ITEMDEX_BAD_OPTION, "out",
          itemdex_build_dump("v1", in_folder("dump.fbin"), NULL, NULL, in_folder("dump.fbin")));
}

static itemdex_index *open_index(void) {
    itemdex_index *index = NULL;
    const char *path = in_folder("items.itemdex");
    for (int kind = 0; kind < 2; kind++) {
        itemdex_open_options options = {.size = sizeof options, .resident = kind == 0, .prefault = kind == 1};
        OK(itemdex_open(path, &options, &index));
        itemdex_close(index);
    }
    itemdex_open_options locked = {.size = sizeof locked, .lock = 1};
    itemdex_status status = itemdex_open(path, &locked, &index);
    CHECK(status == ITEMDEX_OK || strstr(itemdex_last_error(), "ulimit -l") != NULL);
    if (status == ITEMDEX_OK) itemdex_close(index);
    index = NULL;
    INVALID("path: it is NULL", itemdex_open(NULL, NULL, &index));
    INVALID("index: it is NULL", itemdex_open(path, NULL, NULL));
    itemdex_open_options unset = {0};
    INVALID("sizeof(itemdex_open_options)", itemdex_open(path, &unset, &index));
    FAILS(ITEMDEX_IO, "none", itemdex_open(in_folder("none"), NULL, &index));
    FAILS(ITEMDEX_NOT_AN_INDEX, "dump.fbin", itemdex_open(in_folder("dump.fbin"), NULL, &index));
    CHECK(index == NULL);
    OK(itemdex_open(path, NULL, &index));
    itemdex_close(NULL);
    itemdex_text_free(NULL);
    return index;
}

/* Rows are of the regions JP and US in turns, every third is of neither and every fifth of both; their price
 * is the row; the first ten have expired. */
static const char *path_with_columns(void) {
    static const char *regions[2 * ITEMS];
    static uint64_t authors[ITEMS];
    static size_t ends[ITEMS];
    static uint8_t new[ITEMS], has_author[ITEMS];
    static int64_t prices[ITEMS], expiries[ITEMS];
    static double weights[ITEMS];
    size_t end = 0;
    for (size_t row = 0; row < ITEMS; row++) {
        if (row % 3 != 0 || row % 5 == 0) regions[end++] = row % 2 ? "US" : "JP";
        if (row % 5 == 0) regions[end++] = row % 2 ? "JP" : "US";
        ends[row] = end;
        authors[row] = row / 100;
        has_author[row] = row >= 100;
        new[row] = row % 2;
        prices[row] = (int64_t)row;
        weights[row] = (double)row / 2;
        expiries[row] = row < 10 ? 1000 : INT64_MAX / 2;
    }
    enum { SIZE = sizeof(itemdex_column) };
    itemdex_column columns[] = {
        {.size = SIZE, .name = "region", .kind = ITEMDEX_COLUMN_TAG, .texts = regions, .ends = ends},
        {.size = SIZE, .name = "author", .kind = ITEMDEX_COLUMN_TAG, .ids = authors, .present = has_author},
        {.size = SIZE, .name = "new", .kind = ITEMDEX_COLUMN_FLAG, .flags = new},
        {.size = SIZE, .name = "price", .kind = ITEMDEX_COLUMN_NUMBER, .integers = prices},
        {.size = SIZE, .name = "weight", .kind = ITEMDEX_COLUMN_NUMBER, .reals = weights},
        {.size = SIZE, .name = "until", .kind = ITEMDEX_COLUMN_EXPIRES, .integers = expiries},
    };
    itemdex_build_options options = {.size = sizeof options, .columns = columns, .column_count = 6};
    const char *path = in_folder("columns.itemdex");
    OK(itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));

    columns[0].kind = 9;
    FAILS(ITEMDEX_BAD_OPTION, "kind", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    columns[0].kind = ITEMDEX_COLUMN_TAG;
    columns[0].ids = authors;
    INVALID("one array", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    columns[0].ids = NULL;
    ends[7] = 0;
    INVALID("ascend", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    columns[0].ends = NULL;
    regions[3] = NULL;
    INVALID("texts", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    columns[0].name = "and";
    regions[3] = "JP";
    FAILS(ITEMDEX_BAD_OPTION, "and", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    columns[0].name = NULL;
    INVALID("name of a column", itemdex_build("v1", ids, items[0], ITEMS, DIM, &options, path));
    return path;
}

static uint64_t matching(const itemdex_index *index, const char *expression,
                         const itemdex_parameter *parameters, size_t count) {
    itemdex_filter *filter = NULL;
    uint64_t found = 0;
    OK(itemdex_filter_make(index, expression, parameters, count, &filter));
    OK(itemdex_filter_matching(filter, &found));
    itemdex_filter_close(filter);
    return found;
}

static void filters(const itemdex_index *other) {
    itemdex_index *index;
    OK(itemdex_open(path_with_columns(), NULL, &index));
    const char *regions[] = {"JP", "BR"};
    uint64_t blocked[] = {3, 4};
    int64_t whole[] = {1000};
    double most[] = {99.5};
    itemdex_parameter parameters[] = {
        {.size = sizeof *parameters, .name = "regions", .texts = regions, .count = 2},
        {.size = sizeof *parameters, .name = "blocked", .ids = blocked, .count = 2},
        {.size = sizeof *parameters, .name = "whole", .integers = whole, .count = 1},
        {.size = sizeof *parameters, .name = "most", .reals = most, .count = 1},
        {.size = sizeof *parameters, .name = "nobody"},
    };
    CHECK(matching(index, "price < 1000", NULL, 0) == 1000);
    CHECK(matching(index, "price >= $whole", parameters, 5) == 1000);
    CHECK(matching(index, "weight <= $most", parameters, 5) == 200);
    CHECK(matching(index, "author in $blocked and new = true", parameters, 5) == 100);
    CHECK(matching(index, "author in $nobody", parameters, 5) == 0);
    CHECK(matching(index, "author is null", NULL, 0) == 100);
    uint64_t both = matching(index, "region all (\"JP\", \"US\")", NULL, 0);
    CHECK(both == ITEMS / 5 && matching(index, "region in $regions", parameters, 5) > both);

    itemdex_filter *filter = NULL;
    FAILS(ITEMDEX_BAD_FILTER, "character", itemdex_filter_make(index, "price <", NULL, 0, &filter));
    FAILS(ITEMDEX_BAD_FILTER, "colour", itemdex_filter_make(index, "colour = 1", NULL, 0, &filter));
    FAILS(ITEMDEX_BAD_FILTER, "", itemdex_filter_make(index, "price < $none", NULL, 0, &filter));
    INVALID("index", itemdex_filter_make(NULL, "price < 1", NULL, 0, &filter));
    INVALID("expression", itemdex_filter_make(index, NULL, NULL, 0, &filter));
    INVALID("filter", itemdex_filter_make(index, "price < 1", NULL, 0, NULL));
    INVALID("parameters", itemdex_filter_make(index, "price < 1", NULL, 1, &filter));
    parameters[0].ids = blocked;
    INVALID("set one", itemdex_filter_make(index, "price < 1", parameters, 5, &filter));
    parameters[0].ids = NULL;
    parameters[0].name = NULL;
    INVALID("name of a parameter", itemdex_filter_make(index, "price < 1", parameters, 5, &filter));
    INVALID("filter", itemdex_filter_matching(NULL, NULL));
    itemdex_filter_close(NULL);

    /* What a search may find: even rows below 1,000, but not the first that would come up. */
    OK(itemdex_filter_make(index, "price < 1000 and new = false", NULL, 0, &filter));
    itemdex_shown shown = {.size = sizeof shown, .filter = filter, .now = 2000};
    itemdex_search_options exact = {.size = sizeof exact, .recall = 1, .shown = &shown};
    uint64_t found[K], first;
    float scores[K];
    itemdex_answer answer = {.size = sizeof answer};
    OK(itemdex_search(index, USER, DIM, K, &exact, found, scores, &answer));
    CHECK(answer.count == K && answer.matching == 495);
    for (size_t at = 0; at < K; at++) {
        CHECK(row_of(found[at]) % 2 == 0 && row_of(found[at]) < 1000 && row_of(found[at]) >= 10);
    }
    first = found[0];
    shown.deny = &first;
    shown.deny_count = 1;
    OK(itemdex_search(index, USER, DIM, K, &exact, found, scores, &answer));
    CHECK(answer.matching == 494 && found[0] != first);
    size_t counts[1];
    uint64_t many[K];
    OK(itemdex_search_many(index, USER, 1, DIM, K, &exact, 1, many, NULL, counts));
    CHECK(counts[0] == K && memcmp(many, found, sizeof many) == 0);
    shown.now = 999;
    OK(itemdex_search(index, USER, DIM, K, &exact, found, scores, &answer));
    CHECK(answer.matching == 499);

    /* The same of candidates, with sets. */
    itemdex_set *set = NULL;
    uint64_t seen[] = {ids[20], ids[21], 1};
    OK(itemdex_set_make(index, seen, 3, &set));
    shown = (itemdex_shown){.size = sizeof shown, .filter = filter, .deny_set = set, .now = 2000};
    itemdex_rank_options options = {.size = sizeof options, .shown = &shown};
    uint64_t candidates[] = {ids[2], ids[20], ids[22], ids[23], ids[24]};
    OK(itemdex_rank(index, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    CHECK(answer.count == 2 && answer.expired == 1 && answer.denied == 1 && answer.filtered == 1);
    size_t unscored = 0;
    OK(itemdex_score(index, USER, DIM, candidates, 5, &options, scores, &unscored));
    CHECK(unscored == 3 && isnan(scores[1]) && !isnan(scores[2]));
    shown = (itemdex_shown){.size = sizeof shown, .allow_set = set};
    OK(itemdex_rank(index, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    CHECK(answer.count == 1 && found[0] == ids[20]);
    shown = (itemdex_shown){.size = sizeof shown, .allow = candidates};
    OK(itemdex_rank(index, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    CHECK(answer.count == 0);
    itemdex_channel channel = {.size = sizeof channel, .ids = candidates, .count = 5, .filter = filter};
    OK(itemdex_rank_channels(index, USER, DIM, &channel, 1, K, NULL, found, scores, &answer));
    CHECK(answer.count == 3);

    shown = (itemdex_shown){.size = sizeof shown, .allow_set = set, .allow = candidates, .allow_count = 1};
    FAILS(ITEMDEX_BAD_OPTION, "allow",
          itemdex_rank(index, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    shown = (itemdex_shown){.size = sizeof shown, .deny_count = 1};
    INVALID("deny", itemdex_rank(index, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    shown = (itemdex_shown){.size = sizeof shown, .filter = filter};
    FAILS(ITEMDEX_STALE, "",
          itemdex_rank(other, USER, DIM, candidates, 5, K, &options, found, scores, &answer));
    shown = (itemdex_shown){.size = sizeof shown, .deny_set = set};
    FAILS(ITEMDEX_STALE, "", itemdex_search(other, USER, DIM, K, &exact, found, scores, &answer));
    INVALID("index", itemdex_set_make(NULL, seen, 3, &set));
    INVALID("ids", itemdex_set_make(index, NULL, 3, &set));
    INVALID("set", itemdex_set_make(index, seen, 3, NULL));
    itemdex_close(index);
    itemdex_set_close(set);
    itemdex_set_close(NULL);
    itemdex_filter_close(filter);
}

static void describe(const itemdex_index *index) {
    itemdex_description description = {.size = sizeof description};
    OK(itemdex_describe(index, &description));
    CHECK(description.items == ITEMS && description.dim == DIM && description.generation == 0);
    CHECK(strcmp(description.model_version, "v1") == 0);
    INVALID("index", itemdex_describe(NULL, &description));
    INVALID("description", itemdex_describe(index, NULL));

    char *json = NULL;
    OK(itemdex_info(index, &json));
    CHECK(strstr(json, "\"rows\":2000") && strstr(json, "\"model_version\":\"v1\""));
    itemdex_text_free(json);
    INVALID("json", itemdex_info(index, NULL));
    INVALID("index", itemdex_info(NULL, &json));
}

static void search(const itemdex_index *index) {
    uint64_t found[ITEMS + 1];
    float scores[ITEMS + 1];
    itemdex_answer answer = {.size = sizeof answer};
    OK(itemdex_search(index, USER, DIM, K, NULL, found, scores, &answer));
    CHECK(answer.count == K && answer.plan != 0);
    check_hits(USER, found, scores, K);

    uint32_t plans[] = {ITEMDEX_PLAN_GRAPH, ITEMDEX_PLAN_PARTITIONS, ITEMDEX_PLAN_SCAN};
    for (int number = 0; number < 3; number++) {
        itemdex_search_options exact = {.size = sizeof exact, .recall = 1, .plan = plans[number]};
        OK(itemdex_search(index, USER, DIM, K, &exact, found, scores, &answer));
        CHECK(answer.plan == plans[number] && better_than(USER, scores[K - 1]) < K);
    }
    itemdex_search_options by_hand = {.size = sizeof by_hand, .ef = 200};
    OK(itemdex_search(index, USER, DIM, K, &by_hand, found, NULL, &answer));
    CHECK(answer.count == K);

    /* Fewer than asked for, and none. */
    found[ITEMS] = 77;
    OK(itemdex_search(index, USER, DIM, ITEMS + 1, NULL, found, scores, &answer));
    CHECK(answer.count == ITEMS && found[ITEMS] == 77);
    OK(itemdex_search(index, USER, DIM, 0, NULL, NULL, NULL, &answer));
    CHECK(answer.count == 0);

    answer.count = 5;
    INVALID("index: it is NULL", itemdex_search(NULL, USER, DIM, K, NULL, found, scores, &answer));
    INVALID("user: it is NULL", itemdex_search(index, NULL, DIM, K, NULL, found, scores, &answer));
    INVALID("ids: it is NULL", itemdex_search(index, USER, DIM, K, NULL, NULL, scores, &answer));
    INVALID("answer: it is NULL", itemdex_search(index, USER, DIM, K, NULL, found, scores, NULL));
    const float *odd = (const float *)((const char *)USER + 1);
    INVALID("aligned", itemdex_search(index, odd, DIM - 1, K, NULL, found, scores, &answer));
    INVALID("memory", itemdex_search(index, USER, SIZE_MAX, K, NULL, found, scores, &answer));
    FAILS(ITEMDEX_WRONG_DIM, "7 values", itemdex_search(index, USER, 7, K, NULL, found, scores, &answer));
    FAILS(ITEMDEX_WRONG_DIM, "0 values", itemdex_search(index, NULL, 0, K, NULL, found, scores, &answer));
    float bad[DIM] = {INFINITY};
    FAILS(ITEMDEX_BAD_USER, "", itemdex_search(index, bad, DIM, K, NULL, found, scores, &answer));
    itemdex_search_options wrong = {.size = sizeof wrong, .recall = 2};
    FAILS(ITEMDEX_BAD_OPTION, "recall", itemdex_search(index, USER, DIM, K, &wrong, found, scores, &answer));
    wrong = (itemdex_search_options){.size = sizeof wrong, .plan = 3};
    FAILS(ITEMDEX_BAD_OPTION, "plan", itemdex_search(index, USER, DIM, K, &wrong, found, scores, &answer));
    wrong = (itemdex_search_options){.size = sizeof wrong, .recall = 0.9f, .ef = 10};
    FAILS(ITEMDEX_BAD_OPTION, "ef", itemdex_search(index, USER, DIM, K, &wrong, found, scores, &answer));
    itemdex_answer unset = {0};
    INVALID("sizeof(itemdex_answer)", itemdex_search(index, USER, DIM, K, NULL, found, scores, &unset));
    CHECK(answer.count == 5);
}

static void search_many(const itemdex_index *index) {
    uint64_t found[3 * K], alone[K];
    float scores[3 * K], alone_scores[K];
    size_t counts[3];
    float users[3][DIM];
    for (int user = 0; user < 3; user++)
        for (int at = 0; at < DIM; at++) users[user][at] = USER[(at + user) % DIM];
    OK(itemdex_search_many(index, users[0], 3, DIM, K, NULL, 0, found, scores, counts));
    for (int user = 0; user < 3; user++) {
        itemdex_answer answer = {.size = sizeof answer};
        OK(itemdex_search(index, users[user], DIM, K, NULL, alone, alone_scores, &answer));
        CHECK(counts[user] == K && memcmp(alone, found + user * K, sizeof alone) == 0);
        CHECK(memcmp(alone_scores, scores + user * K, sizeof alone_scores) == 0);
    }
    OK(itemdex_search_many(index, users[0], 3, DIM, K, NULL, 1, found, NULL, counts));
    OK(itemdex_search_many(index, users[0], 3, DIM, 0, NULL, 1, NULL, NULL, counts));
    CHECK(counts[0] == 0);
    OK(itemdex_search_many(index, NULL, 0, DIM, K, NULL, 1, found, scores, NULL));

    INVALID("index", itemdex_search_many(NULL, users[0], 3, DIM, K, NULL, 1, found, scores, counts));
    INVALID("users", itemdex_search_many(index, NULL, 3, DIM, K, NULL, 1, found, scores, counts));
    INVALID("ids", itemdex_search_many(index, users[0], 3, DIM, K, NULL, 1, NULL, scores, counts));
    INVALID("counts", itemdex_search_many(index, users[0], 3, DIM, K, NULL, 1, found, scores, NULL));
    INVALID("user_count",
            itemdex_search_many(index, users[0], SIZE_MAX, DIM, K, NULL, 1, found, scores, counts));
    INVALID("user_count",
            itemdex_search_many(index, users[0], 3, DIM, SIZE_MAX, NULL, 1, found, scores, counts));
    FAILS(ITEMDEX_WRONG_DIM, "4 values",
          itemdex_search_many(index, users[0], 6, 4, K, NULL, 1, found, scores, counts));
    FAILS(ITEMDEX_WRONG_DIM, "0 values",
          itemdex_search_many(index, users[0], 3, 0, K, NULL, 1, found, scores, counts));
    users[2][0] = NAN;
    FAILS(ITEMDEX_BAD_USER, "",
          itemdex_search_many(index, users[0], 3, DIM, K, NULL, 1, found, scores, counts));
}

static void rank(const itemdex_index *index) {
    uint64_t candidates[] = {ids[5], ids[1], 4, ids[5], ids[9], 1, 4};
    size_t count = sizeof candidates / sizeof *candidates;
    uint64_t found[K], unknown[4] = {0, 0, 77, 77};
    float scores[K];
    itemdex_answer answer = {.size = sizeof answer, .unknown_ids = unknown, .unknown_room = 4};
    itemdex_rank_options exact = {.size = sizeof exact, .exact = 1};
    const itemdex_rank_options *both[] = {NULL, &exact};
    for (int number = 0; number < 2; number++) {
        OK(itemdex_rank(index, USER, DIM, candidates, count, K, both[number], found, scores, &answer));
        CHECK(answer.count == 3 && answer.unknown == 2);
        CHECK(unknown[0] == 1 && unknown[1] == 4 && unknown[2] == 77);
        check_hits(USER, found, scores, 3);
    }
    answer.unknown_room = 1;
    unknown[1] = 77;
    OK(itemdex_rank(index, USER, DIM, candidates, count, 1, NULL, found, NULL, &answer));
    CHECK(answer.count == 1 && answer.unknown == 2 && unknown[1] == 77);
    OK(itemdex_rank(index, USER, DIM, NULL, 0, K, NULL, found, scores, &answer));
    CHECK(answer.count == 0 && answer.unknown == 0);

    INVALID("index", itemdex_rank(NULL, USER, DIM, candidates, count, K, NULL, found, scores, &answer));
    INVALID("candidates", itemdex_rank(index, USER, DIM, NULL, count, K, NULL, found, scores, &answer));
    INVALID("ids", itemdex_rank(index, USER, DIM, candidates, count, K, NULL, NULL, scores, &answer));
    INVALID("answer", itemdex_rank(index, USER, DIM, candidates, count, K, NULL, found, scores, NULL));
    FAILS(ITEMDEX_WRONG_DIM, "",
          itemdex_rank(index, USER, 1, candidates, count, K, NULL, found, scores, &answer));

    itemdex_channel channels[2] = {
        {.size = sizeof *channels, .ids = candidates, .count = 2},
        {.size = sizeof *channels, .ids = candidates + 3, .count = 4, .at_least = 1, .at_most = 1},
    };
    uint32_t brought[K];
    answer = (itemdex_answer){.size = sizeof answer, .channels = brought};
    OK(itemdex_rank_channels(index, USER, DIM, channels, 2, K, NULL, found, scores, &answer));
    CHECK(answer.unknown == 2 && answer.count == 2);
    for (size_t at = 0; at < answer.count; at++) {
        CHECK(brought[at] == (found[at] == ids[5] ? 3u : found[at] == ids[1] ? 1u : 2u));
    }
    check_hits(USER, found, scores, answer.count);
    OK(itemdex_rank_channels(index, USER, DIM, NULL, 0, K, NULL, found, scores, &answer));
    CHECK(answer.count == 0);
    INVALID("channels", itemdex_rank_channels(index, USER, DIM, NULL, 2, K, NULL, found, scores, &answer));
    FAILS(ITEMDEX_BAD_OPTION, "33",
          itemdex_rank_channels(index, USER, DIM, channels, 33, K, NULL, found, scores, &answer));
    channels[1].at_least = 2;
    FAILS(ITEMDEX_BAD_OPTION, "at_least",
          itemdex_rank_channels(index, USER, DIM, channels, 2, K, NULL, found, scores, &answer));
    channels[1].ids = NULL;
    INVALID("ids of a channel",
            itemdex_rank_channels(index, USER, DIM, channels, 2, K, NULL, found, scores, &answer));
}

static void rank_many(const itemdex_index *index) {
    uint64_t candidates[] = {ids[5], ids[1], 4, ids[9], ids[7]}, found[2 * K], alone[K];
    float scores[2 * K], alone_scores[K], users[2][DIM];
    size_t counts[2], lengths[] = {4, 1}, whole[] = {5};
    for (int user = 0; user < 2; user++)
        for (int at = 0; at < DIM; at++) users[user][at] = USER[(at + user) % DIM];
    itemdex_answer answer = {.size = sizeof answer};
    OK(itemdex_rank_many(index, users[0], 2, DIM, candidates, whole, 1, K, NULL, 0, found, scores, counts));
    for (int user = 0; user < 2; user++) {
        OK(itemdex_rank(index, users[user], DIM, candidates, 5, K, NULL, alone, alone_scores, &answer));
        CHECK(counts[user] == 4 && answer.count == 4);
        CHECK(memcmp(alone, found + user * K, 4 * sizeof *alone) == 0);
        CHECK(memcmp(alone_scores, scores + user * K, 4 * sizeof *scores) == 0);
    }
    itemdex_shown shown = {.size = sizeof shown, .deny = candidates, .deny_count = 1};
    itemdex_rank_options options = {.size = sizeof options, .shown = &shown};
    OK(itemdex_rank_many(index, users[0], 2, DIM, candidates, lengths, 2, K, &options, 1, found, NULL,
                         counts));
    CHECK(counts[0] == 2 && counts[1] == 1 && found[K] == ids[7]);
    OK(itemdex_rank_many(index, NULL, 0, DIM, NULL, NULL, 0, K, NULL, 1, found, scores, NULL));

    INVALID("index",
            itemdex_rank_many(NULL, users[0], 2, DIM, candidates, whole, 1, K, NULL, 1, found, NULL, counts));
    INVALID("users",
            itemdex_rank_many(index, NULL, 2, DIM, candidates, whole, 1, K, NULL, 1, found, NULL, counts));
    INVALID("candidates",
            itemdex_rank_many(index, users[0], 2, DIM, NULL, whole, 1, K, NULL, 1, found, NULL, counts));
    INVALID("list_lengths",
            itemdex_rank_many(index, users[0], 2, DIM, candidates, NULL, 1, K, NULL, 1, found, NULL, counts));
    INVALID("ids",
            itemdex_rank_many(index, users[0], 2, DIM, candidates, whole, 1, K, NULL, 1, NULL, NULL, counts));
    INVALID("counts",
            itemdex_rank_many(index, users[0], 2, DIM, candidates, whole, 1, K, NULL, 1, found, NULL, NULL));
    size_t huge[] = {SIZE_MAX, SIZE_MAX};
    INVALID("list_lengths",
            itemdex_rank_many(index, users[0], 2, DIM, candidates, huge, 2, K, NULL, 1, found, NULL, counts));
    FAILS(ITEMDEX_BAD_OPTION, "",
          itemdex_rank_many(index, users[0], 2, DIM, candidates, NULL, 0, K, NULL, 1, found, NULL, counts));
    FAILS(ITEMDEX_WRONG_DIM, "4 values",
          itemdex_rank_many(index, users[0], 4, 4, candidates, whole, 1, K, NULL, 1, found, NULL, counts));
}

static void rows(const itemdex_index *index) {
    uint64_t candidates[] = {ids[5], 4, ids[1], ids[9]}, found[K], named[K];
    float scores[K], named_scores[K];
    size_t count = 0;
    itemdex_answer answer = {.size = sizeof answer};
    itemdex_rows *rows = NULL, *searched = NULL;
    OK(itemdex_look_up(index, candidates, 4, &rows));
    OK(itemdex_rows_count(rows, &count));
    CHECK(count == 3);
    OK(itemdex_rank(index, USER, DIM, candidates, 4, 2, NULL, named, named_scores, &answer));
    OK(itemdex_rank_rows(index, USER, DIM, rows, 2, NULL, found, scores, &answer));
    CHECK(answer.count == 2 && answer.unknown == 0 && memcmp(found, named, 2 * sizeof *found) == 0);
    CHECK(memcmp(scores, named_scores, 2 * sizeof *scores) == 0);

    OK(itemdex_search(index, USER, DIM, K, NULL, named, NULL, &answer));
    OK(itemdex_search_rows(index, USER, DIM, K, NULL, &searched));
    OK(itemdex_rank_rows(index, USER, DIM, searched, K, NULL, found, NULL, &answer));
    CHECK(answer.count == K && memcmp(found, named, sizeof found) == 0);
    itemdex_shown shown = {.size = sizeof shown, .deny = named, .deny_count = 1};
    itemdex_rank_options options = {.size = sizeof options, .shown = &shown};
    OK(itemdex_rank_rows(index, USER, DIM, searched, K, &options, found, NULL, &answer));
    CHECK(answer.count == K - 1 && answer.denied == 1 && found[0] == named[1]);
    itemdex_rows_close(searched);

    INVALID("index", itemdex_look_up(NULL, candidates, 4, &searched));
    INVALID("ids", itemdex_look_up(index, NULL, 4, &searched));
    INVALID("rows", itemdex_look_up(index, candidates, 4, NULL));
    INVALID("rows", itemdex_rows_count(NULL, &count));
    INVALID("count", itemdex_rows_count(rows, NULL));
    INVALID("user", itemdex_search_rows(index, NULL, DIM, K, NULL, &searched));
    INVALID("rows", itemdex_search_rows(index, USER, DIM, K, NULL, NULL));
    INVALID("rows", itemdex_rank_rows(index, USER, DIM, NULL, K, NULL, found, NULL, &answer));
    INVALID("ids", itemdex_rank_rows(index, USER, DIM, rows, K, NULL, NULL, NULL, &answer));
    FAILS(ITEMDEX_WRONG_DIM, "", itemdex_rank_rows(index, USER, 3, rows, K, NULL, found, NULL, &answer));
    itemdex_index *other;
    OK(itemdex_build("v1", ids, items[0], 100, DIM, NULL, in_folder("other.itemdex")));
    OK(itemdex_open(in_folder("other.itemdex"), NULL, &other));
    FAILS(ITEMDEX_STALE, "", itemdex_rank_rows(other, USER, DIM, rows, K, NULL, found, NULL, &answer));
    itemdex_close(other);
    itemdex_rows_close(rows);
    itemdex_rows_close(NULL);
}

static void score(const itemdex_index *index) {
    uint64_t candidates[] = {ids[3], 1, ids[0]};
    float scores[3];
    size_t unknown = 9;
    OK(itemdex_score(index, USER, DIM, candidates, 3, NULL, scores, &unknown));
    CHECK(unknown == 1 && isnan(scores[1]));
    CHECK(fabsf(scores[0] - score_of(USER, 3)) < 1e-5f && fabsf(scores[2] - score_of(USER, 0)) < 1e-5f);
    OK(itemdex_score(index, USER, DIM, candidates, 3, NULL, scores, NULL));
    OK(itemdex_score(index, USER, DIM, NULL, 0, NULL, NULL, NULL));
    INVALID("index", itemdex_score(NULL, USER, DIM, candidates, 3, NULL, scores, NULL));
    INVALID("candidates", itemdex_score(index, USER, DIM, NULL, 3, NULL, scores, NULL));
    INVALID("scores", itemdex_score(index, USER, DIM, candidates, 3, NULL, NULL, NULL));
    FAILS(ITEMDEX_WRONG_DIM, "", itemdex_score(index, USER, 3, candidates, 3, NULL, scores, NULL));

    float embedding[DIM];
    OK(itemdex_get(index, ids[4], embedding, DIM));
    CHECK(memcmp(embedding, items[4], sizeof embedding) == 0);
    OK(itemdex_get(index, ids[4], NULL, 0));
    FAILS(ITEMDEX_UNKNOWN_ITEM, "no item 1", itemdex_get(index, 1, embedding, DIM));
    FAILS(ITEMDEX_WRONG_DIM, "", itemdex_get(index, ids[4], embedding, 3));
    INVALID("embedding: it is NULL", itemdex_get(index, ids[4], NULL, DIM));
    INVALID("index", itemdex_get(NULL, ids[4], embedding, DIM));
}

/* Structs of programs that are older or newer than the library. */
static void growth(const itemdex_index *index) {
    struct {
        itemdex_search_options known;
        uint64_t later;
    } newer = {{.size = sizeof newer}, 0};
    uint64_t found[K];
    itemdex_answer answer = {.size = sizeof answer};
    OK(itemdex_search(index, USER, DIM, K, &newer.known, found, NULL, &answer));
    newer.later = 1;
    FAILS(ITEMDEX_BAD_OPTION, "install the version of your header",
          itemdex_search(index, USER, DIM, K, &newer.known, found, NULL, &answer));
    newer.known.size = 3;
    INVALID("its size is 3", itemdex_search(index, USER, DIM, K, &newer.known, found, NULL, &answer));
    CHECK(itemdex_abi_version() == ITEMDEX_ABI_VERSION);
    CHECK(itemdex_version()[0] >= '0' && itemdex_version()[0] <= '9');
}

static void *ask(void *pointer) {
    const itemdex_index *index = pointer;
    /* Errors are each thread's own. */
    CHECK(itemdex_last_error()[0] == '\0');
    for (int turn = 0; turn < 200; turn++) {
        uint64_t found[K], first[K];
        itemdex_answer answer = {.size = sizeof answer};
        OK(itemdex_search(index, USER, DIM, K, NULL, found, NULL, &answer));
        CHECK(answer.count == K && (turn == 0 || memcmp(found, first, sizeof found) == 0));
        memcpy(first, found, sizeof found);
        CHECK(itemdex_get(index, 1, NULL, 0) == ITEMDEX_UNKNOWN_ITEM);
    }
    return NULL;
}

static void threads(itemdex_index *index) {
    pthread_t started[THREADS];
    CHECK(itemdex_test_panic() == ITEMDEX_PANIC);
    for (int number = 0; number < THREADS; number++)
        CHECK(pthread_create(&started[number], NULL, ask, index) == 0);
    for (int number = 0; number < THREADS; number++) CHECK(pthread_join(started[number], NULL) == 0);
    CHECK(strstr(itemdex_last_error(), "asked to") != NULL);
}

static size_t count_of(const itemdex_live *live) {
    itemdex_index *index;
    itemdex_description description = {.size = sizeof description};
    OK(itemdex_live_current(live, &index));
    OK(itemdex_describe(index, &description));
    itemdex_close(index);
    return description.items;
}

static void publish(void) {
    uint64_t generation = 0;
    OK(itemdex_publish(in_folder("catalog"), in_folder("items.itemdex"), NULL, &generation));
    CHECK(generation == 1);
    INVALID("catalog", itemdex_publish(NULL, in_folder("items.itemdex"), NULL, NULL));
    INVALID("path", itemdex_publish(in_folder("catalog"), NULL, NULL, NULL));
    FAILS(ITEMDEX_NOT_AN_INDEX, "",
          itemdex_publish(in_folder("catalog"), in_folder("dump.fbin"), NULL, NULL));
    itemdex_publish_options far = {.size = sizeof far, .log_position = UINT64_MAX};
    FAILS(ITEMDEX_BAD_OPTION, "log_position",
          itemdex_publish(in_folder("catalog"), in_folder("items.itemdex"), &far, NULL));
}

static void roll_back(void) {
    uint64_t generation = 0;
    size_t dropped = 7;
    for (int number = 1; number <= 3; number++) {
        itemdex_publish_options all = {.size = sizeof all, .keep = 3};
        OK(itemdex_publish(in_folder("rolled"), in_folder("items.itemdex"), &all, &generation));
    }
    CHECK(generation == 3);
    OK(itemdex_rollback(in_folder("rolled"), 0, &generation));
    CHECK(generation == 2);
    OK(itemdex_rollback(in_folder("rolled"), 1, &generation));
    CHECK(generation == 1);
    OK(itemdex_rollback(in_folder("rolled"), 3, NULL));
    FAILS(ITEMDEX_NO_GENERATION, "number 9", itemdex_rollback(in_folder("rolled"), 9, NULL));
    FAILS(ITEMDEX_IO, "none", itemdex_rollback(in_folder("none"), 0, NULL));
    INVALID("catalog", itemdex_rollback(NULL, 0, NULL));
    OK(itemdex_prune(in_folder("rolled"), 1, 0, &dropped));
    CHECK(dropped == 2);
    OK(itemdex_prune(in_folder("rolled"), 0, 1, NULL));
    FAILS(ITEMDEX_NO_GENERATION, "", itemdex_rollback(in_folder("rolled"), 0, NULL));
    FAILS(ITEMDEX_IO, "none", itemdex_prune(in_folder("none"), 0, 0, NULL));
    INVALID("catalog", itemdex_prune(NULL, 0, 0, NULL));
}

static void live(void) {
    itemdex_live *live = NULL;
    itemdex_index *index = NULL;
    FAILS(ITEMDEX_IO, "none", itemdex_live_open(in_folder("none"), NULL, &live));
    FAILS(ITEMDEX_NO_GENERATION, "", itemdex_live_open(in_folder("empty"), NULL, &live));
    INVALID("catalog", itemdex_live_open(NULL, NULL, &live));
    INVALID("live", itemdex_live_open(in_folder("catalog"), NULL, NULL));
    itemdex_live_options options = {
        .size = sizeof options, .log = in_folder("log"), .fed_log = in_folder("fed")};
    FAILS(ITEMDEX_BAD_OPTION, "fed_log", itemdex_live_open(in_folder("catalog"), &options, &live));
    options = (itemdex_live_options){.size = sizeof options, .sync = 7};
    FAILS(ITEMDEX_BAD_OPTION, "sync", itemdex_live_open(in_folder("catalog"), &options, &live));
    options = (itemdex_live_options){.size = sizeof options, .sample_recall = 2};
    FAILS(ITEMDEX_BAD_OPTION, "sample_recall", itemdex_live_open(in_folder("catalog"), &options, &live));

    /* Without a log. */
    OK(itemdex_live_open(in_folder("catalog"), NULL, &live));
    FAILS(ITEMDEX_BAD_OPTION, "log", itemdex_live_delete(live, ids[0], NULL));
    itemdex_live_close(live);
    itemdex_live_close(NULL);

    options = (itemdex_live_options){.size = sizeof options,
                                     .log = in_folder("log"),
                                     .sync = ITEMDEX_SYNC_EVERY,
                                     .sync_every_ms = 50,
                                     .poll_ms = 100,
                                     .retain_bytes = 1 << 20,
                                     .fresh_limit = 4,
                                     .resident = 1};
    OK(itemdex_live_open(in_folder("catalog"), &options, &live));
    uint64_t position = 0, later = 0;
    OK(itemdex_live_upsert(live, "v1", 1, USER, DIM, &position));
    OK(itemdex_live_delete(live, ids[0], &later));
    CHECK(position > 0 && later == position + 1 && count_of(live) == ITEMS);

    uint64_t found[K];
    float scores[K];
    itemdex_answer answer = {.size = sizeof answer};
    itemdex_description description = {.size = sizeof description};
    OK(itemdex_live_current(live, &index));
    OK(itemdex_describe(index, &description));
    CHECK(description.generation == 1);
    OK(itemdex_search(index, USER, DIM, K, NULL, found, scores, &answer));
    CHECK(found[0] == 1 && answer.count == K);
    uint64_t candidates[] = {1, ids[0], ids[1]};
    OK(itemdex_rank(index, USER, DIM, candidates, 3, K, NULL, found, scores, &answer));
    CHECK(answer.count == 2 && answer.unknown == 1 && found[0] == 1);
    OK(itemdex_score(index, USER, DIM, candidates, 3, NULL, scores, NULL));
    CHECK(isnan(scores[1]) && !isnan(scores[0]));
    CHECK(itemdex_get(index, ids[0], NULL, 0) == ITEMDEX_UNKNOWN_ITEM);
    size_t counts[2];
    float users[2][DIM];
    memcpy(users[0], USER, sizeof USER), memcpy(users[1], USER, sizeof USER);
    uint64_t many[2 * K];
    OK(itemdex_search_many(index, users[0], 2, DIM, K, NULL, 0, many, NULL, counts));
    CHECK(many[0] == 1 && many[K] == 1);
    uint64_t fresh[] = {1};
    itemdex_shown shown = {.size = sizeof shown, .deny = fresh, .deny_count = 1};
    itemdex_search_options without = {.size = sizeof without, .shown = &shown};
    OK(itemdex_search(index, USER, DIM, K, &without, found, scores, &answer));
    CHECK(answer.count == K && found[0] != 1);
    itemdex_rank_options ranked = {.size = sizeof ranked, .shown = &shown};
    OK(itemdex_rank(index, USER, DIM, candidates, 3, K, &ranked, found, scores, &answer));
    CHECK(answer.count == 1 && answer.denied == 1 && answer.unknown == 1);
    itemdex_rows *rows;
    size_t row_count = 0;
    OK(itemdex_look_up(index, candidates, 3, &rows));
    OK(itemdex_rows_count(rows, &row_count));
    OK(itemdex_rank_rows(index, USER, DIM, rows, K, NULL, found, scores, &answer));
    CHECK(row_count == 2 && answer.count == 2 && answer.unknown == 0 && found[0] == 1);
    OK(itemdex_rank_rows(index, USER, DIM, rows, K, &ranked, found, scores, &answer));
    CHECK(answer.count == 1 && answer.denied == 1 && found[0] == ids[1]);
    itemdex_rows_close(rows);
    size_t lengths[] = {3};
    OK(itemdex_rank_many(index, users[0], 2, DIM, candidates, lengths, 1, K, NULL, 0, many, NULL, counts));
    CHECK(counts[1] == 2 && many[K] == 1);
    itemdex_close(index);

    itemdex_change changes[2] = {
        {.size = sizeof *changes,
         .kind = ITEMDEX_UPSERT,
         .id = 2,
         .model_version = "v1",
         .embedding = USER,
         .dim = DIM},
        {.size = sizeof *changes, .kind = ITEMDEX_DELETE, .id = 1},
    };
    itemdex_applied applied = {.size = sizeof applied};
    OK(itemdex_live_write(live, changes, 2, &applied));
    CHECK(applied.applied == 2 && applied.position == later + 2 && count_of(live) == ITEMS);
    OK(itemdex_live_write(live, NULL, 0, NULL));
    INVALID("changes", itemdex_live_write(live, NULL, 2, NULL));
    INVALID("live", itemdex_live_write(NULL, changes, 2, NULL));
    changes[0].position = changes[1].position = 90;
    FAILS(ITEMDEX_NUMBERING, "", itemdex_live_write(live, changes, 2, NULL));
    changes[0].kind = 0;
    FAILS(ITEMDEX_BAD_OPTION, "kind", itemdex_live_write(live, changes, 2, NULL));

    INVALID("model_version", itemdex_live_upsert(live, NULL, 1, USER, DIM, NULL));
    INVALID("embedding", itemdex_live_upsert(live, "v1", 1, NULL, DIM, NULL));
    INVALID("live", itemdex_live_upsert(NULL, "v1", 1, USER, DIM, NULL));
    FAILS(ITEMDEX_BAD_OPTION, "dim 8", itemdex_live_upsert(live, "v1", 1, USER, 3, NULL));
    OK(itemdex_live_upsert(live, "v1", 1, USER, DIM, NULL));
    OK(itemdex_live_upsert(live, "v1", 5, USER, DIM, NULL));
    FAILS(ITEMDEX_OVERLAY_FULL, "v1", itemdex_live_upsert(live, "v1", 6, USER, DIM, NULL));

    FAILS(ITEMDEX_UNKNOWN_MODEL, "v1", itemdex_live_for_model(live, "v2", &index));
    INVALID("model_version", itemdex_live_for_model(live, NULL, &index));
    INVALID("index", itemdex_live_current(live, NULL));
    INVALID("live", itemdex_live_current(NULL, &index));

    /* A second generation, of another model version. */
    OK(itemdex_build("v2", ids, items[0], 100, DIM, NULL, in_folder("second.itemdex")));
    itemdex_publish_options placement = {
        .size = sizeof placement, .log_position = applied.position, .keep = 1};
    OK(itemdex_publish(in_folder("catalog"), in_folder("second.itemdex"), &placement, NULL));
    uint32_t changed = 7;
    OK(itemdex_live_refresh(live, &changed));
    CHECK(changed <= 1 && count_of(live) == 100);
    OK(itemdex_live_refresh(live, NULL));
    INVALID("live", itemdex_live_refresh(NULL, &changed));
    OK(itemdex_live_for_model(live, "v1", &index));

    char *json;
    OK(itemdex_live_status(live, &json));
    CHECK(strstr(json, "\"model_version\":\"v2\"") && strstr(json, "\"log_position\":"));
    itemdex_text_free(json);
    INVALID("json", itemdex_live_status(live, NULL));
    INVALID("live", itemdex_live_status(NULL, &json));
    itemdex_live_close(live);

    /* What was handed out stays. */
    OK(itemdex_search(index, USER, DIM, K, NULL, found, scores, &answer));
    CHECK(answer.count == K);
    itemdex_close(index);

    /* A log that is fed. */
    options = (itemdex_live_options){
        .size = sizeof options, .fed_log = in_folder("fed"), .sync = ITEMDEX_SYNC_NEVER};
    OK(itemdex_live_open(in_folder("catalog"), &options, &live));
    changes[0] = (itemdex_change){
        .size = sizeof *changes, .kind = ITEMDEX_DELETE, .id = ids[1], .position = 1000};
    OK(itemdex_live_write(live, changes, 1, &applied));
    CHECK(applied.position == 1000 && applied.applied == 1 && count_of(live) == 99);
    OK(itemdex_live_write(live, changes, 1, &applied));
    CHECK(applied.already_there == 1);
    FAILS(ITEMDEX_NUMBERING, "", itemdex_live_delete(live, 1, NULL));
    itemdex_live_close(live);
}

/* Values of fresh items, and of items that the generation has. */
static void fresh_values(void) {
    itemdex_live *live;
    OK(itemdex_publish(in_folder("with_values"), in_folder("columns.itemdex"), NULL, NULL));
    itemdex_live_options options = {.size = sizeof options, .log = in_folder("values.log")};
    OK(itemdex_live_open(in_folder("with_values"), &options, &live));
    const char *regions[] = {"FR", "BE"};
    uint64_t authors[] = {77};
    itemdex_value values[] = {
        {.size = sizeof *values,
         .column = "region",
         .kind = ITEMDEX_VALUE_TEXTS,
         .texts = regions,
         .count = 2},
        {.size = sizeof *values, .column = "author", .kind = ITEMDEX_VALUE_IDS, .ids = authors, .count = 1},
        {.size = sizeof *values, .column = "price", .kind = ITEMDEX_VALUE_INTEGER, .integer = 9000},
        {.size = sizeof *values, .column = "weight", .kind = ITEMDEX_VALUE_REAL, .real = 1.5},
        {.size = sizeof *values, .column = "new", .kind = ITEMDEX_VALUE_FLAG, .flag = 1},
        {.size = sizeof *values, .column = "until", .kind = ITEMDEX_VALUE_NULL},
    };
    itemdex_change change = {.size = sizeof change, .kind = ITEMDEX_UPSERT, .id = 1, .model_version = "v1"};
    change.embedding = USER, change.dim = DIM, change.values = values, change.value_count = 6;
    OK(itemdex_live_write(live, &change, 1, NULL));
    uint64_t position = 0;
    OK(itemdex_live_set_values(live, ids[500], values, 1, &position));
    CHECK(position == 2);
    change = (itemdex_change){.size = sizeof change, .kind = ITEMDEX_SET_VALUES, .id = ids[501]};
    change.values = values, change.value_count = 3;
    OK(itemdex_live_write(live, &change, 1, NULL));

    itemdex_index *index;
    itemdex_filter *filter;
    OK(itemdex_live_current(live, &index));
    OK(itemdex_filter_make(index, "region any (\"FR\") and price < 8000", NULL, 0, &filter));
    itemdex_shown shown = {.size = sizeof shown, .filter = filter};
    itemdex_search_options options_shown = {.size = sizeof options_shown, .shown = &shown};
    uint64_t found[K];
    itemdex_answer answer = {.size = sizeof answer};
    OK(itemdex_search(index, USER, DIM, K, &options_shown, found, NULL, &answer));
    CHECK(answer.count == 1 && found[0] == ids[500]);
    itemdex_filter_close(filter);
    OK(itemdex_filter_make(index, "region any (\"FR\") and price = 9000", NULL, 0, &filter));
    shown.filter = filter;
    OK(itemdex_search(index, USER, DIM, K, &options_shown, found, NULL, &answer));
    CHECK(answer.count == 2 && found[0] == 1 && found[1] == ids[501]);
    itemdex_filter_close(filter);
    itemdex_close(index);

    INVALID("live", itemdex_live_set_values(NULL, 1, values, 1, NULL));
    INVALID("values", itemdex_live_set_values(live, 1, NULL, 1, NULL));
    values[0].kind = 9;
    FAILS(ITEMDEX_BAD_OPTION, "kind", itemdex_live_set_values(live, 1, values, 1, NULL));
    values[0].kind = ITEMDEX_VALUE_TEXTS;
    regions[1] = NULL;
    INVALID("texts", itemdex_live_set_values(live, 1, values, 1, NULL));
    values[0].column = NULL;
    INVALID("column", itemdex_live_set_values(live, 1, values, 1, NULL));
    itemdex_live_close(live);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    snprintf(folder, sizeof folder, "%s", arguments[1]);
    make_items();
    build();
    itemdex_index *index = open_index();
    describe(index);
    search(index);
    search_many(index);
    rank(index);
    rank_many(index);
    rows(index);
    score(index);
    filters(index);
    growth(index);
    threads(index);
    itemdex_close(index);
    publish();
    roll_back();
    live();
    fresh_values();
    puts("every call did what it should");
    return 0;
}
