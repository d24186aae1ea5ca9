"""What a member reads its peers with, replaced while traffic crosses: tokens that grow old, tokens that end."""
import base64
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from meshlab import config, images, node
from meshlab.build import ready
from meshlab.shell import run as do

from .kit import (BOTH, ONE, SAMPLE, SYSTEM, TWO, app, apply, attempt, both, eventually, get, istiod_log, kubectl, now,
                  settled)
from .mesh import sample
from .meshlink import HOME, NAMES, afresh, environment, ended, program, run
from .remote import remote_service
from .runner import scenario
from .tokens import accepted

FILE = HOME / "renew.yaml"
IMAGE = f"{config.IMAGE_HUB}/meshlink:here"  # the command under test; no registry has it, the nodes do


def write(**more):
    FILE.write_text(json.dumps({"clusters": [{"name": name, "find": name} for name in NAMES], **more}))


def entry(reads, peer):
    """What one cluster reads another with."""
    secret = get(reads, "secret", "-n", SYSTEM, f"istio-remote-secret-{peer.name}")
    return base64.b64decode(secret["data"][peer.name]).decode()


def token(reads, peer):
    (line,) = [line for line in entry(reads, peer).splitlines() if line.strip().startswith("token: ")]
    return line.split("token: ")[1].strip().strip('"')


def claims(bearer):
    body = bearer.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def ask_once():
    return app(ONE, "get", "-n", 1, "-t", 5, f"http://{remote_service(ONE)}.{SAMPLE}:5000/", check=False)


def is_due():
    """Whether a renewal has something to do."""
    settings = [f"{name}={value}" for name, value in environment().items()]
    words = ["plan", "renew", "-f", FILE, "--what", "tokens"]
    return attempt("env", "-u", "KUBECONFIG", *settings, program(), *words).returncode == 10


def under_traffic(change):
    """Ten requests a second that only eks-2 can answer, while eks-1's remote secret changes; how many there were."""
    with ThreadPoolExecutor() as pool:
        load = pool.submit(app, ONE, "load", f"http://{remote_service(ONE)}.sample:5000/", 15, 10)
        time.sleep(2)
        change()
        lines = load.result().splitlines()
    failed = [line for line in lines if f" 200 Hello version: {TWO.name}," not in line]
    assert not failed, f"{len(failed)} of {len(lines)} failed: {failed[0]}"
    return len(lines)


def refused(cluster, bearer):
    """The API server keeps what it knows of a token for ten seconds."""
    eventually("the old token is refused", lambda: accepted(cluster, bearer).strip() == "401", 30)


@scenario(seldom=True)
def a_token_grown_old_is_replaced_under_traffic():
    program()
    afresh()
    write(readers={"maxAge": "1m"})
    run("join", "-f", FILE, "--yes", "--timeout", "240s", seconds=300)
    for cluster in BOTH:
        apply(cluster, *sample(cluster))
    for cluster in BOTH:
        settled(cluster, SAMPLE, "sleep")
        settled(cluster, SAMPLE, "helloworld")
    crossing = lambda: ask_once().startswith("200 Hello version: " + TWO.name)  # noqa: E731
    eventually("requests cross", crossing, 60, 1)
    old = token(ONE, TWO)
    assert accepted(TWO, old).strip() == "200"
    eventually("the token is a minute old", is_due, 90, 5)
    since = now()
    count = under_traffic(lambda: run("renew", "-f", FILE, "--what", "tokens", "--yes"))
    assert "replacing registry" in istiod_log(ONE, since)
    new = token(ONE, TWO)
    assert new != old and accepted(TWO, new).strip() == "200"
    refused(TWO, old)
    secrets = kubectl(TWO, "get", "secrets", "-n", SYSTEM, "-l", f"meshlink/peer={ONE.name}", "-o", "name").split()
    assert secrets == [f"secret/meshlink-reader-{ONE.name}-token-2"], secrets
    return f"0 of {count} failed; the first token answers 401"


def have_the_image():
    """An image of the command under test on every node, as examples/renewer makes one where there is what builds it."""
    with tempfile.TemporaryDirectory() as folder:
        slim, archive = Path(folder) / "meshlink", Path(folder) / "meshlink.tar"
        do("strip", "--strip-debug", "-o", slim, program())
        archive.write_bytes(images.archive("meshlink", slim))
        both(lambda cluster: node.load(cluster, ready(), archive))


def restricted(cluster, on):
    """Whether the API server lets only pods into istio-system that meet Pod Security's strictest standard."""
    kubectl(cluster, "label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce" + ("=restricted" if on else "-"))


