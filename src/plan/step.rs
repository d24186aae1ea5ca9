//! The closed list of things meshlink can do to a mesh, and what each is called.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::name::ClusterName;

/// One thing to do. Its [`Display`](fmt::Display) is its id: the same text in plan, progress,
/// journal, errors and tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Make the root key and certificate, and rest them in the vault.
    CreateRoot,
    /// Namespaces of the control plane and the gateway, with the network label.
    PrepareNamespaces(ClusterName),
    /// Bind the cluster to this mesh's root, or find that it is bound to another.
    ClaimRoot(ClusterName),
    /// Make the cluster's intermediate, and rest it in the vault.
    IssueIntermediate(ClusterName),
    /// Write `cacerts`, which istiod reads when it starts.
    InstallCacerts(ClusterName),
    /// The base chart: CRDs first, awaited.
    InstallBase(ClusterName),
    /// The istiod chart.
    InstallIstiod(ClusterName),
    /// Restart an istiod that runs with certificates older than `cacerts`.
    RestartIstiod(ClusterName),
    /// Restart an istiod of a version that a changed remote secret breaks, until it serves again.
    RefreshIstiod(ClusterName),
    /// Until istiod and its webhook serve.
    AwaitIstiod(ClusterName),
    /// The gateway's Service alone: the load balancer takes minutes, so it is asked for first.
    OpenGateway(ClusterName),
    /// The gateway chart.
    InstallGateway(ClusterName),
    /// The `Gateway` object that opens 15443.
    ExposeServices(ClusterName),
    /// Until the load balancer has an address and its targets answer on 15443.
    AwaitNlb(ClusterName),
    /// The reader account `peer`'s istiod will use in `cluster`.
    GrantReader {
        /// Where the account lives.
        cluster: ClusterName,
        /// Whose istiod uses it.
        peer: ClusterName,
    },
    /// The probe pod of a cluster.
    StartProbe(ClusterName),
    /// Until the probe in `from` reaches `to`'s gateway and API server by name.
    Reach {
        /// Where it is tried.
        from: ClusterName,
        /// What is to be reached.
        to: ClusterName,
    },
    /// Write `from`'s remote secret into `to`.
    ShareSecret {
        /// Whose API server the secret opens.
        from: ClusterName,
        /// Where the secret is written.
        to: ClusterName,
    },
    /// Ask `to`'s probe from `from`'s, and look at what the proxy there holds.
    Prove {
        /// Who asks.
        from: ClusterName,
        /// Who must answer.
        to: ClusterName,
    },
    /// Write down in the cluster what was proved.
    RecordProof(ClusterName),
    /// Remove the probe; done whatever else failed.
    StopProbe(ClusterName),
    /// Delete `from`'s remote secret in `to`.
    UnshareSecret {
        /// Whose API server the secret opened.
        from: ClusterName,
        /// Where it is deleted.
        to: ClusterName,
    },
    /// Until no istiod replica and no proxy in `cluster` knows `leaver` any more.
    AwaitUnlinked {
        /// Where it is looked.
        cluster: ClusterName,
        /// Who must be gone.
        leaver: ClusterName,
    },
    /// Delete the reader account of `peer` in `cluster`, and see its token refused.
    RevokeReader {
        /// Where the account lives.
        cluster: ClusterName,
        /// Whose istiod used it.
        peer: ClusterName,
    },
    /// Remove the gateway, and wait until its load balancer is gone.
    CloseGateway(ClusterName),
    /// Remove the istiod release.
    UninstallIstiod(ClusterName),
    /// Remove the base release, and the CRDs if that was asked for.
    UninstallBase(ClusterName),
    /// Remove `cacerts` and what istiod left behind.
    RemoveCacerts(ClusterName),
    /// Update or remove what meshlink wrote down about the mesh.
    ForgetMember {
        /// Where it is written.
        cluster: ClusterName,
        /// Who is no longer a member.
        leaver: ClusterName,
    },
    /// Remove the namespaces meshlink made.
    RemoveNamespaces(ClusterName),
    /// The next token Secret of `peer`'s reader account, beside the present one.
    MakeToken {
        /// Where the account lives.
        cluster: ClusterName,
        /// Whose istiod uses it.
        peer: ClusterName,
    },
    /// Until every istiod replica in `cluster` has synced with `peer` by its changed remote secret.
    AwaitSynced {
        /// Whose istiods are asked.
        cluster: ClusterName,
        /// What they read.
        peer: ClusterName,
    },
    /// Delete what `peer`'s tokens came from before, and see such a token refused.
    RetireToken {
        /// Where the account lives.
        cluster: ClusterName,
        /// Whose istiod used it.
        peer: ClusterName,
    },
    /// The CronJob that renews in a cluster what that cluster uses, and its rights.
    InstallRenewer(ClusterName),
    /// Take that away again.
    RemoveRenewer(ClusterName),
    /// Write `cacerts` with the newest intermediate and a throw-away root, and have istiod's pods see it at once.
    RenewCacerts(ClusterName),
    /// Until istiod signs with the intermediate in `cacerts`, and every proxy that follows it has a certificate of it.
    AwaitReissue(ClusterName),
    /// Write `cacerts` without its throw-away roots, until no proxy that follows trusts one any more.
    SettleCacerts(ClusterName),
    /// Put the sample apps into a cluster, until they are available.
    InstallSample(ClusterName),
    /// Take the sample apps out again.
    RemoveSample(ClusterName),
    /// Make the root that takes the place of the mesh's, and rest it in the vault.
    CreateNextRoot,
    /// Write down in the cluster which root takes the place of which.
    AnnounceRoot(ClusterName),
    /// Restart the workloads whose proxies cannot follow a change of root.
    RestartWorkloads(ClusterName),
    /// Both roots in `cacerts`, until everything in the cluster trusts both.
    DistributeRoot(ClusterName),
    /// An intermediate of the new root in `cacerts`, until no proxy shows a certificate of the old one.
    SwitchIssuer(ClusterName),
    /// The new root alone in `cacerts`, until nothing trusts the old one.
    RetireRoot(ClusterName),
    /// Bind the cluster to the new root.
    RebindRoot(ClusterName),
    /// An intermediate of the old root in `cacerts` again, until no proxy shows a certificate of the new one.
    RestoreIssuer(ClusterName),
    /// The old root alone in `cacerts`, until nothing trusts the new one.
    WithdrawRoot(ClusterName),
    /// Forget that one root takes the place of another.
    CloseRotation(ClusterName),
    /// Have new pods of a namespace given proxies, by a label of ours.
    LabelNamespace {
        /// Where.
        cluster: ClusterName,
        /// Which.
        namespace: String,
    },
    /// Take that label away again.
    UnlabelNamespace {
        /// Where.
        cluster: ClusterName,
        /// Which.
        namespace: String,
    },
    /// Roll a workload, until every pod of it is new and ready.
    RestartWorkload {
        /// Where.
        cluster: ClusterName,
        /// `Deployment`, `StatefulSet` or `DaemonSet`.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Give what somebody else has made over to a release, or to meshlink.
    HandOver(ClusterName),
    /// Write the mesh's root beside the one that an adopted cluster has.
    TrustRoot(ClusterName),
    /// Until everything in an adopted cluster trusts the mesh's root.
    SpreadRoot(ClusterName),
    /// An intermediate of the mesh in an adopted cluster, until no proxy shows a certificate of its own root.
    ReplaceSigner(ClusterName),
    /// The mesh's root alone in an adopted cluster, until nothing trusts its own.
    DropRoot(ClusterName),
}

