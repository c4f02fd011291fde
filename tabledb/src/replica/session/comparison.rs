//! The last step of a full sync: finding numbers that are live on one side and superseded on the other.
//!
//! The opener asks for the live digests of spans of numbers. It splits those that differ into sixteen parts,
//! repeatedly, until few enough numbers are live in a span to send it exactly. One difference among 100,000
//! live entries costs about four round trips and a few hundred numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::bundle::{attachment_id, index_of};
use super::super::message::{AttachmentId, Frame, Span, SpanState};
use super::super::network::refusals::{LOGGED_KEY, MAX_GUARDS, live_key};
use super::super::network::{Applied, Network};
use super::super::ranges::Ranges;
use super::super::store::{Attachment, Store};
use super::super::timing::MAX_NAMED;
use super::progress::{Context, Progress, SessionError};
use super::sending::Sending;
use crate::record::{AttachmentIndex, Record};

/// The most spans in one request.
const SPANS_PER_ROUND: usize = 512;

/// A response ends after about this many numbers; the opener asks for the rest again.
const NUMBERS_PER_ANSWER: usize = 8192;

/// The most live numbers of a span that is sent exactly.
const EXACT_LIVE: usize = 128;

/// A span whose seen numbers are fragmented into more ranges than this is split further instead.
const EXACT_RANGES: usize = 512;

const PARTS: u64 = 16;

/// The most rounds; more than the descent of any correct peer needs.
const MAX_ROUNDS: usize = 10_000;

/// A peer's claims: the numbers that it has seen and does not hold live.
///
/// While the peer refuses writes under a key, it may know that an entry there is superseded without having
/// the superseding write that it would have to send first. So its claims about entries of third nodes under
/// such keys are ignored.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) states: Vec<SpanState>,
    pub(super) refused_keys: Vec<u64>,
    /// The peer holds attachments of instances that membership has not reported here yet: the superseding
    /// writes may be in them.
    pub(super) lacks_attachments: bool,
}

/// The attachments that the spans of a request refer to.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Attachments(Vec<Option<AttachmentIndex>>);

impl Attachments {
    fn of(&self, span: Span) -> Option<AttachmentIndex> {
        self.0.get(span.attachment as usize).copied().flatten()
    }
}

/// The opener's side of a comparison.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Comparison {
    /// Spans still to be compared.
    wanted: VecDeque<(AttachmentIndex, u64, u64)>,
    /// The spans of the current request.
    asked: Vec<(AttachmentIndex, u64, u64)>,
    attachments: Attachments,
    rounds: usize,
}

impl Comparison {
    /// Starts a comparison of all attachments but those that the peer declined. `None` if there are none: then
    /// `Close` has been sent.
    pub(super) fn start(declined: &BTreeSet<AttachmentIndex>, context: &mut Context<'_>) -> Option<Self> {
        let wanted = context
            .network
            .store
            .attachments()
            .filter(|(index, held)| !declined.contains(index) && !held.seen().is_empty())
            .flat_map(|(index, held)| spans_of(held).into_iter().map(move |(low, high)| (index, low, high)))
            .collect();
        let mut comparison =
            Self { wanted, asked: Vec::new(), attachments: Attachments::default(), rounds: 0 };
        comparison.ask_further(context).then_some(comparison)
    }

    /// Sends the next request, or `Close` and returns false.
    fn ask_further(&mut self, context: &mut Context<'_>) -> bool {
        let store = &context.network.store;
        self.asked.clear();
        self.attachments.0.clear();
        self.rounds += 1;
        let mut attachments = Vec::new();
        let mut spans = Vec::new();
        while spans.len() < SPANS_PER_ROUND && self.rounds < MAX_ROUNDS {
            let Some((index, low, high)) = self.wanted.pop_front() else { break };
            let Some(held) = store.attachment(index) else { continue };
            if self.attachments.0.last() != Some(&Some(index)) {
                self.attachments.0.push(Some(index));
                attachments.push(attachment_id(&held.tag));
            }
            let span = Span { attachment: (attachments.len() - 1) as u32, low, high };
            self.asked.push((index, low, high));
            spans.push((span, live_digest(store, index, low, high)));
        }
        let goes_on = !spans.is_empty();
        if goes_on {
            context.progress.send(&Frame::Compare { attachments, spans });
        } else {
            context.progress.send(&Frame::Close);
        }
        goes_on
    }

