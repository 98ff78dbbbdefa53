"""Push and pull through a parameter server: ps-lite."""

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import common

TITLE = "Parameter server: push and pull"
GOAL = "Push and pull: at least 1.5 times the values a second of ps-lite, 2 workers and 2 servers, dense 4 MiB and sparse 1 %"
WORKERS, SERVERS = 2, 2
SIZE, ROWS, WIDTH, SHARE = 4 << 20, 1_000_000, 16, 0.01
# Rows, their width, rows a call. A dense vector is one row a server.
PATTERNS = {"dense": (SERVERS, SIZE // 4 // SERVERS, SERVERS), "sparse": (ROWS, WIDTH, round(ROWS * SHARE))}
# A block begins and ends with nothing under way, so that both have to have as many calls in one.
CALLS = 256
WAYS = [(p, way) for p in PATTERNS for way in ("push", "pull")]
SOURCE = common.BUILD / "ps-lite"
LIMIT = 300  # seconds that one start of the peer may take
TCP, LOCAL, OWN = "ps-lite, TCP", "ps-lite, Unix sockets", "ps-lite, TCP, its own handler"
COVEY = {"tcp": "Covey, TCP", "shm": "Covey, shared memory"}
PAIRS = (("TCP", COVEY["tcp"], TCP), ("the host's own", COVEY["shm"], LOCAL))
# ps-lite was fastest with two calls of a worker under way: one was slower by a fifth, four by a tenth and more. Memory that it
# frees must stay with it, or each message is paid for in page faults; that made dense up to twice as fast. Its van p3 did not end.
WINDOW = 2
SETTINGS = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
NOTE = (f"{WORKERS} workers and {SERVERS} servers, a process each; values are float32 and ids 64 bits. Dense: a vector of {common.size(SIZE)}. Sparse: {PATTERNS['sparse'][2]} of "
        f"{ROWS} rows of {WIDTH}, drawn by lot, in order. Pushes are added as they come. A worker has two pulls under way, and of ps-lite two pushes, each of which the server answers; those of Covey are counted when a pull that comes after a block of them has its answer. The values of all workers, a second. "
        "ps-lite pushes and pulls with its zero-copy calls, a key a row; its servers keep rows in one array, which was written for this "
        "comparison, because ps-lite's own handler, a hash table with a key a value, is many times slower. Every value that is pulled must be the exact sum of all pushes. "
        "TCP is over 127.0.0.1; the host's own are Unix sockets for ps-lite and shared memory for Covey.")


def compare(quick):
    result = common.Result(TITLE, quick, NOTE)
    result.version("ps-lite", common.run("git", "-C", SOURCE, "log", "-1", "--format=commit %h of %cs"))
    blocks = 3 if quick else 7
    sides = {COVEY[t]: lambda t=t: ours(t, blocks) for t in COVEY}
    sides |= {TCP: lambda: peer("flat", blocks), LOCAL: lambda: peer("flat", blocks, DMLC_LOCAL="1"), OWN: lambda: peer("default", blocks)}
    m = common.alternate(sides)
    a_second = lambda v: f"{v / 1e6:.3g} M ({4 * v / 1e9:.3g} GB)"
    for over, us, them in PAIRS:
        for pattern, way in WAYS:
            a, b = m[us][pattern, way], m[them][pattern, way]
            result.check(GOAL, f"{way}, {pattern}, {over}", a_second(a), a_second(b), a / b, 1.5)
    result.table("Millions of values a second", ["", *m], [[f"{way}, {pattern}", *(m[s][pattern, way] / 1e6 for s in m)] for pattern, way in WAYS])
    return result


def ours(transport, blocks):
    out = common.covey("bench", "ps", "--workers", WORKERS, "--servers", SERVERS, "--transport", transport, "--size", "4MiB", "--sparse", SHARE, "--rows", ROWS,
                       "--width", WIDTH, "--calls", CALLS, "--repeat", blocks)
    return {(pattern, way): out[pattern][f"{way}_values_per_s"] for pattern, way in WAYS}


def peer(handler, blocks, **settings):
    out = {}
    calls = CALLS // 8 if handler == "default" else CALLS  # so slow is it
    for pattern, (rows, width, batch) in PATTERNS.items():
        seen = group(settings, rows, width, batch, handler, blocks, calls, WINDOW)
        out |= {(pattern, way): seen[f"{way}_values_per_s"] for way in ("push", "pull")}
    return out


def group(settings, *args):
    """Runs the peer's processes to their end and returns what its first worker prints."""
    program = common.compiled("ps.cc", "g++", "-std=c++17", f"-I{SOURCE}/include", SOURCE / "libps.a", "-lprotobuf-lite", "-lzmq", "-pthread")
    roles = ["scheduler"] + ["server"] * SERVERS + ["worker"] * WORKERS
    ports = [str(p) for p in free_ports(len(roles))]
    env = os.environ | common.ONE_THREAD | SETTINGS | settings | {
        "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": ports[0], "DMLC_NODE_HOST": "127.0.0.1", "DMLC_NUM_WORKER": str(WORKERS), "DMLC_NUM_SERVER": str(SERVERS)}
    processes, limit = [], time.monotonic() + LIMIT
    with tempfile.TemporaryFile("w+") as log:
        try:
            for role, port in zip(roles, ports):
                processes.append(subprocess.Popen([program, *map(str, args)], env=env | {"DMLC_ROLE": role, "PORT": port}, stdin=subprocess.DEVNULL,
                                                  stdout=log, stderr=log))
            while set(codes := [p.poll() for p in processes]) != {0}:
                if any(codes) or time.monotonic() > limit:
                    log.seek(0)
                    raise common.Failed(f"{program} {args}: exit codes {codes} within {LIMIT} s\n{log.read()[-2000:]}")
                time.sleep(0.01)
        finally:
            for p in processes:
                p.kill()
                p.wait()
            for port in ports:  # Unix sockets are there, and sometimes stay
                Path("/tmp", port).unlink(missing_ok=True)
        log.seek(0)
        return common.last_json(log.read())


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
