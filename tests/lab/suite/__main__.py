"""`tests/lab/run`: all files of scenarios, in order."""
import sys

from meshlab import config
from meshlab.doctor import problems

from . import kit
from .runner import required, suite
# The order of these names is the order of the run.
from . import clusters, mesh, remote, tokens, faults, meshlink, istioctl, traffic, eks, guide, charts, leave  # noqa: F401
from . import (ownership, adopt, readers, reliability, replicas, rotate, renew, naive, year, authorities, three,  # noqa: F401
               doctor, workloads, bundle)


def main(words):
    if words == ["--list"]:
        for s in suite.scenarios:
            print(f"{s.file}: {s.name}")
        return 0
    if reason := why_not():
        print(f"skip the suite: {len(suite.chosen(words))} scenarios skipped: {reason}")
        return 1 if required() else 0
    kit.start_afresh()
    suite.describe = kit.describe
    return suite.run(words)


def why_not():
    if found := problems():
        return "; ".join(what for what, _ in found)
    if len(config.clusters_up()) < 2:
        return "two clusters must be up: lab/lab up"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
