//! What is read of the members, and the plan that follows from it.

use std::collections::BTreeMap;

use futures::future;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    Meshlink,
    admission::not_reached,
    change::Change,
    charts,
    failure::{Failure, Kind, Problem},
};
use crate::{
    aws::{
        gateway,
        preflight::{Finding, Level},
    },
    cluster::{Access, Cluster, Kind as ObjectKind, Ref, preflight},
    engine::{
        self,
        sample::{self, Sample},
        survey,
    },
    hint::Hint,
    name::ClusterName,
    observe::{Lens, Observed, Tokens, Unreachable},
    plan::{
        self, Desired, Note, Plan, Refusal, desire::Additions, leave::Leave, rotate::Rotate,
        upgrade::Upgrade,
    },
    verify::{self, Depth, Verdict},
};

/// What a plan is made from besides what is read: fetched once, and used for every look.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    wanted: Option<Additions>,
    /// Charts that were fetched: which, is known when the members were read.
    charts: Mutex<charts::Fetches>,
    upgrade: Option<Upgrade>,
    findings: Vec<Finding>,
    /// Members that did not answer when they were asked what their gateways need: nothing is done in them, even if they
    /// answer later.
    silent: BTreeMap<ClusterName, Unreachable>,
}

/// What the gateways' Services must say on AWS, and what was found there.
#[derive(Debug, Default)]
pub(crate) struct Exposure {
    pub(crate) values: BTreeMap<ClusterName, Value>,
    pub(super) findings: Vec<Finding>,
    silent: BTreeMap<ClusterName, Unreachable>,
}

/// What was read, with the tokens the members use on each other.
pub(crate) struct Reading {
    pub(crate) observed: Observed,
    pub(crate) tokens: Tokens,
}

