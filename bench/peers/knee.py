"""Where parameter servers stop to scale, simulated: one server, several, and all-reduce beside them.

Nothing is computed: the model is a profile, and times are those of covey sim --timing. They do not depend on this machine.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import common
import shapes

TITLE = "Where parameter servers stop to scale, simulated"
GOAL_HALF = "One server wastes half of 128 workers, at the calibration below"
GOAL_MOVES = "n servers move the knee n times as far, within a tenth"
PLOT = "docs/bench/knee.svg"
MODEL, IMAGES = "inceptionv3", shapes.BATCH  # a worker computes on so many between two pushes, as Horovod's benchmark does
LINK = 25e9  # bit/s of each worker and of each server
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SERVERS = (1, 2, 4, 8, 16)
ALL_REDUCE = 0  # servers
AT = 128


@dataclass(frozen=True)
class Setup:
    """One simulation."""
    workers: int
    servers: int  # 0: all-reduce
    images: int  # of a worker in a step
    flops: float
    steps: int = 2

    def seconds(self, folder):
        """Of a step."""
        file = Path(folder) / f"{self.flops:.0f}.yaml"
        part = file.with_suffix(f".{os.getpid()}-{id(self)}")
        part.write_text(network(self.flops))
        part.replace(file)
        each = self.workers * self.images
        way = ("--strategy", f"ps:servers={self.servers}") if self.servers else ("--algorithm", "ring", "--bucket", "64MiB", "--shard", "no")
        out = common.covey("sim", "--timing", "--cores", 1, "--network", file, "--workers", self.workers, "--data", f"synthetic:{each}", "--model", f"profile:{MODEL}",
                           "--batch", each, "--steps", self.steps, *way, "--optimizer", "sgd", "--save", 1000000000, "--timeout", "10000h", timeout=3600)
        return out["wall_s"] / out["steps"]


def network(flops):
    """Hosts of one worker or server each, on a switch that never limits."""
    return (f"name: knee\nmachine: {{cores: 16, flops: {flops / 1e9:.1f}GFLOP/s, memory: 500GB/s}}\n"
            f"hosts: {{name: h, count: {max(WORKERS) + max(SERVERS)}, uplink: {{bandwidth: {LINK / 1e9:.0f}Gbit/s, latency: 1500ns}}}}\n{shapes.RDMA}\n")


def compare(quick):
    counts = (1, 8, AT) if quick else WORKERS
    ways = (1, 16) if quick else (*SERVERS, ALL_REDUCE)
    flops = shapes.calibrated([MODEL])[MODEL]
    first = Setup(AT, 1, IMAGES, flops)
    alone = IMAGES / shapes.IMAGES[MODEL]
    longer = (shapes.simulated([first])[first] - alone) / alone  # computing as long as the rest of the step took
    calibrations = {"published": IMAGES, "calibrated": round(IMAGES * longer)}
    grid = {(c, n, s): Setup(n, s, images, flops) for c, images in calibrations.items() for n in counts for s in ways if s or n > 1}
    times = shapes.simulated(grid.values())
    efficiency = {(c, n, s): calibrations[c] / shapes.IMAGES[MODEL] / times[setup] for (c, n, s), setup in grid.items()}
    efficiency |= {(c, 1, ALL_REDUCE): 1.0 for c in calibrations if ALL_REDUCE in ways}

    result = common.Result(TITLE, quick, note(flops, alone, longer, calibrations))
    result.rounds = 1
    for c, images in calibrations.items():
        result.table(f"Efficiency, {images} images a worker and step ({c})", ["workers", *map(name, ways)],
                     [[n, *(shapes.percent(efficiency[c, n, s]) for s in ways)] for n in counts])
    knees = {(c, s): knee(counts, [efficiency[c, n, s] for n in counts]) for c in calibrations for s in ways if s}
    result.table("Workers at which half is wasted", ["images a worker and step", *(name(s) for s in ways if s)],
                 [[images, *(shown(knees[c, s]) for s in ways if s)] for c, images in calibrations.items()])
    if quick:
        return result
    half = efficiency["calibrated", AT, 1]
    result.check(GOAL_HALF, f"{AT} workers, one server", f"{half:.1%}", "50 %", min(half / 0.5, 0.5 / half), 0.98)
    for s in SERVERS[1:]:
        moved = knees["published", s] / knees["published", 1]
        result.check(GOAL_MOVES, name(s), f"{knees['published', s]:.0f} workers", f"{knees['published', 1]:.1f} with one", min(moved / s, s / moved), 0.9)
    plot(counts, ways, calibrations, efficiency)
    result.plots.append({"title": "Efficiency against workers, with one server, with several and by all-reduce", "path": PLOT})
    return result


def name(servers):
    return "all-reduce" if not servers else "1 server" if servers == 1 else f"{servers} servers"


def shown(workers):
    return f"more than {max(WORKERS)}" if workers is None else f"{workers:.0f}"


def knee(counts, efficiency):
    """Workers at which efficiency is a half: between two counts a step's time grows by as much with each worker."""
    for (n, e), (m, f) in zip(zip(counts, efficiency), zip(counts[1:], efficiency[1:])):
        if e >= 0.5 > f or f == 0.5:
            return n + (m - n) * (2 - 1 / e) / (1 / f - 1 / e)
    return None


