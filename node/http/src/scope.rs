//! What a token is limited to: networks, and beginnings of keys.

use percent_encoding::percent_decode_str;

/// The part of the tables that a caller may see and change. Without networks it is all of them, and so with prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    networks: Vec<String>,
    prefixes: Vec<String>,
}

impl Scope {
    /// Reads `network=NAME` and `prefix=TEXT`, each as often as wanted, from the beginning of the words behind a token;
    /// the rest is the token's name. Spaces and other characters may be escaped by % as in a URL. `None` if a
    /// limit is empty or not UTF-8: it must not be taken for none.
    pub(super) fn split(words: &str) -> Option<(Self, Option<&str>)> {
        let (mut scope, mut rest) = (Self::default(), words.trim());
        loop {
            let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let (values, value) = match word.split_once('=') {
                Some(("network", value)) => (&mut scope.networks, value),
                Some(("prefix", value)) => (&mut scope.prefixes, value),
                _ => return Some((scope, (!rest.is_empty()).then_some(rest))),
            };
            let value = percent_decode_str(value).decode_utf8().ok().filter(|value| !value.is_empty())?;
            values.push(value.into_owned());
            rest = behind.trim_start();
        }
    }

    /// Whether it is everything.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.networks.is_empty() && self.has_all_keys()
    }

    /// Whether it has all keys of its networks.
    pub(crate) fn has_all_keys(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Whether the network is in it, with all or some of its keys.
    pub(crate) fn has_network(&self, network: &str) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|allowed| allowed == network)
    }

    /// Whether all keys that begin with `beginning` are in it, and so the key `beginning`.
    pub(crate) fn has_keys(&self, beginning: &str) -> bool {
        self.has_all_keys() || self.prefixes.iter().any(|allowed| beginning.starts_with(allowed.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_stand_before_the_name_and_none_is_lost() {
        let (scope, name) =
            Scope::split(" network=blue  network=a%20b prefix=web/ Ada of = the operators").unwrap();
        assert_eq!(name, Some("Ada of = the operators"));
        let networks = ["blue", "a b", "red", "blu", ""].map(|network| scope.has_network(network));
        assert_eq!(networks, [true, true, false, false, false]);
        let keys = ["web/", "web/1", "web", "", "dns/"].map(|key| scope.has_keys(key));
        assert_eq!(keys, [true, true, false, false, false]);
        for unlimited in ["", "Ada", "Ada network=blue"] {
            assert!(Scope::split(unlimited).unwrap().0.is_unlimited(), "{unlimited}");
        }
        for invalid in ["network=", "prefix= Ada", "network=%ff"] {
            assert_eq!(Scope::split(invalid), None, "{invalid}");
        }
    }
}
