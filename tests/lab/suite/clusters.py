"""The lab itself: clusters, networks, names and charts, before there is any mesh."""
import hashlib
import re
import subprocess
from pathlib import Path

from meshlab import build, cloud, config, images, proc
from meshlab.shell import side_by_side

from .kit import ONE, TWO, apply, both, connect, eventually, get, helm, kubectl, operator
from .runner import scenario

@scenario()
def nodes_are_ready():
    def look(cluster):
        (node,) = get(cluster, "nodes")["items"]
        conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert conditions["Ready"] == "True", conditions
        labels = node["metadata"]["labels"]
        assert labels["topology.kubernetes.io/region"] == "us-west-2"
        assert labels["topology.kubernetes.io/zone"] == cluster.zone
        addresses = {a["type"]: a["address"] for a in node["status"]["addresses"]}
        return node["status"]["nodeInfo"]["kubeletVersion"], addresses["InternalIP"], node["spec"]["podCIDR"]
    first, second = both(look)
    assert first == second, f"the clusters ought to look alike: {first} {second}"
    return "both {}, node address {} and pods {} in each".format(*first)


@scenario("nodes-are-ready")
def a_second_up_changes_nothing():
    def inventory():
        return {(m, p): proc.pid_of(m, p) for m in ("cloud", "operator", ONE.name, TWO.name) for p in proc.programs(m)}
    before = inventory()
    subprocess.run([config.LAB / "lab", "up", "--clusters", str(len(config.clusters_up()))], check=True,
                   capture_output=True)
    assert inventory() == before
    return f"{len(before)} programs, the same ids"


@scenario("nodes-are-ready")
def only_wan_addresses_are_reachable():
    """From the operator, with a route through the peer that no party on the WAN has by itself."""
    apply(TWO, waiting_pod("reached"))
    try:
        pod, _ = eventually("a pod in eks-2", lambda: (get(TWO, "pod", "reached")["status"].get("podIP")), 30)
        inside = proc.in_netns(TWO.netns)
        assert connect(inside, f"{pod}:5000") == "open", "the pod is there, seen from its own node"
        outside = proc.in_member("operator")
        tried = {}
        subprocess.run(["ip", "-n", config.OPERATOR_NS, "route", "add", config.POD_CIDR, "via", TWO.wan_ip], check=True)
        subprocess.run(["ip", "-n", config.OPERATOR_NS, "route", "add", config.VPC_CIDR, "via", TWO.wan_ip], check=True)
        addresses = {"API by WAN": f"{TWO.wan_ip}:6443", "pod": f"{pod}:5000", "API by VPC": f"{config.NODE_IP}:6443",
                     "kubelet": f"{TWO.wan_ip}:10250", "node port": f"{TWO.wan_ip}:30000"}
        answers = side_by_side(*(lambda a=a: connect(outside, a) for a in addresses.values()))
        tried = dict(zip(addresses, answers))
        assert tried.pop("API by WAN") == "open"
        assert set(tried.values()) == {"timeout"}, tried
        from_peer = connect(proc.in_netns(ONE.netns), f"{TWO.wan_ip}:10250")
        assert from_peer == "timeout", from_peer
        return f"API by WAN open; {', '.join(tried)}: timeout"
    finally:
        for cidr in (config.POD_CIDR, config.VPC_CIDR):
            subprocess.run(["ip", "-n", config.OPERATOR_NS, "route", "del", cidr], capture_output=True)
        kubectl(TWO, "delete", "pod", "reached", "--wait=false", "--grace-period=0")


def waiting_pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "app", "image": images.reference("app"), "command": ["/app", "serve"]}]}}


@scenario()
def the_machine_is_not_on_the_lab_network():
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    routes = subprocess.run(["ip", "route", "show", "table", "all"], capture_output=True, text=True).stdout
    assert "198.18." not in routes and "10.244." not in routes, routes
    assert not re.search(r"wan0|vpc0|eks-\d|cni0", links), links
    inside = operator("cat", "/etc/resolv.conf")
    assert config.CLOUD_IP in inside and config.CLOUD_IP not in Path("/etc/resolv.conf").read_text()
    # Not a bare connection: some machines sit behind a proxy that accepts any address.
    ask = ["curl", "--noproxy", "*", "-s", "-m", "3", "--cacert", ONE.pki / "ca.crt", f"{ONE.server}/version"]
    assert "gitVersion" in operator(*ask)
    assert subprocess.run(ask, capture_output=True).returncode != 0, "the machine reaches the lab's API"
    return "no link, route or resolver of the lab on the machine, and no way to its API"


@scenario("nodes-are-ready")
def a_pod_reaches_the_peer_api_by_its_wan_address():
    """What istiod does with a remote secret."""
    apply(ONE, waiting_pod("asks"))
    try:
        kubectl(ONE, "wait", "pod/asks", "--for=condition=Ready", "--timeout=30s")
        tried = kubectl(ONE, "exec", "asks", "--", "/app", "connect", f"{TWO.wan_ip}:6443").strip()
        assert tried == "open", tried
        return f"{TWO.server} from a pod of eks-1: {tried}"
    finally:
        kubectl(ONE, "delete", "pod", "asks", "--wait=false", "--grace-period=0")


@scenario()
def charts_come_from_a_real_repository():
    index = operator("curl", "-sf", f"{config.CHARTS_URL}/index.yaml")
    names = re.findall(r"^  (\w+):$", index, re.M)
    assert sorted(names) == ["base", "cni", "gateway", "istiod", "ztunnel"], names
    digests = set(re.findall(r"digest: (\w+)", index))
    folder = Path(build.Built().charts.dir)
    real = {hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tgz")}
    assert digests == real, "the index does not name what is served"
    values = helm(ONE, "show", "values", "istiod", "--repo", config.CHARTS_URL, "--version", config.ISTIO_VERSION)
    assert f"hub: {config.IMAGE_HUB}" in values and f"tag: {config.IMAGE_TAG}" in values
    return f"{len(names)} charts {config.ISTIO_VERSION} at {config.CHARTS_URL}"


@scenario("nodes-are-ready")
def a_balancer_has_a_name_and_an_address_in_two_zones():
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "named", "namespace": "default"},
               "spec": {"type": "LoadBalancer", "selector": {"app": "nobody"}, "ports": [{"port": 15443}]}}
    apply(TWO, service)
    try:
        def ingress():
            return get(TWO, "service", "named")["status"]["loadBalancer"].get("ingress")
        (published,), seconds = eventually("a status", ingress, 10)
        assert re.fullmatch(r"k8s-default-named-[0-9a-f]{10}-[0-9a-f]{16}\.elb\.us-west-2\.amazonaws\.com",
                            published["hostname"]), published
        (entry,) = [b for b in cloud.state()["balancers"] if b["service"] == "named"]
        resolved = set(operator("labapp", "resolve", published["hostname"]).split())
        assert resolved == set(entry["addresses"].values()) and len(resolved) == 2, resolved
        tried = connect(proc.in_member("operator"), f"{min(resolved)}:15443")
        assert tried == "refused", f"a Service without pods: {tried}"
        cloud.settings(TWO.name, publish="ip")
        eventually("an address in its place", lambda: "ip" in (ingress() or [{}])[0], 10)
        return f"{published['hostname']} after {seconds:.1f} s"
    finally:
        cloud.settings(TWO.name, publish="hostname")
        kubectl(TWO, "delete", "service", "named")
        eventually("its release", lambda: not [b for b in cloud.state()["balancers"] if b["service"] == "named"], 10)
