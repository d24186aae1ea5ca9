//! Words that mean nothing are not taken without a word, and what is printed is no longer than what there is to say.

use std::fs;

use crate::kit::{World, join};

#[test]
fn words_that_mean_nothing_are_refused() {
    let world = World::new(3);
    for (args, code, says) in [
        (
            "join eks-1 eks-2 --ignore nonsense",
            2,
            "there is no such check",
        ),
        ("plan eks-1 eks-2 --ignore nonsense", 2, "aws-webhook"),
        (
            "render eks-1 eks-2 --out x --kube-version banana",
            2,
            "write it like 1.36",
        ),
        (
            "render eks-1 eks-2 --out x --kube-version 1.9",
            5,
            "Kubernetes 1.9 is not supported",
        ),
    ] {
        world.run(args).ends(code).says(says);
    }
    for (args, says) in [
        ("aws policy --region nowhere", "write it like eu-west-1"),
        (
            "chart template x y --kube-version banana",
            "write it like 1.36",
        ),
    ] {
        world.user.run(args).ends(2).says(says);
    }
    world.user.run("aws policy --region eu-west-1").ends(0);
    let here = world.user.here();
    let file = "mesh: shop\nclusters:\n- name: eks-1\n- name: eks-2\n";
    fs::write(here.join("mesh.yaml"), file).unwrap();
    world
        .run("plan -f mesh.yaml --mesh other")
        .ends(2)
        .says("mesh.yaml is the file of mesh shop, and --mesh names other");
    world.run("plan -f mesh.yaml --mesh shop").ends(10);
    fs::write(here.join("one.yaml"), "clusters:\n- name: eks-1\n").unwrap();
    world
        .run("join -f one.yaml")
        .ends(3)
        .says("a mesh needs at least two clusters, and one.yaml names only eks-1");
    for values in [
        "global: {meshID: other}",
        "global: {network: mine}",
        "global: {multiCluster: {clusterName: mine}}",
    ] {
        fs::write(here.join("values.yaml"), values).unwrap();
        world
            .run("join eks-1 eks-2 --istiod-values values.yaml")
            .ends(3)
            .says("the values for istiod set global.");
    }
    fs::write(here.join("values.yaml"), "global: {meshID: mesh}").unwrap();
    world
        .run("plan eks-1 eks-2 --istiod-values values.yaml")
        .ends(10);
    for cluster in ["eks-1", "eks-2"] {
        let made = world.find(cluster, "/api/v1/namespaces/istio-system");
        assert_eq!(made, None, "{cluster} is changed");
    }
}

#[test]
fn one_cluster_alone_is_added_to_the_mesh_that_is_recorded() {
    let world = World::new(3);
    world
        .run("join eks-3")
        .ends(2)
        .says("a mesh needs at least two clusters, and only eks-3 was named");
    world.run(&join(2)).ends(0);
    world
        .run("plan eks-3")
        .ends(10)
        .says("share-secret/eks-1/eks-3");
    world.run("join eks-3").ends(0).says("6 of 6 pairs proved");
    world.run("join eks-3").ends(0).says("nothing to do");
}

#[test]
fn one_cause_is_said_once() {
    let world = World::new(5);
    // Every check of a mesh that is not there fails in the same way.
    let answer = world.run("status eks-1 eks-2 eks-3 eks-4 eks-5").ends(7);
    let answer = answer.says("more checks failed in the same way; -v shows all");
    let all = world.run("status -v eks-1 eks-2 eks-3 eks-4 eks-5").ends(7);
    let lines = |text: &str| text.lines().count();
    assert!(lines(&answer.stdout) * 2 < lines(&all.stdout), "{answer}");
}

#[test]
fn what_goes_into_a_pipe_is_not_wrapped() {
    let user = crate::kit::Session::new();
    let mut command = user
        .command("verify a-cluster-with-a-long-name another-cluster-with-a-long-name --mesh shop --kubeconfig /a/file/that/is/not/there/and/has/a/name/that/does/not/fit");
    command.env_remove("COLUMNS");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.lines()
            .all(|line| line.starts_with("error: ") || line.starts_with("  ")),
        "{said}"
    );
    assert!(said.lines().any(|line| line.len() > 80), "{said}");
}
