"""A chart repository that dies halfway: the index, then half of the first chart, then nothing any more.

    python3 dying.py FOLDER ADDRESS PORT URL      URL is what the index says of itself
"""
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Dying(BaseHTTPRequestHandler):
    folder, says = Path(), ""

    def do_GET(self):
        path = self.folder / self.path.lstrip("/")
        host, port = self.server.server_address
        if path.name == "index.yaml":
            body = path.read_text().replace(self.says, f"http://{host}:{port}").encode()
            self.answer(len(body), body)
            return
        body = path.read_bytes()
        self.answer(len(body), body[:len(body) // 2])
        self.wfile.flush()
        os._exit(0)

    def answer(self, length, body):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    Dying.folder, Dying.says = Path(sys.argv[1]), sys.argv[4]
    HTTPServer((sys.argv[2], int(sys.argv[3])), Dying).serve_forever()
