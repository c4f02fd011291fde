//! The JSON of what members answer: explanations of entries and members, and agreement.

use std::time::Duration;

use membership::MemberExplanation;
use networkdb::{AgreementReport, Difference, DifferenceReason, MemberAnswer, NoAnswer};
use serde::{Deserialize, Serialize};
use tabledb::inquiry::NetworkDigests;
use tabledb::{Arrival, ArrivalPath, EntryExplanation, EntryState, HeldWrite, RefusedBecause, RefusedWrite};
use utoipa::ToSchema;
use wire::NodeName;

use super::model::hidden_word;

/// Seconds, rounded to milliseconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Why there is no answer, as a word for programs.
pub(super) fn no_answer_word(why: NoAnswer) -> &'static str {
    match why {
        NoAnswer::Failed => "failed",
        NoAnswer::Late => "late",
        NoAnswer::NotAwaited => "not_awaited",
        NoAnswer::Unreachable => "unreachable",
        NoAnswer::Busy => "busy",
        NoAnswer::NotMember => "not_member",
        // And what later versions of the node may add.
        _ => "invalid",
    }
}

/// Whether a member answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// The member's name.
    pub member: String,
    /// Whether it is the responding node.
    pub this_node: bool,
    /// `answered`, or why there is no answer: `failed` (known to have failed or left, and not asked), `late`, `unreachable`,
    /// `busy`, `not_member` of the network, or `invalid`.
    pub answer: String,
    /// The reason as a sentence; absent from an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

impl AnswerView {
    fn of<T>(row: &MemberAnswer<T>, me: &NodeName) -> Self {
        let why = row.answer.as_ref().err().copied();
        Self {
            member: row.member.to_string(),
            this_node: row.member == *me,
            answer: why.map_or("answered", no_answer_word).to_owned(),
            explanation: why.map(|why| why.to_string()),
        }
    }

    /// Whether the member answered.
    pub fn is_answer(&self) -> bool {
        self.explanation.is_none()
    }
}

/// What every member of a network knows about an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryExplained {
    /// The responding node.
    pub node: String,
    /// The network.
    pub network: String,
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The members of the network, sorted by name.
    pub members: Vec<EntryAtMember>,
}

/// What one member knows about an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryAtMember {
    /// Whether it answered.
    #[serde(flatten)]
    pub answer: AnswerView,
    /// What it knows; absent without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryKnown>,
}

impl EntryAtMember {
    pub(super) fn new(row: &MemberAnswer<EntryExplanation>, me: &NodeName) -> Self {
        Self { answer: AnswerView::of(row, me), entry: row.answer.as_ref().ok().map(EntryKnown::from) }
    }
}

/// What a member knows about the entry under a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryKnown {
    /// `visible`, `hidden`, `deleted` (its tombstone is held), or `absent`: never written, or forgotten.
    pub state: String,
    /// Why it is hidden: `owner_failed`, or `awaits_comparison` if its owner has returned and it may be stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// Whether the member has synchronised the network with another. If not, it may lack writes.
    pub synchronised: bool,
    /// The write that it holds, a value or a delete; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<WriteKnown>,
    /// The latest write under the key that it refuses, if it refuses one. What that would replace stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedKnown>,
}

/// A write as a member holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WriteKnown {
    /// Its version.
    pub version: String,
    /// The node that wrote it.
    pub owner: String,
    /// The generation of the owner's instance.
    pub generation: u64,
    /// The epoch of the owner's attachment to the network.
    pub epoch: u64,
    /// When it was written by the owner's clock, in seconds since 1970.
    pub written: f64,
    /// The length of the value in bytes; 0 for a delete.
    pub bytes: u64,
    /// For a delete: the time until its tombstone is forgotten, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone_seconds: Option<f64>,
    /// How it came to the member; absent if that is not kept any more: a node keeps it for its latest few thousand
    /// arrivals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<ArrivalKnown>,
}

/// How a write came to a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArrivalKnown {
    /// `local` (the member wrote it), `gossip`, `pull`, `push` or `sync`.
    pub path: String,
    /// The member that sent it; absent if local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The time since then, in seconds; absent from a local write that replaced nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_ago: Option<f64>,
    /// The version in whose place it came; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_version: Option<String>,
    /// The node that wrote that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_owner: Option<String>,
}

/// A write that a member refuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedKnown {
    /// The node that wrote it.
    pub owner: String,
    /// When it was written by that node's clock, in seconds since 1970.
    pub written: f64,
    /// `future_time`, `too_long`, `network_full`, `too_many_tables`, `too_many_bytes` or `fragmented`.
    pub reason: String,
}

