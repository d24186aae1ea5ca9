//! Embedded clusters in the foreground.

use insta::assert_snapshot;

use crate::kit::Session;

#[test]
fn it_says_what_to_try_and_ends_when_told() {
    let session = Session::new();
    let running = session.sandbox("--clusters 3");
    let second = session.run("sandbox");
    assert_eq!(second.code, Some(1), "{second}");
    assert!(second.stderr.contains("already running"), "{second}");
    running.interrupt();
    assert_snapshot!(running.end(), @"
    exit 0
    --- stdout ---
    3 embedded clusters run in this process, until you press Ctrl-C.

      export KUBECONFIG=[ROOT]/home/.local/state/meshlink-sandbox/kubeconfig

    Try, in another terminal:

      meshlink join eks-1 eks-2 eks-3 --sandbox
      meshlink status --sandbox
      kubectl --context eks-1 get pods -A
      meshlink leave eks-3 --uninstall --crds --sandbox
    --- stderr ---
    finishing the current steps; press Ctrl-C again to stop at once
    The embedded clusters are gone.
    ");
}

#[test]
fn a_mesh_file_that_is_not_valid_is_exit_3_before_anything_is_raised() {
    let session = Session::new().file("mesh.yaml", "clusters:\n- nmae: a\n- name: B\n");
    assert_snapshot!(session.run("plan -f mesh.yaml"), @r#"
    exit 3
    --- stderr ---
    error: mesh.yaml:2:3: clusters[0]: has no name: write "name: …"
    error: mesh.yaml:2:3: clusters[0].nmae: unknown key: did you mean name?
    error: mesh.yaml:3:9: clusters[1].name: cluster name "B" may hold only
           lower-case letters, digits and '-'
    "#);
}

#[test]
fn a_root_that_was_made_before_the_mesh_can_be_looked_at() {
    let session = Session::new();
    session
        .run("ca status")
        .ends(2)
        .says("no mesh mesh is recorded on this machine")
        .says("hint: meshlink join eks-1 eks-2 --sandbox");
    session.run("ca init").ends(0);
    session
        .run("ca status")
        .ends(0)
        .says("Root in the vault: ")
        .says("No cluster is in the mesh yet");
}
