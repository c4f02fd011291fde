//! Receipts: a write is answered when enough members have it, or with those of which that is not known.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::Uri;
use hyper::header::{ETAG, LOCATION};
use networkdb::{KnownBy, Missing, Node, Receipt};
use tabledb::Version;
use utoipa::IntoParams;

use super::inquiries::{WITHIN, within};
use super::inquiry_model::no_answer_word;
use super::model::{MissingView, ReceiptView, WriteOutcome};
use super::parameters::{FromParameters, Given};
use crate::problem::{Problem, ProblemCode, entity_tag};

/// Which members are to have a write before it is answered.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReceiptParameters {
    /// How many members are to have the write before the answer: `all` of the network, the `majority`, or a number,
    /// each with this node counted. If too few have it in time, the answer is 202.
    #[param(value_type = Option<String>, pattern = "^(all|majority|[1-9][0-9]*)$", example = "majority")]
    known_by: Option<KnownBy>,
    /// How long to wait for that, from 1ms to 20s.
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s)$", example = "2s")]
    within: Duration,
}

impl FromParameters for ReceiptParameters {
    const KNOWN: &'static [&'static str] = &["known_by", "within"];

    fn read(given: &Given) -> Result<Self, Problem> {
        let known_by = given.parsed("known_by", "all, majority and a number from 1")?;
        let within = within(given)?;
        if known_by.is_none() && within.is_some() {
            let sentence =
                "the parameter within is for the receipt that known_by asks for, which is not there";
            return Err(Problem::new(ProblemCode::InvalidParameter, sentence));
        }
        Ok(Self { known_by, within: within.unwrap_or(WITHIN) })
    }
}

/// What a write did.
pub(super) enum Written<'a> {
    /// There is a new entry at this address.
    Created(&'a Uri),
    Replaced,
    Deleted,
}

impl ReceiptParameters {
    /// The response to a write of this version, after the members that are to have it have it, or the time is over.
    pub(super) async fn respond(
        &self,
        node: &Node,
        network: &str,
        version: Version,
        written: Written<'_>,
    ) -> Response {
        let receipt = match self.known_by {
            Some(known_by) => Some(self.receipt(node, network, version, known_by).await),
            None => None,
        };
        let status = match (&receipt, &written) {
            (Some(receipt), _) if receipt.known_by.len() < receipt.wanted => StatusCode::ACCEPTED,
            (None, Written::Deleted) => return StatusCode::NO_CONTENT.into_response(),
            (_, Written::Created(_)) => StatusCode::CREATED,
            (_, Written::Replaced | Written::Deleted) => StatusCode::OK,
        };
        let outcome = Json(WriteOutcome { version: version.to_string(), receipt });
        let tag = [(ETAG, entity_tag(version))];
        match written {
            Written::Created(uri) => (status, [(LOCATION, uri.path())], tag, outcome).into_response(),
            Written::Replaced => (status, tag, outcome).into_response(),
            // A delete leaves no entry that could have a tag.
            Written::Deleted => (status, outcome).into_response(),
        }
    }

    async fn receipt(&self, node: &Node, network: &str, version: Version, known_by: KnownBy) -> ReceiptView {
        let me = node.id().name;
        match node.await_known(network, version, known_by, self.within).await {
            Ok(receipt) => ReceiptView::from(&receipt),
            // The write is made all the same.
            Err(error) => {
                let members = node.tables().network_peers(network);
                let wanted = known_by.of(members.len());
                let others = members.iter().filter(|member| **member != me);
                let missing = others.map(|member| MissingView {
                    member: member.to_string(),
                    reason: "not_asked".to_owned(),
                    explanation: error.to_string(),
                });
                ReceiptView { wanted, known_by: vec![me.to_string()], missing: missing.collect() }
            }
        }
    }
}

impl From<&Receipt> for ReceiptView {
    fn from(receipt: &Receipt) -> Self {
        let missing = receipt.missing.iter().map(|(member, why)| {
            let reason = match why {
                Missing::NotArrived => "not_arrived",
                Missing::Refused => "refused",
                Missing::NoAnswer(why) => no_answer_word(*why),
                _ => "invalid",
            };
            MissingView {
                member: member.to_string(),
                reason: reason.to_owned(),
                explanation: why.to_string(),
            }
        });
        Self {
            wanted: receipt.wanted,
            known_by: receipt.known_by.iter().map(ToString::to_string).collect(),
            missing: missing.collect(),
        }
    }
}
