"""All-reduce between processes of this host: OpenMPI and MPICH."""

import os

import common
import mpi

TITLE = "All-reduce, shared memory"
GOAL = "At least 1.3 times OpenMPI at every size, 3 times at 4 MiB, 5 times at 64 MiB"
BOUND = "At 64 MiB at least 0.7 of the bound that memory bandwidth sets"
TARGETS = {4 << 20: 3.0, 64 << 20: 5.0}


def bandwidth(ranks, n):
    """Microseconds: see bandwidth.c."""
    return float(common.run(common.compiled("bandwidth.c"), min(ranks, os.cpu_count()), ranks, n))


def compare(quick):
    result = common.Result(TITLE, quick, "Float32, sum, in place, medians of calls one after the other. With more processes than cores MPICH spins without "
                           "giving way; it is measured up to 1 MiB there. The bound is the time in which all cores do the reads and writes that no "
                           "all-reduce in place can do without (each element of each vector once), with no synchronisation at all: bandwidth.c.")
    for kind in ("openmpi", "mpich"):
        result.version({"openmpi": "OpenMPI", "mpich": "MPICH"}[kind], mpi.version(kind))
    sizes = [1 << 10, 256 << 10, 4 << 20] if quick else mpi.SIZES
    each, blocks = (0.03, 3) if quick else (0.3, 7)
    for ranks in (2, 4):
        crowded = ranks > os.cpu_count()

        def ours():
            rows = common.covey("bench", "allreduce", "--workers", ranks, "--transport", "shm", "--sizes", ",".join(map(str, sizes)),
                                "--time", f"{each}s", "--repeat", blocks)
            return {r["bytes"]: r["us"] for r in rows}

        sides = {"Covey": ours, "OpenMPI": lambda: mpi.seconds("openmpi", ranks, sizes, each, blocks)}
        few = [n for n in sizes if n <= 1 << 20] if crowded else sizes
        if not (quick and crowded):
            sides["MPICH"] = lambda: mpi.seconds("mpich", ranks, few, each, 3 if crowded else blocks)
        if not quick:
            sides["bound"] = lambda: {n: bandwidth(ranks, n) for n in (64 << 20,)}
        m = common.alternate(sides)
        rows = []
        for n in sizes:
            us = m["Covey"][n]
            row = [common.size(n), common.duration(us), f"{n / us / 1e3:.2f} GB/s"]
            for p in ("OpenMPI", "MPICH"):
                v = m.get(p, {}).get(n)
                row += [common.duration(v), v / us] if v else ["", ""]
            rows.append(row)
            result.check(GOAL, f"{ranks} processes, {common.size(n)}", common.duration(us), common.duration(m["OpenMPI"][n]), m["OpenMPI"][n] / us,
                         TARGETS.get(n, 1.3))
        result.table(f"{ranks} processes", ["size", "Covey", "", "OpenMPI", "ratio", "MPICH", "ratio"], rows)
        for n, bound in m.get("bound", {}).items():
            result.check(BOUND, f"{ranks} processes, {common.size(n)}", common.duration(m["Covey"][n]), f"{common.duration(bound)} (bound)",
                         bound / m["Covey"][n], 0.7)
    return result
