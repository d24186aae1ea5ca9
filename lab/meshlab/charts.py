"""A Helm repository of the charts that Istio's own module carries, as a release would publish them."""
import gzip
import io
import os
import shutil
import tarfile

from . import config
from .shell import run

_CREATED = "2026-01-01T00:00:00Z"


def make(built, out):
    """Package each chart with fixed times, so that its digest stays the same, and index them by Helm."""
    helm = built.bin("helm")
    sources = out / "sources"
    run(built.bin("chartdump"), sources, config.ISTIO_VERSION, config.IMAGE_HUB, config.IMAGE_TAG)
    env = {**os.environ, "HELM_CONFIG_HOME": str(out / ".helm"), "HELM_CACHE_HOME": str(out / ".helm"),
           "HELM_DATA_HOME": str(out / ".helm")}
    for chart in sorted(sources.iterdir()):
        run(helm, "package", chart, "-d", out, env=env)
        _fix_times(out / f"{chart.name}-{config.ISTIO_VERSION}.tgz")
    run(helm, "repo", "index", out, "--url", config.CHARTS_URL, env=env)
    index = (out / "index.yaml").read_text().splitlines()
    dated = ("created:", "generated:")
    fixed = [line.split(":", 1)[0] + f': "{_CREATED}"' if line.strip().startswith(dated) else line for line in index]
    (out / "index.yaml").write_text("\n".join(fixed) + "\n")
    shutil.rmtree(sources)
    shutil.rmtree(out / ".helm", ignore_errors=True)


def _fix_times(package):
    """Write a chart archive again with one time and one order."""
    with tarfile.open(package) as archive:
        files = sorted((entry.name, archive.extractfile(entry).read()) for entry in archive if entry.isfile())
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    package.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
