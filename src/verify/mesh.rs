//! Looking at a whole mesh, pair by pair, side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::future;
use jiff::Timestamp;

use super::{
    Asked, Check, Claim, Outcome, Verdict, check, expiry, istiod, istios, pair, roots,
    traffic::Traffic,
};
use crate::{
    causes,
    cluster::{self, Cluster, ConnectOptions, Token},
    ends::Ends,
    hint::Hint,
    name::ClusterName,
    observe::{Observed, Seen, Succession, Tokens, Unreachable, proof_digest},
    probe::{Probe, Trouble, Way},
    resolve::Resolver,
    spec::{GATEWAY_PORT, Member, Mesh},
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// And what every istiod replica says.
    Istiods,
    /// And what a proxy holds and what answers; needs the probes.
    Traffic,
    /// And every way of asking, at each address by itself.
    Every,
}

/// How many questions a proof asks in each direction through the proxies.
const QUESTIONS: usize = 10;
/// How many at each address, and in the ways that are asked beside.
const FEWER: usize = 5;
/// How many series of questions a pair asks at once.
const ABREAST: usize = 6;

/// What a verification looks with.
pub(crate) struct Verifier<'a> {
    /// The mesh.
    pub mesh: &'a Mesh,
    /// The members' API servers.
    pub clusters: &'a BTreeMap<ClusterName, Cluster>,
    /// What was read of them: of all at once, or of two one by one.
    pub observed: [Option<&'a Observed>; 2],
    /// The tokens in their remote secrets, to see what they still open.
    pub tokens: &'a Tokens,
    /// Where gateway names are resolved from here.
    pub resolver: &'a Resolver,
    /// How clusters are connected to.
    pub connect: &'a ConnectOptions,
    /// The time.
    pub now: Timestamp,
}

/// What one member sees the others with.
struct View<'a> {
    depth: Depth,
    replicas: Result<&'a Vec<istiod::Replica>, &'a cluster::Error>,
    probe: Option<&'a Probe>,
    tokens: Option<&'a BTreeMap<String, Token>>,
    /// What a proof that stands would have written down.
    proof: String,
}

/// Looks at every member and every ordered pair.
pub(crate) async fn verify(verifier: &Verifier<'_>, depth: Depth) -> Verdict {
    let names: Vec<&ClusterName> = verifier.mesh.clusters.iter().map(|m| &m.name).collect();
    let unread = |name| verifier.unread(name);
    let members = verifier.mesh.clusters.iter();
    let (away, all): (Vec<_>, Vec<_>) = members.partition(|m| unread(&m.name).is_some());
    let away = away.into_iter().filter_map(|m| unread(&m.name));
    let mut checks: Vec<_> = away.map(unreachable).collect();
    checks.extend(verifier.roots(&all));
    checks.extend(verifier.alone());
    checks.extend(verifier.networks(&all));
    checks.extend(names.iter().flat_map(|name| verifier.member(name)));
    let from = names.iter().map(|from| verifier.from(from, depth));
    let (from, replicas): (Vec<_>, Vec<_>) = future::join_all(from).await.into_iter().unzip();
    let replicas: expiry::Replicas = names.iter().copied().cloned().zip(replicas).collect();
    let unlike = replicas.iter();
    checks.extend(unlike.filter_map(|(name, said)| istiod::alike(name, said)));
    for observed in verifier.observed.into_iter().flatten() {
        let ends = Ends::of(observed, &expiry::signing(&replicas));
        checks.extend(expiry::checks(&ends));
    }
    let (mut traffic, mut proved_at) = (vec![], BTreeMap::new());
    for found in from {
        checks.extend(found.checks);
        traffic.extend(found.traffic);
        proved_at.extend(found.proved_at);
    }
    let mut checks = worst(checks);
    checks.sort_by(|a, b| (a.id, &a.from, &a.to).cmp(&(b.id, &b.from, &b.to)));
    Verdict {
        clusters: names.iter().map(ToString::to_string).collect(),
        peers: verifier.mesh.peers.clone(),
        checks,
        proved_at,
        traffic,
        service: None,
    }
}

/// A member that could not be read.
fn unreachable(member: &Unreachable) -> Check {
    Check {
        id: Claim::Reachable,
        from: member.cluster.clone(),
        to: None,
        outcome: Outcome::Failed,
        evidence: member.line(),
        hints: member.hints.clone(),
    }
}

