"""All-reduce over TLS on a 1 Gbit/s link, against two opposite plain TCP streams of the same bytes.

The link joins two network namespaces: a veth pair, held to its rate in each direction by tc's token bucket. An all-reduce
of S bytes between two workers moves S bytes each way, so the bound is an exchange in which each side sends S bytes and
receives S bytes at once, with nothing to add and nothing to encrypt.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import common

TITLE = "All-reduce on a 1 Gbit/s link, TLS on"
GOAL = "At 4 MiB and above at least 0.95 of what two opposite plain TCP streams of the same bytes reach"
SIZES = [4 << 20, 16 << 20, 64 << 20]
ENDS = (("covey-bench-1", "10.213.9.1"), ("covey-bench-2", "10.213.9.2"))
RATE, PORT = "1gbit", 7443


def compare(quick):
    result = common.Result(TITLE, quick, "Two workers in two network namespaces, joined by a veth pair that tc tbf holds to 1 Gbit/s each way; TLS 1.3 for Covey, "
                           "none for the streams. The time of an all-reduce of S bytes against that of S bytes there and S bytes back at once.")
    sizes = SIZES[:1] if quick else SIZES
    blocks = 3
    with link(), tempfile.TemporaryDirectory() as certs:
        common.run(common.COVEY, "ca", "init", certs)
        for name, address in ENDS:
            common.run(common.COVEY, "ca", "issue", certs, name, address)

        def ours():
            with inside(ENDS[1][0], common.COVEY, "bench", "worker", f"{ENDS[0][1]}:{PORT}", "--tls", certs, "--node", ENDS[1][0]):
                rows = json.loads(common.run("ip", "netns", "exec", ENDS[0][0], common.COVEY, "bench", "allreduce", "--workers", 2, "--join", 1,
                                                   "--transport", "tcp", "--listen", f"{ENDS[0][1]}:{PORT}", "--tls", certs, "--node", ENDS[0][0], "--sizes",
                                                   ",".join(map(str, sizes)), "--time", "1s", "--repeat", blocks, "--json", "--quiet"))
            return {r["bytes"]: r["us"] for r in rows}

        def streams():
            with inside(ENDS[1][0], sys.executable, __file__, "dial", ENDS[0][1], blocks, *sizes):
                out = common.last_json(common.run("ip", "netns", "exec", ENDS[0][0], sys.executable, __file__, "listen", ENDS[0][1], blocks, *sizes))
            return {int(k): v for k, v in out.items()}

        m = common.alternate({"Covey": ours, "streams": streams})
    for n in sizes:
        us, bound = m["Covey"][n], m["streams"][n]
        gbit = lambda t: f"{common.duration(t)} ({8 * n / t / 1e3:.3f} Gbit/s)"
        result.check(GOAL, common.size(n), gbit(us), gbit(bound), bound / us, 0.95)
    return result


@contextlib.contextmanager
def link(rate=RATE, burst="256kb"):
    """Two namespaces and the link between them, and nothing left of them afterwards.

    burst is what may pass at once after a pause: small where small messages are to be held to the rate, too.
    """
    ip = lambda *a: common.run("ip", *a)
    clear = lambda: [subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL) for ns, _ in ENDS]
    clear()
    try:
        for ns, _ in ENDS:
            ip("netns", "add", ns)
        ip("link", "add", "end", "netns", ENDS[0][0], "type", "veth", "peer", "name", "end", "netns", ENDS[1][0])
        for ns, address in ENDS:
            ip("-n", ns, "address", "add", f"{address}/24", "dev", "end")
            ip("-n", ns, "link", "set", "end", "up")
            ip("-n", ns, "link", "set", "lo", "up")
            common.run("tc", "-n", ns, "qdisc", "add", "dev", "end", "root", "tbf", "rate", rate, "burst", burst, "latency", "50ms")
        yield
    finally:
        clear()


@contextlib.contextmanager
def inside(namespace, *command):
    """A program in a namespace, which must end well soon after the other end has."""
    p = subprocess.Popen(["ip", "netns", "exec", namespace, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                         env={**os.environ, **common.ONE_THREAD})
    try:
        yield
        _, errors = p.communicate(timeout=30)
        if p.returncode:
            raise common.Failed(f"{command[0]} in {namespace}: {errors[-1000:]}")
    finally:
        p.kill()
        p.wait()


def exchange(conn, out, into):
    """Sends out and fills into, both at once, and waits until the other side has done so, too."""
    sender = threading.Thread(target=conn.sendall, args=(out,))
    sender.start()
    receive(conn, into)
    sender.join()


def receive(conn, into):
    at, view = 0, memoryview(into)
    while at < len(view):
        n = conn.recv_into(view[at:])
        if n == 0:
            sys.exit("the other end is gone")
        at += n


def stream(conn, blocks, sizes):
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.settimeout(60)
    took, byte = {}, bytearray(1)
    for n in sizes:
        out, into = bytes(i * 7 % 251 for i in range(4096)) * (n // 4096), bytearray(n)
        times = []
        for _ in range(blocks + 1):  # the first one warms up
            exchange(conn, b"x", byte)
            start = time.perf_counter()
            exchange(conn, out, into)
            exchange(conn, b"y", byte)
            times.append(time.perf_counter() - start)
        if into != out:
            sys.exit(f"{n} bytes came wrong")
        took[n] = 1e6 * sorted(times[1:])[blocks // 2]
    return took


def end(role, address, blocks, sizes):
    if role == "listen":
        with socket.create_server((address, PORT)) as door:
            door.settimeout(60)
            conn, _ = door.accept()
    else:
        for _ in range(300):  # until the other end listens
            try:
                conn = socket.create_connection((address, PORT), timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("nobody listens")
    with conn:
        print(json.dumps(stream(conn, blocks, sizes)))


if __name__ == "__main__":
    role, address, blocks, *sizes = sys.argv[1:]
    end(role, address, int(blocks), [int(n) for n in sizes])
