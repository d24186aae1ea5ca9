//! Keeping AWS true to what the laboratory tells, and the controller at work.

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    super::{Health, Shared, controller},
    describe::{self, Described, Port},
    member::Member,
    targets::{self, Story, Wanted},
    told::{self, Forced, Teller, Told},
};

/// A target is known by its load balancer, the port there, and its own name.
type Key = (String, u16, String);

pub(super) struct Follow {
    teller: Teller,
    state: Shared,
    members: BTreeMap<String, Member>,
    stories: BTreeMap<Key, Story>,
}

impl Follow {
    pub(super) fn new(laboratory: &str, state: Shared) -> Self {
        Self {
            teller: Teller::new(laboratory),
            state,
            members: BTreeMap::new(),
            stories: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(targets::LEAST);
        loop {
            ticks.tick().await;
            // A cloud that does not answer yet, or no longer, changes nothing.
            if let Some(told) = self.teller.ask().await {
                self.throttle(&told);
                self.take_in(&told).await;
                self.look(&told).await;
                self.control(&told).await;
            }
        }
    }

    /// AWS is one for all clusters: it throttles as much as any of them is told to see.
    fn throttle(&self, told: &Told) {
        let shares = told.clusters.iter().map(|c| c.settings.throttle());
        self.state
            .lock()
            .turned_away
            .set(shares.fold(0.0, f64::max));
    }

    /// Clusters that were not there before; those that are not ready for it are tried again.
    async fn take_in(&mut self, told: &Told) {
        for one in &told.clusters {
            if self.members.contains_key(&one.name) {
                continue;
            }
            match Member::enter(one, self.members.len(), &self.state).await {
                Ok(member) => {
                    tracing::info!(cluster = one.name, "is an EKS cluster now");
                    self.members.insert(one.name.clone(), member);
                }
                Err(error) => tracing::debug!(%error, "not yet"),
            }
        }
    }

    async fn look(&mut self, told: &Told) {
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        for balancer in &told.balancers {
            let Some(home) = told.clusters.iter().find(|c| c.name == balancer.cluster) else {
                continue;
            };
            let service = home
                .services
                .iter()
                .find(|s| s["metadata"]["uid"] == balancer.uid.as_str());
            if let (Some(service), true) = (service, self.members.contains_key(&home.name)) {
                all.push(self.one(balancer, home, service, &mut seen).await);
            }
        }
        self.stories.retain(|key, _| seen.contains(key));
        describe::tell(all, &mut self.state.lock());
    }

    async fn one(
        &mut self,
        balancer: &told::Balancer,
        home: &told::Member,
        service: &Value,
        seen: &mut BTreeSet<Key>,
    ) -> Described {
        let pods = self.pods(home, service).await;
        let none = Vec::new();
        let mut ports = Vec::new();
        for port in service["spec"]["ports"].as_array().unwrap_or(&none) {
            let Some(number) = targets::number(&port["port"]) else {
                continue;
            };
            let nodes = &self.members[&home.name].nodes;
            let wanted = targets::wanted(port, describe::by_address(service), &pods, nodes);
            let targets = self.targets(balancer, home, number, &wanted, seen).await;
            ports.push(Port {
                port: number,
                targets,
            });
        }
        let vpc = &self.members[&home.name].vpc;
        describe::describe(
            balancer,
            service,
            vpc,
            home.settings.pace(),
            ports,
            &self.state.lock(),
        )
    }

    /// The pods a Service selects; none where it is not asked for.
    async fn pods(&self, home: &told::Member, service: &Value) -> Vec<Value> {
        if !describe::by_address(service) {
            return Vec::new();
        }
        let namespace = service["metadata"]["namespace"].as_str();
        let selector = controller::selector(service);
        self.members[&home.name].pods(namespace, &selector).await
    }

    /// The targets of one port, tried where it is time.
    async fn targets(
        &mut self,
        balancer: &told::Balancer,
        home: &told::Member,
        port: u16,
        wanted: &[Wanted],
        seen: &mut BTreeSet<Key>,
    ) -> Vec<(Wanted, Health)> {
        let (pace, now) = (home.settings.pace(), Instant::now());
        for one in wanted {
            let key = (balancer.name.clone(), port, one.id.clone());
            self.stories
                .entry(key)
                .or_insert_with(|| Story::begin(one.clone(), now))
                .stay(one, now);
        }
        let mine = |key: &Key| key.0 == balancer.name && key.1 == port;
        let due = self.stories.iter().filter(|(key, story)| {
            mine(key) && wanted.contains(&story.wanted) && story.is_due(pace, now)
        });
        let tries = due.map(|(key, story)| async {
            let answers = self.teller.answers(&home.name, &story.wanted.address).await;
            (key.clone(), answers)
        });
        for (key, answers) in future::join_all(tries).await {
            if let Some(story) = self.stories.get_mut(&key) {
                story.heard(answers, pace, Instant::now());
            }
        }
        self.stories.retain(|key, story| {
            !mine(key) || wanted.contains(&story.wanted) || story.leave(pace, now)
        });
        let all: Vec<(&Key, &Story)> = self.stories.iter().filter(|(key, _)| mine(key)).collect();
        seen.extend(all.iter().map(|(key, _)| (*key).clone()));
        let told = |story: &Story| match home.settings.forced() {
            Some(Forced::NoTargets) => None,
            Some(Forced::Health(health)) => Some((story.wanted.clone(), health)),
            None => Some((story.wanted.clone(), story.health.clone())),
        };
        all.into_iter()
            .filter_map(|(_, story)| told(story))
            .collect()
    }

    /// The controller of every cluster that has work for it.
    async fn control(&self, told: &Told) {
        let one = |home: &'_ told::Member| {
            let member = self.members.get(&home.name);
            let services: Vec<Value> = home
                .services
                .iter()
                .filter(|s| controller::is_ours(s))
                .cloned()
                .collect();
            async move {
                let Some(member) = member.filter(|_| !services.is_empty()) else {
                    return;
                };
                if !member.is_served().await {
                    return;
                }
                for service in &services {
                    if let Err(error) = member.controller.tend(service).await {
                        tracing::debug!(%error, "the controller tries again");
                    }
                }
            }
        };
        future::join_all(told.clusters.iter().map(one)).await;
    }
}
