//! Questions between members, over streams: one question and one answer each.
//!
//! This module moves them, and bounds them in number, bytes and time. What they mean is for the parts of the node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use membership::MemberExplanation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tabledb::inquiry::{MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, TableAnswer, TableQuestion};
use wire::{FramePoll, NodeName, StreamId, codec};

use crate::inquiry_report::{InquiryId, NoAnswer};

/// The longest time that an inquiry may take; a longer one is shortened to it. Both halves of its streams stay open
/// that long.
pub const MAX_WITHIN: Duration = Duration::from_secs(20);

/// The most inquiries of this node at once: callers that wait for answers must not take all requests of HTTP.
pub(crate) const MAX_INQUIRIES: usize = 32;

/// The most members that are asked at once; the next ones are asked as these answer.
const MAX_ASKED: usize = 64;

/// The most questions of peers that are open at once, in all and of one peer.
const MAX_ANSWERING: usize = 256;
const MAX_ANSWERING_OF_ONE: usize = 64;

/// The longest frame with an answer: the tables fill answers by estimates.
const MAX_ANSWER_FRAME: usize = 2 * MAX_ANSWER_BYTES;

/// A question. New kinds go to the end: a node that does not know a kind closes the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// What is known of the member of this name?
    Member(NodeName),
    /// About a network.
    Tables(TableQuestion),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Too many questions are open.
    Busy,
    Member(Option<MemberExplanation>),
    Tables(TableAnswer),
}

/// Why a frame of an inquiry was dropped; it was counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InquiryFrameError {
    /// It does not decode.
    #[error(transparent)]
    Malformed(#[from] codec::DecodeError),
    /// It is longer than any valid one.
    #[error("a question or an answer has {found} bytes; at most {allowed} are allowed")]
    TooLong {
        /// Its length.
        found: usize,
        /// The limit.
        allowed: usize,
    },
    /// Only members may ask.
    #[error("the node that asks is no active member")]
    NotMember,
    /// No frame was expected.
    #[error("an unexpected frame")]
    Unexpected,
}

wire::counters! {
    /// Counters of the questions between members. They never decrease.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct InquiryStatistics {
        /// Members asked by this node.
        asked,
        /// Members asked by this node that gave no answer.
        unanswered,
        /// Questions of members that were answered.
        answered,
    }
    /// What was refused of what members asked and answered.
    refused by reason {
        /// Questions of members that were turned away because too many were open.
        refused_busy,
        /// Questions refused because the asking node is no active member.
        refused_not_member,
        /// Questions and answers that did not decode, were too long, or were not expected.
        refused_malformed,
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], allowed: usize) -> Result<T, InquiryFrameError> {
    if bytes.len() > allowed {
        return Err(InquiryFrameError::TooLong { found: bytes.len(), allowed });
    }
    Ok(codec::decode(bytes)?)
}

/// What the machine is to do with a stream.
#[derive(Debug)]
pub(crate) enum StreamRequest {
    Open(StreamId, NodeName),
    Close(StreamId),
    Wake(StreamId),
}

/// A question of this node to one member.
#[derive(Debug)]
struct Asked {
    inquiry: InquiryId,
    member: NodeName,
    /// Until it is sent.
    question: Option<Arc<[u8]>>,
}

/// A question of a member.
#[derive(Debug)]
struct Answering {
    peer: NodeName,
    state: AnsweringState,
}

#[derive(Debug)]
enum AnsweringState {
    AwaitsQuestion,
    /// It is answered when something has happened, or at this time.
    Waits(TableQuestion, Instant),
    Answers(Vec<u8>),
}

/// What members have answered to one question so far.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) deadline: Instant,
    pub(crate) awaited: BTreeSet<NodeName>,
    pub(crate) answers: BTreeMap<NodeName, Result<Answer, NoAnswer>>,
}

/// All questions of a node and to it.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    rounds: BTreeMap<InquiryId, Round>,
    next_inquiry: u64,
    /// Members that are asked when others have answered.
    queue: VecDeque<(InquiryId, NodeName, Arc<[u8]>)>,
    asked: BTreeMap<StreamId, Asked>,
    answering: BTreeMap<StreamId, Answering>,
    next_stream: u64,
    requests: VecDeque<StreamRequest>,
    statistics: InquiryStatistics,
}

