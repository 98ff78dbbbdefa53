"""How fast a run recovers when a worker is killed, and what it does in spite of that: torchrun's elastic launch over Gloo."""

import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import common
from elastic_train import BATCH, MOMENTUM, RATE, SNAPSHOT
from step import mnist

TITLE = "Recovery: a worker of four is killed"
GOALS = ("From killing a worker to the next committed step: a median below 1 s, with 4 workers on loopback", "Steps lost with a worker: at most 1",
         "Committed steps at one event in 20 s, over a calm run's in as much time: at least 0.9")
WORKERS, SHARDS = 4, 8
ROUNDS = 11
WARM = 300  # steps before anything is counted
CALM, GAP, BACK = 120, 20, 2  # seconds: of a run, between events on average, until the peer's machine is back
SEED = 1
# Of the peer. Survivors look once a second whether a rendezvous is complete, so a node must be silent for longer to count as dead.
SETTINGS = {"last_call": 1, "keep_alive": 0.5, "attempts": 4, "monitor": 0.1, "gloo": 10}
LIMIT = 240  # seconds that anything may take
MACHINE, WORKER = "torchrun, worker and agent", "torchrun, worker alone"
NOTE = (f"The ratios of the lines to hold are to their bounds; those to the peer have a table. "
        f"784-128-10 on MNIST, batches of {BATCH} in {SHARDS} microshards, momentum, {WORKERS} workers of one thread on loopback, over TCP and Gloo. A worker drawn by lot, "
        "rank 0 among them, gets SIGKILL; the time ends when the first step of those who go on stands in a file to which rank 0 appends a line a step, and which "
        "is looked at every millisecond. Steps lost: the highest step that stood there, less the one from which it went on. torchrun (--nnodes 2:4, one worker "
        f"a node, c10d) has a store that nobody kills, as Covey's launcher is not killed; a snapshot every {SNAPSHOT} steps; data mapped into memory; last call "
        f"{SETTINGS['last_call']} s, keep-alive every {SETTINGS['keep_alive']} s and dead after {SETTINGS['attempts']} (no option of its command line: by its Python interface), "
        f"monitor interval {SETTINGS['monitor']} s, Gloo's timeout {SETTINGS['gloo']} s (nobody waits for it: closed connections are noticed). "
        f"Its lost node comes back after {BACK} s where "
        "a run is watched for long; a worker killed alone is restarted by its agent, as Covey's is by its launcher. ")
HOROVOD = ("Horovod's elastic mode is not measured: 0.28.1 comes as source, of which the build against Debian's PyTorch fails without libtorch-dev (torch/extension.h) and, with "
           "it, was given up at 98 % after 15 minutes on a busy machine of two cores.")


def compare(quick):
    times = common.rounds if quick else max(ROUNDS, common.rounds)
    seconds = 30 if quick else CALM
    result = common.Result(TITLE, quick, NOTE + HOROVOD)
    result.rounds = times
    result.version("PyTorch", common.peer(common.TORCH, "elastic_train.py", "version")["version"] + " (Debian)")
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        same_weights(d)
        files = arrays(d)
        makers = {"Covey": lambda: Covey(d), MACHINE: lambda: Torchrun(d, files, True), WORKER: lambda: Torchrun(d, files, False)}
        seen = recoveries(makers, times)
        good = goodputs(makers, seconds)
    median = {n: statistics.median(s for s, _ in all_of) for n, all_of in seen.items()}
    lost = {n: max(l for _, l in all_of) for n, all_of in seen.items()}
    us = lambda s: common.duration(1e6 * s)
    both = lambda of: f"{of(MACHINE)}, and {of(WORKER)} where its agent lives"
    result.check(GOALS[0], f"median of {times}", us(median["Covey"]), both(lambda p: us(median[p])), 1 / median["Covey"], 1.0)
    result.check(GOALS[1], f"most of {times}", str(lost["Covey"]), both(lambda p: lost[p]), 2 - lost["Covey"], 1.0)
    result.check(GOALS[2], f"{seconds} s, events: {good['Covey'][2]}", f"{share(good['Covey']):.2f}", both(lambda p: f"{share(good[p]):.2f}"), share(good["Covey"]), 0.9)
    result.table("From the kill to the next step", ["side", "median", "fastest", "slowest", "steps lost, median", "most"],
                 [[n, us(median[n]), us(min(a)[0]), us(max(a)[0]), statistics.median(l for _, l in a), lost[n]] for n, a in seen.items()])
    result.table(f"Steps in {seconds} s", ["side", "calm", "with events", "events", "share"], [[n, c, e, k, share((c, e, k))] for n, (c, e, k) in good.items()])
    result.table("Covey's ratio to the peer", ["peer", "time to the next step", "steps with events"],
                 [[p, median[p] / median["Covey"], good["Covey"][1] / good[p][1]] for p in (MACHINE, WORKER)])
    return result


