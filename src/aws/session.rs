//! Credentials, region and budget for the calls about one cluster.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_eks::{
    config::timeout::TimeoutConfigBuilder,
    error::{ProvideErrorMetadata, SdkError},
};

use tokio::time::Instant;

use super::{
    arn::Partition,
    call::{Cause, Error, by_credentials, by_sdk},
    env::{Env, Service},
    http::Client,
    rate::Rates,
};
use crate::{cluster::Recover, net::Network};

/// How long one attempt of a call may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(10);
/// Attempts of a call that may help when repeated.
const ATTEMPTS: u32 = 4;
/// Attempts of a call that is throttled, a second or more apart: what begins a run waits its turn.
const TURNS: u32 = 90;

/// Whom to tell that AWS lets a call wait.
#[derive(Clone, Default)]
struct Listener(Option<Arc<dyn Fn(&str) + Send + Sync>>);

impl Listener {
    fn tell(&self, text: &str) {
        if let Some(listener) = &self.0 {
            listener(text);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// As whom to call: profile, and a role to take on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Profile; the environment's, if absent.
    pub(crate) profile: Option<String>,
    /// Role to assume.
    pub(crate) role_arn: Option<String>,
    /// External id that role asks for.
    pub(crate) external_id: Option<String>,
}

impl From<&crate::spec::Eks> for Identity {
    fn from(eks: &crate::spec::Eks) -> Self {
        let crate::spec::Eks {
            profile,
            role_arn,
            external_id,
            ..
        } = eks.clone();
        Self {
            profile,
            role_arn,
            external_id,
        }
    }
}

/// AWS as one identity sees it in one region.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    env: Arc<Env>,
    credentials: Option<SharedCredentialsProvider>,
    eks: aws_sdk_eks::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    sts: aws_sdk_sts::Client,
    region: String,
    rates: Arc<Rates>,
    /// Whose budgets are used: the account, and until it is known, the identity.
    account: String,
    profile: Option<String>,
    listener: Listener,
    network: Network,
}

/// The AWS of one run: environment and budgets, shared by all clusters.
#[derive(Debug, Clone, Default)]
pub struct Aws {
    env: Arc<Env>,
    rates: Arc<Rates>,
    listener: Listener,
    network: Network,
}

impl Aws {
    /// From what the command line read.
    pub fn new(env: Env) -> Self {
        Self {
            env: Arc::new(env),
            ..Self::default()
        }
    }

    /// Reach AWS this way; directly, if not told.
    #[must_use]
    pub(crate) fn through(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// Say it to somebody when AWS lets a call wait.
    #[must_use]
    pub(crate) fn telling(self, listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            listener: Listener(Some(Arc::new(listener))),
            ..self
        }
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, text: &str) {
        self.listener.tell(text);
    }

    /// Call faster or slower than usual.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn with_pace(self, pace: super::rate::Pace) -> Self {
        Self {
            rates: Arc::new(Rates::new(pace)),
            ..self
        }
    }

    /// What the command line read.
    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// Credentials and region for one cluster. `region` wins over the environment's and the profile's.
    ///
    /// No call is made yet, except to assume a role or to refresh SSO when the credentials are first used.
    pub(crate) async fn session(&self, who: &Identity, region: Option<&str>) -> Option<Session> {
        let profile = who.profile.clone().or_else(|| self.env.profile.clone());
        let base = self.base(who, region.or(self.env.region.as_deref())).await;
        let region = base.region()?.to_string();
        let config = match &who.role_arn {
            Some(role) => self.assume(base, role, who.external_id.as_deref()).await,
            None => base,
        };
        Some(Session {
            env: self.env.clone(),
            credentials: config.credentials_provider(),
            eks: eks(&config, self.env.endpoint(Service::Eks)),
            elb: elb(&config, self.env.endpoint(Service::Elb)),
            sts: sts(&config, self.env.endpoint(Service::Sts)),
            region,
            rates: self.rates.clone(),
            account: format!("{who:?}"),
            profile,
            listener: self.listener.clone(),
            network: self.network.clone(),
        })
    }

