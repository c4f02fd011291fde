//! Reads the command line and the environment, with what clap leaves to its user: client options before the command,
//! variables that mean nothing, and whether a refused value is from the environment.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};

use crate::tokens::TOKEN_VARIABLE;

/// What the variables of this program begin with.
const PREFIX: &str = "NETWORKDB_";

/// What Kubernetes and Docker set for a service or a container called networkdb.
const OF_OTHERS: [&str; 3] = ["NETWORKDB_SERVICE_", "NETWORKDB_PORT_", "NETWORKDB_ENV_"];

/// Reads the command from the words of the command line, the first of them the program's name. `variables` are the
/// names in the environment; clap reads the values itself.
pub(crate) fn read<C: Parser>(
    words: Vec<OsString>,
    variables: impl IntoIterator<Item = OsString>,
) -> Result<C, clap::Error> {
    let mut command = C::command();
    if let Some(why) = unknown_variable(&command, variables) {
        return Err(command.error(ErrorKind::UnknownArgument, why));
    }
    let words = with_options_after_the_command(&command, words);
    C::try_parse_from(&words).map_err(|error| with_origin(error, &command, &words))
}

/// All flags of all commands.
fn flags(command: &Command) -> Vec<&Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(flags)).collect()
}

/// Why a variable is refused, if one is.
fn unknown_variable(command: &Command, variables: impl IntoIterator<Item = OsString>) -> Option<String> {
    let known: BTreeSet<&str> =
        flags(command).iter().filter_map(|flag| flag.get_env()?.to_str()).chain([TOKEN_VARIABLE]).collect();
    let is_unknown = |name: &String| {
        name.starts_with(PREFIX)
            && name != "NETWORKDB_PORT"
            && !OF_OTHERS.iter().any(|other| name.starts_with(other))
            && !known.contains(name.as_str())
    };
    let name = variables.into_iter().filter_map(|name| name.into_string().ok()).find(is_unknown)?;
    let in_common =
        |known: &str| known.bytes().zip(name.bytes()).take_while(|(one, other)| one == other).count();
    let hint = match known.iter().max_by_key(|known| in_common(known)) {
        Some(similar) if in_common(similar) > PREFIX.len() + 2 => format!("did you mean {similar}?"),
        _ => "`networkdb run --help` shows the variables of a node".to_owned(),
    };
    Some(format!("the environment variable {name} means nothing to networkdb; {hint}"))
}

/// Moves client options that stand before the command behind it, where clap expects them.
fn with_options_after_the_command(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let of_clients: Vec<&Arg> = flags(command).into_iter().filter(|flag| flag.is_global_set()).collect();
    let mut first = 1;
    while let Some(word) = words.get(first).and_then(|word| word.to_str()?.strip_prefix("--")) {
        let (name, has_value) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
        let Some(flag) = of_clients.iter().find(|flag| flag.get_long() == Some(name)) else { return words };
        first += if has_value || !flag.get_action().takes_values() { 1 } else { 2 };
    }
    if first == 1 || first >= words.len() {
        return words;
    }
    let (program, options, name, rest) =
        (&words[..1], &words[1..first], &words[first..=first], &words[first + 1..]);
    [program, name, options, rest].concat()
}

/// Adds to the error about a value that the environment has it, if no word of the command line does.
fn with_origin(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    let variable = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => variable_of(shown, command, words),
        _ => None,
    };
    if let (Some(variable), ErrorKind::InvalidValue | ErrorKind::ValueValidation) = (variable, error.kind()) {
        let origin = format!("the value is that of the environment variable {}", variable.display());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![origin.into()]));
    }
    error
}

/// The variable that the value of a flag was read from. `shown` is the flag as clap shows it: `--bind <ADDRESS>`.
fn variable_of<'a>(shown: &str, command: &'a Command, words: &[OsString]) -> Option<&'a OsStr> {
    let long = shown.split_whitespace().next()?.strip_prefix("--")?;
    let flag =
        flags(command).into_iter().find(|flag| flag.get_long() == Some(long) && flag.get_env().is_some())?;
    let names = flag.get_all_aliases().unwrap_or_default().into_iter().chain([long]);
    let given: Vec<String> = names.map(|name| format!("--{name}")).collect();
    let is_given = |word: &OsString| {
        let word = word.to_string_lossy();
        given.iter().any(|flag| {
            word.strip_prefix(flag.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    if words.iter().any(is_given) { None } else { flag.get_env() }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::arguments::{Command as Call, CommandLine};

    fn parse(words: &[&str], variables: &[&str]) -> Result<Call, clap::Error> {
        let words = ["networkdb"].iter().chain(words).map(OsString::from).collect();
        read::<CommandLine>(words, variables.iter().map(OsString::from)).map(|line| line.command)
    }

    #[test]
    fn client_options_may_stand_before_the_command() {
        for words in [
            &["--api", "http://127.0.0.1:2001", "--json", "peers", "--network", "n"][..],
            &["--api=http://127.0.0.1:2001", "peers", "--json", "--network", "n"],
            &["peers", "--network", "n", "--json", "--api", "http://127.0.0.1:2001"],
        ] {
            let Ok(Call::Peers(peers)) = parse(words, &[]) else { panic!("{words:?}") };
            assert_eq!(peers.client.api().to_string(), "http://127.0.0.1:2001");
            assert!(peers.client.json && peers.network.as_deref() == Some("n"));
        }
        assert!(parse(&["--api", "http://127.0.0.1:2001", "run"], &[]).is_err(), "a node calls no node");
        assert!(parse(&["--api", "http://127.0.0.1:2001"], &[]).is_err());
    }

    #[test]
    fn a_variable_that_means_nothing_is_refused_and_those_of_others_are_not() {
        let error = parse(&["keygen"], &["HOME", "NETWORKDB_SEED"]).unwrap_err().to_string();
        assert!(error.contains("NETWORKDB_SEED means") && error.contains("NETWORKDB_SEEDS?"), "{error}");
        let error = parse(&["keygen"], &["NETWORKDB_HTTP_NAME"]).unwrap_err().to_string();
        assert!(error.contains("NETWORKDB_HTTP_NAMES?"), "{error}");
        assert!(parse(&["keygen"], &["NETWORKDB_WHAT"]).unwrap_err().to_string().contains("run --help"));
        let fine =
            ["NETWORKDB_SEEDS", "NETWORKDB_TOKEN", "NETWORKDB_PORT_7946_UDP", "NETWORKDB_SERVICE_HOST"];
        assert!(parse(&["keygen"], &fine).is_ok());
    }

    #[test]
    fn a_value_from_the_environment_is_told_from_one_of_the_command_line() {
        let mut command = CommandLine::command();
        command.build();
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let origin = |of: &[&str]| variable_of("--bind <ADDRESS[:PORT]>", &command, &words(of));
        assert_eq!(origin(&["networkdb", "run", "--name", "a"]), Some(OsStr::new("NETWORKDB_BIND")));
        assert_eq!(origin(&["networkdb", "run", "--bind", "x"]), None);
        assert_eq!(origin(&["networkdb", "run", "--bind=x"]), None);
    }
}
