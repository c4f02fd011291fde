//! Tables and their entries: list, read, write, export, import.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{OriginalUri, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};
use tabledb::{Listed, Listing, TableDb, Version, WriteError};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::import::import;
use super::model::{EntryRecord, HiddenMode, ImportMode, ImportOutcome, TableView, Tables, WriteOutcome};

use super::openapi::ENTRIES_PATH;
use super::page::Page;
use super::parameters::{FromParameters, Given, Parameters};
use super::places::{EntryPath, NetworkPath, TablePath};
use super::precondition::{OnlyIfNone, OnlyIfVersion, Precondition, is_known};
use super::receipts::{ReceiptParameters, Written};
use crate::admission::{Admission, RequestPermits};
use crate::client_origin::client_origin;
use crate::problem::{Names, Problem, ProblemCode, entity_tag};
use crate::streamed::{JSON_LINES, items, json, json_list};
use networkdb::Node;

/// The header with an entry's owner in a response that contains the raw value.
const OWNER_HEADER: &str = "x-networkdb-owner";

/// The routes below `/networks/{network}/tables`.
pub(super) fn router(node: Node, admission: Arc<Admission>) -> OpenApiRouter {
    let large = OpenApiRouter::new()
        .routes(routes!(list_tables))
        .routes(routes!(export_table))
        .with_state((node.tables().clone(), admission));
    // A key may be empty, but a path parameter may not.
    let path = format!("{}/", ENTRIES_PATH);
    let (schemas, paths, one_entry) = routes!(show_entry, create_entry, put_entry, delete_entry);
    OpenApiRouter::new()
        .route(&path, one_entry.clone())
        .routes((schemas, paths, one_entry))
        .with_state(node)
        .merge(large)
}

/// The route of imports, whose bodies are read line by line and may have any length.
pub(super) fn import_router(db: TableDb, admission: Arc<Admission>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(import_table)).with_state((db, admission))
}

/// List the tables of a network
///
/// With the number of visible entries of each, sorted by name.
#[utoipa::path(
    get,
    path = "/networks/{network}/tables",
    tag = "entries",
    params(NetworkPath, Page),
    responses((status = 200, description = "The tables", body = Tables)),
    extensions(("x-problems" = json!(["network_not_joined", "internal_error", "too_many_large_responses"]))),
)]
async fn list_tables(
    State((db, admission)): State<(TableDb, Arc<Admission>)>,
    Extension(permits): Extension<RequestPermits>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    Parameters(page): Parameters<Page>,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    require_joined(&db, &network)?;
    let counting = move |gone: &AtomicBool| db.table_counts_while(&network, || !gone.load(Ordering::Relaxed));
    let (counts, permit) = admission.large_response(&permits, counting).await?;
    let (counts, next) = page.of(&uri, counts.unwrap_or_default(), |(table, _)| table);
    let body = json_list(None, "tables", counts, move |(table, entries)| {
        let _permit = &permit;
        Some(TableView { table: table.to_string(), entries })
    });
    Ok((next, [(CONTENT_TYPE, "application/json")], body).into_response())
}

/// Which entries of a table to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParameters {
    #[param(ignore)]
    page: Page,
    /// Whether to list entries that readers do not see, with the reason.
    #[param(value_type = Option<HiddenMode>, inline)]
    hidden: bool,
}

impl FromParameters for ListParameters {
    const KNOWN: &'static [&'static str] = &["prefix", "after", "limit", "hidden"];

    fn read(given: &Given) -> Result<Self, Problem> {
        let hidden: Option<HiddenMode> = given.parsed("hidden", "include and exclude (the default)")?;
        Ok(Self { page: Page::read(given)?, hidden: hidden == Some(HiddenMode::Include) })
    }
}

/// List the entries of a table, a JSON line each
///
/// Sorted by key. What it sends can be imported.
#[utoipa::path(
    get,
    path = "/networks/{network}/tables/{table}/entries",
    tag = "entries",
    params(TablePath, Page, ListParameters),
    responses((
        status = 200, description = "An entry on each line", body = EntryRecord,
        content_type = "application/x-ndjson"
    )),
    extensions(("x-problems" = json!(["network_not_joined", "internal_error", "too_many_large_responses"]))),
)]
async fn export_table(
    State((db, admission)): State<(TableDb, Arc<Admission>)>,
    Extension(permits): Extension<RequestPermits>,
    Names(TablePath { network, table }): Names<TablePath>,
    Parameters(ListParameters { page, hidden }): Parameters<ListParameters>,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    require_joined(&db, &network)?;
    // The list holds pointers to keys and values, not copies. Only the chunk that is being sent is rendered.
    let listing = move |gone: &AtomicBool| {
        let Page { prefix, after, limit } = &page;
        let part = Listing { prefix, after: after.as_deref(), limit: *limit, hidden };
        let (part, more) = db.list(&network, &table, part, || !gone.load(Ordering::Relaxed))?;
        let parameters = if hidden { "&hidden=include" } else { "" };
        let last = part.last().filter(|_| more);
        let next = last.map(|last| page.next(&uri, last.entry.key(), parameters));
        Some((next, part))
    };
    let (listed, permit) = admission.large_response(&permits, listing).await?;
    let (next, entries) = listed.unwrap_or_default();
    let write = move |chunk: &mut Vec<u8>, _index, listed: Listed| {
        let _permit = &permit;
        json(chunk, &EntryRecord::from(&listed));
        chunk.push(b'\n');
    };
    Ok((next, JSON_LINES, items(Vec::new(), entries, write, Vec::new())).into_response())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ImportParameters {
    /// What to do with a key that exists.
    #[param(value_type = Option<ImportMode>, inline)]
    mode: ImportMode,
}

impl FromParameters for ImportParameters {
    const KNOWN: &'static [&'static str] = &["mode"];

    fn read(given: &Given) -> Result<Self, Problem> {
        let mode = given.parsed("mode", "upsert (the default) and create")?;
        Ok(Self { mode: mode.unwrap_or_default() })
    }
}

