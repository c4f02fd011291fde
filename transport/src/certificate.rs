//! Certificates of nodes: the one that a node mints for itself from its primary secret, and the
//! verification of a peer's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator};
use wire::NodeName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};
use zeroize::Zeroizing;

use crate::cluster_name::ClusterName;
use crate::config::Timeouts;
use crate::error::RefusalReason;
use crate::identity::Identity;
use crate::introduction::{InstanceId, Introduction};
use crate::keys::{Fingerprint, Secret};
use crate::pki::{check_both_uses, check_cluster, name_of};

const AUTHORITY_NAME: &str = "networkdb secret ";

/// The identity in a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifiedPeer {
    pub(crate) name: NodeName,
    /// The secret or authority that the certificate comes from.
    pub(crate) authority: Fingerprint,
}

/// What a node announces about itself, and the key pair of the certificates that it mints.
pub(crate) struct Subject {
    pub(crate) name: NodeName,
    pub(crate) introduction: Introduction,
    key: KeyPair,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Subject");
        shown.field("name", &self.name).field("introduction", &self.introduction);
        shown.finish_non_exhaustive()
    }
}

impl Subject {
    pub(crate) fn new(name: NodeName, cluster: ClusterName, advertised: Option<SocketAddr>) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("the system has a source of random numbers");
        Self { name, introduction: Introduction { cluster, instance: InstanceId::random(), advertised }, key }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.introduction.instance
    }
}

/// The validity of minted certificates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    /// A node renews its own certificate after half of this time.
    pub(crate) lifetime: Duration,
    /// The tolerated difference between the clocks of two hosts. It does not apply to certificates of an
    /// operator's authority, which sets their validity itself.
    pub(crate) clock_skew: Duration,
}

impl Validity {
    pub(crate) fn of(timeouts: &Timeouts) -> Self {
        Self { lifetime: timeouts.certificate, clock_skew: timeouts.clock_skew }
    }
}

/// A node's own certificate, and what it accepts from peers: everything derived from one identity at one
/// time.
pub(crate) struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) own: Arc<CertifiedKey>,
    cluster: ClusterName,
    authorities: Vec<(Fingerprint, TrustAnchor<'static>)>,
    validity: Validity,
    minted_at: UnixTime,
}

impl Credentials {
    pub(crate) fn mint(subject: &Subject, identity: Identity, validity: Validity, now: UnixTime) -> Self {
        let (own, authorities) = match &identity {
            Identity::Secrets(keys) => {
                let mut authorities = Vec::with_capacity(keys.secrets().len());
                for secret in keys.secrets() {
                    let authority = Authority::derive(secret);
                    authorities.push((secret.fingerprint(), authority.anchor()));
                }
                let own = Authority::derive(keys.primary()).sign(subject, validity.lifetime, now);
                (Arc::new(own), authorities)
            }
            Identity::Certificates(certificates) => {
                (certificates.own().clone(), certificates.anchors().to_vec())
            }
        };
        let cluster = subject.introduction.cluster.clone();
        Self { identity, own, cluster, authorities, validity, minted_at: now }
    }

    /// Whether the node's own certificate should be renewed. That is also so after the clock was set
    /// back.
    pub(crate) fn is_renewal_due(&self, now: UnixTime) -> bool {
        let Validity { lifetime, clock_skew } = self.validity;
        self.identity.secrets().is_some()
            && (now.as_secs() >= self.minted_at.as_secs() + lifetime.as_secs() / 2
                || now.as_secs() + clock_skew.as_secs() / 2 < self.minted_at.as_secs())
    }

    /// Checks that the certificate of an existing connection, issued by `authority`, is still accepted
    /// and not revoked.
    pub(crate) fn check(
        &self,
        authority: Fingerprint,
        connection: &quinn::Connection,
    ) -> Result<(), RefusalReason> {
        if !self.accepts(authority) {
            return Err(self.unknown_issuer(authority.to_string()));
        }
        let shown =
            connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'_>>>().ok());
        match shown.as_deref().and_then(|chain| chain.first()) {
            Some(certificate) => self.check_revoked(certificate),
            None => Ok(()),
        }
    }

