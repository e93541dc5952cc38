//! What docs/serving.md promises, as a machine that a generator drives through changes, publications, crashes
//! at any write, restarts and restored copies. Every answer is compared with plain maps.
//!
//! `PROPTEST_CASES=10000 cargo test --release --lib live::model` runs as many cases; docs/testing.md says
//! what they found.

mod changes;
mod check;
mod crashes;
mod items;
mod steps;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::test_runner::{Config, FileFailurePersistence};
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use tempfile::TempDir;

use super::faults::armed;
use super::{Catalog, Change, LiveIndex, Retention, SyncPolicy};
use crate::live::change::seconds;
use items::Items;
use steps::{Fault, Kind, Step};

const VERSIONS: [&str; 3] = ["a", "b", "c"];

/// The item that every dump has, so that none is empty.
const ALWAYS: u64 = 99;

/// The bytes of a log before its first frame.
const HEADER: usize = 48;

type Changes = Vec<(u64, Change)>;

/// A generation as the model knows it, by its file.
#[derive(Debug, Clone)]
struct Dump {
    version: &'static str,
    /// Whether it has that column.
    stock: bool,
    items: Items,
}

/// A copy of the log, with what is known of it.
#[derive(Clone)]
struct SavedLog {
    bytes: Vec<u8>,
    truth: Changes,
    logged: Changes,
    unsure: Vec<Changes>,
}

struct World {
    kind: Kind,
    folder: TempDir,
    catalog: Catalog,
    live: Option<LiveIndex>,
    /// All changes that there were, which dumps are taken of.
    truth: Changes,
    /// Those that were acknowledged by the log that is in use, or by one that it is a copy of.
    logged: Changes,
    /// Batches of which the log may have one or none: there was an error, and no change since.
    unsure: Vec<Changes>,
    dumps: BTreeMap<String, Dump>,
    saved_log: Option<SavedLog>,
    saved_catalog: bool,
    reserved: Vec<u64>,
    /// The highest position up to which the log may have dropped changes.
    may_drop: u64,
    values: f32,
}

impl World {
    fn log(&self) -> PathBuf {
        self.folder.path().join("fresh.log")
    }

    fn live(&self) -> &LiveIndex {
        self.live.as_ref().expect("it is open between steps")
    }

    fn position(&self) -> u64 {
        self.live().status().log_position.unwrap()
    }

    fn arm(&self, fault: Fault) {
        if let Some(after) = fault.after {
            armed::crash_after(self.folder.path(), after);
        }
    }

    fn mend(&self) {
        armed::mend(self.folder.path());
    }

    /// What the catalog has allowed to be dropped when somebody looked at it.
    fn note_floor(&mut self) {
        let list = self.catalog.read().unwrap();
        self.may_drop = self.may_drop.max(list.floor(seconds()));
        // A new log begins there.
        let lowest = list.serving().map(|one| one.position()).min().unwrap_or(0);
        self.may_drop = self.may_drop.max(lowest);
    }

    fn highest(&self) -> u64 {
        self.catalog.generations().unwrap().iter().map(|one| one.position()).max().unwrap_or(0)
    }

    fn step(&mut self, step: Step) {
        let saved = self.folder.path().join("saved");
        match step {
            Step::Change { edits, again, fault } => self.change(&edits, again, fault),
            Step::Produce { edits } if self.kind.fed => self.produce(&edits),
            Step::Produce { .. } => {}
            Step::Publish { version, back, fault } => {
                let last = match self.kind.fed {
                    true => self.truth.last().map_or(0, |change| change.0).max(self.position()),
                    false => self.position(),
                };
                self.arm(fault);
                let published = self.publish(VERSIONS[version], back.map(|back| last.saturating_sub(back)));
                self.after_publication(published, fault);
            }
            Step::PublishAhead { version } => {
                let ahead = self.position().max(self.highest()) + 3;
                self.publish(VERSIONS[version], Some(ahead)).unwrap();
                self.refresh();
                if !self.kind.fed {
                    let number = self.catalog.current().unwrap().unwrap().number;
                    assert!(self.live().status().refused.iter().any(|refused| refused.0 == number));
                }
            }
            Step::Reserve { back } => {
                let position = self.position().saturating_sub(back);
                self.catalog.reserve(position, Duration::from_secs(3600)).unwrap();
                self.refresh();
                if position >= self.live().status().log_dropped_to.unwrap() {
                    self.reserved.push(position);
                }
            }
            Step::PublishReserved { .. } if self.reserved.is_empty() => {}
            Step::PublishReserved { version } => {
                let position = self.reserved[0];
                self.publish(VERSIONS[version], Some(position)).unwrap();
                self.refresh();
                let current = self.catalog.current().unwrap().unwrap();
                assert!(!self.live().status().refused.iter().any(|refused| refused.0 == current.number));
            }
            Step::Prune { keep, versions } => {
                self.catalog.prune(Retention::new().keep(keep).versions(versions)).unwrap();
                self.refresh();
            }
            Step::Rollback { to } => {
                let generations = self.catalog.generations().unwrap();
                self.catalog.rollback(Some(generations[to.index(generations.len())].number)).unwrap();
                self.refresh();
            }
            Step::Restart { fault } => {
                self.live = None;
                self.arm(fault);
                drop(self.try_open());
                self.reopen(false, None);
            }
            Step::SaveLog => {
                // Between changes, so that a copy is whole.
                self.saved_log = self.copy_of_log();
            }
            Step::RestoreLog { lose } => {
                let Some(saved) = self.saved_log.clone() else { return };
                self.live = None;
                let newer = self.copy_of_log();
                self.put_log(saved);
                self.reserved.clear();
                self.reopen(lose, newer);
            }
            Step::LoseLog => {
                self.live = None;
                self.lose_log();
                self.reopen(false, None);
            }
            Step::CutLog { bytes } if self.kind.sync == SyncPolicy::Never => self.cut_log(bytes),
            Step::CutLog { .. } => {}
            Step::SaveCatalog => {
                self.copy_catalog(self.catalog.folder(), &saved);
                self.saved_catalog = true;
            }
            Step::RestoreCatalog if self.saved_catalog => {
                self.live = None;
                self.copy_catalog(&saved, self.catalog.folder());
                self.reserved.clear();
                self.reopen(false, None);
            }
            Step::RestoreCatalog => {}
        }
    }
}

impl StateMachineTest for World {
    type SystemUnderTest = World;
    type Reference = Kind;

    fn init_test(kind: &Kind) -> World {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
        let mut world = World {
            kind: *kind,
            folder,
            catalog,
            live: None,
            truth: Vec::new(),
            logged: Vec::new(),
            unsure: Vec::new(),
            dumps: BTreeMap::new(),
            saved_log: None,
            saved_catalog: false,
            reserved: Vec::new(),
            may_drop: 0,
            values: 0.0,
        };
        world.publish(VERSIONS[0], None).unwrap();
        world.reopen(false, None);
        world
    }

    fn apply(mut world: World, _: &Kind, step: Step) -> World {
        world.step(step);
        world
    }

    fn check_invariants(world: &World, _: &Kind) {
        world.check();
    }
}

prop_state_machine! {
    #![proptest_config(Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("found"))),
        max_shrink_iters: 2_000,
        ..Config::default()
    })]

    #[test]
    fn answers_follow_the_contract(sequential 1..30 => World);
}
