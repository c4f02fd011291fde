//! The OpenAPI document: made from the handlers, completed with what is the same for all calls, and with the problems
//! that each call names by their codes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;
use utoipa::openapi::OpenApi;

use crate::problem::{PROBLEM_JSON, Problem, ProblemCode, ProblemDocument};

/// The member of an operation with the codes of its own problems, as the handlers write it.
const PROBLEMS: &str = "x-problems";

/// The path of an entry without its key, below `/v1`.
pub(super) const ENTRIES_PATH: &str = "/networks/{network}/tables/{table}/entries";

/// The problems of every call.
const OF_ALL: &[ProblemCode] = &[
    ProblemCode::MalformedRequest,
    ProblemCode::InvalidHost,
    ProblemCode::UnknownParameter,
    ProblemCode::DuplicateParameter,
    ProblemCode::InvalidParameter,
    ProblemCode::TokenRequired,
    ProblemCode::UnknownToken,
    ProblemCode::RoleRequired,
    ProblemCode::OutsideLimits,
    ProblemCode::ForeignHost,
    ProblemCode::ForeignPage,
    ProblemCode::RequestTimeout,
    ProblemCode::BodyTooLarge,
    ProblemCode::UriTooLong,
    ProblemCode::HeadTooLarge,
    ProblemCode::TooManyConnections,
    ProblemCode::TooManyRequests,
    ProblemCode::TooManyBodies,
];

/// Those that a call without a token does not have.
const OF_TOKENS: &[ProblemCode] = &[
    ProblemCode::TokenRequired,
    ProblemCode::UnknownToken,
    ProblemCode::RoleRequired,
    ProblemCode::OutsideLimits,
];

/// What holds for all calls.
const DESCRIPTION: &str = "The API of a networkdb node. Values are bytes; names and keys are UTF-8, escaped in a path. \
    A query parameter that a call does not have, or that is there twice, is an error. Every error is a problem document \
    (RFC 9457) whose code is one of a fixed list. HEAD is answered wherever GET is. A list that takes a limit names its \
    next part in the header Link, with rel=\"next\".";

/// The whole document. `handlers` has the paths below `/v1`, and `beside` those that are not.
///
/// # Panics
/// If a handler names a code that does not exist, or a header of a response that has no meaning.
pub(super) fn complete(handlers: &OpenApi, beside: &OpenApi) -> Value {
    let mut document = serde_json::to_value(handlers).expect("the document has a JSON form");
    document["info"] = json!({
        "title": "networkdb",
        "description": DESCRIPTION,
        "version": env!("CARGO_PKG_VERSION"),
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["components"]["schemas"]["Problem"] =
        serde_json::to_value(ProblemDocument::schema()).expect("a schema has a JSON form");
    document["components"]["securitySchemes"] = json!({ "token": { "type": "http", "scheme": "bearer" } });
    document["security"] = json!([{}, { "token": [] }]);
    let mut paths = Map::new();
    let beside = serde_json::to_value(&beside.paths).expect("paths have a JSON form");
    let below = members(document["paths"].take()).into_iter().map(|path| ("/v1", path));
    for (prefix, (path, mut item)) in below.chain(members(beside).into_iter().map(|path| ("", path))) {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            describe_headers(operation);
            describe_problems(operation, &format!("{method} {path}"), path.contains('{'));
        }
        if path.contains("{key}") {
            paths.insert(format!("{prefix}{}", path.replace("{key}", "")), of_the_empty_key(&item));
        }
        paths.insert(format!("{prefix}{}", if path == "/" { "" } else { &path }), item);
    }
    document["paths"] = paths.into();
    document
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Describes the headers of the responses, which mean the same for every call. A list that takes a limit names its next
/// part.
fn describe_headers(operation: &mut Value) {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let is_list = parameters.into_iter().any(|parameter| parameter["name"] == "limit");
    if is_list {
        operation["responses"]["200"]["headers"]["Link"] =
            json!({ "schema": { "type": ["string", "null"] } });
    }
    let responses = operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let headers = responses.filter_map(|response| response.get_mut("headers")?.as_object_mut()).flatten();
    for (name, header) in headers {
        header["description"] = meaning(name).into();
    }
}

/// What a header of a response means.
fn meaning(header: &str) -> &'static str {
    match header {
        "ETag" => "The version of the entry, in double quotes",
        "Link" => "The address of the next part with rel=\"next\"; absent from the last part",
        "Location" => "The path of what is new",
        "x-networkdb-owner" => "The owner, beside the bytes of a value",
        other => panic!("the header {other} has no meaning"),
    }
}

/// Replaces the codes in an operation by the responses with them.
fn describe_problems(operation: &mut Value, call: &str, has_names: bool) {
    let own = operation.as_object_mut().and_then(|operation| operation.remove(PROBLEMS));
    let own = own.as_ref().and_then(Value::as_array).into_iter().flatten().map(|code| {
        let known = ProblemCode::ALL.iter().find(|known| code.as_str() == Some(known.as_str()));
        *known.unwrap_or_else(|| panic!("{call} names the code {code}, which does not exist"))
    });
    let names = has_names.then_some(ProblemCode::InvalidPath);
    let mut codes = own.chain(OF_ALL.iter().copied()).chain(names).collect::<Vec<_>>();
    if !operation["security"].is_null() {
        codes.retain(|code| !OF_TOKENS.contains(code));
    }
    codes.sort_unstable();
    codes.dedup();
    let mut by_status = BTreeMap::<u16, Vec<ProblemCode>>::new();
    for code in codes {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = response(&codes);
    }
}

/// The response with one of these codes.
fn response(codes: &[ProblemCode]) -> Value {
    let names = codes.iter().map(|code| code.as_str()).collect::<Vec<_>>();
    let lines = codes.iter().map(|code| format!("- `{}`: {}", code.as_str(), code.title()));
    let examples = codes.iter().map(|&code| {
        let example = Problem::new(code, code.title()).document();
        (code.as_str().to_owned(), json!({ "value": example }))
    });
    let schema = json!({
        "allOf": [{ "$ref": "#/components/schemas/Problem" }, { "properties": { "code": { "enum": names } } }],
    });
    json!({
        "description": lines.collect::<Vec<_>>().join("\n"),
        "content": { PROBLEM_JSON: { "schema": schema, "examples": examples.collect::<Map<_, _>>() } },
    })
}

/// A key may be empty, but a parameter in a path may not.
fn of_the_empty_key(item: &Value) -> Value {
    let mut item = item.clone();
    for operation in item.as_object_mut().into_iter().flatten().map(|(_, operation)| operation) {
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.retain(|parameter| parameter["name"] != "key");
        }
        let name = operation["operationId"].as_str().unwrap_or_default();
        operation["operationId"] = format!("{name}_of_the_empty_key").into();
        let summary = operation["summary"].as_str().unwrap_or_default();
        operation["summary"] = format!("{summary}: the empty key").into();
    }
    item
}

/// Every call of a document: its method, its path and its operation.
pub(super) fn calls(document: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    document["paths"].as_object().into_iter().flatten().flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
