"""The doctor on real clusters: nothing is found in a mesh that is well, and what is broken by kubectl is named, with a
command that mends it as it is printed.

It goes by a mesh that the command under test has joined: `tests/lab/run doctor`.
"""
import json
import shlex

from .kit import BOTH, GATEWAY, INGRESS, ONE, SYSTEM, TWO, apply, attempt, eventually, kubectl
from .meshlink import afresh, environment, meshlink, program, run
from .runner import scenario

# What is known against the lab's own Istio, which is the first of its minor version.
KNOWN = "version-fault"
JOINED = "a-mesh-that-is-well-has-no-cause-of-trouble"


def diagnosis(expect=None, *words):
    """What was found, by its path; every check could look at both clusters."""
    code = {True: 7, False: 0}.get(expect, expect)
    settings = [f"{name}={value}" for name, value in environment().items()]
    done = attempt("env", *settings, program(), "doctor", "-o", "json", *words, seconds=120)
    said = json.loads(done.stdout)
    assert not said["not_looked_at"], said["not_looked_at"]
    assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout[-600:]}"
    path = lambda f: "/".join(filter(None, (f["check"], f["cluster"], f.get("peer"))))
    return {path(f): f["fix"] for f in said["findings"] if f["check"] != KNOWN}


def finds(*want, seconds=60):
    """Until exactly these are found; a cause is there at once, and istiod may need a while to show it."""
    last = {}

    def is_so():
        last.clear()
        last.update(diagnosis())
        return set(last) == set(want)
    try:
        eventually(f"found {sorted(want) or 'nothing'}", is_so, seconds)
    except Exception:
        raise AssertionError(f"found {sorted(last)}, not {sorted(want)}") from None
    return dict(last)


def as_printed(fix):
    """Run a command as it stands there, without what is said behind it; a join as nobody is there who could agree."""
    words = shlex.split(fix.partition("   #")[0])
    if words[0] == "meshlink":
        run(*words[1:], *(["--yes"] if words[1] in ("join", "renew") else []))
        return
    done = attempt(*words)
    assert done.returncode == 0, f"{fix}: {done.stderr[-400:]}"


def named_and_mended(*want):
    """Every cause is named with a command, the commands mend it, and nothing is left."""
    found = finds(*want)
    for fix in dict.fromkeys(found.values()):
        as_printed(fix)
    finds()
    return f"{len(want)} named, mended by {len(set(found.values()))} commands as printed"


@scenario(seldom=True)
def a_mesh_that_is_well_has_no_cause_of_trouble():
    """Before a join, and after it."""
    afresh()
    assert diagnosis(None, "--before-join", *(c.name for c in BOTH)) == {}
    meshlink("join", "--yes", "--timeout", "180s")
    finds()
    made = json.loads(run("doctor", "-o", "json")[0])["checks"]
    return f"{len(made)} checks, nothing found"


@scenario(JOINED, seldom=True)
def closed_gateways_are_named_and_opened_as_printed():
    """Fault 4 of the measured ones, and two of its kind: each looks healthy to istiod."""
    kubectl(ONE, "delete", "gateways.networking.istio.io", "cross-network-gateway", "-n", INGRESS)
    kubectl(TWO, "patch", "gateways.networking.istio.io", "cross-network-gateway", "-n", INGRESS, "--type=merge",
            "-p", json.dumps({"spec": {"selector": {"istio": "other"}}}))
    return named_and_mended(f"gateway-closed/{ONE.name}", f"gateway-selector/{TWO.name}")


@scenario(JOINED, seldom=True)
def one_network_for_two_is_named_and_mended_as_printed():
    """Fault 1."""
    own = json.loads(kubectl(ONE, "get", "ns", SYSTEM, "-o", "json"))["metadata"]["labels"]
    label = "topology.istio.io/network"
    kubectl(TWO, "label", "ns", SYSTEM, f"{label}={own[label]}", "--overwrite")
    return named_and_mended(f"same-network/{TWO.name}/{ONE.name}")


@scenario(JOINED, seldom=True)
def remote_secrets_that_do_not_open_are_named_and_mended_as_printed():
    """Faults 5 and 8: one that is gone, and one whose token is not accepted any more."""
    kubectl(ONE, "delete", "secret", f"istio-remote-secret-{TWO.name}", "-n", SYSTEM)
    kubectl(ONE, "delete", "secret", f"meshlink-reader-{TWO.name}-token", "-n", SYSTEM)
    return named_and_mended(f"remote-secret-missing/{ONE.name}/{TWO.name}", f"token-refused/{TWO.name}/{ONE.name}")


@scenario(JOINED, seldom=True)
def rules_in_the_way_are_named():
    """Policies that close what the mesh needs: each is named; what nobody but their owner can mend is taken back here."""
    netpol = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
              "metadata": {"name": "closed", "namespace": INGRESS}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    nobody = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
              "metadata": {"name": "nobody", "namespace": INGRESS}, "spec": {}}
    plain = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
             "metadata": {"name": "default", "namespace": SYSTEM}, "spec": {"mtls": {"mode": "DISABLE"}}}
    apply(ONE, netpol, plain)
    apply(TWO, nobody)
    try:
        want = (f"policy-closes-gateway/{ONE.name}", f"mtls-disabled/{ONE.name}", f"gateway-denied/{TWO.name}")
        found = finds(*want)
        assert all(fix.startswith("kubectl ") and f"--context {c.name}" in fix
                   for path, fix in found.items() for c in BOTH if path.endswith(c.name)), found
    finally:
        kubectl(ONE, "delete", "networkpolicy", "closed", "-n", INGRESS)
        kubectl(ONE, "delete", "peerauthentication", "default", "-n", SYSTEM)
        kubectl(TWO, "delete", "authorizationpolicy", "nobody", "-n", INGRESS)
    finds()
    return f"{len(want)} named"


@scenario(JOINED, seldom=True)
def a_gateway_that_sends_nowhere_is_named_and_mended_as_printed():
    ports = [{"name": "tls", "port": 15443, "targetPort": 8443}]
    kubectl(TWO, "patch", "svc", GATEWAY, "-n", INGRESS, "--type=merge", "-p", json.dumps({"spec": {"ports": ports}}))
    return named_and_mended(f"gateway-port/{TWO.name}")
