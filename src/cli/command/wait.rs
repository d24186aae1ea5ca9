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
        error::{Exit, Failure, hinted},
        output::{Style, json::Document},
        session::{Selection, Session},
    },
    hint::Hint,
    name::ClusterName,
    verify,
    wait::Deadline,
};

mod dial;
mod peers;

/// What was waited for, cluster by cluster.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Waited {
    /// Every load balancer is ready.
    ready: bool,
    /// Each of them.
    balancers: Vec<Balancer>,
}

impl Document for Waited {
    const SCHEMA: &'static str = "wait-nlb";
}

/// The load balancer of one gateway.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Balancer {
    /// The cluster.
    cluster: String,
    /// Namespace and name of the Service.
    service: String,
    /// It carries traffic: by its targets' health, and by every peer's probe that runs.
    ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What to do about it.
    hints: Vec<Hint>,
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
    /// From where: a peer, through its probe, or this machine where no probe runs.
    from: String,
    /// The name resolves and 15443 takes connections there.
    reached: bool,
    /// What came of it, in words; of TLS address by address, or why there was only TCP.
    says: String,
    /// Addresses the name gives on this machine.
    addresses: Vec<String>,
    /// Those of them that took a connection; told of this machine alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connected: Vec<String>,
    /// Those of them that spoke TLS: from a peer, the handshake was done with the certificate of the mesh.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls: Vec<String>,
}

/// Waits for the gateways' load balancers: 0 once all are ready, else 4.
pub(crate) async fn nlb(args: WaitNlb, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    session.link.ensure_this_mesh().await?;
    let members: Vec<ClusterName> = match args.clusters.as_slice() {
        [] => session.link.clusters.keys().cloned().collect(),
        _ => session.named.clone(),
    };
    let wait = members.iter().map(|name| one(&session, name, &args, frame));
    let all = future::join_all(wait);
    let balancers = tokio::select! {
        balancers = all => balancers,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    let (blind, balancers): (Vec<_>, Vec<_>) = balancers.into_iter().partition(Result::is_err);
    if let Some(failure) = blind
        .into_iter()
        .filter_map(Result::err)
        .reduce(Failure::and)
    {
        return Err(failure);
    }
    let mut balancers: Vec<Balancer> = balancers.into_iter().flatten().collect();
    let strangers = session.strangers.iter();
    balancers.extend(strangers.map(|name| no_member(&session, name)));
    let hints = balancers.iter_mut().map(|b| &mut b.hints);
    hints.for_each(|hints| frame.hints.settle(hints));
    let waited = Waited {
        ready: !balancers.is_empty() && balancers.iter().all(|b| b.ready),
        balancers,
    };
    frame.screen.show(&waited, |style| render(&waited, style))?;
    Ok(if waited.ready {
        Exit::Done
    } else {
        Exit::NotInTime
    })
}

/// There is no gateway of a cluster that is no member.
fn no_member(session: &Session, name: &ClusterName) -> Balancer {
    let mesh = session.link.mesh();
    let (namespace, service) = (&mesh.gateway.namespace, &mesh.gateway.name);
    Balancer {
        cluster: name.to_string(),
        service: format!("{namespace}/{service}"),
        ready: false,
        reason: Some(verify::no_member(name, &mesh.id, &mesh.members())),
        hints: vec![Hint::join_again([name])],
        waited_seconds: 0.0,
        balancer: None,
        tried: vec![],
    }
}

async fn one(
    session: &Session,
    name: &ClusterName,
    args: &WaitNlb,
    frame: &Frame,
) -> Result<Balancer, Failure> {
    let cluster = &session.link.clusters[name];
    let gateway = &session.link.mesh.gateway;
    let (namespace, service) = (gateway.namespace.as_str(), gateway.name.as_str());
    let policy = nlb::Policy {
        all_targets: args.all_targets,
        ..nlb::Policy::default()
    };
    let deadline = Deadline::after(args.target.timeout);
    let mut watch = session
        .link
        .aws
        .watch(name, (namespace, service), policy.port);
    let see = || nlb::see(cluster, namespace, service, policy.port);
    let start = Instant::now();
    let say = |reason: &str| {
        let waited = start.elapsed().as_secs();
        frame.screen.say(&format!("{name}: {reason} ({waited} s)"));
    };
    let of = name.as_str();
    let result = nlb::wait(of, &mut watch, see, &policy, deadline, nlb::PACE, say).await;
    let mut balancer = Balancer {
        cluster: name.to_string(),
        service: watch.service().to_string(),
        ready: result.is_ok(),
        reason: None,
        hints: vec![],
        waited_seconds: start.elapsed().as_secs_f32(),
        balancer: None,
        tried: vec![],
    };
    match result {
        Ok(ready) => {
            let gate = peers::Gate {
                link: &session.link,
                of: name,
                host: &ready.hostname,
                port: policy.port,
                deadline,
                screen: &frame.screen,
            };
            let (tried, lacks) = gate.tried().await;
            balancer.tried = tried;
            balancer.ready = lacks.is_empty();
            for lack in lacks {
                balancer.reason.get_or_insert(lack.reason);
                balancer.hints.extend(lack.hints);
            }
            balancer.balancer = Some(ready);
            balancer.waited_seconds = start.elapsed().as_secs_f32();
        }
        Err(error @ (nlb::Error::Stuck { .. } | nlb::Error::NotInTime { .. })) => {
            balancer.hints.extend(error.hint());
            balancer.reason = Some(error.to_string());
        }
        Err(nlb::Error::See { source, .. }) => return Err(session.link.unanswered(&source).await),
        Err(error) => {
            let failure = Failure::failed(&error);
            return Err(error.hint().into_iter().fold(failure, Failure::hint));
        }
    }
    Ok(balancer)
}

fn render(waited: &Waited, style: Style) -> String {
    let mut text = String::new();
    for b in &waited.balancers {
        let mark = match b.ready {
            true => style.green(style.symbol("✔", "ok")),
            false => style.red(style.symbol("✘", "no")),
        };
        text.push_str(&format!("{mark} {} {}", b.cluster, b.service));
        text.push('\n');
        if let Some(lb) = &b.balancer {
            let healthy = lb.targets.iter().filter(|t| t.is_healthy()).count();
            let (all, host) = (lb.targets.len(), &lb.hostname);
            text.push_str(&format!("    {healthy} of {all} targets healthy, {host}\n"));
        }
        let reason = b.reason.iter().map(|reason| format!("    {reason}\n"));
        text.extend(reason);
        for t in &b.tried {
            text.push_str(&format!("    from {}: {}\n", t.from, t.says));
        }
        for hint in &b.hints {
            hinted(&mut text, style, "    ", hint);
        }
    }
    text
}
