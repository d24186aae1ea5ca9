"""Running programs, waiting for facts, and saying what happened."""
import contextlib
import fcntl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import config


class LabError(Exception):
    """Something the person at the terminal can act on."""


class Hopeless(LabError):
    """A reason to stop waiting at once."""


def run(*argv, stdin=None, env=None, cwd=None, check=True):
    """Run a program to its end and return what it printed."""
    done = subprocess.run([str(a) for a in argv], input=stdin, env=env, cwd=cwd,
                          text=True, capture_output=True)
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(str(a) for a in argv)}: exit {done.returncode}: {words[-2000:]}")
    return done.stdout


def succeeds(*argv, **kw):
    return subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, **kw).returncode == 0


def wait_for(what, fact, seconds, every=0.1):
    """Poll `fact` until it is true; the last thing it raised is the reason given."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = fact()
            if value:
                return value
            last = None
        except (Hopeless, TypeError, NameError, AttributeError):
            raise  # waiting mends none of these
        except Exception as error:  # a fact that cannot be looked up yet is not true yet
            last = error
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds} s" + (f" ({last})" if last else ""))
        time.sleep(every)


def side_by_side(*jobs):
    """Run callables at the same time; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        futures = [pool.submit(job) for job in jobs]
    return [future.result() for future in futures]


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def timed(what):
    start = time.monotonic()
    yield
    say(f"  {what:<34} {time.monotonic() - start:6.1f} s")


@contextlib.contextmanager
def lock():
    """One change to the lab at a time."""
    config.CACHE.mkdir(parents=True, exist_ok=True)
    with open(config.CACHE / "lock", "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab command to end")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
