"""AWS around the mesh that meshlink.py made: load balancers and their targets, who is let in, leaving, Terraform."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from meshlab import cloud, proc
from meshlab.shell import LabError

from .kit import (BOTH, GATEWAY, INGRESS, ONE, TWO, both, connect, eventually, gateway_endpoints, get, kubectl,
                  operator, other)
from .meshlink import HOME, NAMES, PROJECT, environment, held, inventory, meshlink, program, run
from .runner import Skip, scenario

JOINED = "one-command-joins-two-clusters-and-proves-it"


def nlb(*names, expect=0, timeout="20s"):
    """What `wait nlb` says of these gateways, by cluster."""
    printed, _ = run("wait", "nlb", *names, "-o", "json", "--timeout", timeout, expect=expect)
    return {b["cluster"]: b for b in json.loads(printed)["balancers"]}


def bindings(cluster):
    return get(cluster, "targetgroupbindings", "-n", INGRESS)["items"]


@scenario(JOINED)
def aws_and_the_cluster_agree_about_the_load_balancer():
    """The Service as the controller leaves it: class, finalizer, a binding whose group has the pod as its target."""
    for cluster in BOTH:
        service = get(cluster, "service", GATEWAY, "-n", INGRESS)
        assert service["spec"]["loadBalancerClass"] == "service.k8s.aws/nlb"
        assert "service.k8s.aws/resources" in service["metadata"]["finalizers"]
        (binding,) = bindings(cluster)
        name = binding["metadata"]["name"]
        assert re.fullmatch(r"k8s-istioing-istioeas-[0-9a-f]{10}", name), name
        assert binding["spec"]["targetGroupARN"].split("/")[1] == name
        assert binding["spec"]["serviceRef"]["port"] == 15443 and binding["spec"]["targetType"] == "ip"
    ready = nlb(ONE.name)[ONE.name]["balancer"]
    (pod,) = get(ONE, "pod", "-n", INGRESS, "-l", "istio=eastwestgateway")["items"]
    assert [t["id"] for t in ready["targets"]] == [pod["status"]["podIP"]], ready["targets"]
    assert ready["groups"][0]["arn"] == bindings(ONE)[0]["spec"]["targetGroupARN"]
    return f"{ready['state']} in {', '.join(ready['zones'])}; target {ready['targets'][0]['id']}:15443"


@scenario(JOINED)
def the_gateways_are_open_to_their_peers_only():
    """What was derived from the networks: each gateway lets in the address by which its peer leaves."""
    def look(cluster):
        address, peer = min(gateway_endpoints(cluster)), other(cluster)
        assert connect(proc.in_netns(peer.netns), address) == "open"
        assert connect(proc.in_member("operator"), address) == "timeout"
        sources = get(cluster, "service", GATEWAY, "-n", INGRESS)["spec"]["loadBalancerSourceRanges"]
        assert sources == [f"{peer.wan_ip}/32"], sources
    both(look)
    return "open to the peer, a timeout for others"


@scenario(JOINED)
def the_wait_for_load_balancers_says_what_is_wrong():
    """Whatever AWS may say of a target is told with its cause, and ends with 4; the truth ends with 0."""
    heard = []
    for health, words in (("unhealthy", "Target.FailedHealthChecks"), ("draining", "Target.DeregistrationInProgress"),
                          ("unused", "Target.NotInUse"), ("empty", "no target is registered")):
        cloud.settings(TWO.name, health=health)
        try:
            def told():
                bad = nlb(TWO.name, expect=4, timeout="2s")[TWO.name]
                return bad["hints"] and words in bad["reason"]
            eventually(f"word of {health}", told, 20)
        finally:
            cloud.settings(TWO.name, health="")
        heard.append(words)
    found = nlb(*NAMES)
    assert all(b["ready"] for b in found.values()) and set(found) == set(NAMES), found
    return "; ".join(heard)


@scenario("the-wait-for-load-balancers-says-what-is-wrong", seldom=True)
def a_gateway_that_listens_no_more_is_drift_and_an_unhealthy_target():
    """Its Gateway object selects other pods: a try from inside the VPC tells, a join mends it."""
    kubectl(TWO, "-n", INGRESS, "patch", "gateways.networking.istio.io", "cross-network-gateway", "--type=merge",
            "-p", '{"spec":{"selector":{"istio":"another"}}}')
    said = meshlink("plan", expect=10)
    assert f"expose-services/{TWO.name}" in said, said[-600:]
    reasons = [""]

    def told():
        bad = nlb(TWO.name, expect=4, timeout="2s")[TWO.name]
        reasons.append(bad["reason"])
        return "Gateway" in bad["reason"]
    try:
        eventually("an unhealthy target and why", told, 20)
    except LabError as error:
        raise AssertionError(f"{error}: {reasons[-1]}") from None
    mended = meshlink("join", "--yes", "--timeout", "180s")
    assert "2 of 2 pairs proved" in mended, mended[-600:]
    assert nlb(TWO.name)[TWO.name]["ready"]
    return f"plan: drift; wait: {reasons[-1]}; a join mends it"


@scenario(JOINED)
def a_name_that_is_not_in_dns_is_found_out():
    """AWS is content with the load balancer, and yet nobody finds it."""
    cloud.settings(TWO.name, resolve=False)
    try:
        tried = nlb(TWO.name)[TWO.name]["tried"][0]
        assert tried["addresses"] == [], tried
    finally:
        cloud.settings(TWO.name, resolve=True)
    found = nlb(TWO.name)[TWO.name]["tried"][0]["addresses"]
    assert {f"{a}:15443" for a in found} == gateway_endpoints(TWO), found
    return f"no address; then {', '.join(found)}"


@scenario(JOINED)
def who_is_not_let_in_is_told_so():
    """By AWS, if the signature is wrong; by the cluster, if the token is not for it."""
    _, said = run("status", *NAMES, expect=1, AWS_SECRET_ACCESS_KEY="guessed")
    assert "signature" in said.lower(), said
    token = "k8s-aws-v1.aHR0cHM6Ly9zdHMudXMtd2VzdC0yLmFtYXpvbmF3cy5jb20vPw"
    code = operator("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ONE.pki / "ca.crt",
                    "-H", f"Authorization: Bearer {token}", f"{ONE.server}/api", check=False)
    assert code == "401", code
    _, said = run("join", ONE.name, "eks-9", "--yes", expect=1)
    assert "eks-9" in said, said
    return said.strip().splitlines()[0]


@scenario(JOINED)
def a_load_balancer_that_nobody_would_remove_keeps_its_cluster():
    """Without its controller the Service would hang on its finalizer for ever: refused before anything is done."""
    deployment = ("-n", "kube-system", "deployment/aws-load-balancer-controller")

    def scale(replicas):
        kubectl(TWO, "scale", *deployment, f"--replicas={replicas}")
        eventually(f"{replicas} controllers", lambda: get(TWO, "-n", "kube-system", deployment[2])["status"].get(
            "readyReplicas", 0) == replicas, 30)
    scale(0)
    try:
        said = meshlink("leave", TWO.name, "--uninstall", "--yes", expect=5)
        assert "none of it runs" in " ".join(said.split()), said
    finally:
        scale(1)
    return next(line for line in said.splitlines() if TWO.name in line)


@scenario(JOINED)
def leavers_hold_what_they_held_before_and_the_cloud_holds_nothing():
    said = meshlink("leave", *NAMES, "--uninstall", "--crds", "--yes", "--timeout", "180s")
    for cluster in BOTH:
        after = held(cluster)
        assert after == inventory[cluster], sorted(after ^ inventory[cluster])
    told = cloud.request("GET", "/services")
    assert not told["balancers"] and not any(c["services"] for c in told["clusters"]), told
    return next(line for line in said.splitlines() if line.startswith("done:"))


@scenario("leavers-hold-what-they-held-before-and-the-cloud-holds-nothing", seldom=True)
def terraform_applies_and_destroys_the_mesh():
    terraform, go = shutil.which("terraform"), shutil.which("go")
    if not terraform or not go:
        raise Skip("it needs terraform and go")
    provider = HOME / "provider"
    subprocess.run([go, "build", "-o", provider / "terraform-provider-external", "."], check=True, capture_output=True,
                   cwd=PROJECT / "tests" / "terraform" / "external")
    path = f"{Path(terraform).parent}:{os.environ['PATH']}"
    settings = [f"{name}={value}" for name, value in environment(TERRAFORM_EXTERNAL=provider, PATH=path).items()]
    said = operator("env", "-u", "KUBECONFIG", *settings, PROJECT / "tests" / "terraform" / "run", program(), "--here",
                    seconds=400)
    assert not cloud.state()["balancers"], "a load balancer is left"
    return said.strip().splitlines()[-1]
