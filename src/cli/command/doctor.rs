//! `meshlink doctor`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::{
        Frame,
        args::Doctor,
        error::{Exit, Failure},
        output::{diagnosis, json::Document},
        session::{Selection, Session},
    },
    doctor::{self, Diagnosis, Entry, Level, Scope},
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
    let selection = match args.before_join {
        true => Selection::All(&args.clusters),
        false => Selection::Some(&args.clusters),
    };
    let session = Session::open(selection, &args.target, frame).await?;
    let strangers = session.tells_strangers(frame);
    let scope = Scope {
        only: args.only,
        before_join: args.before_join,
        about: session.named.clone(),
    };
    let work = session.link.diagnose(&scope);
    let mut diagnosis = tokio::select! {
        done = work => done?,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
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
