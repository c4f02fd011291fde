//! The introduction that each side of a connection sends after TLS has verified both names: its cluster,
//! its instance id, and the address at which it can be reached.

use std::fmt;
use std::net::SocketAddr;

use quinn::ConnectionError;
use ring::rand::SecureRandom as _;
use wire::codec;

use crate::cluster_name::ClusterName;
use crate::error::RefusalReason;

/// The longest introduction, in bytes.
const MAX_BYTES: usize = 512;

/// Identifies one instance of a node: drawn at random when the process starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceId([u8; 32]);

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl InstanceId {
    pub(crate) fn random() -> Self {
        let mut instance = [0; 32];
        ring::rand::SystemRandom::new()
            .fill(&mut instance)
            .expect("the system has a source of random numbers");
        Self(instance)
    }

    /// The smallest one.
    pub(crate) const MIN: Self = Self([0; 32]);

    /// A number that hardly any other instance shares.
    pub(crate) fn number(self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect("32 are more than 8"))
    }

    #[cfg(test)]
    pub(crate) fn numbered(number: u8) -> Self {
        Self([number; 32])
    }
}

/// What a node announces about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) cluster: ClusterName,
    pub(crate) instance: InstanceId,
    /// The address at which others reach it, if it knows one.
    pub(crate) advertised: Option<SocketAddr>,
}

/// Why no introduction was received.
pub(crate) enum IntroductionError {
    /// The connection ended first.
    Lost(ConnectionError),
    /// The peer sent something else.
    Refused(RefusalReason),
}

impl Introduction {
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(&(self.cluster.as_str(), self.instance.0, self.advertised))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RefusalReason> {
        let wrong = |reason: &dyn fmt::Display| RefusalReason::Introduction(reason.to_string());
        let (cluster, instance, advertised) = codec::decode::<(&str, [u8; 32], Option<SocketAddr>)>(bytes)
            .map_err(|_| wrong(&"what it sent does not decode"))?;
        let cluster = ClusterName::new(cluster).map_err(|error| wrong(&error))?;
        Ok(Self { cluster, instance: InstanceId(instance), advertised })
    }

    /// Sends it to the peer. The dialler sends first. By sending its own, the other side accepts the
    /// dialler.
    pub(crate) async fn send(&self, connection: &quinn::Connection) -> Result<(), ConnectionError> {
        let mut stream = connection.open_uni().await?;
        if stream.write_all(&self.encode()).await.is_ok() {
            let _ = stream.finish();
        }
        Ok(())
    }

    /// Receives the peer's. Its size is bounded; the caller bounds the time.
    pub(crate) async fn receive(connection: &quinn::Connection) -> Result<Self, IntroductionError> {
        let mut stream = connection.accept_uni().await.map_err(IntroductionError::Lost)?;
        let bytes = match stream.read_to_end(MAX_BYTES).await {
            Ok(bytes) => bytes,
            Err(quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(error))) => {
                return Err(IntroductionError::Lost(error));
            }
            Err(error) => {
                return Err(IntroductionError::Refused(RefusalReason::Introduction(error.to_string())));
            }
        };
        Self::decode(&bytes).map_err(IntroductionError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_is_read_back_and_fits() {
        let longest = "z".repeat(crate::MAX_CLUSTER_NAME_BYTES);
        for advertised in [None, Some("[ffff::ffff]:65535".parse().unwrap())] {
            let cluster = ClusterName::new(&longest).unwrap();
            let introduction = Introduction { cluster, instance: InstanceId::random(), advertised };
            assert!(introduction.encode().len() <= MAX_BYTES);
            assert_eq!(Introduction::decode(&introduction.encode()), Ok(introduction));
        }
    }

    #[test]
    fn other_bytes_than_an_introduction_are_refused() {
        let introduction = Introduction {
            cluster: ClusterName::default(),
            instance: InstanceId::random(),
            advertised: None,
        };
        let bytes = introduction.encode();
        for end in 0..bytes.len() {
            assert!(Introduction::decode(&bytes[..end]).is_err(), "{end}");
        }
        let bad_name = codec::encode(&("a\nb", [0u8; 32], None::<SocketAddr>));
        assert!(matches!(Introduction::decode(&bad_name), Err(RefusalReason::Introduction(_))));
    }
}
