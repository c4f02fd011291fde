//! Tables and their entries: list, read, write, export, import.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use tabledb::{Entry, TableDb};

use super::import::import;
use super::model::{EntryRecord, ImportMode, TableView};
use super::refused::{Names, Refused};
use super::stream::HEADERS;
use crate::guard::{Guard, Held, peer};
use crate::query::Query;
use crate::streamed::{items, json, json_list};

/// The header that names an entry's owner when its value is sent as it is.
const OWNER_HEADER: &str = "x-networkdb-owner";

/// The routes below `/networks/{network}/tables`.
pub(super) fn router(db: TableDb, guard: Arc<Guard>) -> Router {
    let large = Router::new()
        .route("/networks/{network}/tables", get(list_tables))
        .route("/networks/{network}/tables/{table}/entries", get(export_table))
        .with_state((db.clone(), guard));
    Router::new()
        .route("/networks/{network}/tables/{table}/entries/{key}", one_entry())
        // An empty key is a key, but an empty part of a path is none.
        .route("/networks/{network}/tables/{table}/entries/", one_entry())
        .with_state(db)
        .merge(large)
}

/// The route of imports, whose bodies are read in lines, however long they are.
pub(super) fn import_router(db: TableDb, guard: Arc<Guard>) -> Router {
    let path = "/networks/{network}/tables/{table}/entries";
    Router::new().route(path, post(import_table)).with_state((db, guard))
}

fn one_entry() -> MethodRouter<TableDb> {
    get(show_entry).post(create_entry).put(update_entry).delete(delete_entry)
}

/// Which entry a path names.
#[derive(Deserialize)]
struct Place {
    network: String,
    table: String,
    #[serde(default)]
    key: String,
}

async fn list_tables(
    State((db, guard)): State<(TableDb, Arc<Guard>)>,
    Extension(held): Extension<Held>,
    Names(network): Names<String>,
) -> Result<Response, Refused> {
    require_joined(&db, &network)?;
    let counting = move |gone: &AtomicBool| db.table_counts_while(&network, || !gone.load(Ordering::Relaxed));
    let (counts, permit) = guard.large_answer(&held, counting).await?;
    let body = json_list(None, "tables", counts.unwrap_or_default(), move |(table, entries)| {
        let _permit = &permit;
        Some(TableView { table: table.to_string(), entries })
    });
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

async fn export_table(
    State((db, guard)): State<(TableDb, Arc<Guard>)>,
    Extension(held): Extension<Held>,
    Names((network, table)): Names<(String, String)>,
) -> Result<Response, Refused> {
    require_joined(&db, &network)?;
    // The list holds pointers to keys and values, not copies; only what is being sent is ever spelled out.
    let listing =
        move |gone: &AtomicBool| db.entries_while(&network, &table, || !gone.load(Ordering::Relaxed));
    let (entries, permit) = guard.large_answer(&held, listing).await?;
    let write = move |piece: &mut Vec<u8>, _index, entry: Entry| {
        let _permit = &permit;
        json(piece, &EntryRecord::from(&entry));
        piece.push(b'\n');
    };
    Ok((HEADERS, items(Vec::new(), entries.unwrap_or_default(), write, Vec::new())).into_response())
}

async fn import_table(
    State((db, guard)): State<(TableDb, Arc<Guard>)>,
    Names((network, table)): Names<(String, String)>,
    request: Request,
) -> Result<Response, Refused> {
    require_joined(&db, &network)?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let mode = match query.bytes("mode") {
        None | Some(b"upsert") => ImportMode::Upsert,
        Some(b"create") => ImportMode::Create,
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let sentence =
                format_args!("the mode {other} is unknown; upsert (the default) and create are known");
            return Err(Refused::new(StatusCode::BAD_REQUEST, sentence));
        }
    };
    let _permit = guard.import(peer(&request))?;
    Ok(Json(import(&db, &network, &table, mode, request.into_body(), &guard).await?).into_response())
}

async fn show_entry(
    State(db): State<TableDb>,
    Names(Place { network, table, key }): Names<Place>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    require_joined(&db, &network)?;
    let entry = db.get(&network, &table, &key).ok_or_else(|| {
        let sentence = format_args!("table {table} of network {network} has no entry under the key {key}");
        Refused::new(StatusCode::NOT_FOUND, sentence)
    })?;
    if !Query::parse(query.as_deref().unwrap_or_default()).has("raw") {
        return Ok(Json(EntryRecord::from(&entry)).into_response());
    }
    let mut response = entry.value.to_vec().into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "application/octet-stream".parse().expect("it is a media type"));
    // A node's name has no control characters, but it may have others that a header cannot carry.
    if let Ok(owner) = entry.owner.as_str().parse() {
        response.headers_mut().insert(OWNER_HEADER, owner);
    }
    Ok(response)
}

async fn create_entry(
    State(db): State<TableDb>,
    Names(Place { network, table, key }): Names<Place>,
    value: Bytes,
) -> Result<StatusCode, Refused> {
    db.create(&network, &table, &key, &*value)?;
    Ok(StatusCode::CREATED)
}

async fn update_entry(
    State(db): State<TableDb>,
    Names(Place { network, table, key }): Names<Place>,
    value: Bytes,
) -> Result<StatusCode, Refused> {
    db.update(&network, &table, &key, &*value)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_entry(
    State(db): State<TableDb>,
    Names(Place { network, table, key }): Names<Place>,
) -> Result<StatusCode, Refused> {
    db.delete(&network, &table, &key)?;
    Ok(StatusCode::NO_CONTENT)
}

fn require_joined(db: &TableDb, network: &str) -> Result<(), Refused> {
    db.statistics(network).map(drop).ok_or_else(|| Refused::not_joined(network))
}
