//! Istio versions that a changed remote secret breaks: their istiod is restarted, and the proof comes after.

use std::fs;

use crate::kit::{World, istio};

/// A mesh of the first so many clusters on one version of Istio, joined.
fn joined(clusters: usize, version: &str) -> World {
    let world = World::with(clusters, |o| o.versions = vec![version.into()]);
    let names: Vec<_> = (1..=clusters)
        .map(|n| format!("{{name: eks-{n}}}"))
        .collect();
    let mesh = format!(
        "istio: {{version: {version}}}\nclusters: [{}]\n",
        names.join(", ")
    );
    fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
    world.run("join -f mesh.yaml").ends(0);
    world
}

/// The next look finds that what eks-1 reads eks-2 with is no longer right. Times are said in whole seconds, and what happens
/// in the second in which istiod started happens before that.
fn change_token(world: &World) {
    world.advance_by(2);
    world.delete("eks-2", &istio("secrets", "meshlink-reader-eks-1-token"));
}

fn istiod(world: &World, cluster: &str) -> String {
    let pods = world.get(
        cluster,
        "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod",
    );
    let names = pods["items"].as_array().unwrap().iter();
    let names = names.map(|pod| pod["metadata"]["name"].as_str().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_changed_secret_is_followed_by_a_restart_and_a_proof() {
    for (version, says) in [
        (
            "1.30.2",
            "istiod 1.30.2: a changed remote secret is ignored",
        ),
        ("1.30.3", "istiod 1.30.3: other peers' gateways"),
    ] {
        let world = joined(3, version);
        world.run("plan -f mesh.yaml").ends(0);
        change_token(&world);
        let plan = world.run("plan -f mesh.yaml").ends(10);
        let plan = plan.says("refresh-istiod/eks-1").says(says);
        assert!(!plan.stdout.contains("refresh-istiod/eks-2"), "{plan}");
        let before = ["eks-1", "eks-2"].map(|name| istiod(&world, name));
        world
            .run("join -f mesh.yaml")
            .ends(0)
            .says("6 of 6 pairs proved");
        assert_ne!(istiod(&world, "eks-1"), before[0], "{version}");
        assert_eq!(istiod(&world, "eks-2"), before[1], "{version}");
        world.run("plan -f mesh.yaml").ends(0);
    }
}

#[test]
fn a_sound_version_is_not_restarted() {
    let world = joined(2, "1.31.4");
    change_token(&world);
    let plan = world.run("plan -f mesh.yaml").ends(10);
    let plan = plan.says("share-secret/eks-2/eks-1");
    assert!(!plan.stdout.contains("refresh-istiod"), "{plan}");
}

#[test]
#[cfg(feature = "crashpoints")]
fn an_istiod_that_a_dead_run_left_broken_is_restarted_by_the_next() {
    let world = joined(2, "1.30.3");
    change_token(&world);
    let place = [("MESHLINK_CRASH", "share-secret/eks-2/eks-1:after")];
    let died = world.user.start_with("join -f mesh.yaml --sandbox", &place);
    assert_eq!(died.end().code, None);
    let plan = world.run("plan -f mesh.yaml").ends(10);
    let plan = plan.says("refresh-istiod/eks-1");
    assert!(!plan.stdout.contains("share-secret"), "{plan}");
    world.run("join -f mesh.yaml").ends(0);
    world.run("plan -f mesh.yaml").ends(0);
}

#[test]
fn who_stays_keeps_the_gateways_of_the_others() {
    let world = joined(3, "1.30.3");
    let before = istiod(&world, "eks-1");
    world.run("leave eks-3 -f mesh.yaml").ends(0);
    assert_ne!(istiod(&world, "eks-1"), before);
    world
        .run("verify --traffic")
        .ends(0)
        .says("2 of 2 pairs proved");
}

#[test]
fn a_mesh_goes_by_the_table_of_versions_it_names() {
    let world = World::with(2, |o| o.versions = vec!["1.31.3".into()]);
    let table = |newest: &str, bad: [&str; 2]| {
        let fault = format!("ranges = [{bad:?}]\neffect = \"say\"\ntext = \"sings\"");
        let text = format!("newest = [{newest}]\n[[fault]]\n{fault}\nreferences = [\"istio#1\"]\n");
        fs::write(world.user.here().join("table.toml"), text).unwrap();
    };
    let mesh = "istio: {versions: table.toml}\nclusters: [{name: eks-1}, {name: eks-2}]\n";
    fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
    // Only that release is there to be fetched.
    table(r#""1.31.4", "1.31.3""#, ["1.31.4", "1.31.5"]);
    let plan = world.run("plan -f mesh.yaml").ends(10);
    assert!(!plan.stdout.contains("sings"), "{plan}");
    table(r#""1.31.4""#, ["1.31.3", "1.31.4"]);
    world
        .run("plan -f mesh.yaml --istio-version 1.31.3")
        .ends(10)
        .says("eks-1, eks-2: istiod 1.31.3: sings (istio#1); nothing is known against 1.31.4");
    table(r#""1.31.4""#, ["1.31.4", "1.31.5"]);
    let plan = world.run("plan -f mesh.yaml");
    assert_eq!(plan.code, Some(3), "{plan}");
    plan.says("table.toml")
        .says("no version in `newest` is without a fault");
}

#[test]
fn a_version_that_nobody_asked_for_is_not_installed_over_one_that_runs() {
    let world = World::with(3, |o| o.versions = vec!["1.31.3".into(), "1.31.4".into()]);
    world.run("join eks-1 eks-2 --istio-version 1.31.3").ends(0);
    let runs = |version: &str| {
        let path = "/apis/apps/v1/namespaces/istio-system/deployments/istiod";
        for name in ["eks-1", "eks-2", "eks-3"] {
            let istiod = world.get(name, path).to_string();
            assert!(istiod.contains(&format!(":{version}\"")), "{name} {istiod}");
        }
    };
    let kept = "Istio 1.31.3 in eks-1, eks-2 is kept; 1.31.4 is what a new mesh would be given";
    let plan = world.run("plan eks-1 eks-2").ends(0);
    plan.says(kept).says("meshlink upgrade --to 1.31.4");
    world.run("join eks-1 eks-2 eks-3").ends(0);
    runs("1.31.3");
    world
        .run("join eks-1 eks-2 eks-3 --istio-version 1.31.4")
        .ends(0);
    runs("1.31.4");
    let plan = world.run("plan eks-1 eks-2 eks-3").ends(0);
    assert!(!plan.stdout.contains("is kept"), "{plan}");
    world
        .run("join eks-1 eks-2 eks-3 --istio-version 1.31.3")
        .ends(5)
        .says("eks-1: runs Istio 1.31.4, and 1.31.3 is asked for: 1.31.3 is older");
    let back = world.run("upgrade eks-1 --to 1.31.3").ends(5);
    back.says("1.31.3 is older")
        .says("meshlink upgrade --to 1.31.3 --back");
    world
        .run("upgrade --to 1.33.1")
        .ends(5)
        .says("1.32 comes before 1.33.1");
}

#[test]
fn an_upgrade_goes_from_member_to_member_and_each_is_proved_before_the_next() {
    let world = World::with(2, |o| o.versions = vec!["1.31.3".into(), "1.31.4".into()]);
    world.run("join eks-1 eks-2 --istio-version 1.31.3").ends(0);
    let plan = world.run("plan upgrade --to 1.31.4").ends(10);
    let plan = plan.says("install-istiod/eks-1").says("prove/eks-2/eks-1");
    assert!(!plan.stdout.contains("install-istiod/eks-2"), "{plan}");
    world
        .run("upgrade --status")
        .ends(0)
        .says("eks-1    1.31.3         1 on 1.31.3");
    // One that cannot be proved is the last that was changed.
    let half = world.run("upgrade eks-2 --to 1.31.4").ends(0);
    half.says("2 of 2 pairs proved");
    let mixed = world.run("upgrade --status").ends(7);
    mixed
        .says("eks-1    1.31.3         1 on 1.31.3")
        .says("eks-2    1.31.4         1 on 1.31.4");
    // A join goes on with neither; the upgrade does, with who is left.
    world.run("plan eks-1 eks-2").ends(0);
    let rest = world.run("upgrade --to 1.31.4").ends(0);
    assert!(!rest.stderr.contains("install-istiod/eks-2"), "{rest}");
    world
        .run("upgrade --to 1.31.4")
        .ends(0)
        .says("nothing to do");
    world.run("upgrade --to 1.31.3 --back").ends(0);
    let back = world.run("upgrade --status").ends(0);
    back.says("eks-2    1.31.3         1 on 1.31.3");
}
