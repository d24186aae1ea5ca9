//! What `join`, `leave` and `plan` share: looking, locking, running, and showing the end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future;

use super::{
    Frame, charts,
    error::{Exit, Failure, Problem},
    output::{
        progress::Progress,
        summary::{self, After},
    },
    session::{Session, clock},
};
use crate::{
    aws::preflight::{Finding, Level},
    cluster::{
        Access,
        preflight::{self, Purpose},
        wait::Deadline,
    },
    engine::{
        self, Lock, Readings, Recorder, Shop, Sink, Stop, crashpoint::Crash, event::Event, survey,
    },
    hint::Hint,
    observe::{Layout, Lens, Observed, Tokens},
    plan::{
        self, Desired, Note, Plan, Refusal,
        desire::{Additions, Charts},
        leave::Leave,
    },
    report::{Report, RunOutcome},
    verify::{self, Depth, Verdict},
};

/// Everything a join is planned with.
pub(crate) struct Desk<'a> {
    session: &'a Session,
    charts: Charts,
    additions: Additions,
    findings: Vec<Finding>,
    ignored: &'a [String],
}

/// What was seen, with the tokens the members use on each other.
pub(crate) struct Sight {
    pub(crate) observed: Observed,
    pub(crate) tokens: Tokens,
}

/// What was seen, what should be, and what is to be done about it.
pub(crate) struct Look {
    pub(crate) sight: Sight,
    pub(crate) desired: Desired,
    pub(crate) plan: Plan,
}

impl<'a> Desk<'a> {
    /// Fetches the charts and reads the owner's values. What fails a check that is ignored stands against nothing.
    pub(crate) async fn open(session: &'a Session, ignored: &'a [String]) -> Result<Self, Failure> {
        let (additions, findings) = session.additions().await?;
        Ok(Self {
            session,
            charts: session.charts().await?,
            additions,
            findings,
            ignored,
        })
    }

    /// Reads the members and plans.
    pub(crate) async fn look(&self) -> Result<Look, Failure> {
        if let Some(refusal) = self.session.namesake().await {
            return Err(refused(vec![refusal]));
        }
        let (sight, desired) = self.survey_by(lens(self.session).with_leases()).await?;
        let (against, notes) = self.found();
        let plan = match plan::join::join(&self.session.mesh, &desired, &sight.observed) {
            // A mesh that stands has shown that it can.
            Ok(plan) if plan.is_empty() || against.is_empty() => plan,
            Ok(_) => return Err(refused(against)),
            Err(refusals) => return Err(refused([refusals, against].concat())),
        };
        Ok(Look {
            sight,
            desired,
            plan: Plan {
                notes: [plan.notes, notes].concat(),
                ..plan
            },
        })
    }

    /// What AWS says against a join, and what to know though nothing is to be done about it.
    fn found(&self) -> (Vec<Refusal>, Vec<Note>) {
        let (mut against, mut notes) = (vec![], vec![]);
        for finding in self.findings.iter().filter(|f| f.level != Level::Pass) {
            let Finding {
                check,
                cluster,
                text,
                fix,
                ..
            } = finding;
            if finding.level == Level::Fail && !self.ignored.iter().any(|i| i == check) {
                let mut hints = fix.clone();
                hints.push(Hint::note(format!("if you know better: --ignore {check}")));
                against.push(Refusal {
                    cluster: cluster.parse().ok(),
                    reason: format!("{text} ({check})"),
                    hints,
                });
            } else {
                notes.push(Note::with(format!("{cluster}: {text}"), fix.clone()));
            }
        }
        (against, notes)
    }

    /// Reads the members, and says what they should hold.
    pub(crate) async fn survey(&self) -> Result<(Sight, Desired), Failure> {
        self.survey_by(lens(self.session)).await
    }

    async fn survey_by(&self, lens: Lens<'_>) -> Result<(Sight, Desired), Failure> {
        let session = self.session;
        let (observed, desired) =
            match survey(&lens, &self.charts, &self.additions, &session.texts).await {
                Ok(surveyed) => surveyed,
                Err(engine::Failed::Unseen(unseen)) => return Err(session.unread(&unseen).await),
                Err(engine::Failed::Undesired(error)) => return Err(charts::undesired(&error)),
            };
        let tokens = lens.tokens().await;
        Ok((Sight { observed, tokens }, desired))
    }
}

/// Every reason against it, each with its ways on.
pub(crate) fn refused(refusals: Vec<Refusal>) -> Failure {
    let one = |r: Refusal| Problem {
        causes: vec![r.to_string()],
        hints: r.hints,
    };
    Failure {
        kind: Exit::Refused,
        errors: refusals.into_iter().map(one).collect(),
    }
}

