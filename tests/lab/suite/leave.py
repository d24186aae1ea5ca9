"""Members that leave: what istiod must be made to forget, load balancers nobody removes, a cluster that is gone."""
import base64
import json
import re

from meshlab import config, net
from meshlab.build import ready

from .kit import (BOTH, GATEWAY, INGRESS, ONE, SYSTEM, TWO, both, eventually, get, kubectl, operator,
                  remote_status)
from .meshlink import HOME, afresh, meshlink, program
from .runner import scenario

SECRET = f"istio-remote-secret-{TWO.name}"
FAULTY = "1.30.2"
CONTROLLER = "aws-load-balancer-controller"
# What is named by chance, or comes and goes by itself.
PASSING = {"Pod", "ReplicaSet", "EndpointSlice", "Endpoints", "Lease", "Event", "TargetGroupBinding", "PodMetrics",
           "ControllerRevision", "NodeMetrics", "ComponentStatus", "CSINode", "CSIStorageCapacity", "IPAddress"}


def state():
    """What is there, by kind and name, in both clusters, once no namespace is on its way out."""
    def going(cluster):
        return [n for n in get(cluster, "namespaces")["items"] if "deletionTimestamp" in n["metadata"]]

    def one(cluster):
        eventually(f"namespaces of {cluster.name} that go are gone", lambda: not going(cluster), 30)
        kinds = kubectl(cluster, "api-resources", "--verbs=list", "-o", "name").split()
        columns = "custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name"
        rows = kubectl(cluster, "get", ",".join(kinds), "-A", "-o", columns, "--no-headers", "--ignore-not-found")
        names = {re.sub(r"\.v\d+$", ".vN", "/".join(row.split())) for row in rows.splitlines()}
        return {name for name in names if name.partition("/")[0] not in PASSING}
    return {c.name: found for c, found in zip(BOTH, both(one))}


def keys():
    """Every key and certificate in the vault."""
    vault = HOME / ".local" / "share" / "meshlink"
    return {str(p.relative_to(vault)): p.read_bytes() for p in sorted(vault.rglob("*.pem"))}


