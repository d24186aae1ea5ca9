//! `meshlink renew --in-cluster`: the renewer.

use std::{fmt::Write, path::Path, time::Duration};

use crate::{
    cli::{
        Frame,
        args::Renew,
        error::{Exit, Failure, Kind},
        output::{Style, json::Document},
    },
    cluster::{ConnectOptions, Token},
    file::write_whole,
    link::within::{Outcome, Renewed, Within},
    name::MeshId,
};

/// How long one request to an API server may take.
const REQUEST: Duration = Duration::from_secs(30);

impl Document for Renewed {
    const SCHEMA: &'static str = "renewer";
}

pub(super) async fn run(args: Renew, frame: &Frame) -> Result<Exit, Failure> {
    let metrics = args.within.renewer_metrics.clone();
    let within = within(args, frame)?;
    let renewed = within.renew().await?;
    frame.screen.show(&renewed, |style| text(&renewed, style))?;
    if let Some(path) = metrics {
        let text = renewed.metrics(frame.now());
        let failed = |e| {
            Failure::failed(&e).hint(crate::hint::Hint::note(
                "give another --renewer-metrics FILE",
            ))
        };
        write_whole(&path, text.as_bytes()).map_err(failed)?;
    }
    Ok(match renewed.is_well() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

fn within(args: Renew, frame: &Frame) -> Result<Within, Failure> {
    let (given, missing) = (args.within, || {
        Failure::usage("--in-cluster needs --member")
    });
    let read = |name: &str| read(&given.service_account, name);
    let token = read("token")?;
    let var = |name: &str| {
        let absent = || format!("{name} is not set: this is no pod of a cluster");
        let value = frame.environment.var(name).map(str::to_owned);
        value.ok_or_else(|| Failure::from_causes(Kind::Usage, vec![absent()]))
    };
    let (host, port) = (
        var("KUBERNETES_SERVICE_HOST")?,
        var("KUBERNETES_SERVICE_PORT")?,
    );
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    let member = given.member.ok_or_else(missing)?;
    let ca = read("ca.crt")?;
    Ok(Within {
        mesh: mesh(&args.how.target.mesh)?,
        operator: format!("renewer in {member}"),
        member,
        cluster: given.cluster_uid,
        secrets: given.secret,
        server: format!("https://{host}:{port}"),
        ca: ca.into_bytes(),
        istiod: given.istiod,
        token: Token::new(token.trim().to_owned()),
        connect: ConnectOptions {
            timeout: REQUEST,
            network: frame.network.clone(),
            ..ConnectOptions::default()
        },
        clock: frame.clock(),
        wait_lock: args.changing.wait_lock,
        cancel: frame.cancel.clone(),
    })
}

fn mesh(named: &Option<MeshId>) -> Result<MeshId, Failure> {
    let named = named.clone();
    named.ok_or_else(|| Failure::usage("--in-cluster needs --mesh"))
}

fn read(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| {
        let text = format!("cannot read {}", path.display());
        Failure::from_causes(Kind::Failed, vec![text, error.to_string()])
    })
}

fn text(renewed: &Renewed, style: Style) -> String {
    let mut text = String::new();
    for used in &renewed.used {
        let sign = match used.outcome {
            Outcome::Fine | Outcome::Renewed => style.green("✓"),
            Outcome::Left | Outcome::Failed => style.red("✗"),
        };
        let _ = writeln!(text, "{sign} {}: {}", used.id, used.text);
    }
    text
}
