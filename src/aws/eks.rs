//! EKS: which cluster a name means, where it is, and tokens for it.
//!
//! A bare name is looked up in this order, and the first hit wins ([`find`]):
//!
//! 1. a name of the owner's own (an alias),
//! 2. a kubeconfig context of exactly that name,
//! 3. a context whose cluster is an EKS ARN ending `:cluster/NAME`, or eksctl's `NAME.REGION.eksctl.io`,
//! 4. an EKS ARN,
//! 5. `REGION/NAME`, else `NAME` in the default region.
//!
//! Two hits of the same rank are an error that lists both; `id=NAME` settles it.

mod authorities;
mod describe;
mod enter;
mod entry;
mod exec;
mod find;
#[cfg(all(test, feature = "sandbox"))]
mod tests;
mod token;
mod twins;

pub(crate) use authorities::successor;
pub(crate) use describe::{AuthMode, Facts, describe};
pub(crate) use enter::enter;
pub(crate) use entry::{Barrier, caller, ways_in};
pub(crate) use exec::native;
pub(crate) use find::{Context, Found, Place, find, place_of};
pub(crate) use token::TokenSource;
#[cfg(any(test, feature = "measure"))]
pub(crate) use token::mint;
pub(crate) use twins::twins;

use super::{Aws, Identity, call};
use crate::hint::Hint;

/// What went wrong with a cluster's name, its description or its token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Several clusters answer to the name.
    #[error("{text:?} matches several contexts: {}", candidates.join(", "))]
    Ambiguous {
        /// As it was asked.
        text: String,
        /// Names that say exactly one.
        candidates: Vec<String>,
    },
    /// No context of that name, and no region to look in.
    #[error("no kubeconfig context is called {text:?}, and there is no AWS region to look in")]
    NoRegion {
        /// As it was asked.
        text: String,
    },
    /// Not a name that could be a cluster's.
    #[error("{text:?} is neither a kubeconfig context nor a name an EKS cluster can have")]
    NotAName {
        /// As it was asked.
        text: String,
        /// Contexts there are.
        contexts: Vec<String>,
    },
    /// An ARN that is not an EKS cluster's.
    #[error("{text} is not the ARN of an EKS cluster (arn:aws:eks:REGION:ACCOUNT:cluster/NAME)")]
    NotACluster {
        /// As it was asked.
        text: String,
    },
    /// The region does not know the cluster.
    #[error("there is no EKS cluster {name} in {region}{}", listed(there))]
    NotFound {
        /// The cluster's name.
        name: String,
        /// Where it was looked for.
        region: String,
        /// Clusters that are there, if we may list them.
        there: Vec<String>,
    },
    /// Another account than the ARN says.
    #[error("{asked} was asked for, but these credentials see {found}")]
    OtherAccount {
        /// The ARN as asked.
        asked: String,
        /// The ARN as answered.
        found: String,
    },
    /// The cluster cannot be used now.
    #[error("EKS cluster {name} in {region} is {status}, not ACTIVE")]
    NotActive {
        /// The cluster's name.
        name: String,
        /// Its region.
        region: String,
        /// What EKS says.
        status: String,
    },
    /// EKS left out something a cluster cannot be used without.
    #[error("EKS describes cluster {name} in {region} without its {missing}")]
    Incomplete {
        /// The cluster's name.
        name: String,
        /// Its region.
        region: String,
        /// The missing part.
        missing: &'static str,
    },
    /// Two names mean the same cluster.
    #[error("{first} and {second} are one and the same cluster (both are {server})")]
    Twins {
        /// One name.
        first: String,
        /// The other.
        second: String,
        /// The address both have.
        server: String,
    },
    /// A call to AWS failed.
    #[error("could not ask AWS about {cluster}")]
    Call {
        /// The cluster it was about.
        cluster: String,
        /// The profile used, for the hint.
        profile: Option<String>,
        /// The call.
        #[source]
        source: Box<call::Error>,
    },
    /// The token could not be signed.
    #[error("could not sign a token for {cluster}: {reason}")]
    Sign {
        /// The cluster it was for.
        cluster: String,
        /// What the signer said.
        reason: String,
    },
}

fn listed(there: &[String]) -> String {
    if there.is_empty() {
        String::new()
    } else {
        format!(" (there are: {})", there.join(", "))
    }
}

impl Error {
    /// What to type next.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Ambiguous { text, candidates } => candidates.first().map(|one| {
                let name = id_of(text);
                Hint::note(format!("name one of them: {name}={one}"))
            }),
            Self::NoRegion { text } => Some(Hint::note(format!(
                "write the region: {}=eu-west-1/{text}, or set AWS_REGION",
                id_of(text)
            ))),
            Self::NotAName { contexts, .. } if contexts.is_empty() => {
                Some(Hint::command(["kubectl", "config", "get-contexts"]))
            }
            Self::NotAName { contexts, .. } => {
                let contexts = contexts.join(", ");
                Some(Hint::note(format!(
                    "the kubeconfig has the contexts {contexts}"
                )))
            }
            Self::NotFound { name, .. } => Some(Hint::note(format!(
                "another region or account? write REGION/{name}, or set AWS_PROFILE; to see what is there: aws eks list-clusters --region REGION"
            ))),
            Self::OtherAccount { .. } => Some(Hint::command(["aws", "sts", "get-caller-identity"])),
            Self::NotActive {
                name,
                region,
                status,
            } if status == "CREATING" => {
                let words = ["aws", "eks", "wait", "cluster-active", "--name", name];
                Some(Hint::command(words.into_iter().chain(["--region", region])))
            }
            Self::NotActive { name, region, .. } => {
                let words = ["aws", "eks", "describe-cluster", "--name", name];
                let of = ["--region", region, "--query", "cluster.health"];
                Some(Hint::command(words.into_iter().chain(of)))
            }
            Self::Call {
                source, profile, ..
            } => source.hint(profile.as_deref()),
            Self::Twins { second, .. } => Some(Hint::note(format!(
                "leave {second} out, or correct what it points to"
            ))),
            Self::NotACluster { .. } | Self::Incomplete { .. } | Self::Sign { .. } => None,
        }
    }
}

/// The last word of a name, fit to be a mesh's name for the cluster.
fn id_of(text: &str) -> &str {
    text.rsplit(['/', '@', ':']).next().unwrap_or(text)
}

/// What a name turned out to be.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    /// A kubeconfig context, by its exact name.
    Context(String),
    /// An EKS cluster, described; no kubeconfig is needed for it.
    Eks(Box<Facts>),
}

/// Find the cluster a name means, asking EKS where no context has it.
pub(crate) async fn resolve(
    aws: &Aws,
    who: &Identity,
    text: &str,
    aliases: &std::collections::BTreeMap<String, String>,
    contexts: &[Context],
) -> Result<Resolved, Error> {
    let default_region = match &aws.env().region {
        Some(region) => Some(region.clone()),
        None if find::needs_region(text, aliases, contexts) => aws
            .session(who, None)
            .await
            .map(|session| session.region().to_owned()),
        None => None,
    };
    match find(text, aliases, contexts, default_region.as_deref())? {
        Found::Context(name) => Ok(Resolved::Context(name)),
        Found::Eks(place) => Ok(Resolved::Eks(Box::new(describe(aws, who, &place).await?))),
    }
}
