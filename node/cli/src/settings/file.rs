//! The configuration file of `networkdb run`: TOML, with the names of the flags. A setting that may be
//! repeated takes a text or a list of texts, or is a table (`label`, `limit`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use transport::ClusterName;
use wire::NodeName;

use crate::settings::error::SettingsError;
use crate::settings::values::{HttpAddress, ListenAddress, LogFormat, Preset, log_filter};

/// The settings of a file. All are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    pub(crate) name: Option<NodeName>,
    #[serde(deserialize_with = "cluster_name")]
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) bind: Option<ListenAddress>,
    pub(crate) advertise: Option<ListenAddress>,
    pub(crate) http: Option<HttpAddress>,
    pub(crate) http_token_file: Option<PathBuf>,
    pub(crate) http_open: Option<bool>,
    pub(crate) admin_socket: Option<PathBuf>,
    #[serde(rename = "http-name", alias = "http-names", deserialize_with = "one_or_many")]
    pub(crate) http_names: Option<Vec<String>>,
    pub(crate) http_max_connections: Option<usize>,
    pub(crate) http_max_requests: Option<usize>,
    pub(crate) http_max_watches: Option<usize>,
    pub(crate) http_max_body_bytes: Option<usize>,
    #[serde(deserialize_with = "duration")]
    pub(crate) http_head_time: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub(crate) http_body_time: Option<Duration>,
    #[serde(rename = "seed", alias = "seeds", deserialize_with = "one_or_many")]
    pub(crate) seeds: Option<Vec<String>>,
    #[serde(rename = "network", alias = "networks", deserialize_with = "one_or_many")]
    pub(crate) networks: Option<Vec<String>>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) authority_file: Option<PathBuf>,
    #[serde(rename = "label", alias = "labels")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "filter")]
    pub(crate) log_level: Option<String>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) preset: Option<Preset>,
    #[serde(deserialize_with = "duration")]
    pub(crate) reap_time: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub(crate) leave_time: Option<Duration>,
    #[serde(rename = "limit", alias = "limits")]
    pub(crate) limits: Option<BTreeMap<String, usize>>,
    pub(crate) max_value_bytes: Option<usize>,
    pub(crate) max_entries: Option<usize>,
    pub(crate) max_networks: Option<usize>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts, such as \"a\" or [\"a\", \"b\"]")]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    }))
}

fn cluster_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ClusterName>, D::Error> {
    ClusterName::new(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    log_filter(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_duration(&text);
    parsed.map(Some).map_err(|error| {
        D::Error::custom(format!("{text:?} is not a time ({error}); valid examples: \"90s\", \"30m\""))
    })
}

impl File {
    /// Reads the file at `path`. Relative paths in it start at its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
            what: "configuration file",
            path: path.to_owned(),
            error,
        })?;
        let mut file =
            Self::parse(&text).map_err(|why| SettingsError::File { path: path.to_owned(), why })?;
        if let Some(folder) = path.parent() {
            let files = [
                &mut file.secret_file,
                &mut file.certificate_file,
                &mut file.key_file,
                &mut file.authority_file,
                &mut file.http_token_file,
            ];
            for secret in files.into_iter().flatten() {
                *secret = folder.join(&secret);
            }
        }
        Ok(file)
    }

    /// Parses a file. The error is one sentence with the line number.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let message = error.message().trim().replace('\n', ", ");
            match error.span().and_then(|span| text.get(..span.start)) {
                Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
                None => message,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read() {
        let file = File::parse(
            r#"
            name = "n1"
            cluster = "blue"
            bind = "127.0.0.1:1"
            advertise = "127.0.0.2"
            http = "off"
            http-token-file = "tokens"
            http-open = true
            admin-socket = "off"
            http-name = ["node-1"]
            http-max-connections = 1
            http-max-requests = 2
            http-max-watches = 3
            http-max-body-bytes = 4
            http-head-time = "5s"
            http-body-time = "6s"
            seed = ["a", "b:1"]
            network = "net"
            secret-file = "secret"
            log-level = "debug"
            log-format = "json"
            preset = "wan"
            reap-time = "90s"
            leave-time = "2s"
            max-value-bytes = 10
            max-entries = 20
            max-networks = 30
            [label]
            zone = "a"
            "#,
        )
        .unwrap();
        assert_eq!(file.name.unwrap().as_str(), "n1");
        assert_eq!(file.cluster.unwrap().as_str(), "blue");
        assert_eq!(file.http, Some(HttpAddress::Off));
        assert_eq!((file.http_max_watches, file.http_body_time), (Some(3), Some(Duration::from_secs(6))));
        assert_eq!(file.log_format, Some(LogFormat::Json));
        assert_eq!(file.preset, Some(Preset::Wan));
        assert_eq!(file.reap_time, Some(Duration::from_secs(90)));
        assert_eq!(file.labels.unwrap()["zone"], "a");
        assert_eq!(file.max_networks, Some(30));
    }

    #[test]
    fn every_flag_names_a_setting_of_the_file() {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            _options: crate::settings::RunOptions,
        }
        let flags = <Run as clap::CommandFactory>::command();
        let names: Vec<_> = flags.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names.into_iter().filter(|name| !["config", "check", "help"].contains(name)) {
            // No setting takes a list of lists, so that the error is about the type if the name is known.
            let why = File::parse(&format!("{name} = [[1]]")).unwrap_err();
            assert!(!why.contains("unknown field"), "{why}");
        }
    }

    #[test]
    fn lists_may_be_one_text_and_go_by_their_former_names() {
        for text in ["seed = \"a\"", "seed = [\"a\"]", "seeds = [\"a\"]"] {
            assert_eq!(File::parse(text).unwrap().seeds.unwrap(), ["a"], "{text}");
        }
        assert_eq!(File::parse("network = \"blue\"").unwrap().networks.unwrap(), ["blue"]);
        assert_eq!(File::parse("labels = { zone = \"a\" }").unwrap().labels.unwrap()["zone"], "a");
    }

    #[test]
    fn an_error_is_one_line_with_the_line_number() {
        for (text, location, what) in [
            ("name = \"a\"\nnmae = \"b\"\n", "line 2: ", "nmae"),
            ("bind = \"localhost\"\n", "line 1: ", "valid examples: 127.0.0.1"),
            ("\n\npreset = \"lam\"\n", "line 3: ", "lan"),
            ("reap-time = \"soon\"\n", "line 1: ", "valid examples: \"90s\""),
            ("seed = 1\n", "line 1: ", "a text or a list of texts"),
            ("name = \n", "line 1: ", ""),
            ("log-level = \"transport=loud\"\n", "line 1: ", "valid examples"),
            ("cluster = \"\"\n", "line 1: ", "empty"),
        ] {
            let why = File::parse(text).unwrap_err();
            assert!(why.starts_with(location) && why.contains(what) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
