"""The mesh's root is changed under traffic, with a new TLS connection for every request and no retries: none may fail.

Rates and seconds can be changed by the environment
(MESHLINK_ROTATE_RATE, MESHLINK_ROTATE_SECONDS); 100 a second each way for 100 seconds are 20,000 requests.
"""
import base64
import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from meshlab import proc
from meshlab.shell import run as do

from .kit import (BOTH, ONE, SAMPLE, SYSTEM, TWO, app, apply, attempt, both, eventually, get, rollout)
from .leave import journal, keys
from .mesh import sample
from .meshlink import HOME, afresh, environment, meshlink, program, run
from .reliability import KILLED, start
from .runner import FULL, scenario, turn

RATE = int(os.environ.get("MESHLINK_ROTATE_RATE", "50"))
SECONDS = int(os.environ.get("MESHLINK_ROTATE_SECONDS", "100" if FULL else "60"))
# One and a half times the syncFrequency of the lab's kubelets.
ANEW = ("rotate", "root", "--projected-within", "15s", "--yes")
ROTATE = (*ANEW, "--timeout", "300s")
ABORT = ("rotate", "root", "--abort", "--yes", "--timeout", "300s")
PHASES = {"distribute-root": "distributed", "switch-issuer": "switched", "retire-root": "retired"}


def peers(cluster, clusters=BOTH):
    return [c for c in clusters if c != cluster]


def host(peer):
    """The Service whose only servers are in that cluster."""
    return f"hello-{peer.name}.{SAMPLE}.svc.cluster.local"


def every_request_shakes_hands(cluster, clusters=BOTH):
    """No connection is used twice, and nothing is asked again."""
    for peer in peers(cluster, clusters):
        rule = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": {"name": f"one-request-each-{peer.name}", "namespace": SAMPLE},
                "spec": {"host": host(peer),
                         "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}}}
        once = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": f"no-retries-{peer.name}", "namespace": SAMPLE},
                "spec": {"hosts": [host(peer)], "http": [{"retries": {"attempts": 0},
                                                          "route": [{"destination": {"host": host(peer)}}]}]}}
        apply(cluster, rule, once)


def claims(clusters=BOTH):
    return {get(c, "configmap", "meshlink-root", "-n", SYSTEM)["data"]["root"] for c in clusters}


def roots(cluster):
    """How many roots istiod reads, and how many it publishes."""
    secret = get(cluster, "secret", "cacerts", "-n", SYSTEM)["data"]["root-cert.pem"]
    published = get(cluster, "configmap", "istio-ca-root-cert", "-n", SAMPLE)["data"]["root-cert.pem"]
    count = re.compile("BEGIN CERTIFICATE").findall
    return len(count(base64.b64decode(secret).decode())), len(count(published))


def is_over(clusters=BOTH):
    """One root, the same everywhere; nothing is left of a change."""
    (root,) = claims(clusters)
    for cluster in clusters:
        assert roots(cluster) == (1, 1), f"{cluster.name}: {roots(cluster)}"
        assert not get(cluster, "configmap", "meshlink-root-next", "-n", SYSTEM), cluster.name
    return root


class Load:
    """Requests from each to each as long as something else is done, so many a second from each cluster. `ask` is how the
    client is run there."""
    def __init__(self, seconds=SECONDS, rate=RATE, clusters=BOTH, ask=app):
        self.pool = ThreadPoolExecutor(len(clusters) * (len(clusters) - 1))
        self.end = time.monotonic() + seconds
        each = max(1, rate // (len(clusters) - 1))
        self.running = [(c, peer, self.pool.submit(ask, c, "load", f"http://{host(peer)}:5000/", each, seconds,
                                                   seconds=seconds + 60))
                        for c in clusters for peer in peers(c, clusters)]

    def __enter__(self):
        time.sleep(2)  # traffic before the first change
        return self

    def __exit__(self, kind, *_):
        over = time.monotonic() - self.end
        self.pool.shutdown(wait=True)
        assert kind or over < 0, f"requests ended {over:.0f} s before what they were to be sent beside"

    def failed(self):
        """How many were sent, and those that the peer did not answer."""
        lines = [(c, peer, line) for c, peer, load in self.running for line in load.result().splitlines()]
        bad = [f"{c.name}: {line}" for c, peer, line in lines if f" 200 Hello version: {peer.name}," not in line]
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


def ready_for_traffic(cluster, clusters=BOTH):
    apply(cluster, *sample(cluster, clusters))
    rollout(cluster, SAMPLE, "sleep", "helloworld")
    every_request_shakes_hands(cluster, clusters)
    for peer in peers(cluster, clusters):
        eventually(f"answers of {peer.name}", lambda peer=peer: crosses(cluster, peer), 60)


def crosses(cluster, peer):
    line = app(cluster, "get", "-t", 5, f"http://{host(peer)}:5000/", check=False)
    return line.startswith(f"200 Hello version: {peer.name},")


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


def running(clusters=BOTH):
    """The pods of users, of istiod and of the gateways, by uid."""
    return {p["metadata"]["uid"] for c in clusters for space in (SAMPLE, SYSTEM, "istio-ingress")
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


# A place in each phase that a change can be given up in: announced, in one member, in all, and so on until all sign anew.
GIVEN_UP = (f"distribute-root/{ONE.name}:before", f"distribute-root/{ONE.name}:written",
            f"switch-issuer/{ONE.name}:before", f"switch-issuer/{TWO.name}:written", f"retire-root/{ONE.name}:before")


@scenario("a-root-takes-the-place-of-another-and-no-request-is-lost", seldom=True)
def given_up_in_each_phase_it_goes_back_and_no_request_is_lost():
    """All of them under --full, else one by the commit."""
    old, sent, took = is_over(), 0, []
    places = GIVEN_UP if FULL else [GIVEN_UP[turn() % len(GIVEN_UP)]]
    for place in places:
        with Load(seconds=60) as load:
            killed(place)
            begun = time.monotonic()
            run(*ABORT, seconds=320)
            took.append(f"{place.partition('/')[0]} {place.partition(':')[2]} {time.monotonic() - begun:.0f} s")
        sent += load.nothing_failed()
        assert is_over() == old, place
    return f"{sent} requests, none failed; back from {', '.join(took)}"


@scenario("a-root-takes-the-place-of-another-and-no-request-is-lost", seldom=True)
def another_copy_of_the_vault_goes_on():
    """Killed midway on one machine; somebody else has a copy of the vault and the mesh file, and nothing of the run."""
    old, elsewhere = is_over(), HOME / "another"
    with Load(seconds=SECONDS) as load:
        killed(f"switch-issuer/{ONE.name}:written")
        vault = Path(".local") / "share" / "meshlink"
        shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.copytree(HOME / vault, elsewhere / vault)
        file = elsewhere / "mesh.yaml"
        file.write_text(json.dumps({"clusters": [{"name": c.name, "find": c.name} for c in BOTH]}))
        run(*ROTATE, "-f", file, seconds=320, HOME=elsewhere)
    sent = load.nothing_failed()
    new = is_over()
    assert new != old
    # Whoever began it has the keys too: nothing is left to do, and nothing is refused.
    assert "nothing to do" in meshlink("plan")
    return f"{sent} requests, none failed; gone on with by another"


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