impl Inquiries {
    pub(crate) fn statistics(&self) -> InquiryStatistics {
        self.statistics
    }

    /// Whether nobody asks anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.rounds.is_empty() && self.answering.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rounds.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waits = self.answering.values().filter_map(|answering| match answering.state {
            AnsweringState::Waits(_, until) => Some(until),
            AnsweringState::AwaitsQuestion | AnsweringState::Answers(_) => None,
        });
        self.rounds.values().map(|round| round.deadline).chain(waits).min()
    }

    pub(crate) fn next_request(&mut self) -> Option<StreamRequest> {
        self.requests.pop_front()
    }

    fn new_stream(&mut self) -> StreamId {
        self.next_stream += 1;
        StreamId(self.next_stream)
    }

    // Asking.

    /// The number of a new inquiry.
    pub(crate) fn new_inquiry(&mut self) -> InquiryId {
        self.next_inquiry += 1;
        InquiryId(self.next_inquiry)
    }

    /// Asks members, each a question of its own; `answers` are known already.
    pub(crate) fn ask(
        &mut self,
        inquiry: InquiryId,
        questions: impl IntoIterator<Item = (NodeName, Question)>,
        answers: BTreeMap<NodeName, Result<Answer, NoAnswer>>,
        deadline: Instant,
    ) {
        let mut round = Round { deadline, awaited: BTreeSet::new(), answers };
        let mut latest: Option<(Question, Arc<[u8]>)> = None;
        for (member, question) in questions {
            let bytes = match &latest {
                Some((same, bytes)) if *same == question => bytes.clone(),
                _ => codec::encode(&question).into(),
            };
            latest = Some((question, bytes.clone()));
            round.awaited.insert(member.clone());
            self.queue.push_back((inquiry, member, bytes));
        }
        self.rounds.insert(inquiry, round);
        self.ask_next();
    }

    fn ask_next(&mut self) {
        while self.asked.len() < MAX_ASKED
            && let Some((inquiry, member, question)) = self.queue.pop_front()
        {
            self.statistics.asked += 1;
            let stream = self.new_stream();
            self.requests.push_back(StreamRequest::Open(stream, member.clone()));
            self.asked.insert(stream, Asked { inquiry, member, question: Some(question) });
        }
    }

    /// The rounds that are over at this time: nobody is awaited, or the time has passed.
    pub(crate) fn over(&self, now: Instant) -> Vec<InquiryId> {
        let over = self.rounds.iter().filter(|(_, round)| round.awaited.is_empty() || round.deadline <= now);
        over.map(|(id, _)| *id).collect()
    }

    pub(crate) fn round(&self, inquiry: InquiryId) -> Option<&Round> {
        self.rounds.get(&inquiry)
    }

    /// Ends a round: those that have not answered are late, or not awaited any more.
    pub(crate) fn end(
        &mut self,
        inquiry: InquiryId,
        now: Instant,
    ) -> BTreeMap<NodeName, Result<Answer, NoAnswer>> {
        let Some(mut round) = self.rounds.remove(&inquiry) else { return BTreeMap::new() };
        self.queue.retain(|(of, ..)| *of != inquiry);
        for (stream, _) in self.asked.extract_if(.., |_, asked| asked.inquiry == inquiry) {
            self.requests.push_back(StreamRequest::Close(stream));
        }
        let why = if now < round.deadline { NoAnswer::NotAwaited } else { NoAnswer::Late };
        if why == NoAnswer::Late {
            self.statistics.unanswered += round.awaited.len() as u64;
        }
        round.answers.extend(round.awaited.into_iter().map(|member| (member, Err(why))));
        self.ask_next();
        round.answers
    }

    fn answered(&mut self, asked: Asked, answer: Result<Answer, NoAnswer>) {
        self.statistics.unanswered += u64::from(answer.is_err());
        if let Some(round) = self.rounds.get_mut(&asked.inquiry)
            && round.awaited.remove(&asked.member)
        {
            round.answers.insert(asked.member, answer);
        }
        self.ask_next();
    }

    // Answering.

    /// A peer has opened a stream with a question.
    pub(crate) fn accept(&mut self, peer: &NodeName) -> StreamId {
        let stream = self.new_stream();
        let of_peer = self.answering.values().filter(|answering| answering.peer == *peer).count();
        let mut state = AnsweringState::AwaitsQuestion;
        if self.answering.len() >= MAX_ANSWERING || of_peer >= MAX_ANSWERING_OF_ONE {
            self.statistics.refused_busy += 1;
            state = AnsweringState::Answers(codec::encode(&Answer::Busy));
        }
        self.answering.insert(stream, Answering { peer: peer.clone(), state });
        stream
    }

    /// A frame that was not expected, or is not what it should be.
    fn refuse(&mut self, error: InquiryFrameError) -> InquiryFrameError {
        self.statistics.refused_malformed += 1;
        error
    }

    pub(crate) fn refuse_stranger(&mut self) -> InquiryFrameError {
        self.statistics.refused_not_member += 1;
        InquiryFrameError::NotMember
    }

    /// Handles a frame. Returns the question of a peer, which is to be answered or kept waiting.
    pub(crate) fn handle_frame(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
    ) -> Result<Option<(NodeName, Question)>, InquiryFrameError> {
        if let Some(asked) = self.asked.remove(&stream) {
            let (row, read) = match decode(bytes, MAX_ANSWER_FRAME) {
                Ok(Answer::Busy) => (Err(NoAnswer::Busy), Ok(None)),
                Ok(answer) => (Ok(answer), Ok(None)),
                Err(error) => (Err(NoAnswer::Invalid), Err(self.refuse(error))),
            };
            self.answered(asked, row);
            return read;
        }
        let peer = match self.answering.get(&stream) {
            Some(Answering { state: AnsweringState::Answers(_), .. }) => return Ok(None),
            Some(Answering { peer, state: AnsweringState::AwaitsQuestion }) => peer.clone(),
            Some(_) | None => return Err(self.refuse(InquiryFrameError::Unexpected)),
        };
        let question = decode(bytes, MAX_QUESTION_BYTES).map_err(|error| self.refuse(error))?;
        Ok(Some((peer, question)))
    }

    /// Answers the question on a stream.
    pub(crate) fn answer(&mut self, stream: StreamId, answer: &Answer) {
        if let Some(answering) = self.answering.get_mut(&stream) {
            self.statistics.answered += 1;
            answering.state = AnsweringState::Answers(codec::encode(answer));
            self.requests.push_back(StreamRequest::Wake(stream));
        }
    }

    /// Lets a question wait.
    pub(crate) fn wait(&mut self, stream: StreamId, question: TableQuestion, until: Instant) {
        if let Some(answering) = self.answering.get_mut(&stream) {
            answering.state = AnsweringState::Waits(question, until);
        }
    }

    /// The questions that wait, with who asks and until when.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (StreamId, &NodeName, &TableQuestion, Instant)> {
        self.answering.iter().filter_map(|(stream, answering)| match &answering.state {
            AnsweringState::Waits(question, until) => Some((*stream, &answering.peer, question, *until)),
            AnsweringState::AwaitsQuestion | AnsweringState::Answers(_) => None,
        })
    }

    // Streams.

    pub(crate) fn poll_frame(&mut self, stream: StreamId) -> FramePoll {
        if let Some(asked) = self.asked.get_mut(&stream) {
            return match asked.question.take() {
                Some(question) => FramePoll::Frame(question.to_vec()),
                None => FramePoll::Finish,
            };
        }
        match self.answering.get(&stream).map(|answering| &answering.state) {
            Some(AnsweringState::AwaitsQuestion | AnsweringState::Waits(..)) => FramePoll::Wait,
            Some(AnsweringState::Answers(_)) => match self.answering.remove(&stream) {
                Some(Answering { state: AnsweringState::Answers(answer), .. }) => FramePoll::Frame(answer),
                _ => FramePoll::Finish,
            },
            None => FramePoll::Finish,
        }
    }

    /// The peer has finished its half. That of a peer that asks comes after its question.
    pub(crate) fn handle_finished(&mut self, stream: StreamId) {
        if let Some(asked) = self.asked.remove(&stream) {
            self.answered(asked, Err(NoAnswer::Unreachable));
        }
    }

    /// The stream is closed in both directions, broke, or did not open.
    pub(crate) fn handle_closed(&mut self, stream: StreamId) {
        self.answering.remove(&stream);
        self.handle_finished(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn questions_of_one_peer_are_bounded_and_a_further_one_gets_an_answer() {
        let mut inquiries = Inquiries::default();
        let question = codec::encode(&Question::Member(name("a")));
        let streams: Vec<_> = (0..=MAX_ANSWERING_OF_ONE).map(|_| inquiries.accept(&name("b"))).collect();
        for stream in &streams[..MAX_ANSWERING_OF_ONE] {
            assert!(matches!(inquiries.handle_frame(*stream, &question), Ok(Some(_))));
            assert_eq!(inquiries.poll_frame(*stream), FramePoll::Wait);
        }
        let turned_away = streams[MAX_ANSWERING_OF_ONE];
        assert_eq!(inquiries.handle_frame(turned_away, &question), Ok(None));
        let busy = FramePoll::Frame(codec::encode(&Answer::Busy));
        assert_eq!((inquiries.poll_frame(turned_away), inquiries.statistics().refused_busy), (busy, 1));
        // Another peer has capacity, and so has this one once a question is answered.
        let other = inquiries.accept(&name("c"));
        assert!(matches!(inquiries.handle_frame(other, &question), Ok(Some(_))));
        inquiries.answer(streams[0], &Answer::Member(None));
        assert!(matches!(inquiries.poll_frame(streams[0]), FramePoll::Frame(_)));
        assert_eq!(inquiries.poll_frame(streams[0]), FramePoll::Finish);
        let again = inquiries.accept(&name("b"));
        assert!(matches!(inquiries.handle_frame(again, &question), Ok(Some(_))));
    }

    #[test]
    fn bad_bytes_are_dropped_and_counted() {
        let mut inquiries = Inquiries::default();
        let long = vec![0; MAX_QUESTION_BYTES + 1];
        for bytes in [&[][..], &[99], &[1, 99], &long] {
            let stream = inquiries.accept(&name("b"));
            assert!(inquiries.handle_frame(stream, bytes).is_err());
            inquiries.handle_closed(stream);
        }
        assert!(inquiries.handle_frame(StreamId(0), &[]).is_err(), "a stream that is not open");
        assert_eq!(inquiries.statistics().refused_malformed, 5);
        assert!(inquiries.is_idle());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn members_are_asked_a_few_at_a_time_and_late_ones_are_rows() {
        let (mut inquiries, now) = (Inquiries::default(), Instant::now());
        let inquiry = inquiries.new_inquiry();
        let members = (0..MAX_ASKED + 2).map(|at| name(&format!("n{at}")));
        let questions = members.map(|member| (member, Question::Member(name("a"))));
        inquiries.ask(inquiry, questions, BTreeMap::new(), now + Duration::from_secs(1));
        let mut opened = Vec::new();
        while let Some(StreamRequest::Open(stream, _)) = inquiries.next_request() {
            opened.push(stream);
        }
        assert_eq!(opened.len(), MAX_ASKED);
        // One answers, one answers nonsense: two more are asked.
        let answer = codec::encode(&Answer::Member(None));
        assert_eq!(inquiries.handle_frame(opened[0], &answer), Ok(None));
        assert!(inquiries.handle_frame(opened[1], &[99]).is_err());
        let further = [inquiries.next_request(), inquiries.next_request()];
        assert!(
            further.iter().all(|request| matches!(request, Some(StreamRequest::Open(..)))),
            "{further:?}"
        );
        assert!(inquiries.over(now).is_empty());
        assert_eq!(inquiries.over(now + Duration::from_secs(1)), [inquiry]);
        let answers = inquiries.end(inquiry, now + Duration::from_secs(1));
        let count = |wanted: Result<Answer, NoAnswer>| answers.values().filter(|row| **row == wanted).count();
        assert_eq!(count(Ok(Answer::Member(None))), 1);
        assert_eq!(count(Err(NoAnswer::Invalid)), 1);
        assert_eq!(count(Err(NoAnswer::Late)), MAX_ASKED);
        assert!(matches!(inquiries.next_request(), Some(StreamRequest::Close(_))));
        assert!(inquiries.is_idle());
    }
}