/// Looks at everything a leave or a verification needs.
pub(crate) async fn observe(session: &Session, lens: &Lens<'_>) -> Result<Sight, Failure> {
    let namespaces = [
        &session.mesh.istio.namespace,
        &session.mesh.gateway.namespace,
    ];
    let refs = namespaces
        .map(|n| crate::cluster::Ref::cluster(&crate::cluster::Kind::NAMESPACE, n.as_str()));
    let all = session
        .clusters
        .keys()
        .map(|name| (name.clone(), refs.to_vec()))
        .collect();
    let look = async {
        let mut observed = lens.look().await?;
        lens.look_at(&mut observed, &all).await?;
        Ok(observed)
    };
    let observed = match look.await {
        Ok(observed) => observed,
        Err(unseen) => return Err(session.unread(&unseen).await),
    };
    let tokens = lens.tokens().await;
    Ok(Sight { observed, tokens })
}

pub(crate) fn lens(session: &Session) -> Lens<'_> {
    let (mesh, vault) = (&session.mesh, &session.vault);
    Lens::new(mesh, vault, &session.clusters, session.embedded, clock()())
}

/// Refuses before the first write where a right is missing, and names every one.
pub(crate) async fn check_rights(session: &Session, purpose: Purpose) -> Result<(), Failure> {
    let gateways = session.mesh.gateway.namespace.as_str();
    let checks = session
        .clusters
        .values()
        .map(|c| async move { (c, preflight::check(c, purpose, gateways).await) });
    let mut errors = vec![];
    for (cluster, missing) in future::join_all(checks).await {
        let missing = match missing {
            Ok(missing) => missing,
            Err(error) => return Err(session.unanswered(&error).await),
        };
        let Some(first) = missing.first() else {
            continue;
        };
        let list: Vec<_> = missing.iter().map(Access::to_string).collect();
        let name = cluster.name();
        errors.push(Problem {
            causes: vec![format!("cluster {name}: you may not {}", list.join(", "))],
            hints: vec![Hint::kubectl(
                name,
                ["auth", "can-i", &first.verb, &first.resource],
            )],
        });
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure {
            kind: Exit::Refused,
            errors,
        })
    }
}

/// Asks before real clusters are changed.
pub(crate) fn consent(session: &Session, frame: &Frame, yes: bool) -> Result<(), Failure> {
    if session.embedded {
        return Ok(());
    }
    let names: Vec<_> = session
        .mesh
        .clusters
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    frame.consent(&format!("Change clusters {}?", names.join(", ")), yes)
}

/// A run's Leases, and what is cancelled when one is lost.
pub(crate) struct Locked {
    lock: Lock,
    stop: Stop,
}

impl Locked {
    /// Whether what was observed before is still what there is: no other run came between.
    pub(crate) fn undisturbed(&self) -> bool {
        self.lock.undisturbed()
    }

    /// Whether a namespace was made for a Lease.
    pub(crate) fn made_namespace(&self) -> bool {
        self.lock.made_namespace()
    }

    /// Gives them up; with `remove`, leaves none behind.
    pub(crate) async fn release(self, remove: bool) {
        self.lock.release(remove).await;
    }
}

/// Takes every member's Lease.
pub(crate) async fn lock(
    session: &Session,
    observed: &Observed,
    frame: &Frame,
) -> Result<Locked, Failure> {
    let stop = Stop::when(&frame.cancel);
    let namespace = session.mesh.istio.namespace.as_str();
    let who = who(frame);
    let lock = engine::lock(
        &session.clusters,
        observed,
        namespace,
        &who,
        &clock(),
        &stop,
    )
    .await;
    match lock {
        Ok(lock) => Ok(Locked { lock, stop }),
        Err(engine::Error::Refused(refusal)) => Err(refused(vec![refusal])),
        Err(error) => Err(Failure::failed(&error)),
    }
}

/// Who holds a Lease, for the one who finds it held.
fn who(frame: &Frame) -> String {
    let user = frame.environment.var("USER").unwrap_or("somebody");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{} (process {})", host.trim(), std::process::id())
}

/// What is to be run.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) desired: Desired,
    pub(crate) layout: Layout,
    pub(crate) leave: Leave,
    pub(crate) left: BTreeSet<String>,
    pub(crate) depth: Depth,
    pub(crate) timeout: Duration,
}

struct Shown(Progress);

impl Sink for Shown {
    fn event(&self, event: &Event) {
        self.0.event(event);
    }
}

