/* A serving process in C: an offline job publishes an index, the process follows the catalog, answers a request,
 * and takes a fresh item. The one argument is a folder to write in. */
#include <itemdex.h>

#include <stdio.h>
#include <stdlib.h>

enum { ITEMS = 20000, DIM = 16, K = 5 };

static float items[ITEMS][DIM];
static uint64_t ids[ITEMS];

/* Stops the program where a call failed. A server would answer the request with an error. */
static void must(itemdex_status status) {
    if (status != ITEMDEX_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, itemdex_last_error());
        exit(1);
    }
}

/* The offline job: stands for the item tower, and makes some embeddings up. */
static void publish(const char *catalog, const char *file) {
    for (size_t row = 0; row < ITEMS; row++) {
        ids[row] = 1000 + row;
        for (size_t at = 0; at < DIM; at++) items[row][at] = (float)rand() / (float)RAND_MAX - 0.5f;
    }
    must(itemdex_build("2026-11-23", ids, items[0], ITEMS, DIM, NULL, file));
    uint64_t generation;
    must(itemdex_publish(catalog, file, NULL, &generation));
    printf("published generation %llu\n", (unsigned long long)generation);
}

/* A request: recall by a search, then the exact order of the candidates of two channels. */
static void answer_request(const itemdex_live *live, const float *user) {
    itemdex_index *index;
    must(itemdex_live_current(live, &index));

    uint64_t found[500], best[K];
    float scores[K];
    itemdex_search_options options = {.size = sizeof options, .recall = 0.99f};
    itemdex_answer answer = {.size = sizeof answer};
    must(itemdex_search(index, user, DIM, 500, &options, found, NULL, &answer));

    const uint64_t fresh[] = {7, 1003, 1004};
    itemdex_channel channels[] = {
        {.size = sizeof *channels, .ids = found, .count = answer.count},
        {.size = sizeof *channels, .ids = fresh, .count = 3, .at_least = 1},
    };
    uint32_t brought[K];
    answer.channels = brought;
    must(itemdex_rank_channels(index, user, DIM, channels, 2, K, NULL, best, scores, &answer));
    for (size_t at = 0; at < answer.count; at++) {
        printf("item %llu scores %.4f%s\n", (unsigned long long)best[at], scores[at],
               brought[at] & 2 ? ", uploaded today" : "");
    }
    printf("%zu candidates are not in the index\n", answer.unknown);
    itemdex_close(index);
}

int main(int count, char **arguments) {
    if (count != 2 || itemdex_abi_version() != ITEMDEX_ABI_VERSION) {
        fprintf(stderr, "usage: serve_c FOLDER, with the itemdex it was compiled for\n");
        return 2;
    }
    char catalog[512], file[512], log[512];
    snprintf(catalog, sizeof catalog, "%s/catalog", arguments[1]);
    snprintf(file, sizeof file, "%s/items.itemdex", arguments[1]);
    snprintf(log, sizeof log, "%s/fresh.log", arguments[1]);
    publish(catalog, file);

    itemdex_live_options options = {.size = sizeof options, .log = log};
    itemdex_live *live;
    must(itemdex_live_open(catalog, &options, &live));
    const float *user = items[42];
    answer_request(live, user);
    must(itemdex_live_upsert(live, "2026-11-23", 7, user, DIM, NULL));
    answer_request(live, user);

    char *status;
    must(itemdex_live_status(live, &status));
    printf("%s\n", status);
    itemdex_text_free(status);
    itemdex_live_close(live);
    return 0;
}
