// What the calls of itemdex.hpp take and throw: errors, slices, and the structs of itemdex.h made from C++ values.

#ifndef ITEMDEX_STRUCTS_HPP
#define ITEMDEX_STRUCTS_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "itemdex.h"

namespace itemdex {

/// What a call that failed throws. The text says what was wrong, where, and what to do.
class Error : public std::runtime_error {
public:
    explicit Error(itemdex_status status) : std::runtime_error(itemdex_last_error()), status_(status) {}

    /// ITEMDEX_WRONG_DIM and so on.
    itemdex_status status() const noexcept { return status_; }

private:
    itemdex_status status_;
};

/// Throws an Error unless the status is ITEMDEX_OK.
inline void check(itemdex_status status) {
    if (status != ITEMDEX_OK) throw Error(status);
}

/// Values that somebody else keeps: made of a pointer and a length, or of a container that has data() and
/// size(), such as std::vector, std::array and std::span.
template <class T>
class Slice {
public:
    constexpr Slice() noexcept = default;
    constexpr Slice(const T *data, std::size_t size) noexcept : data_(data), size_(size) {}

    template <class C, class = std::enable_if_t<std::is_convertible_v<
                           decltype(std::declval<const C &>().data()), const T *>>>
    constexpr Slice(const C &container) : data_(container.data()), size_(container.size()) {}

    template <std::size_t N>
    constexpr Slice(const T (&array)[N]) noexcept : data_(array), size_(N) {}

    constexpr const T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }

private:
    const T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// A struct of itemdex.h whose size is set and whose other fields are 0.
template <class T>
struct Sized : T {
    Sized() : T() { this->size = sizeof(T); }
};

using OpenOptions = Sized<itemdex_open_options>;
using SearchOptions = Sized<itemdex_search_options>;
using RankOptions = Sized<itemdex_rank_options>;
using LiveOptions = Sized<itemdex_live_options>;
using BuildOptions = Sized<itemdex_build_options>;
using PublishOptions = Sized<itemdex_publish_options>;
using Shown = Sized<itemdex_shown>;
using Column = Sized<itemdex_column>;
using Applied = Sized<itemdex_applied>;
using Description = Sized<itemdex_description>;

/// What a name behind `$` in the text of a filter stands for. The name and the values have to stay until the
/// filter is made.
inline itemdex_parameter parameter(const char *name, Slice<std::uint64_t> ids) {
    Sized<itemdex_parameter> made;
    made.name = name;
    made.ids = ids.data();
    made.count = ids.size();
    return made;
}

inline itemdex_parameter parameter(const char *name, Slice<std::int64_t> integers) {
    Sized<itemdex_parameter> made;
    made.name = name;
    made.integers = integers.data();
    made.count = integers.size();
    return made;
}

inline itemdex_parameter parameter(const char *name, Slice<double> reals) {
    Sized<itemdex_parameter> made;
    made.name = name;
    made.reals = reals.data();
    made.count = reals.size();
    return made;
}

inline itemdex_parameter parameter(const char *name, Slice<const char *> texts) {
    Sized<itemdex_parameter> made;
    made.name = name;
    made.texts = texts.data();
    made.count = texts.size();
    return made;
}

/// A recall channel. Its candidates have to stay until the rank is done.
inline itemdex_channel channel(Slice<std::uint64_t> ids, std::size_t at_least = 0, std::size_t at_most = 0,
                               const itemdex_filter *filter = nullptr) {
    Sized<itemdex_channel> made;
    made.ids = ids.data();
    made.count = ids.size();
    made.at_least = at_least;
    made.at_most = at_most;
    made.filter = filter;
    return made;
}

/// What an item has in a column: a number that need not be whole, a whole number, true or false, or tags. The
/// name of the column and the tags have to stay until the change is written.
inline itemdex_value value(const char *column, double real) {
    Sized<itemdex_value> made;
    made.column = column;
    made.kind = ITEMDEX_VALUE_REAL;
    made.real = real;
    return made;
}

inline itemdex_value value(const char *column, std::int64_t integer) {
    Sized<itemdex_value> made;
    made.column = column;
    made.kind = ITEMDEX_VALUE_INTEGER;
    made.integer = integer;
    return made;
}

inline itemdex_value value(const char *column, bool flag) {
    Sized<itemdex_value> made;
    made.column = column;
    made.kind = ITEMDEX_VALUE_FLAG;
    made.flag = flag;
    return made;
}

inline itemdex_value value(const char *column, Slice<std::uint64_t> ids) {
    Sized<itemdex_value> made;
    made.column = column;
    made.kind = ITEMDEX_VALUE_IDS;
    made.ids = ids.data();
    made.count = ids.size();
    return made;
}

inline itemdex_value value(const char *column, Slice<const char *> texts) {
    Sized<itemdex_value> made;
    made.column = column;
    made.kind = ITEMDEX_VALUE_TEXTS;
    made.texts = texts.data();
    made.count = texts.size();
    return made;
}

/// A change that replaces values of an item. The values have to stay until it is written.
inline itemdex_change new_values(std::uint64_t id, Slice<itemdex_value> values, std::uint64_t position = 0) {
    Sized<itemdex_change> made;
    made.kind = ITEMDEX_SET_VALUES;
    made.id = id;
    made.position = position;
    made.values = values.data();
    made.value_count = values.size();
    return made;
}

/// A change that puts an item in. The text, the embedding and the values have to stay until it is written.
inline itemdex_change upsert(const char *model_version, std::uint64_t id, Slice<float> embedding,
                             Slice<itemdex_value> values = {}, std::uint64_t position = 0) {
    Sized<itemdex_change> made;
    made.kind = ITEMDEX_UPSERT;
    made.id = id;
    made.position = position;
    made.model_version = model_version;
    made.embedding = embedding.data();
    made.dim = embedding.size();
    made.values = values.data();
    made.value_count = values.size();
    return made;
}

/// A change that takes an item out.
inline itemdex_change removal(std::uint64_t id, std::uint64_t position = 0) {
    Sized<itemdex_change> made;
    made.kind = ITEMDEX_DELETE;
    made.id = id;
    made.position = position;
    return made;
}

}  // namespace itemdex

#endif