impl From<&EntryExplanation> for EntryKnown {
    fn from(known: &EntryExplanation) -> Self {
        let (state, hidden) = match known.state {
            EntryState::Visible => ("visible", None),
            EntryState::Hidden(reason) => ("hidden", Some(hidden_word(reason))),
            EntryState::Deleted => ("deleted", None),
            _ => ("absent", None),
        };
        Self {
            state: state.to_owned(),
            hidden: hidden.map(str::to_owned),
            synchronised: known.synchronised,
            write: known.held.as_ref().map(WriteKnown::from),
            refused: known.refused.as_ref().map(RefusedKnown::from),
        }
    }
}

impl From<&HeldWrite> for WriteKnown {
    fn from(held: &HeldWrite) -> Self {
        Self {
            version: held.version.to_string(),
            owner: held.owner.name.to_string(),
            generation: held.owner.generation,
            epoch: held.epoch,
            written: held.version.time().as_secs_f64(),
            bytes: held.bytes,
            tombstone_seconds: held.residual.map(seconds),
            arrival: held.arrival.as_ref().map(ArrivalKnown::from),
        }
    }
}

impl From<&Arrival> for ArrivalKnown {
    fn from(arrival: &Arrival) -> Self {
        let path = match arrival.path {
            ArrivalPath::Local => "local",
            ArrivalPath::Gossip => "gossip",
            ArrivalPath::Pull => "pull",
            ArrivalPath::Push => "push",
            _ => "sync",
        };
        let replaced = arrival.replaced.as_ref();
        Self {
            path: path.to_owned(),
            from: arrival.from.as_ref().map(NodeName::to_string),
            seconds_ago: arrival.age.map(seconds),
            replaced_version: replaced.map(|(version, _)| version.to_string()),
            replaced_owner: replaced.map(|(_, owner)| owner.to_string()),
        }
    }
}

impl From<&RefusedWrite> for RefusedKnown {
    fn from(refused: &RefusedWrite) -> Self {
        let reason = match refused.because {
            RefusedBecause::FutureTime => "future_time",
            RefusedBecause::TooLong => "too_long",
            RefusedBecause::NetworkFull => "network_full",
            RefusedBecause::TooManyTables => "too_many_tables",
            RefusedBecause::TooManyBytes => "too_many_bytes",
            _ => "fragmented",
        };
        Self {
            owner: refused.owner.to_string(),
            written: refused.time.as_secs_f64(),
            reason: reason.to_owned(),
        }
    }
}

/// What every active member of the cluster knows of a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberExplained {
    /// The responding node.
    pub node: String,
    /// The member in question.
    pub name: String,
    /// The active members and the one in question, sorted by name.
    pub members: Vec<MemberAtMember>,
}

/// What one member knows of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberAtMember {
    /// Whether it answered.
    #[serde(flatten)]
    pub answer: AnswerView,
    /// What it knows; absent without an answer, or if it knows no such member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<MemberKnown>,
}

impl MemberAtMember {
    pub(super) fn new(row: &MemberAnswer<Option<MemberExplanation>>, me: &NodeName) -> Self {
        let known = row.answer.as_ref().ok().and_then(Option::as_ref);
        Self { answer: AnswerView::of(row, me), known: known.map(MemberKnown::from) }
    }
}

/// What a member knows of another. Times are in seconds before its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberKnown {
    /// The known generation.
    pub generation: u64,
    /// How often this instance refuted a claim or changed its labels.
    pub incarnation: u64,
    /// The address.
    pub address: String,
    /// `alive`, `suspect`, `failed` or `left`.
    pub state: String,
    /// The time since it entered that state.
    pub state_seconds: f64,
    /// The time since something arrived directly from it; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_seconds: Option<f64>,
    /// The time since its last answer to a probe; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_seconds: Option<f64>,
    /// How long that answer took, in seconds, with the handshake if there was no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_seconds: Option<f64>,
    /// The last suspicion of it; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accusation: Option<AccusationKnown>,
}

/// A suspicion as a member knows it. A member that is alive has refuted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccusationKnown {
    /// The time since it began, in seconds.
    pub seconds_ago: f64,
    /// The first accuser.
    pub accused_by: String,
    /// Those that confirmed it, in order; none after those that shorten the suspicion.
    pub confirmed_by: Vec<String>,
    /// Whose claim of failure was followed: the member's own name if its timeout passed; absent unless it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by: Option<String>,
    /// The time left for a refutation, in seconds; absent if it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_in_seconds: Option<f64>,
}

