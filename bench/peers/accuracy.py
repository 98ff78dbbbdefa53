"""Time to 97 % test accuracy on MNIST, whole processes: PyTorch DDP over Gloo with two processes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
from step import RATE, mnist, torch_adam, torch_network

TITLE = "Time to 97 % test accuracy"
GOAL = "97 % on MNIST in at most a third of PyTorch DDP's time, two processes each, start included"
WANTED = 0.97


def compare(quick):
    result = common.Result(TITLE, quick, "MNIST, 784-128-10, Adam at 0.001, batches of 256 over two processes with one thread each, and the very same "
                           "initial weights. Both sides test after each epoch; a side's time is from the start of its processes to their end, after "
                           "the first epoch at which it has 97 %.")
    result.version("PyTorch", common.run(common.TORCH, "-c", "import torch; print(torch.__version__)"))
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        job = ["--data", common.real_data("mnist"), "--model", "mlp:128", "--batch", 256, "--workers", 2, "--transport", "shm", "--microshards", 2,
               "--threads", 1, "--save", 1000000000]
        adam = ["--optimizer", "adam", "--lr", RATE]
        # A step at a rate that changes no bit: the checkpoint holds the initial weights.
        common.covey("train", *job, "--optimizer", "sgd", "--lr", "1e-30", "--steps", 1, "--run", d / "start")
        initial = save_initial(d / "start" / "checkpoints" / "step-1" / "model.safetensors", d / "initial.npz")
        common.covey("train", *job, *adam, "--epochs", 20, "--run", d / "probe")
        lines = [json.loads(l) for l in (d / "probe" / "metrics.jsonl").read_text().splitlines()]
        epochs = next((l["epoch_end"] for l in lines if l.get("accuracy", 0) >= WANTED), None)
        if epochs is None:
            raise common.Failed(f"Covey does not come to {WANTED:.0%} within 20 epochs")
        turns = iter(range(1000))

        def ours():
            start = time.monotonic()
            r = common.covey("train", *job, *adam, "--epochs", epochs, "--run", d / f"run-{next(turns)}")
            took = time.monotonic() - start
            if r["accuracy"] < WANTED:
                raise common.Failed(f"accuracy {r['accuracy']}")
            return {"s": took, "epochs": epochs, "accuracy": r["accuracy"]}

        def theirs():
            store = d / f"store-{next(turns)}"
            start = time.monotonic()
            ranks = [subprocess.Popen([str(common.TORCH), __file__, str(r), str(store), str(initial)], stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, **common.ONE_THREAD}) for r in range(2)]
            said = [p.communicate(timeout=300)[0] for p in ranks]
            took = time.monotonic() - start
            if any(p.returncode for p in ranks):
                raise common.Failed("PyTorch DDP failed")
            return {"s": took, **common.last_json(said[0])}

        m = common.alternate({"Covey": ours, "PyTorch DDP": theirs})
    result.table("Medians", ["side", "seconds", "epochs", "test accuracy"], [[s, v["s"], int(v["epochs"]), f"{v['accuracy']:.2%}"] for s, v in m.items()])
    a, b = m["Covey"]["s"], m["PyTorch DDP"]["s"]
    result.check(GOAL, "two processes", f"{a:.3g} s", f"{b:.3g} s", b / a, 3.0)
    return result


def save_initial(path, into):
    import numpy as np
    from safetensors.numpy import load_file

    np.savez(into, **load_file(path))
    return into


def torch_rank(rank, store, initial):
    import numpy as np
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    images, labels = map(torch.from_numpy, mnist("train", np))
    test_images, test_labels = map(torch.from_numpy, mnist("t10k", np))
    model = torch_network(torch, [128])
    model.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(initial).items()})
    ddp = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False, static_graph=True)
    adam, loss_of = torch_adam(torch, ddp), torch.nn.functional.cross_entropy
    half = len(test_images) // 2
    mine = slice(rank * half, (rank + 1) * half)
    for epoch in range(1, 21):
        order = torch.randperm(len(images))
        for at in range(0, len(images) - 255, 256):
            batch = order[at + 128 * rank:at + 128 * (rank + 1)]
            adam.zero_grad(set_to_none=True)
            loss_of(ddp(images[batch]), labels[batch]).backward()
            adam.step()
        with torch.inference_mode():
            right = (model(test_images[mine]).argmax(1) == test_labels[mine]).sum()
        dist.all_reduce(right)
        accuracy = float(right) / len(test_images)
        if accuracy >= WANTED:
            break
    if rank == 0:
        print(json.dumps({"epochs": epoch, "accuracy": accuracy}), flush=True)
    dist.destroy_process_group()
    if accuracy < WANTED:
        sys.exit("97 % was not reached in 20 epochs")


if __name__ == "__main__":
    rank, store, initial = sys.argv[1:]
    torch_rank(int(rank), store, initial)
