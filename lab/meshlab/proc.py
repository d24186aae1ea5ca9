"""Starting the lab's programs, each in its network and group, and knowing whether they live."""
import os
import signal
import subprocess

from . import cgroups, config
from .shell import Hopeless, LabError, wait_for

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Join the group before becoming the program, so that nothing it starts is ever outside.
_JOIN = 'echo $$ > "$1" || exit 1; shift; exec "$@"'


def in_netns(netns):
    return ["nsenter", f"--net=/run/netns/{netns}", "--"]


def in_member(member):
    """Inside a member's network and its own view of the file system."""
    pid = pid_of(member, "holder")
    if pid is None:
        raise LabError(f"{member} is not up")
    return ["nsenter", "--target", str(pid), "--mount", "--net", "--"]


def start(member, name, inside, argv, cwd=None, path=(), more=None):
    folder = config.RUN / member
    for sub in ("pids", "log"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    env = {"PATH": ":".join([*map(str, path), PATH]), "HOME": str(folder), "LANG": "C.UTF-8",
           **(more or {})}
    with open(folder / "log" / f"{name}.log", "ab") as log:
        child = subprocess.Popen(
            ["sh", "-c", _JOIN, "sh", str(cgroups.services(member)), *inside, *map(str, argv)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd, start_new_session=True)
    (folder / "pids" / name).write_text(f"{child.pid} {_started(child.pid)}\n")
    return child


def _started(pid):
    """When a process began: tells it from a later one with the same id.

    One whose first thread has ended lives as long as another has not: till then it holds its ports.
    """
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return None
    return None if fields[0] == "Z" and len(threads) <= 1 else fields[19]


def pid_of(member, name):
    """The id of a running program of the lab, or None."""
    try:
        pid, began = (config.RUN / member / "pids" / name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _started(pid) == began else None


def kill(member, name):
    """End a program without a word, and see it ended."""
    if pid := pid_of(member, name):
        os.kill(pid, signal.SIGKILL)
        wait_for(f"the end of {name}", lambda: pid_of(member, name) is None, 10, 0.05)


def programs(member):
    folder = config.RUN / member / "pids"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def dead(member):
    """Programs of a member that were started and run no more."""
    return [name for name in programs(member) if pid_of(member, name) is None]


def must_live(member):
    """Stop a wait as soon as a program that it depends on has ended."""
    for name in dead(member):
        raise Hopeless(f"{name} of {member} ended: {last_words(member, name)}")


def last_words(member, name, lines=5):
    try:
        text = (config.RUN / member / "log" / f"{name}.log").read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