    /// Handles the response: splits spans further, drops superseded entries, and sends this node's own
    /// claims. Returns whether the comparison goes on.
    pub(super) fn handle_compared(
        &mut self,
        looked_at: usize,
        claims: &Claims,
        sending: &mut Sending,
        context: &mut Context<'_>,
    ) -> Result<bool, SessionError> {
        if looked_at == 0 || looked_at > self.asked.len() {
            return Err(SessionError::Unexpected("a response about other spans than were requested"));
        }
        let left_over = self.asked.split_off(looked_at);
        let refused_keys = context.network.refusals.keys(&context.network.store);
        let mut claims_to_send = Vec::new();
        for state in &claims.states {
            match state {
                SpanState::Parts(parts) => self.split(parts, &context.network.store)?,
                SpanState::Exact { span, live, .. } => {
                    let claim = self.claim(*span, live, refused_keys.is_some(), context);
                    claims_to_send.extend(claim);
                }
            }
        }
        claims.apply(&self.attachments, context)?;
        if !claims_to_send.is_empty() && sending.catch_up(context) {
            sending.sent_updates = true;
            context.send(&Frame::DeadSpans {
                states: claims_to_send,
                refused_keys: refused_keys.unwrap_or_default(),
            });
        }
        for span in left_over.into_iter().rev() {
            self.wanted.push_front(span);
        }
        Ok(self.ask_further(context))
    }

    /// Queues those parts of a span that differ.
    fn split(&mut self, parts: &[(Span, u64)], store: &Store) -> Result<(), SessionError> {
        for &(span, theirs) in parts {
            let Some(index) = self.attachments.of(span) else { continue };
            if span.low == 0 || span.high < span.low {
                return Err(SessionError::Ranges);
            }
            if live_digest(store, index, span.low, span.high) != theirs {
                if self.wanted.len() >= MAX_NAMED {
                    return Err(SessionError::TooMany("spans"));
                }
                self.wanted.push_back((index, span.low, span.high));
            }
        }
        Ok(())
    }

    /// This node's claim about a span of which the peer has sent its live numbers, if there is one.
    fn claim(
        &self,
        span: Span,
        live: &[(u64, u32)],
        knows_refused_keys: bool,
        context: &Context<'_>,
    ) -> Option<SpanState> {
        let Context { progress, network, .. } = context;
        let index = self.attachments.of(span)?;
        let held = network.store.attachment(index)?;
        let backed = index == network.own() || knows_refused_keys;
        // An owner has to learn what is held in its name that it did not write.
        let of_peer = held.tag.owner.name == progress.peer;
        // Only the numbers in question, so that a span full of live entries is not sent.
        let (mut seen, mut conflicting) = (Vec::new(), Vec::new());
        for &(number, theirs) in live {
            match held.live().get(number).map(Record::digest) {
                None if backed && held.seen().contains(number) => seen.push((number, number)),
                Some(mine) if mine != theirs && of_peer => {
                    seen.push((number, number));
                    conflicting.push((number, mine));
                }
                _ => {}
            }
        }
        (!seen.is_empty()).then_some(SpanState::Exact { span, seen, live: conflicting })
    }
}

