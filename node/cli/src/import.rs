//! `networkdb import`: a file travels to the node in pieces, whatever its size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use axum::body::Body;
use tokio::sync::mpsc;

use super::failure::Failure;
use networkdb_http::pieces::Pieces;

const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;

/// Opens `file`, or the standard input for "-" or nothing.
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
/// A source that breaks ends the body early and fails the request, so that what is missing does not go unnoticed.
pub(super) fn upload(mut source: Box<dyn Read + Send>) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let outcome = match source.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    piece.truncate(length);
                    Ok(piece.into())
                }
                Err(error) => Err(error),
            };
            let over = outcome.is_err();
            if sender.blocking_send(outcome).is_err() || over {
                return;
            }
        }
    });
    Body::new(Pieces(receiver))
}