    fn check_revoked(&self, certificate: &CertificateDer<'_>) -> Result<(), RefusalReason> {
        match &self.identity {
            Identity::Certificates(certificates) if certificates.revokes(certificate) => {
                Err(RefusalReason::Certificate("it is on the revocation list of its authority".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn accepts(&self, authority: Fingerprint) -> bool {
        self.authorities.iter().any(|(known, _)| *known == authority)
    }

    fn unknown_issuer(&self, theirs: String) -> RefusalReason {
        let ours = self.identity.accepts().iter().map(Fingerprint::to_string).collect::<Vec<_>>().join(", ");
        match &self.identity {
            Identity::Secrets(_) => RefusalReason::UnknownSecret { theirs, ours },
            Identity::Certificates(_) => RefusalReason::UnknownAuthority { theirs, ours },
        }
    }

    /// Verifies a peer's certificate: signed by one of our secrets or authorities, valid now, and with a
    /// node's name.
    pub(crate) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: impl ExtendedKeyUsageValidator + Copy,
        now: UnixTime,
    ) -> Result<VerifiedPeer, RefusalReason> {
        let malformed = |what: &str| RefusalReason::Certificate(what.to_owned());
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| malformed("it does not decode"))?;
        let end_entity =
            EndEntityCert::try_from(certificate).map_err(|error| malformed(&error.to_string()))?;
        let anchors: Vec<_> = self.authorities.iter().map(|(_, anchor)| anchor.clone()).collect();
        let check = |time| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            let path =
                end_entity.verify_for_usage(algorithms, &anchors, intermediates, time, usage, None, None)?;
            let anchor = path.anchor();
            let found = self.authorities.iter().find(|(_, known)| known == anchor);
            found.map(|(fingerprint, _)| *fingerprint).ok_or(webpki::Error::UnknownIssuer)
        };
        let shifted = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let minted = self.identity.secrets().is_some();
        let skew = if minted { self.validity.clock_skew.as_secs() } else { 0 };
        let authority = match check(now) {
            Err(webpki::Error::CertExpired { .. }) => check(shifted(now.as_secs().saturating_sub(skew))),
            Err(webpki::Error::CertNotValidYet { .. }) => check(shifted(now.as_secs() + skew)),
            checked => checked,
        };
        let authority = authority.map_err(|error| match error {
            webpki::Error::CertExpired { not_after, .. } => RefusalReason::Expired {
                ago: Duration::from_secs(now.as_secs().saturating_sub(not_after.as_secs())),
            },
            webpki::Error::CertNotValidYet { not_before, .. } => RefusalReason::NotYetValid {
                ahead: Duration::from_secs(not_before.as_secs().saturating_sub(now.as_secs())),
            },
            webpki::Error::UnknownIssuer => self.unknown_issuer(issuer_of(&parsed)),
            other => malformed(&other.to_string()),
        })?;
        self.check_revoked(certificate)?;
        if !minted {
            check_both_uses(&parsed).map_err(RefusalReason::Certificate)?;
            check_cluster(&parsed, &self.cluster).map_err(RefusalReason::Certificate)?;
        }
        let name = match minted {
            true => single(parsed.subject().iter_common_name())
                .ok_or_else(|| "it names no node".to_owned())
                .and_then(|name| NodeName::new(name).map_err(|error| error.to_string())),
            false => name_of(&parsed),
        };
        Ok(VerifiedPeer { name: name.map_err(RefusalReason::Certificate)?, authority })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The text of an attribute that must occur exactly once.
fn single<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    let first = attributes.next()?.as_str().ok()?;
    attributes.next().is_none().then_some(first)
}

fn issuer_of(certificate: &X509Certificate<'_>) -> String {
    let issuer: &X509Name<'_> = certificate.issuer();
    let whole = issuer.to_string();
    let name = single(issuer.iter_common_name()).unwrap_or(&whole);
    let name = name.strip_prefix(AUTHORITY_NAME).unwrap_or(name);
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The signing key derived from a secret: every node with the secret has the key.
///
/// ring does not wipe its keys, so an authority is derived where it is needed and dropped right after.
struct Authority(Issuer<'static, KeyPair>, CertificateParams);

impl Authority {
    fn derive(secret: &Secret) -> Self {
        /// PKCS #8 around the 32 bytes of an Ed25519 private key (RFC 8410, section 7).
        const PKCS8_ED25519: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
        let mut pkcs8 = Zeroizing::new([0; PKCS8_ED25519.len() + 32]);
        pkcs8[..PKCS8_ED25519.len()].copy_from_slice(&PKCS8_ED25519);
        secret.derive(&[b"networkdb certificate authority v1"], &mut pkcs8[PKCS8_ED25519.len()..]);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&pkcs8[..]), &PKCS_ED25519)
            .expect("any 32 bytes are an Ed25519 key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{AUTHORITY_NAME}{}", secret.fingerprint()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(Issuer::new(params.clone(), key), params)
    }

    fn anchor(&self) -> TrustAnchor<'static> {
        let certificate = self.1.self_signed(self.0.key()).expect("an Ed25519 key signs anything");
        webpki::anchor_from_trusted_cert(certificate.der()).expect("made by us").to_owned()
    }

    fn sign(&self, subject: &Subject, lifetime: Duration, now: UnixTime) -> CertifiedKey {
        let at = |seconds: u64| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = at(now.as_secs());
        params.not_after = at(now.as_secs() + lifetime.as_secs());
        let certificate = params.signed_by(&subject.key, &self.0).expect("an Ed25519 key signs anything");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(subject.key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_eddsa_type(match &key {
            PrivateKeyDer::Pkcs8(key) => key,
            _ => unreachable!("made as PKCS #8 in the line before"),
        });
        CertifiedKey::new(vec![certificate.der().clone()], key.expect("the node's own Ed25519 key"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are valid by the wall clock, and this is the shell"
)]
pub(crate) fn wall_clock() -> UnixTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeySet;
    use crate::keys::generate_secret;
    use webpki::KeyUsage;

    fn secret() -> Secret {
        Secret::parse(&generate_secret()).unwrap()
    }

    fn subject(name: &str) -> Subject {
        let cluster = ClusterName::new("Zürich – tests").unwrap();
        Subject::new(NodeName::new(name).unwrap(), cluster, Some("[::1]:7946".parse().unwrap()))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    const NOW: u64 = 1_800_000_000;
    const LIFETIME: Duration = Duration::from_secs(24 * 3600);
    const CLOCK_SKEW: Duration = Duration::from_secs(3600);

    fn mint(subject: &Subject, keys: KeySet) -> Credentials {
        Credentials::mint(
            subject,
            keys.into(),
            Validity { lifetime: LIFETIME, clock_skew: CLOCK_SKEW },
            at(NOW),
        )
    }

    #[test]
    fn a_verified_certificate_yields_name_and_authority() {
        let keys = KeySet::new(secret());
        // Longer than the 64 characters that X.520 allows a common name.
        let subject = subject(&"ż".repeat(64));
        let credentials = mint(&subject, keys.clone());
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            let verified = credentials.verify(&credentials.own.cert[0], &[], usage, at(NOW)).unwrap();
            let expected =
                VerifiedPeer { name: subject.name.clone(), authority: keys.primary().fingerprint() };
            assert_eq!(verified, expected);
        }
    }

    #[test]
    fn every_secret_of_the_set_is_accepted_and_no_other() {
        let (old, new) = (secret(), secret());
        let subject = subject("a");
        let by_old = mint(&subject, KeySet::new(old.clone()));
        let by_new = mint(&subject, KeySet::new(new.clone()));
        let both = mint(&subject, KeySet::new(new.clone()).with(old.clone()).unwrap());
        let usage = KeyUsage::client_auth();
        let verified = both.verify(&by_old.own.cert[0], &[], usage, at(NOW)).unwrap();
        assert_eq!(verified.authority, old.fingerprint());
        assert_eq!(
            both.verify(&by_new.own.cert[0], &[], usage, at(NOW)).unwrap().authority,
            new.fingerprint()
        );
        assert_eq!(
            by_new.verify(&by_old.own.cert[0], &[], usage, at(NOW)),
            Err(RefusalReason::UnknownSecret {
                theirs: old.fingerprint().to_string(),
                ours: new.fingerprint().to_string()
            })
        );
    }

    #[test]
    fn clocks_may_be_an_hour_apart_and_no_more() {
        let credentials = mint(&subject("a"), KeySet::new(secret()));
        let verify =
            |now| credentials.verify(&credentials.own.cert[0], &[], KeyUsage::server_auth(), at(now));
        let (skew, lifetime) = (CLOCK_SKEW.as_secs(), LIFETIME.as_secs());
        assert!(verify(NOW - skew).is_ok());
        assert!(verify(NOW + lifetime + skew).is_ok());
        let ahead = Duration::from_secs(skew + 1);
        assert_eq!(verify(NOW - skew - 1), Err(RefusalReason::NotYetValid { ahead }));
        assert_eq!(verify(NOW + lifetime + skew + 1), Err(RefusalReason::Expired { ago: ahead }));
    }

    #[test]
    fn a_certificate_is_renewed_at_half_its_lifetime_and_after_the_clock_was_set_back() {
        let credentials = mint(&subject("a"), KeySet::new(secret()));
        assert!(!credentials.is_renewal_due(at(NOW)));
        assert!(!credentials.is_renewal_due(at(NOW + LIFETIME.as_secs() / 2 - 1)));
        assert!(credentials.is_renewal_due(at(NOW + LIFETIME.as_secs() / 2)));
        assert!(!credentials.is_renewal_due(at(NOW - 60)));
        assert!(credentials.is_renewal_due(at(NOW - CLOCK_SKEW.as_secs())));
    }

    #[test]
    fn a_certificate_changed_in_any_byte_is_refused() {
        let credentials = mint(&subject("a"), KeySet::new(secret()));
        let original = credentials.own.cert[0].to_vec();
        for index in 0..original.len() {
            let mut forged = original.clone();
            forged[index] ^= 1;
            let forged = CertificateDer::from(forged);
            assert!(
                credentials.verify(&forged, &[], KeyUsage::server_auth(), at(NOW)).is_err(),
                "byte {index} of {}",
                original.len()
            );
        }
        for length in 0..original.len() {
            let short = CertificateDer::from(original[..length].to_vec());
            assert!(credentials.verify(&short, &[], KeyUsage::server_auth(), at(NOW)).is_err());
        }
    }

    #[test]
    fn a_node_cannot_sign_for_another() {
        // A node's certificate is not a certificate authority, so a chain through it ends at no trust
        // anchor.
        let keys = KeySet::new(secret());
        let honest = subject("honest");
        let credentials = mint(&honest, keys);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "forged");
        let mut issuer_params = CertificateParams::default();
        issuer_params.distinguished_name = DistinguishedName::new();
        issuer_params.distinguished_name.push(DnType::CommonName, "honest");
        let issuer = Issuer::new(issuer_params, &honest.key);
        let forged = params.signed_by(&subject("forged").key, &issuer).unwrap();
        let chain = [credentials.own.cert[0].clone()];
        assert!(credentials.verify(forged.der(), &chain, KeyUsage::client_auth(), at(NOW)).is_err());
    }

    /// A node with a certificate of an operator's authority, and that authority, which can issue further
    /// certificates.
    struct Operated {
        authority: rcgen::CertifiedIssuer<'static, KeyPair>,
        credentials: Credentials,
    }

    impl Operated {
        fn new() -> Self {
            let pem = |label: &str, der: &[u8]| {
                let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
                format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
            };
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
            let key = KeyPair::generate().unwrap();
            let own =
                CertificateParams::new(["node-a".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            let certificates = crate::pki::CertificateSet::from_pem(
                pem("CERTIFICATE", own.der()).as_bytes(),
                pem("PRIVATE KEY", &key.serialize_der()).as_bytes(),
                pem("CERTIFICATE", authority.der()).as_bytes(),
                std::time::UNIX_EPOCH + Duration::from_secs(NOW),
            );
            let validity = Validity { lifetime: LIFETIME, clock_skew: CLOCK_SKEW };
            let credentials =
                Credentials::mint(&subject("node-a"), certificates.unwrap().into(), validity, at(NOW));
            Self { authority, credentials }
        }

        /// Verifies another certificate of the same authority, as the node would.
        fn shown(
            &self,
            change: impl FnOnce(&mut CertificateParams),
            usage: KeyUsage,
        ) -> Result<VerifiedPeer, RefusalReason> {
            let mut params = CertificateParams::new(["node-b".to_owned()]).unwrap();
            change(&mut params);
            let certificate = params.signed_by(&KeyPair::generate().unwrap(), &self.authority).unwrap();
            self.credentials.verify(certificate.der(), &[], usage, at(NOW))
        }
    }

    /// A certificate for a web server or for a user, issued by the same authority, used in the half of
    /// the handshake that it allows.
    #[test]
    fn a_certificate_for_clients_or_servers_only_is_refused_in_either_half() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let node = Operated::new();
        let shown = |usages: &[ExtendedKeyUsagePurpose], usage| {
            node.shown(|params| params.extended_key_usages = usages.to_vec(), usage)
        };
        for (usages, usage, only) in [
            ([ServerAuth], KeyUsage::server_auth(), "servers only"),
            ([ClientAuth], KeyUsage::client_auth(), "clients only"),
        ] {
            let refused = shown(&usages, usage).unwrap_err().to_string();
            assert!(refused.contains(only), "{refused}");
        }
        assert!(shown(&[ServerAuth, ClientAuth], KeyUsage::client_auth()).is_ok());
        assert!(shown(&[], KeyUsage::server_auth()).is_ok(), "one without limits");
    }

    /// The node belongs to the cluster "Zürich – tests".
    #[test]
    fn a_certificate_for_other_clusters_is_refused_whatever_the_introduction_claims() {
        let node = Operated::new();
        let shown = |uris: &[&str]| {
            let uris = uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()));
            node.shown(|params| params.subject_alt_names.extend(uris), KeyUsage::client_auth())
        };
        let refused = shown(&["networkdb:Bern", "networkdb:Z%C3%BCrich"]).unwrap_err().to_string();
        assert!(refused.contains(r#""Bern" or "Zürich""#), "{refused}");
        assert!(shown(&["networkdb:"]).is_err() && shown(&["networkdb:%FF"]).is_err());
        assert!(shown(&["networkdb:Bern", "networkdb:Z%C3%BCrich%20%E2%80%93%20tests"]).is_ok());
        assert!(shown(&[]).is_ok() && shown(&["spiffe://works/node-b"]).is_ok(), "good in any");
    }

    #[test]
    fn credentials_show_fingerprints_only() {
        let secret = secret();
        let text = secret.to_text().to_string();
        let credentials = mint(&subject("a"), KeySet::new(secret));
        assert!(!format!("{credentials:?}").contains(&text[crate::keys::SECRET_PREFIX.len()..]));
    }
}
