//! Certificates of an operator's own authority, instead of a shared secret.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use ring::{digest, hkdf};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};
use wire::NodeName;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::{Zeroize as _, Zeroizing};

use crate::cluster_name::ClusterName;
use crate::keys::Fingerprint;

/// The most authorities that a node accepts.
pub const MAX_AUTHORITIES: usize = 64;

/// A node's certificate with its private key, and the authorities whose certificates are accepted from
/// peers. Cloning copies a pointer.
#[derive(Clone)]
pub struct CertificateSet(Arc<Parts>);

struct Parts {
    name: NodeName,
    /// The clusters in the certificate; empty if it is valid in any.
    clusters: Vec<String>,
    own: Arc<CertifiedKey>,
    authorities: Vec<(Fingerprint, TrustAnchor<'static>)>,
    revoked: Revoked,
    not_before: u64,
    not_after: u64,
    /// Of all certificates and revocations. Equal for equal files.
    digest: [u8; 32],
    /// Key material for everything that is derived for this node alone.
    seed: Zeroizing<[u8; 32]>,
}

/// Why files are not a usable certificate set. A private key is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateSetError {
    /// A file does not contain what it should.
    #[error("the {file} is not PEM with {wanted}: {reason}")]
    Pem {
        /// The file.
        file: &'static str,
        /// The expected content.
        wanted: &'static str,
        /// The error.
        reason: String,
    },
    /// The private key cannot be used.
    #[error(
        "the private key cannot be used: {0}; supported are unencrypted PKCS #8 keys of type ECDSA P-256, \
         Ed25519 or RSA"
    )]
    Key(String),
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate; give both from one request")]
    Mismatch,
    /// The certificate contains no node name.
    #[error("the certificate names no node: {0}")]
    Name(String),
    /// Other nodes would refuse the certificate.
    #[error("other nodes would refuse the certificate: {0}")]
    Useless(String),
    /// The node's own certificate has been revoked.
    #[error("the certificate is on the revocation list in the authority file; give the node a new one")]
    Revoked,
    /// There are too many authorities.
    #[error("there are {0} certificate authorities; at most {MAX_AUTHORITIES} are allowed")]
    TooMany(usize),
}

