//! The HTTP endpoints of real nodes over real sockets, as the original's tools, curl and the client commands
//! use them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use crate::program::networkdb;
use http_client_for_tests::{Request, Response};
use networkdb::{Node, NodeConfig};
use networkdb_http::access::Access;
use networkdb_http::{HttpConfig, HttpListener, HttpServer};
use transport::KeySet;
use wire::NodeName;

const TIMEOUT: Duration = Duration::from_secs(20);

struct Host {
    node: Node,
    http: HttpServer,
}

impl Host {
    async fn start(name: &str) -> Self {
        Self::with_limits(name, tabledb::Limits::default()).await
    }

    async fn with_limits(name: &str, limits: tabledb::Limits) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = NodeConfig {
            membership: membership::Config::loopback(),
            limits,
            ..NodeConfig::new(NodeName::new(name).unwrap(), loopback, KeySet::development())
        };
        let node = Node::start(config).await.unwrap();
        // Like the original, which every client may call.
        let config = HttpConfig { access: Access::Open, ..HttpConfig::default() };
        let http = HttpListener::bind(loopback, config).await.unwrap().serve(node.clone());
        Self { node, http }
    }

    fn address(&self) -> String {
        self.node.advertised_address().to_string()
    }

    fn api(&self) -> String {
        format!("http://{}", self.http.local_address())
    }

    /// The body of the response to a GET, which must have status 200.
    async fn get(&self, path: &str) -> String {
        let response = self.exchange(Request::new("GET", path)).await;
        assert_eq!(response.status, 200, "{path}: {response:?}");
        assert!(response.head.contains("x-content-type-options: nosniff"), "{path}: {response:?}");
        response.body
    }

    async fn exchange(&self, request: Request) -> Response {
        let address = self.http.local_address();
        tokio::task::spawn_blocking(move || request.send(address, TIMEOUT).unwrap()).await.unwrap()
    }

    #[track_caller]
    fn await_response(&self, path: &str, wanted: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let mut found = String::new();
            let waiting = async {
                loop {
                    found = self.get(path).await;
                    if found == wanted {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if tokio::time::timeout(TIMEOUT, waiting).await.is_err() {
                panic!("{caller}: {path} still returns {found:?} and not {wanted:?}");
            }
        }
    }

    async fn end(self) {
        self.node.shutdown(Duration::from_secs(2)).await;
        self.http.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_originals_calls_on_a_cluster_of_three() {
    let (a, b, c) = (Host::start("a").await, Host::start("b").await, Host::start("c").await);
    assert_eq!(a.get("/ready").await, "OK\nOK");
    assert_eq!(a.get("/ready?json").await, r#"{"message":"OK","details":{"info":"OK"}}"#);
    assert_eq!(a.get("/myip?json").await, "127.0.0.1\n");
    assert_eq!(a.get("/clusterpeers").await, "OK\ntotal entries: 1\n0) a -> 127.0.0.1\n");

    assert_eq!(a.get(&format!("/join?members={},{}", b.address(), c.address())).await, "OK");
    for host in [&a, &b, &c] {
        let peers = "OK\ntotal entries: 3\n0) a -> 127.0.0.1\n1) b -> 127.0.0.1\n2) c -> 127.0.0.1\n";
        host.await_response("/clusterpeers", peers).await;
        assert_eq!(host.get("/joinnetwork?nid=net").await, "OK");
    }
    assert_eq!(a.get("/joinnetwork?nid=net").await, "FAIL\nError: networkdb: network net is already joined");
    let peers = r#"{"message":"OK","details":{"size":3,"entries":[{"-=name":"a","ip":"127.0.0.1","name":"a"},{"-=name":"b","ip":"127.0.0.1","name":"b"},{"-=name":"c","ip":"127.0.0.1","name":"c"}]}}"#;
    b.await_response("/networkpeers?nid=net&json", peers).await;
    assert_eq!(b.get("/networkpeers?nid=other").await, "OK\ntotal entries: 0\n");

    assert_eq!(c.get("/watchtable?nid=net&tname=tab").await, "OK\n");
    assert_eq!(a.get("/createentry?nid=net&tname=tab&key=k1&value=aGVsbG8%3D").await, "OK");
    assert_eq!(b.get("/createentry?unsafe&nid=net&tname=tab&key=k2&value=v").await, "OK");
    let table =
        "OK\ntotal entries: 2\n0) k:`k1` -> v:`aGVsbG8=` owner:`a`\n1) k:`k2` -> v:`dg==` owner:`b`\n";
    for host in [&a, &b, &c] {
        host.await_response("/gettable?nid=net&tname=tab", table).await;
    }
    c.await_response(
        "/watchedtableentries?nid=net&tname=tab",
        "total elements: 2\n0) k:`k1` -> v:`hello`\n1) k:`k2` -> v:`v`\n",
    )
    .await;
    assert_eq!(c.get("/updateentry?unsafe&nid=net&tname=tab&key=k1&value=bye").await, "OK");
    a.await_response("/getentry?unsafe&nid=net&tname=tab&key=k1", "OK\n0) k:`k1` -> v:`bye` owner:`c`\n")
        .await;
    assert_eq!(a.get("/deleteentry?nid=net&tname=tab&key=k2").await, "OK");
    b.await_response(
        "/getentry?nid=net&tname=tab&key=k2&json",
        r#"{"message":"FAIL","details":{"error":"could not get entry in table tab with network id net and key k2"}}"#,
    )
    .await;
    let stats = b.get("/networkstats?nid=net").await;
    assert!(stats.starts_with("OK\nentries: 1, qlen: "), "{stats}");

    assert_eq!(c.get("/leavenetwork?nid=net").await, "OK");
    assert_eq!(
        c.get("/leavenetwork?nid=net").await,
        "FAIL\nError: could not find network net while trying to leave"
    );
    assert_eq!(c.get("/gettable?nid=net&tname=tab").await, "OK\ntotal entries: 0\n");
    assert_eq!(
        c.get("/networkstats?nid=net&json").await,
        r#"{"message":"OK","details":{"entries":-1,"QueueLen":-1,"qlen":-1}}"#
    );
    c.await_response("/watchedtableentries?tname=tab", "total elements: 0\n").await;
    a.await_response("/gettable?nid=net&tname=tab", "OK\ntotal entries: 0\n").await;
    for host in [a, b, c] {
        host.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_answered_with_status_200() {
    let host = Host::start("wrong-calls").await;
    assert_eq!(
        host.get("/getentry?nid=n&tname=t").await,
        "missing parameter\nUsage: /getentry?tname=table_name&nid=network_id&key=k"
    );
    let unknown = "not implemented\nUsage: URL path: /nosuch no method implemented check /help\n";
    assert_eq!(host.get("/nosuch").await, unknown);
    assert!(host.get("/help").await.starts_with("OK\n/\n/help\n/ready\n/join\n"));
    let refused = host.get("/join?members=127.0.0.1:1").await;
    assert!(
        refused.starts_with("FAIL\nError: /join error in the DB join none of the seeds answered"),
        "{refused}"
    );
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_v1_show_the_node() {
    let host = Host::start("shown").await;
    assert_eq!(host.get("/joinnetwork?nid=net").await, "OK");
    let metrics = host.get("/metrics").await;
    for line in [
        "networkdb_members{state=\"alive\"} 1",
        "networkdb_entries{network=\"net\"} 0",
        "networkdb_replication_writes_total 0",
        "networkdb_membership_suspicions_total 0",
        "networkdb_transport_frames_dropped_total{reason=\"too_large\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let node: serde_json::Value = serde_json::from_str(&host.get("/v1/node").await).unwrap();
    assert_eq!((&node["name"], &node["networks"]), (&"shown".into(), &serde_json::json!(["net"])));
    let agreement: serde_json::Value =
        serde_json::from_str(&host.get("/v1/networks/net/agreement").await).unwrap();
    assert_eq!(agreement["members"][0]["holds"]["digest"].as_str().unwrap().len(), 16);
    let calls = host.get("/v1").await;
    assert!(calls.contains("GET /v1/watch"), "{calls}");
    host.end().await;
}

/// Runs a client command. Returns its exit status, its standard output and its standard error.
async fn client(host: &Host, arguments: &[&str]) -> (i32, String, String) {
    let mut command = networkdb(arguments);
    command.env("NETWORKDB_API", host.api()).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    })
    .await
    .unwrap()
}

fn done(text: &str) -> (i32, String, String) {
    (0, text.to_owned(), String::new())
}

fn refused(sentence: &str) -> (i32, String, String) {
    (1, String::new(), format!("networkdb: {sentence}\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_commands() {
    let (host, other) = (Host::start("client").await, Host::start("other").await);
    assert_eq!(
        client(&host, &["join", &other.address()]).await,
        done("Joined the cluster: 1 node answered.\n")
    );
    let (status, peers, _) = client(&host, &["peers"]).await;
    assert_eq!(status, 0);
    let mut lines = peers.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    assert_eq!(lines.next().unwrap(), "NAME STATE ADDRESS");
    assert_eq!(lines.next().unwrap(), format!("client alive {}", host.address()));
    assert_eq!(lines.next().unwrap(), format!("other alive {}", other.address()));

    assert_eq!(
        client(&host, &["network", "join", "net"]).await,
        done("Joined network net; no other member is known yet.\n")
    );
    assert_eq!(
        client(&host, &["network", "join", "net"]).await,
        refused("network net is joined on this node already")
    );
    // Before it hears of the other member, it would join alone.
    other.await_response("/networkpeers?nid=net", "OK\ntotal entries: 1\n0) client -> 127.0.0.1\n").await;
    assert_eq!(
        client(&other, &["network", "join", "net", "--json"]).await,
        done("{\"result\":\"synchronised\",\"outcome\":\"it holds what other members had\"}\n")
    );
    let (_, networks, _) = client(&host, &["network", "list"]).await;
    assert!(
        networks.starts_with("NETWORK  NODES  ENTRIES  HIDDEN  DELETED  QUEUED  DIGEST\nnet "),
        "{networks}"
    );

    assert_eq!(client(&host, &["entry", "create", "net", "a/b", "żółw", "1 2"]).await, done("Created.\n"));
    let version = || host.node.tables().get("net", "a/b", "żółw").unwrap().version();
    let exists = format!(
        "entry żółw of table a/b in network net exists already, with version {}; update it, or choose another key",
        version()
    );
    assert_eq!(client(&host, &["entry", "create", "net", "a/b", "żółw", "x"]).await, refused(&exists));
    assert_eq!(client(&host, &["entry", "get", "net", "a/b", "żółw"]).await, done("1 2"));
    assert_eq!(client(&host, &["entry", "update", "net", "a/b", "żółw", "3"]).await, done("Updated.\n"));
    assert_eq!(client(&host, &["entry", "get", "net", "a/b", "żółw", "--raw"]).await, done("3"));
    let json = |version: tabledb::Version| {
        format!("{{\"key\":\"żółw\",\"value\":\"3\",\"owner\":\"client\",\"version\":\"{version}\"}}\n")
    };
    assert_eq!(
        client(&host, &["entry", "get", "net", "a/b", "żółw", "--json"]).await,
        done(&json(version()))
    );
    assert_eq!(client(&host, &["tables", "net"]).await, done("TABLE  ENTRIES\na/b          1\n"));
    assert_eq!(
        client(&host, &["table", "net", "a/b"]).await,
        done("KEY   VALUE  OWNER\nżółw  3      client\n")
    );
    other
        .await_response(
            "/gettable?unsafe&nid=net&tname=a/b",
            "OK\ntotal entries: 1\n0) k:`żółw` -> v:`3` owner:`client`\n",
        )
        .await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    let file = file.to_str().unwrap();
    assert_eq!(client(&host, &["export", "net", "a/b", "--out", file]).await, done("1 entries exported.\n"));
    assert_eq!(
        client(&host, &["import", "net", "copy", file]).await,
        done("1 created, 0 updated, 0 unchanged.\n")
    );
    let copied = host.node.tables().get("net", "copy", "żółw").unwrap().version();
    assert_eq!(client(&host, &["export", "net", "copy"]).await, done(&json(copied)));
    std::fs::write(file, "nonsense\n").unwrap();
    let (status, _, sentence) = client(&host, &["import", "net", "copy", file]).await;
    assert_eq!(status, 1);
    assert!(sentence.starts_with("networkdb: 1 line was not imported: line 1: "), "{sentence}");

    assert_eq!(client(&host, &["entry", "put", "net", "copy", "żółw", "4"]).await, done("Replaced.\n"));
    assert_eq!(client(&host, &["entry", "put", "net", "copy", "new", "5"]).await, done("Created.\n"));
    assert_eq!(client(&host, &["entry", "delete", "net", "copy", "żółw"]).await, done("Deleted.\n"));
    assert_eq!(
        client(&host, &["entry", "delete", "net", "copy", "żółw", "--if-needed"]).await,
        done("There is no such entry.\n")
    );
    let (status, _, sentence) = client(&host, &["entry", "get", "net", "copy", "żółw"]).await;
    assert_eq!(
        (status, sentence.as_str()),
        (1, "networkdb: entry żółw of table copy in network net does not exist\n")
    );
    assert_eq!(
        client(&host, &["network", "leave", "net"]).await,
        done("Left network net; 1 other member holds everything that this node held.\n")
    );
    let not_joined = refused("network net is not joined on this node");
    assert_eq!(
        client(&host, &["network", "leave", "net", "--if-needed"]).await,
        done("The node is not on the network.\n")
    );
    let (status, node, _) = client(&host, &["info"]).await;
    assert!(status == 0 && node.starts_with("name      client\n") && node.ends_with("none\n"), "{node}");
    assert_eq!(client(&host, &["network", "stats", "net"]).await, not_joined);
    assert_eq!(
        client(&host, &["network", "leave", "net"]).await,
        refused(
            "network net is not joined on this node, or is being left already; there is nothing to leave"
        )
    );
    host.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_updated_and_deleted_only_with_the_version_that_the_call_names() {
    let host = Host::start("conditional").await;
    assert_eq!(host.get("/joinnetwork?nid=net").await, "OK");
    assert_eq!(client(&host, &["entry", "create", "net", "t", "k", "1"]).await, done("Created.\n"));
    let shown = async || {
        let (status, entry, _) = client(&host, &["entry", "get", "net", "t", "k", "--json"]).await;
        assert_eq!(status, 0, "{entry}");
        let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
        ["value", "version"].map(|field| entry[field].as_str().unwrap().to_owned())
    };
    let [_, first] = shown().await;
    let update = ["entry", "update", "net", "t", "k", "2", "--if-version", &first];
    assert_eq!(client(&host, &update).await, done("Updated.\n"));
    let [_, second] = shown().await;
    let outdated = refused(&format!(
        "entry k of table t in network net has version {second}, which is not the expected one; read it again"
    ));
    let delete = ["entry", "delete", "net", "t", "k", "--if-version"];
    assert_eq!(client(&host, &update).await, outdated);
    assert_eq!(client(&host, &[&delete[..], &[&first]].concat()).await, outdated);
    assert_eq!(shown().await, ["2".to_owned(), second.clone()], "nothing changed");
    assert_eq!(client(&host, &[&delete[..], &[&second]].concat()).await, done("Deleted.\n"));
    let gone = refused("entry k of table t in network net does not exist; read it again");
    assert_eq!(client(&host, &[&delete[..], &[&second]].concat()).await, gone);
    let (status, _, sentence) = client(&host, &[&delete[..], &["latest"]].concat()).await;
    assert_eq!(status, 2);
    assert!(sentence.contains("\"latest\" is not a version: three hexadecimal numbers"), "{sentence}");
    host.end().await;
}

/// A row of JSON by the name of its member.
fn row<'a>(rows: &'a serde_json::Value, member: &str) -> &'a serde_json::Value {
    let rows = rows["members"].as_array().unwrap().iter();
    rows.clone().find(|row| row["member"] == member).unwrap_or_else(|| panic!("{member} is not in {rows:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_explain_and_compare_what_they_hold_to_one_of_them() {
    let (first, second) = (Host::start("first").await, Host::start("second").await);
    // It holds one entry, and refuses others.
    let small = Host::with_limits("small", tabledb::Limits { entries: 1, ..Default::default() }).await;
    for host in [&second, &small] {
        assert_eq!(host.node.join(&[first.address()]).await.unwrap(), 1);
    }
    for host in [&first, &second, &small] {
        assert_eq!(host.get("/joinnetwork?nid=net").await, "OK");
    }
    let create = ["entry", "create", "net", "t", "k", "v", "--known-by", "all", "--within", "15s"];
    assert_eq!(client(&first, &create).await, done("Created. Known by first, second, small.\n"));
    let shown = |key: &str| format!("OK\n0) k:`{key}` -> v:`v` owner:`first`\n");
    second.await_response("/getentry?unsafe&nid=net&tname=t&key=k", &shown("k")).await;
    small.await_response("/getentry?unsafe&nid=net&tname=t&key=k", &shown("k")).await;
    let agreed = client(&second, &["agreement"]).await;
    assert!(
        agreed.0 == 0 && ["first", "second", "small"].iter().all(|name| agreed.1.contains(name)),
        "{agreed:?}"
    );

    let explained = second.get("/v1/networks/net/tables/t/entries/k/explain").await;
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    let [of_first, of_second] =
        ["first", "second"].map(|name| &row(&explained, name)["entry"]["write"]["arrival"]);
    assert_eq!((&of_first["path"], &of_second["from"]), (&"local".into(), &"first".into()), "{explained}");
    let (status, table, _) = client(&second, &["explain", "net", "t", "k"]).await;
    assert!(status == 0 && table.contains("gossip from first"), "{table}");

    let put = ["entry", "put", "net", "t", "l", "v", "--known-by", "all", "--within", "15s"];
    let (status, text, sentence) = client(&first, &put).await;
    assert_eq!((status, &*text), (1, "Created. Known by first, second.\n"));
    assert!(sentence.contains("missing: small (the member refuses it"), "{sentence}");
    second.await_response("/getentry?unsafe&nid=net&tname=t&key=l", &shown("l")).await;
    let refuses = || small.node.tables().statistics("net").is_some_and(|statistics| statistics.refused == 1);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !refuses() {
        assert!(tokio::time::Instant::now() < deadline, "small does not refuse the second entry");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, table, sentence) =
        client(&second, &["agreement", "--network", "net", "--within", "5s"]).await;
    assert!(status == 1 && table.contains("net/t/l  refused  small   absent"), "{table}");
    assert!(sentence.starts_with("networkdb: the members do not agree on net"), "{sentence}");

    // The node that differs knows it without being asked, from the probes of the others.
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let differs = async || {
        let metrics = small.get("/metrics").await;
        let name = "networkdb_disagreement_seconds{network=\"net\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        value.expect("it is a metric").parse::<f64>().unwrap() > 0.0
    };
    while !differs().await {
        assert!(tokio::time::Instant::now() < deadline, "small does not know that it differs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let delete = ["entry", "delete", "net", "t", "l", "--known-by", "majority", "--within", "15s"];
    let (status, text, _) = client(&second, &delete).await;
    assert!(status == 0 && text.starts_with("Deleted. Known by ") && text.contains("second"), "{text}");
    let (status, table, _) = client(&second, &["explain", "--member", "first"]).await;
    assert!(status == 0 && table.contains("alive"), "{table}");
    let unknown = second.exchange(Request::new("GET", "/v1/members/x/explain")).await;
    assert!(unknown.status == 404 && unknown.body.contains("member_not_found"), "{unknown:?}");
    // A member that is down is a row: at first it does not answer, later it has failed.
    small.node.abort();
    let explained = first.get("/v1/networks/net/tables/t/entries/k/explain?within=300ms").await;
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    let answer = &row(&explained, "small")["answer"];
    assert!(["late", "unreachable", "failed"].iter().any(|word| answer == word), "{explained}");
    first.end().await;
    second.end().await;
}

/// The node that it watches ends, the next one hangs, and the third has the same cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_command_prints_changes_and_goes_on_at_another_node() {
    let (host, other) = (Host::start("watched").await, Host::start("other").await);
    assert_eq!(other.get(&format!("/join?members={}", host.address())).await, "OK");
    for node in [&host, &other] {
        assert_eq!(node.get("/joinnetwork?nid=net").await, "OK");
    }
    assert_eq!(host.get("/createentry?unsafe&nid=net&tname=t&key=before&value=1").await, "OK");
    // Connections are accepted by the system, and nobody answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let apis = format!("{},{}", host.api(), hanging.local_addr().unwrap());
    let mut watch =
        networkdb(&["watch", "net", "t", "--api", &apis, "--api", &other.api(), "--max-silence", "1s"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let stdout = std::io::BufReader::new(watch.stdout.take().unwrap());
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        std::io::BufRead::lines(stdout).map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut next = async || tokio::time::timeout(TIMEOUT, lines.recv()).await.expect("a line comes in time");
    assert_eq!(next().await.unwrap(), "+ net/t/before = 1  (watched)");
    assert_eq!(host.get("/updateentry?unsafe&nid=net&tname=t&key=before&value=2").await, "OK");
    assert_eq!(next().await.unwrap(), "~ net/t/before = 2, was 1  (watched)");
    assert_eq!(host.get("/deleteentry?nid=net&tname=t&key=before").await, "OK");
    assert_eq!(next().await.unwrap(), "- net/t/before, was 2  (watched)");
    assert_eq!(other.get("/createentry?unsafe&nid=net&tname=t&key=kept&value=1").await, "OK");
    assert_eq!(next().await.unwrap(), "+ net/t/kept = 1  (other)");
    host.end().await;
    assert_eq!(other.get("/createentry?unsafe&nid=net&tname=t&key=after&value=1").await, "OK");
    assert_eq!(next().await.unwrap(), "+ net/t/after = 1  (other)", "and nothing starts over");
    watch.kill().unwrap();
    let output = tokio::task::spawn_blocking(move || watch.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let said: Vec<_> = said.lines().collect();
    assert!(said[0].contains("is shutting down; resuming at"), "{said:?}");
    assert!(said[1].contains("has been silent for 1 s; resuming at"), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    other.end().await;
}
