"""A cluster's one node: containerd, the kubelet, kube-proxy and DNS, on the cluster's network."""
import json

from . import cgroups, config, images, proc
from .shell import run, side_by_side, succeeds, wait_for

# A node has /run and /var to itself, and mounts nothing where the machine would see it.
_OWN_VIEW = """
mount --make-rslave / && mount -t tmpfs lab /run && mount -t tmpfs lab /var &&
mkdir -p /var/lib /var/log /var/tmp /var/cache && ln -s /run /var/run && mount --make-rshared / &&
exec sleep infinity
"""


def hold(member, netns, script):
    """A process that keeps a member's own view of the file system open for the others to enter."""
    proc.start(member, "holder", [*proc.in_netns(netns), "unshare", "--mount", "--"], ["sh", "-c", script])


def start(cluster, built):
    hold(cluster.name, cluster.netns, _OWN_VIEW)
    cgroups.prepare_node(cluster)
    _write_settings(cluster)
    d = cluster.dir
    wait_for(f"own view of {cluster.name}", lambda: succeeds(*proc.in_member(cluster.name), "test", "-L", "/var/run")
             and not succeeds(*proc.in_member(cluster.name), "test", "-d", "/run/netns"), 10)
    _start(cluster, built, "containerd", "-c", d / "containerd.toml")
    ctr = [built.bin("ctr"), "-a", d / "containerd.sock", "-n", "k8s.io"]
    wait_for(f"containerd of {cluster.name}", lambda: succeeds(*ctr, "version"), 30)
    side_by_side(*(lambda name=name: _pull(cluster, ctr, name) for name in images.NAMES))


def _pull(cluster, ctr, name):
    """Have an image on the node before a pod asks, as on a node that has run it before."""
    run(*proc.in_member(cluster.name), *ctr, "images", "pull", "--local", "--hosts-dir", cluster.dir / "registries",
        images.reference(name))


def load(cluster, built, archive):
    """Have an image on the node that no registry serves."""
    ctr = [built.bin("ctr"), "-a", cluster.dir / "containerd.sock", "-n", "k8s.io"]
    run(*proc.in_member(cluster.name), *ctr, "images", "import", "--local", archive)


def register(cluster, built):
    """Start what needs the API server."""
    d, pki = cluster.dir, cluster.pki
    labels = f"topology.kubernetes.io/region={config.REGION},topology.kubernetes.io/zone={cluster.zone}"
    _start(cluster, built, "kubelet", f"--config={d}/kubelet.yaml", f"--kubeconfig={pki}/kubelet.kubeconfig",
           f"--root-dir={d}/kubelet", f"--cert-dir={d}/kubelet/pki", f"--hostname-override={cluster.node_name}",
           f"--node-ip={config.NODE_IP}", f"--node-labels={labels}",
           f"--provider-id=aws:///{cluster.zone}/{cluster.instance}")
    _start(cluster, built, "kube-proxy", f"--config={d}/kube-proxy.yaml")
    _start(cluster, built, "coredns", "-conf", d / "Corefile")


def restart_clients(cluster, built):
    """What speaks to the API server on the node, anew: pods and what packets go by stay."""
    for name in ("kubelet", "kube-proxy", "coredns"):
        proc.kill(cluster.name, name)
    register(cluster, built)


def await_ready(cluster, get, seconds=90):
    """Ready for pods: the controllers have seen the node, and pods may be made."""
    def ready():
        proc.must_live(cluster.name)
        account = json.loads(get(cluster, "/api/v1/namespaces/default/serviceaccounts/default"))
        return node_ready(cluster, get) and account["kind"] == "ServiceAccount"
    wait_for(f"node of {cluster.name}", ready, seconds)


def node_ready(cluster, get):
    node = json.loads(get(cluster, f"/api/v1/nodes/{cluster.node_name}"))
    if node["kind"] != "Node":
        return False  # the server's way of saying that there is none yet
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "podCIDR" in node["spec"] and "taints" not in node["spec"]


def _start(cluster, built, name, *argv):
    proc.start(cluster.name, name, proc.in_member(cluster.name), [built.bin(name), *argv], cwd=cluster.dir,
               path=[built.go["containerd"].dir])


def _write_settings(cluster):
    d, pki = cluster.dir, cluster.pki
    registry = f"registries/{config.IMAGE_HUB}"
    for folder in ("cni", "kubelet", "log/pods", registry):
        (d / folder).mkdir(parents=True, exist_ok=True)
    (d / "resolv.conf").write_text(f"nameserver {config.CLOUD_IP}\n")
    (d / registry / "hosts.toml").write_text(f"""
[host."http://{config.CLOUD_IP}:{config.REGISTRY_PORT}"]
  capabilities = ["pull", "resolve"]
""")
    (d / "cni" / "10-lab.conflist").write_text(json.dumps(_network(d), indent=1))
    (d / "containerd.toml").write_text(f"""version = 3
root = "{d}/containerd"
state = "/run/containerd-state"
[grpc]
  address = "{d}/containerd.sock"
[ttrpc]
  address = "{d}/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{images.reference("pause")}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{d}/registries"
[plugins."io.containerd.cri.v1.runtime"]
  # machines without CAP_SYS_RESOURCE may not lower a score
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{d}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "/usr/sbin/runc"
  SystemdCgroup = false
""")
    (d / "kubelet.yaml").write_text(f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /{config.CGROUP}/{cluster.name}
cgroupsPerQOS: true
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://{d}/containerd.sock
clusterDNS: [{config.NODE_IP}]
clusterDomain: cluster.local
resolvConf: {d}/resolv.conf
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
evictionHard: {{nodefs.available: "100Mi", imagefs.available: "100Mi", memory.available: "100Mi"}}
# The machine's disk is not this node's to judge: at 100 % no image is ever thrown away, and none can be pulled again.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
podLogsDir: {d}/log/pods
volumePluginDir: {d}/kubelet/plugins
maxPods: 100
syncFrequency: 10s
""")
    (d / "kube-proxy.yaml").write_text(f"""apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {pki}/proxy.kubeconfig}}
mode: iptables
clusterCIDR: {config.POD_CIDR}
conntrack: {{maxPerCore: 0, min: 0}}
hostnameOverride: {cluster.node_name}
bindAddress: {config.NODE_IP}
""")
    (d / "Corefile").write_text(f""".:53 {{
  bind {config.NODE_IP}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {pki}/dns.kubeconfig {cluster.name}
  }}
  forward . {config.CLOUD_IP}
  cache 5
}}
""")


def _network(d):
    """Each pod on a link of its own, routed: needs no bridge netfilter, and is how pods sit on a VPC."""
    return {"cniVersion": "0.4.0", "name": "lab", "plugins": [{
        "type": "ptp", "ipMasq": True, "ipam": {
            "type": "host-local", "dataDir": f"{d}/addresses", "ranges": [[{"subnet": config.NODE_POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
