"""One join of eks-1 and eks-2 by openssl, kubectl, helm and istioctl, on the operator's network.

Each step is what a careful person's script does today: Istio's own certificate makefile, its charts
with `helm --wait`, a look every second for what must come true, and a request that crosses at the end.
Prints what every step cost, as JSON.
"""
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from meshlab import config
from suite import mesh
from suite.kit import BOTH, GATEWAY, INGRESS, SAMPLE, SYSTEM, other

PROGRAMS = ("kubectl", "helm", "istioctl", "openssl", "make")
WORK = config.RUN / "baseline"


class Meter:
    """Counts what steps cost: seconds, processor time, programs started, requests to both APIs."""

    def __init__(self):
        self.steps = []
        self.started = self.reading()

    def reading(self):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"wall": time.monotonic(), "cpu": used.ru_utime + used.ru_stime, "processes": len(programs()),
                "requests": sum(len(requests(c)) for c in BOTH)}

    def step(self, name, job, *args):
        before = self.reading()
        job(*args)
        self.steps.append({"name": name, **self.since(before)})

    def since(self, before):
        after = self.reading()
        return {key: round(after[key] - before[key], 2) for key in before}


def programs():
    """One line for each program that was started: a shim writes it."""
    return (WORK / "started").read_text().splitlines()


def requests(cluster):
    """What the API server logged of this user."""
    log = cluster.dir / "log" / "audit.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def shims():
    """Put a counting step before each program, `make`'s own openssl included."""
    folder = WORK / "shims"
    folder.mkdir(parents=True)
    (WORK / "started").touch()
    for name in PROGRAMS:
        real = config.CACHE / "bin" / name
        real = real if real.exists() else f"/usr/bin/{name}"
        (folder / name).write_text(f'#!/bin/sh\necho {name} >>"{WORK}/started"\nexec "{real}" "$@"\n')
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    for kind in ("CACHE", "CONFIG", "DATA"):
        os.environ[f"HELM_{kind}_HOME"] = str(WORK / "helm")


def sh(*argv, stdin=None, check=True, cwd=None):
    done = subprocess.run(list(map(str, argv)), input=stdin, text=True, capture_output=True, cwd=cwd)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, argv))}: {done.stderr}")
    return done.stdout


def kubectl(c, *argv, **how):
    return sh("kubectl", "--context", c.name, *argv, **how)


def helm(c, release, chart, namespace, *argv):
    values = config.LAB / "values" / ("gateway.yaml" if chart == "gateway" else "istiod.yaml")
    sh("helm", "--kube-context", c.name, "install", release, chart, "--repo", config.CHARTS_URL, "--version",
       config.ISTIO_VERSION, "-n", namespace, "-f", values, *argv)


def until(fact):
    while not fact():
        time.sleep(1)


def certificates():
    makefiles = next(config.STORE.glob("istio-*/source/tools/certs"))
    sh("make", "-s", "-f", makefiles / "Makefile.selfsigned.mk", "root-ca", *(f"{c.name}-cacerts" for c in BOTH),
       cwd=WORK)


def namespace(c, name):
    kubectl(c, "create", "namespace", name)
    kubectl(c, "label", "namespace", name, f"topology.istio.io/network={mesh.network(c)}")


