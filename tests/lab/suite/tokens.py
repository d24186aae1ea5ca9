"""What becomes of a remote secret: renewed, removed, expired."""
import base64
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from .kit import (ONE, SYSTEM, TWO, app, apply, ask, endpoints, eventually, gateway_endpoints, get, istiod_log,
                  kubectl, now, operator, remote_status, restart, shown)
from .remote import SECRET, crosses, remote_service, sees_by_gateway, share_secret
from .runner import scenario

READER = "istio-reader-service-account"
LEEWAY = 60  # for so many seconds after its end does a Kubernetes API still take a token


def token(cluster, seconds):
    """A token of the reader's account, signed with the cluster's own key: the API gives out none under ten minutes."""
    account = get(cluster, "serviceaccount", READER, "-n", SYSTEM)
    claims = {"iss": "https://kubernetes.default.svc", "sub": f"system:serviceaccount:{SYSTEM}:{READER}",
              "aud": ["https://kubernetes.default.svc"], "iat": int(time.time()) - 3600,
              "nbf": int(time.time()) - 3600,
              "exp": int(time.time()) + seconds,
              "kubernetes.io": {"namespace": SYSTEM,
                                "serviceaccount": {"name": READER, "uid": account["metadata"]["uid"]}}}
    body = f"{encoded({'alg': 'ES256', 'typ': 'JWT'})}.{encoded(claims)}"
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", cluster.pki / "service-accounts.key"],
                         input=body.encode(), capture_output=True, check=True).stdout
    return f"{body}.{base64.urlsafe_b64encode(raw_signature(der)).decode().rstrip('=')}"


def encoded(thing):
    return base64.urlsafe_b64encode(json.dumps(thing).encode()).decode().rstrip("=")


def raw_signature(der):
    """ECDSA in DER is two integers; a token has them as 32 bytes each."""
    r_end = 4 + der[3]
    r, s = der[4:r_end], der[r_end + 2:]
    return b"".join(n.lstrip(b"\0").rjust(32, b"\0") for n in (r, s))


def secret(cluster, bearer, server=None, authority=None, key=None):
    """A remote secret for a cluster, with as much wrong in it as one likes."""
    key = key or cluster.name
    authority = authority or (cluster.pki / "ca.crt").read_bytes()
    config = {"apiVersion": "v1", "kind": "Config", "current-context": key,
              "clusters": [{"name": key, "cluster": {"server": server or cluster.server,
                            "certificate-authority-data": base64.b64encode(authority).decode()}}],
              "users": [{"name": key, "user": {"token": bearer}}],
              "contexts": [{"name": key, "context": {"cluster": key, "user": key}}]}
    return {"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET.format(key), "namespace": SYSTEM, "labels": {"istio/multiCluster": "true"},
                         "annotations": {"networking.istio.io/cluster": key}},
            "stringData": {key: json.dumps(config)}}


def accepted(cluster, bearer):
    """How the cluster's API answers to a token."""
    return operator("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                    "--cacert", cluster.pki / "ca.crt", "-H", f"Authorization: Bearer {bearer}",
                    f"{cluster.server}/api/v1/namespaces", check=False)


@scenario("traffic-is-answered-by-both-clusters")
def a_secret_renewed_in_place_costs_nothing():
    """Two renewals of what eks-1 knows of eks-2, under traffic that only eks-2 can answer."""
    with ThreadPoolExecutor() as pool:
        load = pool.submit(app, ONE, "load", f"http://{remote_service(ONE)}.sample:5000/", 10, 10)
        left = set()
        for lifetime in (1200, 2400):
            since = now()
            apply(ONE, secret(TWO, token(TWO, lifetime)))
            eventually("istiod takes the new token", lambda: "replacing registry" in istiod_log(ONE, since), 15)
            for _ in range(5):
                left |= gateway_endpoints(TWO) - endpoints(ONE, remote_service(ONE))
        lines = load.result().splitlines()
    failed = [line for line in lines if f" 200 Hello version: {TWO.name}," not in line]
    assert not failed, f"{len(failed)} of {len(lines)} failed: {failed[0]}"
    assert not left, f"endpoints left: {left}"
    return f"{len(lines)} requests, none failed, endpoints never left"


@scenario("a-secret-renewed-in-place-costs-nothing")
def a_secret_removed_takes_the_endpoints_along():
    kubectl(ONE, "delete", "secret", "-n", SYSTEM, SECRET.format(TWO.name))
    _, gone = eventually("no endpoints", lambda: not endpoints(ONE, remote_service(ONE)), 10)
    line = ask(ONE, remote_service(ONE))[0]
    assert line.startswith("503"), line
    share_secret(TWO)
    _, back = eventually("endpoints again", lambda: sees_by_gateway(ONE), 10)
    eventually("the way across", lambda: crosses(ONE), 10)
    return f"gone in {gone:.1f} s and 503, back in {back:.1f} s"


@scenario("a-secret-removed-takes-the-endpoints-along", seldom=True)
def an_expired_token_is_seen_only_at_the_next_restart():
    bearer = token(TWO, 8 - LEEWAY)
    since = now()
    apply(ONE, secret(TWO, bearer))
    eventually("istiod takes the token", lambda: "replacing registry" in istiod_log(ONE, since), 15)
    assert remote_status(ONE)[TWO.name] == "synced"
    eventually("401", lambda: accepted(TWO, bearer) == "401", 30)
    assert remote_status(ONE)[TWO.name] == "synced", "the status tells after all"
    assert sees_by_gateway(ONE) and crosses(ONE), "what was known ought to stay"
    started = time.monotonic()
    restart(ONE, SYSTEM, "istiod")
    ready = time.monotonic() - started
    assert ready > 25, f"istiod was Ready after {ready:.0f} s: it did not wait for the cluster it cannot read"
    status, _ = eventually("timeout", lambda: [s for s in [remote_status(ONE)[TWO.name]] if s == "timeout"], 20)
    eventually("endpoints gone", lambda: not endpoints(ONE, remote_service(ONE)), 20)
    line = ask(ONE, remote_service(ONE))[0]
    assert line.startswith("503 no healthy upstream"), line
    return f"401 yet synced and crossing; istiod restarted: Ready after {ready:.0f} s, {status[0]}, {line[:24]}"


@scenario("an-expired-token-is-seen-only-at-the-next-restart", seldom=True)
def a_good_token_mends_it():
    """And istiod anew: an attempt that failed may wake up later and outlive its secret."""
    share_secret(TWO)
    restart(ONE, SYSTEM, "istiod")
    _, took = eventually("endpoints", lambda: sees_by_gateway(ONE), 20)
    eventually("the way across", lambda: crosses(ONE), 10)
    return f"{shown(endpoints(ONE, remote_service(ONE)))} again"
