//! What is refused before the first write: servers that others can listen to, clocks that are wrong, files and folders that
//! are not what they should be.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use meshlink::{Change, Environment, FailureKind, Meshlink, spec::Mesh};
use serde_json::{Value, json};

use crate::kit::{Session, World};

/// Changes one cluster of the user's kubeconfig.
fn change(world: &World, name: &str, change: impl Fn(&mut Value)) {
    let path = &world.endpoints().kubeconfig;
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for cluster in config["clusters"].as_array_mut().unwrap() {
        if cluster["name"] == name {
            change(&mut cluster["cluster"]);
        }
    }
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_cluster_whose_certificate_is_not_checked_is_changed_only_if_it_is_named() {
    let world = World::new(2);
    change(&world, "eks-2", |cluster| {
        let fields = cluster.as_object_mut().unwrap();
        fields.remove("certificate-authority-data");
        fields.insert("insecure-skip-tls-verify".into(), json!(true));
    });
    let before = world.inventory("eks-1");
    let refused = world.run("join eks-1 eks-2").ends(5);
    refused
        .says("insecure-skip-tls-verify")
        .says("--insecure-cluster eks-2");
    assert_eq!(world.inventory("eks-1"), before);
    let told = "join eks-1 eks-2 --insecure-cluster eks-2";
    let joined = world.run(told).ends(0).says("2 of 2 pairs proved");
    let again = "meshlink status --sandbox --insecure-cluster eks-2";
    let joined = joined.says(again);
    assert!(!joined.stderr.contains("warning"), "{joined}");
    let status = world.run("status eks-1 eks-2").ends(0);
    let warnings = status.stderr.matches("warning: cluster eks-2").count();
    assert_eq!(warnings, 1, "{status}");
    world.run("leave eks-2 --yes").ends(5);
    world.run("sample up").ends(5);
    world.run("verify --traffic").ends(5);
}

#[test]
fn nothing_is_done_in_a_cluster_that_is_spoken_to_in_clear_text() {
    let world = World::new(2);
    change(&world, "eks-2", |cluster| {
        cluster["server"] = "http://127.0.0.1:9".into();
    });
    for command in ["join eks-1 eks-2", "plan eks-1 eks-2"] {
        let refused = world.run(command).ends(5).says("in clear text");
        refused.says("no credentials are sent there");
    }
    assert!(world.keys().is_empty());
}

/// Certificates are valid by the clock of whoever makes them.
#[test]
fn a_clock_that_is_wrong_is_found_out_before_the_root_is_made() {
    let world = World::new(2);
    let mesh = || Mesh::named(&["eks-1".into(), "eks-2".into()]).unwrap();
    for (off, refused, says) in [
        (SignedDuration::from_hours(3), true, "3h"),
        (SignedDuration::from_hours(-72), true, "behind"),
        (SignedDuration::from_mins(5), false, "5m"),
        (SignedDuration::from_secs(10), false, ""),
    ] {
        let clock = move || crate::kit::now() + off;
        let environment = Environment::of_sandbox(world.endpoints(), clock);
        let link = world.block_on(Meshlink::open(mesh(), environment)).unwrap();
        match world.block_on(link.plan(Change::Join)) {
            Ok(planned) => {
                assert!(!refused, "{off}");
                let notes = planned.plan().notes.iter().map(|n| n.text.as_str());
                let clocks: Vec<_> = notes.filter(|n| n.contains("clock")).collect();
                assert_eq!(clocks.len(), if says.is_empty() { 0 } else { 2 });
                assert!(clocks.iter().all(|n| n.contains(says)), "{clocks:?}");
            }
            Err(failure) => {
                assert!(refused, "{off}: {failure}");
                assert_eq!(failure.kind, FailureKind::Refused);
                assert!(failure.to_string().contains("clock"), "{failure}");
                assert!(failure.to_string().contains(says), "{failure}");
            }
        }
    }
}

#[test]
fn a_peer_server_on_this_machine_is_refused_before_anything_is_written() {
    let world = World::new(2);
    let member =
        |name: &str| json!({"name": name, "context": name, "peerServer": "https://127.0.0.1:6443"});
    let file = json!({"clusters": [member("eks-1"), member("eks-2")]});
    fs::write(world.user.here().join("mesh.yaml"), file.to_string()).unwrap();
    let (config, charts) = (&world.endpoints().kubeconfig, &world.endpoints().charts);
    let config = config.display();
    let command = format!("join -f mesh.yaml --yes --kubeconfig {config} --charts {charts}");
    let refused = world.user.run(&command).ends(5);
    refused.says("peerServer https://127.0.0.1:6443");
}

#[test]
fn files_that_are_no_mesh_files_are_left_at_once_and_not_shown() {
    let many: String = (0..5000).map(|n| format!("- name: c{n}\n")).collect();
    let session = Session::new()
        .file(
            "passwd",
            "root:*:19000:hunter2:\n&a *b: hunter2\n  - hunter2\n",
        )
        .file("words", "key: \"hunter2\n")
        .file("tag", "a: !!int hunter2\nb: *hunter2\n")
        .file("many", &format!("clusters:\n{many}"));
    for file in ["passwd", "words", "tag"] {
        let answer = session.run(&format!("plan -f {file}")).ends(3);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(!said.contains("hunter2"), "{answer}");
    }
    let begun = Instant::now();
    session
        .run("plan -f /dev/zero")
        .ends(3)
        .says("larger than 1 MiB");
    session
        .run("plan -f many")
        .ends(3)
        .says("has 5000 clusters: write at most 1000");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn times_that_no_clock_knows_are_no_bug() {
    for time in ["9223372036854775807s", "721h", "1000000h"] {
        let answer = Session::new().run(&format!("status --timeout {time}"));
        answer.ends(2).says("at most 30 days");
    }
}

#[test]
fn the_login_of_a_proxy_is_not_shown() {
    let config = json!({"apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.invalid", "proxy-url": "ftp://jo:hunter2@proxy"}}],
        "contexts": [{"name": "a", "context": {"cluster": "c"}}, {"name": "b", "context": {"cluster": "c"}}]});
    let session = Session::new().file("config", &config.to_string());
    let answer = session.run("status a b --kubeconfig config -vvv").ends(2);
    assert!(!answer.stderr.contains("hunter2"), "{answer}");
    let plain = config.to_string().replace(", \"proxy-url\"", ", \"x\"");
    let plain = plain.replace("\"proxy-url\"", "\"x\"");
    for proxy in [
        "ftp://jo:hunter2@proxy",
        "jo:hunter2@://proxy",
        "http://jo:hunter2@pro xy",
    ] {
        let session = Session::new()
            .file("config", &plain)
            .var("HTTPS_PROXY", proxy);
        let answer = session.run("status a b --kubeconfig config -vvv");
        assert!(matches!(answer.code, Some(1 | 2)), "{answer}");
        assert!(!answer.stderr.contains("hunter2"), "{answer}");
    }
}

#[test]
fn a_vault_that_others_could_exchange_is_refused() {
    let session = Session::new();
    session.run("ca init").ends(0);
    let parent = session.home().join(".local/share/meshlink");
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).unwrap();
    session
        .run("ca init")
        .ends(1)
        .says("can be written to by others")
        .says("chmod go-w");
}

#[test]
fn a_home_that_moves_with_the_folder_holds_no_vault() {
    let session = Session::new().var("HOME", "home");
    session.run("ca init").ends(1).says("absolute path");
    assert!(!session.here().join("home").exists());
}
