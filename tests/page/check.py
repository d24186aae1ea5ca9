"""Looks at the page of `meshlink status --html` as a browser shows it.

Chromium is spoken to through its pipe (file descriptors 3 and 4), so that nothing has to be installed beside it.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

# What is asked of the page, in the page.
LOOK = r"""(() => {
  const wrong = [];
  const wide = document.documentElement.scrollWidth, seen = document.documentElement.clientWidth;
  if (wide > seen) wrong.push(`scrolls sideways: ${wide} px on ${seen}`);
  const parse = (text) => {
    const parts = (text.match(/[\d.]+/g) || []).map(Number);
    return parts.length < 3 ? null : [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  // What is behind a text: of SVG the filled box it stands on, else the first element that has a colour.
  const behind = (node) => {
    if (node.closest(".node")) {
      const box = node.previousElementSibling?.classList.contains("network") ? ".network" : ".box";
      return parse(getComputedStyle(node.closest(".node").querySelector(box)).fill);
    }
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour && colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  let texts = 0, least = 99;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "title"].includes(node.tagName)) continue;
    if (!node.checkVisibility || !node.checkVisibility() || node.id === "said") continue;
    const style = getComputedStyle(node);
    const ink = parse(node instanceof SVGElement ? style.fill : style.color);
    const found = ratio(ink, behind(node));
    texts += 1;
    least = Math.min(least, found);
    if (found < 4.5) wrong.push(`contrast ${found.toFixed(2)}: ${walk.currentNode.textContent.trim().slice(0, 40)}`);
    const size = parseFloat(style.fontSize) * (node.getCTM ? node.getCTM().a : 1);
    if (size < 8.5) wrong.push(`${size.toFixed(1)} px: ${walk.currentNode.textContent.trim().slice(0, 40)}`);
  }
  const shown = (e) => e.checkVisibility();
  const keys = [...document.querySelectorAll("a[href], button, summary, [tabindex]")].filter(shown);
  if (keys.some((e) => e.tabIndex > 0)) wrong.push("an order of its own for the keyboard");
  for (const e of keys) {
    const name = e.getAttribute("aria-label") || e.textContent.trim();
    if (!name) wrong.push(`no name: ${e.outerHTML.slice(0, 60)}`);
  }
  for (const a of document.querySelectorAll("a[href^='#']"))
    if (!document.querySelector(a.getAttribute("href"))) wrong.push(`leads nowhere: ${a.href}`);
  for (const svg of document.querySelectorAll("svg"))
    if (!svg.closest("[aria-hidden]") && !svg.getAttribute("aria-label")) wrong.push("a drawing without a name");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size < ids.length) wrong.push("an id twice");
  return { wrong, texts, least, keys: keys.length, buttons: document.querySelectorAll("button.copy:not([hidden])").length };
})()"""


class Browser:
    """One Chromium, spoken to by JSON that ends with a zero byte."""

    def __init__(self, program, folder):
        here, there = os.pipe(), os.pipe()
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
                   f"--user-data-dir={folder}", "--no-first-run", "--disable-background-networking", "about:blank"]

        def ends():
            # Away from 3 and 4 first, whatever the pipes are numbered.
            read, write = os.dup2(here[0], 30), os.dup2(there[1], 31)
            os.dup2(read, 3), os.dup2(write, 4)

        self.process = subprocess.Popen(command, preexec_fn=ends, close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(here[0]), os.close(there[1])
        self.write, self.read = here[1], there[0]
        self.rest, self.number, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def next(self):
        while b"\0" not in self.rest:
            more = os.read(self.read, 1 << 16)
            if not more:
                raise RuntimeError("the browser has gone away")
            self.rest += more
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def open(self, path, width, height, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.next())

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, key):
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"Tab": 9}[key])

    def shot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def complaints(events, path):
    """What the browser said, and what it asked of anybody."""
    wrong = []
    for event in events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            wrong.append(f"console: {params['entry']['text']}")
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            wrong.append(f"console: {json.dumps(params)[:200]}")
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != path.as_uri() and not url.startswith("data:"):
                wrong.append(f"asks for {url}")
    return wrong


def by_keyboard(browser):
    """Every thing that can be reached by Tab, in the order of the page."""
    count = browser.value(LOOK)["keys"]
    browser.value("document.body.focus(), document.activeElement.blur()")
    browser.value("window.keys = [...document.querySelectorAll('a[href], button, summary, [tabindex]')].filter((e) => e.checkVisibility())")
    order = []
    for _ in range(min(count, 60)):
        browser.press("Tab")
        order.append(browser.value("keys.indexOf(document.activeElement)"))
    if order != list(range(len(order))):
        return [f"the keyboard goes {order}"]
    ring = browser.value("getComputedStyle(document.activeElement).outlineStyle")
    return [] if ring not in ("none", None) else ["what has the focus is not seen"]


class Sandbox:
    """Embedded clusters, and the command as a user runs it."""

    def __init__(self, meshlink, folder, clusters):
        self.environment = {"HOME": str(folder), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
        self.meshlink, self.folder = meshlink, folder
        self.process = subprocess.Popen([meshlink, "sandbox", "--clusters", str(clusters)], env=self.environment, cwd=folder,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        # It says so when they can be spoken to.
        for line in self.process.stdout:
            if "meshlink status" in line:
                break

    def run(self, *words, codes=(0,)):
        answer = subprocess.run([self.meshlink, *words, "--sandbox"], env=self.environment, cwd=self.folder, text=True,
                                capture_output=True, timeout=600)
        if answer.returncode not in codes:
            raise SystemExit(f"meshlink {' '.join(words)}: {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer.stdout

    def close(self):
        self.process.terminate()
        self.process.wait(30)


def pages(meshlink, folder, sizes):
    """Pages of meshes of these sizes: before a join, after it, and with something broken; of large ones the first alone."""
    for size in sizes:
        home = folder / f"home-{size}"
        home.mkdir()
        sandbox = Sandbox(meshlink, home, size)
        try:
            names = [f"eks-{i + 1}" for i in range(size)]
            page = lambda what: folder / f"{size}-{what}.html"
            if size == 2 or size > 12:
                sandbox.run("status", *names, "--html", str(page("before")), codes=(0, 6, 7))
                yield page("before")
            if size > 12:
                continue
            sandbox.run("join", *names, "--yes")
            sandbox.run("status", "--html", str(page("well")))
            yield page("well")
            broken(home, size)
            sandbox.run("status", "--html", str(page("broken")), codes=(7,))
            yield page("broken")
        finally:
            sandbox.close()


def broken(home, size):
    """Takes out a remote secret and what opens 15443, by the clusters' own API."""
    import ssl
    import urllib.request

    config = json.loads((home / ".local/state/meshlink-sandbox/kubeconfig").read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    paths = ["/apis/networking.istio.io/v1/namespaces/istio-ingress/gateways/cross-network-gateway"]
    # More than ten share Secrets.
    if size <= 10:
        paths.append("/api/v1/namespaces/istio-system/secrets/istio-remote-secret-eks-2")
    for path in paths:
        request = urllib.request.Request(cluster["server"] + path, method="DELETE", headers={"Authorization": f"Bearer {user['token']}"})
        urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)).open(request, timeout=30).read()


