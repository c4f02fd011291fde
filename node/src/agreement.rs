//! The comparison of the members of a network, step by step: what each holds in brief, then the parts of the
//! attachments in which a member differs from this node, then the keys in them.
//!
//! Nothing here sends or waits: it says what is to be asked next, and reads the answers.

use std::collections::BTreeMap;

use tabledb::inquiry::{
    AttachmentDigest, AttachmentParts, MAX_EXPLAINED_KEYS, NetworkDigests, TableAnswer, TableQuestion,
};
use tabledb::{EntryExplanation, EntryState, Replica};
use wire::{NodeId, NodeName};

use crate::inquiries::{Answer, Question};
use crate::inquiry_report::{AgreementReport, Difference, DifferenceReason, MemberAnswer, NoAnswer};

/// The most attachments in which a member is compared further.
const MAX_ATTACHMENTS: usize = 8;

/// The most keys that are shown of an attachment that is only hidden elsewhere.
const HIDDEN_KEYS: usize = 8;

type Answers = BTreeMap<NodeName, Result<Answer, NoAnswer>>;

/// The comparison of a network.
#[derive(Debug)]
pub(crate) struct Agreement {
    me: NodeName,
    report: AgreementReport,
    step: Step,
    keys: Vec<(String, String)>,
}

#[derive(Debug)]
enum Step {
    Digests,
    /// What each member was asked to compare.
    Parts(BTreeMap<NodeName, Vec<AttachmentParts>>),
    Keys,
}

/// What follows after a step.
#[derive(Debug)]
pub(crate) enum Next {
    Ask(Vec<(NodeName, Question)>),
    Done(AgreementReport),
}

impl Agreement {
    pub(crate) fn new(me: NodeName, network: &str) -> Self {
        let report = AgreementReport {
            network: network.to_owned(),
            members: Vec::new(),
            differences: Vec::new(),
            more: false,
            disagreement: Default::default(),
        };
        Self { me, report, step: Step::Digests, keys: Vec::new() }
    }

    /// The first question, for every member.
    pub(crate) fn first_question(&self) -> Question {
        Question::Tables(TableQuestion::Digests { network: self.report.network.clone() })
    }

    /// Reads the answers of a step.
    pub(crate) fn next(&mut self, answers: Answers, replica: &Replica) -> Next {
        let ask = match std::mem::replace(&mut self.step, Step::Keys) {
            Step::Digests => self.read_digests(answers, replica),
            Step::Parts(asked) => self.read_parts(&answers, &asked, replica),
            Step::Keys => {
                self.read_keys(&answers);
                Vec::new()
            }
        };
        match ask {
            none if none.is_empty() => {
                let disagreement = replica.statistics(&self.report.network).map(|found| found.disagreement);
                self.report.disagreement = disagreement.unwrap_or_default();
                Next::Done(self.report.clone())
            }
            ask => Next::Ask(ask),
        }
    }

    fn read_digests(&mut self, answers: Answers, replica: &Replica) -> Vec<(NodeName, Question)> {
        self.report.members = rows(answers, |answer| match answer {
            Answer::Tables(TableAnswer::Digests(digests)) => Some(digests),
            _ => None,
        });
        let of = |row: &MemberAnswer<NetworkDigests>| Some((row.member.clone(), row.answer.clone().ok()?));
        let answered: BTreeMap<NodeName, NetworkDigests> =
            self.report.members.iter().filter_map(of).collect();
        let Some(mine) = answered.get(&self.me) else { return Vec::new() };
        let mut asked = BTreeMap::new();
        for (member, theirs) in answered.iter().filter(|(_, theirs)| theirs.digest != mine.digest) {
            let mut differing = differing_attachments(mine, theirs);
            self.report.more |= differing.len() > MAX_ATTACHMENTS || mine.more || theirs.more;
            differing.truncate(MAX_ATTACHMENTS);
            for (owner, epoch) in only_hidden(mine, theirs) {
                let keys = replica.first_keys(&self.report.network, &owner, epoch, HIDDEN_KEYS);
                self.report.more |= keys.len() == HIDDEN_KEYS;
                self.add_keys(keys);
            }
            let parts = replica.parts_of(&self.report.network, &differing).unwrap_or_default();
            if !parts.is_empty() {
                asked.insert(member.clone(), parts);
            }
        }
        if asked.is_empty() {
            return self.ask_for_keys();
        }
        let questions = asked.iter().map(|(member, parts)| {
            let (network, attachments) = (self.report.network.clone(), parts.clone());
            (member.clone(), Question::Tables(TableQuestion::Parts { network, attachments }))
        });
        let questions = questions.collect();
        self.step = Step::Parts(asked);
        questions
    }

    fn read_parts(
        &mut self,
        answers: &Answers,
        asked: &BTreeMap<NodeName, Vec<AttachmentParts>>,
        replica: &Replica,
    ) -> Vec<(NodeName, Question)> {
        for (member, parts) in asked {
            let Some(Ok(Answer::Tables(TableAnswer::Parts(differing)))) = answers.get(member) else {
                self.report.more = true;
                continue;
            };
            self.report.more |= differing.more || differing.parts.iter().any(|part| !part.whole);
            let most = MAX_EXPLAINED_KEYS + 1;
            let keys = replica.differing_keys(&self.report.network, parts, differing, most);
            self.add_keys(keys);
        }
        self.ask_for_keys()
    }

