//! What a gateway's Service must say on AWS, derived from what runs and from what lies between the members.

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    Aws, Identity, call,
    eks::{self, Facts, Place, describe},
    exposure::{self, Exposure, Undecided},
    network::{self, Network},
    nlb::{CONTROLLER, ServiceName, Stuck, choose, controllers},
    preflight::{self, Finding},
    rights,
};
use crate::{
    cluster::{self, Cluster, Kind, Ref},
    hint::Hint,
    spec::{self, Mesh},
};

/// Why the Services could not be derived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A cluster could not be read.
    #[error("could not read the nodes of {cluster}")]
    Nodes {
        /// The cluster.
        cluster: String,
        /// Why.
        #[source]
        source: Box<cluster::Error>,
    },
    /// EKS could not be asked.
    #[error("could not ask EKS about {cluster}")]
    Describe {
        /// The cluster.
        cluster: String,
        /// Why.
        #[source]
        source: Box<eks::Error>,
    },
    /// EC2 could not be asked.
    #[error("could not ask EC2 about the network of {cluster}")]
    Network {
        /// The cluster.
        cluster: String,
        /// Why.
        #[source]
        source: Box<call::Error>,
    },
    /// Nobody would make a network load balancer.
    #[error("the gateway of {cluster} would get no network load balancer: {cause}")]
    NoClass {
        /// The cluster.
        cluster: String,
        /// Why.
        cause: Stuck,
    },
    /// Who may reach it cannot be told.
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

impl Error {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Nodes { .. } => None,
            Self::Describe { source, .. } => source.hint(),
            Self::Network { source, .. } => source.hint(None),
            Self::NoClass { cluster, cause } => {
                let service = ServiceName {
                    namespace: "istio-system".into(),
                    name: "istio-eastwestgateway".into(),
                };
                Some(cause.hint(cluster, &service))
            }
            Self::Undecided(undecided) => Some(undecided.hint()),
        }
    }
}

/// A member, as far as its gateway goes.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its API server.
    pub cluster: Cluster,
    /// Where EKS has it; none for a cluster that is not EKS's.
    pub place: Option<Place>,
    /// As whom to ask AWS about it.
    pub who: Identity,
}

/// What AWS means for the members' gateways; members elsewhere are not in it.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    /// Chart values for the gateway of every member on AWS, by the cluster's name in the mesh.
    pub values: BTreeMap<String, Value>,
    /// What was looked at before the first write.
    pub findings: Vec<Finding>,
    /// Why some have no values: all reasons, not only the first.
    pub errors: Vec<Error>,
}

/// Look at every member on AWS and derive what its gateway's Service must say.
pub(crate) async fn derive(
    aws: &Aws,
    members: &[Member],
    mesh: &Mesh,
    now: impl Fn() -> SystemTime + Copy,
) -> Derived {
    let gateway = &mesh.gateway;
    let at = (gateway.namespace.as_str(), gateway.name.as_str());
    let looks = members.iter().map(|member| look(aws, member, at, now));
    let (mut derived, mut looked, mut foreign) = (Derived::default(), Vec::new(), None);
    for (member, result) in members.iter().zip(futures::future::join_all(looks).await) {
        match result {
            Ok(Some(one)) => looked.push(one),
            Ok(None) => foreign = foreign.or(Some(member.cluster.name().as_str())),
            Err(error) => derived.errors.push(error),
        }
    }
    if derived.errors.is_empty() {
        derived.judge(&looked, foreign, mesh);
    }
    derived
}

