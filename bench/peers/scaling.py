"""How the cost of an all-reduce in shared memory grows with size and workers: an alpha-beta model."""

import math
import os

import common

TITLE = "Scaling of cost: all-reduce in shared memory"
GOAL = "An alpha-beta model fits within 25 %"
WORKERS = (2, 3, 4)
PLOT = "docs/bench/scaling.svg"


def compare(quick):
    import numpy as np

    result = common.Result(TITLE, quick, "Time = alpha(P) + beta S W, where S is the vector's size, P the number of workers and W = P by the cores that they "
                           "have, rounded up: each worker adds its own P-th of all P vectors, and so many workers take turns on a core. Beta is one number as long as all workers' vectors together, P S, fit in the last-level "
                           "cache and another for the bytes beyond. The bound between the two is fitted too, since what a virtual machine is told of its "
                           "cache need not be what it has; so are the alphas, one for each P. The fit minimises the largest relative error.")
    sizes = [1 << k for k in range(10, 27, 4 if quick else 1)]

    def ours():
        rows = common.covey("bench", "allreduce", "--workers", ",".join(map(str, WORKERS)), "--transport", "shm", "--sizes", ",".join(map(str, sizes)),
                            "--time", "0.02s" if quick else "0.25s", "--repeat", 5 if quick else 9)
        return {(r["workers"], r["bytes"]): r["us"] for r in rows}

    m = common.alternate({"Covey": ours})["Covey"]
    fit = best_fit(np, m)
    rows = [[common.size(n), *(x for p in WORKERS for x in (common.duration(m[p, n]), f"{fit['model'](p, n) / m[p, n] - 1:+.0%}"))] for n in sizes]
    result.table("Medians, and by how much the model differs", ["size", *(x for p in WORKERS for x in (f"{p} workers", ""))], rows)
    told = common.last_cache() >> 20
    result.table("The model", ["number", "value"], [
        *[[f"alpha, {p} workers", common.duration(a)] for p, a in fit["alpha"].items()],
        ["beta inside the cache", f"{1e3 * fit['inside']:.3g} us/KB ({1 / fit['inside'] / 1e3:.3g} GB/s)"],
        ["beta beyond", f"{1e3 * fit['beyond']:.3g} us/KB ({1 / fit['beyond'] / 1e3:.3g} GB/s)"],
        ["bound, all vectors together", f"{fit['bound'] / (1 << 20):.3g} MiB (the machine tells of {told} MiB)"],
        ["largest error", f"{fit['error']:.0%}"]])
    result.check(GOAL, "2, 3 and 4 workers", f"{fit['error']:.1%} at most", "25 %", 0.25 / fit["error"], 1.0)
    if not quick:
        plot(m, fit, sizes)
        result.plots.append({"title": "All-reduce time against size, measured and modelled", "path": PLOT})
    return result


def work(p):
    return math.ceil(p / os.cpu_count())


def best_fit(np, m):
    """The model of the smallest largest relative error, over all bounds between two measured sizes."""
    from scipy.optimize import linprog

    points = sorted(m)
    together = sorted({p * n for p, n in points if n >= 1 << 20}) + [math.inf]
    best = None
    for bound in together:
        # unknowns: the alphas, beta inside, beta beyond, and the largest error, which is minimised
        a = []
        for p, n in points:
            row = [1.0 if p == q else 0.0 for q in WORKERS]
            inside = min(n, bound / p)
            row += [inside * work(p), (n - inside) * work(p)]
            a.append([x / m[p, n] for x in row])
        a = np.array(a)
        one = np.ones((len(points), 1))
        r = linprog([0] * (len(WORKERS) + 2) + [1], A_ub=np.vstack([np.hstack([a, -one]), np.hstack([-a, -one])]),
                    b_ub=np.hstack([np.ones(len(points)), -np.ones(len(points))]), bounds=[(0, None)] * (len(WORKERS) + 3))
        if best is None or r.x[-1] < best["error"] - 1e-9:
            *alphas, inside, beyond, error = r.x
            best = {"alpha": dict(zip(WORKERS, alphas)), "inside": inside, "beyond": beyond, "bound": bound, "error": error}
    f = best
    f["model"] = lambda p, n: f["alpha"][p] + work(p) * (f["inside"] * min(n, f["bound"] / p) + f["beyond"] * max(0, n - f["bound"] / p))
    return f


def plot(m, fit, sizes):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "covey", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for p, colour in zip(WORKERS, ("#1b6ca8", "#c2571a", "#3a7d44")):
        axes.plot(sizes, [m[p, n] for n in sizes], "o", color=colour, ms=4, label=f"{p} workers")
        axes.plot(sizes, [fit["model"](p, n) for n in sizes], "-", color=colour, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="size of the vector, bytes", ylabel="time, us", title="All-reduce in shared memory: measured (dots), modelled (lines)")
    axes.set_xscale("log", base=2)
    axes.grid(alpha=0.3)
    axes.legend()
    path = common.ROOT / PLOT
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
