//! `meshlink wait`.

use std::time::Instant;

use futures::future;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    aws::nlb::{self, Readiness},
    cli::{
        Frame,
        args::WaitNlb,
        error::{Exit, Failure},
        output::Style,
        session::{Session, Whom, typed},
    },
    cluster::Cluster,
    name::ClusterName,
    probe::{Dialed, Witness},
};

mod dial;

/// What was waited for, cluster by cluster.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Waited {
    /// Every load balancer is ready.
    ready: bool,
    /// Each of them.
    balancers: Vec<Balancer>,
}

/// The load balancer of one gateway.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Balancer {
    /// The cluster.
    cluster: String,
    /// Namespace and name of the Service.
    service: String,
    /// It carries traffic, by its targets' health.
    ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
    /// How long it was waited for.
    waited_seconds: f32,
    /// What AWS says of it, once it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    balancer: Option<Readiness>,
    /// Tries at its name, each with the place it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tried: Vec<Tried>,
}

/// A try at a load balancer's name. It counts where it was made: others may see something else.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tried {
    /// From where: a peer, through its witness, or this machine where no witness runs.
    from: String,
    /// The name resolves and 15443 takes connections there.
    reached: bool,
    /// What came of it, in words.
    says: String,
    /// Addresses the name gives; known only of this machine.
    addresses: Vec<String>,
    /// Those of them that took a connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connected: Vec<String>,
    /// Those of them that then spoke TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls: Vec<String>,
}

/// Waits for the gateways' load balancers: 0 once all are ready, else 4.
pub(crate) async fn nlb(args: WaitNlb, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Whom::Some(&args.clusters), &args.target, frame).await?;
    let members = match args.clusters.as_slice() {
        [] => session.clusters.keys().cloned().collect(),
        named => typed(&session.mesh, named)?,
    };
    let wait = members.iter().map(|name| one(&session, name, &args, frame));
    let all = future::join_all(wait);
    let balancers = tokio::select! {
        balancers = all => balancers,
        () = frame.cancel.cancelled() => return Ok(Exit::Interrupted),
    };
    let (blind, balancers): (Vec<_>, Vec<_>) = balancers.into_iter().partition(Result::is_err);
    if let Some(failure) = blind
        .into_iter()
        .filter_map(Result::err)
        .reduce(Failure::and)
    {
        return Err(failure);
    }
    let balancers: Vec<Balancer> = balancers.into_iter().flatten().collect();
    let waited = Waited {
        ready: balancers.iter().all(|b| b.ready),
        balancers,
    };
    frame.screen.show(&waited, |style| render(&waited, style))?;
    Ok(if waited.ready {
        Exit::Done
    } else {
        Exit::NotInTime
    })
}

async fn one(
    session: &Session,
    name: &ClusterName,
    args: &WaitNlb,
    frame: &Frame,
) -> Result<Balancer, Failure> {
    let cluster = &session.clusters[name];
    let gateway = &session.mesh.gateway;
    let (namespace, service) = (gateway.namespace.as_str(), gateway.name.as_str());
    let policy = nlb::Policy {
        all_targets: args.all_targets,
        ..nlb::Policy::default()
    };
    let limits = nlb::Limits {
        deadline: args.target.timeout,
        ..nlb::Limits::default()
    };
    let mut watch = session.aws.watch(name, (namespace, service), policy.port);
    let see = || nlb::see(cluster, namespace, service, policy.port);
    let start = Instant::now();
    let say = |p: nlb::Progress<'_>| {
        frame
            .screen
            .say(&format!("{name}: {} ({} s)", p.reason, p.waited.as_secs()));
    };
    let result = nlb::wait(name.as_str(), &mut watch, see, &policy, &limits, say).await;
    let mut balancer = Balancer {
        cluster: name.to_string(),
        service: watch.service(),
        ready: result.is_ok(),
        reason: None,
        hints: vec![],
        waited_seconds: start.elapsed().as_secs_f32(),
        balancer: None,
        tried: vec![],
    };
    match result {
        Ok(ready) => {
            balancer.tried = tried(session, name, &ready.hostname, policy.port).await;
            balancer.balancer = Some(ready);
        }
        Err(error @ (nlb::Error::Stuck { .. } | nlb::Error::NotInTime { .. })) => {
            balancer.hints.extend(error.hint());
            balancer.reason = Some(error.to_string());
        }
        Err(nlb::Error::See { source, .. }) => return Err(session.unanswered(&source).await),
        Err(error) => {
            let failure = Failure::failed(&error);
            return Err(error.hint().into_iter().fold(failure, Failure::hint));
        }
    }
    Ok(balancer)
}

/// Tries a gateway from its peers; from here only where no peer has a witness.
async fn tried(session: &Session, of: &ClusterName, host: &str, port: u16) -> Vec<Tried> {
    let peers = session.clusters.iter().filter(|(name, _)| *name != of);
    let tries = peers.map(|(name, cluster)| from_peer(name, cluster, host, port));
    let tries: Vec<_> = future::join_all(tries)
        .await
        .into_iter()
        .flatten()
        .collect();
    // Embedded addresses lead nowhere outside the sandbox.
    if !tries.is_empty() || session.embedded {
        return tries;
    }
    let istiod = format!(
        "outbound_.15012_._.istiod.{}.svc.cluster.local",
        session.mesh.istio.namespace
    );
    vec![dial::from_here(&session.resolver, host, port, &istiod).await]
}

/// Through a peer's witness, if one runs: during a join, and while a proof is made.
async fn from_peer(name: &ClusterName, cluster: &Cluster, host: &str, port: u16) -> Option<Tried> {
    let witness = Witness::find(cluster).await.ok()??;
    let dialed = witness.dial(host, port).await;
    let (reached, says) = match dialed {
        Ok(dialed) => (dialed == Dialed::Reached, dialed.as_str().to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Some(Tried {
        from: name.to_string(),
        reached,
        says,
        addresses: vec![],
        connected: vec![],
        tls: vec![],
    })
}

fn render(waited: &Waited, style: Style) -> String {
    let mut text = String::new();
    for b in &waited.balancers {
        let mark = match b.ready {
            true => style.green(style.symbol("✔", "ok")),
            false => style.red(style.symbol("✘", "no")),
        };
        text.push_str(&format!("{mark} {} {}", b.cluster, b.service));
        match (&b.balancer, &b.reason) {
            (Some(lb), _) => {
                let healthy = lb.targets.iter().filter(|t| t.is_healthy()).count();
                text.push_str(&format!(
                    "\n    {healthy} of {} targets healthy, {}\n",
                    lb.targets.len(),
                    lb.hostname
                ));
            }
            (None, reason) => text.push_str(&format!(
                "\n    {}\n",
                reason.as_deref().unwrap_or_default()
            )),
        }
        for t in &b.tried {
            text.push_str(&format!("    from {}: {}\n", t.from, t.says));
        }
        text.extend(
            b.hints
                .iter()
                .map(|hint| format!("    {} {hint}\n", style.cyan("hint:"))),
        );
    }
    text
}
