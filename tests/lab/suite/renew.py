"""Intermediates are renewed under traffic, with a new TLS connection for every request and no retries: none may fail.

What is due by its age on embedded clusters, whose clock can be moved, is due here by what the mesh file asks for.
"""
import base64
import subprocess

from .kit import BOTH, SYSTEM, get
from .meshlink import HOME, run
from .rotate import Load, claims, roots, running as pods_now
from .reliability import KILLED, start
from .runner import scenario

RECORD = HOME / ".local/state/meshlink/mesh/mesh.yaml"
RENEW = ("renew", "--what", "intermediates", "--yes", "--timeout", "300s")


def asking_for(old, new):
    """The mesh file as it was recorded, with one word of it changed."""
    text = RECORD.read_text()
    assert old in text, text
    path = HOME / "renewed.yaml"
    path.write_text(text.replace(old, new))
    return ("-f", path)


def facts():
    """The key and the end of each member's intermediate."""
    def one(cluster):
        pem = base64.b64decode(get(cluster, "secret", "cacerts", "-n", SYSTEM)["data"]["ca-cert.pem"])
        shown = subprocess.run(["openssl", "x509", "-noout", "-text"], input=pem, capture_output=True, check=True)
        return shown.stdout.decode()
    return [one(cluster) for cluster in BOTH]


def is_settled():
    """The mesh's root alone, in what istiod reads and in what it publishes."""
    for cluster in BOTH:
        assert roots(cluster) == (1, 1), f"{cluster.name}: {roots(cluster)}"


@scenario("a-mesh-with-traffic-both-ways", seldom=True)
def intermediates_are_renewed_and_no_request_is_lost():
    before, pods, (root,) = facts(), pods_now(), claims()
    asked = asking_for("key: P-256", "key: P-384")
    run("plan", "renew", *asked, expect=10)
    with Load() as load:
        run(*RENEW, *asked, seconds=320)
    sent = load.nothing_failed()
    assert all("P-384" in text for text in facts()) and facts() != before
    assert pods_now() == pods, "something was restarted"
    assert claims() == {root}
    is_settled()
    said, beside = run(*RENEW, *asked)
    assert "nothing to do" in said + beside
    return f"{sent} requests, none failed"


@scenario("intermediates-are-renewed-and-no-request-is-lost", seldom=True)
def a_renewal_that_was_killed_is_brought_to_its_end():
    """Killed while the throw-away root is in the first member, under traffic; the next run goes on."""
    asked = asking_for("intermediateLifetime: 1y", "intermediateLifetime: 90d")
    asked[1].write_text(asked[1].read_text().replace("key: P-256", "key: P-384"))
    place = f"renew-cacerts/{BOTH[0].name}:after"
    with Load() as load:
        running = start(*RENEW, *asked, MESHLINK_CRASH=place)
        said, _ = running.communicate(timeout=320)
        code = running.returncode
        assert (128 - code if code < 0 else code) == KILLED, f"{place}: ended with {code}: {said[-900:]}"
        told, beside = run("status", expect=7)
        assert "was interrupted" in told + beside, told[-600:]
        run(*RENEW, *asked, seconds=320)
    sent = load.nothing_failed()
    is_settled()
    return f"{sent} requests, none failed"
