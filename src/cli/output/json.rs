//! Results for programs.

use serde::Serialize;

use crate::cli::error::Failure;

/// Indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::failed(&error))
}

/// The same value in YAML.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    let value = serde_json::to_value(value).map_err(|error| Failure::failed(&error))?;
    serde_saphyr::to_string(&value).map_err(|error| Failure::failed(&error))
}

/// How a failed command looks to a program.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Failed<'a> {
    /// The exit code.
    pub(crate) exit_code: u8,
    /// What went wrong.
    pub(crate) failure: &'a Failure,
}