impl CertificateSet {
    /// Parses three files in PEM: the node's certificate followed by any intermediate certificates, its
    /// private key, and the certificates of the accepted authorities.
    ///
    /// The name of the node is the DNS name in the certificate's subject alternative name. If there are
    /// several, it is the one that is also the subject's common name. If the certificate has an extended
    /// key usage, it must allow both client and server authentication, because a node is both.
    ///
    /// If the subject alternative name contains URIs of the form `networkdb:CLUSTER`, with the cluster
    /// name percent-encoded, the certificate is valid in those clusters only.
    ///
    /// The file of authorities may also contain their revocation lists. The operator supplies these
    /// files, so neither the signature nor the validity of a list is checked.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        authorities: &[u8],
        now: std::time::SystemTime,
    ) -> Result<Self, CertificateSetError> {
        let now = UnixTime::since_unix_epoch(now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default());
        let chain = certificates("certificate file", certificate)?;
        let trusted = certificates("authority file", authorities)?;
        if trusted.len() > MAX_AUTHORITIES {
            return Err(CertificateSetError::TooMany(trusted.len()));
        }
        let revoked = Revoked::from_pem(authorities)?;
        let own = &chain[0];
        if revoked.contains(own) {
            return Err(CertificateSetError::Revoked);
        }
        let (_, parsed) = X509Certificate::from_der(own)
            .map_err(|_| CertificateSetError::Name("it does not decode".to_owned()))?;
        let name = name_of(&parsed).map_err(CertificateSetError::Name)?;
        let clusters = clusters_of(&parsed).map_err(CertificateSetError::Useless)?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = parsed.validity();
        let (not_before, not_after) = (seconds(validity.not_before), seconds(validity.not_after));

        let mut key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CertificateSetError::Pem {
            file: "key file",
            wanted: "a private key",
            reason: error.to_string(),
        })?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key);
        let mut seed = Zeroizing::new([0; 32]);
        let mut whole = digest::Context::new(&digest::SHA256);
        hkdf_seed(key.secret_der(), &mut seed);
        key.zeroize();
        let signing = signing.map_err(|error| CertificateSetError::Key(error.to_string()))?;
        for der in chain.iter().chain(&trusted) {
            whole.update(&(der.len() as u64).to_le_bytes());
            whole.update(der);
        }
        for (issuer, serial) in &revoked.0 {
            for part in [issuer, serial] {
                whole.update(&(part.len() as u64).to_le_bytes());
                whole.update(part);
            }
        }
        let anchors = trusted.iter().map(anchor_of).collect::<Result<Vec<_>, _>>()?;
        check_use(&chain, &anchors, now)?;
        let own = CertifiedKey::new(chain, signing);
        own.keys_match().map_err(|_| CertificateSetError::Mismatch)?;
        Ok(Self(Arc::new(Parts {
            name,
            clusters,
            own: Arc::new(own),
            authorities: anchors,
            revoked,
            not_before,
            not_after,
            digest: whole.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes"),
            seed,
        })))
    }

    /// The name of the node in the certificate.
    pub fn name(&self) -> &NodeName {
        &self.0.name
    }

    /// The clusters in the certificate; empty if it is valid in any.
    pub fn clusters(&self) -> &[String] {
        &self.0.clusters
    }

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + Duration::from_secs(self.0.not_after)
    }

    /// The remaining validity of the certificate, once it is less than a quarter of the whole: by then
    /// it should have been renewed. Zero if it has expired.
    pub(crate) fn expires_soon(&self, now: UnixTime) -> Option<Duration> {
        let left = self.0.not_after.saturating_sub(now.as_secs());
        (left < (self.0.not_after - self.0.not_before.min(self.0.not_after)) / 4)
            .then(|| Duration::from_secs(left))
    }

    /// The fingerprints of the accepted authorities. They cover name and public key, so that a renewed
    /// certificate of an authority keeps its fingerprint.
    pub fn authorities(&self) -> Vec<Fingerprint> {
        self.0.authorities.iter().map(|(fingerprint, _)| *fingerprint).collect()
    }

    pub(crate) fn own(&self) -> &Arc<CertifiedKey> {
        &self.0.own
    }

    pub(crate) fn anchors(&self) -> &[(Fingerprint, TrustAnchor<'static>)] {
        &self.0.authorities
    }

    /// Whether a revocation list contains this certificate.
    pub(crate) fn revokes(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.revoked.contains(certificate)
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }
}

impl PartialEq for CertificateSet {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest && self.0.seed == other.0.seed
    }
}

impl Eq for CertificateSet {}

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSet")
            .field("name", self.name())
            .field("authorities", &self.authorities())
            .finish_non_exhaustive()
    }
}

/// The node name in a certificate of an operator's authority, or why there is none.
pub(crate) fn name_of(certificate: &X509Certificate<'_>) -> Result<NodeName, String> {
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let names: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
        .collect();
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = match names.as_slice() {
        [] => return Err("there is no DNS name in its subject alternative name".to_owned()),
        [only] => only,
        several => several.iter().find(|name| Some(**name) == common).ok_or_else(|| {
            format!(
                "there are {} DNS names in its subject alternative name, and its common name repeats none of \
                 them",
                several.len()
            )
        })?,
    };
    NodeName::new(name).map_err(|error| error.to_string())
}

/// The clusters in a certificate of an operator's authority; empty if it is valid in any.
fn clusters_of(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("networkdb:"),
        _ => None,
    });
    Ok(uris.map(|cluster| percent_decode_str(cluster).decode_utf8_lossy().into_owned()).collect())
}

/// Checks that a certificate is valid in this cluster. The cluster name in an introduction is only a
/// claim, and one authority may issue certificates for several clusters.
pub(crate) fn check_cluster(certificate: &X509Certificate<'_>, ours: &ClusterName) -> Result<(), String> {
    let clusters = clusters_of(certificate)?;
    match covers_cluster(&clusters, ours) {
        true => Ok(()),
        false => Err(format!(
            "it is for the cluster {}, and this one is {:?}",
            format_clusters(&clusters),
            ours.as_str()
        )),
    }
}

/// Whether a certificate for `clusters` is valid in this cluster.
pub(crate) fn covers_cluster(clusters: &[String], ours: &ClusterName) -> bool {
    clusters.is_empty() || clusters.iter().any(|cluster| cluster == ours.as_str())
}

