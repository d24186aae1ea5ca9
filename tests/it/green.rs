//! Green is earned: what was named and is no member, what belongs to another mesh and what nobody tried never pass.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    kit::{Answer, World, foreign_cacerts, join},
    verify::failed,
};

/// Runs the Terraform hook with a query.
fn terraform(world: &World, query: &Value) -> Answer {
    let program = env!("CARGO_BIN_EXE_meshlink");
    world
        .user
        .shell(&format!("echo '{query}' | {program} terraform"))
}

/// Three clusters, of which the first two are a mesh.
fn two_of_three() -> World {
    let world = World::new(3);
    world.run(&join(2)).ends(0);
    world
}

#[test]
fn a_named_cluster_that_is_no_member_fails_by_name() {
    let world = two_of_three();
    for args in ["eks-1 eks-3", "eks-3 eks-1", "eks-1 eks-2 eks-3"] {
        let verified = world.run(&format!("verify {args} -o json --junit claims.xml"));
        let verified = verified.ends(4);
        assert!(
            failed(&verified).contains(&"member/eks-3".to_owned()),
            "{verified}"
        );
        let claims = std::fs::read_to_string(world.user.here().join("claims.xml")).unwrap();
        assert!(claims.contains("name=\"member/eks-3\"") && claims.contains("<failure"));
        assert!(claims.contains("name=\"mesh mesh\""), "{claims}");
    }
    world
        .run("verify eks-1 eks-3")
        .ends(4)
        .says("eks-3 is not a member of mesh mesh, which has eks-1, eks-2");
    world.run("verify eks-1 eks-3 --traffic --yes").ends(4);
    world.run("status eks-1 eks-3").ends(4).says("member/eks-3");
    world
        .run("status eks-1 eks-3 --wait --timeout 3s")
        .ends(4)
        .says("member/eks-3");
    world
        .run("ca status eks-1 eks-3")
        .ends(4)
        .says("eks-3 is not a member of mesh mesh");
    world
        .run("wait nlb eks-1 eks-3 --timeout 5s")
        .ends(4)
        .says("eks-3 is not a member of mesh mesh");
    world.run("sample status eks-1 eks-3").ends(4).says("eks-3");
    let query = json!({"clusters": "eks-1,eks-3", "sandbox": "true"});
    let answer = terraform(&world, &query).ends(0);
    assert_eq!(answer.json()["ready"], "false", "{answer}");
    let query = json!({"clusters": "eks-1,eks-3", "sandbox": "true", "require_ready": "true"});
    terraform(&world, &query).ends(4).says("eks-3");
    // A file names its members itself; a word beside it is not dropped.
    let file = "mesh: mesh\nclusters:\n- name: eks-1\n- name: eks-2\n";
    std::fs::write(world.user.here().join("mesh.yaml"), file).unwrap();
    world
        .run("verify eks-3 -f mesh.yaml")
        .ends(4)
        .says("member/eks-3");
    let query = json!({"clusters": "eks-1,eks-2", "sandbox": "true"});
    let answer = terraform(&world, &query).ends(0);
    assert_eq!(answer.json()["ready"], "true", "{answer}");
}

#[test]
fn who_has_left_is_no_member() {
    let world = World::joined(2);
    world.run("leave eks-2 --yes").ends(0);
    for command in [
        "verify eks-1 eks-2",
        "verify eks-1 eks-2 --traffic --yes",
        "verify eks-1 eks-2 --junit claims.xml",
        "status eks-1 eks-2 --wait --timeout 2s",
    ] {
        world.run(command).ends(4).says("member/eks-2");
    }
    let claims = std::fs::read_to_string(world.user.here().join("claims.xml")).unwrap();
    assert!(claims.contains("name=\"member/eks-2\""), "{claims}");
    // One that is alone has no pair, and no pair is no proof.
    for command in ["verify", "verify --traffic", "status --wait --timeout 2s"] {
        world.run(command).ends(4).says("peers/eks-1");
    }
    let query = json!({"clusters": "eks-1", "sandbox": "true"});
    let answer = terraform(&world, &query).ends(0);
    assert_eq!(answer.json()["ready"], "false", "{answer}");
}

