//! Asking the members of a cluster through one of its nodes.

use std::time::{Duration, Instant};

use networkdb::{InquiryError, InquiryId, InquiryReport, NodeEvent, NodeMachine};

use super::{Cluster, Peer, SECOND};

impl Cluster {
    /// Starts an inquiry on a node, and advances time until it is over. Returns the report and how long it took.
    ///
    /// # Panics
    ///
    /// If nobody could be asked, or there is no report within half a minute.
    #[track_caller]
    pub fn inquire(
        &mut self,
        peer: Peer,
        ask: impl FnOnce(&mut NodeMachine, Instant) -> Result<InquiryId, InquiryError>,
    ) -> (InquiryReport, Duration) {
        let asked = self.drive(peer, ask).expect("the node may ask");
        let report_in = |cluster: &Cluster| {
            cluster.events(peer).iter().find_map(|(_, event)| match event {
                NodeEvent::InquiryOver { inquiry, report } if *inquiry == asked => Some(report.clone()),
                _ => None,
            })
        };
        let taken =
            self.run_until("the inquiry is over", 30 * SECOND, |cluster| report_in(cluster).is_some());
        (report_in(self).expect("just seen"), taken)
    }
    /// Tries to start an inquiry that the node must refuse.
    ///
    /// # Panics
    ///
    /// If it starts.
    #[track_caller]
    pub fn cannot_inquire(
        &mut self,
        peer: Peer,
        ask: impl FnOnce(&mut NodeMachine, Instant) -> Result<InquiryId, InquiryError>,
    ) -> InquiryError {
        self.drive(peer, ask).expect_err("the node may not ask this")
    }
}
