//! From columns in the order of the dump to their bytes in the file.

use std::hash::Hash;

use bytemuck::{NoUninit, cast_slice};

use super::column::{Column, ColumnKind, Data, Lists};
use super::directory::{ALIGNMENT, Entry, NO_TAG, Part, Type};
use super::stored::{bitmap_length, is_dense, range, words_of};

/// A column as the file has it.
pub(crate) struct Encoded {
    pub entry: Entry,
    /// Its parts, one behind the other.
    pub bytes: Vec<u8>,
}

impl Encoded {
    /// Encodes a column whose row `order[row]` is to be `row`, and that begins at `start` in the section.
    pub fn of(column: &Column, order: &[u32], start: u64) -> Encoded {
        let kind = match (&column.data, column.kind) {
            (_, ColumnKind::Expires) => Type::Expiries,
            (Data::Tags(_), _) | (Data::Nothing, ColumnKind::Tag) => Type::Tags,
            (Data::Ids(_), _) => Type::Ids,
            (Data::Integers(_), _) => Type::Integers,
            (Data::Reals(_), _) | (Data::Nothing, ColumnKind::Number) => Type::Reals,
            (Data::Flags(_), _) | (Data::Nothing, ColumnKind::Flag) => Type::Flags,
        };
        let present: Vec<bool> = order.iter().map(|&row| column.present[row as usize]).collect();
        let mut parts = Parts { entry: Entry::new(&column.name, kind), start, bytes: Vec::new() };
        parts.entry.nulls = present.iter().filter(|&&present| !present).count() as u64;
        if parts.entry.nulls > 0 {
            parts.put(Part::Nulls, &words_of(present.iter().map(|present| !present)));
        }
        let rows = || order.iter().map(|&row| row as usize);
        match &column.data {
            Data::Integers(values) => {
                parts.numbers(&rows().map(|row| values[row]).collect::<Vec<_>>(), &present, i64::cmp);
            }
            Data::Reals(values) => {
                parts.numbers(&rows().map(|row| values[row]).collect::<Vec<_>>(), &present, f32::total_cmp);
            }
            Data::Flags(values) => parts.flags(rows().map(|row| values[row]).collect(), &present),
            Data::Tags(lists) => {
                let (texts, rows) = lists.in_order(order);
                let ends: Vec<u64> = ends(texts.iter().map(|text| text.len()));
                parts.put(Part::Values, &ends);
                parts.put(Part::Texts, texts.iter().map(|text| text.as_str()).collect::<String>().as_bytes());
                parts.tags(&rows, texts.len());
            }
            Data::Ids(lists) => {
                let (ids, rows) = lists.in_order(order);
                parts.put(Part::Values, &ids.iter().map(|&&id| id).collect::<Vec<u64>>());
                parts.tags(&rows, ids.len());
            }
            Data::Nothing => match kind {
                Type::Integers | Type::Expiries => parts.numbers(&vec![0; order.len()], &present, i64::cmp),
                Type::Reals => parts.numbers(&vec![0.0; order.len()], &present, f32::total_cmp),
                Type::Flags => parts.flags(vec![false; order.len()], &present),
                Type::Tags | Type::Ids => {
                    parts.tags(&RowTags { ends: vec![0; order.len()], tags: Vec::new() }, 0)
                }
            },
        }
        parts.finish()
    }
}

/// The parts of a column that is being encoded.
struct Parts {
    entry: Entry,
    start: u64,
    bytes: Vec<u8>,
}

impl Parts {
    /// Adds a part, which stands behind those before.
    fn put<T: NoUninit>(&mut self, part: Part, values: &[T]) {
        let place = &mut self.entry.parts[part as usize];
        (place.offset, place.length) = (self.start + self.bytes.len() as u64, size_of_val(values) as u64);
        self.bytes.extend_from_slice(cast_slice(values));
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    }

    fn numbers<T: NoUninit + PartialEq>(
        &mut self,
        values: &[T],
        present: &[bool],
        compare: impl Fn(&T, &T) -> std::cmp::Ordering,
    ) {
        let mut order: Vec<u32> = (0..values.len() as u32).filter(|&row| present[row as usize]).collect();
        order.sort_by(|&a, &b| compare(&values[a as usize], &values[b as usize]));
        let equal = |a: &u32, b: &u32| values[*a as usize] == values[*b as usize];
        self.entry.distinct = order.chunk_by(equal).count() as u64;
        self.put(Part::Values, values);
        self.put(Part::Order, &order);
    }

