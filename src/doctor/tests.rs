//! The table, the page that is made of it, healthy meshes in which nothing is found, and what embedded clusters cannot show.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use serde_json::json;

use self::mesh::{Random, change, healthy, list};
use super::*;
use crate::{
    ends::{Row, State, What},
    observe::{CacertsSeen, RemoteSecretSeen},
    verify,
};

mod mesh;

/// The reading as it comes out of a bundle.
fn again(reading: &Reading) -> Reading {
    let text = serde_json::to_string(&Record::of(reading).unwrap()).unwrap();
    let mut record: Record = serde_json::from_str(&text).unwrap();
    for (name, member) in record.members() {
        let lists = &reading.members[name].lists;
        let small = lists
            .iter()
            .map(|(source, list)| (*source, Arc::new(allow::allowed(*source, list))));
        member.lists = small.collect();
    }
    record.into_reading().unwrap()
}

#[test]
fn values_of_charts_are_not_written_down() {
    let mut reading = healthy(&mut Random::with(2, 7));
    let values = json!({"key": "canary"});
    reading.mesh.istio.values.inline = values.as_object().unwrap().clone();
    reading.mesh.gateway.values.inline = values.as_object().unwrap().clone();
    seen(&mut reading, "c1").istiod.values = Some(values.clone());
    let release = crate::observe::ReleaseSeen {
        config: values,
        ..Default::default()
    };
    let releases = &mut seen(&mut reading, "c1").releases;
    releases.insert("istiod".into(), release);
    let text = serde_json::to_string(&Record::of(&reading).unwrap()).unwrap();
    assert!(!text.contains("canary"), "{text}");
}

fn found(reading: &Reading, scope: &Scope) -> Vec<String> {
    let diagnosis = diagnose(reading, scope);
    assert_eq!(
        diagnose(&again(reading), scope),
        diagnosis,
        "written down it says the same"
    );
    assert_eq!(diagnosis.not_looked_at, [], "everything can be read");
    diagnosis.findings.iter().map(Finding::path).collect()
}

fn before() -> Scope {
    Scope {
        before_join: true,
        ..Scope::default()
    }
}

#[test]
fn the_table_is_consistent() {
    let ids: Vec<_> = ids().collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    let is_kebab = |id: &str| {
        let mut all = id.chars();
        all.all(|c| c.is_ascii_lowercase() || c == '-') && !id.is_empty()
    };
    for check in table::all() {
        assert!(is_kebab(check.id), "{}", check.id);
        assert!(!check.needs.is_empty(), "{} looks at nothing", check.id);
        for text in [check.looks, check.cause, check.mend] {
            assert!(
                !text.is_empty() && !text.ends_with('.'),
                "{}: {text}",
                check.id
            );
        }
        let known = |id: &&&str| !ids.contains(*id);
        assert_eq!(check.echoes.iter().find(known), None, "{}", check.id);
    }
    assert!(ids.len() > 60, "{}", ids.len());
}

#[test]
fn the_page_is_the_table() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (page, made) = (repository.join("docs/checks.md"), page::page());
    if fs::read_to_string(&page).unwrap_or_default() != made {
        let new = repository.join("target/checks.md");
        fs::write(&new, made).unwrap();
        panic!(
            "docs/checks.md is not what the table says; {} is",
            new.display()
        );
    }
}

#[test]
fn nothing_is_found_in_a_thousand_healthy_meshes() {
    for seed in 0..1_000 {
        let reading = healthy(&mut Random::of(seed));
        for scope in [Scope::default(), before()] {
            let found = found(&reading, &scope);
            assert_eq!(found, [""; 0], "seed {seed}");
        }
    }
}

/// Breaks a healthy mesh of three, and looks.
fn broken(scope: &Scope, how: impl FnOnce(&mut Reading)) -> Vec<String> {
    let mut reading = healthy(&mut Random::with(3, 7));
    how(&mut reading);
    found(&reading, scope)
}

fn member<'r>(reading: &'r mut Reading, name: &str) -> &'r mut Member {
    let member = reading.members.iter_mut().find(|(n, _)| n.as_str() == name);
    member.unwrap().1
}