def note(flops, alone, longer, calibrations):
    link = LINK * longer
    return (f"A widely told account has TensorFlow's parameter servers waste about half of 128 GPUs (Sergeev and Del Balso, arXiv 1802.05799, figure 1, of Inception V3 and ResNet-101; it does not say how many "
            f"servers there were). Here: Inception V3's profile of 23.8 million parameters, synchronous (ps:mode=bsp), plain SGD; each worker and each server on a host of its own, with a link of {LINK / 1e9:.0f} Gbit/s to a switch "
            f"that never limits. A worker computes {flops:.3g} FLOP/s, at which it makes the {shapes.IMAGES[MODEL]} images a second of one P100 in TensorFlow's published table; all-reduce is the ring in buckets of 64 MiB. Efficiency is "
            f"images a second of all workers over those of as many single ones that talk to nobody. Only the images a step of the second calibration are fitted. Published: {IMAGES} images a worker and step, {alone:.2f} s of computing. Then "
            f"half of 128 workers is wasted with some 18 servers, and one server is at its knee with 7 workers. Calibrated: the images a step at which it is one server that wastes half of 128 workers are "
            f"{calibrations['calibrated']}, {longer:.1f} times as many; with {IMAGES} images all links would have to be {link / 1e9:.0f} Gbit/s. In closed form: a step takes T + 2 n S / (s B) for n workers, s servers, T of computing, S bytes of parameters "
            "and B bytes a second, as long as there are more workers than servers, and the knee is at n = s T B / (2 S).")


def plot(counts, ways, calibrations, efficiency):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "covey", "font.size": 10})
    figure, axes = plt.subplots(1, len(calibrations), figsize=(10, 4.2), sharey=True)
    shades = ("#08306b", "#2171b5", "#4d9fd6", "#7fb9e0", "#a9cfec")
    for a, (c, images) in zip(axes, calibrations.items()):
        for s in ways:
            style = {"color": "#c2571a", "lw": 2, "marker": "s", "ms": 4} if not s else {"color": shades[ways.index(s)], "marker": "o", "ms": 4, "lw": 1.4}
            a.plot(counts, [efficiency[c, n, s] for n in counts], label=name(s), **style)
        a.axhline(0.5, color="#888888", lw=0.8, ls="--")
        a.axvline(AT, color="#888888", lw=0.8, ls=":")
        a.set_xscale("log", base=2)
        a.set_xticks(counts, [str(n) for n in counts])
        a.set(xlabel="workers", ylim=(0, 1.03), title=f"{images} images a worker and step ({c})")
        a.grid(alpha=0.3)
    axes[0].set_ylabel("efficiency")
    axes[0].legend(fontsize=8, loc="lower left")
    path = common.ROOT / PLOT
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
