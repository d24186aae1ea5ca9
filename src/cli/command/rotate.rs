//! `meshlink rotate`.

use std::{fmt::Write, path::Path, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    cli::{
        Frame,
        args::rotate::{RotateRoot, Rotating},
        error::{self, Exit, Failure},
        output::{Style, json::Document, table::Table},
        session::{Selection, Session},
    },
    link::{Change, rotation::RotationSeen},
    pki::{Root, short},
    plan::rotate::Rotate,
    report::RunOutcome,
};

/// `meshlink rotate root --status -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    /// The mesh.
    mesh: String,
    #[serde(flatten)]
    seen: RotationSeen,
}

impl Document for Shown {
    const SCHEMA: &'static str = "rotate-status";
}

/// Runs it.
pub(crate) async fn run(args: RotateRoot, frame: &Frame) -> Result<Exit, Failure> {
    let (mut session, change) = open(&args.how, frame).await?;
    if args.status {
        return status(&session, args.how.projected_within, frame).await;
    }
    let report = session.apply(change, args.changing, frame).await?;
    let next: &[&str] = match report.outcome {
        RunOutcome::Done => &["meshlink ca status", "meshlink status"],
        _ => &[],
    };
    session.finish(frame, report, next)
}

/// The mesh, and the change of root that was asked for.
pub(super) async fn open(asked: &Rotating, frame: &Frame) -> Result<(Session, Change), Failure> {
    let target = asked.target.clone().with(asked.sources.clone());
    let given = match asked.to.as_deref() {
        None => None,
        Some(path) if path == Path::new("generate") => None,
        Some(path) => Some(Arc::new(read(path)?)),
    };
    let how = Rotate {
        abort: asked.abort,
        fresh: asked.to.is_some() && given.is_none(),
        restart_workloads: asked.restart_workloads,
        projected: asked.projected_within,
        accept_gap: asked.accept_gap,
        given,
    };
    let session = Session::open(Selection::Some(&[]), &target, frame).await?;
    Ok((session, Change::Rotate(how)))
}

/// A root that somebody else has made. What stands in the file is shown nowhere.
fn read(path: &Path) -> Result<Root, Failure> {
    let shown = path.display();
    let text = std::fs::read(path).map(Zeroizing::new);
    let text = text.map_err(|e| Failure::usage(format!("--to: cannot read {shown}: {e}")))?;
    Root::from_bundle(&text).map_err(|e| Failure::usage(format!("--to: {shown}: {e}")))
}

async fn status(
    session: &Session,
    projected: Option<Duration>,
    frame: &Frame,
) -> Result<Exit, Failure> {
    let shown = Shown {
        mesh: session.link.mesh().id.to_string(),
        seen: session.link.rotation(projected).await?,
    };
    frame.screen.show(&shown, |style| text(&shown, style))?;
    Ok(match shown.seen.unreachable.is_empty() {
        true => Exit::Done,
        false => Exit::PartlyDone,
    })
}

fn text(shown: &Shown, style: Style) -> String {
    let Shown { mesh, seen } = shown;
    let Some(change) = &seen.change else {
        let root = seen.root.as_deref().map_or("not known", short);
        return format!("The root of mesh {mesh} is {root}, and is not being changed.\n");
    };
    let (from, to) = (short(&change.from), short(&change.to));
    let mut text = format!("The root of mesh {mesh} is being changed from {from} to {to}");
    match seen.phase {
        Some(phase) => drop(writeln!(text, ": {phase}.\n")),
        None => text.push_str(".\n\n"),
    }
    let mut table = Table::new(["CLUSTER", "PHASE", "PROXIES", "READY"]);
    for member in &seen.members {
        let phase = member.phase.map(|phase| phase.to_string());
        table.row([
            member.cluster.to_string(),
            phase.unwrap_or_else(|| "unknown".into()),
            member.proxies.to_string(),
            member.ready.to_string(),
        ]);
    }
    text.push_str(&table.render(style));
    for member in &seen.members {
        for wait in &member.waits {
            let _ = writeln!(text, "{}: {wait}", member.cluster);
        }
    }
    error::unread(&mut text, style, &seen.unreachable);
    text
}