#[test]
fn another_mesh_is_not_this_one() {
    let world = World::new(2);
    world.run(&format!("{} --mesh vx", join(2))).ends(0);
    for command in [
        "verify eks-1 eks-2",
        "verify eks-1 eks-2 --traffic --yes",
        "status eks-1 eks-2",
        "status eks-1 eks-2 --wait",
        "ca status eks-1 eks-2",
        "wait nlb eks-1 eks-2",
        "sample status eks-1 eks-2",
        "sample call eks-1 eks-2",
        "sample up eks-1 eks-2",
        "plan eks-1 eks-2",
    ] {
        world
            .run(&format!("{command} --mesh nonsense"))
            .ends(5)
            .says("mesh vx");
    }
    world
        .run("verify eks-1 eks-2 --mesh nonsense --junit claims.xml")
        .ends(5)
        .says("meshlink status --mesh vx --sandbox");
    let claims = std::fs::read_to_string(world.user.here().join("claims.xml")).unwrap();
    assert!(claims.contains("name=\"mesh nonsense\""), "{claims}");
    // A file, and a record of this machine that is out of date.
    let file = "mesh: other\nclusters:\n- name: eks-1\n- name: eks-2\n";
    std::fs::write(world.user.here().join("mesh.yaml"), file).unwrap();
    let state = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/other");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("mesh.yaml"), file).unwrap();
    for how in ["-f mesh.yaml", "--mesh other"] {
        for command in ["verify", "status", "ca status", "wait nlb", "sample status"] {
            world
                .run(&format!("{command} {how}"))
                .ends(5)
                .says("mesh vx");
        }
    }
    for query in [
        json!({"clusters": "eks-1,eks-2", "mesh": "nonsense", "sandbox": "true"}),
        json!({"mesh": "other", "sandbox": "true"}),
    ] {
        terraform(&world, &query).ends(5).says("mesh vx");
    }
    world.run("verify eks-1 eks-2").ends(0);
}

#[test]
fn what_nobody_tried_is_not_proved() {
    let world = World::joined(2);
    // What the proof covered is no longer so: another revision of a release.
    let forgotten = crate::kit::istio("configmaps", "meshlink");
    for cluster in ["eks-1", "eks-2"] {
        world.delete(cluster, &forgotten);
    }
    world
        .run("verify --junit claims.xml")
        .ends(4)
        .says("0 of 2 pairs proved: traffic was not tried")
        .says("meshlink verify --traffic");
    let claims = std::fs::read_to_string(world.user.here().join("claims.xml")).unwrap();
    assert!(claims.contains("failures=\"2\""), "{claims}");
    let query = json!({"clusters": "eks-1,eks-2", "sandbox": "true"});
    let answer = terraform(&world, &query).ends(0);
    assert_eq!(answer.json()["ready"], "false", "{answer}");
    // It is not ill for that.
    world.run("status").ends(0);
    world.run("verify --traffic").ends(0);
}

#[test]
fn a_mesh_that_is_ill_has_an_exit_code_of_its_own() {
    let world = World::joined(2);
    world.run("status").ends(0);
    world.run("ca status").ends(0);
    let path =
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";
    world.delete("eks-2", path);
    world.run("status").ends(7).says("gateway-ready/eks-2");
    world.run("status -o json").ends(7);
    world.delete("eks-2", &crate::kit::istio("secrets", "cacerts"));
    world.run("ca status").ends(7).says("eks-2");
}

#[test]
fn a_second_root_in_cacerts_is_named_and_taken_out_again() {
    let world = World::joined(2);
    let path = crate::kit::istio("secrets", "cacerts");
    let text = |data: &Value| {
        let bytes = STANDARD.decode(data["root-cert.pem"].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    let ours = text(&world.get("eks-1", &path)["data"]);
    let both = ours + &text(&foreign_cacerts("eks-1", true));
    let data = json!({"data": {"root-cert.pem": STANDARD.encode(both)}});
    world.merge("eks-1", &path, &data);
    let status = world.run("ca status -o json").ends(7).json();
    let other = status["clusters"][0]["roots"][1]["spki_sha256"].clone();
    let other = &other.as_str().unwrap()[..12];
    world.run("ca status").ends(7).says(other);
    for command in ["verify", "verify --traffic"] {
        let answer = world.run(&format!("{command} -o json")).ends(4);
        assert_eq!(failed(&answer), ["same-root/eks-1"], "{answer}");
        answer.says(&format!("trusts root {other}"));
    }
    world.run("status").ends(7).says(other);
    world
        .run("plan eks-1 eks-2 -v")
        .ends(10)
        .says("install-cacerts/eks-1")
        .says(other);
    world.run(&join(2)).ends(0);
    world.run("verify --traffic").ends(0);
    world.run("ca status").ends(0);
}
