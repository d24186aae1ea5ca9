//! Two embedded clusters become one mesh, and part again.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::kit::{Session, repository, until};

#[test]
fn the_first_command_of_the_readme_does_what_it_says() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let command = readme
        .lines()
        .find_map(|line| line.strip_prefix("cargo run -- "))
        .unwrap();
    let answer = Session::new().run(&format!("{command} -q"));
    assert_snapshot!(answer, @"
    exit 0
    --- stdout ---
    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1   eks-2
    eks-1      -       proved
    eks-2      proved  -

    2 of 2 pairs proved

    done: 37 steps in [TIME]
    journal: [ROOT]/home/.local/state/meshlink-sandbox/mesh/journal.jsonl
    next: meshlink sandbox
    ");
    let promised = readme
        .split("```text\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    assert!(
        answer.stdout.contains(promised),
        "the README shows something else"
    );
}

#[test]
fn what_is_done_is_said_step_by_step() {
    let answer = Session::new().run("join eks-1 eks-2 --sandbox");
    assert_eq!(answer.code, Some(0), "{answer}");
    for step in [
        "create-root",
        "install-istiod/eks-1",
        "share-secret/eks-1/eks-2",
        "prove/eks-2/eks-1",
        "stop-probe/eks-2",
    ] {
        let line = answer
            .stderr
            .lines()
            .find(|line| line.contains(&format!(" done   {step} ")));
        assert!(
            line.is_some_and(|line| line.starts_with('[')),
            "{step}: {answer}"
        );
    }
    assert!(!answer.stderr.contains('\x1b') && !answer.stdout.contains('\x1b'));
}

#[test]
fn a_mesh_from_nothing_to_nothing() {
    let session = Session::new();
    let running = session.sandbox("--clusters 2");
    let plan = session.run("plan eks-1 eks-2 --sandbox");
    assert_eq!(plan.code, Some(10), "{plan}");

    let join = session.run("join eks-1 eks-2 --sandbox -o json");
    assert_eq!(join.code, Some(0), "{join}");
    let report: Value = serde_json::from_str(&join.stdout).unwrap();
    assert_eq!(report["environment"], "embedded");
    assert_eq!(report["outcome"], "done");

    assert_snapshot!(session.run("join eks-1 eks-2 --sandbox"), @"
    exit 0
    --- stdout ---
    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1            eks-2
    eks-1      -                proved just now
    eks-2      proved just now  -

    2 of 2 pairs proved

    nothing to do: everything is as it should be
    next: meshlink verify --traffic --sandbox
    ");
    assert_snapshot!(session.run("plan eks-1 eks-2 --sandbox"), @"
    exit 0
    --- stdout ---
    nothing to do: everything is as it should be
    ");
    assert_snapshot!(session.run("status --sandbox"), @"
    exit 0
    --- stdout ---
    CLUSTER  ROOT  NETWORK  ISTIOD  GATEWAY
    eks-1    ok    ok       ok      ok
    eks-2    ok    ok       ok      ok

    FROM / TO  eks-1            eks-2
    eks-1      -                proved just now
    eks-2      proved just now  -

    2 of 2 pairs proved
    ");
    // How wide its columns are follows from how long the answers took.
    let verified = session.run("verify --traffic --sandbox -q").ends(0);
    for line in [
        "eks-1      -       proved",
        "eks-2      proved  -",
        "2 of 2 pairs proved",
    ] {
        assert!(
            verified.stdout.lines().any(|l| l == line),
            "{line}: {verified}"
        );
    }
    let verified = verified.says("TRAFFIC HTTP GRPC TCP HEADLESS ADDRESSES");
    assert_eq!(verified.stdout.matches("2 of 2\n").count(), 2, "{verified}");

    let leave = session.run("leave eks-2 --uninstall --crds --sandbox");
    assert_eq!(leave.code, Some(0), "{leave}");
    let again = session.run("plan eks-1 eks-2 --sandbox");
    assert_eq!(again.code, Some(10), "{again}");
    let rejoin = session.run("join eks-1 eks-2 --sandbox -q");
    assert_eq!(rejoin.code, Some(0), "{rejoin}");
    running.interrupt();
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn an_interrupted_join_goes_on_where_it_was() {
    let session = Session::new();
    let _running = session.sandbox("--clusters 2 --timeline real");
    let join = session.start("join eks-1 eks-2 --sandbox");
    let journal = session
        .home()
        .join(".local/state/meshlink-sandbox/mesh/journal.jsonl");
    // Far enough in to have changed something, and far from the end: load balancers take minutes.
    until(|| {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines()
            .any(|line| line.contains("step-finished") && line.contains("create-root"))
    });
    join.interrupt();
    let answer = join.end();
    assert_eq!(answer.code, Some(130), "{answer}");
    assert!(answer.stdout.contains("interrupted: "), "{answer}");
    let plan = session.run("plan eks-1 eks-2 --sandbox -o json");
    assert_eq!(plan.code, Some(10), "{plan}");
    assert!(
        !plan.stdout.contains("create-root"),
        "what is done is not done again: {plan}"
    );
}

#[test]
fn no_key_or_token_is_ever_printed_or_journalled() {
    let session = Session::new();
    let _running = session.sandbox("--clusters 2");
    let join = session.run("join eks-1 eks-2 --sandbox -vvv");
    assert_eq!(join.code, Some(0), "{join}");
    let state = session.home().join(".local/state/meshlink-sandbox/mesh");
    let journal = fs::read_to_string(state.join("journal.jsonl")).unwrap();
    let plan = session.run("plan eks-1 eks-2 --sandbox -o json -vvv");
    let told = [join.stdout, join.stderr, plan.stdout, plan.stderr, journal].concat();

    let vault = session.home().join(".local/share/meshlink-sandbox/mesh");
    let canaries = secrets(&vault);
    assert!(
        canaries.len() >= 3,
        "a root's and two intermediates' keys: {canaries:?}"
    );
    for (file, line) in canaries {
        assert!(!told.contains(&line), "{file} was told");
    }
    assert!(!told.contains("PRIVATE KEY"));
}

/// The lines of every private key below a folder.
fn secrets(folder: &std::path::Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => secrets(&path),
            false => {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let body = text
                    .split_once("PRIVATE KEY-----\n")
                    .map(|(_, body)| body.to_owned());
                let line = body.and_then(|body| body.lines().next().map(str::to_owned));
                line.map(|line| (path.display().to_string(), line))
                    .into_iter()
                    .collect()
            }
        })
        .collect()
}
