"""The AWS API of the lab's cloud: meshlink's own emulator, run as one of the cloud's programs.

It is the program `SANDBOX_AWS_BIN` names, or what `cargo build` of the sandbox crate left in this tree. Without either the lab has no
AWS API, and everything else is as it is.
"""
import json
import os
import secrets
from pathlib import Path

from . import config, controlplane, images, proc
from .shell import run, wait_for

MEMBER, NAME = "cloud", "aws"
BUILD = ["cargo", "build", "--locked", "--quiet", "-p", "istio-sandbox", "--features", "program", "--bin", "sandbox-aws"]
NONE = f"no AWS API: there was no program to play it (`{' '.join(BUILD)}` or SANDBOX_AWS_BIN, then `lab/lab reset`)"


def program():
    """The program to play AWS with, or None."""
    named = os.environ.get("SANDBOX_AWS_BIN")
    target = os.environ.get("CARGO_TARGET_DIR") or config.LAB.parent / "target"
    path = Path(named or Path(target) / "debug" / "sandbox-aws").absolute()
    able = path.is_file() and "--laboratory" in run(path, "--help", check=False)
    return path if able else None


def is_up():
    return proc.pid_of(MEMBER, NAME) is not None


def start():
    """Play AWS, if there is something to play it with."""
    if not (player := program()):
        return
    _write_key()
    inside = proc.in_netns(config.CLOUD_NS)
    proc.start(MEMBER, NAME, inside, [
        player, "--listen", f"{config.CLOUD_IP}:{config.AWS_PORT}",
        "--user", config.AWS_USER, "--laboratory", f"http://{config.CLOUD_IP}:{config.CONTROL_PORT}"], more=key())

    def answers():
        proc.must_live(MEMBER)
        return "MissingAuthenticationToken" in run(*inside, "curl", "-s", "-m", "2", config.AWS_URL, check=False)
    wait_for("AWS API", answers, 10)


def calls():
    """What it was asked so far, with when and how it answered; and the share of calls it turns away."""
    return json.loads(run(*proc.in_netns(config.CLOUD_NS), "curl", "-sf", "-m", "5", f"{config.AWS_URL}/calls"))


def _key_file():
    return config.RUN / MEMBER / "aws-key.json"


def _write_key():
    file = _key_file()
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps({"AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
                                "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}))


def key():
    return json.loads(_key_file().read_text())


def environment():
    """What a program needs to use it: nothing, where there is none."""
    if not is_up():
        return {}
    return {"AWS_ENDPOINT_URL": config.AWS_URL, "AWS_REGION": config.REGION, "AWS_EC2_METADATA_DISABLED": "true",
            **key()}


def webhook(cluster):
    """How the API server asks whom a token of EKS speaks for. It comes up all the same while nobody answers."""
    if not is_up():
        return []
    file = cluster.dir / "webhook.kubeconfig"
    file.write_text(f"""apiVersion: v1
kind: Config
current-context: aws
clusters: [{{name: aws, cluster: {{server: "{config.AWS_URL}/authenticate/{cluster.name}"}}}}]
users: [{{name: apiserver}}]
contexts: [{{name: aws, context: {{cluster: aws, user: apiserver}}}}]
""")
    return [f"--authentication-token-webhook-config-file={file}", "--authentication-token-webhook-version=v1"]


def prepare(cluster):
    """What an EKS cluster has: rights for who made it, and somebody in it who makes load balancers."""
    if is_up():
        bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        controlplane.apply(cluster, f"{bindings}/{_ACCESS['metadata']['name']}", _ACCESS)
        controlplane.apply(cluster, _CONTROLLER_PATH, _CONTROLLER)


def await_ready(cluster):
    """Its controller's pod is ready and its kind of object is served: the emulator has taken the cluster in."""
    if not is_up():
        return

    def ready():
        proc.must_live(MEMBER)
        deployment = json.loads(controlplane.get(cluster, _CONTROLLER_PATH))
        bindings = json.loads(controlplane.get(cluster, "/apis/elbv2.k8s.aws/v1beta1/targetgroupbindings"))
        return deployment["status"].get("readyReplicas") and bindings["kind"] == "TargetGroupBindingList"
    wait_for(f"the load balancer controller of {cluster.name}", ready, 60)


# As an access entry of EKS does it: AWS says who it is, the cluster what he may.
_ACCESS = {
    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
    "metadata": {"name": "lab-access-entry"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": config.AWS_ARN}],
}
_CONTROLLER_PATH = "/apis/apps/v1/namespaces/kube-system/deployments/aws-load-balancer-controller"
_LABELS = {"app.kubernetes.io/name": "aws-load-balancer-controller"}
# A pod that waits: while it is ready the emulator does the controller's work, from outside.
_CONTROLLER = {
    "apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "aws-load-balancer-controller", "namespace": "kube-system", "labels": _LABELS},
    "spec": {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": {
        "metadata": {"labels": _LABELS},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "controller", "image": images.reference("app"), "command": ["/app", "pause"]}]}}},
}
