//! Each diagnostic call: its parameters, its response format, and its effect on a store without peers.

use tabledb::Config;
use tokio::runtime::Handle;
use wire::{NodeId, NodeName};

use super::super::reply::Spelling;
use super::*;

fn db() -> TableDb {
    let db = TableDb::new(Config::new(NodeId::new(NodeName::new("node-1").unwrap(), 1))).unwrap();
    db.join_network("net").unwrap();
    db
}

fn parse(url: &str) -> Result<Call, String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    Call::parse(path, &Query::parse(query)).map_err(|reply| text_of(&reply))
}

fn text_of(reply: &Reply) -> String {
    String::from_utf8(reply.render(Spelling::Text)).unwrap()
}

fn ask(db: &TableDb, url: &str) -> String {
    match parse(url) {
        Ok(Call::Table(call)) => text_of(&handle_table_call(db, call)),
        Ok(other) => panic!("{url} is {other:?}"),
        Err(text) => text,
    }
}

fn entry_path(key: &str) -> EntryPath {
    EntryPath { network: "net".into(), table: "tab".into(), key: key.into() }
}

#[test]
fn ready_and_help() {
    assert_eq!(parse("/ready"), Ok(Call::Ready));
    assert_eq!(text_of(&ready()), "OK\nOK");
    assert_eq!(parse("/help"), Ok(Call::Help));
    let help = text_of(&help());
    let mut lines = help.lines();
    assert_eq!(lines.next(), Some("OK"));
    for path in lines {
        assert!(path.starts_with('/') && !path.contains(' '), "{path}");
        if !["/", "/v1"].contains(&path) {
            assert!(!matches!(parse(path), Err(text) if text.contains("not implemented")), "{path}");
        }
    }
    assert!(help.contains("\n/watchedtableentries\n"));
}

#[test]
fn calls_that_change_something_are_not_read_only() {
    let changing = PATHS.into_iter().filter(|path| *path != "/v1" && !is_read_only(path)).collect::<Vec<_>>();
    let known = [
        "/join",
        "/joinnetwork",
        "/leavenetwork",
        "/createentry",
        "/updateentry",
        "/deleteentry",
        "/watchtable",
    ];
    assert_eq!(changing, known);
    for path in ["/nosuch", "", "/ready/", "/%63reateentry", "/createentry/"] {
        assert!(!is_read_only(path), "{path}");
    }
}

#[test]
fn unknown_paths_point_to_help() {
    for path in ["/", "/nosuch", "/help/", "/Ready"] {
        assert_eq!(
            parse(path),
            Err(format!("not implemented\nUsage: URL path: {path} no method implemented check /help\n"))
        );
    }
}

#[test]
fn missing_parameters_are_answered_with_the_usage() {
    for (call, usage) in [
        ("/join", "/join?members=ip1,ip2,..."),
        ("/networkpeers", "/networkpeers?nid=test"),
        ("/networkstats?tname=t", "/networkstats?nid=test"),
        ("/joinnetwork", "/joinnetwork?nid=network_id"),
        ("/leavenetwork", "/leavenetwork?nid=network_id"),
        ("/createentry?nid=n&tname=t&key=k", "/createentry?tname=table_name&nid=network_id&key=k&value=v"),
        ("/updateentry?nid=n&key=k&value=dg==", "/updateentry?tname=table_name&nid=network_id&key=k&value=v"),
        ("/deleteentry?nid=n&tname=t", "/deleteentry?tname=table_name&nid=network_id&key=k"),
        ("/getentry?tname=t&key=k", "/getentry?tname=table_name&nid=network_id&key=k"),
        ("/gettable?nid=n", "/gettable?tname=table_name&nid=network_id"),
        ("/watchtable?nid=n", "/watchtable?tname=table_name"),
        ("/watchedtableentries", "/watchedtableentries?tname=table_name"),
    ] {
        assert_eq!(parse(call), Err(format!("missing parameter\nUsage: {usage}")), "{call}");
    }
}

#[test]
fn members_are_separated_by_commas() {
    assert_eq!(
        parse("/join?members=127.0.0.2,127.0.0.3:7946,%20seed.example,"),
        Ok(Call::Join(vec!["127.0.0.2".into(), "127.0.0.3:7946".into(), "seed.example".into()]))
    );
    assert_eq!(parse("/join?members="), Ok(Call::Join(vec![])));
}

#[test]
fn a_failed_join_has_the_originals_format() {
    assert_eq!(
        text_of(&joined(Err("no seed answered"))),
        "FAIL\nError: /join error in the DB join no seed answered"
    );
    assert_eq!(text_of(&joined::<&str>(Ok(2))), "OK");
}

#[test]
fn values_are_base64_unless_unsafe() {
    assert_eq!(
        parse("/createentry?tname=tab&nid=net&key=k&value=aGk%3D"),
        Ok(Call::Table(TableCall::Create(entry_path("k"), b"hi".to_vec())))
    );
    assert_eq!(
        parse("/updateentry?unsafe&tname=tab&nid=net&key=k&value=aGk%3D"),
        Ok(Call::Table(TableCall::Update(entry_path("k"), b"aGk=".to_vec())))
    );
    assert_eq!(
        parse("/createentry?tname=tab&nid=net&key=k&value=v"),
        Err("FAIL\nError: illegal base64 data at input byte 0".into())
    );
    assert_eq!(
        parse("/createentry?tname=tab&nid=net&key=%ff&value=dg=="),
        Err("FAIL\nError: the parameter key is not UTF-8; only a value may hold any bytes".into())
    );
}

