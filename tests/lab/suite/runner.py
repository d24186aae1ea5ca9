"""Scenarios run in the order they are written; one that fails takes those that need it along."""
import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field

from meshlab import config

OK, FAILED, SKIPPED = "ok", "FAIL", "skip"


class Skip(Exception):
    """Why a scenario cannot be run here."""


@dataclass
class Scenario:
    file: str
    name: str
    needs: tuple
    act: object
    seldom: bool = False
    outcome: str = ""
    seconds: float = 0.0
    evidence: str = ""


@dataclass
class Suite:
    scenarios: list = field(default_factory=list)
    describe: object = None  # what to print of the state of things after the first failure

    def scenario(self, *needs, seldom=False):
        """Make a function a scenario; its doc string is not printed, its return value is the evidence.

        What is slow and seldom changes its mind takes turns, file by file: a commit tries one of them.
        """
        def take(function):
            name = function.__name__.replace("_", "-")
            file = function.__module__.rpartition(".")[2]
            self.scenarios.append(Scenario(file, name, needs, function, seldom))
            return function
        return take

    def chosen(self, words):
        """The scenarios that any word names, or whose turn it is, with everything they need, in order."""
        by_name = {s.name: s for s in self.scenarios}
        files = list(dict.fromkeys(s.file for s in self.scenarios if s.seldom))
        waits = {s.name for s in self.scenarios if s.seldom and not FULL and s.file != files[turn() % len(files)]}
        wanted, open_ = set(), [s.name for s in self.scenarios if any(w in s.name or w == s.file for w in words)
                                or not words and s.name not in waits]
        while open_:
            name = open_.pop()
            if name not in wanted:
                wanted.add(name)
                open_ += by_name[name].needs
        return [s for s in self.scenarios if s.name in wanted]

    def run(self, words, results="suite.json", title="suite"):
        done = {}
        started = time.monotonic()
        for s in self.chosen(words):
            lacking = [n for n in s.needs if done.get(n) != OK]
            begun = time.monotonic()
            if lacking:
                s.outcome, s.evidence = SKIPPED, f"needs {lacking[0]}"
            else:
                s.outcome, s.evidence = _attempt(s)
            s.seconds = time.monotonic() - begun
            print(f"{s.outcome:4} {s.name} ({s.seconds:.1f}) {s.evidence}", flush=True)
            if s.outcome == FAILED and FAILED not in done.values() and self.describe:
                print("     " + self.describe().replace("\n", "\n     "), flush=True)
            done[s.name] = s.outcome
        left = 0 if words else len(self.scenarios) - len(self.chosen(words))
        return _sum_up(self.chosen(words), left, time.monotonic() - started, results, title)


def _attempt(s):
    try:
        return OK, s.act() or ""
    except Skip as reason:
        return SKIPPED, str(reason)
    except AssertionError as error:
        at = traceback.extract_tb(sys.exc_info()[2])[-1]
        return FAILED, f"{str(error) or at.line} [{os.path.basename(at.filename)}:{at.lineno}]"
    except Exception as error:
        at = traceback.extract_tb(sys.exc_info()[2])[-1]
        return FAILED, f"{type(error).__name__}: {error} [{os.path.basename(at.filename)}:{at.lineno}]"


def _sum_up(scenarios, left, seconds, results, title):
    count = {o: sum(s.outcome == o for s in scenarios) for o in (OK, FAILED, SKIPPED)}
    write_results(results, {"seconds": round(seconds, 1), "counts": count, "scenarios": [
        {"file": s.file, "name": s.name, "outcome": s.outcome, "seconds": round(s.seconds, 1), "evidence": s.evidence}
        for s in scenarios]})
    turns = f", {left} left to the turns of other commits" if left else ""
    print(f"{title}: {count[OK]} ok, {count[FAILED]} failed, {count[SKIPPED]} skipped{turns} in {seconds:.0f} s",
          flush=True)
    if count[FAILED] or (count[SKIPPED] and required()):
        return 1
    return 0


def write_results(name, results):
    folder = config.CACHE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(results, indent=1) + "\n")


def required():
    """True where a lab that cannot run is a failure and not an excuse."""
    return any(os.environ.get(name) in ("1", "true") for name in ("CI", "MESHLINK_LAB_REQUIRED"))


def turn():
    """A number that another commit may have another of."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=config.LAB, capture_output=True, text=True).stdout
    return int(head[:6] or "0", 16)


suite = Suite()
scenario = suite.scenario
FULL = os.environ.get("MESHLINK_FULL") == "1"


def only(when):
    """A scenario that is one only in such a run: what is left out by choice is not skipped."""
    return scenario if when else lambda *_, **__: lambda function: function
