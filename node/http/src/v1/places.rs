//! What the paths of calls name, as handlers read it and the OpenAPI document describes it.

use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct NetworkPath {
    /// The network
    pub(super) network: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TablePath {
    /// The network
    pub(super) network: String,
    /// The table
    pub(super) table: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct EntryPath {
    /// The network
    pub(super) network: String,
    /// The table
    pub(super) table: String,
    /// The key; may be empty
    #[serde(default)]
    pub(super) key: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct MemberPath {
    /// The name of a member
    pub(super) name: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct KeyPath {
    /// Sixteen hexadecimal digits
    #[param(pattern = "^[0-9a-f]{16}$")]
    pub(super) fingerprint: String,
}
