"""How a broken mesh looks, fault by fault: what is green all the same, and the cheapest look that tells.

The sixth fault, a balancer name that does not resolve, is shown in remote.py: the mesh is born with it.
"""
import json
import re

from meshlab import proc
from meshlab.shell import LabError, run, side_by_side

from . import certs
from .kit import (BOTH, GATEWAY, INGRESS, ONE, SAMPLE, SYSTEM, TWO, apply, ask, both, endpoints, eventually,
                  get, istiod_log, kubectl, now, other, pod_endpoints, remote_status, restart, settled, shown)
from .mesh import cross_network, network, tried_from_outside
from .remote import SECRET, crosses, remote_service, sees_by_gateway, share_secret
from .runner import scenario
from .tokens import secret, token

WORKS = "a-secret-removed-takes-the-endpoints-along"


def answer(cluster, timeout=5):
    return ask(cluster, remote_service(cluster), timeout=timeout)[0]


def refused(cluster):
    """The words of a failed connection, once five requests in a row fail so; old connections may serve a while."""
    lines = ask(cluster, remote_service(cluster), count=5)
    words = "503 upstream connect error or disconnect/reset before headers"
    return lines[0] if all(line.startswith(words) and "remote connection failure" in line for line in lines) else ""


def brief(line):
    return f"{line[:3]} {line.rpartition('reason: ')[2]}"


def as_before(*clusters, seconds=30):
    """The end of each fault: the mesh works as it did, so that the next one is seen alone."""
    for cluster in clusters or BOTH:
        eventually(f"{cluster.name} sees its peer by gateway", lambda c=cluster: sees_by_gateway(c), seconds)
        eventually(f"{cluster.name} crosses", lambda c=cluster: crosses(c), seconds)


def put_servers_on(cluster, name):
    """Give a cluster's servers a network by label, or with None the one that injection gives them."""
    labels = {"metadata": {"labels": {"topology.istio.io/network": name}}}
    kubectl(cluster, "patch", "deploy", "helloworld", "-n", SAMPLE, "--type=merge",
            "-p", json.dumps({"spec": {"template": labels}}))
    settled(cluster, SAMPLE, "helloworld")


@scenario(WORKS, seldom=True)
def the_same_network_name_on_both_sides():
    """Fault 1: istiod takes the peer's pods for neighbours."""
    put_servers_on(TWO, network(ONE))
    try:
        eventually("pod addresses", lambda: endpoints(ONE, remote_service(ONE)) == pod_endpoints(TWO), 30)
        status, line = remote_status(ONE)[TWO.name], answer(ONE, timeout=3)
        assert status == "synced", status
        assert not line.startswith(f"200 Hello version: {TWO.name}"), line
        names = {p["metadata"]["labels"]["topology.istio.io/network"] for c in BOTH
                 for p in get(c, "pod", "-n", SAMPLE, "-l", "app=helloworld")["items"]}
        assert names == {network(ONE)}, "the look that tells"
        evidence = f"synced; endpoint {shown(endpoints(ONE, remote_service(ONE)))}; {line[:48]}; one network name"
    finally:
        put_servers_on(TWO, None)
    as_before()
    return evidence


def renew_everything(cluster):
    """Give a cluster's istiod a new start, and then everything that holds a certificate of it.

    A proxy that starts before its namespace has the new root cannot reach istiod for a long while.
    """
    before = root_handed_out(cluster)
    restart(cluster, SYSTEM, "istiod")
    eventually("another root", lambda: root_handed_out(cluster) != before, 30)
    side_by_side(lambda: restart(cluster, SAMPLE, "sleep", "helloworld"), lambda: restart(cluster, INGRESS, GATEWAY))


def root_handed_out(cluster):
    return get(cluster, "configmap", "istio-ca-root-cert", "-n", SAMPLE)["data"]["root-cert.pem"].strip()


@scenario("the-same-network-name-on-both-sides", seldom=True)
def different_roots():
    """Fault 2: eks-2 starts without the common authority and makes one up."""
    kubectl(TWO, "delete", "secret", "cacerts", "-n", SYSTEM)
    renew_everything(TWO)
    roots = both(root_handed_out)
    assert roots[0] != roots[1], "one root after all"
    eventually("endpoints by gateway", lambda: sees_by_gateway(ONE), 30)
    line, _ = eventually("nothing but 503", lambda: refused(ONE), 20)
    status = remote_status(ONE)[TWO.name]
    assert status == "synced", status
    assert tried_from_outside(TWO, 15443) == {"open"}, "and the port is open"
    return f"synced; endpoints by gateway; 15443 open; {brief(line)}; roots differ"