def journal():
    """The events of all runs, oldest first."""
    files = (HOME / ".local" / "state" / "meshlink").rglob("journal.jsonl")
    return [json.loads(line) for path in files for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")]  # the last may still be on its way


def evidence(step):
    """What the last run saw of a step that it did."""
    done = [e for e in journal() if e["event"] == "step-finished" and e["step"] == step]
    assert done, f"no run finished {step}"
    return "; ".join(done[-1]["evidence"])


def shards(cluster):
    """The clusters that an istiod holds endpoints of."""
    text = kubectl(cluster, "exec", "-n", SYSTEM, "deploy/istiod", "--", "pilot-discovery", "request", "GET",
                   "/debug/endpointShardz")
    return set(re.findall(r'"Kubernetes/([^"]+)"', text))


joined = {}


@scenario(seldom=True)
def a_join_to_leave_again():
    program()
    afresh()
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    joined.update(state())
    return f"{sum(map(len, joined.values()))} objects in both"


@scenario("a-join-to-leave-again", seldom=True)
def an_istiod_of_a_faulty_version_is_restarted_after_a_change():
    """The lab's istiod under the tag of a version that a changed remote secret breaks: the tag is what is judged by."""
    def istiods():
        pods = get(ONE, "pods", "-n", SYSTEM, "-l", "app=istiod")["items"]
        return {p["metadata"]["name"]: p for p in pods if "deletionTimestamp" not in p["metadata"]}
    before = istiods()
    tags = ready().images.dir / "tags" / "pilot"
    (tags / FAULTY).write_text((tags / config.IMAGE_TAG).read_text())
    try:
        for name in before:
            kubectl(ONE, "set", "image", f"pod/{name}", f"discovery={config.IMAGE_HUB}/pilot:{FAULTY}", "-n", SYSTEM)
        eventually("the faulty version", lambda: all(
            s["image"].endswith(FAULTY) and s["ready"] for p in istiods().values()
            for s in p["status"]["containerStatuses"]), 60)
    finally:
        (tags / FAULTY).unlink()
    assert "nothing to do" in meshlink("plan"), "a version alone is no reason to change anything"
    kubectl(TWO, "delete", "secret", f"meshlink-reader-{ONE.name}-token", "-n", SYSTEM)
    said = " ".join(meshlink("plan", expect=10).split())
    for words in (f"refresh-istiod/{ONE.name}", FAULTY, "istio#60612"):
        assert words in said, said[-900:]
    assert f"refresh-istiod/{TWO.name}" not in said, "the other runs a sound version"
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    assert not set(istiods()) & set(before), "istiod was not restarted"
    assert "nothing to do" in meshlink("plan")
    return evidence(f"refresh-istiod/{ONE.name}")


@scenario("a-join-to-leave-again", seldom=True)
def endpoints_that_would_outlive_their_secret_go_with_the_leave():
    """A secret that failed before its first list, then mended: istiod registers the peer twice and forgets it once."""
    good = get(ONE, "secret", SECRET, "-n", SYSTEM)
    kubectl(ONE, "delete", "secret", SECRET, "-n", SYSTEM)
    eventually("no endpoints of eks-2", lambda: TWO.name not in shards(ONE), 20)
    text = base64.b64decode(good["data"][TWO.name]).decode()
    authority = base64.b64encode((ONE.pki / "ca.crt").read_bytes()).decode()
    wrong = re.sub(r'("?certificate-authority-data"?\s*:\s*"?)[A-Za-z0-9+/=]+', rf"\g<1>{authority}", text)
    assert wrong != text

    def put(kubeconfig):
        data = {TWO.name: base64.b64encode(kubeconfig.encode()).decode()}
        thing = {"apiVersion": "v1", "kind": "Secret", "data": data,
                 "metadata": {"name": SECRET, "namespace": SYSTEM, "labels": good["metadata"]["labels"],
                              "annotations": good["metadata"]["annotations"]}}
        kubectl(ONE, "apply", "--server-side", "--force-conflicts", "--field-manager=meshlink", "-f", "-",
                stdin=json.dumps(thing))
    put(wrong)
    eventually("a try that fails", lambda: remote_status(ONE).get(TWO.name) in ("syncing", "timeout"), 20)
    put(text)
    eventually("synced", lambda: remote_status(ONE).get(TWO.name) == "synced" and TWO.name in shards(ONE), 60)
    said = meshlink("leave", TWO.name, "--yes", "--timeout", "180s")
    assert TWO.name not in shards(ONE) and TWO.name not in remote_status(ONE)
    seen = evidence(f"await-unlinked/{ONE.name}/{TWO.name}")
    assert f"meshlink leave {TWO.name} --uninstall --crds" in " ".join(said.split()), said[-600:]
    assert "after a restart" in seen, f"istiod let go by itself: {seen}"
    return seen


def reader_token(held_by, of):
    """The credentials that one cluster holds for another."""
    secret = get(held_by, "secret", f"istio-remote-secret-{of.name}", "-n", SYSTEM)
    text = base64.b64decode(secret["data"][of.name]).decode()
    return re.search(r'"?token"?\s*:\s*"?([A-Za-z0-9._-]+)', text).group(1)


def status_with(cluster, token):
    """The HTTP status an API server answers to a token, asked on the operator's network."""
    return operator("curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                    "-H", f"Authorization: Bearer {token}", f"{cluster.server}/api/v1/namespaces", check=False)


@scenario("endpoints-that-would-outlive-their-secret-go-with-the-leave", seldom=True)
def a_dead_cluster_is_struck_and_its_credentials_are_turned_away():
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    token = reader_token(TWO, ONE)
    assert status_with(ONE, token) == "200"
    said = meshlink("leave", TWO.name, "--dead", "--yes", expect=5)
    assert "so it is not dead" in said, said[-600:]
    net.connect(TWO, False)
    try:
        said = meshlink("leave", TWO.name, "--dead", "--yes", "--timeout", "120s")
        text = " ".join(said.split())
        for words in (f"{TWO.name} was not contacted", f"{TWO.name}'s intermediate stays trusted"):
            assert words in text, said[-900:]
    finally:
        net.connect(TWO, True)
    eventually("401", lambda: status_with(ONE, token) == "401", 30)
    left = [name for name in state()[ONE.name] if TWO.name in name]
    assert not left, left
    assert TWO.name not in shards(ONE)
    return f"{evidence(f'await-unlinked/{ONE.name}/{TWO.name}')}; the token it holds answers 401"


@scenario("a-dead-cluster-is-struck-and-its-credentials-are-turned-away", seldom=True)
def a_load_balancer_without_its_controller_stands_against_a_leave():
    kubectl(ONE, "scale", "deploy", CONTROLLER, "-n", "kube-system", "--replicas=0")
    eventually("no controller", lambda: not get(ONE, "deploy", CONTROLLER, "-n", "kube-system")["status"].get(
        "readyReplicas"), 30)
    try:
        said = meshlink("leave", ONE.name, "--uninstall", "--crds", "--yes", expect=5)
        assert "--abandon-load-balancer" in said and "none of it runs" in " ".join(said.split()), said[-600:]
        meshlink("leave", ONE.name, "--uninstall", "--crds", "--abandon-load-balancer", "--yes", "--timeout", "120s")
        assert not get(ONE, "service", GATEWAY, "-n", INGRESS)
    finally:
        kubectl(ONE, "scale", "deploy", CONTROLLER, "-n", "kube-system", "--replicas=1")
    return "refused; then, as told, left to the cloud"
