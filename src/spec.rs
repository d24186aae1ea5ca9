//! The mesh as its owner wrote it, checked.
//!
//! [`Mesh`] is what every other room works from. It comes from a `mesh.yaml` ([`Mesh::read`]) or
//! from the bare names on the command line ([`Mesh::named`]), and in either case nothing invalid
//! gets past this room. [`Mesh::to_yaml`] prints the file that says what the names said.
//!
//! A file that is no YAML is reported alone. Everything else that is wrong with it is reported at
//! once ([`Problems`]): each place with line and column, and what to write instead.
//!
//! ```
//! use meshlink::spec::Mesh;
//!
//! let text = "clusters:\n- name: east\n- nmae: west\n";
//! let problems = Mesh::read(text, "mesh.yaml".as_ref()).unwrap_err().to_string();
//! assert!(problems.contains("mesh.yaml:3:3: clusters[1].nmae: unknown key: did you mean name?"));
//! ```

mod authority;
mod check;
mod document;
mod fields;
mod lifetime;
mod members;
mod named;
mod read;
mod tree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::fields::{Problem, Problems};
pub(crate) use self::read::version as istio_version;
use crate::{
    name::{self, ClusterName, MeshId, NetworkName, TrustDomain},
    versions::Versions,
};

/// Where the official charts are published.
pub const OFFICIAL_CHARTS: &str = "https://istio-release.storage.googleapis.com/charts";

/// The port on which every east-west gateway lets other networks in.
pub(crate) const OPENER: &str = "cross-network-gateway";
/// The port of the east-west gateway.
pub const GATEWAY_PORT: u16 = 15443;
/// The one namespace istiod is installed to.
pub const ISTIO_NAMESPACE: &str = "istio-system";
/// The oldest Kubernetes release that the oldest Istio release supports.
pub const OLDEST_KUBERNETES: &str = "1.28.0";
/// The oldest Istio release whose charts and multicluster behaviour meshlink knows.
pub const OLDEST_ISTIO: &str = "1.24.0";

/// Why names on the command line are no mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No name was given.
    #[error("no cluster is named: name at least one")]
    Empty,
    /// More names than a mesh can have members.
    #[error("{0} clusters are named: name at most {most}", most = members::MOST)]
    Many(usize),
    /// No cluster name can be made of a text.
    #[error(
        "{text:?} cannot be a member's name: write NAME={text}, with a NAME of lower-case letters, digits and '-'"
    )]
    Name {
        /// The text as it was given.
        text: String,
        /// What is wrong with the name that was derived from it.
        source: name::Error,
    },
    /// A name is there twice.
    #[error("{}", same_name(name, first, second))]
    SameName {
        /// The name.
        name: ClusterName,
        /// Where it was first.
        first: String,
        /// Where it was again.
        second: String,
    },
    /// One cluster under two names.
    #[error("{first} and {second} both mean the cluster {text:?}: leave one out")]
    SameCluster {
        /// The cluster.
        text: String,
        /// Its first name.
        first: ClusterName,
        /// Its second name.
        second: ClusterName,
    },
    /// A default is no valid name; a mistake in meshlink, not in the mesh.
    #[error("a default of meshlink is invalid")]
    Default(#[from] name::Error),
}

fn same_name(name: &ClusterName, first: &str, second: &str) -> String {
    if first == second {
        return format!("{first} is given twice");
    }
    format!(
        "{first:?} and {second:?} would both be called {name} in the mesh: write NAME={second}, with another NAME"
    )
}

impl Mesh {
    /// The mesh of these clusters, everything else by default. `east=TEXT` names a member;
    /// otherwise its name is derived from the text, which may be anything that finds a cluster.
    ///
    /// # Errors
    ///
    /// A text that no name can be derived from, and two members of one name.
    ///
    /// ```
    /// use meshlink::spec::Mesh;
    ///
    /// let mesh = Mesh::named(&["east=prod-1".into(), "eu-west-1/shop".into()])?;
    /// assert_eq!(mesh.clusters[0].name.as_str(), "east");
    /// assert_eq!(mesh.clusters[1].name.as_str(), "shop");
    /// # Ok::<(), meshlink::spec::Error>(())
    /// ```
    pub fn named(names: &[String]) -> Result<Self, Error> {
        named::mesh(names)
    }

