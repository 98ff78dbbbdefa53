"""Rounds a minute and memory of a simulation of a thousand clients: Flower's simulation engine."""

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

import common
from accuracy import save_initial
from step import mnist

TITLE = "Simulated clients: rounds a minute and memory"
GOALS = ("At least 5 times the rounds a minute of Flower's simulation engine", "At most half the peak memory of Flower's, all processes together")
CLIENTS, K, BATCH, RATE = 1000, 3, 20, 0.1
ROUNDS, MORE = 9, 41  # of a run: Flower's, and Covey's, which are short; the first is not counted
HOSTED = "hosted by 2 workers"
CPUS = (0.25, 0.5, 1, 2)  # of a Flower client: how many are computed at once
LOSSES = 0.15  # by which the sides' losses may differ


def compare(quick):
    clients = 200 if quick else CLIENTS
    rounds, more = (3, 13) if quick else (ROUNDS, MORE)
    everybody, tenth = f"all of {clients} clients", f"{clients // 10} of {clients} clients"
    result = common.Result(TITLE, quick, f"784-128-10 on MNIST, divided evenly among {clients} clients of {K * BATCH} samples; a round is {K} local steps of {BATCH} samples by "
                           "plain SGD on each client, and the mean. Rounds are counted after the first, so that starting is not in them: it stands beside. "
                           "Memory is the highest sum, sampled four times a second over a whole run, of what all processes of a side hold in RAM (PSS: memory that "
                           "several share counts once). Flower's clients are numpy on OpenBLAS with one thread each (a local step takes less time in it than in "
                           "PyTorch: see below), as many at once as the best of a few settings says; its object store may hold 256 MiB, no dashboard runs. "
                           "Covey simulates a network beside (gigabit; sums go along a tree), on which each client is a worker, or is hosted by one of two workers as "
                           "Flower's clients are by its processes. It has no sampling of clients: beside a tenth of Flower's stands a run of as many clients that are "
                           "all in every round, which computes and sends as much, and is no line to hold.")
    result.version("Flower", common.run(common.FLOWER, "-c", "import flwr, ray, numpy; print(flwr.__version__, 'with Ray', ray.__version__, 'and numpy', numpy.__version__)"))
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        job = files(d) | {"batch": BATCH, "K": K, "rate": RATE, "clients": clients}
        steps = common.peer(common.TORCH, "flower_app.py", "step", json.dumps(job))
        cpus, tried = best(job, quick)
        flower = lambda fraction: theirs(job | {"cpus": cpus, "fraction": fraction, "rounds": rounds})
        sides = {f"Covey, {everybody}": ours(d, clients, clients, rounds, more), f"Covey, {everybody}, {HOSTED}": ours(d, clients, 2, rounds, more),
                 f"Flower, {everybody}": flower(1.0), f"Covey, {tenth}": ours(d, clients // 10, clients // 10, rounds, more), f"Flower, {tenth}": flower(0.1)}
        m = common.alternate(sides)
    result.version("PyTorch", f"{steps['version']} (Debian)")
    for ours_is, theirs_is in ((everybody, everybody), (f"{everybody}, {HOSTED}", everybody), (tenth, tenth)):
        a, b = m[f"Covey, {ours_is}"], m[f"Flower, {theirs_is}"]
        if abs(a["loss"] / b["loss"] - 1) > LOSSES:  # they draw other batches
            raise common.Failed(f"{ours_is}: the losses after {rounds} rounds are not alike: {a['loss']:.4g} and {b['loss']:.4g}")
    for what, name in ((f"{everybody}, each a worker", everybody), (f"{everybody}, {HOSTED}", f"{everybody}, {HOSTED}")):
        a, b = m[f"Covey, {name}"], m[f"Flower, {everybody}"]
        result.check(GOALS[0], what, f"{a['rate']:.3g} a minute", f"{b['rate']:.3g} a minute", a["rate"] / b["rate"], 5.0)
        result.check(GOALS[1], what, mebibytes(a["bytes"]), mebibytes(b["bytes"]), b["bytes"] / a["bytes"], 2.0)
    result.table("Medians", ["side", "rounds a minute", "peak memory", "start and first round", f"loss of round {rounds}"],
                 [[n, v["rate"], mebibytes(v["bytes"]), f"{v['start']:.3g} s", v["loss"]] for n, v in m.items()])
    result.table(f"Flower, {clients} clients, by CPUs of a client", ["CPUs", "rounds a minute"], tried)
    result.table(f"A client's local step of {BATCH} samples", ["in", "us"], [["numpy, Debian's", steps["numpy"]], ["PyTorch", steps["torch"]]])
    return result


def files(d):
    """What the peer reads: images and labels in the order of the clients, and Covey's initial weights."""
    import numpy as np

    images, labels = mnist("train", np)
    order = np.random.default_rng(1).permutation(len(images))
    raw = np.rint(images * 255).astype(np.uint8)
    np.save(d / "images.npy", raw[order])
    np.save(d / "labels.npy", labels[order].astype(np.int64))
    # A step at a rate that changes no bit: the checkpoint holds the initial weights.
    common.covey("train", "--data", common.real_data("mnist"), "--model", "mlp:128", "--transport", "inproc", "--optimizer", "sgd", "--lr", "1e-30", "--steps", 1,
                 "--run", d / "start")
    save_initial(d / "start" / "checkpoints" / "step-1" / "model.safetensors", d / "initial.npz")
    return {n: str(d / f) for n, f in (("images", "images.npy"), ("labels", "labels.npy"), ("initial", "initial.npz"))}


def best(job, quick):
    """The CPUs of a client with which Flower is fastest, and what was tried."""
    settings = [c for c in (CPUS[2:3] if quick else CPUS) if c <= os.cpu_count()]
    tried = [[c, theirs(job | {"cpus": c, "fraction": 1.0, "rounds": 3})()["rate"]] for c in settings]
    return max(tried, key=lambda t: t[1])[0], tried


def theirs(job):
    def f():
        out, peak, _ = watched([common.FLOWER, common.HERE / "flower_app.py", "run", json.dumps(job)])
        said = common.last_json(out)
        if len(said["losses"]) != job["rounds"]:
            raise common.Failed(f"Flower did {len(said['losses'])} of {job['rounds']} rounds")
        return {"rate": 60 / statistics.median(said["round_s"]), "bytes": peak, "start": said["start_s"], "loss": said["losses"][-1]}

    return f


def ours(d, clients, workers, rounds, more):
    """Times in the report are the network's, so the real time of a round is the difference between runs of one and of many."""
    def run(n):
        folder = d / f"run-{uuid.uuid4()}"
        out, peak, took = watched([common.COVEY, "sim", "--data", common.real_data("mnist"), "--test", "none", "--model", "mlp:128", "--partition", "iid",
                                   "--clients", clients, "--workers", workers, "--strategy", f"local:K={K}", "--algorithm", "tree", "--optimizer", "sgd",
                                   "--lr", RATE, "--batch", BATCH * clients, "--epochs", 1000000, "--steps", K * n, "--save", 1000000000, "--run", folder,
                                   "--json", "--quiet"])
        said = json.loads(out)
        if said["rounds"] != n:
            raise common.Failed(f"covey sim did {said['rounds']} of {n} rounds")
        return losses(folder), peak, took

    def f():
        _, _, first = run(1)
        all_losses, peak, took = run(more)
        return {"rate": 60 * (more - 1) / (took - first), "bytes": peak, "start": first, "loss": all_losses[rounds - 1]}

    return f


def losses(folder):
    """The loss of each round."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [l["loss"] for l in lines if "round" in l]


def watched(command):
    """Runs a command to its end; returns what it printed, the peak memory of all its processes, and its seconds."""
    mark = str(uuid.uuid4())
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | common.ONE_THREAD | {"COVEY_BENCH_SIDE": mark}
    peak, over = 0, threading.Event()

    def sample():
        nonlocal peak
        while not over.wait(0.25):
            peak = max(peak, held(mark.encode()))

    start = time.monotonic()
    with subprocess.Popen([str(c) for c in command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        watcher = threading.Thread(target=sample)
        watcher.start()
        try:
            out, errors = p.communicate(timeout=1800)
        except subprocess.TimeoutExpired as e:
            p.kill()
            raise common.Failed(f"{command[0]} did not end") from e
        finally:
            over.set()
            watcher.join()
    if p.returncode:
        raise common.Failed(f"exit code {p.returncode} of {' '.join(map(str, command))}\n{out[-1000:]}{errors[-3000:]}")
    return out, peak, time.monotonic() - start


def held(mark):
    """Bytes in RAM of all processes that carry the mark in their environment."""
    total = 0
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (p / "environ").read_bytes():
                total += next(int(l.split()[1]) << 10 for l in (p / "smaps_rollup").read_text().splitlines() if l.startswith("Pss:"))
        except (OSError, StopIteration):
            continue  # it has ended
    return total


def mebibytes(n):
    return f"{n / (1 << 20):.0f} MiB"
