//! Doing a plan: each step as soon as what it needs is done.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

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
    let mut board = Board::new(plan, recorder);
    let mut running = JoinSet::new();
    loop {
        for at in board.ready(stop) {
            let (run, recorder, stop) = (run.clone(), recorder.clone(), stop.clone());
            let step = plan.steps[at].step.clone();
            running.spawn(async move { (at, one(&step, &run, &recorder, &stop).await) });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((at, done))) => board.settle(at, done),
            Some(Err(_)) => board.lost(),
        }
    }
    let done = board.state.iter().all(|s| *s == State::Done);
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

/// Which steps wait, run, are done; a step by its place in the plan.
struct Board<'a> {
    state: Vec<State>,
    /// How many of the steps that each needs are not settled yet.
    open: Vec<usize>,
    /// The steps that each needs, and those that need it.
    needs: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
    /// Steps that may begin or be skipped by now: nothing they need is open, or something of it was not done.
    next: BTreeSet<usize>,
    /// Whether all that waits has been looked at since the run was asked to stop.
    stopped: bool,
    plan: &'a Plan,
    recorder: &'a Recorder,
}

impl<'a> Board<'a> {
    fn new(plan: &'a Plan, recorder: &'a Recorder) -> Self {
        let places = plan.steps.iter().enumerate();
        let places: HashMap<_, _> = places.map(|(at, p)| (&p.step, at)).collect();
        let needs = |p: &Planned| p.needs.iter().map(|need| places[need]).collect();
        let needs: Vec<Vec<usize>> = plan.steps.iter().map(needs).collect();
        let mut after = vec![vec![]; plan.steps.len()];
        for (at, needs) in needs.iter().enumerate() {
            needs.iter().for_each(|need| after[*need].push(at));
        }
        Self {
            state: vec![State::Waiting; plan.steps.len()],
            open: needs.iter().map(Vec::len).collect(),
            needs,
            after,
            next: (0..plan.steps.len()).collect(),
            stopped: false,
            plan,
            recorder,
        }
    }

    fn settle(&mut self, at: usize, done: bool) {
        if matches!(self.state[at], State::Done | State::Undone) {
            return;
        }
        self.state[at] = match done {
            true => State::Done,
            false => State::Undone,
        };
        for &after in &self.after[at] {
            self.open[after] -= 1;
            if self.open[after] == 0 || !done {
                self.next.insert(after);
            }
        }
    }

    /// A step's task died: nothing is known of it, so it is not done.
    fn lost(&mut self) {
        for at in 0..self.state.len() {
            if self.state[at] == State::Running {
                self.settle(at, false);
            }
        }
    }

    /// Marks and returns the steps that can begin; skips those that cannot any more.
    fn ready(&mut self, stop: &Stop) -> Vec<usize> {
        // What waits for nothing that was not done is skipped all the same, at once.
        if stop.is_wanted() && !self.stopped || stop.lost().is_some() {
            self.stopped = true;
            self.next = (0..self.state.len()).collect();
        }
        let mut ready = vec![];
        // What a step needs stands before it in a plan, so what is skipped here is known to those behind it.
        while let Some(at) = self.next.pop_first() {
            self.look(at, stop, &mut ready);
        }
        ready
    }

    fn look(&mut self, at: usize, stop: &Stop, ready: &mut Vec<usize>) {
        if self.state[at] != State::Waiting {
            return;
        }
        let planned = &self.plan.steps[at];
        let settled = self.open[at] == 0;
        let mut needs = self.needs[at].iter().copied();
        let undone = needs.find(|need| self.state[*need] == State::Undone);
        let because = match undone {
            // What there is to take away may be another run's by now.
            _ if stop.lost().is_some() => Because::LeaseLost,
            _ if planned.step.always() && !settled => return,
            Some(undone) if !planned.step.always() => {
                Because::Needs(self.plan.steps[undone].step.to_string())
            }
            None if stop.is_wanted() && !planned.step.always() => Because::Interrupted,
            _ if settled => {
                self.state[at] = State::Running;
                ready.push(at);
                return;
            }
            _ => return,
        };
        self.skip(planned, because);
        self.settle(at, false);
    }

    fn skip(&self, planned: &Planned, because: Because) {
        let step = planned.step.to_string();
        self.recorder.record(Kind::StepSkipped { step, because });
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