/// Names of clusters in a message for people.
pub(crate) fn format_clusters(clusters: &[String]) -> String {
    let shown: Vec<String> = clusters.iter().take(8).map(|cluster| format!("{cluster:?}")).collect();
    shown.join(" or ")
}

/// Issuer and serial number of every revoked certificate.
struct Revoked(BTreeSet<(Vec<u8>, Vec<u8>)>);

impl Revoked {
    fn from_pem(pem: &[u8]) -> Result<Self, CertificateSetError> {
        let wrong = |reason| CertificateSetError::Pem {
            file: "authority file",
            wanted: "certificates and revocation lists of authorities",
            reason,
        };
        let mut revoked = BTreeSet::new();
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            let list = list.map_err(|error| wrong(error.to_string()))?;
            let (_, list) = CertificateRevocationList::from_der(&list)
                .map_err(|_| wrong("a revocation list does not decode".to_owned()))?;
            let issuer = list.issuer().as_raw();
            let serials = list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec());
            revoked.extend(serials.map(|serial| (issuer.to_vec(), serial)));
        }
        Ok(Self(revoked))
    }

    fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        // A certificate that does not decode is refused elsewhere.
        X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
            self.0.contains(&(certificate.issuer().as_raw().to_vec(), certificate.raw_serial().to_vec()))
        })
    }
}

/// A node is client and server. A certificate for one of these uses was issued for another purpose: for
/// a web server or for a user of the same authority. Its owner must not get in through the half of the
/// handshake that it allows.
pub(crate) fn check_both_uses(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let limited = certificate.extended_key_usage().map_err(|error| error.to_string())?;
    match limited.map(|usage| usage.value) {
        Some(usage) if !(usage.any || usage.server_auth && usage.client_auth) => {
            let only = match (usage.server_auth, usage.client_auth) {
                (true, false) => "servers only",
                (false, true) => "clients only",
                _ => "neither clients nor servers",
            };
            Err(format!(
                "by its extended key usage it is for {only}, and a node is both; issue one with serverAuth \
                 and clientAuth"
            ))
        }
        _ => Ok(()),
    }
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateSetError> {
    let wrong = |reason| CertificateSetError::Pem { file, wanted: "at least one certificate", reason };
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("there is none in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn anchor_of(
    certificate: &CertificateDer<'static>,
) -> Result<(Fingerprint, TrustAnchor<'static>), CertificateSetError> {
    let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|error| CertificateSetError::Pem {
        file: "authority file",
        wanted: "certificates of authorities",
        reason: error.to_string(),
    })?;
    let mut of = digest::Context::new(&digest::SHA256);
    of.update(&(anchor.subject.len() as u64).to_le_bytes());
    of.update(&anchor.subject);
    of.update(&anchor.subject_public_key_info);
    Ok((Fingerprint::of_digest(&of.finish()), anchor.to_owned()))
}

/// Checked at the start: otherwise the peers would find the error, and take the node for an intruder.
fn check_use(
    chain: &[CertificateDer<'static>],
    anchors: &[(Fingerprint, TrustAnchor<'static>)],
    now: UnixTime,
) -> Result<(), CertificateSetError> {
    let anchors: Vec<_> = anchors.iter().map(|(_, anchor)| anchor.clone()).collect();
    let own = EndEntityCert::try_from(&chain[0])
        .map_err(|error| CertificateSetError::Useless(error.to_string()))?;
    for (usage, which) in [(KeyUsage::server_auth(), "server"), (KeyUsage::client_auth(), "client")] {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        own.verify_for_usage(algorithms, &anchors, &chain[1..], now, usage, None, None).map_err(|error| {
            CertificateSetError::Useless(match error {
                webpki::Error::UnknownIssuer => {
                    "none of the authorities in the authority file has issued it".to_owned()
                }
                webpki::Error::CertExpired { .. } => "it has expired".to_owned(),
                webpki::Error::CertNotValidYet { .. } => "it is not valid yet".to_owned(),
                webpki::Error::RequiredEkuNotFoundContext(_) => {
                    format!("its extended key usage does not allow {which} authentication")
                }
                error => error.to_string(),
            })
        })?;
    }
    Ok(())
}

fn hkdf_seed(key: &[u8], seed: &mut [u8; 32]) {
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"networkdb operator key v1")
        .extract(key)
        .expand(&[b"seed"], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(seed))
        .expect("32 bytes are what SHA-256 gives");
}
