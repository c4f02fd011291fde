//! The limits of a node, by name.

use crate::settings::error::SettingsError;
use crate::settings::values::size;

/// All limits of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
// Exhaustive: the command line builds it.
pub struct Limits {
    /// Limits of connections, streams and datagrams.
    pub transport: transport::Limits,
    /// Limits of tables, watches and sync sessions.
    pub tables: tabledb::Limits,
    /// Limits of membership.
    pub members: MemberLimits,
}

/// The limits of membership that are the same for all presets.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: the command line builds it.
pub struct MemberLimits {
    /// The most members, departed ones included.
    pub members: usize,
    /// The most joining nodes that wait while the member that has their name is probed.
    pub pending: usize,
    /// The most concurrent syncs of the member list that peers open.
    pub streams: usize,
    /// The most membership updates that wait to be sent.
    pub updates: usize,
}

impl Default for MemberLimits {
    fn default() -> Self {
        let config = membership::Config::default();
        Self {
            members: config.max_members,
            pending: config.max_pending_joins,
            streams: config.max_inbound_streams,
            updates: config.max_broadcasts,
        }
    }
}

impl MemberLimits {
    /// The settings of membership with these limits.
    pub fn apply(&self, config: membership::Config) -> membership::Config {
        membership::Config {
            max_members: self.members,
            max_pending_joins: self.pending,
            max_inbound_streams: self.streams,
            max_broadcasts: self.updates,
            ..config
        }
    }
}

/// The field of a limit.
enum LimitField<'a> {
    Usize(&'a mut usize),
    U32(&'a mut u32),
}

impl From<&mut LimitField<'_>> for usize {
    fn from(field: &mut LimitField<'_>) -> Self {
        match field {
            LimitField::Usize(limit) => **limit,
            LimitField::U32(limit) => **limit as usize,
        }
    }
}

type Accessor = fn(&mut Limits) -> LimitField<'_>;

/// All limits by name, in display order.
const NAMES: [(&str, Accessor); 36] = [
    ("connections", |all| LimitField::Usize(&mut all.transport.connections)),
    ("connections-per-address", |all| LimitField::Usize(&mut all.transport.connections_per_address)),
    ("handshakes", |all| LimitField::Usize(&mut all.transport.handshakes)),
    ("handshakes-per-address", |all| LimitField::Usize(&mut all.transport.handshakes_per_address)),
    ("dials", |all| LimitField::Usize(&mut all.transport.dials)),
    ("streams", |all| LimitField::Usize(&mut all.transport.streams)),
    ("streams-per-connection", |all| LimitField::U32(&mut all.transport.streams_per_connection)),
    ("frame-bytes", |all| LimitField::Usize(&mut all.transport.frame_bytes)),
    ("unfinished-bytes", |all| LimitField::Usize(&mut all.transport.unfinished_bytes)),
    ("unfinished-bytes-per-connection", |all| {
        LimitField::Usize(&mut all.transport.unfinished_bytes_per_connection)
    }),
    ("stream-window", |all| LimitField::U32(&mut all.transport.stream_window)),
    ("connection-window", |all| LimitField::U32(&mut all.transport.connection_window)),
    ("datagram-send-bytes", |all| LimitField::Usize(&mut all.transport.datagram_send_bytes)),
    ("datagram-receive-bytes", |all| LimitField::Usize(&mut all.transport.datagram_receive_bytes)),
    ("datagram-receive-count", |all| LimitField::Usize(&mut all.transport.datagram_receive_count)),
    ("datagram-receive-bytes-total", |all| {
        LimitField::Usize(&mut all.transport.datagram_receive_bytes_total)
    }),
    ("warm-connections", |all| LimitField::Usize(&mut all.transport.warm_connections)),
    ("socket-buffer-bytes", |all| LimitField::Usize(&mut all.transport.socket_buffer_bytes)),
    ("members", |all| LimitField::Usize(&mut all.members.members)),
    ("pending-members", |all| LimitField::Usize(&mut all.members.pending)),
    ("member-streams", |all| LimitField::Usize(&mut all.members.streams)),
    ("member-updates", |all| LimitField::Usize(&mut all.members.updates)),
    ("networks", |all| LimitField::Usize(&mut all.tables.networks)),
    ("attachments", |all| LimitField::Usize(&mut all.tables.attachments)),
    ("tables", |all| LimitField::Usize(&mut all.tables.tables)),
    ("entries", |all| LimitField::Usize(&mut all.tables.entries)),
    ("bytes", |all| LimitField::Usize(&mut all.tables.bytes)),
    ("value-bytes", |all| LimitField::Usize(&mut all.tables.value_bytes)),
    ("key-bytes", |all| LimitField::Usize(&mut all.tables.key_bytes)),
    ("name-bytes", |all| LimitField::Usize(&mut all.tables.name_bytes)),
    ("ranges", |all| LimitField::Usize(&mut all.tables.ranges)),
    ("deferred", |all| LimitField::Usize(&mut all.tables.deferred)),
    ("sessions", |all| LimitField::Usize(&mut all.tables.sessions)),
    ("watch-queue", |all| LimitField::Usize(&mut all.tables.watch_queue)),
    ("watch-bytes", |all| LimitField::Usize(&mut all.tables.watch_bytes)),
    ("watch-bytes-total", |all| LimitField::Usize(&mut all.tables.watch_bytes_total)),
];

/// The capacity of a frame that is reserved for the key, the names and the versions beside a value, in bytes.
const FRAME_OVERHEAD: usize = 128 << 10;

