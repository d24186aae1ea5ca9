//! For unit tests: an emulated AWS that is served, and a client side that talks to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use tokio::net::TcpListener;

use super::{Clock, Cluster, Server, Shared, State, serve};
use crate::aws::{Aws, Env, rate::Pace};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "eu-west-1";

/// The real time; signatures need it.
pub(crate) fn now() -> SystemTime {
    jiff::Timestamp::now().into()
}

/// A clock that a test moves along, on top of the real one.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicU64>);

impl Ahead {
    pub(crate) fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::new(move || now() + Duration::from_millis(ahead.load(Ordering::Relaxed)))
    }

    pub(crate) fn by(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// The emulated AWS with one user, one cluster `eks-1`, and no throttling.
pub(crate) fn state() -> State {
    let mut state = State::new(Clock::new(now));
    state.limit = None;
    state.admit("AKID", "secret", &format!("arn:aws:iam::{ACCOUNT}:user/me"));
    let arn = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/eks-1");
    state
        .clusters
        .push(Cluster::new(&arn, "https://api.eks-1.test", "Q0E="));
    state
}

/// Serve it, and the client side with its keys.
pub(crate) async fn served(state: State) -> (Shared, Server, Aws) {
    let shared = Shared::new(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(listener, shared.clone()).unwrap();
    let aws = client(&server, "AKID", "secret");
    (shared, server, aws)
}

/// A client side with keys of its own.
pub(crate) fn client(server: &Server, id: &str, secret: &str) -> Aws {
    Aws::new(Env {
        region: Some(REGION.into()),
        keys: Some(Credentials::new(id, secret, None, None, "test")),
        endpoints: [(None, server.url())].into(),
        ..Env::default()
    })
    .with_pace(Pace {
        period: Duration::from_micros(100),
        burst: 1000,
    })
}
