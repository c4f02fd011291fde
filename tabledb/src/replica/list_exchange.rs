//! Bringing the attachment lists of two nodes to the same versions.

use std::collections::BTreeSet;

use wire::NodeName;

use super::counters::RefusalReason;
use super::message::{AttachmentList, Frame, ListVersion};
use super::node_state::NodeState;
use super::session::{Outcome, Session, SessionError};

/// The most list versions in one frame.
const LIST_VERSIONS_PER_FRAME: usize = 1024;

/// A frame of lists ends when its lists name this number of networks.
const NETWORKS_PER_FRAME: usize = 1024;

/// The responder's record of the opener's list versions.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ListExchange {
    compared: BTreeSet<NodeName>,
    answered: bool,
    /// Lists of which the opener knows an older version.
    behind: Vec<NodeName>,
    /// Lists of which this node knows an older version.
    wanted: Vec<NodeName>,
}

impl Session {
    pub(super) fn send_list_versions(&mut self, node: &NodeState) {
        let versions = node.owners.list_versions();
        let mut frames = versions.chunks(LIST_VERSIONS_PER_FRAME).peekable();
        while let Some(versions) = frames.next() {
            let last = frames.peek().is_none();
            self.send(&Frame::ListVersions { versions: versions.to_vec(), last });
        }
    }

    pub(super) fn handle_list_frame(
        &mut self,
        frame: Frame<'_>,
        node: &mut NodeState,
    ) -> Result<(), SessionError> {
        let opener = self.opened_here;
        match frame {
            Frame::ListVersions { versions, last } if !opener && !self.list_exchange.answered => {
                for theirs in &versions {
                    if node.owners.is_forged(&theirs.owner, theirs.version) {
                        node.counters.refuse(RefusalReason::NotAuthor);
                        node.report_generation_conflict();
                    }
                    self.compare_list_version(theirs, node);
                }
                if last {
                    self.answer_list_versions(node);
                }
            }
            Frame::Lists(lists) => self.lists.extend(lists),
            Frame::WantLists(names) if opener => {
                self.send_lists(&names, node);
                self.send(&Frame::Close);
                self.end(Outcome::Completed);
            }
            Frame::Close if !opener => self.end(Outcome::Completed),
            Frame::Busy if opener => self.end(Outcome::Failed),
            _ => return Err(SessionError::Unexpected("this frame")),
        }
        Ok(())
    }

    fn compare_list_version(&mut self, theirs: &ListVersion, node: &NodeState) {
        let exchange = &mut self.list_exchange;
        // Names that membership has not reported are not recorded: their number is unlimited.
        if !node.owners.knows(&theirs.owner.name) || !exchange.compared.insert(theirs.owner.name.clone()) {
            return;
        }
        if node.owners.is_ahead(theirs) {
            exchange.behind.push(theirs.owner.name.clone());
        } else if node.owners.is_behind(theirs) {
            exchange.wanted.push(theirs.owner.name.clone());
        }
    }

    fn answer_list_versions(&mut self, node: &NodeState) {
        let exchange = std::mem::take(&mut self.list_exchange);
        self.list_exchange.answered = true;
        let missing = node.owners.list_versions().into_iter().map(|list| list.owner.name);
        let missing = missing.filter(|name| !exchange.compared.contains(name));
        let names: Vec<NodeName> = exchange.behind.into_iter().chain(missing).collect();
        self.send_lists(&names, node);
        self.send(&Frame::WantLists(exchange.wanted));
    }

    fn send_lists(&mut self, names: &[NodeName], node: &NodeState) {
        let mut lists: Vec<AttachmentList> = Vec::new();
        let mut networks = 0;
        for list in names.iter().filter_map(|name| node.owners.list_of(name.as_str())) {
            networks += 1 + list.networks.len();
            lists.push(list);
            if networks >= NETWORKS_PER_FRAME {
                self.send(&Frame::Lists(std::mem::take(&mut lists)));
                networks = 0;
            }
        }
        if !lists.is_empty() {
            self.send(&Frame::Lists(lists));
        }
    }
}

#[cfg(test)]
impl ListExchange {
    /// The number of recorded names.
    pub(crate) fn compared(&self) -> usize {
        self.compared.len()
    }
}
