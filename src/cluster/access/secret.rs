//! Remote secrets as `istioctl create-remote-secret` writes them, and packed.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{ISTIO_SYSTEM, MANAGED_BY};
use crate::{
    cluster::{Kind, Ref, Token},
    name::ClusterName,
    owner::Owner,
};

/// How many clusters one packed Secret holds: at about 3 KB each, far below the limit of 1 MiB.
pub(crate) const SHARD: usize = 64;

/// How many bytes one packed Secret holds, as long as each entry is smaller: written in base64, that stays below the
/// 1.5 MiB that etcd takes, and below the 1 MiB that Kubernetes allows.
const BYTES: usize = 700 << 10;

/// What istiod needs to reach one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The cluster that is read.
    pub(crate) cluster: ClusterName,
    /// Its API server, as the *reading* cluster reaches it.
    pub(crate) server: String,
    /// Its CA, as PEM.
    pub(crate) ca: Vec<u8>,
    /// The reader account's token.
    pub(crate) token: Token,
    /// The name to check the server's certificate against, if not the address.
    pub(crate) tls_server_name: Option<String>,
}

impl Link {
    /// A link from a filled account-token Secret of the cluster; `None` while it is not filled.
    #[cfg(test)]
    pub(crate) fn of(cluster: &ClusterName, server: &str, secret: &Value) -> Option<Self> {
        let data = |key: &str| STANDARD.decode(secret["data"][key].as_str()?).ok();
        let token = String::from_utf8(data("token")?).ok()?;
        Some(Self {
            cluster: cluster.clone(),
            server: server.to_owned(),
            ca: data("ca.crt")?,
            token: Token::new(token),
            tls_server_name: None,
        })
    }

    /// The kubeconfig, key for key in istioctl's order. Every scalar that is not plain is quoted,
    /// so that no server name or token can break out of its place.
    fn kubeconfig(&self) -> String {
        let name = &self.cluster;
        let ca = STANDARD.encode(&self.ca);
        let server = quoted(&self.server);
        let tls = self.tls_server_name.as_deref();
        let tls = tls
            .map(|tls| format!("    tls-server-name: {}\n", quoted(tls)))
            .unwrap_or_default();
        let token = quoted(self.token.expose());
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n{tls}  \
             name: {name}\ncontexts:\n- context:\n    cluster: {name}\n    user: {name}\n  name: {name}\n\
             current-context: {name}\nkind: Config\nusers:\n- name: {name}\n  user:\n    token: {token}\n"
        )
    }

    fn data(&self) -> Value {
        json!(STANDARD.encode(self.kubeconfig()))
    }
}

/// A YAML scalar: plain where that is safe, as JSON where not (YAML reads JSON strings).
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(':')
        && text.chars().all(plain);
    // Words such as `null` or `true` are not strings when plain.
    let word = text.chars().all(|c| c.is_ascii_alphabetic());
    if safe && !word {
        text.to_owned()
    } else {
        json!(text).to_string()
    }
}

/// Where a peer's remote secret is, when each has one of its own.
pub(crate) fn remote_name(cluster: &ClusterName) -> Ref {
    Ref::namespaced(
        &Kind::SECRET,
        ISTIO_SYSTEM,
        format!("istio-remote-secret-{cluster}"),
    )
}

/// Where a shard of packed remote secrets is.
pub(crate) fn packed_name(shard: usize) -> Ref {
    Ref::namespaced(
        &Kind::SECRET,
        ISTIO_SYSTEM,
        format!("istio-remote-secrets-{shard}"),
    )
}

/// A remote secret of its own for one peer.
pub(crate) fn remote_secret(link: &Link) -> Value {
    let annotations = json!({"networking.istio.io/cluster": link.cluster.as_str()});
    let mut secret = shell(
        &remote_name(&link.cluster),
        [(link.cluster.as_str(), link.data())],
    );
    secret["metadata"]["annotations"] = annotations;
    secret
}

/// One shard of a packed layout as a whole.
pub(crate) fn packed_secret(shard: usize, links: &[Link]) -> Value {
    shell(
        &packed_name(shard),
        links
            .iter()
            .map(|link| (link.cluster.as_str(), link.data())),
    )
}

/// Sets or removes one peer in a shard, as a merge patch: the others stay untouched, and istiod
/// goes on with them without a pause.
pub(crate) fn packed_patch(cluster: &ClusterName, link: Option<&Link>) -> Value {
    json!({"data": {cluster.as_str(): link.map(Link::data)}})
}

/// A packed Secret as it was read: its version, and how large each of its entries is.
#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    pub(super) version: Option<String>,
    pub(super) entries: BTreeMap<String, usize>,
    /// Somebody else's, and whose.
    pub(super) whose: Option<String>,
}

impl Shard {
    pub(super) fn of(secret: &Value, owner: &Owner) -> Self {
        let size = |value: &Value| value.as_str().unwrap_or_default().len() / 4 * 3;
        let data = secret["data"].as_object().into_iter().flatten();
        let version = secret["metadata"]["resourceVersion"].as_str();
        Self {
            version: version.map(str::to_owned),
            entries: data
                .map(|(key, value)| (key.clone(), size(value)))
                .collect(),
            whose: owner.whose(secret),
        }
    }