    fn add_keys(&mut self, keys: Vec<(String, String)>) {
        for key in keys {
            if self.keys.contains(&key) {
                continue;
            }
            if self.keys.len() == MAX_EXPLAINED_KEYS {
                self.report.more = true;
                return;
            }
            self.keys.push(key);
        }
    }

    /// Every member that answered explains the keys.
    fn ask_for_keys(&mut self) -> Vec<(NodeName, Question)> {
        self.step = Step::Keys;
        if self.keys.is_empty() {
            return Vec::new();
        }
        self.keys.sort_unstable();
        let (network, keys) = (self.report.network.clone(), self.keys.clone());
        let question = Question::Tables(TableQuestion::Explain { network, keys });
        let answered = self.report.members.iter().filter(|row| row.answer.is_ok());
        answered.map(|row| (row.member.clone(), question.clone())).collect()
    }

    fn read_keys(&mut self, answers: &Answers) {
        for (at, (table, key)) in self.keys.iter().enumerate() {
            let members = rows(answers.clone(), |answer| match answer {
                Answer::Tables(TableAnswer::Explained(explained)) => explained.get(at).cloned(),
                _ => None,
            });
            // What differed may have arrived meanwhile.
            if let Some(reason) = reason(&members) {
                let (table, key) = (table.clone(), key.clone());
                self.report.differences.push(Difference { table, key, reason, members });
            }
        }
        self.report.more |= answers.values().any(Result::is_err);
    }
}

/// The answers as rows, by name.
pub(crate) fn rows<T>(answers: Answers, mut read: impl FnMut(Answer) -> Option<T>) -> Vec<MemberAnswer<T>> {
    let rows = answers.into_iter().map(|(member, answer)| {
        let answer = answer.and_then(|answer| match answer {
            Answer::Tables(TableAnswer::NotMember) => Err(NoAnswer::NotMember),
            other => read(other).ok_or(NoAnswer::Invalid),
        });
        MemberAnswer { member, answer }
    });
    rows.collect()
}

/// The attachments of which two members hold something else. The smallest come first: they fit into the answer whole.
fn differing_attachments(mine: &NetworkDigests, theirs: &NetworkDigests) -> Vec<(NodeId, u64)> {
    let by_id = |digests: &NetworkDigests| -> BTreeMap<(NodeId, u64), (u64, u64)> {
        let entries = digests.attachments.iter();
        entries.map(|held| ((held.owner.clone(), held.epoch), (held.live, held.entries))).collect()
    };
    let (mine, theirs) = (by_id(mine), by_id(theirs));
    let all = mine.keys().chain(theirs.keys().filter(|id| !mine.contains_key(*id)));
    let differing = all.filter(|id| mine.get(*id).map(|held| held.0) != theirs.get(*id).map(|held| held.0));
    let size = |id: &(NodeId, u64)| mine.get(id).or(theirs.get(id)).map_or(0, |held| held.1);
    let mut differing: Vec<_> = differing.cloned().collect();
    differing.sort_by_key(size);
    differing
}

/// The attachments that both hold alike, and one hides.
fn only_hidden(mine: &NetworkDigests, theirs: &NetworkDigests) -> Vec<(NodeId, u64)> {
    let is_hidden_by_one = |held: &&AttachmentDigest| {
        let same = |other: &&AttachmentDigest| {
            (&other.owner, other.epoch, other.live) == (&held.owner, held.epoch, held.live)
        };
        theirs
            .attachments
            .iter()
            .find(same)
            .is_some_and(|other| other.hidden.is_some() != held.hidden.is_some())
    };
    let hidden = mine.attachments.iter().filter(is_hidden_by_one);
    hidden.map(|held| (held.owner.clone(), held.epoch)).collect()
}

/// Why members differ under a key; `None` if they do not.
fn reason(members: &[MemberAnswer<EntryExplanation>]) -> Option<DifferenceReason> {
    let answered: Vec<&EntryExplanation> =
        members.iter().filter_map(|row| row.answer.as_ref().ok()).collect();
    let shown = |known: &EntryExplanation| match known.state {
        EntryState::Visible => known.held.as_ref().map(|held| (held.version, held.digest)),
        _ => None,
    };
    let first = answered.first().and_then(|known| shown(known));
    if answered.iter().all(|known| shown(known) == first) {
        return None;
    }
    let any = |is: &dyn Fn(&EntryExplanation) -> bool| answered.iter().any(|known| is(known));
    let versions = || answered.iter().filter_map(|known| shown(known));
    Some(if any(&|known| known.refused.is_some()) {
        DifferenceReason::Refused
    } else if any(&|known| matches!(known.state, EntryState::Hidden(_))) {
        DifferenceReason::Hidden
    } else if versions()
        .any(|(version, digest)| versions().any(|other| other.0 == version && other.1 != digest))
    {
        DifferenceReason::Conflict
    } else if any(&|known| !known.synchronised) {
        DifferenceReason::Unsynchronised
    } else {
        DifferenceReason::NotArrived
    })
}
