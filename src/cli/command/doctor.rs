//! `meshlink doctor`.

use std::{fs::File, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    causes,
    cli::{
        Frame,
        args::Doctor,
        error::{Exit, Failure, Kind},
        output::{diagnosis, json::Document},
        session::{Selection, Session},
    },
    doctor::{self, Diagnosis, Entry, Level, Scope},
    link::bundle,
};

/// Every check there is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Catalogue {
    /// The checks.
    checks: Vec<Entry>,
}

impl Document for Catalogue {
    const SCHEMA: &'static str = "checks";
}

impl Document for Diagnosis {
    const SCHEMA: &'static str = "diagnosis";
}

/// Runs it: 0 if every check could look at every member and no error was found, 7 if one was, 6 if something could not be
/// looked at.
pub(crate) async fn run(args: Doctor, frame: &Frame) -> Result<Exit, Failure> {
    if args.list {
        let only = |entry: &Entry| args.only.is_empty() || args.only.iter().any(|o| o == entry.id);
        let checks = doctor::entries().into_iter().filter(only).collect();
        let catalogue = Catalogue { checks };
        let shown = |style| diagnosis::list(&catalogue.checks, style);
        frame.screen.show(&catalogue, shown)?;
        return Ok(Exit::Done);
    }
    let (mut diagnosis, strangers) = match &args.from {
        Some(path) => from(path, &args, frame)?,
        None => live(&args, frame).await?,
    };
    for finding in &mut diagnosis.findings {
        frame.hints.settle(std::slice::from_mut(&mut finding.fix));
    }
    let (verbose, short) = (frame.screen.verbose > 0, args.short);
    frame.screen.show(&diagnosis, |style| match short {
        true => diagnosis::short(&diagnosis),
        false => diagnosis::render(&diagnosis, verbose, style),
    })?;
    Ok(match () {
        () if strangers => Exit::NotInTime,
        () if !diagnosis.not_looked_at.is_empty() => Exit::PartlyDone,
        () if diagnosis.count(Level::Error) > 0 => Exit::Ill,
        () => Exit::Done,
    })
}

/// What is found in the members.
async fn live(args: &Doctor, frame: &Frame) -> Result<(Diagnosis, bool), Failure> {
    let selection = match args.before_join {
        true => Selection::All(&args.clusters),
        false => Selection::Some(&args.clusters),
    };
    let session = Session::open(selection, &args.target, frame).await?;
    let strangers = session.tells_strangers(frame);
    let scope = Scope {
        only: args.only.clone(),
        before_join: args.before_join,
        about: session.named.clone(),
    };
    tokio::select! {
        done = session.link.diagnose(&scope) => Ok((done?, strangers)),
        () = frame.cancel.cancelled() => Err(Failure::interrupted()),
    }
}

/// What is found in a bundle.
fn from(path: &Path, args: &Doctor, frame: &Frame) -> Result<(Diagnosis, bool), Failure> {
    let failed = |texts: Vec<String>| {
        let what = format!("cannot read the bundle {}", path.display());
        let causes = std::iter::once(what).chain(texts).collect();
        Failure::from_causes(Kind::Failed, causes)
    };
    let file = File::open(path).map_err(|e| failed(causes::texts(&e)))?;
    let bundle::Unpacked { reading, hints } =
        bundle::unpack(file).map_err(|e| failed(causes::texts(&e)))?;
    if let Some(hints) = hints {
        frame.hints.go_by(hints);
    }
    let mesh = &reading.mesh;
    let (about, others): (Vec<_>, Vec<_>) = args
        .clusters
        .iter()
        .partition(|name| mesh.members().contains(&name.as_str()));
    if let Some(other) = others.first() {
        let text = format!(
            "{other} is not a member of mesh {}, which has {}",
            mesh.id,
            mesh.members().join(", ")
        );
        return Err(Failure::from_causes(Kind::NotInTime, vec![text]));
    }
    let scope = Scope {
        only: args.only.clone(),
        before_join: false,
        about: about
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
    };
    Ok((doctor::diagnose(&reading, &scope), false))
}
