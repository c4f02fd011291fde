//! The configuration file of `networkdb run`: TOML, with the names of the flags.
//!
//! The file is read through the definitions of the flags: the values of a setting become those of its flag. A
//! flag that may be repeated takes a text or a list of texts, or is a table (`label`, `limit`).

use std::any::TypeId;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, FromArgMatches as _};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::settings::error::SettingsError;
use crate::settings::options::SettingOptions;

/// Reads the file at `path`. Relative paths of files in it start at its folder.
pub(crate) fn read(path: &Path) -> Result<SettingOptions, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
        what: "configuration file",
        path: path.to_owned(),
        error,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder).map_err(|why| SettingsError::File { path: path.to_owned(), why })
}

/// Parses a file. The error is one sentence with the line number.
fn parse(text: &str, folder: &Path) -> Result<SettingOptions, String> {
    let at_line = |Invalid { at, why }| {
        let lines = text.get(..at).map_or(0, |before| before.matches('\n').count());
        format!("line {}: {why}", lines + 1)
    };
    let table = DeTable::parse(text).map_err(|error| {
        let why = error.message().trim().replace('\n', ", ");
        at_line(Invalid { at: error.span().map_or(0, |span| span.start), why })
    })?;
    settings(table.get_ref(), folder).map_err(at_line)
}

/// What is invalid in the file, and its offset.
struct Invalid {
    at: usize,
    why: String,
}

/// The command that parses the values of the file: it has the flags of the settings. The environment takes
/// no part, and a comma is a character like any other, because TOML has lists.
fn command() -> clap::Command {
    SettingOptions::augment_args(clap::Command::new("file"))
        .no_binary_name(true)
        .disable_help_flag(true)
        .mut_args(|flag| flag.env(None::<&str>).value_delimiter(None))
}

fn settings(table: &DeTable<'_>, folder: &Path) -> Result<SettingOptions, Invalid> {
    let command = command();
    let (mut all, mut given) = (SettingOptions::default(), BTreeSet::new());
    for (name, value) in table {
        let invalid = |why| Invalid { at: name.span().start, why };
        let name = name.get_ref().as_ref();
        let Some(flag) = command.get_arguments().find(|flag| has_name(flag, name)) else {
            let known = command.get_arguments().filter_map(Arg::get_long).collect::<Vec<_>>().join(", ");
            return Err(invalid(format!("there is no setting {name:?}; there are: {known}")));
        };
        if !given.insert(flag.get_id()) {
            return Err(invalid(format!("{name}: this setting is in the file already, by its other name")));
        }
        let setting = parse_setting(&command, flag, value, folder)
            .map_err(|Invalid { at, why }| Invalid { at, why: format!("{name}: {why}") })?;
        all = all.or(setting);
    }
    Ok(all)
}

fn has_name(flag: &Arg, name: &str) -> bool {
    flag.get_long() == Some(name) || flag.get_all_aliases().is_some_and(|others| others.contains(&name))
}

/// The setting that the flag has with the values in the file, and no other.
fn parse_setting(
    command: &clap::Command,
    flag: &Arg,
    value: &Spanned<DeValue<'_>>,
    folder: &Path,
) -> Result<SettingOptions, Invalid> {
    let form = Form::of(flag);
    let texts = form.texts(value)?;
    let words = texts.iter().map(|(_, text)| {
        let mut word = OsString::from(format!("--{}=", flag.get_long().unwrap_or_default()));
        match form {
            Form::File if !text.is_empty() => word.push(folder.join(text)),
            _ => word.push(text),
        }
        word
    });
    let parsed = command.clone().try_get_matches_from(words);
    parsed.and_then(|matches| SettingOptions::from_arg_matches(&matches)).map_err(|error| {
        let culprit = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(culprit)) => texts.iter().find(|(_, text)| text == culprit),
            _ => None,
        };
        let (at, text) = culprit.map_or((value.span().start, ""), |(at, text)| (*at, text));
        Invalid { at, why: reason(&error, text) }
    })
}

/// Why clap refuses the value `text`, without the words about flags.
fn reason(error: &clap::Error, text: &str) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            format!("{text:?} is not one of {}", valid.join(", "))
        }
        (None, _) => format!("{text:?} is not a value of this setting"),
    }
}

/// The form of a setting in the file.
#[derive(Clone, Copy)]
enum Form {
    Text,
    File,
    Number,
    Boolean,
    Texts,
    TableOfTexts,
    TableOfNumbers,
}

