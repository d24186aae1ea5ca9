use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

fn read(text: &str) -> Result<Mesh, Problems> {
    Mesh::read(text, Path::new("mesh.yaml"))
}

fn named(names: &[&str]) -> Result<Mesh, Error> {
    Mesh::named(&names.iter().map(|&name| name.into()).collect::<Vec<_>>())
}

fn examples() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    yaml.map(|path| {
        (
            path.display().to_string(),
            std::fs::read_to_string(path).unwrap(),
        )
    })
    .collect()
}

#[test]
fn names_alone_make_the_mesh_that_the_smallest_file_makes() {
    let mesh = named(&["eks-1", "eks-2"]).unwrap();
    assert_eq!(
        mesh,
        read("clusters: [{name: eks-1}, {name: eks-2}]").unwrap()
    );
    assert_eq!(mesh.id.as_str(), "mesh");
    assert_eq!(mesh.gateway.namespace, "istio-ingress");
    assert_eq!(mesh.clusters[1].network.as_str(), "eks-2");
    assert_eq!(mesh.clusters[1].reach, Reach::Auto("eks-2".into()));
}

#[test]
fn names_are_derived_from_whatever_finds_a_cluster() {
    for (text, name) in [
        ("arn:aws:eks:eu-west-1:111122223333:cluster/Shop", "shop"),
        ("eu-west-1/shop", "shop"),
        ("admin@shop.eu-west-1.eksctl.io", "shop"),
        ("kubernetes-admin@Kind", "kind"),
        (
            "east=arn:aws:eks:eu-west-1:111122223333:cluster/shop",
            "east",
        ),
        ("east=user=admin", "east"),
    ] {
        let mesh = named(&[text]).unwrap();
        assert_eq!(mesh.clusters[0].name.as_str(), name, "{text}");
        let found = text.strip_prefix("east=").unwrap_or(text);
        assert_eq!(mesh.clusters[0].reach, Reach::Auto(found.into()));
    }
}

