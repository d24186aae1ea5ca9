//! Value sets: what users set, what they set wrongly, and what nobody should.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A chart and the values to render it with.
pub(crate) struct Case {
    pub(crate) chart: PathBuf,
    pub(crate) values: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) is_upgrade: bool,
    pub(crate) kube_version: String,
}

const CHARTS: [&str; 5] = ["base", "istiod", "gateway", "cni", "ztunnel"];

const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    2.5,
    15.0,
    100.0,
    15021.0,
    999_999.0,
    1_000_000.0,
    1e21,
    -3.0,
    0.1,
    1e-7,
];

/// Numbers that look random and are the same every time (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any value, nested a few levels.
    pub(crate) fn any(&mut self, depth: usize) -> Value {
        match self.roll(if depth > 3 { 6 } else { 10 }) {
            0 => text(self).into(),
            1 => self.roll(2_000_000).into(),
            2 => json!(*self.pick(NUMBERS)),
            3 => self.chance(50).into(),
            4 if self.chance(20) => Value::Null,
            4 | 5 => text(self).into(),
            6 => (0..self.roll(4)).map(|_| self.any(depth + 1)).collect(),
            7 => (0..self.roll(3)).map(|_| self.map(depth + 1)).collect(),
            _ => self.map(depth + 1),
        }
    }

    fn map(&mut self, depth: usize) -> Value {
        let pairs = (0..self.roll(4)).map(|_| (text(self), self.any(depth)));
        Value::Object(pairs.collect())
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }
}

/// Cases for every chart below `charts`; fewer for `base`, which is large and has few values.
pub(crate) fn generate(charts: &Path, sets: usize, seed: u64) -> Result<Vec<Case>, String> {
    let mut dice = Dice::new(seed);
    let mut shapes = Vec::new();
    for chart in CHARTS {
        let path = charts.join(chart);
        let text = std::fs::read_to_string(path.join("values.yaml"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let defaults =
            helm_engine::values::parse(&text, chart).map_err(|error| error.to_string())?;
        let defaults = match defaults.get("_internal_defaults_do_not_set") {
            Some(Value::Object(inner)) => inner.clone(),
            _ => defaults,
        };
        let mut leaves = Vec::new();
        collect(&Value::Object(defaults), &mut Vec::new(), &mut leaves);
        shapes.push((path, leaves));
    }
    Ok((0..sets).map(|at| one(&mut dice, &shapes, at)).collect())
}

type Leaf = (Vec<String>, Value);

fn collect(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                collect(value, path, leaves);
                path.pop();
            }
        }
        leaf => leaves.push((path.clone(), leaf.clone())),
    }
}

fn one(dice: &mut Dice, shapes: &[(PathBuf, Vec<Leaf>)], at: usize) -> Case {
    let chart = match at % 20 {
        0 => 0,
        n => 1 + n % 4,
    };
    let (path, leaves) = &shapes[chart];
    let mut values = Map::new();
    if dice.chance(50) {
        usual(dice, CHARTS[chart], &mut values);
    }
    for _ in 0..dice.roll(8) {
        let (path, default) = dice.pick(leaves);
        let value = if dice.chance(85) {
            like(dice, default)
        } else {
            nasty(dice)
        };
        put(&mut values, path, value);
    }
    if dice.chance(20) {
        put(
            &mut values,
            &["unheard".to_owned(), "of".to_owned()],
            nasty(dice),
        );
    }
    Case {
        chart: path.clone(),
        values: Value::Object(values).to_string(),
        name: (*dice.pick(&["istiod", "istio-eastwestgateway", "x", "istio-base"])).to_owned(),
        namespace: (*dice.pick(&["istio-system", "istio-ingress", "other"])).to_owned(),
        is_upgrade: dice.chance(40),
        kube_version: (*dice.pick(&[
            "v1.36.3",
            "v1.31.2-eks-7f9249a",
            "1.29.0",
            "v1.33.4-gke.1245000",
        ]))
        .to_owned(),
    }
}

fn put(values: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            values.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            if !matches!(values.get(first), Some(Value::Object(_))) {
                values.insert(first.clone(), json!({}));
            }
            if let Some(Value::Object(inner)) = values.get_mut(first) {
                put(inner, rest, value);
            }
        }
    }
}

