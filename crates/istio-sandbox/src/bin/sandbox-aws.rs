//! Plays AWS around real clusters that are not on AWS, until it is interrupted.
//!
//! A laboratory's cloud tells over HTTP which clusters, Services and load balancers there are. The access key of the
//! environment is the one that is let in; it opens nothing but what this process describes.

#![expect(
    clippy::print_stdout,
    reason = "a program says where it listens on standard output"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the one place of this program that reads the environment"
)]

use std::{error::Error, io, net::SocketAddr};

use clap::Parser;
use istio_sandbox::{aws::cloud, world::REGION};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{filter::Targets, prelude::*};

/// Plays AWS around the clusters of a laboratory, until interrupted.
#[derive(Debug, Parser)]
struct Args {
    /// Address on which AWS answers
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4566")]
    listen: SocketAddr,
    /// URL of the cloud that tells which clusters and load balancers there are
    #[arg(long, value_name = "URL")]
    laboratory: String,
    /// IAM user that the access key of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belongs to
    #[arg(long, value_name = "NAME", default_value = "operator")]
    user: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let levels = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("istio_sandbox", tracing::Level::DEBUG);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(io::stderr);
    tracing_subscriber::registry()
        .with(levels)
        .with(lines)
        .init();
    // Installed once, here; a second call would only say that it is.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let var = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let options = cloud::Options {
        listen: args.listen,
        laboratory: args.laboratory,
        key: (var("AWS_ACCESS_KEY_ID")?, var("AWS_SECRET_ACCESS_KEY")?),
        user: args.user,
    };
    let arn = options.arn();
    let cloud = cloud::raise(options).await?;
    println!(
        "AWS_ENDPOINT_URL={}\nAWS_REGION={REGION}\n# the user who is let in: {arn}",
        cloud.url()
    );
    let mut end = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = end.recv() => {}
    }
    Ok(())
}