fn seen<'r>(reading: &'r mut Reading, name: &str) -> &'r mut crate::observe::Seen {
    let all = &mut reading.observed.clusters;
    all.iter_mut().find(|(n, _)| n.as_str() == name).unwrap().1
}

#[test]
fn what_embedded_clusters_do_not_show_is_found_by_its_name() {
    let always = Scope::default();
    let loopback = broken(&always, |r| {
        let secret = seen(r, "c1").remote_secrets.get_mut("c2").unwrap();
        secret.server = "https://127.0.0.1:6443".into();
    });
    assert_eq!(loopback, ["remote-secret-loopback/c1/c2"]);
    let twice = broken(&always, |r| {
        let uid = seen(r, "c1").uid.clone();
        seen(r, "c3").uid = uid;
    });
    assert!(
        twice.contains(&"same-cluster-twice/c1/c3".into()),
        "{twice:?}"
    );
    let refused = broken(&always, |r| {
        let evil = "e".repeat(64);
        let cacerts = seen(r, "c2").cacerts.as_mut().unwrap();
        cacerts.roots.push(evil);
    });
    assert_eq!(refused, ["second-root/c2", "bundle-not-loaded/c2"]);
    let old = broken(&before(), |r| {
        seen(r, "c2").kubernetes = "v1.24.9-eks-1".into()
    });
    assert_eq!(old, ["kubernetes-too-old/c2"]);
    let no_rights = broken(&before(), |r| {
        member(r, "c1").rights = vec!["create namespaces".into(), "patch secrets".into()];
    });
    assert_eq!(no_rights, ["rights-missing/c1"]);
    let network = broken(&before(), |r| {
        r.aws = vec![crate::aws::preflight::Finding {
            check: "aws-webhook",
            cluster: "c3".into(),
            level: crate::aws::preflight::Level::Fail,
            text: "15017 is closed".into(),
            fix: vec![],
        }];
    });
    assert_eq!(network, ["aws-network/c3"]);
    let balancer = broken(&always, |r| {
        r.balancers.checks = vec![verify::Check {
            id: verify::Claim::GatewayReady,
            from: "c1".into(),
            to: None,
            outcome: verify::Outcome::Failed,
            evidence: "0 of 2 targets healthy".into(),
            hints: vec![],
        }];
    });
    assert_eq!(balancer, ["nlb-unhealthy/c1"]);
}

#[test]
fn a_foreign_cacerts_that_is_not_loaded_is_no_reason_to_restart() {
    let mut reading = healthy(&mut Random::with(3, 7));
    seen(&mut reading, "c2").cacerts = Some(CacertsSeen {
        roots: vec!["e".repeat(64)],
        ..CacertsSeen::default()
    });
    let diagnosis = diagnose(&reading, &Scope::default());
    let [only] = diagnosis.findings.as_slice() else {
        panic!("{:?}", diagnosis.findings);
    };
    assert_eq!(only.check, "cacerts-not-loaded");
    let fix = only.fix.to_string();
    assert!(fix.contains("delete secret cacerts"), "{fix}");
    assert!(only.cause.contains("at its next start"), "{}", only.cause);
}

#[test]
fn what_ends_is_told_once_and_by_what_is_wrong() {
    let row = |what: What, until: &str, state| Row {
        id: "x/c2".into(),
        what,
        members: vec!["c2".into()],
        peer: None,
        fingerprint: None,
        since: None,
        until: until.parse().unwrap(),
        days_left: 0,
        state,
        renewal: String::new(),
        note: None,
        hints: vec![Hint::meshlink(["renew"])],
    };
    let found = |what, until, state| {
        broken(&Scope::default(), |r| {
            r.ends.now = r.observed.now;
            r.ends.rows = vec![row(what, until, state)];
        })
    };
    let far = "2030-01-01T00:00:00Z";
    let other = found(What::Signing, far, State::Warning);
    assert_eq!(other, ["intermediate-not-loaded/c2"]);
    let soon = found(What::Token, "2026-06-03T00:00:00Z", State::Failing);
    assert_eq!(soon, ["ends-soon/c2"]);
    let gone = found(What::Intermediate, "2026-05-03T00:00:00Z", State::Ended);
    assert_eq!(gone, ["has-ended/c2"]);
    assert_eq!(found(What::Token, far, State::Due), [""; 0]);
}