def main():
    meshlink, chromium = sys.argv[1:3]
    shots = pathlib.Path(sys.argv[4]) if sys.argv[3:4] == ["--shots"] else None
    sizes = [2, 5, 12, 24, 50] if shots else [2, 5, 50]
    failed, looked, least, started = [], 0, 99.0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        browser = Browser(chromium, folder / "browser")
        try:
            for page in pages(meshlink, folder, sizes):
                for scheme in ["light", "dark"]:
                    for width in [400, 1280]:
                        browser.open(page, width, 900, scheme)
                        found = browser.value(LOOK)
                        wrong = found["wrong"] + complaints(browser.events, page)
                        if scheme == "light":
                            wrong += by_keyboard(browser)
                        looked, least = looked + 1, min(least, found["least"])
                        failed += [f"{page.stem}, {scheme}, {width} px: {one}" for one in wrong[:5]]
                        if shots:
                            shots.mkdir(exist_ok=True)
                            browser.shot(shots / f"{page.stem}-{scheme}-{width}.png")
        finally:
            browser.close()
    for line in failed:
        print(f"FAIL {line}")
    took = time.monotonic() - started
    print(f"page: {looked} looks, {len(failed)} wrong, contrast at least {least:.1f}, {took:.0f} s")
    sys.exit(1 if failed else 0)


main()
