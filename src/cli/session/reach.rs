//! The way to one cluster: by context, or by what EKS says of it.

use std::{collections::BTreeMap, time::Duration};

use futures::future;
use tokio::time::{Instant, timeout_at};

use super::members;
use crate::{
    aws::{Aws, Identity, eks},
    cli::{
        Frame,
        error::{Exit, Failure},
    },
    cluster::{self, Cluster, ConnectOptions, connect, failure},
    hint::Hint,
    name::ClusterName,
    plan::Refusal,
    spec::{Member, Mesh, Reach},
};

/// Why there is no way to a cluster.
#[derive(Debug)]
pub(super) enum Unreached {
    /// What EKS says, or that it cannot be asked.
    Eks(eks::Error),
    /// What the kubeconfig says.
    Cluster(cluster::Error),
}

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Eks(error) => {
                let failure = Self::failed(&error);
                error.hint().into_iter().fold(failure, Self::hint)
            }
            Unreached::Cluster(error) => {
                let failure = Self::failed(&error);
                error.hint().into_iter().fold(failure, Self::hint)
            }
        }
    }
}

/// Connects to one cluster, by context or by what EKS says of it.
pub(super) async fn reach(
    name: &ClusterName,
    reach: &Reach,
    aws: &Aws,
    options: &ConnectOptions,
) -> Result<Cluster, Unreached> {
    let resolved = match reach {
        Reach::Context(context) => eks::Resolved::Context(context.clone()),
        Reach::Auto(text) => {
            let contexts = connect::contexts(options).unwrap_or_default();
            // A context by that very name needs nothing of AWS.
            if contexts.iter().any(|c| c.name == *text) {
                eks::Resolved::Context(text.clone())
            } else {
                let contexts: Vec<_> = contexts.iter().map(eks::Context::from).collect();
                let who = Identity::default();
                let found = eks::resolve(aws, &who, text, &BTreeMap::new(), &contexts).await;
                found.map_err(Unreached::Eks)?
            }
        }
        Reach::Eks(cluster) => {
            let who = Identity {
                profile: cluster.profile.clone(),
                role_arn: cluster.role_arn.clone(),
                external_id: cluster.external_id.clone(),
            };
            let text = members::eks_text(cluster);
            let found = eks::resolve(aws, &who, &text, &BTreeMap::new(), &[]).await;
            found.map_err(Unreached::Eks)?
        }
    };
    let clock = || std::time::SystemTime::from(jiff::Timestamp::now());
    match resolved {
        eks::Resolved::Context(context) => connected(name, &context, aws, options).await,
        eks::Resolved::Eks(facts) => eks::enter(&facts, name, options, clock),
    }
    .map_err(Unreached::Cluster)
}

/// Connects to a kubeconfig context. A program that would sign an EKS token is not run: it is signed here.
async fn connected(
    name: &ClusterName,
    context: &str,
    aws: &Aws,
    options: &ConnectOptions,
) -> Result<Cluster, cluster::Error> {
    match tokens(context, aws, options).await {
        Some(token) => connect::connect_as(name, context, token, options).await,
        None => connect::connect(name, context, options).await,
    }
}

/// The tokens a context's program would sign, where it is one of AWS's and there are credentials for them.
async fn tokens(
    context: &str,
    aws: &Aws,
    options: &ConnectOptions,
) -> Option<connect::TokenProvider> {
    let contexts = connect::contexts(options).ok()?;
    let facts = contexts.into_iter().find(|c| c.name == context)?;
    let exec = facts.exec.as_ref()?;
    let minted = eks::native(&exec.command, &exec.args, &exec.env)?;
    let place = eks::place_of(&eks::Context::from(&facts));
    let region = minted.region.clone().or(place.map(|p| p.region));
    let session = aws.session(&minted.identity(), region.as_deref()).await?;
    let source = eks::TokenSource::for_id(&minted.id, &minted.id, session, || {
        jiff::Timestamp::now().into()
    });
    // Where there are none here, the program may know of others.
    source.token().await.ok()?;
    Some(source.provider())
}

/// Refuses to take a member for dead that answers, or of which it cannot be told.
pub(super) async fn buried(
    mesh: &Mesh,
    dead: &[ClusterName],
    frame: &Frame,
    options: &ConnectOptions,
) -> Result<(), Failure> {
    let said = mesh.clusters.iter().filter(|m| dead.contains(&m.name));
    let asked = said.map(|member| alive(member, frame, options));
    let mut failures = future::join_all(asked).await.into_iter().flatten();
    let first = failures.next();
    first.map_or(Ok(()), |first| Err(failures.fold(first, Failure::and)))
}

/// How long a member that was said to be dead may take to show that it is not.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long it is told that it is waited for.
const SOON: Duration = Duration::from_secs(1);

/// What a member answers, whatever it is; nothing if it is silent for as long as is waited.
async fn sign_of_life(cluster: &Cluster, frame: &Frame) -> Option<Result<(), cluster::Error>> {
    let (name, start) = (cluster.name(), Instant::now());
    // What needs no right and no storage behind the API server.
    let mut asked = Box::pin(async { cluster.version().await.map(drop) });
    if let Ok(said) = timeout_at(start + SOON, &mut asked).await {
        return Some(said);
    }
    let limit = PATIENCE.as_secs();
    frame.screen.say(&format!(
        "pending: {name}: no sign of life so far; it is asked for up to {limit} s"
    ));
    let said = timeout_at(start + PATIENCE, asked).await.ok();
    if said.is_none() {
        let text = format!("{name}: no answer in {limit} s, so it is taken for dead");
        frame.screen.say(&text);
    }
    said
}

/// Why a member cannot be taken for dead, if it cannot.
async fn alive(member: &Member, frame: &Frame, options: &ConnectOptions) -> Option<Failure> {
    let name = &member.name;
    let unsure = |failure: Failure| {
        let hint = Hint::meshlink(["status", name.as_str()]);
        Some(failure.hint(hint.remark("--dead is for a cluster that is known to be gone")))
    };
    let cluster = match reach(name, &member.reach, &frame.aws, options).await {
        Ok(cluster) => cluster,
        Err(Unreached::Eks(eks::Error::NotFound { .. }))
        | Err(Unreached::Cluster(cluster::Error::NoContext { .. })) => return None,
        Err(unreached) => return unsure(unreached.into()),
    };
    let error = match sign_of_life(&cluster, frame).await? {
        Ok(_) => return Some(answers(name, cluster.server())),
        Err(error) => error,
    };
    match error.failure() {
        Some(cluster::Failure::Status { .. } | cluster::Failure::Answer(_)) => {
            Some(answers(name, cluster.server()))
        }
        Some(cluster::Failure::Transport { kind, .. })
            if *kind == failure::Transport::Credentials =>
        {
            unsure(Failure::failed(&error))
        }
        Some(_) => None,
        None => unsure(Failure::failed(&error)),
    }
}

fn answers(name: &ClusterName, server: &str) -> Failure {
    let reason = format!("answers at {server}, so it is not dead: it can leave like any other");
    let refusal = Refusal {
        cluster: Some(name.clone()),
        reason,
        hints: vec![],
    };
    Failure::new(Exit::Refused, &refusal).hint(Hint::meshlink(["leave", name.as_str()]))
}
