"""What scenarios are written with: programs run where the operator sits, and facts that are awaited."""
import json
import os
import re
import subprocess
import time

from meshlab import cloud, config, proc, up
from meshlab.shell import lock, side_by_side, wait_for

ONE, TWO = config.clusters(2)
BOTH = (ONE, TWO)
SAMPLE, SYSTEM, INGRESS = "sample", "istio-system", "istio-ingress"
GATEWAY = "istio-eastwestgateway"


def other(cluster):
    return TWO if cluster == ONE else ONE


def attempt(*argv, stdin=None, seconds=120):
    """Run a program on the operator's network, with the lab's tools and kubeconfig: how it ended and what it said."""
    env = {**os.environ, "KUBECONFIG": str(config.kubeconfig()), "PATH": f"{config.CACHE / 'bin'}:{proc.PATH}",
           "HELM_CACHE_HOME": str(config.RUN / "helm"), "HELM_CONFIG_HOME": str(config.RUN / "helm"),
           "HELM_DATA_HOME": str(config.RUN / "helm")}
    return subprocess.run([*proc.in_member("operator"), *map(str, argv)], input=stdin, env=env, text=True,
                          capture_output=True, timeout=seconds)


def operator(*argv, check=True, **how):
    """Run a program there that must not fail, unless told; what it printed."""
    done = attempt(*argv, **how)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))[:160]}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def kubectl(cluster, *argv, **how):
    return operator("kubectl", "--context", cluster.name, *argv, **how)


def helm(cluster, *argv, **how):
    return operator("helm", "--kube-context", cluster.name, *argv, **how)


def istioctl(cluster, *argv, **how):
    return operator("istioctl", "--context", cluster.name, *argv, **how)


def apply(cluster, *objects):
    text = "\n---\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects)
    return kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def get(cluster, *what):
    """An object or a list, or None where there is none."""
    text = kubectl(cluster, "get", *what, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def start_afresh():
    """Clusters that hold nothing of Istio."""
    def holds(cluster):
        return "istio" in kubectl(cluster, "get", "namespaces,crds", "-o", "name")
    if any(map(holds, BOTH)):
        with lock():
            up.reset()


def app(cluster, *argv, **how):
    """Run labapp in the sample client."""
    return kubectl(cluster, "exec", "-n", SAMPLE, "deploy/sleep", "-c", "sleep", "--", "/app", *argv, **how)


def ask(cluster, service, count=1, timeout=5):
    """Ask a Service from the sample client; one line for each answer."""
    return app(cluster, "get", "-n", count, "-t", timeout, f"http://{service}.{SAMPLE}:5000/").splitlines()


def answered_by(lines):
    """How many answers came from which cluster."""
    found = [match.group(1) for line in lines if (match := re.match(r"200 Hello version: (\S+),", line))]
    return {version: found.count(version) for version in sorted(set(found))}


def endpoints(cluster, service):
    """The endpoints that the sample client's proxy has for a Service, as ADDRESS:PORT."""
    lines = app(cluster, "get", "http://127.0.0.1:15000/clusters").splitlines()
    prefix = f"outbound|5000||{service}.{SAMPLE}.svc.cluster.local::"
    lines = [line.removeprefix("200 ") for line in lines]
    return {line.split("::")[1] for line in lines if line.startswith(prefix) and "::health_flags::" in line}


def balancer(cluster):
    """The cluster's east-west balancer, as the cloud has it."""
    found = [b for b in cloud.state()["balancers"] if b["cluster"] == cluster.name and b["service"] == GATEWAY]
    assert len(found) == 1, f"{len(found)} balancers of {cluster.name}"
    return found[0]


def gateway_endpoints(cluster):
    """How the cluster's Services must look from its peers."""
    return {f"{address}:15443" for address in balancer(cluster)["addresses"].values()}


def pod_endpoints(cluster, label="app=helloworld", port=5000):
    pods = get(cluster, "pod", "-n", SAMPLE, "-l", label)["items"]
    return {f"{pod['status']['podIP']}:{port}" for pod in pods if "podIP" in pod["status"]}


def remote_status(cluster):
    """istioctl's view: the state of each cluster that this istiod knows."""
    lines = istioctl(cluster, "remote-clusters").splitlines()[1:]
    rows = [line.split() for line in lines if line.strip()]
    return {row[0]: row[-3] for row in rows}  # the name may have no secret beside it


def istiod_log(cluster, since):
    return kubectl(cluster, "logs", "-n", SYSTEM, "deploy/istiod", f"--since-time={since}", "--all-pods=false")


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def rollout(cluster, namespace, *deployments, seconds=120):
    for deployment in deployments:
        kubectl(cluster, "rollout", "status", "-n", namespace, f"deploy/{deployment}", f"--timeout={seconds}s",
                seconds=seconds + 10)


def restart(cluster, namespace, *deployments):
    """Replace all pods, and wait for the new ones to serve and the old ones to be gone."""
    kubectl(cluster, "rollout", "restart", "-n", namespace, *(f"deploy/{d}" for d in deployments))
    settled(cluster, namespace, *deployments)


def settled(cluster, namespace, *deployments):
    """Wait for new pods to serve and for old ones to be gone."""
    rollout(cluster, namespace, *deployments)
    eventually(f"old pods gone in {namespace}", lambda: not [
        p for p in get(cluster, "pods", "-n", namespace)["items"] if "deletionTimestamp" in p["metadata"]], 60)


def eventually(what, fact, seconds=30, every=0.2):
    """Await a fact; the value that made it true is returned, and how long it took."""
    started = time.monotonic()
    value = wait_for(what, fact, seconds, every)
    return value, time.monotonic() - started


def both(job):
    """Do a thing in both clusters at once."""
    return side_by_side(*(lambda c=c: job(c) for c in BOTH))


def connect(inside, address):
    """Try a TCP connection from somewhere: open, refused, timeout or other words."""
    return subprocess.run([*inside, str(config.CACHE / "bin" / "labapp"), "connect", address], text=True,
                          capture_output=True, timeout=30).stdout.strip()


def describe():
    """The state of both clusters, for whoever reads of a failure."""
    lines = []
    for cluster in BOTH:
        lines += [cluster.name, kubectl(cluster, "get", "pods", "-A", "--no-headers", check=False).rstrip()]
        log = kubectl(cluster, "logs", "-n", SYSTEM, "deploy/istiod", "--tail=200", check=False).splitlines()
        lines += [line for line in log if "\twarn\t" in line or "\terror\t" in line][-6:]
    return "\n".join(lines)


def shown(items):
    return ",".join(sorted(items)) or "none"
