"""One Istio in each cluster, installed as its users do: charts by Helm, then a gateway between networks."""
from meshlab import cloud, config, images, proc
from meshlab.shell import side_by_side

from . import certs
from .kit import (BOTH, GATEWAY, INGRESS, ONE, SAMPLE, SYSTEM, apply, balancer, both, connect, eventually, get, helm,
                  other, rollout)
from .runner import scenario

ROOT = "root-1"


def network(cluster):
    return f"net-{cluster.name}"


def install(cluster, release, chart, namespace, values, *more):
    return helm(cluster, "upgrade", "--install", release, chart, "--repo", config.CHARTS_URL, "--version",
                config.ISTIO_VERSION, "-n", namespace, "-f", config.LAB / "values" / f"{values}.yaml", *more)


def install_istiod(cluster, *more):
    return install(cluster, "istiod", "istiod", SYSTEM, "istiod", "--wait",
                   "--set", f"global.meshID=lab,global.network={network(cluster)}",
                   "--set", f"global.multiCluster.clusterName={cluster.name}", *more)


def install_gateway(cluster):
    soon = '{"httpGet":{"path":"/healthz/ready","port":15021},"periodSeconds":1,"failureThreshold":60}'
    return install(cluster, GATEWAY, "gateway", INGRESS, "gateway", "--set", f"networkGateway={network(cluster)}",
                   "--set-json", f"readinessProbe={soon}")


def cross_network():
    """What makes a gateway listen on 15443 and pass mutual TLS through."""
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "cross-network-gateway", "namespace": INGRESS},
            "spec": {"selector": {"istio": "eastwestgateway"}, "servers": [{
                "port": {"number": 15443, "name": "tls", "protocol": "TLS"}, "tls": {"mode": "AUTO_PASSTHROUGH"},
                "hosts": ["*.local"]}]}}


def sample(cluster, clusters=BOTH):
    """A server that says which cluster it is in, a client, and a Service for each cluster's servers alone."""
    def deployment(name, arguments, labels):
        container = {"name": name, "image": images.reference("app"), "command": ["/app", *arguments],
                     "env": [{"name": "VERSION", "value": cluster.name}]}
        pod = {"metadata": {"labels": {"app": name, **labels}},
               "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": SAMPLE},
                "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod}}

    def service(name, selector):
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": SAMPLE},
                "spec": {"selector": selector, "ports": [{"name": "http", "port": 5000}]}}
    return [
        {"apiVersion": "v1", "kind": "Namespace",
         "metadata": {"name": SAMPLE, "labels": {"istio-injection": "enabled"}}},
        deployment("helloworld", ["serve"], {"version": cluster.name}), deployment("sleep", ["pause"], {}),
        service("helloworld", {"app": "helloworld"}),
        *(service(f"hello-{c.name}", {"app": "helloworld", "version": c.name}) for c in clusters)]


@scenario("nodes-are-ready", "charts-come-from-a-real-repository")
def charts_install_by_real_helm():
    certs.make_root(ROOT)

    def work(cluster):
        labels = {"topology.istio.io/network": network(cluster)}
        apply(cluster, *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
                         for name in (SYSTEM, INGRESS)))
        apply(cluster, certs.cacerts(ROOT, cluster))
        install(cluster, "base", "base", SYSTEM, "istiod")
        install_istiod(cluster)
        install_gateway(cluster)
        return get(cluster, "deploy", "istiod", "-n", SYSTEM)["spec"]["template"]["spec"]["containers"][0]["image"]
    pictures = both(work)
    assert set(pictures) == {images.reference("pilot")}, pictures
    roots = both(lambda c: get(c, "configmap", "istio-ca-root-cert", "-n", INGRESS)["data"]["root-cert.pem"].strip())
    assert set(roots) == {certs.root_of(ROOT).strip()}, "a cluster hands out another root than it was given"
    return f"{pictures[0]} in both, one root"


@scenario("charts-install-by-real-helm")
def pods_are_injected():
    def work(cluster):
        apply(cluster, *sample(cluster))
        rollout(cluster, SAMPLE, "sleep", "helloworld")
        rollout(cluster, INGRESS, GATEWAY)
        pods = [p for p in get(cluster, "pods", "-n", SAMPLE)["items"] if "deletionTimestamp" not in p["metadata"]]
        for pod in pods:
            spec = pod["spec"]
            names = {c["name"]: c["image"] for c in spec["containers"] + spec.get("initContainers", [])}
            assert names.get("istio-proxy") == images.reference("proxyv2"), names
            assert pod["metadata"]["labels"]["topology.istio.io/network"] == network(cluster)
        return len(pods)
    return f"{both(work)} sample pods, each with a proxy in its network"


def tried_from_outside(cluster, port):
    """Each balancer address, tried from the operator's network."""
    addresses = balancer(cluster)["addresses"].values()
    return set(side_by_side(*(lambda a=a: connect(proc.in_member("operator"), f"{a}:{port}") for a in addresses)))


@scenario("pods-are-injected")
def port_15443_is_closed_without_a_gateway_object():
    for cluster in BOTH:
        eventually("15021 at the balancer", lambda: tried_from_outside(cluster, 15021) == {"open"}, 20)
        tried = tried_from_outside(cluster, 15443)
        assert tried == {"refused"}, tried
    return "15021 open, 15443 refused at every address"


@scenario("port-15443-is-closed-without-a-gateway-object")
def port_15443_opens_with_the_gateway_object():
    both(lambda c: apply(c, cross_network()))
    took = max(eventually("15443", lambda: tried_from_outside(c, 15443) == {"open"}, 20)[1] for c in BOTH)
    return f"open at every address within {took:.1f} s"


@scenario("port-15443-opens-with-the-gateway-object")
def a_dropped_balancer_is_a_timeout():
    """So that fault tests can tell a closed port from a closed way."""
    cloud.settings(ONE.name, forward=False)
    try:
        tried = tried_from_outside(ONE, 15443)
        assert tried == {"timeout"}, tried
        assert tried_from_outside(other(ONE), 15443) == {"open"}
    finally:
        cloud.settings(ONE.name, forward=True)
    assert tried_from_outside(ONE, 15443) == {"open"}
    return "timeout at eks-1 alone, open again after"
