"""PyTorch's side of compress.py: DDP over Gloo with a communication hook, one rank a process.

    compress_ddp.py RANK {"store": ..., "initial": ..., "hook": ..., ...}    trains until the accuracy is there

The keys are those of compress.py's peer_job. What rank 0 prints is in seconds, steps and bytes of the link.
"""

import json
import sys
import time
from pathlib import Path

from step import mnist, torch_network

BATCH, RANKS = 256, 2


def optimizer_of(torch, name, model, rate):
    match name:
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=rate)
        case "momentum":
            return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        case "nesterov":
            return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    sys.exit(f"no optimizer {name}")


def register(ddp, job):
    """The hooks as their documentation registers them; a rank of 0 is none."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    match job["hook"]:
        case "none":
            pass
        case "fp16":
            ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
        case "powersgd":
            state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=job["rank"], start_powerSGD_iter=job["start"],
                                                use_error_feedback=True, warm_start=True)
            ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        case other:
            sys.exit(f"no hook {other}")


def link_bytes():
    """What the link's end in this namespace has sent and received; 0 where there is none."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "end":
            fields = rest.split()
            return int(fields[0]) + int(fields[8])
    return 0


def batches(torch, n, rank):
    """This rank's half of each batch, for ever; the last samples of an epoch that fill no batch are left out."""
    mine = BATCH // RANKS
    while True:
        order = torch.randperm(n)  # the same on every rank, by the seed
        for at in range(0, n - BATCH + 1, BATCH):
            yield order[at + mine * rank:at + mine * (rank + 1)]


def train(rank, job):
    import numpy as np
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    dist.init_process_group("gloo", init_method=job["store"], rank=rank, world_size=RANKS)
    images, labels = map(torch.from_numpy, mnist("train", np))
    test_images, test_labels = map(torch.from_numpy, mnist("t10k", np))
    model = torch_network(torch, job["hidden"])
    model.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(job["initial"]).items()})
    if job["hook"] == "powersgd":
        # One bucket. With several, the hook's callbacks start the sums of one bucket while those of the next are begun, on
        # each rank in an order of its own, which Gloo does not survive.
        dist._DEFAULT_FIRST_BUCKET_BYTES = 1 << 30
    ddp = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False, bucket_cap_mb=1024 if job["hook"] == "powersgd" else 25)
    register(ddp, job)
    optimizer, loss_of = optimizer_of(torch, job["optimizer"], ddp, job["rate"]), torch.nn.functional.cross_entropy
    half = len(test_images) // RANKS
    mine = slice(rank * half, (rank + 1) * half)
    dist.barrier()
    took, trail, sent = 0.0, [], link_bytes()
    begun = time.perf_counter()
    for step, batch in enumerate(batches(torch, len(images), rank), 1):
        optimizer.zero_grad(set_to_none=True)
        loss_of(ddp(images[batch]), labels[batch]).backward()
        optimizer.step()
        if step % job["every"]:
            continue
        took += time.perf_counter() - begun  # a test takes none of a side's time
        moved = link_bytes() - sent
        with torch.inference_mode():
            right = (model(test_images[mine]).argmax(1) == test_labels[mine]).sum()
        dist.all_reduce(right)
        trail.append(float(right) / len(test_images))
        if trail[-1] >= job["wanted"] or step >= job["most"]:
            break
        dist.barrier()
        sent = link_bytes() - moved
        begun = time.perf_counter()
    if rank == 0:
        print(json.dumps({"s": took, "steps": step, "bytes": moved, "accuracy": trail[-1], "trail": trail}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    train(int(sys.argv[1]), json.loads(sys.argv[2]))