/// Runs a plan: journalled, shown as it happens, folded at the end.
pub(crate) async fn execute(
    session: &Session,
    frame: &Frame,
    job: Job,
    locked: &Locked,
) -> Result<Report, Failure> {
    let id = format!(
        "{}-{}",
        frame.now().strftime("%Y%m%dT%H%M%S"),
        std::process::id()
    );
    let shown: Arc<dyn Sink> = Arc::new(Shown(Progress::new(&frame.screen)));
    let recorder = Arc::new(Recorder::new(
        id,
        clock(),
        Some(session.journal()?),
        vec![shown],
    ));
    let crash = frame.environment.var("MESHLINK_CRASH").map(str::to_owned);
    let notes = job.plan.notes.clone();
    let mesh = job.leave.rest(&session.mesh);
    let mut reaches = session.reaches.clone();
    reaches.retain(|name, _| !job.leave.leavers.contains(name));
    let shop = Arc::new(Shop {
        mesh,
        clusters: session.clusters.clone(),
        desired: job.desired,
        resolver: session.resolver.clone(),
        vault: session.vault.clone(),
        texts: session.texts.clone(),
        layout: job.layout,
        reaches,
        aws: aws(session),
        connect: session.connect.clone(),
        embedded: session.embedded,
        leave: job.leave,
        left: job.left,
        depth: job.depth,
        readings: Readings::default(),
        deadline: Deadline::after(job.timeout),
        clock: clock(),
        crash: Crash::at(crash),
    });
    let command = format!("meshlink {}", frame.command);
    let ran = engine::run(&command, &job.plan, &shop, &recorder, &locked.stop).await;
    ran.map_err(|e| Failure::failed(&e))?;
    Ok(Report {
        notes,
        environment: environment(session),
        ..Report::fold(&recorder.events())
    })
}

pub(crate) fn environment(session: &Session) -> String {
    if session.embedded { "embedded" } else { "real" }.to_owned()
}

/// AWS, where it is worth asking: embedded clusters are on it only if they were found by it.
fn aws(session: &Session) -> Option<crate::aws::Members> {
    let worth = session.aws.any() || (!session.embedded && session.aws.is_configured());
    worth.then(|| session.aws.clone())
}

/// A report of a run that had no steps, because there was nothing to do.
pub(crate) fn report(session: &Session, frame: &Frame) -> Report {
    Report {
        command: format!("meshlink {}", frame.command),
        mesh: session.mesh.id.to_string(),
        environment: environment(session),
        started: Some(frame.now()),
        outcome: RunOutcome::NothingToDo,
        ..Report::default()
    }
}

/// What a verification looks with.
pub(crate) fn desk<'a>(session: &'a Session, sight: &'a Sight) -> verify::Desk<'a> {
    verify::Desk {
        mesh: &session.mesh,
        clusters: &session.clusters,
        observed: &sight.observed,
        tokens: &sight.tokens,
        resolver: &session.resolver,
        connect: &session.connect,
        now: clock()(),
    }
}

/// What is to be said of what was seen.
pub(crate) async fn judge(session: &Session, sight: &Sight) -> Verdict {
    let verdict = verify::verify(&desk(session, sight), Depth::Istiods).await;
    with_balancers(session, verdict).await
}

async fn with_balancers(session: &Session, mut verdict: Verdict) -> Verdict {
    if let Some(members) = aws(session) {
        session.look_at_balancers(&members, &mut verdict).await;
    }
    verdict
}

/// What stands at the end. A run that came to its end and proved every pair has just seen it; else it is looked at
/// again, with what was proved.
pub(crate) async fn verdict(session: &Session, report: &Report) -> Result<Verdict, Failure> {
    if report.outcome == RunOutcome::Done {
        let members = session.mesh.clusters.iter().map(|m| m.name.to_string());
        let proved = Verdict::of_pairs(members.collect(), report.proofs.values());
        if let Some(verdict) = proved {
            return Ok(with_balancers(session, verdict).await);
        }
    }
    let mut verdict = judge(session, &observe(session, &lens(session)).await?).await;
    for proof in report.proofs.values() {
        verdict.take(proof.clone());
    }
    Ok(verdict)
}

/// Shows the end of a run.
pub(crate) fn finish(
    session: &Session,
    frame: &Frame,
    report: &Report,
    next: &[&str],
) -> Result<Exit, Failure> {
    let next = match report.outcome {
        // What comes next would find nothing.
        _ if session.is_passing() => vec!["meshlink sandbox".into()],
        RunOutcome::Done | RunOutcome::NothingToDo => {
            let again = &session.again;
            next.iter().map(|n| format!("{n}{again}")).collect()
        }
        // Finished work yields no step: the same command goes on where this one ended.
        _ => vec![report.command.clone()],
    };
    summary::finish(
        frame,
        report,
        &After {
            journal: Some(&session.places.journal),
            next,
        },
    )
}