#[test]
fn what_a_join_needs_is_looked_at_before_it() {
    let found = broken(&before(), |r| {
        let away = json!([{"type": "Ready", "status": "Unknown"}]);
        change(
            member(r, "c1"),
            Source::Nodes,
            "n0",
            "/status/conditions",
            away,
        );
        change(
            member(r, "c2"),
            Source::Nodes,
            "n0",
            "/spec/unschedulable",
            json!(true),
        );
        change(
            member(r, "c2"),
            Source::Nodes,
            "n1",
            "/spec/unschedulable",
            json!(true),
        );
        let at = json!("2026-01-01T00:00:00Z");
        let space = "istio-system";
        change(
            member(r, "c3"),
            Source::Namespaces,
            space,
            "/metadata/deletionTimestamp",
            at,
        );
        let down = json!([{"type": "Ready", "status": "False"}]);
        change(
            member(r, "c3"),
            Source::Pods,
            "coredns",
            "/status/conditions",
            down,
        );
    });
    let want = [
        "nodes-not-ready/c2",
        "cluster-dns-down/c3",
        "namespace-terminating/c3",
        "nodes-not-ready/c1",
    ];
    assert_eq!(
        found, want,
        "where no node takes pods, that is an error, and comes first"
    );
}

#[test]
fn what_could_not_be_read_is_said_and_is_not_clean() {
    let mut reading = healthy(&mut Random::with(3, 7));
    let why = "pods is forbidden".to_owned();
    member(&mut reading, "c2").unread.insert(Source::Pods, why);
    let policies = json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": {"mtls": {"mode": "DISABLE"}}});
    member(&mut reading, "c2")
        .lists
        .insert(Source::PeerAuthentications, list([policies]));
    let diagnosis = diagnose(&reading, &Scope::default());
    let [unlooked] = diagnosis.not_looked_at.as_slice() else {
        panic!("{:?}", diagnosis.not_looked_at);
    };
    assert_eq!(
        (unlooked.cluster.as_str(), unlooked.what.as_str()),
        ("c2", "pods")
    );
    assert_eq!(unlooked.why, "pods is forbidden");
    assert!(unlooked.checks.contains(&"gateway-closed".to_owned()));
    // It goes on where it can.
    let paths: Vec<_> = diagnosis.findings.iter().map(Finding::path).collect();
    assert_eq!(paths, ["mtls-disabled/c2"]);
    let result = |id: &str| {
        diagnosis
            .checks
            .iter()
            .find(|m| m.check == id)
            .unwrap()
            .result
    };
    assert_eq!(result("gateway-closed"), Result::NotLooked);
    assert_eq!(result("same-network"), Result::Clean);
    assert_eq!(result("mtls-disabled"), Result::Found);
}

#[test]
fn an_echo_is_not_told_beside_its_cause_and_two_causes_are() {
    let behind = |r: &mut Reading| {
        let known = &mut member(r, "c1").replicas[0].said.clusters;
        let peer = known.iter_mut().find(|k| k.id == "c2").unwrap();
        peer.status = "timeout".into();
    };
    let alone = broken(&Scope::default(), behind);
    assert_eq!(alone, ["peer-not-synced/c1/c2"]);
    let both = broken(&Scope::default(), |r| {
        behind(r);
        member(r, "c1")
            .peers
            .insert("c2".into(), Tried::Unauthorized);
        seen(r, "c2").remote_secrets.insert(
            "c1".into(),
            RemoteSecretSeen {
                server: "https://c1".into(),
                problems: vec!["has no token".into()],
                ..RemoteSecretSeen::default()
            },
        );
    });
    assert_eq!(
        both,
        ["remote-secret-malformed/c2/c1", "token-refused/c1/c2"]
    );
}
