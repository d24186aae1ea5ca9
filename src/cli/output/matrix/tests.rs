//! How verdicts of meshes of all sizes look.

use insta::assert_snapshot;

use super::*;
use crate::hint::Hint;

fn check(id: Claim, from: &str, to: Option<&str>, outcome: Outcome) -> Check {
    Check {
        id,
        from: from.into(),
        to: to.map(Into::into),
        outcome,
        evidence: format!("what was seen in {from}"),
        hints: vec![],
    }
}

/// A verdict of `n` clusters where all is well.
fn well(n: usize) -> Verdict {
    let clusters: Vec<String> = (1..=n).map(|i| format!("eks-{i}")).collect();
    let mut checks = vec![];
    for from in &clusters {
        checks.extend(ALONE.map(|(claim, _)| check(claim, from, None, Outcome::Ok)));
        for to in clusters.iter().filter(|to| *to != from) {
            let claims = [
                Claim::Configured,
                Claim::Synced,
                Claim::GatewayKnown,
                Claim::Endpoints,
                Claim::Proved,
            ];
            checks.extend(claims.map(|claim| check(claim, from, Some(to), Outcome::Ok)));
        }
    }
    Verdict {
        clusters,
        checks,
        ..Verdict::default()
    }
}

fn with(mut verdict: Verdict, id: Claim, from: &str, to: &str, outcome: Outcome) -> Verdict {
    let found = verdict
        .checks
        .iter_mut()
        .find(|c| c.id == id && c.from == from && c.to.as_deref() == Some(to));
    let found = found.unwrap();
    found.outcome = outcome;
    found.evidence = "the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other network, beside the gateway's".into();
    found.hints = vec![Hint::join(["eks-1", "eks-2"])];
    verdict
}

fn shown(verdict: &Verdict) -> String {
    let text = render(verdict, false, Timestamp::UNIX_EPOCH, Style::plain());
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    text
}

