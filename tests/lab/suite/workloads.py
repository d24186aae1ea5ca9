"""Workloads on real clusters: what istiod's injector and the API server do with a pod is what meshlink says of it, and what must
restart is rolled by the real controllers, those of StatefulSets and DaemonSets among them.

`tests/lab/run workloads` goes by a mesh that the command under test has joined.
"""
import json

from meshlab import images

from .kit import BOTH, ONE, apply, attempt, eventually, get, kubectl
from .meshlink import afresh, environment, meshlink, program, run
from .runner import scenario

SPACE = "labshop"
WELL = "pods-of-a-mesh-that-is-well-need-nothing"
APPS = {"web": "Deployment", "db": "StatefulSet", "agent": "DaemonSet"}


def app(kind, name, **spec):
    """A workload of the lab's own image."""
    container = {"name": "app", "image": images.reference("app"), "command": ["/app", "serve"]}
    sizes = {} if kind == "DaemonSet" else {"replicas": 2}
    more = {"serviceName": name} if kind == "StatefulSet" else {}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": SPACE},
            "spec": {"selector": {"matchLabels": {"app": name}}, **sizes, **more, **spec,
                     "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}}}


def workloads(*words, expect=None):
    """What is said of every pod."""
    settings = [f"{name}={value}" for name, value in environment().items()]
    done = attempt("env", *settings, program(), "workloads", "-o", "json", *words, seconds=120)
    assert expect is None or done.returncode == expect, f"{done.returncode}: {done.stdout[-600:]}{done.stderr[-600:]}"
    return json.loads(done.stdout)


def pods(*words, expect=None):
    found = workloads(*words, expect=expect)
    return [(m["cluster"], p) for m in found["clusters"] for p in m["pods"]]


def states():
    """The states of the pods of each app."""
    of = {}
    for _, pod in pods(ONE.name, "-n", SPACE):
        of.setdefault(pod["workload"], set()).add((pod["state"], tuple(c["id"] for c in pod["why"])))
    return of


def all_are(state, *causes):
    want = {f"{kind} {SPACE}/{name}": {(state, causes)} for name, kind in APPS.items()}
    eventually(f"all pods are {state} {causes}", lambda: {k: v for k, v in states().items() if k in want} == want, 90, 1)


@scenario(seldom=True)
def pods_of_a_mesh_that_is_well_need_nothing():
    """Gateways and istiods by what a real injector wrote into them, and certificates by a real Envoy's own page."""
    afresh()
    meshlink("join", "--yes", "--timeout", "180s")
    run("sample", "up", "--yes")
    found = pods(expect=0)
    proxies = [(cluster, p) for cluster, p in found if p["proxy"]]
    assert len(proxies) >= 6, len(proxies)
    for cluster, pod in proxies:
        proxy = pod["proxy"]
        assert pod["state"] == "in-mesh" and not pod["why"], pod
        assert proxy["cluster_id"] == cluster and proxy["revision"] == "default" and proxy["follows_roots"], pod
        assert pod["certificate"]["issuer"], pod
        images_of = json.dumps(get(next(c for c in BOTH if c.name == cluster), "pod", pod["name"], "-n", pod["namespace"]))
        assert proxy["image"] in images_of, pod
    # They are open to their peers only, and whoever asks here is none.
    gateways = [g for m in workloads("--connect", expect=7)["clusters"] for g in m["gateways"]]
    said = [a for g in gateways for a in g["addresses"]]
    assert len(said) == 2 and all(a["answers"] is False and "at 0 of" in a["says"] for a in said), gateways
    held = [p["holds"] for _, p in pods("--service", "sample/helloworld", "-n", "sample", expect=0)]
    assert all({"eks-1", "eks-2"} <= {e["of"] for e in h} for h in held), held
    kinds = {p["proxy"]["kind"] for _, p in proxies}
    return f"{len(proxies)} proxies of {len(found)} pods, as {', '.join(sorted(kinds))}; {len(gateways)} gateways open to peers only"


@scenario(WELL, seldom=True)
def a_namespace_is_given_proxies_by_its_real_controllers():
    """Deployment, StatefulSet and DaemonSet, one after the other; a bare pod stays as it is."""
    kubectl(ONE, "create", "namespace", SPACE)
    apply(ONE, *(app(kind, name) for name, kind in APPS.items()))
    lone = app("Deployment", "lone")["spec"]["template"]
    apply(ONE, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone", "namespace": SPACE}, "spec": lone["spec"]})
    all_are("outside", "not-asked")
    said = meshlink("workloads", "inject", "-n", SPACE, "--yes", "--timeout", "180s", ONE.name)
    assert "lone" in said, said[-600:]
    all_are("in-mesh")
    (bare,) = [p for _, p in pods(ONE.name, "-n", SPACE) if p["name"] == "lone"]
    assert bare["state"] == "no-proxy" and [c["id"] for c in bare["why"]] == ["made-before"], bare
    assert "nothing to do" in meshlink("workloads", "inject", "-n", SPACE, "--yes", ONE.name)
    return "three kinds rolled, two steps of nothing after it"


@scenario("a-namespace-is-given-proxies-by-its-real-controllers", seldom=True)
def what_a_real_injector_changes_is_rolled():
    """The injector's values say another mesh: pods made before are named, rolled, and are as new ones then."""
    place = ("configmap", "istio-sidecar-injector", "-n", "istio-system")
    before = get(ONE, *place)["data"]["values"]
    values = json.loads(before)
    values["global"]["meshID"] = "another"

    def say(text):
        kubectl(ONE, "patch", *place, "--type=merge", "-p", json.dumps({"data": {"values": text}}))
    say(json.dumps(values))
    try:
        all_are("should-restart", "mesh-id")
        run("workloads", "restart", ONE.name, "-n", SPACE, "--yes", "--timeout", "180s")
        all_are("in-mesh")
    finally:
        say(before)
    all_are("should-restart", "mesh-id")
    run("workloads", "restart", ONE.name, "-n", SPACE, "--yes", "--timeout", "180s")
    all_are("in-mesh")
    return "named, rolled and well, there and back"


@scenario("what-a-real-injector-changes-is-rolled", seldom=True)
def the_first_that_is_not_ready_ends_the_run():
    """An image that nobody has: what would come after it keeps its pods."""
    kubectl(ONE, "set", "image", "-n", SPACE, "daemonset/agent", "app=registry.invalid/none:1")
    kept = {p["name"] for _, p in pods(ONE.name, "-n", SPACE) if p["workload"] == f"StatefulSet {SPACE}/db"}
    _, said = run("workloads", "restart", ONE.name, "-n", SPACE, "--all", "--yes", "--timeout", "20s", expect=4)
    assert "rollout undo daemonset/agent" in said, said[-900:]
    assert kept == {p["name"] for _, p in pods(ONE.name, "-n", SPACE) if p["workload"] == f"StatefulSet {SPACE}/db"}
    # As printed, it goes back to what was asked for before the restart: that image already.
    kubectl(ONE, "set", "image", "-n", SPACE, "daemonset/agent", "app=" + images.reference("app"))
    run("workloads", "restart", ONE.name, "-n", SPACE, "--all", "--yes", "--timeout", "180s")
    all_are("in-mesh")
    return "one not ready, two kept, all ready with an image that there is"


@scenario("the-first-that-is-not-ready-ends-the-run", seldom=True)
def the_proxies_are_taken_away_again():
    run("workloads", "inject", ONE.name, "-n", SPACE, "--undo", "--yes", "--timeout", "180s")
    all_are("outside", "not-asked")
    labels = get(ONE, "namespace", SPACE)["metadata"]["labels"]
    assert "istio-injection" not in labels, labels
    kubectl(ONE, "delete", "namespace", SPACE, "--wait=false")
    return "label and proxies gone"
