//! What the members' istiods read each other with: tokens and authorities, replaced while they are in use.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use meshlink::sandbox::api::Authority;
use serde_json::{Value, json};

use crate::kit::{Answer, World, istio};

const HOUR: i64 = 3600;
const RENEWER: &str = "renewer: {image: registry.example.com/meshlink:1}\n";

/// A mesh of two clusters with this in its file, not joined yet.
fn world(more: &str) -> World {
    let world = World::new(2);
    write(&world, more);
    world
}

fn write(world: &World, more: &str) {
    let mesh = format!("{more}clusters: [{{name: eks-1}}, {{name: eks-2}}]\n");
    fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
}

/// The same, joined so many seconds ago.
fn joined(more: &str, ago: i64) -> World {
    let world = world(more);
    world.run("join -f mesh.yaml").ends(0);
    world.advance_by(ago);
    world
}

/// The same with a renewer that was seen to do its work, and tokens that end, given out so many seconds ago.
fn renewed(ago: i64) -> World {
    let world = joined(RENEWER, 0);
    for member in ["eks-1", "eks-2"] {
        succeeded(&world, member);
    }
    world.run("join -f mesh.yaml").ends(0);
    world.advance_by(ago);
    world
}

const JOB: &str = "/apis/batch/v1/namespaces/istio-system/cronjobs/meshlink-renewer";

/// A Job of the renewer, half an hour later, and what the controller of CronJobs makes of it.
pub(crate) fn succeeded(world: &World, member: &str) {
    world.advance_by(HOUR / 2);
    renewer(world, member, "").ends(0);
    let mut job = world.get(member, JOB);
    let now = world.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    job["status"] = json!({"lastScheduleTime": now, "lastSuccessfulTime": now});
    world
        .replace(member, &format!("{JOB}/status"), &job)
        .unwrap();
}

/// What `to`'s remote secret for `from` says under a key.
fn entry(world: &World, from: &str, to: &str, key: &str) -> String {
    let secret = world.get(
        to,
        &istio("secrets", &format!("istio-remote-secret-{from}")),
    );
    let config = STANDARD
        .decode(secret["data"][from].as_str().unwrap())
        .unwrap();
    let config = String::from_utf8(config).unwrap();
    let key = format!("{key}: ");
    let said = config.lines().find_map(|l| l.trim().strip_prefix(&key));
    said.unwrap().trim_matches('"').to_owned()
}

/// The token by which `to` reads `from`.
fn token(world: &World, from: &str, to: &str) -> String {
    entry(world, from, to, "token")
}

/// The authorities by which `to` knows `from`.
fn authorities(world: &World, from: &str, to: &str) -> String {
    let data = entry(world, from, to, "certificate-authority-data");
    String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
}

/// Whether an API server accepts a token.
fn opens(world: &World, cluster: &str, token: &str) -> bool {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = world.post(
        cluster,
        "/apis/authentication.k8s.io/v1/tokenreviews",
        &review,
    );
    answer["status"]["authenticated"] == true
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    serde_json::from_slice(&claims).unwrap()
}

