"""How far to trust the simulator: step times that covey sim predicts against those of real processes on this machine.

    python3 bench/peers/fidelity.py [WORD...]    one run each of the configurations whose names hold all the words

Real workers are processes on loopback, or processes in network namespaces whose links tc tbf shapes (hosts.py). The
simulator runs the same job on a network file that is written here from the shape, with the machine and the price of a
message from covey probe on the very job.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import common
import hosts
import probed

TITLE = "Fidelity of the simulator: predicted and measured step times"
GOAL = "Median error under 15 %"
WANTED = 0.15
PORT, BATCH = 7453, 256
RUNS = 3
SMALL, LARGE = "mlp:128", "mlp:1024,1024"
NETWORKS = {SMALL: "784-128-10", LARGE: "784-1024-1024-10"}


@dataclass(frozen=True)
class Case:
    """A job, and where its workers run."""
    model: str
    hosts: int  # 0: all workers on this machine, over loopback
    each: int  # workers of a host, or of all
    mbit: int  # of a host's link
    flags: tuple  # strategy, compressor, algorithm
    steps: int

    @property
    def workers(self):
        return self.each * max(1, self.hosts)

    @property
    def where(self):
        return f"{self.hosts} hosts of {self.each}, {self.mbit} Mbit/s" if self.hosts else f"{self.each} processes, loopback"

    @property
    def what(self):
        return " ".join(self.flags[1::2])

    @property
    def period(self):
        """Steps of a round."""
        for f in self.flags:
            if ":K=" in f:
                return int(f.split(":K=")[1].split(",")[0])
        return 1

    def __str__(self):
        return f"{NETWORKS[self.model]}, {self.where}, {self.what}"


def algorithm(a):
    return ("--algorithm", a)


def strategy(s, a="direct"):
    return ("--strategy", s, "--algorithm", a)


def compress(c):
    return ("--compress", c)


DIRECT, TREE, DOUBLING = map(algorithm, ("direct", "tree", "doubling"))
LOCAL, DILOCO = strategy("local:K=8"), strategy("diloco:K=8")
TOPK, ONEBIT, POWER, FP16 = map(compress, ("topk:0.01+ef", "onebit+ef", "powersgd:rank=4+ef", "fp16"))

LOOPBACK = [Case(m, 0, p, 0, f, s) for m, p, f, s in (
    (SMALL, 2, DIRECT, 120), (SMALL, 3, DIRECT, 120), (SMALL, 4, DOUBLING, 120), (SMALL, 6, TREE, 80), (SMALL, 8, DIRECT, 80),
    (SMALL, 4, LOCAL, 160), (SMALL, 4, DILOCO, 160), (SMALL, 2, TOPK, 120), (SMALL, 4, ONEBIT, 80), (SMALL, 4, POWER, 80), (SMALL, 8, FP16, 80),
    (LARGE, 2, DIRECT, 30), (LARGE, 4, TREE, 20), (LARGE, 4, LOCAL, 32), (LARGE, 2, POWER, 30))]
NAMESPACES = [Case(m, h, e, r, f, s) for m, h, e, r, f, s in (
    (SMALL, 2, 1, 50, DIRECT, 30), (SMALL, 2, 1, 50, TOPK, 80), (SMALL, 4, 1, 50, ONEBIT, 60), (SMALL, 2, 1, 50, FP16, 40),
    (SMALL, 2, 1, 100, DOUBLING, 40), (SMALL, 2, 1, 100, LOCAL, 96), (SMALL, 3, 1, 100, DIRECT, 40), (SMALL, 4, 1, 100, DOUBLING, 30),
    (SMALL, 4, 1, 100, TREE, 30), (SMALL, 2, 2, 100, DIRECT, 30), (SMALL, 2, 3, 100, TREE, 24), (SMALL, 4, 2, 100, DILOCO, 64),
    (SMALL, 8, 1, 100, DIRECT, 24), (SMALL, 6, 1, 100, TOPK, 60), (LARGE, 2, 1, 100, DIRECT, 8), (LARGE, 2, 1, 100, POWER, 24), (LARGE, 2, 1, 100, LOCAL, 32),
    (SMALL, 2, 1, 1000, DIRECT, 120), (SMALL, 2, 4, 1000, DOUBLING, 60), (SMALL, 8, 1, 1000, LOCAL, 160), (LARGE, 2, 1, 1000, DIRECT, 20),
    (LARGE, 2, 1, 1000, FP16, 20), (LARGE, 3, 1, 1000, TREE, 16), (LARGE, 4, 1, 1000, DIRECT, 16))]
CASES = LOOPBACK + NAMESPACES


def compare(quick):
    cases = CASES[::8] if quick else CASES
    result = common.Result(TITLE, quick, f"{len(cases)} configurations on MNIST, batches of {BATCH} over all workers, one compute thread each, gradients summed in one "
                           "bucket, TLS between namespaces. Hosts are network namespaces with a link each to one switch, held by tc tbf to its rate both ways; they "
                           f"share this machine's {os.cpu_count()} cores in turn, as the network file says. A step's time is the mean over blocks of whole rounds in the "
                           "run's metrics, of which the middle one counts, without tests and checkpoints; measured, it is the median of several runs. The prediction is "
                           "read from the simulated run's metrics in the same way, once: it repeats to the byte. Figures of machine and messages are covey probe's, "
                           "on the job's model and batch, medians of as many probes, one before each turn of the runs.")
    result.rounds = 1 if quick else RUNS
    with tempfile.TemporaryDirectory() as d:
        bench = Bench(Path(d))
        rows, errors = [], []
        for case, (measured, spread, predicted) in bench.all(cases, result.rounds):
            errors.append(abs(predicted / measured - 1))
            rows.append([NETWORKS[case.model], case.where, case.what, common.duration(1e6 * measured), f"{spread:.0%}", common.duration(1e6 * predicted),
                         f"{predicted / measured - 1:+.0%}"])
    result.table("Configurations", ["network", "workers", "how they talk", "a step, measured", "spread of runs", "predicted", "error"], rows)
    middle = statistics.median(errors)
    groups = {"loopback": lambda c: not c.hosts, **{f"{r} Mbit/s": lambda c, r=r: c.hosts and c.mbit == r for r in (50, 100, 1000)}}
    parts = {g: [e for c, e in zip(cases, errors) if of(c)] for g, of in groups.items()}
    result.table("Errors, without sign", ["configurations", "number", "median", "largest"],
                 [[g, len(e), f"{statistics.median(e):.0%}", f"{max(e):.0%}"] for g, e in (*parts.items(), ("all", errors)) if e])
    result.check(GOAL, f"{len(cases)} configurations", f"{middle:.1%}", f"{WANTED:.0%}", WANTED / middle, 1.0)
    return result


class Bench:
    """Runs cases for real and simulated, in a folder."""

    def __init__(self, folder):
        self.folder, self.turn, self.machine = folder, count(), probed.Machines(folder)
        self.certs = folder / "certs"
        common.run(common.COVEY, "ca", "init", self.certs)
        for i in range(max(c.hosts for c in CASES)):
            common.run(common.COVEY, "ca", "issue", self.certs, hosts.name(i), hosts.address(i))

    def all(self, cases, runs):
        """Yields each case with its measured seconds, their spread and the predicted ones. Runs of all cases take turns, so that a
        slow minute of the machine meets one run of each."""
        took = {c: [] for c in cases}
        for r in range(runs):
            for c in {probed.key(c, BATCH): c for c in cases}.values():
                common.progress(f"run {r + 1} of {runs}: probe for {c}")
                self.machine.probe(c, BATCH)
            for where in dict.fromkeys((c.hosts, c.mbit) for c in cases):
                with hosts.hosts(*where) if where[0] else contextlib.nullcontext():
                    for c in (c for c in cases if (c.hosts, c.mbit) == where):
                        common.progress(f"run {r + 1} of {runs}: {c}")
                        took[c].append(self.real(c))
        for c in cases:
            common.progress(f"simulated: {c}")
            middle = statistics.median(took[c])
            yield c, (middle, (max(took[c]) - min(took[c])) / middle, self.simulated(c))
        common.progress("")

    def new(self):
        return self.folder / f"run-{next(self.turn)}"

    def real(self, case):
        """Seconds of a step. The namespaces are there."""
        run = self.new()
        flags = [*job(case), "--transport", "tcp", "--run", run, "--json", "--quiet"]
        if not case.hosts:
            common.run(common.COVEY, "train", *flags)
            return step_seconds(run, case.period)
        door = f"{hosts.address(0)}:{PORT}"
        joins = [(hosts.on(i, common.COVEY, "join", door, "--tls", self.certs, "--node", hosts.name(i)), {"COVEY_RANK": str(i * case.each + k)})
                 for i in range(1, case.hosts) for k in range(case.each)]
        with hosts.running(joins):
            common.run(*hosts.on(0, common.COVEY, "train", *flags, "--join", len(joins), "--listen", door, "--tls", self.certs, "--node", hosts.name(0)))
        return step_seconds(run, case.period)

    def simulated(self, case):
        run, network = self.new(), self.folder / "network.yaml"
        network.write_text(self.machine.network(case, BATCH))
        common.run(common.COVEY, "sim", *job(case), "--network", network, "--run", run, "--json", "--quiet")
        return step_seconds(run, case.period)


def job(case):
    return ["--data", common.real_data("mnist"), "--test", "none", "--model", case.model, "--batch", BATCH, "--workers", case.workers, "--microshards", case.workers,
            "--threads", 1, "--optimizer", "sgd", "--lr", 0.05, "--epochs", 1000000, "--steps", case.steps, "--save", 1000000000, *case.flags,
            *(["--bucket", "64MiB"] if case.period == 1 else [])]


def step_seconds(run, period):
    """Seconds of a step, in the middle of a run's blocks of whole rounds: steps may be long and short by turns, so a block's mean
    counts, and a hiccup of the machine spoils one block only. The first two rounds are left out."""
    at = [l["at_s"] for l in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "epoch_end" not in l]
    ends = at[period - 1::period][1:]
    blocks = min(5, len(ends) - 1)
    if blocks < 2:
        raise common.Failed(f"{run}: only {len(at)} steps")
    cuts = [ends[(len(ends) - 1) * i // blocks] for i in range(blocks + 1)]
    sizes = [(len(ends) - 1) * (i + 1) // blocks - (len(ends) - 1) * i // blocks for i in range(blocks)]
    return statistics.median((b - a) / n / period for a, b, n in zip(cuts, cuts[1:], sizes))


def look(words):
    """One run of each of some cases, printed as they come."""
    cases = [c for c in CASES if all(w in str(c) for w in words)]
    with tempfile.TemporaryDirectory() as d:
        for c, (measured, _, predicted) in Bench(Path(d)).all(cases, 1):
            print(f"{c}: measured {1e3 * measured:.3f} ms, predicted {1e3 * predicted:.3f} ms, {predicted / measured - 1:+.0%}", flush=True)


if __name__ == "__main__":
    look(sys.argv[1:])