def share(of):
    calm, events, _ = of
    return events / calm


def recoveries(makers, times):
    """Of each side, (seconds, steps lost) of each round; the sides take turns."""
    draw, seen = random.Random(SEED), {n: [] for n in makers}
    for r in range(times):
        for name in makers if r % 2 == 0 else reversed(makers):
            common.progress(f"round {r + 1} of {times}: {name}")
            with makers[name]() as side:
                side.steps.reach(WARM)
                seen[name].append(side.recover(draw))
    common.progress("")
    return seen


def goodputs(makers, seconds):
    """Of each side, the steps in so many seconds of a calm run, those of a run with events, and how many there were."""
    out, calm_of = {}, {}
    for name, make in makers.items():
        kind = name.split(",")[0]
        if kind not in calm_of:  # a calm run is the same, whatever would be killed
            calm_of[kind] = watched(make, seconds, [], name)
        moments, draw = [], random.Random(SEED)
        while (at := (moments[-1] if moments else 0) + draw.expovariate(1 / GAP)) < seconds:
            moments.append(at)
        if not moments:
            raise common.Failed(f"seed {SEED} draws no event in {seconds} s")
        out[name] = (calm_of[kind], watched(make, seconds, moments, name), len(moments))
    common.progress("")
    return out


def watched(make, seconds, moments, name):
    draw = random.Random(SEED)
    with make() as side:
        side.steps.reach(WARM)
        start, first = time.monotonic(), side.steps.highest
        for at in moments:
            common.progress(f"{name}: event at {at:.0f} of {seconds} s")
            side.wait(start + at)
            side.kill(draw)
        side.wait(start + seconds)
        done = side.steps.highest - first
        side.steps.learns()
        return done


class Steps:
    """The lines that a run appends to a file, each with the moment at which it was seen."""

    def __init__(self, path, died):
        self.path, self.died = path, died
        self.highest, self.seen = 0, []  # seen: (moment, line)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self):
        at, rest = 0, b""
        while not self.over.wait(0.001):
            try:
                size = os.stat(self.path).st_size
                if size < at:  # steps that are done again were cut off
                    at, rest = size, b""
                if size == at:
                    continue
                with open(self.path, "rb") as f:
                    f.seek(at)
                    new = f.read(size - at)
            except FileNotFoundError:
                continue
            now, at = time.monotonic(), at + len(new)
            *lines, rest = (rest + new).split(b"\n")
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue  # the rest of one that was cut off
                if "epoch_end" not in line:
                    self.highest = max(self.highest, line["step"])
                    self.seen.append((now, line))

    def reach(self, step):
        self.until(lambda: self.highest >= step, f"step {step}")

    def until(self, holds, what):
        """What holds gives, once that is something."""
        limit = time.monotonic() + LIMIT
        while not (found := holds()):
            if time.monotonic() > limit:
                raise common.Failed(f"no {what} within {LIMIT} s, at step {self.highest}: {self.died()}")
            time.sleep(0.001)
        return found

    def learns(self):
        if (last := statistics.median(l["loss"] for _, l in self.seen[-50:])) > 0.8:
            raise common.Failed(f"the loss after {self.highest} steps is {last:.3g}: it does not learn")

    def stop(self):
        self.over.set()
        self.thread.join()


