//! `meshlink status`.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::{
    cli::{
        Frame,
        args::Status,
        error::{Exit, Failure},
        output::{ends, matrix, page::Drawn, write},
        session::{Selection, Session},
    },
    doctor::{self, Scope},
    link::{Meshlink, diagnosis::Examination},
    verify::{Claim, Verdict},
    wait::{Deadline, Every, Progress, Unmet},
};

/// How often what cannot be watched is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs it: 0 if it could look at every member and all it looked at holds. With `--wait`, until it does.
pub(crate) async fn run(args: Status, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    let deadline = Deadline::after(args.target.timeout);
    let verbose = frame.screen.verbose > 0;
    let wait = args.wait;
    let (link, strangers) = (&session.link, &session.strangers);
    let last = &Mutex::new(Verdict::default());
    let look = |()| async move {
        let verdict = match link.verdict(None).await {
            Ok(verdict) => verdict,
            Err(failure) => return Progress::Never(failure),
        };
        let bad = verdict.failed().next();
        let bad = bad.map(|check| format!("{}: {}", check.path(), check.evidence));
        let unasked = || {
            let (from, to) = verdict.unasked()?;
            Some(format!("{from} to {to}: nothing could be asked"))
        };
        let bad = bad.or_else(unasked);
        let verdict = verdict.with_strangers(link.mesh(), strangers);
        *last.lock().await = verdict;
        match bad {
            // Who is no member does not become one by being waited for.
            Some(reason) if wait && strangers.is_empty() => Progress::NotYet(reason.into()),
            bad => Progress::Done(bad.is_none()),
        }
    };
    let say = |reason: &str| frame.screen.say(&format!("waiting: {reason}"));
    let looked = tokio::select! {
        looked = crate::wait::until(look, Every::fixed(AGAIN), deadline, say) => looked,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    let exit = match looked {
        Ok(_) if !strangers.is_empty() => Exit::NotInTime,
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Ill,
        Err(Unmet::Late { .. }) => Exit::NotInTime,
        Err(Unmet::Never(failure)) => return Err(failure),
    };
    let mut verdict = last.lock().await;
    let unread = verdict.failed().any(|c| c.id == Claim::Reachable);
    let exit = match exit {
        Exit::Done | Exit::Ill if unread => Exit::PartlyDone,
        exit => exit,
    };
    frame.hints.settle_verdict(&mut verdict);
    if let Some(path) = &args.metrics {
        let ends = link.ends(&link.read().await?).await;
        ends::export(Some(path), &ends, link.mesh())?;
    }
    let now = (link.environment.clock)();
    if let Some(path) = &args.html {
        let page = picture(link, &verdict, frame).await?;
        match path.as_os_str() == "-" {
            true => return frame.screen.print(&page).map(|()| exit),
            false => write(path, page.as_bytes())?,
        }
    }
    frame.screen.show(&*verdict, |style| {
        matrix::render(&verdict, verbose, now, style)
    })?;
    Ok(exit)
}

/// The page of the mesh. It is drawn from a reading of its own, which goes further than that of a status; what was waited
/// for is what the status says.
async fn picture(link: &Meshlink, strangers: &Verdict, frame: &Frame) -> Result<String, Failure> {
    let Examination {
        mut reading,
        mut verdict,
    } = link.examine().await?;
    let members = strangers.checks.iter().filter(|c| c.id == Claim::Member);
    verdict.checks.splice(..0, members.cloned());
    frame.hints.settle_verdict(&mut verdict);
    frame.hints.settle_ends(&mut reading.ends);
    let mut diagnosis = doctor::diagnose(&reading, &Scope::default());
    for finding in &mut diagnosis.findings {
        frame.hints.settle(std::slice::from_mut(&mut finding.fix));
    }
    let drawn = Drawn {
        link,
        examination: &Examination { reading, verdict },
        diagnosis: &diagnosis,
    };
    Ok(drawn.render())
}
