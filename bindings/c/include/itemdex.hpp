// itemdex for C++17: handles that close themselves, containers in place of pointers and lengths, and
// exceptions in place of statuses. Everything is inline over itemdex.h, whose comments say what each call
// does; docs/c.md is the guide.
//
//     itemdex::Index index("items.itemdex");
//     itemdex::Hits hits = index.search(user, 10);
//
// An Index is used by any number of threads at once, and so is a LiveIndex. Hits belong to one thread at a
// time.

#ifndef ITEMDEX_HPP
#define ITEMDEX_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "itemdex_structs.hpp"

namespace itemdex {

/// The answer of a query, best first: scores[i] is that of ids[i]. Given to a query again, it allocates only
/// where it has to grow.
struct Hits {
    std::vector<std::uint64_t> ids;
    std::vector<float> scores;
    /// Of a rank by channels: a bit for each channel that brought the hit, the lowest for the first.
    std::vector<std::uint32_t> channels;
    /// Of a search: ITEMDEX_PLAN_...
    std::uint32_t plan = 0;
    /// Of a rank: how many different candidates the index does not have.
    std::size_t unknown = 0;
    /// Of a rank: how many candidates were left out because they have expired, are denied, or are not kept by
    /// a filter or not among the allowed.
    std::size_t expired = 0, denied = 0, filtered = 0;
    /// Of a search: how many items the answer is among.
    std::size_t matching = 0;

    std::size_t size() const noexcept { return ids.size(); }
    bool empty() const noexcept { return ids.empty(); }

private:
    friend class Index;

    void make_room(std::size_t k) {
        ids.resize(k);
        scores.resize(k);
        channels.clear();
    }

    void take(const itemdex_answer &answer) {
        ids.resize(answer.count);
        scores.resize(answer.count);
        if (!channels.empty()) channels.resize(answer.count);
        plan = answer.plan;
        unknown = answer.unknown;
        expired = answer.expired;
        denied = answer.denied;
        filtered = answer.filtered;
        matching = answer.matching;
    }
};

namespace detail {

struct Close {
    void operator()(itemdex_index *index) const noexcept { itemdex_close(index); }
    void operator()(itemdex_filter *filter) const noexcept { itemdex_filter_close(filter); }
    void operator()(itemdex_set *set) const noexcept { itemdex_set_close(set); }
    void operator()(itemdex_rows *rows) const noexcept { itemdex_rows_close(rows); }
    void operator()(itemdex_live *live) const noexcept { itemdex_live_close(live); }
    void operator()(char *text) const noexcept { itemdex_text_free(text); }
};

/// Calls `write` with a place for a text, and takes the text.
template <class F>
std::string text(F write) {
    char *written = nullptr;
    check(write(&written));
    return std::unique_ptr<char, Close>(written).get();
}

}  // namespace detail

class Index;

/// The items of one index for which an expression is true; made by Index::filter. Its handle goes into an
/// itemdex::Shown or a channel.
class Filter {
public:
    /// How many items of the index file it keeps.
    std::uint64_t matching() const {
        std::uint64_t count = 0;
        check(itemdex_filter_matching(get(), &count));
        return count;
    }

    /// The handle, which stays this object's.
    const itemdex_filter *get() const noexcept { return handle_.get(); }

private:
    friend class Index;
    explicit Filter(itemdex_filter *handle) noexcept : handle_(handle) {}
    std::unique_ptr<itemdex_filter, detail::Close> handle_;
};

/// Items of one index, made ready for many requests; made by Index::set. Its handle goes into an
/// itemdex::Shown.
class ItemSet {
public:
    /// The handle, which stays this object's.
    const itemdex_set *get() const noexcept { return handle_.get(); }

private:
    friend class Index;
    explicit ItemSet(itemdex_set *handle) noexcept : handle_(handle) {}
    std::unique_ptr<itemdex_set, detail::Close> handle_;
};

/// Items of one index that were looked up, for ranks that look no id up; made by Index::look_up and
/// Index::search_rows.
class Rows {
public:
    /// How many items.
    std::size_t size() const {
        std::size_t count = 0;
        check(itemdex_rows_count(get(), &count));
        return count;
    }

