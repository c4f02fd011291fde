//! The memory that large responses take. A program of its own: other tests would be measured too.

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "over_http/host.rs"]
mod host;

use std::net::TcpStream;
use std::time::Duration;

use networkdb_http::{HttpConfig, HttpLimits};

use host::{Host, until_status, waiting};

/// Waits until responses have begun to arrive on `count` of the connections, without reading them.
async fn until_begun(streams: Vec<TcpStream>, count: usize) -> Vec<TcpStream> {
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    for _ in 0..1000 {
        if streams.iter().filter(|stream| stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0)).count() >= count
        {
            return streams;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds later fewer than {count} responses have begun")
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn large_responses_are_rendered_as_they_are_read_and_end_with_their_clients() {
    const ENTRIES: usize = 32;
    let host = Host::start(HttpConfig::default()).await;
    for index in 0..ENTRIES {
        host.node.tables().create("net", "t", &format!("{index:02}"), vec![b'x'; 1 << 20]).unwrap();
    }
    // The default limit of concurrent large responses; as a whole, each would be 32 MiB or more.
    let at_a_time = HttpLimits::default().requests / 8;
    let before = resident();
    for path in [
        "/gettable?nid=net&tname=t",
        "/gettable?nid=net&tname=t&json=pretty",
        "/v1/networks/net/tables/t/entries",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        for round in 0..3 {
            // The clients read nothing and disconnect.
            let begun = until_begun(waiting(&host, 60, &request).await, at_a_time).await;
            let grown = resident().saturating_sub(before);
            drop(begun);
            assert!(grown < 150 << 20, "after {} disconnects of {path}: {} MiB", 60 * round, grown >> 20);
        }
        until_status(&host, path, 200).await;
    }
    let response = host.get("/gettable?nid=net&tname=t&unsafe").await;
    let lines: usize =
        (0..ENTRIES).map(|index| format!("{index}) k:`00` -> v:`` owner:`host`\n").len() + (1 << 20)).sum();
    assert_eq!(response.body.len(), "OK\ntotal entries: 32\n".len() + lines);
    host.end().await;
}
