"""Network files for the simulator, with the figures that covey probe measures on this machine."""

import json
import statistics

import common

# A full-sized segment of TCP with time stamps over Ethernet carries 1448 bytes, and tc's token bucket counts its 1514.
WIRE = 1514 / 1448


class Machines:
    """What this machine was measured at: for each model and number of samples of a gradient, as often as probe was called."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}

    def probe(self, case, batch):
        out = common.run(common.COVEY, "probe", "--data", common.real_data("mnist"), "--model", case.model, "--batch", batch, "--workers", case.workers,
                         "--microshards", case.workers, "--out", self.folder / "probe.yaml", "--json", "--quiet")
        self.known.setdefault(key(case, batch), []).append(json.loads(out))

    def network(self, case, batch):
        """The text of a network file for a case.

        A core is one of those that are all busy. Vectors that all fit in the last-level cache are added at its speed. Hosts
        that share a core have equal parts of it, which is what each gets while they do the same at the same time.
        """
        p = middle(self.known[key(case, batch)])
        small = 4 * 4 * parameters(case.model) * case.workers <= p["cache"]
        memory = p["in_cache"]["median"] if small else p["memory"]["median"]
        together = p["cores"] * memory if small else max(memory, p["memory_all"]["median"])
        tcp = p["transports"]["tcp"]
        flops, cores, slower = p["flops_all"]["median"] / p["cores"], p["cores"], 1.0
        if case.hosts:
            slower = max(1.0, case.hosts / p["cores"])
            cores, together = 1, min(memory, together / p["cores"])
        wake = max(0.0, tcp["alpha"]["median"] - tcp["send"] - tcp["receive"])
        lines = [
            f"name: {case.where}",
            f"machine: {{cores: {cores}, flops: {flops / slower / 1e9:.4f}GFLOP/s, memory: {memory / slower / 1e9:.4f}GB/s, memory_all: {together / slower / 1e9:.4f}GB/s}}",
            f"messages: {{send: {us(tcp['send'] * slower)}, receive: {us(tcp['receive'] * slower)}, "
            f"send_byte: {ns(tcp['send_byte'] * slower)}, receive_byte: {ns(tcp['receive_byte'] * slower)}, wire: {WIRE if case.hosts else 1:.4f}}}",
        ]
        if case.hosts:
            lines.append(f"hosts: {{name: h, count: {case.hosts}, workers: {case.each}, uplink: {{bandwidth: {case.mbit}Mbit/s, latency: {us(wake / 2)}}}, "
                         f"loopback: {{bandwidth: {memory / 1e9:.4f}GB/s, latency: {us(wake)}}}}}")
        else:
            lines.append(f"hosts: {{name: h, workers: {case.each}, loopback: {{bandwidth: {memory / 1e9:.4f}GB/s, latency: {us(wake)}}}}}")
        return "\n".join(lines) + "\n"


def key(case, batch):
    return case.model, batch // case.workers


def middle(probes):
    """Probes whose numbers are the medians of several."""
    first = probes[0]
    if isinstance(first, dict):
        return {k: middle([p[k] for p in probes if k in p]) for k in first}
    return statistics.median(probes) if isinstance(first, (int, float)) else first


def parameters(model):
    sizes = [784, *map(int, model.split(":")[1].split(",")), 10]
    return sum(a * b + b for a, b in zip(sizes, sizes[1:]))


def us(seconds):
    return f"{1e6 * seconds:.3f}us"


def ns(seconds):
    return f"{1e9 * seconds:.4f}ns"
