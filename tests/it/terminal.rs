//! What a person sees who watches: on a terminal of 80 columns, in a pipe, without colours.

use std::process::Command;

use regex_lite::Regex;

use crate::kit::{Answer, Session, World, may_be_missing};

/// Runs a command on a terminal of its own, which Python makes; in CI it must be able to.
pub(crate) fn on_a_terminal(session: &Session, args: &str) -> Option<Answer> {
    typing(session, args, "")
}

/// The same, with somebody who types this line.
pub(crate) fn typing(session: &Session, args: &str, line: &str) -> Option<Answer> {
    let python = Command::new("python3").args(["-c", "import pty"]).output();
    if !python.is_ok_and(|o| o.status.success()) {
        may_be_missing("python3");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_meshlink");
    let script = format!(
        "exec python3 -c '
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack(\"HHHH\", 24, 80, 0, 0))
    os.execv(\"{program}\", [\"meshlink\"] + \"{args}\".split())
os.write(fd, \"{line}\".encode() + bytes([10] if \"{line}\" else []))
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))'"
    );
    Some(session.shell(&script))
}

/// What is left of an output when its colours and its movements are taken away.
fn shown(text: &str) -> Vec<String> {
    let escapes = Regex::new("\x1b\\[[0-9;?]*[a-zA-Z]").unwrap();
    let text = escapes.replace_all(text, "\n");
    let lines = text.split(['\n', '\r']).map(str::trim_end);
    lines.filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

#[track_caller]
fn fits(lines: &[String]) {
    // A word that is too long for any line stays whole: it may be copied.
    for line in lines.iter().filter(|l| l.trim().contains(' ')) {
        assert!(
            line.chars().count() <= 80,
            "{}: {line}",
            line.chars().count()
        );
    }
}

#[test]
fn who_watches_sees_moving_lines_that_fit() {
    let session = Session::new().var("TERM", "xterm-256color");
    let Some(answer) = on_a_terminal(&session, "join eks-1 eks-2 --sandbox") else {
        return;
    };
    let answer = answer.ends(0);
    let text = &answer.stdout;
    assert!(text.contains("\x1b[32m✓\x1b[0m create-root"), "{answer}");
    assert!(text.contains("\x1b[2K"), "nothing moves: {answer}");
    let lines = shown(text);
    let long: Vec<_> = lines
        .iter()
        .filter(|l| !l.starts_with("journal:"))
        .cloned()
        .collect();
    fits(&long);
    assert!(
        lines.iter().any(|l| l.contains("2 of 2 pairs proved")),
        "{answer}"
    );
}

#[test]
fn no_color_takes_the_colours_and_a_dumb_terminal_the_movement() {
    let colour = Regex::new("\x1b\\[[0-9;]*m").unwrap();
    let session = Session::new().var("TERM", "xterm").var("NO_COLOR", "1");
    let Some(answer) = on_a_terminal(&session, "join eks-1 eks-2 --sandbox") else {
        return;
    };
    assert!(!colour.is_match(&answer.stdout), "{answer}");
    let session = Session::new().var("TERM", "dumb");
    let answer = on_a_terminal(&session, "join eks-1 eks-2 --sandbox").unwrap();
    assert!(!answer.stdout.contains('\x1b'), "{answer}");
    assert!(answer.stdout.contains("2 of 2 pairs proved"), "{answer}");
}

#[test]
fn a_pipe_gets_whole_lines_that_fit_and_nothing_else() {
    let answer = Session::new().run("join eks-1 eks-2 --sandbox").ends(0);
    assert!(!answer.stderr.contains(['\x1b', '\r']), "{answer}");
    fits(&answer.stderr.lines().map(str::to_owned).collect::<Vec<_>>());
}

/// A user for whom the clusters are somebody's own: found by a kubeconfig, with charts from a folder.
fn stranger(world: &World) -> (Session, String) {
    let at = world.endpoints();
    let user = Session::new()
        .var("TERM", "dumb")
        .var("MESHLINK_CHARTS", &at.charts)
        .var("MESHLINK_DNS", &at.dns.to_string());
    (user, format!("--kubeconfig {}", at.kubeconfig.display()))
}

#[test]
fn real_clusters_are_changed_by_those_who_agree() {
    let world = World::joined(2);
    let (user, place) = stranger(&world);
    let before = world.inventory("eks-1");
    let verify = format!("verify eks-1 eks-2 --traffic {place}");
    user.run(&verify).ends(2).says("not a terminal: pass --yes");
    let Some(answer) = typing(&user, &verify, "n") else {
        return;
    };
    let answer = answer
        .ends(1)
        .says("API SERVER")
        .says("https://127.0.0.1:")
        .says("nothing was changed");
    assert!(!answer.stdout.contains("error:"), "{answer}");
    assert!(before == world.inventory("eks-1"));
    // All that is wrong for a stranger is that these members' peers use a loopback address.
    typing(&user, &verify, "y")
        .unwrap()
        .says("names a loopback server");
    let leave = format!("leave eks-2 --uninstall {place}");
    user.run(&leave).ends(2).says(&format!(
        "hint: meshlink plan leave eks-2 --uninstall {place}"
    ));
    let before = world.inventory("eks-2");
    let answer = typing(&user, &leave, "yes").unwrap().ends(1);
    answer
        .says("Type the name of the mesh, mesh, to continue")
        .says("nothing was changed");
    assert!(before == world.inventory("eks-2"));
    typing(&user, &leave, "mesh").unwrap().ends(0);
}