/// Import entries, a JSON line each
///
/// The body may have any length. Lines that are not valid are counted, and the others imported.
#[utoipa::path(
    post,
    path = "/networks/{network}/tables/{table}/entries",
    tag = "entries",
    params(TablePath, ImportParameters),
    request_body(
        content = EntryRecord,
        content_type = "application/x-ndjson",
        description = "An entry on each line",
    ),
    responses((status = 200, description = "What became of the lines", body = ImportOutcome)),
    extensions(("x-problems" = json!(["incomplete_body", "network_not_joined", "too_many_imports"]))),
)]
async fn import_table(
    State((db, admission)): State<(TableDb, Arc<Admission>)>,
    Names(TablePath { network, table }): Names<TablePath>,
    Parameters(ImportParameters { mode }): Parameters<ImportParameters>,
    request: Request,
) -> Result<Response, Problem> {
    require_joined(&db, &network)?;
    let _permit = admission.import(client_origin(&request))?;
    Ok(Json(import(&db, &network, &table, mode, request.into_body(), &admission).await?).into_response())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct EntryParameters {
    /// Whether the answer is the bytes of the value.
    #[param(value_type = Option<bool>)]
    raw: bool,
}

impl FromParameters for EntryParameters {
    const KNOWN: &'static [&'static str] = &["raw"];

    fn read(given: &Given) -> Result<Self, Problem> {
        Ok(Self { raw: given.flag("raw")? })
    }
}

/// Show an entry
///
/// As JSON, or the bytes of its value.
#[utoipa::path(
    get,
    path = "/networks/{network}/tables/{table}/entries/{key}",
    tag = "entries",
    params(
        EntryPath,
        EntryParameters,
        ("If-None-Match" = Option<String>, Header, description = "Versions that the reader has, each in double quotes"),
    ),
    responses(
        (
            status = 200, description = "The entry",
            headers(("ETag" = String), ("x-networkdb-owner" = Option<String>)),
            content((EntryRecord = "application/json"), (Vec<u8> = "application/octet-stream"))
        ),
        (status = 304, description = "The reader has this version", headers(("ETag" = String))),
    ),
    extensions(("x-problems" = json!(["network_not_joined", "entry_not_found"]))),
)]
async fn show_entry(
    State(node): State<Node>,
    Names(EntryPath { network, table, key }): Names<EntryPath>,
    Parameters(EntryParameters { raw }): Parameters<EntryParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let db = node.tables();
    require_joined(db, &network)?;
    let entry = db.get(&network, &table, &key).ok_or_else(|| {
        let sentence = format_args!("entry {key} of table {table} in network {network} does not exist");
        Problem::new(ProblemCode::EntryNotFound, sentence)
    })?;
    let tag = tag(entry.version());
    if is_known(&headers, entry.version()) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    if !raw {
        return Ok((tag, Json(EntryRecord::from(&entry))).into_response());
    }
    let mut response = (tag, entry.value().to_vec()).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "application/octet-stream".parse().expect("it is a media type"));
    // A node's name has no control characters, but it may have other characters that a header cannot contain.
    if let Ok(owner) = entry.owner().as_str().parse() {
        response.headers_mut().insert(OWNER_HEADER, owner);
    }
    Ok(response)
}

/// The header with an entry's version.
fn tag(version: Version) -> [(HeaderName, String); 1] {
    [(ETAG, entity_tag(version))]
}

