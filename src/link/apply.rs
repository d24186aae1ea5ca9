//! Doing a plan. The protocol that makes a change safe stands here, once, and no caller can leave a part of it out:
//!
//! 1. **rights**: what it needs is asked for, and refused before the first write where something is missing;
//! 2. **consent**: somebody agrees to the plan;
//! 3. **Lease**: that of every member is taken, so that nobody else changes the mesh meanwhile;
//! 4. **look again**: a plan is only as good as what it was made from, and somebody may have been at work since;
//! 5. **do**: each step as soon as what it needs is done, with a journal, until its effect was observed;
//! 6. **release**: the Leases are given up, whatever happened;
//! 7. **verdict**: what stands is looked at, with what was proved on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use super::{
    Meshlink, PlannedChange,
    change::{Affected, Change, Consent, Question, declined},
    charts,
    failure::{Failure, Kind},
    look::Look,
};
use crate::{
    cluster::lease::{Identity, Terms},
    engine::{
        self, Busy, Lock, Patience, Readings, Recorder, RunContext, Sink, Stop, event::Event,
    },
    hint::Hint,
    machine::{self, Process},
    mutex,
    name::ClusterName,
    observe::Observed,
    pki,
    plan::{self, Note, Plan, leave::Leave},
    report::{Folding, Report, RunOutcome},
    verify::{Depth, Verdict},
    wait::Deadline,
};

/// As long as it is there, something is being changed.
struct Changing<'a>(&'a AtomicBool);

impl<'a> Changing<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, SeqCst);
        Self(flag)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

