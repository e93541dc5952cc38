//! What docs/serving.md promises, as a machine that a generator drives through changes, publications, crashes
//! at any write, restarts and restored copies. Every answer is compared with plain maps.
//!
//! `PROPTEST_CASES=10000 cargo test --release --lib live::model` runs as many cases; docs/testing.md says
//! what they found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use proptest::test_runner::{Config, FileFailurePersistence};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tempfile::TempDir;

use super::faults::armed;
use super::{Catalog, Change, LiveIndex, LiveOptions, PublishOptions, Retention, SyncPolicy, View};
use crate::live::change::seconds;
use crate::{Column, ColumnKind, Error, IndexBuilder, Result, SearchOptions, Value, Values, number};

const VERSIONS: [&str; 3] = ["a", "b", "c"];

/// The item that every dump has, so that none is empty.
const ALWAYS: u64 = 99;

/// The bytes of a log before its first frame.
const HEADER: usize = 48;

/// Items of a model version: an id, the first value of its embedding, and its price and its stock, of which
/// only the first is a column of every generation.
type Items = BTreeMap<u64, Known>;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    first: f32,
    price: Option<i64>,
    stock: Option<i64>,
}

/// The columns of a generation: those of every second lack the stock.
fn columns_of(rows: &[(u64, Known)], stock: bool) -> Vec<Column> {
    let column = |name: &str, value: fn(&Known) -> Option<i64>| {
        Column::new(name, ColumnKind::Number, rows.iter().map(|(_, known)| value(known))).unwrap()
    };
    let mut columns = vec![column("price", |known| known.price)];
    columns.extend(stock.then(|| column("stock", |known| known.stock)));
    columns
}
type Changes = Vec<(u64, Change)>;

#[derive(Debug, Clone)]
enum Edit {
    Upsert {
        version: usize,
        id: u64,
    },
    /// Sets one of the two values of an item.
    Set {
        id: u64,
        stock: bool,
    },
    Delete {
        id: u64,
    },
}

#[derive(Debug, Clone)]
enum Step {
    /// Changes that are logged, after so many that the feeder sends again.
    Change {
        edits: Vec<Edit>,
        again: usize,
        fault: Fault,
    },
    /// Changes that come to the feeder and not to this host yet.
    Produce {
        edits: Vec<Edit>,
    },
    /// A dump is taken so many changes ago, or at position 0 without saying so, and published.
    Publish {
        version: usize,
        back: Option<u64>,
        fault: Fault,
    },
    /// A publication at a position that nothing has come to yet.
    PublishAhead {
        version: usize,
    },
    Reserve {
        back: u64,
    },
    /// A dump that was taken at the position reserved first.
    PublishReserved {
        version: usize,
    },
    Prune {
        keep: usize,
        versions: usize,
    },
    Rollback {
        to: Pick,
    },
    Restart {
        fault: Fault,
    },
    SaveLog,
    /// An older copy of the log; where that is refused, the newer one or none takes its place.
    RestoreLog {
        lose: bool,
    },
    LoseLog,
    /// What was not synced goes with the power.
    CutLog {
        bytes: usize,
    },
    SaveCatalog,
    RestoreCatalog,
}

/// Writing fails from so many operations on, and the process goes on or is gone.
#[derive(Debug, Clone, Copy)]
struct Fault {
    after: Option<usize>,
    ends: bool,
}

fn fault() -> impl Strategy<Value = Fault> {
    let after = prop_oneof![3 => Just(None), 1 => (1usize..14).prop_map(Some)];
    (after, any::<bool>()).prop_map(|(after, ends)| Fault { after, ends })
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        3 => (0..VERSIONS.len(), 0u64..5).prop_map(|(version, id)| Edit::Upsert { version, id }),
        2 => (0u64..5, any::<bool>()).prop_map(|(id, stock)| Edit::Set { id, stock }),
        1 => (0u64..5).prop_map(|id| Edit::Delete { id }),
    ];
    prop::collection::vec(edit, 1..4)
}

/// Of what kind the log is; steps do not depend on anything else.
#[derive(Debug, Clone, Copy)]
struct Kind {
    fed: bool,
    sync: SyncPolicy,
}

impl ReferenceStateMachine for Kind {
    type State = Kind;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Kind> {
        let sync = prop_oneof![Just(SyncPolicy::Always), Just(SyncPolicy::Never)];
        (any::<bool>(), sync).prop_map(|(fed, sync)| Kind { fed, sync }).boxed()
    }

