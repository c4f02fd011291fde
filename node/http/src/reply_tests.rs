use wire::NodeName;

use super::*;

fn entry(key: &str, value: &[u8]) -> Entry {
    let owner = NodeName::new("node-1").unwrap();
    Entry::new(key, value, owner, "1-2-3".parse().unwrap())
}

#[track_caller]
fn assert_spelled(reply: &Reply, text: &str, json: &str) {
    assert_eq!(String::from_utf8(reply.render(Spelling::Text)).unwrap(), text);
    assert_eq!(String::from_utf8(reply.render(Spelling::Json)).unwrap(), json);
}

#[test]
fn a_reply_without_details_is_its_message() {
    assert_spelled(&Reply::done(), "OK", r#"{"message":"OK","details":null}"#);
}

#[test]
fn free_text() {
    let reply = Reply::ok(Details::Info("OK".into()));
    assert_spelled(&reply, "OK\nOK", r#"{"message":"OK","details":{"info":"OK"}}"#);
}

#[test]
fn failures() {
    let reply = Reply::fail("no such thing");
    assert_spelled(
        &reply,
        "FAIL\nError: no such thing",
        r#"{"message":"FAIL","details":{"error":"no such thing"}}"#,
    );
}

#[test]
fn wrong_calls_escape_ampersands_in_json_as_the_original_does() {
    let reply = Reply::wrong_call("missing parameter", "/x?a=b&c=d");
    assert_spelled(
        &reply,
        "missing parameter\nUsage: /x?a=b&c=d",
        r#"{"message":"missing parameter","details":{"usage":"/x?a=b\u0026c=d"}}"#,
    );
}

#[test]
fn an_empty_list_has_null_entries() {
    let json = r#"{"message":"OK","details":{"size":0,"entries":null}}"#;
    assert_spelled(&Reply::ok(Details::Peers(vec![])), "OK\ntotal entries: 0\n", json);
    let none = Details::Entries(vec![], ValueSpelling::Base64);
    assert_spelled(&Reply::ok(none), "OK\ntotal entries: 0\n", json);
}

#[test]
fn peers() {
    let reply = Reply::ok(Details::Peers(vec![
        Peer { name: "a".into(), ip: Some([10, 0, 0, 1].into()) },
        Peer { name: "b".into(), ip: Some("fd00::2".parse().unwrap()) },
        Peer { name: "c".into(), ip: None },
    ]));
    assert_spelled(
        &reply,
        "OK\ntotal entries: 3\n0) a -> 10.0.0.1\n1) b -> fd00::2\n2) orphan-c -> invalid IP\n",
        concat!(
            r#"{"message":"OK","details":{"size":3,"entries":["#,
            r#"{"-=name":"a","ip":"10.0.0.1","name":"a"},"#,
            r#"{"-=name":"b","ip":"fd00::2","name":"b"},"#,
            r#"{"-=name":"orphan-c","ip":"","name":"c"}]}}"#
        ),
    );
}

#[test]
fn entries_in_base64_and_raw() {
    let entries = vec![entry("k1", b"hello"), entry("k2", b"")];
    assert_spelled(
        &Reply::ok(Details::Entries(entries.clone(), ValueSpelling::Base64)),
        "OK\ntotal entries: 2\n0) k:`k1` -> v:`aGVsbG8=` owner:`node-1`\n1) k:`k2` -> v:`` owner:`node-1`\n",
        concat!(
            r#"{"message":"OK","details":{"size":2,"entries":["#,
            r#"{"key":"k1","value":"aGVsbG8=","owner":"node-1"},"#,
            r#"{"key":"k2","value":"","owner":"node-1"}]}}"#
        ),
    );
    assert_spelled(
        &Reply::ok(Details::Entries(entries, ValueSpelling::Raw)),
        "OK\ntotal entries: 2\n0) k:`k1` -> v:`hello` owner:`node-1`\n1) k:`k2` -> v:`` owner:`node-1`\n",
        concat!(
            r#"{"message":"OK","details":{"size":2,"entries":["#,
            r#"{"key":"k1","value":"hello","owner":"node-1"},"#,
            r#"{"key":"k2","value":"","owner":"node-1"}]}}"#
        ),
    );
}

#[test]
fn one_entry_is_a_line_of_its_own() {
    assert_spelled(
        &Reply::ok(Details::Entry(entry("k", b"<v>"), ValueSpelling::Raw)),
        "OK\n0) k:`k` -> v:`<v>` owner:`node-1`\n",
        r#"{"message":"OK","details":{"key":"k","value":"\u003cv\u003e","owner":"node-1"}}"#,
    );
}

#[test]
fn raw_bytes_are_kept_in_text_and_marked_in_json() {
    let reply = Reply::ok(Details::Entry(entry("k", &[b'a', 0xff]), ValueSpelling::Raw));
    assert_eq!(reply.render(Spelling::Text), b"OK\n0) k:`k` -> v:`a\xff` owner:`node-1`\n");
    let json = String::from_utf8(reply.render(Spelling::Json)).unwrap();
    assert!(json.contains("\"value\":\"a\u{fffd}\""), "{json}");
}

#[test]
fn statistics() {
    assert_spelled(
        &Reply::ok(Details::Statistics { entries: 12, queue_length: 3 }),
        "OK\nentries: 12, qlen: 3\n",
        r#"{"message":"OK","details":{"entries":12,"QueueLen":3,"qlen":3}}"#,
    );
    assert_spelled(
        &Reply::ok(Details::Statistics { entries: -1, queue_length: -1 }),
        "OK\nentries: -1, qlen: -1\n",
        r#"{"message":"OK","details":{"entries":-1,"QueueLen":-1,"qlen":-1}}"#,
    );
}

#[test]
fn pretty_json_is_indented_by_two_spaces() {
    let reply = Reply::ok(Details::Peers(vec![Peer { name: "a".into(), ip: Some([10, 0, 0, 1].into()) }]));
    assert_eq!(
        String::from_utf8(reply.render(Spelling::PrettyJson)).unwrap(),
        "{\n  \"message\": \"OK\",\n  \"details\": {\n    \"size\": 1,\n    \"entries\": [\n      {\n        \
         \"-=name\": \"a\",\n        \"ip\": \"10.0.0.1\",\n        \"name\": \"a\"\n      }\n    ]\n  }\n}"
    );
}

#[test]
fn the_spelling_is_chosen_by_the_query() {
    for (query, spelling) in [
        ("", Spelling::Text),
        ("unsafe", Spelling::Text),
        ("json", Spelling::Json),
        ("json=1", Spelling::Json),
        ("json=pretty", Spelling::PrettyJson),
    ] {
        assert_eq!(Spelling::of(&Query::parse(query)), spelling, "{query}");
    }
}
