//! What ends, and what is renewed before it does: with the clock of the clusters and of their user moved on.

use std::{collections::BTreeMap, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use meshlink::{Change, FailureKind, Renew, RenewWhat};
use serde_json::{Value, json};

use crate::kit::{World, istio};

/// The certificates of a member's `cacerts`, by file.
fn cacerts(world: &World, cluster: &str) -> BTreeMap<String, String> {
    let secret = world.get(cluster, &istio("secrets", "cacerts"));
    let data = secret["data"].as_object().unwrap().iter();
    let file = |(name, value): (&String, &Value)| {
        let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        (name.clone(), String::from_utf8(bytes).unwrap())
    };
    data.map(file).collect()
}

/// How far something is, by the table of `ca status`.
fn state(world: &World, id: &str) -> String {
    let answer = world.run("ca status -o json");
    let rows = answer.json()["ends"]["rows"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["id"] == id);
    let row = row.unwrap_or_else(|| panic!("no {id} in {answer}"));
    row["state"].as_str().unwrap().to_owned()
}

/// The names of the pods of istiod.
fn istiods(world: &World, cluster: &str) -> Vec<String> {
    let path = "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod";
    let pods = world.get(cluster, path);
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| pod["metadata"]["name"].to_string())
        .collect()
}

#[test]
fn an_intermediate_is_renewed_in_place_before_it_ends() {
    let world = World::joined(2);
    let before = ["eks-1", "eks-2"].map(|c| cacerts(&world, c));
    let pods = || ["eks-1", "eks-2"].map(|c| istiods(&world, c));
    let running = pods();
    world.run("renew").ends(0).says("nothing to do");
    world.advance(340);
    assert_eq!(state(&world, "intermediate/eks-1"), "warning");
    let status = world.run("ca status").ends(0);
    status.says("meshlink renew --what intermediates");
    let status = world.run("status").ends(0);
    status.says("intermediate-valid/eks-1: warning");
    let plan = world.run("plan renew").ends(10);
    let plan = plan.says("renew-cacerts/eks-1");
    let plan = plan.says("settle-cacerts/eks-2");
    assert!(!plan.stdout.contains("restart-istiod"), "{plan}");
    let plan = world.run("plan eks-1 eks-2").ends(10);
    plan.says("renew-cacerts/eks-1");
    let renewed = world.run("renew").ends(0);
    assert!(!renewed.stdout.contains("intermediate-valid"), "{renewed}");
    for (cluster, before) in ["eks-1", "eks-2"].into_iter().zip(before) {
        let now = cacerts(&world, cluster);
        assert_ne!(now["ca-cert.pem"], before["ca-cert.pem"]);
        assert_eq!(now["root-cert.pem"], before["root-cert.pem"]);
        assert_eq!(state(&world, &format!("intermediate/{cluster}")), "fine");
    }
    assert_eq!(pods(), running, "istiod was restarted");
    world.run("verify --traffic").ends(0);
    world.run("renew").ends(0).says("nothing to do");
    let again = world.run("join eks-1 eks-2").ends(0);
    again.says("nothing to do");
}

#[test]
fn a_mesh_that_has_ended_is_healed_by_the_same_command() {
    let world = World::joined(2);
    world.advance(366);
    for command in ["status", "ca status"] {
        world.run(command).ends(7).says("eks-1's intermediate");
    }
    assert_eq!(state(&world, "intermediate/eks-1"), "ended");
    let verified = world.run("verify --traffic --timeout 3s");
    assert_ne!(verified.code, Some(0), "{verified}");
    let plan = world.run("plan renew").ends(10);
    plan.says("restart-istiod/eks-1");
    world.run("renew").ends(0);
    assert_eq!(state(&world, "intermediate/eks-1"), "fine");
    world.run("status").ends(0);
    world.run("verify --traffic").ends(0);
}

