//! What traffic between two clusters shows: who answered, by which address, in which way, how
//! fast, and who each side took the other for. Judged apart from how it was asked. Pure.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Claim, Outcome, check};
use crate::{
    hint::Hint,
    name::{ClusterName, TrustDomain},
    probe::{Answer, Endpoint, Trouble, Way, identity},
    spec::GATEWAY_PORT,
};

/// The kubectl words that list the gateways' Services.
pub(crate) const GATEWAY_SERVICES: [&str; 7] = [
    "get",
    "svc",
    "-A",
    "-l",
    "topology.istio.io/network",
    "-o",
    "wide",
];

/// What came of asking one cluster from another, in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// Who asked.
    pub from: String,
    /// Who was to answer.
    pub to: String,
    /// How.
    pub way: Way,
    /// The one address that was asked; none where the proxy chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// How many questions were asked.
    pub asked: usize,
    /// How many of them `to` answered.
    pub answered: usize,
    /// The time half of the answers took at most, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The time 95 of 100 answers took at most, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// Whom the answering side took the asking one for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Whom the asking side took the answering one for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// What most of the others got instead of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub trouble: Option<Trouble>,
}

impl Asked {
    /// Counts the answers.
    pub(crate) fn of(
        (from, to): (&ClusterName, &ClusterName),
        way: Way,
        at: Option<&str>,
        answers: &[Answer],
    ) -> Self {
        let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.is_from(way, to));
        let mut took: Vec<u64> = good.iter().filter_map(|a| a.micros).collect();
        took.sort_unstable();
        let seen = |who: fn(&Answer) -> &Option<String>| {
            let all: BTreeSet<_> = good.iter().filter_map(|a| who(a).clone()).collect();
            all.into_iter().collect()
        };
        let mut troubles: BTreeMap<Trouble, usize> = BTreeMap::new();
        for answer in bad {
            *troubles.entry(answer.trouble()).or_default() += 1;
        }
        Self {
            from: from.to_string(),
            to: to.to_string(),
            way,
            at: at.map(str::to_owned),
            asked: answers.len(),
            answered: good.len(),
            p50_us: percentile(&took, 50),
            p95_us: percentile(&took, 95),
            clients: seen(|a| &a.client),
            servers: seen(|a| &a.server),
            trouble: troubles.into_iter().max_by_key(|(_, n)| *n).map(|(t, _)| t),
        }
    }

    /// Asking was not possible at all.
    pub(crate) fn failed(
        (from, to): (&ClusterName, &ClusterName),
        way: Way,
        at: Option<&str>,
        why: Trouble,
    ) -> Self {
        let nothing = Self::of((from, to), way, at, &[]);
        Self {
            trouble: Some(why),
            ..nothing
        }
    }

    /// Whether every question was answered, and there was one.
    pub fn holds(&self) -> bool {
        self.asked > 0 && self.answered == self.asked
    }

    fn trouble(&self) -> String {
        let trouble = self.trouble.as_ref();
        trouble.map_or_else(|| "was not asked".to_owned(), ToString::to_string)
    }
}

/// The smallest value that so many in a hundred do not exceed.
fn percentile(sorted: &[u64], hundredths: usize) -> Option<u64> {
    let rank = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Everything one pair was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic<'a> {
    /// Who asked.
    pub from: &'a ClusterName,
    /// Who was to answer.
    pub to: &'a ClusterName,
    /// What came of it.
    pub asked: &'a [Asked],
}