impl Derived {
    fn judge(&mut self, looked: &[Looked], foreign: Option<&str>, mesh: &Mesh) {
        let mut exposures = BTreeMap::new();
        for one in looked {
            let name = one.network.cluster.clone();
            let all = looked.iter().map(|l| &l.network);
            let peers = all.filter(|n| n.cluster == name || mesh.link(&name, &n.cluster));
            let peers: Vec<Network> = peers.cloned().collect();
            let foreign = foreign.filter(|foreign| mesh.link(&name, foreign));
            match expose(&one.network, &peers, foreign, &mesh.gateway) {
                Ok(exposure) => drop(exposures.insert(name.clone(), exposure)),
                Err(undecided) => self.errors.push(undecided.into()),
            }
            match (&one.class, exposures.get(&name)) {
                (Err(cause), _) => self.errors.push(Error::NoClass {
                    cluster: name,
                    cause: cause.clone(),
                }),
                (Ok(class), Some(exposure)) => {
                    let values = service(class.as_deref(), one.scheme.as_deref(), exposure);
                    self.values.insert(name, values);
                }
                (Ok(_), None) => {}
            }
        }
        let members: Vec<preflight::Member<'_>> = looked.iter().map(Looked::member).collect();
        let are_peers = |a: &str, b: &str| mesh.link(a, b);
        self.findings = preflight::check(&members, &exposures, are_peers);
    }
}

struct Looked {
    facts: Facts,
    network: Network,
    /// The class of the Service: of the one there is, else the one to ask for.
    class: Result<Option<String>, Stuck>,
    /// The scheme of the Service there is.
    scheme: Option<String>,
    /// That Service has its load balancer.
    placed: bool,
    /// Actions on load balancers we may not use.
    denied: Vec<&'static str>,
}

impl Looked {
    fn member(&self) -> preflight::Member<'_> {
        preflight::Member {
            facts: &self.facts,
            network: &self.network,
            class: self.class.as_ref().ok().and_then(Option::as_deref),
            placed: self.placed,
            denied: &self.denied,
        }
    }
}

async fn look(
    aws: &Aws,
    member: &Member,
    (namespace, name): (&str, &str),
    now: impl Fn() -> SystemTime + Copy,
) -> Result<Option<Looked>, Error> {
    let Some(place) = &member.place else {
        return Ok(None);
    };
    let cluster = member.cluster.name().to_string();
    let list =
        |kind: &'static Kind, labels: Option<&'static str>| member.cluster.list(kind, None, labels);
    let nodes = list(&Kind::NODE, None);
    let deployments = list(&Kind::DEPLOYMENT, Some(CONTROLLER));
    let at = Ref::namespaced(&Kind::SERVICE, namespace, name);
    let here = async {
        let seen = tokio::try_join!(nodes, deployments, member.cluster.find(&at));
        seen.map_err(|source| Error::Nodes {
            cluster: cluster.clone(),
            source: Box::new(source),
        })
    };
    let there = async {
        let facts = describe(aws, &member.who, place).await;
        facts.map_err(|source| Error::Describe {
            cluster: cluster.clone(),
            source: Box::new(source),
        })
    };
    let ((nodes, deployments, service), facts) = tokio::try_join!(here, there)?;
    let mut running = controllers(&deployments, &nodes);
    running.auto_mode |= facts.auto_mode;
    running.on_aws = true;
    let addresses = addresses(&nodes);
    let network = network::read(&facts, &addresses, now);
    let (network, denied) = tokio::join!(network, rights::denied(&facts));
    let network = network.map_err(|source| Error::Network {
        cluster: cluster.clone(),
        source: Box::new(source),
    })?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(Some(Looked {
        class: match &service {
            // Neither can be changed on a live Service: it would lose its load balancer.
            Some(service) => Ok(text(&service["spec"]["loadBalancerClass"])),
            None => choose(&running).map(|class| class.name().map(str::to_owned)),
        },
        scheme: service
            .as_ref()
            .and_then(|s| text(&s["metadata"]["annotations"][SCHEME])),
        placed: service
            .is_some_and(|s| s["status"]["loadBalancer"]["ingress"][0]["hostname"].is_string()),
        network: Network { cluster, ..network },
        facts,
        denied,
    }))
}

fn addresses(nodes: &[Value]) -> Vec<IpAddr> {
    let all = nodes
        .iter()
        .filter_map(|n| n["status"]["addresses"].as_array())
        .flatten();
    all.filter(|a| a["type"] == "InternalIP")
        .filter_map(|a| a["address"].as_str()?.parse().ok())
        .collect()
}

