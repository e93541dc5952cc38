// The same in C++17: an offline job publishes an index, the process follows the catalog, answers requests on
// several threads, and takes a fresh item. The one argument is a folder to write in.
#include <itemdex.hpp>

#include <iostream>
#include <random>
#include <thread>

constexpr std::size_t ITEMS = 20'000, DIM = 16;

// The offline job: stands for the item tower, and makes some embeddings up.
std::vector<float> publish(const std::string &catalog, const std::string &file) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> items(ITEMS * DIM);
    for (float &value : items) value = normal(random);
    std::vector<std::uint64_t> ids(ITEMS);
    for (std::size_t row = 0; row < ITEMS; row++) ids[row] = 1000 + row;

    itemdex::BuildOptions options;
    options.plans = ITEMDEX_PLAN_GRAPH | ITEMDEX_PLAN_PARTITIONS;
    itemdex::build("2026-11-23", ids, items, DIM, file, options);
    std::cout << "published generation " << itemdex::publish(catalog, file) << "\n";
    return items;
}

// A request: recall by a search, then the exact order of what two channels bring.
itemdex::Hits answer(const itemdex::LiveIndex &live, itemdex::Slice<float> user) {
    const itemdex::Index index = live.current();
    const itemdex::Hits found = index.search(user, 500);
    const std::vector<std::uint64_t> uploaded_today = {7, 1003, 1004};
    const std::vector<itemdex_channel> channels = {itemdex::channel(found.ids),
                                                   itemdex::channel(uploaded_today, /*at_least=*/1)};
    return index.rank_channels(user, channels, 5);
}

int main(int count, char **arguments) try {
    if (count != 2) throw std::invalid_argument("usage: serve_cpp FOLDER");
    const std::string folder = arguments[1];
    const std::vector<float> items = publish(folder + "/catalog", folder + "/items.itemdex");

    const std::string log = folder + "/fresh.log";
    itemdex::LiveOptions options;
    options.log = log.c_str();
    itemdex::LiveIndex live(folder + "/catalog", options);
    const itemdex::Slice<float> user(items.data() + 42 * DIM, DIM);
    live.upsert("2026-11-23", 7, user);

    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; thread++) {
        threads.emplace_back([&] {
            for (int request = 0; request < 100; request++) answer(live, user);
        });
    }
    for (std::thread &thread : threads) thread.join();

    const itemdex::Hits hits = answer(live, user);
    for (std::size_t at = 0; at < hits.size(); at++) {
        std::cout << "item " << hits.ids[at] << " scores " << hits.scores[at]
                  << (hits.channels[at] & 2 ? ", uploaded today\n" : "\n");
    }

    try {
        live.for_model("2026-11-24");
    } catch (const itemdex::Error &error) {
        std::cout << "error " << error.status() << ": " << error.what() << "\n";
    }
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << "\n";
    return 1;
}