impl Step {
    /// Whether it needs the key of a root, where that is in the vault.
    pub(crate) fn signs(&self) -> bool {
        matches!(
            self,
            Self::CreateRoot
                | Self::IssueIntermediate(_)
                | Self::CreateNextRoot
                | Self::SwitchIssuer(_)
                | Self::RestoreIssuer(_)
        )
    }

    /// The verb and the clusters, in the order of the id.
    fn parts(&self) -> (&'static str, Vec<&ClusterName>) {
        match self {
            Self::CreateRoot => ("create-root", vec![]),
            Self::PrepareNamespaces(c) => ("prepare-namespaces", vec![c]),
            Self::ClaimRoot(c) => ("claim-root", vec![c]),
            Self::IssueIntermediate(c) => ("issue-intermediate", vec![c]),
            Self::InstallCacerts(c) => ("install-cacerts", vec![c]),
            Self::InstallBase(c) => ("install-base", vec![c]),
            Self::InstallIstiod(c) => ("install-istiod", vec![c]),
            Self::RestartIstiod(c) => ("restart-istiod", vec![c]),
            Self::RefreshIstiod(c) => ("refresh-istiod", vec![c]),
            Self::AwaitIstiod(c) => ("await-istiod", vec![c]),
            Self::OpenGateway(c) => ("open-gateway", vec![c]),
            Self::InstallGateway(c) => ("install-gateway", vec![c]),
            Self::ExposeServices(c) => ("expose-services", vec![c]),
            Self::AwaitNlb(c) => ("await-nlb", vec![c]),
            Self::GrantReader { cluster, peer } => ("grant-reader", vec![cluster, peer]),
            Self::StartProbe(c) => ("start-probe", vec![c]),
            Self::Reach { from, to } => ("reach", vec![from, to]),
            Self::ShareSecret { from, to } => ("share-secret", vec![from, to]),
            Self::Prove { from, to } => ("prove", vec![from, to]),
            Self::RecordProof(c) => ("record-proof", vec![c]),
            Self::StopProbe(c) => ("stop-probe", vec![c]),
            Self::UnshareSecret { from, to } => ("unshare-secret", vec![from, to]),
            Self::AwaitUnlinked { cluster, leaver } => ("await-unlinked", vec![cluster, leaver]),
            Self::RevokeReader { cluster, peer } => ("revoke-reader", vec![cluster, peer]),
            Self::CloseGateway(c) => ("close-gateway", vec![c]),
            Self::UninstallIstiod(c) => ("uninstall-istiod", vec![c]),
            Self::UninstallBase(c) => ("uninstall-base", vec![c]),
            Self::RemoveCacerts(c) => ("remove-cacerts", vec![c]),
            Self::ForgetMember { cluster, leaver } => ("forget-member", vec![cluster, leaver]),
            Self::RemoveNamespaces(c) => ("remove-namespaces", vec![c]),
            Self::MakeToken { cluster, peer } => ("make-token", vec![cluster, peer]),
            Self::AwaitSynced { cluster, peer } => ("await-synced", vec![cluster, peer]),
            Self::RetireToken { cluster, peer } => ("retire-token", vec![cluster, peer]),
            Self::InstallRenewer(c) => ("install-renewer", vec![c]),
            Self::RemoveRenewer(c) => ("remove-renewer", vec![c]),
            Self::RenewCacerts(c) => ("renew-cacerts", vec![c]),
            Self::AwaitReissue(c) => ("await-reissue", vec![c]),
            Self::SettleCacerts(c) => ("settle-cacerts", vec![c]),
            Self::InstallSample(c) => ("install-sample", vec![c]),
            Self::RemoveSample(c) => ("remove-sample", vec![c]),
            Self::CreateNextRoot => ("create-next-root", vec![]),
            Self::AnnounceRoot(c) => ("announce-root", vec![c]),
            Self::RestartWorkloads(c) => ("restart-workloads", vec![c]),
            Self::DistributeRoot(c) => ("distribute-root", vec![c]),
            Self::SwitchIssuer(c) => ("switch-issuer", vec![c]),
            Self::RetireRoot(c) => ("retire-root", vec![c]),
            Self::RebindRoot(c) => ("rebind-root", vec![c]),
            Self::RestoreIssuer(c) => ("restore-issuer", vec![c]),
            Self::WithdrawRoot(c) => ("withdraw-root", vec![c]),
            Self::CloseRotation(c) => ("close-rotation", vec![c]),
            Self::LabelNamespace { cluster, .. } => ("label-namespace", vec![cluster]),
            Self::UnlabelNamespace { cluster, .. } => ("unlabel-namespace", vec![cluster]),
            Self::RestartWorkload { cluster, .. } => ("restart-workload", vec![cluster]),
            Self::HandOver(c) => ("hand-over", vec![c]),
            Self::TrustRoot(c) => ("trust-root", vec![c]),
            Self::SpreadRoot(c) => ("spread-root", vec![c]),
            Self::ReplaceSigner(c) => ("replace-signer", vec![c]),
            Self::DropRoot(c) => ("drop-root", vec![c]),
        }
    }

