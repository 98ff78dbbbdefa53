"""Training steps on MNIST: PyTorch in one process, PyTorch DDP over Gloo, TensorFlow MirroredStrategy on two CPU devices."""

import gzip
import json
import sys
import time

import common

TITLE = "Training steps, global batch 256, Adam"
STEPS, BLOCK = 600, 50
RATE = 0.001


def compare(quick):
    result = common.Result(TITLE, quick, "Milliseconds a step, batches gathered in random order from MNIST in memory. One thread a process or "
                           "device on every side; with one worker Covey, as in training, has the other core gather the next batch. The losses "
                           "are the mean of the last ten steps of as many on each side. DDP has Gloo, two processes. "
                           "MirroredStrategy has two logical CPU devices, its usual way "
                           "(Model.fit over arrays) and all cores to share; steps_per_execution fails with this strategy.")
    for name, interpreter in (("PyTorch", common.TORCH), ("TensorFlow", common.TENSORFLOW)):
        result.version(name, common.peer(interpreter, "step.py", name.lower() + "-version")["version"])
    steps = 4 * BLOCK if quick else STEPS
    rows = []
    small(result, rows, steps)
    if not quick:
        deep(result, rows, 3 * BLOCK)
    result.table("All sides", ["network", "side", "ms a step", "loss"], rows)
    return result


def sides_of(hidden, steps):
    def ours(workers):
        def f():
            r = common.covey("bench", "step", "--data", common.real_data("mnist"), "--model", "mlp:" + ",".join(map(str, hidden)), "--batch", 256,
                             "--optimizer", "adam", "--lr", RATE, "--workers", workers, "--transport", "inproc" if workers == 1 else "shm",
                             "--threads", 1, "--steps", steps, "--calls", BLOCK)[0]
            return {"ms": r["ms"], "loss": r["loss"]}
        return f

    def torch(processes):
        return lambda: common.peer(common.TORCH, "step.py", "torch", processes, steps, *hidden)

    return {"Covey, 1 worker": ours(1), "Covey, 2 workers": ours(2), "PyTorch": torch(1), "PyTorch DDP": torch(2)}


def measured(result, rows, name, sides):
    m = common.alternate(sides)
    losses = {s: v["loss"] for s, v in m.items()}
    for s, v in m.items():
        rows.append([name, s, v["ms"], v["loss"]])
        if not 0.5 < v["loss"] / losses["PyTorch"] < 2:
            raise common.Failed(f"{name}: the losses after as many steps are not alike: {losses}")
    return {s: v["ms"] for s, v in m.items()}


def line(result, goal, m, a, b, target):
    result.check(goal, f"{a} to {b}", f"{m[a]:.3g} ms", f"{m[b]:.3g} ms", m[b] / m[a], target)


def small(result, rows, steps):
    sides = sides_of([128], steps)
    sides["MirroredStrategy"] = lambda: common.peer(common.TENSORFLOW, "step.py", "tensorflow", steps, env={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})
    m = measured(result, rows, "784-128-10", sides)
    goal = "784-128-10: one worker 1.5 times PyTorch; two workers 4 times DDP, 3 times MirroredStrategy, 1.7 times one"
    line(result, goal, m, "Covey, 1 worker", "PyTorch", 1.5)
    line(result, goal, m, "Covey, 2 workers", "PyTorch DDP", 4.0)
    line(result, goal, m, "Covey, 2 workers", "MirroredStrategy", 3.0)
    line(result, goal, m, "Covey, 2 workers", "Covey, 1 worker", 1.7)


def deep(result, rows, steps):
    m = measured(result, rows, "784-1024-1024-10", sides_of([1024, 1024], steps))
    goal = "784-1024-1024-10: two workers 1.85 times one and 2 times DDP; one worker as fast as PyTorch"
    line(result, goal, m, "Covey, 2 workers", "Covey, 1 worker", 1.85)
    line(result, goal, m, "Covey, 2 workers", "PyTorch DDP", 2.0)
    line(result, goal, m, "Covey, 1 worker", "PyTorch", 1.0)


