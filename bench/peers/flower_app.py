"""The peer's part of flower.py: Flower's simulation engine with clients in numpy. Its own interpreter runs it.

    python3 flower_app.py run '{"clients": 1000, "fraction": 1.0, ...}'
    python3 flower_app.py step '{"batch": 20, "rate": 0.1}'              a local step in numpy and in PyTorch

A client is what it is at its fastest: 784-128-10 by hand on OpenBLAS, the images mapped once a process, no state of its
own. run prints one JSON object: seconds of the start and the first round, of each round after it, and the mean loss of each.
"""

import functools
import json
import os
import sys
import time

import numpy as np

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
OPTIONS = "COVEY_FLOWER"  # where the processes that compute find the options


@functools.cache
def options():
    return json.loads(os.environ[OPTIONS])


@functools.cache
def samples():
    """All images as bytes, mapped, and their labels."""
    o = options()
    return np.load(o["images"], mmap_mode="r"), np.load(o["labels"])


def steps(w1, b1, w2, b2, images, labels, batch, rate):
    """A pass over a client's samples in batches by plain SGD, in place; returns the mean loss."""
    total, count = 0.0, 0
    for at in range(0, len(images) - batch + 1, batch):
        x = images[at:at + batch].astype(np.float32) / np.float32(255)
        y = labels[at:at + batch]
        h = np.maximum(x @ w1.T + b1, 0)
        z = h @ w2.T + b2
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(batch)
        total -= float(np.log(p[rows, y]).mean())
        count += 1
        p[rows, y] -= 1
        p *= np.float32(rate / batch)
        back = (p @ w2) * (h > 0)
        w2 -= p.T @ h
        b2 -= p.sum(axis=0)
        w1 -= back.T @ x
        b1 -= back.sum(axis=0)
    return total / count


def client_app():
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message, context):
        o, (images, labels) = options(), samples()
        own = o["batch"] * o["K"]
        at = int(context.node_config["partition-id"]) * own
        arrays = [a.copy() for a in message.content["arrays"].to_numpy_ndarrays()]
        loss = steps(*arrays, images[at:at + own], labels[at:at + own], o["batch"], o["rate"])
        return Message(content=RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": own, "loss": loss})}), reply_to=message)

    return app


def server_app(o, ends, losses):
    from flwr.app import ArrayRecord
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg

    app = ServerApp()

    @app.main()
    def main(grid, context):
        initial = np.load(o["initial"])
        active = round(o["clients"] * o["fraction"])
        result = FedAvg(fraction_train=o["fraction"], fraction_evaluate=0.0, min_train_nodes=active, min_available_nodes=o["clients"]).start(
            grid=grid, initial_arrays=ArrayRecord([initial[k] for k in ("0.weight", "0.bias", "2.weight", "2.bias")]), num_rounds=o["rounds"],
            evaluate_fn=lambda r, arrays: ends.append(time.monotonic()))
        losses.extend(float(m["loss"]) for m in result.train_metrics_clientapp.values())

    return app


def main():
    from flwr.simulation import run_simulation

    o = options()
    start, ends, losses = time.monotonic(), [], []
    run_simulation(server_app=server_app(o, ends, losses), client_app=client_app(), num_supernodes=o["clients"], backend_config={
        "client_resources": {"num_cpus": o["cpus"], "num_gpus": 0.0},
        "init_args": {"num_cpus": os.cpu_count(), "include_dashboard": False, "object_store_memory": 256 << 20, "log_to_driver": False}})
    # ends[0] is before the first round, which also starts the processes.
    print(json.dumps({"start_s": ends[1] - start, "round_s": [b - a for a, b in zip(ends[1:], ends[2:])], "losses": losses}), flush=True)


def step_times():
    """Microseconds of a client's local step here, and of the same in PyTorch: run by an interpreter that has both."""
    import torch

    torch.set_num_threads(1)
    o = options()
    batch, rate, rng = o["batch"], o["rate"], np.random.default_rng(1)
    images = rng.integers(0, 256, (batch * 200, 784), dtype=np.uint8)
    labels = rng.integers(0, 10, batch * 200)
    w = [rng.standard_normal(s).astype(np.float32) * np.float32(0.05) for s in ((128, 784), 128, (10, 128), 10)]
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    sgd = torch.optim.SGD(model.parameters(), rate)

    def ours():
        steps(*w, images, labels, batch, rate)

    def theirs():
        for at in range(0, len(images), batch):
            x = torch.from_numpy(images[at:at + batch]).float() / 255
            sgd.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(x), torch.from_numpy(labels[at:at + batch])).backward()
            sgd.step()

    took = {"numpy": [], "torch": []}
    for _ in range(5):
        for name, f in (("numpy", ours), ("torch", theirs)):
            start = time.perf_counter()
            f()
            took[name].append(1e6 * (time.perf_counter() - start) / 200)
    print(json.dumps({k: sorted(v)[2] for k, v in took.items()} | {"version": torch.__version__}))


if __name__ == "__main__":
    os.environ[OPTIONS] = sys.argv[2]
    import flower_app  # by name, as the processes that compute find it

    {"run": flower_app.main, "step": flower_app.step_times}[sys.argv[1]]()