impl Form {
    /// The form for the type of the flag's values.
    fn of(flag: &Arg) -> Self {
        let values = flag.get_value_parser().type_id();
        if values == TypeId::of::<PathBuf>() {
            Self::File
        } else if values == TypeId::of::<usize>() {
            Self::Number
        } else if values == TypeId::of::<bool>() {
            Self::Boolean
        } else if values == TypeId::of::<(String, String)>() {
            Self::TableOfTexts
        } else if values == TypeId::of::<(String, usize)>() {
            Self::TableOfNumbers
        } else if matches!(flag.get_action(), ArgAction::Append) {
            Self::Texts
        } else {
            Self::Text
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Text | Self::File => "a text in quotes",
            Self::Number => "a whole number from 0 to 2^64 - 1, or a size such as \"1MiB\"",
            Self::Boolean => "true or false",
            Self::Texts => "a text or a list of texts, such as \"a\" or [\"a\", \"b\"]",
            Self::TableOfTexts => "a table of texts, such as { zone = \"a\" }",
            Self::TableOfNumbers => "a table of whole numbers, such as { connections = 100 }",
        }
    }

    /// The values of the flag as texts, with their offsets.
    fn texts(self, value: &Spanned<DeValue<'_>>) -> Result<Vec<(usize, String)>, Invalid> {
        let invalid = |value: &Spanned<DeValue<'_>>, form: Self| Invalid {
            at: value.span().start,
            why: format!("{} is not {}", shown(value.get_ref()), form.description()),
        };
        match (self, value.get_ref()) {
            (Self::Texts, DeValue::Array(values)) => {
                let one = |value| scalar(Self::Text, value).ok_or_else(|| invalid(value, self));
                values.iter().map(one).collect()
            }
            (Self::TableOfTexts | Self::TableOfNumbers, DeValue::Table(table)) => {
                let of = if matches!(self, Self::TableOfTexts) { Self::Text } else { Self::Number };
                let pair = |(key, value): (&Spanned<DeString<'_>>, _)| {
                    let key = key.get_ref();
                    let in_table = |Invalid { at, why }| Invalid { at, why: format!("{key}: {why}") };
                    let (at, text) = scalar(of, value).ok_or_else(|| in_table(invalid(value, of)))?;
                    match key.contains('=') {
                        // The flag would end the key there.
                        true => Err(Invalid { at, why: format!("the name {key:?} contains =") }),
                        false => Ok((at, format!("{key}={text}"))),
                    }
                };
                table.iter().map(pair).collect()
            }
            _ => Ok(vec![scalar(self, value).ok_or_else(|| invalid(value, self))?]),
        }
    }
}

/// The text of a value of this form, with its offset.
fn scalar(form: Form, value: &Spanned<DeValue<'_>>) -> Option<(usize, String)> {
    let text = match (form, value.get_ref()) {
        (Form::Number, DeValue::Integer(number)) => {
            usize::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()
        }
        // A size: the flag reads its unit.
        (Form::Number, DeValue::String(text)) => text.to_string(),
        (Form::Boolean, DeValue::Boolean(value)) => value.to_string(),
        (Form::Text | Form::File | Form::Texts, DeValue::String(text)) => text.to_string(),
        _ => return None,
    };
    Some((value.span().start, text))
}

/// A value in an error: itself if it is short.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        other => format!("a {}", other.type_str()),
    }
}

