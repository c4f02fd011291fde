//! The servers, each a process: a node, a bare axum handler, Redis.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use hyper::StatusCode;
use networkdb::{Node, NodeConfig};
use networkdb_http::{HttpConfig, HttpLimits, HttpListener};
use rustix::time::{ClockId, clock_gettime};
use transport::KeySet;
use wire::NodeName;

use super::Failure;

/// The first argument of a server's process.
pub(crate) const ARGUMENT: &str = "serve";

/// The JSON that the bare handler answers with, of about the size of an entry's.
const ANSWER: &str = r#"{"key":"key-000000","value":"0123456789","owner":"host","version":"1-2-3"}"#;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Networkdb,
    Axum,
    Redis,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Networkdb => "networkdb",
            Self::Axum => "bare axum",
            Self::Redis => "Redis",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    calls: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Server {
    /// Starts one; `None` if its program is not installed.
    pub(crate) fn start(kind: Kind) -> Result<Option<Self>, Failure> {
        if kind == Kind::Redis {
            return Self::redis();
        }
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args([ARGUMENT, kind.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut calls = (stdin, BufReader::new(stdout));
        let mut line = String::new();
        calls.1.read_line(&mut line).map_err(|error| error.to_string())?;
        let address = line.trim().parse().map_err(|_| format!("{} did not start", kind.name()))?;
        Ok(Some(Self { kind, address, child, calls: Some(calls) }))
    }

    fn redis() -> Result<Option<Self>, Failure> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| error.to_string())?;
        let port = address.port().to_string();
        let started = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = started else { return Ok(None) };
        let server = Self { kind: Kind::Redis, address, child, calls: None };
        for _ in 0..100 {
            if TcpStream::connect(address).is_ok() {
                return Ok(Some(server));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("redis-server did not start".to_owned())
    }

    /// The processor time that it has used.
    pub(crate) fn processor(&mut self) -> Result<Duration, Failure> {
        let (stdin, stdout) = self.calls.as_mut().ok_or("it cannot be asked")?;
        let mut line = String::new();
        let asked = stdin.write_all(b"processor\n").and_then(|()| stdout.read_line(&mut line));
        asked.map_err(|error| error.to_string())?;
        line.trim().parse().map(Duration::from_nanos).map_err(|_| format!("{line:?} is no time"))
    }

    /// The bytes of memory that only it uses.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let file = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let sizes = text.lines().filter(|line| line.starts_with("Private_"));
        let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
        Ok(sizes.filter_map(kib).sum::<u64>() << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves in this process, and answers calls on the standard input until it ends.
pub(crate) fn run(kind: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = if kind == Kind::Networkdb.name() {
        runtime.block_on(serve_node(loopback))
    } else {
        runtime.block_on(serve_bare(loopback))
    };
    println!("{address}");
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        println!("{}", Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_nanos());
    }
}

async fn serve_node(loopback: SocketAddr) -> SocketAddr {
    let config = NodeConfig::new(NodeName::new("host").expect("valid"), loopback, KeySet::development());
    let node = Node::start(config).await.expect("the node starts");
    node.join_network("net").await.expect("it is alone");
    let limits = HttpLimits { connections: 4_000, requests: 512, watches: 3_000, ..HttpLimits::default() };
    let config = HttpConfig { limits, ..HttpConfig::default() };
    let listener = HttpListener::bind(loopback, config).await.expect("the port is free");
    let address = listener.local_address();
    // It serves until the process ends.
    std::mem::forget(listener.serve(node));
    address
}

/// A handler that reads the whole body and answers with a constant.
async fn serve_bare(loopback: SocketAddr) -> SocketAddr {
    let create = async |_: Bytes| (StatusCode::CREATED, ANSWER);
    let router =
        Router::new().route("/{*path}", get(async || ANSWER).post(create)).layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind(loopback).await.expect("the port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    address
}
