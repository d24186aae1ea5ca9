"""What is somebody else's on real API servers: a join refuses it, a leave lets it be, and copied YAML passes for nothing."""
import json

from .kit import INGRESS, ONE, SYSTEM, TWO, apply, get, kubectl
from .meshlink import afresh, meshlink, program
from .runner import scenario

OURS = {"app.kubernetes.io/managed-by": "meshlink"}
MADE = "meshlink-root", "meshlink"  # what a join would make in the control plane's namespace


def things(cluster):
    """The UID of everything that a run could change."""
    kinds = "namespaces,secrets,configmaps,services,deployments,serviceaccounts,roles,rolebindings"
    items = get(cluster, f"{kinds},clusterroles,clusterrolebindings,crds", "-A")["items"]
    return {(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]): i["metadata"]["uid"] for i in items
            if i["metadata"]["name"] != "kube-root-ca.crt"}


def thing(kind, name, namespace=None, api="v1", **more):
    """An object of somebody's, with the label that meshlink's own have."""
    metadata = {"name": name, "labels": OURS} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}


@scenario(seldom=True)
def what_is_somebody_elses_stands_against_a_join():
    program()
    afresh()
    rbac = "rbac.authorization.k8s.io/v1"
    foreign = [
        thing("ConfigMap", "meshlink", SYSTEM, data={"mine": "yes"}),
        thing("Secret", f"istio-remote-secret-{TWO.name}", SYSTEM, stringData={"mine": "yes"}),
        thing("ServiceAccount", f"meshlink-reader-{TWO.name}", SYSTEM),
        thing("ClusterRole", "meshlink-reader", api=rbac, rules=[]),
        thing("Namespace", "meshlink-probe"),
        thing("Secret", "mine", "meshlink-probe", stringData={"k": "v"}),
        thing("Service", "istio-eastwestgateway", INGRESS, spec={"ports": [{"port": 80}]}),
    ]
    kubectl(ONE, "create", "namespace", SYSTEM)
    kubectl(ONE, "create", "namespace", INGRESS)
    apply(ONE, *foreign)
    before = things(ONE), things(TWO)
    said = " ".join(meshlink("join", "--yes", expect=5).split())
    for one in foreign:
        if one["metadata"]["name"] != "mine":
            assert one["metadata"]["name"] in said, f"{one['metadata']['name']} is not named: {said[-900:]}"
    assert "meshlink/adopt=mesh" in said, said[-900:]
    assert before == (things(ONE), things(TWO)), "something was changed"
    return f"{len(foreign) - 1} objects named, nothing changed"


@scenario("what-is-somebody-elses-stands-against-a-join", seldom=True)
def a_namespace_with_copied_labels_outlives_a_leave():
    afresh()
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    metadata = get(ONE, "namespace", INGRESS)["metadata"]
    copy = {"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "payments", "labels": {k: v for k, v in metadata["labels"].items() if k != "kubernetes.io/metadata.name"},
        "annotations": {k: v for k, v in metadata["annotations"].items() if k.startswith("meshlink/")}}}
    assert copy["metadata"]["annotations"], "a namespace that meshlink made has no mark"
    apply(ONE, copy, thing("Secret", "till", "payments", stringData={"k": "v"}),
          {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-tls", "namespace": INGRESS}, "stringData": {"k": "v"}})
    plain = " ".join(meshlink("leave", ONE.name, "--uninstall", "--crds", "--yes", "--timeout", "180s").split())
    assert f"Namespace {INGRESS} stays in {ONE.name}" in plain and "shop-tls" in plain, plain[-900:]
    for name, namespace in ("till", "payments"), ("shop-tls", INGRESS):
        assert get(ONE, "secret", name, "-n", namespace), f"{namespace}/{name} is gone"
    assert not get(ONE, "namespace", SYSTEM) or "deletionTimestamp" in get(ONE, "namespace", SYSTEM)["metadata"]
    return "payments and istio-ingress/shop-tls stay"


@scenario("a-namespace-with-copied-labels-outlives-a-leave", seldom=True)
def who_never_was_a_member_is_not_taken_apart():
    """What eks-2 says of itself is taken away, as if Helm alone had installed all of it."""
    claim = get(TWO, "configmap", "meshlink-root", "-n", SYSTEM)
    kubectl(TWO, "delete", "configmap", *MADE, "-n", SYSTEM)
    before = things(TWO)
    said = " ".join(meshlink("leave", TWO.name, "--uninstall", "--crds", "--yes", expect=5).split())
    assert "is not bound to mesh" in said, said[-600:]
    assert before == things(TWO), "something was changed"
    metadata = {k: claim["metadata"][k] for k in ("name", "namespace", "labels", "annotations")}
    kubectl(TWO, "create", "-f", "-", stdin=json.dumps({**claim, "metadata": metadata}))
    meshlink("leave", TWO.name, "--uninstall", "--crds", "--yes", "--timeout", "180s")
    assert not get(TWO, "deployment", "istiod", "-n", SYSTEM)
    return "refused without its claim, and left with it"