    fn flags(&mut self, values: Vec<bool>, present: &[bool]) {
        let has = |flag| values.iter().zip(present).any(|(&value, &present)| present && value == flag);
        self.entry.distinct = u64::from(has(false)) + u64::from(has(true));
        self.put(Part::Values, &words_of(values.iter().copied()));
    }

    /// Adds what leads from tags to rows and back, of rows that each have a list of tags.
    fn tags(&mut self, rows: &RowTags, distinct: usize) {
        self.entry.distinct = distinct as u64;
        let mut counts = vec![0; distinct];
        rows.tags.iter().for_each(|&tag| counts[tag as usize] += 1);
        let total = rows.ends.len();
        let is_dense = |tag: u32| is_dense(counts[tag as usize], total);
        let length = |tag| if is_dense(tag) { bitmap_length(total) } else { counts[tag as usize] };
        let posting_ends = ends((0..distinct as u32).map(length));
        let mut postings = vec![0u32; posting_ends.last().map_or(0, |&end| end as usize)];
        let mut next: Vec<usize> =
            (0..distinct as u32).zip(&posting_ends).map(|(tag, &end)| end as usize - length(tag)).collect();
        for (row, tags) in rows.iter().enumerate() {
            for &tag in tags {
                let next = &mut next[tag as usize];
                if is_dense(tag) {
                    postings[*next + row / 32] |= 1 << (row % 32);
                } else {
                    postings[*next] = row as u32;
                    *next += 1;
                }
            }
        }
        self.put(Part::PostingEnds, &posting_ends);
        self.put(Part::Postings, &postings);
        if rows.iter().any(|tags| tags.len() > 1) {
            self.put(Part::RowEnds, &rows.ends);
            self.put(Part::RowTags, &rows.tags);
        } else {
            let one = |tags: &[u32]| tags.first().copied().unwrap_or(NO_TAG);
            self.put(Part::RowTags, &rows.iter().map(one).collect::<Vec<u32>>());
        }
    }

    /// Gives parts that the column does not have their places too.
    fn finish(mut self) -> Encoded {
        let mut end = self.start;
        for place in &mut self.entry.parts {
            place.offset = end;
            end = (end + place.length).next_multiple_of(ALIGNMENT);
        }
        Encoded { entry: self.entry, bytes: self.bytes }
    }
}

/// The tags of each row by their places among the distinct ones, ascending.
struct RowTags {
    /// Where those of each row end.
    ends: Vec<u64>,
    tags: Vec<u32>,
}

impl RowTags {
    fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len()).map(|row| &self.tags[range(&self.ends, row).unwrap_or_default()])
    }
}

impl<T: Hash + Eq + Ord> Lists<T> {
    /// The distinct tags of rows of the index, ascending, and those of each row.
    fn in_order(&self, order: &[u32]) -> (Vec<&T>, RowTags) {
        let numbers = |row: u32| &self.tags[range(&self.ends, row as usize).unwrap_or_default()];
        let mut used = vec![false; self.numbers.len()];
        order.iter().flat_map(|&row| numbers(row)).for_each(|&number| used[number as usize] = true);
        let mut tags: Vec<(&T, u32)> = self.numbers.iter().map(|(tag, &number)| (tag, number)).collect();
        tags.retain(|&(_, number)| used[number as usize]);
        tags.sort_unstable();
        let mut places = vec![0; used.len()];
        for (place, &(_, number)) in (0..).zip(&tags) {
            places[number as usize] = place;
        }
        let mut rows = RowTags { ends: Vec::with_capacity(order.len()), tags: Vec::new() };
        for &row in order {
            let numbers = numbers(row);
            let start = rows.tags.len();
            rows.tags.extend(numbers.iter().map(|&number| places[number as usize]));
            rows.tags[start..].sort_unstable();
            rows.ends.push(rows.tags.len() as u64);
        }
        (tags.into_iter().map(|(tag, _)| tag).collect(), rows)
    }
}

/// Where each of some parts ends that follow each other.
fn ends(lengths: impl Iterator<Item = usize>) -> Vec<u64> {
    lengths
        .scan(0, |end, length| {
            *end += length as u64;
            Some(*end)
        })
        .collect()
}