#[test]
fn names_that_make_no_mesh_say_what_to_write() {
    for (names, want) in [
        (&[][..], "name at least one"),
        (&["my_cluster"], "NAME=my_cluster"),
        (&["east="], "NAME=east="),
        (&["shop", "eu-west-1/shop"], "would both be called shop"),
        (&["east", "east"], "east is given twice"),
        (
            &["a=east", "b=east"],
            "a and b both mean the cluster \"east\"",
        ),
    ] {
        let error = named(names).unwrap_err().to_string();
        assert!(error.contains(want), "{names:?}: {error}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = r#"mesh: Shop
trustDomain: shop_local
istoi: {}
istio:
  version: 1.3
  charts: ftp://charts
  valuesFiles: values.yaml
  values: [1]
gateway:
  exposure: internet
  hosts: ["*", "a b", web.example.com]
  sourceRanges: [0.0.0.0/0, 10.0.0.0/33]
  annotations: {a: 1}
trust:
  key: RSA-2048
  rootLifetime: 90d
  intermediateLifetime: 1y
  authority: vaults
clusters:
- name: east
  netwrok: net
- name: east
  network: net
  context: a
- name: West
  network: net
  peerServer: api.west
- name: north
  network: net
  context: a
- name: south
  eks:
    arn: arn:aws:eks:eu-west-1:111122223333:cluster/shop
    region: us-east-1
    externalId: x
- name: far
  context: far
  eks: {name: "-"}
- network: none
- 7
"#;
    insta::assert_snapshot!(read(text).unwrap_err());
}

#[test]
fn what_is_no_yaml_is_said_alone() {
    let mut said = String::new();
    for text in [
        "clusters:\n- name: [east\nmesh: Shop\n",
        "mesh: a\nmesh: b\nclusters: []\n",
        "mesh: *nowhere\n",
        "\tmesh: a\n",
        "mesh: \"a\nclusters: []\n",
        "a: .nan",
        "mesh: a\n---\nmesh: b\n",
    ] {
        let problems = read(text).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        writeln!(said, "{problems}").unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn what_is_yaml_and_no_mesh_says_so() {
    for (text, want) in [
        ("", "mesh.yaml:1:1: the mesh file is empty"),
        (
            "- a",
            "must be a mapping (\"key: value\" lines), not a list",
        ),
        ("mesh: a", "has no clusters"),
        ("clusters: []", "clusters: is empty"),
        (
            "clusters: {a: 1}",
            "clusters: must be a list (lines that begin with \"- \"), not a mapping",
        ),
        (
            "clusters: [{name: 7}]",
            "clusters[0].name: is a number: write it in quotes",
        ),
        ("clusters: [{network: a}]", "clusters[0]: has no name"),
        (
            "clusters: [{name: a}, {name: a}]",
            "clusters[1].name: the cluster a is already used",
        ),
        (
            "clusters: [{name: a}, {name: b, find: a}]",
            "one cluster cannot be two members",
        ),
        (
            "clusters: [{name: a}]\nistio: {version: v1.31.4}",
            "write three numbers",
        ),
        (
            "clusters: [{name: a}]\nistio: {namespace: mesh}",
            "\"mesh\" is not supported: write istio-system",
        ),
        (
            "clusters: [{name: a}]\nistio: {version: 1.23.9}",
            "write 1.24.0 or newer",
        ),
        (
            "clusters: [{name: a}]\ntrust: {rootLifetime: 90d}",
            "at most 90d",
        ),
        (
            "clusters: [{name: a}]\ntrust: {intermediateLifetime: 1h}",
            "write 2d or longer",
        ),
        (
            "clusters: [{name: a}]\ngateway: {exposure: internal, sourceRanges: [10.0.0.0/8]}",
            "internal gateway",
        ),
    ] {
        let problems = read(text).unwrap_err().to_string();
        assert!(problems.contains(want), "{text:?}: {problems}");
    }
    let long = format!("# {}", "x".repeat(1024 * 1024));
    assert!(read(&long).unwrap_err().to_string().contains("1 MiB"));
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        let last = format!("*a{}", n - 1);
        writeln!(bomb, "a{n}: &a{n} [{}]", [last.as_str(); 9].join(",")).unwrap();
    }
    assert!(read(&bomb).is_err());
}

#[test]
fn paths_start_from_the_folder_of_the_file() {
    let text = "clusters: [{name: a}]\nistio: {charts: charts, valuesFiles: [v.yaml, /abs.yaml]}";
    let mesh = Mesh::read(text, Path::new("there/mesh.yaml")).unwrap();
    assert_eq!(
        mesh.istio.values.files,
        [PathBuf::from("there/v.yaml"), "/abs.yaml".into()]
    );
    assert_eq!(mesh.istio.charts, "there/charts");
    assert_eq!(read(text).unwrap().istio.charts, "./charts");
}

#[test]
fn eks_clusters_know_their_arn() {
    let text = "clusters: [{eks: {arn: 'arn:aws-us-gov:eks:us-gov-west-1:111122223333:cluster/Shop_1', name: Shop_1}, name: a}]";
    let mesh = read(text).unwrap();
    let Reach::Eks(eks) = &mesh.clusters[0].reach else {
        panic!("{mesh:?}")
    };
    assert_eq!(
        (eks.name.as_str(), eks.region.as_deref()),
        ("Shop_1", Some("us-gov-west-1"))
    );
    // The same name in two accounts is two clusters.
    let text = "clusters:\n- {name: a, eks: {name: shop, profile: one}}\n- {name: b, eks: {name: shop, profile: two}}";
    assert_eq!(read(text).unwrap().clusters.len(), 2);
    let text = text.replace("two", "one");
    assert!(
        read(&text)
            .unwrap_err()
            .to_string()
            .contains("cannot be two members")
    );
}

#[test]
fn peers_are_who_is_in_a_group_together_and_hubs_are_of_all() {
    let members = "clusters: [{name: a}, {name: b}, {name: c}, {name: d}]\n";
    let linked = |peers: &str| {
        let mesh = read(&format!("{members}peers: {peers}")).unwrap();
        let all = mesh.members().into_iter();
        let pairs = all.flat_map(|from| mesh.members().into_iter().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from < to && mesh.link(from, to));
        pairs
            .map(|(from, to)| format!("{from}{to}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(linked("{all: true}"), "ab ac ad bc bd cd");
    assert_eq!(linked("{hubs: [b]}"), "ab bc bd");
    assert_eq!(linked("{groups: [[a, b], [c, d]]}"), "ab cd");
    assert_eq!(linked("{hubs: [d], groups: [[a, b]]}"), "ab ad bd cd");
    let mesh = read(&format!("{members}peers: {{hubs: [d], groups: [[a, b]]}}")).unwrap();
    let rest = mesh.without(|name| name.as_str() == "a").peers.unwrap();
    assert_eq!((rest.hubs.len(), rest.groups.len()), (1, 0));
    for (peers, said) in [
        ("{groups: [[a, b]]}", "leaves c, d without a peer"),
        ("{}", "leaves a, b, c, d without a peer"),
        ("{hubs: [e]}", "e is none of the clusters"),
        ("{hubs: [a, a]}", "a is named twice"),
        ("{hubs: [a], groups: [[b]]}", "fewer than two"),
        ("{hubs: [a], all: true}", "says all and names hubs"),
        ("{all: yes please}", "neither true nor false"),
        ("{hubs: [a], spokes: [b]}", "unknown key"),
    ] {
        let problems = read(&format!("{members}peers: {peers}")).unwrap_err();
        assert!(problems.to_string().contains(said), "{peers}: {problems}");
    }
}

#[test]
fn a_mesh_written_down_reads_the_same() {
    let mut meshes = vec![named(&["eks-1", "eu-west-1/eks-2", "x=arn:aws:eks:a:b"]).unwrap()];
    meshes.extend(examples().iter().map(|(_, text)| read(text).unwrap()));
    for mesh in meshes {
        let text = mesh.to_yaml().unwrap();
        assert_eq!(
            read(&text).unwrap_or_else(|e| panic!("{e}\n{text}")),
            mesh,
            "{text}"
        );
    }
    insta::assert_snapshot!(
        named(&["eks-1", "eu-west-1/eks-2"])
            .unwrap()
            .to_yaml()
            .unwrap()
    );
}

#[test]
fn the_schema_is_what_editors_were_told() {
    let text = serde_json::to_string_pretty(&Mesh::json_schema()).unwrap();
    insta::with_settings!({
        snapshot_path => "../../tests/schema",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!("mesh", text) });
}

#[test]
fn every_example_reads_and_fits_the_schema() {
    let examples = examples();
    assert!(examples.len() >= 3);
    for (file, text) in examples {
        Mesh::read(&text, Path::new(&file)).unwrap_or_else(|problems| panic!("{problems}"));
        let (schema, json) = (
            Mesh::json_schema(),
            tree::parse(&text).unwrap().value.to_json(),
        );
        let misfits = misfits(&schema, &schema, &json, "");
        assert!(misfits.is_empty(), "{file}: {misfits:?}");
    }
}

#[test]
fn the_full_example_holds_every_key_the_schema_knows() {
    let schema = Mesh::json_schema();
    let full = examples()
        .into_iter()
        .find(|(file, _)| file.ends_with("full.yaml"))
        .unwrap()
        .1;
    for group in [&schema]
        .into_iter()
        .chain(schema["$defs"].as_object().unwrap().values())
    {
        let keys = group.get("properties").and_then(Json::as_object);
        for key in keys.into_iter().flat_map(|keys| keys.keys()) {
            assert!(
                full.contains(&format!("{key}:")),
                "examples/full.yaml lacks {key}"
            );
        }
    }
}

/// Whoever is named is written down as it was read.
#[test]
fn authorities_read_the_same_again() {
    let schema = Mesh::json_schema();
    for authority in [
        "vault",
        "{exec: {command: [./sign, \"{cluster}\"], root: root.pem, env: [VAULT_ADDR], timeout: 5m}}",
        "{exec: {command: [sign], root: root.pem}}",
        "{existing: {certificate: c.pem, key: k.pem, chain: i.pem, root: r.pem}}",
        "{existing: {certificate: c.pem, key: k.pem}}",
        "{offline: {root: root.pem}}",
    ] {
        let text = format!("clusters: [{{name: a}}]\ntrust: {{authority: {authority}}}");
        let mesh = Mesh::read(&text, Path::new("/m/mesh.yaml")).unwrap();
        let again = Mesh::read(&mesh.to_yaml().unwrap(), Path::new("/other/mesh.yaml")).unwrap();
        assert_eq!(again, mesh, "{authority}");
        let json = tree::parse(&text).unwrap().value.to_json();
        assert_eq!(misfits(&schema, &schema, &json, ""), Vec::<String>::new());
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema = Mesh::json_schema();
    for text in [
        "{}",
        "clusters: []",
        "clusters: [{name: a, nmae: b}]",
        "clusters: [{name: 7}]",
        "clusters: [{name: a}]\ngateway: {exposure: public}",
        "clusters: [{name: a}]\ntrust: {key: P-521}",
        "clusters: [{name: a}]\ntrust: {authority: kms}",
        "clusters: [{name: a}]\ntrust: {authority: {}}",
        "clusters: [{name: a}]\ntrust: {authority: {exec: {command: [], root: r}}}",
        "clusters: [{name: a}]\ntrust: {authority: {exec: {command: sign, root: r}}}",
        "clusters: [{name: a}]\ntrust: {authority: {offline: {root: r}, existing: {certificate: c, key: k}}}",
        "clusters: [{name: a}]\ntrust: {authority: {existing: {certificate: c}}}",
        "clusters: [{name: a}]\ntrust: {rootLifetime: ten years}",
        "clusters: [{name: a}]\ngateway: {annotations: {a: 1}}",
    ] {
        assert!(read(text).is_err(), "{text}");
        let json = tree::parse(text).unwrap().value.to_json();
        assert!(!misfits(&schema, &schema, &json, "").is_empty(), "{text}");
    }
}

/// As much of JSON Schema as the schema uses; a word it does not know fails the test.
fn misfits(root: &Json, schema: &Json, json: &Json, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, want) in schema.as_object().into_iter().flatten() {
        let list = |want: &Json| {
            want.as_array()
                .cloned()
                .unwrap_or_else(|| vec![want.clone()])
        };
        let fits = match word.as_str() {
            "type" => list(want)
                .iter()
                .any(|kind| is(kind.as_str().unwrap(), json)),
            "enum" => list(want).contains(json),
            "const" => want == json,
            "anyOf" => list(want)
                .iter()
                .any(|one| misfits(root, one, json, path).is_empty()),
            "oneOf" => {
                list(want)
                    .iter()
                    .filter(|one| misfits(root, one, json, path).is_empty())
                    .count()
                    == 1
            }
            "minProperties" | "maxProperties" => {
                let most = want.as_u64().unwrap();
                json.as_object().is_none_or(|map| match word.as_str() {
                    "minProperties" => map.len() as u64 >= most,
                    _ => map.len() as u64 <= most,
                })
            }
            "minItems" => json
                .as_array()
                .is_none_or(|list| list.len() as u64 >= want.as_u64().unwrap()),
            "pattern" => {
                let pattern = regex_lite::Regex::new(want.as_str().unwrap()).unwrap();
                json.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "required" => list(want)
                .iter()
                .all(|key| json.get(key.as_str().unwrap()).is_some()),
            "$ref" => {
                let name = want.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                found.extend(misfits(root, &root["$defs"][name], json, path));
                true
            }
            "items" => {
                let members = json.as_array().into_iter().flatten();
                found.extend(members.flat_map(|one| misfits(root, want, one, path)));
                true
            }
            "properties" => {
                for (key, want) in want.as_object().unwrap() {
                    let below = json
                        .get(key)
                        .map(|one| misfits(root, want, one, &format!("{path}.{key}")));
                    found.extend(below.unwrap_or_default());
                }
                true
            }
            "additionalProperties" => {
                let known = |key: &str| {
                    schema
                        .get("properties")
                        .is_some_and(|p| p.get(key).is_some())
                };
                let rest = json
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| !known(key));
                rest.for_each(|(key, one)| match want {
                    Json::Bool(true) => {}
                    Json::Bool(false) => found.push(format!("{path}.{key} is unknown")),
                    want => found.extend(misfits(root, want, one, &format!("{path}.{key}"))),
                });
                true
            }
            "$schema" | "$defs" | "title" | "description" | "default" => true,
            other => panic!("the schema says {other}, which this test does not know"),
        };
        if !fits {
            found.push(format!("{path}: {json} is not {word} {want}"));
        }
    }
    found
}

fn is(kind: &str, json: &Json) -> bool {
    match kind {
        "null" => json.is_null(),
        "boolean" => json.is_boolean(),
        "string" => json.is_string(),
        "array" => json.is_array(),
        "object" => json.is_object(),
        other => panic!("the schema says {other}, which this test does not know"),
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z]{0,8}: ?|- |\n|  |\\[|\\]|\\{|\\}|\"|[a-zA-Z0-9/:@=.*&]{0,6}){0,30}") {
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.list.is_empty());
        }
        let _ = named(&[&text]);
    }

    #[test]
    fn names_that_are_taken_are_valid(text in ".{0,40}") {
        if let Ok(mesh) = named(&[&text]) {
            let name = mesh.clusters[0].name.to_string();
            prop_assert!(name.parse::<ClusterName>().is_ok());
            prop_assert_eq!(read(&mesh.to_yaml().unwrap()).unwrap(), mesh);
        }
    }
}
