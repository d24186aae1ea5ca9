"""What a machine must have for the lab, and how to get what it lacks."""
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

from . import aws, build, cgroups, config

_SYS_ADMIN, _NET_ADMIN = 21, 12


def problems():
    """(what is lacking, how to get it); empty when the lab can run here once it is built."""
    return [(what, remedy) for fine, what, remedy in _checks() if not fine]


def _checks():
    yield platform.system() == "Linux" and platform.machine() == "x86_64", \
        f"{platform.system()} {platform.machine()}", "the lab runs on Linux x86_64 only"
    yield os.geteuid() == 0, "not root", "run as root, or with sudo"
    yield _capable(_SYS_ADMIN) and _capable(_NET_ADMIN), "no CAP_SYS_ADMIN or CAP_NET_ADMIN", \
        "in a container: give it both, or run on a virtual machine"
    yield _filesystem("overlay"), "no overlayfs in the kernel", "modprobe overlay"
    yield _namespaces(), "network and mount namespaces cannot be made", \
        "needs a kernel and a sandbox that allow unshare(2)"
    yield _groups(), "no control group can be made", "mount /sys/fs/cgroup writable"
    yield _nat(), "nftables cannot do NAT here", "modprobe nf_tables nft_chain_nat nft_masq; apt-get install nftables"
    yield not _hidden(), f"the cache {config.CACHE} is under /run or /var, which nodes do not see", \
        "set MESHLINK_LAB_CACHE to another folder"
    yield _memory() >= 6, f"{_memory()} GiB of memory", "6 GiB for two clusters, 8 for three"
    yield _disk() >= 12 or not build_missing(), f"{_disk()} GiB free for {config.CACHE}", "12 GiB for a cold build"
    yield _has_go(), "no Go toolchain", "install Go 1.26 or later from go.dev/dl, or put it in PATH"
    yield importlib.util.find_spec("pip") is not None, "no pip for this Python", "apt-get install python3-pip"
    packages = build.missing_packages()
    yield not packages or bool(shutil.which("apt-get")), f"no {', '.join(packages)}", \
        "install these (by their Debian names); `lab/lab build` does where there is apt-get"


def notes():
    """What is worth knowing and stops nothing."""
    if packages := build.missing_packages():
        yield f"`lab/lab build` will install: {' '.join(packages)}"
    if missing := build_missing():
        yield f"not built yet: {', '.join(missing)} (about 15 minutes for all, on two cores)"
    if not aws.program():
        yield f"no program to play AWS with: `{' '.join(aws.BUILD)}`, or name one by SANDBOX_AWS_BIN (the lab comes up without)"
    if not _capable(24):
        yield "no CAP_SYS_RESOURCE: container memory scores are left as they are"
    if not cgroups.unified():
        yield "control groups of version 1: the kubelet is told to accept them"


def build_missing():
    try:
        return build.Built().missing()
    except Exception:
        return ["everything"]


def _has_go():
    try:
        return bool(build.go())
    except Exception:
        return False


def _capable(bit):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def _filesystem(name):
    known = Path("/proc/filesystems").read_text().split()
    return name in known or subprocess.run(["modprobe", name], capture_output=True).returncode == 0


def _namespaces():
    return subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode == 0


def _groups():
    trial = [h / f"{config.CGROUP}-trial" for h in cgroups.hierarchies()]
    try:
        for group in trial:
            group.mkdir()
        return bool(trial)
    except OSError:
        return False
    finally:
        for group in trial:
            if group.is_dir():
                group.rmdir()


def _nat():
    if not build.program("nft"):
        return True  # not known yet: `build` installs it, and the next look tells
    rules = "table ip trial { chain c { type nat hook postrouting priority srcnat; ct status dnat masquerade; }; }"
    return subprocess.run(["unshare", "--net", "nft", "-f", "-"], input=rules, text=True,
                          capture_output=True).returncode == 0


def _hidden():
    return any(config.CACHE.is_relative_to(folder) for folder in ("/run", "/var"))


def _memory():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _disk():
    folder = next(p for p in (config.CACHE, *config.CACHE.parents) if p.is_dir())
    return round(shutil.disk_usage(folder).free / 2**30)
