"""Networks: a WAN in a namespace of its own, and one namespace for each party on it.

Nothing is made in the machine's own namespace: no link, no route, no firewall rule.
"""
import subprocess
from pathlib import Path

from . import config
from .shell import LabError, run

_FOLDER = Path("/run/netns")


def _ip(netns, *lines):
    done = subprocess.run(["ip", "-netns", netns, "-batch", "-"], input="\n".join(lines),
                          text=True, capture_output=True)
    if done.returncode:
        raise LabError(f"ip in {netns}: {done.stderr.strip()}")


def namespaces():
    return {line.split()[0] for line in run("ip", "netns", "list").splitlines() if line}


def ours():
    names = {config.WAN_NS, config.CLOUD_NS, config.OPERATOR_NS}
    return names | {c.netns for c in config.clusters(config.MAX_CLUSTERS)}


def _sysctl(netns, **values):
    settings = [f"{key.replace('__', '/')}={value}" for key, value in values.items()]
    run("nsenter", f"--net=/run/netns/{netns}", "sysctl", "-qw", *settings)


def _firewall(netns, rules):
    run("nsenter", f"--net=/run/netns/{netns}", "nft", "-f", "-", stdin=rules)


def make_wan():
    if not _FOLDER.is_dir():
        _we_made_the_folder().touch()
    run("ip", "netns", "add", config.WAN_NS)
    _ip(config.WAN_NS, f"link add {config.BRIDGE} type bridge", f"link set {config.BRIDGE} up", "link set lo up")


def _join_wan(netns, port, address):
    run("ip", "netns", "add", netns)
    _ip(config.WAN_NS, f"link add {port} type veth peer name eth0 netns {netns}",
        f"link set {port} master {config.BRIDGE} up")
    _ip(netns, "link set lo up", f"addr add {address}/{config.WAN_PREFIX} dev eth0", "link set eth0 up")


def make_operator():
    _join_wan(config.OPERATOR_NS, "operator", config.OPERATOR_IP)


def make_cloud():
    """The cloud answers for every balancer address without holding each of them."""
    _join_wan(config.CLOUD_NS, "cloud", config.CLOUD_IP)
    _ip(config.CLOUD_NS, *(f"route add local {cidr} dev lo" for cidr in config.BALANCER_ZONES.values()))
    _sysctl(config.CLOUD_NS, net__ipv4__ip_forward=1, net__ipv4__conf__all__send_redirects=0,
            net__ipv4__conf__eth0__send_redirects=0)


def make_cluster(cluster):
    """A node on its VPC, with one leg on the WAN that lets in the API and the balancers only."""
    _join_wan(cluster.netns, cluster.name, cluster.wan_ip)
    _ip(cluster.netns, "link add vpc0 type bridge", f"addr add {config.NODE_IP}/24 dev vpc0", "link set vpc0 up",
        f"route add default via {config.CLOUD_IP}")
    _sysctl(cluster.netns, net__ipv4__ip_forward=1)
    _firewall(cluster.netns, f"""
table ip lab_edge {{
  chain edge {{
    type filter hook prerouting priority mangle; policy accept;
    iifname != "eth0" accept
    ct state established,related accept
    ip daddr != {cluster.wan_ip} counter drop
    tcp dport 6443 accept
    ip saddr {config.CLOUD_IP} tcp dport 30000-32767 accept
    counter drop
  }}
}}
""")


def connect(cluster, on):
    """Plug a cluster's leg on the WAN in or out; addresses and routes stay."""
    _ip(config.WAN_NS, f"link set {cluster.name} {'up' if on else 'down'}")


def remove():
    """A namespace takes its links, addresses, routes and rules with it."""
    for name in sorted(ours() & namespaces()):
        run("ip", "netns", "delete", name)
    if _we_made_the_folder().exists() and not any(_FOLDER.iterdir()):
        run("umount", _FOLDER, check=False)
        _FOLDER.rmdir()


def _we_made_the_folder():
    """A note that named namespaces had no folder before; iproute2 makes it, and mounts it on itself."""
    return config.RUN / "netns-folder-is-ours"
