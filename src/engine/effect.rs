//! The one place where steps become effects.
//!
//! Every function here may be run again after dying anywhere inside it, and ends only when its
//! effect was observed. What it returns is the evidence.

use std::{future::ready, time::Duration};

use futures::future::BoxFuture;

use super::{Error, RunContext};
use crate::{
    cluster::{Cluster, Ref},
    name::ClusterName,
    plan::Step,
    verify::Verdict,
    wait::Deadline,
};

mod adopt;
mod gateway;
mod install;
mod leave;
mod link;
pub(crate) mod own;
mod prove;
mod readers;
mod release;
mod renew;
mod rollout;
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
    work(step, &context).await
}

/// What does a step. On the heap, and made in a frame of its own: together the futures of all steps overran the stack of a
/// worker thread.
fn work<'a>(step: &'a Step, context: &'a StepContext<'a>) -> BoxFuture<'a, Evidence> {
    match step {
        Step::CreateRoot => apart(|| ready(context.create_root())),
        Step::PrepareNamespaces(c) => apart(|| context.prepare_namespaces(c)),
        Step::ClaimRoot(c) => apart(|| context.claim_root(c)),
        Step::IssueIntermediate(c) => apart(|| context.issue_intermediate(c)),
        Step::InstallCacerts(c) => apart(|| context.install_cacerts(c)),
        Step::InstallBase(c) => apart(|| context.install_base(c)),
        Step::InstallIstiod(c) => apart(|| context.install_istiod(c)),
        Step::RestartIstiod(c) => apart(|| context.restart_istiod(c)),
        Step::RefreshIstiod(c) => apart(|| context.refresh_istiod(c)),
        Step::AwaitIstiod(c) => apart(|| context.await_istiod(c)),
        Step::OpenGateway(c) => apart(|| context.open_gateway(c)),
        Step::InstallGateway(c) => apart(|| context.install_gateway(c)),
        Step::ExposeServices(c) => apart(|| context.expose_services(c)),
        Step::AwaitNlb(c) => apart(|| context.await_nlb(c)),
        Step::GrantReader { cluster, peer } => apart(|| context.grant_reader(cluster, peer)),
        Step::StartProbe(c) => apart(|| context.start_probe(c)),
        Step::Reach { from, to } => apart(|| context.reach(from, to)),
        Step::ShareSecret { from, to } => apart(|| context.share_secret(from, to)),
        Step::Prove { from, to } => apart(|| context.prove(from, to)),
        Step::RecordProof(c) => apart(|| context.record_proof(c)),
        Step::StopProbe(c) => apart(|| context.stop_probe(c)),
        Step::UnshareSecret { from, to } => apart(|| context.unshare_secret(from, to)),
        Step::AwaitUnlinked { cluster, leaver } => {
            apart(|| context.await_unlinked(cluster, leaver))
        }
        Step::RevokeReader { cluster, peer } => apart(|| context.revoke_reader(cluster, peer)),
        Step::CloseGateway(c) => apart(|| context.close_gateway(c)),
        Step::UninstallIstiod(c) => apart(|| context.uninstall_istiod(c)),
        Step::UninstallBase(c) => apart(|| context.uninstall_base(c)),
        Step::RemoveCacerts(c) => apart(|| context.remove_cacerts(c)),
        Step::ForgetMember { cluster, leaver } => apart(|| context.forget_member(cluster, leaver)),
        Step::RemoveNamespaces(c) => apart(|| context.remove_namespaces(c)),
        Step::MakeToken { cluster, peer } => apart(|| context.make_token(cluster, peer)),
        Step::AwaitSynced { cluster, peer } => apart(|| context.await_synced(cluster, peer)),
        Step::RetireToken { cluster, peer } => apart(|| context.retire_token(cluster, peer)),
        Step::InstallRenewer(c) => apart(|| context.install_renewer(c)),
        Step::RemoveRenewer(c) => apart(|| context.remove_renewer(c)),
        Step::RenewCacerts(c) => apart(|| context.renew_cacerts(c)),
        Step::AwaitReissue(c) => apart(|| context.await_reissue(c)),
        Step::SettleCacerts(c) => apart(|| context.settle_cacerts(c)),
        Step::InstallSample(c) => apart(|| context.install_sample(c)),
        Step::RemoveSample(c) => apart(|| context.remove_sample(c)),
        Step::CreateNextRoot => apart(|| ready(context.create_next_root())),
        Step::AnnounceRoot(c) => apart(|| context.announce_root(c)),
        Step::RestartWorkloads(c) => apart(|| context.restart_workloads(c)),
        Step::DistributeRoot(c)
        | Step::SwitchIssuer(c)
        | Step::RetireRoot(c)
        | Step::RestoreIssuer(c)
        | Step::WithdrawRoot(c) => apart(|| context.turn(step, c)),
        Step::RebindRoot(c) => apart(|| context.rebind_root(c)),
        Step::CloseRotation(c) => apart(|| context.close_rotation(c)),
        Step::LabelNamespace { cluster, namespace }
        | Step::UnlabelNamespace { cluster, namespace } => {
            apart(|| context.label(cluster, namespace))
        }
        Step::RestartWorkload {
            cluster,
            kind,
            namespace,
            name,
        } => apart(|| context.restart_workload(cluster, [kind, namespace, name])),
        Step::HandOver(c) => apart(|| context.hand_over(step, c)),
        Step::TrustRoot(c) => apart(|| context.trust_root(c)),
        Step::SpreadRoot(c) => apart(|| context.spread_root(c)),
        Step::ReplaceSigner(c) => apart(|| context.replace_signer(c)),
        Step::DropRoot(c) => apart(|| context.drop_root(c)),
    }
}

fn apart<'a, F>(make: impl FnOnce() -> F) -> BoxFuture<'a, Evidence>
where
    F: Future<Output = Evidence> + Send + 'a,
{
    Box::pin(make())
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
