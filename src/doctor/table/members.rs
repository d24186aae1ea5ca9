//! Who a member is, what it trusts, and what it holds of the others. Data.

use super::CHECK;
use crate::doctor::{
    Check, Level, Source, When,
    checks::{identity, remote, trust},
};

pub(super) const IDENTITY: &[Check] = &[
    Check {
        id: "same-network",
        looks: "the label `topology.istio.io/network` on the namespace of istiod",
        cause: "two members are on one network: proxies are sent to pods of the other by address, where nothing answers, or the wrong pod does",
        mend: "give one of them the network it has in the mesh",
        needs: &[Source::Namespaces],
        look: identity::same_network,
        ..CHECK
    },
    Check {
        id: "no-network",
        looks: "the same label",
        cause: "istiod does not know on which network its cluster is, so that its pods are taken to be on everybody's",
        mend: "label the namespace",
        needs: &[Source::Namespaces],
        look: identity::no_network,
        ..CHECK
    },
    Check {
        id: "network-differs",
        looks: "the network in the injector's values and on the gateway's Service, against that of the namespace",
        cause: "pods, gateway and namespace are on different networks: endpoints are sent where they are not",
        mend: "join again, which makes them the same",
        needs: &[Source::Namespaces, Source::ConfigMaps, Source::Services],
        look: identity::network_differs,
        ..CHECK
    },
    Check {
        id: "same-cluster-id",
        looks: "`CLUSTER_ID` of the istiods",
        cause: "two istiods have the same name for their clusters: each ignores the remote secret for the other as one for itself",
        mend: "join again, which gives each its own name",
        needs: &[Source::Pods],
        look: identity::same_id,
        ..CHECK
    },
    Check {
        id: "cluster-id-differs",
        looks: "`CLUSTER_ID` of istiod, against the member's name",
        cause: "istiod calls its cluster something else than the remote secrets of the others do: its proxies are refused, or belong to a cluster nobody knows",
        mend: "join again, then restart what has a sidecar",
        needs: &[Source::Pods],
        look: identity::id_differs,
        ..CHECK
    },
    Check {
        id: "same-cluster-twice",
        when: When::Always,
        looks: "the UID of namespace kube-system",
        cause: "two members are one and the same cluster under two names",
        mend: "leave one of them out",
        needs: &[Source::Basics],
        look: identity::same_cluster,
        ..CHECK
    },
    Check {
        id: "mesh-id-differs",
        level: Level::Warning,
        looks: "`global.meshID` in the injector's values",
        cause: "pods say that they are in another mesh: policies and telemetry that go by it do not match",
        mend: "join again",
        needs: &[Source::ConfigMaps],
        look: identity::mesh_id_differs,
        ..CHECK
    },
    Check {
        id: "trust-domain-differs",
        looks: "`trustDomain` and `trustDomainAliases` in the mesh configuration",
        cause: "certificates of one member name a trust domain that the other does not know: its peers are refused where a policy names them",
        mend: "give all members one trust domain, or name the other as an alias",
        needs: &[Source::ConfigMaps],
        look: identity::trust_domain_differs,
        ..CHECK
    },
];

pub(super) const CERTIFICATES: &[Check] = &[
    Check {
        id: "no-common-root",
        looks: "the roots istiod publishes in ConfigMap `istio-ca-root-cert`",
        cause: "the member and the others do not trust each other: requests across end with 503, `remote connection failure`",
        mend: "join again, which writes certificates under the root of the mesh; it does not replace a foreign root that is in use, so that goes first",
        needs: &[Source::Basics],
        look: trust::no_common_root,
        ..CHECK
    },
    Check {
        id: "second-root",
        looks: "every root in Secret `cacerts` and in what istiod publishes",
        cause: "whatever the other root signs is accepted in this mesh",
        mend: "join again, which takes it out; ask first whose it is",
        needs: &[Source::Basics],
        look: trust::second_root,
        ..CHECK
    },
    Check {
        id: "cacerts-not-loaded",
        looks: "Secret `cacerts` against what istiod publishes",
        cause: "`cacerts` was made or replaced when istiod ran already: istiod reads it at its start, and goes on with the root it has",
        mend: "restart istiod, then everything that has a proxy; where it is `cacerts` that has a foreign root, delete that and join again",
        needs: &[Source::Basics],
        look: trust::cacerts_not_loaded,
        ..CHECK
    },
    Check {
        id: "bundle-not-loaded",
        looks: "the same, where they have a root in common",
        cause: "istiod has refused the roots in `cacerts` or not read them yet; at its next start it takes them as they are",
        mend: "restart istiod; where a foreign root is among them, join again",
        needs: &[Source::Basics],
        look: trust::bundle_not_loaded,
        ..CHECK
    },
    Check {
        id: "intermediate-not-loaded",
        level: Level::Warning,
        looks: "what each replica says it signs with, against `cacerts`",
        cause: "istiod has not read the intermediate in `cacerts` yet, which may take a minute, or has refused it",
        mend: "renew, which makes istiod look, and says why it does not",
        needs: &[Source::Basics, Source::Istiods],
        look: trust::intermediate_not_loaded,
        ..CHECK
    },
    Check {
        id: "cacerts-refused",
        looks: "everything istiod asks of the certificates in `cacerts`",
        cause: "istiod does not take what stands in `cacerts`, and does not start with it",
        mend: "join again, which makes new ones",
        needs: &[Source::Basics],
        look: trust::cacerts_refused,
        ..CHECK
    },
    Check {
        id: "self-signed-root",
        looks: "whether there is a Secret `cacerts`",
        cause: "istiod has made a root of its own, which no other member trusts",
        mend: "join again",
        needs: &[Source::Basics],
        look: trust::self_signed,
        ..CHECK
    },
    Check {
        id: "has-ended",
        looks: "the table of everything that ends ([alive.md](alive.md))",
        cause: "something that the mesh needs is not valid any more",
        mend: "renew it",
        needs: &[Source::Basics],
        look: trust::ended,
        ..CHECK
    },
    Check {
        id: "ends-soon",
        level: Level::Warning,
        looks: "the same",
        cause: "something that the mesh needs is about to end, or is older than it should be; an error from a week before on",
        mend: "renew it",
        needs: &[Source::Basics],
        look: trust::ends_soon,
        ..CHECK
    },
];