impl From<&MemberExplanation> for MemberKnown {
    fn from(known: &MemberExplanation) -> Self {
        let answer = known.acknowledged.as_ref();
        Self {
            generation: known.id.generation,
            incarnation: known.incarnation,
            address: known.address.to_string(),
            state: known.state.to_string(),
            state_seconds: seconds(known.state_age),
            last_seen_seconds: known.last_seen.map(seconds),
            acknowledged_seconds: answer.map(|answer| seconds(answer.age)),
            // Microseconds: on one host it takes less than a millisecond.
            round_trip_seconds: answer.map(|answer| answer.round_trip.as_micros() as f64 / 1e6),
            accusation: known.accusation.as_ref().map(|accusation| AccusationKnown {
                seconds_ago: seconds(accusation.age),
                accused_by: accusation.accuser.to_string(),
                confirmed_by: accusation.confirmed_by.iter().map(NodeName::to_string).collect(),
                failed_by: accusation.failed_by.as_ref().map(NodeName::to_string),
                ends_in_seconds: accusation.ends_in.map(seconds),
            }),
        }
    }
}

/// Whether the members of a network show the same entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agreement {
    /// The responding node.
    pub node: String,
    /// The network.
    pub network: String,
    /// Whether all members that answered show the same entries.
    pub agree: bool,
    /// The members of the network, sorted by name.
    pub members: Vec<DigestAtMember>,
    /// Keys under which members hold something else, sorted; at most 32.
    pub differences: Vec<DifferenceView>,
    /// Whether there are more such keys, or not all could be found in time.
    pub more_differences: bool,
    /// How long the responding node has known, without asking, that a member differs from it, in seconds; 0 if it
    /// knows of none.
    pub disagreement_seconds: f64,
}

/// What one member holds of a network, in brief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DigestAtMember {
    /// Whether it answered.
    #[serde(flatten)]
    pub answer: AnswerView,
    /// What it holds; absent without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<HoldingsView>,
}

/// What a member holds of a network, in brief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoldingsView {
    /// Sixteen hexadecimal digits: equal on two nodes if and only if they show the same entries.
    pub digest: String,
    /// Visible entries.
    pub entries: u64,
    /// Hidden entries.
    pub hidden: u64,
    /// Tombstones of deleted entries.
    pub tombstones: u64,
    /// Writes of other nodes that it refuses.
    pub refused: u64,
    /// Whether it has synchronised the network with another member.
    pub synchronised: bool,
}

impl From<&NetworkDigests> for HoldingsView {
    fn from(digests: &NetworkDigests) -> Self {
        Self {
            digest: format!("{:016x}", digests.digest),
            entries: digests.entries,
            hidden: digests.hidden,
            tombstones: digests.tombstones,
            refused: digests.refused,
            synchronised: digests.synchronised,
        }
    }
}

/// A key under which members hold something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceView {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// `refused`, `hidden`, `unsynchronised`, `conflict` or `not_arrived`.
    pub reason: String,
    /// The same as a sentence.
    pub explanation: String,
    /// What each member that answered knows about it.
    pub members: Vec<EntryAtMember>,
}

impl DifferenceView {
    fn new(difference: &Difference, me: &NodeName) -> Self {
        let reason = match difference.reason {
            DifferenceReason::Refused => "refused",
            DifferenceReason::Hidden => "hidden",
            DifferenceReason::Unsynchronised => "unsynchronised",
            DifferenceReason::Conflict => "conflict",
            _ => "not_arrived",
        };
        Self {
            table: difference.table.clone(),
            key: difference.key.clone(),
            reason: reason.to_owned(),
            explanation: difference.reason.to_string(),
            members: difference.members.iter().map(|row| EntryAtMember::new(row, me)).collect(),
        }
    }
}

impl Agreement {
    pub(super) fn new(report: &AgreementReport, me: &NodeName) -> Self {
        let row = |row: &MemberAnswer<NetworkDigests>| DigestAtMember {
            answer: AnswerView::of(row, me),
            holds: row.answer.as_ref().ok().map(HoldingsView::from),
        };
        Self {
            node: me.to_string(),
            network: report.network.clone(),
            agree: report.agree(),
            members: report.members.iter().map(row).collect(),
            differences: report.differences.iter().map(|found| DifferenceView::new(found, me)).collect(),
            more_differences: report.more,
            disagreement_seconds: seconds(report.disagreement),
        }
    }
}
