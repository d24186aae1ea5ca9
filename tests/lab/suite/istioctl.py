"""istioctl's own commands, from every member of a mesh that meshlink made, each within a time limit.

istioctl follows the remote secrets it finds: what the reader may not list there, `analyze` waits for without end.
"""
import json
import subprocess


from .kit import BOTH, INGRESS, attempt, other
from .meshlink import HOME
from .runner import scenario

GATEWAY = f"deploy/istio-eastwestgateway.{INGRESS}"
SECONDS = 30
# What each command must say for the answer to be one about this cluster and its peer.
COMMANDS = {
    "analyze": (("analyze", "--all-namespaces", "-o", "json"), lambda cluster, said: isinstance(json.loads(said or "[]"), list)),
    "proxy-status": (("proxy-status",), lambda cluster, said: "istio-eastwestgateway-" in said and cluster.name in said),
    "proxy-config clusters": (("proxy-config", "clusters", GATEWAY), lambda cluster, said: "istiod.istio-system.svc" in said),
    "proxy-config endpoints": (("proxy-config", "endpoints", GATEWAY), lambda cluster, said: "HEALTHY" in said),
    "proxy-config secret": (("proxy-config", "secret", GATEWAY), lambda cluster, said: "ROOTCA" in said and "ACTIVE" in said),
    "remote-clusters": (("remote-clusters",), lambda cluster, said: said.count("synced") == 2 and other(cluster).name in said),
    "x precheck": (("x", "precheck"), lambda cluster, said: "No issues found" in said),
    "bug-report": (("bug-report", "--dir", HOME / "bug-report", "--output-dir", HOME), lambda cluster, said: "Done" in said),
}


def ended(cluster, words):
    """How a command of istioctl ended, or that it did not."""
    try:
        done = attempt("istioctl", "--context", cluster.name, *words, seconds=SECONDS)
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or late.stdout or b"").decode(errors="replace").strip().splitlines()
        raise AssertionError(f"{cluster.name}: istioctl {words[0]} has not ended after {SECONDS} s: {said[-1:]}") from late
    assert done.returncode == 0, f"{cluster.name}: istioctl {words[0]}: {(done.stderr or done.stdout).strip()[-600:]}"
    return done


@scenario("one-command-joins-two-clusters-and-proves-it")
def istioctls_own_commands_end_and_know_the_mesh():
    took = []
    for name, (words, knows) in COMMANDS.items():
        for cluster in BOTH:
            done = ended(cluster, words)
            said = done.stdout if name == "analyze" else done.stdout + done.stderr
            assert knows(cluster, said), f"{cluster.name}: {name}: {said[-600:]}"
        took.append(name)
    return ", ".join(took)


@scenario("istioctls-own-commands-end-and-know-the-mesh")
def analyze_finds_nothing_wrong_but_node_ports():
    """Warnings count too; what it says of namespaces that nobody injects into is for information.

    It calls the gateways' Services inconsistent (IST0170): each cluster draws its own node ports.
    """
    found = []
    for cluster in BOTH:
        for message in json.loads(ended(cluster, COMMANDS["analyze"][0]).stdout or "[]"):
            ports = message["code"] == "IST0170" and "istio-eastwestgateway" in message["message"] \
                and message["message"].endswith("The inconsistent behaviors are: service ports are inconsistent.")
            if message["level"] != "Info" and not ports:
                found.append(f"{cluster.name}: {message['code']} {message.get('origin', '')}: {message['message']}"[:300])
    assert not found, found
    return "no warning in either but of the gateways' node ports"
