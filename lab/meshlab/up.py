"""Bringing the lab up, and taking it down whatever state it is in."""
import shutil
import time

from . import aws, cgroups, cloud, config, controlplane, machine, net, node, pki, proc
from .build import ready
from .shell import LabError, say, side_by_side, timed

_OPERATOR_VIEW = """
mount --make-rslave / && mount --bind "{resolv}" "$(readlink -f /etc/resolv.conf)" && exec sleep infinity
"""


def up(count):
    """Make the first `count` clusters exist and be ready; those that live already are left as they are."""
    built = ready()
    started = time.monotonic()
    wanted = config.clusters(count)
    if config.RUN.is_dir() and (broken := _broken()):
        say(f"the lab is there but not whole ({broken}); making it anew")
        down()
    if not config.RUN.is_dir():
        if net.ours() & net.namespaces():
            raise LabError("there is a lab on this machine that is not in this cache folder; `lab/lab down` ends it")
        config.RUN.mkdir(parents=True, mode=0o700)
        machine.note()
        with timed("network, cloud and operator"):
            _common(built)
    new = [c for c in wanted if not c.dir.is_dir()]
    if new:
        side_by_side(*(lambda c=c: _cluster(c, built) for c in new))
    write_kubeconfig()
    say(f"  {len(config.clusters_up())} clusters ready{'' if new else ' (as they were)':<17} "
        f"{time.monotonic() - started:6.1f} s")
    if not aws.is_up():
        say(f"  {aws.NONE}")


def _broken():
    """Why what is there cannot be built upon, or an empty text."""
    if missing := {config.WAN_NS, config.CLOUD_NS, config.OPERATOR_NS} - net.namespaces():
        return f"no namespace {min(missing)}"
    for member in ("cloud", "operator", *(c.name for c in config.clusters_up())):
        if not proc.programs(member):
            return f"{member} was never finished"
        if dead := proc.dead(member):
            return f"{member}: {dead[0]} ended"
    for cluster in config.clusters_up():
        if not (cluster.dir / "ready").exists():
            return f"{cluster.name} was never finished"
    return ""


def _common(built):
    net.make_wan()
    net.make_cloud()
    net.make_operator()
    folder = config.RUN / "operator"
    folder.mkdir()
    (folder / "resolv.conf").write_text(f"nameserver {config.CLOUD_IP}\n")
    node.hold("operator", config.OPERATOR_NS, _OPERATOR_VIEW.format(resolv=folder / "resolv.conf"))
    cloud.start(built)


def _cluster(cluster, built):
    started = time.monotonic()
    net.make_cluster(cluster)
    pki.make(cluster)
    controlplane.start_api(cluster, built)
    node.start(cluster, built)
    controlplane.await_api(cluster)
    controlplane.start_controllers(cluster, built)
    node.register(cluster, built)
    cloud.join(cluster)
    aws.prepare(cluster)
    node.await_ready(cluster, controlplane.get)
    aws.await_ready(cluster)
    (cluster.dir / "ready").touch()
    say(f"  {cluster.name + ': node Ready':<34} {time.monotonic() - started:6.1f} s")


def write_kubeconfig():
    """The operator's, as whoever runs the clusters would hand it out now."""
    text = pki.operator_kubeconfig(config.clusters_up())
    aside = config.RUN / "kubeconfig.new"
    aside.touch(mode=0o600)
    aside.write_text(text)
    aside.rename(config.kubeconfig())


def down():
    """Leave nothing: processes by their groups, then groups, namespaces and files."""
    cgroups.kill_all()
    cgroups.remove()
    net.remove()
    _unmount()
    machine.put_back()
    if config.RUN.is_dir():
        shutil.rmtree(config.RUN)


def reset():
    """The same number of clusters with nothing in them: new ones come faster than old ones are emptied."""
    count = max(2, len(config.clusters_up()))
    down()
    up(count)


def _unmount():
    """Nothing of the lab is mounted in the machine's own view; look all the same before deleting files."""
    with open("/proc/self/mounts") as mounts:
        ours = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{config.RUN}/")]
    if ours:
        raise LabError(f"still mounted: {' '.join(ours)}")
