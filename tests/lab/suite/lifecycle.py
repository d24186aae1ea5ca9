"""`lab up` and `lab down`, also after everything was killed: run alone, since it takes the lab down.

    python3 -m suite.lifecycle
"""
import os
import subprocess
import sys

from meshlab import cgroups, config, doctor, proc, up
from meshlab.shell import LabError, lock

from .inventory import inventory
from .runner import Suite, required

suite = Suite()
before = None


def lab(*words, check=True):
    done = subprocess.run([config.LAB / "lab", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"lab {' '.join(words)}: {done.stderr.strip()[-600:]}")
    return done


def differences():
    """What is there now and was not before, and the other way round."""
    now = inventory()
    return sorted({f"left: {line}" for line in now - before} | {f"missing: {line}" for line in before - now})


@suite.scenario()
def down_when_nothing_is_up_is_harmless():
    global before
    lab("down")
    assert not config.RUN.exists()
    before = inventory()
    lab("down")
    assert not differences(), differences()
    assert lab("status", check=False).returncode == 1
    return f"{len(before)} things counted on this machine"


@suite.scenario()
def a_machine_that_lacks_something_is_told_so():
    """As on a machine where one may not make namespaces: named by doctor, a skip by hand, a failure in CI."""
    poor = ["setpriv", "--bounding-set", "-sys_admin,-net_admin"]
    said = subprocess.run([*poor, config.LAB / "lab", "doctor"], capture_output=True, text=True)
    assert said.returncode == 1 and "CAP_SYS_ADMIN" in said.stdout, said.stdout
    entry = [*poor, config.LAB.parent / "tests" / "lab" / "run"]
    plain = {k: v for k, v in os.environ.items() if k not in ("CI", "MESHLINK_LAB_REQUIRED")}
    by_hand = subprocess.run(entry, capture_output=True, text=True, env=plain)
    in_ci = subprocess.run(entry, capture_output=True, text=True, env={**plain, "CI": "1"})
    assert "skipped" in by_hand.stdout and by_hand.returncode == 0, by_hand
    assert "skipped" in in_ci.stdout and in_ci.returncode == 1, in_ci
    return by_hand.stdout.strip()[:90]


@suite.scenario("down-when-nothing-is-up-is-harmless")
def up_adds_a_cluster_to_one_that_lives():
    lab("up", "--clusters", "1")
    began = {name: proc.pid_of("eks-1", name) for name in proc.programs("eks-1")}
    lab("up", "--clusters", "2")
    assert began == {name: proc.pid_of("eks-1", name) for name in proc.programs("eks-1")}
    status = lab("status").stdout
    assert status.count("node Ready") == 2, status
    return "eks-2 added, eks-1 untouched"


@suite.scenario("up-adds-a-cluster-to-one-that-lives")
def down_leaves_nothing():
    assert inventory() - before, "the inventory does not see a lab that is up"
    lab("down")
    assert not differences(), "; ".join(differences()[:6])
    return "namespaces, links, rules, mounts, groups, files, settings, processes as before"


@suite.scenario("down-leaves-nothing")
def down_after_everything_was_killed_leaves_nothing():
    lab("up", "--clusters", "2")
    # A pod, so that there are containers, their networks and mounts.
    pod = ('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"one"},"spec":{"containers":[{"name":"one","image":"'
           f'{config.IMAGE_HUB}/app:{config.IMAGE_TAG}"' '}]}}')
    ask = [config.LAB / "lab", "exec", "--", "kubectl", "--context", "eks-1"]
    subprocess.run([*ask, "apply", "-f", "-"], input=pod, text=True, check=True, capture_output=True)
    subprocess.run([*ask, "wait", "pod/one", "--for=condition=Ready", "--timeout=60s"], check=True, capture_output=True)
    killed = len(cgroups.members())
    cgroups.kill_all()
    lab("down")
    assert not differences(), "; ".join(differences()[:6])
    return f"{killed} processes killed at once, then down"


@suite.scenario("down-after-everything-was-killed-leaves-nothing")
def up_mends_a_lab_that_is_half_dead():
    lab("up", "--clusters", "1")
    with lock():
        subprocess.run(["kill", "-9", str(proc.pid_of("eks-1", "etcd"))], check=True)
    assert lab("status", check=False).returncode == 1
    said = lab("up", "--clusters", "1").stderr
    assert "not whole" in said, said
    assert lab("status").stdout.count("node Ready") == 1
    lab("down")
    assert not differences(), "; ".join(differences()[:6])
    return "etcd killed: up begins anew, down leaves nothing"


def main():
    if found := doctor.problems():
        print(f"skip the life cycle: {len(suite.scenarios)} scenarios skipped: {'; '.join(w for w, _ in found)}")
        return 1 if required() else 0
    try:
        return suite.run([], results="lifecycle.json", title="life cycle")
    finally:
        try:
            with lock():
                up.down()
        except LabError as error:
            print(error)


if __name__ == "__main__":
    sys.exit(main())
