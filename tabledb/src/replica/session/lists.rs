//! An exchange of attachment lists: both sides end with the same versions.

use std::collections::BTreeSet;

use wire::NodeName;

use super::super::counters::RefusalReason;
use super::super::message::{AttachmentList, Frame, ListVersion};
use super::super::node_state::NodeState;
use super::super::session_result::Outcome;
use super::progress::{Progress, SessionError, UNEXPECTED};

/// The most list versions in one frame.
const LIST_VERSIONS_PER_FRAME: usize = 1024;

/// A frame of lists ends when its lists name this number of networks.
const NETWORKS_PER_FRAME: usize = 1024;

/// Reports the versions that it knows.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ListsOpener;

impl ListsOpener {
    pub(super) fn open(progress: &mut Progress, node: &NodeState) -> Self {
        let versions = node.owners.list_versions();
        let mut frames = versions.chunks(LIST_VERSIONS_PER_FRAME).peekable();
        while let Some(versions) = frames.next() {
            let last = frames.peek().is_none();
            progress.send(&Frame::ListVersions { versions: versions.to_vec(), last });
        }
        Self
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        progress: &mut Progress,
        node: &NodeState,
    ) -> Result<(), SessionError> {
        match frame {
            Frame::WantLists(names) => {
                send_lists(&names, progress, node);
                progress.send(&Frame::Close);
                progress.end(Outcome::Completed);
            }
            Frame::Busy => progress.end(Outcome::Failed),
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }
}

/// Sends the lists of which the opener knows older versions, and asks for those that it knows older ones of.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ListsResponder(Accepted);

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Accepted {
    Compares(ComparedVersions),
    AwaitsLists,
}

/// The opener's list versions, compared with this node's.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
struct ComparedVersions {
    owners: BTreeSet<NodeName>,
    /// Lists of which the opener knows an older version.
    behind: Vec<NodeName>,
    /// Lists of which this node knows an older version.
    wanted: Vec<NodeName>,
}

impl ListsResponder {
    pub(super) fn new() -> Self {
        Self(Accepted::Compares(ComparedVersions::default()))
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        progress: &mut Progress,
        node: &mut NodeState,
    ) -> Result<(), SessionError> {
        match (frame, &mut self.0) {
            (Frame::ListVersions { versions, last }, Accepted::Compares(compared)) => {
                for theirs in &versions {
                    if node.owners.is_forged(&theirs.owner, theirs.version) {
                        node.counters.refuse(RefusalReason::NotAuthor);
                        node.report_generation_conflict();
                    }
                    compared.add(theirs, node);
                }
                if last {
                    compared.answer(progress, node);
                    self.0 = Accepted::AwaitsLists;
                }
            }
            (Frame::Close, Accepted::AwaitsLists) => progress.end(Outcome::Completed),
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }
}

impl ComparedVersions {
    fn add(&mut self, theirs: &ListVersion, node: &NodeState) {
        // Names that membership has not reported are not recorded: their number is unlimited.
        if !node.owners.knows(&theirs.owner.name) || !self.owners.insert(theirs.owner.name.clone()) {
            return;
        }
        if node.owners.is_ahead(theirs) {
            self.behind.push(theirs.owner.name.clone());
        } else if node.owners.is_behind(theirs) {
            self.wanted.push(theirs.owner.name.clone());
        }
    }

    fn answer(&mut self, progress: &mut Progress, node: &NodeState) {
        let missing = node.owners.list_versions().into_iter().map(|list| list.owner.name);
        let missing = missing.filter(|name| !self.owners.contains(name));
        let names: Vec<NodeName> = std::mem::take(&mut self.behind).into_iter().chain(missing).collect();
        send_lists(&names, progress, node);
        progress.send(&Frame::WantLists(std::mem::take(&mut self.wanted)));
    }
}

fn send_lists(names: &[NodeName], progress: &mut Progress, node: &NodeState) {
    let mut lists: Vec<AttachmentList> = Vec::new();
    let mut networks = 0;
    for list in names.iter().filter_map(|name| node.owners.list_of(name.as_str())) {
        networks += 1 + list.networks.len();
        lists.push(list);
        if networks >= NETWORKS_PER_FRAME {
            progress.send(&Frame::Lists(std::mem::take(&mut lists)));
            networks = 0;
        }
    }
    if !lists.is_empty() {
        progress.send(&Frame::Lists(lists));
    }
}

#[cfg(test)]
impl ListsResponder {
    /// The number of recorded names.
    pub(crate) fn compared(&self) -> usize {
        match &self.0 {
            Accepted::Compares(compared) => compared.owners.len(),
            Accepted::AwaitsLists => 0,
        }
    }
}