    /// The handle, which stays this object's.
    const itemdex_rows *get() const noexcept { return handle_.get(); }

private:
    friend class Index;
    explicit Rows(itemdex_rows *handle) noexcept : handle_(handle) {}
    std::unique_ptr<itemdex_rows, detail::Close> handle_;
};

/// An index file, or a live index as one request sees it.
class Index {
public:
    /// Opens an index file.
    explicit Index(const std::string &path, const OpenOptions &options = {}) {
        itemdex_index *opened = nullptr;
        check(itemdex_open(path.c_str(), &options, &opened));
        handle_.reset(opened);
    }

    /// Takes over a handle of itemdex.h.
    explicit Index(itemdex_index *handle) noexcept : handle_(handle) {}

    /// The best k items for a user.
    Hits search(Slice<float> user, std::size_t k, const SearchOptions &options = {}) const {
        Hits hits;
        search(user, k, options, hits);
        return hits;
    }

    /// The same into hits of an earlier query. A k beyond the index makes room for its items only.
    void search(Slice<float> user, std::size_t k, const SearchOptions &options, Hits &hits) const {
        answer(within_index(k), hits, [&](std::size_t room, itemdex_answer *written) {
            return itemdex_search(get(), user.data(), user.size(), room, &options, hits.ids.data(),
                                  hits.scores.data(), written);
        });
    }

    /// The best k items for each of several users, one row of dim values each.
    std::vector<Hits> search_many(Slice<float> users, std::size_t dim, std::size_t k,
                                  const SearchOptions &options = {}, std::size_t threads = 0) const {
        k = within_index(k);
        return answers(users, dim, k, [&](std::size_t count, std::uint64_t *ids, float *scores,
                                          std::size_t *counts) {
            return itemdex_search_many(get(), users.data(), count, dim, k, &options, threads, ids, scores,
                                       counts);
        });
    }

    /// The best k of candidates, by their exact scores.
    Hits rank(Slice<float> user, Slice<std::uint64_t> candidates, std::size_t k,
              const RankOptions &options = {}) const {
        Hits hits;
        rank(user, candidates, k, options, hits);
        return hits;
    }

    /// The same into hits of an earlier query.
    void rank(Slice<float> user, Slice<std::uint64_t> candidates, std::size_t k, const RankOptions &options,
              Hits &hits) const {
        answer(k < candidates.size() ? k : candidates.size(), hits,
               [&](std::size_t room, itemdex_answer *written) {
                   return itemdex_rank(get(), user.data(), user.size(), candidates.data(), candidates.size(),
                                       room, &options, hits.ids.data(), hits.scores.data(), written);
               });
    }

    /// The best k of looked up items, by their exact scores.
    Hits rank(Slice<float> user, const Rows &rows, std::size_t k, const RankOptions &options = {}) const {
        const std::size_t count = rows.size();
        Hits hits;
        answer(k < count ? k : count, hits, [&](std::size_t room, itemdex_answer *written) {
            return itemdex_rank_rows(get(), user.data(), user.size(), rows.get(), room, &options,
                                     hits.ids.data(), hits.scores.data(), written);
        });
        return hits;
    }

    /// The best k of candidates for each of several users, one row of dim values each: of one list for all
    /// users, or of a list for each.
    std::vector<Hits> rank_many(Slice<float> users, std::size_t dim, Slice<Slice<std::uint64_t>> lists,
                                std::size_t k, const RankOptions &options = {},
                                std::size_t threads = 0) const {
        std::vector<std::uint64_t> candidates;
        std::vector<std::size_t> lengths;
        for (std::size_t list = 0; list < lists.size(); list++) {
            const Slice<std::uint64_t> &of_list = lists.data()[list];
            candidates.insert(candidates.end(), of_list.data(), of_list.data() + of_list.size());
            lengths.push_back(of_list.size());
        }
        k = k < candidates.size() ? k : candidates.size();
        return answers(users, dim, k, [&](std::size_t count, std::uint64_t *ids, float *scores,
                                          std::size_t *counts) {
            return itemdex_rank_many(get(), users.data(), count, dim, candidates.data(), lengths.data(),
                                     lengths.size(), k, &options, threads, ids, scores, counts);
        });
    }

    /// Looks items up for many ranks. Ids that the index does not have are left out.
    Rows look_up(Slice<std::uint64_t> ids) const {
        itemdex_rows *rows = nullptr;
        check(itemdex_look_up(get(), ids.data(), ids.size(), &rows));
        return Rows(rows);
    }

