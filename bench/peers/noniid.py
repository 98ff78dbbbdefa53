"""Rounds to 95 % on MNIST divided unevenly among clients: SCAFFOLD against FedAvg."""

import json
import statistics
import tempfile
from itertools import count
from pathlib import Path

import common

TITLE = "Talking less often: rounds against accuracy on uneven clients"
GOAL = "SCAFFOLD comes to 95 % in at most 0.7 of FedAvg's rounds"
PLOT = "docs/bench/scaffold.svg"
WANTED, K, BATCH, CLIENTS, EPOCHS = 0.95, 100, 100, 10, 50
RATES, SEEDS = (0.1, 0.2, 0.3, 0.4), (1, 2, 3)
ALL = EPOCHS * 60000 // BATCH // K  # rounds of a run
METHODS = {"FedAvg": "local", "SCAFFOLD": "scaffold"}


def compare(quick):
    rates, seeds, epochs = (RATES[1:2], SEEDS[:1], 3) if quick else (RATES, SEEDS, EPOCHS)
    result = common.Result(TITLE, quick, f"MNIST divided among {CLIENTS} clients (dirichlet:0.1: mostly one or two digits each), all of them in each round, mlp:128, plain SGD, "
                           f"{K} local steps of {BATCH // CLIENTS} samples a round, tested every {60000 // BATCH // K} rounds. Each method has the rate of "
                           f"{', '.join(map(str, rates))} at which the median of the seeds comes to 95 % first. "
                           f"A round of SCAFFOLD sends twice the bytes of one of FedAvg. Runs end after {ALL} rounds.")
    result.rounds = len(seeds)
    with tempfile.TemporaryDirectory() as d:
        turn = count()
        curves, tried = {}, []
        for name, method in METHODS.items():
            by_rate = {}
            for rate in rates:
                common.progress(f"{name}, rate {rate}")
                by_rate[rate] = [train(Path(d) / f"run-{next(turn)}", method, rate, s, epochs) for s in seeds]
                tried.append([name, rate, ", ".join(str(shown(rounds(c))) for c in by_rate[rate]),
                              f"{statistics.median(max(a for _, a in c) for c in by_rate[rate]):.2%}"])
            best = min(rates, key=lambda r: statistics.median(rounds(c) or 1e9 for c in by_rate[r]))
            curves[name] = {"rate": best, "runs": by_rate[best]}
        common.progress("")
    result.table("At each rate", ["method", "rate", "rounds to 95 %, by seed", "best accuracy, median"], tried)
    rows = []
    needed = {n: [rounds(r) for r in c["runs"]] for n, c in curves.items()}
    for i, seed in enumerate(seeds):
        rows.append([seed] + [shown(needed[n][i]) for n in METHODS] + [ratio(needed, i)])
    result.table("Rounds to 95 %, by seed", ["seed", *(f"{n}, rate {curves[n]['rate']}" for n in METHODS), "SCAFFOLD / FedAvg"], rows)
    if quick:
        return result
    if None in needed["SCAFFOLD"]:
        raise common.Failed(f"SCAFFOLD does not come to 95 % within {ALL} rounds: {needed}")
    ours, theirs = (statistics.median(r or ALL for r in needed[n]) for n in ("SCAFFOLD", "FedAvg"))
    more = "more than " if theirs == ALL else ""
    result.check(GOAL, f"medians of {len(seeds)} seeds", f"{ours:g} rounds", f"{more}{theirs:g} rounds, FedAvg", theirs / ours, 1 / 0.7)
    plot(curves)
    result.plots.append({"title": "Rounds against test accuracy, SCAFFOLD and FedAvg", "path": PLOT})
    return result


def train(run, method, rate, seed, epochs):
    """Pairs of round and test accuracy."""
    common.covey("train", "--data", common.real_data("mnist"), "--model", "mlp:128", "--partition", "dirichlet:0.1", "--clients", CLIENTS, "--workers", 2,
                 "--transport", "inproc", "--optimizer", "sgd", "--lr", rate, "--strategy", f"{method}:K={K}", "--batch", BATCH, "--epochs", epochs, "--seed", seed,
                 "--save", 1000000000, "--run", run)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(e["step"] // K, e["accuracy"]) for e in lines if "epoch_end" in e]


def rounds(curve):
    return next((r for r, a in curve if a >= WANTED), None)


def shown(n):
    return n or f"> {ALL}"


def ratio(needed, i):
    a, b = needed["SCAFFOLD"][i], needed["FedAvg"][i]
    if not a:
        return "-"
    return f"{a / b:.2f}" if b else f"< {a / ALL:.2f}"


def plot(curves):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "covey", "font.size": 9})
    figure, axes = plt.subplots(figsize=(7, 4))
    for (name, c), colour in zip(curves.items(), ("#c2571a", "#1b6ca8")):
        for i, run in enumerate(c["runs"]):
            axes.plot([r for r, _ in run], [100 * a for _, a in run], color=colour, lw=1.2, alpha=0.8, label=f"{name}, rate {c['rate']}" if i == 0 else None)
    axes.axhline(100 * WANTED, color="#888888", lw=0.8, ls="--")
    axes.set(xlabel="rounds", ylabel="test accuracy, %", ylim=(60, 98), title=f"Ten uneven clients (dirichlet:0.1), {K} local steps a round, three seeds")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    path = common.ROOT / PLOT
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