    fn transitions(_: &Kind) -> BoxedStrategy<Step> {
        let version = || 0..VERSIONS.len();
        prop_oneof![
            12 => (edits(), 0usize..4, fault()).prop_map(|(edits, again, fault)| Step::Change { edits, again, fault }),
            2 => edits().prop_map(|edits| Step::Produce { edits }),
            6 => (version(), prop_oneof![9 => (0u64..8).prop_map(Some), 1 => Just(None)], fault())
                .prop_map(|(version, back, fault)| Step::Publish { version, back, fault }),
            1 => version().prop_map(|version| Step::PublishAhead { version }),
            1 => (0u64..6).prop_map(|back| Step::Reserve { back }),
            1 => version().prop_map(|version| Step::PublishReserved { version }),
            1 => (1usize..3, 1usize..4).prop_map(|(keep, versions)| Step::Prune { keep, versions }),
            1 => any::<Pick>().prop_map(|to| Step::Rollback { to }),
            2 => fault().prop_map(|fault| Step::Restart { fault }),
            1 => Just(Step::SaveLog),
            1 => any::<bool>().prop_map(|lose| Step::RestoreLog { lose }),
            1 => Just(Step::LoseLog),
            1 => (0usize..200).prop_map(|bytes| Step::CutLog { bytes }),
            1 => Just(Step::SaveCatalog),
            1 => Just(Step::RestoreCatalog),
        ]
        .boxed()
    }

    fn apply(kind: Kind, _: &Step) -> Kind {
        kind
    }
}

/// A generation as the model knows it, by its file.
#[derive(Debug, Clone)]
struct Dump {
    version: &'static str,
    /// Whether it has that column.
    stock: bool,
    items: Items,
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
    saved_log: Option<(Vec<u8>, Changes, Changes)>,
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

