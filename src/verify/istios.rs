//! Whether the control plane of a member is the only one in its cluster, and the mesh's. Pure.

use super::{Check, Claim, Outcome};
use crate::{hint::Hint, name::ClusterName, observe::Seen, spec::Mesh};

/// What is the matter with a cluster that has another control plane, or one that is not the mesh's.
pub(super) fn judge(mesh: &Mesh, name: &ClusterName, seen: &Seen) -> Option<Check> {
    let istio = mesh.istio.namespace.as_str();
    let told: Vec<_> = seen.other_istios(istio).map(ToString::to_string).collect();
    let is_bound = seen.claim.is_some();
    let main = seen.main_istio(istio).filter(|_| !is_bound);
    let (evidence, hint) = match (told.is_empty(), main) {
        (false, _) => (
            format!(
                "{name} has another control plane of Istio: {}",
                told.join(", and ")
            ),
            Hint::kubectl(name, ["get", "deployments", "-A", "-l", "app=istiod"]),
        ),
        (true, Some(main)) => (
            format!(
                "{name} has an Istio that is not in mesh {}: {main}",
                mesh.id
            ),
            Hint::join_again([name]),
        ),
        (true, None) => return None,
    };
    Some(Check {
        id: Claim::OneIstio,
        from: name.to_string(),
        to: None,
        outcome: Outcome::Failed,
        evidence,
        hints: vec![hint],
    })
}
