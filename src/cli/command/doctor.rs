//! `meshlink doctor`.

use std::{fs::File, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    causes,
    cli::{
        Frame,
        args::{Changing, Doctor},
        error::{Exit, Failure, Kind, noted, render},
        output::{diagnosis, json::Document},
        session::{Selection, Session},
    },
    doctor::{self, Diagnosis, Entry, Finding, Level, Scope},
    hint::Hint,
    link::{Change, bundle},
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
    let mut session = Session::open(selection, &args.target, frame).await?;
    let strangers = session.tells_strangers(frame);
    let scope = Scope {
        only: args.only.clone(),
        before_join: args.before_join,
        about: session.named.clone(),
    };
    let mut diagnosis = tokio::select! {
        done = session.link.diagnose(&scope) => done?,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    if args.fix && !strangers && diagnosis.findings.iter().any(is_joined) {
        match mend(&mut session, args.changing, frame).await {
            Ok(()) => diagnosis = session.link.diagnose(&scope).await?,
            // What stands against a join is among what was found.
            Err(mut failure) if failure.kind == Kind::Refused => {
                frame.hints.settle_failure(&mut failure);
                frame.screen.complain(&render(&failure, frame.screen.err));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok((diagnosis, strangers))
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

/// Whether a join is what helps.
fn is_joined(finding: &Finding) -> bool {
    match &finding.fix {
        Hint::Meshlink(command) => command.args.first().is_some_and(|word| word == "join"),
        _ => false,
    }
}

/// Does the safe part of a join, and says what is left.
async fn mend(session: &mut Session, changing: Changing, frame: &Frame) -> Result<(), Failure> {
    let report = session.apply(Change::Mend, changing, frame).await?;
    let mut text = String::new();
    for mut note in report.notes.iter().cloned() {
        frame.hints.settle(&mut note.hints);
        noted(&mut text, frame.screen.err, &note);
    }
    if !text.is_empty() {
        frame.screen.complain(text.trim_end());
    }
    Failure::of_run(&report).map_or(Ok(()), Err)
}
