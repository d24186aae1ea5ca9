"""Two istiod replicas, of which one lags: each is asked, and the verdict names the one that does not know the peer."""
import json
import subprocess

from meshlab import config, proc
from meshlab.shell import run as do

from .kit import ONE, SYSTEM, TWO, eventually, get, kubectl, settled
from .meshlink import HOME, NAMES, afresh, program, run
from .runner import scenario

VALUES = HOME / "two-replicas.yaml"


def replicas(cluster):
    """The pods of istiod that are not on their way out, with their addresses."""
    pods = get(cluster, "pods", "-n", SYSTEM, "-l", "app=istiod")["items"]
    return {p["metadata"]["name"]: p["status"].get("podIP") for p in pods if "deletionTimestamp" not in p["metadata"]}


def checks(*words, expect=0):
    """What a verification found, by path."""
    printed, _ = run("verify", *NAMES, *words, "-o", "json", "--yes", "--istiod-values", VALUES, expect=expect)
    found = json.loads(printed)["checks"]
    return {"/".join(filter(None, (c["id"], c["from"], c.get("to")))): c for c in found}


@scenario(seldom=True)
def two_replicas_of_istiod_are_asked_each():
    program()
    afresh()
    VALUES.write_text((config.LAB / "values" / "istiod.yaml").read_text() + "replicaCount: 2\n")
    run("join", *NAMES, "--yes", "--timeout", "240s", "--istiod-values", VALUES, seconds=300)
    assert all(len(replicas(c)) == 2 for c in (ONE, TWO)), {c.name: replicas(c) for c in (ONE, TWO)}
    found = checks("--traffic")
    said = found["synced/eks-1/eks-2"]["evidence"]
    assert "2 of 2 istiod replicas" in said, said
    return said


@scenario("two-replicas-of-istiod-are-asked-each", seldom=True)
def the_replica_that_lags_is_named():
    """Its way to the peer's API server is cut, and it is ready all the same: istiod waits half a minute for a peer."""
    well, lags = sorted(replicas(ONE))
    inside = proc.in_netns(ONE.netns)
    rules = f"""table ip lags {{
      chain lags {{ type filter hook forward priority -160;
        ip saddr != {replicas(ONE)[well]} ip daddr {TWO.wan_ip} tcp dport 6443 drop; }}
    }}"""
    subprocess.run([*inside, "nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        kubectl(ONE, "delete", "pod", "-n", SYSTEM, lags, "--wait=false")
        settled(ONE, SYSTEM, "istiod")
        new = next(pod for pod in replicas(ONE) if pod != well)
        bad = {path: c for path, c in checks(expect=4).items() if c["outcome"] == "failed"}
        said = bad["synced/eks-1/eks-2"]["evidence"]
        assert f"1 of 2 istiod replicas synced with eks-2: {new} " in said, said
        assert well not in said, said
        run("status", *NAMES, expect=7)
    finally:
        do(*inside, "nft", "delete", "table", "ip", "lags")
    # It goes on trying, and catches up by itself.
    eventually("the replica has caught up", lambda: run("status", *NAMES), 120, 2)
    return said