#[test]
fn a_join_renews_too_and_also_what_has_ended() {
    let world = World::joined(2);
    let before = cacerts(&world, "eks-2");
    world.advance(366);
    let joined = world.run("join eks-1 eks-2").ends(0);
    joined.says("2 of 2 pairs proved");
    assert_ne!(
        cacerts(&world, "eks-2")["ca-cert.pem"],
        before["ca-cert.pem"]
    );
    let again = world.run("join eks-1 eks-2").ends(0);
    again.says("nothing to do");
}

#[test]
fn what_the_mesh_file_asks_for_now_is_renewed_at_once() {
    let world = World::new(2);
    let names = json!([{"name": "eks-1"}, {"name": "eks-2"}]);
    let write = |trust: Value| {
        let file = json!({"clusters": names, "trust": trust});
        fs::write(world.user.here().join("mesh.yaml"), file.to_string()).unwrap();
    };
    write(json!({}));
    world.run("join -f mesh.yaml").ends(0);
    for (trust, why) in [
        (json!({"key": "P-384"}), "trust.key asks for P-384"),
        (
            json!({"key": "P-384", "dnsNames": ["istiod.example"]}),
            "trust.dnsNames changed",
        ),
        (
            json!({"key": "P-384", "dnsNames": ["istiod.example"], "intermediateLifetime": "30d"}),
            "trust.intermediateLifetime changed",
        ),
    ] {
        write(trust);
        world.run("plan renew -f mesh.yaml -v").ends(10).says(why);
        world.run("renew -f mesh.yaml").ends(0);
        let again = world.run("renew -f mesh.yaml").ends(0);
        again.says("nothing to do");
    }
    world.run("verify --traffic -f mesh.yaml").ends(0);
}

#[test]
fn who_comes_back_is_given_what_the_mesh_asks_for_now() {
    let world = World::new(2);
    let mesh = |lifetime: &str| {
        let mesh = json!({"trust": {"intermediateLifetime": lifetime}, "clusters": [{"name": "eks-1"}, {"name": "eks-2"}]});
        fs::write(world.user.here().join("mesh.yaml"), mesh.to_string()).unwrap();
    };
    mesh("365d");
    world.run("join -f mesh.yaml").ends(0);
    world
        .run("leave eks-1 eks-2 --uninstall -f mesh.yaml")
        .ends(0);
    mesh("30d");
    world
        .run("join -f mesh.yaml")
        .ends(0)
        .says("issue-intermediate/eks-1");
    world.run("plan -f mesh.yaml").ends(0);
}

#[test]
fn nothing_is_renewed_by_a_wrong_clock() {
    let world = World::joined(2);
    world.advance(340);
    let renew = || {
        Change::Renew(Renew {
            accept_gap: false,
            what: RenewWhat::Intermediates,
        })
    };
    for off in [
        SignedDuration::from_hours(3),
        SignedDuration::from_hours(-3),
    ] {
        let now = world.now() + off;
        let link = world.link_as(2, |environment| {
            environment.clock = std::sync::Arc::new(move || now);
        });
        let failure = world.block_on(link.plan(renew())).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.to_string().contains("clock"), "{failure}");
    }
}

#[test]
fn who_has_not_the_key_is_told_and_a_join_that_needs_it_not_goes_on() {
    let world = World::joined(2);
    let aside = world.user.home().join("aside");
    fs::rename(world.vault(), &aside).unwrap();
    let join = world.run("join eks-1 eks-2").ends(0);
    join.says("nothing to do");
    world.advance(340);
    // Tokens need no key.
    world.run("renew --what tokens").ends(0);
    let plan = world.run("plan eks-1 eks-2").ends(0);
    plan.says("needs the key of root");
    let refused = world.run("renew").ends(5);
    refused.says("needs the key of root");
    world.advance(30);
    let join = world.run("plan eks-1 eks-2");
    join.says("needs the key of root");
    assert!(world.keys().is_empty());
    fs::rename(&aside, world.vault()).unwrap();
    world.run("renew").ends(0);
}

