//! The values of settings in TOML, as the configuration file has them.

use std::path::PathBuf;
use std::time::Duration;

use transport::ClusterName;
use wire::NodeName;

use crate::settings::values::{HttpAddress, ListenAddress, LogFormat, Preset, SocketPath};

/// A value of a setting as it is written in the file.
pub(crate) trait FileValue {
    /// The value in TOML.
    fn to_toml(&self) -> toml::Value;
}

/// The types whose text is their display.
macro_rules! written_as_displayed {
    ($($type:ty),*) => {
        $(impl FileValue for $type {
            fn to_toml(&self) -> toml::Value {
                self.to_string().into()
            }
        })*
    };
}

written_as_displayed!(
    String,
    NodeName,
    ClusterName,
    ListenAddress,
    HttpAddress,
    SocketPath,
    LogFormat,
    Preset
);

impl FileValue for PathBuf {
    fn to_toml(&self) -> toml::Value {
        self.to_string_lossy().into_owned().into()
    }
}

impl FileValue for Duration {
    fn to_toml(&self) -> toml::Value {
        humantime::format_duration(*self).to_string().into()
    }
}

impl FileValue for bool {
    fn to_toml(&self) -> toml::Value {
        (*self).into()
    }
}

impl FileValue for usize {
    fn to_toml(&self) -> toml::Value {
        // TOML has no larger integers.
        i64::try_from(*self).unwrap_or(i64::MAX).into()
    }
}

impl FileValue for Vec<String> {
    fn to_toml(&self) -> toml::Value {
        self.clone().into()
    }
}

impl<T: FileValue> FileValue for Vec<(String, T)> {
    fn to_toml(&self) -> toml::Value {
        self.iter().map(|(key, value)| (key.clone(), value.to_toml())).collect::<toml::Table>().into()
    }
}
