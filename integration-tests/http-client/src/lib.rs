//! A small blocking HTTP client for tests: one well-formed request on a connection of its own, and the whole
//! response. Tests that misbehave use sockets, and can read the response with this.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request. It asks the server to close the connection after the response.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: String,
    body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body, without the marks between its chunks.
    pub body: String,
}

/// The response of the server at `address` to a GET.
///
/// # Errors
/// If the server cannot be reached, or does not complete a response within `limit`.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> io::Result<Response> {
    Request::new("GET", path).send(address, limit)
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: String::new(), body: Vec::new() }
    }

    /// Adds header lines, each with its line end. Without a `host` among them, it is `localhost`.
    #[must_use]
    pub fn headers(mut self, lines: &str) -> Self {
        self.headers.push_str(lines);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends it to `address`, and reads the response.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not complete a response within `limit`.
    pub fn send(&self, address: SocketAddr, limit: Duration) -> io::Result<Response> {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        self.send_over(&mut stream, limit)
    }

    /// Sends it over `stream`, and reads the response.
    ///
    /// # Errors
    /// If the server does not complete a response within `limit`, or a timeout of the stream passes.
    pub fn send_over(&self, stream: &mut (impl Read + Write), limit: Duration) -> io::Result<Response> {
        let Self { method, path, headers, body } = self;
        let host = if headers.contains("host: ") { "" } else { "host: localhost\r\n" };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        Response::read(stream, limit)
    }
}

impl Response {
    /// Reads a response until the server closes the connection.
    ///
    /// # Errors
    /// If it does not end within `limit`, is cut off, or is not a response of text.
    #[expect(clippy::disallowed_methods, reason = "the deadline of a test, for a stream that does not end")]
    pub fn read(stream: &mut impl Read, limit: Duration) -> io::Result<Self> {
        let (deadline, mut bytes, mut piece) = (Instant::now() + limit, Vec::new(), vec![0; 1 << 18]);
        loop {
            match stream.read(&mut piece)? {
                0 => break,
                length => bytes.extend_from_slice(&piece[..length]),
            }
            if Instant::now() > deadline {
                let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
                let sentence = format!("after {limit:?} this response has not ended: {begin}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, sentence));
            }
        }
        Self::parse(&bytes).ok_or_else(|| {
            let sentence = format!("this is no complete response: {}", String::from_utf8_lossy(&bytes));
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_lowercase() + "\r\n";
        let status = head.strip_prefix("http/1.")?.split(' ').nth(1)?.parse().ok()?;
        let body = &bytes[end + 4..];
        let is_chunked = head.contains("transfer-encoding: chunked\r\n");
        let body = if is_chunked { joined(body)? } else { body.to_vec() };
        Some(Self { status, head, body: String::from_utf8(body).ok()? })
    }
}

/// Joins the chunks of a body; `None` if the last one is missing.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let chunk = chunks.get(end + 2..end + 2 + length)?;
        body.extend_from_slice(chunk);
        chunks = chunks.get(end + 2 + length..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn read(text: &str) -> io::Result<Response> {
        Response::read(&mut text.as_bytes(), LIMIT)
    }

    #[test]
    fn a_body_is_read_to_its_end() {
        let response = read("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone").unwrap();
        assert_eq!((response.status, response.body.as_str()), (404, "none"));
        assert_eq!(response.head, "http/1.1 404 not found\r\ncontent-length: 4\r\n");
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_split() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = "3\r\na\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n";
        assert_eq!(read(&format!("{head}{chunks}")).unwrap().body, "a\r\n\r\n");
        let bytes = [head.as_bytes(), b"1\r\n\xc5\r\n1\r\n\xbc\r\n0\r\n\r\n"].concat();
        assert_eq!(Response::read(&mut &bytes[..], LIMIT).unwrap().body, "ż");
    }

    #[test]
    fn a_response_that_is_cut_off_is_an_error() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for text in ["", "HTTP/1.1 200 OK\r\n", head, &format!("{head}3\r\nab"), &format!("{head}1\r\na\r\n")]
        {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }
}
