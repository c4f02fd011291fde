//! Entry points for fuzz targets: what parses the bytes of an unauthenticated peer. Built with `--cfg
//! fuzzing` only.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;
use wire::NodeName;

use crate::ClusterName;
use crate::certificate::{Credentials, Subject, Validity};
use crate::config::Timeouts;
use crate::introduction::Introduction;
use crate::keys::KeySet;

/// A time at which a certificate of [`CertificateCheck::new`] is valid.
const NOW: UnixTime = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));

/// The verification of peers' certificates.
#[derive(Debug)]
pub struct CertificateCheck {
    credentials: Credentials,
}

impl CertificateCheck {
    /// The check of the node `name` of a cluster with the development secret.
    pub fn new(name: &str) -> Self {
        let subject = Subject::new(NodeName::new(name).expect("a name"), ClusterName::default(), None);
        let validity = Validity::of(&Timeouts::default());
        Self { credentials: Credentials::mint(&subject, KeySet::development().into(), validity, NOW) }
    }

    /// The node's own certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.credentials.own.cert[0]
    }

    /// The node that `certificate` names, if it is accepted from a client, or else from a server.
    pub fn name_of(&self, certificate: &[u8], intermediates: &[&[u8]], as_client: bool) -> Option<NodeName> {
        let intermediates = intermediates.iter().map(|der| CertificateDer::from(*der)).collect::<Vec<_>>();
        let usage = if as_client { KeyUsage::client_auth() } else { KeyUsage::server_auth() };
        let verified = self.credentials.verify(&certificate.into(), &intermediates, usage, NOW);
        verified.ok().map(|verified| verified.name)
    }
}

/// Whether `bytes` decode as an introduction. Panics if that does not survive encoding and decoding.
pub fn decodes_as_introduction(bytes: &[u8]) -> bool {
    match Introduction::decode(bytes) {
        Ok(introduction) => {
            assert_eq!(
                Introduction::decode(&introduction.encode()),
                Ok(introduction),
                "it is read back otherwise"
            );
            true
        }
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            false
        }
    }
}
