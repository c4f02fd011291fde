//! Questions to the other members, for programs: they are asked over the cluster's own transport.

use std::time::Duration;

use membership::MemberExplanation;
use tabledb::{EntryExplanation, Version};
use tokio::sync::oneshot;

use crate::driver::Shared;
use crate::handle::Node;
use crate::inquiries::InquiryStatistics;
use crate::inquiry_report::{
    AgreementReport, InquiryError, InquiryId, InquiryReport, KnownBy, MemberAnswer, Receipt,
};
use crate::machine::NodeMachine;

impl Node {
    /// Asks every member of a network, this node included, what it knows about an entry: its version, how it came
    /// there, and why readers see it or not. A member that does not answer within `within`, at most twenty seconds, is a
    /// row too.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much at once.
    pub async fn explain_entry(
        &self,
        network: &str,
        table: &str,
        key: &str,
        within: Duration,
    ) -> Result<Vec<MemberAnswer<EntryExplanation>>, InquiryError> {
        let ask = |machine: &mut NodeMachine, now| machine.explain_entry(network, table, key, within, now);
        match inquire(self.shared(), ask).await? {
            InquiryReport::Entry(rows) => Ok(rows),
            _ => Err(InquiryError::Stopped),
        }
    }

    /// Asks every active member of the cluster, this node included, what it knows of a member: when it last answered,
    /// and who accused it.
    ///
    /// # Errors
    /// If this node does not know the member, or asks too much at once.
    pub async fn explain_member(
        &self,
        name: &str,
        within: Duration,
    ) -> Result<Vec<MemberAnswer<Option<MemberExplanation>>>, InquiryError> {
        match inquire(self.shared(), |machine, now| machine.explain_member(name, within, now)).await? {
            InquiryReport::Member(rows) => Ok(rows),
            _ => Err(InquiryError::Stopped),
        }
    }

    /// Asks whether the members of a network show the same entries, and for the keys under which they do not.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much at once.
    pub async fn compare_members(
        &self,
        network: &str,
        within: Duration,
    ) -> Result<AgreementReport, InquiryError> {
        match inquire(self.shared(), |machine, now| machine.compare_members(network, within, now)).await? {
            InquiryReport::Agreement(report) => Ok(report),
            _ => Err(InquiryError::Stopped),
        }
    }

    /// Waits until as many members have a write of this node, or until `within` has passed, at most twenty seconds.
    /// Each member is asked once, and answers when it has the write.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much at once.
    pub async fn await_known(
        &self,
        network: &str,
        version: Version,
        known_by: KnownBy,
        within: Duration,
    ) -> Result<Receipt, InquiryError> {
        let ask =
            |machine: &mut NodeMachine, now| machine.await_known(network, version, known_by, within, now);
        match inquire(self.shared(), ask).await? {
            InquiryReport::Receipt(receipt) => Ok(receipt),
            _ => Err(InquiryError::Stopped),
        }
    }

    /// Counters of the questions between members.
    pub fn inquiry_statistics(&self) -> InquiryStatistics {
        self.shared().machine.lock().inquiry_statistics()
    }
}

async fn inquire(
    shared: &Shared,
    ask: impl FnOnce(&mut NodeMachine, std::time::Instant) -> Result<InquiryId, InquiryError>,
) -> Result<InquiryReport, InquiryError> {
    let report: oneshot::Receiver<InquiryReport> = {
        let (mut machine, now) = shared.machine_now();
        let inquiry = ask(&mut machine, now)?;
        // The driver reports events under the machine's lock, so that this registration misses none.
        shared.waiters.lock().inquiry(inquiry)
    };
    shared.wake.notify_one();
    report.await.map_err(|_| InquiryError::Stopped)
}
