"""What crosses the mesh that meshlink.py made: each address, each protocol, each identity; and a user's own Service."""
import json
import shutil
import subprocess
import xml.etree.ElementTree as xml

from meshlab import config, proc
from meshlab.shell import run as do

from . import junit
from .kit import BOTH, ONE, TWO, eventually, gateway_endpoints, get, kubectl, operator
from .meshlink import HOME, NAMES, environment, program, run
from .runner import Skip, scenario

JOINED = "one-command-joins-two-clusters-and-proves-it"
PROBE = "meshlink-probe"


def verify(*words, expect=0):
    """The verdict as a program reads it."""
    printed, _ = run("verify", *NAMES, *words, "-o", "json", "--yes", expect=expect)
    return json.loads(printed)


def failed(verdict):
    return {"/".join([c["id"], c["from"], c.get("to", "")]).rstrip("/"): c["evidence"]
            for c in verdict["checks"] if c["outcome"] == "failed"}


def evidence(verdict, claim, one, two):
    (found,) = [c["evidence"] for c in verdict["checks"]
                if (c["id"], c["from"], c.get("to")) == (claim, one.name, two.name)]
    return found


def nothing_is_left():
    for cluster in BOTH:
        eventually(f"no probe in {cluster.name}", lambda c=cluster: not get(c, "namespace", PROBE), 30)


@scenario(JOINED)
def every_address_carries_every_protocol():
    verdict = verify("--traffic", "--junit", HOME / "claims.xml")
    asked = verdict["traffic"]
    assert len(asked) == 2 * (3 + 4 * 2), len(asked)
    assert all(a["asked"] == a["answered"] for a in asked), asked
    for one, two in ((ONE, TWO), (TWO, ONE)):
        at = {a["at"] for a in asked if a["from"] == one.name and "at" in a}
        assert at == gateway_endpoints(two), at
        # By their certificates: what the asking side saw past its sidecar, and what the answering sidecar told.
        account = f"spiffe://cluster.local/ns/{PROBE}/sa/probe-"
        seen = f"{one.name} saw {account}{two.name}, {two.name} saw {account}{one.name}"
        assert evidence(verdict, "identity", one, two) == seen, evidence(verdict, "identity", one, two)
    nothing_is_left()
    suite = xml.parse(HOME / "claims.xml").getroot().find("testsuite")
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests")) == len(verdict["checks"]) and suite.get("failures") == "0"
    return f"{evidence(verdict, 'addresses', ONE, TWO)}; {evidence(verdict, 'proved', ONE, TWO)}"


@scenario("every-address-carries-every-protocol", seldom=True)
def one_dead_address_of_two_is_named():
    """Nothing answers at one of eks-2's addresses, and its peer's proxy would rather not say so."""
    alive, dead = sorted(gateway_endpoints(TWO))
    inside = proc.in_netns(config.CLOUD_NS)
    rules = f"""table ip dead {{
      chain dead {{ type filter hook prerouting priority -160; ip daddr {dead.split(':')[0]} drop; }}
    }}"""
    subprocess.run([*inside, "nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        bad = failed(verify("--traffic", "--junit", HOME / "dead.xml", expect=4))
    finally:
        do(*inside, "nft", "delete", "table", "ip", "dead")
    told = bad["addresses/eks-1/eks-2"]
    assert f"{alive} carries http, grpc, tcp, headless" in told and f"{dead} does not answer" in told, told
    assert not any(path.endswith("eks-2/eks-1") for path in bad), bad
    nothing_is_left()
    return told


@scenario("one-dead-address-of-two-is-named", seldom=True)
def reports_hold_to_the_schemas_of_junit():
    """All claims hold; one does not; and no verdict at all."""
    if not shutil.which("cargo"):
        raise Skip("two of the schemas are in a crate: it needs cargo")
    run("verify", *NAMES, "--junit", HOME / "none.xml", expect=1, AWS_SECRET_ACCESS_KEY="guessed")
    said = []
    for name, outcome in (("claims", None), ("dead", "failure"), ("none", "error")):
        file = HOME / f"{name}.xml"
        assert not (odd := junit.faults(file)), f"{name}: {odd}"
        cases = xml.parse(file).getroot().find("testsuite").findall("testcase")
        bad = [c.get("name") for c in cases if outcome and c.find(outcome) is not None]
        assert bad or not outcome, f"{name} has no {outcome}"
        said.append(f"{name}: {len(cases)} cases, {len(bad)} bad")
    return f"{'; '.join(said)}; {', '.join(junit.SCHEMAS)}"


@scenario("one-dead-address-of-two-is-named", seldom=True)
def what_a_killed_run_leaves_the_next_takes_away():
    settings = [f"{name}={value}" for name, value in environment().items()]
    command = ["env", "-u", "KUBECONFIG", *settings, program(), "verify", *NAMES, "--traffic", "--yes"]
    there = " && ".join(f"kubectl --context {c.name} -n {PROBE} get deploy/meshlink-probe" for c in BOTH)
    operator("sh", "-c", '"$@" >/dev/null 2>&1 & pid=$!; '
             f'until ({there}) >/dev/null 2>&1; do sleep 0.1; done; kill -KILL $pid', "sh", *command, seconds=90)
    assert get(ONE, "namespace", PROBE), "it was killed too late"
    heard_by_the_gate()
    assert not failed(verify("--traffic"))
    nothing_is_left()
    return "killed with its probes there: they tell the gate of TLS; the next run proved everything and left nothing"


def heard_by_the_gate():
    """Whoever is there answers TLS at each address; where nobody is, the gateway has no certificate to show."""
    def tried():
        printed, _ = run("wait", "nlb", TWO.name, "-o", "json", "--timeout", "60s")
        return json.loads(printed)["balancers"][0]["tried"][0]["says"]

    def told():
        answers = [f"{at} answered TLS as spiffe://cluster.local/ns/{PROBE}/sa/probe-{TWO.name}"
                   for at in gateway_endpoints(TWO)]
        return all(answer in tried() for answer in answers)
    eventually("TLS at both addresses", told, 60)
    kubectl(TWO, "delete", "namespace", PROBE)
    says = tried()
    assert says == f"was reached, TCP only: no probe runs in {TWO.name} to answer TLS", says


@scenario("every-address-carries-every-protocol", seldom=True)
def the_sample_is_answered_by_both_clusters_from_both():
    run("sample", "up", *NAMES, "--yes")
    try:
        def called():
            printed, _ = run("sample", "call", *NAMES, "-o", "json")
            return {c["from"]: c["answers"] for c in json.loads(printed)["calls"]}
        counts, _ = eventually("answers of both", lambda: quietly(called), 30)
        verdict = verify("--service", "sample/helloworld")
        held = {c["cluster"]: {f"{e['address']}:{e['port']}": e for e in c["endpoints"] if e.get("via_network")}
                for c in verdict["service"]["clusters"]}
        assert set(held[ONE.name]) == gateway_endpoints(TWO), held
        assert all(e["of"] == TWO.name and e["zone"] for e in held[ONE.name].values()), held
    finally:
        run("sample", "down", *NAMES, "--yes")
    for cluster in BOTH:
        assert not get(cluster, "namespace", "sample"), cluster.name
    bad = failed(verify("--service", "sample/helloworld", expect=4))
    assert set(bad) == {"service-there/eks-1", "service-there/eks-2"}, bad
    return str(counts)


def quietly(fact):
    try:
        return fact()
    except AssertionError:
        return None
