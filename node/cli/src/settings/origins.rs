//! Where the values of settings came from, for errors about several of them together.

use std::collections::BTreeMap;
use std::path::Path;

use crate::settings::options::SettingOptions;

/// The origins of the values in force, by the IDs of the settings' arguments.
#[derive(Debug)]
pub(crate) struct Origins(BTreeMap<&'static str, String>);

impl Origins {
    /// `given` are flags and environment, which have precedence over `file`, that of this path.
    pub(crate) fn new(given: &SettingOptions, file: &SettingOptions, path: Option<&Path>) -> Self {
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        let of_file = file.values().into_keys().map(|id| (id, format!("the configuration file {path}")));
        let of_given = given.values().into_iter().map(|(id, value)| {
            let variable = format!("NETWORKDB_{}", id.to_uppercase());
            let is_variable = std::env::var(&variable).is_ok_and(|text| value.as_str() == Some(&text));
            let origin = match is_variable {
                true => format!("the environment variable {variable}"),
                false => "the command line".to_owned(),
            };
            (id, origin)
        });
        // The later ones replace the earlier ones.
        Self(of_file.chain(of_given).collect())
    }

    /// The origin of the setting with this ID; empty if it has no value.
    pub(crate) fn of(&self, id: &str) -> &str {
        self.0.get(id).map_or("", String::as_str)
    }
}
