//! From a described cluster to a connected one.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Context, Facts, TokenSource};
use crate::{
    cluster::{
        self, Cluster, ConnectOptions,
        connect::{ContextFacts, TokenProvider, from_parts},
        identity::Token,
    },
    name::ClusterName,
};

impl From<&ContextFacts> for Context {
    fn from(facts: &ContextFacts) -> Self {
        Self {
            name: facts.name.clone(),
            cluster: facts.cluster.clone(),
            user: facts.user.clone().unwrap_or_default(),
            profile: facts
                .exec
                .as_ref()
                .and_then(|e| super::native(&e.command, &e.args, &e.env)?.profile),
        }
    }
}

impl TokenSource {
    /// As a connection wants it: asked before every request, renewed when due.
    pub(crate) fn provider(self) -> TokenProvider {
        Arc::new(move || {
            let source = self.clone();
            Box::pin(async move {
                let token = source.token().await?;
                Ok(Token::new(token.secret().to_owned()))
            })
        })
    }
}

/// Connect to an EKS cluster without a kubeconfig. Nothing is sent yet.
pub(crate) fn enter(
    facts: &Facts,
    name: &ClusterName,
    options: &ConnectOptions,
    clock: impl Fn() -> SystemTime + Send + Sync + 'static,
) -> Result<Cluster, cluster::Error> {
    let ca = STANDARD.decode(&facts.ca).unwrap_or_default();
    let token = TokenSource::new(facts, clock).provider();
    from_parts(name, &facts.endpoint, Some(&ca), None, token, options)
}
