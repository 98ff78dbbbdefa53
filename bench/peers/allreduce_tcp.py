"""All-reduce over TCP loopback: OpenMPI, and Gloo as PyTorch ships it."""

import json
import sys
import tempfile
import time

import common
import mpi

TITLE = "All-reduce, TCP loopback"
SMALL = "Below 256 KiB no slower than the better of OpenMPI and Gloo"
LARGE = "From 256 KiB up at least 1.3 times the better of OpenMPI and Gloo"


def compare(quick):
    result = common.Result(TITLE, quick, "Float32, sum, in place, plain TCP over 127.0.0.1, medians of calls one after the other.")
    result.version("OpenMPI", mpi.version("openmpi"))
    result.version("Gloo", "as in PyTorch " + common.run(common.TORCH, "-c", "import torch; print(torch.__version__)"))
    sizes = [1 << 10, 256 << 10, 4 << 20] if quick else mpi.SIZES
    each, blocks = (0.05, 3) if quick else (0.3, 7)
    for ranks in (2, 4):
        def ours():
            rows = common.covey("bench", "allreduce", "--workers", ranks, "--transport", "tcp", "--sizes", ",".join(map(str, sizes)),
                                "--time", f"{each}s", "--repeat", blocks)
            return {r["bytes"]: r["us"] for r in rows}

        def gloo():
            with tempfile.TemporaryDirectory() as d:
                out = common.peer(common.TORCH, "allreduce_tcp.py", ranks, each, blocks, f"{d}/store", *sizes, env={"GLOO_SOCKET_IFNAME": "lo"})
            return {int(k): v for k, v in out.items()}

        m = common.alternate({"Covey": ours, "OpenMPI": lambda: mpi.seconds("openmpi", ranks, sizes, each, blocks, tcp=True), "Gloo": gloo})
        rows = []
        for n in sizes:
            us, a, b = (m[s][n] for s in ("Covey", "OpenMPI", "Gloo"))
            rows.append([common.size(n), common.duration(us), common.duration(a), a / us, common.duration(b), b / us])
            small = n < 256 << 10
            result.check(SMALL if small else LARGE, f"{ranks} processes, {common.size(n)}", common.duration(us),
                         f"{common.duration(min(a, b))} ({'OpenMPI' if a < b else 'Gloo'})", min(a, b) / us, 1.0 if small else 1.3)
        result.table(f"{ranks} processes", ["size", "Covey", "OpenMPI", "ratio", "Gloo", "ratio"], rows)
    return result


def rank(r, ranks, each, blocks, store, sizes):
    """One process of Gloo. It measures as covey bench does."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=r, world_size=ranks)
    out = {}
    for n in sizes:
        values = torch.arange(n // 4, dtype=torch.float32).remainder_(509).add_(1)
        x = values * (r + 1)
        dist.all_reduce(x)
        if not torch.equal(x, values * (ranks * (ranks + 1) // 2)):
            sys.exit(f"rank {r}: the sum of {n} bytes is wrong")
        x.zero_()

        def block(calls):
            dist.barrier()
            t = time.perf_counter()
            for _ in range(calls):
                dist.all_reduce(x)
            return time.perf_counter() - t

        calls = torch.ones(1, dtype=torch.int64)
        while True:
            d = block(int(calls))
            now = int(calls)
            if d < each / blocks:
                calls.fill_(int(now * min(16, each / blocks / (d + 1e-9))) + 1)
            dist.broadcast(calls, 0)
            if int(calls) == now:
                break
        took = torch.tensor([block(now) / now for _ in range(blocks)])
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        out[n] = 1e6 * float(took.median())
    if r == 0:
        print(json.dumps(out), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    import multiprocessing

    ranks, each, blocks, store, *sizes = sys.argv[1:]
    all_ranks = [multiprocessing.get_context("spawn").Process(target=rank, args=(r, int(ranks), float(each), int(blocks), store, [int(s) for s in sizes]))
                 for r in range(int(ranks))]
    for p in all_ranks:
        p.start()
    for p in all_ranks:
        p.join()
    sys.exit(max(abs(p.exitcode) for p in all_ranks))