impl<'a> Traffic<'a> {
    /// Through the proxies, in a way.
    fn through(&self, way: Way) -> Option<&'a Asked> {
        self.asked.iter().find(|a| a.way == way && a.at.is_none())
    }

    /// At single addresses, in any of these ways.
    fn at(&self, ways: &'a [Way]) -> impl Iterator<Item = (&'a str, &'a Asked)> {
        let mine = self.asked.iter().filter(|a| ways.contains(&a.way));
        mine.filter_map(|a| Some((a.at.as_deref()?, a)))
    }

    /// The addresses that carry something at all.
    fn alive(&self) -> BTreeSet<&'a str> {
        let answered = self.at(&Way::ALL).filter(|(_, a)| a.answered > 0);
        answered.map(|(at, _)| at).collect()
    }

    /// Every question was answered by the cluster it was meant for; at single addresses too, as
    /// far as these carry anything.
    pub(crate) fn proved(&self, way: Way) -> Check {
        let (from, to) = (self.from, self.to);
        let alive = self.alive();
        let ways = [way];
        let broken = self
            .asked
            .iter()
            .filter(|a| ways.contains(&a.way) && !a.holds())
            .find(|a| a.at.as_deref().is_some_and(|at| alive.contains(at)));
        let (outcome, evidence) = match (self.through(way), broken) {
            (Some(asked), _) if !asked.holds() => (Outcome::Failed, counted(asked)),
            (_, Some(at)) => {
                let address = at.at.as_deref().unwrap_or_default();
                let text = format!("{address} does not carry {way} to {to}: {}", at.trouble());
                (Outcome::Failed, text)
            }
            (Some(asked), None) => (Outcome::Ok, counted(asked)),
            (None, None) if alive.is_empty() => {
                let text = format!("no gateway address of {to} carries {way}");
                (Outcome::Failed, text)
            }
            (None, None) => {
                let text = format!("{to}'s gateway passes {way} Services on at every address");
                (Outcome::Ok, text)
            }
        };
        let trouble = self.through(way).and_then(|a| a.trouble.as_ref());
        let hints = match outcome {
            Outcome::Failed if trouble.is_some_and(Trouble::is_at_the_gateway) => {
                self.look_at_the_gateway()
            }
            _ => vec![],
        };
        check(claim(way), from, to, outcome, evidence, hints)
    }

    fn look_at_the_gateway(&self) -> Vec<Hint> {
        let (from, to) = (self.from.as_str(), self.to.as_str());
        vec![
            Hint::meshlink(["ca", "status", from, to]).remark("do both trust the same root?"),
            Hint::kubectl(to, ["get", "gateways.networking.istio.io", "-A"])
                .remark("is port 15443 open?"),
        ]
    }

    /// Every address of the gateway carries traffic by itself. A proxy hides one that does not: it
    /// tries another.
    pub(crate) fn addresses(&self) -> Check {
        let (from, to) = (self.from, self.to);
        let alive = self.alive();
        let mut all: BTreeMap<&str, Vec<&Asked>> = BTreeMap::new();
        for (at, asked) in self.at(&Way::ALL) {
            all.entry(at).or_default().push(asked);
        }
        let told = all.iter().map(|(at, asked)| told(at, asked));
        let evidence = told.collect::<Vec<_>>().join("; ");
        let dead: Vec<_> = all.keys().filter(|at| !alive.contains(*at)).collect();
        let (outcome, evidence) = match () {
            () if all.is_empty() => (Outcome::Failed, format!("no address of {to} is known")),
            () if !dead.is_empty() => (Outcome::Failed, evidence),
            () => (Outcome::Ok, evidence),
        };
        let hints = match dead.first() {
            Some(_) => vec![
                Hint::kubectl(to, GATEWAY_SERVICES),
                Hint::meshlink(["wait", "nlb", to.as_str(), "--all-targets"]).remark("on AWS"),
            ],
            None => vec![],
        };
        check(Claim::Addresses, from, to, outcome, evidence, hints)
    }

    /// Each side's certificate says who it is, and the other side read it.
    pub(crate) fn identity(&self, trust_domain: &TrustDomain) -> Check {
        let (from, to) = (self.from, self.to);
        let all = |who: fn(&Asked) -> &Vec<String>| -> BTreeSet<&str> {
            self.asked
                .iter()
                .flat_map(who)
                .map(String::as_str)
                .collect()
        };
        let (clients, servers) = (all(|a| &a.clients), all(|a| &a.servers));
        let (we, they) = (identity(trust_domain, from), identity(trust_domain, to));
        let is_only = |seen: &BTreeSet<&str>, who: &str| seen.len() == 1 && seen.contains(who);
        let list = |seen: &BTreeSet<&str>| match seen.len() {
            0 => "nobody".to_owned(),
            _ => seen.iter().copied().collect::<Vec<_>>().join(" and "),
        };
        let saw = format!("{from} saw {}, {to} saw {}", list(&servers), list(&clients));
        let (outcome, evidence) = match () {
            () if self.alive().is_empty() => {
                let none = "no connection came about to read a certificate from";
                (Outcome::NotTried, none.to_owned())
            }
            () if is_only(&servers, &they) && is_only(&clients, &we) => (Outcome::Ok, saw),
            () => {
                let text = format!("{saw}; expected were {they} and {we}");
                (Outcome::Failed, text)
            }
        };
        let hints = match outcome {
            Outcome::Failed => {
                vec![Hint::meshlink(["ca", "status", from.as_str(), to.as_str()])]
            }
            _ => vec![],
        };
        check(Claim::Identity, from, to, outcome, evidence, hints)
    }

    /// All of it.
    pub(crate) fn checks(&self, trust_domain: &TrustDomain, held: &[Endpoint]) -> Vec<Check> {
        let mut headless = self.proved(Way::Headless);
        if headless.outcome == Outcome::Ok {
            let (from, to) = (self.from, self.to);
            headless.evidence += &match held.iter().any(|e| e.port == GATEWAY_PORT) {
                true => format!("; the proxy in {from} sends there"),
                // Istio's own rule: such names lead to addresses that DNS gives, which are pods.
                false => {
                    format!("; the proxy in {from} finds none of {to}'s by name, as Istio has it")
                }
            };
        }
        vec![
            self.proved(Way::Http),
            self.addresses(),
            self.identity(trust_domain),
            self.proved(Way::Grpc),
            self.proved(Way::Tcp),
            headless,
        ]
    }
}

