//! `meshlink sandbox`.

use std::{path::PathBuf, sync::atomic::Ordering::SeqCst};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::{
        Frame,
        args::{Sandbox as Args, Timeline as How},
        error::{Exit, Failure, Kind},
        output::json::Document,
    },
    sandbox::{Endpoints, Options, Sandbox, Timeline},
};

/// `meshlink sandbox -o json`: where everything is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Running {
    /// A kubeconfig with one context for each cluster.
    kubeconfig: PathBuf,
    /// The chart repository.
    charts: String,
    /// The name server, UDP and TCP.
    dns: String,
    /// The folder of the files that tell other commands where the clusters are.
    state_dir: PathBuf,
    /// The clusters' names, which are also the contexts.
    clusters: Vec<String>,
    /// The clusters' API servers, in the same order.
    servers: Vec<String>,
    /// A file with the environment that their AWS is used with.
    aws: PathBuf,
    /// The process that runs them.
    pid: u32,
}

impl Document for Running {
    const SCHEMA: &'static str = "sandbox";
}

impl Running {
    fn of(endpoints: &Endpoints) -> Self {
        Self {
            kubeconfig: endpoints.kubeconfig.clone(),
            charts: endpoints.charts.clone(),
            dns: endpoints.dns.to_string(),
            state_dir: endpoints.state_dir.clone(),
            clusters: endpoints.clusters.clone(),
            servers: endpoints.servers.iter().map(ToString::to_string).collect(),
            aws: endpoints.aws.clone(),
            pid: endpoints.pid,
        }
    }
}

/// Runs embedded clusters until interrupted.
pub(crate) async fn run(args: Args, frame: &Frame) -> Result<Exit, Failure> {
    let state = frame.environment.sandbox_state().ok_or_else(|| {
        let text = "HOME is not set, so there is no folder for embedded clusters";
        Failure::from_causes(Kind::Failed, vec![text.into()])
    })?;
    let timeline = match args.timeline {
        How::Instant => Timeline::instant(),
        How::Real => Timeline::realistic(),
    };
    let options = Options {
        timeline,
        ..Options::count(usize::from(args.clusters), state)
    };
    let sandbox = Sandbox::start(options)
        .await
        .map_err(|e| Failure::failed(&e))?;
    // They take away what they have written when they end.
    frame.changing.store(true, SeqCst);
    let running = Running::of(sandbox.endpoints());
    frame.screen.show(&running, |_| text(sandbox.endpoints()))?;
    frame.cancel.cancelled().await;
    frame.screen.say("The embedded clusters are gone.");
    Ok(Exit::Done)
}

fn text(endpoints: &Endpoints) -> String {
    let names = endpoints.clusters.join(" ");
    format!(
        "{} embedded clusters run in this process, until you press Ctrl-C.\n\n  \
         export KUBECONFIG={}\n\nTry, in another terminal:\n\n  \
         meshlink join {names} --sandbox\n  \
         meshlink status --sandbox\n  \
         kubectl --context {} get pods -A\n  \
         meshlink leave {} --uninstall --crds --sandbox\n",
        endpoints.clusters.len(),
        endpoints.kubeconfig.display(),
        endpoints.clusters.first().map_or("eks-1", String::as_str),
        endpoints.clusters.last().map_or("eks-2", String::as_str),
    )
}