#[test]
fn two_that_are_proved() {
    assert_snapshot!(shown(&well(2)), @"
    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1   eks-2
    eks-1      -       proved
    eks-2      proved  -

    2 of 2 pairs proved
    ");
}

#[test]
fn two_of_which_one_is_not() {
    let mut verdict = with(well(2), Claim::Endpoints, "eks-1", "eks-2", Outcome::Failed);
    verdict.checks.retain(|check| check.id != Claim::Proved);
    assert_snapshot!(shown(&verdict), @"
    endpoints/eks-1/eks-2: failed
      the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
      network, beside the gateway's
      hint: meshlink join eks-1 eks-2

    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1       eks-2
    eks-1      -           endpoints failed
    eks-2      not proved  -

    0 of 2 pairs proved: traffic was not tried, 1 check failed
    ");
}

#[test]
fn two_with_traffic_of_which_one_address_is_dead() {
    let asked = |from: &str, to: &str, way, at: Option<&str>, answered: bool| Asked {
        from: from.into(),
        to: to.into(),
        way,
        at: at.map(Into::into),
        asked: 5,
        answered: if answered { 5 } else { 0 },
        p50_us: answered.then_some(1240),
        p95_us: answered.then_some(3000),
        clients: vec![],
        servers: vec![],
        trouble: None,
    };
    let mut verdict = well(2);
    for (from, to) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
        for id in [Claim::Grpc, Claim::Tcp, Claim::Headless] {
            verdict.checks.push(check(id, from, Some(to), Outcome::Ok));
        }
        for way in Way::ALL {
            if way != Way::Headless {
                verdict.traffic.push(asked(from, to, way, None, true));
            }
            let other = from == "eks-1";
            verdict
                .traffic
                .push(asked(from, to, way, Some("1.1.1.1:15443"), true));
            verdict
                .traffic
                .push(asked(from, to, way, Some("1.1.1.2:15443"), other));
        }
    }
    let mut dead = check(Claim::Addresses, "eks-2", Some("eks-1"), Outcome::Failed);
    dead.evidence =
        "1.1.1.1:15443 carries http, grpc, tcp, headless; 1.1.1.2:15443 does not answer".into();
    verdict.checks.push(dead);
    assert_snapshot!(shown(&verdict), @"
    addresses/eks-2/eks-1: failed
      1.1.1.1:15443 carries http, grpc, tcp, headless; 1.1.1.2:15443 does not answer

    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1          eks-2
    eks-1      -              proved
    eks-2      proved failed  -

    TRAFFIC         HTTP    GRPC    TCP     HEADLESS  ADDRESSES
    eks-1 to eks-2  1.2 ms  1.2 ms  1.2 ms  1.2 ms    2 of 2
    eks-2 to eks-1  1.2 ms  1.2 ms  1.2 ms  1.2 ms    1 of 2
    times are medians; -o json shows all

    1 of 2 pairs proved, 1 check failed
    ");
}

#[test]
fn evidence_on_request() {
    let text = render(&well(2), true, Timestamp::UNIX_EPOCH, Style::plain());
    assert_eq!(text.matches("what was seen in").count(), 18);
}

#[test]
fn of_five_what_differs() {
    assert_snapshot!(shown(&with(well(5), Claim::Synced, "eks-2", "eks-5", Outcome::Warning)), @"
    synced/eks-2/eks-5: warning
      the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
      network, beside the gateway's
      hint: meshlink join eks-1 eks-2

    FROM / TO  eks-1  eks-2  eks-3  eks-4  eks-5
    eks-2      ok     -      ok     ok     warning
    eks-2 to eks-5: synced warning

    20 of 20 pairs proved
    ");
    assert_snapshot!(shown(&well(5)), @"20 of 20 pairs proved");
}

#[test]
fn a_proof_says_how_old_it_is() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let before = |seconds| now - jiff::SignedDuration::from_secs(seconds);
    let mut verdict = well(2);
    // A proof that stands is not made less by a proxy that was not looked at.
    verdict.checks.retain(|check| check.id != Claim::Endpoints);
    verdict.proved_at = [("eks-1/eks-2", 190), ("eks-2/eks-1", 3 * 86_400)]
        .map(|(pair, seconds)| (pair.to_owned(), before(seconds)))
        .into();
    assert_snapshot!(render(&verdict, false, now, Style::plain()), @"
    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1              eks-2
    eks-1      -                  proved 3 min ago
    eks-2      proved 3 days ago  -

    2 of 2 pairs proved
    ");
    let mut many = well(6);
    many.proved_at = verdict.proved_at;
    assert_snapshot!(render(&many, false, now, Style::plain()), @"30 of 30 pairs proved, the first of them 3 days ago");
    assert_eq!(
        [0, 59, 60, 3_599, 7_200, 172_800].map(|s| ago(before(s), now)),
        [
            "just now",
            "just now",
            "1 min ago",
            "59 min ago",
            "2 h ago",
            "2 days ago",
        ]
    );
}

#[test]
fn many_as_a_list() {
    assert_snapshot!(shown(&with(well(9), Claim::Proved, "eks-2", "eks-5", Outcome::Failed)), @"
    proved/eks-2/eks-5: failed
      the proxy of meshlink-probe holds 10.1.0.9:8080, a pod address of the other
      network, beside the gateway's
      hint: meshlink join eks-1 eks-2

    FROM / TO  eks-1  eks-2  eks-3  eks-4  eks-5   eks-6  eks-7  eks-8  eks-9
    eks-2      ok     -      ok     ok     failed  ok     ok     ok     ok
    eks-2 to eks-5: proved failed

    71 of 72 pairs proved, 1 check failed
    a cluster reaches at least 7 and on average 7.8 of its 8 peers
    ");
    let mut none = well(30);
    none.checks.clear();
    assert!(shown(&none).contains("and 850 more pairs"));
}

#[test]
fn what_every_replica_says_of_one_cluster_is_said_once() {
    let mut verdict = well(6);
    for n in [1, 2, 3, 4, 6] {
        let from = format!("eks-{n}");
        verdict = with(
            verdict,
            Claim::GatewayKnown,
            &from,
            "eks-5",
            Outcome::Failed,
        );
        for check in verdict.checks.iter_mut().filter(|c| c.from == from) {
            if check.outcome == Outcome::Failed {
                check.evidence =
                    format!("istiod replica istiod-{n}a4f-x{n} knows no gateway for network eks-5");
            }
        }
    }
    let text = shown(&verdict);
    assert_eq!(text.matches("knows no gateway").count(), 1, "{text}");
    assert!(text.contains("gateway-known/eks-1/eks-5"), "{text}");
    assert!(
        text.contains("gateway-known: 4 more checks failed in the same way"),
        "{text}"
    );
}
