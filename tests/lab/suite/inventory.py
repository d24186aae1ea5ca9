"""All that a lab could leave on a machine, as a set of lines, to compare before with after."""
import os
import subprocess
from pathlib import Path

from meshlab import cgroups, config, machine

# Places that Kubernetes programs write to when nobody keeps them from it.
_FOLDERS = ("/run/netns", "/run/containerd", "/run/flannel", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods",
            "/var/log/containers", "/etc/cni", "/etc/netns", "/etc/kubernetes", "/run/xtables.lock", "/run/nri",
            "/usr/libexec/kubernetes")
_SETTINGS = (*machine.SETTINGS, "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet",
             "net/bridge/bridge-nf-call-iptables", "net/netfilter/nf_conntrack_max", "net/ipv4/vs/conn_reuse_mode")


def inventory():
    found = set()
    found |= {f"namespace {line}" for line in _lines("ip", "netns", "list")}
    found |= {f"link {line.split(': ')[1]}" for line in _lines("ip", "-o", "link")}
    found |= {f"address {' '.join(line.split()[1:4])}" for line in _lines("ip", "-o", "address")}
    found |= {f"route {line.strip()}" for line in _lines("ip", "route", "show", "table", "all")}
    found |= {f"firewall {line.strip()}" for line in _lines("nft", "list", "ruleset")}
    with open("/proc/self/mounts") as mounts:
        found |= {f"mount {line.split()[1]}" for line in mounts}
    for hierarchy in cgroups.hierarchies():
        found |= {f"group {g}" for g, _, _ in os.walk(hierarchy) if config.CGROUP in g or "kubepods" in g}
    for folder in map(Path, _FOLDERS):
        if folder.exists():
            found.add(f"file {folder}")
            found |= {f"file {p}" for p in folder.rglob("*")}
    for setting in _SETTINGS:
        path = Path("/proc/sys") / setting
        if path.exists():
            found.add(f"setting {setting} = {path.read_text().strip()}")
    found.add(f"resolver {Path('/etc/resolv.conf').read_text()!r}")
    found |= _processes()
    return found


def _processes():
    """Programs on a network other than the machine's, in the lab's groups, or with the lab's files."""
    own = os.stat("/proc/self/ns/net").st_ino
    found, grouped = set(), cgroups.members()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            elsewhere = os.stat(f"/proc/{pid}/ns/net").st_ino != own
        except OSError:
            continue
        if elsewhere or int(pid) in grouped or f"{config.RUN}/" in words:
            found.add(f"process {pid} {words[:120]}")
    return found


def _lines(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


if __name__ == "__main__":
    print("\n".join(sorted(inventory())))
