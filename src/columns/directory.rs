//! The directory of the columns as it stands in the file: an entry a column.

use bytemuck::{Pod, Zeroable};

use super::column::{MAX_NAME, name_problem};

/// Parts of columns begin at multiples of this many bytes.
pub(super) const ALIGNMENT: u64 = 64;

/// How many parts a column may have.
const PARTS: usize = 8;

/// The arrays that columns consist of, by their place in [`Entry::parts`]. Those that a kind does not have are
/// empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Part {
    /// A bit for each row, `u64`: set where the row is null. Empty if none is.
    Nulls = 0,
    /// Numbers: the value of each row, `i64` or `f32`. Flags: a bit for each row, `u64`. Tags that are
    /// numbers: the distinct ones, ascending, `u64`. Tags that are strings: where each of the distinct ones
    /// ends in the texts, `u64`.
    Values = 1,
    /// Numbers: the rows that have one, `u32`, in the order of their numbers, then of the rows.
    Order = 2,
    /// Tags that are strings: the distinct ones, ascending, one after another.
    Texts = 3,
    /// Tags: where the rows of each tag end in the postings, `u64`.
    PostingEnds = 4,
    /// Tags: the rows of each tag, `u32`: a list, or a bit for each row.
    Postings = 5,
    /// Tags, where a row has more than one: where the tags of each row end in the row tags, `u64`.
    RowEnds = 6,
    /// Tags: the tags of each row, by their number, ascending, `u32`. Without row ends, one for each row,
    /// [`NO_TAG`] where there is none.
    RowTags = 7,
}

/// In the place of a row that has no tag.
pub(super) const NO_TAG: u32 = u32::MAX;

/// What an array of a column holds; the number is what the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Type {
    Tags = 1,
    Ids = 2,
    Integers = 3,
    Reals = 4,
    Flags = 5,
    Expiries = 6,
}

impl Type {
    pub const ALL: [Type; 6] =
        [Type::Tags, Type::Ids, Type::Integers, Type::Reals, Type::Flags, Type::Expiries];
}

/// Where an array lies, in bytes from the start of the section of columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Place {
    pub offset: u64,
    pub length: u64,
}

/// A column, little-endian, without implicit padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Entry {
    kind: u32,
    name_length: u32,
    name: [u8; MAX_NAME],
    /// How many rows are null.
    pub(super) nulls: u64,
    /// How many distinct values there are.
    pub(super) distinct: u64,
    pub(super) parts: [Place; PARTS],
}

impl Entry {
    pub(super) fn new(name: &str, kind: Type) -> Entry {
        let mut entry = Entry { kind: kind as u32, name_length: name.len() as u32, ..Entry::zeroed() };
        entry.name[..name.len()].copy_from_slice(name.as_bytes());
        entry
    }

    pub fn name(&self) -> &str {
        let bytes = self.name.get(..self.name_length as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// What it holds. The kind was checked when the file was opened; a file that changed since has flags.
    pub(super) fn kind(&self) -> Type {
        Type::ALL.into_iter().find(|&kind| kind as u32 == self.kind).unwrap_or(Type::Flags)
    }

    /// How many bytes the column takes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|place| place.length.next_multiple_of(ALIGNMENT)).sum()
    }

    /// The lengths that the parts must have, in so far as they follow from the entry; `None` for those that
    /// do not.
    fn lengths(&self, rows: u64) -> [Option<u64>; PARTS] {
        let words = rows.div_ceil(64) * 8;
        let mut lengths = [Some(0); PARTS];
        lengths[Part::Nulls as usize] = Some(if self.nulls > 0 { words } else { 0 });
        let width = match self.kind() {
            Type::Flags => {
                lengths[Part::Values as usize] = Some(words);
                return lengths;
            }
            Type::Integers | Type::Expiries => 8,
            Type::Reals => 4,
            Type::Tags | Type::Ids => 0,
        };
        if width > 0 {
            lengths[Part::Values as usize] = Some(rows * width);
            lengths[Part::Order as usize] = Some((rows - self.nulls) * 4);
            return lengths;
        }
        lengths[Part::Values as usize] = Some(self.distinct * 8);
        lengths[Part::PostingEnds as usize] = Some(self.distinct * 8);
        lengths[Part::Postings as usize] = None;
        let lists = self.parts[Part::RowEnds as usize].length > 0;
        lengths[Part::RowEnds as usize] = Some(if lists { rows * 8 } else { 0 });
        lengths[Part::RowTags as usize] = if lists { None } else { Some(rows * 4) };
        if self.kind() == Type::Tags {
            lengths[Part::Texts as usize] = None;
        }
        lengths
    }

    /// What is wrong with an entry of a file of `rows`, whose parts begin at `start`. Gives where they end.
    fn check(&self, rows: u64, start: u64, length: u64) -> Result<u64, String> {
        if !Type::ALL.iter().any(|&kind| kind as u32 == self.kind) {
            return Err(format!("a column is of the kind {}, which is not known", self.kind));
        }
        if let Some(problem) = name_problem(self.name()) {
            return Err(format!("the name of a column: {problem}"));
        }
        if self.nulls > rows || self.distinct > u64::from(NO_TAG) {
            return Err(format!("the counts of column {} are not possible", self.name()));
        }
        let mut end = start;
        for (place, expected) in self.parts.iter().zip(self.lengths(rows)) {
            let fits = place.offset == end
                && place.length <= length.saturating_sub(end)
                && expected.is_none_or(|expected| place.length == expected);
            if !fits {
                return Err(format!("the parts of column {} are not where they must be", self.name()));
            }
            end = (end + place.length).next_multiple_of(ALIGNMENT);
        }
        Ok(end)
    }
}

/// What is wrong with the directory of a file of `rows`, whose section of columns has `length` bytes.
pub(crate) fn directory_problem(entries: &[Entry], rows: u64, length: u64) -> Option<String> {
    let mut end = 0;
    for (number, entry) in entries.iter().enumerate() {
        match entry.check(rows, end, length) {
            Ok(next) => end = next,
            Err(problem) => return Some(problem),
        }
        if entries[..number].iter().any(|other| other.name() == entry.name()) {
            return Some(format!("two columns are named {}", entry.name()));
        }
    }
    if entries.iter().filter(|entry| entry.kind() == Type::Expiries).count() > 1 {
        return Some("two columns hold expiries".to_owned());
    }
    (end != length).then(|| format!("the columns end at byte {end} of {length} of their section"))
}
