"""An image registry that only gives: the lab's own images, to nodes that ask for them.

    python3 registry.py FOLDER ADDRESS PORT
"""
import re
import shutil
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PATH = re.compile(r"/v2/([a-z0-9]+)/(manifests|blobs)/([A-Za-z0-9.:_-]+)")


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = Path()

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        if self.path == "/v2/":
            return self.head(200, "application/json", 0)
        found = _PATH.fullmatch(self.path.partition("?")[0])
        blob = found and self.find(*found.groups())
        if not blob or not blob.is_file():
            return self.head(404, "application/json", 0)
        kind = _MANIFEST if found.group(2) == "manifests" else "application/octet-stream"
        self.head(200, kind, blob.stat().st_size, blob.name)
        if with_body:
            with open(blob, "rb") as data:
                shutil.copyfileobj(data, self.wfile, 1 << 20)

    def find(self, image, what, reference):
        if what == "manifests" and not reference.startswith("sha256:"):
            tag = self.folder / "tags" / image / reference
            if not tag.is_file():
                return None
            reference = tag.read_text()
        return self.folder / "blobs" / reference

    def head(self, status, kind, size, digest=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()


if __name__ == "__main__":
    Registry.folder = Path(sys.argv[1])
    ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Registry).serve_forever()
