//! `meshlink sandbox`.

use crate::{
    cli::{
        Frame,
        args::{Sandbox as Args, Timeline as How},
        error::{Exit, Failure, Kind},
    },
    sandbox::{Endpoints, Options, Sandbox, Timeline},
};

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
    frame
        .screen
        .show(sandbox.endpoints(), |_| text(sandbox.endpoints()))?;
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
