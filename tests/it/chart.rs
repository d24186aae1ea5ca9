//! Charts without a cluster: rendered as Helm renders them, listed, downloaded, pinned.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use insta::assert_snapshot;

use crate::kit::Session;

/// A chart with a bit of everything: a helper, conditions, loops, a hook, a definition, comments, files that come out empty.
const MINI: [(&str, &str); 8] = [
    (
        "Chart.yaml",
        "apiVersion: v2\nname: mini\nversion: 1.2.3\nappVersion: \"7\"\n",
    ),
    (
        "values.yaml",
        "# How many.\nreplicas: 1\nimage: {hub: docker.example, tag: \"1\"}\nextra: {}\nbroken: false\n",
    ),
    (
        "crds/thing.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things.mini.example\n",
    ),
    (
        "templates/_helpers.tpl",
        "{{- define \"mini.labels\" -}}\napp: {{ .Release.Name | quote }}\nversion: {{ .Chart.Version }}\n{{- end -}}\n",
    ),
    (
        "templates/deploy.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n  namespace: {{ .Release.Namespace }}\n  labels:\n    {{- include \"mini.labels\" . | nindent 4 }}\nspec:\n  replicas: {{ .Values.replicas }}\n  template:\n    spec:\n      containers:\n        - name: app\n          image: {{ printf \"%s/app:%s\" .Values.image.hub .Values.image.tag }}\n          env: {{ toYaml .Values.extra | nindent 12 }}\n{{- if .Release.IsUpgrade }}\n# again\n{{- end }}\n",
    ),
    (
        "templates/account.yaml",
        "{{- range $i, $name := list \"b\" \"a\" }}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: {{ $name }}-{{ $i }}}\n{{- end }}\n{{- if semverCompare \">=1.30-0\" .Capabilities.KubeVersion.Version }}\n---\n# of a new cluster\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: new}\n{{- end }}\n",
    ),
    (
        "templates/hook.yaml",
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: before\n  annotations: {helm.sh/hook: pre-install}\nspec: {template: {spec: {initContainers: [{image: docker.example/before:2}]}}}\n",
    ),
    (
        "templates/broken.yaml",
        "{{- if .Values.broken }}\nkind: ConfigMap\nmetadata:\n  name: {{ .Values.image.missing.further }}\n{{- end }}\n",
    ),
];

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A user with the chart in a folder.
fn user() -> Session {
    let session = Session::new().file(
        "values.yaml",
        "extra: {z: 1, a: \"yes\", big: 1000000}\nimage: {tag: v2}\n",
    );
    write(&session.here().join("charts/mini"), &MINI);
    session
}

#[test]
fn a_chart_is_printed_as_helm_prints_it() {
    let user = user();
    let answer = user.run(
        "chart template web charts/mini -n prod -f values.yaml --set replicas=3 --set-string image.tag=5",
    );
    assert_snapshot!(answer, @r#"
    exit 0
    --- stdout ---
    ---
    # Source: mini/templates/account.yaml
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: b-0}

    ---
    # Source: mini/templates/account.yaml
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: a-1}

    ---
    # Source: mini/templates/account.yaml
    # of a new cluster
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: new}

    ---
    # Source: mini/templates/deploy.yaml
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: web
      namespace: prod
      labels:
        app: "web"
        version: 1.2.3
    spec:
      replicas: 3
      template:
        spec:
          containers:
            - name: app
              image: docker.example/app:5
              env: 
                a: "yes"
                big: 1000000
                z: 1
    ---
    # Source: mini/templates/hook.yaml
    apiVersion: batch/v1
    kind: Job
    metadata:
      name: before
      annotations: {helm.sh/hook: pre-install}
    spec: {template: {spec: {initContainers: [{image: docker.example/before:2}]}}}
    "#);
}

#[test]
fn programs_get_objects() {
    let answer = user().run("chart template web charts/mini -o json").ends(0);
    let value = answer.json();
    assert_eq!(value["chart"], "mini");
    assert_eq!(value["objects"].as_array().unwrap().len(), 4);
    assert_eq!(value["hooks"][0]["kind"], "Job");
    let values = user()
        .run("chart values charts/mini -o json")
        .ends(0)
        .json();
    assert_eq!(values["values"]["image"]["hub"], "docker.example");
}

#[test]
fn values_and_images_are_shown() {
    let user = user();
    assert_snapshot!(user.run("chart values charts/mini"), @r#"
    exit 0
    --- stdout ---
    # How many.
    replicas: 1
    image: {hub: docker.example, tag: "1"}
    extra: {}
    broken: false
    "#);
    assert_snapshot!(user.run("chart images charts/mini --set image.hub=mirror.example"), @"
    exit 0
    --- stdout ---
    docker.example/before:2
    mirror.example/app:1
    ");
}

/// Real Helm, where this machine has one.
#[expect(
    clippy::disallowed_methods,
    reason = "where a program is, is a fact of the machine"
)]
fn helm() -> Option<PathBuf> {
    let lab = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/meshlink-lab/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = lab.into_iter().chain(std::env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join("helm")).filter(|p| p.is_file()))
}

