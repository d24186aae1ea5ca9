//! Doing a plan: each step as soon as what it needs is done.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Error, Recorder, RunContext, Stop, effect,
    error::causes,
    event::{self, Because, Kind},
};
use crate::{
    cluster::Recover,
    plan::{Plan, Planned, Step},
};
use tokio::{task::JoinSet, time::Instant};

/// The first pause before a step is tried again; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// How often a step that fails in a way that heals is tried again.
const TRIES: u32 = 12;
/// How often of these it may have been forbidden: some six seconds.
const FORBIDDEN: u32 = 5;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    /// Failed or skipped: what needs it is skipped too.
    Undone,
}

/// Does the plan. Failures are events.
pub(crate) async fn run(
    command: &str,
    plan: &Plan,
    run: &Arc<RunContext>,
    recorder: &Arc<Recorder>,
    stop: &Stop,
) {
    let begun = Instant::now();
    recorder.record(started(command, plan, run));
    let mut board = Board {
        state: plan
            .steps
            .iter()
            .map(|p| (p.step.clone(), State::Waiting))
            .collect(),
        plan,
        recorder,
    };
    let mut running = JoinSet::new();
    loop {
        for step in board.ready(stop) {
            let (run, recorder, stop) = (run.clone(), recorder.clone(), stop.clone());
            running.spawn(async move {
                let done = one(&step, &run, &recorder, &stop).await;
                (step, done)
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((step, done))) => {
                board.settle(&step, if done { State::Done } else { State::Undone })
            }
            Some(Err(_)) => board.lost(),
        }
    }
    let done = board.state.values().all(|s| *s == State::Done);
    if stop.is_wanted() && !done {
        let lost = stop.lost().map(<[_]>::to_vec);
        recorder.record(Kind::Interrupted { lost });
    }
    recorder.record(Kind::RunFinished {
        done,
        millis: millis(begun),
    });
}

fn started(command: &str, plan: &Plan, run: &RunContext) -> Kind {
    let planned = |p: &Planned| event::Planned {
        step: p.step.to_string(),
        cluster: p.step.cluster().map(ToString::to_string),
        clusters: p.step.clusters().iter().map(ToString::to_string).collect(),
        describe: p.describe.clone(),
    };
    Kind::RunStarted {
        command: command.to_owned(),
        mesh: run.mesh.id.to_string(),
        clusters: run
            .mesh
            .clusters
            .iter()
            .map(|m| &m.name)
            .chain(&run.leave.leavers)
            .map(ToString::to_string)
            .collect(),
        steps: plan.steps.iter().map(planned).collect(),
    }
}

/// Which steps wait, run, are done.
struct Board<'a> {
    state: BTreeMap<Step, State>,
    plan: &'a Plan,
    recorder: &'a Recorder,
}

impl Board<'_> {
    fn settle(&mut self, step: &Step, state: State) {
        self.state.insert(step.clone(), state);
    }

    /// A step's task died: nothing is known of it, so it is not done.
    fn lost(&mut self) {
        for state in self.state.values_mut().filter(|s| **s == State::Running) {
            *state = State::Undone;
        }
    }

    /// Marks and returns the steps that can begin; skips those that cannot any more.
    fn ready(&mut self, stop: &Stop) -> Vec<Step> {
        let mut ready = vec![];
        for planned in &self.plan.steps {
            if self.state[&planned.step] != State::Waiting {
                continue;
            }
            let needs = planned.needs.iter().map(|n| (n, self.state[n]));
            let settled = needs
                .clone()
                .all(|(_, s)| matches!(s, State::Done | State::Undone));
            let undone = needs
                .clone()
                .find(|(_, s)| *s == State::Undone)
                .map(|(n, _)| n.clone());
            let state = match undone {
                // What there is to take away may be another run's by now.
                _ if stop.lost().is_some() => self.skip(planned, Because::LeaseLost),
                _ if planned.step.always() && settled => State::Running,
                _ if planned.step.always() => continue,
                Some(undone) => self.skip(planned, Because::Needs(undone.to_string())),
                None if stop.is_wanted() => self.skip(planned, Because::Interrupted),
                None if settled => State::Running,
                None => continue,
            };
            if state == State::Running {
                ready.push(planned.step.clone());
            }
            self.state.insert(planned.step.clone(), state);
        }
        ready
    }

    fn skip(&self, planned: &Planned, because: Because) -> State {
        let step = planned.step.to_string();
        self.recorder.record(Kind::StepSkipped { step, because });
        State::Undone
    }
}

/// Does one step, recorded before and after.
async fn one(step: &Step, run: &RunContext, recorder: &Recorder, stop: &Stop) -> bool {
    let begun = Instant::now();
    let id = step.to_string();
    recorder.record(Kind::StepStarted { step: id.clone() });
    run.crash.pass(&id, "before").await;
    let result = tokio::select! {
        biased;
        () = stop.wanted(step.always()) => Err(Error::Interrupted),
        result = persist(step, run, recorder) => result,
    };
    run.readings.after(step);
    run.crash.pass(&id, "after").await;
    let done = result.is_ok();
    recorder.record(match result {
        Ok(evidence) => Kind::StepFinished {
            step: id.clone(),
            evidence,
            millis: millis(begun),
        },
        Err(error) => Kind::StepFailed {
            step: id.clone(),
            causes: causes(&error),
            hints: error.hints(),
            severity: error.severity(),
        },
    });
    run.crash.pass(&id, "journalled").await;
    done
}

/// Tries a step again while what fails can heal and there is time.
async fn persist(step: &Step, run: &RunContext, recorder: &Recorder) -> Result<Vec<String>, Error> {
    let id = step.to_string();
    let say = |reason: &str| {
        recorder.record(Kind::StepWaiting {
            step: id.clone(),
            reason: reason.to_owned(),
        });
    };
    let judged = |verdict| {
        recorder.record(Kind::StepJudged {
            step: id.clone(),
            verdict,
        });
    };
    let mut pause = FIRST;
    for tried in 1..TRIES {
        let error = match effect::perform(step, run, &say, &judged).await {
            Ok(evidence) => return Ok(evidence),
            Err(error) => error,
        };
        let wait = match error.recover() {
            // The rights were asked for before the first write, and an API server that has just
            // started forbids everything until it has read its roles.
            Recover::Never if error.is_forbidden() && tried <= FORBIDDEN => pause,
            Recover::Never => return Err(error),
            Recover::After(time) => time,
            Recover::Backoff => pause,
        };
        if wait >= run.deadline.left() {
            return Err(error);
        }
        let reason = causes(&error).join(": ");
        recorder.record(Kind::StepRetry {
            step: id.clone(),
            reason,
        });
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST);
    }
    effect::perform(step, run, &say, &judged).await
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
