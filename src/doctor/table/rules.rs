//! What users put into a mesh, and what is there before it. Data.

use super::CHECK;
use crate::doctor::{
    Check, Level, Source, When,
    checks::{before, network, policy, services, workloads},
};

pub(super) const RULES: &[Check] = &[
    Check {
        id: "mtls-disabled",
        level: Level::Warning,
        looks: "PeerAuthentications",
        cause: "pods that take no mutual TLS are reached from no other network: istiod leaves them out. An error where it is said for the whole mesh",
        mend: "say PERMISSIVE or STRICT",
        needs: &[Source::PeerAuthentications],
        look: policy::mtls_disabled,
        ..CHECK
    },
    Check {
        id: "rule-without-mtls",
        level: Level::Warning,
        looks: "DestinationRules",
        cause: "proxies send something else than mutual TLS to a Service of the mesh; the gateway of another network passes on by what stands in the handshake, and hangs up",
        mend: "take the mode out of the rule: istiod chooses by itself",
        needs: &[Source::DestinationRules, Source::Services],
        look: policy::rule_without_mtls,
        ..CHECK
    },
    Check {
        id: "gateway-denied",
        looks: "AuthorizationPolicies that hold for the gateway",
        cause: "the gateway lets nobody in. It passes TLS on and does not know who comes, so that it cannot allow by principal",
        mend: "let the policy select other pods, or allow the port",
        needs: &[
            Source::AuthorizationPolicies,
            Source::Pods,
            Source::Services,
        ],
        look: policy::gateway_denied,
        ..CHECK
    },
    Check {
        id: "sidecar-scope",
        level: Level::Note,
        looks: "the hosts of `Sidecar` objects against the Services that several members have",
        cause: "proxies in that namespace do not know these Services, in this member or another",
        mend: "add the namespaces that are needed",
        needs: &[Source::Sidecars, Source::Services],
        look: policy::scope,
        ..CHECK
    },
];

pub(super) const SERVICES: &[Check] = &[
    Check {
        id: "service-missing",
        level: Level::Warning,
        looks: "Services that are exported (`ServiceExport`, `istio.io/global`), or that most members have",
        cause: "the name resolves in no pod of that member: a client needs the Service where it is, with or without pods",
        mend: "make it there",
        needs: &[Source::Services, Source::ServiceExports],
        look: services::missing,
        ..CHECK
    },
    Check {
        id: "service-ports-differ",
        level: Level::Warning,
        looks: "Services of one name in several members",
        cause: "istiod takes them for one Service: a port that only some have leads nowhere in the others",
        mend: "make the ports the same",
        needs: &[Source::Services],
        look: services::ports_differ,
        ..CHECK
    },
    Check {
        id: "service-kind-differs",
        level: Level::Warning,
        looks: "the same",
        cause: "one name is resolved in different ways, and istiod takes what it saw first",
        mend: "make them the same",
        needs: &[Source::Services],
        look: services::kinds_differ,
        ..CHECK
    },
    Check {
        id: "headless-shared",
        level: Level::Note,
        looks: "the same",
        cause: "clients of a headless Service are given the pods of their own cluster by DNS: those of other networks have no address there",
        mend: "use a Service with an address where clients are to reach all",
        needs: &[Source::Services],
        look: services::headless,
        ..CHECK
    },
    Check {
        id: "external-name-alias",
        level: Level::Note,
        looks: "ExternalName Services",
        cause: "the name stands for another of the mesh: proxies go by the name that was asked for, and may send no mutual TLS",
        mend: "ask for the other name",
        needs: &[Source::Services],
        look: services::alias,
        ..CHECK
    },
];

