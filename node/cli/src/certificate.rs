//! The certificate of the HTTP port: its reload while a node runs.

use std::sync::Arc;

use networkdb_http::tls::{CertificateFiles, CertificateStore};
use tokio::signal::unix::Signal;

/// Reads the certificate and its key again at every SIGHUP, for new connections. If they cannot be used, the
/// previous ones stay in use.
pub(super) async fn reload_on_hangup(
    mut hangup: Signal,
    files: CertificateFiles,
    store: Arc<CertificateStore>,
) {
    while hangup.recv().await.is_some() {
        match files.read() {
            Ok(certificate) => {
                store.replace(certificate);
                tracing::info!(file = %files.certificate.display(), "HTTP certificate reloaded");
            }
            Err(error) => {
                tracing::warn!("HTTP certificate not reloaded, the previous one stays in use: {error}");
            }
        }
    }
}
