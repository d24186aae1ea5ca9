//! What the command says before it does anything.

use std::{fs, process::Stdio};

use insta::assert_snapshot;

use crate::kit::Session;

#[test]
fn help_fits_80_columns() {
    let session = Session::new();
    let commands = [
        "",
        "join",
        "leave",
        "renew",
        "plan",
        "plan renew",
        "status",
        "verify",
        "doctor",
        "workloads",
        "workloads inject",
        "workloads restart",
        "plan workloads restart",
        "ca",
        "ca init",
        "ca status",
        "ca csr",
        "ca import",
        "ca protect",
        "sandbox",
        "completions",
        "render",
        "chart",
        "chart template",
        "chart values",
        "chart images",
        "chart pull",
        "chart lock",
    ];
    for command in commands {
        for flag in ["-h", "--help"] {
            let answer = session.run(&format!("{command} {flag}"));
            assert_eq!(answer.code, Some(0), "{command}");
            for line in answer.stdout.lines() {
                assert!(line.chars().count() <= 80, "{command} {flag}: {line}");
            }
        }
    }
}

#[test]
fn the_first_page() {
    assert_snapshot!(Session::new().run("-h"), @"
    exit 0
    --- stdout ---
    Join Kubernetes clusters on different networks into one Istio mesh, and prove
    that it works

    Usage: meshlink [OPTIONS] <COMMAND>

    Commands:
      join         Join clusters into one mesh and prove it; run it again after
                   anything went wrong
      adopt        Make clusters that have an Istio already fit to join, with no
                   request lost
      leave        Remove clusters from the mesh
      renew        Renew what ends: intermediates, tokens and API server CAs, with
                   no request lost
      upgrade      Move the mesh to another version of Istio, one member after the
                   other
      plan         Show what a join or a leave would change, and change nothing
      status       Show the state of every cluster, and of every pair of clusters
      verify       Prove that each cluster reaches the others
      doctor       Find the cause of what is wrong, and say what to do about it
      workloads    Show each pod's proxy, or why it has none, and what must restart
      bundle       Write all that is known into one archive, without secrets
      sample       Install, call and remove sample apps in the members
      wait         Wait until something outside the clusters is ready, as a
                   readiness gate
      render       Write the whole mesh as files, for GitOps
      chart        Show, download and pin charts, without Helm
      aws          Print what meshlink needs on AWS
      terraform    Answer Terraform's external data source: JSON in, JSON out
      ca           Create or show the mesh's certificate authority
      rotate       Change what the mesh trusts, with no request lost
      sandbox      Run embedded clusters to try things, until interrupted
      completions  Print the completion script of a shell
      man          Write the manual pages
      schema       Print the JSON schema of an output
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Output:
      -o, --output <FORMAT>  Format of the result on standard output [default:
                             table] [possible values: table, json, yaml]
      -v, --verbose...       -v evidence, -vv API requests, -vvv debug
      -q, --quiet            Print the result only
          --color <WHEN>     Whether to use colours [default: auto] [possible
                             values: auto, always, never]

    Try it without a cluster: meshlink join eks-1 eks-2 --sandbox
    ");
}

#[test]
fn what_is_typed_wrongly_is_a_usage_error() {
    let session = Session::new();
    for args in [
        "",
        "jion",
        "join",
        "join a",
        "leave",
        "leave a --crds",
        "join a b --timeout soon",
        "join a b --mesh Shop",
        "join a b -q -v",
        "join a b -o xml",
        "sandbox --clusters 0",
        "schema nothing",
    ] {
        let answer = session.run(args);
        assert_eq!(answer.code, Some(2), "{args}: {answer}");
        assert!(
            answer.stdout.is_empty() && !answer.stderr.is_empty(),
            "{args}: {answer}"
        );
    }
    assert_snapshot!(session.run("join a"), @"
    exit 2
    --- stderr ---
    error: a mesh needs at least two clusters, and only a was named
    ");
    assert_snapshot!(session.run("join a b --timeout soon"), @"
    exit 2
    --- stderr ---
    error: invalid value 'soon' for '--timeout <TIME>': write it like 15m or 1h30m

    For more information, try '--help'.
    ");
}

#[test]
fn the_version_names_the_commit() {
    assert_snapshot!(Session::new().run("--version"), @"
    exit 0
    --- stdout ---
    meshlink 0.1.0 ([COMMIT])
    ");
}

#[test]
fn a_failure_is_json_for_a_program_too() {
    let answer = Session::new().run("schema nothing -o json");
    let value: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(value["schema_version"], 1);
    assert_eq!(value["exit_code"], 2);
    assert_eq!(value["failure"]["kind"], "usage");
    assert!(
        value["failure"]["errors"][0]["causes"][0]
            .as_str()
            .unwrap()
            .contains("nothing")
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let session = Session::new();
    let mut command = session.command("schema report");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_manual_lists_the_variables_of_our_own() {
    let session = Session::new();
    assert_eq!(session.run("man --out man").code, Some(0));
    let page = fs::read_to_string(session.here().join("man/meshlink.1")).unwrap();
    let section = page.split(".SH ENVIRONMENT").nth(1).unwrap();
    let section = section.split(".SH").next().unwrap();
    assert!(section.contains("\\fBMESHLINK_DNS\\fR\n"), "{section}");
    assert!(section.contains("as \\-\\-offline\n"), "{section}");
}

#[test]
fn the_manual_documents_every_exit_code() {
    let session = Session::new();
    assert_eq!(session.run("man --out man").code, Some(0));
    let page = fs::read_to_string(session.here().join("man/meshlink.1")).unwrap();
    let section = page.split(".SH \"EXIT STATUS\"").nth(1).unwrap();
    let lines = section
        .lines()
        .filter(|line| *line != ".TP" && !line.is_empty());
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    \fB0\fR
    done, and proved where the command proves
    \fB1\fR
    failed, or the question was answered with no
    \fB2\fR
    usage error
    \fB3\fR
    the mesh file is not valid
    \fB4\fR
    not ready in time; running again is safe
    \fB5\fR
    refused, to protect something that is not ours
    \fB6\fR
    partly done; the clusters that are not are named
    \fB7\fR
    status, ca status, doctor, workloads: something that was looked at is not well
    \fB8\fR
    another run is changing the mesh; --wait-lock waits for it
    \fB10\fR
    plan: something would change
    \fB130\fR
    interrupted; running again is safe
    "#);
    for name in [
        "join",
        "leave",
        "plan",
        "status",
        "verify",
        "ca",
        "ca-init",
        "ca-status",
        "sandbox",
        "completions",
        "render",
        "chart-template",
        "chart-lock",
    ] {
        assert!(
            session
                .here()
                .join(format!("man/meshlink-{name}.1"))
                .exists(),
            "{name}"
        );
    }
}

#[test]
fn shells_complete_commands_and_cluster_names() {
    let kubeconfig = "contexts:\n- name: shop-a\n- name: arn:aws:eks:eu-west-1:123456789012:cluster/shop-b\n- name: other\n";
    let session = Session::new()
        .file("config", kubeconfig)
        .var("KUBECONFIG", "config");
    for shell in ["bash", "zsh", "fish"] {
        let answer = session.run(&format!("completions {shell}"));
        assert!(answer.stdout.contains("MESHLINK_COMPLETE"), "{answer}");
    }
    let session = session.var("MESHLINK_COMPLETE", "fish");
    assert_snapshot!(session.run("-- meshlink jo"), @"
    exit 0
    --- stdout ---
    join	Join clusters into one mesh and prove it; run it again after anything went wrong
    ");
    assert_snapshot!(session.run("-- meshlink join shop-a sho"), @"
    exit 0
    --- stdout ---
    shop-a
    shop-b
    ");
}

#[test]
fn what_programs_read_has_a_schema() {
    let session = Session::new();
    for name in session.run("schema").stdout.lines() {
        let answer = session.run(&format!("schema {name}"));
        let schema: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert!(schema["properties"].is_object(), "{name}: {schema}");
        // The mesh file's is a snapshot of its own room.
        if name != "mesh" {
            assert_snapshot!(name, answer.stdout);
        }
    }
}