impl PlannedChange<'_> {
    /// Does what was planned, and tells what became of it. `events` hears of every step as it happens.
    ///
    /// # Errors
    ///
    /// Missing rights, nobody who agrees, a member that somebody else is changing, members that cannot be read. That
    /// a step fails is no error: the report says so, by its outcome and by what failed.
    ///
    /// # Caveats
    ///
    /// The members are looked at again when their Leases are held. What is done is the plan of that look; if it holds
    /// a step that the first plan did not, it is asked for consent again.
    ///
    /// # Example
    ///
    /// Consent may be anything that looks at the plan; here, on embedded clusters, whoever would delete something is
    /// refused.
    ///
    /// ```
    /// # #[cfg(feature = "sandbox")]
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    /// use std::sync::Arc;
    ///
    /// use meshlink::{Change, Environment, Event, Meshlink, Question, RunOutcome, Step, spec::Mesh};
    /// # use meshlink::sandbox::{Options, Sandbox};
    /// # let folder = tempfile::tempdir()?;
    /// # let sandbox = Sandbox::start(Options::count(2, folder.path())).await?;
    /// # let environment = Environment::of_sandbox(sandbox.endpoints(), jiff::Timestamp::now);
    ///
    /// let mesh = Mesh::named(&["eks-1".into(), "eks-2".into()])?;
    /// let link = Meshlink::open(mesh, environment).await?;
    /// let gentle = |question: &Question<'_>| {
    ///     let mut steps = question.plan.steps.iter();
    ///     Ok(!steps.any(|planned| matches!(planned.step, Step::RemoveNamespaces(_))))
    /// };
    /// let change = link.plan(Change::Join).await?;
    /// let report = change.apply(&gentle, Arc::new(|event: &Event| println!("{event}"))).await?;
    /// assert_eq!(report.outcome, RunOutcome::Done);
    /// assert!(link.verdict(Some(&report)).await?.is_proved());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sandbox"))]
    /// # fn main() {}
    /// ```
    pub async fn apply(
        self,
        consent: &dyn Consent,
        events: Arc<dyn Sink>,
    ) -> Result<Report, Failure> {
        let link = &*self.link;
        if self.look.plan.is_empty() {
            let mut report = self.nothing_to_do().await?;
            report.without(link.unreachable.values().cloned().collect());
            return Ok(report);
        }
        link.refuse_insecure(true)?;
        for purpose in self.change.purposes(&self.look.plan) {
            link.check_rights(purpose).await?;
        }
        link.agree(consent, &self.look.plan, false, None)?;
        let _changing = Changing::begin(&link.environment.changing);
        let lock = link.lock(consent, &self.look).await?;
        let stop = Stop::when(&link.environment.cancel, lock.fence());
        let done = self.under_the_leases(consent, events, &stop).await;
        let uninstalled = self.change.leave().uninstall
            && done.as_ref().is_ok_and(|r| r.outcome == RunOutcome::Done);
        lock.release(uninstalled).await;
        let mut report = done?;
        self.conclude(&mut report).await?;
        report.without(link.unreachable.values().cloned().collect());
        Ok(report)
    }

    /// Everything that is safe only while nobody else changes the mesh.
    async fn under_the_leases(
        &self,
        consent: &dyn Consent,
        events: Arc<dyn Sink>,
        stop: &Stop,
    ) -> Result<Report, Failure> {
        let link = &*self.link;
        let look = link.look(&self.change, &self.inputs).await?;
        if let Change::Join | Change::Upgrade(_) = self.change {
            // Written down before anything is done: a leave must find all members of a join that died.
            link.remember(&link.mesh)?;
            link.pin(&look);
        }
        if let Change::Adopt(_) = self.change {
            link.pin(&look);
        }
        if !look.plan.is_within(&self.look.plan) {
            link.agree(consent, &look.plan, true, None)?;
        }
        if look.plan.is_empty() {
            // Somebody else has done it meanwhile.
            return Ok(link.report());
        }
        link.execute(&self.change, look, events, stop).await
    }

    async fn nothing_to_do(&self) -> Result<Report, Failure> {
        let link = &*self.link;
        let mut report = Report {
            notes: self.look.plan.notes.clone(),
            ..link.report()
        };
        match &self.change {
            Change::Join | Change::Upgrade(_) => {
                link.remember(&link.mesh)?;
                link.pin(&self.look);
                report.notes.clear();
                report.verdict = Some(link.judge(&self.look.reading).await);
            }
            Change::Leave(leave) => link.forget(&self.gone(leave))?,
            // What stands is told, as after a join.
            Change::Renew(_) | Change::Rotate(_) | Change::Mend => {
                report.verdict = Some(link.judge(&self.look.reading).await);
            }
            Change::Adopt(_)
            | Change::Verify
            | Change::SampleUp(_)
            | Change::SampleDown(_)
            | Change::Rollout(_) => {}
        }
        Ok(report)
    }

    /// A leave with those who never were members, as they say themselves: they are not written down any more.
    fn gone(&self, leave: &Leave) -> Leave {
        let mut gone = leave.clone();
        let observed = &self.look.reading.observed.clusters;
        let members = self.link.mesh.clusters.iter().map(|m| &m.name);
        let strangers =
            members.filter(|n| !leave.leavers.contains(n) && !observed.contains_key(*n));
        gone.leavers.extend(strangers.cloned());
        gone
    }

    /// What stands at the end.
    async fn conclude(&self, report: &mut Report) -> Result<(), Failure> {
        let finished = matches!(report.outcome, RunOutcome::Done | RunOutcome::NothingToDo);
        let verdict = match &self.change {
            Change::Join
            | Change::Upgrade(_)
            | Change::Renew(_)
            | Change::Rotate(_)
            | Change::Mend => self.link.final_verdict(report).await,
            Change::Leave(leave) if finished => {
                let gone = self.gone(leave);
                self.link.forget(&gone)?;
                let rest = self.link.without(&gone.leavers);
                if rest.clusters.len() < 2 {
                    return Ok(());
                }
                rest.final_verdict(report).await
            }
            _ => return Ok(()),
        };
        match verdict {
            Ok(verdict) => report.verdict = Some(verdict),
            // A cluster that died in the run cannot be looked at now; what was done stands all the same.
            Err(_) if !finished => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl Meshlink {
    fn agree(
        &self,
        consent: &dyn Consent,
        plan: &Plan,
        again: bool,
        breaks: Option<(&str, &str)>,
    ) -> Result<(), Failure> {
        if self.environment.embedded {
            return Ok(());
        }
        let members = self
            .mesh
            .clusters
            .iter()
            .map(|m| self.affected(&m.name, plan));
        let members: Vec<_> = members.collect();
        let question = Question {
            mesh: &self.mesh.id,
            members: &members,
            plan,
            again,
            breaks,
        };
        match consent.ask(&question)? {
            true => Ok(()),
            false => Err(declined()),
        }
    }

    fn affected(&self, name: &ClusterName, plan: &Plan) -> Affected {
        let server = self.clusters.get(name).map(|c| c.server().to_owned());
        let steps = || {
            let steps = plan.steps.iter();
            steps.filter(|planned| planned.step.cluster() == Some(name))
        };
        Affected {
            name: name.to_string(),
            server: server.unwrap_or_default(),
            account: self.aws.of(name).0.and_then(|place| place.account),
            changes: steps().count(),
            deletions: steps()
                .filter(|planned| planned.step.deletes() || !planned.deletes.is_empty())
                .count(),
        }
    }

    /// Takes every member's Lease, waiting for others as long as was asked for.
    async fn lock(&self, consent: &dyn Consent, look: &Look) -> Result<Lock, Failure> {
        let environment = &self.environment;
        let run = pki::random_id().map_err(|e| Failure::failed(&e))?;
        let identity = Identity::new(&environment.operator, run, Process::this());
        let mut terms = Terms::new(
            identity,
            environment.clock.clone(),
            Arc::new(machine::uptime),
        );
        let patience = Patience {
            wait: environment.wait_lock,
            going: environment.timeout,
            cancel: &environment.cancel,
            // Who does not wait for others is told by the refusal.
            say: &*environment.notices,
        };
        let observed = &look.reading.observed;
        // Nothing is written where nothing is to be done.
        let mut clusters = self.clusters.clone();
        clusters.retain(|name, _| observed.clusters.contains_key(name));
        loop {
            let shared = Arc::new(terms.clone());
            let lock = engine::lock(&clusters, observed, &self.mesh, &shared, &patience);
            match lock.await {
                Ok(lock) => return Ok(lock),
                Err(engine::Error::Busy(busy)) if environment.break_lease => {
                    let (cluster, holder) = (busy.cluster.to_string(), busy.holder.to_string());
                    self.agree(consent, &look.plan, false, Some((&cluster, &holder)))?;
                    environment.say(&format!("{cluster}: the lease of {holder} is taken away"));
                    terms.broken.insert(busy.holder.identity);
                }
                Err(engine::Error::Busy(busy)) => return Err(self.busy(&busy)),
                Err(engine::Error::Interrupted) => return Err(declined()),
                Err(error) => return Err(Failure::failed(&error)),
            }
        }
    }

    /// Another run is at work: the command that waits for it or, where that was in vain, the one that ends the wait.
    fn busy(&self, busy: &Busy) -> Failure {
        let environment = &self.environment;
        let (flag, remark) = match environment.wait_lock.is_zero() {
            true => ("--wait-lock 10m", "waits for it"),
            false => ("--break-lease", "only if that run is dead for certain"),
        };
        let hint = match environment.command.starts_with("meshlink ") {
            true => Hint::shell(format!("{} {flag}", environment.command)).remark(remark),
            false => Hint::note("run it again when that is over"),
        };
        Failure::new(Kind::Busy, busy).hint(hint)
    }

    /// Writes down which charts the mesh is made of.
    fn pin(&self, look: &Look) {
        let say = |text: &str| self.environment.say(text);
        charts::pin(self.charts.1.lock.as_ref(), &look.desired, &say);
    }

    /// Runs a plan: journalled, told as it happens, folded at the end.
    async fn execute(
        &self,
        change: &Change,
        look: Look,
        events: Arc<dyn Sink>,
        stop: &Stop,
    ) -> Result<Report, Failure> {
        let environment = &self.environment;
        let clock = &environment.clock;
        let started = clock().strftime("%Y%m%dT%H%M%S").to_string();
        let run = format!("{started}-{}", std::process::id());
        let journal = Some(self.journal()?);
        let folding = Arc::new(Mutex::new(Folding::default()));
        let folds = folding.clone();
        let folds = move |event: &Event| mutex::lock(&folds).add(event);
        let sinks: Vec<Arc<dyn Sink>> = vec![Arc::new(folds), events];
        let recorder = Recorder::new(run, clock.clone(), journal, sinks);
        let recorder = Arc::new(recorder);
        let plan = look.plan;
        let run = self.run(change, &look.reading.observed, look.desired, stop);
        let mut run = run.await;
        run.deletions = plan.deletions();
        run.takings = plan.takings();
        let run = Arc::new(run);
        engine::run(&environment.command, &plan, &run, &recorder, stop).await;
        let trouble = recorder.trouble().map(|why| {
            let text = format!("the journal does not hold this run to its end: {why}");
            Note::with(text, vec![])
        });
        Ok(Report {
            notes: plan.notes.into_iter().chain(trouble).collect(),
            environment: self.environment_name(),
            ..std::mem::take(&mut *mutex::lock(&folding)).finish()
        })
    }

    /// Everything the steps of a run are done with.
    async fn run(
        &self,
        change: &Change,
        observed: &Observed,
        desired: crate::plan::Desired,
        stop: &Stop,
    ) -> RunContext {
        let (environment, leave) = (&self.environment, change.leave());
        let mut mesh = leave.rest(&self.mesh);
        mesh.clusters
            .retain(|m| observed.clusters.contains_key(&m.name));
        let owners = observed.clusters.iter();
        let owners = owners.map(|(name, seen)| (name.clone(), seen.owner(&mesh.id, name)));
        let owners = owners.collect();
        let found = |m: &crate::spec::Member| (m.name.clone(), super::record::found_by(&m.reach));
        let mut left = BTreeSet::new();
        let seen = super::look::Reading {
            observed: observed.clone(),
            tokens: Default::default(),
        };
        for leaver in &leave.leavers {
            let addresses = self.verifier(&seen).expected(leaver).await;
            left.extend(addresses.unwrap_or_default());
        }
        let members = observed.clusters.keys();
        let readers = members
            .map(|name| (name.clone(), plan::readers::wanted(&mesh, observed, name)))
            .collect();
        RunContext {
            readers,
            reaches: mesh.clusters.iter().map(found).collect(),
            mesh,
            clusters: self
                .clusters
                .iter()
                .map(|(name, cluster)| (name.clone(), cluster.fenced(stop.fence())))
                .collect(),
            desired,
            resolver: self.resolver.clone(),
            vault: self.vault.clone(),
            texts: environment.manifests.clone(),
            layout: self.layout(observed),
            aws: self.asked_aws(),
            connect: environment.connect.clone(),
            embedded: environment.embedded,
            owners,
            deletions: BTreeMap::new(),
            leave,
            left,
            rotation: change.rotation(observed, &self.mesh.id),
            rollout: change.rollout(),
            adoption: change.adoption(),
            takings: BTreeMap::new(),
            sample: change.sample(),
            depth: match change {
                Change::Verify => Depth::Every,
                _ => Depth::Traffic,
            },
            readings: Readings::default(),
            deadline: Deadline::after(environment.timeout),
            clock: environment.clock.clone(),
            crash: environment.crash.clone(),
        }
    }

    /// A report of a run that had no steps, because there was nothing to do.
    pub(crate) fn report(&self) -> Report {
        Report {
            command: self.environment.command.clone(),
            mesh: self.mesh.id.to_string(),
            environment: self.environment_name(),
            started: Some((self.environment.clock)()),
            outcome: RunOutcome::NothingToDo,
            ..Report::default()
        }
    }

    /// What stands at the end. A run that came to its end and proved every pair has just seen it; else it is looked
    /// at again, with what was proved.
    async fn final_verdict(&self, report: &Report) -> Result<Verdict, Failure> {
        if report.outcome == RunOutcome::Done {
            let members = self.mesh.clusters.iter().map(|m| m.name.to_string());
            let proved = Verdict::of_pairs(
                members.collect(),
                self.mesh.peers.clone(),
                report.proofs.values(),
            );
            if let Some(verdict) = proved {
                return Ok(self.with_balancers(verdict).await);
            }
        }
        self.verdict(Some(report)).await
    }
}
