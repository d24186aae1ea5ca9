"""Run the variants on fresh clusters, as often as asked, and print the medians."""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from meshlab import config
from suite.runner import write_results

VARIANTS = ("serial", "side-by-side", "best")
COLUMNS = ("wall", "cpu", "processes", "requests")


def main():
    parser = argparse.ArgumentParser(prog="bench/baseline/run")
    parser.add_argument("variants", nargs="*", metavar="variant", help=f"of {', '.join(VARIANTS)}; all without")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--race", metavar="BINARY", type=Path, help="meshlink against the best of them, by turns")
    args = parser.parse_args()
    if args.race:
        return race(args.race.resolve(), args.runs)
    if unknown := set(args.variants) - set(VARIANTS):
        parser.error(f"no variant {min(unknown)}")
    results = {}
    for variant in args.variants or VARIANTS:
        results[variant] = [one(variant) for _ in range(args.runs)]
        table(variant, results[variant])
    write_results("baseline.json", results)
    for variant, runs in results.items():
        walls = [run["total"]["wall"] for run in runs]
        print(f"baseline {variant}: median {statistics.median(walls):.1f} s of {walls}")


def race(binary, runs):
    """By turns, so that both see the same machine; the ratio of the medians at the end."""
    results = {"best": [], "meshlink": []}
    for _ in range(runs):
        results["best"].append(one("best"))
        results["meshlink"].append(one("meshlink", binary))
    for variant, all_runs in results.items():
        table(variant, all_runs)
    write_results("race.json", results)
    for column in COLUMNS:
        best, ours = (statistics.median(run["total"][column] for run in all_runs) for all_runs in results.values())
        print(f"race {column:10} by hand {best:8.1f}  meshlink {ours:8.1f}  ratio {best / max(ours, 0.01):6.2f}")


def one(variant, *more):
    """One join on clusters that hold nothing."""
    lab = config.LAB / "lab"
    subprocess.run([lab, "reset"], check=True, capture_output=True)
    join = Path(__file__).parent / "join.py"
    done = subprocess.run([lab, "exec", "--", sys.executable, join, variant, *more], check=True, stdout=subprocess.PIPE,
                          text=True)
    return json.loads(done.stdout)


def table(variant, runs):
    """The run of median length, step by step."""
    run = sorted(runs, key=lambda r: r["total"]["wall"])[len(runs) // 2]
    print(f"\n{variant:26} {'wall s':>8} {'cpu s':>7} {'processes':>10} {'requests':>9}")
    for step in [*run["steps"], {"name": "total", **run["total"]}]:
        print(f"{step['name']:26} {step['wall']:8.2f} {step['cpu']:7.2f} {step['processes']:10} {step['requests']:9}")
    print(f"load of the machine before: {run['load']:.1f}")
    for what in ("programs", "clients"):
        print(f"{what}: " + ", ".join(f"{name} {count}" for name, count in sorted(run[what].items())))


if __name__ == "__main__":
    main()
