//! The one place where steps become effects.
//!
//! Every function here may be run again after dying anywhere inside it, and ends only when its
//! effect was observed. What it returns is the evidence.

use std::time::Duration;

use super::{Error, Shop};
use crate::{
    cluster::{Cluster, Ref},
    name::ClusterName,
    plan::Step,
    verify::Verdict,
    wait::Deadline,
};

mod gateway;
mod install;
mod leave;
mod link;
mod prove;
mod release;
mod sample;
mod trust;

/// A step on the bench: what it is done with, and whom it tells what it waits for and what it
/// found out.
#[derive(Clone, Copy)]
struct Act<'a> {
    shop: &'a Shop,
    deadline: Deadline,
    say: &'a (dyn Fn(&str) + Sync),
    judged: &'a (dyn Fn(Verdict) + Sync),
}

/// How long a step may take that is done whatever else failed.
const CLEANUP: Duration = Duration::from_secs(60);

type Evidence = Result<Vec<String>, Error>;

/// Does a step.
pub(super) async fn perform(
    step: &Step,
    shop: &Shop,
    say: &(dyn Fn(&str) + Sync),
    judged: &(dyn Fn(Verdict) + Sync),
) -> Evidence {
    // What only takes away gets time of its own: it is done also when the rest was too late.
    let late = step.always() && shop.deadline.left() < CLEANUP;
    let deadline = if late {
        Deadline::after(CLEANUP)
    } else {
        shop.deadline
    };
    let act = Act {
        shop,
        deadline,
        say,
        judged,
    };
    match step {
        Step::CreateRoot => act.create_root(),
        Step::PrepareNamespaces(c) => act.prepare_namespaces(c).await,
        Step::ClaimRoot(c) => act.claim_root(c).await,
        Step::IssueIntermediate(c) => act.issue_intermediate(c),
        Step::InstallCacerts(c) => act.install_cacerts(c).await,
        Step::InstallBase(c) => act.install_base(c).await,
        Step::InstallIstiod(c) => act.install_istiod(c).await,
        Step::RestartIstiod(c) => act.restart_istiod(c).await,
        Step::RefreshIstiod(c) => act.refresh_istiod(c).await,
        Step::AwaitIstiod(c) => act.await_istiod(c).await,
        Step::OpenGateway(c) => act.open_gateway(c).await,
        Step::InstallGateway(c) => act.install_gateway(c).await,
        Step::ExposeServices(c) => act.expose_services(c).await,
        Step::AwaitNlb(c) => act.await_nlb(c).await,
        Step::GrantReader { cluster, peer } => act.grant_reader(cluster, peer).await,
        Step::StartWitness(c) => act.start_witness(c).await,
        Step::Reach { from, to } => act.reach(from, to).await,
        Step::ShareSecret { from, to } => act.share_secret(from, to).await,
        Step::Prove { from, to } => act.prove(from, to).await,
        Step::RecordProof(c) => act.record_proof(c).await,
        Step::StopWitness(c) => act.stop_witness(c).await,
        Step::UnshareSecret { from, to } => act.unshare_secret(from, to).await,
        Step::AwaitUnlinked { cluster, leaver } => act.await_unlinked(cluster, leaver).await,
        Step::RevokeReader { cluster, peer } => act.revoke_reader(cluster, peer).await,
        Step::CloseGateway(c) => act.close_gateway(c).await,
        Step::UninstallIstiod(c) => act.uninstall_istiod(c).await,
        Step::UninstallBase(c) => act.uninstall_base(c).await,
        Step::RemoveCacerts(c) => act.remove_cacerts(c).await,
        Step::ForgetMember { cluster, leaver } => act.forget_member(cluster, leaver).await,
        Step::RemoveNamespaces(c) => act.remove_namespaces(c).await,
        Step::InstallSample(c) => act.install_sample(c).await,
        Step::RemoveSample(c) => act.remove_sample(c).await,
    }
}

impl Act<'_> {
    fn cluster(&self, name: &ClusterName) -> Result<&Cluster, Error> {
        self.shop.cluster(name)
    }

    fn istio(&self) -> &str {
        &self.shop.mesh.istio.namespace
    }

    /// An object in the control plane's namespace.
    fn in_istio(&self, kind: &crate::cluster::Kind, name: &str) -> Ref {
        Ref::namespaced(kind, self.istio(), name)
    }
}

/// Evidence in one line.
fn seen(line: impl Into<String>) -> Evidence {
    Ok(vec![line.into()])
}