def mnist(part, np):
    """Images as rows of numbers from 0 to 1, and labels."""
    d = common.real_data("mnist")
    read = lambda kind, skip: np.frombuffer(gzip.decompress((d / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=skip)
    return read("images-idx3", 16).reshape(-1, 784).astype(np.float32) / 255, read("labels-idx1", 8).astype(np.int64)


def torch_network(torch, hidden):
    sizes = [784, *hidden, 10]
    layers = [l for a, b in zip(sizes, sizes[1:]) for l in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1])


def torch_adam(torch, model):
    # foreach=True was no faster on these networks, and fused=True is for GPUs in this version.
    return torch.optim.Adam(model.parameters(), lr=RATE)


def torch_rank(rank, ranks, steps, hidden, store):
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    images, labels = map(torch.from_numpy, mnist("train", np))
    model = torch_network(torch, hidden)
    if ranks > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False, static_graph=True)
    adam, loss_of = torch_adam(torch, model), torch.nn.functional.cross_entropy
    mine = 256 // ranks
    losses, blocks = [], []
    begun = time.perf_counter()
    for step in range(steps):
        if step % (len(images) // 256) == 0:
            order = torch.randperm(len(images))  # the same on every rank, by the seed
        at = step % (len(images) // 256) * 256 + rank * mine
        batch = order[at:at + mine]
        adam.zero_grad(set_to_none=True)
        loss = loss_of(model(images[batch]), labels[batch])
        loss.backward()
        adam.step()
        if step >= steps - 10:
            losses.append(float(loss))
        if (step + 1) % BLOCK == 0:
            now = time.perf_counter()
            blocks.append((now - begun) / BLOCK)
            begun = now
    if rank == 0:
        print(json.dumps({"ms": 1e3 * float(np.median(blocks[1:])), "loss": float(np.mean(losses))}), flush=True)
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()


def torch_side(ranks, steps, *hidden):
    import multiprocessing
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        if ranks == 1:
            return torch_rank(0, 1, steps, hidden, None)
        all_ranks = [multiprocessing.get_context("spawn").Process(target=torch_rank, args=(r, ranks, steps, hidden, f"{d}/store")) for r in range(ranks)]
        for p in all_ranks:
            p.start()
        for p in all_ranks:
            p.join()
        sys.exit(max(abs(p.exitcode) for p in all_ranks))


def tensorflow_side(steps):
    """The example of its documentation, with two logical CPU devices."""
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.Input((784,)), tf.keras.layers.Dense(128, activation="relu"), tf.keras.layers.Dense(10, activation="softmax")])
        model.compile(loss="sparse_categorical_crossentropy", optimizer=tf.keras.optimizers.Adam(RATE))
    images, labels = mnist("train", np)
    n = min(steps // 2, len(images) // 256)  # steps of an epoch
    epochs = []  # when each step of each ended

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append([])

        def on_train_batch_end(self, batch, logs=None):
            epochs[-1].append(time.perf_counter())

    model.fit(images[:n * 256], labels[:n * 256], batch_size=256, epochs=max(2, round(steps / n)), verbose=0, callbacks=[Watch()])
    # The first epoch compiles; what an epoch costs besides its steps is left out.
    took = [(ends[-1] - ends[0]) / (n - 1) for ends in epochs[1:]]
    # fit reports the mean over an epoch; the loss of a few batches is asked for
    loss = float(model.evaluate(images[:2560], labels[:2560], batch_size=256, verbose=0))
    print(json.dumps({"ms": 1e3 * float(np.median(took)), "loss": loss}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pytorch-version"]:
            import torch

            print(json.dumps({"version": f"{torch.__version__} (Debian)"}))
        case ["tensorflow-version"]:
            import tensorflow

            print(json.dumps({"version": tensorflow.__version__}))
        case ["torch", *numbers]:
            torch_side(*map(int, numbers))
        case ["tensorflow", steps]:
            tensorflow_side(int(steps))
