"""Two clusters become one mesh: remote secrets, endpoints by gateway, answers from both sides."""
import re
import subprocess

from meshlab import cloud, proc

from .kit import (BOTH, ONE, SAMPLE, answered_by, app, apply, ask, balancer, both, endpoints, eventually,
                  gateway_endpoints, istiod_log, istioctl, now, operator, other, pod_endpoints, remote_status, shown)
from .runner import scenario

SECRET = "istio-remote-secret-{}"


def share_secret(cluster):
    """Give the peer's istiod the way to this cluster, as istioctl makes it."""
    text = istioctl(cluster, "create-remote-secret", "--name", cluster.name, "--server", cluster.server)
    apply(other(cluster), text)


def remote_service(cluster):
    """The Service whose only servers are in the peer."""
    return f"hello-{other(cluster).name}"


def sees_by_gateway(cluster):
    return endpoints(cluster, remote_service(cluster)) == gateway_endpoints(other(cluster))


def crosses(cluster):
    """An answer from the peer, and the words of it."""
    line = ask(cluster, remote_service(cluster))[0]
    return line if line.startswith(f"200 Hello version: {other(cluster).name},") else ""


@scenario("port-15443-opens-with-the-gateway-object")
def an_unresolvable_gateway_name_shows_pod_addresses():
    """Also the sixth fault: the name of the balancer is not in DNS where istiod asks."""
    cloud.settings(resolve=False)
    try:
        for cluster in BOTH:  # until the names are forgotten by each cluster's own DNS too
            name = balancer_name(cluster)
            eventually(f"no {name}", lambda c=cluster, n=name: resolved(other(c), n) == "", 20)
        since = now()
        both(share_secret)
        for cluster in BOTH:
            eventually("endpoints of the peer", lambda c=cluster: endpoints(c, remote_service(c)), 20)
        seen = {c: endpoints(c, remote_service(c)) for c in BOTH}
        for cluster in BOTH:
            assert seen[cluster] == pod_endpoints(other(cluster)), shown(seen[cluster])
            line = ask(cluster, remote_service(cluster), timeout=5)[0]
            assert not line.startswith(f"200 Hello version: {other(cluster).name}"), line
            assert remote_status(cluster)[other(cluster).name] == "synced"
        said = eventually("a word in istiod's log", lambda: re.search(
            r"could not resolve hostname[^\n]*", istiod_log(ONE, since)), 40)[0].group(0)
    finally:
        cloud.settings(resolve=True)
    return f"synced, yet endpoint {shown(seen[ONE])} of the peer's own pods; istiod: {said[:60]}"


def balancer_name(cluster):
    return balancer(cluster)["name"]


def resolved(cluster, name):
    """What a name resolves to in a pod of the cluster; an empty text where it does not."""
    return app(cluster, "resolve", name, check=False).strip()


@scenario("an-unresolvable-gateway-name-shows-pod-addresses")
def once_resolvable_the_gateway_takes_their_place():
    took = max(eventually(f"gateway addresses at {c.name}", lambda c=c: sees_by_gateway(c), 90, 0.5)[1] for c in BOTH)
    return f"{shown(endpoints(ONE, remote_service(ONE)))} at eks-1 after {took:.0f} s more"


@scenario("once-resolvable-the-gateway-takes-their-place")
def remote_secrets_are_synced():
    for cluster in BOTH:
        status, _ = eventually("synced", lambda c=cluster: set(remote_status(c).values()) == {"synced"}
                               and remote_status(c), 20)
        assert set(status) == {c.name for c in BOTH}, status
    text = istioctl(ONE, "proxy-config", "endpoints", f"deploy/sleep.{SAMPLE}",
                    "--cluster", f"outbound|5000||{remote_service(ONE)}.{SAMPLE}.svc.cluster.local")
    for address in gateway_endpoints(other(ONE)):
        assert re.search(re.escape(address) + r"\s+HEALTHY", text), text
    return f"{', '.join(sorted(status))} in both; istioctl names the gateway's addresses"


@scenario("remote-secrets-are-synced")
def traffic_is_answered_by_both_clusters():
    found = {}
    for cluster in BOTH:
        eventually("the way across", lambda c=cluster: crosses(c), 20)
        counts = answered_by(ask(cluster, "helloworld", count=40))
        assert set(counts) == {c.name for c in BOTH} and sum(counts.values()) == 40, counts
        found[cluster.name] = counts
    return "; ".join(f"from {name}: {counts}" for name, counts in found.items())


@scenario("traffic-is-answered-by-both-clusters")
def what_crosses_is_mutual_tls():
    """The peer's gateway refuses plain text: it passes on only what says by name where it wants to go."""
    address = min(gateway_endpoints(other(ONE)))
    said = operator("curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/", check=False)
    assert said == "000", said
    by_name = f"outbound_.5000_._.{remote_service(ONE)}.{SAMPLE}.svc.cluster.local"
    hello = ["openssl", "s_client", "-connect", address, "-servername", by_name, "-alpn", "istio", "-showcerts"]
    issuer = subprocess.run([*proc.in_member("operator"), *hello], input="", capture_output=True, text=True,
                            timeout=20).stdout
    assert "of root-1" in issuer, issuer[:300]
    return "plain text at 15443 gets no answer; by name it is a certificate under the common root"
