"""The mesh's root is changed under traffic, with a new TLS connection for every request and no retries: none may fail.

Beside it, for contrast, the change that everybody would write by hand. Rates and seconds can be raised by the environment
(MESHLINK_ROTATE_RATE, MESHLINK_ROTATE_SECONDS); 100 a second each way for 200 seconds are 40,000 requests.
"""
import base64
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from meshlab import proc
from meshlab.shell import run as do

from . import certs
from .kit import (BOTH, ONE, SAMPLE, SYSTEM, TWO, app, apply, attempt, both, eventually, get, kubectl, other, rollout)
from .leave import journal, keys
from .mesh import sample
from .meshlink import afresh, environment, meshlink, program, run
from .reliability import KILLED, start
from .runner import scenario

RATE = int(os.environ.get("MESHLINK_ROTATE_RATE", "50"))
SECONDS = int(os.environ.get("MESHLINK_ROTATE_SECONDS", "60"))
# One and a half times the syncFrequency of the lab's kubelets.
ROTATE = ("rotate", "root", "--projected-within", "15s", "--yes", "--timeout", "300s")
ABORT = ("rotate", "root", "--abort", "--yes", "--timeout", "300s")
PHASES = {"distribute-root": "distributed", "switch-issuer": "switched", "retire-root": "retired"}


def remote(cluster):
    return f"hello-{other(cluster).name}"


def every_request_shakes_hands(cluster):
    """No connection is used twice, and nothing is asked again."""
    host = f"{remote(cluster)}.{SAMPLE}.svc.cluster.local"
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "one-request-each", "namespace": SAMPLE},
            "spec": {"host": host, "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}}}
    once = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "no-retries", "namespace": SAMPLE},
            "spec": {"hosts": [host], "http": [{"retries": {"attempts": 0}, "route": [{"destination": {"host": host}}]}]}}
    apply(cluster, rule, once)


def claims():
    return {get(c, "configmap", "meshlink-root", "-n", SYSTEM)["data"]["root"] for c in BOTH}


def roots(cluster):
    """How many roots istiod reads, and how many it publishes."""
    secret = get(cluster, "secret", "cacerts", "-n", SYSTEM)["data"]["root-cert.pem"]
    published = get(cluster, "configmap", "istio-ca-root-cert", "-n", SAMPLE)["data"]["root-cert.pem"]
    count = re.compile("BEGIN CERTIFICATE").findall
    return len(count(base64.b64decode(secret).decode())), len(count(published))


def is_over():
    """One root, the same everywhere; nothing is left of a change."""
    (root,) = claims()
    for cluster in BOTH:
        assert roots(cluster) == (1, 1), f"{cluster.name}: {roots(cluster)}"
        assert not get(cluster, "configmap", "meshlink-root-next", "-n", SYSTEM), cluster.name
    return root


class Load:
    """Requests both ways as long as something else is done, and at least for so long."""
    def __init__(self, seconds=SECONDS, rate=RATE):
        self.pool = ThreadPoolExecutor()
        self.running = [(c, self.pool.submit(app, c, "load", f"http://{remote(c)}.{SAMPLE}:5000/", rate, seconds,
                                             seconds=seconds + 60)) for c in BOTH]

    def __enter__(self):
        time.sleep(2)  # traffic before the first change
        return self

    def __exit__(self, *_):
        self.pool.shutdown(wait=True)

    def failed(self):
        """How many were sent, and those that the peer did not answer."""
        lines = [(c, line) for c, load in self.running for line in load.result().splitlines()]
        bad = [f"{c.name}: {line}" for c, line in lines if f" 200 Hello version: {other(c).name}," not in line]
        return len(lines), bad

    def nothing_failed(self):
        sent, bad = self.failed()
        assert not bad, f"{len(bad)} of {sent} failed: {bad[0]}"
        return sent


def phases():
    """How long each phase of the last run took, by its journal."""
    events = journal()
    begun = max(i for i, e in enumerate(events) if e["event"] == "run-started")
    took = {}
    for event in events[begun:]:
        verb = event.get("step", "").partition("/")[0]
        if event["event"] == "step-finished" and verb in PHASES:
            took[PHASES[verb]] = max(took.get(PHASES[verb], 0), event["millis"])
    return ", ".join(f"{phase} {millis / 1000:.1f} s" for phase, millis in took.items())


@scenario(seldom=True)
def a_mesh_with_traffic_both_ways():
    program()
    afresh()
    meshlink("join", "--yes", "--timeout", "180s")

    both(ready_for_traffic)
    with Load(seconds=5) as load:
        pass
    return f"{load.nothing_failed()} requests, none failed, before anything is changed"


def ready_for_traffic(cluster):
    apply(cluster, *sample(cluster))
    rollout(cluster, SAMPLE, "sleep", "helloworld")
    every_request_shakes_hands(cluster)
    eventually("answers of the peer", lambda: crosses(cluster), 60)


def crosses(cluster):
    line = app(cluster, "get", "-t", 5, f"http://{remote(cluster)}.{SAMPLE}:5000/", check=False)
    return line.startswith(f"200 Hello version: {other(cluster).name},")