/// A root that signs nothing, as a run that died leaves it behind.
fn leave_a_throw_away(world: &World, cluster: &str) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "throw-away of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let bundle = cacerts(world, cluster)["root-cert.pem"].clone() + &root.pem();
    let data = json!({"data": {"root-cert.pem": STANDARD.encode(bundle)}});
    world.merge(cluster, &istio("secrets", "cacerts"), &data);
}

#[test]
fn a_renewal_that_was_interrupted_is_seen_and_brought_to_its_end() {
    let world = World::joined(2);
    let before = cacerts(&world, "eks-1");
    leave_a_throw_away(&world, "eks-1");
    let status = world.run("status").says("root-valid/eks-1: warning");
    status.says("was interrupted");
    let plan = world
        .run("plan renew")
        .ends(10)
        .says("settle-cacerts/eks-1");
    assert!(!plan.stdout.contains("renew-cacerts"), "{plan}");
    assert!(!plan.stdout.contains("eks-2"), "{plan}");
    world.run("renew").ends(0);
    assert_eq!(cacerts(&world, "eks-1"), before);
    world.run("status").ends(0);
}

#[cfg(feature = "crashpoints")]
#[test]
fn killed_at_any_place_the_next_run_goes_on() {
    let world = World::joined(2);
    for place in [
        "issue-intermediate/eks-1:after",
        "renew-cacerts/eks-1:after",
        "settle-cacerts/eks-1:before",
    ] {
        world.advance(340);
        let crash = [("MESHLINK_CRASH", place)];
        let died = world.user.start_with("renew --sandbox", &crash).end();
        assert_eq!(died.code, None, "{place}: {died}");
        world.run("renew").ends(0);
        assert_eq!(state(&world, "intermediate/eks-1"), "fine", "{place}");
    }
    world.run("renew").ends(0).says("nothing to do");
    world.run("verify --traffic").ends(0);
}

/// The samples of a text in Prometheus' format 0.0.4: each is of a family that was announced before, and no two are alike.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let name = regex_lite::Regex::new(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$").unwrap();
    let sample = regex_lite::Regex::new(
        r#"^([a-zA-Z_:][a-zA-Z0-9_:]*)\{(([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*",?)*)\} (-?[0-9.e+]+)$"#,
    )
    .unwrap();
    assert!(text.ends_with('\n'));
    let (mut helped, mut family, mut all) = (vec![], String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (of, _) = help.split_once(' ').unwrap();
            assert!(
                name.is_match(of) && !helped.contains(&of.to_owned()),
                "{line}"
            );
            helped.push(of.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (of, kind) = kind.split_once(' ').unwrap();
            assert_eq!((helped.last().unwrap().as_str(), kind), (of, "gauge"));
            family = of.to_owned();
        } else {
            let found = sample.captures(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(&found[1], family, "{line}");
            let (key, _) = line.rsplit_once(' ').unwrap();
            let value = found[5].parse().unwrap();
            assert_eq!(all.insert(key.to_owned(), value), None, "{line}");
        }
    }
    all
}

#[test]
fn prometheus_reads_the_same_table() {
    let world = World::joined(2);
    let path = world.user.here().join("metrics/mesh.prom");
    world.run("ca status --metrics metrics/mesh.prom").ends(0);
    let read = || samples(&fs::read_to_string(&path).unwrap());
    let of = |all: &BTreeMap<String, f64>, start: &str| {
        let found: Vec<_> = all.iter().filter(|(k, _)| k.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start} in {all:?}");
        *found[0].1
    };
    let start = r#"meshlink_end_state{id="intermediate/eks-1","#;
    assert!((of(&read(), start) - 0.0).abs() < 0.1);
    world.advance(340);
    world.run("status --metrics metrics/mesh.prom").ends(0);
    let all = read();
    assert!((of(&all, start) - 2.0).abs() < 0.1, "{all:?}");
    let at = of(&all, "meshlink_ends_read_timestamp_seconds{");
    let end = of(
        &all,
        r#"meshlink_end_timestamp_seconds{id="intermediate/eks-1","#,
    );
    let days = (end - at) / 86_400.0;
    assert!((24.0..26.0).contains(&days), "{days}");
}
