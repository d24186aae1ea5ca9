"""For contrast with rotate.py and renew.py, whose mesh it ends: the change of root that everybody would write by hand."""
import base64
import json
import time

from . import certs
from .kit import BOTH, ONE, SYSTEM, get, kubectl
from .rotate import Load
from .runner import scenario


@scenario("a-mesh-with-traffic-both-ways", seldom=True)
def the_change_that_everybody_would_write_by_hand_loses_requests():
    """Trust both, sign with the new one, trust the new one: three writes, some seconds between the clusters, nothing awaited.

    This is what the others are measured against. The mesh is of no use afterwards."""
    pair = by_hand()
    held = get(ONE, "secret", "cacerts", "-n", SYSTEM)["data"]["root-cert.pem"]
    old_root = base64.b64decode(held).decode()
    steps = [lambda c: {"root-cert.pem": old_root + pair["root"]},
             lambda c: {"root-cert.pem": old_root + pair["root"], **pair[c.name]},
             lambda c: {"root-cert.pem": pair["root"], **pair[c.name]}]
    with Load(seconds=90) as load:
        for step in steps:
            for cluster in BOTH:
                write(cluster, step(cluster))
                time.sleep(8)
    sent, bad = load.failed()
    assert bad, "nothing failed: the contrast shows nothing"
    return f"{len(bad)} of {sent} requests failed"


def by_hand():
    """A root, and an intermediate of it for each cluster, made by openssl for this alone."""
    certs.make_root("by-hand")
    made = {"root": certs.root_of("by-hand")}
    for cluster in BOTH:
        data = certs.cacerts("by-hand", cluster)["stringData"]
        made[cluster.name] = {k: v for k, v in data.items() if k != "root-cert.pem"}
    return made


def write(cluster, data):
    patch = {"data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}}
    kubectl(cluster, "patch", "secret", "cacerts", "-n", SYSTEM, "--type=merge", "-p", json.dumps(patch))