fn secrets_of(world: &World, cluster: &str, peer: &str) -> Vec<String> {
    let path =
        format!("/api/v1/namespaces/istio-system/secrets?labelSelector=meshlink%2Fpeer%3D{peer}");
    let list = world.get(cluster, &path);
    let names = list["items"].as_array().unwrap().iter();
    names
        .map(|s| s["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The renewer of a member, as its CronJob runs it.
pub(crate) fn renewer(world: &World, member: &str, more: &str) -> Answer {
    let folder = service_account(world, member);
    let job = world.get(
        member,
        "/apis/batch/v1/namespaces/istio-system/cronjobs/meshlink-renewer",
    );
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().unwrap().iter();
    let args: Vec<_> = args.map(|a| a.as_str().unwrap()).collect();
    let index = usize::from(member == "eks-2");
    let server = world.endpoints().servers[index];
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let vars = [
        ("KUBERNETES_SERVICE_HOST", host.as_str()),
        ("KUBERNETES_SERVICE_PORT", port.as_str()),
    ];
    let args = format!(
        "{} --service-account {} {more}",
        args.join(" "),
        folder.display()
    );
    world.user.start_with(&args, &vars).end()
}

fn service_account(world: &World, member: &str) -> PathBuf {
    let folder = world.user.here().join(format!("account-{member}"));
    fs::create_dir_all(&folder).unwrap();
    let path = istio("serviceaccounts", "meshlink-renewer/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": HOUR}});
    let granted = world.post(member, &path, &request);
    fs::write(
        folder.join("token"),
        granted["status"]["token"].as_str().unwrap(),
    )
    .unwrap();
    fs::write(folder.join("ca.crt"), world.api(member).ca_pem()).unwrap();
    folder
}

/// The kubeconfig as whoever runs the API servers would hand it out now.
fn refresh_kubeconfig(world: &World, cluster: &str, before: &str) {
    let path = &world.endpoints().kubeconfig;
    let text = fs::read_to_string(path).unwrap();
    let (old, new) = (
        STANDARD.encode(before),
        STANDARD.encode(world.api(cluster).ca_pem()),
    );
    assert!(text.contains(&old));
    fs::write(path, text.replace(&old, &new)).unwrap();
}

#[test]
fn an_old_token_is_replaced_and_the_first_is_refused() {
    let world = joined("", 91 * 24 * HOUR);
    let old = token(&world, "eks-1", "eks-2");
    world
        .run("plan renew -f mesh.yaml")
        .ends(10)
        .says("make-token/eks-1/eks-2")
        .says("retire-token/eks-1/eks-2");
    world.run("renew -f mesh.yaml --what tokens").ends(0);
    let new = token(&world, "eks-1", "eks-2");
    assert_ne!(old, new);
    assert!(!opens(&world, "eks-1", &old) && opens(&world, "eks-1", &new));
    assert_eq!(
        secrets_of(&world, "eks-1", "eks-2"),
        ["meshlink-reader-eks-2-token-2"]
    );
    world
        .run("renew -f mesh.yaml --what tokens")
        .ends(0)
        .says("nothing to do");
    world.run("plan -f mesh.yaml").ends(0);
    world.run("verify --traffic -f mesh.yaml").ends(0);
    world.run("leave eks-2 --uninstall -f mesh.yaml").ends(0);
    assert!(secrets_of(&world, "eks-1", "eks-2").is_empty());
    assert!(!opens(&world, "eks-1", &new));
}

#[test]
#[cfg(feature = "crashpoints")]
fn a_replacement_that_is_killed_anywhere_goes_on() {
    let world = joined("", 91 * 24 * HOUR);
    let steps = [
        "make-token/eks-1/eks-2",
        "share-secret/eks-1/eks-2",
        "await-synced/eks-2/eks-1",
        "retire-token/eks-1/eks-2",
    ];
    let first = token(&world, "eks-1", "eks-2");
    // Each death leaves something else behind, and the next run goes on from there: one after the other, in one mesh.
    for step in steps {
        for moment in ["before", "after", "journalled"] {
            let place = format!("{step}:{moment}");
            let args = "renew -f mesh.yaml --what tokens --sandbox";
            let died = world
                .user
                .start_with(args, &[("MESHLINK_CRASH", &place)])
                .end();
            if died.code == Some(0) {
                continue;
            }
            assert_eq!(died.code, None, "{place}: {died}");
            // Whatever is there, istiod can read with what it holds.
            assert!(
                opens(&world, "eks-1", &token(&world, "eks-1", "eks-2")),
                "{place}"
            );
        }
    }
    world.run("renew -f mesh.yaml --what tokens").ends(0);
    assert_eq!(
        secrets_of(&world, "eks-1", "eks-2"),
        ["meshlink-reader-eks-2-token-2"]
    );
    assert!(!opens(&world, "eks-1", &first));
    assert!(opens(&world, "eks-1", &token(&world, "eks-1", "eks-2")));
    world.run("plan -f mesh.yaml").ends(0);
}

#[test]
fn a_token_with_a_minute_left_is_renewed_by_a_renewer() {
    let world = renewed(24 * HOUR - 60);
    let old = token(&world, "eks-1", "eks-2");
    assert_eq!(
        claims(&old)["exp"].as_i64().unwrap() - claims(&old)["iat"].as_i64().unwrap(),
        24 * HOUR
    );
    renewer(&world, "eks-2", "-o json").ends(0).says("renewed");
    let new = token(&world, "eks-1", "eks-2");
    assert!(opens(&world, "eks-1", &new) && new != old);
    assert!(claims(&new)["exp"].as_i64() > claims(&old)["exp"].as_i64());
    // The other direction is the other member's to renew.
    assert_eq!(
        claims(&token(&world, "eks-2", "eks-1"))["iat"],
        claims(&old)["iat"]
    );
    let metrics = world.user.here().join("metrics");
    let more = format!("--renewer-metrics {}", metrics.display());
    renewer(&world, "eks-2", &more)
        .ends(0)
        .says("token/eks-2/eks-1: valid until");
    let metrics = fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains(
        "meshlink_renewer_outcome{mesh=\"mesh\",member=\"eks-2\",id=\"token/eks-2/eks-1\"} 0"
    ));
    world.run("renew -f mesh.yaml --what tokens").ends(0);
    world.run("status -f mesh.yaml").ends(0);
}

