//! Response bodies that are rendered while the client reads them, so that no response that grows with the
//! data is ever held in memory as a whole. No thread waits for a slow client, and rendering ends when the
//! client disconnects.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde::Serialize;

/// The size from which a chunk is sent. The last item in it can exceed this.
const CHUNK_BYTES: usize = 64 << 10;

/// The headers of a body with one JSON value a line.
pub(super) const JSON_LINES: [(HeaderName, &str); 2] =
    [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];

/// Appends the next item to the chunk; false if there is none.
type Next = Box<dyn FnMut(&mut Vec<u8>) -> bool + Send>;

struct Streamed {
    /// The next chunk, if it is rendered already.
    chunk: Option<Vec<u8>>,
    next: Option<Next>,
}

impl Streamed {
    /// Renders the next chunk, which is empty at the end.
    fn make(&mut self) -> Vec<u8> {
        let mut chunk = Vec::new();
        while let Some(next) = &mut self.next
            && chunk.len() < CHUNK_BYTES
        {
            if !next(&mut chunk) {
                self.next = None;
            }
        }
        chunk
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunk.take().unwrap_or_else(|| self.make());
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_none() && self.next.is_none()
    }
}

/// A body of what `next` appends until it returns false. A short body has a known length.
pub(super) fn streamed(next: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static) -> Body {
    let mut body = Streamed { chunk: None, next: Some(Box::new(next)) };
    let chunk = body.make();
    if body.next.is_none() {
        return chunk.into();
    }
    body.chunk = Some(chunk);
    Body::new(body)
}

/// A body of `head`, then each item as `render` writes it, with its index, then `tail`.
pub(super) fn items<I>(
    head: Vec<u8>,
    items: I,
    mut render: impl FnMut(&mut Vec<u8>, usize, I::Item) + Send + 'static,
    tail: Vec<u8>,
) -> Body
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
{
    let mut head = Some(head);
    let mut items = items.into_iter().enumerate();
    streamed(move |chunk| {
        if let Some(head) = head.take() {
            chunk.extend_from_slice(&head);
            return true;
        }
        match items.next() {
            Some((index, item)) => {
                render(chunk, index, item);
                true
            }
            None => {
                chunk.extend_from_slice(&tail);
                false
            }
        }
    })
}

/// A body of JSON: `{"before":…,"name":[…]}`, where `before` is a field or none, and `view` makes an item of
/// the list.
pub(super) fn json_list<I, T: Serialize>(
    before: Option<(&str, &str)>,
    name: &str,
    list: I,
    mut view: impl FnMut(I::Item) -> Option<T> + Send + 'static,
) -> Body
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
{
    let text = |text: &str| serde_json::to_string(text).expect("a text has a JSON form");
    let mut head = b"{".to_vec();
    if let Some((field, value)) = before {
        write!(head, "{}:{},", text(field), text(value)).expect("writing to memory cannot fail");
    }
    write!(head, "{}:[", text(name)).expect("writing to memory cannot fail");
    let mut first = true;
    let render = move |chunk: &mut Vec<u8>, _index, item| {
        let Some(item) = view(item) else { return };
        if !std::mem::take(&mut first) {
            chunk.push(b',');
        }
        json(chunk, &item);
    };
    items(head, list, render, b"]}".to_vec())
}

/// Appends the JSON of `value`.
pub(super) fn json(chunk: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(chunk, value).expect("texts, numbers and lists have a JSON form");
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn chunks_are_rendered_as_they_are_read() {
        let made = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counting = made.clone();
        let mut body = items(
            b"(".to_vec(),
            vec![[b'x'; 1000]; 1000],
            move |chunk, index, item| {
                counting.store(index + 1, std::sync::atomic::Ordering::Relaxed);
                chunk.extend_from_slice(&item);
            },
            b")".to_vec(),
        );
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), made.load(std::sync::atomic::Ordering::Relaxed)), (66_001, 66));
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((second.len(), made.load(std::sync::atomic::Ordering::Relaxed)), (66_000, 132));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!((rest.len(), rest.last()), (1000 * 1000 + 2 - 132_001, Some(&b')')));
    }

    #[tokio::test]
    async fn a_list_is_the_json_that_serde_makes() {
        let body = json_list(Some(("node", "a\"b")), "list", [1, 2, 3], |item| (item != 2).then_some(item));
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], br#"{"node":"a\"b","list":[1,3]}"#);
        let body = json_list(None, "list", Vec::<u8>::new(), Some);
        assert_eq!(body.size_hint().exact(), Some(11), "a short body has a known length");
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], br#"{"list":[]}"#);
    }
}
