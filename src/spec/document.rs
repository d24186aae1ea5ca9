//! The mesh file as it is written: the shape behind its JSON schema and behind [`Mesh::to_yaml`].
//!
//! Reading does not go through these types, because it must go on after a mistake; a test holds
//! the two together.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Authority, Exposure, KeyType, Member, Mesh, Peers, Reach, Values, lifetime};
use crate::name::{ClusterName, MeshId, NetworkName, TrustDomain};

/// Clusters on different networks that shall be one Istio mesh.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "mesh.yaml")]
struct Document {
    /// The mesh id; also the name of the vault's folder. Default: mesh.
    mesh: Option<MeshId>,
    /// SPIFFE trust domain of all members. Default: cluster.local.
    trust_domain: Option<TrustDomain>,
    /// What to install, and from where.
    istio: Option<IstioKeys>,
    /// The east-west gateways.
    gateway: Option<GatewayKeys>,
    /// The certificates.
    trust: Option<TrustKeys>,
    /// The accounts by which the members' istiods read each other.
    readers: Option<ReadersKeys>,
    /// What renews in each member what that member uses; nothing does where this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    renewer: Option<RenewerKeys>,
    /// Who reads and reaches whom. Default: every member every other.
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<Peers>,
    /// The members, each on a network of its own.
    #[schemars(length(min = 1))]
    clusters: Vec<ClusterKeys>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Istio")]
struct IstioKeys {
    /// Chart and image version, three numbers in quotes; without it, members keep the version that they have.
    #[schemars(regex(pattern = r"^\d+\.\d+\.\d+"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// A table of Istio versions and what is known to be wrong with them, in place of meshlink's own; relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<PathBuf>,
    /// Repository (https://…), registry (oci://…), folder or archive; relative to this file.
    charts: Option<String>,
    /// Namespace of the control plane. Default: istio-system.
    namespace: Option<String>,
    /// Values for the istiod chart; they win over those of files.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(default)]
    values: Map<String, Value>,
    /// Files of values for the istiod chart, relative to this file; later ones win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    values_files: Vec<PathBuf>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Gateway")]
struct GatewayKeys {
    /// Namespace of the gateway. Default: istio-ingress.
    namespace: Option<String>,
    /// Name of its Helm release, Deployment and Service.
    name: Option<String>,
    /// Who may reach it. Default: auto.
    exposure: Option<Exposure>,
    /// What it lets through: names, or "*." and a name. Default: "*.local", every service.
    hosts: Option<Vec<String>>,
    /// From where an internet-facing one may be reached, as CIDRs; found out where absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    source_ranges: Vec<String>,
    /// Further annotations of its Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    annotations: BTreeMap<String, String>,
    /// Values for the gateway chart; they win over those of files.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(default)]
    values: Map<String, Value>,
    /// Files of values for the gateway chart, relative to this file; later ones win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    values_files: Vec<PathBuf>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Trust")]
struct TrustKeys {
    /// Who holds the root key: the vault on this machine, or another. Default: vault.
    authority: Option<AuthorityKeys>,
    /// Key type of the root and the intermediates. Default: P-256.
    key: Option<KeyType>,
    /// Lifetime of a new root, as "10y". Default: 10y.
    #[schemars(regex(pattern = r"^\d+[ydhm]$"))]
    root_lifetime: Option<String>,
    /// Lifetime of a new intermediate, as "90d"; not longer than the root's. Default: 1y.
    #[schemars(regex(pattern = r"^\d+[ydhm]$"))]
    intermediate_lifetime: Option<String>,
    /// DNS names istiod's certificates may carry besides those below its own namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    dns_names: Vec<String>,
}

/// Who holds the root key.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Authority")]
enum AuthorityKeys {
    /// meshlink's own vault on this machine.
    Word(AuthorityWord),
    /// Another, with what has to be known of it.
    Named(Box<AuthorityNamed>),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum AuthorityWord {
    Vault,
}

#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
struct AuthorityNamed {
    /// A program that signs: a request (PKCS#10) on its standard input, certificates on its standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<ExecKeys>,
    /// A root or an intermediate that is there already, in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<ExistingKeys>,
    /// Somebody out of reach: requests are carried there by ca csr, and certificates back by ca import.
    #[serde(skip_serializing_if = "Option::is_none")]
    offline: Option<OfflineKeys>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfflineKeys {
    /// A file with the certificate of the root that all of them lead to.
    root: PathBuf,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExecKeys {
    /// The program and its arguments; no shell reads them. {cluster}, {mesh}, {days} and {hours} are filled in.
    #[schemars(length(min = 1))]
    command: Vec<String>,
    /// A file with the certificate of the root that all it signs leads to.
    root: PathBuf,
    /// The variables of the environment that it is given besides PATH and HOME, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    env: Vec<String>,
    /// It may take so long, as "2m". Default: 2m.
    #[schemars(regex(pattern = r"^\d+[ydhm]$"))]
    timeout: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExistingKeys {
    /// Its certificate, and after it those between it and its root, unless they are in chain.
    certificate: PathBuf,
    /// Its private key, which nobody else may read.
    key: PathBuf,
    /// The certificates between it and its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<PathBuf>,
    /// The certificate of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<PathBuf>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Readers")]
struct ReadersKeys {
    /// How old a token may become that does not end by itself, as "90d". Default: 90d.
    #[schemars(regex(pattern = r"^\d+[ydhm]$"))]
    max_age: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Renewer")]
struct RenewerKeys {
    /// The image it runs from: meshlink as a container, from a registry of yours.
    image: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Cluster")]
struct ClusterKeys {
    /// Its name in the mesh; derived from how it is found, where absent.
    name: Option<ClusterName>,
    /// Its network, which no other member may be on. Default: its name.
    network: Option<NetworkName>,
    /// A text as on the command line: context, EKS name, ARN, region/name or eksctl name. Default: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    find: Option<String>,
    /// A context of the kubeconfig, literally.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    /// An EKS cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    eks: Option<EksKeys>,
    /// The address of its API server the peers must use, where it differs from ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_server: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Eks")]
struct EksKeys {
    /// Name within its region; not needed beside an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Region; the profile's or the environment's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// Its whole ARN, instead of name and region.
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    /// AWS profile to use for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// Role to assume for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
    /// External id that role asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
}

pub(super) fn json_schema() -> Value {
    schemars::schema_for!(Document).into()
}

pub(super) fn to_yaml(mesh: &Mesh) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&document(mesh))
}

fn document(mesh: &Mesh) -> Document {
    let Values { files, inline } = mesh.istio.values.clone();
    Document {
        mesh: Some(mesh.id.clone()),
        trust_domain: Some(mesh.trust_domain.clone()),
        istio: Some(IstioKeys {
            version: Some(mesh.istio.version.clone()).filter(|version| !version.is_empty()),
            versions: mesh.istio.versions.clone(),
            charts: Some(mesh.istio.charts.clone()),
            namespace: Some(mesh.istio.namespace.clone()),
            values: inline,
            values_files: files,
        }),
        gateway: Some(gateway(mesh)),
        trust: Some(TrustKeys {
            authority: Some(authority(&mesh.trust.authority)),
            key: Some(mesh.trust.key),
            root_lifetime: Some(lifetime::write(mesh.trust.root_lifetime)),
            intermediate_lifetime: Some(lifetime::write(mesh.trust.intermediate_lifetime)),
            dns_names: mesh.trust.dns_names.clone(),
        }),
        readers: Some(ReadersKeys {
            max_age: Some(lifetime::write(mesh.readers.max_age)),
        }),
        renewer: mesh.renewer.as_ref().map(|renewer| RenewerKeys {
            image: renewer.image.clone(),
        }),
        peers: mesh.peers.clone(),
        clusters: mesh.clusters.iter().map(cluster).collect(),
    }
}

fn authority(authority: &Authority) -> AuthorityKeys {
    let named = |named| AuthorityKeys::Named(Box::new(named));
    match authority.clone() {
        Authority::Vault => AuthorityKeys::Word(AuthorityWord::Vault),
        Authority::Exec {
            command,
            root,
            env,
            timeout,
        } => named(AuthorityNamed {
            exec: Some(ExecKeys {
                command,
                root,
                env,
                timeout: Some(lifetime::write(timeout)),
            }),
            ..AuthorityNamed::default()
        }),
        Authority::Offline { root } => named(AuthorityNamed {
            offline: Some(OfflineKeys { root }),
            ..AuthorityNamed::default()
        }),
        Authority::Existing {
            certificate,
            key,
            chain,
            root,
        } => named(AuthorityNamed {
            existing: Some(ExistingKeys {
                certificate,
                key,
                chain,
                root,
            }),
            ..AuthorityNamed::default()
        }),
    }
}

fn gateway(mesh: &Mesh) -> GatewayKeys {
    let gateway = mesh.gateway.clone();
    GatewayKeys {
        namespace: Some(gateway.namespace),
        name: Some(gateway.name),
        exposure: Some(gateway.exposure),
        hosts: Some(gateway.hosts),
        source_ranges: gateway.source_ranges,
        annotations: gateway.annotations,
        values: gateway.values.inline,
        values_files: gateway.values.files,
    }
}

fn cluster(member: &Member) -> ClusterKeys {
    let mut keys = ClusterKeys {
        name: Some(member.name.clone()),
        network: Some(member.network.clone()),
        find: None,
        context: None,
        eks: None,
        peer_server: member.peer_server.clone(),
    };
    match member.reach.clone() {
        Reach::Auto(text) if text == member.name.as_str() => {}
        Reach::Auto(text) => keys.find = Some(text),
        Reach::Context(text) => keys.context = Some(text),
        Reach::Eks(eks) => {
            // An ARN says name and region; saying them twice invites contradiction.
            let spelled = eks.arn.is_none();
            keys.eks = Some(EksKeys {
                name: Some(eks.name).filter(|_| spelled),
                region: eks.region.filter(|_| spelled),
                arn: eks.arn,
                profile: eks.profile,
                role_arn: eks.role_arn,
                external_id: eks.external_id,
            });
        }
    }
    keys
}
