//! Embedded or real is what a cluster is, not what a flag says.

use std::fs;

use crate::kit::{Answer, Inventory, World, join};

const FILES: [&str; 3] = ["kubeconfig", "aws.env", "sandbox.json"];

/// Clusters that are not of the sandbox: here, those of somebody else's.
fn others(names: &[&str]) -> World {
    World::with(names.len(), |options| {
        options.clusters = names.iter().map(|name| (*name).to_owned()).collect();
    })
}

fn all(world: &World) -> Vec<Inventory> {
    let clusters = &world.endpoints().clusters;
    clusters.iter().map(|name| world.inventory(name)).collect()
}

/// Runs a command of a user who has the AWS of `at` in the environment and `kubeconfig`'s clusters in the kubeconfig.
fn run(user: &World, at: &World, kubeconfig: &World, args: &str) -> Answer {
    let text = fs::read_to_string(&at.endpoints().aws).unwrap();
    let path = kubeconfig.endpoints().kubeconfig.display().to_string();
    let vars = text.lines().filter_map(|l| l.split_once('='));
    let vars: Vec<_> = vars.chain([("KUBECONFIG", path.as_str())]).collect();
    user.user.start_with(args, &vars).end()
}

#[test]
fn the_aws_of_the_sandbox_makes_no_cluster_embedded() {
    let (ours, theirs) = (World::new(2), others(&["eks-1", "eks-2"]));
    let before = (all(&ours), all(&theirs));
    let charts = &ours.endpoints().charts;
    let file = "mesh: docs\nclusters:\n- {name: eks-1, peerServer: 'https://192.0.2.1'}\n- {name: eks-2, peerServer: 'https://192.0.2.2'}\n";
    fs::write(ours.user.here().join("mesh.yaml"), file).unwrap();
    let join = format!("join -f mesh.yaml --charts {charts}");
    let answer = run(&ours, &ours, &theirs, &join);
    answer.ends(2).says("--yes");
    assert!(before == (all(&ours), all(&theirs)), "something is changed");
    // Its keys are not those of the sandbox.
    let share = ours.user.home().join(".local/share");
    assert!(!share.join("meshlink-sandbox/docs").exists());
}

#[test]
fn embedded_and_real_clusters_are_not_joined() {
    let (ours, theirs) = (World::new(2), others(&["prod"]));
    let before = (all(&ours), all(&theirs));
    run(&ours, &ours, &theirs, "join eks-1 prod --yes")
        .ends(5)
        .says("eks-1 is an embedded cluster, and prod is not");
    assert!(before == (all(&ours), all(&theirs)), "something is changed");
}

#[test]
fn with_sandbox_names_mean_clusters_of_the_sandbox_only() {
    let (ours, theirs) = (World::new(2), others(&["prod", "eks-9"]));
    let before = (all(&ours), all(&theirs));
    let file = "mesh: mesh\nclusters:\n- name: eks-1\n- name: prod\n  eks: {name: eks-9, region: us-west-2}\n";
    fs::write(ours.user.here().join("mesh.yaml"), file).unwrap();
    for args in [
        "join -f mesh.yaml --sandbox",
        "join eks-1 prod --sandbox",
        "join eks-1 us-west-2/eks-9 --sandbox --yes",
    ] {
        let answer = run(&ours, &theirs, &theirs, args);
        assert_ne!(answer.code, Some(0), "{answer}");
        assert!(
            before == (all(&ours), all(&theirs)),
            "something is changed by {args}: {answer}"
        );
    }
    run(&ours, &theirs, &theirs, "join eks-1 prod --sandbox")
        .ends(2)
        .says("no embedded cluster is called \"prod\": there are eks-1, eks-2");
}

#[test]
fn the_load_balancers_of_the_sandbox_are_in_its_own_aws() {
    let (ours, theirs) = (World::joined(2), others(&["prod"]));
    ours.run("wait nlb").ends(0).says("targets healthy");
    // Whoever else is in the environment is not asked.
    run(&ours, &theirs, &theirs, "wait nlb --sandbox").ends(0);
    assert_eq!(theirs.aws().count("", 403), 0);
    assert_eq!(theirs.aws().count("", 200), 0);
}

#[test]
fn a_sandbox_that_runs_is_neither_overlooked_nor_taken_away() {
    let world = World::joined(2);
    let folder = world.endpoints().state_dir.clone();
    let kept: Vec<_> = FILES
        .iter()
        .map(|file| fs::read(folder.join(file)).unwrap())
        .collect();
    fs::write(folder.join("sandbox.json"), "{").unwrap();
    for args in ["status", &join(2)] {
        world.run(args).ends(1).says("sandbox.json");
    }
    for (file, text) in FILES.iter().zip(&kept).take(2) {
        assert_eq!(fs::read(folder.join(file)).unwrap(), *text, "{file}");
    }
    fs::write(folder.join("sandbox.json"), &kept[2]).unwrap();
    world.run("status").ends(0);
}
