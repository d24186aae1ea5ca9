//! A kubeconfig that cannot be used is named, with what is wrong in it; of AWS nobody hears who did not ask.

use std::fs;

use insta::assert_snapshot;

use crate::kit::Session;

const GOOD: &str = "apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: 'https://127.0.0.1:1'}
users:
- name: u
  user: {token: canary}
contexts:
- name: prod
  context: {cluster: c, user: u}
- name: test
  context: {cluster: c, user: u}
";

/// What a command says with this as kubeconfig.
fn with(text: &[u8], args: &str) -> String {
    let session = Session::new();
    fs::write(session.here().join("kc"), text).unwrap();
    let answer = session.run(&format!("{args} --kubeconfig kc"));
    assert!(!answer.stderr.contains("canary"), "{answer}");
    assert!(!answer.stderr.contains("AWS"), "{answer}");
    answer.ends(2).stderr
}

#[test]
fn what_is_wrong_with_a_file() {
    let broken = GOOD.replace("users:", "users: [");
    let tabs = GOOD.replace("  user:", "\tuser:");
    let twice = GOOD.replace("name: test", "name: prod");
    let cases = [
        ("YAML", broken.as_bytes()),
        ("tabs", tabs.as_bytes()),
        ("empty", b"\n"),
        ("binary", b"\x7fELF\xff\x00"),
        ("another kind", b"kind: Secret\napiVersion: v1\n"),
        ("a list", b"- a\n- b\n"),
        ("twice", twice.as_bytes()),
    ];
    let said = cases.map(|(what, text)| format!("{what}: {}", with(text, "plan eks-1 eks-2")));
    assert_snapshot!(said.concat(), @r#"
    YAML: error: cannot use the kubeconfig kc: line 7, column 1: not valid YAML, or not
           what a kubeconfig has there
    tabs: error: cannot use the kubeconfig kc: line 8 is indented with a tab: YAML takes
           spaces only
    empty: error: cannot use the kubeconfig kc: it is empty
    binary: error: cannot use the kubeconfig kc: it is not text
    another kind: error: cannot use the kubeconfig kc: its kind is Secret, not Config
    a list: error: cannot use the kubeconfig kc: line 1, column 1: not valid YAML, or not
           what a kubeconfig has there
    twice: error: cannot use the kubeconfig kc: lines 10 and 12 both define context "prod"
    "#);
}

#[test]
fn what_is_wrong_with_a_context() {
    let no_cluster = GOOD.replace(
        "context: {cluster: c, user: u}\n- name: test",
        "context: {user: u}\n- name: test",
    );
    let unknown = GOOD.replacen("{cluster: c, user: u}", "{cluster: d, user: u}", 1);
    let nobody = GOOD.replacen("{cluster: c, user: u}", "{cluster: c, user: v}", 1);
    let cases = [no_cluster, unknown, nobody];
    let said = cases.map(|text| with(text.as_bytes(), "status prod"));
    assert_snapshot!(said.concat(), @r#"
    error: cannot use the kubeconfig kc: line 11, column 13 (in context "prod"): not
           valid YAML, or not what a kubeconfig has there
    error: cluster prod: context "prod" (kc:10): its cluster "d" is not in the
           kubeconfig
    error: cluster prod: context "prod" (kc:10): its user "v" is not in the
           kubeconfig
    "#);
}

#[test]
fn a_name_that_is_no_context() {
    assert_snapshot!(with(GOOD.as_bytes(), "join eks-1 eks-2 --yes"), @r#"
    error: no context "eks-1" in kc
    error: no context "eks-2" in kc
      hint: kc has the contexts prod, test
    "#);
}

#[test]
fn a_file_that_is_not_there_or_is_a_folder() {
    let session = Session::new();
    let answer = session.run("join eks-1 eks-2 --kubeconfig nope");
    assert_snapshot!(answer, @"
    exit 2
    --- stderr ---
    error: there is no kubeconfig nope
      hint: name another file with --kubeconfig FILE or in KUBECONFIG
    ");
    let answer = session.run("join eks-1 eks-2 --kubeconfig .");
    assert_snapshot!(answer, @"
    exit 2
    --- stderr ---
    error: cannot use the kubeconfig .: it is a folder, not a file
    ");
    let answer = session.run("status eks-1");
    assert_snapshot!(answer, @"
    exit 2
    --- stderr ---
    error: there is no kubeconfig [ROOT]/home/.kube/config
      hint: name another file with --kubeconfig FILE or in KUBECONFIG
    ");
}

#[test]
fn who_speaks_of_aws_hears_of_it() {
    let session = Session::new().file("kc", GOOD).var("AWS_PROFILE", "nobody");
    let answer = session.run("status eks-1 --kubeconfig kc");
    answer.says("AWS region").ends(1);
}
