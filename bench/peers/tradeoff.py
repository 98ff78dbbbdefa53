"""Bytes against final accuracy on MNIST, for every compressor: five epochs, four workers, momentum SGD."""

import statistics
import tempfile
from itertools import count
from pathlib import Path

import common

TITLE = "Less said: bytes against accuracy"
GOALS = ("Within 1 point of the exact sum's accuracy", "PowerSGD, top-k 1 % and 1-bit: at least 20 times fewer bytes than exact")
PLOT = "docs/bench/tradeoff.svg"
SEEDS, WORKERS, EPOCHS = 3, 4, 5
MOMENTUM = ["--optimizer", "momentum", "--lr", 0.1]  # the best of 0.02, 0.05, 0.1 and 0.2 for exact sums
SGD = ["--optimizer", "sgd", "--lr", 0.1]  # for dgc, which has momentum of its own
SIGNS = ["--optimizer", "sgd", "--lr", 0.001]  # each step is as long, so that the rate is small: the best of 0.0002, 0.0005 and 0.001

# A row: name, choice, optimizer, whether it is to be within a point of exact, whether its bytes are to be 20 times fewer.
EXACT = "exact"
ROWS = [
    (EXACT, "none", MOMENTUM, False, False),
    ("identity", "identity", MOMENTUM, False, False),
    ("fp16", "fp16+ef", MOMENTUM, True, False),
    ("bf16", "bf16+ef", MOMENTUM, True, False),
    ("8-bit floats", "float:exponent=4,mantissa=3+ef", MOMENTUM, False, False),
    ("natural", "natural+ef", MOMENTUM, True, False),
    ("uniform, 8 bits", "uniform:bits=8+ef", MOMENTUM, True, False),
    ("random, 8 bits", "random:bits=8+ef", MOMENTUM, False, False),
    ("QSGD, 127 levels", "qsgd:levels=127+ef", MOMENTUM, True, False),
    ("QSGD, 127 levels, Elias", "qsgd:levels=127,code=elias+ef", MOMENTUM, False, False),
    ("QSGD, 7 levels", "qsgd:levels=7", MOMENTUM, False, False),
    ("QSGD, 7 levels, feedback", "qsgd:levels=7+ef", MOMENTUM, False, False),
    ("TernGrad", "terngrad", MOMENTUM, False, False),
    ("TernGrad, feedback", "terngrad+ef", MOMENTUM, False, False),
    ("1-bit", "onebit+ef", MOMENTUM, True, True),
    ("1-bit, means of 512", "onebit:bucket=512+ef", MOMENTUM, False, False),
    ("signs", "sign+ef", MOMENTUM, False, False),
    ("majority vote", "vote", SIGNS, False, False),
    ("top-k 1 %", "topk:0.01+ef", MOMENTUM, True, True),
    ("top-k 1 %, EF21", "topk:0.01+ef21", MOMENTUM, False, False),
    ("top-k 1 %, no feedback", "topk:0.01", MOMENTUM, False, False),
    ("random-k 1 %", "randomk:0.01+ef", MOMENTUM, False, False),
    ("Bernoulli 1 %", "bernoulli:0.01+ef", MOMENTUM, False, False),
    ("threshold 0.3", "threshold:0.3", MOMENTUM, False, False),
    ("adaptive, 4 KiB", "adaptive:bytes=4KiB+ef", MOMENTUM, False, False),
    ("DGC 1 %", "dgc:0.01", SGD, True, False),
    ("PowerSGD, rank 1", "powersgd:rank=1+ef", MOMENTUM, True, True),
    ("PowerSGD, rank 2", "powersgd:rank=2+ef", MOMENTUM, True, True),
    ("PowerSGD, rank 4", "powersgd:rank=4+ef", MOMENTUM, True, True),
]


