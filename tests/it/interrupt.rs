//! Ctrl-C and SIGTERM end a command at any moment, and nothing it has started is left behind.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use crate::kit::{Session, World, may_be_missing, until};

/// Within this a command ends that changes nothing.
const SOON: Duration = Duration::from_millis(1500);

/// A kubeconfig whose contexts lead to one server, and whose user is whoever a script says.
fn kubeconfig(session: &Session, server: &str, script: Option<&str>) {
    let user = match script {
        Some(script) => {
            let plugin = session.here().join("plugin");
            fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
            let version = "client.authentication.k8s.io/v1";
            json!({"exec": {"apiVersion": version, "command": plugin, "interactiveMode": "Never"}})
        }
        None => json!({}),
    };
    let contexts = ["a", "b"].map(|n| json!({"name": n, "context": {"cluster": "c", "user": "u"}}));
    let clusters = [json!({"name": "c", "cluster": {"server": server}})];
    let users = [json!({"name": "u", "user": user})];
    let config = json!({"apiVersion": "v1", "kind": "Config", "clusters": clusters,
        "contexts": contexts, "users": users});
    fs::write(session.here().join("config"), config.to_string()).unwrap();
}

fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    (listener, server)
}

#[test]
fn a_command_that_reads_ends_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        // One of its own for each: connections of an earlier run would be taken for those of this one.
        let (listener, server) = silent();
        let session = Session::new();
        kubeconfig(&session, &server, None);
        let running = session.start("status a b --kubeconfig config");
        // It is being waited for.
        let _connection = listener.accept().unwrap();
        let begun = Instant::now();
        running.signal(signal);
        running.end().ends(130);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
}

/// What a plugin has written of the child it waits for.
fn child(session: &Session) -> PathBuf {
    let file = session.here().join("child");
    until(|| fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')));
    let pid = fs::read_to_string(file).unwrap();
    PathBuf::from(format!("/proc/{}/stat", pid.trim()))
}

fn gone(process: &PathBuf) -> bool {
    fs::read_to_string(process).map_or(true, |stat| stat.contains(") Z"))
}

const HANGS: &str = "sleep 1000 & echo $! >child; wait";

#[test]
fn a_plugin_that_hangs_ends_with_the_command() {
    let (_listener, server) = silent();
    let session = Session::new();
    kubeconfig(&session, &server, Some(HANGS));
    let running = session.start("status a b --kubeconfig config");
    let process = child(&session);
    assert!(!gone(&process));
    let begun = Instant::now();
    running.signal(Signal::TERM);
    running.end().ends(130);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until(|| gone(&process));
}

#[test]
fn a_plugin_that_hangs_has_no_longer_than_the_command() {
    let (_listener, server) = silent();
    let session = Session::new();
    kubeconfig(&session, &server, Some(HANGS));
    let begun = Instant::now();
    let answer = session.run("status a b --kubeconfig config --timeout 2s");
    answer.ends(1).says("did not end within 2 s");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let process = child(&session);
    until(|| gone(&process));
    // Terraform's hook has a limit of its own, and leaves as little behind.
    fs::remove_file(session.here().join("child")).unwrap();
    let query = r#"{"clusters":"a b","kubeconfig":"config","timeout":"1s"}"#;
    let meshlink = env!("CARGO_BIN_EXE_meshlink");
    let hook = session.shell(&format!("echo '{query}' | {meshlink} terraform"));
    assert!(hook.code.is_some(), "{hook}");
    let process = child(&session);
    until(|| gone(&process));
}

#[test]
fn a_question_can_be_left_unanswered() {
    let python = Command::new("python3").args(["-c", "import pty"]).output();
    if !python.is_ok_and(|o| o.status.success()) {
        return may_be_missing("python3");
    }
    let world = World::joined(2);
    let (meshlink, config) = (
        env!("CARGO_BIN_EXE_meshlink"),
        &world.endpoints().kubeconfig,
    );
    let charts = &world.endpoints().charts;
    let args = format!(
        "verify eks-1 eks-2 --traffic --kubeconfig {} --charts {charts}",
        config.display()
    );
    for ends in ["\\x03", "SIGTERM"] {
        let script = format!(
            "exec python3 -c '
import os, pty, signal, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execv(\"{meshlink}\", [\"meshlink\"] + \"{args}\".split())
said = b\"\"
while b\"[y/N]\" not in said:
    said += os.read(fd, 65536)
begun = time.time()
if \"{ends}\" == \"SIGTERM\":
    os.kill(pid, signal.SIGTERM)
else:
    os.write(fd, bytes([3]))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, time.time() - begun < 1.5)'"
        );
        world.user.shell(&script).ends(0).says("130 True");
    }
    let probe = world.find("eks-1", "/api/v1/namespaces/meshlink-probe");
    assert_eq!(probe, None);
}

#[test]
fn the_memory_of_a_command_is_its_own() {
    let session = Session::new();
    let (listener, server) = silent();
    kubeconfig(&session, &server, None);
    let running = session.start("status a b --kubeconfig config");
    let _connection = listener.accept().unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.pid())).unwrap();
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .unwrap();
    let numbers: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
}