/// The claim a way proves.
pub(crate) fn claim(way: Way) -> Claim {
    match way {
        Way::Http => Claim::Proved,
        Way::Grpc => Claim::Grpc,
        Way::Tcp => Claim::Tcp,
        Way::Headless => Claim::Headless,
    }
}

fn counted(asked: &Asked) -> String {
    let Asked {
        from,
        to,
        way,
        asked: n,
        answered,
        ..
    } = asked;
    let what = match way {
        Way::Grpc => "calls",
        Way::Tcp => "TCP connections",
        _ => "requests",
    };
    if asked.asked == 0 {
        return format!("nothing could be asked from {from}: {}", asked.trouble());
    }
    let mut text = format!("{answered} of {n} {what} from {from} answered by {to}");
    if let Some((p50, p95)) = asked.p50_us.zip(asked.p95_us) {
        text += &format!(", p50 {}, p95 {}", millis(p50), millis(p95));
    }
    if let Some(trouble) = &asked.trouble {
        text += &format!("; {} got: {trouble}", n - answered);
    }
    text
}

/// One address in words: what it carries, what it does not.
fn told(at: &str, asked: &[&Asked]) -> String {
    let ways = |holds: bool| {
        let some = asked.iter().filter(move |a| a.holds() == holds);
        some.map(|a| a.way.as_str()).collect::<Vec<_>>().join(", ")
    };
    let worst = asked.iter().find(|a| !a.holds());
    match worst {
        None => format!("{at} carries {}", ways(true)),
        Some(worst) if ways(true).is_empty() => format!("{at} {}", worst.trouble()),
        Some(worst) => format!(
            "{at} carries {}, not {} ({})",
            ways(true),
            ways(false),
            worst.trouble()
        ),
    }
}