#[test]
fn a_token_gets_an_end_only_where_a_renewer_was_seen_to_renew() {
    let ends = |world: &World| claims(&token(world, "eks-1", "eks-2"))["exp"].is_i64();
    let world = joined(RENEWER, 0);
    assert!(!ends(&world), "nothing is known of its renewer");
    let waits = "no Job of the renewer in eks-2 has succeeded yet";
    world
        .run("plan -f mesh.yaml")
        .ends(0)
        .says(waits)
        .says("create job");
    world.advance(2);
    world.run("join -f mesh.yaml").ends(0).says("nothing to do");
    // One that cannot reach its peers from where it runs proves nothing: it says so, and its Job fails.
    let secret = istio("secrets", "meshlink-reader-eks-2-token");
    let account = token(&world, "eks-1", "eks-2");
    world.delete("eks-1", &secret);
    assert!(!opens(&world, "eks-1", &account));
    renewer(&world, "eks-2", "")
        .ends(1)
        .says("token/eks-2/eks-1");
    world.run("join -f mesh.yaml").ends(0);
    assert!(!ends(&world));
    // It has run, and that is seen; then only what the other member reads waits.
    succeeded(&world, "eks-2");
    world
        .run("join -f mesh.yaml")
        .ends(0)
        .says("no Job of the renewer in eks-1 has succeeded yet");
    assert!(ends(&world));
    assert!(!claims(&token(&world, "eks-2", "eks-1"))["exp"].is_i64());
    world.run("plan -f mesh.yaml").ends(0);
    // Another image has to show it first, but what ends already is gone on with.
    write(
        &world,
        "renewer: {image: registry.example.com/meshlink:2}\n",
    );
    succeeded(&world, "eks-1");
    world
        .run("join -f mesh.yaml")
        .ends(0)
        .says("has succeeded since it was changed");
    assert!(ends(&world));
    // Where it is told to wait, tokens do not end.
    world.merge("eks-2", JOB, &json!({"spec": {"suspend": true}}));
    world
        .run("renew -f mesh.yaml --what tokens")
        .ends(0)
        .says("is suspended");
    world.run("join -f mesh.yaml").ends(0);
    assert!(!ends(&world));
}

#[test]
fn a_version_that_loses_requests_is_not_renewed_without_being_told_so() {
    for (version, says) in [
        ("1.29.7", "the connection to a peer ends"),
        ("1.30.2", "a changed remote secret is ignored"),
    ] {
        let world = World::with(2, |o| o.versions = vec![version.into()]);
        write(&world, &format!("istio: {{version: {version}}}\n"));
        world.run("join -f mesh.yaml").ends(0);
        world.advance(91);
        let before = token(&world, "eks-1", "eks-2");
        let told = format!(
            "requests may be lost when its remote secrets are changed: istiod {version}: {says}"
        );
        for command in ["plan renew", "renew"] {
            world
                .run(&format!("{command} -f mesh.yaml --what tokens"))
                .ends(5)
                .says(&told)
                .says("--accept-gap");
        }
        assert_eq!(token(&world, "eks-1", "eks-2"), before);
        world
            .run("plan renew -f mesh.yaml --what tokens --accept-gap")
            .ends(10)
            .says(says);
        world
            .run("renew -f mesh.yaml --what tokens --accept-gap")
            .ends(0);
        assert_ne!(token(&world, "eks-1", "eks-2"), before);
        // Nothing is known that a change of cacerts would lose there.
        world
            .run("renew -f mesh.yaml --what intermediates")
            .ends(0)
            .says("nothing to do");
        // And no token is given an end, which would have to be renewed every day.
        write(&world, &format!("{RENEWER}istio: {{version: {version}}}\n"));
        world.run("join -f mesh.yaml").ends(0);
        succeeded(&world, "eks-2");
        let answer = world.run("plan -f mesh.yaml").ends(0);
        answer.says(&format!("eks-2 runs istiod {version}"));
    }
}

