//! `networkdb import`: streams a file of any size to the node.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use axum::body::Body;
use tokio::sync::mpsc;

use super::failure::Failure;
use networkdb_http::channel_body::ChannelBody;

const CHUNK_BYTES: usize = 64 << 10;
const MAX_WAITING_CHUNKS: usize = 4;

/// Opens `file`, or the standard input for "-" or without a file.
pub(super) fn open(file: Option<&Path>) -> Result<Box<dyn Read + Send>, Failure> {
    match file {
        None => Ok(Box::new(std::io::stdin())),
        Some(path) if path == Path::new("-") => Ok(Box::new(std::io::stdin())),
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::unusable(format_args!("cannot read {}: {error}", path.display()))),
        },
    }
}

/// A request's body that is read while it is sent.
///
/// A read error aborts the body and fails the request, so that the node does not take a truncated file for a
/// whole one.
pub(super) fn upload(mut source: Box<dyn Read + Send>) -> Body {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_CHUNKS);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let outcome = match source.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    chunk.truncate(length);
                    Ok(chunk.into())
                }
                Err(error) => Err(error),
            };
            let failed = outcome.is_err();
            if sender.blocking_send(outcome).is_err() || failed {
                return;
            }
        }
    });
    Body::new(ChannelBody(receiver))
}