impl Verifier<'_> {
    pub(super) fn seen(&self, name: &ClusterName) -> Option<&Seen> {
        let mut observed = self.observed.iter().flatten();
        observed.find_map(|o| o.clusters.get(name))
    }

    /// A member that could not be read.
    fn unread(&self, name: &ClusterName) -> Option<&Unreachable> {
        let mut observed = self.observed.iter().flatten();
        observed.find_map(|o| o.unreachable.get(name))
    }

    /// The change of root that is under way.
    fn succession(&self) -> Option<&Succession> {
        let mut observed = self.observed.iter().flatten();
        observed.find_map(|o| o.succession())
    }

    /// These members trust one root, and no other beside it: by what istiod publishes, and by the Secret it reads.
    fn roots(&self, members: &[&Member]) -> Vec<Check> {
        let seen = members
            .iter()
            .filter_map(|m| Some((&m.name, self.seen(&m.name)?)));
        let seen: Vec<_> = seen.collect();
        let mesh = seen.iter().find_map(|(_, seen)| root_of(seen));
        let of_none = Seen::default();
        let one = |m: &&Member| {
            let seen = self.seen(&m.name).unwrap_or(&of_none);
            roots::judge(&m.name, seen, mesh, self.succession())
        };
        members.iter().map(one).collect()
    }

    /// One member alone has no pair, and where there is no pair nothing is proved.
    fn alone(&self) -> Option<Check> {
        let [only] = self.mesh.clusters.as_slice() else {
            return None;
        };
        Some(Check {
            id: Claim::Peers,
            from: only.name.to_string(),
            to: None,
            outcome: Outcome::Failed,
            evidence: format!(
                "{} is the only member of mesh {}: there is no pair to prove",
                only.name, self.mesh.id
            ),
            hints: vec![],
        })
    }

    /// What is wrong with the roots that the proxy of a member's probe trusts.
    async fn bundle(&self, from: &ClusterName, probe: &Probe) -> Option<Check> {
        let mut seen = self.mesh.clusters.iter().filter_map(|m| self.seen(&m.name));
        let mesh = seen.find_map(root_of)?;
        // A proxy that does not say what it trusts is told by the requests it cannot send.
        let held = probe.roots().await.ok()?;
        roots::judge_proxy(from, &held, mesh, self.succession())
    }

    /// Each of these members is on a network of its own, as its istiod takes it from the namespace.
    fn networks(&self, members: &[&Member]) -> Vec<Check> {
        let istio = &self.mesh.istio.namespace;
        let label = |m: &Member| {
            let live = &self.seen(&m.name)?.live;
            let namespace = live
                .iter()
                .find(|(r, _)| r.kind.kind == "Namespace" && r.name == *istio);
            let labels = &namespace?.1["metadata"]["labels"];
            labels["topology.istio.io/network"]
                .as_str()
                .map(str::to_owned)
        };
        let all: Vec<_> = members.iter().map(|m| (*m, label(m))).collect();
        let one = |(m, network): &(&Member, Option<String>)| {
            let twin = all.iter().find(|(o, n)| o.name != m.name && n == network);
            let (outcome, evidence) = match (network, twin) {
                (None, _) => (
                    Outcome::Failed,
                    format!("namespace {istio} in {} names no network", m.name),
                ),
                (Some(n), Some((o, _))) => (
                    Outcome::Failed,
                    format!("{} and {} are both on network {n}", m.name, o.name),
                ),
                (Some(n), None) => (Outcome::Ok, format!("{} is on network {n}", m.name)),
            };
            let label = format!("topology.istio.io/network={}", m.network);
            let words = ["label", "ns", istio.as_str(), &label, "--overwrite"];
            let hint = Hint::kubectl(&m.name, words);
            let hints = if outcome == Outcome::Ok {
                vec![]
            } else {
                vec![hint]
            };
            Check {
                id: Claim::OwnNetwork,
                from: m.name.to_string(),
                to: None,
                outcome,
                evidence,
                hints,
            }
        };
        all.iter().map(one).collect()
    }

    fn member(&self, name: &ClusterName) -> Vec<Check> {
        let Some(seen) = self.seen(name) else {
            return vec![];
        };
        let ready = |id, ok: bool, yes: String, no: String, hint: Hint| Check {
            id,
            from: name.to_string(),
            to: None,
            outcome: if ok { Outcome::Ok } else { Outcome::Failed },
            evidence: if ok { yes } else { no },
            hints: if ok { vec![] } else { vec![hint] },
        };
        let (istio, gateway) = (&self.mesh.istio.namespace, &self.mesh.gateway);
        let replicas = seen.istiod.pods.len();
        let address = seen.gateway.addresses.join(", ");
        let without = match () {
            () if seen.gateway.addresses.is_empty() => "has no address",
            () if !seen.gateway.available => "is not available",
            () => "has no Gateway object that opens 15443 on it",
        };
        let mut checks = vec![
            ready(
                Claim::IstiodReady,
                seen.istiod.available && replicas > 0,
                format!("istiod in {name} is available, {replicas} running"),
                format!("istiod in {name} is not available, {replicas} running"),
                Hint::kubectl(name, ["-n", istio.as_str(), "describe", "deploy", "istiod"]),
            ),
            ready(
                Claim::GatewayReady,
                seen.gateway.available && seen.gateway.opened && !seen.gateway.addresses.is_empty(),
                format!("{name}'s gateway is available at {address}"),
                format!("{name}'s gateway {without}"),
                Hint::kubectl(
                    name,
                    [
                        "-n",
                        gateway.namespace.as_str(),
                        "describe",
                        "deploy,svc",
                        gateway.name.as_str(),
                    ],
                ),
            ),
        ];
        checks.extend(istios::judge(self.mesh, name, seen));
        checks
    }

    /// Everything about one member's view of the others, and what its istiods say of their certificates.
    async fn from(&self, from: &ClusterName, depth: Depth) -> (Verdict, expiry::Said) {
        let Some((seen, cluster)) = self.seen(from).zip(self.clusters.get(from)) else {
            return Default::default();
        };
        let replicas = self.replicas(cluster, seen, true).await;
        let probe = match depth {
            Depth::Traffic | Depth::Every => Probe::find(cluster).await.ok().flatten(),
            _ => None,
        };
        let tokens = self.tokens.get(from);
        let view = View {
            depth,
            replicas: replicas.as_ref(),
            probe: probe.as_ref(),
            tokens,
            proof: proof_digest(self.mesh, from, seen),
        };
        let all = self.mesh.clusters.iter();
        let others = all.filter(|m| self.mesh.are_peers(from, &m.name));
        let pairs = others.map(|to| self.look(from, to, &view));
        let mut all = Verdict::default();
        for found in future::join_all(pairs).await {
            all.checks.extend(found.checks);
            all.traffic.extend(found.traffic);
            all.proved_at.extend(found.proved_at);
        }
        let said = replicas.iter().flatten();
        let said = said.map(|replica| (replica.pod.clone(), replica.ends));
        (all, said.collect())
    }

    /// What [`verify`] says of two members apart from what they know of each other. Of their istiods and gateways,
    /// that is left to the pair in which they are the ones to be reached.
    fn standing(&self, from: &ClusterName, to: &Member) -> Vec<Check> {
        let is_one = |m: &&Member| m.name == *from || m.name == to.name;
        let both: Vec<_> = self.mesh.clusters.iter().filter(is_one).collect();
        let mut checks = self.roots(&both);
        checks.extend(self.networks(&both));
        checks.extend(self.member(&to.name));
        checks
    }

    /// Everything about one ordered pair, as far as `probe` can ask in `from`. With what it rests on, unless every
    /// way of asking is tried: who asks for that looks at the members too.
    pub(crate) async fn pair(
        &self,
        from: &ClusterName,
        to: &Member,
        depth: Depth,
        probe: Option<&Probe>,
        replicas: Result<&Vec<istiod::Replica>, &cluster::Error>,
    ) -> Verdict {
        let view = View {
            depth,
            replicas,
            probe,
            tokens: self.tokens.get(from),
            proof: String::new(),
        };
        let mut verdict = self.look(from, to, &view).await;
        if depth != Depth::Every {
            verdict.checks.splice(..0, self.standing(from, to));
        }
        Verdict {
            clusters: vec![from.to_string(), to.name.to_string()],
            ..verdict
        }
    }

    async fn look(&self, from: &ClusterName, to: &Member, view: &View<'_>) -> Verdict {
        let mut checks = vec![];
        for check in self.configured(from, &to.name) {
            checks.push(match view.tokens.and_then(|t| t.get(to.name.as_str())) {
                Some(token) => self.opens(check, &to.name, token).await,
                None => check,
            });
        }
        if view.depth >= Depth::Istiods {
            checks.extend(self.known(from, to, view.replicas).await);
        }
        let sound = checks.iter().all(|c| c.outcome != Outcome::Failed);
        let (mut traffic, mut proved_at) = (vec![], BTreeMap::new());
        match view.depth {
            Depth::Traffic | Depth::Every => {
                let found = self.traffic(from, to, view).await;
                checks.extend(found.checks);
                traffic = found.traffic;
            }
            // A proof says nothing of today where what it rested on is seen to be broken.
            _ if sound => {
                if let Some((check, at)) = self.written_down(from, to, &view.proof) {
                    proved_at.insert(format!("{from}/{}", to.name), at);
                    checks.push(check);
                }
            }
            _ => {}
        }
        Verdict {
            checks,
            proved_at,
            traffic,
            ..Verdict::default()
        }
    }

    /// What an earlier proof says, as long as nothing it covered has changed.
    fn written_down(
        &self,
        from: &ClusterName,
        to: &Member,
        proof: &str,
    ) -> Option<(Check, Timestamp)> {
        let seen = self.seen(from)?;
        let record = seen.record.as_ref()?;
        let stands = record.members.contains_key(&to.name)
            && record.proof == proof
            && self.seen(&to.name).is_some_and(|s| s.gateway.opened);
        let at = record.proved_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let evidence = format!("proved at {at}; nothing that proof covered has changed since");
        let check = |evidence| check(Claim::Proved, from, &to.name, Outcome::Ok, evidence, vec![]);
        stands.then(|| (check(evidence), record.proved_at))
    }

    fn configured(&self, from: &ClusterName, to: &ClusterName) -> Vec<Check> {
        let both = self.seen(from).zip(self.seen(to));
        both.map(|(seen, there)| pair::configured(from, to, seen, there, self.now))
            .into_iter()
            .collect()
    }

    /// What `from`'s istiods say of `to`.
    async fn known(
        &self,
        from: &ClusterName,
        to: &Member,
        replicas: Result<&Vec<istiod::Replica>, &cluster::Error>,
    ) -> Vec<Check> {
        match replicas {
            Ok(replicas) => {
                let mut checks = vec![istiod::synced(from, &to.name, replicas)];
                // Of one that could not be read it is not known where its gateway should be.
                if self.unread(&to.name).is_none() {
                    let expected = self.expected(&to.name).await;
                    let known = istiod::gateway_known(from, to, replicas, expected.as_ref());
                    checks.push(known);
                }
                checks
            }
            Err(error) => {
                let evidence = causes::line(error);
                vec![check(
                    Claim::Synced,
                    from,
                    &to.name,
                    Outcome::Failed,
                    evidence,
                    vec![],
                )]
            }
        }
    }

    /// The addresses of a member's gateway, as far as they can be known from here.
    pub(crate) async fn expected(&self, name: &ClusterName) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for address in &self.seen(name)?.gateway.addresses {
            match address.parse::<IpAddr>() {
                Ok(ip) => drop(all.insert(ip.to_string())),
                Err(_) => all.extend(
                    self.resolver
                        .lookup(address)
                        .await
                        .ok()?
                        .iter()
                        .map(ToString::to_string),
                ),
            }
        }
        Some(all)
    }

    /// What `from`'s proxy holds of `to`, and what answers.
    async fn traffic(&self, from: &ClusterName, to: &Member, view: &View<'_>) -> Verdict {
        let name = &to.name;
        let single = |id, outcome, evidence| check(id, from, name, outcome, evidence, vec![]);
        let Some(probe) = view.probe else {
            let none = |id| single(id, Outcome::NotTried, format!("no probe runs in {from}"));
            return Verdict {
                checks: [Claim::Endpoints, Claim::Proved].map(none).into(),
                ..Verdict::default()
            };
        };
        let replicas = view.replicas.ok().into_iter().flatten();
        let gateway: BTreeSet<String> = replicas.flat_map(|r| istiod::addresses(r, to)).collect();
        let held = match probe.held().await {
            Ok(held) => held,
            Err(error) => {
                let failed = single(Claim::Endpoints, Outcome::Failed, causes::line(&*error));
                return Verdict {
                    checks: vec![failed],
                    ..Verdict::default()
                };
            }
        };
        let of = |way: Way| held.of(&way.envoy_cluster(name));
        let mut checks = vec![pair::endpoints(from, name, of(Way::Http), &gateway)];
        // A proxy trusts the same whoever is asked: it is looked at once.
        let first = self.mesh.clusters.iter().find(|m| m.name != *from);
        if view.depth == Depth::Every && first.is_some_and(|m| m.name == *name) {
            checks.extend(self.bundle(from, probe).await);
        }
        let asked = match view.depth {
            Depth::Every => {
                // What the proxy holds and what istiod knows may differ: each is tried.
                let held = Way::ALL.into_iter().flat_map(of);
                let held = held.filter(|e| e.port == GATEWAY_PORT);
                let held = held.map(|e| e.address.clone());
                let all: BTreeSet<_> = gateway.iter().cloned().chain(held).collect();
                everything(from, name, probe, &all).await
            }
            _ => vec![ask((from, name), probe, Way::Http, None, QUESTIONS).await],
        };
        let traffic = Traffic {
            from,
            to: name,
            asked: &asked,
        };
        match view.depth {
            Depth::Every => {
                checks.extend(traffic.checks(&self.mesh.trust_domain, of(Way::Headless)));
            }
            _ => checks.push(traffic.proved(Way::Http)),
        }
        Verdict {
            checks,
            traffic: asked,
            ..Verdict::default()
        }
    }
}

