"""The two MPIs, each with the settings that were fastest of those that were tried (see the comments)."""

import os
import re

import common

SIZES = [1 << k for k in range(10, 27, 2)]  # 1 KiB to 64 MiB in powers of 4


def version(kind):
    text = common.run(f"mpirun.{kind}", *(["--allow-run-as-root"] if kind == "openmpi" else []), "-np", 1, program(kind), "version")
    return re.search(r"\d+\.\d+[.\d]*", text)[0]


def program(kind):
    return common.compiled("allreduce.c", f"mpicc.{kind}", name=f"allreduce-{kind}")


def seconds(kind, ranks, sizes, each, blocks, tcp=False):
    """Runs the all-reduce of all sizes with one start of MPI. Returns size -> microseconds."""
    args = [f"mpirun.{kind}"]
    if kind == "openmpi":
        args += ["--allow-run-as-root", "--oversubscribe"]
        if tcp:
            args += ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]
        else:
            # vader with cross-memory attach, the default. Its copy-in-copy-out was twice as slow from 1 MiB up, the
            # collectives coll/sm two to four times at all sizes, and coll/han no faster.
            args += ["--mca", "btl", "vader,self"]
        if ranks > os.cpu_count():
            args += ["--mca", "mpi_yield_when_idle", "1"]  # spinning was as fast or slower, and so was binding to cores
    elif ranks <= os.cpu_count():
        args += ["-bind-to", "core"]
    args += ["-np", ranks, program(kind), each, blocks, *sizes]
    return {int(k): v for k, v in common.last_json(common.run(*args)).items()}