    /// What of the cluster it is about, where that has a name of its own.
    fn object(&self) -> Option<String> {
        match self {
            Self::LabelNamespace { namespace, .. } | Self::UnlabelNamespace { namespace, .. } => {
                Some(namespace.clone())
            }
            Self::RestartWorkload {
                kind,
                namespace,
                name,
                ..
            } => Some(format!("{namespace}/{}/{name}", kind.to_lowercase())),
            _ => None,
        }
    }

    /// The cluster whose API server this step writes to, if any.
    pub fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::ShareSecret { to, .. } | Self::UnshareSecret { to, .. } => Some(to),
            _ => self.parts().1.first().copied(),
        }
    }

    /// The clusters the step has to do with.
    pub fn clusters(&self) -> Vec<&ClusterName> {
        self.parts().1
    }

    /// Whether the step deletes something that a user may miss.
    pub(crate) fn deletes(&self) -> bool {
        matches!(
            self,
            Self::UnshareSecret { .. }
                | Self::RevokeReader { .. }
                | Self::CloseGateway(_)
                | Self::UninstallIstiod(_)
                | Self::UninstallBase(_)
                | Self::RemoveCacerts(_)
                | Self::RemoveNamespaces(_)
        )
    }

    /// Whether the step runs even when what it needs has failed: it only takes away.
    pub(crate) fn always(&self) -> bool {
        matches!(self, Self::StopProbe(_))
    }

    /// What a person is told the step does.
    pub fn describe(&self) -> String {
        match self {
            Self::CreateRoot => "make the mesh's root key and certificate in the vault".into(),
            Self::PrepareNamespaces(c) => format!("create or label the namespaces in {c}"),
            Self::ClaimRoot(c) => format!("bind {c} to this mesh's root"),
            Self::IssueIntermediate(c) => format!("make {c}'s intermediate in the vault"),
            Self::InstallCacerts(c) => format!("write Secret cacerts in {c}"),
            Self::InstallBase(c) => format!("install Istio's CRDs in {c}"),
            Self::InstallIstiod(c) => format!("install istiod in {c}"),
            Self::RestartIstiod(c) => format!("restart istiod in {c} to load its certificates"),
            Self::RefreshIstiod(c) => {
                format!("restart istiod in {c}: this version mishandles changed remote secrets")
            }
            Self::AwaitIstiod(c) => format!("wait until istiod and its webhook serve in {c}"),
            Self::OpenGateway(c) => format!("ask for {c}'s load balancer"),
            Self::InstallGateway(c) => format!("install the east-west gateway in {c}"),
            Self::ExposeServices(c) => format!("open port 15443 on {c}'s gateway"),
            Self::AwaitNlb(c) => format!("wait until {c}'s gateway answers on 15443"),
            Self::GrantReader { cluster, peer } => {
                format!("create a reader account in {cluster} for {peer}'s istiod")
            }
            Self::StartProbe(c) => format!("start the probe in {c}"),
            Self::Reach { from, to } => format!("reach {to}'s gateway and API server from {from}"),
            Self::ShareSecret { from, to } => format!("give {to}'s istiod access to {from}"),
            Self::Prove { from, to } => format!("prove that {from} reaches {to}"),
            Self::RecordProof(c) => format!("record in {c} what was proved"),
            Self::StopProbe(c) => format!("remove the probe from {c}"),
            Self::UnshareSecret { from, to } => format!("take {from}'s remote secret out of {to}"),
            Self::AwaitUnlinked { cluster, leaver } => {
                format!("wait until {leaver}'s endpoints are gone from {cluster}")
            }
            Self::RevokeReader { cluster, peer } => {
                format!(
                    "delete {peer}'s reader account in {cluster} and check that its token is refused"
                )
            }
            Self::CloseGateway(c) => format!("remove {c}'s gateway and its load balancer"),
            Self::UninstallIstiod(c) => format!("uninstall istiod from {c}"),
            Self::UninstallBase(c) => format!("uninstall Istio's base from {c}"),
            Self::RemoveCacerts(c) => format!("remove cacerts and istiod's leftovers from {c}"),
            Self::ForgetMember { cluster, leaver } => {
                format!("remove {leaver} from the record in {cluster}")
            }
            Self::RemoveNamespaces(c) => format!("remove the namespaces meshlink made in {c}"),
            Self::MakeToken { cluster, peer } => {
                format!("make {peer}'s next token in {cluster}, beside the present one")
            }
            Self::AwaitSynced { cluster, peer } => {
                format!("wait until every istiod replica in {cluster} has synced with {peer} again")
            }
            Self::RetireToken { cluster, peer } => {
                format!("delete {peer}'s former token in {cluster} and check that it is refused")
            }
            Self::InstallRenewer(c) => format!("install the renewer in {c}"),
            Self::RemoveRenewer(c) => format!("remove the renewer from {c}"),
            Self::RenewCacerts(c) => {
                format!("put the new intermediate into Secret cacerts in {c}")
            }
            Self::AwaitReissue(c) => {
                format!("wait until {c}'s proxies have certificates of it")
            }
            Self::SettleCacerts(c) => {
                format!("take the throw-away root out of {c} again")
            }
            Self::InstallSample(c) => format!("install the sample apps in {c}"),
            Self::RemoveSample(c) => format!("remove the sample apps from {c}"),
            Self::CreateNextRoot => {
                "make the root that takes the place of the mesh's in the vault".into()
            }
            Self::AnnounceRoot(c) => {
                format!("write down in {c} which root takes the place of which")
            }
            Self::RestartWorkloads(c) => {
                format!("restart the workloads in {c} whose proxies cannot follow a change of root")
            }
            Self::DistributeRoot(c) => format!("have everything in {c} trust both roots"),
            Self::SwitchIssuer(c) => {
                format!("have {c} sign under the new root, and every proxy follow")
            }
            Self::RetireRoot(c) => format!("have nothing in {c} trust the old root"),
            Self::RebindRoot(c) => format!("bind {c} to the new root"),
            Self::RestoreIssuer(c) => {
                format!("have {c} sign under the old root again, and every proxy follow")
            }
            Self::WithdrawRoot(c) => format!("have nothing in {c} trust the new root"),
            Self::CloseRotation(c) => {
                format!("write down in {c} that its root does not change any more")
            }
            Self::LabelNamespace { cluster, namespace } => {
                format!("label namespace {namespace} in {cluster} for injection")
            }
            Self::UnlabelNamespace { cluster, namespace } => {
                format!("take the label for injection off namespace {namespace} in {cluster}")
            }
            Self::RestartWorkload {
                cluster,
                kind,
                namespace,
                name,
            } => format!("roll {kind} {namespace}/{name} in {cluster}"),
            Self::HandOver(c) => {
                format!("take over from whoever made it what is to be changed in {c}")
            }
            Self::TrustRoot(c) => format!("write the mesh's root beside {c}'s own"),
            Self::SpreadRoot(c) => format!("have everything in {c} trust the mesh's root too"),
            Self::ReplaceSigner(c) => {
                format!("have {c} sign under the mesh's root, and every proxy follow")
            }
            Self::DropRoot(c) => format!("have nothing in {c} trust its own root any more"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, clusters) = self.parts();
        let clusters = clusters.into_iter().map(ClusterName::to_string);
        let id = clusters
            .chain(self.object())
            .fold(verb.to_owned(), |id, part| format!("{id}/{part}"));
        f.pad(&id)
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_paths_and_name_the_cluster_that_is_written_to() {
        let (a, b): (ClusterName, ClusterName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let share = Step::ShareSecret {
            from: a.clone(),
            to: b.clone(),
        };
        assert_eq!(share.to_string(), "share-secret/a/b");
        assert_eq!(share.cluster(), Some(&b));
        let grant = Step::GrantReader {
            cluster: a.clone(),
            peer: b,
        };
        assert_eq!(grant.to_string(), "grant-reader/a/b");
        assert_eq!(grant.cluster(), Some(&a));
        assert_eq!(Step::CreateRoot.cluster(), None);
    }
}