#[test]
fn a_renewer_keeps_to_its_rights_and_to_the_lease() {
    let world = renewed(24 * HOUR - 60);
    // With its own token a reader gets no token of another account, and none without the Secret that cuts it off.
    let reader = token(&world, "eks-1", "eks-2");
    let ask = |account: &str| {
        let path = istio("serviceaccounts", &format!("{account}/token"));
        world.as_bearer(
            "eks-1",
            &reader,
            &path,
            &json!({"spec": {"expirationSeconds": 600}}),
        )
    };
    assert_eq!(ask("meshlink-reader-eks-2"), 201);
    for other in ["default", "meshlink-renewer", "istiod"] {
        assert_eq!(ask(other), 403, "{other}");
    }
    // Somebody else is at work.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/meshlink";
    let held = world.get("eks-2", lease);
    let now = crate::kit::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string();
    let mut theirs = held.clone();
    theirs["spec"] = json!({"holderIdentity": "somebody", "leaseDurationSeconds": 30, "acquireTime": now, "renewTime": now});
    theirs["metadata"]["annotations"] = json!({});
    world.replace("eks-2", lease, &theirs).unwrap();
    renewer(&world, "eks-2", "").ends(8).says("somebody");
    assert_eq!(
        token(&world, "eks-1", "eks-2"),
        reader,
        "nothing was written"
    );
    world.replace("eks-2", lease, &held).unwrap();
    // The Secret that its tokens hang on is deleted: every one of them is cut off, one that renewed itself too.
    world.delete("eks-1", &istio("secrets", "meshlink-reader-eks-2-bound"));
    assert!(!opens(&world, "eks-1", &reader));
    renewer(&world, "eks-2", "")
        .ends(1)
        .says("token/eks-2/eks-1");
    world
        .run("status -f mesh.yaml")
        .ends(7)
        .says("does not accept its token any more");
    world.run("join -f mesh.yaml").ends(0);
    assert!(opens(&world, "eks-1", &token(&world, "eks-1", "eks-2")));
    renewer(&world, "eks-2", "").ends(0);
}

#[test]
fn a_mesh_changes_from_one_kind_of_token_to_the_other_and_back() {
    let world = world("");
    world.run("join -f mesh.yaml").ends(0);
    let long = token(&world, "eks-1", "eks-2");
    // As EKS does it: whatever is asked for, less is granted, and that is what is shown.
    world.api("eks-1").grant_at_most(12 * HOUR);
    write(&world, RENEWER);
    world
        .run("plan -f mesh.yaml")
        .ends(10)
        .says("install-renewer/eks-2")
        .says("the renewer in eks-2 has not run yet");
    world.run("join -f mesh.yaml").ends(0);
    for member in ["eks-1", "eks-2"] {
        succeeded(&world, member);
    }
    world
        .run("plan -f mesh.yaml")
        .ends(10)
        .says("retire-token/eks-1/eks-2");
    world.run("join -f mesh.yaml").ends(0);
    let short = token(&world, "eks-1", "eks-2");
    assert_eq!(
        claims(&short)["exp"].as_i64().unwrap() - claims(&short)["iat"].as_i64().unwrap(),
        12 * HOUR
    );
    assert!(
        !opens(&world, "eks-1", &long),
        "the token that never ends is cut off"
    );
    assert_eq!(
        secrets_of(&world, "eks-1", "eks-2"),
        ["meshlink-reader-eks-2-bound"]
    );
    world.run("plan -f mesh.yaml").ends(0);
    renewer(&world, "eks-1", "").ends(0);
    write(&world, "");
    world.run("join -f mesh.yaml").ends(0);
    assert!(!opens(&world, "eks-1", &short));
    assert_eq!(
        secrets_of(&world, "eks-1", "eks-2"),
        ["meshlink-reader-eks-2-token"]
    );
    assert!(world.find("eks-1", JOB).is_none());
    world.run("plan -f mesh.yaml").ends(0);
    // And a leave takes it away with the rest.
    write(&world, RENEWER);
    world.run("join -f mesh.yaml").ends(0);
    world.run("leave eks-2 --uninstall -f mesh.yaml").ends(0);
    assert!(world.find("eks-2", JOB).is_none());
    assert!(secrets_of(&world, "eks-1", "eks-2").is_empty());
}