    /// Finds the best k items for a user, to rank them.
    Rows search_rows(Slice<float> user, std::size_t k, const SearchOptions &options = {}) const {
        itemdex_rows *rows = nullptr;
        check(itemdex_search_rows(get(), user.data(), user.size(), k, &options, &rows));
        return Rows(rows);
    }

    /// The best k of what channels bring, within their quotas.
    Hits rank_channels(Slice<float> user, Slice<itemdex_channel> channels, std::size_t k,
                       const RankOptions &options = {}) const {
        Hits hits;
        answer(within_index(k), hits, [&](std::size_t room, itemdex_answer *written) {
            hits.channels.resize(room);
            written->channels = hits.channels.data();
            return itemdex_rank_channels(get(), user.data(), user.size(), channels.data(), channels.size(),
                                         room, &options, hits.ids.data(), hits.scores.data(), written);
        });
        return hits;
    }

    /// The exact score of each candidate, NaN for one that the index does not have or the options leave out.
    std::vector<float> score(Slice<float> user, Slice<std::uint64_t> candidates,
                             const RankOptions &options = {}) const {
        std::vector<float> scores(candidates.size());
        check(itemdex_score(get(), user.data(), user.size(), candidates.data(), candidates.size(), &options,
                            scores.data(), nullptr));
        return scores;
    }

    /// The items for which an expression such as `price <= $most` is true.
    Filter filter(const std::string &expression, Slice<itemdex_parameter> parameters = {}) const {
        itemdex_filter *made = nullptr;
        check(itemdex_filter_make(get(), expression.c_str(), parameters.data(), parameters.size(), &made));
        return Filter(made);
    }

    /// Items made ready to be denied or allowed in many requests.
    ItemSet set(Slice<std::uint64_t> ids) const {
        itemdex_set *made = nullptr;
        check(itemdex_set_make(get(), ids.data(), ids.size(), &made));
        return ItemSet(made);
    }

    /// The embedding of an item; empty where the index does not have it.
    std::vector<float> embedding(std::uint64_t id) const {
        std::vector<float> values(describe().dim);
        const itemdex_status status = itemdex_get(get(), id, values.data(), values.size());
        if (status == ITEMDEX_UNKNOWN_ITEM) return {};
        check(status);
        return values;
    }

    /// Whether the index has an item.
    bool contains(std::uint64_t id) const {
        const itemdex_status status = itemdex_get(get(), id, nullptr, 0);
        if (status == ITEMDEX_UNKNOWN_ITEM) return false;
        check(status);
        return true;
    }

    /// How many items, of what dim, of which model version. The text stays as long as the index.
    Description describe() const {
        Description description;
        check(itemdex_describe(get(), &description));
        return description;
    }

    /// What the index file holds, as JSON.
    std::string info() const {
        return detail::text([&](char **json) { return itemdex_info(get(), json); });
    }

    /// The handle, which stays this object's.
    const itemdex_index *get() const noexcept { return handle_.get(); }

private:
    std::size_t within_index(std::size_t k) const {
        const auto items = static_cast<std::size_t>(describe().items);
        return k < items ? k : items;
    }

    /// Has `ask` write an answer into hits that have room for k.
    template <class F>
    void answer(std::size_t k, Hits &hits, F ask) const {
        Sized<itemdex_answer> written;
        hits.make_room(k);
        const itemdex_status status = ask(k, &written);
        hits.take(written);
        check(status);
    }

    /// Has `ask` write the answers of several users into room for k each.
    template <class F>
    std::vector<Hits> answers(Slice<float> users, std::size_t dim, std::size_t k, F ask) const {
        const std::size_t count = dim == 0 ? 0 : users.size() / dim;
        std::vector<std::uint64_t> ids(count * k);
        std::vector<float> scores(count * k);
        std::vector<std::size_t> counts(count);
        check(ask(count, ids.data(), scores.data(), counts.data()));
        std::vector<Hits> answers(count);
        for (std::size_t user = 0; user < count; user++) {
            const auto first = static_cast<std::ptrdiff_t>(user * k);
            const auto last = first + static_cast<std::ptrdiff_t>(counts[user]);
            answers[user].ids.assign(ids.begin() + first, ids.begin() + last);
            answers[user].scores.assign(scores.begin() + first, scores.begin() + last);
        }
        return answers;
    }

