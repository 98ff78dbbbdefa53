"""Hosts that are network namespaces of this machine, each with a link of its own to one switch.

The switch is a bridge in a namespace of its own. A link is a veth pair, and tc's token bucket holds both of its ends to
the link's rate, so that what a host sends and what it receives have the rate each, as on a full-duplex cable.
"""

import contextlib
import os
import subprocess

import common

SWITCH = "covey-hosts-switch"
QUEUE = "300ms"  # what waits at most: a link of a switch that seldom drops


def name(i):
    return f"covey-host-{i}"


def address(i):
    return f"10.213.11.{i + 1}"


def burst(mbit):
    """Bytes that pass at once after a pause: two packets, as on a cable, or what comes in 0.2 ms, where timers are late."""
    return max(3000, mbit * 25)


@contextlib.contextmanager
def hosts(n, mbit):
    """n namespaces and their links of mbit Mbit/s, and nothing left of them afterwards."""
    ip = lambda *a: common.run("ip", *a)
    all_names = [SWITCH, *(name(i) for i in range(n))]
    clear = lambda: [subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL) for ns in all_names]
    held = lambda ns, device: common.run("tc", "-n", ns, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", burst(mbit), "latency", QUEUE)
    clear()
    try:
        for ns in all_names:
            ip("netns", "add", ns)
            ip("-n", ns, "link", "set", "lo", "up")
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for i in range(n):
            port = f"port-{i}"
            ip("link", "add", "end", "netns", name(i), "type", "veth", "peer", "name", port, "netns", SWITCH)
            ip("-n", SWITCH, "link", "set", port, "master", "bridge")
            ip("-n", SWITCH, "link", "set", port, "up")
            ip("-n", name(i), "address", "add", f"{address(i)}/24", "dev", "end")
            ip("-n", name(i), "link", "set", "end", "up")
            held(name(i), "end")
            held(SWITCH, port)
        yield
    finally:
        clear()


def on(i, *command):
    """A command on a host: on the cores that it has, which hosts share in turn."""
    return ["taskset", "-c", str(i % os.cpu_count()), "ip", "netns", "exec", name(i), *map(str, command)]


@contextlib.contextmanager
def running(commands, timeout=60):
    """Programs, as pairs of words and environment, which must end well soon after the body has."""
    started = [subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, **common.ONE_THREAD, **env}) for words, env in commands]
    try:
        yield
        for p, (words, _) in zip(started, commands):
            try:
                _, errors = p.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as e:
                raise common.Failed(f"{' '.join(map(str, words))} did not end") from e
            if p.returncode:
                raise common.Failed(f"{' '.join(map(str, words))}: {errors[-1000:]}")
    finally:
        for p in started:
            p.kill()
            p.wait()
