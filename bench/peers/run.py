"""Runs comparisons with other systems and writes bench/results/NAME.json and BENCHMARKS.md.

    python3 bench/peers/run.py products step          these two
    python3 bench/peers/run.py --quick allreduce-shm   a short look, which is not written down
    python3 bench/peers/run.py --rounds 9 all

Run bench/peers/setup.sh first, and with the Python that it makes; make bench does both.
"""

import argparse
import importlib
import sys
import time

import common
import report

COMPARISONS = ["products", "allreduce-shm", "allreduce-tcp", "link", "step", "logistic", "accuracy", "scaling", "compress", "tradeoff", "noniid", "flower", "fidelity", "shapes", "knee", "elastic", "ps", "stragglers"]


def main():
    p = argparse.ArgumentParser(description="Compare Covey with other systems on this machine.")
    p.add_argument("names", nargs="+", metavar="NAME", choices=COMPARISONS + ["all"], help="all, or of: " + ", ".join(COMPARISONS))
    p.add_argument("--quick", action="store_true", help="a short look: few rounds and sizes, nothing is written")
    p.add_argument("--rounds", type=int, help="how often the sides take turns (5; 1 with --quick)")
    a = p.parse_args()
    common.rounds = a.rounds or (1 if a.quick else 5)
    common.build_covey()
    failed = []
    for name in COMPARISONS if "all" in a.names else a.names:
        start = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            result = importlib.import_module(name.replace("-", "_")).compare(a.quick)
        except common.Failed as e:
            failed.append(name)
            print(f"{name}: FAILED: {e}", file=sys.stderr)
            continue
        print(report.section_text(result))
        print(f"({time.monotonic() - start:.0f} s)", flush=True)
        if not a.quick:
            result.save(name)
    if not a.quick:
        report.write()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
