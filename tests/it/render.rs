//! A whole mesh as files: nothing secret, the same every time, and what a join would make of it.

use std::fs;

use http::Request;
use serde_json::Value;

use crate::kit::{
    World, join,
    rendered::{files, path_of, resources},
};

const RENDER: &str = "render eks-1 eks-2 --out gitops";

/// Applies the way Argo CD and Flux do, and leaves the mark that one of them leaves.
fn apply(world: &World, cluster: &str, object: &Value) {
    let mut object = object.clone();
    object["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "mesh".into();
    let path = format!(
        "{}?fieldManager=kustomize-controller&force=true",
        path_of(&object)
    );
    let request = Request::patch(&path).header("content-type", "application/apply-patch+yaml");
    let applied = world.wait(|| {
        let request = Request::patch(&path).header("content-type", "application/apply-patch+yaml");
        world
            .ask(cluster, request.body(object.to_string().into()).unwrap())
            .ok()
    });
    if applied.is_none() {
        let error = world.ask(cluster, request.body(object.to_string().into()).unwrap());
        panic!("{cluster} {path}: {error:?}");
    }
}

#[test]
fn a_mesh_is_written_the_same_every_time_and_without_a_secret() {
    let world = World::joined(2);
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    world.run(RENDER).ends(0).says("gitops is written");
    let folder = world.user.here().join("gitops");
    let first = files(&folder);
    for name in [
        "README.md",
        "eks-1/kustomization.yaml",
        "eks-1/1-base/istio-base.yaml",
        "eks-1/2-istiod/istiod.yaml",
        "eks-2/3-gateway/gateway.yaml",
        "eks-2/3-gateway/expose.yaml",
    ] {
        assert!(first.contains_key(name), "{name} of {:?}", first.keys());
    }
    for (name, key) in world.keys() {
        if !name.contains("key") {
            continue;
        }
        let key = String::from_utf8(key).unwrap();
        let line = key.lines().find(|line| !line.starts_with("--")).unwrap();
        for (path, text) in &first {
            assert!(!text.contains(line), "{name} is in {path}");
        }
    }
    assert!(!world.keys().is_empty());
    let all = first.values().cloned().collect::<String>();
    assert!(!all.contains("PRIVATE KEY") && !all.contains("token: "));
    let secrets = resources(&first, "eks-1");
    let secrets = secrets.iter().filter(|o| o["kind"] == "Secret");
    for secret in secrets {
        assert!(
            secret["data"].is_null() && secret["stringData"].is_null(),
            "{secret}"
        );
    }
    fs::rename(&folder, folder.with_file_name("first")).unwrap();
    world.run(RENDER).ends(0);
    assert_eq!(first, files(&folder));
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
}

#[test]
fn a_check_says_what_is_out_of_date_and_writes_nothing() {
    let world = World::new(3);
    let check = format!("{RENDER} --check");
    world
        .run(&check)
        .ends(10)
        .says("new eks-1/2-istiod/istiod.yaml");
    let folder = world.user.here().join("gitops");
    assert!(!folder.exists());
    world.run(RENDER).ends(0);
    world.run(&check).ends(0).says("up to date");
    let path = folder.join("eks-2/2-istiod/istiod.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("istiod", "istiot")).unwrap();
    fs::write(folder.join("mine.yaml"), "of the user's own\n").unwrap();
    let answer = world.run(&format!("{check} -o json")).ends(10).json();
    assert_eq!(answer["changes"][0]["path"], "eks-2/2-istiod/istiod.yaml");
    assert_eq!(answer["changes"].as_array().unwrap().len(), 1);
    world.run(RENDER).ends(0).says("1 files changed");
    assert_eq!(text, fs::read_to_string(&path).unwrap());
    // Fewer members: what was ours goes, what was not stays.
    fs::write(
        world.user.here().join("mesh.yaml"),
        "clusters:\n- name: eks-1\n- name: eks-3\n",
    )
    .unwrap();
    world
        .run("render -f mesh.yaml --out gitops")
        .ends(0)
        .says("gone eks-2/2-istiod/istiod.yaml");
    assert!(!folder.join("eks-2").exists() && folder.join("mine.yaml").exists());
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let world = World::new(2);
    let folder = world.user.here().join("gitops");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("kustomization.yaml"), "resources: []\n").unwrap();
    world
        .run(RENDER)
        .ends(5)
        .says("meshlink did not write them");
    assert_eq!(files(&folder).len(), 1);
    fs::remove_file(folder.join("kustomization.yaml")).unwrap();
    world.run(RENDER).ends(0);
    world
        .run(&format!("{RENDER} --mesh other"))
        .ends(5)
        .says("holds mesh mesh, not other");
    // A link in the folder leads nowhere.
    fs::remove_dir_all(folder.join("eks-1")).unwrap();
    std::os::unix::fs::symlink(world.user.home(), folder.join("eks-1")).unwrap();
    world.run(RENDER).ends(5).says("is a symbolic link");
    assert!(!world.user.home().join("1-base").exists());
    world.run("render eks-1 --out gitops").ends(2);
}

#[test]
fn a_join_takes_over_what_was_applied_from_files() {
    let world = World::joined(2);
    world.run(RENDER).ends(0);
    let all = files(&world.user.here().join("gitops"));
    for cluster in ["eks-1", "eks-2"] {
        let objects = resources(&all, cluster);
        assert!(objects.len() > 15, "{}", objects.len());
        for object in objects {
            apply(&world, cluster, &object);
        }
    }
    // What the files say is what is there.
    world.run("plan eks-1 eks-2").ends(0).says("nothing to do");
}

#[test]
fn files_that_were_applied_first_are_no_hindrance() {
    let world = World::new(2);
    world.run(RENDER).ends(0);
    let all = files(&world.user.here().join("gitops"));
    for cluster in ["eks-1", "eks-2"] {
        for object in resources(&all, &format!("{cluster}/1-base")) {
            apply(&world, cluster, &object);
        }
    }
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    for cluster in ["eks-1", "eks-2"] {
        for object in resources(&all, cluster) {
            apply(&world, cluster, &object);
        }
    }
    world.run("plan eks-1 eks-2").ends(0);
}
