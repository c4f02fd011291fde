//! Bringing the lists of two nodes to the same versions.

use std::collections::BTreeSet;

use wire::NodeName;

use super::common::Common;
use super::counters::Refusal;
use super::message::{Frame, List, ListHead};
use super::session::{Outcome, Session, SessionError};

/// So many heads go into one frame.
const HEADS_PER_FRAME: usize = 1024;

/// Lists are put into one frame until they name so many networks.
const NETWORKS_PER_FRAME: usize = 1024;

/// The responder's memory of what the opener has told.
#[derive(Debug, Default)]
pub(crate) struct ListExchange {
    told: BTreeSet<NodeName>,
    answered: bool,
    /// Lists that the opener knows less of.
    behind: Vec<NodeName>,
    /// Lists that we know less of.
    wanted: Vec<NodeName>,
}

impl Session {
    pub(super) fn send_list_heads(&mut self, common: &Common) {
        let heads = common.owners.list_heads();
        let mut frames = heads.chunks(HEADS_PER_FRAME).peekable();
        while let Some(heads) = frames.next() {
            let last = frames.peek().is_none();
            self.send(&Frame::ListHeads { heads: heads.to_vec(), last });
        }
    }

    pub(super) fn handle_list_frame(
        &mut self,
        frame: Frame<'_>,
        common: &mut Common,
    ) -> Result<(), SessionError> {
        let opener = self.opened_here;
        match frame {
            Frame::ListHeads { heads, last } if !opener && !self.list_exchange.answered => {
                for head in &heads {
                    if common.owners.is_forged(&head.owner, head.version) {
                        common.counters.refuse(Refusal::NotAuthor);
                        common.report_taken_generation();
                    }
                    self.compare_head(head, common);
                }
                if last {
                    self.answer_heads(common);
                }
            }
            Frame::Lists(lists) => self.lists.extend(lists),
            Frame::WantLists(names) if opener => {
                self.send_lists(&names, common);
                self.send(&Frame::Bye);
                self.end(Outcome::Completed);
            }
            Frame::Bye if !opener => self.end(Outcome::Completed),
            Frame::Busy if opener => self.end(Outcome::Failed),
            _ => return Err(SessionError::Unexpected("that frame")),
        }
        Ok(())
    }

    fn compare_head(&mut self, head: &ListHead, common: &Common) {
        let exchange = &mut self.list_exchange;
        // Names that nobody has told us of are not remembered: there could be any number of them.
        if !common.owners.knows(&head.owner.name) || !exchange.told.insert(head.owner.name.clone()) {
            return;
        }
        if common.owners.is_ahead(head) {
            exchange.behind.push(head.owner.name.clone());
        } else if common.owners.is_behind(head) {
            exchange.wanted.push(head.owner.name.clone());
        }
    }

    fn answer_heads(&mut self, common: &Common) {
        let exchange = std::mem::take(&mut self.list_exchange);
        self.list_exchange.answered = true;
        let untold = common.owners.list_heads().into_iter().map(|head| head.owner.name);
        let untold = untold.filter(|name| !exchange.told.contains(name));
        let names: Vec<NodeName> = exchange.behind.into_iter().chain(untold).collect();
        self.send_lists(&names, common);
        self.send(&Frame::WantLists(exchange.wanted));
    }

    fn send_lists(&mut self, names: &[NodeName], common: &Common) {
        let mut lists: Vec<List> = Vec::new();
        let mut networks = 0;
        for list in names.iter().filter_map(|name| common.owners.list_of(name.as_str())) {
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
    /// How many names are remembered.
    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }
}
