use crossbeam::queue::ArrayQueue;

use super::Index;
use super::denied_ids::DeniedIds;
use super::gate::Sieve;
use super::quotas::{ChannelHit, Chooser};
use crate::graph::{self, Scored};
use crate::partitions;
use crate::ranking::{self, ScanUser};
use crate::row_set::Selection;
use crate::top::Hit;
use crate::vectors::pad;

/// Workspaces kept for later queries; queries beyond that number at once allocate theirs anew.
const KEPT: usize = 64;

/// A workspace that holds more bytes than this is not kept: one huge rank must not cost its memory for ever.
/// A rank of a million candidates stays below it.
const LARGEST_KEPT: usize = 32 << 20;

/// What queries borrow from an index: a lock-free pool of workspaces.
pub(super) struct Workspaces(ArrayQueue<Box<Workspace>>);

impl Workspaces {
    pub fn new() -> Workspaces {
        Workspaces(ArrayQueue::new(KEPT))
    }
}

/// What a query needs beside the index, kept for the next one.
pub(super) struct Workspace {
    /// The user embedding, padded as rows are.
    pub user: Vec<f32>,
    pub walk: graph::Scratch,
    pub found: Vec<Scored>,
    pub rank: ranking::Scratch,
    pub scan: [ScanUser; 1],
    pub hits: Vec<Hit>,
    pub channel_hits: Vec<ChannelHit>,
    pub chooser: Chooser,
    pub sieve: Sieve,
    pub denied: DeniedIds,
    /// Rows that are not denied.
    pub others: Selection,
    pub partitions: partitions::Scratch,
}

impl Workspace {
    /// The memory that is held for candidates and hits, in bytes.
    fn bytes(&self) -> usize {
        let hits = self.hits.capacity() * size_of::<Hit>();
        let channel_hits = self.channel_hits.capacity() * size_of::<ChannelHit>();
        self.rank.bytes()
            + self.scan[0].bytes()
            + self.chooser.bytes()
            + self.partitions.bytes()
            + self.sieve.bytes()
            + self.denied.bytes()
            + hits
            + channel_hits
    }
}

impl Index {
    /// A workspace with the user embedding in it.
    pub(super) fn workspace_for(&self, user: &[f32]) -> Box<Workspace> {
        let mut workspace = self.workspace();
        pad(user, &mut workspace.user);
        workspace
    }

    pub(super) fn workspace(&self) -> Box<Workspace> {
        let new = || {
            Box::new(Workspace {
                user: Vec::new(),
                walk: graph::Scratch::new(self.len()),
                found: Vec::new(),
                rank: ranking::Scratch::default(),
                scan: Default::default(),
                hits: Vec::new(),
                channel_hits: Vec::new(),
                chooser: Chooser::default(),
                sieve: Sieve::default(),
                denied: DeniedIds::default(),
                others: Selection::default(),
                partitions: partitions::Scratch::default(),
            })
        };
        self.workspaces.0.pop().unwrap_or_else(new)
    }

    /// Keeps the workspace for a later query, unless enough are kept or it has grown too large.
    pub(super) fn put_back(&self, workspace: Box<Workspace>) {
        if workspace.bytes() <= LARGEST_KEPT {
            let _ = self.workspaces.0.push(workspace);
        }
    }
}