@scenario("a-mesh-with-traffic-both-ways", seldom=True)
def a_root_takes_the_place_of_another_and_no_request_is_lost():
    old, pods = is_over(), running()
    with Load() as load:
        said, _ = run(*ROTATE, seconds=320)
    sent = load.nothing_failed()
    assert is_over() != old and "2 of 2 pairs proved" in said, said[-600:]
    assert running() == pods, "something was restarted"
    assert "nothing to do" in meshlink("plan")
    return f"{sent} requests, none failed; {phases()}"


def running():
    """The pods of users, of istiod and of the gateways, by uid."""
    return {p["metadata"]["uid"] for c in BOTH for space in (SAMPLE, SYSTEM, "istio-ingress")
            for p in get(c, "pods", "-n", space)["items"]}


@scenario("a-root-takes-the-place-of-another-and-no-request-is-lost", seldom=True)
def killed_in_every_phase_it_goes_on_and_back():
    """Killed once a phase is written in one cluster and not yet in the other; forth by the next run, and once back."""
    old = is_over()
    with Load(seconds=SECONDS * 2) as load:
        for verb in PHASES:
            killed(f"{verb}/{ONE.name}:written")
            if verb == "switch-issuer":
                run(*ABORT, seconds=320)
                assert is_over() == old, "it did not go back"
                killed(f"{verb}/{TWO.name}:written")
        run(*ROTATE, seconds=320)
    sent = load.nothing_failed()
    assert is_over() != old
    return f"{sent} requests, none failed; killed 4 times, gone back once; {len(keys())} files in the vault"


def killed(place):
    words = [*ROTATE, "--to", "generate"] if not told() else ROTATE
    running = start(*words, MESHLINK_CRASH=place)
    said, _ = running.communicate(timeout=320)
    code = running.returncode
    assert (128 - code if code < 0 else code) == KILLED, f"{place}: ended with {code}: {said[-900:]}"


def told():
    return get(ONE, "configmap", "meshlink-root-next", "-n", SYSTEM)


@scenario("killed-in-every-phase-it-goes-on-and-back", seldom=True)
def a_member_out_of_reach_holds_it_and_traffic_goes_on():
    old = is_over()
    killed(f"switch-issuer/{ONE.name}:written")
    with Load() as load:
        with unreachable(TWO):
            done = attempt(*command(*ROTATE), seconds=320)
            said = " ".join((done.stdout + done.stderr).split())
            assert done.returncode == 6 and "eks-2 holds the change of root" in said, said[-900:]
            assert roots(ONE)[0] == 3, "eks-1 went on alone"
        run(*ROTATE, seconds=320)
    sent = load.nothing_failed()
    assert is_over() != old
    return f"{sent} requests, none failed, one member away for a while"


def command(*words):
    settings = [f"{name}={value}" for name, value in environment().items()]
    return ["env", "-u", "KUBECONFIG", *settings, program(), *words]


class unreachable:
    """The API server of a cluster, for the operator alone."""
    def __init__(self, cluster):
        self.address = cluster.server.split("//")[1].split(":")[0]
        self.inside = proc.in_member("operator")

    def __enter__(self):
        rules = f"""table ip away {{
          chain away {{ type filter hook output priority 0; ip daddr {self.address} tcp dport 6443 drop; }}
        }}"""
        subprocess.run([*self.inside, "nft", "-f", "-"], input=rules, text=True, check=True)

    def __exit__(self, *_):
        do(*self.inside, "nft", "delete", "table", "ip", "away")


@scenario("a-member-out-of-reach-holds-it-and-traffic-goes-on", seldom=True)
def the_change_that_everybody_would_write_by_hand_loses_requests():
    """Trust both, sign with the new one, trust the new one: three writes, some seconds between the clusters, nothing awaited.

    This is what the others are measured against. The mesh is of no use afterwards."""
    pair = by_hand()
    held = get(ONE, "secret", "cacerts", "-n", SYSTEM)["data"]["root-cert.pem"]
    old_root = base64.b64decode(held).decode()
    steps = [lambda c: {"root-cert.pem": old_root + pair["root"]},
             lambda c: {"root-cert.pem": old_root + pair["root"], **pair[c.name]},
             lambda c: {"root-cert.pem": pair["root"], **pair[c.name]}]
    with Load(seconds=90) as load:
        for step in steps:
            for cluster in BOTH:
                write(cluster, step(cluster))
                time.sleep(8)
    sent, bad = load.failed()
    assert bad, "nothing failed: the contrast shows nothing"
    return f"{len(bad)} of {sent} requests failed"


def by_hand():
    """A root, and an intermediate of it for each cluster, made by openssl for this alone."""
    certs.make_root("by-hand")
    made = {"root": certs.root_of("by-hand")}
    for cluster in BOTH:
        data = certs.cacerts("by-hand", cluster)["stringData"]
        made[cluster.name] = {k: v for k, v in data.items() if k != "root-cert.pem"}
    return made


def write(cluster, data):
    patch = {"data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}}
    kubectl(cluster, "patch", "secret", "cacerts", "-n", SYSTEM, "--type=merge", "-p", json.dumps(patch))
