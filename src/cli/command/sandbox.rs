//! `meshlink sandbox`.

use crate::{
    cli::{
        Frame,
        args::{Sandbox as Args, SandboxCloud, SandboxWhat, Timeline as How},
        error::{Exit, Failure},
    },
    sandbox::{Endpoints, Options, Sandbox, Timeline, aws::cloud, world::REGION},
};

/// Runs embedded clusters until interrupted.
pub(crate) async fn run(args: Args, frame: &Frame) -> Result<Exit, Failure> {
    if let Some(SandboxWhat::Cloud(cloud)) = args.what {
        return play_aws(cloud, frame).await;
    }
    let state = frame.environment.sandbox_state().ok_or_else(|| {
        let text = "there is no place for embedded clusters: HOME is not set";
        Failure::from_causes(Exit::Failed, vec![text.into()])
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

/// Plays AWS around clusters that are not embedded. Its key opens nothing but what this process describes.
async fn play_aws(args: SandboxCloud, frame: &Frame) -> Result<Exit, Failure> {
    let var = |name: &str| {
        let found = frame.environment.var(name).map(str::to_owned);
        found.ok_or_else(|| Failure::usage(format!("{name} is not set: it says who is let in")))
    };
    let options = cloud::Options {
        listen: args.listen,
        laboratory: args.laboratory,
        key: (var("AWS_ACCESS_KEY_ID")?, var("AWS_SECRET_ACCESS_KEY")?),
        user: args.user,
    };
    let arn = options.arn();
    let cloud = cloud::raise(options)
        .await
        .map_err(|e| Failure::failed(&e))?;
    frame.screen.print(&format!(
        "AWS_ENDPOINT_URL={}\nAWS_REGION={REGION}\n# who is let in: {arn}\n",
        cloud.url()
    ))?;
    frame.cancel.cancelled().await;
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
