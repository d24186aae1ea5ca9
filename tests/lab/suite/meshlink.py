"""meshlink itself on real clusters: one command joins them by their EKS names and proves it.

AWS is the emulator in the lab's cloud; the clusters, their API servers' view of a token, istiod, Envoy and the packets
are real. By contexts and a file it is the guide that joins, in guide.py.
"""
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from meshlab import aws, cloud, config, proc, up
from meshlab.shell import lock

from .kit import BOTH, attempt, helm, istioctl, kubectl, start_afresh
from .runner import Skip, required, scenario

PROJECT = config.LAB.parent
HOME = Path(tempfile.mkdtemp(prefix="meshlink-lab-home-"))
NAMES = [c.name for c in BOTH]
PACE = 0.02  # a fiftieth of what AWS takes: a new load balancer resolves after 2.4 s, a target counts after 2.8 s
# What a cluster may hold of its own accord, before and after.
KINDS = "namespaces,crds,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations"
ELECTION = "control-plane.alpha.kubernetes.io/leader"
inventory = {}


def program():
    """The command under test: named by the environment, or built from this tree."""
    if named := os.environ.get("MESHLINK_BIN"):
        return named
    built = subprocess.run(["cargo", "build", "--locked", "--quiet", "--features", "crashpoints"], cwd=PROJECT, capture_output=True, text=True)
    if built.returncode:
        if required():
            raise AssertionError(f"meshlink does not build: {built.stderr[-600:]}")
        raise Skip("meshlink does not build here; name one by MESHLINK_BIN")
    target = os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")
    return Path(target) / "debug" / "meshlink"


def environment(**changes):
    """All that is set for a user of the lab: AWS, where charts come from, and what Istio needs here. No kubeconfig."""
    values = config.LAB / "values"
    return {"HOME": HOME, "MESHLINK_CHARTS": config.CHARTS_URL, "MESHLINK_ISTIO_VERSION": config.ISTIO_VERSION,
            "MESHLINK_ISTIOD_VALUES": values / "istiod.yaml", "MESHLINK_GATEWAY_VALUES": values / "gateway.yaml", **aws.environment(), **changes}


def run(*words, expect=0, seconds=240, **changes):
    """Run it as the operator with that environment: what it printed, and what it said beside."""
    settings = [f"{name}={value}" for name, value in environment(**changes).items()]
    command = ["env", "-u", "KUBECONFIG", *settings, program(), *words]
    return ended(attempt(*command, seconds=seconds), expect, words)


def ended(done, expect, words):
    """What it printed, and what it said beside, if it ended as expected."""
    assert done.returncode == expect, \
        f"meshlink {' '.join(map(str, words))} ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-900:]}"
    return done.stdout, done.stderr


def meshlink(*words, expect=0, seconds=240):
    """Run it on both clusters, unless some are named; all that it says, if it ends as expected."""
    names = [] if set(words) & set(NAMES) else NAMES
    printed, said = run(*words, *names, expect=expect, seconds=seconds)
    return said + printed


def requests(cluster, since=0):
    """What the API server logged of the user that AWS vouches for."""
    log = cluster.dir / "log" / "audit.jsonl"
    lines = map(json.loads, log.read_text().splitlines() if log.exists() else [])
    return [line for line in lines if line["user"]["username"] == config.AWS_ARN][since:]


def afresh():
    """Empty clusters, and an AWS where things take their time."""
    start_afresh()
    if not aws.is_up():
        with lock():
            up.reset()
    if not aws.is_up():
        if required():
            raise AssertionError(aws.NONE)
        raise Skip(aws.NONE)
    cloud.settings(pace=PACE)


def held(cluster):
    """The names of everything cluster-wide that a cluster holds."""
    return set(kubectl(cluster, "get", KINDS, "-o", "name").split())


@scenario()
def one_command_joins_two_clusters_and_proves_it():
    """By names alone: no kubeconfig, no program of AWS."""
    program()
    afresh()
    assert not shutil.which("aws", path=f"{config.CACHE / 'bin'}:{proc.PATH}"), "an aws CLI that might have helped"
    for cluster in BOTH:
        inventory[cluster] = held(cluster)
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    counts = [len(requests(c)) for c in BOTH]
    assert all(counts), f"requests as {config.AWS_ARN}: {counts}"
    done = next(line for line in said.splitlines() if line.startswith("done:"))
    return f"{done}; {counts[0]} and {counts[1]} requests as {config.AWS_ARN}"


@scenario("one-command-joins-two-clusters-and-proves-it")
def a_second_join_changes_nothing():
    before = {c.name: versions(c) for c in BOTH}
    asked = {c: len(requests(c)) for c in BOTH}
    said = meshlink("join", "--yes")
    assert "nothing to do" in said, said[-600:]
    wrote = [line for c in BOTH for line in requests(c, asked[c])
             if line["verb"] not in ("get", "list", "watch") and "selfsubject" not in line["requestURI"]]
    assert not wrote, [f"{line['verb']} {line['requestURI']}" for line in wrote][:5]
    after = {c.name: versions(c) for c in BOTH}
    moved = [f"{name} {key}" for name in after for key in after[name] if after[name][key] != before[name].get(key)]
    assert not moved, f"versions moved: {moved}"
    return "nothing to do; nothing written; the same resource versions"


def versions(cluster):
    """The versions of what a join makes."""
    kinds = "secrets,configmaps,services,deployments,serviceaccounts,roles,rolebindings,gateways.networking.istio.io"
    items = json.loads(kubectl(cluster, "get", kinds, "-n", "istio-system", "-o", "json"))["items"]
    items += json.loads(kubectl(cluster, "get", kinds, "-n", "istio-ingress", "-o", "json"))["items"]
    # istiod holds its elections in ConfigMaps and renews them all the time: they are known by their annotation.
    return {(i["kind"], i["metadata"]["namespace"], i["metadata"]["name"]): i["metadata"].get("generation", 0)
            or i["metadata"]["resourceVersion"] for i in items
            if ELECTION not in i["metadata"].get("annotations", {})}


@scenario("one-command-joins-two-clusters-and-proves-it")
def helm_and_istioctl_see_what_they_know():
    for cluster in BOTH:
        releases = json.loads(helm(cluster, "list", "-A", "-o", "json"))
        found = {r["name"]: r["status"] for r in releases}
        assert found == {n: "deployed" for n in ("istio-base", "istiod", "istio-eastwestgateway")}, found
        remote = istioctl(cluster, "remote-clusters")
        assert remote.count("synced") == 2, remote
    return "three releases deployed, both clusters synced, in each"
