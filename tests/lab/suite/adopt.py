"""Clusters that come with an Istio of real Helm's or real istioctl's, and with workloads that are never to miss an answer.

The workloads ask each other within their cluster, a new TLS connection for every request and no retries, before, while and
after the Istio is adopted; then the clusters are joined, and ask across.
"""
from concurrent.futures import ThreadPoolExecutor

from meshlab import config, up
from meshlab.shell import lock

from .charts import REPO, VALUES
from .kit import BOTH, ONE, SAMPLE, SYSTEM, TWO, app, apply, attempt, get, helm, rollout
from .mesh import sample
from .meshlink import afresh, meshlink
from .rotate import RATE, host
from .runner import scenario

# One and a half times the syncFrequency of the lab's kubelets.
ADOPT = ("--projected-within", "15s", "--yes", "--timeout", "420s")
APPS = ("helloworld", "sleep")


def bare():
    with lock():
        up.reset()
    afresh()


def by_helm(cluster):
    """Under names that are not meshlink's, with a value that is to stay."""
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    helm(cluster, "install", "base", "base", *REPO, "-n", SYSTEM, "--set", "global.resourceScope=all")
    helm(cluster, "install", "pilot", "istiod", *REPO, "-n", SYSTEM, "-f", VALUES / "istiod.yaml",
         "--set", "podAnnotations.team=shop", "--wait", "--timeout", "180s")


def by_istioctl(cluster):
    # As the values of the lab's charts: its Envoy has none of Istio's own filters.
    settings = ["profile=minimal", f"hub={config.IMAGE_HUB}", f"tag={config.ISTIO_VERSION}",
                "values.telemetry.enabled=false", "values.pilot.autoscaleEnabled=false",
                "values.pilot.env.PILOT_ENABLE_METADATA_EXCHANGE=false", "values.pilot.env.PILOT_ENABLE_ALPN_FILTER=false",
                "values.pilot.resources.requests.cpu=50m", "values.pilot.resources.requests.memory=128Mi",
                "values.global.proxy.resources.requests.cpu=20m", "values.global.proxy.resources.requests.memory=64Mi"]
    told = [word for setting in settings for word in ("--set", setting)]
    done = attempt("istioctl", "--context", cluster.name, "install", "-y", *told, seconds=240)
    assert done.returncode == 0, (done.stderr or done.stdout)[-800:]


def told(cluster):
    """What the proxies of the workloads call their cluster, and the pods they are in."""
    pods = get(cluster, "pods", "-n", SAMPLE)["items"]
    containers = [(p["metadata"]["uid"], c) for p in pods if not p["metadata"].get("deletionTimestamp")
                  for c in p["spec"]["containers"] + p["spec"].get("initContainers", []) if c["name"] == "istio-proxy"]
    return {uid: next(e.get("value") for e in c["env"] if e["name"] == "ISTIO_META_CLUSTER_ID") for uid, c in containers}


def shake_hands(cluster):
    """No connection is used twice, and nothing is asked again."""
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "one-request-each", "namespace": SAMPLE},
            "spec": {"host": host(cluster), "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}}}
    once = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "no-retries", "namespace": SAMPLE},
            "spec": {"hosts": [host(cluster)], "http": [{"retries": {"attempts": 0},
                                                         "route": [{"destination": {"host": host(cluster)}}]}]}}
    apply(cluster, rule, once)


def under_load(cluster, seconds, work):
    """What `work` returns, and how many requests were sent within the cluster beside it; none may have failed."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(app, cluster, "load", f"http://{host(cluster)}:5000/", RATE, seconds, seconds=seconds + 60)
        done = work()
        assert not load.done(), "requests ended before what they were to be sent beside"
    lines = load.result().splitlines()
    bad = [line for line in lines if f" 200 Hello version: {cluster.name}," not in line]
    assert lines and not bad, f"{len(bad)} of {len(lines)} failed: {bad[:1]}"
    return done, len(lines)


def adopted(cluster, install):
    bare()
    install(cluster)
    apply(cluster, *sample(cluster, [cluster]))
    rollout(cluster, SAMPLE, *APPS)
    shake_hands(cluster)
    before = told(cluster)
    assert set(before.values()) == {"Kubernetes"}, before
    said = meshlink("plan", "adopt", cluster.name, expect=10)
    assert "trust-root" in said and "install-istiod" in said, said[-800:]
    first, sent = under_load(cluster, 90, lambda: meshlink("adopt", cluster.name, *ADOPT, seconds=460))
    assert f"-n {SAMPLE} rollout restart" in first, first[-800:]
    assert told(cluster) == before, "nothing is restarted that was not asked for"
    # As it is told to: then the root is changed, under load again.
    for name in APPS:
        done = attempt("kubectl", "--context", cluster.name, "-n", SAMPLE, "rollout", "restart", "deployment", name)
        assert done.returncode == 0, done.stderr
    rollout(cluster, SAMPLE, *APPS)
    anew = told(cluster)
    assert set(anew.values()) == {cluster.name}, anew
    _, more = under_load(cluster, 180, lambda: meshlink("adopt", cluster.name, *ADOPT, seconds=460))
    assert told(cluster) == anew, "the change of root restarts nothing"
    assert get(cluster, "configmap", "meshlink-root", "-n", SYSTEM), "it is bound to the mesh's root"
    said = meshlink("join", *(c.name for c in BOTH), "--yes", "--timeout", "240s")
    assert "2 of 2 pairs proved" in said, said[-800:]
    return f"{sent + more} requests, none failed"


@scenario(seldom=True)
def an_istio_of_helm_is_adopted_under_load():
    said = adopted(ONE, by_helm)
    kept = helm(ONE, "get", "values", "pilot", "-n", SYSTEM)
    assert "team: shop" in kept and "clusterName: " + ONE.name in kept, kept
    return said


@scenario(seldom=True)
def an_istio_of_istioctl_is_adopted_under_load():
    said = adopted(TWO, by_istioctl)
    labels = get(TWO, "deploy", "istiod", "-n", SYSTEM)["metadata"]
    assert labels["annotations"]["meta.helm.sh/release-name"] == "istiod", labels
    return said
