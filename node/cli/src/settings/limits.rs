//! How much of everything there may be: each limit with a name by which it is set.

use std::collections::BTreeMap;

use crate::settings::SettingsError;

/// All limits of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// What peers may use up on the way.
    pub transport: transport::Limits,
    /// What may be stored, and waits to be.
    pub tables: tabledb::Limits,
    /// Who may be a member.
    pub members: MemberLimits,
}

/// The limits of membership that do not depend on the network between the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLimits {
    /// The most members, departed ones included.
    pub members: usize,
    /// The most newcomers that wait until the holder of their name has been probed.
    pub pending: usize,
    /// The most member lists that are compared at a time because others ask for it.
    pub streams: usize,
    /// The most pieces of news about members that wait to be told.
    pub news: usize,
}

impl Default for MemberLimits {
    fn default() -> Self {
        let config = membership::Config::default();
        Self {
            members: config.max_members,
            pending: config.max_pending_joins,
            streams: config.max_inbound_streams,
            news: config.max_broadcasts,
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
            max_broadcasts: self.news,
            ..config
        }
    }
}

/// Where a limit is kept.
enum Place<'a> {
    Usize(&'a mut usize),
    U32(&'a mut u32),
}

impl From<&mut Place<'_>> for usize {
    fn from(place: &mut Place<'_>) -> Self {
        match place {
            Place::Usize(limit) => **limit,
            Place::U32(limit) => **limit as usize,
        }
    }
}

type Access = fn(&mut Limits) -> Place<'_>;

/// Every limit, by name, in the order in which they are shown.
const NAMES: [(&str, Access); 36] = [
    ("connections", |all| Place::Usize(&mut all.transport.connections)),
    ("connections-per-address", |all| Place::Usize(&mut all.transport.connections_per_address)),
    ("handshakes", |all| Place::Usize(&mut all.transport.handshakes)),
    ("handshakes-per-address", |all| Place::Usize(&mut all.transport.handshakes_per_address)),
    ("dials", |all| Place::Usize(&mut all.transport.dials)),
    ("streams", |all| Place::Usize(&mut all.transport.streams)),
    ("streams-per-connection", |all| Place::U32(&mut all.transport.streams_per_connection)),
    ("frame-bytes", |all| Place::Usize(&mut all.transport.frame_bytes)),
    ("unfinished-bytes", |all| Place::Usize(&mut all.transport.unfinished_bytes)),
    ("unfinished-bytes-per-connection", |all| {
        Place::Usize(&mut all.transport.unfinished_bytes_per_connection)
    }),
    ("stream-window", |all| Place::U32(&mut all.transport.stream_window)),
    ("connection-window", |all| Place::U32(&mut all.transport.connection_window)),
    ("datagram-send-bytes", |all| Place::Usize(&mut all.transport.datagram_send_bytes)),
    ("datagram-receive-bytes", |all| Place::Usize(&mut all.transport.datagram_receive_bytes)),
    ("datagram-receive-count", |all| Place::Usize(&mut all.transport.datagram_receive_count)),
    ("datagram-receive-bytes-total", |all| Place::Usize(&mut all.transport.datagram_receive_bytes_total)),
    ("warm-connections", |all| Place::Usize(&mut all.transport.warm_connections)),
    ("socket-buffer-bytes", |all| Place::Usize(&mut all.transport.socket_buffer_bytes)),
    ("members", |all| Place::Usize(&mut all.members.members)),
    ("pending-members", |all| Place::Usize(&mut all.members.pending)),
    ("member-streams", |all| Place::Usize(&mut all.members.streams)),
    ("member-news", |all| Place::Usize(&mut all.members.news)),
    ("networks", |all| Place::Usize(&mut all.tables.networks)),
    ("attachments", |all| Place::Usize(&mut all.tables.attachments)),
    ("tables", |all| Place::Usize(&mut all.tables.tables)),
    ("entries", |all| Place::Usize(&mut all.tables.entries)),
    ("bytes", |all| Place::Usize(&mut all.tables.bytes)),
    ("value-bytes", |all| Place::Usize(&mut all.tables.value_bytes)),
    ("key-bytes", |all| Place::Usize(&mut all.tables.key_bytes)),
    ("name-bytes", |all| Place::Usize(&mut all.tables.name_bytes)),
    ("ranges", |all| Place::Usize(&mut all.tables.ranges)),
    ("parked", |all| Place::Usize(&mut all.tables.deferred)),
    ("sessions", |all| Place::Usize(&mut all.tables.sessions)),
    ("watch-queue", |all| Place::Usize(&mut all.tables.watch_queue)),
    ("watch-bytes", |all| Place::Usize(&mut all.tables.watch_bytes)),
    ("watch-bytes-total", |all| Place::Usize(&mut all.tables.watch_bytes_total)),
];

