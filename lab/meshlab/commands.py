"""The commands of `lab/lab`."""
import argparse
import json
import os
import shlex
import subprocess
import time

from . import aws, cloud, config, controlplane, doctor, node, proc, up
from .build import build
from .shell import LabError, lock, say


def cmd_build(_):
    _must_run_here()
    started = time.monotonic()
    with lock():
        build()
    say(f"  built: {config.CACHE / 'bin'} {time.monotonic() - started:.1f} s")


def cmd_up(args):
    _must_run_here()
    with lock():
        up.up(args.clusters)


def cmd_reset(_):
    with lock():
        up.reset()


def cmd_down(_):
    started = time.monotonic()
    with lock():
        up.down()
    say(f"  the lab is down {time.monotonic() - started:23.1f} s")


def cmd_status(_):
    """Exit 0 only if everything that was brought up lives."""
    members = ["cloud", "operator", *(c.name for c in config.clusters_up())]
    if not config.RUN.is_dir():
        print("the lab is down")
        return 1
    whole = True
    for cluster in config.clusters_up():
        try:
            ready = node.node_ready(cluster, controlplane.get)
        except (LabError, ValueError):
            ready = False
        whole &= ready
        print(f"{cluster.name:10} {cluster.server}  node {'Ready' if ready else 'NOT READY'}  "
              f"{config.REGION}, zone {cluster.zone}")
    for member in members:
        states = [f"{name}{'' if proc.pid_of(member, name) else ' (DEAD)'}" for name in proc.programs(member)]
        whole &= bool(states) and not proc.dead(member)
        print(f"{member:10} {', '.join(states) or 'nothing runs'}")
    print(f"{'AWS':10} {config.AWS_URL if aws.is_up() else aws.NONE}")
    for balancer in cloud.state()["balancers"] if proc.pid_of("cloud", "labcloud") else []:
        print(f"{balancer['cluster']:10} {balancer['namespace']}/{balancer['service']} {balancer['name']} "
              f"{' '.join(balancer['addresses'].values())}")
    return 0 if whole else 1


def environment():
    """What a program that works on the lab needs to know."""
    return {
        "KUBECONFIG": str(config.kubeconfig()),
        "MESHLINK_LAB": "1",
        "MESHLINK_LAB_CACHE": str(config.CACHE),
        "MESHLINK_LAB_EXEC": f"{config.LAB / 'lab'} exec --",
        "MESHLINK_LAB_CLUSTERS": ",".join(c.name for c in config.clusters_up()),
        "MESHLINK_LAB_CHARTS": config.CHARTS_URL,
        "MESHLINK_LAB_ISTIO": config.ISTIO_VERSION,
        "MESHLINK_LAB_VALUES": str(config.LAB / "values"),
        "MESHLINK_LAB_CLOUD": f"http://{config.CLOUD_IP}:{config.CONTROL_PORT}",
        "MESHLINK_LAB_DNS": f"{config.CLOUD_IP}:53",
        "MESHLINK_LAB_BIN": str(config.CACHE / "bin"),
        **aws.environment(),
    }


def cmd_env(_):
    for name, value in environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(str(config.CACHE / "bin"))}:"$PATH"')


def cmd_exec(args):
    """Become a program on the operator's network, in the folder one is in."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("exec: which command?")
    env = {**os.environ, **environment()}
    env["PATH"] = f"{config.CACHE / 'bin'}:{env.get('PATH', proc.PATH)}"
    argv = [*proc.in_member("operator"), "env", "-C", os.getcwd(), *command]
    os.execvpe(argv[0], argv, env)


def cmd_logs(args):
    """Without names: what there is. With them: that log."""
    folder = config.RUN / args.member / "log" if args.member else config.RUN
    if args.component:
        subprocess.run(["tail", "-n", str(args.lines), *(["-f"] if args.follow else []),
                        folder / f"{args.component}.log"], check=False)
        return
    for log in sorted(folder.glob("*.log" if args.member else "*/log/*.log")):
        print(f"{log.parent.parent.name} {log.stem:20} {log.stat().st_size:>10} bytes")


def cmd_cloud(args):
    """Show the cloud's state, or change it: cluster=eks-1 publish=ip resolve=false forward=false delay=3
    pace=1 health=unhealthy throttle=0.5."""
    changes = {}
    for word in args.change:
        key, _, value = word.partition("=")
        changes[key] = value if key in ("cluster", "publish", "health") else json.loads(value)
    state = cloud.settings(**changes) if changes else cloud.state()
    print(json.dumps(state, indent=1))


def cmd_doctor(_):
    found = doctor.problems()
    for what, remedy in found:
        print(f"LACKS  {what}\n       {remedy}")
    for note in doctor.notes():
        print(f"note   {note}")
    print("the lab cannot run here" if found else "the lab can run here")
    return 1 if found else 0


def _must_run_here():
    if found := doctor.problems():
        raise LabError("; ".join(f"{what}: {remedy}" for what, remedy in found))


def main():
    parser = argparse.ArgumentParser(prog="lab/lab", description="Real Kubernetes clusters on this one machine.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="command")

    def command(name, function, words):
        sub = commands.add_parser(name, help=words)
        sub.set_defaults(run=function)
        return sub

    command("build", cmd_build, "make every program, image and chart (what is there already is kept)")
    command("up", cmd_up, "bring clusters up").add_argument(
        "--clusters", type=int, default=2, choices=range(1, config.MAX_CLUSTERS + 1))
    command("status", cmd_status, "what runs, and whether nodes are Ready")
    command("env", cmd_env, "print exports for a shell: KUBECONFIG and more")
    command("exec", cmd_exec, "run a command on the operator's network: exec -- cmd ...").add_argument(
        "command", nargs=argparse.REMAINDER)
    logs = command("logs", cmd_logs, "list logs, or show one: logs eks-1 kubelet")
    logs.add_argument("member", nargs="?")
    logs.add_argument("component", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.add_argument("-f", "--follow", action="store_true")
    command("cloud", cmd_cloud, "show or change how balancers behave: cloud cluster=eks-1 resolve=false").add_argument(
        "change", nargs="*", metavar="key=value")
    command("doctor", cmd_doctor, "what this machine lacks for the lab")
    command("reset", cmd_reset, "as many clusters, with nothing in them")
    command("down", cmd_down, "take it all away again")
    args = parser.parse_args()
    try:
        return args.run(args)
    except LabError as error:
        say(f"lab: {error}")
        return 1
