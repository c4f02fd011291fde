//! Service records for the demonstration's table: the format of `/etc/services`, and a sample for hosts
//! without that file.

use std::collections::BTreeMap;
use std::path::Path;

/// Records by their key: "ssh/tcp" to "22", "domain/udp" to "53 nameserver".
pub(super) type Records = BTreeMap<String, String>;

/// The file with a host's services.
const SYSTEM_FILE: &str = "/etc/services";

/// The most records of the demonstration.
const MAX_RECORDS: usize = 10_000;

/// A sample of well-known services.
const SAMPLE: &str = "\
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
domain 53/tcp
domain 53/udp
bootps 67/udp
bootpc 68/udp
tftp 69/udp
http 80/tcp www
kerberos 88/tcp krb5
kerberos 88/udp krb5
pop3 110/tcp
sunrpc 111/tcp portmapper
sunrpc 111/udp portmapper
ntp 123/udp
imap2 143/tcp imap
snmp 161/udp
bgp 179/tcp
ldap 389/tcp
https 443/tcp
https 443/udp
submission 587/tcp
ldaps 636/tcp
imaps 993/tcp
pop3s 995/tcp
openvpn 1194/udp
mysql 3306/tcp
rdp 3389/tcp
postgresql 5432/tcp postgres
amqp 5672/tcp
redis 6379/tcp
http-alt 8080/tcp webcache
";

/// The records and their origin.
#[derive(Debug)]
pub(super) struct Source {
    /// The records; at least one.
    pub(super) records: Records,
    /// Their origin, for people.
    pub(super) origin: String,
}

/// Reads `file`; without a file the host's services, or else the sample.
pub(super) fn load(file: Option<&Path>) -> Result<Source, String> {
    let Some(path) = file else {
        let records = std::fs::read_to_string(SYSTEM_FILE).map(|text| parse(&text)).unwrap_or_default();
        return Ok(match records.is_empty() {
            false => Source { records, origin: SYSTEM_FILE.to_owned() },
            true => Source { records: parse(SAMPLE), origin: "a built-in sample".to_owned() },
        });
    };
    let text = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let records = parse(&String::from_utf8_lossy(&text));
    if records.is_empty() {
        return Err(format!(
            "{} has no service record; valid examples: lines such as: ssh 22/tcp",
            path.display()
        ));
    }
    Ok(Source { records, origin: path.display().to_string() })
}

/// The records of a services file. Other lines are ignored.
fn parse(text: &str) -> Records {
    text.lines().filter_map(record).take(MAX_RECORDS).collect()
}

/// `name port/protocol alias… # comment`
fn record(line: &str) -> Option<(String, String)> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    let (port, protocol) = words.next()?.split_once('/')?;
    let port = port.parse::<u16>().ok()?;
    if protocol.is_empty() {
        return None;
    }
    let value = std::iter::once(port.to_string()).chain(words.map(str::to_owned)).collect::<Vec<_>>();
    Some((format!("{name}/{protocol}"), value.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ports_aliases_and_comments() {
        let records = parse(
            "# comment\n\nssh\t22/tcp\t\t# SSH\ndomain 53/udp nameserver dns # x\n discard 9/tcp sink null\n",
        );
        let expected =
            [("discard/tcp", "9 sink null"), ("domain/udp", "53 nameserver dns"), ("ssh/tcp", "22")];
        assert_eq!(records, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn lines_without_a_record_are_ignored() {
        for line in ["", "#", "ssh", "ssh 22", "ssh tcp/22", "ssh 99999/tcp", "ssh /tcp", "ssh 22/"] {
            assert_eq!(record(line), None, "{line}");
        }
    }

    #[test]
    fn the_sample_has_a_record_in_every_line() {
        assert_eq!(parse(SAMPLE).len(), SAMPLE.lines().count());
    }

    #[test]
    fn a_file_is_read_and_a_useless_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services");
        assert!(load(Some(&path)).unwrap_err().starts_with("cannot read "));
        std::fs::write(&path, "nothing here\n").unwrap();
        assert!(load(Some(&path)).unwrap_err().contains("valid examples: lines such as: ssh 22/tcp"));
        std::fs::write(&path, "ssh 22/tcp\n").unwrap();
        let source = load(Some(&path)).unwrap();
        assert_eq!((source.records.len(), source.origin), (1, path.display().to_string()));
    }
}
