//! What the machine says about AWS: region, profile, keys, endpoints. Read once, by the command line.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;

/// The AWS side of the environment, as plain data.
///
/// Whatever is not given here is left to the AWS SDK's own chain: profile files, SSO, web identity,
/// container and instance roles.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// Default region.
    pub region: Option<String>,
    /// Default profile.
    pub profile: Option<String>,
    /// Access keys; used unless a cluster names a profile of its own.
    pub keys: Option<Credentials>,
    /// Where calls go instead of the public endpoints, by [`Service`]; `None` is the one for all.
    pub endpoints: BTreeMap<Option<Service>, String>,
}

/// The services meshlink calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Elastic Kubernetes Service.
    Eks,
    /// Elastic Load Balancing, version 2.
    Elb,
    /// Security Token Service.
    Sts,
    /// Elastic Compute Cloud: networks.
    Ec2,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Eks, Self::Elb, Self::Sts, Self::Ec2];

    /// The prefix of its IAM actions, its signing name and the first label of its host name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Eks => "eks",
            Self::Elb => "elasticloadbalancing",
            Self::Sts => "sts",
            Self::Ec2 => "ec2",
        }
    }

    fn endpoint_variable(self) -> &'static str {
        match self {
            Self::Eks => "AWS_ENDPOINT_URL_EKS",
            Self::Elb => "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
        }
    }
}

impl Env {
    /// Read it from environment variables, by the names the AWS tools share.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
            .collect();
        let of = |name: &str| vars.get(name).cloned();
        let keys = of("AWS_ACCESS_KEY_ID").zip(of("AWS_SECRET_ACCESS_KEY"));
        Self {
            region: of("AWS_REGION").or_else(|| of("AWS_DEFAULT_REGION")),
            profile: of("AWS_PROFILE").or_else(|| of("AWS_DEFAULT_PROFILE")),
            keys: keys.map(|(id, secret)| {
                Credentials::new(id, secret, of("AWS_SESSION_TOKEN"), None, "environment")
            }),
            endpoints: endpoints(&vars),
        }
    }

    /// Where calls to a service go instead of its public endpoint.
    pub fn endpoint(&self, service: Service) -> Option<&str> {
        self.endpoints
            .get(&Some(service))
            .or_else(|| self.endpoints.get(&None))
            .map(String::as_str)
    }
}

fn endpoints(vars: &BTreeMap<String, String>) -> BTreeMap<Option<Service>, String> {
    if vars
        .get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|v| v.eq_ignore_ascii_case("true"))
    {
        return BTreeMap::new();
    }
    let special = Service::ALL.map(|service| (Some(service), service.endpoint_variable()));
    let names = special.into_iter().chain([(None, "AWS_ENDPOINT_URL")]);
    names
        .filter_map(|(service, name)| Some((service, vars.get(name)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::from_vars(vars.iter().map(|(k, v)| ((*k).into(), (*v).into())))
    }

    #[test]
    fn region_profile_and_keys_as_the_aws_tools_read_them() {
        let read = env(&[
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_PROFILE", ""),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ]);
        assert_eq!(read.region.as_deref(), Some("eu-west-2"));
        assert_eq!(read.profile, None);
        assert!(!format!("{read:?}").contains("hush"));
        assert!(
            env(&[("AWS_ACCESS_KEY_ID", "AKID")]).keys.is_none(),
            "half a key is none"
        );
    }

    #[test]
    fn a_service_endpoint_wins_over_the_common_one_and_all_can_be_ignored() {
        let one = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        let eks = ("AWS_ENDPOINT_URL_EKS", "http://127.0.0.1:2");
        let read = env(&[one, eks]);
        assert_eq!(read.endpoint(Service::Eks), Some("http://127.0.0.1:2"));
        assert_eq!(read.endpoint(Service::Ec2), Some("http://127.0.0.1:1"));
        let off = env(&[one, eks, ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]);
        assert_eq!(off.endpoint(Service::Eks), None);
    }
}
