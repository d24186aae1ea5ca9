"""Control groups: where pods live, and how every process of the lab is found again.

Each program the lab starts is put into a group of ours before it runs, so its children
(container shims, most of all) are ours too, whatever becomes of their parents.
"""
import os
import signal
import time
from pathlib import Path

from . import config
from .shell import LabError


def _mounts(kind):
    with open("/proc/self/mounts") as mounts:
        return [Path(line.split()[1]) for line in mounts if line.split()[2] == kind]


def hierarchies():
    """Every mounted hierarchy, of version 1 and 2."""
    return _mounts("cgroup") + _mounts("cgroup2")


def unified():
    """True where version 2 is the only one."""
    return not _mounts("cgroup")


def _tracking():
    """The one hierarchy in which services are found again."""
    found = [h for h in hierarchies() if h.name == "pids"] or hierarchies()
    if not found:
        raise LabError("no control group hierarchy is mounted")
    return found[0]


def services(member):
    """The group that a member's programs run in."""
    group = _tracking() / config.CGROUP / "services" / member
    group.mkdir(parents=True, exist_ok=True)
    return group / "cgroup.procs"


def prepare_node(cluster):
    """The group that this cluster's kubelet takes as its root, in every hierarchy."""
    for hierarchy in hierarchies():
        parent = hierarchy
        for group in (hierarchy / config.CGROUP, hierarchy / config.CGROUP / cluster.name):
            if unified():
                _enable_controllers(parent)
            group.mkdir(exist_ok=True)
            if hierarchy.name == "cpuset":
                # version 1: a new cpuset is empty and nothing can run in it
                for knob in ("cpuset.cpus", "cpuset.mems"):
                    (group / knob).write_text((parent / knob).read_text())
            parent = group
        if unified():
            _enable_controllers(parent)


def _enable_controllers(group):
    for controller in (group / "cgroup.controllers").read_text().split():
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            pass  # not every controller can be handed down; the kubelet says which it misses


def members():
    """The ids of all processes in the lab's groups."""
    found = set()
    for hierarchy in hierarchies():
        for group, _, _ in os.walk(hierarchy / config.CGROUP):
            try:
                found.update(int(p) for p in (Path(group) / "cgroup.procs").read_text().split())
            except OSError:
                pass
    return found


def kill_all(seconds=20):
    """End every process in the lab's groups, and wait until they are gone."""
    deadline = time.monotonic() + seconds
    while pids := members():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            raise LabError(f"processes outlive SIGKILL: {sorted(pids)}")
        time.sleep(0.05)


def remove(seconds=10):
    """Take the groups away; the kernel may need a moment after the last process."""
    deadline = time.monotonic() + seconds
    for hierarchy in hierarchies():
        top = hierarchy / config.CGROUP
        while top.is_dir():
            for group, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(group)
                except OSError as error:
                    last = error
            if top.is_dir() and time.monotonic() > deadline:
                raise LabError(f"cannot remove {top}: {last}")
            if top.is_dir():
                time.sleep(0.05)