def compare(quick):
    seeds, epochs = (1, 1) if quick else (SEEDS, EPOCHS)
    result = common.Result(TITLE, quick, f"MNIST, 784-128-10, {epochs} epochs in batches of 256 over {WORKERS} workers, momentum 0.9 at the rate {MOMENTUM[-1]}, which was chosen "
                           f"for exact sums and is everybody's; DGC has momentum of its own, and majority vote, all of whose steps are as long, no momentum and the rate {SIGNS[-1]}. "
                           "A choice is as --compress has it: +ef is error feedback. Bytes are what all workers sent, with headers; 32 bits an element "
                           f"are what the exact sum sends. Accuracies are the mean of {seeds} seeds, and the spread is from the lowest to the highest; a difference is in points.")
    result.rounds = seeds
    with tempfile.TemporaryDirectory() as d:
        turn = count()
        runs = {}
        for name, choice, optimizer, _, _ in ROWS:
            for seed in range(1, seeds + 1):
                common.progress(f"seed {seed} of {seeds}: {choice}")
                r = common.covey("train", "--data", common.real_data("mnist"), "--model", "mlp:128", "--batch", 256, "--workers", WORKERS, "--transport", "inproc",
                                 "--threads", 1, "--epochs", epochs, "--save", 1000000000, *optimizer, "--compress", choice, "--seed", seed, "--run",
                                 Path(d) / f"run-{next(turn)}")
                if r["bytes_sent"] != r["bytes_expected"]:
                    raise common.Failed(f"{choice}: {r['bytes_sent']} bytes sent, {r['bytes_expected']} expected")
                runs.setdefault(name, []).append(r)
        common.progress("")
    if [r["weights_sha256"] for r in runs["identity"]] != [r["weights_sha256"] for r in runs[EXACT]]:
        raise common.Failed("identity has other weights than exact sums")
    sent = {n: statistics.mean(r["bytes_sent"] for r in rs) for n, rs in runs.items()}
    accuracy = {n: statistics.mean(r["accuracy"] for r in rs) for n, rs in runs.items()}
    ratio = {n: sent[EXACT] / sent[n] for n in sent}
    result.table("All compressors", ["compressor", "choice", "bits an element", "MB sent", "exact / this", "accuracy", "spread", "difference"],
                 [[n, c, f"{32 / ratio[n]:.2f}", f"{sent[n] / 1e6:.1f}", f"{ratio[n]:.1f}", f"{accuracy[n]:.2%}", spread(runs[n]), f"{100 * (accuracy[n] - accuracy[EXACT]):+.2f}"]
                  for n, c, *_ in ROWS])
    for name, _, _, near, few in ROWS:
        if near:
            result.check(GOALS[0], name, f"{accuracy[name]:.2%}", f"{accuracy[EXACT]:.2%}, exact", accuracy[name] / (accuracy[EXACT] - 0.01), 1.0)
    for name, _, _, near, few in ROWS:
        if few:
            result.check(GOALS[1], name, f"{sent[name] / 1e6:.1f} MB", f"{sent[EXACT] / 1e6:.0f} MB, exact", ratio[name], 20.0)
    if not quick:
        plot(ratio, accuracy, runs)
        result.plots.append({"title": "Bytes sent against accuracy, for every compressor", "path": PLOT})
    return result


def spread(runs):
    all_of = [r["accuracy"] for r in runs]
    return f"{min(all_of):.2%} - {max(all_of):.2%}"


def plot(ratio, accuracy, runs):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "covey", "font.size": 9})
    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    colours = {"near": "#1b6ca8", "far": "#c2571a"}
    # What falls far below would press the others together: it stands on the floor, with its figure.
    floor = accuracy[EXACT] - 0.03
    numbers = []
    for i, (name, *_) in enumerate(ROWS, 1):
        x, y = 100 / ratio[name], accuracy[name]
        colour = colours["near" if y >= accuracy[EXACT] - 0.01 else "far"]
        all_of = [r["accuracy"] for r in runs[name]]
        if y >= floor:
            axes.plot([x, x], [100 * max(min(all_of), floor), 100 * max(all_of)], "-", color=colour, lw=1)
            axes.plot(x, 100 * y, "o", color=colour, ms=4)
        else:
            axes.plot(x, 100 * floor, "v", color=colour, ms=5)
        axes.annotate(str(i), (x, 100 * max(y, floor)), textcoords="offset points", xytext=(5, 4), fontsize=8)
        numbers.append(f"{i} {name}" + ("" if y >= floor else f" ({y:.1%})"))
    axes.axhline(100 * accuracy[EXACT] - 1, color="#888888", lw=0.8, ls="--")
    axes.set(xscale="log", xlabel="bytes sent, % of exact", ylabel="test accuracy, %", title="Bytes against accuracy: MNIST, five epochs, four workers (dashed: 1 point below exact)")
    axes.grid(alpha=0.3, which="both")
    axes.text(1.02, 1, "\n".join(numbers), transform=axes.transAxes, va="top", fontsize=8)
    path = common.ROOT / PLOT
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
