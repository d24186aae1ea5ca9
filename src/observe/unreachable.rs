//! A member that could not be read: where it should be, and why there is no reading of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    causes,
    cluster::{self, Failure, Transport},
    hint::Hint,
    name::ClusterName,
};

/// A member that could not be read. The others are read, and told of, all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unreachable {
    /// The member.
    pub cluster: String,
    /// Its API server's address, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Why it could not be read, outermost first.
    pub why: Vec<String>,
    /// What to do about it.
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// Nothing answers, or only that it is out of order. Anything else, such as missing rights, is for whoever typed
    /// the command to mend.
    #[serde(skip)]
    pub(crate) silent: bool,
    /// It is called by a name that nothing knows.
    #[serde(skip)]
    pub(crate) unknown: bool,
}

impl Unreachable {
    /// A member whose API server was asked.
    pub(crate) fn of(name: &ClusterName, server: &str, error: &cluster::Error) -> Self {
        let silent = is_silent(error);
        let mut why = match error.failure().filter(|_| silent) {
            // Which of several calls came first is chance and says nothing.
            Some(failure) => {
                let mut why = causes::texts(failure);
                why.insert(0, format!("cluster {name}: cannot reach {server}"));
                why
            }
            None => causes::texts(error),
        };
        if !why.iter().any(|text| text.contains(server)) {
            why.push(format!("its API server is {server}"));
        }
        Self {
            cluster: name.to_string(),
            server: Some(server.to_owned()),
            why,
            hints: vec![],
            silent,
            unknown: false,
        }
    }

    /// A member to which there is no way.
    pub(crate) fn without_a_way(name: &ClusterName, why: Vec<String>, hints: Vec<Hint>) -> Self {
        Self {
            cluster: name.to_string(),
            server: None,
            why,
            hints,
            silent: false,
            unknown: false,
        }
    }

    /// Why, on one line.
    pub fn line(&self) -> String {
        self.why.join(": ")
    }
}

/// Whether nobody answers who could say anything of the member.
fn is_silent(error: &cluster::Error) -> bool {
    match error.failure() {
        Some(Failure::Transport { kind, .. }) => {
            !matches!(kind, Transport::Credentials | Transport::Tls)
        }
        Some(Failure::Timeout(_)) => true,
        Some(Failure::Status { code, .. }) => *code >= 500,
        _ => false,
    }
}
