//! Changes and publications, and what is expected of each.

use std::path::Path;

use super::items::{Items, Known, columns_of, edit};
use super::steps::{Edit, Fault};
use super::{ALWAYS, Changes, Dump, VERSIONS, World};
use crate::live::{Change, PublishOptions};
use crate::{Error, IndexBuilder, Result, Values};

impl World {
    pub fn change_of(&mut self, edit: &Edit) -> Change {
        self.values += 1.0;
        let value = self.values as i64;
        match *edit {
            Edit::Upsert { version, id } => {
                let values =
                    Values::new().with("price", value).with("stock", (value % 2 == 0).then_some(value));
                let values = if value % 3 == 0 { Values::new() } else { values };
                Change::upsert(VERSIONS[version], id, [self.values, 1.0]).with_values(values)
            }
            Edit::Set { id, stock } => {
                let name = if stock { "stock" } else { "price" };
                Change::set_values(id, Values::new().with(name, (value % 5 > 0).then_some(value)))
            }
            Edit::Delete { id } => Change::delete(id),
        }
    }

    /// Numbers changes as their producer does, with holes and some at one position.
    pub fn produce(&mut self, edits: &[Edit]) {
        for (number, edit) in edits.iter().enumerate() {
            let before = self.truth.last().map_or(0, |change| change.0).max(self.highest());
            let change = self.change_of(edit);
            self.truth.push((before + u64::from(number == 0) + (self.values as u64 % 3), change));
        }
    }

    pub fn is_retired(&self, change: &Change) -> bool {
        let Change::Upsert { model_version, .. } = change else { return false };
        self.catalog.read().unwrap().retired.contains(model_version)
            && !self.live().model_versions().contains(model_version)
    }

    pub fn change(&mut self, edits: &[Edit], again: usize, fault: Fault) {
        let before = self.position();
        let batch: Changes;
        self.arm(fault);
        let answer = if self.kind.fed {
            self.mend();
            self.produce(edits);
            let new = self.truth.partition_point(|change| change.0 <= before);
            // All of one position or none.
            let from = new.saturating_sub(again);
            batch = self.truth[from..].to_vec();
            self.arm(fault);
            self.live().apply(&batch)
        } else {
            let changes: Vec<Change> = edits.iter().map(|edit| self.change_of(edit)).collect();
            batch = (before + 1..).zip(changes.iter().cloned()).collect();
            self.live().write(&changes)
        };
        self.mend();
        let new: Changes = batch.iter().filter(|change| change.0 > before).cloned().collect();
        let (gone, kept): (Changes, Changes) =
            new.into_iter().partition(|(_, change)| self.is_retired(change));
        match answer {
            Err(Error::RetiredModel { .. }) => {
                assert!(!self.kind.fed && !gone.is_empty());
            }
            Ok(applied) => {
                assert!(self.kind.fed || gone.is_empty(), "{gone:?}");
                assert_eq!((applied.applied, applied.retired), (kept.len(), gone.len()));
                assert_eq!(applied.already_there, batch.len() - kept.len() - gone.len());
                assert_eq!(applied.position, kept.last().map_or(before, |change| change.0));
                if !self.kind.fed {
                    self.truth.extend(kept.iter().cloned());
                }
                self.logged.extend(kept);
                self.unsure.clear();
            }
            Err(Error::Io { .. }) => {
                assert!(fault.after.is_some(), "an error without a cause");
                self.unsure.push(kept);
                if !fault.ends {
                    assert_eq!(self.position(), before, "an error changes nothing");
                }
            }
            Err(other) => panic!("{other}"),
        }
        if fault.ends {
            self.reopen(false, None);
        }
    }

    /// The items of a model version after all changes up to a position.
    pub fn items_at(&self, version: &str, position: u64) -> Items {
        let mut items = Items::from([(ALWAYS, Known { first: 0.5, price: Some(0), stock: None })]);
        let changes = self.truth.iter().take_while(|change| change.0 <= position);
        changes.for_each(|(_, change)| edit(&mut items, version, change));
        items
    }

    pub fn publish(&mut self, version: &'static str, position: Option<u64>) -> Result<()> {
        let items = self.items_at(version, position.unwrap_or(0));
        let rows: Vec<_> = items.iter().map(|(&id, &known)| (id, known)).collect();
        let stock = (self.values as u64).is_multiple_of(2);
        let build = |path: &Path| {
            let builder = IndexBuilder::new(version).m(2).ef_construction(4).threads(1);
            let builder = columns_of(&rows, stock).into_iter().fold(builder, IndexBuilder::column);
            builder.build_from(rows.iter().map(|(id, known)| (*id, [known.first, 1.0])), path)
        };
        let options = PublishOptions::new().versions(3);
        let options = position.map_or(options, |position| options.log_position(position));
        let published = self.catalog.publish_made(build, &options);
        self.mend();
        // Whoever publishes with a position ends a reservation of it.
        if let Some(at) = self.reserved.iter().position(|reserved| Some(*reserved) == position) {
            self.reserved.remove(at);
        }
        // Where it failed it may be there or not.
        for generation in self.catalog.generations().unwrap() {
            self.dumps.entry(generation.file).or_insert_with(|| Dump {
                version,
                stock,
                items: items.clone(),
            });
        }
        published.map(|_| ())
    }

    /// Follows the catalog.
    pub fn refresh(&mut self) {
        self.note_floor();
        match self.live().refresh() {
            Ok(_) => assert!(self.live().status().last_error.is_none()),
            Err(Error::Refused { .. } | Error::RecordsDropped { .. } | Error::LogBehind { .. }) => {
                assert!(self.live().status().last_error.is_some());
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub fn after_publication(&mut self, published: Result<()>, fault: Fault) {
        match published {
            Ok(()) => {}
            Err(Error::Io { .. }) => assert!(fault.after.is_some()),
            Err(other) => panic!("{other}"),
        }
        if fault.after.is_some() && fault.ends {
            self.reopen(false, None);
        } else {
            self.refresh();
        }
    }
}