    std::unique_ptr<itemdex_index, detail::Close> handle_;
};

/// A catalog in service.
class LiveIndex {
public:
    /// Opens what a catalog has, and follows it from then on.
    explicit LiveIndex(const std::string &catalog, const LiveOptions &options = {}) {
        itemdex_live *opened = nullptr;
        check(itemdex_live_open(catalog.c_str(), &options, &opened));
        handle_.reset(opened);
    }

    /// The current generation with its fresh items: take one for each request.
    Index current() const {
        itemdex_index *index = nullptr;
        check(itemdex_live_current(get(), &index));
        return Index(index);
    }

    /// The newest generation of a model version.
    Index for_model(const std::string &model_version) const {
        itemdex_index *index = nullptr;
        check(itemdex_live_for_model(get(), model_version.c_str(), &index));
        return Index(index);
    }

    /// Puts an item in, and returns the change's position in the log.
    std::uint64_t upsert(const std::string &model_version, std::uint64_t id, Slice<float> embedding) {
        std::uint64_t position = 0;
        check(itemdex_live_upsert(get(), model_version.c_str(), id, embedding.data(), embedding.size(),
                                  &position));
        return position;
    }

    /// Replaces values of an item, and returns the change's position in the log.
    std::uint64_t set_values(std::uint64_t id, Slice<itemdex_value> values) {
        std::uint64_t position = 0;
        check(itemdex_live_set_values(get(), id, values.data(), values.size(), &position));
        return position;
    }

    /// Takes an item out, and returns the change's position in the log.
    std::uint64_t remove(std::uint64_t id) {
        std::uint64_t position = 0;
        check(itemdex_live_delete(get(), id, &position));
        return position;
    }

    /// Logs changes together, all of them or none.
    Applied write(Slice<itemdex_change> changes) {
        Applied applied;
        check(itemdex_live_write(get(), changes.data(), changes.size(), &applied));
        return applied;
    }

    /// Looks at the catalog now; returns whether anything changed.
    bool refresh() {
        std::uint32_t changed = 0;
        check(itemdex_live_refresh(get(), &changed));
        return changed != 0;
    }

    /// What serves, how it fares and what went wrong, as JSON.
    std::string status() const {
        return detail::text([&](char **json) { return itemdex_live_status(get(), json); });
    }

    /// The handle, which stays this object's.
    itemdex_live *get() const noexcept { return handle_.get(); }

private:
    std::unique_ptr<itemdex_live, detail::Close> handle_;
};

/// Builds an index file from items in memory, one row of dim values each.
inline void build(const std::string &model_version, Slice<std::uint64_t> ids, Slice<float> embeddings,
                  std::size_t dim, const std::string &path, const BuildOptions &options = {}) {
    if (embeddings.size() != ids.size() * dim) {
        throw std::invalid_argument("itemdex::build: there are not dim values for each id");
    }
    check(itemdex_build(model_version.c_str(), ids.data(), embeddings.data(), ids.size(), dim, &options,
                        path.c_str()));
}

/// Builds an index file from a dump: a file of embeddings and, unless it is empty, one of ids.
inline void build_dump(const std::string &model_version, const std::string &items, const std::string &ids,
                       const std::string &path, const BuildOptions &options = {}) {
    check(itemdex_build_dump(model_version.c_str(), items.c_str(), ids.empty() ? nullptr : ids.c_str(),
                             &options, path.c_str()));
}

/// Publishes an index file to a catalog, and returns the generation's number.
inline std::uint64_t publish(const std::string &catalog, const std::string &path,
                             const PublishOptions &options = {}) {
    std::uint64_t generation = 0;
    check(itemdex_publish(catalog.c_str(), path.c_str(), &options, &generation));
    return generation;
}

/// Makes an earlier generation of a catalog current again, the one before the current for 0, and returns its
/// number.
inline std::uint64_t rollback(const std::string &catalog, std::uint64_t to = 0) {
    std::uint64_t generation = 0;
    check(itemdex_rollback(catalog.c_str(), to, &generation));
    return generation;
}

/// Drops old generations of a catalog, and returns how many. `keep` of each model version stay, and
/// `versions` of these.
inline std::size_t prune(const std::string &catalog, std::size_t keep = 2, std::size_t versions = 2) {
    std::size_t dropped = 0;
    check(itemdex_prune(catalog.c_str(), keep, versions, &dropped));
    return dropped;
}

}  // namespace itemdex

#endif
