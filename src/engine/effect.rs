//! The one place where steps become effects.
//!
//! Every function here may be run again after dying anywhere inside it, and ends only when its
//! effect was observed. What it returns is the evidence.

use std::time::Duration;

use super::{Error, RunContext};
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
pub(crate) mod own;
mod prove;
mod release;
mod renew;
mod rotate;
mod sample;
mod trust;

/// A step on the bench: what it is done with, and whom it tells what it waits for and what it
/// found out.
#[derive(Clone, Copy)]
struct StepContext<'a> {
    run: &'a RunContext,
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
    run: &RunContext,
    say: &(dyn Fn(&str) + Sync),
    judged: &(dyn Fn(Verdict) + Sync),
) -> Evidence {
    // What only takes away gets time of its own: it is done also when the rest was too late.
    let late = step.always() && run.deadline.left() < CLEANUP;
    let deadline = if late {
        Deadline::after(CLEANUP)
    } else {
        run.deadline
    };
    let context = StepContext {
        run,
        deadline,
        say,
        judged,
    };
    match step {
        Step::CreateRoot => context.create_root(),
        Step::PrepareNamespaces(c) => context.prepare_namespaces(c).await,
        Step::ClaimRoot(c) => context.claim_root(c).await,
        Step::IssueIntermediate(c) => context.issue_intermediate(c),
        Step::InstallCacerts(c) => context.install_cacerts(c).await,
        Step::InstallBase(c) => context.install_base(c).await,
        Step::InstallIstiod(c) => context.install_istiod(c).await,
        Step::RestartIstiod(c) => context.restart_istiod(c).await,
        Step::RefreshIstiod(c) => context.refresh_istiod(c).await,
        Step::AwaitIstiod(c) => context.await_istiod(c).await,
        Step::OpenGateway(c) => context.open_gateway(c).await,
        Step::InstallGateway(c) => context.install_gateway(c).await,
        Step::ExposeServices(c) => context.expose_services(c).await,
        Step::AwaitNlb(c) => context.await_nlb(c).await,
        Step::GrantReader { cluster, peer } => context.grant_reader(cluster, peer).await,
        Step::StartProbe(c) => context.start_probe(c).await,
        Step::Reach { from, to } => context.reach(from, to).await,
        Step::ShareSecret { from, to } => context.share_secret(from, to).await,
        Step::Prove { from, to } => context.prove(from, to).await,
        Step::RecordProof(c) => context.record_proof(c).await,
        Step::StopProbe(c) => context.stop_probe(c).await,
        Step::UnshareSecret { from, to } => context.unshare_secret(from, to).await,
        Step::AwaitUnlinked { cluster, leaver } => context.await_unlinked(cluster, leaver).await,
        Step::RevokeReader { cluster, peer } => context.revoke_reader(cluster, peer).await,
        Step::CloseGateway(c) => context.close_gateway(c).await,
        Step::UninstallIstiod(c) => context.uninstall_istiod(c).await,
        Step::UninstallBase(c) => context.uninstall_base(c).await,
        Step::RemoveCacerts(c) => context.remove_cacerts(c).await,
        Step::ForgetMember { cluster, leaver } => context.forget_member(cluster, leaver).await,
        Step::RemoveNamespaces(c) => context.remove_namespaces(c).await,
        Step::RenewCacerts(c) => context.renew_cacerts(c).await,
        Step::AwaitReissue(c) => context.await_reissue(c).await,
        Step::SettleCacerts(c) => context.settle_cacerts(c).await,
        Step::InstallSample(c) => context.install_sample(c).await,
        Step::RemoveSample(c) => context.remove_sample(c).await,
        Step::CreateNextRoot => context.create_next_root(),
        Step::AnnounceRoot(c) => context.announce_root(c).await,
        Step::RestartWorkloads(c) => context.restart_workloads(c).await,
        Step::DistributeRoot(c)
        | Step::SwitchIssuer(c)
        | Step::RetireRoot(c)
        | Step::RestoreIssuer(c)
        | Step::WithdrawRoot(c) => context.turn(step, c).await,
        Step::RebindRoot(c) => context.rebind_root(c).await,
        Step::CloseRotation(c) => context.close_rotation(c).await,
    }
}

impl StepContext<'_> {
    fn cluster(&self, name: &ClusterName) -> Result<&Cluster, Error> {
        self.run.cluster(name)
    }

    fn istio(&self) -> &str {
        &self.run.mesh.istio.namespace
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
