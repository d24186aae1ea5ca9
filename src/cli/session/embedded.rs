//! Which embedded clusters a command means: running ones, or some of its own.

use istio_sandbox::{Error, Options, Sandbox, attach};
use jiff::SignedDuration;

use super::{Embedded, Endpoints};
use crate::{
    cli::{
        Frame,
        args::Target,
        error::{Failure, Kind},
    },
    hint::Hint,
    link::selection,
};

impl From<istio_sandbox::Endpoints> for Endpoints {
    fn from(found: istio_sandbox::Endpoints) -> Self {
        Self {
            kubeconfig: found.kubeconfig,
            charts: found.charts,
            dns: found.dns,
            aws: found.aws,
            ahead: SignedDuration::from_secs(found.ahead),
        }
    }
}

/// It is not known where a running sandbox is, or whether one runs.
fn unsure(error: &Error) -> Failure {
    let hint = "end the process that runs them (meshlink sandbox), and start them again";
    Failure::failed(error).hint(Hint::note(hint))
}

/// A running sandbox, or one of the command's own; none where real clusters are meant.
pub(super) async fn find(
    names: &[String],
    target: &Target,
    frame: &Frame,
) -> Result<Embedded, Failure> {
    let state = frame.environment.sandbox_state();
    if !target.sandbox {
        // Embedded clusters may be meant all the same: by the EKS their AWS has.
        let running = state.and_then(|s| attach(&s).ok().flatten());
        let asked = frame.environment.var("AWS_ENDPOINT_URL");
        let meant = running.filter(|e| asked.is_some_and(|url| e.is_aws(url)));
        return Ok(Embedded {
            endpoints: meant.map(Endpoints::from),
            own: None,
        });
    }
    let state = state.ok_or_else(|| {
        Failure::from_causes(
            Kind::Failed,
            vec!["HOME is not set, so there is no folder for embedded clusters".into()],
        )
    })?;
    if let Some(running) = attach(&state).map_err(|e| unsure(&e))? {
        return Ok(Embedded {
            endpoints: Some(running.into()),
            own: None,
        });
    }
    let options = match names {
        [] => Options::count(2, &state),
        names => Options::named(names.iter().map(|n| selection::bare(n)), &state),
    };
    frame.screen.say(&format!(
        "No sandbox is running: this command starts {} embedded clusters of its own,\nwhich end with it. To keep clusters running: meshlink sandbox\n",
        options.clusters.len()
    ));
    let own = Sandbox::start(options)
        .await
        .map_err(|e| Failure::failed(&e))?;
    Ok(Embedded {
        endpoints: Some(own.endpoints().clone().into()),
        own: Some(Box::new(own)),
    })
}
