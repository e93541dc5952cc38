//! What is done to a live index and its catalog, at random.

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use proptest_state_machine::ReferenceStateMachine;

use super::VERSIONS;
use crate::live::SyncPolicy;

#[derive(Debug, Clone)]
pub enum Edit {
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
pub enum Step {
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
pub struct Fault {
    pub after: Option<usize>,
    pub ends: bool,
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
pub struct Kind {
    pub fed: bool,
    pub sync: SyncPolicy,
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
