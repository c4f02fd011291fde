//! Inquiries: what this node asks the other members, and what it answers them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tabledb::Version;
use tabledb::inquiry::{Possession, TableAnswer, TableQuestion};
use wire::{NodeName, StreamId};

use super::{NodeEvent, NodeMachine};
use crate::agreement::{Agreement, Next, rows};
use crate::inquiries::{Answer, InquiryFrameError, InquiryStatistics, MAX_INQUIRIES, MAX_WITHIN, Question};
use crate::inquiry_report::{InquiryError, InquiryId, InquiryReport, KnownBy, Missing, NoAnswer, Receipt};

type Answers = BTreeMap<NodeName, Result<Answer, NoAnswer>>;

/// What an inquiry is about.
#[derive(Debug)]
pub(super) enum Subject {
    Entry,
    Member,
    Agreement(Box<Agreement>),
    Receipt { wanted: usize },
}

impl NodeMachine {
    /// Counters of the questions between members.
    pub fn inquiry_statistics(&self) -> InquiryStatistics {
        self.inquiries.statistics()
    }

    /// Asks every member of a network what it knows about an entry. [`NodeEvent::InquiryOver`] reports the answers,
    /// after `within` (at most twenty seconds) at the latest.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much.
    pub fn explain_entry(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        within: Duration,
        now: Instant,
    ) -> Result<InquiryId, InquiryError> {
        let keys = vec![(table.to_owned(), key.to_owned())];
        let question = Question::Tables(TableQuestion::Explain { network: network.to_owned(), keys });
        let members = self.members_of(network)?;
        self.ask(Subject::Entry, members, &question, within, now)
    }

    /// Asks every active member of the cluster what it knows of a member.
    ///
    /// # Errors
    /// If this node does not know the member, or asks too much.
    pub fn explain_member(
        &mut self,
        name: &str,
        within: Duration,
        now: Instant,
    ) -> Result<InquiryId, InquiryError> {
        let Some(member) = self.membership.member(name) else {
            return Err(InquiryError::UnknownMember { name: name.to_owned() });
        };
        let question = Question::Member(member.name().clone());
        let members =
            self.membership.members().map(|member| (member.name().clone(), member.state.is_active()));
        let members = members.filter(|(other, active)| *active || other.as_str() == name).collect();
        self.ask(Subject::Member, members, &question, within, now)
    }

    /// Compares what the members of a network show.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much.
    pub fn compare_members(
        &mut self,
        network: &str,
        within: Duration,
        now: Instant,
    ) -> Result<InquiryId, InquiryError> {
        let members = self.members_of(network)?;
        let agreement = Agreement::new(self.membership.me().name().clone(), network);
        let question = agreement.first_question();
        self.ask(Subject::Agreement(Box::new(agreement)), members, &question, within, now)
    }

    /// Asks every member of a network to answer when it has a write of this node. The report comes as soon as enough
    /// members have it, or cannot have it any more.
    ///
    /// # Errors
    /// If this node is not on the network, or asks too much.
    pub fn await_known(
        &mut self,
        network: &str,
        version: Version,
        known_by: KnownBy,
        within: Duration,
        now: Instant,
    ) -> Result<InquiryId, InquiryError> {
        let members = self.members_of(network)?;
        let wanted = known_by.of(members.len());
        let within = within.min(MAX_WITHIN);
        // A member that has to say no says so in time for the answer to come back.
        let (network, member_within) = (network.to_owned(), within.mul_f64(0.875));
        let question = TableQuestion::Known { network, version, within: member_within };
        self.ask(Subject::Receipt { wanted }, members, &Question::Tables(question), within, now)
    }

    fn members_of(&self, network: &str) -> Result<Vec<(NodeName, bool)>, InquiryError> {
        let replica = self.driver.replica();
        match replica.statistics(network) {
            Some(_) => Ok(replica.network_members(network)),
            None => Err(InquiryError::NotJoined { network: network.to_owned() }),
        }
    }

