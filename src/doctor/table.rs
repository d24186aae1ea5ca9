//! Every check: what it is called, how bad it is, what it looks at, and the function that does. Data.

use super::{Check, Level, When};

mod members;
mod rules;
mod way;

/// What most checks are: an error in a mesh that stands.
const CHECK: Check = Check {
    id: "",
    level: Level::Error,
    when: When::Joined,
    looks: "",
    cause: "",
    mend: "",
    needs: &[],
    echoes: &[],
    look: |_| vec![],
};

/// Every check in the order in which they are told, under the headings of the catalogue.
pub(super) const GROUPS: &[(&str, &[Check])] = &[
    ("Identity and network", members::IDENTITY),
    ("Certificates", members::CERTIFICATES),
    ("Remote secrets", members::REMOTE_SECRETS),
    ("Gateways", way::GATEWAYS),
    ("Control plane", way::CONTROL_PLANE),
    ("Istio's rules", rules::RULES),
    ("Services", rules::SERVICES),
    ("Workloads", rules::WORKLOADS),
    ("NetworkPolicies", rules::NETWORK_POLICIES),
    ("Before a join", rules::BEFORE),
];

/// Every check.
pub(super) fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().flat_map(|(_, checks)| *checks)
}
