//! Whether the columns of a file are sound.

use super::directory::{Part, Type};
use super::stored::{Columns, Posting, Stored, is_dense};
use super::value::Value;

impl Columns<'_> {
    /// Checks every value, order and list of tags.
    ///
    /// # Errors
    /// Where in the section of columns something is wrong, in bytes, and what.
    pub fn verify(self) -> Result<(), (usize, String)> {
        self.iter().try_for_each(|column| {
            column.verify().map_err(|(part, problem)| {
                let name = column.entry.name();
                (column.entry.parts[part as usize].offset as usize, format!("column {name}: {problem}"))
            })
        })
    }
}

type Checked = Result<(), (Part, String)>;

fn ensure(holds: bool, part: Part, problem: &str) -> Checked {
    if holds { Ok(()) } else { Err((part, problem.to_owned())) }
}

impl Stored<'_> {
    fn verify(self) -> Checked {
        let nulls = (0..self.rows as u32).filter(|&row| self.is_null(row)).count();
        ensure(nulls as u64 == self.entry.nulls, Part::Nulls, "not so many rows are null as it says")?;
        ensure(self.is_padded(Part::Nulls), Part::Nulls, "a bit is set for a row that is not there")?;
        match self.entry.kind() {
            Type::Tags => {
                self.verify_texts()?;
                self.verify_tags()
            }
            Type::Ids => {
                let ids: &[u64] = self.part(Part::Values);
                let sorted = ids.is_sorted_by(|a, b| a < b);
                ensure(sorted, Part::Values, "its distinct tags are not in order")?;
                self.verify_tags()
            }
            Type::Flags => self.verify_flags(),
            Type::Integers | Type::Reals | Type::Expiries => self.verify_numbers(),
        }
    }

    /// Whether bits past the last row are 0.
    fn is_padded(self, part: Part) -> bool {
        let bits: &[u64] = self.part(part);
        let past = self.rows % 64;
        past == 0 || bits.last().is_none_or(|word| word >> past == 0)
    }

    fn verify_flags(self) -> Checked {
        ensure(self.is_padded(Part::Values), Part::Values, "a flag is set for a row that is not there")?;
        let of_null = (0..self.rows as u32).any(|row| self.is_null(row) && self.flag(row));
        ensure(!of_null, Part::Values, "a flag is set for a row that is null")?;
        let has = |flag| (0..self.rows as u32).any(|row| !self.is_null(row) && self.flag(row) == flag);
        let distinct = u64::from(has(true)) + u64::from(has(false));
        ensure(distinct == self.entry.distinct, Part::Values, "it has not so many distinct values as it says")
    }

    fn verify_numbers(self) -> Checked {
        let number = |row| match self.number(row) {
            Value::Integer(number) => Some((number, 0.0)),
            Value::Real(number) if number.is_finite() => Some((0, number)),
            _ => None,
        };
        let zero = |row| number(row).is_some_and(|(integer, real)| integer == 0 && real.to_bits() == 0);
        let sound = |row| if self.is_null(row) { zero(row) } else { number(row).is_some() };
        ensure((0..self.rows as u32).all(sound), Part::Values, "a number is not finite, or that of a null")?;
        let order: &[u32] = self.part(Part::Order);
        let valued = order.iter().all(|&row| (row as usize) < self.rows && !self.is_null(row));
        // So many different rows as are not null are all of them.
        let follows = |a: &u32, b: &u32| match number(*a).partial_cmp(&number(*b)) {
            Some(std::cmp::Ordering::Equal) => a < b,
            order => order == Some(std::cmp::Ordering::Less),
        };
        let sorted = order.is_sorted_by(follows);
        ensure(valued && sorted, Part::Order, "its rows are not in the order of their numbers")?;
        let distinct = order.chunk_by(|a, b| number(*a) == number(*b)).count() as u64;
        ensure(distinct == self.entry.distinct, Part::Order, "it has not so many distinct values as it says")
    }

    fn verify_texts(self) -> Checked {
        let (ends, texts) = (self.part::<u64>(Part::Values), self.part::<u8>(Part::Texts));
        let whole = ends.is_sorted() && ends.last().map_or(0, |&end| end) == texts.len() as u64;
        ensure(whole, Part::Values, "its texts do not follow each other")?;
        let text = |tag| self.text(tag).and_then(|text| std::str::from_utf8(text).ok());
        let utf_8 = (0..ends.len()).all(|tag| text(tag).is_some());
        ensure(utf_8, Part::Texts, "a tag is not UTF-8")?;
        let sorted = (1..ends.len()).all(|tag| text(tag - 1) < text(tag));
        ensure(sorted, Part::Texts, "its distinct tags are not in order")
    }

    /// Checks that the rows of the tags and the tags of the rows say the same.
    fn verify_tags(self) -> Checked {
        let ends: &[u64] = self.part(Part::PostingEnds);
        let postings: &[u32] = self.part(Part::Postings);
        let whole = ends.is_sorted() && ends.last().map_or(0, |&end| end) == postings.len() as u64;
        ensure(whole, Part::PostingEnds, "its lists of rows do not follow each other")?;
        let (row_ends, row_tags) = (self.part::<u64>(Part::RowEnds), self.part::<u32>(Part::RowTags));
        let whole = row_ends.is_empty()
            || row_ends.is_sorted() && row_ends.last().map_or(0, |&end| end) == row_tags.len() as u64;
        ensure(whole, Part::RowEnds, "its lists of tags do not follow each other")?;

        let mut rows_of: Vec<usize> = vec![0; ends.len()];
        for row in 0..self.rows as u32 {
            let tags = self.row_tags(row);
            ensure(
                tags.is_sorted_by(|a, b| a < b) && (!self.is_null(row) || tags.is_empty()),
                Part::RowTags,
                "the tags of a row are not in order, or a row with tags is null",
            )?;
            for &tag in tags {
                let Some(count) = rows_of.get_mut(tag as usize) else {
                    return ensure(false, Part::RowTags, "a row has a tag that is not there");
                };
                let named = match self.posting(tag as usize) {
                    Posting::List(rows) => rows.get(*count) == Some(&row),
                    Posting::Bits(bits) => bits[row as usize / 32] >> (row % 32) & 1 == 1,
                };
                ensure(named, Part::Postings, "a row is not in the list of its tag")?;
                *count += 1;
            }
        }
        for (tag, &count) in rows_of.iter().enumerate() {
            let listed = match self.posting(tag) {
                Posting::List(rows) => rows.len(),
                Posting::Bits(bits) => bits.iter().map(|bits| bits.count_ones() as usize).sum(),
            };
            let dense = matches!(self.posting(tag), Posting::Bits(_));
            ensure(
                listed == count && count > 0 && dense == is_dense(count, self.rows),
                Part::Postings,
                "the list of a tag has other rows than those that have it",
            )?;
        }
        Ok(())
    }
}
