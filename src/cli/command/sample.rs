//! `meshlink sample`: the example's apps, to see with one's own eyes.

use std::{collections::BTreeSet, time::Duration};

use futures::future;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    cli::{
        Frame,
        args::{Changing, Sample as Args, SampleCommand, SampleDown, SampleTarget, SampleUp},
        error::{Exit, Failure},
        output::{Style, json::Document, table::Table},
        session::{Selection, Session, typed},
    },
    cluster::Cluster,
    engine::sample::{Called, Error, Sample, State},
    link::Change,
    wait::{self, Deadline, Every, Progress, Unmet},
};

/// How often each client is made to ask.
const TIMES: usize = 20;
/// How long proxies may take to hear of what was put in, and how often they are asked meanwhile.
const SETTLE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// What `sample` shows, by cluster.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Samples {
    /// The members, in the mesh's order.
    pub(crate) clusters: Vec<State>,
}

impl Document for Samples {
    const SCHEMA: &'static str = "sample";
}

/// Answers of `sample call`, by cluster.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Calls {
    /// Every version there is.
    pub(crate) versions: Vec<String>,
    /// What each cluster's client was answered.
    pub(crate) calls: Vec<Called>,
}

impl Document for Calls {
    const SCHEMA: &'static str = "sample-call";
}

/// Runs it.
pub(crate) async fn run(args: Args, frame: &Frame) -> Result<Exit, Failure> {
    match args.command {
        SampleCommand::Up(args) => up(args, frame).await,
        SampleCommand::Down(args) => down(&args, frame).await,
        SampleCommand::Status(args) => status(&args, frame).await,
        SampleCommand::Call(args) => call(&args, frame).await,
    }
}

fn sample(session: &Session, target: &SampleTarget) -> Sample {
    Sample {
        namespace: target.namespace.clone(),
        server: None,
        client: None,
        istio: session.link.mesh.istio.namespace.clone(),
    }
}

async fn open(target: &SampleTarget, frame: &Frame) -> Result<Session, Failure> {
    let selection = Selection::Some(&target.clusters);
    let session = Session::open(selection, &target.target, frame).await?;
    session.link.ensure_this_mesh().await?;
    Ok(session)
}

/// The members in the mesh's order.
fn members(session: &Session) -> impl Iterator<Item = &Cluster> {
    let link = &session.link;
    let members = link.mesh.clusters.iter();
    members.filter_map(|m| link.clusters.get(&m.name))
}

/// Does one thing in every member, side by side; all that failed is told.
async fn everywhere<T, F: Future<Output = Result<T, Error>>>(
    work: impl Iterator<Item = F>,
) -> Result<Vec<T>, Failure> {
    let mut done = vec![];
    let mut failed: Option<Failure> = None;
    for result in future::join_all(work).await {
        match result {
            Ok(value) => done.push(value),
            Err(error) => {
                let failure = failure(&error);
                failed = Some(match failed {
                    Some(before) => before.and(failure),
                    None => failure,
                });
            }
        }
    }
    failed.map_or(Ok(done), Err)
}

fn failure(error: &Error) -> Failure {
    let failure = Failure::failed(error);
    error.hints().into_iter().fold(failure, Failure::hint)
}

/// Puts it in or takes it out, everywhere; what failed is told.
async fn change(
    session: &mut Session,
    change: Change,
    changing: Changing,
    frame: &Frame,
) -> Result<(), Failure> {
    let report = session.apply(change, changing, frame).await?;
    Failure::of_run(&report).map_or(Ok(()), Err)
}

async fn up(args: SampleUp, frame: &Frame) -> Result<Exit, Failure> {
    let mut session = open(&args.target, frame).await?;
    typed(session.link.mesh(), &args.target.clusters)?;
    let sample = Sample {
        server: args.server_image,
        client: args.client_image,
        ..sample(&session, &args.target)
    };
    let up = Change::SampleUp(sample.clone());
    change(&mut session, up, args.changing, frame).await?;
    show(&session, &sample, frame).await
}

async fn down(args: &SampleDown, frame: &Frame) -> Result<Exit, Failure> {
    let (args, changing) = (&args.target, args.changing);
    let mut session = open(args, frame).await?;
    typed(session.link.mesh(), &args.clusters)?;
    let sample = sample(&session, args);
    let down = Change::SampleDown(sample.clone());
    change(&mut session, down, changing, frame).await?;
    show(&session, &sample, frame).await.map(|_| Exit::Done)
}