/// What was read, what should be, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) reading: Reading,
    pub(super) desired: Desired,
    pub(super) plan: Plan,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Inputs {
    /// Fetches the charts and reads the owner's values, where the change needs them.
    pub(super) async fn of(link: &Meshlink, change: &Change) -> Result<Self, Failure> {
        let proves = match change {
            Change::Join
            | Change::Adopt(_)
            | Change::Verify
            | Change::Upgrade(_)
            | Change::Mend => true,
            // Who goes back has proved nothing new.
            Change::Rotate(how) => !how.abort,
            _ => false,
        };
        if !proves {
            return Ok(Self::default());
        }
        let Exposure {
            values: exposure,
            findings,
            silent,
        } = link.exposure().await?;
        let additions = Additions {
            istiod: charts::istiod_values(&link.mesh)?,
            gateway: charts::owner_values(&link.mesh.gateway.values)?,
            exposure,
        };
        Ok(Self {
            wanted: Some(additions),
            charts: Mutex::default(),
            upgrade: match change {
                Change::Upgrade(upgrade) => Some(upgrade.clone()),
                _ => None,
            },
            findings,
            silent,
        })
    }

    /// What AWS says against a join, and what to know though nothing is to be done about it.
    fn found(&self, ignored: &[String]) -> (Vec<Refusal>, Vec<Note>) {
        let (mut against, mut notes) = (vec![], vec![]);
        for finding in self.findings.iter().filter(|f| f.level != Level::Pass) {
            let Finding {
                check,
                cluster,
                text,
                fix,
                ..
            } = finding;
            if finding.level == Level::Fail && !ignored.iter().any(|i| i == check) {
                let mut hints = fix.clone();
                hints.push(Hint::note(format!(
                    "to continue in spite of it: --ignore {check}"
                )));
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
}

impl Meshlink {
    /// Reads the members and plans. The same from the first look to the one under the Leases.
    pub(super) async fn look(&self, change: &Change, inputs: &Inputs) -> Result<Look, Failure> {
        match change {
            Change::Join => self.look_to_join(inputs).await,
            Change::Mend => self.look_to_mend(inputs).await,
            Change::Upgrade(_) => self.look_to_upgrade(inputs).await,
            Change::Adopt(how) => self.look_to_adopt(how, inputs).await,
            Change::Leave(leave) => self.look_to_leave(leave).await,
            Change::Renew(renew) => self.look_to_renew(renew).await,
            Change::Verify => {
                let (reading, desired) = self.survey(inputs).await?;
                self.refuse_other_meshes(&reading.observed)?;
                self.refuse_strangers(&reading)?;
                let names = self.clusters.keys();
                let observed = &reading.observed;
                let probes = names
                    .filter_map(|n| plan::ownership::probe_in_the_way(&self.mesh, observed, n));
                let probes: Vec<_> = probes.collect();
                if !probes.is_empty() {
                    return Err(refused(probes));
                }
                let plan = plan::join::proof(&self.mesh, &reading.observed);
                Ok(Look {
                    reading,
                    desired,
                    plan,
                })
            }
            Change::Rotate(how) => self.look_to_rotate(how, inputs).await,
            Change::SampleUp(sample) => {
                let look = self.look_at_samples(true).await?;
                self.refuse_foreign(sample, &look.reading).await?;
                Ok(look)
            }
            Change::SampleDown(_) => self.look_at_samples(false).await,
            Change::Rollout(how) => self.look_to_roll(how).await,
        }
    }

    async fn look_at_samples(&self, install: bool) -> Result<Look, Failure> {
        let reading = self.read().await?;
        all_reached(&reading.observed)?;
        self.refuse_strangers(&reading)?;
        Ok(Look {
            reading,
            desired: Desired::default(),
            plan: plan::sample(&self.mesh, install),
        })
    }

    /// Refuses to write to a cluster that does not say itself that it is a member: who is one was read from another.
    pub(super) fn refuse_strangers(&self, reading: &Reading) -> Result<(), Failure> {
        let strangers = plan::ownership::strangers(&self.mesh, &reading.observed);
        match strangers.is_empty() {
            true => Ok(()),
            false => Err(refused(strangers)),
        }
    }

    /// Refuses a namespace that is somebody else's, in any member, before anything is put into one.
    async fn refuse_foreign(&self, sample: &Sample, reading: &Reading) -> Result<(), Failure> {
        let observed = &reading.observed.clusters;
        let clusters = self.clusters.iter();
        let looks = clusters.filter_map(|(name, cluster)| {
            let owner = observed.get(name)?.owner(&self.mesh.id, name);
            Some(async move { sample.refuse_strangers(cluster, &owner).await })
        });
        let errors = future::join_all(looks).await.into_iter();
        let failure = |error: sample::Error| {
            let kind = match error {
                sample::Error::NotOurs { .. } | sample::Error::Foreign(_) => Kind::Refused,
                _ => Kind::Failed,
            };
            let failure = Failure::new(kind, &error);
            error.hints().into_iter().fold(failure, Failure::hint)
        };
        let failures = errors.filter_map(Result::err).map(failure);
        failures.reduce(Failure::and).map_or(Ok(()), Err)
    }

    /// A join where one member is given another version. All members are proved before the next one is changed, so all have to
    /// be there.
    async fn look_to_upgrade(&self, inputs: &Inputs) -> Result<Look, Failure> {
        let look = self.look_to_join(inputs).await?;
        all_reached(&look.reading.observed)?;
        self.refuse_strangers(&look.reading)?;
        Ok(look)
    }

    pub(super) async fn look_to_join(&self, inputs: &Inputs) -> Result<Look, Failure> {
        if let Some(refusal) = self.namesake().await {
            return Err(refused(vec![refusal]));
        }
        let (mut reading, desired) = self.survey(inputs).await?;
        enough_reached(&reading.observed)?;
        if let Err(unseen) = self.lens().look_for_elsewhere(&mut reading.observed).await {
            return Err(self.unread(&unseen).await);
        }
        let unread = reading.observed.unreachable.values().map(passed_over);
        let unread: Vec<_> = unread.collect();
        let (mut against, mut notes) = inputs.found(&self.environment.ignored_checks);
        let (off, known) = self.clocks();
        against.extend(off);
        notes.extend(known);
        if inputs.upgrade.is_none() {
            let observed = &reading.observed;
            against.extend(plan::upgrade::refused_to_a_join(&self.mesh, observed));
        }
        let plan = match plan::join::join(&self.mesh, &desired, &reading.observed) {
            // A mesh that stands has shown that it can.
            Ok(plan) if plan.is_empty() || against.is_empty() => plan,
            Ok(_) => return Err(refused(against)),
            Err(refusals) => return Err(refused([refusals, against].concat())),
        };
        Ok(Look {
            reading,
            desired,
            plan: Plan {
                notes: [unread, plan.notes, notes].concat(),
                ..plan
            },
        })
    }

    async fn look_to_rotate(&self, how: &Rotate, inputs: &Inputs) -> Result<Look, Failure> {
        let (mut reading, desired) = self.survey(inputs).await?;
        self.refuse_other_meshes(&reading.observed)?;
        // A member that is away holds a change that has begun; none is begun without it.
        if reading.observed.succession().is_none() {
            all_reached(&reading.observed)?;
        }
        let (off, known) = self.clocks();
        if !off.is_empty() {
            return Err(refused(off));
        }
        let lens = self.lens();
        let observed = std::mem::take(&mut reading.observed);
        let looked = lens.look_at_proxies(observed).await;
        reading.observed = match looked {
            Ok(observed) => observed,
            Err(unseen) => return Err(self.unread(&unseen).await),
        };
        self.with_unreachable(&lens, &mut reading.observed).await;
        let now = (self.environment.clock)();
        let plan = plan::rotate::rotate(&self.mesh, &reading.observed, how, now);
        let mut plan = plan.map_err(refused)?;
        plan.notes.extend(known);
        Ok(Look {
            reading,
            desired,
            plan,
        })
    }

    async fn look_to_leave(&self, leave: &Leave) -> Result<Look, Failure> {
        let lens = self.lens();
        let mut reading = self.read_by(&lens, &plan::leave::refs(&self.mesh)).await?;
        all_reached(&reading.observed)?;
        let aside = plan::leave::bystanders(&self.mesh, &reading.observed, leave);
        let observed = &mut reading.observed;
        observed
            .clusters
            .retain(|name, _| !aside.contains_key(name));
        let (istio, gateway) = (self.mesh.istio.namespace.as_str(), &self.mesh.gateway);
        let mut releases = vec![(gateway.name.as_str(), gateway.namespace.as_str())];
        let more = async {
            if leave.uninstall {
                releases.extend([("istiod", istio), ("istio-base", istio)]);
                lens.look_for_sidecars(observed).await?;
                lens.look_for_strangers(observed, &leave.leavers).await?;
            }
            engine::look_into_releases(&lens, observed, &leave.leavers, &releases).await?;
            lens.look_for_leftovers(observed, &leave.leavers).await
        };
        if let Err(unseen) = more.await {
            return Err(self.unread(&unseen).await);
        }
        let mut plan = plan::leave::leave(&self.mesh, &reading.observed, leave).map_err(refused)?;
        let notes = aside.into_iter();
        let notes = notes.map(|(name, why)| format!("nothing is done in {name}: it {why}").into());
        plan.notes.extend(notes);
        Ok(Look {
            reading,
            desired: Desired::default(),
            plan,
        })
    }

    /// Reads the members, and says what they should hold.
    pub(super) async fn survey(&self, inputs: &Inputs) -> Result<(Reading, Desired), Failure> {
        let Some(additions) = &inputs.wanted else {
            return Ok((self.read().await?, Desired::default()));
        };
        let lens = self.lens();
        let texts = &self.environment.manifests;
        let observed = match lens.look().await {
            Ok(observed) => observed,
            Err(unseen) => return Err(self.unread(&unseen).await),
        };
        if let Some(upgrade) = &inputs.upgrade {
            let against = plan::upgrade::refusals(&self.mesh, &observed, upgrade);
            if !against.is_empty() {
                return Err(refused(against));
            }
        }
        let (source, fetch) = &self.charts;
        let mut known = inputs.charts.lock().await;
        let (mesh, upgrade) = (&self.mesh, inputs.upgrade.as_ref());
        let charts = charts::of_members(mesh, &observed, (source, fetch), upgrade, &mut known);
        let charts = charts.await?;
        drop(known);
        let surveyed = survey(&lens, observed, &charts, additions, texts).await;
        let (mut observed, desired) = match surveyed {
            Ok(surveyed) => surveyed,
            Err(engine::Failed::Unseen(unseen)) => return Err(self.unread(&unseen).await),
            Err(engine::Failed::Undesired(error)) => return Err(charts::undesired(&error)),
        };
        for (name, unreachable) in &inputs.silent {
            observed.clusters.remove(name);
            let told = observed.unreachable.entry(name.clone());
            told.or_insert_with(|| unreachable.clone());
        }
        self.with_unreachable(&lens, &mut observed).await;
        let tokens = lens.tokens(&observed).await;
        Ok((Reading { observed, tokens }, desired))
    }

    /// Reads everything a leave or a verification needs.
    pub(crate) async fn read(&self) -> Result<Reading, Failure> {
        self.read_with(&self.lens()).await
    }

    /// The same through a lens that is looked through again.
    pub(super) async fn read_with(&self, lens: &Lens<'_>) -> Result<Reading, Failure> {
        let namespaces = [&self.mesh.istio.namespace, &self.mesh.gateway.namespace];
        let refs = namespaces.map(|n| Ref::cluster(&ObjectKind::NAMESPACE, n.as_str()));
        let names = self.clusters.keys().cloned();
        let refs = names.map(|name| (name, refs.to_vec())).collect();
        let reading = self.read_by(lens, &refs).await?;
        self.refuse_other_meshes(&reading.observed)?;
        Ok(reading)
    }

    async fn read_by(
        &self,
        lens: &Lens<'_>,
        refs: &BTreeMap<ClusterName, Vec<Ref>>,
    ) -> Result<Reading, Failure> {
        let look = async {
            let observed = lens.look().await?;
            lens.look_at(observed, refs).await
        };
        let mut observed = match look.await {
            Ok(observed) => observed,
            Err(unseen) => return Err(self.unread(&unseen).await),
        };
        self.with_unreachable(lens, &mut observed).await;
        let tokens = lens.tokens(&observed).await;
        Ok(Reading { observed, tokens })
    }

    pub(super) fn lens(&self) -> Lens<'_> {
        let environment = &self.environment;
        let now = (environment.clock)();
        Lens::new(
            &self.mesh,
            &self.vault,
            &self.clusters,
            environment.embedded,
            now,
        )
        .within(environment.timeout)
    }

    /// What a verification looks with.
    pub(crate) fn verifier<'a>(&'a self, reading: &'a Reading) -> verify::Verifier<'a> {
        verify::Verifier {
            mesh: &self.mesh,
            clusters: &self.clusters,
            observed: [Some(&reading.observed), None],
            tokens: &reading.tokens,
            resolver: &self.resolver,
            connect: &self.environment.connect,
            now: (self.environment.clock)(),
        }
    }

    /// What is to be said of what was read.
    pub(crate) async fn judge(&self, reading: &Reading) -> Verdict {
        let verdict = verify::verify(&self.verifier(reading), Depth::Istiods).await;
        self.with_balancers(verdict).await
    }

    /// With what AWS says of the gateways, where it may be asked.
    pub(super) async fn with_balancers(&self, mut verdict: Verdict) -> Verdict {
        if let Some(members) = self.asked_aws() {
            self.look_at_balancers(&members, &mut verdict).await;
        }
        verdict
    }

    /// Refuses before the first write where a right is missing, and names every one.
    pub(super) async fn check_rights(&self, purpose: preflight::Purpose) -> Result<(), Failure> {
        let gateways = self.mesh.gateway.namespace.as_str();
        let members = self.clusters.values();
        let renewer = self.mesh.renewer.is_some();
        let checks = members
            .map(|c| async move { (c, preflight::check(c, purpose, gateways, renewer).await) });
        let mut errors = vec![];
        for (cluster, missing) in future::join_all(checks).await {
            let missing = match missing {
                Ok(missing) => missing,
                Err(error) => return Err(self.unanswered(&error).await),
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
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Failure {
                kind: Kind::Refused,
                errors,
            }),
        }
    }

    /// What the gateways' Services must say on AWS, and what was found there; nothing elsewhere.
    pub(crate) async fn exposure(&self) -> Result<Exposure, Failure> {
        if !self.aws.any() {
            return Ok(Exposure::default());
        }
        let member = |(name, cluster): (&ClusterName, &Cluster)| {
            let (place, who) = self.aws.of(name);
            gateway::Member {
                cluster: cluster.clone(),
                place,
                who,
            }
        };
        let members: Vec<_> = self.clusters.iter().map(member).collect();
        let clock = &self.environment.clock;
        let now = || std::time::SystemTime::from(clock());
        let derived = gateway::derive(self.aws.aws(), &members, &self.mesh, now).await;
        let (mut silent, mut errors) = (BTreeMap::new(), vec![]);
        for error in derived.errors {
            match self.unanswering(&error) {
                Some((name, unreachable)) => drop(silent.insert(name, unreachable)),
                None => errors.push(error),
            }
        }
        if let Some(failure) = self.underived(&errors).await {
            return Err(failure);
        }
        let named =
            |name: &ClusterName| Some((name.clone(), derived.values.get(name.as_str())?.clone()));
        Ok(Exposure {
            values: self.clusters.keys().filter_map(named).collect(),
            findings: derived.findings,
            silent,
        })
    }

    /// The member that did not answer, if that is all that is wrong.
    fn unanswering(&self, error: &gateway::Error) -> Option<(ClusterName, Unreachable)> {
        let gateway::Error::Nodes { cluster, source } = error else {
            return None;
        };
        let name = cluster.parse().ok()?;
        let unreachable = Unreachable::of(&name, self.clusters.get(&name)?.server(), source);
        unreachable.silent.then_some((name, unreachable))
    }

    /// Every reason why a gateway has no values.
    async fn underived(&self, errors: &[gateway::Error]) -> Option<Failure> {
        let mut all: Option<Failure> = None;
        for error in errors {
            let failure = match error {
                gateway::Error::Nodes { source, .. } => self.unanswered(source).await,
                gateway::Error::Undecided(_) | gateway::Error::NoClass { .. } => {
                    Failure::new(Kind::Refused, error)
                }
                _ => Failure::failed(error),
            };
            let failure = error.hint().into_iter().fold(failure, Failure::hint);
            all = Some(match all {
                Some(all) => all.and(failure),
                None => failure,
            });
        }
        all
    }
}

/// What a join does without, and how to go on.
pub(super) fn passed_over(member: &Unreachable) -> Note {
    let mut hints = vec![Hint::join_again([&member.cluster]).remark("once it answers again")];
    hints.extend(member.hints.clone());
    let text = format!("nothing is done in {}: {}", member.cluster, member.line());
    Note::with(text, hints)
}

/// Refuses to go on where something is to be done in every member and one could not be read.
pub(super) fn all_reached(observed: &Observed) -> Result<(), Failure> {
    match observed.unreachable.is_empty() {
        true => Ok(()),
        false => Err(not_reached(observed.unreachable.values())),
    }
}

/// Refuses to join with members that whoever asks for it can make readable, or with nobody left to join. Members whose
/// API servers are out of order are joined when they are there again.
fn enough_reached(observed: &Observed) -> Result<(), Failure> {
    let silent = observed.unreachable.values().all(|u| u.silent);
    match silent && observed.clusters.len() > 1 {
        true => Ok(()),
        false => all_reached(observed),
    }
}

/// Every reason against it, each with its ways on.
pub(super) fn refused(refusals: Vec<Refusal>) -> Failure {
    let one = |r: Refusal| Problem {
        causes: vec![r.to_string()],
        hints: r.hints,
    };
    Failure {
        kind: Kind::Refused,
        errors: refusals.into_iter().map(one).collect(),
    }
}
