"""The cloud's side of the lab: balancers, names, the chart repository and the registry; and how to steer it."""
import http.client
import json
import socket
from pathlib import Path

from . import aws, config, proc
from .shell import LabError, succeeds, wait_for

MEMBER = "cloud"


def start(built):
    inside = proc.in_netns(config.CLOUD_NS)
    zones = ",".join(f"{zone}={cidr}" for zone, cidr in config.BALANCER_ZONES.items())
    proc.start(MEMBER, "labcloud", inside, [
        built.bin("labcloud"), f"-dns={config.CLOUD_IP}:53", f"-control={config.CLOUD_IP}:{config.CONTROL_PORT}",
        f"-socket={_socket()}", f"-zones={zones}"])
    proc.start(MEMBER, "charts", inside, ["python3", "-m", "http.server", "--bind", config.CLOUD_IP, "--directory",
                                          built.charts.dir, config.CHARTS_PORT])
    proc.start(MEMBER, "registry", inside, ["python3", "-B", Path(__file__).with_name("registry.py"), built.images.dir,
                                            config.CLOUD_IP, config.REGISTRY_PORT])
    wait_for("cloud", lambda: state() is not None, 10)
    ask = ["curl", "-sf", f"http://{config.CLOUD_IP}:{config.REGISTRY_PORT}/v2/"]
    wait_for("registry", lambda: succeeds(*inside, *ask), 10)
    aws.start()


def join(cluster):
    request("POST", "/clusters", {"name": cluster.name, "kubeconfig": str(cluster.pki / "cloud.kubeconfig"),
                                  "node": cluster.wan_ip, "netns": f"/run/netns/{cluster.netns}"})


def state():
    return request("GET", "/state")


def settings(cluster="*", **changes):
    """Change how balancers behave: publish=hostname|ip|nothing, resolve, forward, delay=seconds, pace, health,
    throttle=share."""
    return request("POST", "/settings", {"cluster": cluster, **changes})


def _socket():
    return config.RUN / MEMBER / "control.sock"


class _Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(_socket()))


def request(method, path, body=None):
    connection = _Connection("cloud")
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        text = response.read().decode()
    except OSError as error:
        raise LabError(f"the cloud does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LabError(f"the cloud refuses: {text.strip()}")
    return json.loads(text)