/// Of a frame, what the key, the names and the versions of a value need beside it, in bytes.
const BESIDE_A_VALUE: usize = 128 << 10;

impl Limits {
    /// Puts together what the file says and what was said elsewhere, which goes before it.
    pub(crate) fn resolve(
        file: BTreeMap<String, usize>,
        said: impl IntoIterator<Item = (String, usize)>,
    ) -> Result<Self, SettingsError> {
        let mut all = Self::default();
        for (name, limit) in file.into_iter().chain(said) {
            all.set(&name, limit)?;
        }
        let frame = all.transport.frame_bytes;
        if frame > wire::codec::MAX_MESSAGE_BYTES || frame < all.tables.value_bytes + BESIDE_A_VALUE {
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
        let Some((known, access)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known = NAMES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            return Err(SettingsError::NoSuchLimit { name: name.to_owned(), known });
        };
        let fits = limit > 0
            && match access(self) {
                Place::Usize(place) => {
                    *place = limit;
                    true
                }
                Place::U32(place) => u32::try_from(limit).map(|limit| *place = limit).is_ok(),
            };
        match fits {
            true => Ok(()),
            false => Err(SettingsError::Bounds {
                setting: known,
                found: limit.to_string(),
                allowed: "1 or more, and for what QUIC counts less than 2^32,",
            }),
        }
    }

    /// Every limit with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let mut all = self.clone();
        NAMES.into_iter().map(move |(name, access)| (name, usize::from(&mut access(&mut all))))
    }
}

/// Reads `name=number`.
pub(crate) fn limit(text: &str) -> Result<(String, usize), String> {
    let wrong = || format!("{text:?} is not a limit; right would be connections=100");
    let (name, limit) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), limit.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(limits: &[(&str, usize)]) -> Result<Limits, String> {
        let said = limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit));
        Limits::resolve(BTreeMap::new(), said).map_err(|error| error.to_string())
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
            let changed = said(&[(name, limit)]).unwrap();
            let differ = changed.iter().zip(defaults.iter()).filter(|(a, b)| a != b);
            assert_eq!(differ.map(|(a, _)| a).collect::<Vec<_>>(), [(name, limit)]);
        }
    }

    #[test]
    fn every_limit_of_the_parts_has_a_name() {
        // A field that is added has to be thought of here: this does not compile without it.
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
    fn what_is_no_limit_is_told_with_those_there_are() {
        let error = said(&[("conections", 1)]).unwrap_err();
        assert!(error.contains("\"conections\"") && error.contains("connections,"), "{error}");
        assert!(said(&[("tables", 0)]).unwrap_err().contains("1 or more"));
        assert!(said(&[("streams-per-connection", 1 << 40)]).unwrap_err().contains("2^32"));
        assert!(said(&[("ranges", 1)]).unwrap_err().contains("16 or more"));
        assert!(said(&[("frame-bytes", 1 << 20)]).unwrap_err().contains("value-bytes"));
        assert!(said(&[("frame-bytes", 1 << 20), ("value-bytes", 1 << 18)]).is_ok());
        assert!(limit("connections=x").is_err() && limit("connections").is_err());
        assert_eq!(limit("connections=5"), Ok(("connections".to_owned(), 5)));
    }
}