    fn try_open(&self) -> Result<LiveIndex> {
        let options =
            LiveOptions::new().poll(Duration::from_secs(3600)).sync(self.kind.sync).retain(0, Duration::ZERO);
        let options = match self.kind.fed {
            true => options.fed_log(self.log()),
            false => options.log(self.log()),
        };
        options.open(self.catalog.folder())
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

    /// Opens what is on disk, with the remedies that the errors name.
    fn reopen(&mut self, lose: bool, newer: Option<(Vec<u8>, Changes, Changes)>) {
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
                    Some((bytes, truth, logged)) => {
                        fs::write(self.log(), bytes).unwrap();
                        (self.truth, self.logged) = (truth, logged);
                    }
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
    fn settle(&mut self, position: u64) {
        let last = self.logged.last().map_or(0, |change| change.0);
        let (_, mut found) = super::log::contents(&self.log()).unwrap();
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

    fn lose_log(&mut self) {
        let _ = fs::remove_file(self.log());
        let highest = self.highest();
        self.logged.clear();
        self.unsure.clear();
        self.reserved.clear();
        if !self.kind.fed {
            self.truth.retain(|(position, _)| *position <= highest);
        }
    }

    fn change_of(&mut self, edit: &Edit) -> Change {
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
    fn produce(&mut self, edits: &[Edit]) {
        for (number, edit) in edits.iter().enumerate() {
            let before = self.truth.last().map_or(0, |change| change.0).max(self.highest());
            let change = self.change_of(edit);
            self.truth.push((before + u64::from(number == 0) + (self.values as u64 % 3), change));
        }
    }

    fn is_retired(&self, change: &Change) -> bool {
        let Change::Upsert { model_version, .. } = change else { return false };
        self.catalog.read().unwrap().retired.contains(model_version)
            && !self.live().model_versions().contains(model_version)
    }

    fn change(&mut self, edits: &[Edit], again: usize, fault: Fault) {
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
    fn items_at(&self, version: &str, position: u64) -> Items {
        let mut items = Items::from([(ALWAYS, Known { first: 0.5, price: Some(0), stock: None })]);
        let changes = self.truth.iter().take_while(|change| change.0 <= position);
        changes.for_each(|(_, change)| edit(&mut items, version, change));
        items
    }

    fn publish(&mut self, version: &'static str, position: Option<u64>) -> Result<()> {
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
    fn refresh(&mut self) {
        self.note_floor();
        match self.live().refresh() {
            Ok(_) => assert!(self.live().status().last_error.is_none()),
            Err(Error::Refused { .. } | Error::RecordsDropped { .. } | Error::LogBehind { .. }) => {
                assert!(self.live().status().last_error.is_some());
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn after_publication(&mut self, published: Result<()>, fault: Fault) {
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

    fn copy_catalog(&self, from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).unwrap();
        for entry in
            fs::read_dir(from).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file())
        {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
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
                let bytes = fs::read(self.log()).unwrap();
                self.saved_log = Some((bytes, self.truth.clone(), self.logged.clone()));
            }
            Step::RestoreLog { lose } => {
                let Some((bytes, truth, logged)) = self.saved_log.clone() else { return };
                self.live = None;
                let newer =
                    fs::read(self.log()).ok().map(|now| (now, self.truth.clone(), self.logged.clone()));
                fs::write(self.log(), bytes).unwrap();
                if !self.kind.fed {
                    self.truth = truth;
                }
                (self.logged, self.unsure) = (logged, Vec::new());
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

    fn cut_log(&mut self, bytes: usize) {
        self.live = None;
        let mut log = fs::read(self.log()).unwrap();
        let synced = u64::from_le_bytes(log[HEADER - 16..HEADER - 8].try_into().unwrap()) as usize;
        log.truncate(log.len().saturating_sub(bytes).max(synced));
        fs::write(self.log(), &log).unwrap();
        let contents = super::log::contents(&self.log()).unwrap().0;
        self.logged.retain(|change| change.0 <= contents);
        self.unsure.clear();
        if !self.kind.fed {
            self.truth.retain(|change| change.0 <= contents);
        }
        self.reserved.clear();
        self.reopen(true, None);
    }

    fn check(&self) {
        let (live, status) = (self.live(), self.live().status());
        assert!(status.log_dropped_to.unwrap() <= self.may_drop, "{status:?} {}", self.may_drop);
        for version in live.model_versions() {
            self.check_view(&live.for_model(&version).unwrap());
        }
        // The newest of each version serves, or is refused for a reason.
        let list = self.catalog.read().unwrap();
        for version in VERSIONS {
            let Some(newest) = list.serving().find(|one| one.model_version == version) else { continue };
            let serves = live.for_model(version).is_ok_and(|view| *view.generation() == *newest);
            let refused = status.refused.iter().find(|refused| refused.0 == newest.number);
            assert!(serves || refused.is_some(), "{newest:?} {status:?}");
            if let Some((_, reason)) = refused {
                let dropped = newest.position() < status.log_dropped_to.unwrap();
                let behind = !self.kind.fed && reason.contains("the log ends at");
                assert!(dropped || behind, "{newest:?} {status:?}");
            }
        }
    }

    fn check_view(&self, view: &View) {
        let generation = view.generation();
        let dump = &self.dumps[&generation.file];
        assert_eq!(dump.version, view.model_version());
        let mut expected = dump.items.clone();
        let later = self.logged.iter().filter(|change| change.0 > generation.position());
        later.for_each(|(_, change)| edit(&mut expected, dump.version, change));
        if !dump.stock {
            expected.values_mut().for_each(|known| known.stock = None);
        }
        let ids: Vec<u64> = (0..5).chain([ALWAYS]).collect();
        let known = |id| {
            let values = view.values(id)?;
            Some(Known {
                first: view.get(id)?[0],
                price: integer(&values, "price"),
                stock: integer(&values, "stock"),
            })
        };
        let found: Items = ids.iter().filter_map(|&id| Some((id, known(id)?))).collect();
        assert_eq!(found, expected, "{generation:?}, logged {:?}", self.logged);
        assert_eq!(view.len(), expected.len());
        let iterated: BTreeMap<u64, f32> = view.iter().map(|(id, embedding)| (id, embedding[0])).collect();
        let firsts: BTreeMap<u64, f32> = expected.iter().map(|(&id, known)| (id, known.first)).collect();
        assert_eq!(iterated, firsts);
        check_filtered(view, &expected);
        let mut best: Vec<(u64, f32)> = firsts.into_iter().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let hits = view.search_with(&[1.0, 0.0], &SearchOptions::new(3).recall(1.0)).unwrap().hits;
        let hits: Vec<_> = hits.iter().map(|hit| (hit.id, hit.score)).collect();
        assert_eq!(hits, best[..best.len().min(3)]);
        let ranked = view.rank(&[1.0, 0.0], &ids, 3).unwrap();
        assert_eq!(ranked.hits.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>(), hits);
        assert_eq!(ranked.unknown.len(), ids.len() - best.len());
    }
}

/// A filter keeps the items that have the values, wherever these come from.
fn check_filtered(view: &View, items: &Items) {
    let prices: Vec<i64> = items.values().filter_map(|known| known.price).collect();
    let middle = prices.iter().sum::<i64>() / prices.len().max(1) as i64;
    let filter = view.index().filter(&number("price").at_most(middle)).unwrap();
    let options = SearchOptions::new(10).recall(1.0).filter(&filter);
    let mut found: Vec<u64> =
        view.search_with(&[1.0, 0.0], &options).unwrap().hits.iter().map(|hit| hit.id).collect();
    found.sort_unstable();
    let keeps = |known: &Known| known.price.is_some_and(|price| price <= middle);
    let expected = items.iter().filter(|(_, known)| keeps(known)).map(|(&id, _)| id);
    assert!(found.iter().copied().eq(expected), "{found:?} of {items:?}, at most {middle}");
}

fn integer(values: &Values, name: &str) -> Option<i64> {
    match values.get(name) {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

fn edit(items: &mut Items, version: &str, change: &Change) {
    match change {
        Change::Upsert { model_version, id, embedding, values } if model_version == version => {
            let (price, stock) = (integer(values, "price"), integer(values, "stock"));
            items.insert(*id, Known { first: embedding[0], price, stock });
        }
        Change::SetValues { id, values } => {
            if let Some(known) = items.get_mut(id) {
                for (name, _) in values.iter() {
                    let set = if name == "price" { &mut known.price } else { &mut known.stock };
                    *set = integer(values, name);
                }
            }
        }
        Change::Upsert { .. } => {}
        Change::Delete { id } => drop(items.remove(id)),
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