impl Limits {
    /// Resolves the limits. Of several with the same name, the last one has precedence.
    pub(crate) fn resolve(given: impl IntoIterator<Item = (String, usize)>) -> Result<Self, SettingsError> {
        let mut all = Self::default();
        for (name, limit) in given {
            all.set(&name, limit)?;
        }
        let frame = all.transport.frame_bytes;
        if frame > wire::codec::MAX_MESSAGE_BYTES || frame < all.tables.value_bytes + FRAME_OVERHEAD {
            return Err(SettingsError::Bounds {
                setting: "limit frame-bytes",
                found: frame.to_string(),
                allowed: "128 KiB more than value-bytes, up to 4194304,",
            });
        }
        let tables = tabledb::Config {
            limits: all.tables.clone(),
            ..tabledb::Config::new(wire::NodeId::new(wire::NodeName::new("x").expect("a name"), 1))
        };
        tables.validate().map_err(SettingsError::Limit)?;
        Ok(all)
    }

    fn set(&mut self, name: &str, limit: usize) -> Result<(), SettingsError> {
        let Some((known, accessor)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known = NAMES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            return Err(SettingsError::NoSuchLimit { name: name.to_owned(), known });
        };
        let fits = limit > 0
            && match accessor(self) {
                LimitField::Usize(field) => {
                    *field = limit;
                    true
                }
                LimitField::U32(field) => u32::try_from(limit).map(|limit| *field = limit).is_ok(),
            };
        match fits {
            true => Ok(()),
            false => Err(SettingsError::Bounds {
                setting: known,
                found: limit.to_string(),
                allowed: "1 or more, and for QUIC's own limits less than 2^32,",
            }),
        }
    }

    /// Every limit with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let mut all = self.clone();
        NAMES.into_iter().map(move |(name, accessor)| (name, usize::from(&mut accessor(&mut all))))
    }
}

/// Reads `name=number`.
pub(crate) fn limit(text: &str) -> Result<(String, usize), String> {
    let wrong = || format!("{text:?} is not a limit; valid examples: connections=100, stream-window=4MiB");
    let (name, limit) = text.split_once('=').ok_or_else(wrong)?;
    let limit = size(limit).map_err(|_| wrong())?;
    // Here the error is shown with the flag, the variable, or the line of the file.
    Limits::default().set(name, limit).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(limits: &[(&str, usize)]) -> Result<Limits, String> {
        let given = limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit));
        Limits::resolve(given).map_err(|error| error.to_string())
    }

    #[test]
    fn every_limit_is_set_by_its_name_and_no_other_is() {
        let defaults = Limits::default();
        for (name, _) in NAMES {
            let before = defaults.iter().find(|(known, _)| *known == name).unwrap().1;
            let limit = match name {
                "frame-bytes" => before - 1,
                "unfinished-bytes" | "unfinished-bytes-per-connection" => before + 1,
                "value-bytes" | "name-bytes" | "key-bytes" => before - 1,
                _ => before + 7,
            };
            let changed = resolve(&[(name, limit)]).unwrap();
            let differ = changed.iter().zip(defaults.iter()).filter(|(a, b)| a != b);
            assert_eq!(differ.map(|(a, _)| a).collect::<Vec<_>>(), [(name, limit)]);
        }
    }

    #[test]
    fn every_limit_of_the_parts_has_a_name() {
        // A new field breaks this pattern, so that the compiler requires a name for it.
        let transport::Limits {
            connections: _,
            connections_per_address: _,
            warm_connections: _,
            handshakes: _,
            handshakes_per_address: _,
            dials: _,
            streams_per_connection: _,
            streams: _,
            frame_bytes: _,
            unfinished_bytes_per_connection: _,
            unfinished_bytes: _,
            stream_window: _,
            connection_window: _,
            datagram_send_bytes: _,
            datagram_receive_bytes: _,
            datagram_receive_count: _,
            datagram_receive_bytes_total: _,
            socket_buffer_bytes: _,
        } = transport::Limits::default();
        let tabledb::Limits {
            name_bytes: _,
            key_bytes: _,
            value_bytes: _,
            networks: _,
            attachments: _,
            tables: _,
            entries: _,
            bytes: _,
            ranges: _,
            deferred: _,
            sessions: _,
            watch_queue: _,
            watch_bytes: _,
            watch_bytes_total: _,
        } = tabledb::Limits::default();
        assert_eq!(NAMES.len(), 18 + 14 + 4);
    }

    #[test]
    fn an_unknown_limit_is_refused_with_the_list_of_limits() {
        let error = resolve(&[("conections", 1)]).unwrap_err();
        assert!(error.contains("\"conections\"") && error.contains("connections,"), "{error}");
        assert!(resolve(&[("tables", 0)]).unwrap_err().contains("1 or more"));
        assert!(resolve(&[("streams-per-connection", 1 << 40)]).unwrap_err().contains("2^32"));
        assert!(resolve(&[("ranges", 1)]).unwrap_err().contains("16 or more"));
        assert!(resolve(&[("frame-bytes", 1 << 20)]).unwrap_err().contains("value-bytes"));
        assert!(resolve(&[("frame-bytes", 1 << 20), ("value-bytes", 1 << 18)]).is_ok());
        assert!(limit("connections=x").is_err() && limit("connections").is_err());
        assert_eq!(limit("connections=5"), Ok(("connections".to_owned(), 5)));
    }
}