class Side:
    """A run under way. Leaving it ends all its processes."""

    def __init__(self, d, file):
        self.folder = Path(tempfile.mkdtemp(dir=d))
        self.log = self.folder / "log"
        self.started = []  # processes, each with a session of its own
        self.steps = Steps(self.folder / file, lambda: self.log.read_text()[-1500:])

    def launch(self, *command):
        with open(self.log, "ab") as log:
            p = subprocess.Popen([str(c) for c in command], env=os.environ | common.ONE_THREAD, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.started.append(p)
        return p

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.steps.stop()
        for p in self.started:
            slay(p)

    def recover(self, draw):
        """Kills a worker; the seconds until the first step after that, and the steps that are done again."""
        mark = self.mark()
        start = self.kill(draw)
        when, before = self.steps.until(lambda: self.resumed(mark), "step of those who go on")
        most = max(l["step"] for t, l in self.steps.seen if t < when)
        return when - start, max(0, most - before)

    def wait(self, moment):
        while time.monotonic() < moment:
            self.tend()
            time.sleep(0.005)

    def tend(self):
        """Called while waiting."""


def slay(p):
    if p.poll() is None:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()


def living(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def job(folder):
    return [common.COVEY, "train", "--data", common.real_data("mnist"), "--test", "none", "--model", "mlp:128", "--optimizer", f"momentum:{MOMENTUM}", "--lr", RATE,
            "--batch", BATCH, "--microshards", SHARDS, "--workers", WORKERS, "--threads", 1, "--transport", "tcp", "--min-workers", 2, "--restarts", 1000000,
            "--epochs", 1000000, "--run", folder]


class Covey(Side):
    def __init__(self, d, *more):
        super().__init__(d, "run/metrics.jsonl")
        self.launch(*job(self.folder / "run"), *more)

    def workers(self):
        return [pid for n in re.findall(r"^worker \d+ is process (\d+)$", self.log.read_text(), re.M) if living(pid := int(n))]

    def __exit__(self, *_):
        slay(self.started[0])  # the launcher, so that it starts none anew
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        super().__exit__()

    def kill(self, draw):
        pid = draw.choice(self.steps.until(self.workers, "worker to kill"))
        start = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return start

    def mark(self):
        return self.log.stat().st_size, len(self.steps.seen)

    def resumed(self, mark):
        """The moment of the first step of the next generation, and the step that it goes on from."""
        size, lines = mark
        m = re.search(rb"^generation \d+ goes on after step (\d+)$", self.log.read_bytes()[size:], re.M)
        if m:
            after = int(m[1])
            # a line is later than the cut of those that are done again, or of a step that was never there
            return next(((t, after) for t, l in reversed(self.steps.seen[lines:]) if l["step"] == after + 1), None)


class Torchrun(Side):
    def __init__(self, d, files, machine):
        super().__init__(d, "steps.jsonl")
        self.machine, self.gone = machine, []
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.text = json.dumps(files | SETTINGS | {"folder": str(self.folder), "port": port})
        self.launch(common.TORCH, common.HERE / "elastic_train.py", "store", port)
        self.steps.until(lambda: b"serving" in self.log.read_bytes(), "store")
        self.agents = {}
        for slot in range(WORKERS):
            self.agent(slot)

    def agent(self, slot):
        self.agents[slot] = self.launch(common.TORCH, common.HERE / "elastic_train.py", "agent", slot, self.text)

    def worker(self, slot):
        """The process of a worker that is there, or 0."""
        try:
            pid = int((self.folder / f"worker-{slot}").read_text() or 0)
        except FileNotFoundError:
            return 0
        return pid if pid and living(pid) else 0

    def kill(self, draw):
        there = lambda: [s for s, p in self.agents.items() if p.poll() is None and self.worker(s)]
        slot = draw.choice(self.steps.until(there, "worker to kill"))
        start = time.monotonic()
        if self.machine:
            slay(self.agents[slot])
            self.gone.append((start + BACK, slot))
        else:
            os.kill(self.worker(slot), signal.SIGKILL)
        return start

    def tend(self):
        for back in [g for g in self.gone if g[0] <= time.monotonic()]:
            self.gone.remove(back)
            self.agent(back[1])

    def mark(self):
        return len(self.steps.seen)

    def resumed(self, mark):
        was = self.steps.seen[mark - 1][1]["by"]
        return next(((t, l["step"] - 1) for t, l in self.steps.seen[mark:] if l["by"] != was), None)


def arrays(d):
    """What the peer maps into its memory."""
    import numpy as np

    images, labels = mnist("train", np)
    np.save(d / "images.npy", images)
    np.save(d / "labels.npy", labels)
    return {n: str(d / f"{n}.npy") for n in ("images", "labels")}


def same_weights(d):
    """A run of which a worker is killed ends with the weights of one that nobody disturbs."""
    hashes = []
    for killed in (False, True):
        with Covey(d, "--steps", 3 * WARM) as side:
            if killed:
                side.steps.reach(WARM)
                side.kill(random.Random(SEED))
            try:
                code = side.started[0].wait(LIMIT)
            except subprocess.TimeoutExpired as e:
                raise common.Failed(f"covey train did not end within {LIMIT} s") from e
            said = side.log.read_text()
            if code:
                raise common.Failed(f"exit code {code} of covey train: {said[-1500:]}")
            if killed and "goes on after step" not in said:
                raise common.Failed("the run ended before a worker was lost")
            hashes.append(json.loads((side.folder / "run" / "report.json").read_text())["weights_sha256"])
    if hashes[0] != hashes[1]:
        raise common.Failed(f"weights {hashes[1]} of a run that lost a worker, and {hashes[0]} of a calm one")
