//! An emulated AWS that is served, and a client side that talks to it.

use std::time::Duration;

use aws_credential_types::Credentials;
use istio_sandbox::aws::{Server, Shared, State, serve, testing::REGION};
use tokio::net::TcpListener;

use crate::aws::{Aws, Env, rate::Pace};

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
