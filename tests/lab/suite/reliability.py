"""Runs that are killed, cut off, or not alone, on real clusters: the same state and the same keys at the end.

A usual run tries a few places, chosen by the commit. With MESHLINK_FULL=1 (`tests/lab/run --full`) all are tried: every
step of a join and of a leave, before its effect, after it, and after it was written down. A run dies at the first place
that was not tried and goes on where the one before was killed, so that one join covers many places.
"""
import json
import os
import re
import subprocess
import time
from pathlib import Path

from meshlab import aws, cloud, config, controlplane, net, proc
from meshlab.build import ready

from .kit import BOTH, ONE, SYSTEM, TWO, both, eventually, get, operator
from .leave import journal, keys, state
from .meshlink import HOME, NAMES, afresh, environment, meshlink, program
from .runner import FULL, Skip, only, required, scenario, turn

JOIN = ("join", *NAMES, "--yes", "--timeout", "180s")
LEAVE = ("leave", *NAMES, "--uninstall", "--crds", "--yes", "--timeout", "180s")
MOMENTS = ("before", "after", "journalled")
KILLED = 137  # 128 + SIGKILL: no destructor runs and nothing is flushed
# How long a full run goes on trying places; what is left is said.
BUDGET = int(os.environ.get("MESHLINK_FULL_SECONDS", "1500"))
undisturbed, tried = {}, {"join": set(), "leave": set()}


def start(*words, home=HOME, **changes):
    """Run it as the operator without waiting for its end; both streams together."""
    settings = [f"{name}={value}" for name, value in environment(HOME=home, **changes).items()]
    command = [*proc.in_member("operator"), "env", "-u", "KUBECONFIG", *settings, program(), *words]
    env = {"PATH": f"{config.CACHE / 'bin'}:{proc.PATH}"}
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=env)


def ended(running, expect=0, seconds=300):
    said, _ = running.communicate(timeout=seconds)
    assert running.returncode == expect, f"ended with {running.returncode}: {said[-900:]}"
    return said


def last_run():
    """The steps of the last run, and those that it saw to the end."""
    events = journal()
    begun = max(i for i, e in enumerate(events) if e["event"] == "run-started")
    steps = [s["step"] for s in events[begun]["steps"]]
    return steps, [e["step"] for e in events[begun:] if e["event"] == "step-finished"]


def killed_at(command, places):
    """Run a command that is to be killed at the first of these places it passes: which, or None if it came to its end."""
    running = start(*command, MESHLINK_CRASH=",".join(places))
    said, _ = running.communicate(timeout=300)
    code = running.returncode
    code = 128 - code if code < 0 else code
    assert code in (0, KILLED), f"ended with {code}: {said[-900:]}"
    if code == 0:
        return None
    place = re.search(r"^killed at (\S+)$", said, re.M).group(1)
    assert place in places, f"killed at {place}, which is none of {places}"
    return place


def must_be_killable():
    """Only a build with places to be killed at dies when told to."""
    if killed_at(("leave", TWO.name, "--yes"), ["unshare-secret/eks-1/eks-2:before"]):
        return
    if required():
        raise AssertionError("the command under test is not built with --features crashpoints")
    raise Skip("the command under test is not built with --features crashpoints")


def chain(name, command, places):
    """Kill one run after the other, each at the first of these places that it passes, until one comes to its end.

    What an earlier run did is not passed any more: its turn comes in another chain.
    """
    kept, open_ = keys(), list(places)
    while place := killed_at(command, open_):
        open_.remove(place)
        tried[name].add(place)
        now = keys()
        for path, key in kept.items():
            assert now.get(path) == key, f"{place}: {path} is another"
        kept = now
    assert all(keys().get(path) == key for path, key in kept.items()), "a key is another"
    return len(places) - len(open_)


def same(now, then):
    for cluster in BOTH:
        odd = now[cluster.name] ^ then[cluster.name]
        assert not odd, f"{cluster.name}: {sorted(odd)[:8]}"


