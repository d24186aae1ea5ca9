"""An API server changes the authority it is known by, in the order of EKS, while requests cross: none may fail.

The lab's API server really changes it: its certificate is issued anew under the successor and every connection to it is
made again. What whoever runs the cluster has to do for its own nodes and pods is done here as EKS does it; what has to be
done for the peers is `meshlink renew`, once before the change and once after. The operator comes by contexts.
"""
import base64
import json
import subprocess

from meshlab import config, controlplane, node, pki, proc, up
from meshlab.build import ready
from meshlab.shell import lock

from .kit import BOTH, ONE, SYSTEM, TWO, attempt, both, eventually, get, kubectl, remote_status, restart
from .meshlink import HOME, afresh, ended, program
from .readers import entry
from .rotate import Load, ready_for_traffic, running
from .runner import scenario

FILE = HOME / "authorities.yaml"
VALUES = config.LAB / "values"
RENEW = ("renew", "-f", FILE, "--what", "api-cas", "--yes")


def by_contexts(*words, expect=0):
    """Run it by the kubeconfig as it is now, without AWS."""
    settings = [f"HOME={HOME}", f"MESHLINK_CHARTS={config.CHARTS_URL}", f"MESHLINK_ISTIO_VERSION={config.ISTIO_VERSION}",
                f"MESHLINK_ISTIOD_VALUES={VALUES / 'istiod.yaml'}", f"MESHLINK_GATEWAY_VALUES={VALUES / 'gateway.yaml'}"]
    printed, said = ended(attempt("env", *settings, program(), *words, seconds=240), expect, words)
    return said + printed


def known():
    """The authorities by which eks-2's istiod knows eks-1, by the names in their certificates."""
    (line,) = [line for line in entry(TWO, ONE).splitlines() if line.strip().startswith("certificate-authority-data: ")]
    return names(base64.b64decode(line.split(": ")[1].strip().strip('"')).decode())


def handed_out():
    """Those that eks-1 hands to every pod."""
    return names(get(ONE, "configmap", "kube-root-ca.crt", "-n", SYSTEM)["data"]["ca.crt"])


def names(bundle):
    certificates = [part + "-----END CERTIFICATE-----\n" for part in bundle.split("-----END CERTIFICATE-----\n")[:-1]]
    shown = (subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline"], input=one, text=True,
                            capture_output=True, check=True).stdout for one in certificates)
    return sorted(text.split("commonName")[1].strip(" =\n") for text in shown)


def signer():
    """Who has signed what eks-1's API server shows."""
    address = ONE.server.removeprefix("https://")
    hello = subprocess.run([*proc.in_member("operator"), "openssl", "s_client", "-connect", address], input="",
                           capture_output=True, text=True, timeout=20).stdout
    shown = subprocess.run(["openssl", "x509", "-noout", "-issuer", "-nameopt", "multiline"], input=hello, text=True,
                           capture_output=True).stdout
    return shown.split("commonName")[-1].strip(" =\n")


OLD, NEXT = ONE.name, f"{ONE.name} successor"


@scenario(seldom=True)
def a_mesh_by_contexts_with_traffic():
    program()
    afresh()
    FILE.write_text(json.dumps({"mesh": "authorities", "clusters": [{"name": c.name} for c in BOTH]}))
    by_contexts("join", "-f", FILE, "--yes", "--timeout", "240s")
    both(ready_for_traffic)
    assert known() == handed_out() == [OLD] and signer() == OLD


@scenario("a-mesh-by-contexts-with-traffic", seldom=True)
def an_api_server_changes_its_authority_and_no_request_is_lost():
    built = ready()
    prepare(built)
    pods = running()
    with Load(seconds=75) as load:
        # Both are trusted, and the old one signs.
        controlplane.restart_controllers(ONE, built)
        eventually("both are handed out", lambda: handed_out() == [OLD, NEXT], 30)
        told = by_contexts("plan", "renew", "-f", FILE, "--what", "api-cas", "-v", expect=10)
        assert "the API server's CA changed" in told, told[-900:]
        by_contexts(*RENEW)
        assert known() == [OLD, NEXT], known()
        dates = by_contexts("ca", "status", "-f", FILE)
        # What runs in eks-1 and speaks to its own API server is told by whoever runs it.
        restart(ONE, SYSTEM, "istiod")
        # The new one signs, and whoever was connected connects anew. By what eks-1 itself is known here, the operator
        # does not know it any more.
        pki.issue_server(ONE, "next")
        eventually("the successor signs", lambda: signer() == NEXT, 90)
        controlplane.restart_apiserver(ONE, built)
        by_contexts("status", "-f", FILE, expect=6)
        up.write_kubeconfig()
        eventually("eks-2 reads eks-1", lambda: remote_status(TWO)[ONE.name] == "synced", 30)
        restart(TWO, SYSTEM, "istiod")
        eventually("eks-2 reads eks-1", lambda: remote_status(TWO)[ONE.name] == "synced", 30)
        assert "nothing to do" in by_contexts(*RENEW)
        # The old one is gone.
        pki.know_server_by(ONE, "next")
        controlplane.restart_controllers(ONE, built)
        up.write_kubeconfig()
        eventually("the successor alone is handed out", lambda: handed_out() == [NEXT], 30)
        by_contexts(*RENEW)
        assert known() == [NEXT], known()
    sent = load.nothing_failed()
    by_contexts("verify", "--traffic", "-f", FILE)
    assert len(pods - running()) == 2, "more than the two istiods was restarted"
    rows = [" ".join(line.split()) for line in dates.splitlines() if "API CA" in line or "api-ca" in line]
    return f"{sent} requests, none failed; {'; '.join(rows)}"


def prepare(built):
    """What whoever runs eks-1 does before anything changes: its nodes and its pods trust both."""
    pki.make_successor(ONE)
    pki.know_server_by(ONE, "ca", "next")
    pki.write_kubeconfigs(ONE)
    node.restart_clients(ONE, built)
    eventually("eks-1 is as it was", lambda: kubectl(ONE, "get", "--raw", "/readyz") == "ok", 30)


@scenario("an-api-server-changes-its-authority-and-no-request-is-lost", seldom=True)
def the_next_scenario_finds_clusters_that_know_each_other():
    """The lab's cloud does not follow such a change: it is made anew."""
    with lock():
        up.reset()
