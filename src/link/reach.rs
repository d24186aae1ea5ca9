//! The way to one cluster: by context, or by what EKS says of it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures::future;
use tokio::time::{Instant, timeout_at};

use super::{
    Environment,
    environment::Sandbox,
    failure::{Failure, Kind},
    look::refused,
    record,
};
use crate::{
    aws::{Aws, Identity, eks},
    cluster::{
        self, Cluster, ConnectOptions,
        connect::{self, ContextFacts, Kubeconfig},
        failure,
    },
    engine::Clock,
    hint::Hint,
    name::ClusterName,
    observe::Unreachable,
    plan::Refusal,
    spec::{Member, Mesh, Reach},
};

/// Why there is no way to a cluster.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// What EKS says, or that it cannot be asked.
    Eks(eks::Error),
    /// What the kubeconfig says.
    Cluster(cluster::Error),
    /// Only embedded clusters are meant, and none is called so.
    NotEmbedded {
        /// As it was asked.
        text: String,
        /// Those that there are.
        there: Vec<String>,
    },
}

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Eks(error) => {
                let failure = Self::failed(&error);
                error.hint().into_iter().fold(failure, Self::hint)
            }
            Unreached::Cluster(error) => {
                use cluster::Error::{Context, Kubeconfig, NoContext, NoKubeconfig};
                let kind = match &error {
                    Kubeconfig { .. } | NoKubeconfig { .. } => Kind::Usage,
                    NoContext { .. } | Context { .. } => Kind::Usage,
                    _ => Kind::Failed,
                };
                let failure = Self::new(kind, &error);
                error.hint().into_iter().fold(failure, Self::hint)
            }
            Unreached::NotEmbedded { text, there } => {
                let there = there.join(", ");
                let text = format!("no embedded cluster is called {text:?}: there are {there}");
                Self::usage(text)
            }
        }
    }
}

/// The members that were connected to, and those there is no way to.
type Connected = (
    BTreeMap<ClusterName, Cluster>,
    BTreeMap<ClusterName, Unreachable>,
);

/// Finds clusters by their names: by the kubeconfig and AWS, each of them read once.
pub(crate) struct Finder {
    options: ConnectOptions,
    kubeconfig: Option<Kubeconfig>,
    contexts: Vec<ContextFacts>,
    /// The API servers of the embedded clusters, each with its CA; and whether only these are meant.
    embedded: Vec<(String, Option<Vec<u8>>)>,
    only: bool,
    aws: Aws,
    clock: Clock,
}

impl Finder {
    /// Reads the kubeconfig. One that cannot be read is missed only by those who need it.
    pub(crate) fn new(environment: &Environment) -> Self {
        let kubeconfig = Kubeconfig::read(&environment.connect.kubeconfig).ok();
        let sandbox = environment.sandbox.as_ref();
        let of_sandbox = |s: &Sandbox| Kubeconfig::read(std::slice::from_ref(&s.kubeconfig)).ok();
        let of_sandbox = sandbox.and_then(of_sandbox);
        Self {
            embedded: of_sandbox.iter().flat_map(Kubeconfig::servers).collect(),
            only: sandbox.is_some_and(|s| s.only),
            contexts: kubeconfig.iter().flat_map(Kubeconfig::contexts).collect(),
            kubeconfig,
            options: environment.connect.clone(),
            aws: environment.aws.clone(),
            clock: environment.clock.clone(),
        }
    }

    /// The kubeconfig's contexts, as AWS looks at them.
    pub(crate) fn eks_contexts(&self) -> Vec<eks::Context> {
        self.contexts.iter().map(eks::Context::from).collect()
    }

    #[cfg(feature = "cli")]
    pub(super) fn aws(&self) -> &Aws {
        &self.aws
    }

