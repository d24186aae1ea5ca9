//! One archive of a mesh: it says elsewhere what the members say, and holds no secret.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::{
    kit::{Answer, Session, World},
    secrets::canaries,
};

/// The files of an archive.
fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    entries.collect()
}

/// What was found, without when it was looked.
fn findings(answer: &Answer) -> Value {
    let all = answer.json();
    json!([
        all["findings"],
        all["not_looked_at"],
        all["checks"],
        all["clusters"]
    ])
}

/// Makes an archive and has it diagnosed by somebody who has nothing else; the same must be found as in the members.
#[track_caller]
pub(crate) fn says_the_same_elsewhere(world: &World) {
    let path = world.user.here().join("mesh.tar.gz");
    let mut last = (Value::Null, Value::Null);
    let same = world.wait(|| {
        let before = world.run("doctor -o json");
        world.run("bundle --to mesh.tar.gz");
        let after = world.run("doctor -o json");
        // While something is on its way to another state, the two may have seen different ones.
        if findings(&before) != findings(&after) {
            return None;
        }
        let stranger = Session::new();
        let from = stranger.run(&format!("doctor -o json --from {}", path.display()));
        assert_eq!(from.code, after.code, "{from}");
        last = (findings(&after), findings(&from));
        (last.0 == last.1).then_some(())
    });
    let (live, from) = last;
    assert!(same.is_some(), "live: {live:#}\nfrom the bundle: {from:#}");
}

const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
const CANARY: &str = "q7Zk2VbN9xLw4TgR8yHd3MfP6sJc1KaE";

/// Puts a canary everywhere where somebody may have put a secret.
fn plant(world: &World) {
    let encoded = STANDARD.encode(CANARY);
    let notes = json!({"kubectl.kubernetes.io/last-applied-configuration": CANARY, "vault.example/token": CANARY});
    for space in ["shop", "istio-system", "istio-ingress"] {
        let at = |resource: &str| format!("/api/v1/namespaces/{space}/{resource}");
        if space == "shop" {
            let named = json!({"metadata": {"name": space, "annotations": notes}});
            world.create("eks-1", "/api/v1/namespaces", &named);
        }
        let secret = json!({"metadata": {"name": "theirs", "annotations": notes}, "data": {"token": encoded}});
        world.create("eks-1", &at("secrets"), &secret);
        let labels = json!({"app.kubernetes.io/managed-by": "meshlink"});
        let ours = json!({"metadata": {"name": "like-ours", "labels": labels}, "stringData": {"password": CANARY}});
        world.create("eks-1", &at("secrets"), &ours);
        let map = json!({"metadata": {"name": "settings", "annotations": notes}, "data": {"key": CANARY}});
        world.create("eks-1", &at("configmaps"), &map);
        let container = json!({"name": "app", "image": "app:1", "args": [CANARY], "command": [CANARY],
            "env": [{"name": "API_KEY", "value": CANARY}, {"name": "ISTIO_META_X", "value": CANARY}]});
        let pod = json!({"metadata": {"name": "app", "annotations": notes}, "spec": {"containers": [container]}});
        world.create("eks-1", &at("pods"), &pod);
        let event = json!({"metadata": {"name": "told"}, "involvedObject": {"kind": "Pod", "name": "app", "namespace": space},
            "reason": "Failed", "type": "Warning", "message": format!("login with password={CANARY} failed")});
        world.create("eks-1", &at("events"), &event);
        let template = json!({"metadata": {"labels": {"app": "x"}, "annotations": notes}, "spec": {"containers": [container]}});
        let deployment = json!({"metadata": {"name": "app", "annotations": notes},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template}});
        let deployments = format!("/apis/apps/v1/namespaces/{space}/deployments");
        world.create("eks-1", &deployments, &deployment);
    }
    let rules = json!([{"when": [{"key": "request.headers[x-key]", "values": [CANARY]}]}]);
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "by-key", "annotations": notes}, "spec": {"rules": rules}});
    world.create("eks-1", POLICIES, &policy);
    let service = json!({"metadata": {"name": "web", "annotations": notes}, "spec": {"ports": [{"port": 80}]}});
    world.create("eks-1", "/api/v1/namespaces/shop/services", &service);
}

#[test]
fn no_secret_is_in_a_bundle() {
    let world = World::joined(2);
    plant(&world);
    let answer = world.run("bundle --to mesh.tar.gz -o json").ends(0);
    let path = world.user.here().join("mesh.tar.gz");
    let files = unpacked(&path);
    let size = fs::metadata(&path).unwrap().len();
    assert!(size <= 20_000_000, "{size}");
    let mut canaries = canaries(&world);
    canaries.push(("the canary".into(), CANARY.into()));
    canaries.push(("the canary in base64".into(), STANDARD.encode(CANARY)));
    for (file, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        for (name, canary) in &canaries {
            assert!(!text.contains(canary), "{name} is in {file}");
        }
        assert!(!text.contains("PRIVATE KEY"), "{file}");
    }
    for part in [
        "bundle.json",
        "index.html",
        "findings.json",
        "reading.json",
        "verdict.json",
        "journal.jsonl",
        "members/eks-1/facts.json",
        "members/eks-1/objects/pods.json",
        "members/eks-2/events-istio-ingress.json",
        "members/eks-2/secrets-istio-system.json",
    ] {
        assert!(files.contains_key(part), "{part}: {:?}", files.keys());
    }
    for folder in ["istiod", "proxies", "logs"] {
        let folder = format!("members/eks-1/{folder}/");
        assert!(
            files.keys().any(|f| f.starts_with(&folder)),
            "{folder}: {:?}",
            files.keys()
        );
    }
    // What is left of what was planted is that it was there.
    let events = String::from_utf8_lossy(&files["members/eks-1/events-istio-system.json"]);
    assert!(
        events.contains("login with password=[redacted: "),
        "{events}"
    );
    let manifest: Value = serde_json::from_slice(&files["bundle.json"]).unwrap();
    assert_eq!(manifest["format"], 1);
    assert_eq!(answer.json()["left_out"], manifest["left_out"]);
    says_the_same_elsewhere(&world);
}

#[test]
fn what_is_no_bundle_is_refused_with_its_cause() {
    let user = Session::new().file("notes.txt", "no archive");
    let notes = user.run("doctor --from notes.txt");
    insta::assert_snapshot!(notes, @r"
    exit 1
    --- stderr ---
    error: cannot read the bundle notes.txt
      caused by 1: cannot be read as an archive
      caused by 2: invalid gzip header
    ");
    let nowhere = user.run("doctor --from nowhere.tar.gz").ends(1);
    nowhere.says("No such file or directory");
    user.run("doctor --from notes.txt --before-join").ends(2);
}

#[test]
fn the_page_is_written_whole_or_printed() {
    let world = World::joined(2);
    let answer = world.run("status --html below/mesh.html").ends(0);
    assert!(answer.stdout.contains("2 of 2 pairs proved"), "{answer}");
    let page = fs::read_to_string(world.user.here().join("below/mesh.html")).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "2 of 2",
        "Nothing was found",
        "class=\"topology wide\"",
        "class=\"waterfall\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let printed = world.run("status --html -").ends(0);
    assert!(printed.stdout.starts_with("<!DOCTYPE html>"), "{printed}");
    assert!(printed.stdout.trim_end().ends_with("</html>"));
}
