//! No key and no token is ever said, written down or passed on.

use std::{fs, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::kit::{World, istio};

/// A secret in every spelling it could slip out in.
fn spellings(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [("base64", STANDARD.encode(bytes)), ("hex", hex)]
        .map(|(how, text)| (format!("{name} in {how}"), text))
        .into()
}

pub(crate) fn canaries(world: &World) -> Vec<(String, String)> {
    let mut all = vec![];
    for (path, pem) in world
        .keys()
        .into_iter()
        .filter(|(path, _)| path.ends_with("key.pem"))
    {
        let text = String::from_utf8(pem.clone()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        all.extend(
            lines
                .iter()
                .filter(|l| l.len() > 30)
                .map(|l| (format!("a line of {path}"), (*l).to_owned())),
        );
        all.extend(spellings(&path, &STANDARD.decode(lines.concat()).unwrap()));
        all.extend(spellings(&path, &pem));
    }
    assert!(all.len() >= 3 * 5, "{}", all.len());
    for (cluster, peer) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
        let secret = world.get(
            cluster,
            &istio("secrets", &format!("meshlink-reader-{peer}-token")),
        );
        let token = STANDARD
            .decode(secret["data"]["token"].as_str().unwrap())
            .unwrap();
        let name = format!("{peer}'s token in {cluster}");
        all.push((name.clone(), String::from_utf8(token.clone()).unwrap()));
        all.extend(spellings(&name, &token));
        let admin = world.api(cluster).admin_token();
        all.push((format!("{cluster}'s admin"), admin));
    }
    all
}

/// The release records as text: base64 twice, and gzip.
fn releases(world: &World) -> String {
    let mut text = String::new();
    for cluster in ["eks-1", "eks-2"] {
        for (path, object) in world.inventory(cluster) {
            if object["type"] == "helm.sh/release.v1" {
                let data = STANDARD
                    .decode(object["data"]["release"].as_str().unwrap())
                    .unwrap();
                let packed = STANDARD.decode(data).unwrap();
                flate2::read::GzDecoder::new(&packed[..])
                    .read_to_string(&mut text)
                    .unwrap();
                text += &path;
            }
        }
    }
    assert!(text.contains("istiod") && text.contains("manifest"));
    text
}

/// The tokens in the remote secrets, and those of readers' token Secrets.
fn tokens(world: &World) -> Vec<(String, String)> {
    let mut all = vec![];
    for (cluster, peer) in [("eks-1", "eks-2"), ("eks-2", "eks-1")] {
        let secret = world.get(
            cluster,
            &istio("secrets", &format!("istio-remote-secret-{peer}")),
        );
        let config = STANDARD
            .decode(secret["data"][peer].as_str().unwrap())
            .unwrap();
        let config = String::from_utf8(config).unwrap();
        let token = config
            .lines()
            .find_map(|l| l.trim().strip_prefix("token: "))
            .unwrap();
        let name = format!("the token by which {cluster} reads {peer}");
        all.push((name.clone(), token.to_owned()));
        all.extend(spellings(&name, token.as_bytes()));
    }
    all
}

#[test]
fn no_token_that_is_renewed_occurs_anywhere_but_where_it_belongs() {
    let world = World::new(2);
    let renewer = "renewer: {image: registry.example.com/meshlink:1}\n";
    let write = |more: &str| {
        let mesh = format!("{more}clusters: [{{name: eks-1}}, {{name: eks-2}}]\n");
        fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
    };
    let (mut told, mut canaries) = (vec![], vec![]);
    let mut say = |args: &str, canaries: &mut Vec<_>| {
        let answer = world.run(args);
        assert!(matches!(answer.code, Some(0 | 10)), "{answer}");
        told.push((
            args.to_owned(),
            format!("{}{}", answer.stdout, answer.stderr),
        ));
        canaries.extend(tokens(&world));
    };
    write("");
    say("join -f mesh.yaml -vvv", &mut canaries);
    world.advance(91);
    say("plan renew -f mesh.yaml -vvv -o json", &mut canaries);
    say(
        "renew -f mesh.yaml --what tokens -vvv -o json",
        &mut canaries,
    );
    write(renewer);
    say("join -f mesh.yaml -vvv -o json", &mut canaries);
    for member in ["eks-1", "eks-2"] {
        crate::readers::succeeded(&world, member);
    }
    say("join -f mesh.yaml -vvv -o json", &mut canaries);
    world.advance_by(20 * 3600);
    say("renew -f mesh.yaml --what tokens -vvv", &mut canaries);
    world.advance_by(20 * 3600);
    let answer = crate::readers::renewer(&world, "eks-1", "-vvv -o json").ends(0);
    told.push((
        "the renewer".into(),
        format!("{}{}", answer.stdout, answer.stderr),
    ));
    canaries.extend(tokens(&world));
    told.push(("the journal".into(), world.journal()));
    for member in ["eks-1", "eks-2"] {
        for path in ["configmaps", "events"] {
            let all = world.get(member, &format!("/api/v1/namespaces/istio-system/{path}"));
            told.push((format!("{member}'s {path}"), all.to_string()));
        }
    }
    let distinct: std::collections::BTreeSet<_> = canaries.iter().map(|(_, text)| text).collect();
    assert!(
        distinct.len() >= 3 * 7,
        "each was really replaced: {}",
        distinct.len()
    );
    assert!(told.iter().any(|(_, text)| text.contains("DEBUG")));
    for (name, canary) in &canaries {
        for (place, text) in &told {
            assert!(!text.contains(canary), "{name} is in {place}");
        }
    }
}

#[test]
fn no_key_or_token_occurs_anywhere_but_where_it_belongs() {
    let world = World::new(2);
    let mut told = vec![];
    for args in [
        "plan eks-1 eks-2 -vvv -o json",
        "join eks-1 eks-2 -vvv -o json",
        "plan eks-1 eks-2 -vvv",
        "status -vvv",
        "verify --traffic -vvv -o json",
        "ca status -vvv -o json",
        "ca status -vvv",
        "sample up -vvv",
        "sample call -vvv",
        "sample down -vvv",
        "render eks-1 eks-2 --out out -vvv",
        "plan leave eks-2 --uninstall -vvv",
    ] {
        let answer = world.run(args);
        assert!(matches!(answer.code, Some(0 | 10)), "{answer}");
        told.push((
            args.to_owned(),
            format!("{}{}", answer.stdout, answer.stderr),
        ));
    }
    let canaries = canaries(&world);
    // What is searched for is really there, where it belongs.
    let cacerts: Value = world.get("eks-1", &istio("secrets", "cacerts"));
    assert!(
        canaries
            .iter()
            .any(|(_, text)| cacerts.to_string().contains(text))
    );
    told.push(("the journal".into(), world.journal()));
    told.push(("the release records".into(), releases(&world)));
    let state = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/mesh/mesh.yaml");
    told.push((
        "the mesh as written down".into(),
        fs::read_to_string(state).unwrap(),
    ));
    told.push((
        "a leave".into(),
        world.run("leave eks-2 --uninstall -vvv").ends(0).stderr,
    ));
    assert!(
        told.iter()
            .any(|(_, text)| text.contains("TRACE") || text.contains("DEBUG"))
    );
    for (place, text) in &told {
        assert!(text.len() > 40, "{place} says nothing");
        for (name, canary) in &canaries {
            assert!(
                !text.contains(canary.as_str()),
                "{name} is in what {place} says"
            );
        }
    }
}
