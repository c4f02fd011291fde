//! The documentation as a page: made from the OpenAPI document, without scripts and without another origin.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::openapi::calls;
use crate::problem::ProblemCode;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
    color-scheme:light dark}code{font-size:.95em}table{border-collapse:collapse;width:100%}\
    td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}summary{cursor:pointer}\
    details{border-top:1px solid #8884;padding:.4rem 0}:target{background:#fc04}";

/// The header Content-Security-Policy of the page: it may load nothing, and be styled by itself.
pub(super) fn policy() -> String {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page of a document.
pub(super) fn page(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>networkdb: HTTP API</title><style>{STYLE}</style>\
         <h1>networkdb: HTTP API</h1><p>{}</p><p><a href=\"/v1/openapi.json\">OpenAPI document</a>, version {}</p>",
        text(&document["info"]["description"]),
        text(&document["info"]["version"])
    );
    page.push_str("<h2>Calls</h2>");
    for (method, path, operation) in calls(document) {
        add_call(&mut page, &method, path, operation);
    }
    page.push_str("<h2>Problems</h2><table><tr><th>Code<th>Status<th>Meaning");
    for code in ProblemCode::ALL {
        let (name, status, title) = (code.as_str(), code.status().as_u16(), escaped(code.title()));
        add(&mut page, format_args!("<tr id=\"{name}\"><td><code>{name}</code><td>{status}<td>{title}"));
    }
    page.push_str("</table><h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escaped(name);
        let description = text(&schema["description"]);
        add(&mut page, format_args!("<h3 id=\"schema-{name}\">{name}</h3><p>{description}</p><table>"));
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let (field, description) = (escaped(field), text(&schema["description"]));
            let kind = kind(schema);
            add(&mut page, format_args!("<tr><td><code>{field}</code><td>{kind}<td>{description}"));
        }
        page.push_str("</table>");
    }
    page.push_str("</html>");
    page
}

fn add_call(page: &mut String, method: &str, path: &str, operation: &Value) {
    let (path, summary) = (escaped(path), text(&operation["summary"]));
    let description = text(&operation["description"]);
    add(
        page,
        format_args!(
            "<details><summary><code>{method} {path}</code> {summary}</summary><p>{description}</p><table>"
        ),
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let (kind, description) = (kind(&parameter["schema"]), text(&parameter["description"]));
        add(page, format_args!("<tr><td><code>{name}</code><td>{place}<td>{kind}<td>{description}"));
    }
    page.push_str("</table><table>");
    add_content(page, "body", &operation["requestBody"]);
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        add_content(page, status, response);
    }
    page.push_str("</table></details>");
}

/// A row for a body and its content.
fn add_content(page: &mut String, what: &str, body: &Value) {
    if body.is_null() {
        return;
    }
    let contents = body["content"].as_object().into_iter().flatten();
    let contents = contents.map(|(media, content)| {
        let kind = if media.contains("problem") { String::new() } else { kind(&content["schema"]) };
        format!("{} {kind}", escaped(media))
    });
    let contents = contents.collect::<Vec<_>>().join("<br>");
    let description = text(&body["description"]).replace('\n', "<br>");
    add(page, format_args!("<tr><td>{what}<td>{contents}<td>{description}"));
}

/// The type of a schema, with a link to its description if it has one.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(text).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", self::kind(&schema["items"])),
        Value::Array(kinds) => text(kinds.first().unwrap_or(&Value::Null)),
        kind => text(kind),
    }
}

fn add(page: &mut String, part: std::fmt::Arguments<'_>) {
    page.write_fmt(part).expect("writing to memory cannot fail");
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
