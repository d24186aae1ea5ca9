//! The way between members: gateways and control planes. Data.

use super::CHECK;
use crate::doctor::{
    Check, Level, Source,
    checks::{control, exposure, gateway, trust},
};

pub(super) const GATEWAYS: &[Check] = &[
    Check {
        id: "gateway-missing",
        looks: "the Service of the east-west gateway",
        cause: "nothing on another network reaches the member",
        mend: "join again",
        needs: &[Source::Basics],
        look: gateway::missing,
        ..CHECK
    },
    Check {
        id: "gateway-unavailable",
        looks: "its Deployment",
        cause: "not every replica of the gateway serves",
        mend: "see why its pods are not ready",
        needs: &[Source::Basics],
        look: gateway::unavailable,
        ..CHECK
    },
    Check {
        id: "gateway-no-address",
        looks: "the status of its Service",
        cause: "no load balancer was made for it, or it is not there yet",
        mend: "see what the controller says of it",
        needs: &[Source::Basics],
        look: gateway::no_address,
        ..CHECK
    },
    Check {
        id: "gateway-closed",
        looks: "Istio's `Gateway` objects",
        cause: "nothing opens 15443: the gateway has no listener there, and connections are refused, though every istiod calls the endpoint healthy",
        mend: "join again, which makes the object",
        needs: &[Source::Gateways, Source::Pods, Source::Services],
        look: gateway::closed,
        ..CHECK
    },
    Check {
        id: "gateway-selector",
        looks: "the selector of the object that opens 15443, against the labels of the gateway's pods",
        cause: "15443 is opened on other pods, or on none",
        mend: "join again",
        needs: &[Source::Gateways, Source::Pods, Source::Services],
        look: gateway::selector,
        ..CHECK
    },
    Check {
        id: "gateway-conflict",
        looks: "other `Gateway` objects for the same pods and port",
        cause: "another object uses 15443 for something else than passing TLS on by name",
        mend: "give it another port",
        needs: &[Source::Gateways, Source::Pods, Source::Services],
        look: gateway::conflict,
        ..CHECK
    },
    Check {
        id: "gateway-port",
        looks: "the ports of its Service",
        cause: "15443 of the Service does not arrive at 15443 of the pods",
        mend: "join again",
        needs: &[Source::Services],
        look: gateway::service_port,
        ..CHECK
    },
    Check {
        id: "gateway-name-unresolved",
        looks: "`/debug/networkz` of every replica against the peers' Services",
        cause: "istiod cannot resolve the name of the peer's load balancer: it hands out the pods' own addresses, which nobody reaches",
        mend: "let the name resolve in this cluster: private zones must be associated with its VPC too",
        needs: &[Source::Basics, Source::Istiods],
        echoes: &[
            "remote-secret-other-cluster",
            "same-network",
            "no-network",
            "network-differs",
            "same-cluster-id",
            "cluster-id-differs",
        ],
        look: gateway::unresolved,
        ..CHECK
    },
    Check {
        id: "gateway-extra-ports",
        level: Level::Warning,
        looks: "the ports of its Service",
        cause: "ports of the control plane, or others, are open to whoever reaches the load balancer; the mesh needs 15443 alone",
        mend: "join again, or take them out of the values",
        needs: &[Source::Services],
        look: exposure::extra_ports,
        ..CHECK
    },
    Check {
        id: "nlb-ends-tls",
        looks: "the annotations of its Service",
        cause: "the load balancer ends TLS: the gateway sees no name to pass on by",
        mend: "take the certificate off",
        needs: &[Source::Services],
        look: exposure::ends_tls,
        ..CHECK
    },
    Check {
        id: "nlb-proxy-protocol",
        looks: "the same",
        cause: "a header of the PROXY protocol stands before each handshake, which the gateway takes for a broken one",
        mend: "take it off",
        needs: &[Source::Services],
        look: exposure::proxy_protocol,
        ..CHECK
    },
    Check {
        id: "nlb-zone-affinity",
        level: Level::Warning,
        looks: "the same",
        cause: "istiod resolves the name once for its whole cluster, from its own zone: all traffic goes to one zone's address, and none when that zone fails",
        mend: "take the attribute off",
        needs: &[Source::Services],
        look: exposure::zone_affinity,
        ..CHECK
    },
    Check {
        id: "nlb-unhealthy",
        looks: "target groups and load balancers, as AWS tells them",
        cause: "the load balancer does not send to the gateway's pods",
        mend: "wait for it, or open what it needs",
        needs: &[Source::Basics, Source::Aws],
        look: exposure::unhealthy,
        ..CHECK
    },
];

pub(super) const CONTROL_PLANE: &[Check] = &[
    Check {
        id: "istiod-down",
        looks: "Deployment istiod",
        cause: "no istiod, or not every replica: no new endpoints, no certificates, no sidecars for new pods",
        mend: "see why its pods are not ready",
        needs: &[Source::Basics],
        look: control::down,
        ..CHECK
    },
    Check {
        id: "no-injector",
        looks: "mutating webhooks",
        cause: "no new pod gets a sidecar",
        mend: "join again, which installs it",
        needs: &[Source::Basics, Source::MutatingWebhooks],
        look: control::no_injector,
        ..CHECK
    },
    Check {
        id: "webhook-unreachable",
        looks: "the Services that istiod's webhooks name",
        cause: "the API server cannot call istiod: pods of labelled namespaces are not made, Istio's objects not taken",
        mend: "join again",
        needs: &[
            Source::MutatingWebhooks,
            Source::ValidatingWebhooks,
            Source::Services,
        ],
        look: control::unreachable,
        ..CHECK
    },
    Check {
        id: "webhook-ca-stale",
        looks: "`caBundle` of istiod's webhooks against the roots it publishes",
        cause: "the API server does not trust istiod: pods of labelled namespaces are not made. istiod writes it at its start, and when its root changes",
        mend: "restart istiod",
        needs: &[
            Source::Basics,
            Source::MutatingWebhooks,
            Source::ValidatingWebhooks,
        ],
        look: trust::webhook_bundle,
        ..CHECK
    },
    Check {
        id: "webhook-ignored",
        level: Level::Warning,
        looks: "`failurePolicy` of istiod's webhooks",
        cause: "as long as istiod does not answer, pods start without a sidecar or objects are not checked, and nothing says so",
        mend: "set it back to Fail",
        needs: &[Source::MutatingWebhooks, Source::ValidatingWebhooks],
        look: control::ignored,
        ..CHECK
    },
    Check {
        id: "version-fault",
        level: Level::Warning,
        looks: "the version of istiod against what is known of Istio's versions",
        cause: "this version does something wrong when remote secrets change",
        mend: "upgrade",
        needs: &[Source::Basics],
        look: control::faults,
        ..CHECK
    },
    Check {
        id: "versions-mixed",
        level: Level::Warning,
        looks: "the versions of all istiods",
        cause: "the members run versions that are too far apart, or are known not to go together",
        mend: "upgrade the older",
        needs: &[Source::Basics],
        look: control::mixed,
        ..CHECK
    },
    Check {
        id: "proxy-skew",
        level: Level::Warning,
        looks: "the versions of proxies against their istiod's",
        cause: "proxies that are newer than their istiod, or two minor versions older, are not supported",
        mend: "restart what runs in their namespaces",
        needs: &[Source::Basics, Source::Pods],
        look: control::skew,
        ..CHECK
    },
];