#[test]
fn an_entry_is_created_shown_updated_and_deleted() {
    let db = db();
    assert_eq!(ask(&db, "/createentry?tname=tab&nid=net&key=k1&value=aGVsbG8="), "OK");
    assert_eq!(
        ask(&db, "/createentry?tname=tab&nid=net&key=k1&value=aGVsbG8="),
        "FAIL\nError: cannot create entry in table tab with network id net and key k1, already exists"
    );
    assert_eq!(
        ask(&db, "/getentry?tname=tab&nid=net&key=k1"),
        "OK\n0) k:`k1` -> v:`aGVsbG8=` owner:`node-1`\n"
    );
    assert_eq!(ask(&db, "/updateentry?unsafe&tname=tab&nid=net&key=k1&value=bye"), "OK");
    assert_eq!(
        ask(&db, "/getentry?unsafe&tname=tab&nid=net&key=k1"),
        "OK\n0) k:`k1` -> v:`bye` owner:`node-1`\n"
    );
    assert_eq!(ask(&db, "/deleteentry?tname=tab&nid=net&key=k1"), "OK");
    assert_eq!(
        ask(&db, "/getentry?tname=tab&nid=net&key=k1"),
        "FAIL\nError: could not get entry in table tab with network id net and key k1"
    );
    assert_eq!(
        ask(&db, "/updateentry?tname=tab&nid=net&key=k1&value="),
        "FAIL\nError: cannot update entry as the entry in table tab with network id net and key k1 does not \
         exist"
    );
    assert_eq!(
        ask(&db, "/deleteentry?tname=tab&nid=net&key=k1"),
        "FAIL\nError: cannot delete entry tab with network id net and key k1 does not exist or is already \
         being deleted"
    );
}

#[test]
fn a_table_is_listed_in_the_order_of_its_keys() {
    let db = db();
    assert_eq!(ask(&db, "/gettable?tname=tab&nid=net"), "OK\ntotal entries: 0\n");
    for key in ["b", "a"] {
        assert_eq!(ask(&db, &format!("/createentry?unsafe&tname=tab&nid=net&key={key}&value=v")), "OK");
    }
    assert_eq!(
        ask(&db, "/gettable?tname=tab&nid=net"),
        "OK\ntotal entries: 2\n0) k:`a` -> v:`dg==` owner:`node-1`\n1) k:`b` -> v:`dg==` owner:`node-1`\n"
    );
    assert_eq!(ask(&db, "/gettable?tname=tab&nid=other"), "OK\ntotal entries: 0\n");
}

#[test]
fn statistics_of_a_network_and_of_one_not_joined() {
    let db = db();
    assert_eq!(ask(&db, "/createentry?unsafe&tname=tab&nid=net&key=k&value=v"), "OK");
    let text = ask(&db, "/networkstats?nid=net");
    assert!(text.starts_with("OK\nentries: 1, qlen: ") && text.ends_with('\n'), "{text}");
    assert_eq!(ask(&db, "/networkstats?nid=other"), "OK\nentries: -1, qlen: -1\n");
}

#[tokio::test]
async fn a_watched_table_shows_what_the_watch_delivered() {
    let db = db();
    let watched_tables = WatchedTables::new(db.clone(), Handle::current());
    assert_eq!(watched(&watched_tables), b"Table tab not watched\n");
    db.create("net", "tab", "before", b"1").unwrap();
    assert_eq!(watch_table(&watched_tables, "tab"), b"OK\n");
    assert_eq!(watch_table(&watched_tables, "tab"), b"OK\n");
    db.create("net", "tab", "after", b"2").unwrap();
    db.create("net", "other", "elsewhere", b"3").unwrap();
    let wanted = "total elements: 2\n0) k:`after` -> v:`2`\n1) k:`before` -> v:`1`\n";
    assert_eq!(watched(&watched_tables), wanted.as_bytes(), "at once");
    db.delete("net", "tab", "before").unwrap();
    assert_eq!(watched(&watched_tables), b"total elements: 1\n0) k:`after` -> v:`2`\n");
}

fn watched(watched_tables: &WatchedTables) -> Vec<u8> {
    let (mut writer, mut text) = (watched_table_entries(watched_tables, "tab"), Vec::new());
    while writer(&mut text) {}
    text
}

#[tokio::test]
async fn no_more_tables_are_watched_than_the_limit() {
    let watched_tables = WatchedTables::new(db(), Handle::current());
    for index in 0..super::super::watched_tables::MAX_TABLES {
        assert_eq!(watch_table(&watched_tables, &format!("t{index}")), b"OK\n");
    }
    assert_eq!(watch_table(&watched_tables, "t0"), b"OK\n");
    assert!(
        watch_table(&watched_tables, "one more").starts_with(b"FAIL\nError: 1024 tables are watched already")
    );
}
