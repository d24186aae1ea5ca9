"""Releases on real clusters: what meshlink installs Helm goes on with, and the other way round."""
import base64
import gzip
import json
import shutil
import tempfile
from pathlib import Path

from meshlab import config, up
from meshlab.shell import lock

from .kit import BOTH, GATEWAY, INGRESS, ONE, SYSTEM, TWO, apply, attempt, get, helm, kubectl, operator
from .meshlink import ended, program
from .runner import scenario

HOME = Path(tempfile.mkdtemp(prefix="meshlink-lab-charts-"))
VALUES = config.LAB / "values"
REPO = ("--repo", config.CHARTS_URL, "--version", config.ISTIO_VERSION)


def mesh_file():
    file = HOME / "mesh.yaml"
    members = "\n".join(f"  - {{name: {c.name}, network: net-{c.name}, context: {c.name}}}" for c in BOTH)
    file.write_text(f"mesh: charts\nistio: {{charts: '{config.CHARTS_URL}', valuesFiles: [{VALUES / 'istiod.yaml'}]}}\n"
                    f"gateway: {{valuesFiles: [{VALUES / 'gateway.yaml'}]}}\nclusters:\n{members}\n")
    return file


def meshlink(*words, expect=0, with_mesh=True):
    settings = [f"HOME={HOME}", f"MESHLINK_ISTIO_VERSION={config.ISTIO_VERSION}"]
    command = ["env", *settings, program(), *words, *(("-f", mesh_file()) if with_mesh else ())]
    printed, said = ended(attempt(*command, seconds=240), expect, words)
    return said + printed


def join():
    said = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in said, said[-600:]
    return said


def records(cluster, namespace, release):
    """Revision to status, as the labels say it."""
    found = get(cluster, "secret", "-n", namespace, "-l", f"owner=helm,name={release}")["items"]
    labels = [s["metadata"]["labels"] for s in found]
    return {int(label["version"]): label["status"] for label in labels}


def json_of(cluster, *argv):
    return json.loads(helm(cluster, *argv, "-o", "json"))


@scenario()
def helm_template_and_chart_template_print_the_same():
    folder = HOME / "charts"
    meshlink("chart", "pull", *REPO, "-d", folder, "base", "istiod", "gateway", "cni", "ztunnel", with_mesh=False)
    size = 0
    for name in ("base", "istiod", "gateway", "cni", "ztunnel"):
        archive = folder / f"{name}-{config.ISTIO_VERSION}.tgz"
        values = VALUES / ("gateway.yaml" if name == "gateway" else "istiod.yaml")
        words = ("template", "x", archive, "-n", SYSTEM, "-f", values, "--set", "global.network=n")
        ours = operator("env", f"HOME={HOME}", program(), "chart", *words)
        theirs = operator("helm", *words)
        assert ours == theirs, f"{name} differs"
        size += len(ours)
    return f"five charts, {size} bytes, all equal"


@scenario(seldom=True)
def what_helm_installed_meshlink_adopts():
    with lock():
        up.reset()
    shutil.rmtree(HOME / ".local", ignore_errors=True)
    apply(ONE, *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in (SYSTEM, INGRESS)))
    helm(ONE, "install", "istio-base", "base", *REPO, "-n", SYSTEM, "--set", "global.resourceScope=all")
    helm(ONE, "install", GATEWAY, "gateway", *REPO, "-n", INGRESS, "-f", VALUES / "gateway.yaml",
         "--set", "podAnnotations.team=shop,labels.kept=yes")
    join()
    assert records(ONE, INGRESS, GATEWAY) == {1: "superseded", 2: "deployed"}, records(ONE, INGRESS, GATEWAY)
    kept = json_of(ONE, "get", "values", GATEWAY, "-n", INGRESS)
    assert kept["podAnnotations"] == {"team": "shop"} and kept["labels"]["kept"] in (True, "yes"), kept
    assert kept["labels"]["topology.istio.io/network"] == f"net-{ONE.name}", kept
    pod = get(ONE, "deploy", GATEWAY, "-n", INGRESS)["spec"]["template"]["metadata"]
    assert pod["annotations"]["team"] == "shop", pod
    assert "nothing to do" in meshlink("plan")
    return "revision 2 in place, the user's values kept, 2 of 2 pairs proved"


@scenario("what-helm-installed-meshlink-adopts", seldom=True)
def helm_reads_what_meshlink_installed():
    listed = {r["name"]: (r["status"], r["chart"]) for r in json_of(TWO, "list", "-A")}
    version = config.ISTIO_VERSION
    assert listed == {"istio-base": ("deployed", f"base-{version}"), "istiod": ("deployed", f"istiod-{version}"),
                      GATEWAY: ("deployed", f"gateway-{version}")}, listed
    status = json_of(TWO, "status", "istiod", "-n", SYSTEM)
    assert status["info"]["status"] == "deployed" and status["version"] == 1, status["info"]
    values = json_of(TWO, "get", "values", "istiod", "-n", SYSTEM)
    assert values["global"]["network"] == f"net-{TWO.name}", values
    manifest = helm(TWO, "get", "manifest", "istiod", "-n", SYSTEM)
    (HOME / "values.json").write_text(json.dumps(values))
    again = operator("helm", "template", "istiod", "istiod", *REPO, "-n", SYSTEM, "-f", HOME / "values.json",
                     "--kube-version", config.KUBERNETES_VERSION)
    assert manifest.strip() == again.strip(), "the recorded manifest is not what Helm renders"
    history = json_of(TWO, "history", "istiod", "-n", SYSTEM)
    assert [h["revision"] for h in history] == [1], history
    return f"list, status, values, history, and a manifest of {len(manifest)} bytes that Helm renders too"