    fn kubeconfig(&self) -> Result<Cow<'_, Kubeconfig>, cluster::Error> {
        match &self.kubeconfig {
            Some(read) => Ok(Cow::Borrowed(read)),
            // Read again to say what is wrong with it.
            None => Kubeconfig::read(&self.options.kubeconfig).map(Cow::Owned),
        }
    }

    /// Connects to members, side by side. If that fails for all of them, every failure is told, not only the first.
    pub(super) async fn resolve(
        &self,
        members: impl Iterator<Item = &Member>,
    ) -> Result<Connected, Failure> {
        let one = |member: &Member| {
            let member = member.clone();
            async move {
                let reached = self.reach(&member.name, &member.reach).await;
                (member.name, reached.map_err(Failure::from))
            }
        };
        let results = future::join_all(members.map(one)).await;
        let (mut connected, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (name, result) in results {
            match result {
                Ok(cluster) => drop(connected.insert(name, cluster)),
                Err(failure) => drop(failed.insert(name, failure)),
            }
        }
        if connected.is_empty() && !failed.is_empty() {
            let all = failed.into_values().reduce(|all, other| {
                // A kubeconfig that cannot be read is one problem, however many it was read for.
                match all.errors == other.errors {
                    true => all,
                    false => all.and(other),
                }
            });
            return Err(all.unwrap_or_else(|| Failure::usage("no cluster is named")));
        }
        eks::twins(connected.values()).map_err(|e| {
            let failure = Failure::new(Kind::Refused, &e);
            e.hint().into_iter().fold(failure, Failure::hint)
        })?;
        let unreachable = failed.into_iter().map(|(name, failure)| {
            let unknown = failure.kind == Kind::Usage;
            let problems = failure.errors.into_iter();
            let (why, hints): (Vec<_>, Vec<_>) = problems.map(|p| (p.causes, p.hints)).unzip();
            let unreachable = Unreachable {
                unknown,
                ..Unreachable::without_a_way(&name, why.concat(), hints.concat())
            };
            (name, unreachable)
        });
        Ok((connected, unreachable.collect()))
    }

    /// What holds for these members, of which each is found to be embedded or not by its API server.
    pub(super) fn settle(
        &self,
        environment: Environment,
        clusters: &BTreeMap<ClusterName, Cluster>,
    ) -> Result<Environment, Failure> {
        let is_embedded = |cluster: &Cluster| {
            let mut servers = self.embedded.iter();
            servers.any(|(at, ca)| at == cluster.server() && ca.as_deref() == cluster.ca())
        };
        let (embedded, real): (Vec<_>, Vec<_>) = clusters
            .keys()
            .partition(|name| clusters.get(*name).is_some_and(is_embedded));
        let settled = environment.for_members(&embedded, &real);
        settled.map_err(|refusal| refused(vec![refusal]))
    }

    /// Connects to one cluster, by context or by what EKS says of it.
    pub(super) async fn reach(
        &self,
        name: &ClusterName,
        reach: &Reach,
    ) -> Result<Cluster, Unreached> {
        let resolved = match reach {
            Reach::Context(context) => eks::Resolved::Context(context.clone()),
            // A context by that very name needs nothing of AWS.
            Reach::Auto(text) if self.contexts.iter().any(|c| c.name == *text) => {
                eks::Resolved::Context(text.clone())
            }
            Reach::Auto(text) => self.by_name(text).await?,
            Reach::Eks(cluster) => {
                let who = Identity {
                    profile: cluster.profile.clone(),
                    role_arn: cluster.role_arn.clone(),
                    external_id: cluster.external_id.clone(),
                };
                let text = record::eks_text(cluster);
                let found = eks::resolve(&self.aws, &who, &text, &BTreeMap::new(), &[]).await;
                found.map_err(|error| self.unresolved(&text, error))?
            }
        };
        match resolved {
            eks::Resolved::Context(context) => self.connected(name, &context).await,
            eks::Resolved::Eks(facts) => eks::enter(&facts, name, &self.options, self.now()),
        }
        .map_err(Unreached::Cluster)
    }

    /// What a name means that is no context's own: an EKS cluster, of a context or of AWS. Of AWS nothing is said to
    /// those who never spoke of it.
    async fn by_name(&self, text: &str) -> Result<eks::Resolved, Unreached> {
        let names_aws = text.starts_with("arn:") || text.contains('/');
        let unread = match self.kubeconfig() {
            Ok(_) => None,
            Err(error @ cluster::Error::NoKubeconfig { .. }) => Some(error),
            // What it would have said is not known, so nothing else may be meant.
            Err(error) if !names_aws => return Err(Unreached::Cluster(error)),
            Err(_) => None,
        };
        let (who, contexts) = (Identity::default(), self.eks_contexts());
        let found = eks::resolve(&self.aws, &who, text, &BTreeMap::new(), &contexts).await;
        let env = self.aws.env();
        let speaks_of_aws =
            names_aws || env.region.is_some() || env.profile.is_some() || env.keys.is_some();
        match (found, unread) {
            (Err(eks::Error::NoRegion { .. } | eks::Error::NotAName { .. }), unread)
                if !speaks_of_aws && !self.only =>
            {
                Err(Unreached::Cluster(match (unread, &self.kubeconfig) {
                    (Some(error), _) => error,
                    (None, Some(kubeconfig)) => kubeconfig.lacks(text),
                    (None, None) => cluster::Error::NoKubeconfig {
                        path: String::new(),
                    },
                }))
            }
            (found, _) => found.map_err(|error| self.unresolved(text, error)),
        }
    }

    /// Where only embedded clusters are meant, nobody else is spoken of.
    fn unresolved(&self, text: &str, error: eks::Error) -> Unreached {
        match error {
            eks::Error::NotFound { .. } | eks::Error::NotAName { .. } if self.only => {
                Unreached::NotEmbedded {
                    text: text.to_owned(),
                    there: self.contexts.iter().map(|c| c.name.clone()).collect(),
                }
            }
            error => Unreached::Eks(error),
        }
    }

    /// Connects to a kubeconfig context. A program that would sign an EKS token is not run: it is signed here.
    async fn connected(
        &self,
        name: &ClusterName,
        context: &str,
    ) -> Result<Cluster, cluster::Error> {
        let kubeconfig = self.kubeconfig()?;
        match self.tokens(context).await {
            Some(token) => {
                connect::connect_as(name, context, &kubeconfig, token, &self.options).await
            }
            None => connect::connect(name, context, &kubeconfig, &self.options).await,
        }
    }

    /// The tokens a context's program would sign, where it is one of AWS's and there are credentials for them.
    async fn tokens(&self, context: &str) -> Option<connect::TokenProvider> {
        let facts = self.contexts.iter().find(|c| c.name == context)?;
        let exec = facts.exec.as_ref()?;
        let minted = eks::native(&exec.command, &exec.args, &exec.env)?;
        let place = eks::place_of(&eks::Context::from(facts));
        let region = minted.region.clone().or(place.map(|p| p.region));
        let who = minted.identity();
        let session = self.aws.session(&who, region.as_deref());
        let source = eks::TokenSource::for_id(&minted.id, &minted.id, session.await?, self.now());
        // Where there are none here, the program may know of others.
        source.token().await.ok()?;
        Some(source.provider())
    }

    /// The clock, as AWS reads it.
    fn now(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let clock = self.clock.clone();
        move || clock().into()
    }

    /// Refuses to take a member for dead that answers, or of which it cannot be told.
    pub(super) async fn ensure_dead(
        &self,
        mesh: &Mesh,
        dead: &[ClusterName],
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Failure> {
        let said = mesh.clusters.iter().filter(|m| dead.contains(&m.name));
        let asked = said.map(|member| self.alive(member, say));
        let mut failures = future::join_all(asked).await.into_iter().flatten();
        let first = failures.next();
        first.map_or(Ok(()), |first| Err(failures.fold(first, Failure::and)))
    }

    /// Why a member cannot be taken for dead, if it cannot.
    async fn alive(&self, member: &Member, say: &(dyn Fn(&str) + Send + Sync)) -> Option<Failure> {
        let name = &member.name;
        let unsure = |failure: Failure| {
            let hint = Hint::meshlink(["status", name.as_str()]);
            Some(failure.hint(hint.remark("--dead is for a cluster that is known to be gone")))
        };
        let cluster = match self.reach(name, &member.reach).await {
            Ok(cluster) => cluster,
            Err(Unreached::Eks(eks::Error::NotFound { .. }) | Unreached::NotEmbedded { .. })
            | Err(Unreached::Cluster(cluster::Error::NoContext { .. })) => return None,
            Err(unreached) => return unsure(unreached.into()),
        };
        let error = match sign_of_life(&cluster, say).await? {
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
}

/// How long a member that was said to be dead may take to show that it is not.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long it is told that it is waited for.
const SOON: Duration = Duration::from_secs(1);

/// What a member answers, whatever it is; nothing if it is silent for as long as is waited.
async fn sign_of_life(
    cluster: &Cluster,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Option<Result<(), cluster::Error>> {
    let (name, start) = (cluster.name(), Instant::now());
    // What needs no right and no storage behind the API server.
    let mut asked = Box::pin(async { cluster.version().await.map(drop) });
    if let Ok(said) = timeout_at(start + SOON, &mut asked).await {
        return Some(said);
    }
    let limit = PATIENCE.as_secs();
    say(&format!(
        "pending: {name}: no answer yet; giving up after {limit} s"
    ));
    let said = timeout_at(start + PATIENCE, asked).await.ok();
    let silent = |e: &cluster::Error| matches!(e.failure(), Some(cluster::Failure::Timeout(_)));
    let said = said.filter(|said| !said.as_ref().is_err_and(silent));
    if said.is_none() {
        let text = format!("{name}: no answer within {limit} s, so it is treated as dead");
        say(&text);
    }
    said
}

fn answers(name: &ClusterName, server: &str) -> Failure {
    let reason = format!("answers at {server}, so it is not dead: it can leave like any other");
    let refusal = Refusal {
        cluster: Some(name.clone()),
        reason,
        hints: vec![],
    };
    Failure::new(Kind::Refused, &refusal).hint(Hint::meshlink(["leave", name.as_str()]))
}