/// The responder's side: sends the state of the spans that differ. Returns the attachments that later claims
/// refer to.
pub(super) fn answer_comparison(
    attachments: &[AttachmentId<'_>],
    spans: &[(Span, u64)],
    sending: &mut Sending,
    context: &mut Context<'_>,
) -> Attachments {
    let may_claim = sending.catch_up(context);
    let network = &*context.network;
    let refused_keys = network.refusals.keys(&network.store);
    let indexes = attachments.iter().map(|id| index_of(&network.store, id)).collect();
    let attachments = Attachments(indexes);
    let mut states = Vec::new();
    let mut claims_superseded = false;
    let mut numbers = 0;
    let mut looked_at = 0;
    for &(span, theirs) in spans {
        if numbers > NUMBERS_PER_ANSWER {
            break;
        }
        looked_at += 1;
        let Some(index) = attachments.of(span) else { continue };
        if span.low == 0
            || span.high < span.low
            || live_digest(&network.store, index, span.low, span.high) == theirs
        {
            continue;
        }
        let mut state =
            exact(&network.store, index, span).unwrap_or_else(|| parts(&network.store, index, span));
        if let SpanState::Exact { seen, .. } = &mut state {
            if !(may_claim && (index == network.own() || refused_keys.is_some())) {
                seen.clear();
            }
            claims_superseded |= !seen.is_empty();
        }
        numbers += match &state {
            SpanState::Parts(parts) => parts.len(),
            SpanState::Exact { seen, live, .. } => seen.len() + live.len(),
        };
        states.push(state);
    }
    // Needed beside claims only, and possibly many.
    let refused_keys = refused_keys.filter(|_| claims_superseded).unwrap_or_default();
    context.progress.send(&Frame::Compared { looked_at, states, refused_keys });
    attachments
}

impl Claims {
    /// Drops the entries that the peer has seen and does not hold live: they are superseded, our own entries
    /// included. An owner that kept its own superseded entries would disagree for ever.
    ///
    /// Two different live records under one dot were written by two processes that took the same generation.
    /// If the dot is our own, we start a later generation.
    pub(super) fn apply(
        &self,
        attachments: &Attachments,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        if self.refused_keys.len() > MAX_GUARDS {
            return Err(SessionError::TooMany("keys with refused writes"));
        }
        let refused_keys: BTreeSet<u64> = self.refused_keys.iter().copied().collect();
        let mut dropped: BTreeMap<AttachmentIndex, (u64, Record)> = BTreeMap::new();
        let Context { progress, network, node, .. } = context;
        for state in &self.states {
            let SpanState::Exact { span, seen, live } = state else { continue };
            let Some(index) = attachments.of(*span) else { continue };
            let seen: Vec<(u64, u64)> = join_adjacent(seen);
            let seen = Ranges::checked(seen).ok_or(SessionError::Ranges)?;
            let Some(held) = network.store.attachment(index) else { continue };
            if span.low == 0 || span.high < span.low {
                return Err(SessionError::Ranges);
            }
            let differs = |&&(number, theirs): &&(u64, u32)| {
                held.live().get(number).is_some_and(|mine| mine.digest() != theirs)
            };
            let conflicting = live.iter().filter(differs).count() as u64;
            if conflicting > 0 {
                node.counters.conflicting += conflicting;
                if index == network.own() {
                    node.report_generation_conflict();
                }
            }
            let live: BTreeSet<u64> = live.iter().map(|&(number, _)| number).collect();
            let superseded: Vec<u64> = held
                .live()
                .range(span.low, span.high)
                .map(|(number, _)| number)
                .filter(|number| seen.contains(*number) && !live.contains(number))
                .collect();
            // The peer knows which of its own writes are superseded, whatever it refuses.
            let of_peer = held.tag.owner.name == progress.peer;
            for number in superseded {
                let dot = (index, number);
                let refused_there =
                    || live_key(&network.store, dot).is_some_and(|key| refused_keys.contains(&key));
                if self.lacks_attachments
                    || network.refusals.withholds(&network.store, dot)
                    || (!of_peer && refused_there())
                {
                    node.counters.superseded_withheld += 1;
                    continue;
                }
                if let Some(record) = network.store.drop_superseded(index, number, &mut node.watchers) {
                    dropped.entry(index).or_insert((0, record)).0 += 1;
                }
            }
        }
        for (index, (superseded, example)) in dropped {
            node.counters.superseded_dropped += superseded;
            node.counters.superseded_own_dropped += if index == network.own() { superseded } else { 0 };
            progress.note_applied(Applied { superseded, ..Applied::default() }, node);
            log_dropped(progress, network, index, superseded, &example);
        }
        Ok(())
    }
}

/// No write names the node that caused a dropped entry, so the log has to.
fn log_dropped(
    progress: &Progress,
    network: &Network,
    index: AttachmentIndex,
    entries: u64,
    example: &Record,
) {
    let shown = |text: &str| text.chars().take(LOGGED_KEY).collect::<String>();
    tracing::info!(
        network = &*network.name,
        peer = progress.peer.as_str(),
        owner = network.store.attachment(index).map(|held| held.tag.owner.name.as_str()),
        entries,
        table = shown(&network.store.table_of(example).name),
        key = shown(example.key()),
        "dropped entries that a peer reported as superseded"
    );
}

/// The spans compared first: all numbers; but while refused writes leave gaps, only the ranges that were
/// seen, else the peer would send every live number in the gaps.
fn spans_of(held: &Attachment) -> Vec<(u64, u64)> {
    match held.seen().as_slice() {
        seen if held.has_refused() && seen.len() <= SPANS_PER_ROUND => seen.to_vec(),
        _ => vec![(1, held.seen().highest())],
    }
}

fn live_digest(store: &Store, index: AttachmentIndex, low: u64, high: u64) -> u64 {
    match store.attachment(index) {
        None => 0,
        Some(held) if low == 1 && high >= held.seen().highest() => held.live_digest(),
        Some(held) => held.live_within(low, high).0,
    }
}

/// Read in one step: seen and live numbers of different moments would make live entries look superseded.
fn exact(store: &Store, index: AttachmentIndex, span: Span) -> Option<SpanState> {
    let held = store.attachment(index)?;
    let live: Vec<(u64, u32)> = held
        .live()
        .range(span.low, span.high)
        .map(|(number, record)| (number, record.digest()))
        .take(EXACT_LIVE + 1)
        .collect();
    if live.len() > EXACT_LIVE {
        return None;
    }
    let seen = held.seen().within(span.low, span.high);
    if seen.as_slice().len() > EXACT_RANGES {
        return None;
    }
    Some(SpanState::Exact { span, seen: seen.as_slice().to_vec(), live })
}

fn parts(store: &Store, index: AttachmentIndex, span: Span) -> SpanState {
    let width = (span.high - span.low) / PARTS + 1;
    let mut parts = Vec::new();
    let mut low = span.low;
    while low <= span.high {
        let high = span.high.min(low + (width - 1));
        let part = Span { attachment: span.attachment, low, high };
        parts.push((part, live_digest(store, index, low, high)));
        low = high + 1;
    }
    SpanState::Parts(parts)
}

/// Joins adjacent ranges, given in ascending order.
fn join_adjacent(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(low, high) in ranges {
        match joined.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(low) => last.1 = high,
            _ => joined.push((low, high)),
        }
    }
    joined
}
