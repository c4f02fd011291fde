//! The identity of a node: secrets that its cluster shares, or a certificate of an operator's own
//! authority.

use crate::cluster_name::ClusterName;
use crate::keys::{Fingerprint, KeySet, derive};
use crate::pki::{CertificateSet, covers_cluster, format_clusters};
use wire::NodeName;

/// What a node proves its identity with, and what it accepts from peers. Cloning copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: code that shows or replaces an identity decides for each kind.
pub enum Identity {
    /// Secrets that all nodes of the cluster share: certificates are minted from them.
    Secrets(KeySet),
    /// A certificate of an operator's own authority.
    Certificates(CertificateSet),
}

/// Why a node cannot use an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The development secret is accepted on loopback addresses only.
    #[error(
        "the development secret is for loopback addresses only, and this node listens on {0}; a secret of \
         the cluster is needed"
    )]
    NoSecret(std::net::SocketAddr),
    /// The certificate is for another node.
    #[error(
        "the certificate is for the node {found:?}, and this node is called {expected:?}; give each node its \
         own"
    )]
    Name {
        /// The name of this node.
        expected: NodeName,
        /// The name in the certificate.
        found: NodeName,
    },
    /// The certificate is for other clusters.
    #[error(
        "the certificate is for the cluster {}, and this node's cluster is {:?}; give the node a certificate \
         for its own cluster, or set its cluster to that of the certificate",
        format_clusters(.found), .expected.as_str()
    )]
    Cluster {
        /// The cluster of this node.
        expected: ClusterName,
        /// The clusters in the certificate.
        found: Vec<String>,
    },
}

impl Identity {
    /// The secrets, if the identity consists of secrets.
    pub fn secrets(&self) -> Option<&KeySet> {
        match self {
            Self::Secrets(keys) => Some(keys),
            Self::Certificates(_) => None,
        }
    }

    /// Whether the well-known secret of [`KeySet::development`] is accepted.
    pub fn is_development(&self) -> bool {
        self.secrets().is_some_and(KeySet::is_development)
    }

    /// The fingerprints of all secrets or authorities that are accepted from peers.
    pub fn accepts(&self) -> Vec<Fingerprint> {
        match self {
            Self::Secrets(keys) => keys.fingerprints(),
            Self::Certificates(certificates) => certificates.authorities(),
        }
    }

    /// Checks that a node called `name` may use it in this cluster.
    ///
    /// # Errors
    /// If it is a certificate of another node, or for other clusters.
    pub fn check(&self, name: &NodeName, cluster: &ClusterName) -> Result<(), IdentityError> {
        let Self::Certificates(certificates) = self else { return Ok(()) };
        if certificates.name() != name {
            let (expected, found) = (name.clone(), certificates.name().clone());
            return Err(IdentityError::Name { expected, found });
        }
        let found = certificates.clusters();
        if !covers_cluster(found, cluster) {
            return Err(IdentityError::Cluster { expected: cluster.clone(), found: found.to_vec() });
        }
        Ok(())
    }

    /// Derives `key` from this identity for the purpose `info`.
    pub(crate) fn derive(&self, info: &[&[u8]], key: &mut [u8]) {
        match self {
            Self::Secrets(keys) => keys.primary().derive(info, key),
            Self::Certificates(certificates) => derive(certificates.seed(), info, key),
        }
    }
}

impl From<KeySet> for Identity {
    fn from(keys: KeySet) -> Self {
        Self::Secrets(keys)
    }
}

impl From<CertificateSet> for Identity {
    fn from(certificates: CertificateSet) -> Self {
        Self::Certificates(certificates)
    }
}