pub(super) const REMOTE_SECRETS: &[Check] = &[
    Check {
        id: "remote-secret-missing",
        looks: "the Secrets with the label `istio/multiCluster=true`",
        cause: "istiod does not know of the peer",
        mend: "join again",
        needs: &[Source::Basics],
        look: remote::missing,
        ..CHECK
    },
    Check {
        id: "remote-secret-malformed",
        looks: "the kubeconfig in each",
        cause: "istiod does not take it, and only logs that",
        mend: "join again",
        needs: &[Source::Basics],
        look: remote::malformed,
        ..CHECK
    },
    Check {
        id: "remote-secret-loopback",
        looks: "the server in each",
        cause: "the address leads back to istiod itself. An istiod that had a good one goes on with it until its next start",
        mend: "join again, with the peer's server in the mesh file (`peerServer`) where meshlink cannot know it",
        needs: &[Source::Basics],
        look: remote::loopback,
        ..CHECK
    },
    Check {
        id: "remote-secret-other-cluster",
        looks: "the UID of kube-system, asked for with each remote secret",
        cause: "the remote secret opens another cluster than the one it is for: endpoints of the wrong cluster are handed out under its name",
        mend: "join again",
        needs: &[Source::Basics, Source::Peers],
        look: remote::other_cluster,
        ..CHECK
    },
    Check {
        id: "remote-secret-wrong-ca",
        looks: "the TLS handshake with the CA in each",
        cause: "the API server has another CA by now: istiod cannot read the peer",
        mend: "renew the CAs",
        needs: &[Source::Basics, Source::Peers],
        look: remote::wrong_ca,
        ..CHECK
    },
    Check {
        id: "remote-secret-silent",
        looks: "whether the server in each answers from here",
        cause: "nothing answers at that address. A warning where istiod says it has synced: the address may be one that only istiod reaches",
        mend: "join again, which writes the address it knows",
        needs: &[Source::Basics, Source::Peers, Source::Istiods],
        look: remote::silent,
        ..CHECK
    },
    Check {
        id: "token-refused",
        looks: "a request with each token",
        cause: "the account or its Secret was deleted: istiod says `synced` until its watch ends, holds what it has, and finds nothing at its next start",
        mend: "join again, which makes a new token",
        needs: &[Source::Basics, Source::Peers],
        look: remote::token_refused,
        ..CHECK
    },
    Check {
        id: "reader-lacks-rights",
        looks: "the rules that hold for each token, asked for with it",
        cause: "istiod cannot read all it must of the peer: it does not say `synced`, and its next start takes half a minute longer",
        mend: "join again, which writes the role",
        needs: &[Source::Basics, Source::Peers],
        look: remote::lacks,
        ..CHECK
    },
    Check {
        id: "reader-writes",
        level: Level::Warning,
        looks: "the same",
        cause: "whoever gets hold of the remote secret can change the peer, and not only read it",
        mend: "take the account out of the other bindings",
        needs: &[Source::Basics, Source::Peers],
        look: remote::writes,
        ..CHECK
    },
    Check {
        id: "own-remote-secret",
        level: Level::Warning,
        looks: "`CLUSTER_ID` against the keys of the remote secrets",
        cause: "the remote secret is for the cluster it is in; istiod ignores it, and so would miss a peer of that name",
        mend: "take it out",
        needs: &[Source::Basics, Source::Pods],
        look: remote::own_secret,
        ..CHECK
    },
    Check {
        id: "remote-secret-stranger",
        level: Level::Warning,
        looks: "the keys of the remote secrets against the members",
        cause: "istiod reads a cluster that is not in the mesh, and hands out its endpoints",
        mend: "take it out, if nobody means it to be there",
        needs: &[Source::Basics, Source::Pods],
        look: remote::stranger,
        ..CHECK
    },
    Check {
        id: "peer-not-synced",
        looks: "`/debug/clusterz` of every replica",
        cause: "istiod has not read the peer to its end; why is in its log",
        mend: "read its log",
        needs: &[Source::Basics, Source::Istiods],
        echoes: &[
            "remote-secret-malformed",
            "remote-secret-loopback",
            "remote-secret-wrong-ca",
            "remote-secret-silent",
            "remote-secret-other-cluster",
            "token-refused",
            "has-ended",
            "reader-lacks-rights",
            "same-cluster-id",
            "istiod-down",
        ],
        look: remote::not_synced,
        ..CHECK
    },
    Check {
        id: "orphan-endpoints",
        looks: "`/debug/endpointShardz` of every replica against the clusters it knows",
        cause: "a remote secret failed at first, was mended, and is gone: istiod keeps that cluster's endpoints until it restarts",
        mend: "restart istiod",
        needs: &[Source::Istiods],
        look: remote::orphans,
        ..CHECK
    },
];