    fn ask(
        &mut self,
        subject: Subject,
        members: Vec<(NodeName, bool)>,
        question: &Question,
        within: Duration,
        now: Instant,
    ) -> Result<InquiryId, InquiryError> {
        if self.inquiries.len() >= MAX_INQUIRIES {
            return Err(InquiryError::TooMany { limit: MAX_INQUIRIES });
        }
        let inquiry = self.inquiries.new_inquiry();
        let (active, failed): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, active)| *active);
        let failed = failed.into_iter().map(|(member, _)| (member, Err(NoAnswer::Failed))).collect();
        let questions = active.into_iter().map(|(member, _)| (member, question.clone())).collect();
        self.subjects.insert(inquiry, subject);
        self.ask_round(inquiry, questions, failed, now + within.min(MAX_WITHIN), now);
        self.settle(now);
        Ok(inquiry)
    }

    /// Asks members; this node answers at once.
    fn ask_round(
        &mut self,
        inquiry: InquiryId,
        questions: Vec<(NodeName, Question)>,
        mut answers: Answers,
        deadline: Instant,
        now: Instant,
    ) {
        let me = self.membership.me().name().clone();
        let (mine, others): (Vec<_>, Vec<_>) = questions.into_iter().partition(|(member, _)| *member == me);
        for (_, question) in mine {
            answers.insert(me.clone(), Ok(self.answer_to(&me, &question, now)));
        }
        self.inquiries.ask(inquiry, others, answers, deadline);
    }

    fn answer_to(&self, from: &NodeName, question: &Question, now: Instant) -> Answer {
        match question {
            Question::Member(name) => Answer::Member(self.membership.explain(name.as_str(), now)),
            Question::Tables(question) => Answer::Tables(self.driver.replica().answer(from, question, now)),
        }
    }

    /// Handles a frame of an inquiry.
    pub(super) fn handle_inquiry_frame(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), InquiryFrameError> {
        let Some((from, question)) = self.inquiries.handle_frame(stream, bytes)? else { return Ok(()) };
        let member = self.membership.member(from.as_str());
        if !member.is_some_and(|member| member.state.is_active()) {
            return Err(self.inquiries.refuse_stranger());
        }
        let answer = self.answer_to(&from, &question, now);
        match question {
            Question::Tables(question @ TableQuestion::Known { within, .. })
                if answer == Answer::Tables(TableAnswer::Known(Possession::Lacks)) =>
            {
                self.inquiries.wait(stream, question, now + within.min(MAX_WITHIN));
            }
            _ => self.inquiries.answer(stream, &answer),
        }
        Ok(())
    }

    /// Answers questions that can be answered now, and goes on with inquiries that have their answers.
    pub(super) fn settle_inquiries(&mut self, now: Instant) {
        if self.inquiries.is_idle() {
            return;
        }
        let waiting = self.inquiries.waiting().filter_map(|(stream, peer, question, until)| {
            let answer = self.driver.replica().answer(peer, question, now);
            let waits = answer == TableAnswer::Known(Possession::Lacks) && now < until;
            (!waits).then_some((stream, answer))
        });
        for (stream, answer) in waiting.collect::<Vec<_>>() {
            self.inquiries.answer(stream, &Answer::Tables(answer));
        }
        let enough: Vec<InquiryId> =
            self.subjects.keys().copied().filter(|id| self.has_enough(*id)).collect();
        for inquiry in self.inquiries.over(now).into_iter().chain(enough) {
            self.end_round(inquiry, now);
        }
    }

    /// Whether enough members have a write already.
    fn has_enough(&self, inquiry: InquiryId) -> bool {
        let (Some(Subject::Receipt { wanted }), Some(round)) =
            (self.subjects.get(&inquiry), self.inquiries.round(inquiry))
        else {
            return false;
        };
        let holds = |answer: &&Result<Answer, NoAnswer>| {
            matches!(answer, Ok(Answer::Tables(TableAnswer::Known(Possession::Holds))))
        };
        round.answers.values().filter(holds).count() >= *wanted
    }

    fn end_round(&mut self, inquiry: InquiryId, now: Instant) {
        let Some(deadline) = self.inquiries.round(inquiry).map(|round| round.deadline) else { return };
        let Some(subject) = self.subjects.remove(&inquiry) else { return };
        let answers = self.inquiries.end(inquiry, now);
        let report = match subject {
            Subject::Entry => InquiryReport::Entry(rows(answers, |answer| match answer {
                Answer::Tables(TableAnswer::Explained(mut explained)) => explained.pop(),
                _ => None,
            })),
            Subject::Member => InquiryReport::Member(rows(answers, |answer| match answer {
                Answer::Member(known) => Some(known),
                _ => None,
            })),
            Subject::Receipt { wanted } => InquiryReport::Receipt(receipt(wanted, answers)),
            Subject::Agreement(mut agreement) => {
                let next = agreement.next(answers, &self.driver.replica());
                match next {
                    Next::Done(report) => InquiryReport::Agreement(report),
                    Next::Ask(questions) => {
                        self.subjects.insert(inquiry, Subject::Agreement(agreement));
                        self.ask_round(inquiry, questions, BTreeMap::new(), deadline, now);
                        // This node alone may have been asked, or the time is over.
                        return self.settle_inquiries(now);
                    }
                }
            }
        };
        self.events.push_back(NodeEvent::InquiryOver { inquiry, report });
    }
}

fn receipt(wanted: usize, answers: Answers) -> Receipt {
    let mut receipt = Receipt { wanted, known_by: Vec::new(), missing: Vec::new() };
    for (member, answer) in answers {
        let missing = match answer {
            Ok(Answer::Tables(TableAnswer::Known(Possession::Holds))) => {
                receipt.known_by.push(member);
                continue;
            }
            Ok(Answer::Tables(TableAnswer::Known(Possession::Refuses))) => Missing::Refused,
            Ok(Answer::Tables(TableAnswer::Known(_))) => Missing::NotArrived,
            Ok(Answer::Tables(TableAnswer::NotMember)) => Missing::NoAnswer(NoAnswer::NotMember),
            Ok(_) => Missing::NoAnswer(NoAnswer::Invalid),
            Err(why) => Missing::NoAnswer(why),
        };
        receipt.missing.push((member, missing));
    }
    receipt
}
