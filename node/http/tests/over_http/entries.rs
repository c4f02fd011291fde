//! Entries: their versions, conditional writes, and how a join went.

use http_client_for_tests::Response;
use networkdb_http::HttpConfig;
use networkdb_http::v1::model::NetworkView;
use serde_json::{Value, json};

use super::host::Host;

const ENTRY: &str = "/v1/networks/net/tables/t/entries/k";

async fn alone(name: &str) -> Host {
    Host::off_networks(name, HttpConfig::default(), None).await
}

/// The version in the `ETag`.
fn version(response: &Response) -> String {
    let tag = response.head.lines().find_map(|line| line.strip_prefix("etag: "));
    let tag = tag.unwrap_or_else(|| panic!("no etag in {response:?}"));
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or_else(|| panic!("{tag}")).to_owned()
}

fn location(response: &Response) -> String {
    let found = response.head.lines().find_map(|line| line.strip_prefix("location: "));
    found.unwrap_or_else(|| panic!("no location in {response:?}")).to_owned()
}

fn body(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("{response:?}"))
}

/// The status, and the version in the `ETag` and in the JSON.
fn refusal(response: &Response) -> (u16, String, Value) {
    (response.status, version(response), body(response)["version"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_shows_its_version_everywhere() {
    let host = Host::start(HttpConfig::default()).await;
    let created = host.ask("POST", ENTRY, "", "1").await;
    assert_eq!((created.status, location(&created)), (201, ENTRY.to_owned()));
    let first = version(&created);
    assert_eq!(body(&created), json!({ "version": first }));
    let updated = host.ask("PUT", ENTRY, "", "2").await;
    let second = version(&updated);
    assert_eq!((updated.status, body(&updated)), (200, json!({ "version": second })));
    assert_ne!(first, second);
    let found = host.node.tables().get("net", "t", "k").unwrap().version();
    assert_eq!(second, found.to_string());

    let record = json!({ "key": "k", "value": "2", "owner": "host", "version": second });
    let shown = host.ask("GET", ENTRY, "", "").await;
    assert_eq!((version(&shown), body(&shown)), (second.clone(), record.clone()));
    let raw = host.ask("GET", &format!("{ENTRY}?raw"), "", "").await;
    assert_eq!((version(&raw), raw.body.as_str()), (second.clone(), "2"));
    let all = host.ask("GET", "/v1/networks/net/tables/t/entries", "", "").await;
    assert_eq!(body(&all), record);

    let exists = host.ask("POST", ENTRY, "", "3").await;
    assert_eq!(refusal(&exists), (409, second.clone(), json!(second)), "{exists:?}");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_the_version_does_not_receive_it_again() {
    let host = Host::start(HttpConfig::default()).await;
    let first = version(&host.ask("POST", ENTRY, "", "1").await);
    let known = format!("if-none-match: \"{first}\"\r\n");
    for path in [ENTRY, &format!("{ENTRY}?raw")] {
        let same = host.ask("GET", path, &known, "").await;
        assert_eq!((same.status, same.body.as_str(), version(&same)), (304, "", first.clone()));
    }
    let second = version(&host.ask("PUT", ENTRY, "", "2").await);
    let other = host.ask("GET", ENTRY, &known, "").await;
    assert_eq!((other.status, version(&other)), (200, second));
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_replaces_and_deletes_only_the_version_that_it_names() {
    let host = Host::start(HttpConfig::default()).await;
    let read = || host.node.tables().get("net", "t", "k").map(|entry| entry.value().to_vec());
    let only = |version: &str| format!("if-match: \"{version}\"\r\n");
    let first = version(&host.ask("POST", ENTRY, "", "1").await);
    let replaced = host.ask("PUT", ENTRY, &only(&first), "2").await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let second = version(&replaced);

    let late = host.ask("PUT", ENTRY, &only(&first), "late").await;
    assert_eq!(refusal(&late), (412, second.clone(), json!(second)), "{late:?}");
    let sentence = format!(
        "entry k of table t in network net has version {second}, which is not the expected one; read it again"
    );
    assert_eq!(body(&late)["detail"], sentence);
    assert_eq!(body(&late)["code"], "precondition_failed");
    let late = host.ask("DELETE", ENTRY, &only(&first), "").await;
    assert_eq!(refusal(&late), (412, second.clone(), json!(second)), "{late:?}");
    assert_eq!(read().as_deref(), Some(&b"2"[..]));

    let present = host.ask("PUT", ENTRY, "if-match: *\r\n", "3").await;
    assert_eq!(present.status, 200, "{present:?}");
    let third = version(&present);
    let deleted = host.ask("DELETE", ENTRY, &only(&third), "").await;
    assert_eq!((deleted.status, deleted.body.as_str(), read()), (204, "", None));
    for (method, condition) in [
        ("PUT", only(&third)),
        ("DELETE", only(&third)),
        ("PUT", "if-match: *\r\n".to_owned()),
        ("DELETE", "if-match: *\r\n".to_owned()),
    ] {
        let gone = host.ask(method, ENTRY, &condition, "4").await;
        let error = body(&gone);
        assert_eq!((gone.status, error.get("version")), (412, None), "{method} {condition}: {gone:?}");
        let what = "entry k of table t in network net does not exist";
        assert!(error["detail"].as_str().unwrap().starts_with(what), "{error}");
    }
    assert_eq!(read(), None);
    // Without a condition, a PUT creates what is not there, and a DELETE misses it.
    assert_eq!(host.ask("DELETE", ENTRY, "", "").await.status, 404);
    let created = host.ask("PUT", ENTRY, "", "5").await;
    assert_eq!((created.status, location(&created)), (201, ENTRY.to_owned()));
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_can_require_that_there_is_no_entry() {
    let host = Host::start(HttpConfig::default()).await;
    let absent = "if-none-match: *\r\n";
    let created = host.ask("PUT", ENTRY, absent, "1").await;
    assert_eq!(created.status, 201, "{created:?}");
    let first = version(&created);
    for method in ["PUT", "POST"] {
        let refused = host.ask(method, ENTRY, absent, "2").await;
        assert_eq!(refusal(&refused), (412, first.clone(), json!(first)), "{method}: {refused:?}");
    }
    assert_eq!(host.node.tables().get("net", "t", "k").unwrap().value(), b"1");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_cannot_be_checked_is_refused() {
    let host = Host::start(HttpConfig::default()).await;
    host.ask("POST", ENTRY, "", "1").await;
    for (method, condition) in [
        ("PUT", "if-match: 1-2-3"),
        ("PUT", "if-match: \"1-2-3\", \"4-5-6\""),
        ("PUT", "if-match: W/\"1-2-3\""),
        ("DELETE", "if-match: \"abc\""),
        ("PUT", "if-none-match: \"1-2-3\""),
        ("DELETE", "if-none-match: *"),
        ("POST", "if-match: *"),
        ("POST", "if-match: \"1-2-3\""),
    ] {
        let refused = host.ask(method, ENTRY, &format!("{condition}\r\n"), "2").await;
        assert_eq!(refused.status, 400, "{method} {condition}: {refused:?}");
        assert!(body(&refused)["detail"].as_str().unwrap().contains("match"), "{refused:?}");
    }
    assert_eq!(host.node.tables().get("net", "t", "k").unwrap().value(), b"1");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_failed_node_is_listed_with_the_reason() {
    let host = Host::start(HttpConfig::default()).await;
    let other = alone("other").await;
    other.node.join(&[host.node.advertised_address().to_string()]).await.unwrap();
    other.node.join_network("net").await.unwrap();
    let version = version(&other.ask("PUT", ENTRY, "", "1").await);
    let all = "/v1/networks/net/tables/t/entries?hidden=include";
    let until = async |shown: Value| {
        let mut found = String::new();
        for _ in 0..2000 {
            found = host.get(all).await.body;
            if serde_json::from_str(&found).ok().as_ref() == Some(&shown) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("twenty seconds later the list is {found}, not {shown}");
    };
    let mut shown = json!({ "key": "k", "value": "1", "owner": "other", "version": version });
    until(shown.clone()).await;
    // It ends without leaving.
    drop(other);
    shown["hidden"] = "owner_failed".into();
    until(shown).await;
    assert_eq!(host.get("/v1/networks/net/tables/t/entries").await.body, "");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_says_how_it_went() {
    let (first, second) = (alone("first").await, alone("second").await);
    let joined = first.ask("PUT", "/v1/networks/net", "", "").await;
    assert_eq!(joined.status, 201);
    assert_eq!(body(&joined), json!({ "result": "alone", "outcome": "no other member is known yet" }));
    let seed = first.node.advertised_address().to_string();
    second.node.join(&[seed]).await.unwrap();
    let joined = second.ask("PUT", "/v1/networks/net", "", "").await;
    let synchronised = json!({ "result": "synchronised", "outcome": "it holds what other members had" });
    assert_eq!((joined.status, body(&joined)), (201, synchronised.clone()));
    assert_eq!(location(&joined), "/v1/networks/net");
    // Each node goes on showing it. The first has synced meanwhile, and joined alone all the same.
    let shown = async |host: &Host, path: &str| {
        let shown = body(&host.ask("GET", path, "", "").await);
        let network = if shown["networks"].is_array() { &shown["networks"][0] } else { &shown };
        network["join"].as_str().unwrap().to_owned()
    };
    for path in ["/v1/networks", "/v1/networks/net"] {
        assert_eq!(shown(&first, path).await, "alone", "{path}");
        assert_eq!(shown(&second, path).await, "synchronised", "{path}");
    }
    // A join that waits for an answer is under way.
    let mut waiting = second.node.tables().statistics("net").unwrap();
    waiting.synchronised = false;
    assert_eq!(NetworkView::new("net", &waiting, None).join, "joining");
    let again = second.ask("PUT", "/v1/networks/net", "", "").await;
    assert_eq!((again.status, body(&again)), (200, synchronised), "a PUT is idempotent");
    let once = second.ask("PUT", "/v1/networks/net", "if-none-match: *\r\n", "").await;
    assert_eq!((once.status, body(&once)["code"].as_str()), (412, Some("precondition_failed")));
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_written_whole_or_refused_with_the_write_that_failed() {
    let host = Host::start(HttpConfig::default()).await;
    let tables = host.node.tables();
    let old = tables.create("net", "t", "old", "1").unwrap().to_string();
    let batch = async |writes: Value| {
        let batch = json!({ "writes": writes }).to_string();
        let answer =
            host.ask("POST", "/v1/networks/net/batch", "content-type: application/json\r\n", &batch).await;
        (answer.status, body(&answer))
    };
    let moved = json!([
        { "put": { "table": "t", "key": "new", "value_base64": "/w==", "if_none_match": "*" } },
        { "delete": { "table": "t", "key": "old", "if_match": old } },
    ]);
    let (status, outcome) = batch(moved.clone()).await;
    let new = tables.get("net", "t", "new").unwrap();
    assert_eq!((status, &outcome["versions"][0]), (200, &json!(new.version().to_string())));
    assert_eq!(*new.value(), [0xff]);
    assert!(tables.get("net", "t", "old").is_none());

    let put = json!({ "put": { "table": "t", "key": "other", "value": "1" } });
    let (status, refused) = batch(json!([put, moved[0]])).await;
    assert_eq!((status, &refused["code"]), (412, &json!("precondition_failed")), "{refused}");
    assert_eq!((&refused["write"], &refused["version"]), (&json!(1), &json!(new.version().to_string())));
    for (writes, status, code, at) in [
        (json!([put, { "delete": { "table": "t", "key": "old" } }]), 404, "entry_not_found", json!(1)),
        (json!([put, { "put": { "table": "t", "key": "k" } }]), 400, "invalid_body", json!(1)),
        (
            json!([put, { "delete": { "table": "t", "key": "k", "if_match": "1" } }]),
            400,
            "invalid_precondition",
            json!(1),
        ),
        (
            json!([put, { "put": { "table": "t", "key": "k", "value": "", "if_mtch": "*" } }]),
            400,
            "invalid_body",
            Value::Null,
        ),
        (json!([put, put]), 400, "invalid_body", Value::Null),
        (json!(vec![&put; 1_001]), 400, "invalid_body", Value::Null),
    ] {
        let (found, refused) = batch(writes).await;
        assert_eq!((found, &refused["code"], &refused["write"]), (status, &json!(code), &at), "{refused}");
    }
    assert!(tables.get("net", "t", "other").is_none());
    assert_eq!(batch(json!([])).await, (200, json!({ "versions": [] })));
    let elsewhere = r#"{"writes":[]}"#;
    let answer =
        host.ask("POST", "/v1/networks/red/batch", "content-type: application/json\r\n", elsewhere).await;
    assert_eq!((answer.status, &body(&answer)["code"]), (404, &json!("network_not_joined")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_answered_with_the_members_that_have_it() {
    let host = alone("alone").await;
    host.node.join_network("net").await.unwrap();
    let entry = "/v1/networks/net/tables/t/entries/k";
    let ask = async |method: &str, parameters: &str| {
        let response = host.ask(method, &format!("{entry}?{parameters}"), "", "v").await;
        (response.status, if response.body.is_empty() { json!(null) } else { body(&response) })
    };
    let (status, created) = ask("PUT", "known_by=all").await;
    let receipt = |wanted: usize| json!({ "wanted": wanted, "known_by": ["alone"], "missing": [] });
    assert_eq!((status, &created["receipt"]), (201, &receipt(1)));
    let (status, replaced) = ask("PUT", "known_by=majority&within=2s").await;
    assert_eq!((status, &replaced["receipt"]), (200, &receipt(1)));
    // There is no second member; nobody waits for one.
    let (status, replaced) = ask("PUT", "known_by=2&within=20s").await;
    assert_eq!((status, &replaced["receipt"]), (202, &receipt(2)));
    let (status, replaced) = ask("PUT", "").await;
    assert_eq!((status, &replaced["receipt"]), (200, &json!(null)));
    let (status, deleted) = ask("DELETE", "known_by=1").await;
    assert_eq!((status, &deleted["receipt"]), (200, &receipt(1)));
    assert!(deleted["version"].as_str().is_some_and(|version| version.contains('-')), "{deleted}");
    let (status, created) = ask("POST", "known_by=2").await;
    assert_eq!((status, &created["receipt"]), (202, &receipt(2)));
    assert_eq!(ask("DELETE", "").await, (204, json!(null)));
    for parameters in ["within=2s", "known_by=0", "known_by=some", "known_by=all&within=1h"] {
        let (status, problem) = ask("PUT", parameters).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_parameter")), "{parameters}");
    }
    host.end().await;
}
