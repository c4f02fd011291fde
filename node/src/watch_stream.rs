//! A watch as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tabledb::{Watch, WatchEvent};

/// A [`Watch`] as a [`Stream`], for combinators. Ends when the database or its node ends.
///
/// # Examples
/// ```
/// use std::future::poll_fn;
/// use std::pin::Pin;
///
/// use futures_core::Stream;
/// use networkdb::tabledb::Config;
/// use networkdb::{NodeName, TableDb, WatchFilter, WatchStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
/// tables.join_network("blue")?;
/// tables.create("blue", "services", "web", "10.0.0.7:80")?;
/// let mut events = WatchStream::from(tables.watch(WatchFilter::default()));
/// let mut next = async || poll_fn(|context| Pin::new(&mut events).poll_next(context)).await;
/// assert!(next().await.is_some());
/// tables.end_watches();
/// assert!(next().await.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WatchStream {
    watch: Watch,
    has_ended: bool,
}

impl From<Watch> for WatchStream {
    fn from(watch: Watch) -> Self {
        Self { watch, has_ended: false }
    }
}

impl Stream for WatchStream {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.watch.poll_recv(context));
        self.has_ended = event == WatchEvent::Closed;
        Poll::Ready((!self.has_ended).then_some(event))
    }
}