#[test]
fn real_helm_prints_the_same_bytes() {
    let Some(helm) = helm() else {
        println!("skipped: there is no helm here");
        return;
    };
    let user = user();
    for args in [
        "template web charts/mini",
        "template web charts/mini -n prod -f values.yaml",
        "template web charts/mini --set replicas=3,image.tag=v --is-upgrade",
        "template web charts/mini --set-json extra={\"a\":[1,2.5,null]} --kube-version 1.29.4",
        "template web charts/mini --include-crds --set-string image.tag=007",
        "template web charts/mini -a mini.example/v1 --set image=null",
    ] {
        let theirs = Command::new(&helm)
            .args(args.split(' '))
            .current_dir(user.here())
            .env("HOME", user.home())
            .output()
            .unwrap();
        let ours = user.run(&format!("chart {args}"));
        assert_eq!(
            ours.code == Some(0),
            theirs.status.success(),
            "{args}: {ours}"
        );
        assert_eq!(
            ours.stdout,
            String::from_utf8_lossy(&theirs.stdout),
            "{args}"
        );
    }
}

#[test]
fn a_broken_template_names_chart_file_line_column_and_value() {
    let answer = user().run("chart template web charts/mini --set broken=true");
    assert_snapshot!(answer, @"
    exit 1
    --- stderr ---
    error: chart mini: mini/templates/broken.yaml:4:12: nil pointer evaluating
           interface {}.further (value .Values.image.missing.further)
      hint: look at .Values.image.missing.further among the values given to chart
            mini
    ");
}

#[test]
fn what_cannot_be_used_is_said_with_its_exit_code() {
    let user = user();
    for (args, code, says) in [
        ("chart template web ftp://x/y", 2, "not a valid chart name"),
        (
            "chart template web nothing --repo ftp://host/x",
            2,
            "not a chart source",
        ),
        (
            "chart template web nothing --repo .",
            1,
            "has no chart nothing",
        ),
        (
            "chart template web charts/mini -f absent.yaml",
            1,
            "absent.yaml",
        ),
        ("chart template web charts/mini --set a..b=1", 1, "a..b"),
        (
            "chart values istiod --offline",
            1,
            "meshlink chart pull istiod",
        ),
        ("chart template", 2, "<NAME>"),
    ] {
        let answer = user.run(args).says(says);
        assert_eq!(answer.code, Some(code), "{args}: {answer}");
    }
}

#[test]
fn a_pulled_chart_is_the_same_chart() {
    let user = user();
    let pulled = user
        .run("chart pull charts/mini -d away -o json")
        .ends(0)
        .json();
    assert_eq!(pulled["charts"][0]["path"], "away/mini-1.2.3.tgz");
    let folder = user.run("chart template web charts/mini").ends(0);
    for from in [
        "away/mini-1.2.3.tgz",
        "mini --repo away",
        "mini --repo away --version 1.2.3",
    ] {
        let answer = user.run(&format!("chart template web {from}")).ends(0);
        assert_eq!(answer.stdout, folder.stdout);
    }
}

#[test]
fn a_locked_chart_that_changes_is_refused_until_it_is_meant() {
    let user = user();
    user.run("chart lock charts/mini").ends(0);
    let lock = user.here().join("meshlink.lock");
    let before = fs::read_to_string(&lock).unwrap();
    assert!(before.contains("docker.example/app:1") && before.contains("chart: mini"));
    user.run("chart lock charts/mini").ends(0);
    assert_eq!(before, fs::read_to_string(&lock).unwrap());
    let values = user.here().join("charts/mini/values.yaml");
    fs::write(
        &values,
        "replicas: 9\nimage: {hub: h, tag: 1}\nbroken: false\n",
    )
    .unwrap();
    let answer = user.run("chart lock charts/mini").ends(5);
    assert_snapshot!(answer, @"
    exit 5
    --- stderr ---
    error: chart mini 1.2.3 from charts/mini has sha256
           [HASH], but
           meshlink.lock holds
           [HASH]
      hint: a published version does not change: ask its publisher, or take the
            chart from where it came before
      hint: meshlink chart lock mini --version 1.2.3 --repo charts/mini --lock meshlink.lock --update   # only if the change is meant
    ");
    assert_eq!(before, fs::read_to_string(&lock).unwrap());
    user.run("chart lock charts/mini --update").ends(0);
    assert_ne!(before, fs::read_to_string(&lock).unwrap());
}

#[test]
fn hostile_archives_are_refused_before_anything_is_written() {
    let user = user();
    for (name, bytes, says) in [
        (
            "traversal",
            archive(&[("mini/../../evil", b"x", None)]),
            "..",
        ),
        (
            "link",
            archive(&[("mini/evil", b"", Some("/etc/passwd"))]),
            "link",
        ),
        (
            "bomb",
            archive(&[("mini/big", &vec![0; 120 << 20], None)]),
            "exceeds the limits",
        ),
        ("noise", b"not an archive".to_vec(), ""),
    ] {
        fs::write(user.here().join("evil.tgz"), bytes).unwrap();
        let answer = user.run("chart template web evil.tgz").ends(5).says(says);
        assert!(answer.stdout.is_empty(), "{name}: {answer}");
        user.run("chart pull evil.tgz -d out").ends(5);
        assert!(!user.here().join("out").exists(), "{name}");
        assert!(
            !user.here().parent().unwrap().join("evil").exists(),
            "{name}"
        );
    }
}

/// A gzipped tar archive whose entries are what they are, checked by nobody.
fn archive(entries: &[(&str, &[u8], Option<&str>)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let head = b"apiVersion: v2\nname: mini\nversion: 1.0.0\n".as_slice();
    for (name, bytes, link) in [("mini/Chart.yaml", head, None)].iter().chain(entries) {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if let Some(target) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}
