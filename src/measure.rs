//! What the benchmarks in `bench/` time: each function does one thing a number of times and says how long it took.
//!
//! Compiled for benchmarks alone (feature `measure`), so that nothing needs to be public for them.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;

use crate::{
    aws::{
        Aws, Env, Identity,
        eks::mint,
        nlb::{self, PACE, Policy, Seen, Watch},
    },
    name::{ClusterName, MeshId},
    pki::{NewIntermediate, NewRoot, Profile, Root, Vault},
    spec::KeyType,
    wait::Deadline,
};

/// Why something could not be measured.
pub type Error = Box<dyn std::error::Error>;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn took<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<Duration, Error> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// One EKS token: a signature, no call.
///
/// # Errors
///
/// Credentials that cannot sign.
pub fn eks_token(keys: &Credentials, now: SystemTime) -> Result<Duration, Error> {
    took(|| Ok(mint("eks-1", "eu-west-1", keys, now)?))
}

/// Until the load balancer of this name is ready, by an AWS at this address.
///
/// # Errors
///
/// A load balancer that does not become ready.
pub async fn load_balancer(
    endpoint: &str,
    keys: &Credentials,
    account: &str,
    host: &str,
) -> Result<Duration, Error> {
    let aws = Aws::new(Env {
        region: Some("eu-west-1".into()),
        keys: Some(keys.clone()),
        endpoints: [(None, endpoint.to_owned())].into(),
        ..Env::default()
    });
    let seen = Seen {
        service: true,
        hostname: Some(host.to_lowercase()),
        ..Seen::default()
    };
    let session = aws
        .session(&Identity::default(), None)
        .await
        .ok_or("no region")?;
    let mut watch = Watch::new(session.for_account(account), account, ("ns", "svc"), 15443);
    let see = || async { Ok(seen.clone()) };
    let start = Instant::now();
    let deadline = Deadline::after(Duration::from_secs(600));
    let policy = Policy::default();
    nlb::wait("eks", &mut watch, see, &policy, deadline, PACE, |_| {}).await?;
    Ok(start.elapsed())
}

/// How often a load balancer is asked about, at first.
pub fn poll_interval() -> Duration {
    PACE.first()
}

/// How long certificates take.
#[derive(Debug)]
pub struct Certificates {
    /// Intermediates, from their key to PEM.
    pub issued: Duration,
    /// The same into a vault, synced to disk.
    pub kept: Duration,
    /// The same, found there again.
    pub found: Duration,
}

/// Makes intermediates for so many clusters, in memory and in a vault below `folder`.
///
/// # Errors
///
/// A folder that cannot be written.
pub fn certificates(clusters: usize, folder: &Path) -> Result<Certificates, Error> {
    let now = "2026-01-01T00:00:00Z".parse()?;
    let mesh: MeshId = "bench".parse()?;
    let (root, intermediate) = (Profile::root()?, Profile::intermediate()?);
    let key = KeyType::P256;
    let new = NewRoot {
        mesh: &mesh,
        key,
        lifetime: 10 * YEAR,
        embedded: false,
        profile: &root,
        now,
    };
    let names = (0..clusters).map(|n| format!("c-{n}").parse());
    let names = names.collect::<Result<Vec<ClusterName>, _>>()?;
    let each = |cluster| NewIntermediate {
        mesh: &mesh,
        cluster,
        namespace: "istio-system",
        names: &[],
        key,
        lifetime: YEAR,
        is_exact: true,
        trust_domain: "cluster.local",
        profile: &intermediate,
        now,
    };
    let root = Root::create(&new)?;
    let vault = Vault::open(folder.join("vault"))?;
    vault.create_root(&new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let keep = || {
        for name in &names {
            runtime.block_on(vault.issue_intermediate(&each(name)))?;
        }
        Ok(())
    };
    let issue = || {
        for name in &names {
            root.issue(&each(name))?.cacerts()?;
        }
        Ok(())
    };
    Ok(Certificates {
        issued: took(issue)?,
        kept: took(keep)?,
        found: took(keep)?,
    })
}