    /// The members that this one reads, and that read it.
    pub(crate) fn peers_of<'m>(
        &'m self,
        name: &ClusterName,
    ) -> impl Iterator<Item = &'m ClusterName> {
        let all = self.clusters.iter().map(|m| &m.name);
        all.filter(move |other| self.are_peers(name, other))
    }

    /// Whether two members read and reach each other.
    pub(crate) fn are_peers(&self, a: &ClusterName, b: &ClusterName) -> bool {
        self.link(a.as_str(), b.as_str())
    }

    /// The same, by their names.
    pub(crate) fn link(&self, a: &str, b: &str) -> bool {
        a != b && self.peers.as_ref().is_none_or(|peers| peers.link(a, b))
    }

    /// The mesh without some of its members.
    pub(crate) fn without(&self, gone: impl Fn(&ClusterName) -> bool) -> Self {
        let mut rest = self.clone();
        rest.clusters.retain(|m| !gone(&m.name));
        rest.peers = rest.peers.map(|peers| peers.without(gone));
        rest
    }

    /// Its members' names, in its order.
    pub(crate) fn members(&self) -> Vec<&str> {
        self.clusters.iter().map(|m| m.name.as_str()).collect()
    }

    /// Reads a mesh file. `file` is what errors call it, and what relative paths in it start from.
    ///
    /// # Errors
    ///
    /// Every problem of the file at once, each with its line and column.
    ///
    /// ```
    /// use meshlink::spec::Mesh;
    ///
    /// let text = "clusters:\n- name: east\n- name: west\nistio: {verison: \"1.31.4\"}";
    /// let problems = Mesh::read(text, "mesh.yaml".as_ref()).unwrap_err();
    /// assert_eq!(problems.list[0].line, 4);
    /// ```
    pub fn read(text: &str, file: &Path) -> Result<Self, Problems> {
        read::mesh(text, file)
    }

    /// The mesh file that says the same as this mesh, defaults spelled out.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        document::to_yaml(self)
    }

    /// The JSON schema of mesh files, for editors and other checkers.
    pub fn json_schema() -> serde_json::Value {
        document::json_schema()
    }
}

/// A checked mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// `meshID` in Istio, and the name of the vault's folder.
    pub id: MeshId,
    /// SPIFFE trust domain of every member.
    pub trust_domain: TrustDomain,
    /// What to install, and from where.
    pub istio: Istio,
    /// The east-west gateways.
    pub gateway: Gateway,
    /// The certificates.
    pub trust: Trust,
    /// The accounts by which the members' istiods read each other.
    pub readers: Readers,
    /// What renews in each member what that member uses; nothing does where this is none.
    pub renewer: Option<Renewer>,
    /// Who reads and reaches whom. Where it is not said, every member every other.
    pub peers: Option<Peers>,
    /// Members, in the order they were written. Names and networks are unique.
    pub clusters: Vec<Member>,
}

/// Which members are peers: each reads the other's API server and reaches its gateway. A member that is in no group and
/// no hub is a peer of the hubs alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peers {
    /// Every member of every other, however many there are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Members that are peers of everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<ClusterName>,
    /// Groups of members that are peers of each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Vec<ClusterName>>,
}

impl Peers {
    /// Whether these two, by their names, are peers.
    pub(crate) fn link(&self, a: &str, b: &str) -> bool {
        let among = |names: &[ClusterName], name| names.iter().any(|n| n.as_str() == name);
        let mut groups = self.groups.iter();
        self.all
            || among(&self.hubs, a)
            || among(&self.hubs, b)
            || groups.any(|group| among(group, a) && among(group, b))
    }

    /// Whether anybody is a peer of this one, among these.
    pub(crate) fn have(&self, name: &ClusterName) -> bool {
        self.all || !self.hubs.is_empty() || self.groups.iter().any(|group| group.contains(name))
    }

    pub(crate) fn without(self, gone: impl Fn(&ClusterName) -> bool) -> Self {
        let rest = |mut names: Vec<ClusterName>| {
            names.retain(|name| !gone(name));
            names
        };
        let groups = self.groups.into_iter().map(rest);
        Self {
            all: self.all,
            groups: groups.filter(|group| group.len() > 1).collect(),
            hubs: rest(self.hubs),
        }
    }
}

/// What to install, and from where.
#[derive(Debug, Clone, PartialEq)]
pub struct Istio {
    /// Chart and image version, for example `1.31.4`. Where it is empty, members keep the version they have, and others are
    /// given the newest that a member has, or else the newest patch release that nothing is known against.
    pub version: String,
    /// A table of what is known of Istio versions, in place of the one that comes with meshlink.
    pub versions: Option<PathBuf>,
    /// What is known of them.
    pub(crate) known: Versions,
    /// Repository URL, `oci://…`, folder or archive, as `chart::Source` reads it.
    pub charts: String,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Values the owner adds to the istiod chart; files first, then inline, later ones win.
    pub values: Values,
}

/// The east-west gateway of each member.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Namespace the gateway lives in.
    pub namespace: String,
    /// Helm release name and Deployment name.
    pub name: String,
    /// Who may reach it from outside its cluster.
    pub exposure: Exposure,
    /// Hosts the gateway lets through; `*.local` means every service.
    pub hosts: Vec<String>,
    /// From where an internet-facing one may be reached, as CIDRs; derived from the peers where empty.
    pub source_ranges: Vec<String>,
    /// Extra annotations for its Service.
    pub annotations: BTreeMap<String, String>,
    /// Values the owner adds to the gateway chart.
    pub values: Values,
}

/// Chart values from the owner: files in order, then inline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// YAML files; those written relative to the mesh file are joined to its folder.
    pub files: Vec<PathBuf>,
    /// Inline values, as a JSON object.
    pub inline: serde_json::Map<String, serde_json::Value>,
}