#[test]
fn an_api_server_changes_its_authority_and_no_istiod_loses_it() {
    let world = world("");
    world.run("join -f mesh.yaml").ends(0);
    let api = world.api("eks-1");
    let old = api.ca_pem();
    let synced = || {
        world
            .run("status -f mesh.yaml")
            .ends(0)
            .says("2 of 2 pairs proved")
    };
    assert_eq!(authorities(&world, "eks-1", "eks-2"), old);
    // Both are trusted, and the old one signs.
    api.change_authority(Authority::Append).unwrap();
    let both = api.ca_pem();
    world.run("status -f mesh.yaml").ends(0);
    world
        .run("plan renew -f mesh.yaml --what api-cas -v")
        .ends(10)
        .says("the API server's CA changed");
    world
        .run("renew -f mesh.yaml --what api-cas")
        .ends(0)
        .says("synced");
    assert_eq!(authorities(&world, "eks-1", "eks-2"), both);
    synced();
    // The new one signs.
    refresh_kubeconfig(&world, "eks-1", &old);
    api.change_authority(Authority::Sign).unwrap();
    synced();
    world
        .run("renew -f mesh.yaml --what api-cas")
        .ends(0)
        .says("nothing to do");
    // The old one is gone.
    api.change_authority(Authority::Retire).unwrap();
    refresh_kubeconfig(&world, "eks-1", &both);
    world.run("renew -f mesh.yaml --what api-cas").ends(0);
    assert_eq!(authorities(&world, "eks-1", "eks-2"), api.ca_pem());
    synced();
    world.run("verify --traffic -f mesh.yaml").ends(0);
    world.run("plan -f mesh.yaml").ends(0);
}

#[test]
fn what_eks_is_about_to_do_with_a_ca_is_told() {
    let world = World::new(2);
    world.by_names("join eks-1 eks-2 --yes").ends(0);
    let other = STANDARD.encode(world.api("eks-2").ca_pem());
    let day = |days: i64| (crate::kit::now().as_second() + days * 24 * HOUR) as f64;
    {
        let mut aws = world.aws();
        let cluster = aws
            .clusters
            .iter_mut()
            .find(|c| c.arn.ends_with("eks-1"))
            .unwrap();
        // A CA of another cluster stands in for the successor: what counts is that nobody holds it.
        cluster.authorities = vec![
            json!({"id": "ca-1", "signingStatus": "IN_USE", "distributionStatus": "COMPLETE",
                "activatedBy": "EKS", "activatedAt": day(-3000), "data": cluster.ca}),
            json!({"id": "ca-2", "signingStatus": "NOT_USED", "distributionStatus": "COMPLETE", "createdBy": "EKS",
                "scheduledEvents": {"firstAutoActivation": day(20), "finalAutoActivation": day(50)}, "data": other}),
        ];
    }
    let told = "EKS switches to its successor between";
    world
        .by_names("ca status eks-1 eks-2")
        .says(told)
        .says("and it is not held");
    world
        .by_names("plan renew eks-1 eks-2")
        .says("it is not held");
    // Who may not ask is not kept from anything.
    world
        .aws()
        .denied
        .insert("eks:ListCertificateAuthorities".into());
    let answer = world.by_names("ca status eks-1 eks-2").ends(0);
    assert!(!answer.stdout.contains(told), "{answer}");
}
