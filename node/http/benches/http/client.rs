//! A client that sends one request after the other over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::Failure;
use super::server::{Kind, Server};

const VALUE: &str = "0123456789";

/// Timeout of an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Client {
    kind: Kind,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(server: &Server) -> Result<Self, Failure> {
        let connect = || {
            let stream = TcpStream::connect(server.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = connect().map_err(|error| error.to_string())?;
        Ok(Self { kind: server.kind, stream: BufReader::new(stream) })
    }

    pub(crate) fn create(&mut self, key: &str) -> Result<(), Failure> {
        match self.kind {
            Kind::Redis => self.redis(&["SET", key, VALUE], |line| line == "+OK"),
            _ => self.http("POST", &format!("/v1/networks/net/tables/t/entries/{key}"), VALUE, 201),
        }
    }

    pub(crate) fn get(&mut self, key: &str) -> Result<(), Failure> {
        match self.kind {
            Kind::Redis => self.redis(&["GET", key], |line| line.starts_with('$') && line != "$-1"),
            _ => self.http("GET", &format!("/v1/networks/net/tables/t/entries/{key}"), "", 200),
        }
    }

    pub(crate) fn import(&mut self, lines: &str) -> Result<(), Failure> {
        let expected = if self.kind == Kind::Networkdb { 200 } else { 201 };
        self.http("POST", "/v1/networks/net/tables/imported/entries", lines, expected)
    }

    fn http(&mut self, method: &str, path: &str, body: &str, expected: u16) -> Result<(), Failure> {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        let exchange = |stream: &mut BufReader<TcpStream>| {
            stream.get_mut().write_all((head + body).as_bytes())?;
            let (mut line, mut status, mut length) = (String::new(), 0, 0);
            loop {
                line.clear();
                stream.read_line(&mut line)?;
                if status == 0 {
                    status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(1);
                } else if let Some(bytes) = line.strip_prefix("content-length: ") {
                    length = bytes.trim().parse().unwrap_or(0);
                } else if line.trim().is_empty() {
                    break;
                }
            }
            std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
            Ok::<u16, std::io::Error>(status)
        };
        match exchange(&mut self.stream) {
            Ok(status) if status == expected => Ok(()),
            Ok(status) => Err(format!("{method} {path} was answered with {status}")),
            Err(error) => Err(format!("{method} {path}: {error}")),
        }
    }

    fn redis(&mut self, words: &[&str], is_fine: fn(&str) -> bool) -> Result<(), Failure> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        let exchange = |stream: &mut BufReader<TcpStream>| {
            stream.get_mut().write_all(request.as_bytes())?;
            let (mut line, mut value) = (String::new(), String::new());
            stream.read_line(&mut line)?;
            if line.starts_with('$') && line.trim() != "$-1" {
                stream.read_line(&mut value)?;
            }
            Ok::<String, std::io::Error>(line)
        };
        match exchange(&mut self.stream) {
            Ok(line) if is_fine(line.trim()) => Ok(()),
            Ok(line) => Err(format!("{words:?} was answered with {line:?}")),
            Err(error) => Err(format!("{words:?}: {error}")),
        }
    }
}
