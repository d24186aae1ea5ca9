//! A session of the real kubectl against the TLS front.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::*;

/// Runs kubectl with a kubeconfig and an input; its output, both streams.
fn kubectl(home: &Path, args: &str, input: &str) -> (bool, String) {
    use std::io::Write;
    let mut command = Command::new("kubectl");
    command
        .env_clear()
        .env("HOME", home)
        .env("KUBECONFIG", home.join("config"))
        .env("PATH", "/usr/bin:/usr/local/bin:/bin");
    command
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn there() -> bool {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        println!("skipped: no kubectl here");
    }
    there
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'example.org/web:1', ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
";

/// Each step: the arguments, the input, and what the output must contain.
const SESSION: &[(&str, &str, &[&str])] = &[
    ("version", "", &["Server Version: v1.36.3"]),
    ("create namespace shop", "", &["namespace/shop created"]),
    (
        "get namespaces",
        "",
        &["NAME", "STATUS", "AGE", "kube-system", "Active"],
    ),
    (
        "apply --server-side -f -",
        DEPLOYMENT,
        &[
            "deployment.apps/web serverside-applied",
            "service/web serverside-applied",
        ],
    ),
    (
        "apply --server-side -f -",
        DEPLOYMENT,
        &["deployment.apps/web serverside-applied"],
    ),
    (
        "apply -f -",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {a: b}",
        &["configmap/c created"],
    ),
    (
        "apply -f -",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {a: c}",
        &["configmap/c configured"],
    ),
    (
        "get deploy,svc -n shop",
        "",
        &[
            "deployment.apps/web",
            "0/1",
            "LoadBalancer",
            "<pending>",
            "80:3",
        ],
    ),
    (
        "get svc web -n shop -o jsonpath={.spec.type}",
        "",
        &["LoadBalancer"],
    ),
    (
        "describe deployment web -n shop",
        "",
        &["example.org/web:1", "Selector:", "app=web"],
    ),
    (
        "describe service web -n shop",
        "",
        &["LoadBalancer", "Port:"],
    ),
    (
        "label namespace shop istio-injection=enabled",
        "",
        &["namespace/shop labeled"],
    ),
    (
        "annotate -n shop svc web note=hello",
        "",
        &["service/web annotated"],
    ),
    (
        "get ns -l istio-injection=enabled -o name",
        "",
        &["namespace/shop"],
    ),
    ("scale deployment web -n shop --replicas=3", "", &["scaled"]),
    ("get deploy web -n shop -o wide", "", &["0/3"]),
    (
        "create secret generic s -n shop --from-literal=k=v",
        "",
        &["secret/s created"],
    ),
    (
        "get secrets,cm -n shop",
        "",
        &["Opaque", "kube-root-ca.crt"],
    ),
    (
        "create serviceaccount reader -n shop",
        "",
        &["serviceaccount/reader created"],
    ),
    ("create token reader -n shop", "", &["eyJ"]),
    ("auth can-i list secrets -A", "", &["yes"]),
    (
        "auth can-i list secrets -n shop --as-nobody",
        "",
        &["unknown flag"],
    ),
    ("auth whoami", "", &["kubernetes-admin"]),
    (
        "api-resources",
        "",
        &["deployments", "deploy", "apps/v1", "subjectaccessreviews"],
    ),
    (
        "api-versions",
        "",
        &["apps/v1", "rbac.authorization.k8s.io/v1"],
    ),
    (
        "get all -n shop",
        "",
        &["service/web", "deployment.apps/web"],
    ),
    ("get --raw /readyz", "", &["ok"]),
    (
        "get nothing",
        "",
        &["the server doesn't have a resource type \"nothing\""],
    ),
    (
        "get cm gone -n shop",
        "",
        &["Error from server (NotFound): configmaps \"gone\" not found"],
    ),
    (
        "delete deployment web -n shop",
        "",
        &["deployment.apps \"web\" deleted"],
    ),
    ("delete namespace shop", "", &["namespace \"shop\" deleted"]),
    (
        "get cm -n shop",
        "",
        &["No resources found in shop namespace."],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_kubectl() {
    if !there() {
        return;
    }
    let api = api();
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("config"),
        api.kubeconfig(&served.url, "one", "admin"),
    )
    .unwrap();
    let mut wrong = Vec::new();
    for (args, input, expected) in SESSION {
        let (path, args, input) = (home.path().to_owned(), *args, *input);
        let (_, text) = tokio::task::spawn_blocking(move || kubectl(&path, args, input))
            .await
            .unwrap();
        let missing: Vec<_> = expected
            .iter()
            .filter(|part| !text.contains(**part))
            .collect();
        if !missing.is_empty() {
            wrong.push(format!(
                "kubectl {args}\nshould say {missing:?}, but says\n{text}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
