"""Names, addresses and places. Everything the lab makes is named here."""
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
TOOLS = LAB / "tools"
CACHE = Path(os.environ.get("MESHLINK_LAB_CACHE")
             or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshlink-lab").resolve()
STORE = CACHE / "store"      # what `build` made, one folder per key
RUN = CACHE / "run"          # what `up` made; gone after `down`

ISTIO_VERSION = "1.31.0"
KUBERNETES_VERSION = "v1.36.3"
IMAGE_HUB = "lab.local"
IMAGE_TAG = ISTIO_VERSION

CGROUP = "meshlink-lab"
WAN_NS, CLOUD_NS, OPERATOR_NS = "ml-wan", "ml-cloud", "ml-operator"
BRIDGE = "wan0"

WAN_PREFIX = 16
CLOUD_IP = "198.18.0.1"
OPERATOR_IP = "198.18.0.2"
BALANCER_ZONES = {"us-west-2a": "198.18.64.0/24", "us-west-2b": "198.18.65.0/24"}
CHARTS_PORT, CONTROL_PORT, REGISTRY_PORT, AWS_PORT = 8080, 8081, 5000, 4566
CHARTS_URL = f"http://{CLOUD_IP}:{CHARTS_PORT}"
AWS_URL = f"http://{CLOUD_IP}:{AWS_PORT}"

# The same in every cluster, as they are when nobody planned them together.
VPC_CIDR, NODE_IP = "10.0.0.0/16", "10.0.1.10"
POD_CIDR, NODE_POD_CIDR = "10.244.0.0/16", "10.244.0.0/24"
SERVICE_CIDR, KUBERNETES_IP = "10.96.0.0/16", "10.96.0.1"

REGION = "us-west-2"
OPERATOR_USER = "lab-operator"
# The same person as AWS knows him, and as clusters know him who come by EKS.
AWS_USER = "lab"
AWS_ARN = f"arn:aws:iam::111122223333:user/{AWS_USER}"
MAX_CLUSTERS = 3


@dataclass(frozen=True)
class Cluster:
    """One cluster: one node, one network namespace, one address on the WAN."""
    number: int

    @property
    def name(self):
        return f"eks-{self.number}"

    @property
    def netns(self):
        return f"ml-{self.name}"

    @property
    def wan_ip(self):
        return f"198.18.0.{10 + self.number}"

    @property
    def zone(self):
        return f"{REGION}{'ab'[(self.number + 1) % 2]}"

    @property
    def node_name(self):
        return f"node-{self.name}"

    @property
    def instance(self):
        """What EC2 would call the node: the same whenever the cluster is made."""
        return "i-" + hashlib.sha256(self.name.encode()).hexdigest()[:17]

    @property
    def server(self):
        return f"https://{self.wan_ip}:6443"

    @property
    def dir(self):
        return RUN / self.name

    @property
    def pki(self):
        return self.dir / "pki"


def clusters(count):
    return [Cluster(n) for n in range(1, count + 1)]


def clusters_up():
    """The clusters that `up` began, whatever became of them."""
    return [c for c in clusters(MAX_CLUSTERS) if c.dir.is_dir()]


def kubeconfig():
    return RUN / "kubeconfig"