/// Who may reach a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exposure {
    /// Derived: internal where the members share a route, else internet-facing for the peers only.
    #[default]
    Auto,
    /// A load balancer with private addresses.
    Internal,
    /// A load balancer with public addresses, open only to the peers' egress addresses.
    InternetFacing,
}

/// Roots, intermediates and their lifetimes.
#[derive(Debug, Clone, PartialEq)]
pub struct Trust {
    /// Who holds the root key.
    pub authority: Authority,
    /// Key type of the root and the intermediates.
    pub key: KeyType,
    /// Lifetime of a new root.
    pub root_lifetime: Duration,
    /// Lifetime of a new intermediate; it never outlives the root.
    pub intermediate_lifetime: Duration,
    /// DNS names istiod's certificates may carry besides those below its own namespace.
    pub dns_names: Vec<String>,
}

impl Istio {
    /// Goes by another table of versions.
    pub(crate) fn go_by(&mut self, known: Versions) {
        self.known = known;
    }
}

/// The accounts by which the members' istiods read each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// How old a token may become that does not end by itself.
    pub max_age: Duration,
}

/// The renewer, which runs in each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewer {
    /// The image it runs from: meshlink as a container, from a registry of yours.
    pub image: String,
}

impl std::str::FromStr for Renewer {
    type Err = String;

    /// By its image.
    fn from_str(image: &str) -> Result<Self, String> {
        check::image(image).map(|image| Self { image })
    }
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            max_age: 90 * lifetime::DAY,
        }
    }
}

impl Default for Istio {
    fn default() -> Self {
        Self {
            version: String::new(),
            versions: None,
            known: Versions::known().clone(),
            charts: OFFICIAL_CHARTS.into(),
            namespace: ISTIO_NAMESPACE.into(),
            values: Values::default(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            namespace: "istio-ingress".into(),
            name: "istio-eastwestgateway".into(),
            exposure: Exposure::Auto,
            hosts: vec!["*.local".into()],
            source_ranges: Vec::new(),
            annotations: BTreeMap::new(),
            values: Values::default(),
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            authority: Authority::Vault,
            key: KeyType::P256,
            root_lifetime: 10 * lifetime::YEAR,
            intermediate_lifetime: lifetime::YEAR,
            dns_names: Vec::new(),
        }
    }
}

/// Who holds the root key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authority {
    /// meshlink's own vault on this machine.
    #[default]
    Vault,
    /// A program that signs: a request (PKCS#10) on its standard input, certificates on its standard output.
    Exec {
        /// It and its arguments; no shell reads them. `{cluster}`, `{mesh}`, `{days}` and `{hours}` are filled in.
        command: Vec<String>,
        /// A file with the certificate of the root that all it signs leads to.
        root: PathBuf,
        /// The variables of the environment that it is given besides `PATH` and `HOME`, by name.
        env: Vec<String>,
        /// It may take so long.
        timeout: Duration,
    },
    /// A root or an intermediate that is there already, in files.
    Existing {
        /// Its certificate, and after it those between it and its root, unless they are in `chain`.
        certificate: PathBuf,
        /// Its private key, which nobody else may read.
        key: PathBuf,
        /// The certificates between it and its root.
        chain: Option<PathBuf>,
        /// The certificate of the root.
        root: Option<PathBuf>,
    },
    /// Somebody out of reach: requests are carried there by `ca csr`, and certificates back by `ca import`.
    Offline {
        /// A file with the certificate of the root that all of them lead to.
        root: PathBuf,
    },
}

/// Key types real istiod and Envoy accept for an authority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyType {
    /// ECDSA on P-256, the default.
    #[default]
    #[serde(rename = "P-256")]
    P256,
    /// ECDSA on P-384.
    #[serde(rename = "P-384")]
    P384,
    /// RSA with 4096 bits, for those who must.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

/// One cluster of the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name in the mesh.
    pub name: ClusterName,
    /// Its network; a member without one is a network of its own, named like the cluster.
    pub network: NetworkName,
    /// How to find its API server.
    pub reach: Reach,
    /// The API server address the *peers'* istiods must use, where it differs from ours.
    pub peer_server: Option<String>,
}

/// How to find a cluster's API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A text as on the command line: context, EKS name, ARN, `region/name` or eksctl name, in that order.
    Auto(String),
    /// A kubeconfig context, literally.
    Context(String),
    /// An EKS cluster.
    Eks(Eks),
}

/// An EKS cluster and the credentials to use for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Eks {
    /// Name within its region.
    pub name: String,
    /// Region; the profile's or environment's default if absent.
    pub region: Option<String>,
    /// Full ARN, where given; name and region are then taken from it.
    pub arn: Option<String>,
    /// AWS profile.
    pub profile: Option<String>,
    /// Role to assume for this cluster.
    pub role_arn: Option<String>,
    /// External id for that role.
    pub external_id: Option<String>,
}

#[cfg(test)]
mod tests;
