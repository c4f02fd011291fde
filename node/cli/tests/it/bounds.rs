//! ARCHITECTURE.md lists all limits and their counters.

use std::collections::BTreeSet;

use networkdb::{Node, NodeConfig};
use networkdb_cli::settings::limits::Limits;
use networkdb_http::{HttpConfig, HttpListener};
use transport::KeySet;
use wire::NodeName;

/// The rows of the table of limits: names, and counters.
fn rows() -> Vec<(Vec<String>, Vec<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| limit | default |").expect("there is a table of limits");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let quoted = |cell: &str| -> Vec<String> {
        let mut words = Vec::<String>::new();
        for word in cell.split('`').skip(1).step_by(2) {
            // "…-count" abbreviates the previous name with another ending.
            let whole = match (word.strip_prefix("…-"), word.strip_prefix("…_"), words.last()) {
                (Some(end), _, Some(last)) => format!("{}-{end}", last.rsplit_once('-').unwrap().0),
                (_, Some(end), Some(last)) => format!("{}_{end}", last.rsplit_once('_').unwrap().0),
                _ => word.to_owned(),
            };
            words.push(whole);
        }
        words
    };
    rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ").collect::<Vec<_>>();
        (quoted(cells[0]), quoted(cells.last().unwrap()))
    })
    .collect()
}

#[test]
fn every_limit_is_in_the_table_and_no_other() {
    let documented = rows().into_iter().flat_map(|(names, _)| names).collect::<BTreeSet<_>>();
    let limits = Limits::default().iter().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>();
    let missing = limits.difference(&documented).collect::<Vec<_>>();
    // A request to the system, not a limit.
    assert_eq!(missing, ["socket-buffer-bytes"]);
    assert_eq!(documented.difference(&limits).collect::<Vec<_>>(), [""; 0]);
}

/// A sample with its label's value as the end of its name, as the tables call it.
fn plain(line: &str) -> String {
    let parts = line.split_once("_total{").zip(line.split_once("=\"")).zip(line.split_once("\"} "));
    parts.map_or(line.to_owned(), |(((family, _), (_, rest)), (_, value))| {
        let variant = rest.split('"').next().unwrap_or_default();
        format!("{family}_{variant}_total {value}")
    })
}

#[tokio::test]
async fn every_counter_in_the_table_is_counted() {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let config = NodeConfig::new(NodeName::new("a").unwrap(), loopback, KeySet::development());
    let node = Node::start(config).await.unwrap();
    let http = HttpListener::bind(loopback, HttpConfig::default()).await.unwrap().serve(node);
    let address = http.local_address();
    let limit = std::time::Duration::from_secs(20);
    let metrics =
        tokio::task::spawn_blocking(move || http_client_for_tests::get(address, "/metrics", limit).unwrap());
    let metrics = metrics.await.unwrap().body;
    let counters = rows().into_iter().flat_map(|(_, counters)| counters).collect::<Vec<_>>();
    assert!(counters.len() > 20, "{counters:?}");
    for counter in counters {
        let name = format!("networkdb_{counter}_total ");
        assert!(metrics.lines().any(|line| plain(line).starts_with(&name)), "{counter} is not in\n{metrics}");
    }
}
