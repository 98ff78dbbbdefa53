"""Matrix products on one thread: OpenBLAS through numpy, PyTorch and oneDNN."""

import json
import sys
import time

import common

TITLE = "Matrix products, one thread"
SQUARES = [(n, n, n) for n in (256, 512, 1024, 2048)]
TRAINING = [(128, 784, 128), (256, 784, 128), (128, 128, 10)]
FORMS = ("nn", "nt", "tn")


def key(m, k, n, form):
    return f"{m}x{k}x{n} {form}"


def compare(quick):
    result = common.Result(TITLE, quick, "GFLOP/s: 2mkn by the time of a call. A shape is rows x inner x columns; of the two letters n "
                           "takes a matrix as it stands and t transposed, without a copy. Going forward training uses nt, for the gradients of "
                           "inputs nn, for those of weights tn.")
    shapes = SQUARES[:2] + TRAINING if quick else SQUARES + TRAINING
    seconds = 0.03 if quick else 0.3
    names = ",".join("x".join(map(str, s)) for s in shapes)

    def ours():
        rows = common.covey("bench", "gemm", "--shapes", names, "--form", ",".join(FORMS), "--time", f"{seconds}s", "--repeat", "7")
        return {key(r["m"], r["k"], r["n"], r["form"]): r["gflops"] for r in rows}

    onednn = common.compiled("products.c", "cc", "-ldnnl")
    sides = {
        "Covey": ours,
        "OpenBLAS": lambda: common.peer(common.NUMPY, "products.py", "numpy", names, seconds),
        "PyTorch": lambda: common.peer(common.TORCH, "products.py", "torch", names, seconds),
        "oneDNN": lambda: common.last_json(common.run(onednn, seconds, *["x".join(map(str, s)) for s in shapes])),
    }
    result.version("OpenBLAS", common.peer(common.NUMPY, "products.py", "numpy-version")["version"])
    result.version("PyTorch", common.peer(common.TORCH, "products.py", "torch-version")["version"])
    result.version("oneDNN", common.run(onednn, "version"))
    m = common.alternate(sides)
    rows = []
    for s in shapes:
        for f in FORMS:
            k = key(*s, f)
            rows.append(["x".join(map(str, s)), f] + [m[side][k] for side in sides] + [m["Covey"][k] / m[p][k] for p in sides if p != "Covey"])
    result.table("GFLOP/s and ratios", ["shape", "form", *sides, *(f"/ {p}" for p in sides if p != "Covey")], rows)
    gflops = lambda v: f"{v:.1f} GFLOP/s"
    for s in shapes:
        goal, p, target, forms = ("At least 0.9 of OpenBLAS on squares", "OpenBLAS", 0.9, ("nn",)) if s in SQUARES else \
            ("Faster than PyTorch on the shapes of training, in all forms", "PyTorch", 1.0, FORMS)
        for f in forms:
            k = key(*s, f)
            result.check(goal, k, gflops(m["Covey"][k]), gflops(m[p][k]), m["Covey"][k] / m[p][k], target)
    return result


def measure(call, flops, seconds):
    """The median GFLOP/s over seven blocks of calls."""
    clock = time.perf_counter
    calls = 1
    while True:
        t = clock()
        for _ in range(calls):
            call()
        d = clock() - t
        if d >= seconds / 7 or calls >= 1 << 22:
            break
        calls = max(calls + 1, int(calls * min(16, seconds / 7 / (d + 1e-9))))
    blocks = []
    for _ in range(7):
        t = clock()
        for _ in range(calls):
            call()
        blocks.append((clock() - t) / calls)
    return flops / sorted(blocks)[3] / 1e9


def matrices(np, m, k, n, form):
    """a and b as they are stored, and a b: whole numbers, so that any order of summation gives the same."""
    sign = np.where(np.arange(k) ** 2 % 11 < 5, -1, 1).astype(np.float32)
    left, right = (np.arange(m) % 7 + 1).astype(np.float32), (np.arange(n) % 11 + 1).astype(np.float32)
    a, b = np.outer(left, sign), np.outer(sign, right)
    stored = lambda x, t: np.ascontiguousarray(x.T if t else x)
    return stored(a, form == "tn"), stored(b, form == "nt"), k * np.outer(left, right)


def worker(library, names, seconds):
    import numpy as np

    out = {}
    if library == "torch":
        import torch

        torch.set_num_threads(1)
    for name in names.split(","):
        m, k, n = map(int, name.split("x"))
        for form in FORMS:
            a, b, want = matrices(np, m, k, n, form)
            if library == "numpy":
                c = np.empty((m, n), np.float32)
                x, y = (a.T if form == "tn" else a), (b.T if form == "nt" else b)
                call = lambda: np.matmul(x, y, out=c)
                got = c
            else:
                tc, ta, tb = torch.empty(m, n), torch.from_numpy(a), torch.from_numpy(b)
                x, y = (ta.t() if form == "tn" else ta), (tb.t() if form == "nt" else tb)
                call = lambda: torch.mm(x, y, out=tc)
                got = tc.numpy()
            if library == "torch":
                with torch.inference_mode():
                    call()
                    out[key(m, k, n, form)] = measure(call, 2 * m * k * n, seconds)
            else:
                call()
                out[key(m, k, n, form)] = measure(call, 2 * m * k * n, seconds)
            if not np.array_equal(got, want):
                sys.exit(f"{library}: {name} {form} is wrong")
    print(json.dumps(out))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["numpy-version"]:
            import numpy

            blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
            print(json.dumps({"version": f"{blas['version']} in numpy {numpy.__version__}"}))
        case ["torch-version"]:
            import torch

            print(json.dumps({"version": f"{torch.__version__} (Debian)"}))
        case [library, names, seconds]:
            worker(library, names, float(seconds))