@scenario("different-roots", seldom=True)
def an_authority_given_after_istiod_started():
    """Fault 3: the Secret is there, the pod has it as a file, and istiod does not look."""
    apply(TWO, certs.cacerts("root-1", TWO))
    # A change of the pod makes the kubelet write its Secrets out now, not at its next round.
    kubectl(TWO, "annotate", "pod", "-n", SYSTEM, "-l", "app=istiod", "lab/nudge=1")
    made_up = get(TWO, "secret", "istio-ca-secret", "-n", SYSTEM)
    assert made_up, "istiod's own authority has no Secret"
    given = certs.root_of("root-1").strip()
    eventually("the file in the pod", lambda: certificate_in_pod(TWO) == given, 30)
    assert root_handed_out(TWO) != given, "istiod took it after all"
    line, _ = eventually("nothing but 503", lambda: refused(ONE), 10)
    evidence = f"cacerts in the pod, configmap still holds another root, istio-ca-secret exists; {brief(line)}"
    kubectl(TWO, "delete", "secret", "istio-ca-secret", "-n", SYSTEM)
    renew_everything(TWO)
    assert root_handed_out(TWO) == given, "a restart did not mend it"
    as_before(seconds=60)
    return evidence


def certificate_in_pod(cluster):
    """The root in istiod's own file system, read from outside: its image has no shell."""
    pod = get(cluster, "pod", "-n", SYSTEM, "-l", "app=istiod")["items"][0]["metadata"]["uid"]
    volume = cluster.dir / "kubelet" / "pods" / pod / "volumes" / "kubernetes.io~secret" / "cacerts"
    return run(*proc.in_member(cluster.name), "cat", volume / "root-cert.pem", check=False).strip()


@scenario("an-authority-given-after-istiod-started", seldom=True)
def no_gateway_object():
    """Fault 4: nothing listens where the endpoints point."""
    kubectl(TWO, "delete", "gateways.networking.istio.io", "cross-network-gateway", "-n", INGRESS)
    try:
        eventually("15443 refused", lambda: tried_from_outside(TWO, 15443) == {"refused"}, 15)
        line, _ = eventually("nothing but 503", lambda: refused(ONE), 20)
        status = remote_status(ONE)[TWO.name]
        assert status == "synced" and sees_by_gateway(ONE), status
        assert crosses(TWO), "the other direction ought to work"
        evidence = f"synced; endpoints by gateway; 15443 refused; {brief(line)}; the other way crosses"
    finally:
        apply(TWO, cross_network())
    as_before()
    return evidence


def forget_peer(cluster):
    """Take away what a cluster knows of its peer.

    Now and then, soon after istiod was started anew, endpoints outlive their secret; only another start ends them.
    """
    kubectl(cluster, "delete", "secret", "-n", SYSTEM, SECRET.format(other(cluster).name))
    try:
        eventually("no endpoints", lambda: not endpoints(cluster, remote_service(cluster)), 10)
    except LabError:
        restart(cluster, SYSTEM, "istiod")
        eventually("no endpoints", lambda: not endpoints(cluster, remote_service(cluster)), 20)


@scenario("no-gateway-object", seldom=True)
def a_secret_that_cannot_work():
    """Fault 5: over a good one, a server on loopback (eks-1); afresh, a wrong authority (eks-2)."""
    since = now()
    forget_peer(TWO)
    apply(ONE, secret(TWO, token(TWO, 3600), server="https://127.0.0.1:6443"))
    apply(TWO, secret(ONE, token(ONE, 3600), authority=(TWO.pki / "ca.crt").read_bytes()))
    eventually("no longer synced", lambda: all(remote_status(c)[p.name] != "synced" for c, p in
                                               ((ONE, TWO), (TWO, ONE))), 15)
    early = remote_status(ONE)[TWO.name], remote_status(TWO)[ONE.name]
    assert sees_by_gateway(ONE) and crosses(ONE), "what was known ought to stay"
    assert not endpoints(TWO, remote_service(TWO))
    line = answer(TWO)
    assert line.startswith("503 no healthy upstream"), line
    said, _ = eventually("istiod's word", lambda: re.search(
        r"x509: [a-z ]*unknown authority", istiod_log(TWO, since)), 20)
    eventually("timeout", lambda: {remote_status(ONE)[TWO.name], remote_status(TWO)[ONE.name]} == {"timeout"}, 45, 1)
    assert crosses(ONE), "and still"
    share_secret(ONE), share_secret(TWO)
    both(lambda c: restart(c, SYSTEM, "istiod"))  # what failed once may come back later
    as_before(seconds=60)
    return (f"{early[0]} then timeout in both; loopback: old endpoints cross; "
            f"wrong authority: {line[:23]}, {said.group(0)}")


@scenario("a-secret-that-cannot-work", seldom=True)
def two_clusters_with_one_name():
    """Fault 7: a secret under the reader's own name is left aside without a sign but in the log."""
    since = now()
    forget_peer(ONE)
    apply(ONE, secret(TWO, token(TWO, 3600), key=ONE.name))
    try:
        said, _ = eventually("istiod's word", lambda: re.search(
            r"ignoring cluster as it would overwrite the config cluster", istiod_log(ONE, since)), 15)
        eventually("only itself listed", lambda: set(remote_status(ONE)) == {ONE.name}, 10)
        assert not endpoints(ONE, remote_service(ONE))
        line = answer(ONE)
        assert line.startswith("503 no healthy upstream"), line
    finally:
        kubectl(ONE, "delete", "secret", "-n", SYSTEM, SECRET.format(ONE.name))
        share_secret(TWO)
    as_before()
    return f"istioctl lists only eks-1; {line[:23]}; log: {said.group(0)}"