pub(super) const WORKLOADS: &[Check] = &[
    Check {
        id: "pod-without-sidecar",
        level: Level::Warning,
        looks: "pods in namespaces that are labelled for injection",
        cause: "the pods were made before the label, or while nothing injected: other networks do not reach them, and they reach no other",
        mend: "restart them",
        needs: &[Source::Namespaces, Source::Pods, Source::MutatingWebhooks],
        look: workloads::without_sidecar,
        ..CHECK
    },
    Check {
        id: "revision-unknown",
        looks: "the revisions namespaces ask for, against the injectors",
        cause: "nothing answers for that revision: new pods there get no sidecar",
        mend: "label the namespace with a revision that is there",
        needs: &[Source::Namespaces, Source::MutatingWebhooks],
        look: workloads::unknown_revision,
        ..CHECK
    },
    Check {
        id: "injection-conflict",
        level: Level::Note,
        looks: "namespaces with both labels of injection",
        cause: "the older label wins, and the revision is not taken",
        mend: "take one of them off",
        needs: &[Source::Namespaces],
        look: workloads::labels_conflict,
        ..CHECK
    },
    Check {
        id: "proxy-stale",
        level: Level::Warning,
        looks: "what proxies were given when their pods were made, against the injector's values",
        cause: "these proxies say that they are of another cluster, network or mesh than they are: they are refused, or sent wrong endpoints",
        mend: "restart them",
        needs: &[Source::Pods, Source::ConfigMaps],
        look: workloads::stale,
        ..CHECK
    },
];

pub(super) const NETWORK_POLICIES: &[Check] = &[
    Check {
        id: "policy-closes-gateway",
        looks: "NetworkPolicies that select the gateway's pods",
        cause: "nothing from outside may come to 15443. A load balancer is no pod: it is let in by address, or by saying nothing of who may come",
        mend: "let it in",
        needs: &[Source::NetworkPolicies, Source::Pods, Source::Services],
        look: network::gateway,
        ..CHECK
    },
    Check {
        id: "policy-closes-istiod",
        looks: "NetworkPolicies that select istiod's pods",
        cause: "proxies cannot come to 15012, or the API server not to 15017: no configuration, no certificates, no new pods",
        mend: "let them in",
        needs: &[Source::NetworkPolicies, Source::Pods],
        look: network::istiod,
        ..CHECK
    },
];

pub(super) const BEFORE: &[Check] = &[
    Check {
        id: "nodes-not-ready",
        level: Level::Warning,
        when: When::BeforeJoin,
        looks: "nodes",
        cause: "pods cannot be put there; an error where no node takes any",
        mend: "see why",
        needs: &[Source::Nodes],
        look: before::nodes,
        ..CHECK
    },
    Check {
        id: "kubernetes-too-old",
        when: When::BeforeJoin,
        looks: "the version of the API server",
        cause: "no version of Istio that meshlink knows supports it",
        mend: "upgrade the cluster",
        needs: &[Source::Basics],
        look: before::kubernetes,
        ..CHECK
    },
    Check {
        id: "other-istio",
        when: When::Always,
        looks: "Deployments with the label `app=istiod` in every namespace, and webhooks that put proxies into pods",
        cause: "there is another control plane of Istio than the one that a member has: two write the same webhooks, ConfigMaps and roots, and pods are given proxies by either",
        mend: "take one of them away, once nothing uses it",
        needs: &[Source::Basics],
        look: before::other_istio,
        ..CHECK
    },
    Check {
        id: "istio-there-already",
        level: Level::Note,
        when: When::BeforeJoin,
        looks: "Deployment `istiod`, its ConfigMaps, and who manages it",
        cause: "the cluster has an Istio that is in no mesh of meshlink's: a join does not replace it",
        mend: "read [Coming with an Istio](migration.md)",
        needs: &[Source::Basics],
        look: before::foreign_istio,
        ..CHECK
    },
    Check {
        id: "cluster-dns-down",
        when: When::BeforeJoin,
        looks: "the pods of the cluster's name server",
        cause: "no name resolves in the cluster: istiod and its proxies do not find each other",
        mend: "see why they are not ready",
        needs: &[Source::Pods],
        look: before::dns,
        ..CHECK
    },
    Check {
        id: "namespace-terminating",
        when: When::BeforeJoin,
        looks: "the namespaces a join uses",
        cause: "a namespace that is being deleted takes nothing new",
        mend: "see what it waits for",
        needs: &[Source::Namespaces],
        look: before::terminating,
        ..CHECK
    },
    Check {
        id: "rights-missing",
        when: When::BeforeJoin,
        looks: "every right that a join needs",
        cause: "a join would be refused before its first write",
        mend: "have somebody grant them",
        needs: &[Source::Rights],
        look: before::rights,
        ..CHECK
    },
    Check {
        id: "aws-network",
        when: When::Always,
        looks: "subnets, security groups, endpoints and rights, as AWS tells them",
        cause: "a load balancer, a webhook or an API server would not be reached",
        mend: "run what it prints",
        needs: &[Source::Aws],
        look: before::aws,
        ..CHECK
    },
];
