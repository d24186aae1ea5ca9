//! What users and clusters do wrong: each is named, with a way on, and nothing is touched that should not be.

use std::{fs, os::unix::fs::PermissionsExt};

use insta::assert_snapshot;
use meshlink::sandbox::{Fault, api};
use serde_json::json;

use crate::kit::{World, foreign_cacerts, istio, join};

const PROBE: &str = "/api/v1/namespaces/meshlink-probe";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases";

fn space(world: &World, cluster: &str, name: &str) {
    world.create(
        cluster,
        "/api/v1/namespaces",
        &json!({"metadata": {"name": name}}),
    );
}

/// Runs a command that must not change anything in any of the clusters.
#[track_caller]
fn changes_nothing(world: &World, clusters: &[&str], args: &str, code: i32) -> crate::kit::Answer {
    let all = || {
        clusters
            .iter()
            .map(|name| world.inventory(name))
            .collect::<Vec<_>>()
    };
    let before = all();
    let answer = world.run(args).ends(code);
    for (name, (before, after)) in clusters.iter().zip(before.iter().zip(&all())) {
        assert!(before == after, "{name} is changed by {args}: {answer}");
    }
    answer
}

#[test]
fn names_that_mean_no_cluster_or_one_twice() {
    let world = World::new(2);
    let both = ["eks-1", "eks-2"];
    assert_snapshot!(changes_nothing(&world, &both, "join eks-1 nowhere", 2), @r#"
    exit 2
    --- stderr ---
    error: no embedded cluster is called "nowhere": there are eks-1, eks-2
    "#);
    changes_nothing(&world, &both, "join one=eks-1 two=eks-1", 2).says("both mean the cluster");
    // Another context for the same cluster, as an alias or a second user makes one.
    let path = &world.endpoints().kubeconfig;
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut alias = config["contexts"][0].clone();
    alias["name"] = "alias".into();
    config["contexts"].as_array_mut().unwrap().push(alias);
    fs::write(path, config.to_string()).unwrap();
    let twice = changes_nothing(&world, &both, "join eks-1 alias", 5);
    twice.says("alias and eks-1 are one and the same cluster");
    changes_nothing(&world, &both, "join eks-1 eks-1", 2).says("eks-1");
    world.api("eks-2").faults().unreachable(true);
    let away = world.run("join eks-1 eks-2").ends(1);
    away.says("eks-2");
}

#[test]
fn another_pair_under_the_same_name() {
    let world = World::new(4);
    world.run(&join(2)).ends(0);
    let all = ["eks-1", "eks-2", "eks-3", "eks-4"];
    assert_snapshot!(changes_nothing(&world, &all, "join eks-3 eks-4", 5), @"
    exit 5
    --- stderr ---
    error: mesh mesh already consists of eks-1 and eks-2, and none of these is named
      hint: meshlink join --mesh mesh-2 eks-3 eks-4 --sandbox   # a separate mesh with a root of its own
      hint: meshlink join eks-1 eks-2 eks-3 eks-4 --sandbox   # one mesh of all of them
      hint: rm [ROOT]/home/.local/state/meshlink-sandbox/mesh/mesh.yaml   # if eks-1 eks-2 are gone for good
    ");
    let left_out = changes_nothing(&world, &all, "join eks-2 eks-3", 5);
    left_out
        .says("mesh mesh also has eks-1, which this join does not name")
        .says("meshlink join eks-1 eks-2 eks-3 --sandbox");
    world
        .run("join --mesh other eks-3 eks-4")
        .ends(0)
        .says("2 of 2 pairs proved");
    changes_nothing(&world, &all, "join --mesh third eks-1 eks-3", 5)
        .says("belongs to mesh mesh")
        .says("belongs to mesh other");
}

#[test]
fn what_somebody_else_has_made_is_left_alone() {
    let both = ["eks-1", "eks-2"];
    for (whole, says) in [
        (true, "which is not this mesh's"),
        (false, "that meshlink did not make"),
    ] {
        let world = World::new(2);
        space(&world, "eks-2", "istio-system");
        let secret =
            json!({"metadata": {"name": "cacerts"}, "data": foreign_cacerts("eks-2", whole)});
        world.create("eks-2", "/api/v1/namespaces/istio-system/secrets", &secret);
        changes_nothing(&world, &both, "join eks-1 eks-2", 5)
            .says("cluster eks-2")
            .says(says);
    }
    let world = World::new(2);
    space(&world, "eks-2", "istio-system");
    let spec = json!({"selector": {"matchLabels": {"app": "istiod"}}, "template": {"metadata": {"labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "discovery", "image": "pilot:1.20.0"}]}}});
    let istiod = json!({"metadata": {"name": "istiod"}, "spec": spec});
    world.create(
        "eks-2",
        "/apis/apps/v1/namespaces/istio-system/deployments",
        &istiod,
    );
    world
        .run("join eks-1 eks-2")
        .ends(5)
        .says("an istiod that meshlink did not install")
        .says("it is managed by an unknown owner");
    assert!(
        world
            .find("eks-1", "/api/v1/namespaces/istio-system")
            .is_none()
    );
}

#[test]
fn a_root_that_is_elsewhere_or_open_to_all() {
    let world = World::joined(2);
    let both = ["eks-1", "eks-2"];
    let vault = world.vault();
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o755)).unwrap();
    changes_nothing(&world, &both, "join eks-1 eks-2", 1)
        .says("is open to others (mode 0755)")
        .says("chmod go=");
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(&vault, vault.with_extension("away")).unwrap();
    // What stands needs no key.
    changes_nothing(&world, &both, "join eks-1 eks-2", 0).says("nothing to do");
    for cluster in both {
        world.delete(cluster, &crate::kit::istio("secrets", "cacerts"));
    }
    changes_nothing(&world, &both, "join eks-1 eks-2", 5)
        .says("but the vault on this machine has none for this mesh")
        .says("run meshlink where the mesh was made")
        .says("cluster eks-1")
        .says("cluster eks-2");
}

#[test]
fn a_vault_that_is_damaged_or_has_no_room() {
    let world = World::joined(2);
    let both = ["eks-1", "eks-2"];
    let cert = world.vault().join("roots/1/cert.pem");
    let whole = fs::read(&cert).unwrap();
    fs::write(&cert, "no certificate").unwrap();
    changes_nothing(&world, &both, "join eks-1 eks-2", 1)
        .says("is damaged")
        .says("hint: restore")
        .says("from your backup of the vault");
    fs::write(&cert, whole).unwrap();
    changes_nothing(&world, &both, "join eks-1 eks-2", 0);

    // Unlike the root, an intermediate can be made again.
    let cert = world.vault().join("clusters/eks-2/1/cert.pem");
    fs::write(&cert, "no certificate").unwrap();
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");

    // A disk of one page, and that is taken; the folder is where the vault is to be.
    let data = world.user.home().join(".local/share");
    let script = format!(
        "mkdir -p {0}/full; mount -t tmpfs -o size=4k,mode=700 tmpfs {0}/full
         head -c 4096 /dev/zero > {0}/full/taken 2>/dev/null || true
         export XDG_DATA_HOME={0}/full
         exec {1} ca init --mesh other",
        data.display(),
        env!("CARGO_BIN_EXE_meshlink")
    );
    if !may_mount() {
        return;
    }
    let script = format!("exec unshare -rm sh -euc '{script}'");
    world
        .user
        .shell(&script)
        .ends(1)
        .says("no room left on the disk")
        .says("nothing was changed")
        .says("hint: df -h");
}

/// Whether a namespace with a file system of its own can be had; in CI it must.
fn may_mount() -> bool {
    let tried = std::process::Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output();
    let may = tried.is_ok_and(|o| o.status.success());
    if !may {
        crate::kit::may_be_missing("unshare -rm");
    }
    may
}

#[test]
fn half_a_cacerts_of_our_own_is_made_whole() {
    let world = World::joined(2);
    let path = istio("secrets", "cacerts");
    let whole = world.get("eks-2", &path)["data"].clone();
    world.merge("eks-2", &path, &json!({"data": {"ca-key.pem": null}}));
    world
        .run("plan eks-1 eks-2 -v")
        .ends(10)
        .says("install-cacerts/eks-2")
        .says("ca-key.pem");
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    assert_eq!(world.get("eks-2", &path)["data"], whole, "the same key");
}

#[test]
fn an_istiod_of_a_version_that_was_never_tried() {
    let world = World::new(2);
    space(&world, "eks-2", "istio-system");
    let spec = json!({"selector": {"matchLabels": {"app": "istiod"}}, "template": {"metadata": {"labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "discovery", "image": "pilot:1.20.0"}]}}});
    let helm = json!({"meta.helm.sh/release-name": "istiod"});
    let istiod = json!({"metadata": {"name": "istiod", "annotations": helm}, "spec": spec});
    world.create(
        "eks-2",
        "/apis/apps/v1/namespaces/istio-system/deployments",
        &istiod,
    );
    changes_nothing(&world, &["eks-1"], "join eks-1 eks-2", 5)
        .says("cluster eks-2: runs istiod 1.20.0, which is not supported")
        .says("--kube-context eks-2 -n istio-system list");
}

#[test]
#[cfg(feature = "crashpoints")]
fn a_bug_ends_with_exit_code_1_and_one_line_that_quotes_nothing() {
    let world = World::new(2);
    let place = [("MESHLINK_CRASH", "issue-intermediate/eks-1:bug")];
    let answer = world
        .user
        .start_with("join eks-1 eks-2 --sandbox -q", &place);
    let answer = answer.end().ends(1);
    let answer = answer.says("error: this is a bug in meshlink, at src/engine/crashpoint.rs");
    assert!(!answer.stderr.contains("canary"), "{answer}");
    assert_eq!(answer.stderr.matches("error:").count(), 1, "{answer}");
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
}

#[test]
#[cfg(feature = "crashpoints")]
fn a_join_that_died_can_be_left_by_the_name_of_one_member() {
    let world = World::new(2);
    let before = world.inventory("eks-2");
    for (command, place) in [
        ("join eks-1 eks-2", "prove/eks-1/eks-2:after"),
        (
            "leave eks-2 --uninstall --crds",
            "unshare-secret/eks-2/eks-1:after",
        ),
    ] {
        let command = format!("{command} --sandbox");
        let died = world
            .user
            .start_with(&command, &[("MESHLINK_CRASH", place)]);
        assert_eq!(died.end().code, None, "{place}");
    }
    world.run("leave eks-2 --uninstall --crds").ends(0);
    for name in ["eks-1", "eks-2"] {
        assert!(world.find(name, PROBE).is_none(), "{name} keeps its probe");
    }
    let left = |o: &std::collections::BTreeMap<String, serde_json::Value>| {
        o.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(left(&world.inventory("eks-2")), left(&before));
    let secrets = world.get("eks-1", "/api/v1/namespaces/istio-system/secrets");
    let names = secrets["items"].as_array().unwrap().iter();
    let names: Vec<_> = names
        .map(|s| s["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(!names.iter().any(|n| n.contains("eks-2")), "{names:?}");
}

#[test]
fn an_embedded_root_is_for_embedded_clusters_only() {
    let world = World::new(2);
    world.run("ca init").ends(0);
    let real = world.user.home().join(".local/share/meshlink");
    fs::create_dir_all(&real).unwrap();
    fs::rename(world.vault(), real.join("mesh")).unwrap();
    let at = world.endpoints();
    // The same clusters, as if they were real ones.
    let args = format!(
        "join eks-1 eks-2 --yes --kubeconfig {} --charts {}",
        at.kubeconfig.display(),
        at.charts
    );
    world
        .user
        .run(&args)
        .ends(5)
        .says("the root of mesh mesh in the vault was made for embedded clusters");
    assert!(
        world
            .find("eks-1", "/api/v1/namespaces/istio-system")
            .is_none()
    );
}

#[test]
fn an_istiod_that_started_before_its_cacerts_is_restarted() {
    let world = World::joined(2);
    let (path, spaces) = (
        istio("secrets", "cacerts"),
        "/api/v1/namespaces/istio-system/secrets",
    );
    let mut cacerts = world.get("eks-2", &path);
    world.delete("eks-2", &path);
    world.restart_istiod("eks-2");
    cacerts["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key == "name" || key == "labels");
    world.create("eks-2", spaces, &cacerts);
    world
        .run("plan eks-1 eks-2")
        .ends(10)
        .says("restart-istiod/eks-2");
    world
        .run("join eks-1 eks-2")
        .ends(0)
        .says("2 of 2 pairs proved");
}

#[test]
fn rights_that_are_missing_are_all_named_before_the_first_write() {
    let world = World::new(2);
    let account = json!({"metadata": {"name": "guest"}});
    world.create(
        "eks-2",
        "/api/v1/namespaces/default/serviceaccounts",
        &account,
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules =
        json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]);
    world.create(
        "eks-2",
        &format!("{rbac}/clusterroles"),
        &json!({"metadata": {"name": "guest"}, "rules": rules}),
    );
    let binding = json!({"metadata": {"name": "guest"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "guest"},
        "subjects": [{"kind": "ServiceAccount", "name": "guest", "namespace": "default"}]});
    world.create("eks-2", &format!("{rbac}/clusterrolebindings"), &binding);
    let ask = json!({"spec": {"expirationSeconds": 3600}});
    let token = world.post(
        "eks-2",
        "/api/v1/namespaces/default/serviceaccounts/guest/token",
        &ask,
    );
    let token = token["status"]["token"].as_str().unwrap();
    let path = &world.endpoints().kubeconfig;
    let config = fs::read_to_string(path).unwrap();
    fs::write(
        path,
        config.replace(&world.api("eks-2").admin_token(), token),
    )
    .unwrap();
    let answer = changes_nothing(&world, &["eks-1", "eks-2"], "join eks-1 eks-2", 5);
    for right in [
        "create namespaces",
        "patch secrets",
        "create clusterroles",
        "create leases",
    ] {
        assert!(
            answer
                .stderr
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains(right),
            "{right}: {answer}"
        );
    }
}

#[test]
fn a_probe_that_may_not_run_is_named() {
    let world = World::new(2);
    let folder = world.user.here().join("texts");
    fs::create_dir(&folder).unwrap();
    let text = fs::read_to_string(crate::kit::repository().join("charts/probe.yaml.tera")).unwrap();
    fs::write(
        folder.join("probe.yaml.tera"),
        text.replace("enforce: privileged", "enforce: restricted"),
    )
    .unwrap();
    let mut world = world;
    world.user = world
        .user
        .var("MESHLINK_MANIFESTS", &folder.display().to_string());
    world
        .run("join eks-1 eks-2 --timeout 25s")
        .ends(4)
        .says("violates PodSecurity");
    assert!(world.find("eks-1", PROBE).is_none() && world.find("eks-2", PROBE).is_none());
}

#[test]
fn one_of_three_dies_midway_and_the_others_go_on() {
    let world = World::new(3);
    world.fault("eks-3", Fault::IstiodNeverReady);
    let running = world.start("join eks-1 eks-2 eks-3 --timeout 25s");
    let istiod = world.wait(|| world.find("eks-3", &istio("deployments", "istiod")));
    assert!(istiod.is_some());
    world.api("eks-3").faults().unreachable(true);
    let answer = running.end().ends(6);
    let answer = answer
        .says("not finished: eks-3")
        .says("next: meshlink join eks-1 eks-2 eks-3 --timeout 25s --sandbox");
    for pair in ["prove/eks-1/eks-2", "prove/eks-2/eks-1"] {
        assert!(
            world
                .journal()
                .contains(&format!("\"step-finished\",\"step\":\"{pair}\"")),
            "{pair}: {answer}"
        );
    }
    for name in ["eks-1", "eks-2"] {
        assert!(world.find(name, PROBE).is_none(), "{name}: {answer}");
    }
    world.api("eks-3").faults().clear();
    world.clear("eks-3", Fault::IstiodNeverReady);
    world.run(&join(3)).ends(0).says("6 of 6 pairs proved");
}

#[test]
fn an_interrupted_join_leaves_no_probe_and_goes_on_when_run_again() {
    let world = World::new(2);
    world.fault("eks-2", Fault::BalancerNameMissing);
    let running = world.start(&join(2));
    let reaches = || {
        world
            .journal()
            .contains("\"step-started\",\"step\":\"reach/eks-1/eks-2\"")
            .then_some(())
    };
    assert!(world.wait(reaches).is_some(), "{}", world.journal());
    assert!(world.find("eks-1", PROBE).is_some());
    running.interrupt();
    let answer = running
        .end()
        .ends(130)
        .says("interrupted")
        .says("stop reach/eks-1/eks-2 interrupted")
        .says("next: meshlink join eks-1 eks-2");
    assert!(!answer.stderr.contains("needs interrupted"), "{answer}");
    let because = "\"because\":\"interrupted\"";
    assert!(world.journal().contains(because), "{}", world.journal());
    for name in ["eks-1", "eks-2"] {
        assert!(world.find(name, PROBE).is_none(), "{name}: {answer}");
        let lease = world.get(name, &format!("{LEASE}/meshlink"));
        assert_eq!(
            lease["spec"]["holderIdentity"].as_str().unwrap_or_default(),
            "",
            "{name}"
        );
    }
    world.clear("eks-2", Fault::BalancerNameMissing);
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
}

#[test]
fn an_api_server_that_stumbles_does_not_matter() {
    let world = World::new(2);
    for (path, fault) in [
        ("/api/v1/namespaces", api::Fault::Status(503, None)),
        ("/apis/apps", api::Fault::Status(429, Some(1))),
        (
            "/api/v1/namespaces/istio-system/secrets",
            api::Fault::ResetAfter,
        ),
        ("/apis/rbac", api::Fault::Status(409, None)),
        // As one that has just started and has not read its roles yet.
        (
            "/api/v1/namespaces/istio-system/configmaps",
            api::Fault::Status(403, None),
        ),
    ] {
        world
            .api("eks-2")
            .faults()
            .add(api::Strike::next(path, fault).verb("patch").times(2));
    }
    world.run(&join(2)).ends(0).says("2 of 2 pairs proved");
    assert_eq!(world.api("eks-2").faults().pending(), 0);
}

#[test]
fn hints_find_the_same_mesh_and_the_same_clusters() {
    let world = World::new(2);
    let file = json!({"mesh": "shop", "clusters": [{"name": "a", "context": "eks-1"}, {"name": "b", "context": "eks-2"}]});
    fs::write(world.user.here().join("my.yaml"), file.to_string()).unwrap();
    let status = world.run("status -f my.yaml -o json").ends(7).json();
    let hints = |id: &str| {
        let checks = status["checks"].as_array().unwrap().iter();
        let mut checks = checks.filter(|c| c["id"] == id && c["from"] == "a");
        checks.next().unwrap()["hints"].clone()
    };
    let join = "meshlink join -f my.yaml --sandbox";
    assert_eq!(hints("configured"), json!([join]));
    let kubeconfig = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/kubeconfig");
    let look = format!(
        "kubectl --kubeconfig {} --context eks-1 -n istio-system describe deploy istiod",
        kubeconfig.display()
    );
    assert_eq!(hints("istiod-ready"), json!([look]));
    world.run("join -f my.yaml").ends(0);
    let status = world.run("status -f my.yaml -o json").ends(0).json();
    let checks = status["checks"].as_array().unwrap();
    assert!(checks.iter().all(|c| c["hints"].is_array()), "{status}");
}