/// A time as people read it: `1.2 ms`.
pub(crate) fn millis(micros: u64) -> String {
    let tenths = (micros + 50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (ClusterName, ClusterName) {
        ("a".parse().unwrap(), "b".parse().unwrap())
    }

    fn good(way: Way) -> Answer {
        let id = |c: &str| Some(format!("spiffe://td/ns/meshlink-probe/sa/probe-{c}"));
        let grpc = way == Way::Grpc;
        Answer {
            status: 200,
            said: "b".into(),
            grpc_status: grpc.then(|| "0".into()),
            protocol: grpc.then(|| "HTTP/2".into()),
            client: id("a"),
            server: id("b"),
            micros: Some(1200),
            failure: None,
        }
    }

    fn silent() -> Answer {
        Answer {
            status: 503,
            said: "reset reason: connection timeout".into(),
            ..Answer::default()
        }
    }

    /// All ways through the proxies and at two addresses; `answer` says what each got.
    fn traffic(answer: impl Fn(Way, Option<&str>) -> Answer) -> Vec<Asked> {
        let (a, b) = names();
        let mut all = vec![];
        for way in Way::ALL {
            for at in [None, Some("1.1.1.1:15443"), Some("1.1.1.2:15443")] {
                if at.is_some() || way != Way::Headless {
                    all.push(Asked::of((&a, &b), way, at, &[answer(way, at)]));
                }
            }
        }
        all
    }

    fn failed(asked: &[Asked]) -> Vec<(Claim, String)> {
        let (a, b) = names();
        let traffic = Traffic {
            from: &a,
            to: &b,
            asked,
        };
        let checks = traffic.checks(&"td".parse().unwrap(), &[]);
        let failed = checks.into_iter().filter(|c| c.outcome != Outcome::Ok);
        failed.map(|c| (c.id, c.evidence)).collect()
    }

    #[test]
    fn all_is_well() {
        assert_eq!(failed(&traffic(|way, _| good(way))), []);
    }

    #[test]
    fn one_dead_address_of_two_is_named_though_the_proxy_hides_it() {
        let found = failed(&traffic(|way, at| match at {
            Some("1.1.1.2:15443") => silent(),
            _ => good(way),
        }));
        let evidence =
            "1.1.1.1:15443 carries http, grpc, tcp, headless; 1.1.1.2:15443 does not answer";
        assert_eq!(found, [(Claim::Addresses, evidence.to_owned())]);
    }

    #[test]
    fn a_way_that_does_not_work_fails_by_its_own_name() {
        let found = failed(&traffic(|way, _| match way {
            Way::Grpc => Answer {
                grpc_status: Some("14".into()),
                ..good(way)
            },
            _ => good(way),
        }));
        let claims: Vec<_> = found.iter().map(|(claim, _)| *claim).collect();
        assert_eq!(claims, [Claim::Grpc]);
        assert!(found[0].1.contains("gRPC status 14"), "{found:?}");
        let found = failed(&traffic(|way, _| match way {
            Way::Headless => silent(),
            _ => good(way),
        }));
        assert_eq!(found[0].0, Claim::Headless);
    }

    #[test]
    fn a_stranger_on_either_side_is_found() {
        for side in [0, 1] {
            let found = failed(&traffic(|way, _| {
                let mut answer = good(way);
                let other = Some("spiffe://other/ns/x/sa/y".into());
                *[&mut answer.client, &mut answer.server][side] = other;
                answer
            }));
            assert_eq!(found[0].0, Claim::Identity, "{found:?}");
            assert!(found[0].1.contains("spiffe://other"), "{found:?}");
        }
    }

    #[test]
    fn nothing_answers() {
        let found = failed(&traffic(|_, _| silent()));
        let claims: Vec<_> = found.iter().map(|(claim, _)| *claim).collect();
        let all = [
            Claim::Proved,
            Claim::Addresses,
            Claim::Identity,
            Claim::Grpc,
            Claim::Tcp,
            Claim::Headless,
        ];
        assert_eq!(claims, all);
    }

    #[test]
    fn answers_are_counted_by_who_gave_them() {
        let (a, b) = names();
        let answer = |said: &str, micros| Answer {
            said: said.into(),
            micros: Some(micros),
            ..good(Way::Http)
        };
        let answers = [answer("b", 900), answer("a", 1), answer("b", 1700)];
        let asked = Asked::of((&a, &b), Way::Http, None, &answers);
        let text = "2 of 3 requests from a answered by b, p50 0.9 ms, p95 1.7 ms; \
                    1 got: is answered by a";
        assert_eq!(counted(&asked), text);
        assert!(!asked.holds());
        assert!(!Asked::of((&a, &b), Way::Http, None, &[]).holds());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 95), Some(95));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 95), None);
    }
}
