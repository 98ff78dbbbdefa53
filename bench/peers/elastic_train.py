"""PyTorch's side of elastic.py: torchrun's elastic launch, and the script that it runs.

    elastic_train.py version
    elastic_train.py store PORT           the store of the rendezvous, which nobody kills
    elastic_train.py agent SLOT JOB       an agent of torchrun with one worker, as on a machine of its own
    elastic_train.py train SLOT JOB       a worker, which the agent starts

JOB is JSON: images, labels (.npy), folder, port, and settings of the rendezvous in seconds.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

BATCH, RATE, MOMENTUM = 256, 0.05, 0.9
SNAPSHOT = 10  # steps between what a new generation can go on from


def serve(port):
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    print("serving", flush=True)
    while store:
        time.sleep(3600)


def agent(slot, text):
    """What torchrun does, with the settings of the rendezvous that its command line does not reach."""
    from torch.distributed import run
    from torch.distributed.elastic import rendezvous
    from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend, dynamic_rendezvous

    job = json.loads(text)

    def handler(params):
        backend, store = c10d_rendezvous_backend.create_backend(params)
        timeout = dynamic_rendezvous.RendezvousTimeout(last_call=timedelta(seconds=job["last_call"]))
        settings = dynamic_rendezvous.RendezvousSettings(params.run_id, params.min_nodes, params.max_nodes, timeout,
                                                         keep_alive_interval=timedelta(seconds=job["keep_alive"]), keep_alive_max_attempt=job["attempts"])
        holder = dynamic_rendezvous._BackendRendezvousStateHolder(backend, settings)
        node = dynamic_rendezvous.DynamicRendezvousHandler._node_desc_generator.generate()
        return dynamic_rendezvous.DynamicRendezvousHandler(node, settings, params.backend, store, holder)

    rendezvous.rendezvous_handler_registry.register("c10d-quick", handler)
    run.main(["--nnodes", "2:4", "--nproc_per_node", "1", "--rdzv_backend", "c10d-quick", "--rdzv_endpoint", f"127.0.0.1:{job['port']}",
              "--rdzv_conf", "is_host=false", "--rdzv_id", "elastic", "--max_restarts", "1000000", "--monitor_interval", str(job["monitor"]),
              "--redirects", "1:1", "--tee", "1:1",  # of a local rank that is not there: this version cannot read its own default, none, with Python 3.11
              __file__, "train", slot, text])


def train(slot, text):
    job = json.loads(text)
    folder = Path(job["folder"])
    (folder / f"worker-{slot}").write_text(str(os.getpid()))

    import numpy as np
    import torch
    import torch.distributed as dist

    from step import torch_network

    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=job["gloo"]))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    images, labels = (torch.from_numpy(np.load(job[k], mmap_mode="c")) for k in ("images", "labels"))
    model = torch_network(torch, [128])
    updates = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    snapshot, step = folder / "snapshot.pt", 0
    if snapshot.exists():
        was = torch.load(snapshot)
        step = was["step"]
        model.load_state_dict(was["model"])
        updates.load_state_dict(was["optimizer"])
    both = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False, static_graph=True)
    edges = [BATCH * r // ranks for r in range(ranks + 1)]  # the batch stays as large when workers are lost
    rounds, order, lines = len(images) // BATCH, None, None
    if rank == 0:
        lines = open(folder / "steps.jsonl", "a", buffering=1)
    while True:
        if order is None or step % rounds == 0:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(step // rounds))
        at = step % rounds * BATCH
        mine = order[at + edges[rank]:at + edges[rank + 1]]
        updates.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(both(images[mine]), labels[mine], reduction="sum") * (ranks / BATCH)
        loss.backward()
        updates.step()
        step += 1
        if rank:
            continue
        if step % SNAPSHOT == 0:
            torch.save({"step": step, "model": model.state_dict(), "optimizer": updates.state_dict()}, folder / "snapshot.new")
            os.replace(folder / "snapshot.new", snapshot)
        lines.write(json.dumps({"step": step, "loss": round(float(loss), 4), "by": os.getpid(), "ranks": ranks}) + "\n")


def ends_at_once(f, *args):
    """Ends the process when it fails, without the time that an interpreter takes to end."""
    try:
        f(*args)
    except RuntimeError as e:
        print(e, file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["version"]:
            import torch

            print(json.dumps({"version": torch.__version__}))
        case ["store", port]:
            serve(int(port))
        case ["agent", slot, text]:
            agent(slot, text)
        case ["train", slot, text]:
            ends_at_once(train, slot, text)
        case other:
            sys.exit(f"elastic_train.py: what is {other}? (version, store, agent, train)")
