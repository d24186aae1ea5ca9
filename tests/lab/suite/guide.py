"""The guide's commands on real clusters, in its order: they end as it says and print what it shows."""
import os
import re
import tempfile
from pathlib import Path

from meshlab import config

from .kit import attempt, start_afresh
from .meshlink import PROJECT, ended, program
from .runner import scenario

PAGE = PROJECT / "docs" / "guide.md"
BLOCK = re.compile(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
# What a mesh on the lab needs beside what the guide writes: its charts, and values for its Envoy; and by the
# environment, the version of Istio that the lab has.
HERE = f"""istio:
  charts: {config.CHARTS_URL}
  valuesFiles: [{config.LAB / 'values' / 'istiod.yaml'}]
gateway:
  valuesFiles: [{config.LAB / 'values' / 'gateway.yaml'}]
"""


def as_shown(shown):
    """The guide's `…` stands for anything in a line, and alone for any lines."""
    lines = [r"(?:.*\n)*" if line == "…" else
             ".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n" for line in shown.splitlines()]
    return re.compile("".join(lines))


@scenario(seldom=True)
def the_guide_leads_from_two_clusters_to_a_mesh_and_back():
    start_afresh()
    folder = Path(tempfile.mkdtemp(prefix="meshlink-lab-guide-"))
    programs = folder / "bin"
    programs.mkdir()
    (programs / "meshlink").symlink_to(Path(program()).resolve())
    said, ran = "", 0
    for kind, word, text in BLOCK.findall(PAGE.read_text()):
        if kind == "yaml":
            (folder / word).write_text(text + HERE)
        elif kind == "sh":
            done = attempt("env", f"HOME={folder}", f"PATH={programs}:{os.environ['PATH']}",
                           f"MESHLINK_ISTIO_VERSION={config.ISTIO_VERSION}", "sh", "-c", f"cd {folder}; {text}", seconds=240)
            said, _ = ended(done, int(word.removeprefix("exit=") or 0), [text.strip()])
            ran += 1
        elif kind == "text":
            assert as_shown(text).fullmatch(said), f"the guide shows\n{text}\nbut it was\n{said[-900:]}"
    return f"{ran} commands"