def authority(c):
    namespace(c, SYSTEM)
    files = (f"--from-file={WORK / c.name / name}" for name in
             ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"))
    kubectl(c, "create", "secret", "generic", "cacerts", "-n", SYSTEM, *files)


def base(c):
    helm(c, "base", "base", SYSTEM)


def istiod(c):
    early = ["--set", "global.proxy.readinessPeriodSeconds=1"] if VARIANT == "best" else []
    helm(c, "istiod", "istiod", SYSTEM, "--wait", "--set", f"global.meshID=lab,global.network={mesh.network(c)}",
         "--set", f"global.multiCluster.clusterName={c.name}", *early)


def gateway(c):
    namespace(c, INGRESS)
    helm(c, GATEWAY, "gateway", INGRESS, "--wait", "--set", f"networkGateway={mesh.network(c)}")


def expose(c):
    kubectl(c, "apply", "-f", "-", stdin=json.dumps(mesh.cross_network()))
    until(lambda: kubectl(c, "get", "service", GATEWAY, "-n", INGRESS, "-o",
                          "jsonpath={.status.loadBalancer.ingress[0].hostname}"))


def sample(c):
    kubectl(c, "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, mesh.sample(c))))
    for name in ("sleep", "helloworld"):
        kubectl(c, "rollout", "status", "-n", SAMPLE, f"deploy/{name}", "--timeout=120s")


def share(c):
    secret = sh("istioctl", "create-remote-secret", "--context", c.name, "--name", c.name, "--server", c.server)
    kubectl(other(c), "apply", "-f", "-", stdin=secret)


def synced(c):
    until(lambda: sh("istioctl", "--context", c.name, "remote-clusters").count(" synced ") == 2)


def seen(c):
    target = f"outbound|5000||hello-{other(c).name}.{SAMPLE}.svc.cluster.local"
    until(lambda: ":15443" in sh("istioctl", "--context", c.name, "proxy-config", "endpoints", f"deploy/sleep.{SAMPLE}",
                                 "--cluster", target))


def crosses(c):
    until(lambda: f"version: {other(c).name}," in kubectl(
        c, "exec", "-n", SAMPLE, "deploy/sleep", "-c", "sleep", "--", "/app", "get", "-n", "8",
        f"http://helloworld.{SAMPLE}:5000/"))


INSTALL = (("namespace and cacerts", authority), ("helm base", base), ("helm istiod", istiod),
           ("helm gateway", gateway), ("Gateway and balancer", expose))
AFTER = (("sample", sample), ("remote secret", share), ("synced", synced), ("endpoint seen", seen),
         ("crosses", crosses))


def serial(meter):
    for c in BOTH:
        for name, job in INSTALL:
            meter.step(f"{name} {c.name}", job, c)
    for name, job in AFTER:
        for c in BOTH:
            meter.step(f"{name} {c.name}", job, c)


def side_by_side(meter):
    def at_once(*jobs):
        def one(c):
            for job in jobs:
                job(c)
        with ThreadPoolExecutor() as pool:
            list(pool.map(one, BOTH))
    meter.step("install and sample", at_once, *(job for _, job in INSTALL), sample)
    meter.step("remote secrets", at_once, share)
    meter.step("verify", at_once, synced, seen, crosses)


def meshlink(meter, binary):
    """The rival: one command by the same contexts, with the same charts and values, which ends in the same proof."""
    values = config.LAB / "values"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {"HOME": str(WORK / "home"), "MESHLINK_CHARTS": config.CHARTS_URL, "MESHLINK_ISTIO_VERSION": config.ISTIO_VERSION,
            "MESHLINK_ISTIOD_VALUES": str(values / "istiod.yaml"),
            "MESHLINK_GATEWAY_VALUES": str(values / "gateway.yaml")}
    command = [binary, "join", *(c.name for c in BOTH), "--yes"]

    def join():
        (WORK / "started").write_text("meshlink\n")
        done = subprocess.run(command, env=env, text=True, capture_output=True)
        if done.returncode or "2 of 2 pairs proved" not in done.stdout:
            raise SystemExit(f"meshlink join: {done.stdout}{done.stderr}")
    meter.step("meshlink join", join)


def main():
    shims()
    load = os.getloadavg()[0]
    meter = Meter()
    if VARIANT == "meshlink":
        meshlink(meter, sys.argv[2])
    else:
        meter.step("certificates", certificates)
        serial(meter) if VARIANT == "serial" else side_by_side(meter)
    total = meter.since(meter.started)
    agents = Counter(json.loads(line).get("userAgent", "").split("/")[0] for c in BOTH for line in requests(c))
    print(json.dumps({"variant": VARIANT, "load": load, "total": total, "steps": meter.steps,
                      "programs": Counter(programs()), "clients": agents}))


VARIANT = sys.argv[1]
main()
