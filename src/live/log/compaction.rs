//! Which records of a log may go.

use std::collections::HashMap;
use std::time::Duration;

use super::format::Record;
use crate::columns::Values;
use crate::live::change::{Change, bytes_of_values, seconds};

/// What a log keeps beyond what the catalog needs: the newest records, as long as they are younger than an
/// age and fit into so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::live) struct Kept {
    pub bytes: u64,
    pub age: Duration,
}

/// The records that stay, and the position up to which records that somebody might have needed are gone, if
/// any are.
///
/// A superseded record is one that a later record overrules for every generation: whichever of the two a
/// generation has to be told of, the later one is enough. Other records go only up to `floor`, and as
/// retention allows.
pub(super) fn compact(records: Vec<Record>, floor: u64, retention: Kept) -> (Vec<Record>, Option<u64>) {
    let mut records = without_superseded(records);
    let kept = retained(&records, retention);
    let go = records.partition_point(|record| record.position <= floor).min(records.len() - kept);
    let dropped_to = go.checked_sub(1).map(|last| records[last].position);
    records.drain(..go);
    (records, dropped_to)
}

fn without_superseded(mut records: Vec<Record>) -> Vec<Record> {
    let (mut upserts, mut deletes) = (HashMap::<(&str, u64), usize>::new(), HashMap::new());
    let mut set = HashMap::<u64, (usize, &Values)>::new();
    for (number, record) in records.iter().enumerate() {
        match &record.change {
            Change::SetValues { id, values } => drop(set.insert(*id, (number, values))),
            Change::Upsert { model_version, id, .. } => drop(upserts.insert((model_version, *id), number)),
            Change::Delete { id } => drop(deletes.insert(*id, number)),
        }
    }
    let counts = |(number, record): (usize, &Record)| match &record.change {
        Change::Upsert { model_version, id, .. } => {
            upserts[&(&**model_version, *id)] == number
                && deletes.get(id).is_none_or(|&deleted| deleted < number)
        }
        // The last setting of an item's values overrules those that name no other columns. An upsert between
        // them changes nothing about that: it has all values of its own, for one model version.
        Change::SetValues { id, values } => {
            let (last, of_last) = set[id];
            let covers = || values.iter().all(|(name, _)| of_last.iter().any(|(other, _)| other == name));
            (last == number || !covers()) && deletes.get(id).is_none_or(|&deleted| deleted < number)
        }
        Change::Delete { id } => deletes[id] == number,
    };
    let mut stays: Vec<bool> = records.iter().enumerate().map(counts).collect();
    let mut stays = stays.drain(..);
    records.retain(|_| stays.next().expect("one for each record"));
    records
}

/// How many of the newest records retention keeps.
fn retained(records: &[Record], Kept { bytes, age }: Kept) -> usize {
    let oldest = seconds().saturating_sub(age.as_secs());
    let mut left = bytes;
    let fits = |record: &&Record| {
        let size = match &record.change {
            Change::Upsert { model_version, embedding, values, .. } => {
                20 + model_version.len() + 4 * embedding.len() + bytes_of_values(values)
            }
            Change::SetValues { values, .. } => 24 + bytes_of_values(values),
            Change::Delete { .. } => 20,
        };
        let room = left.checked_sub(size as u64);
        left = room.unwrap_or(0);
        room.is_some() && record.time > oldest
    };
    records.iter().rev().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Kept = Kept { bytes: 0, age: Duration::ZERO };

    fn records(changes: &[Change]) -> Vec<Record> {
        let numbered = (1..).zip(changes);
        numbered
            .map(|(position, change)| Record { position, time: seconds(), change: change.clone() })
            .collect()
    }

    fn positions(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.position).collect()
    }

    #[test]
    fn what_a_later_record_overrules_goes_and_leaves_no_gap() {
        let upsert = |version: &str, id| Change::upsert(version, id, [1.0]);
        let changes = [
            upsert("v1", 1),
            upsert("v2", 1),
            upsert("v1", 1),
            Change::delete(2),
            upsert("v1", 2),
            upsert("v1", 3),
            Change::delete(3),
            Change::delete(3),
        ];
        let (stay, dropped_to) = compact(records(&changes), 0, NOTHING);
        // The deletion of 2 stays: v2 has not heard of it otherwise.
        assert_eq!((positions(&stay), dropped_to), (vec![2, 3, 4, 5, 8], None));
        let (stay, dropped_to) = compact(records(&changes), 4, NOTHING);
        assert_eq!((positions(&stay), dropped_to), (vec![5, 8], Some(4)));
    }

    #[test]
    fn the_last_setting_of_the_same_values_stays() {
        let set = |id, columns: &[&str]| {
            let values = columns.iter().fold(Values::new(), |values, &name| values.with(name, 1));
            Change::set_values(id, values)
        };
        let changes = [
            set(1, &["price"]),
            set(1, &["price", "stock"]),
            Change::upsert("v1", 1, [1.0]),
            set(1, &["price"]),
            set(1, &["price"]),
            set(2, &["price"]),
            Change::delete(2),
            set(2, &["price"]),
        ];
        // The second stays for its stock, the last of 2 for items that came after the deletion.
        assert_eq!(positions(&compact(records(&changes), 0, NOTHING).0), [2, 3, 5, 7, 8]);
    }

    #[test]
    fn retention_keeps_the_newest_while_they_are_young_and_fit() {
        let records = records(&[1, 2, 3, 4].map(Change::delete));
        let kept = |bytes, age| {
            let retention = Kept { bytes, age: Duration::from_secs(age) };
            positions(&compact(records.clone(), 9, retention).0)
        };
        assert_eq!(kept(50, 60), [3, 4]);
        assert_eq!(kept(1_000, 60), [1, 2, 3, 4]);
        assert!(kept(1_000, 0).is_empty());
    }
}
