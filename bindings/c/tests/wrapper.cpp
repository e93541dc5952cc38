// Calls everything in itemdex.hpp. The one argument is a folder to write in.
#include <itemdex.hpp>

#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            std::cerr << "line " << __LINE__ << ": " #condition " does not hold\n";    \
            std::exit(1);                                                              \
        }                                                                              \
    } while (0)

// The call throws an Error with this status.
template <class F>
void fails(itemdex_status status, F call) {
    try {
        call();
    } catch (const itemdex::Error &error) {
        CHECK(error.status() == status && error.what()[0] != '\0');
        return;
    }
    CHECK(!"it did not fail");
}

constexpr std::size_t ITEMS = 1000, DIM = 4;

int main(int count, char **arguments) {
    CHECK(count == 2);
    const std::string folder = arguments[1], path = folder + "/items.itemdex";
    std::vector<std::uint64_t> ids(ITEMS);
    std::vector<float> embeddings(ITEMS * DIM);
    for (std::size_t row = 0; row < ITEMS; row++) {
        ids[row] = row;
        for (std::size_t at = 0; at < DIM; at++)
            embeddings[row * DIM + at] = std::sin(static_cast<float>(row * (at + 1)));
    }
    std::vector<std::int64_t> prices(ids.begin(), ids.end());
    itemdex::Column column;
    column.name = "price";
    column.kind = ITEMDEX_COLUMN_NUMBER;
    column.integers = prices.data();
    itemdex::BuildOptions with_column;
    with_column.columns = &column;
    with_column.column_count = 1;
    itemdex::build("v1", ids, embeddings, DIM, path, with_column);
    const std::vector<float> not_finite(ITEMS * DIM, NAN);
    fails(ITEMDEX_BAD_DUMP, [&] { itemdex::build("v1", ids, not_finite, DIM, path); });

    const std::string dump = folder + "/dump.fbin", of_dump = folder + "/dump.itemdex";
    const std::int32_t shape[] = {static_cast<std::int32_t>(ITEMS), static_cast<std::int32_t>(DIM)};
    std::ofstream file(dump, std::ios::binary);
    file.write(reinterpret_cast<const char *>(shape), sizeof shape);
    file.write(reinterpret_cast<const char *>(embeddings.data()), ITEMS * DIM * sizeof(float));
    file.close();
    itemdex::build_dump("v1", dump, "", of_dump);
    CHECK(itemdex::Index(of_dump).describe().items == ITEMS);
    fails(ITEMDEX_IO, [&] { itemdex::build_dump("v1", dump, folder + "/none.npy", of_dump); });

    itemdex::Index index(path);
    CHECK(index.describe().items == ITEMS && std::string(index.describe().model_version) == "v1");
    CHECK(index.info().find("\"rows\":1000") != std::string::npos);
    fails(ITEMDEX_IO, [&] { itemdex::Index nowhere(folder + "/none"); });

    const std::array<float, DIM> user = {0.5f, 0.5f, -0.5f, 0.5f};
    itemdex::SearchOptions exact;
    exact.recall = 1;
    const itemdex::Hits best = index.search(user, 10, exact);
    CHECK(best.size() == 10 && best.plan != 0 && best.scores[0] >= best.scores[9]);
    itemdex::Hits again;
    index.search(user, 5, {}, again);
    CHECK(again.size() == 5);
    index.search(user, SIZE_MAX, exact, again);
    CHECK(again.size() == ITEMS && again.ids[0] == best.ids[0]);
    const float array[] = {0.5f, 0.5f, -0.5f, 0.5f};
    CHECK(index.search(array, 0).empty());
    fails(ITEMDEX_WRONG_DIM, [&] { index.search({user.data(), 3}, 1); });

    std::vector<float> users(user.begin(), user.end());
    users.insert(users.end(), user.rbegin(), user.rend());
    const std::vector<itemdex::Hits> many = index.search_many(users, DIM, 10, exact);
    CHECK(many.size() == 2 && many[0].ids == best.ids && many[0].scores == best.scores);

    const std::vector<std::uint64_t> candidates = {3, 4, 5, 5000};
    const itemdex::Hits ranked = index.rank(user, candidates, 2);
    CHECK(ranked.size() == 2 && ranked.unknown == 1);
    index.rank(user, candidates, 100, {}, again);
    CHECK(again.size() == 3 && again.ids[0] == ranked.ids[0]);
    const std::vector<std::uint64_t> others = {5, 6};
    const std::vector<itemdex_channel> channels = {itemdex::channel(candidates),
                                                   itemdex::channel(others, 1, 1)};
    const itemdex::Hits merged = index.rank_channels(user, channels, 10);
    CHECK(merged.size() == merged.channels.size() && merged.size() == 3 && merged.unknown == 1);

    const std::vector<itemdex::Slice<std::uint64_t>> lists = {candidates, others};
    const std::vector<itemdex::Hits> both = index.rank_many(users, DIM, lists, 2);
    CHECK(both.size() == 2 && both[0].ids == ranked.ids && both[1].size() == 2);
    CHECK(index.rank_many(users, DIM, {lists.data(), 1}, 2)[0].ids == ranked.ids);
    const itemdex::Rows rows = index.look_up(candidates);
    CHECK(rows.size() == 3 && index.rank(user, rows, 2).ids == ranked.ids);
    CHECK(index.rank(user, index.search_rows(user, 10, exact), 10).ids == best.ids);

    const std::vector<std::int64_t> most = {99};
    const itemdex::Filter cheap = index.filter("price <= $most", {{itemdex::parameter("most", most)}});
    CHECK(cheap.matching() == 100 && index.filter("price > 10").matching() == ITEMS - 11);
    fails(ITEMDEX_BAD_FILTER, [&] { index.filter("price >"); });
    const itemdex::ItemSet seen = index.set(others);
    itemdex::Shown shown;
    shown.filter = cheap.get();
    shown.deny_set = seen.get();
    exact.shown = &shown;
    CHECK(index.search(user, 100, exact).matching == 98);
    itemdex::RankOptions rank_options;
    rank_options.shown = &shown;
    const itemdex::Hits kept = index.rank(user, candidates, 10, rank_options);
    CHECK(kept.size() == 2 && kept.denied == 1 && kept.unknown == 1 && kept.filtered == 0);
    CHECK(std::isnan(index.score(user, candidates, rank_options)[2]));
    exact.shown = nullptr;

    const std::vector<float> scores = index.score(user, candidates);
    CHECK(scores.size() == 4 && std::isnan(scores[3]));
    CHECK(index.contains(3) && !index.contains(5000));
    CHECK(index.embedding(0).size() == DIM && index.embedding(5000).empty());

    itemdex::Index moved = std::move(index);
    CHECK(moved.contains(3) && index.get() == nullptr);
    fails(ITEMDEX_INVALID_ARGUMENT, [&] { index.contains(3); });

    CHECK(itemdex::publish(folder + "/catalog", path) == 1);
    const std::string log = folder + "/log";
    itemdex::LiveOptions options;
    options.log = log.c_str();
    {
        itemdex::LiveIndex live(folder + "/catalog", options);
        const std::uint64_t position = live.upsert("v1", 7777, user);
        CHECK(live.remove(3) == position + 1);
        CHECK(live.current().contains(7777) && !live.for_model("v1").contains(3));
        const std::vector<itemdex_change> changes = {itemdex::upsert("v1", 8888, user),
                                                     itemdex::removal(7777)};
        CHECK(live.write(changes).applied == 2);
        CHECK(!live.current().contains(7777) && live.current().contains(8888));
        const std::vector<itemdex_value> values = {itemdex::value("price", std::int64_t{5000})};
        live.set_values(8888, values);
        const itemdex::Index now = live.current();
        const itemdex::Filter dear = now.filter("price > 4000");
        shown = itemdex::Shown();
        shown.filter = dear.get();
        exact.shown = &shown;
        CHECK(now.search(user, 10, exact).ids == std::vector<std::uint64_t>{8888});
        fails(ITEMDEX_UNKNOWN_MODEL, [&] { live.for_model("v2"); });
        CHECK(!live.refresh());
        CHECK(live.status().find("\"fresh\":2") != std::string::npos);
    }
    CHECK(itemdex::publish(folder + "/catalog", path) == 2);
    CHECK(itemdex::rollback(folder + "/catalog") == 1 && itemdex::rollback(folder + "/catalog", 2) == 2);
    CHECK(itemdex::prune(folder + "/catalog", 1) == 1);
    fails(ITEMDEX_NO_GENERATION, [&] { itemdex::rollback(folder + "/catalog", 1); });
    std::cout << "every call did what it should\n";
    return 0;
}