/// The settings as a configuration file. Those without a value are in comments.
pub(crate) fn write(settings: &SettingOptions) -> String {
    let values = settings.values();
    let (mut lines, mut tables) = (String::new(), String::new());
    for flag in command().get_arguments() {
        let name = flag.get_long().unwrap_or_default();
        match values.get(flag.get_id().as_str()) {
            None => lines += &format!("# {name} is not set\n"),
            // Tables come last: a line below the head of a table belongs to the table.
            Some(toml::Value::Table(table)) => tables += &format!("\n[{name}]\n{table}"),
            Some(value) => lines += &format!("{name} = {value}\n"),
        }
    }
    lines + &tables
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::values::{HttpAddress, LogFormat, Preset, SocketPath};

    fn parse(text: &str) -> Result<SettingOptions, String> {
        super::parse(text, Path::new("/folder"))
    }

    #[test]
    fn every_setting_is_read() {
        let file = parse(
            r#"
            name = "n1"
            cluster = "blue"
            bind = "127.0.0.1:1"
            advertise = "127.0.0.2"
            http = "off"
            http-token-file = "tokens"
            http-certificate-file = "certificate"
            http-key-file = "key"
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
        assert_eq!(file.labels.unwrap(), [("zone".to_owned(), "a".to_owned())]);
        assert_eq!(file.max_networks, Some(30));
    }

    #[test]
    fn lists_may_be_one_text_and_go_by_their_former_names() {
        for text in ["seed = \"a\"", "seed = [\"a\"]", "seeds = [\"a\"]"] {
            assert_eq!(parse(text).unwrap().seeds.unwrap(), ["a"], "{text}");
        }
        assert_eq!(parse("network = \"blue\"").unwrap().networks.unwrap(), ["blue"]);
        assert_eq!(parse("networks = [\"blue\"]").unwrap().networks.unwrap(), ["blue"]);
        assert_eq!(parse("http-names = [\"a\"]").unwrap().http_names.unwrap(), ["a"]);
        assert_eq!(parse("limits.streams = 0x10").unwrap().limits.unwrap(), [("streams".to_owned(), 16)]);
        assert_eq!(
            parse("labels = { zone = \"a\" }").unwrap().labels.unwrap(),
            [("zone".to_owned(), "a".to_owned())]
        );
    }

    #[test]
    fn an_error_is_one_line_with_the_line_number() {
        for (text, location, what) in [
            ("name = \"a\"\nnmae = \"b\"\n", "line 2: ", "nmae"),
            (
                "bind = \"localhost\"\n",
                "line 1: ",
                "bind: \"localhost\" is not an IP address; valid examples: 127.0.0.1",
            ),
            ("config = \"a\"\n", "line 1: ", "no setting \"config\"; there are: name, cluster"),
            ("\n\npreset = \"lam\"\n", "line 3: ", "preset: \"lam\" is not one of lan, wan, loopback"),
            ("reap-time = \"soon\"\n", "line 1: ", "\"soon\" is not a time"),
            ("reap-time = \"soon\"\n", "line 1: ", "valid examples: 90s"),
            ("reap-time = 5\n", "line 1: ", "reap-time: 5 is not a text"),
            ("max-entries = true\n", "line 1: ", "max-entries: true is not a whole number"),
            ("max-value-bytes = \"1MiX\"\n", "line 1: ", "\"1MiX\" is not a number or a size"),
            ("max-entries = -5\n", "line 1: ", "max-entries: -5 is not a whole number"),
            ("http-open = \"true\"\n", "line 1: ", "true or false"),
            ("secret-file = \"\"\n", "line 1: ", "secret-file: \"\" is not a value"),
            ("seed = [\n\"a\",\n5,\n]\n", "line 3: ", "seed: 5 is not a text"),
            ("name = [[1]]\n", "line 1: ", "name: a list is not a text"),
            ("[label]\nzone = \"a\"\nrack = 1\n", "line 3: ", "label: rack: 1 is not a text"),
            ("[label]\n\"a=b\" = \"c\"\n", "line 2: ", "\"a=b\" contains ="),
            ("[label]\n\"\" = \"c\"\n", "line 2: ", "is not a label"),
            ("limit = 5\n", "line 1: ", "limit: 5 is not a table of whole numbers"),
            ("[limit]\nsteams = 5\n", "line 2: ", "there is no limit \"steams\"; there are: "),
            ("[limit]\nstreams = 0\n", "line 2: ", "streams: 0 is out of bounds"),
            ("[limit]\n\nstreams = true\n", "line 3: ", "limit: streams: true is not a whole number"),
            ("seed = \"a\"\nseeds = \"b\"\n", "line 2: ", "in the file already"),
            ("name = \"a\"\nname = \"b\"\n", "line 2: ", "duplicate"),
            ("seed = 1\n", "line 1: ", "a text or a list of texts"),
            ("name = \n", "line 1: ", ""),
            ("log-level = \"transport=loud\"\n", "line 1: ", "valid examples"),
            ("cluster = \"\"\n", "line 1: ", "empty"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.starts_with(location) && why.contains(what) && !why.contains('\n'), "{text}: {why}");
        }
    }

    #[test]
    fn sizes_may_have_units() {
        let file = parse("max-value-bytes = \"2MiB\"\n[limit]\nstream-window = \"64KiB\"\n").unwrap();
        assert_eq!(file.max_value_bytes, Some(2 << 20));
        assert_eq!(file.limits, Some(vec![("stream-window".to_owned(), 64 << 10)]));
    }

    #[test]
    fn a_comma_separates_nothing_in_the_file() {
        let file = parse("network = \"a,b\"\nlabel = { note = \"a,b\" }\n").unwrap();
        assert_eq!(file.networks.unwrap(), ["a,b"]);
        assert_eq!(file.labels.unwrap(), [("note".to_owned(), "a,b".to_owned())]);
    }

    #[test]
    fn paths_of_files_start_at_the_folder_of_the_file_and_other_paths_do_not() {
        let file = parse("key-file = \"a\"\nhttp-token-file = \"/b\"\nadmin-socket = \"c\"\n").unwrap();
        assert_eq!(file.key_file.unwrap(), Path::new("/folder/a"));
        assert_eq!(file.http_token_file.unwrap(), Path::new("/b"));
        assert_eq!(file.admin_socket.unwrap(), SocketPath::At("c".into()));
    }
}
