"""Container images made from folders: no engine, the same bytes every time."""
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

from . import config

NAMES = ("pause", "app", "pilot", "proxyv2")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IPTABLES = [f"{family}{backend}{verb}" for family in ("iptables", "ip6tables") for backend in ("", "-nft")
             for verb in ("", "-save", "-restore")]


def make(built, out):
    """The four images of the lab, as a registry serves them."""
    labapp = built.bin("labapp")
    _image(out, "pause", {"pause": labapp}, ["/pause"])
    _image(out, "app", {"app": labapp}, ["/app"])
    _image(out, "pilot", {"usr/local/bin/pilot-discovery": built.bin("pilot-discovery")},
           ["/usr/local/bin/pilot-discovery"], user="1337:1337")
    _image(out, "proxyv2", _proxy_files(built), ["/usr/local/bin/pilot-agent"], links=_proxy_links())


def reference(name):
    return f"{config.IMAGE_HUB}/{name}:{config.IMAGE_TAG}"


def _proxy_files(built):
    """pilot-agent and Envoy, with the programs by which istio-init redirects traffic, and their libraries."""
    envoy = built.envoy.dir / "envoy"
    tools = [Path("/usr/sbin/xtables-nft-multi"), Path("/usr/sbin/nft")]
    files = {
        "usr/local/bin/pilot-agent": built.bin("pilot-agent"),
        "usr/local/bin/envoy": envoy,
        "var/lib/istio/envoy/envoy_bootstrap_tmpl.json":
            built.istio_source / "tools/packaging/common/envoy_bootstrap.json",
    }
    for tool in tools:
        files[str(tool)[1:]] = tool
    for binary in (envoy, *tools):
        listed = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
        for library in re.findall(r"/\S+", listed):
            files[library[1:]] = Path(library).resolve()
    for extension in Path("/usr/lib").glob("*-linux-gnu/xtables/*.so"):
        files[str(extension)[1:]] = extension
    return files


def _proxy_links():
    return {f"usr/sbin/{name}": "xtables-nft-multi" for name in _IPTABLES} | {"sbin": "usr/sbin"}


def _image(out, name, files, entrypoint, user="", links=None):
    """An image of one layer, as the blobs and the tag that a registry serves."""
    layer = _layer(files | {"etc/ssl/certs/ca-certificates.crt": Path("/etc/ssl/certs/ca-certificates.crt")},
                   links or {})
    layer = _blob(out, layer, "application/vnd.oci.image.layer.v1.tar")
    settings = _blob(out, json.dumps({
        "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": entrypoint, "Env": [_PATH], "User": user},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created_by": "lab"}],
    }).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = _blob(out, json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": [layer]}).encode(), MANIFEST)
    tag = out / "tags" / name / config.IMAGE_TAG
    tag.parent.mkdir(parents=True)
    tag.write_text(manifest["digest"])


def _blob(out, data, kind):
    digest = hashlib.sha256(data).hexdigest()
    folder = out / "blobs"
    folder.mkdir(exist_ok=True)
    (folder / f"sha256:{digest}").write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _layer(files, links):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        made = set()
        _folder(layer, made, "tmp", 0o1777)
        _folder(layer, made, "etc/istio/proxy", 0o777)
        _folder(layer, made, "var/lib/istio")
        _folder(layer, made, "var/run")
        _folder(layer, made, "proc")
        _folder(layer, made, "lib64")
        _add(layer, "etc/passwd", b"root:x:0:0::/:/\nistio-proxy:x:1337:1337::/:/\n")
        _add(layer, "etc/group", b"root:x:0:\nistio-proxy:x:1337:\n")
        for path, source in sorted(files.items()):
            _folder(layer, made, os.path.dirname(path))
            _add(layer, path, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
        for path, target in sorted(links.items()):
            _folder(layer, made, os.path.dirname(path))
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            layer.addfile(link)
    return buffer.getvalue()


def _folder(archive, made, path, mode=0o755):
    parts = Path(path).parts
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        if name not in made:
            made.add(name)
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode if depth == len(parts) else 0o755
            archive.addfile(entry)


def _add(archive, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def archive(name, program):
    """An image of one program that is not part of the lab, as `ctr images import` takes it: with the libraries it needs,
    if it needs any, and nothing else."""
    files = {f"{name}": program}
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    files |= {library[1:]: Path(library).resolve() for library in re.findall(r"/\S+", listed)}
    layer = _layer(files, {})
    settings = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [f"/{name}"], "User": "65532:65532"},
                           "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}}).encode()
    kinds = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.config.v1+json")
    layers, described = (_described(data, kind) for data, kind in zip((layer, settings), kinds))
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layers]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [
        {**_described(manifest, MANIFEST), "annotations": {"io.containerd.image.name": f"{config.IMAGE_HUB}/{name}:here"}}]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as whole:
        _add(whole, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(whole, "index.json", index.encode())
        for data in (layer, settings, manifest):
            _add(whole, f"blobs/{_digest(data).replace(':', '/')}", data)
    return buffer.getvalue()


def _digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _described(data, kind):
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}
