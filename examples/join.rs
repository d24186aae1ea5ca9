//! Joins two clusters through the library, as `meshlink join` does: look, plan, do, look again.
//!
//! The clusters are embedded ones, so this runs anywhere: `cargo run --example join`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, sync::Arc};

use meshlink::{
    Agreed, Change, Environment, Event, Meshlink,
    sandbox::{Options, Sandbox},
    spec::Mesh,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One TLS stack for everything; a second call would only say that there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir()?;
    let sandbox = Sandbox::start(Options::count(2, folder.path())).await?;

    let mesh = Mesh::named(&["eks-1".into(), "eks-2".into()])?;
    let environment = Environment::of_sandbox(sandbox.endpoints(), now);
    let link = Meshlink::open(mesh, environment).await?;
    let change = link.plan(Change::Join).await?;
    println!("{} steps to do", change.plan().steps.len());

    let print = Arc::new(|event: &Event| println!("{event}"));
    let report = change.apply(&Agreed, print).await?;
    println!("{report}");

    let left = link.plan(Change::Join).await?;
    println!("{} steps left to do", left.plan().steps.len());
    Ok(())
}

/// The library is told the time.
#[expect(
    clippy::disallowed_methods,
    reason = "a program tells the library the time"
)]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
