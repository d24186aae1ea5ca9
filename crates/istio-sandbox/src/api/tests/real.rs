//! The same requests to this server and to a real kube-apiserver, where one is at hand: same codes, same
//! words, same objects. The requests are in `same.yaml`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use http_body_util::BodyExt;
use kube::client::Body;

use super::*;

/// A real API server with its etcd, for as long as it is held.
struct Real {
    children: Vec<Child>,
    _home: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// The lab keeps the binaries it builds in a store of folders by name and hash.
#[expect(
    clippy::disallowed_methods,
    reason = "where a program is, is a fact of the machine"
)]
fn binary(name: &str) -> Option<PathBuf> {
    let store = std::env::home_dir()?.join(".cache/meshlink-lab/store");
    let folders = std::fs::read_dir(store).ok()?.filter_map(Result::ok);
    folders
        .map(|f| f.path().join(name))
        .find(|path| path.is_file())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn start(binary: &Path, home: &Path, args: &[String]) -> Child {
    let log = std::fs::File::create(home.join(binary.file_name().unwrap())).unwrap();
    let mut command = Command::new(binary);
    command
        .current_dir(home)
        .args(args)
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().unwrap()
}

/// A real server with clients of its admin and of nobody.
async fn real() -> Option<(Real, Client, Client)> {
    let (etcd, server) = (binary("etcd")?, binary("kube-apiserver")?);
    let home = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(home.path().join("sa.key"), key.serialize_pem()).unwrap();
    std::fs::write(home.path().join("sa.pub"), key.public_key_pem()).unwrap();
    std::fs::write(
        home.path().join("tokens.csv"),
        "admin,kubernetes-admin,,system:masters\n",
    )
    .unwrap();
    let [store, peers, port] = [free_port(), free_port(), free_port()];
    let etcd = start(
        &etcd,
        home.path(),
        &[
            "--data-dir=data".into(),
            "--unsafe-no-fsync".into(),
            format!("--listen-client-urls=http://127.0.0.1:{store}"),
            format!("--advertise-client-urls=http://127.0.0.1:{store}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        ],
    );
    let server = start(
        &server,
        home.path(),
        &[
            format!("--etcd-servers=http://127.0.0.1:{store}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            "--endpoint-reconciler-type=none".into(),
            "--cert-dir=certs".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            "--service-account-key-file=sa.pub".into(),
            "--service-account-signing-key-file=sa.key".into(),
            "--token-auth-file=tokens.csv".into(),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--allow-privileged".into(),
        ],
    );
    let real = Real {
        children: vec![server, etcd],
        _home: home,
    };
    let mut config = kube::Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    config.accept_invalid_certs = true;
    config.auth_info.token = Some("admin".to_owned().into());
    let client = Client::try_from(config.clone()).unwrap();
    config.auth_info.token = None;
    let nobody = Client::try_from(config).unwrap();
    let ready = async {
        while send(&client, &json!({"do": "GET /readyz"})).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ready)
        .await
        .expect("the real API server is ready");
    Some((real, client, nobody))
}

async fn send(client: &Client, step: &Value) -> (u16, Value) {
    let (method, path) = step["do"].as_str().unwrap().split_once(' ').unwrap();
    let media = match step["as"].as_str() {
        None => "application/json".to_owned(),
        Some("apply") => "application/apply-patch+yaml".to_owned(),
        Some(kind) => format!("application/{kind}-patch+json"),
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media);
    request = request.header("user-agent", "same/1.0");
    if let Some(accept) = step["accept"].as_str() {
        request = request.header("accept", accept);
    }
    if let Some(token) = step["bearer"].as_str() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if step["body"].is_null() {
        Vec::new()
    } else {
        step["body"].to_string().into_bytes()
    };
    let Ok(reply) = client.send(request.body(Body::from(body)).unwrap()).await else {
        return (0, Value::Null);
    };
    let code = reply.status().as_u16();
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    (
        code,
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
    )
}

/// What is never the same twice becomes its name.
fn plain(value: &mut Value) {
    const CHANGING: [&str; 10] = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "time",
        "clusterIP",
        "nodePort",
        "deletionTimestamp",
        "lastTransitionTime",
        "token",
        "expirationTimestamp",
    ];
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if CHANGING.contains(&name.as_str()) && !value.is_null() && !value.is_object() {
                    *value = format!("<{name}>").into();
                } else if name == "clusterIPs" {
                    *value = json!(["<clusterIP>"]);
                } else {
                    plain(value);
                    if let Some(managers) = value.as_array_mut().filter(|_| name == "managedFields")
                    {
                        // Their order depends on whether a second passed between two requests.
                        managers.sort_by_key(|m| {
                            format!("{} {} {}", m["manager"], m["operation"], m["subresource"])
                        });
                    }
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::String(text) => {
            let uid = regex_lite::Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
            *text = uid.replace_all(text, "<uid>").into_owned();
        }
        _ => {}
    }
}

/// Every place where two values differ.
fn differences(at: &str, real: &Value, ours: &Value, found: &mut Vec<String>) {
    match (real, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                );
                differences(&format!("{at}/{name}"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{i}"), a, b, found);
            }
        }
        _ if real == ours => {}
        _ => found.push(format!("  {at}\n    real {real}\n    ours {ours}")),
    }
}

/// One answer, with what is never the same twice taken out.
async fn answer(client: &Client, step: &Value) -> Value {
    let (code, mut body) = send(client, step).await;
    plain(&mut body);
    json!({"code": code, "body": body})
}

/// What the real server answers to each step.
async fn asked(steps: &[Value], admin: &Client, nobody: &Client) -> Vec<Value> {
    let mut answers = Vec::new();
    for step in steps {
        let client = if step["bearer"].is_null() {
            admin
        } else {
            nobody
        };
        let mut told = answer(client, step).await;
        for _ in 0..100 {
            if told
                .to_string()
                .contains(step["until"].as_str().unwrap_or_default())
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            told = answer(client, step).await;
        }
        answers.push(told);
    }
    answers
}

/// The real answers: from a real server where one is at hand, else as it gave them when they were recorded.
/// To record anew, remove the file and run this test beside the lab's binaries.
async fn real_answers(steps: &[Value], recording: &Path) -> Vec<Value> {
    let recorded = std::fs::read_to_string(recording).ok();
    let recorded: Option<Vec<Value>> = recorded.map(|text| serde_json::from_str(&text).unwrap());
    let Some((_real, admin, nobody)) = real().await else {
        println!("no kube-apiserver and etcd here: compared with recorded answers");
        let mut answers = recorded.expect("recorded answers");
        answers.iter_mut().for_each(plain);
        return answers;
    };
    let answers = asked(steps, &admin, &nobody).await;
    if recorded.is_none() {
        let lines: Vec<_> = answers.iter().map(Value::to_string).collect();
        std::fs::write(recording, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    answers
}

#[tokio::test]
async fn this_server_answers_as_a_real_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/tests");
    let steps = std::fs::read_to_string(folder.join("same.yaml")).unwrap();
    let steps: Vec<Value> = serde_saphyr::from_str(&steps).unwrap();
    let answers = real_answers(&steps, &folder.join("same.json")).await;
    assert_eq!(
        steps.len(),
        answers.len(),
        "the recording is of other steps"
    );
    let api = Api::new(ApiOptions::new("one", Arc::new(crate::now))).unwrap();
    let ours = api.client();
    let mut wrong = Vec::new();
    for (step, real) in steps
        .iter()
        .zip(&answers)
        .filter(|(step, _)| step["only"] != "real")
    {
        let mut found = Vec::new();
        differences("", real, &answer(&ours, step).await, &mut found);
        // What is known to differ, and why, is said in the list.
        let known: Vec<&str> = step["except"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        found.retain(|line| {
            !known
                .iter()
                .any(|place| line.trim_start().starts_with(place))
        });
        if !found.is_empty() {
            wrong.push(format!(
                "{} {}\n{}",
                step["do"],
                step["name"],
                found.join("\n")
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} steps differ:\n{}",
        wrong.len(),
        steps.len(),
        wrong.join("\n")
    );
}
