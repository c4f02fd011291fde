//! Resolves seeds to addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// No seed could be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no seed could be resolved: {}", .0.join("; "))]
pub struct ResolveError(Vec<String>);

/// Resolves `seeds`, each a host or an address, with or without a port.
///
/// # Errors
/// If no seed has an address. If only some have none, they are skipped with a warning.
pub(crate) async fn resolve(seeds: &[String], default_port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut addresses = BTreeSet::new();
    let mut failures = Vec::new();
    for seed in seeds {
        let (host, port) = split_port(seed, default_port);
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => failures.push(format!("{seed}: {error}")),
        }
    }
    if addresses.is_empty() {
        return Err(ResolveError(failures));
    }
    for failure in failures {
        tracing::warn!("seed {failure}; continuing with the other seeds");
    }
    Ok(addresses.into_iter().collect())
}

/// Splits the port off texts such as `host:7946`, `10.0.0.1`, `[::1]:7946` or `::1`.
fn split_port(seed: &str, default_port: u16) -> (&str, u16) {
    if seed.parse::<IpAddr>().is_ok() {
        return (seed, default_port);
    }
    match seed.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host.trim_start_matches('[').trim_end_matches(']'), port),
        _ => (seed.trim_start_matches('[').trim_end_matches(']'), default_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_split_off() {
        assert_eq!(split_port("10.0.0.1", 7946), ("10.0.0.1", 7946));
        assert_eq!(split_port("10.0.0.1:1", 7946), ("10.0.0.1", 1));
        assert_eq!(split_port("db-1.example:1", 7946), ("db-1.example", 1));
        assert_eq!(split_port("db-1.example", 7946), ("db-1.example", 7946));
        assert_eq!(split_port("::1", 7946), ("::1", 7946));
        assert_eq!(split_port("[::1]:1", 7946), ("::1", 1));
        assert_eq!(split_port("[::1]", 7946), ("::1", 7946));
    }

    #[tokio::test]
    async fn resolution_fails_only_if_no_seed_has_an_address() {
        let seeds = ["127.0.0.1".to_owned(), "127.0.0.1:99999".to_owned()];
        assert_eq!(resolve(&seeds[..1], 7).await, Ok(vec!["127.0.0.1:7".parse().unwrap()]));
        assert_eq!(resolve(&seeds, 7).await, Ok(vec!["127.0.0.1:7".parse().unwrap()]));
        let error = resolve(&seeds[1..], 7).await.unwrap_err().to_string();
        assert!(error.starts_with("no seed could be resolved: 127.0.0.1:99999: "), "{error}");
    }
}
