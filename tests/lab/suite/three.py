"""Three clusters: every pair is proved, and those who stay are proved again when one leaves.

Last of all, since a lab that has three keeps three.
"""
from meshlab import cloud, config, up
from meshlab.shell import lock, side_by_side

from .kit import INGRESS, SAMPLE, SYSTEM, gateway_endpoints, get, kubectl
from .meshlink import afresh, held, program, run
from .rotate import ANEW, PHASES, ROTATE, Load, is_over, phases, ready_for_traffic, running
from .runner import FULL, only, scenario

ALL = config.clusters(3)
NAMES = [c.name for c in ALL]
THREE = ALL[-1]
before = set()


def told(*words, **how):
    printed, said = run(*words, **how)
    return said + printed


@scenario(seldom=True)
def three_clusters_are_one_mesh():
    program()
    with lock():
        up.up(3)
    afresh()
    before.update(held(THREE))
    said = told("join", *NAMES, "--yes", "--timeout", "240s", seconds=300)
    assert "6 of 6 pairs proved" in said, said[-900:]
    again = told("join", *NAMES, "--yes")
    assert "nothing to do" in again, again[-600:]
    return next(line for line in said.splitlines() if line.startswith("done:"))


@scenario("three-clusters-are-one-mesh", seldom=True)
def three_change_their_root_and_no_request_is_lost():
    side_by_side(*(lambda c=c: ready_for_traffic(c, ALL) for c in ALL))
    old, pods = is_over(ALL), running(ALL)
    with Load(clusters=ALL) as load:
        said = told(*ROTATE, seconds=320)
    sent = load.nothing_failed()
    assert is_over(ALL) != old and "6 of 6 pairs proved" in said, said[-900:]
    assert running(ALL) == pods, "something was restarted"
    return f"{sent} requests, none failed; {phases()}"


def apart(seconds):
    """The same with so much time between a member and the next, in every phase."""
    held_up = [f"{verb}/{c.name}:before@{seconds * n}" for verb in PHASES for n, c in enumerate(ALL) if n]
    old = is_over(ALL)
    with Load(seconds=60 + 6 * seconds, clusters=ALL) as load:
        told(*ANEW, "--to", "generate", "--timeout", "600s", seconds=900, MESHLINK_CRASH=",".join(held_up))
    sent = load.nothing_failed()
    assert is_over(ALL) != old
    return f"{sent} requests, none failed; {phases()}"


@only(FULL)("three-change-their-root-and-no-request-is-lost")
def ten_seconds_lie_between_a_member_and_the_next():
    return apart(10)


@only(FULL)("ten-seconds-lie-between-a-member-and-the-next")
def a_minute_lies_between_a_member_and_the_next():
    return apart(60)


@scenario("three-clusters-are-one-mesh", seldom=True)
def one_leaves_and_the_others_are_proved_again():
    # A leave refuses to take istiod from under workloads that have a sidecar.
    kubectl(THREE, "delete", "namespace", SAMPLE, "--ignore-not-found")
    left = gateway_endpoints(THREE)
    said = told("leave", THREE.name, "--uninstall", "--crds", "--yes", "--timeout", "240s", seconds=300)
    assert "2 of 2 pairs proved" in said, said[-900:]
    assert held(THREE) == before, sorted(held(THREE) ^ before)
    assert not any(get(THREE, "namespace", n) for n in (SYSTEM, INGRESS))
    assert all(b["cluster"] != THREE.name for b in cloud.state()["balancers"])
    for cluster in ALL[:-1]:
        secrets = [s["metadata"]["name"] for s in get(cluster, "secrets", "-n", SYSTEM)["items"]]
        assert not any(THREE.name in name for name in secrets), secrets
    return f"2 of 2 pairs proved; {', '.join(sorted(left))} and all of {THREE.name} gone"
