//! Restarts, and logs and catalogs that are lost, cut short or replaced by older copies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Changes, HEADER, SavedLog, VERSIONS, World};
use crate::live::{LiveIndex, LiveOptions, log};
use crate::{Error, Result};

impl World {
    pub fn try_open(&self) -> Result<LiveIndex> {
        let options =
            LiveOptions::new().poll(Duration::from_secs(3600)).sync(self.kind.sync).retain(0, Duration::ZERO);
        let options = match self.kind.fed {
            true => options.fed_log(self.log()),
            false => options.log(self.log()),
        };
        options.open(self.catalog.folder())
    }

    /// Opens what is on disk, with the remedies that the errors name.
    pub fn reopen(&mut self, lose: bool, newer: Option<SavedLog>) {
        self.live = None;
        self.mend();
        self.note_floor();
        let had_log = self.log().exists();
        let opened = self.try_open();
        match opened {
            Ok(live) => {
                let position = live.status().log_position.unwrap();
                if had_log && !self.kind.fed {
                    assert!(position >= self.highest(), "a log behind the catalog is refused");
                }
                self.live = Some(live);
                self.settle(position);
            }
            Err(Error::LogBehind { log, catalog, .. }) => {
                assert!(!self.kind.fed && log < catalog && catalog == self.highest());
                match newer.filter(|_| !lose) {
                    Some(newer) => self.put_log(newer),
                    None => self.lose_log(),
                }
                self.reopen(true, None);
            }
            Err(Error::RecordsDropped { dump, dropped_to, .. }) => {
                // No generation can serve: the operator publishes one that can.
                assert!(
                    dump < dropped_to && dropped_to <= self.may_drop,
                    "{dump} {dropped_to} {}",
                    self.may_drop
                );
                self.publish(VERSIONS[0], Some(dropped_to.max(self.highest()))).unwrap();
                self.reopen(lose, newer);
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// After a restart, what the log has counts: a batch that failed is there whole, or not at all.
    pub fn settle(&mut self, position: u64) {
        let last = self.logged.last().map_or(0, |change| change.0);
        let (_, mut found) = log::contents(&self.log()).unwrap();
        found.retain(|change| change.0 > last);
        if !found.is_empty() {
            // What its own changes supersede may be gone already.
            let is_it = |batch: &&Changes| {
                batch.last() == found.last() && found.iter().all(|change| batch.contains(change))
            };
            let batch = self.unsure.iter().find(is_it).unwrap_or_else(|| panic!("{found:?} was not sent"));
            if !self.kind.fed {
                self.truth.extend(batch.iter().cloned());
            }
            self.logged.extend(batch.iter().cloned());
        }
        self.unsure.clear();
        let last = self.logged.last().map_or(0, |change| change.0);
        assert!(position >= last, "the log ends at {position}, and {last} was acknowledged");
    }

    /// A copy of the log as it is, which may hold a batch that failed.
    pub fn copy_of_log(&self) -> Option<SavedLog> {
        let bytes = fs::read(self.log()).ok()?;
        let (truth, logged, unsure) = (self.truth.clone(), self.logged.clone(), self.unsure.clone());
        Some(SavedLog { bytes, truth, logged, unsure })
    }

    pub fn put_log(&mut self, copy: SavedLog) {
        fs::write(self.log(), copy.bytes).unwrap();
        if !self.kind.fed {
            self.truth = copy.truth;
        }
        (self.logged, self.unsure) = (copy.logged, copy.unsure);
    }

    pub fn lose_log(&mut self) {
        let _ = fs::remove_file(self.log());
        let highest = self.highest();
        self.logged.clear();
        self.unsure.clear();
        self.reserved.clear();
        if !self.kind.fed {
            self.truth.retain(|(position, _)| *position <= highest);
        }
    }

    pub fn cut_log(&mut self, bytes: usize) {
        self.live = None;
        let mut log = fs::read(self.log()).unwrap();
        let synced = u64::from_le_bytes(log[HEADER - 16..HEADER - 8].try_into().unwrap()) as usize;
        log.truncate(log.len().saturating_sub(bytes).max(synced));
        fs::write(self.log(), &log).unwrap();
        let contents = log::contents(&self.log()).unwrap().0;
        self.logged.retain(|change| change.0 <= contents);
        self.unsure.clear();
        if !self.kind.fed {
            self.truth.retain(|change| change.0 <= contents);
        }
        self.reserved.clear();
        self.reopen(true, None);
    }

    pub fn copy_catalog(&self, from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).unwrap();
        for entry in
            fs::read_dir(from).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file())
        {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