    async fn base(&self, who: &Identity, region: Option<&str>) -> SdkConfig {
        let region = region.map(|r| Region::new(r.to_owned()));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts())
            .http_client(Client::new(self.network.clone()));
        if let Some(profile) = who.profile.as_ref().or(self.env.profile.as_ref()) {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = region {
            loader = loader.region(region);
        }
        if let (Some(keys), None) = (&self.env.keys, &who.profile) {
            loader = loader.credentials_provider(keys.clone());
        }
        loader.load().await
    }

    async fn assume(&self, base: SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
        let sts = match self.env.endpoint(Service::Sts) {
            Some(url) => base.to_builder().endpoint_url(url).build(),
            None => base.clone(),
        };
        let mut provider = AssumeRoleProvider::builder(role)
            .session_name("meshlink")
            .configure(&sts);
        if let Some(id) = external_id {
            provider = provider.external_id(id);
        }
        let provider = SharedCredentialsProvider::new(provider.build().await);
        base.to_builder().credentials_provider(provider).build()
    }
}

fn eks(config: &SdkConfig, endpoint: Option<&str>) -> aws_sdk_eks::Client {
    let mut builder = aws_sdk_eks::config::Builder::from(config);
    builder.set_endpoint_url(endpoint.map(str::to_owned));
    aws_sdk_eks::Client::from_conf(builder.build())
}

fn elb(config: &SdkConfig, endpoint: Option<&str>) -> aws_sdk_elasticloadbalancingv2::Client {
    let mut builder = aws_sdk_elasticloadbalancingv2::config::Builder::from(config);
    builder.set_endpoint_url(endpoint.map(str::to_owned));
    aws_sdk_elasticloadbalancingv2::Client::from_conf(builder.build())
}

fn sts(config: &SdkConfig, endpoint: Option<&str>) -> aws_sdk_sts::Client {
    let mut builder = aws_sdk_sts::config::Builder::from(config);
    builder.set_endpoint_url(endpoint.map(str::to_owned));
    aws_sdk_sts::Client::from_conf(builder.build())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfigBuilder::new()
        .connect_timeout(Duration::from_secs(4))
        .read_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .build()
}

impl Session {
    /// The region calls go to.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The partition of that region.
    pub(crate) fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// The profile in use, for hints.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Share the budget of this account from now on.
    #[must_use]
    pub(crate) fn for_account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// The credentials provider, for tokens.
    pub(crate) fn provider(&self) -> Option<SharedCredentialsProvider> {
        self.credentials.clone()
    }

    /// The credentials as they are now.
    pub(crate) async fn credentials(
        &self,
        action: &'static str,
        service: Service,
    ) -> Result<Credentials, Error> {
        use aws_credential_types::provider::ProvideCredentials as _;
        let fail = |cause| Error {
            service,
            action,
            region: self.region.clone(),
            cause,
        };
        let provider = self
            .provider()
            .ok_or_else(|| fail(Cause::NoCredentials("no provider".into())))?;
        provider
            .provide_credentials()
            .await
            .map_err(|e| fail(by_credentials(&e)))
    }

    /// Where a service answers.
    pub(crate) fn endpoint(&self, service: Service) -> String {
        let public = || {
            let (prefix, suffix) = (service.prefix(), self.partition().suffix);
            format!("https://{prefix}.{}.{suffix}", self.region)
        };
        self.env
            .endpoint(service)
            .map_or_else(public, str::to_owned)
    }

