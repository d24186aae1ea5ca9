//! What programs read is what its schema says: of every command, whether it succeeds or fails.

use std::{collections::BTreeMap, fs};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::kit::{Answer, World, istio};

/// The validators of all schemas, by name.
struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    fn of(world: &World) -> Self {
        let names = world.user.run("schema").ends(0).stdout;
        let one = |name: &str| {
            let schema = world.user.run(&format!("schema {name}")).ends(0).json();
            snake_case(name, &schema);
            (name.to_owned(), jsonschema::validator_for(&schema).unwrap())
        };
        Self(names.lines().map(one).collect())
    }

    /// An answer in JSON is valid by this schema, or by that of failures.
    #[track_caller]
    fn judge(&self, answer: &Answer, schema: &str) {
        let document = answer.json();
        let failed = document.get("failure").is_some();
        let schema = if failed { "failure" } else { schema };
        let wrong = self.0[schema].iter_errors(&document);
        let wrong: Vec<_> = wrong
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "not a {schema}: {wrong:#?}\n{answer}");
        if failed {
            let code = answer.code.map(Value::from);
            assert_eq!(document.get("exit_code"), code.as_ref(), "{answer}");
        }
    }
}

/// Keys are written in one style.
fn snake_case(name: &str, schema: &Value) {
    let is_snake = |key: &str| {
        let mut all = key.chars();
        all.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    // The mesh file is written by people, in the style of Kubernetes.
    if name == "mesh" {
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        for key in properties.keys() {
            assert!(is_snake(key), "{name}: {key}");
        }
    }
    let below: Vec<&Value> = match schema {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => vec![],
    };
    for schema in below {
        snake_case(name, schema);
    }
}

/// Every command that prints a document, with its code and the name of its schema; in an order in which they can run.
const RUNS: [(&str, i32, &str); 61] = [
    ("ca init", 0, "ca-init"),
    ("ca status", 0, "ca-status"),
    ("plan eks-1 eks-2", 10, "plan"),
    ("status eks-1 eks-2", 7, "verdict"),
    ("verify eks-1 eks-2", 4, "verdict"),
    ("doctor --list", 0, "checks"),
    ("doctor eks-1 eks-2 --before-join", 0, "diagnosis"),
    ("join eks-1 eks-2", 0, "report"),
    ("join eks-1 eks-2", 0, "report"),
    ("plan eks-1 eks-2", 0, "plan"),
    ("plan eks-1 eks-2 eks-3", 10, "plan"),
    ("status", 0, "verdict"),
    ("bundle --to mesh.tar.gz", 0, "bundle"),
    ("status --wait", 0, "verdict"),
    ("verify", 0, "verdict"),
    ("verify --traffic", 0, "verdict"),
    ("verify eks-1 eks-3", 4, "verdict"),
    ("doctor", 0, "diagnosis"),
    ("doctor eks-1 eks-3", 4, "diagnosis"),
    ("workloads", 0, "workloads"),
    ("workloads eks-1 eks-3 --all", 4, "workloads"),
    ("plan workloads restart -n default", 0, "plan"),
    ("workloads restart -n default", 0, "report"),
    ("ca status", 0, "ca-status"),
    ("ca status eks-1 eks-3", 4, "ca-status"),
    ("rotate root --status", 0, "rotate-status"),
    ("renew", 0, "report"),
    ("plan renew", 0, "plan"),
    ("plan adopt eks-1", 0, "plan"),
    ("adopt eks-1", 0, "report"),
    ("wait nlb", 0, "wait-nlb"),
    ("wait nlb eks-1 eks-3", 4, "wait-nlb"),
    ("sample status", 0, "sample"),
    ("sample call", 4, "sample-call"),
    ("sample up", 0, "sample"),
    ("sample call", 0, "sample-call"),
    ("verify --service sample/helloworld", 0, "verdict"),
    ("sample down", 0, "sample"),
    ("render eks-1 eks-2 --out gitops", 0, "render"),
    ("render eks-1 eks-2 --out gitops --check", 0, "render"),
    // What fails.
    ("join eks-1 --mesh none", 2, "report"),
    ("join eks-1 nowhere", 2, "report"),
    ("join eks-1 eks-3", 5, "report"),
    ("join -f bad.yaml", 3, "report"),
    ("join", 2, "report"),
    ("jion", 2, "report"),
    ("status --timeout soon", 2, "verdict"),
    ("status --mesh none", 2, "verdict"),
    ("status eks-1 --mesh none", 5, "verdict"),
    ("verify eks-1 eks-2 --mesh none", 5, "verdict"),
    ("verify --service x", 2, "verdict"),
    ("ca init -f bad.yaml", 3, "ca-init"),
    ("ca status --mesh none", 2, "ca-status"),
    ("ca csr", 2, "ca-csr"),
    ("ca import none", 2, "ca-import"),
    ("ca protect", 2, "ca-protect"),
    ("wait nlb eks-1 --mesh none", 5, "wait-nlb"),
    ("sample call --namespace Bad", 2, "sample-call"),
    ("leave eks-9", 2, "report"),
    ("leave eks-2", 0, "report"),
    ("status", 7, "verdict"),
];

#[test]
fn what_programs_read_is_what_its_schema_says() {
    let world = World::new(3);
    let schemas = Schemas::of(&world);
    fs::write(world.user.here().join("bad.yaml"), "clusters: 1\n").unwrap();
    for (args, code, schema) in RUNS {
        let answer = world.run(&format!("{args} -o json")).ends(code);
        schemas.judge(&answer, schema);
    }
    // The form can be asked for anywhere.
    for args in [
        "jion -o=json",
        "--output json jion",
        "-ojson jion",
        "jion --output=json",
        "jion -qo json",
    ] {
        schemas.judge(&world.user.run(args).ends(2), "failure");
    }
    let yaml = world.user.run("jion -o yaml").ends(2);
    assert!(yaml.stdout.contains("schema_version: 1"), "{yaml}");
}

#[test]
fn what_fails_on_the_way_is_what_its_schema_says() {
    let world = World::joined(2);
    let schemas = Schemas::of(&world);
    let gateway =
        "/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway";
    world.delete("eks-2", gateway);
    for (args, code, schema) in [
        ("status", 7, "verdict"),
        ("status --wait --timeout 1s", 4, "verdict"),
        ("verify --traffic --timeout 4s", 4, "verdict"),
    ] {
        let answer = world.run(&format!("{args} -o json")).ends(code);
        schemas.judge(&answer, schema);
    }
    world.delete("eks-2", &istio("secrets", "cacerts"));
    let answer = world.run("ca status -o json").ends(7);
    schemas.judge(&answer, "ca-status");
    world.api("eks-2").faults().unreachable(true);
    for (args, schema) in [
        ("status", "verdict"),
        ("verify", "verdict"),
        ("join eks-1 eks-2", "report"),
        ("ca status", "ca-status"),
        ("wait nlb --timeout 2s", "wait-nlb"),
        ("workloads", "workloads"),
        ("sample status", "sample"),
    ] {
        let answer = world.run(&format!("{args} -o json"));
        assert_ne!(answer.code, Some(0), "{answer}");
        schemas.judge(&answer, schema);
    }
}

#[test]
fn what_needs_no_mesh_is_what_its_schema_says() {
    let world = World::new(2);
    let schemas = Schemas::of(&world);
    let repo = format!("--repo {}", world.endpoints().charts);
    for (args, code, schema) in [
        ("chart template x istiod", 0, "chart-template"),
        ("chart values istiod", 0, "chart-values"),
        ("chart images", 0, "chart-images"),
        ("chart pull", 0, "chart-pull"),
        ("chart lock", 0, "chart-pull"),
        ("chart values nothing", 1, "chart-values"),
        (
            "chart template x istiod -f absent.yaml",
            1,
            "chart-template",
        ),
    ] {
        let answer = world.user.run(&format!("{args} {repo} -o json"));
        schemas.judge(&answer.ends(code), schema);
    }
    schemas.judge(&world.user.run("schema nothing -o json").ends(2), "failure");
    // It runs already: that is a failure, and a document.
    schemas.judge(&world.user.run("sandbox -o json").ends(1), "sandbox");
    let program = env!("CARGO_BIN_EXE_meshlink");
    for (query, code) in [
        (json!({"clusters": "eks-1,eks-2", "sandbox": "true"}), 0),
        (json!({"cluster": "eks-1"}), 2),
    ] {
        let script = format!("echo '{query}' | {program} terraform -o json");
        schemas.judge(&world.user.shell(&script).ends(code), "terraform");
    }
}

#[test]
fn a_sandbox_says_where_it_is() {
    let world = World::new(1);
    let schemas = Schemas::of(&world);
    let session = crate::kit::Session::new();
    let mut running = session.start("sandbox -o json");
    running.wait_for("\n}");
    running.interrupt();
    schemas.judge(&running.end().ends(0), "sandbox");
}
