//! What the members' istiods read each other with: tokens and authorities, replaced while they are in use.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use meshlink::{Agreed, Change, Event, RunOutcome, sandbox::Clocks};
use serde_json::{Value, json};

use crate::kit::{Answer, World, istio};

const HOUR: i64 = 3600;
const RENEWER: &str = "renewer: {image: registry.example.com/meshlink:1}\n";

/// A mesh of the first two clusters, with this in its file, and the clocks of its API servers.
fn world(more: &str) -> (World, Clocks) {
    let clocks = Clocks::default();
    let world = World::with(2, |options| options.clocks = clocks.clone());
    write(&world, more);
    (world, clocks)
}

fn write(world: &World, more: &str) {
    let mesh = format!("{more}clusters: [{{name: eks-1}}, {{name: eks-2}}]\n");
    fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
}

/// The same, joined at a time so many seconds ago, and back in the present.
fn joined(more: &str, ago: i64) -> (World, Clocks) {
    let (world, clocks) = world(more);
    clocks.set_ahead(-ago);
    let mut mesh = meshlink::spec::Mesh::read(
        &fs::read_to_string(world.user.here().join("mesh.yaml")).unwrap(),
        "mesh.yaml".as_ref(),
    );
    let mesh = mesh.as_mut().unwrap().clone();
    let link = world.link_of(mesh, |environment| {
        let now = move || crate::kit::now() - jiff::SignedDuration::from_secs(ago);
        environment.set_clock(now);
    });
    let report = world.block_on(async {
        let change = link.plan(Change::Join).await.unwrap();
        change.apply(&Agreed, std::sync::Arc::new(|_: &Event| ())).await
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report:?}");
    clocks.set_ahead(0);
    (world, clocks)
}

/// The token by which `to` reads `from`.
fn token(world: &World, from: &str, to: &str) -> String {
    let secret = world.get(to, &istio("secrets", &format!("istio-remote-secret-{from}")));
    let config = STANDARD.decode(secret["data"][from].as_str().unwrap()).unwrap();
    let config = String::from_utf8(config).unwrap();
    let line = config.lines().find_map(|l| l.trim().strip_prefix("token: "));
    line.unwrap().trim_matches('"').to_owned()
}

/// The authorities by which `to` knows `from`.
fn authorities(world: &World, from: &str, to: &str) -> String {
    let secret = world.get(to, &istio("secrets", &format!("istio-remote-secret-{from}")));
    let config = STANDARD.decode(secret["data"][from].as_str().unwrap()).unwrap();
    let config = String::from_utf8(config).unwrap();
    let data = config.lines().find_map(|l| l.trim().strip_prefix("certificate-authority-data: "));
    String::from_utf8(STANDARD.decode(data.unwrap()).unwrap()).unwrap()
}

/// Whether an API server accepts a token.
fn opens(world: &World, cluster: &str, token: &str) -> bool {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = world.post(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", &review);
    answer["status"]["authenticated"] == true
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

fn secrets_of(world: &World, cluster: &str, peer: &str) -> Vec<String> {
    let path = format!("/api/v1/namespaces/istio-system/secrets?labelSelector=meshlink%2Fpeer%3D{peer}");
    let list = world.get(cluster, &path);
    let names = list["items"].as_array().unwrap().iter();
    names.map(|s| s["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The renewer of a member, as its CronJob runs it.
fn renewer(world: &World, member: &str, more: &str) -> Answer {
    let folder = service_account(world, member);
    let job = world.get(member, "/apis/batch/v1/namespaces/istio-system/cronjobs/meshlink-renewer");
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().unwrap().iter();
    let args: Vec<_> = args.map(|a| a.as_str().unwrap()).collect();
    let index = usize::from(member == "eks-2");
    let server = world.endpoints().servers[index];
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let vars = [("KUBERNETES_SERVICE_HOST", host.as_str()), ("KUBERNETES_SERVICE_PORT", port.as_str())];
    let args = format!("{} --service-account {} {more}", args.join(" "), folder.display());
    world.user.start_with(&args, &vars).end()
}

fn service_account(world: &World, member: &str) -> PathBuf {
    let folder = world.user.here().join(format!("account-{member}"));
    fs::create_dir_all(&folder).unwrap();
    let path = istio("serviceaccounts", "meshlink-renewer/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": HOUR}});
    let granted = world.post(member, &path, &request);
    fs::write(folder.join("token"), granted["status"]["token"].as_str().unwrap()).unwrap();
    fs::write(folder.join("ca.crt"), world.api(member).ca_pem()).unwrap();
    folder
}

/// The kubeconfig as whoever runs the API servers would hand it out now.
fn refresh_kubeconfig(world: &World, cluster: &str, before: &str) {
    let path = &world.endpoints().kubeconfig;
    let text = fs::read_to_string(path).unwrap();
    let (old, new) = (STANDARD.encode(before), STANDARD.encode(world.api(cluster).ca_pem()));
    assert!(text.contains(&old));
    fs::write(path, text.replace(&old, &new)).unwrap();
}

#[test]
fn an_old_token_is_replaced_and_the_first_is_refused() {
    let (world, _) = joined("", 91 * 24 * HOUR);
    let old = token(&world, "eks-1", "eks-2");
    world.run("plan renew -f mesh.yaml").ends(10).says("make-token/eks-1/eks-2").says("retire-token/eks-1/eks-2");
    world.run("renew -f mesh.yaml --what tokens").ends(0);
    let new = token(&world, "eks-1", "eks-2");
    assert_ne!(old, new);
    assert!(!opens(&world, "eks-1", &old) && opens(&world, "eks-1", &new));
    assert_eq!(secrets_of(&world, "eks-1", "eks-2"), ["meshlink-reader-eks-2-token-2"]);
    world.run("renew -f mesh.yaml --what tokens").ends(0).says("nothing to do");
    world.run("plan -f mesh.yaml").ends(0);
    world.run("verify --traffic -f mesh.yaml").ends(0);
    world.run("leave eks-2 --uninstall -f mesh.yaml").ends(0);
    assert!(secrets_of(&world, "eks-1", "eks-2").is_empty());
    assert!(!opens(&world, "eks-1", &new));
}