    /// The way to AWS.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn eks(&self) -> &aws_sdk_eks::Client {
        &self.eks
    }

    pub(crate) fn elb(&self) -> &aws_sdk_elasticloadbalancingv2::Client {
        &self.elb
    }

    pub(crate) fn sts(&self) -> &aws_sdk_sts::Client {
        &self.sts
    }

    /// Make an SDK call within the budget, again where that can help.
    pub(crate) async fn call<T, E, F>(
        &self,
        service: Service,
        action: &'static str,
        mut send: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.attempts(service, action, || {
            let sent = send();
            async move { sent.await.map_err(|e| by_sdk(&e)) }
        })
        .await
    }

    pub(super) fn failed(&self, service: Service, action: &'static str, cause: Cause) -> Error {
        Error {
            service,
            action,
            region: self.region.clone(),
            cause,
        }
    }

    /// As [`call`](Self::call), for anything that tells its cause.
    pub(crate) async fn attempts<T, F>(
        &self,
        service: Service,
        action: &'static str,
        mut send: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let mut pause = Duration::from_millis(200);
        let mut attempt = 0;
        let rate = self.rates.of(service, &self.account, &self.region);
        let start = Instant::now();
        loop {
            attempt += 1;
            rate.turn().await;
            let sent = send().await;
            let (prefix, region) = (service.prefix(), &self.region);
            let said = sent.as_ref().err().map_or("ok".into(), Cause::to_string);
            tracing::debug!("AWS: {prefix}:{action} in {region}: {said}");
            let cause = match sent {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            if cause == Cause::Throttled {
                rate.pause(Duration::from_secs(1));
            }
            let error = self.failed(service, action, cause);
            match error.recover() {
                // Of load balancers, throttling is for the caller to wait out and to tell: it is pending, not failing.
                Recover::After(_) if service != Service::Elb && attempt < TURNS => {
                    let so_far = start.elapsed().as_secs();
                    // One turn is nothing to speak of.
                    if so_far > 0 && rate.is_news() {
                        self.listener.tell(&format!(
                            "pending: {error}; retrying, {so_far} s so far, at most {TURNS} times"
                        ));
                    }
                }
                Recover::Backoff if attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                _ => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;
    use crate::{
        aws::query,
        net::{Proxies, testing::Recorder},
    };

    /// The next thing a proxy is asked while a call is made.
    async fn asked<T>(
        proxy: &mut Recorder,
        call: impl Future<Output = Result<T, Error>>,
    ) -> String {
        tokio::select! {
            (line, _) = proxy.next() => line,
            done = call => match done {
                Ok(_) => "answered by somebody else".into(),
                Err(error) => format!("nothing was asked: {error}"),
            },
        }
    }

    #[tokio::test]
    async fn every_service_is_reached_through_the_proxy() {
        let mut proxy =
            Recorder::start("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        let network = Network::new(Proxies {
            https: Some(proxy.address.clone()),
            ..Proxies::default()
        });
        let endpoint = |service: Service| format!("https://{}.invalid", service.prefix());
        let aws = Aws::new(Env {
            region: Some("eu-west-1".into()),
            keys: Some(Credentials::new("AKID", "hush", None, None, "test")),
            endpoints: Service::ALL.map(|s| (Some(s), endpoint(s))).into(),
            ..Env::default()
        });
        let aws = aws.through(network);
        let session = aws.session(&Identity::default(), None).await.unwrap();

        let call = session.call(Service::Eks, "ListClusters", || {
            session.eks().list_clusters().send()
        });
        assert_eq!(
            asked(&mut proxy, call).await,
            "CONNECT eks.invalid:443 HTTP/1.1"
        );

        let call = session.call(Service::Elb, "DescribeLoadBalancers", || {
            session.elb().describe_load_balancers().send()
        });
        let elb = "CONNECT elasticloadbalancing.invalid:443 HTTP/1.1";
        assert_eq!(asked(&mut proxy, call).await, elb);

        let call = session.call(Service::Sts, "GetCallerIdentity", || {
            session.sts().get_caller_identity().send()
        });
        assert_eq!(
            asked(&mut proxy, call).await,
            "CONNECT sts.invalid:443 HTTP/1.1"
        );

        let now = || std::time::SystemTime::UNIX_EPOCH;
        let call = query::ec2(&session, "DescribeVpcs", &[], now);
        assert_eq!(
            asked(&mut proxy, call).await,
            "CONNECT ec2.invalid:443 HTTP/1.1"
        );
    }
}