def run_a_job(cluster):
    """The renewer in its cluster, now; and what its CronJob says of it."""
    kubectl(cluster, "create", "job", "-n", SYSTEM, "--from=cronjob/meshlink-renewer", "meshlink-renewer-now")
    kubectl(cluster, "wait", "-n", SYSTEM, "--for=condition=complete", "job/meshlink-renewer-now", "--timeout=40s")

    def seen():
        return get(cluster, "cronjob", "-n", SYSTEM, "meshlink-renewer")["status"].get("lastSuccessfulTime")
    eventually("the CronJob to say so", seen, 20)
    return kubectl(cluster, "logs", "-n", SYSTEM, "job/meshlink-renewer-now")


@scenario("a-token-grown-old-is-replaced-under-traffic", seldom=True)
def tokens_get_an_end_only_after_a_renewer_has_run():
    """A real Job, from an image of one program, under Pod Security's strictest standard and its own account's rights."""
    have_the_image()
    write(renewer={"image": IMAGE})
    run("join", "-f", FILE, "--yes", "--timeout", "240s", seconds=300)
    assert all("exp" not in claims(token(a, b)) for a, b in ((ONE, TWO), (TWO, ONE)))
    told, beside = run("plan", "-f", FILE)
    assert "has succeeded" in told + beside, (told + beside)[-900:]
    for cluster in BOTH:
        restricted(cluster, True)
    try:
        said = both(run_a_job)
    finally:
        for cluster in BOTH:
            restricted(cluster, False)
    assert all("never ends by itself" in text for text in said), said
    run("join", "-f", FILE, "--yes", "--timeout", "240s", seconds=300)
    assert all("exp" in claims(token(a, b)) for a, b in ((ONE, TWO), (TWO, ONE)))
    kubectl(ONE, "delete", "job", "-n", SYSTEM, "meshlink-renewer-now")
    said = run_a_job(ONE)
    assert f"token/{ONE.name}/{TWO.name}: valid until" in said, said
    return f"restricted; {said.splitlines()[0]}"


@scenario("tokens-get-an-end-only-after-a-renewer-has-run", seldom=True)
def tokens_that_end_are_renewed_by_their_holder():
    """Such a token opens what it must and nothing else, and is cut off by what it is bound to."""
    short = token(ONE, TWO)
    granted = claims(short)["exp"] - claims(short)["iat"]
    assert granted <= 24 * 3600, granted
    # A reader gets a token of its own, and of nobody else.
    own, other = f"meshlink-reader-{ONE.name}", "default"
    assert ask(short, own) == "201", ask(short, own)
    assert ask(short, other) == "403", ask(short, other)
    # Nothing is due, and the renewer says so by the rights of its own account alone.
    said = renewer(ONE)
    assert f"token/{ONE.name}/{TWO.name}: valid until" in said, said
    # What it is bound to is deleted: every token of this reader is refused, and the next join makes another.
    kubectl(TWO, "delete", "secret", "-n", SYSTEM, f"{own}-bound")
    refused(TWO, short)
    renewer(ONE, expect=1)
    run("join", "-f", FILE, "--yes", "--timeout", "240s", seconds=300)
    assert accepted(TWO, token(ONE, TWO)).strip() == "200" and "exp" in claims(token(ONE, TWO))
    return f"{granted} s granted; cut off at once by deleting {own}-bound"


def ask(bearer, account):
    """How eks-2's API answers to who asks it for a token of an account."""
    body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}})
    done = attempt("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", TWO.pki / "ca.crt",
                   "-H", f"Authorization: Bearer {bearer}", "-H", "Content-Type: application/json", "-d", body,
                   f"{TWO.server}/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token")
    return done.stdout.strip()


def renewer(cluster, expect=0):
    """The CronJob's own words, by its own account, from beside the cluster; all that it says."""
    job = get(cluster, "cronjob", "-n", SYSTEM, "meshlink-renewer")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE, container["image"]
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder)
        bearer = kubectl(cluster, "create", "token", "-n", SYSTEM, "meshlink-renewer", "--duration", "10m").strip()
        (account / "token").write_text(bearer)
        (account / "ca.crt").write_bytes((cluster.pki / "ca.crt").read_bytes())
        host, port = cluster.server.removeprefix("https://").rsplit(":", 1)
        settings = {**environment(), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        words = [*container["args"], "--service-account", account]
        command = ["env", "-u", "KUBECONFIG", *(f"{k}={v}" for k, v in settings.items()), program(), *words]
        printed, said = ended(attempt(*command), expect, words)
    return printed + said
