//! What is measured, and how it is documented.

use std::collections::BTreeSet;

use networkdb_http::HttpConfig;

use super::host::Host;

/// The names of all families.
fn families(exposition: &str) -> BTreeSet<&str> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_is_documented_and_no_other() {
    let host = Host::start(HttpConfig::default()).await;
    let exposition = host.get("/metrics").await.body;
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md")).unwrap();
    let (_, table) = document.split_once("| metrics |").expect("there is a table of metrics");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    let mut documented = BTreeSet::new();
    for cell in &cells {
        let names = cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        // "…stalls_total" is of the same part of the node as the first name of its row.
        let part = names[0].split_once('_').map_or("", |(part, _)| part);
        documented
            .extend(names.iter().map(|name| format!("networkdb_{}", name.replace('…', &format!("{part}_")))));
    }
    let found = families(&exposition).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(found, documented);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_measured_by_route_and_never_by_path() {
    let host = Host::start(HttpConfig::default()).await;
    let entry = "/v1/networks/net/tables/invented/entries/key";
    assert_eq!(host.ask("PUT", entry, "", "v").await.status, 201);
    for path in [entry, "/v1/networks/invented", "/v1/invented", "/invented/1", "/ready", "/v1", "/livez"] {
        host.get(path).await;
    }
    host.ask("INVENTED", "/invented/2", "", "").await;
    let metrics = host.get("/metrics").await.body;
    assert!(!metrics.contains("nvented") && !metrics.contains("INVENTED"), "{metrics}");
    let entries = "/v1/networks/{network}/tables/{table}/entries/{key}";
    for (method, route, status, count) in [
        ("PUT", entries, 201, 1),
        ("GET", entries, 200, 1),
        ("GET", "/v1/networks/{network}", 404, 1),
        ("GET", "/ready", 200, 1),
        ("GET", "/v1", 200, 1),
        ("GET", "/livez", 200, 1),
        ("GET", "other", 404, 1),
        ("GET", "other", 200, 1),
        ("other", "other", 200, 1),
    ] {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        let line = format!("networkdb_http_request_seconds_count{{{labels}}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    host.end().await;
}