async fn status(args: &SampleTarget, frame: &Frame) -> Result<Exit, Failure> {
    let session = open(args, frame).await?;
    show(&session, &sample(&session, args), frame).await
}

/// What is there; not in time if some of it is there and not ready.
async fn show(session: &Session, sample: &Sample, frame: &Frame) -> Result<Exit, Failure> {
    let clusters = everywhere(members(session).map(|cluster| sample.state(cluster))).await?;
    let samples = Samples { clusters };
    frame
        .screen
        .show(&samples, |style| table(&samples.clusters, style))?;
    let is_late = |s: &State| s.version.is_some() && !s.ready;
    let late = samples.clusters.iter().any(is_late);
    Ok(match session.tells_strangers(frame) || late {
        true => Exit::NotInTime,
        false => Exit::Done,
    })
}

fn table(states: &[State], style: Style) -> String {
    let mut table = Table::new(["CLUSTER", "HELLOWORLD", "READY"]);
    for state in states {
        let version = state.version.clone().unwrap_or_else(|| "-".into());
        let ready = match (&state.version, state.ready) {
            (None, _) => "-".into(),
            (_, true) => style.green("yes"),
            (_, false) => style.red("no"),
        };
        table.row([state.cluster.clone(), version, ready]);
    }
    table.render(style)
}

async fn call(args: &SampleTarget, frame: &Frame) -> Result<Exit, Failure> {
    let session = open(args, frame).await?;
    let sample = sample(&session, args);
    let states = everywhere(members(&session).map(|cluster| sample.state(cluster))).await?;
    let versions: BTreeSet<_> = states.into_iter().filter_map(|s| s.version).collect();
    let versions: Vec<String> = versions.into_iter().collect();
    let (session, sample, versions) = (&session, &sample, &versions);
    let last = &Mutex::new(vec![]);
    // Proxies hear of what has just been put in a moment later.
    let ask = |()| async move {
        let calls = match everywhere(members(session).map(|c| sample.call(c, TIMES))).await {
            Ok(calls) => calls,
            Err(failure) => return Progress::Never(failure),
        };
        let has_all =
            |c: &Called| c.others.is_empty() && versions.iter().all(|v| c.answers.contains_key(v));
        let all = !versions.is_empty() && calls.iter().all(has_all);
        *last.lock().await = calls;
        match all || versions.is_empty() {
            true => Progress::Done(all),
            false => Progress::NotYet("not every version has answered every cluster yet".into()),
        }
    };
    let settled = wait::until(
        ask,
        Every::fixed(AGAIN),
        Deadline::after(SETTLE),
        |_: &str| (),
    );
    let all = match settled.await {
        Ok(all) => all,
        Err(Unmet::Late { .. }) => false,
        Err(Unmet::Never(failure)) => return Err(failure),
    };
    let calls = Calls {
        versions: versions.clone(),
        calls: last.lock().await.clone(),
    };
    frame.screen.show(&calls, |style| answers(&calls, style))?;
    if !all {
        let why = match versions.is_empty() {
            true => "no sample is installed: meshlink sample up".to_owned(),
            false => format!(
                "not every cluster was answered by each of {}",
                versions.join(", ")
            ),
        };
        frame.screen.complain(&why);
    }
    Ok(match session.tells_strangers(frame) || !all {
        true => Exit::NotInTime,
        false => Exit::Done,
    })
}

/// Who was answered by whom, and how often.
fn answers(calls: &Calls, style: Style) -> String {
    let versions = calls.versions.iter().map(String::as_str);
    let mut table = Table::new(["FROM / VERSION"].into_iter().chain(versions));
    let mut others = String::new();
    for called in &calls.calls {
        let counts = calls.versions.iter().map(|v| {
            let count = called.answers.get(v).copied().unwrap_or(0);
            if count == 0 {
                style.red("0")
            } else {
                count.to_string()
            }
        });
        table.row([called.from.clone()].into_iter().chain(counts));
        for (said, count) in &called.others {
            others += &format!("{}: {count} got {said}\n", called.from);
        }
    }
    format!("{}{others}", table.render(style))
}
