//! Certificates of an operator's own authority, and certificates that nodes mint and renew.

use std::time::{Duration, SystemTime};

use networkdb_transport::{
    Arrival, BindError, CertificateSet, CertificateSetError, ClusterName, Config, Identity, IdentityError,
    KeySet, OpenError, RefusalReason, Transport,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use wire::Destination;

use crate::nodes::{Node, config, name, secret, until};

/// Encodes DER as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines = text.as_bytes().chunks(64).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap()));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

/// An operator's authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// Certificate and key for these DNS names.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }

    /// The certificate set of a node of this name that accepts `authorities`.
    fn node(&self, name: &str, authorities: &[&Authority]) -> CertificateSet {
        let (certificate, key) = self.issue(&[name], |_| {});
        let authorities = authorities.iter().map(|authority| authority.pem()).collect::<String>();
        set(&certificate, &key, &authorities).unwrap()
    }
}

fn set(certificate: &str, key: &str, authorities: &str) -> Result<CertificateSet, CertificateSetError> {
    CertificateSet::from_pem(certificate.as_bytes(), key.as_bytes(), authorities.as_bytes(), now())
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn bind(text: &str, identity: impl Into<Identity>) -> Config {
    Config::new(name(text), "127.0.0.1:0".parse().unwrap(), identity)
}

fn start(text: &str, certificates: CertificateSet) -> Node {
    Node::start(bind(text, certificates))
}

/// Sends in both directions until each node has received a datagram of the other.
async fn talk(a: &mut Node, b: &mut Node) {
    a.reach(b, "from a").await;
    b.reach(a, "from b").await;
}

#[tokio::test]
async fn nodes_of_one_authority_connect_under_the_names_in_their_certificates() {
    let authority = Authority::new("The Works");
    let (mut a, mut b) = (
        start("node-a", authority.node("node-a", &[&authority])),
        start("node-b", authority.node("node-b", &[&authority])),
    );
    talk(&mut a, &mut b).await;
    let known = a.transport.connections();
    assert_eq!(known[0].peer.name, name("node-b"));
    assert_eq!(vec![known[0].authority], a.transport.identity().accepts());
}

#[tokio::test]
async fn another_authority_is_refused_and_both_sides_receive_the_reason() {
    let (ours, theirs) = (Authority::new("The Works"), Authority::new("The Elsewhere"));
    let a = start("node-a", ours.node("node-a", &[&ours]));
    let mut b = start("node-b", theirs.node("node-b", &[&theirs]));
    let error = a.transport.open_stream(&b.destination()).await.unwrap_err();
    let OpenError::Refused { refusal: RefusalReason::UnknownAuthority { theirs, .. }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(theirs, "The Elsewhere");
    let Arrival::Refused { refusal: RefusalReason::ByPeer(reason), .. } = b.arrival().await else { panic!() };
    assert!(reason.contains("The Elsewhere"), "{reason}");
    assert_eq!(a.transport.statistics().refused_unknown_authority, 1);
    assert!(a.transport.connections().is_empty() && b.transport.connections().is_empty());
    // A node with a shared secret is refused, too.
    let secret = Node::start(config("secret", &KeySet::new(secret())));
    let error = secret.transport.open_stream(&a.destination()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Refused { refusal: RefusalReason::UnknownSecret { .. }, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let authority = Authority::new("The Works");
    let of_b = authority.node("node-b", &[&authority]);
    let error = Transport::bind(bind("node-a", of_b.clone())).map(drop).unwrap_err();
    assert!(matches!(error, BindError::Identity(IdentityError::Name { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("\"node-a\"") && text.contains("\"node-b\""), "{text}");
    let a = start("node-a", authority.node("node-a", &[&authority]));
    assert!(matches!(a.transport.set_identity(of_b.clone()), Err(IdentityError::Name { .. })));
    // A node that is dialled under one name and has the certificate of another is refused.
    let b = start("node-b", of_b);
    let to = Destination { name: Some(name("node-c")), address: b.address() };
    let error = a.transport.open_stream(&to).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::Name { .. }, .. }), "{error}");
}

/// One authority for two clusters. The introduction claims a cluster; the certificate limits which one.
#[tokio::test]
async fn a_certificate_for_one_cluster_is_refused_in_another() {
    let authority = Authority::new("The Works");
    let issue = |name: &str, cluster: &str| {
        let uri = SanType::URI(format!("networkdb:{cluster}").try_into().unwrap());
        let (certificate, key) = authority.issue(&[name], |params| params.subject_alt_names.push(uri));
        set(&certificate, &key, &authority.pem()).unwrap()
    };
    let in_cluster =
        |config: Config, cluster: &str| Config { cluster: ClusterName::new(cluster).unwrap(), ..config };
    let start_in = |text: &str, certificates: CertificateSet, cluster: &str| {
        Node::start(in_cluster(bind(text, certificates), cluster))
    };
    let mut a = start_in("node-a", issue("node-a", "Z%C3%BCrich"), "Zürich");
    let mut b = start_in("node-b", issue("node-b", "Z%C3%BCrich"), "Zürich");
    talk(&mut a, &mut b).await;
    // A certificate without clusters is valid in any.
    let mut c = start_in("node-c", authority.node("node-c", &[&authority]), "Zürich");
    talk(&mut a, &mut c).await;

    let of_bern = bind("node-d", issue("node-d", "Bern"));
    let error = Transport::bind(in_cluster(of_bern, "Zürich")).map(drop).unwrap_err();
    assert!(matches!(error, BindError::Identity(IdentityError::Cluster { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("\"Bern\"") && text.contains("\"Zürich\""), "{text}");
    let error = a.transport.set_identity(issue("node-a", "Bern")).unwrap_err();
    assert!(matches!(error, IdentityError::Cluster { .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_and_then_its_authority_are_replaced_under_traffic() {
    let (old, new) = (Authority::new("Old"), Authority::new("New"));
    let mut a = start("node-a", old.node("node-a", &[&old]));
    let mut b = start("node-b", old.node("node-b", &[&old]));
    talk(&mut a, &mut b).await;
    for (issuer, accepted) in [(&old, vec![&old, &new]), (&new, vec![&old, &new]), (&new, vec![&new])] {
        a.transport.set_identity(issuer.node("node-a", &accepted)).unwrap();
        talk(&mut a, &mut b).await;
        b.transport.set_identity(issuer.node("node-b", &accepted)).unwrap();
        talk(&mut a, &mut b).await;
    }
    let accepted = a.transport.identity().accepts();
    for node in [&a, &b] {
        until("only connections of the new authority to be left", || {
            let connections = node.transport.connections();
            connections.iter().all(|connection| accepted == [connection.authority]).then_some(())
        })
        .await;
    }
    talk(&mut a, &mut b).await;
    for node in [&mut a, &mut b] {
        assert_eq!(node.transport.statistics().connections_closed_lost, 0, "an exchange is no failure");
    }
}

#[tokio::test]
async fn a_restarted_node_with_the_same_certificate_is_reached_at_once() {
    let authority = Authority::new("The Works");
    let mut a = start("node-a", authority.node("node-a", &[&authority]));
    let of_b = authority.node("node-b", &[&authority]);
    let mut b = start("node-b", of_b.clone());
    talk(&mut a, &mut b).await;
    let again = Config { bind: b.address(), ..bind("node-b", of_b) };
    b.transport.abort();
    let mut b = Node::restart(again).await;
    talk(&mut a, &mut b).await;
}

#[test]
fn invalid_files_are_reported_before_any_peer_is_dialled() {
    let (authority, other) = (Authority::new("The Works"), Authority::new("Other"));
    let (certificate, key) = authority.issue(&["node-a"], |_| {});
    let (_, other_key) = authority.issue(&["node-a"], |_| {});
    let ca = authority.pem();
    assert!(set(&certificate, &key, &ca).is_ok());
    let error_of = |certificate: &str, key: &str, ca: &str| set(certificate, key, ca).unwrap_err();
    assert_eq!(error_of(&certificate, &other_key, &ca), CertificateSetError::Mismatch);
    for (error, expected) in [
        (error_of("", &key, &ca), "certificate file"),
        (error_of(&certificate, "", &ca), "key file"),
        (error_of(&certificate, &key, ""), "authority file"),
        (error_of(&certificate, &key, &other.pem()), "none of the authorities"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    let issued = |names: &[&str], change: fn(&mut CertificateParams)| {
        let (certificate, key) = authority.issue(names, change);
        set(&certificate, &key, &ca)
    };
    let client_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert!(issued(&["node-a"], client_only).unwrap_err().to_string().contains("server authentication"));
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    assert!(issued(&["node-a"], expired).unwrap_err().to_string().contains("expired"));
    assert!(matches!(issued(&[], |_| {}), Err(CertificateSetError::Name(_))));
    // With several names the common name selects one.
    assert!(matches!(issued(&["a", "a.example"], |_| {}), Err(CertificateSetError::Name(_))));
    let named = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "a");
    assert_eq!(issued(&["a.example", "a"], named).unwrap().name(), &name("a"));
    // An IP address is not a name.
    assert!(matches!(issued(&["127.0.0.1"], |_| {}), Err(CertificateSetError::Name(_))));
}

#[tokio::test]
async fn a_private_key_is_not_shown_by_anything_that_can_be_formatted() {
    let authority = Authority::new("The Works");
    let (certificate, key) = authority.issue(&["node-a"], |_| {});
    let certificates = set(&certificate, &key, &authority.pem()).unwrap();
    let config = bind("node-a", certificates.clone());
    let shown = format!("{certificates:?} {config:?}");
    let node = Node::start(config);
    let shown = format!("{shown} {:?}", node.transport);
    let secret = key.lines().nth(1).unwrap();
    assert!(!shown.contains(secret) && shown.contains("node-a"), "{shown}");
    // Errors do not show it either.
    let broken = key.replace("BEGIN PRIVATE KEY", "BEGIN SOMETHING");
    let error = set(&certificate, &broken, &authority.pem()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
}

#[tokio::test]
async fn certificates_that_nodes_mint_are_renewed_before_they_expire() {
    let keys = KeySet::new(secret());
    let short = |text: &str| {
        let mut config = config(text, &keys);
        config.timeouts.certificate = Duration::from_secs(2);
        config.timeouts.clock_skew = Duration::from_secs(1);
        config
    };
    let mut a = Node::start(short("a"));
    // After this time the first certificate has expired, even with the tolerated clock skew.
    let first = std::time::Duration::from_secs(2 + 1 + 1);
    let start = tokio::time::Instant::now();
    let mut minted = 0;
    until("certificates to be renewed", || {
        minted = a.transport.statistics().certificates_minted;
        (start.elapsed() > first).then_some(())
    })
    .await;
    assert!(minted >= 3, "{minted} in {first:?}");
    let mut b = Node::start(short("b"));
    talk(&mut a, &mut b).await;
}

/// The authority's certificate, and its revocation list.
fn with_revoked(authority: &Authority, serial: &[u8]) -> String {
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let list = CertificateRevocationListParams {
        this_update: at(1_700_000_000),
        next_update: at(1_700_000_001),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: at(1_700_000_000),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    authority.pem() + &pem("X509 CRL", list.signed_by(&authority.0).unwrap().der())
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_connections_are_closed() {
    let authority = Authority::new("The Works");
    let serial = [7, 7, 7];
    let (of_a, key_a) = authority.issue(&["node-a"], |_| {});
    let (of_b, key_b) =
        authority.issue(&["node-b"], |params| params.serial_number = Some(SerialNumber::from_slice(&serial)));
    let ca = authority.pem();
    let mut a = start("node-a", set(&of_a, &key_a, &ca).unwrap());
    let mut b = start("node-b", set(&of_b, &key_b, &ca).unwrap());
    talk(&mut a, &mut b).await;
    // The list is part of the authority file.
    a.transport.set_identity(set(&of_a, &key_a, &with_revoked(&authority, &serial)).unwrap()).unwrap();
    // The other side learns of it a moment later. Until then it opens streams on the old connection.
    until("the connection of the revoked certificate to be closed on both sides", || {
        (a.transport.connections().is_empty() && b.transport.connections().is_empty()).then_some(())
    })
    .await;
    let error = b.transport.open_stream(&a.destination()).await.unwrap_err();
    assert!(error.to_string().contains("revocation list"), "{error}");
    let error = set(&of_b, &key_b, &with_revoked(&authority, &serial)).unwrap_err();
    assert_eq!(error, CertificateSetError::Revoked);
    // Another serial number of the same authority is not affected.
    assert!(set(&of_b, &key_b, &with_revoked(&authority, &[7, 7])).is_ok());
}