@scenario(seldom=True)
def a_join_and_a_leave_that_nobody_disturbs():
    """What the killed ones are compared with."""
    program()
    afresh()
    ended(start(*JOIN))
    undisturbed["join"], undisturbed["join steps"] = state(), order(last_run())
    must_be_killable()
    ended(start(*LEAVE))
    undisturbed["leave"], undisturbed["leave steps"] = state(), order(last_run())
    return f"{len(undisturbed['join steps'])} and {len(undisturbed['leave steps'])} steps"


def order(run_of_steps):
    """The steps in the order in which they ended: killing along it leaves the later ones undone.

    What only the first join does is in the vault from then on; on embedded clusters it is killed there too.
    """
    steps, done = run_of_steps
    return [s for s in done if s in steps and not s.startswith(("create-root", "issue-intermediate"))]


def every(name):
    """The places of a join or a leave."""
    return [f"{step}:{moment}" for step in undisturbed[f"{name} steps"] for moment in MOMENTS]


@only(not FULL)("a-join-and-a-leave-that-nobody-disturbs", seldom=True)
def killed_here_and_there_and_run_again():
    """A slice by the commit: three places of a join, two of a leave that empties both clusters."""
    def some(name, count):
        places = every(name)
        apart = len(places) // count
        return places[turn() % apart::apart][:count]
    joins, leaves = some("join", 3), some("leave", 2)
    join = chain("join", JOIN, joins)
    same(state(), undisturbed["join"])
    assert "nothing to do" in meshlink("plan")
    leave = chain("leave", LEAVE, leaves)
    same(state(), undisturbed["leave"])
    assert join and leave, (joins, leaves)
    return f"killed {join} + {leave} times: {' '.join(sorted(tried['join'] | tried['leave']))}"


@only(FULL)("a-join-and-a-leave-that-nobody-disturbs")
def killed_at_every_step_and_run_again():
    begun, remember = time.monotonic(), config.CACHE / "results" / "crash-places.json"
    if remember.exists() and os.environ.get("MESHLINK_FULL_GO_ON") == "1":
        for name, places in json.loads(remember.read_text()).items():
            tried[name].update(places)
    rounds = 0
    while due("join") + due("leave") and time.monotonic() - begun < BUDGET:
        chain("join", JOIN, due("join"))
        same(state(), undisturbed["join"])
        assert "nothing to do" in meshlink("plan")
        chain("leave", LEAVE, due("leave"))
        same(state(), undisturbed["leave"])
        remember.write_text(json.dumps({name: sorted(places) for name, places in tried.items()}))
        rounds += 1
    return (f"{rounds} rounds: {len(tried['join'])} places of a join, {len(tried['leave'])} of a leave; "
            f"not yet: {' '.join(due('join') + due('leave')) or 'none'}")


def due(name):
    """The places that were not tried."""
    return [place for place in every(name) if place not in tried[name]]


@only(FULL)("a-join-and-a-leave-that-nobody-disturbs")
def two_operators_at_once():
    """Two machines, two vaults: one root or a refusal, never two roots."""
    elsewhere = HOME / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    first, second = start(*JOIN), start(*JOIN, home=elsewhere)
    said = [running.communicate(timeout=300)[0] for running in (first, second)]
    codes = [first.returncode, second.returncode]
    # 8: the other holds a Lease; 5: the other has bound a cluster to its root already.
    assert sorted(codes) in ([0, 5], [0, 8]), (codes, said[0][-500:], said[1][-500:])
    loser = said[1 - codes.index(0)]
    words = " ".join(loser.split())
    assert "is changing this mesh" in words or "is bound to root" in words, loser[-600:]
    roots = both(lambda c: get(c, "configmap", "istio-ca-root-cert", "-n", SYSTEM)["data"]["root-cert.pem"].strip())
    assert roots[0] == roots[1]
    same(state(), undisturbed["join"])
    home = (HOME, elsewhere)[codes.index(0)]
    ended(start(*LEAVE, home=home))
    return f"exit codes {codes}: {next(line for line in loser.splitlines() if line.strip())[:90]}"


def midway(step):
    """Until a run has begun a step."""
    known = len(journal())
    return lambda: any(e["event"] == "step-started" and e["step"] == step for e in journal()[known:])


