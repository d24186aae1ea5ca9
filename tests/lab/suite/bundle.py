"""An archive of real clusters says what they say themselves, and no secret.

It goes by a mesh that the command under test has joined: `tests/lab/run bundle`.
"""
import base64
import io
import json
import os
import subprocess
import tarfile
import tempfile

from .doctor import JOINED, KNOWN
from .kit import BOTH, GATEWAY, INGRESS, ONE, SYSTEM, TWO, attempt, kubectl
from .meshlink import environment, meshlink, program, run
from .runner import scenario


def findings(text):
    return [f for f in json.loads(text)["findings"] if f["check"] != KNOWN]


def secrets():
    """Every value of every Secret in the namespaces of istiod and the gateway, as it is and as it is written."""
    found = set()
    for cluster in BOTH:
        for space in (SYSTEM, INGRESS):
            listed = json.loads(kubectl(cluster, "get", "secrets", "-n", space, "-o", "json"))
            for secret in listed["items"]:
                for key, value in secret.get("data", {}).items():
                    plain = base64.b64decode(value)
                    # Certificates are public, and a key's first line is everybody's.
                    if key.endswith(("cert.pem", "chain.pem", "ca.crt", "namespace", "made")) or len(plain) < 32:
                        continue
                    found |= {plain[-64:].strip(), value[-64:].encode()}
                    if b"token:" in plain:
                        found.add(plain.split(b"token:")[1].split()[0].strip(b'"'))
    return {one for one in found if len(one) >= 20}


@scenario(JOINED, seldom=True)
def a_bundle_says_elsewhere_what_the_clusters_say_and_holds_no_secret():
    kubectl(ONE, "delete", "gateways.networking.istio.io", "cross-network-gateway", "-n", INGRESS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mesh.tar.gz")
            settings = [f"{name}={value}" for name, value in environment().items()]
            live = attempt("env", *settings, program(), "doctor", "-o", "json", seconds=120)
            done = attempt("env", *settings, program(), "bundle", "--to", path, "-o", "json", seconds=120)
            assert done.returncode == 0, done.stderr[-600:]
            said = json.loads(done.stdout)
            # Nobody's home, and no kubeconfig.
            bare = {"HOME": folder, "PATH": os.environ["PATH"]}
            again = subprocess.run([program(), "doctor", "--from", path, "-o", "json"], env=bare, text=True, capture_output=True, timeout=60)
            assert again.returncode == live.returncode == 7, (again.returncode, live.returncode, again.stderr[-300:])
            assert findings(again.stdout) == findings(live.stdout)
            size = os.path.getsize(path)
            assert size <= 20_000_000, size
            held = secrets()
            assert held
            with tarfile.open(path) as archive:
                names = archive.getnames()
                for member in archive:
                    content = archive.extractfile(member).read()
                    leaked = [one for one in held if one in content]
                    assert not leaked, f"{member.name} holds {len(leaked)} secrets"
            for cluster in BOTH:
                for part in ("istiod/", "proxies/", "logs/", "objects/pods.json"):
                    assert any(n.startswith(f"members/{cluster.name}/{part}") for n in names), (cluster.name, part)
            return f"{len(names)} files, {size // 1024} KiB, {len(said['left_out'])} left out, {len(held)} secrets in none of them"
    finally:
        meshlink("join", "--yes", "--timeout", "180s")
