"""A cluster's control plane: etcd, the API server, its controllers and the scheduler."""
import json

from . import aws, config, proc
from .shell import LabError, run, wait_for

# Only what the operator asks is logged: the count of requests a tool makes is one of the lab's measures.
_AUDIT = f"""apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  users: [{config.OPERATOR_USER}, "{config.AWS_ARN}"]
- level: None
"""


def start_api(cluster, built):
    d = cluster.dir
    (d / "audit.yaml").write_text(_AUDIT)
    _start(cluster, "etcd", built.bin("etcd"), f"--data-dir={d}/etcd", "--unsafe-no-fsync",
           "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
           "--listen-peer-urls=http://127.0.0.1:2380", "--logger=zap", "--log-level=warn")
    start_apiserver(cluster, built)


def restart_apiserver(cluster, built):
    """End it without a word, and start it again; etcd goes on."""
    proc.kill(cluster.name, "apiserver")
    start_apiserver(cluster, built)
    await_api(cluster)


def start_apiserver(cluster, built):
    d, pki = cluster.dir, cluster.pki
    _start(cluster, "apiserver", built.bin("kube-apiserver"),
           "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", f"--advertise-address={config.NODE_IP}",
           f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
           f"--client-ca-file={pki}/ca.crt", f"--cert-dir={d}/apiserver",
           f"--service-account-key-file={pki}/service-accounts.key",
           f"--service-account-signing-key-file={pki}/service-accounts.key",
           "--service-account-issuer=https://kubernetes.default.svc",
           "--api-audiences=https://kubernetes.default.svc,istio-ca", "--authorization-mode=Node,RBAC",
           "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={config.SERVICE_CIDR}",
           "--allow-privileged", f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
           f"--kubelet-client-key={pki}/apiserver-kubelet.key", f"--kubelet-certificate-authority={pki}/ca.crt",
           "--kubelet-preferred-address-types=InternalIP", f"--audit-policy-file={d}/audit.yaml",
           f"--audit-log-path={d}/log/audit.jsonl", *aws.webhook(cluster))


def await_api(cluster, seconds=90):
    """Ready means that the built-in roles are there too: the controllers give up without them."""
    def ready():
        proc.must_live(cluster.name)
        return get(cluster, "/readyz").strip() == "ok"
    wait_for(f"API server of {cluster.name}", ready, seconds)


def get(cluster, path):
    """One GET as the lab itself, made inside the cluster's own network."""
    pki = cluster.pki
    return run(*proc.in_netns(cluster.netns), "curl", "--silent", "--max-time", "3", "--cacert", pki / "server-ca.crt",
               "--cert", pki / "cloud.crt", "--key", pki / "cloud.key", f"https://127.0.0.1:6443{path}")


def apply(cluster, path, thing):
    """Server-side apply as the lab itself."""
    pki = cluster.pki
    answer = run(*proc.in_netns(cluster.netns), "curl", "--silent", "--max-time", "10", "--cacert",
                 pki / "server-ca.crt", "--cert", pki / "cloud.crt", "--key", pki / "cloud.key", "-X", "PATCH",
                 "-H", "Content-Type: application/apply-patch+yaml", "--data-binary", "@-",
                 f"https://127.0.0.1:6443{path}?fieldManager=lab&force=true", stdin=json.dumps(thing))
    if json.loads(answer)["kind"] == "Status":
        raise LabError(f"{cluster.name}: {json.loads(answer)['message']}")


def restart_controllers(cluster, built):
    """What they know the API server by, and hand on to everybody in the cluster, they read when they start."""
    for name in ("controller-manager", "scheduler"):
        proc.kill(cluster.name, name)
    start_controllers(cluster, built)


def start_controllers(cluster, built):
    pki = cluster.pki
    for name, binary, extra in (
        ("controller-manager", "kube-controller-manager",
         [f"--service-account-private-key-file={pki}/service-accounts.key", f"--root-ca-file={pki}/server-ca.crt",
          f"--cluster-cidr={config.POD_CIDR}", "--allocate-node-cidrs",
          f"--service-cluster-ip-range={config.SERVICE_CIDR}", "--use-service-account-credentials",
          f"--flex-volume-plugin-dir={cluster.dir}/plugins"]),
        ("scheduler", "kube-scheduler", []),
    ):
        kubeconfig = pki / f"{name}.kubeconfig"
        _start(cluster, name, built.bin(binary), f"--kubeconfig={kubeconfig}",
               f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}",
               f"--cert-dir={cluster.dir}/{name}", "--leader-elect=false", *extra)


def _start(cluster, name, *argv):
    proc.start(cluster.name, name, proc.in_netns(cluster.netns), argv, cwd=cluster.dir)