@only(FULL)("two-operators-at-once")
def an_api_server_restarted_midway():
    begun = midway(f"install-istiod/{TWO.name}")
    running = start(*JOIN)
    eventually("istiod on its way", begun, 60)
    controlplane.restart_apiserver(TWO, ready())
    said = ended(running)
    assert "2 of 2 pairs proved" in said, said[-600:]
    retries = [e for e in journal() if e["event"] == "step-retry"]
    return f"{len(retries)} tries again; 2 of 2 pairs proved"


@only(FULL)("an-api-server-restarted-midway")
def a_cluster_out_of_reach_for_a_while():
    """Longer than a Lease lives in a full run, shorter in a usual one."""
    away = 60 if FULL else 12
    begun = midway(f"await-unlinked/{ONE.name}/{TWO.name}")
    running = start(*LEAVE)
    eventually("the leave on its way", begun, 60)
    net.connect(TWO, False)
    time.sleep(away)  # the fault itself: how long it lasts is what is tried
    net.connect(TWO, True)
    said, _ = running.communicate(timeout=300)
    if running.returncode:
        ended(start(*LEAVE))
    same(state(), undisturbed["leave"])
    return f"{away} s away; ended with {running.returncode}" + ("" if not running.returncode else ", then with 0")


@scenario("a-join-and-a-leave-that-nobody-disturbs", seldom=True)
def a_chart_repository_that_dies_halfway():
    charts = ready().charts.dir
    fresh = HOME / "fresh"
    fresh.mkdir(exist_ok=True)
    before = state()
    server = [*proc.in_member("operator"), "python3", Path(__file__).with_name("dying.py"), charts, config.OPERATOR_IP,
              "8099", config.CHARTS_URL]
    dying = subprocess.Popen([str(word) for word in server], stderr=subprocess.DEVNULL)
    try:
        url = f"http://{config.OPERATOR_IP}:8099"
        eventually("the repository", lambda: "entries" in operator("curl", "-s", f"{url}/index.yaml", check=False), 10)
        said = ended(start(*JOIN, home=fresh, MESHLINK_CHARTS=url), expect=1)
    finally:
        dying.kill()
        dying.wait()
    same(state(), before)
    return " ".join(said.split())[-160:]


# Calls that may be made at once, and seconds between two from then on: what a command allows itself of an account.
BUDGETS = {"elasticloadbalancing": (8, 0.25), "eks": (20, 0.1), "sts": (20, 0.1), "ec2": (20, 0.1)}


def throttle(share):
    cloud.settings(throttle=share)
    eventually(f"AWS to turn away {share} of its calls", lambda: aws.calls()["throttle"] == share, 10)


def asked(command, **how):
    """What a command said, and the calls to AWS that it made: no more than its budget, whatever was turned away."""
    before = len(aws.calls()["calls"])
    said = ended(start(*command), **how)
    made = aws.calls()["calls"][before:]
    for service, (burst, period) in BUDGETS.items():
        times = [c["at"] for c in made if c["action"].startswith(f"{service}:")]
        for first, begun in enumerate(times):
            for count, at in enumerate(times[first:], 1):
                allowed = burst + 1 + (at - begun) / period
                assert count <= allowed, f"{command[0]}: {count} calls of {service} in {at - begun:.2f} s"
    return said, len(made), sum(c["status"] != 200 for c in made)


@scenario("a-join-and-a-leave-that-nobody-disturbs", seldom=True)
def an_aws_that_throttles_is_waited_out():
    """Every third call is turned away: whatever asks AWS says so, keeps to its budget and comes to its end."""
    waits, told = ("wait", "nlb", *NAMES, "--timeout", "120s"), []
    throttle(0.34)
    try:
        for command, want in ((JOIN, "2 of 2 pairs proved"), (waits, f"ok {TWO.name}"), (LEAVE, "done:")):
            said, made, refused = asked(command)
            assert want in said, said[-900:]
            assert refused and "throttled" in said, f"{command[0]}: {refused} of {made} refused: {said[-900:]}"
            told.append(f"{command[0]}: {refused} of {made} calls turned away")
            if command == JOIN:
                same(state(), undisturbed["join"])
                assert "nothing to do" in meshlink("plan")
    finally:
        throttle(0)
    same(state(), undisturbed["leave"])
    return "; ".join(told)
