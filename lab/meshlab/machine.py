"""What the kubelet changes in the kernel for everybody: noted before the first cluster, put back by `down`."""
import json
from pathlib import Path

from . import config

# The kubelet sets these to its own liking, whatever its configuration says.
SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
            "kernel/keys/root_maxbytes")


def path(setting):
    return Path("/proc/sys") / setting


def note():
    """Write down what the machine has now, before any node runs."""
    found = {setting: path(setting).read_text().strip() for setting in SETTINGS if path(setting).exists()}
    (config.RUN / "machine.json").write_text(json.dumps(found))


def put_back():
    """Set again what was noted; a lab that was never begun has noted nothing."""
    try:
        found = json.loads((config.RUN / "machine.json").read_text())
    except FileNotFoundError:
        return
    for setting, value in found.items():
        if path(setting).read_text().strip() != value:
            path(setting).write_text(f"{value}\n")
