"""Years of a mesh in ten minutes: whatever ends is renewed again and again, under traffic.

Tokens are replaced by their age, which may be a minute. Intermediates live for two days at least, so they are renewed for
another reason: the mesh file asks for another kind of key each time. MESHLINK_YEAR_SECONDS says how long it takes.
"""
import base64
import json
import os
import re
import time

from .kit import BOTH, SYSTEM, both, eventually, get, istiod_log, kubectl, now, other
from .meshlink import HOME, NAMES, afresh, program, run
from .rotate import Load, ready_for_traffic
from .runner import FULL, scenario

SECONDS = int(os.environ.get("MESHLINK_YEAR_SECONDS", "600" if FULL else "200"))
RATE = int(os.environ.get("MESHLINK_YEAR_RATE", "50"))
FILE = HOME / "year.yaml"
KEYS = ("P-384", "P-256")


def signer(cluster):
    """The intermediate that istiod signs with."""
    return get(cluster, "secret", "cacerts", "-n", SYSTEM)["data"]["ca-cert.pem"]


def entry(cluster):
    """What a cluster reads its peer with."""
    peer = other(cluster).name
    return get(cluster, "secret", "-n", SYSTEM, f"istio-remote-secret-{peer}")["data"][peer]


def ask_for(key):
    FILE.write_text(json.dumps({"clusters": [{"name": name, "find": name} for name in NAMES],
                                "trust": {"key": key}, "readers": {"maxAge": "1m"}}))


def a_mesh_with_traffic():
    program()
    afresh()
    ask_for(KEYS[-1])
    run("join", "-f", FILE, "--yes", "--timeout", "240s", seconds=300)
    both(ready_for_traffic)


@scenario(seldom=True)
def a_year_in_ten_minutes():
    a_mesh_with_traffic()
    signers, entries = ({c.name: {read(c)} for c in BOTH} for read in (signer, entry))
    with Load(seconds=SECONDS, rate=RATE) as load:
        end = time.monotonic() + SECONDS - 20
        runs = 0
        while time.monotonic() < end:
            ask_for(KEYS[runs % 2])
            run("renew", "-f", FILE, "--yes", "--timeout", "120s", seconds=150)
            runs += 1
            for cluster in BOTH:
                signers[cluster.name].add(signer(cluster))
                entries[cluster.name].add(entry(cluster))
            # As long as a token lives, and not more often than somebody's CronJob runs.
            time.sleep(20)
    sent = load.nothing_failed()
    fewest = min(len(all) - 1 for kind in (signers, entries) for all in kind.values())
    wanted = 5 if SECONDS >= 600 else 1
    assert fewest >= wanted, {"intermediates": {k: len(v) - 1 for k, v in signers.items()},
                              "tokens": {k: len(v) - 1 for k, v in entries.items()}}
    run("ca", "status", "-f", FILE)
    return f"{sent} requests, none failed; {runs} runs renewed each intermediate and token {fewest} times or more"


def memory(cluster):
    """Heap in use, in MiB, and goroutines, as istiod says of itself."""
    pod = get(cluster, "pods", "-n", SYSTEM, "-l", "app=istiod")["items"][0]["metadata"]["name"]
    text = kubectl(cluster, "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:15014/proxy/metrics")
    value = {name: float(re.search(rf"^{name} (\S+)", text, re.M).group(1))
             for name in ("go_memstats_heap_inuse_bytes", "go_goroutines")}
    return value["go_memstats_heap_inuse_bytes"] / 2**20, int(value["go_goroutines"])


def replaced(cluster, since):
    """How often istiod has replaced what it reads its peer by."""
    return istiod_log(cluster, since).count("replacing registry")


@scenario("a-year-in-ten-minutes", seldom=True)
def fifty_renewals_and_what_istiod_keeps_of_them():
    """The remote secret is written anew fifty times, each time in other bytes that mean the same."""
    before = {c.name: memory(c) for c in BOTH}
    since = now()

    def renew(cluster):
        peer = other(cluster).name
        plain = base64.b64decode(entry(cluster)).decode().rstrip("\n")
        for n in range(50):
            data = base64.b64encode(f"{plain}\n# renewal {n}\n".encode()).decode()
            kubectl(cluster, "patch", "secret", "-n", SYSTEM, f"istio-remote-secret-{peer}", "--type=merge", "-p",
                    json.dumps({"data": {peer: data}}))
            eventually("istiod is synced again", lambda: replaced(cluster, since) > n, 30, 0.1)
    both(renew)
    after = {c.name: memory(c) for c in BOTH}
    grown = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    return ", ".join(f"{name}: {heap:+.0f} MiB of heap, {routines:+d} goroutines after 50 renewals"
                     for name, (heap, routines) in grown.items())