    /// An entry that is to be put in.
    pub(super) fn add(&mut self, link: &Link) {
        let bytes = link.kubeconfig().len();
        self.entries.insert(link.cluster.to_string(), bytes);
    }

    fn has_room(&self, bytes: usize) -> bool {
        let held: usize = self.entries.values().sum();
        self.entries.is_empty() || (self.entries.len() < SHARD && held + bytes <= BYTES)
    }
}

/// The shard a cluster is in, or is to be put in: the first with room. What has been placed stays.
pub(super) fn shard_for(link: &Link, placed: &BTreeMap<usize, Shard>) -> usize {
    let name = link.cluster.as_str();
    if let Some((shard, _)) = placed.iter().find(|(_, s)| s.entries.contains_key(name)) {
        return *shard;
    }
    let bytes = link.kubeconfig().len();
    let has_room = |n: &usize| placed.get(n).is_none_or(|shard| shard.has_room(bytes));
    (0..).find(has_room).unwrap_or_default()
}

fn shell<'a>(r: &Ref, data: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let data: serde_json::Map<_, _> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let (key, value) = MANAGED_BY;
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": r.name, "namespace": r.namespace, "labels": {"istio/multiCluster": "true", key: value}},
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn link(name: &str) -> Link {
        Link {
            cluster: name.parse().unwrap(),
            server: "https://ABC.gr7.eu-west-1.eks.amazonaws.com".into(),
            ca: b"-----BEGIN CERTIFICATE-----".to_vec(),
            token: Token::new("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.canary".into()),
            tls_server_name: None,
        }
    }

    fn text(secret: &Value, key: &str) -> String {
        String::from_utf8(
            STANDARD
                .decode(secret["data"][key].as_str().unwrap())
                .unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn the_format_is_istioctls() {
        let secret = remote_secret(&link("eks-2"));
        assert_eq!(secret["metadata"]["name"], "istio-remote-secret-eks-2");
        assert_eq!(secret["metadata"]["labels"]["istio/multiCluster"], "true");
        assert_eq!(
            secret["metadata"]["annotations"]["networking.istio.io/cluster"],
            "eks-2"
        );
        let want = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t
    server: https://ABC.gr7.eu-west-1.eks.amazonaws.com
  name: eks-2
contexts:
- context:
    cluster: eks-2
    user: eks-2
  name: eks-2
current-context: eks-2
kind: Config
users:
- name: eks-2
  user:
    token: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.canary
";
        assert_eq!(text(&secret, "eks-2"), want);
    }

    #[test]
    fn what_is_written_reads_back_and_nothing_breaks_out() {
        for (server, token, tls) in [
            ("https://a.b:6443", "t", None),
            ("https://[fd00::1]:6443", "null", Some("kubernetes.default")),
            ("https://a.b/x y: z", "a\n    exec: {}\n#'\"", Some("- :")),
        ] {
            let token = Token::new(token.into());
            let tls_server_name = tls.map(str::to_owned);
            let link = Link {
                server: server.into(),
                token: token.clone(),
                tls_server_name,
                ..link("eks-2")
            };
            let secret = remote_secret(&link);
            let config: Value = serde_saphyr::from_str(&text(&secret, "eks-2")).unwrap();
            assert_eq!(config["users"][0]["user"], json!({"token": token.expose()}));
            let [facts] = parse(&secret).try_into().unwrap();
            assert_eq!(
                (facts.server.as_deref(), facts.problems),
                (Some(server), vec![])
            );
            assert_eq!(
                config["clusters"][0]["cluster"]["tls-server-name"].as_str(),
                tls
            );
        }
    }

    #[test]
    fn packing_moves_nobody() {
        let one = |n: usize| link(&format!("c{n}"));
        let mut placed = BTreeMap::<usize, Shard>::new();
        for n in 0..SHARD + 1 {
            let shard = placed.entry(shard_for(&one(n), &placed)).or_default();
            shard.entries.insert(format!("c{n}"), 1);
        }
        let counts: Vec<_> = placed.values().map(|shard| shard.entries.len()).collect();
        assert_eq!(counts, [SHARD, 1]);
        placed.get_mut(&0).unwrap().entries.remove("c3");
        assert_eq!(shard_for(&one(999), &placed), 0, "a gap is filled");
        assert_eq!(
            shard_for(&one(SHARD), &placed),
            1,
            "who has a place keeps it"
        );
        placed
            .get_mut(&0)
            .unwrap()
            .entries
            .insert("large".into(), BYTES - 64);
        assert_eq!(shard_for(&one(999), &placed), 1, "bytes count too");
        let huge = Link {
            ca: vec![b'x'; BYTES],
            ..one(999)
        };
        assert_eq!(shard_for(&huge, &placed), 2, "it has one to itself");
    }

    #[test]
    fn a_packed_secret_holds_what_single_ones_would() {
        let links = [link("a"), link("b")];
        let packed = packed_secret(0, &links);
        for one in &links {
            let key = one.cluster.as_str();
            assert_eq!(packed["data"][key], remote_secret(one)["data"][key]);
            assert_eq!(
                packed_patch(&one.cluster, Some(one))["data"][key],
                packed["data"][key]
            );
        }
        assert_eq!(
            packed_patch(&links[0].cluster, None),
            json!({"data": {"a": null}})
        );
    }
}
