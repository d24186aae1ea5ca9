//! The AWS around real clusters that are no EKS clusters: a laboratory's.
//!
//! The laboratory's own cloud carries the packets: it has the addresses, the names and the ways to the nodes, and it
//! tells over HTTP which clusters, Services and load balancers there are (`told`). This makes EKS clusters of the
//! clusters (`member`), plays the load-balancer controller in them, describes the load balancers as ELB does, with
//! targets that are really tried from inside their VPC (`targets`, `describe`), and judges EKS tokens for their API
//! servers (`POST /authenticate/CLUSTER`, a `TokenReview`).

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use super::{Clock, Server, Shared, State, serve};
use crate::world::ACCOUNT;

mod describe;
mod follow;
mod member;
mod targets;
mod told;

/// Why the cloud could not be raised, or a cluster not be taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot listen where it should.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cluster could not be read.
    #[error("cannot read {cluster}")]
    Read {
        /// Which.
        cluster: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The controller's kind of object could not be put into a cluster.
    #[error("cannot install the controller in {cluster}")]
    Install {
        /// Where.
        cluster: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A cluster is not yet what EKS clusters are.
    #[error("{cluster} {what}")]
    NotYet {
        /// Which.
        cluster: String,
        /// What it lacks.
        what: &'static str,
    },
}

/// What to raise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where AWS answers.
    pub listen: SocketAddr,
    /// Where the laboratory's cloud tells what there is, for example `http://198.18.0.1:8081`.
    pub laboratory: String,
    /// The access key that is let in.
    pub key: (String, String),
    /// The user it belongs to.
    pub user: String,
}

impl Options {
    /// The ARN of the user who is let in, which is also his name to the clusters.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:user/{}", self.user)
    }
}

/// A running cloud; it ends when this is dropped.
#[derive(Debug)]
pub struct Cloud {
    server: Server,
    task: tokio::task::AbortHandle,
}

impl Cloud {
    /// What `AWS_ENDPOINT_URL` is to be.
    pub fn url(&self) -> String {
        self.server.url()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Raise it.
pub async fn raise(options: Options) -> Result<Cloud, Error> {
    let mut state = State::new(Clock::new(|| crate::now().into()));
    let (id, secret) = &options.key;
    state.admit(id, secret, &options.arn());
    let state = Shared::new(state);
    let address = options.listen;
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let server = serve(listener, state.clone()).map_err(listen)?;
    let follow = follow::Follow::new(&options.laboratory, state);
    Ok(Cloud {
        server,
        task: tokio::spawn(follow.run()).abort_handle(),
    })
}