/// What people set: profiles, platforms, revisions, networks.
fn usual(dice: &mut Dice, chart: &str, values: &mut Map<String, Value>) {
    let mut set = |path: &str, value: Value| {
        put(
            values,
            &path.split('.').map(str::to_owned).collect::<Vec<_>>(),
            value,
        )
    };
    let choices = |dice: &mut Dice, all: &[&str]| Value::from(*dice.pick(all));
    if dice.chance(40) {
        set(
            "profile",
            choices(
                dice,
                &[
                    "default",
                    "ambient",
                    "demo",
                    "minimal",
                    "openshift",
                    "preview",
                    "remote",
                    "stable",
                    "empty",
                ],
            ),
        );
    }
    if dice.chance(30) {
        set(
            "global.platform",
            choices(
                dice,
                &["gke", "k3d", "k3s", "microk8s", "minikube", "openshift", ""],
            ),
        );
    }
    if dice.chance(15) {
        set("platform", choices(dice, &["gke", "openshift"]));
    }
    if dice.chance(20) {
        set(
            "compatibilityVersion",
            choices(dice, &["1.28", "1.29", "1.30", "1.27", "1.24", "9.9"]),
        );
    }
    if dice.chance(30) {
        set(
            "revision",
            choices(dice, &["canary", "1-31-0", "default", ""]),
        );
    }
    if dice.chance(40) {
        set(
            "global.network",
            choices(dice, &["network1", "yes", "10", "n"]),
        );
        set("global.meshID", choices(dice, &["mesh1", "on"]));
        set(
            "global.multiCluster.clusterName",
            choices(dice, &["eks-1", "1e3", "null"]),
        );
    }
    if dice.chance(30) {
        set(
            "meshConfig.defaultConfig.proxyMetadata",
            json!({"ISTIO_META_DNS_CAPTURE": "true", "PROXY_CONFIG_XDS_AGENT": "true", "n": 1}),
        );
        set(
            "meshConfig.trustDomain",
            choices(dice, &["cluster.local", "td1", "yes"]),
        );
        set(
            "pilot.env",
            json!({"ISTIO_MULTIROOT_MESH": "true", "NUM": 5, "FLAG": true, "NONE": null}),
        );
    }
    if chart == "gateway" && dice.chance(60) {
        set("networkGateway", choices(dice, &["network1", "network2"]));
        set(
            "service.annotations",
            json!({"service.beta.kubernetes.io/aws-load-balancer-type": "external", "a": dice.pick(&["yes", "1", "x: y", "# c"])}),
        );
        set(
            "service.ports",
            json!([{"name": "tls", "port": 15443, "targetPort": 15443}]),
        );
        set("labels", json!({"istio": "eastwestgateway", "n": "1"}));
    }
    if dice.chance(20) {
        set(
            "resources",
            json!({"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": 1}}),
        );
        set(
            "tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "b", "value": "no"}]),
        );
    }
    if dice.chance(15) {
        set(
            "autoscaling",
            json!({"enabled": dice.chance(50), "minReplicas": 2, "maxReplicas": 10}),
        );
    }
}

/// A value of the same kind as the default.
fn like(dice: &mut Dice, default: &Value) -> Value {
    match default {
        Value::Bool(_) => dice.chance(50).into(),
        Value::Number(_) => json!(*dice.pick(NUMBERS)),
        Value::String(_) => text(dice).into(),
        Value::Array(_) => match dice.roll(4) {
            0 => json!([]),
            1 => json!([text(dice), text(dice)]),
            2 => json!([{"name": text(dice), "value": text(dice)}]),
            _ => json!([{"key": "k", "operator": "Exists", "n": 1.5}]),
        },
        Value::Object(_) => match dice.roll(4) {
            0 => json!({}),
            1 => json!({text(dice): text(dice)}),
            2 => json!({"a10": text(dice), "a9": 1, "b": {"c": [text(dice), null]}, "A": true}),
            _ => json!({"limits": {"cpu": "1"}, "requests": {"memory": text(dice)}}),
        },
        Value::Null => match dice.roll(3) {
            0 => Value::Null,
            1 => text(dice).into(),
            _ => json!({"k": text(dice)}),
        },
    }
}

fn nasty(dice: &mut Dice) -> Value {
    match dice.roll(7) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(dice.roll(2_000_000)),
        4 => dice.chance(50).into(),
        5 => json!([null, {"a": null}, [1, "x"]]),
        _ => text(dice).into(),
    }
}

fn text(dice: &mut Dice) -> String {
    let long = "a long line of words that goes on and on until it has to be folded somewhere near the eightieth column, and then some";
    let all = [
        "",
        "x",
        "istiod",
        "registry.example/istio",
        "1.31.0",
        "yes",
        "No",
        "on",
        "null",
        "~",
        "1e3",
        "0x1f",
        "010",
        "1_000",
        "1:30",
        ".5",
        "-",
        "--- x",
        "2001-12-14",
        "true",
        "<no value>",
        "a: b",
        "# c",
        "x #y",
        "'q'",
        "\"dq\"",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a`",
        " lead",
        "trail ",
        "tab\there",
        "two\nlines",
        "two\nlines\n",
        "\nlead",
        "é",
        "日本語",
        "😀",
        "\u{85}x",
        "\u{feff}x",
        "a\\b",
        "<html>&",
        "{{ .Values.x }}",
        "a,b",
        "-1",
        "+1",
        "12e03",
        "0.1",
        "=",
        "<<",
        "?",
        ": x",
        "x:",
        "a\r\nb",
        "\u{7f}",
        long,
    ];
    (*dice.pick(&all)).to_owned()
}
