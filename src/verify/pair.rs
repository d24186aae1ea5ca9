//! What one cluster holds of another. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Check, Claim, Outcome, check};
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{RemoteSecretSeen, Seen},
    probe::Endpoint,
    spec::GATEWAY_PORT,
};

/// The remote secret is there, well-formed, not about to expire, and opens the right server.
pub(crate) fn configured(
    from: &ClusterName,
    to: &ClusterName,
    seen: &Seen,
    there: &Seen,
    now: Timestamp,
) -> Check {
    let Some(secret) = seen.remote_secrets.get(to.as_str()) else {
        let evidence = format!("{from} has no remote secret for {to}");
        let hints = vec![Hint::join_again([from, to])];
        return check(
            Claim::Configured,
            from,
            to,
            Outcome::Failed,
            evidence,
            hints,
        );
    };
    let (outcome, evidence) = judge(
        secret,
        there
            .readers
            .get(from.as_str())
            .and_then(|r| r.token.as_deref()),
        now,
    );
    let evidence = format!("{}: {evidence}", secret.secret);
    let hint = Hint::join_again([from, to]);
    let hints = if outcome == Outcome::Ok {
        vec![]
    } else {
        vec![hint]
    };
    check(Claim::Configured, from, to, outcome, evidence, hints)
}

fn judge(secret: &RemoteSecretSeen, token: Option<&str>, now: Timestamp) -> (Outcome, String) {
    if !secret.problems.is_empty() {
        return (Outcome::Failed, secret.problems.join("; "));
    }
    let ours = token.is_none_or(|t| Some(t) == secret.token.as_deref());
    match secret.expires {
        _ if !ours => (
            Outcome::Failed,
            "it does not hold the reader account's present token".into(),
        ),
        Some(at) if at <= now => (Outcome::Failed, format!("its token expired at {at}")),
        Some(at) => (
            Outcome::Ok,
            format!("opens {}, token until {at}", secret.server),
        ),
        None => (
            Outcome::Ok,
            format!("opens {}, token never expires", secret.server),
        ),
    }
}

/// The proxy holds exactly the gateway's addresses for the peer, and no pod address.
pub(crate) fn endpoints(
    from: &ClusterName,
    to: &ClusterName,
    held: &[Endpoint],
    gateway: &BTreeSet<String>,
) -> Check {
    let addresses: BTreeSet<String> = held
        .iter()
        .filter(|e| e.port == GATEWAY_PORT)
        .map(|e| e.address.clone())
        .collect();
    let strangers: Vec<_> = held
        .iter()
        .filter(|e| e.port != GATEWAY_PORT || !gateway.contains(&e.address))
        .map(|e| format!("{}:{}", e.address, e.port))
        .collect();
    let missing: Vec<_> = gateway.difference(&addresses).cloned().collect();
    let (outcome, evidence) = match () {
        () if held.is_empty() => (
            Outcome::Failed,
            format!("the proxy in {from} holds no endpoint in {to}"),
        ),
        () if !strangers.is_empty() => (
            Outcome::Failed,
            format!(
                "the proxy in {from} holds {} for {to}, which is not its gateway on 15443",
                strangers.join(", ")
            ),
        ),
        () if !missing.is_empty() => (
            Outcome::Failed,
            format!(
                "the proxy in {from} lacks {to}'s gateway address {}",
                missing.join(", ")
            ),
        ),
        () => {
            let list: Vec<_> = addresses.iter().map(|a| format!("{a}:15443")).collect();
            (
                Outcome::Ok,
                format!("the proxy in {from} holds {}", list.join(", ")),
            )
        }
    };
    let words = [
        "get",
        "ns",
        "istio-system",
        "-L",
        "topology.istio.io/network",
    ];
    let hint = Hint::kubectl(to, words).remark(format!("must differ from {from}'s"));
    let hints = if outcome == Outcome::Failed {
        vec![hint]
    } else {
        vec![]
    };
    check(Claim::Endpoints, from, to, outcome, evidence, hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (ClusterName, ClusterName) {
        ("a".parse().unwrap(), "b".parse().unwrap())
    }

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint {
            address: address.into(),
            port,
            healthy: true,
            region: String::new(),
            zone: String::new(),
            weight: 1,
            priority: 0,
        }
    }

    #[test]
    fn a_healthy_pod_address_is_no_proof() {
        let (a, b) = names();
        let gateway: BTreeSet<String> = ["1.1.1.1".into(), "1.1.1.2".into()].into();
        let both = [endpoint("1.1.1.1", 15443), endpoint("1.1.1.2", 15443)];
        assert_eq!(endpoints(&a, &b, &both, &gateway).outcome, Outcome::Ok);
        for held in [
            vec![],
            vec![endpoint("10.244.0.7", 8080)],
            vec![endpoint("1.1.1.1", 15443)],
            vec![endpoint("1.1.1.1", 15443), endpoint("1.1.1.2", 8080)],
        ] {
            assert_eq!(
                endpoints(&a, &b, &held, &gateway).outcome,
                Outcome::Failed,
                "{held:?}"
            );
        }
    }

    #[test]
    fn an_expired_or_foreign_token_is_not_configured() {
        let (a, b) = names();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = |expires: Option<&str>| RemoteSecretSeen {
            server: "https://x".into(),
            token: Some("t".into()),
            expires: expires.map(|e| e.parse().unwrap()),
            ..Default::default()
        };
        let seen = |s: RemoteSecretSeen| Seen {
            remote_secrets: [("b".to_owned(), s)].into(),
            ..Default::default()
        };
        let there = |token: &str| Seen {
            readers: [(
                "a".to_owned(),
                crate::observe::ReaderSeen {
                    token: Some(token.into()),
                    ..Default::default()
                },
            )]
            .into(),
            ..Default::default()
        };
        let outcome = |s, t: &str| configured(&a, &b, &seen(s), &there(t), now).outcome;
        assert_eq!(outcome(secret(None), "t"), Outcome::Ok);
        assert_eq!(
            outcome(secret(Some("2026-01-02T00:00:00Z")), "t"),
            Outcome::Ok
        );
        assert_eq!(
            outcome(secret(Some("2025-12-31T00:00:00Z")), "t"),
            Outcome::Failed
        );
        assert_eq!(outcome(secret(None), "other"), Outcome::Failed);
        assert_eq!(
            configured(&a, &b, &Seen::default(), &there("t"), now).outcome,
            Outcome::Failed
        );
    }
}
