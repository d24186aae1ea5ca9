//! What EKS says about a cluster.

use aws_sdk_eks::types::{AuthenticationMode, Cluster};

use super::{Error, Place};
use crate::aws::{Aws, Identity, Session, arn::Arn, call, env::Service};

/// What EKS says about a cluster, and the session that was used to ask.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Name within its region.
    pub name: String,
    /// Full ARN.
    pub arn: String,
    /// Region.
    pub region: String,
    /// Account.
    pub account: String,
    /// Partition, as it stands in the ARN.
    pub partition: String,
    /// The API server.
    pub endpoint: String,
    /// Its certificate authority, base64 of PEM, as a kubeconfig has it.
    pub ca: String,
    /// What a token is bound to: the name, or on Outposts the id.
    pub token_id: String,
    /// VPC.
    pub vpc: Option<String>,
    /// Subnets of the control plane's interfaces.
    pub subnets: Vec<String>,
    /// The cluster's own security group, shared with managed nodes.
    pub cluster_security_group: Option<String>,
    /// Whether the API server answers on a public address.
    pub public: bool,
    /// Who may reach that public address.
    pub public_cidrs: Vec<String>,
    /// Whether it answers inside the VPC.
    pub private: bool,
    /// EKS Auto Mode runs the nodes and the load balancers.
    pub auto_mode: bool,
    /// How identities become Kubernetes users.
    pub auth_mode: AuthMode,
    /// The session that asked, for everything else about this cluster.
    pub session: Session,
}

/// How identities become Kubernetes users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// Only the `aws-auth` ConfigMap.
    ConfigMap,
    /// The ConfigMap and access entries.
    Both,
    /// Only access entries.
    Entries,
}

/// Ask EKS about a cluster; it must be usable.
pub(crate) async fn describe(aws: &Aws, who: &Identity, place: &Place) -> Result<Facts, Error> {
    let Place { name, region, .. } = place;
    let no_region = || Error::NoRegion { text: name.clone() };
    let session = aws.session(who, Some(region)).await.ok_or_else(no_region)?;
    let request = || session.eks().describe_cluster().name(name).send();
    let answer = match session.call(Service::Eks, "DescribeCluster", request).await {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() => {
            let there = clusters(&session).await.unwrap_or_default();
            return Err(Error::NotFound {
                name: name.clone(),
                region: region.clone(),
                there,
            });
        }
        Err(source) => {
            let profile = session.profile().map(str::to_owned);
            let (cluster, source) = (name.clone(), Box::new(source));
            return Err(Error::Call {
                cluster,
                profile,
                source,
            });
        }
    };
    let missing = |missing| Error::Incomplete {
        name: name.clone(),
        region: region.clone(),
        missing,
    };
    let cluster = answer.cluster.ok_or_else(|| missing("description"))?;
    let facts = read(cluster, session, place)?;
    match place.account.as_deref() {
        Some(account) if account != facts.account => {
            let asked = format!(
                "arn:{}:eks:{region}:{account}:cluster/{name}",
                facts.partition
            );
            Err(Error::OtherAccount {
                asked,
                found: facts.arn,
            })
        }
        _ => Ok(facts),
    }
}

/// The clusters these credentials see in the session's region.
pub(crate) async fn clusters(session: &Session) -> Result<Vec<String>, call::Error> {
    let (mut all, mut token) = (Vec::new(), None::<String>);
    loop {
        let request = || {
            session
                .eks()
                .list_clusters()
                .set_next_token(token.clone())
                .send()
        };
        let page = session.call(Service::Eks, "ListClusters", request).await?;
        all.extend(page.clusters.unwrap_or_default());
        token = page.next_token;
        if token.is_none() {
            return Ok(all);
        }
    }
}

fn read(cluster: Cluster, session: Session, place: &Place) -> Result<Facts, Error> {
    let Place { name, region, .. } = place;
    let missing = |missing| Error::Incomplete {
        name: name.clone(),
        region: region.clone(),
        missing,
    };
    let status = cluster
        .status
        .as_ref()
        .map_or("", |s| s.as_str())
        .to_owned();
    if !matches!(status.as_str(), "ACTIVE" | "UPDATING") {
        return Err(Error::NotActive {
            name: name.clone(),
            region: region.clone(),
            status,
        });
    }
    let arn: Arn = cluster
        .arn
        .as_deref()
        .and_then(|a| a.parse().ok())
        .ok_or_else(|| missing("ARN"))?;
    let network = cluster.resources_vpc_config.as_ref();
    let auth = cluster
        .access_config
        .as_ref()
        .and_then(|a| a.authentication_mode.as_ref());
    Ok(Facts {
        name: name.clone(),
        arn: arn.to_string(),
        region: arn.region,
        session: session.for_account(&arn.account),
        account: arn.account,
        partition: arn.partition,
        endpoint: cluster.endpoint.ok_or_else(|| missing("endpoint"))?,
        ca: cluster
            .certificate_authority
            .and_then(|c| c.data)
            .ok_or_else(|| missing("certificate authority"))?,
        token_id: cluster.id.unwrap_or_else(|| name.clone()),
        vpc: network.and_then(|n| n.vpc_id.clone()),
        subnets: network.map(|n| n.subnet_ids().to_vec()).unwrap_or_default(),
        cluster_security_group: network.and_then(|n| n.cluster_security_group_id.clone()),
        public: network.is_none_or(|n| n.endpoint_public_access),
        public_cidrs: network
            .map(|n| n.public_access_cidrs().to_vec())
            .unwrap_or_default(),
        private: network.is_some_and(|n| n.endpoint_private_access),
        auto_mode: cluster
            .compute_config
            .and_then(|c| c.enabled)
            .unwrap_or(false),
        auth_mode: auth_mode(auth),
    })
}

fn auth_mode(mode: Option<&AuthenticationMode>) -> AuthMode {
    match mode {
        Some(AuthenticationMode::Api) => AuthMode::Entries,
        Some(AuthenticationMode::ApiAndConfigMap) => AuthMode::Both,
        _ => AuthMode::ConfigMap,
    }
}