fn expose(
    gateway: &Network,
    members: &[Network],
    foreign: Option<&str>,
    asked: &spec::Gateway,
) -> Result<Exposure, Undecided> {
    if asked.exposure == spec::Exposure::Internal {
        return Ok(Exposure::Internal {
            ways: BTreeMap::new(),
        });
    }
    let derived = match foreign {
        Some(foreign) => Err(Undecided {
            gateway: gateway.cluster.clone(),
            reason: format!(
                "{foreign} is not an EKS cluster, so the addresses that its requests come from are unknown"
            ),
        }),
        None if asked.exposure == spec::Exposure::InternetFacing => {
            exposure::facing(gateway, members)
        }
        None => exposure::of(gateway, members),
    };
    let said = asked.source_ranges.iter().filter_map(|r| r.parse().ok());
    let said: Vec<IpNet> = said.collect();
    match derived {
        Ok(internal @ Exposure::Internal { .. }) => Ok(internal),
        _ if !said.is_empty() => Ok(Exposure::InternetFacing { sources: said }),
        other => other,
    }
}

/// Says whether a load balancer has public addresses.
const SCHEME: &str = "service.beta.kubernetes.io/aws-load-balancer-scheme";

/// The values of the gateway chart: class, scheme, targets by address, and a health check of the port itself.
pub(crate) fn service(class: Option<&str>, scheme: Option<&str>, exposure: &Exposure) -> Value {
    let (derived, sources) = match exposure {
        Exposure::Internal { .. } => ("internal", Vec::new()),
        Exposure::InternetFacing { sources } => (
            "internet-facing",
            sources.iter().map(ToString::to_string).collect(),
        ),
    };
    let annotation = |name: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{name}");
    let annotations: BTreeMap<String, &str> = [
        (SCHEME.to_owned(), scheme.unwrap_or(derived)),
        (annotation("nlb-target-type"), "ip"),
        (annotation("healthcheck-protocol"), "TCP"),
        (annotation("healthcheck-port"), "traffic-port"),
        (annotation("healthcheck-interval"), "10"),
        (annotation("healthcheck-healthy-threshold"), "2"),
        (annotation("healthcheck-unhealthy-threshold"), "2"),
        (
            annotation("attributes"),
            "load_balancing.cross_zone.enabled=true",
        ),
    ]
    .into();
    let mut service = json!({ "annotations": annotations });
    if let Some(class) = class {
        service["loadBalancerClass"] = class.into();
    }
    if !sources.is_empty() {
        service["loadBalancerSourceRanges"] = sources.into();
    }
    json!({ "service": service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_gateway_is_open_to_its_sources_only() {
        let sources = vec!["203.0.113.2/32".parse().unwrap()];
        let values = service(
            Some("service.k8s.aws/nlb"),
            None,
            &Exposure::InternetFacing { sources },
        );
        let service = &values["service"];
        assert_eq!(service["loadBalancerClass"], "service.k8s.aws/nlb");
        assert_eq!(
            service["loadBalancerSourceRanges"],
            json!(["203.0.113.2/32"])
        );
        assert_eq!(service["annotations"][SCHEME], "internet-facing");
        let class = Some("eks.amazonaws.com/nlb");
        let internal = self::service(
            class,
            None,
            &Exposure::Internal {
                ways: BTreeMap::new(),
            },
        );
        assert_eq!(internal["service"]["annotations"][SCHEME], "internal");
        assert_eq!(
            internal["service"]["loadBalancerClass"],
            "eks.amazonaws.com/nlb"
        );
        assert!(
            internal["service"]
                .get("loadBalancerSourceRanges")
                .is_none()
        );
    }

    #[test]
    fn a_member_elsewhere_must_be_decided_by_its_owner() {
        let network = Network {
            cluster: "eks-1".into(),
            ..Network::default()
        };
        let mut asked = spec::Gateway::default();
        let error = expose(&network, &[], Some("onprem"), &asked).unwrap_err();
        assert!(
            error.reason.starts_with("onprem is not an EKS cluster"),
            "{error}"
        );
        asked.source_ranges = vec!["198.51.100.0/24".into()];
        let said = expose(&network, &[], Some("onprem"), &asked).unwrap();
        let sources = vec!["198.51.100.0/24".parse().unwrap()];
        assert_eq!(said, Exposure::InternetFacing { sources });
        asked.exposure = spec::Exposure::Internal;
        assert!(expose(&network, &[], Some("onprem"), &asked).is_ok());
    }
}
