//! The settings of QUIC: limits, timeouts, and the response to packets of unknown connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use crate::certificate::Credentials;
use crate::config::{Config, Limits};
use crate::error::BindError;
use crate::tls::{self, Verdict};

/// The shortest time between two responses to packets of unknown connections. Each response is shorter
/// than the packet.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The most bytes that handshakes may buffer before their admission check, each and in total. The check
/// happens as soon as they arrive.
const UNADMITTED_BYTES: (u64, u64) = (16 << 10, 4 << 20);

pub(crate) fn transport_config(config: &Config) -> Result<TransportConfig, BindError> {
    let (limits, timeouts) = (&config.limits, &config.timeouts);
    let idle = IdleTimeout::try_from(timeouts.idle).map_err(|_| {
        BindError::Setting(format!("an idle timeout of {:?} is longer than QUIC allows", timeouts.idle))
    })?;
    if timeouts.keep_alive >= timeouts.idle {
        return Err(BindError::Setting(format!(
            "the keep-alive interval is {:?} and the idle timeout {:?}, so connections would be lost before \
             they are kept alive; make the first well below the second",
            timeouts.keep_alive, timeouts.idle
        )));
    }
    if timeouts.unanswered.is_zero() {
        return Err(BindError::Setting(
            "the timeout for unanswered packets is zero, so every connection would be lost at once; the default \
             is 10 s"
                .to_owned(),
        ));
    }
    let Limits { frame_bytes, unfinished_bytes_per_connection, unfinished_bytes, .. } = *limits;
    for (which, bytes) in [
        ("unfinished_bytes_per_connection", unfinished_bytes_per_connection),
        ("unfinished_bytes", unfinished_bytes),
    ] {
        if bytes < 2 * frame_bytes {
            return Err(BindError::Setting(format!(
                "no frame of {frame_bytes} bytes could be received: {which} is {bytes}, and at least twice \
                 the frame size is needed"
            )));
        }
    }
    if timeouts.certificate < Duration::from_secs(2) {
        return Err(BindError::Setting(format!(
            "a certificate that is valid for {:?} cannot be renewed in time; at least 2 s are needed",
            timeouts.certificate
        )));
    }
    let mut quic = TransportConfig::default();
    quic.max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(timeouts.keep_alive))
        .initial_rtt(timeouts.initial_rtt)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_connection))
        // The one that carries the introduction.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(limits.stream_window))
        .receive_window(VarInt::from_u32(limits.connection_window))
        .send_window(u64::from(limits.connection_window))
        .datagram_receive_buffer_size(Some(limits.datagram_receive_bytes))
        .datagram_send_buffer_size(limits.datagram_send_bytes);
    Ok(quic)
}

pub(crate) fn server_config(
    credentials: &Arc<Credentials>,
    quic: Arc<TransportConfig>,
) -> quinn::ServerConfig {
    let crypto = tls::server_config(credentials, &Verdict::default());
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(quic);
    server.migration(false);
    server
        .max_incoming(1024)
        .incoming_buffer_size(UNADMITTED_BYTES.0)
        .incoming_buffer_size_total(UNADMITTED_BYTES.1);
    server
}

/// The settings of the endpoint: how it responds to packets of unknown connections (stateless reset, RFC
/// 9000, section 10.3).
///
/// The keys are the same for every instance of the node at its address, so that a restarted node can
/// reset the connections of its predecessor at once. They also depend on a value that only this host
/// knows. Otherwise every node with the shared secret could compute the keys of the others, and end
/// their connections.
pub(crate) fn endpoint_config(config: &Config, address: SocketAddr) -> EndpointConfig {
    let host = known_to_this_host();
    let mut resets = zeroize::Zeroizing::new([0; 32]);
    derive_for_host(config, address, b"networkdb stateless reset v2", &host, &mut *resets);
    let mut ids = [0; 8];
    derive_for_host(config, address, b"networkdb connection ids v2", &host, &mut ids);
    let ids = u64::from_le_bytes(ids);

    let mut endpoint = EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*resets)));
    // Packets for a connection of an earlier instance are recognised as ours and get a reset. Other
    // packets get no response.
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    endpoint.min_reset_interval(RESET_INTERVAL);
    endpoint
}

/// Derives `key` from the identity, the node's name and address, and the value that only this host
/// knows.
fn derive_for_host(config: &Config, address: SocketAddr, purpose: &[u8], host: &[u8], key: &mut [u8]) {
    let (name, address) = (config.name.as_str(), address.to_string());
    let length = |text: &[u8]| (text.len() as u64).to_le_bytes();
    let (of_name, of_host) = (length(name.as_bytes()), length(host));
    config.identity.derive(&[purpose, &of_name, name.as_bytes(), &of_host, host, address.as_bytes()], key);
}

/// A value that stays the same while this host runs and that no other host knows: the random boot id.
/// Any user of this host can read it. On a system without one it is random for each process, and the
/// peers of a restarted node detect the restart only by the idle timeout.
fn known_to_this_host() -> Vec<u8> {
    if let Ok(boot) = std::fs::read("/proc/sys/kernel/random/boot_id")
        && !boot.is_empty()
    {
        return boot;
    }
    let random = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new());
    random.expect("the system has a source of random numbers").expose().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeySet, generate_secret};

    #[test]
    fn a_node_with_the_same_secret_cannot_compute_the_reset_keys_of_another() {
        let address: SocketAddr = "10.0.0.1:7946".parse().unwrap();
        let keys = KeySet::parse(&generate_secret()).unwrap();
        let config = Config::new(wire::NodeName::new("a").unwrap(), address, keys);
        let key = |host: &[u8]| {
            let mut key = [0; 32];
            derive_for_host(&config, address, b"resets", host, &mut key);
            key
        };
        assert_eq!(key(b"this host"), key(b"this host"), "a restarted node has the same");
        assert_ne!(key(b"this host"), key(b"that host"));
        assert!(!known_to_this_host().is_empty());
    }
}