/// One check for each claim: the worst of what was found, with the evidence of all that is as bad.
fn worst(checks: Vec<Check>) -> Vec<Check> {
    let mut kept: BTreeMap<String, Check> = BTreeMap::new();
    for check in checks {
        match kept.get_mut(&check.path()) {
            Some(known) if known.outcome == check.outcome => {
                known.evidence = format!("{}; {}", known.evidence, check.evidence);
                known.hints.extend(check.hints);
            }
            Some(known) if known.outcome > check.outcome => {}
            _ => drop(kept.insert(check.path(), check)),
        }
    }
    kept.into_values().collect()
}

/// The root of the mesh, as far as a member knows it: the one it is bound to, else the one it publishes.
fn root_of(seen: &Seen) -> Option<&str> {
    let bound = seen.claim.as_ref().map(|claim| claim.root.as_str());
    bound.or_else(|| seen.published_roots.first().map(String::as_str))
}

/// Every way, through the proxies and at each address by itself, side by side.
async fn everything(
    from: &ClusterName,
    to: &ClusterName,
    probe: &Probe,
    addresses: &BTreeSet<String>,
) -> Vec<Asked> {
    let pair = (from, to);
    // By name, a Service without an address leads to what DNS says in the asking cluster.
    let through = Way::ALL.into_iter().filter(|way| *way != Way::Headless);
    let through = through.map(|way| {
        let times = if way == Way::Http { QUESTIONS } else { FEWER };
        (way, None, times)
    });
    let at = |way| addresses.iter().map(move |a| (way, Some(a), FEWER));
    let all = through.chain(Way::ALL.into_iter().flat_map(at));
    let one = |(way, at, times): (Way, Option<&String>, usize)| {
        let at = at.map(|a| match a.contains(':') {
            true => format!("[{a}]:{GATEWAY_PORT}"),
            false => format!("{a}:{GATEWAY_PORT}"),
        });
        async move { ask(pair, probe, way, at.as_deref(), times).await }
    };
    // Each is a connection through the API server, and a mesh has many pairs.
    let all: Vec<_> = all.collect();
    let mut asked = vec![];
    for some in all.chunks(ABREAST) {
        asked.extend(future::join_all(some.iter().copied().map(one)).await);
    }
    asked
}

/// Asks a few times, one question after the other: each is a new choice of endpoint.
async fn ask(
    pair: (&ClusterName, &ClusterName),
    probe: &Probe,
    way: Way,
    at: Option<&str>,
    times: usize,
) -> Asked {
    match probe.ask(way, pair.1, at, times).await {
        Ok(answers) => Asked::of(pair, way, at, &answers),
        Err(error) => Asked::failed(pair, way, at, Trouble::NotAsked(causes::line(&error))),
    }
}