@scenario("helm-reads-what-meshlink-installed", seldom=True)
def helm_upgrades_and_rolls_back_and_meshlink_sees_no_drift():
    helm(TWO, "upgrade", "istiod", "istiod", *REPO, "-n", SYSTEM, "--reuse-values",
         "--set", "podAnnotations.team=shop")
    said = meshlink("plan", expect=10)
    assert "install-istiod" not in said, said
    join()
    assert "nothing to do" in meshlink("plan")
    deployment = get(TWO, "deploy", "istiod", "-n", SYSTEM)
    assert deployment["spec"]["template"]["metadata"]["annotations"]["team"] == "shop"
    # The first revision has a failurePolicy that istiod took over since; without the flag Helm stops at it, its own releases too.
    helm(TWO, "rollback", "istiod", "1", "-n", SYSTEM, "--force-conflicts")
    assert records(TWO, SYSTEM, "istiod")[3] == "deployed", records(TWO, SYSTEM, "istiod")
    said = meshlink("plan", expect=10)
    assert "install-istiod" not in said, said
    join()
    return "upgrade and rollback by Helm: no step of meshlink undoes them, the mesh is proved again"


@scenario("helm-reads-what-meshlink-installed", seldom=True)
def what_helm_left_pending_stops_meshlink_until_it_is_rolled_back():
    operator("timeout", "-s", "KILL", "3", "helm", "--kube-context", ONE.name, "upgrade", GATEWAY, "gateway", *REPO, "-n",
             INGRESS, "--reuse-values", "--wait", "--set", "readinessProbe.httpGet.port=1", check=False)
    status = records(ONE, INGRESS, GATEWAY)
    newest = max(status)
    assert status[newest] == "pending-upgrade", status
    said = meshlink("join", "--yes", "--timeout", "60s", expect=5)
    assert f"rollback {GATEWAY}" in said, said
    helm(ONE, "rollback", GATEWAY, str(newest - 1), "-n", INGRESS)
    join()
    return f"revision {newest} pending: refused with the command that helps, then done"


@scenario("helm-reads-what-meshlink-installed", seldom=True)
def what_meshlink_left_pending_helm_and_meshlink_go_on_with():
    leave_pending(TWO, SYSTEM, "istio-base")
    refused = operator("sh", "-c", '"$@" 2>&1 || true', "sh", "helm", "--kube-context", TWO.name, "upgrade", "istio-base",
                       "base", *REPO, "-n", SYSTEM)
    assert "in progress" in refused, refused
    join()
    newest = max(records(TWO, SYSTEM, "istio-base"))
    assert records(TWO, SYSTEM, "istio-base")[newest] == "deployed", records(TWO, SYSTEM, "istio-base")
    leave_pending(TWO, SYSTEM, "istio-base")
    helm(TWO, "rollback", "istio-base", str(newest - 1), "-n", SYSTEM, "--force-conflicts")
    assert records(TWO, SYSTEM, "istio-base")[newest + 1] == "deployed", records(TWO, SYSTEM, "istio-base")
    join()
    return "Helm refuses while it is pending; a join ends it, and so does a rollback by Helm"


def leave_pending(cluster, namespace, release):
    """The newest record as a run leaves it that dies before its end."""
    newest = max(records(cluster, namespace, release))
    name = f"sh.helm.release.v1.{release}.v{newest}"
    secret = get(cluster, "secret", name, "-n", namespace)
    record = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    record["info"]["status"] = "pending-upgrade"
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()
    patch = {"metadata": {"labels": {"status": "pending-upgrade"}}, "data": {"release": packed}}
    # A release record is more than an argument may be.
    kubectl(cluster, "patch", "secret", name, "-n", namespace, "--type=merge", "--patch-file=/dev/stdin",
            stdin=json.dumps(patch))


@scenario("helm-reads-what-meshlink-installed", seldom=True)
def what_helm_uninstalled_meshlink_installs_again():
    helm(ONE, "uninstall", GATEWAY, "-n", INGRESS, "--wait")
    assert f"install-gateway/{ONE.name}" in meshlink("plan", expect=10)
    join()
    assert records(ONE, INGRESS, GATEWAY) == {1: "deployed"}, records(ONE, INGRESS, GATEWAY)
    return "gone with Helm, back with a join"


@scenario("what-helm-uninstalled-meshlink-installs-again", seldom=True)
def a_rendered_mesh_is_what_stands():
    folder = HOME / "gitops"
    meshlink("render", "--out", folder, "--kube-version", config.KUBERNETES_VERSION)
    for stage in ("1-base", "2-istiod", "3-gateway"):
        said = kubectl(TWO, "apply", "--server-side", "--force-conflicts", "--field-manager=gitops",
                       "-k", folder / TWO.name / stage)
        assert "serverside-applied" in said, said
    assert "nothing to do" in meshlink("plan")
    meshlink("render", "--out", folder, "--check", "--kube-version", config.KUBERNETES_VERSION)
    return "kubectl applies every stage, and a plan finds nothing to do"