/// Create an entry
#[utoipa::path(
    post,
    path = "/networks/{network}/tables/{table}/entries/{key}",
    tag = "entries",
    params(EntryPath, OnlyIfNone, ReceiptParameters),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The value"),
    responses(
        (
            status = 201, description = "It is new", body = WriteOutcome,
            headers(("ETag" = String), ("Location" = String))
        ),
        (
            status = 202, description = "It is new, and too few members are known to have it", body = WriteOutcome,
            headers(("ETag" = String), ("Location" = String))
        ),
    ),
    extensions(("x-problems" = json!([
        "network_not_joined", "invalid_precondition", "invalid_length", "precondition_failed",
        "value_too_large", "network_full", "entry_exists",
    ]))),
)]
async fn create_entry(
    State(node): State<Node>,
    Names(EntryPath { network, table, key }): Names<EntryPath>,
    Parameters(parameters): Parameters<ReceiptParameters>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    value: Bytes,
) -> Result<Response, Problem> {
    let condition = Precondition::of(&headers)?;
    let created = match condition {
        Precondition::None | Precondition::Absent => node.tables().create(&network, &table, &key, &*value),
        Precondition::Present | Precondition::Version(_) => return Err(condition.unsupported(&Method::POST)),
    };
    let version = created.map_err(|error| condition.refused(error))?;
    Ok(parameters.respond(&node, &network, version, Written::Created(&uri)).await)
}

/// Create or replace an entry, whichever node wrote it
#[utoipa::path(
    put,
    path = "/networks/{network}/tables/{table}/entries/{key}",
    tag = "entries",
    params(EntryPath, OnlyIfVersion, OnlyIfNone, ReceiptParameters),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The value"),
    responses(
        (
            status = 201, description = "It is new", body = WriteOutcome,
            headers(("ETag" = String), ("Location" = String))
        ),
        (status = 200, description = "It is replaced", body = WriteOutcome, headers(("ETag" = String))),
        (
            status = 202, description = "It is written, and too few members are known to have it", body = WriteOutcome,
            headers(("ETag" = String), ("Location" = Option<String>))
        ),
    ),
    extensions(("x-problems" = json!([
        "network_not_joined", "invalid_precondition", "invalid_length", "precondition_failed",
        "value_too_large", "network_full",
    ]))),
)]
async fn put_entry(
    State(node): State<Node>,
    Names(EntryPath { network, table, key }): Names<EntryPath>,
    Parameters(parameters): Parameters<ReceiptParameters>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    value: Bytes,
) -> Result<Response, Problem> {
    let condition = Precondition::of(&headers)?;
    let db = node.tables();
    let (created, version) = match condition {
        Precondition::Absent => (true, db.create(&network, &table, &key, &*value)),
        Precondition::Present => (false, db.update(&network, &table, &key, &*value)),
        Precondition::Version(expected) => {
            (false, db.compare_and_set(&network, &table, &key, expected, &*value))
        }
        Precondition::None => create_or_replace(db, &network, &table, &key, &value),
    };
    let version = version.map_err(|error| condition.refused(error))?;
    let written = if created { Written::Created(&uri) } else { Written::Replaced };
    Ok(parameters.respond(&node, &network, version, written).await)
}

/// Writes an entry, and returns whether it is new.
fn create_or_replace(
    db: &TableDb,
    network: &str,
    table: &str,
    key: &str,
    value: &[u8],
) -> (bool, Result<Version, WriteError>) {
    loop {
        match db.update(network, table, key, value) {
            Err(WriteError::NotFound { .. }) => {}
            replaced => return (false, replaced),
        }
        match db.create(network, table, key, value) {
            // Another caller created it meanwhile.
            Err(WriteError::AlreadyExists { .. }) => {}
            created => return (true, created),
        }
    }
}

/// Delete an entry, whichever node wrote it
#[utoipa::path(
    delete,
    path = "/networks/{network}/tables/{table}/entries/{key}",
    tag = "entries",
    params(EntryPath, OnlyIfVersion, ReceiptParameters),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 200, description = "It is deleted, and as many members have the delete", body = WriteOutcome),
        (status = 202, description = "It is deleted, and too few members are known to have the delete", body = WriteOutcome),
    ),
    extensions(("x-problems" = json!([
        "network_not_joined", "invalid_precondition", "invalid_length", "entry_not_found",
        "precondition_failed", "network_full",
    ]))),
)]
async fn delete_entry(
    State(node): State<Node>,
    Names(EntryPath { network, table, key }): Names<EntryPath>,
    Parameters(parameters): Parameters<ReceiptParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let condition = Precondition::of(&headers)?;
    let db = node.tables();
    let deleted = match condition {
        Precondition::Absent => return Err(condition.unsupported(&Method::DELETE)),
        Precondition::None | Precondition::Present => db.delete(&network, &table, &key),
        Precondition::Version(expected) => db.compare_and_delete(&network, &table, &key, expected),
    };
    let version = deleted.map_err(|error| condition.refused(error))?;
    Ok(parameters.respond(&node, &network, version, Written::Deleted).await)
}

fn require_joined(db: &TableDb, network: &str) -> Result<(), Problem> {
    db.statistics(network).map(drop).ok_or_else(|| Problem::not_joined(network))
}
